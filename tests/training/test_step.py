"""A step against the plain loop that everyone knows, written out once more."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from musicspectrogan import models
from musicspectrogan.models import ModelConfig
from musicspectrogan.training.losses import LOSSES
from musicspectrogan.training.step import AdversarialStep

BATCH, LATENT = 6, 5


def plain_steps(generator, discriminator, batches):
    """The loop of PyTorch's DCGAN tutorial."""
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    ones, zeros, told = torch.ones(BATCH), torch.zeros(BATCH), []
    for images, labels, latents in batches:
        discriminator.zero_grad()
        real_logits = discriminator(images, labels)
        error_real = bce(real_logits, ones)
        error_real.backward()
        fakes = generator(latents, labels)
        fake_logits = discriminator(fakes.detach(), labels)
        error_fake = bce(fake_logits, zeros)
        error_fake.backward()
        optimizer_d.step()
        generator.zero_grad()
        fooling = discriminator(fakes, labels)
        error_g = bce(fooling, ones)
        error_g.backward()
        optimizer_g.step()
        told.append(
            {
                "loss_d": (error_real + error_fake).item(),
                "loss_g": error_g.item(),
                "d_real": real_logits.sigmoid().mean().item(),
                "d_fake_before": fake_logits.sigmoid().mean().item(),
                "d_fake_after": fooling.sigmoid().mean().item(),
            }
        )
    return told


@pytest.mark.parametrize("gan", models.names())
def test_three_steps_equal_the_plain_loop(gan):
    torch.manual_seed(0)
    generator, discriminator = models.build(gan, ModelConfig(64, 8, LATENT, 2))
    batches = [
        (torch.rand(BATCH, 1, 64, 64) * 2 - 1, torch.arange(BATCH) % 2, torch.randn(BATCH, LATENT))
        for _ in range(3)
    ]
    ours = [
        n.to(memory_format=torch.channels_last)
        for n in (copy.deepcopy(generator), copy.deepcopy(discriminator))
    ]
    step = AdversarialStep(*ours, LOSSES["bce"], lr=2e-4, betas=(0.5, 0.999))
    told = [{name: value.item() for name, value in step(*batch).items()} for batch in batches]

    for got, expected in zip(told, plain_steps(generator, discriminator, batches), strict=True):
        assert got == pytest.approx(expected, rel=1e-3, abs=1e-4)
    for mine, theirs in zip(ours, (generator, discriminator), strict=True):
        for (name, weight), reference in zip(mine.named_parameters(), theirs.parameters(), strict=True):
            # Adam's first steps are as large as the learning rate whatever the gradient, so that
            # rounding may turn single weights by that much; nearly all must agree.
            assert (weight - reference).abs().median() < 2e-6, name
            assert (weight - reference).abs().max() <= 3 * 2 * 2e-4 * 1.01, name


def test_the_discriminator_can_learn_again_after_the_generators_turn():
    generator, discriminator = models.build("dcgan", ModelConfig(64, 4, LATENT, 1))
    step = AdversarialStep(generator, discriminator, LOSSES["bce"], lr=1e-3, betas=(0.5, 0.999))
    labels = torch.zeros(BATCH, dtype=torch.int64)
    step(torch.zeros(BATCH, 1, 64, 64), labels, torch.randn(BATCH, LATENT))
    assert all(weight.requires_grad for weight in discriminator.parameters())
