"""Music longer than an image: pieces and real tracks as images that follow one another."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.data.dataset import ImageDataset
from musicspectrogan.evaluation.sets import ImageSet, labels_of

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Stretches:
    """Clips of several images each."""

    images: ImageSet
    places: Rows
    """(N,): which image of its clip each is; k and k + 1 join without a seam."""

    def take(self, rows: np.ndarray) -> Stretches:
        """Some of the images, by a mask or by their numbers."""
        return Stretches(self.images.take(rows), self.places[rows])

    def pooled(self) -> Stretches:
        """The same as if all were of one genre."""
        return replace(self, images=replace(self.images, labels=np.zeros_like(self.images.labels)))

    def piece(self, rows: Rows) -> NDArray[np.uint8]:
        """Some of the images side by side, uint8 (H, T)."""
        return np.concatenate(list(self.images.pixels[rows]), axis=1)

    def of_clips(self) -> list[Rows]:
        """The images of each clip in order, clips by their numbers."""
        if not len(self.places):
            return []
        order = np.lexsort((self.places, self.images.clips))
        starts = np.flatnonzero(np.diff(self.images.clips[order])) + 1
        return np.split(order, starts)

    def longest_runs(self) -> list[Rows]:
        """The images of each clip that follow one another without a hole, the most of them, in order."""
        runs = []
        for rows in self.of_clips():
            parts = np.split(rows, np.flatnonzero(np.diff(self.places[rows]) != 1) + 1)
            runs.append(max(parts, key=len))
        return runs


def joined(first: Stretches, second: Stretches) -> Stretches:
    """Both together; numbers of clips, from 0 up in either, are below 0 for those of the second."""
    a, b = first.images, second.images
    images = ImageSet(
        np.concatenate([a.pixels, b.pixels]),
        np.concatenate([a.labels, b.labels]),
        np.concatenate([a.clips, -1 - b.clips]),
    )
    return Stretches(images, np.concatenate([first.places, second.places]))


def windows_in(seconds: float, config: SpectrogramConfig) -> int:
    """Whole images in a piece as `generate --seconds` makes it."""
    return config.frames_in(seconds) // config.n_frames


def cut(piece: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """Consecutive images (n, H, width) of a piece (H, T); a shorter remainder is dropped."""
    height, count = piece.shape[0], piece.shape[1] // width
    return piece[:, : count * width].reshape(height, count, width).swapaxes(0, 1)


def tracks_of(
    dataset: ImageDataset, genres: list[str], most: int, rng: np.random.Generator
) -> Stretches:
    """The tracks of a split, or so many of them, drawn at random, that `most` images are reached.

    Args:
        genres: what labels count in; tracks of other genres are left out.
    """
    labels = labels_of(dataset, genres)
    (known,) = np.nonzero(labels >= 0)
    rows = known[clips_drawn(dataset.tracks[known], most, rng)]
    images = ImageSet(
        np.asarray(dataset.pixels[dataset.rows[rows]]), labels[rows], dataset.tracks[rows]
    )
    return Stretches(images, dataset.segments[rows])


def clips_drawn(clips: Rows, count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which images, (N,), belong to the clips that are drawn: so many that `count` images are reached.

    Args:
        clips: (N,), the clip of each image.
    """
    if len(clips) <= count:
        return np.ones(len(clips), dtype=bool)
    numbers, sizes = np.unique(clips, return_counts=True)
    order = rng.permutation(len(numbers))
    before = np.cumsum(sizes[order]) - sizes[order]
    return np.isin(clips, numbers[order[before < count]])
