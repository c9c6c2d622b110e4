"""Batches of numbered images, and windows on strips whose pixels tell their track and frame."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.data.dataset import ImageDataset
from musicspectrogan.tensors import as_images, as_pixels, generator_at
from musicspectrogan.training.batches import Batches

CPU = torch.device("cpu")


def numbered_images(count: int) -> ImageDataset:
    """Image k is filled with grey level k and has label k % 3; row 0 belongs to no split."""
    pixels = np.repeat(np.arange(count + 1, dtype=np.uint8), 64 * 64).reshape(-1, 64, 64)
    rows = np.arange(1, count + 1)
    genres, settings = ["a", "b", "c"], SpectrogramConfig()
    return ImageDataset("numbers", pixels, rows, rows % 3, genres, rows, 0 * rows, settings, "")


def numbers(images: torch.Tensor) -> list[int]:
    return as_pixels(images)[:, 0, 0].tolist()


@pytest.mark.parametrize(
    ("count", "batch_size", "steps"), [(10, 4, 3), (12, 4, 3), (3, 8, 1), (200, 64, 4)]
)
def test_an_epoch_shows_every_image_in_full_batches(count, batch_size, steps):
    batches = Batches(numbered_images(count), batch_size, CPU, seed=0)
    assert batches.steps_per_epoch == steps
    epoch = list(batches.epoch(0))
    assert [images.shape for images, _ in epoch] == [(batch_size, 1, 64, 64)] * steps
    shown = [number for images, _ in epoch for number in numbers(images)]
    assert set(shown) == set(range(1, count + 1))
    assert len(set(shown[:count])) == count  # nothing twice before everything once
    for images, labels in epoch:
        assert [number % 3 for number in numbers(images)] == labels.tolist()


def test_draws_stay_the_same_functions_of_the_seed():
    """Resumed runs of earlier versions depend on them."""
    batches = Batches(numbered_images(9), 9, CPU, seed=7)
    ((images, _),) = batches.epoch(2)
    assert numbers(images) == [9, 1, 2, 4, 3, 5, 8, 7, 6]
    assert batches.labels_at(2, 3).tolist() == [1, 2, 0, 1, 2, 1, 1, 1, 2]
    assert batches.labels_at(3).tolist() != batches.labels_at(4).tolist()


def test_an_epoch_can_be_entered_anywhere():
    batches = Batches(numbered_images(50), 8, CPU, seed=5)
    whole = [numbers(images) for images, _ in batches.epoch(3)]
    assert [numbers(images) for images, _ in batches.epoch(3, start=4)] == whole[4:]


def test_order_is_a_function_of_seed_and_epoch():
    def order(seed: int, epoch: int) -> list[int]:
        batches = Batches(numbered_images(60), 60, CPU, seed)
        return [number for images, _ in batches.epoch(epoch) for number in numbers(images)]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_labels_are_drawn_with_the_frequencies_of_the_dataset():
    batches = Batches(numbered_images(3), 3000, CPU, seed=0)
    labels = batches.labels_at(7)
    assert torch.equal(labels, batches.labels_at(7))
    assert not torch.equal(labels, batches.labels_at(8))
    assert torch.bincount(labels, minlength=3).tolist() == pytest.approx([1000] * 3, abs=120)


def test_pixels_and_images_are_inverse():
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    images = as_images(pixels)
    assert images.min() == -1 and images.max() == 1
    np.testing.assert_array_equal(as_pixels(images)[0], pixels[0, 0].numpy())


def test_random_numbers_depend_on_every_part_of_the_position():
    def draw(*position: object) -> float:
        return torch.rand(1, generator=generator_at("cpu", *position)).item()

    assert draw(0, "latents", 64) == draw(0, "latents", 64)
    assert (
        len(
            {
                draw(0, "latents", 64),
                draw(1, "latents", 64),
                draw(0, "grid", 64),
                draw(0, "latents", 65),
            }
        )
        == 4
    )


# Segments that each track has; of track 3 one is missing.
SEGMENTS = {0: [0, 1, 2, 3, 4], 1: [0], 2: [0, 1], 3: [0, 1, 3, 4], 4: [2, 3, 4]}
# Tracks and segments that have two neighbours.
INNER = {(0, 1), (0, 2), (0, 3), (4, 3)}
WIDTH = 64


def strips() -> ImageDataset:
    """Images of those tracks, shuffled; label k is image k's alone.

    The top row holds the track's number, those below the frame's, high byte and low byte.
    The first row of the pixels belongs to no image.
    """
    places = [(track, segment) for track, segments in SEGMENTS.items() for segment in segments]
    places = [places[k] for k in np.random.default_rng(0).permutation(len(places))]
    pixels = np.full((len(places) + 1, WIDTH, WIDTH), 255, dtype=np.uint8)
    rows = np.arange(1, len(places) + 1)[::-1].copy()
    for row, (track, segment) in zip(rows, places, strict=True):
        frames = segment * WIDTH + np.arange(WIDTH)
        pixels[row] = np.stack([0 * frames + track, frames // 256, *[frames % 256] * (WIDTH - 2)])
    tracks, segments = np.array(places, dtype=np.int64).T
    genres = [f"genre {k:02d}" for k in range(len(places))]
    labels = np.arange(len(places))
    return ImageDataset(
        "strips", pixels, rows, labels, genres, tracks, segments, SpectrogramConfig(), ""
    )


def told(batches: Batches, epoch: int, start: int = 0) -> list[tuple[bytes, list[int]]]:
    return [
        (images.numpy().tobytes(), labels.tolist())
        for images, labels in batches.epoch(epoch, start)
    ]


def begins(batches: Batches, epoch: int) -> list[tuple[int, int]]:
    """(image, frames from its begin to its window's) in the epoch's order; checks each window."""
    dataset, found = strips(), []
    for images, labels in batches.epoch(epoch):
        for window, pick in zip(as_pixels(images).astype(int), labels.tolist(), strict=True):
            track, frames = window[0], 256 * window[1] + window[2]
            assert (track == dataset.tracks[pick]).all()
            assert (frames == frames[0] + np.arange(WIDTH)).all()
            assert (window[2:] == window[2]).all()
            found.append((pick, frames[0] - dataset.segments[pick] * WIDTH))
    return found


def test_every_window_lies_in_its_track_and_around_its_image():
    dataset = strips()
    batches = Batches(dataset, 4, CPU, seed=0, windows=True)
    found = [pair for epoch in range(60) for pair in begins(batches, epoch)]
    kinds: dict[tuple[bool, bool], set[int]] = {}
    for pick, away in found:
        track, segment = dataset.tracks[pick], dataset.segments[pick]
        beside = (segment - 1 in SEGMENTS[track], segment + 1 in SEGMENTS[track])
        kinds.setdefault(beside, set()).add(int(away))
    assert kinds[False, False] == {0}
    assert min(kinds[True, False]) == min(kinds[True, True]) == -WIDTH // 2
    assert kinds[True, False] <= set(range(-WIDTH // 2, 1)) and len(kinds[True, False]) > 30
    assert kinds[False, True] <= set(range(WIDTH // 2 + 1)) and len(kinds[False, True]) > 30
    assert kinds[True, True] <= set(range(-WIDTH // 2, WIDTH // 2)) and len(kinds[True, True]) > 55
    assert max(kinds[True, True]) == WIDTH // 2 - 1


def test_offsets_are_uniform():
    dataset = strips()
    inner = [k for k in range(len(dataset)) if (dataset.tracks[k], dataset.segments[k]) in INNER]
    batches = Batches(dataset, 4, CPU, seed=0, windows=True)
    offsets = [
        away for epoch in range(300) for pick, away in begins(batches, epoch) if pick in inner
    ]
    # Their mean is -0.5, with a deviation of 18.5 by the root of their number.
    assert np.mean(offsets) == pytest.approx(-0.5, abs=4 * 18.5 / len(offsets) ** 0.5)
    assert np.std(offsets) == pytest.approx(18.5, rel=0.1)


def test_pairs_are_two_windows_of_a_track_around_different_images():
    dataset, seen = strips(), set()
    batches = Batches(dataset, 4, CPU, seed=0, windows=True, pairs=True)
    alone = [k for k in range(len(dataset)) if (dataset.tracks == dataset.tracks[k]).sum() == 1]
    for epoch in range(40):
        for images, labels in batches.epoch(epoch):
            assert images.shape == (4, 2, WIDTH, WIDTH)
            for k, pick in enumerate(labels.tolist()):
                first, second = (
                    as_pixels(images[k : k + 1, j : j + 1])[0].astype(int) for j in (0, 1)
                )
                places = [256 * window[1] + window[2] for window in (first, second)]
                assert all((frames == frames[0] + np.arange(WIDTH)).all() for frames in places)
                assert abs(places[0][0] - dataset.segments[pick] * WIDTH) <= WIDTH // 2
                if pick not in alone:
                    assert (np.stack([first[0], second[0]]) == dataset.tracks[pick]).all()
                    seen.add(int(places[1][0] - places[0][0]))
    assert len(seen) > 100 and min(seen) < -WIDTH and max(seen) > WIDTH


def test_pairs_of_images_without_tracks_are_of_one_genre_and_a_line_says_so(monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("musicspectrogan"), "propagate", True)
    caplog.set_level(logging.INFO, logger="musicspectrogan")
    dataset = numbered_images(10)
    for images, labels in Batches(dataset, 4, CPU, 0, pairs=True).epoch(0):
        firsts, seconds = (as_pixels(images[:, k:])[:, 0, 0].tolist() for k in (0, 1))
        assert (
            [number % 3 for number in firsts]
            == labels.tolist()
            == [number % 3 for number in seconds]
        )
    assert [record.getMessage() for record in caplog.records] == [
        "No two images are of one track: pairs are of one genre, and pieces drift"
    ]


def test_the_first_of_a_pair_is_in_the_order_of_single_images():
    pairs, single = (Batches(strips(), 4, CPU, seed=1, pairs=pairs) for pairs in (True, False))
    for (two, labels), (one, same) in zip(pairs.epoch(2), single.epoch(2), strict=True):
        assert torch.equal(two[:, :1], one) and torch.equal(labels, same)


@pytest.mark.parametrize("pairs", [False, True])
def test_windows_are_a_function_of_seed_and_position(pairs):
    batches = Batches(strips(), 4, CPU, seed=5, windows=True, pairs=pairs)
    whole = told(batches, 3)
    assert told(batches, 3) == whole
    assert told(Batches(strips(), 4, CPU, seed=5, windows=True, pairs=pairs), 3) == whole
    for start in range(len(whole) + 1):
        assert told(batches, 3, start) == whole[start:]


def test_offsets_differ_between_epochs_and_seeds_whatever_the_order():
    dataset = strips()
    inner = [k for k in range(len(dataset)) if (dataset.tracks[k], dataset.segments[k]) in INNER]
    runs = []
    for seed, epochs in ((5, range(40)), (5, range(40, 80)), (6, range(40))):
        batches = Batches(dataset, 4, CPU, seed, windows=True)
        runs.append([pair for epoch in epochs for pair in begins(batches, epoch)])
    for other in runs[1:]:  # at equal positions
        pairs = [
            (a, b)
            for (k, a), (j, b) in zip(runs[0], other, strict=True)
            if k in inner and j in inner
        ]
        assert len(pairs) > 20
        assert np.mean([a == b for a, b in pairs]) < 0.2


def test_windows_change_neither_the_order_nor_the_labels():
    with_windows, without = (
        Batches(strips(), 4, CPU, seed=1, windows=windows) for windows in (True, False)
    )
    assert with_windows.steps_per_epoch == without.steps_per_epoch == 4
    for epoch in range(3):
        moved, plain = told(with_windows, epoch), told(without, epoch)
        assert [labels for _, labels in moved] == [labels for _, labels in plain]
        assert [pixels for pixels, _ in moved] != [pixels for pixels, _ in plain]
    assert torch.equal(with_windows.labels_at(7), without.labels_at(7))


def test_without_windows_images_are_shown_as_they_were_cut():
    dataset = strips()
    for batches in (
        Batches(dataset, 4, CPU, seed=1),
        Batches(dataset, 4, CPU, seed=1, windows=False),
    ):
        for images, labels in batches.epoch(0):
            np.testing.assert_array_equal(
                as_pixels(images), dataset.pixels[dataset.rows[labels.numpy()]]
            )


def test_windows_on_images_without_neighbours_are_the_images_and_a_line_says_so(
    monkeypatch, caplog
):
    monkeypatch.setattr(logging.getLogger("musicspectrogan"), "propagate", True)
    caplog.set_level(logging.INFO, logger="musicspectrogan")
    dataset = numbered_images(10)
    assert told(Batches(dataset, 4, CPU, 0, windows=True), 2) == told(
        Batches(dataset, 4, CPU, 0), 2
    )
    assert [record.getMessage() for record in caplog.records] == [
        "No two images of a track are consecutive: windows stay where images were cut"
    ]
    caplog.clear()
    Batches(strips(), 4, CPU, 0, windows=True)
    assert not caplog.records


@pytest.mark.gpu
@pytest.mark.parametrize("windows", [False, True])
def test_batches_on_a_gpu_equal_those_on_the_cpu(monkeypatch, windows):
    dataset, gpu = strips(), torch.device("cuda")
    expected = told(Batches(dataset, 4, CPU, 1, windows=windows), 2)
    assert told(Batches(dataset, 4, gpu, 1, windows=windows), 2) == expected  # resident
    monkeypatch.setattr("musicspectrogan.training.batches.DEVICE_SHARE", 0.0)
    assert told(Batches(dataset, 4, gpu, 1, windows=windows), 2) == expected  # streamed
