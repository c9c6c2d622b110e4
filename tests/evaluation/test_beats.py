"""The beat of pieces, on click tracks whose tempo is known."""

from __future__ import annotations

import numpy as np
import pytest

from musicspectrogan.audio.spectrogram import SpectrogramConfig, cut_images, encode
from musicspectrogan.evaluation.sets import ImageSet
from musicspectrogan.evaluation.stretches import Stretches
from musicspectrogan.evaluation.tempo import Tempo, beat_period, halves_of, is_same_beat

CONFIG = SpectrogramConfig()
FRAME_SECONDS = CONFIG.hop_length / CONFIG.sample_rate
# In images; 17.8 s.
LENGTH = 6


def clicks(*tempi: float) -> np.ndarray:
    """A piece uint8 (n_mels, T) of so many equal parts, each with clicks at so many a minute, over noise."""
    rng = np.random.default_rng(0)
    rate, seconds = CONFIG.sample_rate, LENGTH * CONFIG.image_seconds / len(tempi)
    parts = []
    for bpm in tempi:
        part = 1e-3 * rng.standard_normal(int(seconds * rate))
        for start in np.arange(0.1, seconds - 0.1, 60.0 / bpm):
            place = int(start * rate)
            part[place : place + 800] += rng.standard_normal(800) * np.exp(-np.arange(800) / 200.0)
        parts.append(part)
    grey, _ = encode(np.concatenate(parts).astype(np.float32), CONFIG)
    return np.concatenate(cut_images(grey, CONFIG)[:LENGTH], axis=1)


def pieces(*music: np.ndarray, labels: list[int] | None = None) -> Stretches:
    windows = [piece.reshape(64, -1, 64).swapaxes(0, 1) for piece in music]
    clips = np.repeat(np.arange(len(music)), [len(w) for w in windows])
    images = ImageSet(np.concatenate(windows), np.array(labels or [0] * len(music))[clips], clips)
    return Stretches(images, np.concatenate([np.arange(len(w)) for w in windows]))


@pytest.mark.parametrize("bpm", [72.0, 97.0, 120.0, 133.0, 171.0])
def test_the_period_of_clicks_is_found_between_frames(bpm):
    """At 171 a frame is an eighth of the period; half and double would be the same beat."""
    for period in halves_of(clicks(bpm), CONFIG):
        octaves = np.log2(period * bpm / 60.0)
        assert abs(octaves - np.rint(octaves)) < np.log2(1.02), (period, 60.0 / bpm)


def test_a_beat_that_holds_is_told_from_one_that_changes():
    music = pieces(clicks(120.0), clicks(97.0), clicks(97.0, 120.0), clicks(140.0, 110.0))
    for row, steady in enumerate([1.0, 1.0, 0.0, 0.0]):
        alone = music.take(music.images.clips == row)
        assert Tempo(alone, LENGTH, CONFIG).figures(np.ones(LENGTH))["tempo_stability"] == steady
    figures = Tempo(music, LENGTH, CONFIG).figures(np.ones(4 * LENGTH))
    assert figures["tempo_stability"] == 0.5
    # Of 12 pairs of a first half and another's second: 120 of the first and of the third, 97 of the third
    # and of the second.
    assert figures["shared_tempo"] == pytest.approx(2 / 12)


def test_silence_and_a_steady_tone_have_no_beat():
    silent = np.zeros((64, 64 * LENGTH), np.uint8)
    tone = np.zeros_like(silent)
    tone[20] = 200
    for piece in (silent, tone):
        assert np.isnan(halves_of(piece, CONFIG)).all()
    figures = Tempo(pieces(silent, tone), LENGTH, CONFIG).figures(np.ones(2 * LENGTH))
    assert figures == {"tempo_stability": 0.0, "shared_tempo": 0.0}


def test_half_and_double_are_the_same_beat_and_a_third_is_another():
    first = np.full(6, 0.5)
    second = np.array([0.5, 0.515, 0.25, 1.01, 0.75, np.nan])
    assert is_same_beat(first, second).tolist() == [True, True, True, True, False, False]
    assert not is_same_beat(0.5, 0.53)
    assert not is_same_beat(1.2, 0.3)


def test_clips_count_by_their_weights_and_are_no_pair_with_themselves():
    music = pieces(clicks(120.0), clicks(120.0), clicks(90.0, 140.0), labels=[0, 0, 0])
    tempo = Tempo(music, LENGTH, CONFIG)
    once = tempo.figures(np.ones(3 * LENGTH))
    assert once == {"tempo_stability": pytest.approx(2 / 3), "shared_tempo": pytest.approx(2 / 6)}
    weights = np.repeat([3.0, 0.0, 0.0], LENGTH)
    alone = tempo.figures(weights)
    assert alone["tempo_stability"] == 1.0 and np.isnan(alone["shared_tempo"])
    weights = np.repeat([2.0, 1.0, 1.0], LENGTH)
    # Pairs with their weights: 2·2·1 that agree, of 2·(2 + 2 + 1).
    assert tempo.figures(weights)["shared_tempo"] == pytest.approx(4 / 10)


def test_tempo_is_shared_within_genres_only():
    music = pieces(clicks(120.0), clicks(90.0), clicks(120.0), clicks(90.0), labels=[0, 0, 1, 1])
    assert Tempo(music, LENGTH, CONFIG).figures(np.ones(4 * LENGTH))["shared_tempo"] == 0.0


def test_a_clip_with_a_hole_is_looked_at_where_it_has_none():
    whole = pieces(clicks(120.0), clicks(120.0))
    broken = Stretches(whole.images, whole.places + (np.arange(len(whole.places)) == LENGTH - 1))
    assert [len(run) for run in broken.longest_runs()] == [LENGTH - 1, LENGTH]
    assert np.isnan(Tempo(broken, LENGTH, CONFIG).figures(np.ones(2 * LENGTH))["shared_tempo"])
    assert Tempo(broken, LENGTH - 1, CONFIG).figures(np.ones(2 * LENGTH))["shared_tempo"] == 1.0


def test_the_slowest_beat_that_is_looked_for_is_50_a_minute():
    envelope = np.zeros(400)
    envelope[::30] = 1.0  # every 1.39 s
    assert np.isnan(beat_period(envelope, FRAME_SECONDS))
    envelope[::25] = 1.0
    envelope[::30] = 0.0
    assert beat_period(envelope, FRAME_SECONDS) == pytest.approx(25 * FRAME_SECONDS, rel=0.01)
