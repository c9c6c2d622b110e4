"""Structure of pieces: coherence on hand-computed numbers, and the beat of click tracks."""

from __future__ import annotations

import numpy as np
import pytest

from musicspectrogan.audio.spectrogram import SpectrogramConfig, cut_images, encode
from musicspectrogan.evaluation.pieces import (
    Coherence,
    Tempo,
    beat_period,
    clips_with_lag,
    half_periods,
    is_same_beat,
    lags_in_images,
)
from musicspectrogan.evaluation.samples import ClipWindows, ImageSet

# Coherence


def clip_windows(
    clips: list[int], places: list[int], labels: list[int] | None = None
) -> ClipWindows:
    """Images of which nothing but their clips, places and genres matters."""
    images = ImageSet(
        np.zeros((len(clips), 1, 1), np.uint8),
        np.array(labels or [0] * len(clips)),
        np.array(clips),
    )
    return ClipWindows(images, np.array(places))


def coherence(
    features: list[float], of: ClipWindows, lags: dict[str, int], weights: list[float]
) -> dict:
    return Coherence(np.array(features)[:, None], of, lags).figures(np.array(weights))


# Two clips, 0, 1 and 10, 12: at lag 1 the distances are 1 and 2, and between the clips 10, 12, 9
# and 11.
TWO = clip_windows([0, 0, 1, 1], [0, 1, 0, 1])
FEATURES = [0.0, 1.0, 10.0, 12.0]


def test_coherence_is_a_ratio_of_mean_distances():
    figures = coherence(FEATURES, TWO, {"one": 1}, [1.0] * 4)
    assert figures == {"one": pytest.approx(1.5 / 10.5)}


def test_the_order_of_the_images_does_not_matter():
    order = np.array([3, 0, 2, 1])
    figures = coherence(list(np.array(FEATURES)[order]), TWO.take(order), {"one": 1}, [1.0] * 4)
    assert figures == {"one": pytest.approx(1.5 / 10.5)}


def test_a_clip_that_is_drawn_twice_is_no_other_clip_than_itself():
    """Its pairs count twice, and between the clips nothing changes."""
    figures = coherence(FEATURES, TWO, {"one": 1}, [2.0, 2.0, 1.0, 1.0])
    assert figures == {"one": pytest.approx((2 * 1.0 + 2.0) / 3 / 10.5)}
    three = clip_windows([0, 1, 2], [0, 0, 0])
    lone = Coherence(np.array([[0.0], [1.0], [5.0]]), three, {"none": 1})
    assert np.isnan(lone.figures(np.ones(3))["none"])  # no clip has two images


def test_a_clip_that_is_not_drawn_counts_on_neither_side():
    of = clip_windows([0, 0, 1, 1, 2, 2], [0, 1] * 3)
    figures = coherence([*FEATURES, 500.0, 900.0], of, {"one": 1}, [1.0] * 4 + [0.0] * 2)
    assert figures == {"one": pytest.approx(1.5 / 10.5)}


def test_with_a_single_clip_of_each_genre_there_is_no_coherence():
    assert np.isnan(
        coherence(
            FEATURES, clip_windows([0, 0, 1, 1], [0, 1] * 2, [0, 0, 1, 1]), {"a": 1}, [1] * 4
        )["a"]
    )
    assert np.isnan(coherence(FEATURES, TWO, {"a": 1}, [2.0, 2.0, 0.0, 0.0])["a"])


def test_clips_are_compared_with_those_of_their_genre_and_genres_weigh_the_same_on_both_sides():
    """A second genre, a thousand times as wide and as coherent, does not change the ratio."""
    of = clip_windows([0, 0, 1, 1, 2, 2, 3, 3], [0, 1] * 4, [0] * 4 + [1] * 4)
    wide = [1000.0 * feature for feature in FEATURES]
    same = coherence(FEATURES + wide, of, {"one": 1}, [1.0] * 8)
    assert same == {"one": pytest.approx(1.5 / 10.5)}
    # 0, 0 and 4, 4: never moves. Two clips of each genre: (1.5 + 0) / (10.5 + 4).
    still = coherence([*FEATURES, 0.0, 0.0, 4.0, 4.0], of, {"one": 1}, [1.0] * 8)
    assert still == {"one": pytest.approx(1.5 / 14.5)}


def test_every_clip_counts_once_however_long():
    """0, 1 and 10, 12 as before, but the second clip goes to and fro five times."""
    of = clip_windows([0] * 2 + [1] * 10, [0, 1, *range(10)])
    figures = coherence([0.0, 1.0, *[10.0, 12.0] * 5], of, {"one": 1, "two": 2}, [1.0] * 12)
    assert figures["one"] == pytest.approx(1.5 / 10.5)
    assert figures["two"] == 0.0  # the first clip is too short to say anything of it


