"""Losses on numbers that can be checked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from musicspectrogan.training.losses import LOSSES, bce_discriminator, bce_generator

LN2, LN3 = math.log(2), math.log(3)


def test_an_undecided_discriminator_loses_two_logarithms_of_two():
    undecided = torch.zeros(4)
    assert bce_discriminator(undecided, undecided).item() == pytest.approx(2 * LN2)
    assert bce_generator(undecided).item() == pytest.approx(LN2)


def test_known_probabilities():
    # The logit ln 3 is the probability 3/4.
    real, fake = torch.tensor([LN3, 0.0]), torch.tensor([LN3, -LN3])
    expected = (-math.log(3 / 4) + LN2) / 2 + (-math.log(1 / 4) - math.log(3 / 4)) / 2
    assert bce_discriminator(real, fake).item() == pytest.approx(expected, rel=1e-6)
    assert bce_generator(fake).item() == pytest.approx((-math.log(3 / 4) - math.log(1 / 4)) / 2, rel=1e-6)


def test_equals_binary_cross_entropy_on_logits():
    logits = torch.linspace(-6, 6, 13)
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    expected = bce(logits, torch.ones(13)) + bce(logits, torch.zeros(13))
    torch.testing.assert_close(bce_discriminator(logits, logits), expected)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_is_finite_for_huge_logits_and_pulls_the_right_way(name):
    loss = LOSSES[name]
    for sign in (-1e4, 1e4):
        huge = torch.full((3,), sign)
        assert loss.discriminator(huge, -huge).isfinite() and loss.generator(huge).isfinite()
    real, fake = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    loss.discriminator(real, fake).backward()
    assert (real.grad < 0).all() and (fake.grad > 0).all()
    fake.grad = None
    loss.generator(fake).backward()
    assert (fake.grad < 0).all()
