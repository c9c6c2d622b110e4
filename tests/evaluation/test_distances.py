"""Distances of two sets against closed forms and naive loops, and bins against hand-made counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
from scipy.stats import norm
from sklearn.metrics.pairwise import polynomial_kernel

from musicspectrogan.evaluation.metrics import (
    SIGNIFICANCE,
    different_bins,
    fit_bins,
    frechet_distance,
    js_divergence,
    kernel_distance,
    mean_and_covariance,
)

HALF_TURN = np.array([[0.6, -0.8], [0.8, 0.6]])
U, V = np.array([3.0, 0.0, 4.0]), np.array([1.0, 2.0, 2.0])
# mean_a, covariance_a, mean_b, covariance_b and the squared distance by hand.
GAUSSIANS = {
    "identical": ([1.0, 2.0], np.diag([4.0, 9.0]), [1.0, 2.0], np.diag([4.0, 9.0]), 0.0),
    "identical, correlated": (
        [0.0, 0.0],
        [[2.0, 1.0], [1.0, 2.0]],
        [0.0, 0.0],
        [[2.0, 1.0], [1.0, 2.0]],
        0.0,
    ),
    "means apart": ([1.0, 2.0], np.eye(2), [4.0, -2.0], np.eye(2), 25.0),
    "one dimension": ([1.0], [[4.0]], [3.0], [[25.0]], 4.0 + 9.0),
    "diagonal": (
        [0.0, 1.0],
        np.diag([1.0, 16.0]),
        [0.0, 3.0],
        np.diag([9.0, 1.0]),
        4.0 + 4.0 + 9.0,
    ),
    "commuting": (
        [0.0, 0.0],
        HALF_TURN @ np.diag([1.0, 4.0]) @ HALF_TURN.T,
        [0.0, 0.0],
        HALF_TURN @ np.diag([9.0, 16.0]) @ HALF_TURN.T,
        4.0 + 4.0,
    ),
    # In two dimensions tr (AB)^½ = (tr AB + 2 (det A det B)^½)^½ = (8 + 2 · 3)^½.
    "not commuting": (
        [0.0, 0.0],
        [[2.0, 1.0], [1.0, 2.0]],
        [0.0, 0.0],
        np.diag([1.0, 3.0]),
        8.0 - 2.0 * 14**0.5,
    ),
    # Of rank one the trace of the root is |u·v| = 11; |u|² = 25, |v|² = 9.
    "lines": (np.zeros(3), np.outer(U, U), np.zeros(3), np.outer(V, V), 25.0 + 9.0 - 2.0 * 11.0),
    "crossed lines": ([0.0, 0.0], np.diag([4.0, 0.0]), [0.0, 0.0], np.diag([0.0, 9.0]), 13.0),
    "a line and itself": (np.zeros(3), np.outer(U, U), np.zeros(3), np.outer(U, U), 0.0),
    "points": ([1.0, 1.0], np.zeros((2, 2)), [2.0, 3.0], np.zeros((2, 2)), 5.0),
    "a point and a cloud": ([0.0, 0.0], np.zeros((2, 2)), [0.0, 0.0], np.diag([4.0, 9.0]), 13.0),
}


def random_covariance(rng: np.random.Generator, dimensions: int) -> np.ndarray:
    factor = rng.standard_normal((dimensions, dimensions))
    return factor @ factor.T


@pytest.mark.parametrize("case", GAUSSIANS.values(), ids=GAUSSIANS.keys())
def test_frechet_distance_by_hand(case) -> None:
    *gaussians, expected = case
    a, covariance_a, b, covariance_b = (np.asarray(part, dtype=float) for part in gaussians)
    assert frechet_distance(a, covariance_a, b, covariance_b) == pytest.approx(expected, abs=1e-6)
    assert frechet_distance(b, covariance_b, a, covariance_a) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_frechet_distance_equals_the_matrix_root(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, 7))
    covariance_a, covariance_b = random_covariance(rng, 7), random_covariance(rng, 7)
    root = scipy.linalg.sqrtm(covariance_a)
    middle = scipy.linalg.sqrtm(root @ covariance_b @ root).real
    expected = np.sum((a - b) ** 2) + np.trace(covariance_a + covariance_b - 2.0 * middle)
    assert expected > 1.0
    assert frechet_distance(a, covariance_a, b, covariance_b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rows", [3, 10, 32])
def test_frechet_distance_of_fewer_images_than_features(rows: int) -> None:
    """Rank at most rows - 1 in 32 dimensions: the root's trace is then the nuclear norm of X Yᵀ."""
    rng = np.random.default_rng(rows)
    a, b = rng.standard_normal((2, rows, 32))
    ones = np.ones(rows)
    moments = (*mean_and_covariance(a, ones), *mean_and_covariance(b, ones))
    centred_a, centred_b = a - a.mean(axis=0), b - b.mean(axis=0)
    trace_of_root = np.linalg.norm(centred_a @ centred_b.T, "nuc") / (rows - 1)
    expected = (
        np.sum((moments[0] - moments[2]) ** 2)
        + np.trace(moments[1] + moments[3])
        - 2.0 * trace_of_root
    )
    # A zero eigenvalue is known to about 1e-15, its root to about 3e-8.
    assert frechet_distance(*moments) == pytest.approx(expected, abs=1e-5)
    assert frechet_distance(*moments[:2], *moments[:2]) == pytest.approx(0.0, abs=1e-5)


