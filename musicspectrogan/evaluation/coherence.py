"""Does a piece stay what it is? How far apart its windows are, beside windows of different pieces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.evaluation.distances import mean_of_pairs
from musicspectrogan.evaluation.stretches import Stretches

Array = NDArray[np.floating]

# Seconds from the beginning of one window to that of the other.
LAGS = (3, 6, 12, 24)
# A lag is a whole number of images; this much of it may be missing or too much.
TOLERANCE = 0.25


def coherence_name(seconds: int) -> str:
    """What the figure at a lag is called."""
    return f"coherence_{seconds}s"


def lags_in_images(config: SpectrogramConfig) -> dict[str, int]:
    """The lag in images of each figure, as near to LAGS as whole images come."""
    nearest = {seconds: round(seconds / config.image_seconds) for seconds in LAGS}
    return {
        coherence_name(seconds): count
        for seconds, count in nearest.items()
        if count and abs(count * config.image_seconds - seconds) <= TOLERANCE * seconds
    }


def clips_with_lag(stretches: Stretches, lag: int) -> int:
    """How many clips have two images so many images apart."""
    return sum(len(_pairs(stretches.places[rows], lag)[0]) > 0 for rows in stretches.of_clips())


@dataclass(frozen=True)
class _Genre:
    """The distances among the C clips of a genre."""

    first: NDArray[np.int64]
    """(C,): an image of each clip, for its weight."""
    between: Array
    """(C, C): mean over pairs of images, one of each clip."""
    within: dict[str, Array]
    """(C,) at each lag: mean over a clip's pairs; 0 where it has none."""
    has_pairs: dict[str, NDArray[np.bool_]]
    """(C,) at each lag."""


class Coherence:
    """Prepares what does not depend on weights, so that resampling is cheap.

    Coherence at a lag is the mean distance of two windows of one clip that far apart, over the mean
    distance of windows of two different clips of the genre: a ratio of means. Every clip counts once,
    however long it is; and genres count above and below the line by their clips, so that one whose
    windows all lie far apart has no more say. A clip that is drawn twice is no other clip than itself.

    Args:
        features: (N, D) of the images.
        lags: in images, by the names of the figures.
    """

    def __init__(self, features: Array, stretches: Stretches, lags: Mapping[str, int]) -> None:
        self._names = list(lags)
        labels = stretches.images.labels
        of_genre: dict[int, list[NDArray[np.int64]]] = {}
        for rows in stretches.of_clips():
            of_genre.setdefault(int(labels[rows[0]]), []).append(rows)
        self._genres = [_measure(features, stretches, clips, lags) for clips in of_genre.values()]

    def figures(self, weights: Array) -> dict[str, float]:
        """Coherence at each lag; NaN where no genre has two clips. Weights (N,) say how often each counts."""
        near, far = (dict.fromkeys(self._names, 0.0) for _ in range(2))
        for genre in self._genres:
            w = weights[genre.first]
            if np.count_nonzero(w) < 2:
                continue
            apart = mean_of_pairs(genre.between, w)
            for name in self._names:
                near[name] += w @ genre.within[name]
                far[name] += w @ genre.has_pairs[name] * apart
        return {
            name: float(near[name] / far[name]) if far[name] > 0 else np.nan for name in self._names
        }


def _measure(
    features: Array, stretches: Stretches, clips: list[NDArray[np.int64]], lags: Mapping[str, int]
) -> _Genre:
    rows = np.concatenate(clips)
    sizes = np.array([len(clip) for clip in clips])
    starts = np.cumsum(sizes) - sizes
    # Clip by clip: all distances at once would take the square of the images in memory.
    between = np.stack(
        [
            np.add.reduceat(cdist(features[clip], features[rows]).mean(axis=0), starts) / sizes
            for clip in clips
        ]
    )
    within, has_pairs = {}, {}
    for name, lag in lags.items():
        distances = [_at_lag(features[clip], stretches.places[clip], lag) for clip in clips]
        has_pairs[name] = np.array([len(of_clip) > 0 for of_clip in distances])
        within[name] = np.array([of_clip.mean() if len(of_clip) else 0.0 for of_clip in distances])
    return _Genre(np.array([clip[0] for clip in clips]), between, within, has_pairs)


def _at_lag(features: Array, places: NDArray[np.int64], lag: int) -> Array:
    """Distances of the images of a clip that are so many images apart."""
    one, other = _pairs(places, lag)
    return np.linalg.norm(features[one] - features[other], axis=1)


def _pairs(places: NDArray[np.int64], lag: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which images of a clip have another so many images later, and which that is."""
    _, one, other = np.intersect1d(places + lag, places, return_indices=True)
    return one, other
