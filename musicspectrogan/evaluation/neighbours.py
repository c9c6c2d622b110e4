"""Precision, recall, density, coverage and near-duplicates, from distances between feature vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

Array = NDArray[np.floating]

NEIGHBOURS = 5
# An image is a near-duplicate when its nearest fellow is nearer than this part of what is usual.
DUPLICATE_PART = 0.5


class Neighbourhoods:
    """The nearest neighbours among and between a sample (N, D) and a reference (M, D).

    An image's ball reaches to its `NEIGHBOURS`-th nearest fellow of the same set. The weights of `figures`
    say how often each image counts, and none at all is as if it were gone; only the balls of the others,
    and who is nearest to whom, stay those of the full sets.
    """

    def __init__(self, sample: Array, reference: Array) -> None:
        self._within_sample = cdist(sample, sample)
        self._within_reference = cdist(reference, reference)
        across = cdist(sample, reference)
        reference_radii, sample_radii = _radii(self._within_reference), _radii(self._within_sample)
        self._in_reference_ball = (across <= reference_radii).astype(np.float32)
        self._in_sample_ball = (across <= sample_radii[:, None]).astype(np.float32)
        self._nearest_fellow_sample = _nearest_fellow(self._within_sample)
        self._nearest_fellow_reference = _nearest_fellow(self._within_reference)

    def figures(self, sample_weights: Array, reference_weights: Array) -> dict[str, float]:
        """The figures by name.

        precision: share of the sample inside some ball of the reference; recall: share of the
        reference inside some ball of the sample (T. Kynkäänniemi et al., arXiv:1904.06991).
        density: balls of the reference that an image of the sample is in, over `NEIGHBOURS`; coverage:
        share of the reference with some of the sample in its ball (M. Naeem et al., arXiv:2002.09797).
        diversity: mean distance between two images of the sample, over that of the reference.
        duplicates: share of the sample whose nearest fellow is nearer than `DUPLICATE_PART` of the
        median distance that images of the reference have from theirs.
        """
        sample_there, reference_there = (
            (weights > 0).astype(np.float32) for weights in (sample_weights, reference_weights)
        )
        total, reference_total = sample_weights.sum(), reference_weights.sum()
        balls_around = self._in_reference_ball @ reference_weights
        usual = np.quantile(
            self._nearest_fellow_reference, 0.5, weights=reference_weights, method="inverted_cdf"
        )
        figures = {
            "precision": sample_weights @ (self._in_reference_ball @ reference_there > 0) / total,
            "recall": reference_weights
            @ (sample_there @ self._in_sample_ball > 0)
            / reference_total,
            "density": sample_weights @ balls_around / total / NEIGHBOURS,
            "coverage": reference_weights
            @ (sample_there @ self._in_reference_ball > 0)
            / reference_total,
            "diversity": _mean_of_pairs(self._within_sample, sample_weights)
            / _mean_of_pairs(self._within_reference, reference_weights),
            "duplicates": sample_weights
            @ (self._nearest_fellow_sample < DUPLICATE_PART * usual)
            / total,
        }
        return {name: float(value) for name, value in figures.items()}


def _radii(within: Array) -> Array:
    """Distance of each image to its NEIGHBOURS-th nearest fellow; its own distance 0 is the first."""
    nearest = min(NEIGHBOURS, len(within) - 1)
    return np.partition(within, nearest, axis=1)[:, nearest]


def _nearest_fellow(within: Array) -> Array:
    return (within + np.diag(np.full(len(within), np.inf))).min(axis=1)


def _mean_of_pairs(within: Array, weights: Array) -> float:
    pairs = weights.sum() ** 2 - weights @ weights
    return weights @ within @ weights / pairs
