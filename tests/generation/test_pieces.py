"""Pieces: drawn in blocks, as circles, gliding between genres, or blended from single images."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from musicspectrogan import models
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.generation import pieces
from musicspectrogan.generation.generate import _warn_of_pace
from musicspectrogan.generation.pieces import loop_multiple, piece
from musicspectrogan.generation.sampler import LatentSpec, Sampler, seed_spec
from musicspectrogan.generation.sound import loop_settings
from musicspectrogan.models import ModelConfig
from musicspectrogan.models.anylength_cgan import BEATS_PER_BAR as BAR
from musicspectrogan.training.checkpoint import LiveGenerator
from musicspectrogan.training.run_checkpoints import load_checkpoint

GENRES = ["jazz", "rock"]
CELL = 16
FLOAT = np.float32


@pytest.fixture(scope="module", params=["anylength", "anylength_unconditional"])
def sampler(request: pytest.FixtureRequest) -> Sampler:
    """Of a generator with weights and statistics as after some training."""
    torch.manual_seed(0)
    model = ModelConfig(64, 4, 8, len(GENRES), pairs=True)
    generator, _ = models.build(request.param, model)
    with torch.no_grad():
        for weight in generator.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
        for _ in range(20):
            generator(torch.randn(16, generator.latent_dim), torch.arange(16) % 2)
    return Sampler(
        LiveGenerator(generator.eval(), request.param, model, GENRES, SpectrogramConfig())
    )


def make(
    sampler: Sampler,
    frames: int,
    *,
    spec: LatentSpec | None = None,
    loops: bool = False,
    beats: float | None = None,
    **ends: str,
) -> np.ndarray:
    start, end = (sampler.one_hot(ends.get(which, "jazz"), 1)[0] for which in ("start", "end"))
    return piece(
        sampler, spec or seed_spec(3), start, end, frames, loops=loops, truncation=1.0, beats=beats
    )


@pytest.fixture(scope="module")
def long_piece(sampler: Sampler) -> np.ndarray:
    return make(sampler, 1300)


@pytest.mark.parametrize("frames", [1, 31, 64, 100, 646, 1100])
def test_it_has_the_frames_asked_for_and_begins_like_any_longer_one(sampler, long_piece, frames):
    found = make(sampler, frames)
    assert found.shape == (64, frames) and found.dtype == np.uint8
    np.testing.assert_array_equal(found, long_piece[:, :frames])


@pytest.mark.parametrize("block", [1, 5, 7, 1000])
def test_blocks_are_the_same_bytes_as_one_pass(sampler, long_piece, block, monkeypatch):
    loop = make(sampler, 80 * CELL, loops=True)
    monkeypatch.setattr(pieces, "BLOCK", block)
    np.testing.assert_array_equal(make(sampler, 1300), long_piece)
    np.testing.assert_array_equal(make(sampler, 80 * CELL, loops=True), loop)


@pytest.mark.parametrize("cells", [1, 2, 11, 70])
def test_a_loop_is_drawn_as_a_circle(sampler, cells, monkeypatch):
    """Repeated, it equals a piece of whole bars whose cells start over after the last."""
    found = make(sampler, cells * CELL, loops=True)
    cell, beats_in_cell = Sampler.cell, sampler.generator.beats_in_cell

    def whole_bars(style: torch.Tensor) -> torch.Tensor:
        return BAR * (beats_in_cell(style) * cells / BAR).round().clamp(min=1) / cells

    monkeypatch.setattr(
        Sampler, "cell", lambda self, spec, number: cell(self, spec, number % cells)
    )
    monkeypatch.setattr(sampler.generator, "beats_in_cell", whole_bars)
    np.testing.assert_array_equal(make(sampler, 2 * cells * CELL), np.tile(found, 2))


def test_a_piece_keeps_its_style_and_goes_on_changing(sampler):
    windows = [
        make(sampler, 640, spec=seed_spec(seed)).reshape(64, 10, 64).swapaxes(0, 1)
        for seed in range(6)
    ]
    levels = np.stack(
        [window.astype(FLOAT).mean(axis=2) for window in windows]
    )  # piece, window, band
    within = np.abs(np.diff(levels, axis=1)).mean()
    between = np.abs(np.diff(levels, axis=0)).mean()
    assert 0 < within < 0.9 * between
    for piece_of in windows:
        assert len({window.tobytes() for window in piece_of}) == 10


def test_genres_differ_exactly_where_the_model_knows_them(sampler):
    alike = np.array_equal(make(sampler, 64), make(sampler, 64, start="rock", end="rock"))
    assert alike is not sampler.conditional


def test_a_morph_begins_with_one_genre_and_ends_with_the_other(sampler):
    if not sampler.conditional:
        pytest.skip("it knows no genres")
    morph, jazz, rock = (
        make(sampler, 1000, start=start, end=end).astype(FLOAT)
        for start, end in (("jazz", "rock"), ("jazz", "jazz"), ("rock", "rock"))
    )
    nearer = [
        np.abs(morph[:, part] - jazz[:, part]).mean()
        / np.abs(morph[:, part] - rock[:, part]).mean()
        for part in (slice(0, 64), slice(468, 532), slice(936, 1000))
    ]
    assert nearer[0] < 0.5 < nearer[1] < 2 < nearer[2]
    there_and_back = make(sampler, 64 * CELL, loops=True, start="jazz", end="rock").astype(FLOAT)
    rocking = make(sampler, 64 * CELL, loops=True, start="rock", end="rock").astype(FLOAT)
    far = np.abs(there_and_back - rocking).mean(axis=0).reshape(64, CELL).mean(axis=1)
    assert far[28:36].mean() < 0.3 * far[[0, 1, 2, 3, 60, 61, 62, 63]].mean()


def test_a_take_between_two_seeds_goes_from_the_one_to_the_other(sampler):
    def at(part: float) -> np.ndarray:
        return make(sampler, 64, spec=LatentSpec("", "", (3,), (4,), part)).astype(FLOAT)

    first, last = (make(sampler, 64, spec=seed_spec(seed)).astype(FLOAT) for seed in (3, 4))
    np.testing.assert_array_equal(at(0.0), first)
    assert np.abs(at(1.0) - last).max() <= 1
    for end in (first, last):
        assert np.abs(at(0.5) - end).mean() > 1


@pytest.mark.parametrize(
    ("seconds", "warning"),
    [
        (0.5, "A loop of 0.5 s is 1 cell of 0.743 s, so music is 49 % faster"),
        (1.0, "A loop of 1 s is 1 cell of 0.743 s, so music is 26 % slower"),
        (8.0, None),
    ],
)
def test_a_loop_at_another_pace_says_so(sampler, seconds, warning, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("musicspectrogan"), "propagate", True)
    _warn_of_pace(seconds, sampler)
    messages = {record.getMessage() for record in caplog.records}
    assert messages == ({f"{warning}; longer loops are closer"} if warning else set())


def test_beats_set_the_clock(sampler, monkeypatch):
    """Of a loop and of a piece that does not end with a cell; the style's number says so too."""
    given = []
    frames = Sampler.frames
    monkeypatch.setattr(
        Sampler, "frames", lambda self, *parts: given.append(parts) or frames(self, *parts)
    )
    for length, loops, beats in ((10 * CELL, True, 20.0), (150, False, 12.0)):
        found = make(sampler, length, loops=loops, beats=beats)
        assert not np.array_equal(found, make(sampler, length, loops=loops))
        style, _, _, clock = given[-2]
        tempo = clock.diff()
        assert tempo.tolist() == pytest.approx([beats / length * CELL] * len(tempo))
        assert float(sampler.generator.beats_in_cell(style[None])) == pytest.approx(
            beats / length * CELL
        )