def test_frechet_distance_of_samples_approaches_that_of_their_gaussians() -> None:
    rng = np.random.default_rng(4)
    gaussians = [(rng.standard_normal(4), random_covariance(rng, 4)) for _ in range(2)]
    truth = frechet_distance(*gaussians[0], *gaussians[1])

    def error(n: int) -> float:
        moments = [
            mean_and_covariance(rng.multivariate_normal(*g, size=n), np.ones(n)) for g in gaussians
        ]
        return abs(frechet_distance(*moments[0], *moments[1]) - truth) / truth

    few, many = (np.mean([error(n) for _ in range(20)]) for n in (100, 10000))
    # The error falls as n^-½, so to a tenth.
    assert many < 0.02
    assert few > 4.0 * many


def test_frechet_distance_of_one_gaussian_twice_falls_with_the_number_of_images() -> None:
    """It is biased: above zero for two finite samples of one distribution."""
    rng = np.random.default_rng(5)

    def distance(n: int) -> float:
        moments = [mean_and_covariance(rng.standard_normal((n, 8)), np.ones(n)) for _ in range(2)]
        return frechet_distance(*moments[0], *moments[1])

    few, many = (np.mean([distance(n) for _ in range(20)]) for n in (50, 500))
    assert 0.0 < 5.0 * many < few


def test_moments_are_numpys_when_each_image_counts_once() -> None:
    features = np.random.default_rng(0).normal(3.0, 2.0, (50, 6))
    mean, covariance = mean_and_covariance(features, np.ones(50))
    np.testing.assert_allclose(mean, features.mean(axis=0))
    np.testing.assert_allclose(covariance, np.cov(features.T))


def test_weights_of_moments_repeat_rows() -> None:
    rng = np.random.default_rng(1)
    features, weights = rng.normal(3.0, 2.0, (40, 5)), rng.integers(0, 4, 40)
    assert {0, 1, 2, 3} <= set(weights.tolist())
    repeated = np.repeat(features, weights, axis=0)
    mean, covariance = mean_and_covariance(features, weights.astype(float))
    np.testing.assert_allclose(mean, repeated.mean(axis=0))
    np.testing.assert_allclose(covariance, np.cov(repeated.T))


def cubic_kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a @ b.T / a.shape[1] + 1.0) ** 3


def test_kernel_by_hand() -> None:
    """scikit-learn's polynomial kernel with its defaults, which the metrics use."""
    a, b = np.array([[1.0, 2.0], [0.0, -4.0]]), np.array([[3.0, 1.0], [0.0, 0.0], [2.0, 2.0]])
    # x·y / 2 + 1 is 3.5, 1, 4 and -1, 1, -3.
    expected = np.array([[3.5, 1.0, 4.0], [-1.0, 1.0, -3.0]]) ** 3
    np.testing.assert_allclose(polynomial_kernel(a, b), expected)
    np.testing.assert_allclose(cubic_kernel(a, b), expected)


def distance_between(a: np.ndarray, b: np.ndarray, weights_a=None, weights_b=None) -> float:
    return kernel_distance(
        cubic_kernel(a, a),
        cubic_kernel(b, b),
        cubic_kernel(a, b),
        np.ones(len(a)) if weights_a is None else weights_a,
        np.ones(len(b)) if weights_b is None else weights_b,
    )


