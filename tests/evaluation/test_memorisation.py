"""The search for copies: every window of every track, and what counts as a copy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.data.dataset import ImageDataset
from musicspectrogan.evaluation import memorisation
from musicspectrogan.evaluation.memorisation import Nearest, copy_figures, search_training

CPU = torch.device("cpu")
SIDE = 8
CONFIG = SpectrogramConfig(n_mels=SIDE, n_frames=SIDE, top_db=60.0)
# Rounding in float32 of a difference of 0, in dB.
ROUNDING_DB = 0.1
# Segments of each track. The second has a gap, and the last is a lone image that is not the first.
SEGMENTS = {3: (0, 1, 2), 7: (0, 1, 3, 4), 8: (5,)}
WINDOWS = 3 * SIDE + 2 * SIDE + 2 * SIDE + SIDE


def make_dataset(seed: int = 0) -> ImageDataset:
    """Tracks of noise: their images lie in no order, between those of another split."""
    rng = np.random.default_rng(seed)
    places = [(track, segment) for track, segments in SEGMENTS.items() for segment in segments]
    places = [places[number] for number in rng.permutation(len(places))]
    pixels = rng.integers(0, 256, (2 * len(places), SIDE, SIDE), dtype=np.uint8)
    tracks, segments = np.array(places).T
    rows = np.sort(rng.choice(len(pixels), len(places), replace=False))
    labels = np.zeros(len(rows), dtype=np.int64)
    return ImageDataset("noise", pixels, rows, labels, ["any"], tracks, segments, CONFIG, "")


def image_of(dataset: ImageDataset, track: int, segment: int) -> np.ndarray:
    (place,) = np.nonzero((dataset.tracks == track) & (dataset.segments == segment))[0]
    return dataset.pixels[dataset.rows[place]]


def runs_of(dataset: ImageDataset, track: int) -> list[np.ndarray]:
    """The runs of consecutive segments of a track, uint8 (H, T), written down by hand."""
    runs = {3: [(0, 1, 2)], 7: [(0, 1), (3, 4)], 8: [(5,)]}[track]
    return [np.concatenate([image_of(dataset, track, s) for s in run], axis=1) for run in runs]


def windows_by_hand(dataset: ImageDataset, track: int) -> np.ndarray:
    """Every window of a track, over its ends too."""
    return np.stack(
        [
            np.roll(run, -start, 1)[:, :SIDE]
            for run in runs_of(dataset, track)
            for start in range(run.shape[1])
        ]
    )


def found_in(
    dataset: ImageDataset, images: np.ndarray, tracks: tuple[int, ...] = tuple(SEGMENTS)
) -> Nearest:
    return search_training(images, dataset, np.array(tracks), CPU, "Looking")


def noise(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE), dtype=np.uint8)


def test_an_exact_copy_of_each_image_is_found():
    dataset = make_dataset()
    images = dataset.pixels[dataset.rows]
    found = found_in(dataset, images)
    assert found.nearest_db.max() < ROUNDING_DB
    np.testing.assert_array_equal(found.windows, images)
    # Two of three tracks are others.
    assert found.usual_db.min() > 5.0
    assert found.relative.max() < 0.02


@pytest.mark.parametrize(
    ("track", "first", "start"), [(3, 0, 1), (3, 0, SIDE - 1), (3, 1, 3), (7, 0, 4), (7, 3, 5)]
)
def test_a_window_across_two_consecutive_segments_is_found(track, first, start):
    dataset = make_dataset()
    both = np.concatenate(
        [image_of(dataset, track, first), image_of(dataset, track, first + 1)], axis=1
    )
    window = both[:, start : start + SIDE]
    found = found_in(dataset, window[None])
    assert found.nearest_db[0] < ROUNDING_DB
    np.testing.assert_array_equal(found.windows[0], window)


def test_a_lone_image_is_found_at_every_shift():
    dataset = make_dataset()
    shifted = np.stack([np.roll(image_of(dataset, 8, 5), shift, axis=1) for shift in range(SIDE)])
    found = found_in(dataset, shifted)
    assert found.nearest_db.max() < ROUNDING_DB
    np.testing.assert_array_equal(found.windows, shifted)


@pytest.mark.parametrize(
    ("before", "after"), [((7, 1), (7, 3)), ((3, 2), (7, 0)), ((3, 2), (3, 1))]
)
def test_what_does_not_follow_is_not_joined(before, after):
    """Over a gap, from one track to the next, and backwards."""
    dataset = make_dataset()
    joined = np.concatenate([image_of(dataset, *before), image_of(dataset, *after)], axis=1)
    window = joined[:, SIDE // 2 : SIDE // 2 + SIDE]
    found = found_in(dataset, window[None])
    assert found.nearest_db[0] > 5.0
    assert (found.windows[0] != window).any()


@pytest.mark.parametrize("windows_at_once", [1, 5, 1024])
def test_it_is_what_looking_at_all_windows_gives(windows_at_once, monkeypatch):
    monkeypatch.setattr(memorisation, "WINDOWS_PER_BATCH", windows_at_once)
    dataset, images = make_dataset(), noise(20)
    found = found_in(dataset, images)
    by_track, nearest_windows = [], []
    for track in SEGMENTS:
        windows = windows_by_hand(dataset, track)
        squares = (images[:, None].astype(float) - windows) ** 2
        by_track.append(np.sqrt(squares.mean(axis=(2, 3))) * CONFIG.top_db / 255.0)
        nearest_windows.append(windows)
    assert sum(map(len, nearest_windows)) == WINDOWS
    least = np.array([distances.min(axis=1) for distances in by_track])
    np.testing.assert_allclose(found.nearest_db, least.min(axis=0), rtol=1e-4)
    np.testing.assert_allclose(found.usual_db, least.mean(axis=0), rtol=1e-4)
    which = np.concatenate(by_track, axis=1).argmin(axis=1)
    np.testing.assert_array_equal(found.windows, np.concatenate(nearest_windows)[which])


def test_only_the_given_tracks_are_searched():
    dataset = make_dataset()
    image = image_of(dataset, 7, 3)[None]
    assert found_in(dataset, image, (7, 3)).nearest_db[0] < ROUNDING_DB
    assert found_in(dataset, image, (3, 8)).nearest_db[0] > 5.0


def test_images_of_another_split_are_not_searched():
    dataset = make_dataset()
    others = np.delete(dataset.pixels, dataset.rows, axis=0)
    assert len(others) == len(dataset.rows)
    assert found_in(dataset, others).nearest_db.min() > 5.0


def test_a_level_difference_is_given_in_db():
    """All grey levels 51 higher: a fifth of the range of 60 dB."""
    dataset = make_dataset()
    dataset.pixels[:] = dataset.pixels // 4
    found = found_in(dataset, image_of(dataset, 3, 1)[None] + 51)
    assert found.nearest_db[0] == pytest.approx(12.0, abs=0.01)


def test_a_plain_image_is_near_but_no_copy():
    """Grey and blurred images are nearer to noise than other noise is, but to every track alike."""
    dataset = make_dataset()
    held_out = found_in(dataset, noise(40))
    training = dataset.pixels[dataset.rows].astype(float)
    plain = np.full((4, SIDE, SIDE), 127, np.uint8)
    # Each band at its mean level.
    blurred = np.broadcast_to(training.mean(axis=2, keepdims=True), training.shape).astype(np.uint8)
    copies = (training + noise(len(training), seed=2) / 16.0).clip(0, 255).astype(np.uint8)
    once = np.ones(len(held_out.nearest_db))
    for images, copied in ((plain, 0.0), (blurred, 0.0), (copies, 1.0)):
        found = found_in(dataset, images)
        figures = copy_figures(found, held_out, np.ones(len(images)), once)
        assert figures["copied"] == copied
        assert figures["nearest_training"] < 0.8 * np.median(held_out.nearest_db)


def by_hand(nearest: list[float], relative: list[float]) -> Nearest:
    values = np.array(nearest)
    return Nearest(values, values / np.array(relative), np.arange(len(values), dtype=np.uint8))


# The second smallest of forty is where 5 % of them are at or below.
STANDARD = by_hand([10.0] * 40, [0.2, 0.5, *np.linspace(0.6, 0.9, 38)])
SAMPLE = by_hand([1.0, 2.0, 3.0, 4.0, 5.0], [0.1, 0.49, 0.5, 0.51, 0.9])


def test_copied_is_the_share_below_what_held_out_images_hardly_reach():
    figures = copy_figures(SAMPLE, STANDARD, np.ones(5), np.ones(40))
    assert figures == {"nearest_training": 3.0, "copied": pytest.approx(2 / 5)}


def test_held_out_images_have_few_false_alarms():
    figures = copy_figures(STANDARD, STANDARD, np.ones(40), np.ones(40))
    assert figures["copied"] == pytest.approx(1 / 40)


def test_images_count_as_often_as_their_weights_say():
    figures = copy_figures(SAMPLE, STANDARD, np.array([0.0, 1.0, 0.0, 0.0, 4.0]), np.ones(40))
    assert figures == {"nearest_training": 5.0, "copied": pytest.approx(1 / 5)}
    # Without its two lowest, the standard is at 0.6 and above, where four samples are below.
    weights = np.ones(40)
    weights[:2] = 0.0
    assert copy_figures(SAMPLE, STANDARD, np.ones(5), weights)["copied"] == pytest.approx(4 / 5)


def test_some_of_the_images_are_taken_with_all_that_is_known_of_them():
    taken = SAMPLE.take(np.array([3, 1]))
    np.testing.assert_array_equal(taken.nearest_db, [4.0, 2.0])
    np.testing.assert_allclose(taken.relative, [0.51, 0.49])
    np.testing.assert_array_equal(taken.windows, [3, 1])


def test_a_copy_of_what_all_tracks_share_is_no_division_by_zero():
    """Silence, for instance."""
    dataset = make_dataset()
    dataset.pixels[:] = 0
    found = found_in(dataset, np.zeros((1, SIDE, SIDE), np.uint8))
    assert found.nearest_db[0] == found.usual_db[0] == 0.0
    assert np.isfinite(found.relative[0])
