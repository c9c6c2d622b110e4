"""A sample against a reference in one space of features: every figure that compares two sets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from musicspectrogan.evaluation.bins import bin_figures
from musicspectrogan.evaluation.distances import (
    cubic_kernel,
    frechet_distance,
    kernel_distance,
    mean_and_covariance,
)
from musicspectrogan.evaluation.neighbours import Neighbourhoods

Array = NDArray[np.floating]


class Comparison:
    """Prepares what does not depend on weights, so that resampling is cheap.

    Args:
        sample, reference: features (N, D) and (M, D).
        bins: fitted on real features of the same space.
    """

    def __init__(self, sample: Array, reference: Array, bins: KMeans) -> None:
        self._sample, self._reference = sample, reference
        self._kernels = (
            cubic_kernel(sample, sample),
            cubic_kernel(reference, reference),
            cubic_kernel(sample, reference),
        )
        self._neighbourhoods = Neighbourhoods(sample, reference)
        self._bins = [bins.predict(features) for features in (sample, reference)]
        self._n_bins = bins.n_clusters

    def figures(self, sample_weights: Array, reference_weights: Array) -> dict[str, float]:
        """All figures by name; weights (N,) and (M,) say how often each image counts."""
        weights = (sample_weights, reference_weights)
        moments = [
            mean_and_covariance(features, w)
            for features, w in zip((self._sample, self._reference), weights, strict=True)
        ]
        counts = [
            np.bincount(bins, weights=w, minlength=self._n_bins)
            for bins, w in zip(self._bins, weights, strict=True)
        ]
        return {
            "frechet": frechet_distance(*moments[0], *moments[1]),
            "kernel": kernel_distance(*self._kernels, *weights),
            **self._neighbourhoods.figures(*weights),
            **bin_figures(*counts),
        }
