from __future__ import annotations

import numpy as np
import pytest
import torch

from musicspectrogan.errors import UserError
from musicspectrogan.generation.pieces import piece
from musicspectrogan.generation.sampler import BATCH, Sampler, seed_spec
from musicspectrogan.generation.settings import GenerateConfig
from musicspectrogan.training.checkpoint import load_checkpoint


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


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        (None, [0, 1, 2]),
        ("0-7", list(range(8))),
        ("3,5,9", [3, 5, 9]),
        ("2-3, 3, 8", [2, 3, 8]),
        ("5", [5]),
    ],
)
def test_seeds_are_read(text, seeds):
    count = None if text else 3
    assert list(GenerateConfig(count=count, seeds=text).seed_list()) == seeds


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "7-3", "1;2", "0-9999999999"])
def test_wrong_seeds_are_refused(text):
    with pytest.raises(UserError, match="seeds"):
        GenerateConfig(seeds=text)


class TestPieces:
    def make(
        self, sampler: Sampler, frames: int, *, loops: bool = False, to: str = "jazz"
    ) -> np.ndarray:
        start, end = sampler.one_hot("jazz", 1)[0], sampler.one_hot(to, 1)[0]
        return piece(sampler, seed_spec(3), start, end, frames, loops=loops, truncation=1.0)

    @pytest.mark.parametrize("loops", [False, True])
    @pytest.mark.parametrize("frames", [1, 31, 64, 100, 646])
    def test_it_has_the_frames_asked_for(self, sampler, frames, loops):
        assert self.make(sampler, frames, loops=loops).shape == (64, frames)

    def test_it_changes_no_more_where_images_meet_than_elsewhere(self, sampler):
        """Images begin, end and have their middles at multiples of 32 frames."""
        flux = np.abs(np.diff(self.make(sampler, 2000).astype(float), axis=1)).mean(axis=0)
        at_joins = flux[31::32]
        others = np.delete(flux, np.arange(31, len(flux), 32))
        assert at_joins.mean() < 1.25 * others.mean()
        assert at_joins.max() < 1.25 * others.max()

    def test_a_loop_ends_where_it_begins(self, sampler):
        loop = self.make(sampler, 320, loops=True).astype(float)
        flux = np.abs(np.diff(loop, axis=1)).mean(axis=0)
        across = np.abs(loop[:, 0] - loop[:, -1]).mean()
        assert across < 1.25 * flux.max()

    def test_a_morph_begins_with_one_genre_and_ends_with_the_other(self, sampler):
        morph, jazz, rock = self.make(sampler, 640, to="rock"), self.make(sampler, 640), None
        start = sampler.one_hot("rock", 1)[0]
        rock = piece(sampler, seed_spec(3), start, start, 640, loops=False, truncation=1.0)

        def distance(a: np.ndarray, b: np.ndarray, part: slice) -> float:
            return np.abs(a[:, part].astype(float) - b[:, part]).mean()

        first, last = slice(0, 64), slice(-64, None)
        assert distance(morph, jazz, first) < 0.5 * distance(morph, rock, first)
        assert distance(morph, rock, last) < 0.5 * distance(morph, jazz, last)
