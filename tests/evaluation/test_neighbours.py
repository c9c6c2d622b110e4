"""Precision, recall and their kin: points on a line by hand, loops, and what each figure sees."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from musicspectrogan.evaluation.metrics import DUPLICATE_PART, NEIGHBOURS, Neighbourhoods

NAMES = ["precision", "recall", "density", "coverage", "diversity", "duplicates"]


def figures(sample: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """With every image counted once."""
    return Neighbourhoods(sample, reference).figures(np.ones(len(sample)), np.ones(len(reference)))


# The reference is 0, 1, …, 9. Its balls of five neighbours are [-5, 5], [-3, 5], [-1, 5], [0, 6],
# [1, 7], [2, 8], [3, 9], [4, 10], [4, 12], [4, 14]; two of its points are 11/3 apart on average;
# the nearest is at 1.
LINE = np.arange(10.0)[:, None]
# A sample, and its figures in the order of NAMES.
ON_THE_LINE = {
    # In 0, 1, 4, 2, 0, 0 and 0 balls, which are balls 0, 1, 2, 3, 8 and 9. The sample's own ball
    # around 11.5 is [-17.5, 40.5], so all of the line is inside. Pairs are 622/21 apart.
    "spread out": (
        [-6.5, -4.5, 0.5, 11.5, 20.5, 40.5, 60.5],
        [3 / 7, 1.0, 7 / 35, 0.6, 622 / 77, 0.0],
    ),
    # In 2, 2, 2, 3, 4 and 5 balls, which are balls 0 to 4. With six points a ball reaches to the
    # farthest: those of -2.25 and 1.75 to 1.75 and 5.75. Pairs are 26/15 apart; -1.5 and -1.25 are
    # near-duplicates.
    "huddled": (
        [-2.25, -1.5, -1.25, -0.5, 0.25, 1.75],
        [1.0, 0.6, 18 / 30, 0.5, 26 / 55, 2 / 6],
    ),
    # In no ball; and 15 away, so that the sample's balls of at most 5 do not reach back.
    "elsewhere": (
        24.5 + np.arange(10),
        [0.0, 0.0, 0.0, 0.0, 1.0, 0.0],
    ),
}


@pytest.mark.parametrize(("sample", "expected"), ON_THE_LINE.values(), ids=ON_THE_LINE.keys())
def test_points_on_a_line_by_hand(sample: list[float], expected: list[float]) -> None:
    assert NEIGHBOURS == 5 and DUPLICATE_PART == 0.5  # what the hand used
    assert figures(np.asarray(sample)[:, None], LINE) == pytest.approx(
        dict(zip(NAMES, expected, strict=True))
    )


def loops(
    sample: np.ndarray, reference: np.ndarray, v: np.ndarray, w: np.ndarray
) -> dict[str, float]:
    """The same figures from their definitions, an image at a time."""

    def distance(x, y) -> float:
        return float(np.sqrt(sum((p - q) ** 2 for p, q in zip(x, y, strict=True))))

    def fellows(rows, i) -> list[float]:
        return sorted(distance(rows[i], rows[j]) for j in range(len(rows)) if j != i)

    def mean_of_pairs(rows, weights) -> float:
        pairs = [(i, j) for i in range(len(rows)) for j in range(len(rows)) if i != j]
        total = sum(weights[i] * weights[j] * distance(rows[i], rows[j]) for i, j in pairs)
        return total / sum(weights[i] * weights[j] for i, j in pairs)

    n, m = range(len(sample)), range(len(reference))
    radius = [fellows(reference, j)[4] for j in m]
    radius_of_sample = [fellows(sample, i)[4] for i in n]
    inside = [[distance(sample[i], reference[j]) <= radius[j] for j in m] for i in n]
    inside_sample = [
        [distance(sample[i], reference[j]) <= radius_of_sample[i] for j in m] for i in n
    ]
    nearest = sorted((fellows(reference, j)[0], w[j]) for j in m)
    # The weighted median: where half of the weight is reached.
    reached = itertools.accumulate(weight for _, weight in nearest)
    usual = next(d for (d, _), total in zip(nearest, reached, strict=True) if total >= sum(w) / 2.0)
    return {
        "precision": sum(v[i] for i in n if any(inside[i][j] and w[j] for j in m)) / sum(v),
        "recall": sum(w[j] for j in m if any(inside_sample[i][j] and v[i] for i in n)) / sum(w),
        "density": sum(v[i] * w[j] for i in n for j in m if inside[i][j]) / (5.0 * sum(v)),
        "coverage": sum(w[j] for j in m if any(inside[i][j] and v[i] for i in n)) / sum(w),
        "diversity": mean_of_pairs(sample, v) / mean_of_pairs(reference, w),
        "duplicates": sum(v[i] for i in n if fellows(sample, i)[0] < 0.5 * usual) / sum(v),
    }


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weighted", [False, True])
def test_figures_equal_loops(seed: int, weighted: bool) -> None:
    rng = np.random.default_rng(seed)
    sample, reference = rng.normal(0.8, 0.9, (31, 3)), rng.standard_normal((27, 3))
    weights = (
        (rng.integers(0, 3, 31), rng.integers(0, 3, 27)) if weighted else (np.ones(31), np.ones(27))
    )
    expected = loops(sample, reference, *(w.tolist() for w in weights))
    # Nothing is at an end of its range, where a wrong definition could still be right.
    assert all(0.0 < expected[name] < 1.0 for name in ("precision", "recall", "coverage"))
    found = Neighbourhoods(sample, reference).figures(*(w.astype(float) for w in weights))
    assert list(found) == NAMES
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("dimensions", [2, 32])
def test_a_set_against_itself(dimensions: int) -> None:
    real = np.random.default_rng(0).standard_normal((150, dimensions))
    found = figures(real, real.copy())
    assert [
        found[name] for name in ("precision", "recall", "coverage", "diversity")
    ] == pytest.approx([1.0] * 4)
    # A ball holds its five neighbours and its centre; at its edge rounding may decide otherwise.
    assert found["density"] == pytest.approx(6.0 / 5.0, abs=0.05)


def test_density_of_the_same_distribution_is_about_one() -> None:
    rng = np.random.default_rng(1)
    assert figures(*rng.standard_normal((2, 600, 4)))["density"] == pytest.approx(1.0, abs=0.05)


def test_far_apart_is_nothing_in_common() -> None:
    rng = np.random.default_rng(2)
    found = figures(rng.standard_normal((60, 8)), 100.0 + rng.standard_normal((50, 8)))
    assert [found[name] for name in ("precision", "recall", "density", "coverage")] == [0.0] * 4
    assert found["diversity"] == pytest.approx(1.0, abs=0.1)


def modes(rng: np.random.Generator, *centres: float, each: int = 40) -> np.ndarray:
    """Clouds of points around (centre, 0, 0)."""
    return np.concatenate([rng.normal((centre, 0.0, 0.0), 1.0, (each, 3)) for centre in centres])


def test_a_missing_mode_lowers_recall_and_coverage_but_not_precision() -> None:
    rng = np.random.default_rng(3)
    reference = modes(rng, 0.0, 50.0, 100.0, 150.0)
    whole = figures(modes(rng, 0.0, 50.0, 100.0, 150.0), reference)
    half = figures(modes(rng, 0.0, 50.0, each=80), reference)
    assert (
        half["precision"] == pytest.approx(whole["precision"], abs=0.1) and whole["precision"] > 0.8
    )
    for name in ("recall", "coverage"):
        assert half[name] <= 0.5 and whole[name] > 0.8, name
    assert half["diversity"] < 0.6 * whole["diversity"]


def test_outliers_lower_precision_and_density_but_not_coverage() -> None:
    rng = np.random.default_rng(4)
    reference, good = modes(rng, 0.0, each=100), modes(rng, 0.0, each=100)
    # Thirty more, each far from everything and from the others.
    astray = np.concatenate(
        [good, np.arange(30.0)[:, None] * (0.0, 1000.0, 0.0) + (0.0, 5000.0, 0.0)]
    )
    clean, spoilt = figures(good, reference), figures(astray, reference)
    assert spoilt["precision"] == pytest.approx(clean["precision"] * 100 / 130)
    assert spoilt["density"] == pytest.approx(clean["density"] * 100 / 130)
    assert spoilt["coverage"] == clean["coverage"]


@pytest.mark.parametrize("which", ["sample", "reference"])
def test_images_without_weight_are_gone(which: str) -> None:
    """A distant cloud does not change the balls of the rest, so weights alone remove it."""
    rng = np.random.default_rng(5)
    sets = {"sample": rng.normal(0.7, 1.0, (40, 3)), "reference": rng.standard_normal((30, 3))}
    expected = figures(**sets)
    grown = {**sets, which: np.concatenate([sets[which], modes(rng, 80.0, each=12)])}
    weights = [
        np.concatenate([np.ones(len(sets[n])), np.zeros(len(grown[n]) - len(sets[n]))])
        for n in sets
    ]
    found = Neighbourhoods(**grown)
    assert found.figures(*weights) == pytest.approx(expected)
    assert figures(**grown) != pytest.approx(expected, rel=0.05)


def test_weights_count_images_as_often() -> None:
    """Shares are of weight: an image inside the reference that counts thrice is three of four."""
    sample = np.array([4.5, 100.0, 200.0, 300.0, 400.0, 500.0])[:, None]
    weights = np.array([3.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    found = Neighbourhoods(sample, LINE).figures(weights, np.ones(10))
    assert found["precision"] == 0.75
    # 4.5 is in all ten balls.
    assert found["density"] == pytest.approx(0.75 * 10 / 5)
    # Pairs of different images only: those of 4.5 and 100.
    assert found["diversity"] == pytest.approx(95.5 / (11 / 3))


@pytest.mark.parametrize("spread", [0.0, 1e-3])
def test_a_collapsed_sample(spread: float) -> None:
    rng = np.random.default_rng(6)
    reference = rng.standard_normal((80, 8))
    found = figures(reference[:1] + spread * rng.standard_normal((50, 8)), reference)
    assert found["precision"] == pytest.approx(1.0)
    assert found["recall"] < 0.05 and found["coverage"] < 0.3
    assert found["diversity"] < 0.01
    assert found["duplicates"] == pytest.approx(1.0)


@pytest.mark.parametrize(("copied", "expected"), [(0, 0.0), (10, 20 / 60), (30, 1.0)])
def test_duplicates_are_the_share_with_a_near_copy(copied: int, expected: float) -> None:
    """Points on a line, one apart in both sets; some of the sample have a close neighbour."""
    points = np.arange(60.0 - copied)
    sample = np.concatenate([points, points[:copied] + 0.01])[:, None]
    assert figures(sample, np.arange(40.0)[:, None])["duplicates"] == pytest.approx(expected)


@pytest.mark.parametrize(("gap", "expected"), [(0.49, 1.0), (0.51, 0.0)])
def test_duplicates_are_nearer_than_half_of_the_usual(gap: float, expected: float) -> None:
    # Most of the reference has its fellow at 1, the rest at 7 and 0.1: the median is what counts.
    reference = np.concatenate([np.arange(20.0), [100.0, 107.0, 114.0, 200.0, 200.1]])[:, None]
    pairs = np.concatenate([np.arange(20) * 3.0, np.arange(20) * 3.0 + gap])[:, None]
    assert figures(pairs, reference)["duplicates"] == pytest.approx(expected)


@pytest.mark.parametrize(("weight_of_the_dense", "expected"), [(1.0, 1.0), (5.0, 0.0)])
def test_the_usual_distance_is_a_weighted_median(
    weight_of_the_dense: float, expected: float
) -> None:
    """Ten of the reference are 1 apart and twenty are 10 apart; the sample's are 3 apart."""
    reference = np.concatenate([np.arange(10.0), 100.0 + 10.0 * np.arange(20)])[:, None]
    weights = np.repeat([weight_of_the_dense, 1.0], [10, 20])
    sample = 3.0 * np.arange(12.0)[:, None]
    found = Neighbourhoods(sample, reference).figures(np.ones(12), weights)
    assert found["duplicates"] == pytest.approx(expected)


@pytest.mark.parametrize("n", [2, 3, 5, 6])
def test_fewer_images_than_neighbours_still_have_figures(n: int) -> None:
    rng = np.random.default_rng(n)
    found = figures(rng.standard_normal((n, 4)), rng.standard_normal((n, 4)))
    assert list(found) == NAMES
    assert np.isfinite(list(found.values())).all()


def test_scale_and_place_do_not_matter() -> None:
    rng = np.random.default_rng(8)
    sample, reference = rng.normal(0.4, 1.2, (50, 4)), rng.standard_normal((40, 4))
    moved = figures(1000.0 * sample + 7.0, 1000.0 * reference + 7.0)
    assert moved == pytest.approx(figures(sample, reference))