def naive_kernel_distance(
    a: np.ndarray, b: np.ndarray, weights_a: np.ndarray, weights_b: np.ndarray
) -> float:
    """Means over pairs; an image and itself are no pair, also where it is there twice."""

    def mean(x, y, weights_x, weights_y, same: bool) -> float:
        total = count = 0.0
        for i, row in enumerate(x):
            for j, other in enumerate(y):
                if not (same and i == j):
                    pairs = weights_x[i] * weights_y[j]
                    total += pairs * (np.dot(row, other) / len(row) + 1.0) ** 3
                    count += pairs
        return total / count

    return (
        mean(a, a, weights_a, weights_a, True)
        + mean(b, b, weights_b, weights_b, True)
        - 2.0 * mean(a, b, weights_a, weights_b, False)
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_kernel_distance_equals_loops(weighted: bool) -> None:
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((7, 3)), rng.normal(1.0, 2.0, (5, 3))
    weights_a = np.array([0.0, 1.0, 2.0, 1.0, 3.0, 0.0, 1.0]) if weighted else np.ones(7)
    weights_b = np.array([2.0, 0.0, 0.0, 1.0, 1.0]) if weighted else np.ones(5)
    expected = naive_kernel_distance(a, b, weights_a, weights_b)
    assert distance_between(a, b, weights_a, weights_b) == pytest.approx(expected, rel=1e-10)
    assert distance_between(b, a, weights_b, weights_a) == pytest.approx(expected, rel=1e-10)


def test_rows_without_weight_are_gone_from_the_kernel_distance() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((12, 4)), rng.standard_normal((9, 4))
    kept_a, kept_b = np.arange(12) % 3 > 0, np.arange(9) > 3
    weighted = distance_between(a, b, kept_a.astype(float), kept_b.astype(float))
    assert weighted == pytest.approx(distance_between(a[kept_a], b[kept_b]))
    assert weighted != pytest.approx(distance_between(a, b), rel=0.1)


def test_kernel_distance_of_two_points_by_hand() -> None:
    x, y = np.array([[1.0, 2.0]]), np.array([[3.0, -1.0]])
    # x·x / 2 + 1 = 3.5, y·y / 2 + 1 = 6, x·y / 2 + 1 = 1.5.
    expected = 3.5**3 + 6.0**3 - 2.0 * 1.5**3
    assert distance_between(np.repeat(x, 4, axis=0), np.repeat(y, 3, axis=0)) == pytest.approx(
        expected
    )
    assert distance_between(np.repeat(x, 4, axis=0), np.repeat(x, 3, axis=0)) == pytest.approx(
        0.0, abs=1e-12
    )


@pytest.mark.parametrize(
    ("mean", "deviation"),
    [(0.0, 1.0), (0.5, 1.0), (0.0, 1.5), (-0.5, 0.5)],
    ids="same moved wide narrow".split(),
)
def test_kernel_distance_is_unbiased(mean: float, deviation: float) -> None:
    """In one dimension k = x³y³ + 3x²y² + 3xy + 1, so the truth is in the first three moments."""
    rng = np.random.default_rng(6)
    moments = np.array([mean, mean**2 + deviation**2, mean**3 + 3.0 * mean * deviation**2])
    truth = np.array([3.0, 3.0, 1.0]) @ (moments - [0.0, 1.0, 0.0]) ** 2
    draws = [
        distance_between(rng.standard_normal((10, 1)), rng.normal(mean, deviation, (8, 1)))
        for _ in range(4000)
    ]
    standard_error = np.std(draws) / len(draws) ** 0.5
    assert abs(np.mean(draws) - truth) < 3.0 * standard_error
    # With the pairs of an image and itself, (E k(x, x) - E k(x, y)) / n would be added for each
    # set; for standard normal numbers E k(x, x) = 15 + 9 + 3 + 1 and E k(x, y) = 0 + 3 + 0 + 1.
    assert 3.0 * standard_error < 24.0 / 10.0


def test_kernel_distance_tells_sets_apart() -> None:
    rng = np.random.default_rng(7)
    one, same, moved, wide = (
        rng.normal(m, s, (200, 8)) for m, s in ((0, 1), (0, 1), (0.5, 1), (0, 1.3))
    )
    near = abs(distance_between(one, same))
    assert distance_between(one, moved) > 5.0 * near
    assert distance_between(one, wide) > 5.0 * near


# Bins

# Sample's counts, reference's counts, share of bins that differ; keys say the z.
COUNTS = {
    "identical": ([10, 20, 30], [10, 20, 30], 0.0),
    "proportional": ([10, 20, 30], [70, 140, 210], 0.0),
    "disjoint": ([50, 50, 0, 0], [0, 0, 50, 50], 1.0),
    "z = 1.85": ([63, 37], [50, 50], 0.0),
    "z = 2.00": ([64, 36], [50, 50], 1.0),
    "z = 2.18, 2.5, 0, 0": ([70, 30, 50, 50], [50, 50, 50, 50], 0.5),
    "unequal sizes, z = 1.79": ([60, 40], [200, 200], 0.0),
    "unequal sizes, z = 1.97": ([61, 39], [200, 200], 1.0),
    # Without pooling the two, this z would be 3.95.
    "pooled, z = 1.88": ([1, 49], [500, 4500], 0.0),
    "empty in both": ([64, 36, 0, 0], [50, 50, 0, 0], 0.5),
    "all in one": ([30, 0], [40, 0], 0.0),
}


@pytest.mark.parametrize(("sample", "reference", "expected"), COUNTS.values(), ids=COUNTS.keys())
def test_share_of_bins_that_differ(
    sample: list[int], reference: list[int], expected: float
) -> None:
    assert norm.isf(SIGNIFICANCE / 2) == pytest.approx(1.96, abs=1e-3)  # what the hand used
    for one, other in ((sample, reference), (reference, sample)):
        assert different_bins(np.array(one, float), np.array(other, float)) == expected


@pytest.mark.parametrize(
    ("sample", "reference", "expected"),
    [
        ([10, 20, 30], [10, 20, 30], 0.0),
        ([10, 20, 30], [70, 140, 210], 0.0),
        ([50, 50, 0, 0], [0, 0, 10, 30], 1.0),
        ([50, 0], [0, 20], 1.0),
        # From p = (1, 0) and q = (½, ½) to their middle (¾, ¼).
        (
            [8, 0],
            [5, 5],
            0.5 * math.log2(4 / 3) + 0.5 * (0.5 * math.log2(2 / 3) + 0.5 * math.log2(2)),
        ),
        # Half of either is in a bin of its own.
        ([5, 5, 0], [0, 8, 8], 0.5),
    ],
)
def test_divergence_in_bits(sample: list[int], reference: list[int], expected: float) -> None:
    for one, other in ((sample, reference), (reference, sample)):
        found = js_divergence(np.array(one, float), np.array(other, float))
        assert found == pytest.approx(expected, abs=1e-12)


def test_the_test_is_wrong_as_often_as_it_says() -> None:
    """For independent images of one distribution, five in a hundred bins differ by chance."""
    rng = np.random.default_rng(0)
    draws = rng.multinomial(2000, np.full(20, 0.05), (400, 2)).astype(float)
    assert np.mean([different_bins(*pair) for pair in draws]) == pytest.approx(
        SIGNIFICANCE, abs=0.008
    )


@pytest.mark.parametrize(
    ("images", "bins"), [(2, 2), (19, 2), (29, 2), (30, 3), (57, 5), (999, 99), (1300, 100)]
)
def test_number_of_bins(images: int, bins: int) -> None:
    assert fit_bins(np.random.default_rng(0).standard_normal((images, 3))).n_clusters == bins


def test_bins_are_the_kinds_that_there_are_and_the_same_again() -> None:
    rng = np.random.default_rng(1)
    kinds = np.repeat([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]], [6, 10, 14], axis=0)
    features = kinds + rng.standard_normal((30, 2))
    bins = fit_bins(features)
    assert sorted(np.bincount(bins.predict(features))) == [6, 10, 14]
    np.testing.assert_array_equal(fit_bins(features).cluster_centers_, bins.cluster_centers_)


def test_counts_in_proportion_are_no_divergence() -> None:
    """Proportions that differ in their last bits only, where the logarithms' sum may be below 0."""
    counts = np.array([10.0, 5.0, 9.0, 4.0])
    assert different_bins(counts, counts * 3.0 / 7.0) == 0.0
    assert js_divergence(counts, counts * 3.0 / 7.0) == pytest.approx(0.0, abs=1e-15)