@pytest.mark.parametrize("seconds", [0.3, 1.0, 6.1, 8.0, 30.0])
def test_loops_are_whole_cells_of_nearly_the_usual_hop(sampler, seconds):
    frames, settings = loop_settings(seconds, sampler.spectrogram, loop_multiple(sampler))
    assert frames % CELL == 0
    assert frames * settings.hop_length == pytest.approx(seconds * 22050, abs=frames / 2)
    if seconds > 1:
        assert settings.hop_length == pytest.approx(1024, rel=0.5 * CELL / (frames - CELL))


@pytest.fixture(scope="module")
def image_sampler(trained) -> Sampler:
    """Of a generator of single images, whose pieces are blended."""
    return Sampler(load_checkpoint(trained))


class TestBlending:
    @pytest.mark.parametrize("loops", [False, True])
    @pytest.mark.parametrize("frames", [1, 31, 64, 100, 646])
    def test_it_has_the_frames_asked_for(self, image_sampler, frames, loops):
        assert make(image_sampler, frames, loops=loops).shape == (64, frames)

    def test_it_changes_no_more_where_images_meet_than_elsewhere(self, image_sampler):
        """Images begin, end and have their middles at multiples of 32 frames."""
        flux = np.abs(np.diff(make(image_sampler, 2000).astype(float), axis=1)).mean(axis=0)
        at_joins = flux[31::32]
        others = np.delete(flux, np.arange(31, len(flux), 32))
        assert at_joins.mean() < 1.25 * others.mean()
        assert at_joins.max() < 1.25 * others.max()

    def test_a_loop_ends_where_it_begins(self, image_sampler):
        loop = make(image_sampler, 320, loops=True).astype(float)
        flux = np.abs(np.diff(loop, axis=1)).mean(axis=0)
        across = np.abs(loop[:, 0] - loop[:, -1]).mean()
        assert across < 1.25 * flux.max()

    def test_a_morph_begins_with_one_genre_and_ends_with_the_other(self, image_sampler):
        morph, jazz, rock = (
            make(image_sampler, 640, start=start, end=end).astype(FLOAT)
            for start, end in (("jazz", "rock"), ("jazz", "jazz"), ("rock", "rock"))
        )

        def distance(other: np.ndarray, part: slice) -> float:
            return np.abs(morph[:, part] - other[:, part]).mean()

        first, last = slice(0, 64), slice(-64, None)
        assert distance(jazz, first) < 0.5 * distance(rock, first)
        assert distance(rock, last) < 0.5 * distance(jazz, last)
