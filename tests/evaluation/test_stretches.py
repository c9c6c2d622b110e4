"""Pieces and tracks as images that follow one another."""

from __future__ import annotations

import numpy as np
import pytest

from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.data.dataset import ImageDataset
from musicspectrogan.evaluation.sets import ImageSet
from musicspectrogan.evaluation.stretches import (
    Stretches,
    clips_drawn,
    cut,
    joined,
    tracks_of,
    windows_in,
)


def stretches(clips: list[int], places: list[int]) -> Stretches:
    """Every pixel of an image is its number."""
    pixels = np.arange(len(clips), dtype=np.uint8)[:, None, None].repeat(2, 1).repeat(2, 2)
    return Stretches(ImageSet(pixels, np.array(clips) % 2, np.array(clips)), np.array(places))


@pytest.mark.parametrize(
    ("seconds", "windows"),
    [(2.9, 0), (2.972, 1), (3, 1), (5.8, 1), (6, 2), (30, 10), (600, 201), (3600, 1211)],
)
def test_windows_of_a_piece(seconds, windows):
    for size in (64, 128):
        assert windows_in(seconds, SpectrogramConfig.for_image_size(size)) == windows


def test_a_piece_is_cut_into_consecutive_windows_and_a_remainder_is_dropped():
    piece = np.arange(2 * 7, dtype=np.uint8).reshape(2, 7)
    windows = cut(piece, 3)
    assert windows.tolist() == [[[0, 1, 2], [7, 8, 9]], [[3, 4, 5], [10, 11, 12]]]
    assert cut(piece, 8).shape == (0, 2, 8)


def test_runs_are_without_holes_and_in_order():
    of = stretches([5, 5, 3, 5, 3, 5], [4, 0, 1, 5, 0, 1])
    assert [rows.tolist() for rows in of.of_clips()] == [[4, 2], [1, 5, 0, 3]]
    assert [rows.tolist() for rows in of.longest_runs()] == [[4, 2], [1, 5]]
    assert of.piece(of.longest_runs()[0]).tolist() == [[4, 4, 2, 2]] * 2
    assert of.take(np.zeros(6, dtype=bool)).longest_runs() == []


def test_whole_clips_are_drawn():
    clips = np.repeat(np.arange(10), 4)
    rng = np.random.default_rng(0)
    for count, drawn in ((40, 10), (39, 10), (12, 3), (9, 3), (1, 1)):
        mask = clips_drawn(clips, count, rng)
        assert sorted(np.unique(clips[mask], return_counts=True)[1]) == [4] * drawn
    assert any((clips_drawn(clips, 4, rng) != clips_drawn(clips, 4, rng)).any() for _ in range(5))


def test_clips_of_two_sets_stay_apart():
    both = joined(stretches([0, 0, 1], [0, 1, 0]), stretches([0, 1, 1], [0, 0, 1]))
    assert both.images.clips.tolist() == [0, 0, 1, -1, -2, -2]
    assert both.images.labels.tolist() == [0, 0, 1, 0, 1, 1]
    assert both.places.tolist() == [0, 1, 0, 0, 0, 1]
    assert both.images.n_clips == 4


def test_tracks_keep_their_numbers_and_genres_go_by_name():
    dataset = ImageDataset(
        name="any",
        pixels=np.arange(8, dtype=np.uint8)[:, None, None],
        rows=np.array([1, 2, 3, 5, 6]),
        labels=np.array([0, 0, 1, 2, 2]),
        genres=["jazz", "polka", "rock"],
        tracks=np.array([0, 0, 1, 2, 2]),
        segments=np.array([0, 2, 0, 3, 4]),
        spectrogram=SpectrogramConfig(),
        fingerprint="",
    )
    found = tracks_of(dataset, ["rock", "jazz"], 100, np.random.default_rng(0))
    assert found.images.pixels.ravel().tolist() == [1, 2, 5, 6]
    assert found.images.labels.tolist() == [1, 1, 0, 0]
    assert found.images.clips.tolist() == [0, 0, 2, 2]
    assert found.places.tolist() == [0, 2, 3, 4]
    one = tracks_of(dataset, ["rock", "jazz"], 2, np.random.default_rng(0))
    assert one.images.n_clips == 1 and len(one.images) == 2
