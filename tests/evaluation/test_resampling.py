"""Intervals from resampled clips: the weights, and half-widths that classical statistics knows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from musicspectrogan.evaluation import resampling
from musicspectrogan.evaluation.resampling import (
    REPLICATES,
    Z_95,
    Estimate,
    Side,
    clip_weights,
    estimate,
    estimate_pair,
    mean_figures,
)
from musicspectrogan.evaluation.samples import ImageSet


def image_set(clips: np.ndarray, labels: np.ndarray | int = 0) -> ImageSet:
    """Images of these clips and genres; what is in them is of no matter."""
    labels = np.broadcast_to(np.asarray(labels, dtype=np.int64), clips.shape)
    return ImageSet(np.zeros((len(clips), 1, 1), np.uint8), labels, clips)


# Clips of seven, three, one and five images, in no order, by numbers with gaps.
SIZES = {17: 7, -2: 3, 400: 1, 5: 5}
CLIPS = np.random.default_rng(0).permutation(np.repeat(list(SIZES), list(SIZES.values())))
# Two genres, of four and of three clips of two images each.
GENRES = {**dict.fromkeys(SIZES, 3), 1: 8, 2: 8, 3: 8}
CLIPS_OF_TWO = np.repeat(list(GENRES), 2)
OF_TWO = image_set(CLIPS_OF_TWO, np.array([GENRES[clip] for clip in CLIPS_OF_TWO]))


def weighted_means(*tables: np.ndarray) -> Callable[..., dict[str, float]]:
    """A figure per column: the mean of the first table, minus that of the second if given."""

    def figures(*weights: np.ndarray) -> dict[str, float]:
        means = [w @ table / w.sum() for table, w in zip(tables, weights, strict=True)]
        values = means[0] - means[1] if len(means) > 1 else means[0]
        return {str(column): float(value) for column, value in enumerate(values)}

    return figures


def half_widths(found: dict[str, Estimate]) -> np.ndarray:
    return np.array([e.half_width for e in found.values()])


def times_drawn(images: ImageSet, seed: int) -> dict[int, float]:
    """How often each clip counts, after a look that all of its images do."""
    weights = clip_weights(images, np.random.default_rng(seed))
    assert weights.shape == images.clips.shape
    of_clips = {int(clip): set(weights[images.clips == clip].tolist()) for clip in images.clips}
    assert all(len(values) == 1 for values in of_clips.values())
    return {clip: values.pop() for clip, values in of_clips.items()}


@pytest.mark.parametrize("seed", range(5))
def test_whole_clips_are_drawn(seed: int) -> None:
    """Three draws of four clips, each counted 4/3 times: weights sum to the number of clips."""
    times = times_drawn(image_set(np.repeat(list(SIZES), 3)), seed)
    assert sum(times.values()) == pytest.approx(len(SIZES))
    draws = np.array(list(times.values())) * 3 / 4
    np.testing.assert_allclose(draws, np.rint(draws), atol=1e-12)
    assert draws.min() >= 0


@pytest.mark.parametrize("seed", range(5))
def test_every_genre_is_drawn_from(seed: int) -> None:
    times = times_drawn(OF_TWO, seed)
    for genre, clips in ((3, 4), (8, 3)):
        assert sum(times[clip] for clip in times if GENRES[clip] == genre) == pytest.approx(clips)


@pytest.mark.parametrize("seed", range(5))
def test_a_genre_keeps_its_images_whatever_the_lengths_of_its_clips(seed: int) -> None:
    """Else a replicate would have another mixture of genres, far from what it is compared with."""
    images = image_set(np.concatenate([CLIPS, [1, 1, 2, 3]]), np.repeat([3, 8], [16, 4]))
    weights = clip_weights(images, np.random.default_rng(seed))
    assert [weights[images.labels == genre].sum() for genre in (3, 8)] == pytest.approx([16, 4])


def test_weights_are_those_of_draws_with_replacement() -> None:
    """On average an image counts once, with variance 1 whatever the number of clips n; and not at
    all where each of n - 1 draws was another's."""
    rng = np.random.default_rng(1)
    draws = np.array([clip_weights(OF_TWO, rng) for _ in range(6000)])
    clips_beside = np.array([4 if label == 3 else 3 for label in OF_TWO.labels])
    np.testing.assert_allclose(draws.mean(axis=0), 1.0, atol=0.05)
    np.testing.assert_allclose(draws.var(axis=0), 1.0, atol=0.08)
    np.testing.assert_allclose(
        (draws == 0).mean(axis=0), (1 - 1 / clips_beside) ** (clips_beside - 1), atol=0.03
    )


