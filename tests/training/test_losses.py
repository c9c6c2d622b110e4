"""Losses and penalties on numbers that can be checked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from musicspectrogan.training.losses import (
    LOSSES,
    bce_discriminator,
    bce_generator,
    gradient_penalty,
    hinge_discriminator,
    hinge_generator,
    relativistic_discriminator,
    relativistic_generator,
)

LN2, LN3, LN4 = math.log(2), math.log(3), math.log(4)


def test_an_undecided_discriminator_loses_two_logarithms_of_two():
    undecided = torch.zeros(4)
    assert bce_discriminator(undecided, undecided).item() == pytest.approx(2 * LN2)
    assert bce_generator(None, undecided).item() == pytest.approx(LN2)


def test_known_probabilities():
    # The logit ln 3 is the probability 3/4.
    real, fake = torch.tensor([LN3, 0.0]), torch.tensor([LN3, -LN3])
    expected = (-math.log(3 / 4) + LN2) / 2 + (-math.log(1 / 4) - math.log(3 / 4)) / 2
    assert bce_discriminator(real, fake).item() == pytest.approx(expected, rel=1e-6)
    assert bce_generator(None, fake).item() == pytest.approx(
        (-math.log(3 / 4) - math.log(1 / 4)) / 2, rel=1e-6
    )


def test_equals_binary_cross_entropy_on_logits():
    logits = torch.linspace(-6, 6, 13)
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    expected = bce(logits, torch.ones(13)) + bce(logits, torch.zeros(13))
    torch.testing.assert_close(bce_discriminator(logits, logits), expected)


def test_the_hinge_loss_counts_what_is_missing_to_a_margin_of_one():
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-2.0, 0.0, 3.0])
    # 1 - real: -1, 0.5, 2; 1 + fake: -1, 1, 4.
    assert hinge_discriminator(real, fake).item() == pytest.approx(2.5 / 3 + 5 / 3)
    assert hinge_generator(None, fake).item() == pytest.approx(-1 / 3)


def test_beyond_the_margin_the_hinge_loss_teaches_only_the_generator():
    real, fake = (
        torch.full((4,), 1.5, requires_grad=True),
        torch.full((4,), -1.5, requires_grad=True),
    )
    hinge_discriminator(real, fake).backward()
    assert real.grad.tolist() == fake.grad.tolist() == [0.0] * 4
    hinge_generator(None, fake).backward()
    assert fake.grad.tolist() == [-0.25] * 4


def test_the_relativistic_loss_judges_each_pair_by_its_difference():
    real, fake = torch.tensor([5.0 + LN3, -2.0]), torch.tensor([5.0, -2.0])
    # Differences ln 3 and 0: the probabilities that the real image is the real one are 3/4 and 1/2.
    assert relativistic_discriminator(real, fake).item() == pytest.approx(
        (math.log(4 / 3) + LN2) / 2
    )
    assert relativistic_generator(real, fake).item() == pytest.approx((LN4 + LN2) / 2, rel=1e-6)
    # Pairs count, and not means: the same logits in other pairs are another loss.
    other = relativistic_discriminator(real, fake.flip(0)).item()
    assert other == pytest.approx(
        (math.log1p(math.exp(-7) / 3) + math.log1p(math.exp(7))) / 2, rel=1e-5
    )


def test_a_constant_added_to_all_logits_does_not_change_the_relativistic_loss():
    real, fake = torch.tensor([0.5, -1.25, 3.0]), torch.tensor([1.0, 2.5, -0.75])
    for constant in (-8.0, 0.25, 16.0):
        moved = real + constant, fake + constant
        assert relativistic_discriminator(*moved) == relativistic_discriminator(real, fake)
        assert relativistic_generator(*moved) == relativistic_generator(real, fake)
    assert relativistic_discriminator(real + 1, fake) < relativistic_discriminator(real, fake)


def test_the_relativistic_players_are_mirror_images():
    some, others = torch.randn(2, 9, generator=torch.Generator().manual_seed(0))
    assert relativistic_generator(others, some) == relativistic_discriminator(some, others)
    assert relativistic_generator(some, others) != relativistic_generator(others, some)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_real_logits_matter_to_the_generator_exactly_where_the_loss_is_relative(name):
    loss, fake = LOSSES[name], torch.tensor([0.5, -1.0])
    low, high = (loss.generator(torch.full((2,), real), fake).item() for real in (-1.0, 1.0))
    assert (low < high) if loss.is_relative else (low == high == loss.generator(None, fake).item())


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_is_finite_for_huge_logits_and_pulls_the_right_way(name):
    loss = LOSSES[name]
    for sign in (-1e4, 1e4):
        huge = torch.full((3,), sign)
        beside = -huge if loss.is_relative else None
        assert (
            loss.discriminator(huge, -huge).isfinite() and loss.generator(beside, huge).isfinite()
        )
    # Least squares, for one, rest at 0 for fakes.
    real, fake = torch.zeros(3, requires_grad=True), torch.full((3,), 0.5, requires_grad=True)
    loss.discriminator(real, fake).backward()
    assert (real.grad < 0).all() and (fake.grad > 0).all()
    fake.grad = None
    loss.generator(torch.zeros(3) if loss.is_relative else None, fake).backward()
    assert (fake.grad < 0).all()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_is_a_mean_over_the_batch(name):
    loss = LOSSES[name]
    real, fake = torch.tensor([0.5, -1.0, 0.25]), torch.tensor([-0.5, 0.75, 2.0])
    for objective in (loss.discriminator, loss.generator):
        each = [objective(a[None], b[None]).item() for a, b in zip(real, fake, strict=True)]
        assert objective(real, fake).item() == pytest.approx(sum(each) / 3, rel=1e-6)


def some_images():
    return torch.randn(3, 1, 4, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()


def test_the_penalty_of_a_linear_discriminator_is_its_squared_weight():
    weight = torch.arange(20.0).view(1, 4, 5).requires_grad_()
    images = some_images()
    penalty = gradient_penalty((weight * images).flatten(1).sum(dim=1) + 7.0, images)
    assert penalty.item() == pytest.approx(sum(k * k for k in range(20)))
    penalty.backward()  # grad of |w|²
    torch.testing.assert_close(weight.grad, 2 * weight.detach())


def test_the_penalty_of_a_quadratic_discriminator_and_its_gradient_are_known():
    a = torch.linspace(-1, 2, 20).view(1, 4, 5).requires_grad_()
    images = some_images()
    penalty = gradient_penalty((a * images.square()).flatten(1).sum(dim=1), images)
    # grad x = 2 a x: |grad|² = 4 sum a² x², and its own gradient with respect to a is 8 a x².
    squares = images.detach().square()
    expected = sum(4 * (a.detach() ** 2 * square).sum().item() for square in squares) / 3
    assert penalty.item() == pytest.approx(expected, rel=1e-5)
    penalty.backward()
    torch.testing.assert_close(a.grad, 8 * a.detach() * squares.mean(dim=0))


def test_each_image_counts_by_the_gradient_of_its_own_logit():
    images = torch.ones(3, 2, requires_grad=True)
    slopes = torch.tensor([0.0, 1.0, 3.0])
    penalty = gradient_penalty(slopes * images.sum(dim=1), images)
    assert penalty.item() == pytest.approx((0 + 2 * 1 + 2 * 9) / 3)
