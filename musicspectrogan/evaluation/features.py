"""Two ways to describe an image by a few numbers: what a genre classifier sees, and plain statistics.

A generator that is good by one and bad by the other has found a weakness of the one, not music.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

Array = NDArray[np.floating]
Embedding = Callable[[NDArray[np.uint8]], Array]

# Length of a feature vector. Small, because a covariance must be estimated from a hundred images.
DIMENSIONS = 32
# Pixels a side that the principal components see; what is finer is left to the statistics.
PCA_SIDE = 32
IMAGES_AT_ONCE = 256
# Of a block over all images, in units of the grey scale; below it is nothing but rounding.
LEAST_SPREAD = 1e-3


@dataclass(frozen=True)
class FeatureSpace:
    """An embedding on a common scale: on the images it was fitted to, the features have mean 0 and mean
    square 1, so that distances in different spaces are of a size."""

    embedding: Embedding
    centre: Array
    scale: float

    @classmethod
    def fit(cls, embedding: Embedding, pixels: NDArray[np.uint8]) -> FeatureSpace:
        """Scale an embedding by its values on some real images, uint8 (N, H, W)."""
        features = _in_blocks(embedding, pixels)
        centre = features.mean(axis=0)
        return cls(embedding, centre, float(np.sqrt(np.mean((features - centre) ** 2))) or 1.0)

    def __call__(self, pixels: NDArray[np.uint8]) -> Array:
        """Features float64 (N, D) of images uint8 (N, H, W)."""
        return (_in_blocks(self.embedding, pixels) - self.centre) / self.scale


def untrained_embedding(pixels: NDArray[np.uint8]) -> Embedding:
    """Principal components of the picture and of its statistics in each band, fitted to real images.

    The picture says where energy lies. The statistics say how it moves, wherever in time: each
    band's mean, spread, change from frame to frame, and contrast to the next band.

    Args:
        pixels: uint8 (N, H, W), N at least 2.
    """
    blocks = [_blocks(pixels[start : start + IMAGES_AT_ONCE]) for start in _starts(pixels)]
    joined = [np.concatenate(parts) for parts in zip(*blocks, strict=True)]
    # Every block weighs the same, whatever its length; but rounding is not made large.
    spreads = [float(np.sqrt(block.var(axis=0).sum())) for block in joined]
    scales = [spread if spread > LEAST_SPREAD else 1.0 for spread in spreads]
    described = _scaled(joined, scales)
    components = min(DIMENSIONS, len(described) - 1)
    pca = PCA(components, random_state=0).fit(described)

    def embed(images: NDArray[np.uint8]) -> Array:
        return pca.transform(_scaled(_blocks(images), scales))

    return embed


def _blocks(pixels: NDArray[np.uint8]) -> list[Array]:
    """float32 (N, P) each: the picture, and four statistics of each band, in units of the grey scale."""
    images = pixels.astype(np.float32) / 255.0
    count, height, width = images.shape
    side = min(PCA_SIDE, height)
    picture = images.reshape(count, side, height // side, side, width // side).mean(axis=(2, 4))
    return [
        picture.reshape(count, -1),
        images.mean(axis=2),
        images.std(axis=2),
        np.abs(np.diff(images, axis=2)).mean(axis=2),
        np.abs(np.diff(images, axis=1)).mean(axis=2),
    ]


def _scaled(blocks: list[Array], scales: list[float]) -> Array:
    return np.concatenate(
        [block / scale for block, scale in zip(blocks, scales, strict=True)], axis=1
    )


def _starts(pixels: NDArray[np.uint8]) -> range:
    return range(0, len(pixels), IMAGES_AT_ONCE)


def _in_blocks(embedding: Embedding, pixels: NDArray[np.uint8]) -> Array:
    blocks = [embedding(pixels[start : start + IMAGES_AT_ONCE]) for start in _starts(pixels)]
    return np.concatenate(blocks).astype(np.float64)
