"""Intervals from resampled clips: the weights, and half-widths that classical statistics knows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from musicspectrogan.evaluation.resampling import (
    REPLICATES,
    SIDES,
    Estimate,
    clip_weights,
    estimate,
    mean_figures,
)

# Of seven, three, one and five images, in no order, by numbers with gaps.
SIZES = {17: 7, -2: 3, 400: 1, 5: 5}
CLIPS = np.random.default_rng(0).permutation(np.repeat(list(SIZES), list(SIZES.values())))


def weighted_means(*tables: np.ndarray) -> Callable[..., dict[str, float]]:
    """A figure a column: the mean of the first table's, less that of the second's if there is one."""

    def figures(*weights: np.ndarray) -> dict[str, float]:
        means = [w @ table / w.sum() for table, w in zip(tables, weights, strict=True)]
        values = means[0] - means[1] if len(means) > 1 else means[0]
        return {str(column): float(value) for column, value in enumerate(values)}

    return figures


def half_widths(found: dict[str, Estimate]) -> np.ndarray:
    return np.array([e.half_width for e in found.values()])


@pytest.mark.parametrize("seed", range(5))
def test_images_of_a_clip_share_its_weight(seed: int) -> None:
    weights = clip_weights(CLIPS, np.random.default_rng(seed))
    assert weights.shape == CLIPS.shape
    drawn = {clip: set(weights[clip == CLIPS].tolist()) for clip in SIZES}
    assert all(len(values) == 1 for values in drawn.values())
    times = {clip: values.pop() for clip, values in drawn.items()}
    # As many draws as there are clips, whole ones; each brings all of its images.
    assert sum(times.values()) == len(SIZES)
    assert all(t == int(t) >= 0 for t in times.values())
    assert weights.sum() == sum(times[clip] * size for clip, size in SIZES.items())


def test_weights_are_those_of_draws_with_replacement() -> None:
    """One of k clips is drawn once on average, with variance 1 - 1/k, and not at all in (1 - 1/k)^k cases."""
    rng = np.random.default_rng(1)
    draws = np.array([clip_weights(CLIPS, rng) for _ in range(5000)])
    np.testing.assert_allclose(draws.mean(axis=0), 1.0, atol=0.05)
    np.testing.assert_allclose(draws.var(axis=0), 0.75, atol=0.06)
    np.testing.assert_allclose((draws == 0).mean(axis=0), 0.75**4, atol=0.03)


def test_one_clip_is_always_drawn() -> None:
    np.testing.assert_array_equal(clip_weights(np.full(6, 3), np.random.default_rng(0)), np.ones(6))


def test_value_counts_every_image_once() -> None:
    images = np.random.default_rng(2).normal(5.0, 2.0, (len(CLIPS), 3))
    found = estimate(weighted_means(images), CLIPS, rng=np.random.default_rng(0))
    assert [e.value for e in found.values()] == pytest.approx(images.mean(axis=0).tolist())


def test_half_width_is_that_of_the_replicates() -> None:
    calls: list[float] = []

    def figures(weights: np.ndarray) -> dict[str, float]:
        calls.append(float(weights[0]))
        return {"first": calls[-1], "constant": 3.0}

    found = estimate(figures, CLIPS, rng=np.random.default_rng(3))
    assert len(calls) == 1 + REPLICATES
    assert found["first"] == Estimate(1.0, pytest.approx(1.96 * np.std(calls[1:], ddof=1)))
    assert found["constant"] == Estimate(3.0, 0.0)


def test_half_width_of_a_mean_over_independent_clips() -> None:
    rng = np.random.default_rng(4)
    n, deviation = 80, 3.0
    images = rng.normal(0.0, deviation, (n, 300))
    found = half_widths(estimate(weighted_means(images), np.arange(n), rng=rng))
    assert SIDES == 1.96
    assert found.mean() == pytest.approx(SIDES * deviation / n**0.5, rel=0.05)


def test_the_truth_is_inside_in_95_of_100_cases() -> None:
    rng = np.random.default_rng(5)
    images = rng.normal(7.0, 3.0, (80, 600))
    found = estimate(weighted_means(images), np.arange(80), rng=rng)
    inside = np.mean([abs(e.value - 7.0) < e.half_width for e in found.values()])
    assert inside == pytest.approx(0.95, abs=0.03)


def test_images_of_a_clip_are_not_taken_as_independent() -> None:
    """Five images a clip that share most of their value: the clips' number decides, not the images'."""
    rng = np.random.default_rng(6)
    n_clips, each = 60, 5
    clips = np.repeat(np.arange(n_clips), each)
    images = rng.normal(0.0, 3.0, (n_clips, 300))[clips] + rng.normal(0.0, 1.0, (len(clips), 300))
    by_clip = half_widths(estimate(weighted_means(images), clips, rng=rng)).mean()
    by_image = half_widths(estimate(weighted_means(images), np.arange(len(clips)), rng=rng)).mean()
    assert by_clip == pytest.approx(SIDES * (9.0 / n_clips + 1.0 / len(clips)) ** 0.5, rel=0.06)
    assert by_image == pytest.approx(SIDES * (10.0 / len(clips)) ** 0.5, rel=0.06)
    assert by_clip > 2.0 * by_image


def test_grouping_independent_images_changes_little() -> None:
    rng = np.random.default_rng(7)
    images = rng.standard_normal((300, 300))
    grouped = half_widths(estimate(weighted_means(images), np.repeat(np.arange(60), 5), rng=rng)).mean()
    assert grouped == pytest.approx(SIDES / 300**0.5, rel=0.06)


def test_both_sets_are_resampled_and_their_spreads_add_up() -> None:
    rng = np.random.default_rng(8)
    a, b = rng.normal(0.0, 2.0, (50, 300)), rng.normal(0.0, 3.0, (90, 300))
    found = estimate(weighted_means(a, b), np.arange(50), np.arange(90), rng=rng)
    assert half_widths(found).mean() == pytest.approx(SIDES * (4.0 / 50 + 9.0 / 90) ** 0.5, rel=0.06)
    assert found["0"].value == pytest.approx(a[:, 0].mean() - b[:, 0].mean())


def test_the_same_seed_gives_the_same_and_another_does_not() -> None:
    images = np.random.default_rng(9).standard_normal((len(CLIPS), 2))
    first, again, other = (
        estimate(weighted_means(images), CLIPS, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first["0"].value == other["0"].value and first["0"].half_width != other["0"].half_width


def test_mean_of_several_measurements() -> None:
    assert mean_figures([{"a": 1.0, "b": -4.0}, {"a": 2.0, "b": 6.0}, {"a": 6.0, "b": 1.0}]) == {
        "a": 3.0,
        "b": 1.0,
    }
    assert mean_figures([{"a": 1.5}]) == {"a": 1.5}
