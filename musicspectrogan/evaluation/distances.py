"""Distances between two sets of feature vectors. Every image may carry a weight, for resampling clips."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

Array = NDArray[np.floating]

KERNEL_DEGREE = 3


def mean_and_covariance(features: Array, weights: Array) -> tuple[Array, Array]:
    """Weighted mean (D,) and unbiased covariance (D, D) of features (N, D).

    Args:
        weights: (N,), how often each row counts.
    """
    total = weights.sum()
    mean = weights @ features / total
    centred = features - mean
    return mean, (centred * weights[:, None]).T @ centred / (total - 1.0)


def frechet_distance(
    mean_a: Array, covariance_a: Array, mean_b: Array, covariance_b: Array
) -> float:
    """Squared Fréchet distance of two Gaussians, |m_a - m_b|² + tr(C_a + C_b - 2 (C_a C_b)^½).

    D. Dowson, B. Landau, Journal of Multivariate Analysis 12 (1982), 450-455; for GANs M. Heusel et al.,
    arXiv:1706.08500. The trace of the root is taken from the eigenvalues of the product, which are
    real and not negative, so that singular covariances do no harm.
    """
    eigenvalues = scipy.linalg.eigvals(covariance_a @ covariance_b).real
    trace_of_root = np.sqrt(np.maximum(eigenvalues, 0.0)).sum()
    difference = mean_a - mean_b
    squared = difference @ difference + np.trace(covariance_a + covariance_b) - 2.0 * trace_of_root
    return max(0.0, float(squared))  # below by rounding only


def cubic_kernel(a: Array, b: Array) -> Array:
    """(x·y / D + 1)³ for all rows x of `a` (N, D) and y of `b` (M, D): (N, M)."""
    return (a @ b.T / a.shape[1] + 1.0) ** KERNEL_DEGREE


def mean_of_pairs(values: Array, weights: Array) -> float:
    """Weighted mean of values (N, N) over pairs of different items.

    Args:
        weights: (N,), two of them at least above 0. An item drawn twice is no pair with itself.
    """
    pairs = weights.sum() ** 2 - weights @ weights
    return float((weights @ values @ weights - values.diagonal() @ weights**2) / pairs)


def kernel_distance(
    within_a: Array, within_b: Array, across: Array, weights_a: Array, weights_b: Array
) -> float:
    """Unbiased squared maximum mean discrepancy from kernel matrices; may be a little below zero.

    A. Gretton et al., JMLR 13 (2012), 723-773, equation 3; with the cubic kernel M. Bińkowski et al.,
    arXiv:1801.01401.

    Args:
        within_a, within_b, across: kernel matrices (N, N), (M, M) and (N, M).
        weights_a, weights_b: (N,) and (M,), as for `mean_of_pairs`.
    """

    between = weights_a @ across @ weights_b / (weights_a.sum() * weights_b.sum())
    return float(
        mean_of_pairs(within_a, weights_a) + mean_of_pairs(within_b, weights_b) - 2.0 * between
    )