def test_lags_are_differences_of_places_across_holes():
    of = clip_windows([0, 0, 0, 1, 1], [0, 1, 3, 0, 2])
    lags = {"1": 1, "2": 2, "3": 3, "4": 4}
    assert [clips_with_lag(of, lag) for lag in lags.values()] == [1, 2, 1, 0]
    figures = coherence([0.0, 1.0, 4.0, 10.0, 16.0], of, lags, [1.0] * 5)
    apart = np.abs(np.subtract.outer([0.0, 1.0, 4.0], [10.0, 16.0])).mean()
    assert figures["1"] == pytest.approx(1.0 / apart)
    assert figures["2"] == pytest.approx((3.0 + 6.0) / 2 / apart)
    assert figures["3"] == pytest.approx(4.0 / apart)
    assert np.isnan(figures["4"])


def test_pieces_without_memory_are_at_1_and_pieces_that_do_not_move_at_0():
    rng = np.random.default_rng(0)
    clips, places = np.repeat(np.arange(60), 8), np.tile(np.arange(8), 60)
    of = clip_windows(list(clips), list(places), list(clips % 3))
    noise = rng.normal(size=(480, 32)) + 5.0 * rng.normal(size=(3, 32))[clips % 3]
    fixed = rng.normal(size=(60, 32))[clips]
    assert Coherence(noise, of, {"a": 1, "b": 4}).figures(np.ones(480)) == pytest.approx(
        {"a": 1.0, "b": 1.0}, abs=0.02
    )
    assert Coherence(fixed, of, {"a": 1}).figures(np.ones(480)) == {"a": 0.0}


def test_lags_are_whole_images_of_about_so_many_seconds():
    usual = {"coherence_3s": 1, "coherence_6s": 2, "coherence_12s": 4, "coherence_24s": 8}
    for size in (64, 128, 256):
        assert lags_in_images(SpectrogramConfig.for_image_size(size)) == usual
    short = SpectrogramConfig(sample_rate=44100)  # 1.49 s an image
    assert lags_in_images(short) == {name: 2 * lag for name, lag in usual.items()}
    long = SpectrogramConfig(hop_length=1500, n_frames=100)  # 6.8 s: no lag of 3 s
    assert lags_in_images(long) == {"coherence_6s": 1, "coherence_12s": 2, "coherence_24s": 4}


# Tempo

CONFIG = SpectrogramConfig()
FRAME_SECONDS = CONFIG.hop_length / CONFIG.sample_rate
# In images; 17.8 s.
LENGTH = 6


def clicks(*tempi: float) -> np.ndarray:
    """A piece uint8 (n_mels, T) of clicks over noise, in equal parts of these tempi."""
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


def pieces(*music: np.ndarray, labels: list[int] | None = None) -> ClipWindows:
    windows = [piece.reshape(64, -1, 64).swapaxes(0, 1) for piece in music]
    clips = np.repeat(np.arange(len(music)), [len(w) for w in windows])
    images = ImageSet(np.concatenate(windows), np.array(labels or [0] * len(music))[clips], clips)
    return ClipWindows(images, np.concatenate([np.arange(len(w)) for w in windows]))


@pytest.mark.parametrize("bpm", [72.0, 97.0, 120.0, 133.0, 171.0])
def test_the_period_of_clicks_is_found_between_frames(bpm):
    """At 171 a frame is an eighth of the period; half and double would be the same beat."""
    for period in half_periods(clicks(bpm), CONFIG):
        octaves = np.log2(period * bpm / 60.0)
        assert abs(octaves - np.rint(octaves)) < np.log2(1.02), (period, 60.0 / bpm)


def test_a_beat_that_holds_is_told_from_one_that_changes():
    music = pieces(clicks(120.0), clicks(97.0), clicks(97.0, 120.0), clicks(140.0, 110.0))
    for row, steady in enumerate([1.0, 1.0, 0.0, 0.0]):
        alone = music.take(music.images.clips == row)
        assert Tempo(alone, LENGTH, CONFIG).figures(np.ones(LENGTH))["tempo_stability"] == steady
    figures = Tempo(music, LENGTH, CONFIG).figures(np.ones(4 * LENGTH))
    assert figures["tempo_stability"] == 0.5
    # Of 12 pairs of a first half and another's second: 120 of the first and of the third, 97 of the
    # third and of the second.
    assert figures["shared_tempo"] == pytest.approx(2 / 12)


def test_silence_and_a_steady_tone_have_no_beat():
    silent = np.zeros((64, 64 * LENGTH), np.uint8)
    tone = np.zeros_like(silent)
    tone[20] = 200
    for piece in (silent, tone):
        assert np.isnan(half_periods(piece, CONFIG)).all()
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
    broken = ClipWindows(
        whole.images, whole.positions + (np.arange(len(whole.positions)) == LENGTH - 1)
    )
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
