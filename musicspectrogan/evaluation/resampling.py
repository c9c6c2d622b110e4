"""Confidence intervals: bootstrap over clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from musicspectrogan.evaluation.samples import ImageSet

Figures = Mapping[str, float]
Floats = npt.NDArray[np.float64]

REPLICATES = 100
# Replicates from which the bias of a distance is estimated: a mean needs fewer than a spread.
BIAS_REPLICATES = 15
# How far the weights of a distance go from 1 to those of a replicate, and the other way.
STEP = 0.25
# Half-width of a 95 % interval in standard errors.
Z_95 = 1.96


@dataclass(frozen=True)
class Estimate:
    """A figure and the half-width of its 95 % interval."""

    value: float
    half_width: float


def clip_weights(images: ImageSet, rng: np.random.Generator) -> Floats:
    """Draw a bootstrap replicate: weights (N,) that say how often each image counts.

    Whole clips are drawn, because segments of a clip are not independent (B. Efron, Annals of
    Statistics 7 (1979), 1-26), and within each genre, because datasets are split by genre. From n
    clips n - 1 are drawn, and each counts n / (n - 1) times, which keeps the variance unbiased for
    small n (J. Rao, C. Wu, Journal of the American Statistical Association 83 (1988), 231-241).
    Genres with one clip are pooled. Clips of several lengths leave a genre as many images as it
    has: its part of the music is no chance.
    """
    clips, first, members, counts = np.unique(
        images.clips, return_index=True, return_inverse=True, return_counts=True
    )
    genres, sizes = np.unique(images.labels[first], return_counts=True)
    single = genres[sizes == 1]
    strata = np.where(np.isin(images.labels[first], single), -1, images.labels[first])
    weights = np.ones(len(clips))
    for stratum in np.unique(strata):
        (inside,) = np.nonzero(strata == stratum)
        n = len(inside)
        if n > 1:
            draws = rng.multinomial(n - 1, np.full(n, 1.0 / n))
            weights[inside] = draws * (counts[inside].sum() / (draws @ counts[inside]))
    return np.asarray(weights[members])


def estimate(
    figures: Callable[..., Figures], *sets: ImageSet, rng: np.random.Generator
) -> dict[str, Estimate]:
    """Compute figures with every image counted once, and their intervals over resampled clips.

    Intervals are symmetric, from the standard deviation of the replicates: the replicates of a
    distance are biased, because sets with repetitions are smaller sets.

    Args:
        figures: a function of the weights (N,) of each set's images.
    """
    values = figures(*(np.ones(len(images)) for images in sets))
    replicates = [
        figures(*(clip_weights(images, rng) for images in sets)) for _ in range(REPLICATES)
    ]
    return {
        name: Estimate(value, Z_95 * float(np.std([r[name] for r in replicates], ddof=1)))
        for name, value in values.items()
    }


@dataclass(frozen=True)
class Side:
    """Samples, or the real music in their place; figures are functions of weights.

    The functions take the weights (N,) of each set's images, and those of the shared set.
    """

    sets: Sequence[ImageSet]
    """Resampled independently of each other."""
    figures: Callable[..., Figures]
    distances: Callable[..., Figures] | None = None
    """Smooth distances, to be extrapolated to infinitely many clips; None without any."""

    def draw(self, shared: Floats, rng: np.random.Generator) -> list[Floats]:
        """Weights of a replicate, given those of the shared set."""
        return [*(clip_weights(images, rng) for images in self.sets), shared]


@dataclass(frozen=True)
class Pair:
    """A figure of samples, the same of real music, and their difference."""

    value: Estimate
    real: Estimate
    difference: Estimate
    """Value minus real, with an interval of its own."""


def estimate_pair(
    samples: Side, real: Side, shared: ImageSet, *, rng: np.random.Generator
) -> dict[str, Pair]:
    """Compute figures of samples and of real music that are compared with the same images.

    Both sides of a replicate have the same clips of the shared set, so what chance put into that
    set cancels in the difference, as in a paired test (for the kernel distance: W. Bounliphone et
    al., arXiv:1511.04581). The interval is narrower than the root of the sum of squares.
    """
    sides, drawn = (samples, real), []
    for _ in range(REPLICATES):
        weights = clip_weights(shared, rng)
        drawn.append([side.draw(weights, rng) for side in sides])
    once = [[np.ones(len(images)) for images in (*side.sets, shared)] for side in sides]
    values, replicates = (
        [[side.figures(*w) for side, w in zip(sides, weights, strict=True)] for weights in several]
        for several in ([once], drawn)
    )
    spread = _table(replicates).std(axis=0, ddof=1)
    pairs = _pairs(list(values[0][0]), _table(values)[0, :2], spread)
    if samples.distances is None or real.distances is None:
        return pairs
    return {**_extrapolated([samples.distances, real.distances], sides, drawn, once, rng), **pairs}


def _extrapolated(
    distances: Sequence[Callable[..., Figures]],
    sides: Sequence[Side],
    drawn: Sequence[Sequence[Sequence[Floats]]],
    once: Sequence[Sequence[Floats]],
    rng: np.random.Generator,
) -> dict[str, Pair]:
    """Distances of both sides, as if each had infinitely many clips.

    A distance is the larger the fewer clips a side has. How much larger it gets when the side is
    resampled once more is subtracted (B. Efron, R. Tibshirani, An Introduction to the Bootstrap,
    1993, chapter 10). That extrapolates to infinitely many clips, as M. Chong and D. Forsyth
    (arXiv:1911.07023) do from subsets. The shared set stays as it is, the same for both sides.

    Each replicate is taken a step towards its weights and as far in the opposite direction. Half
    the difference of the two is linear in the step, and the rest quadratic. The mean of the latter
    is the bias. Variances are those of the linear part less those of the quadratic part: near
    equality of the two distributions the former counts the chance in the sets twice, because a
    product of two deviations has a slope in either.

    Args:
        drawn: weights of each replicate, by side and set.
        once: the same with every image counted once.
    """

    def measured(weights: Sequence[Sequence[Floats]]) -> list[Figures]:
        return [of(*each) for of, each in zip(distances, weights, strict=True)]

    def step(several: Sequence[Sequence[Sequence[Floats]]], size: float) -> Floats:
        return _table(
            [
                measured([[np.maximum(1.0 + size * (w - 1.0), 0.0) for w in of] for of in weights])
                for weights in several
            ]
        )

    values = measured(once)
    value = _table([values])[0]

    def parts(several: Sequence[Sequence[Sequence[Floats]]]) -> tuple[Floats, Floats]:
        there, back = step(several, STEP), step(several, -STEP)
        return (there - back) / (2.0 * STEP), ((there + back) / 2.0 - value) / STEP**2

    linear, quadratic = (part.var(axis=0, ddof=1) for part in parts(drawn[::2]))
    spread = np.sqrt(np.maximum(linear - quadratic, quadratic))
    alone = [
        [side.draw(ones[-1], rng) for side, ones in zip(sides, once, strict=True)]
        for _ in range(BIAS_REPLICATES)
    ]
    bias = parts(alone)[1].mean(axis=0)
    return _pairs(list(values[0]), (value - bias)[:2], spread)


def _table(several: Sequence[Sequence[Figures]]) -> Floats:
    """Figures (N, 3, K) of N replicates: samples, real music, and their difference."""
    both = np.array([[list(figures.values()) for figures in pair] for pair in several])
    return np.concatenate([both, both[:, :1] - both[:, 1:]], axis=1)


def _pairs(names: Sequence[str], values: Floats, spread: Floats) -> dict[str, Pair]:
    """Figures by name from values (2, K) and standard deviations (3, K)."""
    of_three = np.concatenate([values, values[:1] - values[1:]])
    return {
        name: Pair(*(Estimate(float(v), Z_95 * float(s)) for v, s in zip(*of_name, strict=True)))
        for name, *of_name in zip(names, of_three.T, spread.T, strict=True)
    }


def mean_figures(several: Sequence[Figures]) -> dict[str, float]:
    """Mean of each figure over several computations."""
    return {name: float(np.mean([each[name] for each in several])) for name in several[0]}
