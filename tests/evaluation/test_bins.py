"""Bins of like images: how many there are, and the two figures against hand-made counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from musicspectrogan.evaluation.bins import SIGNIFICANCE, bin_figures, fit_bins

# Sample's counts, reference's counts, share of bins that differ. The z of two proportions is written beside.
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
        assert bin_figures(np.array(one, float), np.array(other, float))["ndb"] == expected


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
        found = bin_figures(np.array(one, float), np.array(other, float))["js_divergence"]
        assert found == pytest.approx(expected, abs=1e-12)


def test_the_test_is_wrong_as_often_as_it_says() -> None:
    """For independent images of one distribution, five in a hundred bins differ by chance."""
    rng = np.random.default_rng(0)
    draws = rng.multinomial(2000, np.full(20, 0.05), (400, 2)).astype(float)
    assert np.mean([bin_figures(*pair)["ndb"] for pair in draws]) == pytest.approx(
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
    assert bin_figures(counts, counts * 3.0 / 7.0) == {
        "ndb": 0.0,
        "js_divergence": pytest.approx(0.0, abs=1e-15),
    }
