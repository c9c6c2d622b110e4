"""A quick judgement while training: some samples against the validation tracks, in untrained features."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from musicspectrogan.data.dataset import ImageDataset
from musicspectrogan.errors import UserError
from musicspectrogan.evaluation.distances import cubic_kernel, kernel_distance
from musicspectrogan.evaluation.features import FeatureSpace, untrained_embedding
from musicspectrogan.evaluation.neighbours import Neighbourhoods
from musicspectrogan.evaluation.sets import images_of, load_splits

logger = logging.getLogger(__name__)

# Real images of either split that are looked at.
MOST_IMAGES = 1000


def quality_by_validation(
    root: Path, training: ImageDataset
) -> Callable[[NDArray[np.uint8]], dict[str, float]] | None:
    """A function that judges samples uint8 (N, H, W): kernel_distance, coverage and diversity.

    They are those of `evaluate`, in its untrained features only: these cost a second to fit, a classifier
    many. Coverage depends on N, which must stay the same through a run.

    Args:
        root: a dataset, of whose validation tracks samples are compared with; the test tracks stay unseen.
        training: its training split, which the features are fitted to.

    Returns:
        None where there are too few validation tracks to judge by.
    """
    try:
        validation = load_splits(root, "validation").held_out
    except UserError as error:
        logger.info("Samples are not judged while training: %s", error)
        return None
    rng = np.random.default_rng(0)
    fitted, reference = (
        images_of(part, part.genres, MOST_IMAGES, rng).pixels for part in (training, validation)
    )
    space = FeatureSpace.fit(untrained_embedding(fitted), fitted)
    real = space(reference)
    within_real = cubic_kernel(real, real)

    def quality_of(pixels: NDArray[np.uint8]) -> dict[str, float]:
        samples = space(pixels)
        once = np.ones(len(samples)), np.ones(len(real))
        near = Neighbourhoods(samples, real).figures(*once)
        kernels = (cubic_kernel(samples, samples), within_real, cubic_kernel(samples, real))
        return {
            "kernel_distance": kernel_distance(*kernels, *once),
            "coverage": near["coverage"],
            "diversity": near["diversity"],
        }

    return quality_of
