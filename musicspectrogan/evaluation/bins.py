"""Do the samples fall into the kinds of images that there are as often as real ones do?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr
from scipy.stats import norm
from sklearn.cluster import KMeans

Array = NDArray[np.floating]

# As many bins as leave each some images, up to the usual hundred.
IMAGES_PER_BIN = 10
MOST_BINS = 100
SIGNIFICANCE = 0.05


def fit_bins(features: Array) -> KMeans:
    """Cut the space of features (N, D) into bins: Voronoi cells of k-means centres."""
    count = int(np.clip(len(features) // IMAGES_PER_BIN, 2, MOST_BINS))
    return KMeans(count, n_init=4, random_state=0).fit(features)


def bin_figures(sample_counts: Array, reference_counts: Array) -> dict[str, float]:
    """`ndb`, the share of bins whose proportions differ significantly, and `js_divergence` in bits.

    The number of statistically different bins over the number of bins: E. Richardson, Y. Weiss,
    arXiv:1805.12462, by a two-proportion z-test at `SIGNIFICANCE` without correction. It takes images
    as independent, which segments of a track are not, so real music too is above `SIGNIFICANCE`.

    Args:
        sample_counts, reference_counts: (K,), images in each bin.
    """
    n, m = sample_counts.sum(), reference_counts.sum()
    p, q = sample_counts / n, reference_counts / m
    pooled = (sample_counts + reference_counts) / (n + m)
    error = np.sqrt(pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m))
    differs = np.abs(p - q) > norm.isf(SIGNIFICANCE / 2.0) * error
    mean = (p + q) / 2.0
    nats = (rel_entr(p, mean) + rel_entr(q, mean)).sum() / 2.0
    # Proportions that are all but equal may give less than 0 by rounding.
    return {"ndb": float(differs.mean()), "js_divergence": max(0.0, float(nats / np.log(2.0)))}
