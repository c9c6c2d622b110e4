"""The pace of training: a factor that falls along half a cosine, and what it multiplies."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from musicspectrogan.training.losses import LOSSES
from musicspectrogan.training.schedule import Schedule
from musicspectrogan.training.settings import TrainingConfig
from musicspectrogan.training.step import VIEWS, AdversarialStep

BATCH, PIXELS = 4, 9


class LinearGenerator(nn.Module):
    """latents (B, 1) -> images (B, 1, 3, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((PIXELS,), 0.5))

    def forward(self, latents, labels):
        return (latents * self.weight).view(-1, 1, 3, 3)


class LinearDiscriminator(nn.Module):
    """images -> the sum of pixels times weights: the gradient penalty is the weights' square."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, PIXELS))

    def forward(self, images, labels):
        return images.flatten(1) @ self.weight


def a_step(**options) -> AdversarialStep:
    return AdversarialStep(
        LinearGenerator(), LinearDiscriminator(), LOSSES["bce"], lr=0.1, betas=(0.0, 0.9), **options
    )


def take(step: AdversarialStep) -> None:
    images = torch.linspace(-1, 1, BATCH * PIXELS).view(BATCH, 1, 3, 3)
    labels = torch.zeros(BATCH, dtype=torch.int64)
    step(images, labels, torch.linspace(-1, 2, BATCH)[:, None], torch.empty(VIEWS, BATCH, 0))


@pytest.mark.parametrize(
    ("images_seen", "left"), [(0, 1.0), (250, 0.868198), (500, 0.55), (1000, 0.1), (5000, 0.1)]
)
def test_a_tenth_is_left_after_half_a_cosine(images_seen, left):
    schedule = Schedule(TrainingConfig(anneal_images=1000), steps_per_epoch=2)
    assert schedule.annealing(images_seen) == pytest.approx(left, abs=1e-6)


def test_without_annealing_the_pace_stays():
    schedule = Schedule(TrainingConfig(), steps_per_epoch=2)
    assert [schedule.annealing(seen) for seen in (0, 10**6, 10**9)] == [1.0, 1.0, 1.0]


def test_the_learning_rate_scales_the_step():
    full, tenth = a_step(), a_step()
    before = full.generator.weight.detach().clone(), full.discriminator.weight.detach().clone()
    tenth.anneal(0.1)
    take(full)
    take(tenth)
    for start, fast, slow in zip(
        before,
        (full.generator.weight, full.discriminator.weight),
        (tenth.generator.weight, tenth.discriminator.weight),
        strict=True,
    ):
        # Adam's first step is as large as the learning rate.
        torch.testing.assert_close(
            (fast - start).abs(), torch.full((PIXELS,), 0.1), rtol=1e-3, atol=0
        )
        torch.testing.assert_close(
            (slow - start).abs(), torch.full((PIXELS,), 0.01), rtol=1e-3, atol=0
        )


def test_the_penalties_scale_too():
    step = a_step(r1=3.0)
    step.anneal(0.5)
    plain = a_step()
    take(step)
    take(plain)
    # The penalty w² has the gradient 2 w, with weight gamma / 2 and half of it left.
    weights = torch.linspace(-1, 1, PIXELS)
    torch.testing.assert_close(
        step.discriminator.weight.grad - plain.discriminator.weight.grad, 1.5 * weights
    )


def test_the_pace_comes_back_when_optimizers_are_loaded():
    step = a_step(r1=1.0)
    take(step)
    step.anneal(0.25)
    state = step.optimizer_d.state_dict(), step.optimizer_g.state_dict()
    assert state[0]["param_groups"][0]["lr"] == 0.025
    other = a_step(r1=1.0)
    other.load_optimizers(*state)
    assert other.optimizer_d.param_groups[0]["lr"] == other.optimizer_g.param_groups[0]["lr"] == 0.1
    other.anneal(0.25)
    assert other.optimizer_d.param_groups[0]["lr"] == 0.025
