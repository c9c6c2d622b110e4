"""How far apart the windows of a piece are, beside those of different pieces, on hand-computed numbers."""

from __future__ import annotations

import numpy as np
import pytest

from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.evaluation.coherence import Coherence, clips_with_lag, lags_in_images
from musicspectrogan.evaluation.sets import ImageSet
from musicspectrogan.evaluation.stretches import Stretches


def stretches(clips: list[int], places: list[int], labels: list[int] | None = None) -> Stretches:
    """Images of which nothing but their clips, places and genres matters."""
    images = ImageSet(
        np.zeros((len(clips), 1, 1), np.uint8),
        np.array(labels or [0] * len(clips)),
        np.array(clips),
    )
    return Stretches(images, np.array(places))


def coherence(
    features: list[float], of: Stretches, lags: dict[str, int], weights: list[float]
) -> dict:
    return Coherence(np.array(features)[:, None], of, lags).figures(np.array(weights))


# Two clips, 0, 1 and 10, 12: at lag 1 the distances are 1 and 2, and between the clips 10, 12, 9 and 11.
TWO = stretches([0, 0, 1, 1], [0, 1, 0, 1])
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
    three = stretches([0, 1, 2], [0, 0, 0])
    lone = Coherence(np.array([[0.0], [1.0], [5.0]]), three, {"none": 1})
    assert np.isnan(lone.figures(np.ones(3))["none"])  # no clip has two images


def test_a_clip_that_is_not_drawn_counts_on_neither_side():
    of = stretches([0, 0, 1, 1, 2, 2], [0, 1] * 3)
    figures = coherence([*FEATURES, 500.0, 900.0], of, {"one": 1}, [1.0] * 4 + [0.0] * 2)
    assert figures == {"one": pytest.approx(1.5 / 10.5)}


def test_with_a_single_clip_of_each_genre_there_is_no_coherence():
    assert np.isnan(
        coherence(FEATURES, stretches([0, 0, 1, 1], [0, 1] * 2, [0, 0, 1, 1]), {"a": 1}, [1] * 4)[
            "a"
        ]
    )
    assert np.isnan(coherence(FEATURES, TWO, {"a": 1}, [2.0, 2.0, 0.0, 0.0])["a"])


def test_clips_are_compared_with_those_of_their_genre_and_genres_weigh_the_same_on_both_sides():
    """A second genre, a thousand times as wide and as coherent, moves the ratio towards its own alone."""
    of = stretches([0, 0, 1, 1, 2, 2, 3, 3], [0, 1] * 4, [0] * 4 + [1] * 4)
    wide = [1000.0 * feature for feature in FEATURES]
    same = coherence(FEATURES + wide, of, {"one": 1}, [1.0] * 8)
    assert same == {"one": pytest.approx(1.5 / 10.5)}
    # 0, 0 and 4, 4: never moves. Two clips of each genre: (1.5 + 0) / (10.5 + 4).
    still = coherence([*FEATURES, 0.0, 0.0, 4.0, 4.0], of, {"one": 1}, [1.0] * 8)
    assert still == {"one": pytest.approx(1.5 / 14.5)}


def test_every_clip_counts_once_however_long():
    """0, 1 and 10, 12 as before, but the second clip goes to and fro five times."""
    of = stretches([0] * 2 + [1] * 10, [0, 1, *range(10)])
    figures = coherence([0.0, 1.0, *[10.0, 12.0] * 5], of, {"one": 1, "two": 2}, [1.0] * 12)
    assert figures["one"] == pytest.approx(1.5 / 10.5)
    assert figures["two"] == 0.0  # the first clip is too short to say anything of it


def test_lags_are_differences_of_places_across_holes():
    of = stretches([0, 0, 0, 1, 1], [0, 1, 3, 0, 2])
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
    of = stretches(list(clips), list(places), list(clips % 3))
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
