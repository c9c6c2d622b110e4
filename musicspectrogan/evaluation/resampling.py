"""How far a figure could be off: clips drawn again and again, with replacement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musicspectrogan.evaluation.sets import ImageSet

Array = NDArray[np.floating]
Figures = Mapping[str, float]

REPLICATES = 100
# Standard errors to each side that hold the truth in 95 of 100 cases, for a normal distribution.
SIDES = 1.96


@dataclass(frozen=True)
class Estimate:
    """A figure and the half-width of its 95 % interval."""

    value: float
    half_width: float


def clip_weights(images: ImageSet, rng: np.random.Generator) -> Array:
    """How often each image counts, (N,), when clips are drawn anew.

    Whole clips are drawn, since segments of one are not independent (B. Efron, Annals of Statistics 7
    (1979), 1-26), and within each genre, since every draw of tracks is split by genre alike. From n clips
    n - 1 are drawn and each counts n / (n - 1) times, which keeps the variance right for small n
    (J. Rao, C. Wu, Journal of the American Statistical Association 83 (1988), 231-241). Clips that are
    alone in their genre are drawn from together.
    """
    clips, first, members = np.unique(images.clips, return_index=True, return_inverse=True)
    genres, sizes = np.unique(images.labels[first], return_counts=True)
    alone = genres[sizes == 1]
    strata = np.where(np.isin(images.labels[first], alone), -1, images.labels[first])
    weights = np.ones(len(clips))
    for stratum in np.unique(strata):
        (inside,) = np.nonzero(strata == stratum)
        n = len(inside)
        if n > 1:
            weights[inside] = rng.multinomial(n - 1, np.full(n, 1.0 / n)) * (n / (n - 1))
    return weights[members]


def estimate(
    figures: Callable[..., Figures], *sets: ImageSet, rng: np.random.Generator
) -> dict[str, Estimate]:
    """Each figure with all images counted once, and its spread over resampled clips.

    The interval is symmetric, from the replicates' standard deviation, because the replicates of a
    distance lie off its value: sets with repetitions are smaller sets.

    Args:
        figures: takes the weights (N,) of each set's images.
    """
    values = figures(*(np.ones(len(images)) for images in sets))
    replicates = [
        figures(*(clip_weights(images, rng) for images in sets)) for _ in range(REPLICATES)
    ]
    return {
        name: Estimate(value, SIDES * float(np.std([r[name] for r in replicates], ddof=1)))
        for name, value in values.items()
    }


def mean_figures(blocks: Sequence[Figures]) -> dict[str, float]:
    """The mean of each figure over several measurements."""
    return {name: float(np.mean([block[name] for block in blocks])) for name in blocks[0]}
