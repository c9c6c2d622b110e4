"""Latents and images: functions of seed, genre and weights alone."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from musicspectrogan.generation.sampler import BATCH, Sampler, slerp
from musicspectrogan.generation.selection import latent_specs
from musicspectrogan.generation.settings import GenerateConfig
from musicspectrogan.training.run_checkpoints import load_checkpoint


@pytest.fixture(scope="module")
def sampler(trained) -> Sampler:
    return Sampler(load_checkpoint(trained))


def draw(sampler: Sampler, seeds: list[int], genre: str = "jazz") -> np.ndarray:
    return sampler.images(sampler.latents(seeds), sampler.one_hot(genre, len(seeds)))


def test_a_seed_gives_the_same_image_alone_and_in_any_batch(sampler):
    seeds = list(range(2 * BATCH + 3))
    together = draw(sampler, seeds)
    assert together.shape == (len(seeds), 64, 64) and together.dtype == np.uint8
    backwards = draw(sampler, seeds[::-1])[::-1]
    np.testing.assert_array_equal(together, backwards)
    for seed in (0, 7, BATCH, len(seeds) - 1):
        np.testing.assert_array_equal(draw(sampler, [seed])[0], together[seed])


def test_seeds_and_genres_differ(sampler):
    assert not np.array_equal(*draw(sampler, [0, 1]))
    assert not np.array_equal(draw(sampler, [0], "jazz"), draw(sampler, [0], "rock"))


def test_a_mixture_of_one_genre_is_that_genre(sampler):
    latents = sampler.latents([0, 1])
    by_label = sampler.generator(latents, torch.tensor([1, 1]))
    by_mixture = sampler.generator(latents, sampler.one_hot(sampler.genres[1], 2))
    assert torch.equal(by_label, by_mixture)


def test_variations_are_near_their_seed_and_steps_lead_from_one_to_the_other(sampler):
    def distance(a: torch.Tensor, b: torch.Tensor) -> float:
        return (a - b).norm().item()

    config = GenerateConfig(vary=3, count=6, amount=0.2)
    own, *variations = [sampler.latent(spec) for spec in latent_specs(config)]
    assert torch.equal(own, sampler.latents([3])[0])
    fresh = sampler.latents(list(range(20, 30)))
    assert max(distance(own, v) for v in variations) < 0.6 * min(distance(own, f) for f in fresh)
    assert min(distance(a, b) for a in variations for b in variations if a is not b) > 0.1
    far = [sampler.latent(spec) for spec in latent_specs(replace(config, amount=1.0))[1:]]
    assert min(distance(own, f) for f in far) > 2 * max(distance(own, v) for v in variations)
    steps = [sampler.latent(spec) for spec in latent_specs(GenerateConfig(between="3:7", count=5))]
    assert torch.equal(steps[0], own) and torch.equal(steps[-1], sampler.latents([7])[0])
    gaps = [distance(a, b) for a, b in itertools.pairwise(steps)]
    assert max(gaps) < 1.5 * min(gaps)


def test_interpolated_latents_have_interpolated_lengths():
    a, b = torch.randn(2, 100, generator=torch.Generator().manual_seed(0))
    for fraction in (0.25, 0.5, 0.75):
        expected = (1 - fraction) * a.norm() + fraction * b.norm()
        assert slerp(a, b, fraction).norm().item() == pytest.approx(expected.item(), rel=1e-5)
    assert slerp(torch.tensor([2.0]), torch.tensor([-4.0]), 0.5).tolist() == [-1.0]
    assert slerp(a, 2 * a, 0.5).tolist() == pytest.approx((1.5 * a).tolist())