def test_clips_alone_in_their_genre_are_drawn_from_together() -> None:
    """Genres of 1, 1, 1 and 3 clips."""
    clips = np.repeat(np.arange(6), 2)
    images = image_set(clips, np.array([10, 11, 12, 13, 13, 13])[clips])
    rng = np.random.default_rng(2)
    draws = np.array([clip_weights(images, rng)[::2] for _ in range(3000)])
    np.testing.assert_allclose(draws[:, :3].sum(axis=1), 3.0)
    np.testing.assert_allclose(draws[:, 3:].sum(axis=1), 3.0)
    np.testing.assert_allclose(draws.mean(axis=0), 1.0, atol=0.08)
    np.testing.assert_allclose(draws.var(axis=0), 1.0, atol=0.12)


def test_one_clip_is_always_drawn() -> None:
    images = image_set(np.full(6, 3))
    np.testing.assert_array_equal(clip_weights(images, np.random.default_rng(0)), np.ones(6))


def test_value_counts_every_image_once() -> None:
    images = np.random.default_rng(2).normal(5.0, 2.0, (len(CLIPS), 3))
    found = estimate(weighted_means(images), image_set(CLIPS), rng=np.random.default_rng(0))
    assert [e.value for e in found.values()] == pytest.approx(images.mean(axis=0).tolist())


def test_half_width_is_that_of_the_replicates() -> None:
    calls: list[float] = []

    def figures(weights: np.ndarray) -> dict[str, float]:
        calls.append(float(weights[0]))
        return {"first": calls[-1], "constant": 3.0}

    found = estimate(figures, image_set(CLIPS), rng=np.random.default_rng(3))
    assert len(calls) == 1 + REPLICATES
    assert found["first"] == Estimate(1.0, pytest.approx(1.96 * np.std(calls[1:], ddof=1)))
    assert found["constant"] == Estimate(3.0, 0.0)


@pytest.mark.parametrize("n", [3, 10, 80])
def test_half_width_of_a_mean_over_independent_clips(n: int) -> None:
    """Squared and so without bias, also where there are few."""
    rng = np.random.default_rng(4)
    images = rng.normal(0.0, 3.0, (n, 500))
    found = half_widths(estimate(weighted_means(images), image_set(np.arange(n)), rng=rng))
    assert Z_95 == 1.96
    assert np.mean(found**2) == pytest.approx((Z_95 * 3.0) ** 2 / n, rel=0.12)


def test_what_genres_differ_by_is_no_part_of_the_half_width() -> None:
    """Replicates are stratified by genre, so only the spread within genres is left."""
    rng = np.random.default_rng(10)
    labels = np.repeat([0, 1, 2], [10, 20, 30])
    images = 50.0 * labels[:, None] + rng.normal(0.0, 3.0, (60, 300))
    of_genres = half_widths(
        estimate(weighted_means(images), image_set(np.arange(60), labels), rng=rng)
    )
    of_one = half_widths(estimate(weighted_means(images), image_set(np.arange(60)), rng=rng))
    assert of_genres.mean() == pytest.approx(Z_95 * 3.0 / 60**0.5, rel=0.06)
    assert of_one.mean() > 5.0 * of_genres.mean()


def test_the_truth_is_inside_in_95_of_100_cases() -> None:
    rng = np.random.default_rng(5)
    images = rng.normal(7.0, 3.0, (80, 600))
    found = estimate(weighted_means(images), image_set(np.arange(80)), rng=rng)
    inside = np.mean([abs(e.value - 7.0) < e.half_width for e in found.values()])
    assert inside == pytest.approx(0.95, abs=0.03)


def test_images_of_a_clip_are_not_taken_as_independent() -> None:
    """Five images per clip that share most of their value: the number of clips decides."""
    rng = np.random.default_rng(6)
    n_clips, each = 60, 5
    clips = np.repeat(np.arange(n_clips), each)
    images = rng.normal(0.0, 3.0, (n_clips, 300))[clips] + rng.normal(0.0, 1.0, (len(clips), 300))
    by_clip = half_widths(estimate(weighted_means(images), image_set(clips), rng=rng)).mean()
    by_image = half_widths(
        estimate(weighted_means(images), image_set(np.arange(len(clips))), rng=rng)
    ).mean()
    assert by_clip == pytest.approx(Z_95 * (9.0 / n_clips + 1.0 / len(clips)) ** 0.5, rel=0.06)
    assert by_image == pytest.approx(Z_95 * (10.0 / len(clips)) ** 0.5, rel=0.06)
    assert by_clip > 2.0 * by_image


def test_grouping_independent_images_changes_little() -> None:
    rng = np.random.default_rng(7)
    images = rng.standard_normal((300, 300))
    grouped = half_widths(
        estimate(weighted_means(images), image_set(np.repeat(np.arange(60), 5)), rng=rng)
    ).mean()
    assert grouped == pytest.approx(Z_95 / 300**0.5, rel=0.06)


def test_both_sets_are_resampled_and_their_spreads_add_up() -> None:
    rng = np.random.default_rng(8)
    a, b = rng.normal(0.0, 2.0, (50, 300)), rng.normal(0.0, 3.0, (90, 300))
    found = estimate(
        weighted_means(a, b), image_set(np.arange(50)), image_set(np.arange(90)), rng=rng
    )
    assert half_widths(found).mean() == pytest.approx(Z_95 * (4.0 / 50 + 9.0 / 90) ** 0.5, rel=0.06)
    assert found["0"].value == pytest.approx(a[:, 0].mean() - b[:, 0].mean())


