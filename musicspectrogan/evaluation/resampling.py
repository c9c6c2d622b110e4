"""Confidence intervals: bootstrap over clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from musicspectrogan.evaluation.samples import ImageSet

Figures = Mapping[str, float]

REPLICATES = 100
# Half-width of a 95 % interval in standard errors.
Z_95 = 1.96


@dataclass(frozen=True)
class Estimate:
    """A figure and the half-width of its 95 % interval."""

    value: float
    half_width: float


def clip_weights(images: ImageSet, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw a bootstrap replicate: weights (N,) that say how often each image counts.

    Whole clips are drawn, because segments of a clip are not independent (B. Efron, Annals of
    Statistics 7 (1979), 1-26), and within each genre, because datasets are split by genre. From n
    clips n - 1 are drawn, and each counts n / (n - 1) times, which keeps the variance unbiased for
    small n (J. Rao, C. Wu, Journal of the American Statistical Association 83 (1988), 231-241).
    Genres with one clip are pooled.
    """
    clips, first, members = np.unique(images.clips, return_index=True, return_inverse=True)
    genres, sizes = np.unique(images.labels[first], return_counts=True)
    single = genres[sizes == 1]
    strata = np.where(np.isin(images.labels[first], single), -1, images.labels[first])
    weights = np.ones(len(clips))
    for stratum in np.unique(strata):
        (inside,) = np.nonzero(strata == stratum)
        n = len(inside)
        if n > 1:
            weights[inside] = rng.multinomial(n - 1, np.full(n, 1.0 / n)) * (n / (n - 1))
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


def mean_figures(several: Sequence[Figures]) -> dict[str, float]:
    """Mean of each figure over several computations."""
    return {name: float(np.mean([each[name] for each in several])) for name in several[0]}
