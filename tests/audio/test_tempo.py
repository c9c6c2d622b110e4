"""The tempo that is found in an image, and none where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from musicspectrogan.audio.spectrogram import SpectrogramConfig, encode
from musicspectrogan.audio.tempo import Tempo, tempo_of
from musicspectrogan.data import composer

CONFIG = SpectrogramConfig()
RATE = CONFIG.sample_rate


def image_of(samples: np.ndarray) -> np.ndarray:
    grey, _ = encode(samples.astype(np.float32), CONFIG)
    return np.ascontiguousarray(grey[::-1])


def clicks(times: np.ndarray, seconds: float) -> np.ndarray:
    """Short bursts of noise over a soft hiss."""
    rng = np.random.default_rng(0)
    samples = 1e-3 * rng.standard_normal(round(seconds * RATE))
    burst = rng.standard_normal(2000) * np.exp(-np.arange(2000) / 400)
    for start in np.round(times * RATE).astype(int):
        part = samples[start : start + len(burst)]
        part += burst[: len(part)]
    return samples


def beats(bpm: float, seconds: float, first: float = 0.1) -> np.ndarray:
    return np.arange(first, seconds, 60.0 / bpm)


@pytest.mark.parametrize("bpm", [72.0, 98.3, 120.0, 133.7, 165.0])
def test_a_steady_beat_is_found_to_a_thousandth(bpm):
    found = tempo_of(image_of(clicks(beats(bpm, 30.0), 30.0)), CONFIG)
    assert found.bpm == pytest.approx(bpm, rel=2e-3) and found.beats is None


@pytest.mark.parametrize("size", [64, 128])
def test_three_seconds_are_enough_for_some(size):
    config = SpectrogramConfig.for_image_size(size)
    grey, _ = encode(clicks(beats(120.0, 3.0), 3.0).astype(np.float32), config)
    assert tempo_of(grey[::-1, :size], config).bpm == pytest.approx(120.0, rel=0.02)


def test_no_tempo_is_named_where_no_beat_is_steady():
    rng = np.random.default_rng(2)
    time = np.arange(30 * RATE) / RATE
    faster = np.concatenate([beats(90.0, 15.0), 15.0 + beats(113.0, 15.0)])
    unsteady = {
        "noise": rng.standard_normal(30 * RATE),
        "a held tone": np.sin(2 * np.pi * 440.0 * time),
        "a trembling tone": np.sin(2 * np.pi * 440.0 * time)
        * (1 + 0.05 * np.sin(4 * np.pi * time)),
        "clicks at any time": clicks(np.sort(rng.uniform(0, 29.5, 60)), 30.0),
        "half of it faster": clicks(faster, 30.0),
        "a single click": clicks(np.array([1.0]), 3.0),
        "ambient music": composer.compose("ambient", 0, seed=0, seconds=30.0),
    }
    found = {name: tempo_of(image_of(samples), CONFIG) for name, samples in unsteady.items()}
    assert found == dict.fromkeys(unsteady)
    assert tempo_of(np.zeros((64, 646), np.uint8), CONFIG) is None
    assert tempo_of(np.full((64, 1), 99, np.uint8), CONFIG) is None


def test_shuffled_frames_have_no_beat():
    """Of 400 images of 3 s and 6 s with all onsets of music but their order."""
    rng = np.random.default_rng(0)
    images = [
        image_of(composer.compose(style, 0, seed=0, seconds=6.0)) for style in composer.STYLES
    ]
    found = [
        tempo_of(image[:, rng.permutation(frames)], CONFIG)
        for image in images for frames in (64, 128) for _ in range(40)
    ]  # fmt: skip
    assert sum(tempo is not None for tempo in found) <= 1


def test_a_loop_has_a_whole_number_of_beats():
    frames = 172  # 7.99 s
    seconds = frames * 1024 / RATE
    fits = image_of(clicks(beats(60.0 * 16 / seconds, seconds - 0.1, 0.05), seconds))[:, :frames]
    assert tempo_of(fits, CONFIG, loops=True) == Tempo(pytest.approx(60.0 * 16 / seconds), 16)
    halting = image_of(clicks(beats(60.0 * 15.5 / seconds, seconds - 0.1, 0.05), seconds))[
        :, :frames
    ]
    assert tempo_of(halting, CONFIG).bpm == pytest.approx(60.0 * 15.5 / seconds, rel=0.01)
    assert tempo_of(halting, CONFIG, loops=True) is None


def test_demo_music_has_the_beat_that_it_was_composed_with(monkeypatch):
    beat = []
    drums = composer.STYLES["drums"]

    def noted(score: composer.Score, tape: composer.Tape) -> None:
        beat.append(score.beat)
        drums(score, tape)

    monkeypatch.setitem(composer.STYLES, "drums", noted)
    for index in range(5):
        image = image_of(composer.compose("drums", index, seed=0, seconds=30.0))
        ratio = tempo_of(image, CONFIG).bpm * beat[index] / 60.0
        assert min(abs(ratio / level - 1) for level in (0.5, 2 / 3, 1, 4 / 3, 1.5, 2)) < 0.005


@pytest.mark.parametrize(
    ("tempo", "text"),
    [(Tempo(120.0), "120"), (Tempo(118.518, 16), "118.52"), (Tempo(97.5), "97.5")],
)
def test_it_is_written_as_people_write_it(tempo, text):
    assert str(tempo) == text