def test_the_same_seed_gives_the_same_and_another_does_not() -> None:
    images = np.random.default_rng(9).standard_normal((len(CLIPS), 2))
    first, again, other = (
        estimate(weighted_means(images), image_set(CLIPS), rng=np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first["0"].value == other["0"].value and first["0"].half_width != other["0"].half_width


def test_mean_of_several_measurements() -> None:
    assert mean_figures([{"a": 1.0, "b": -4.0}, {"a": 2.0, "b": 6.0}, {"a": 6.0, "b": 1.0}]) == {
        "a": 3.0,
        "b": 1.0,
    }
    assert mean_figures([{"a": 1.5}]) == {"a": 1.5}


# Samples and real music, compared with the same images


def quadratic(own: np.ndarray, shared: np.ndarray) -> Callable[..., dict[str, float]]:
    """The squared distance of the means of tables (N, D), a distance that grows with few clips."""

    def distances(own_weights: np.ndarray, shared_weights: np.ndarray) -> dict[str, float]:
        means = (
            weights @ table / weights.sum()
            for table, weights in ((own, own_weights), (shared, shared_weights))
        )
        return {"distance": float(np.sum(np.subtract(*means) ** 2))}

    return distances


def pair_of(
    rng: np.random.Generator, clips: int = 40, shared: int = 20, shift: float = 0.0
) -> resampling.Pair:
    """The distance of 400 samples and of `clips` real ones to the same `shared` others."""
    tables = [rng.normal(at, 1.0, (n, 16)) for at, n in ((shift, 400), (0.0, clips), (0.0, shared))]
    sides = [
        Side([image_set(np.arange(len(table)))], lambda *_: {}, quadratic(table, tables[2]))
        for table in tables[:2]
    ]
    return estimate_pair(*sides, image_set(np.arange(shared)), rng=rng)["distance"]


@pytest.fixture(scope="module")
def equal_pairs() -> list[resampling.Pair]:
    """Samples that are as good as real music, 60 times."""
    rng = np.random.default_rng(11)
    return [pair_of(rng) for _ in range(60)]


def test_sides_are_extrapolated_to_infinitely_many_clips(equal_pairs) -> None:
    """16 / 20 is left, of the shared images; without it real music would have 16 / 40 more."""
    assert np.mean([pair.value.value for pair in equal_pairs]) == pytest.approx(0.8, abs=0.1)
    assert np.mean([pair.real.value for pair in equal_pairs]) == pytest.approx(0.8, abs=0.1)
    differences = [pair.difference.value for pair in equal_pairs]
    assert np.mean(differences) == pytest.approx(0.0, abs=0.08)
    pair = equal_pairs[0]
    assert pair.difference.value == pair.value.value - pair.real.value


def test_few_false_alarms(equal_pairs) -> None:
    alarms = [pair.difference.value > pair.difference.half_width for pair in equal_pairs]
    assert np.mean(alarms) <= 0.05


def test_a_paired_interval_is_narrower_and_honest(equal_pairs) -> None:
    """Of what both sides share nothing is left; it is at most 1.5 times what chance does."""
    paired = np.mean([pair.difference.half_width for pair in equal_pairs])
    apart = np.mean([np.hypot(p.value.half_width, p.real.half_width) for p in equal_pairs])
    assert paired < 0.9 * apart
    spread = np.std([pair.difference.value for pair in equal_pairs])
    assert 1.0 < paired / (Z_95 * spread) < 1.5


def test_more_tracks_show_smaller_differences() -> None:
    rng = np.random.default_rng(12)
    few, many = (
        np.mean([pair_of(rng, n, n // 2).difference.half_width for _ in range(8)])
        for n in (40, 160)
    )
    assert many < 0.4 * few


def test_a_difference_is_found() -> None:
    pair = pair_of(np.random.default_rng(13), shift=0.5)
    assert pair.difference.value > pair.difference.half_width
    assert pair.difference.value == pytest.approx(16 * 0.5**2, rel=0.4)


def test_figures_that_are_no_distances_are_paired_too() -> None:
    """The same clips on both sides: a difference without chance."""
    shares = np.random.default_rng(14).uniform(size=len(CLIPS))

    def side(added: float) -> Side:
        return Side([], lambda w: {"share": float(w @ shares / w.sum()) + added})

    rng = np.random.default_rng(0)
    pair = estimate_pair(side(0.25), side(0.0), image_set(CLIPS), rng=rng)["share"]
    assert pair.value.value == pytest.approx(shares.mean() + 0.25)
    assert pair.value.half_width == pytest.approx(pair.real.half_width) and pair.real.half_width > 0
    assert pair.difference == Estimate(pytest.approx(0.25), pytest.approx(0.0))
