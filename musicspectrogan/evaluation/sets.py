"""The images that are judged and those they are judged by, each with its label and the clip it is from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from musicspectrogan.data.dataset import ImageDataset, load_dataset
from musicspectrogan.data.manifest import Manifest
from musicspectrogan.errors import UserError

# Fewer images, from fewer tracks, say nothing: each image is asked for its five nearest neighbours, and
# the intervals come from resampling tracks.
FEWEST_IMAGES = 20
FEWEST_TRACKS = 4


@dataclass(frozen=True)
class ImageSet:
    """Some images in memory."""

    pixels: np.ndarray
    """uint8 (N, H, W), low frequencies at the bottom."""
    labels: np.ndarray
    """int64 (N,): index into the list of genres that all sets of an evaluation share."""
    clips: np.ndarray
    """int64 (N,): images of one clip are not independent, so clips are what is resampled."""

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def n_clips(self) -> int:
        """How many clips the images are from."""
        return len(np.unique(self.clips))

    def take(self, rows: np.ndarray) -> ImageSet:
        """Some of the images, by a mask or by their numbers."""
        return ImageSet(self.pixels[rows], self.labels[rows], self.clips[rows])

    def of_genre(self, label: int) -> ImageSet:
        """The images of one genre."""
        return self.take(self.labels == label)

    def at_most(self, count: int, rng: np.random.Generator) -> ImageSet:
        """All of the images, or as many of them drawn at random."""
        if len(self) <= count:
            return self
        return self.take(np.sort(rng.choice(len(self), count, replace=False)))


def images_of(
    dataset: ImageDataset, genres: list[str], most: int | None, rng: np.random.Generator
) -> ImageSet:
    """The images of a split, or as many of them drawn at random.

    Args:
        genres: what labels count in; images of other genres are left out.
        most: bounds the memory that is taken; None for all.
    """
    names = np.array([genres.index(genre) if genre in genres else -1 for genre in dataset.genres])
    labels = names[dataset.labels]
    (rows,) = np.nonzero(labels >= 0)
    if most is not None and len(rows) > most:
        rows = np.sort(rng.choice(rows, most, replace=False))
    return ImageSet(np.asarray(dataset.pixels[dataset.rows[rows]]), labels[rows], dataset.tracks[rows])


def load_splits(root: Path, held_out: str) -> tuple[ImageDataset, ImageDataset]:
    """The training split and a held-out one of a folder made by preprocess.

    Args:
        held_out: validation, test or held-out, which is both.

    Raises:
        UserError: nothing is held out there, or too little of it to judge by.
    """
    if root.is_dir() and Manifest.read(root) is None:
        raise UserError(
            f"--dataset {root}: has no dataset.json, so no track of it is known to be held out; "
            "make the folder with preprocess.py"
        )
    training, rest = (load_dataset(root, split=split) for split in ("training", held_out))
    for part, name, least in ((training, "training", 2), (rest, held_out, 1)):
        n_tracks = len(np.unique(part.tracks))
        if len(part) < least * FEWEST_IMAGES or n_tracks < least * FEWEST_TRACKS:
            raise UserError(
                f"--dataset {root}: its {name} tracks are {n_tracks} with {len(part)} images; at "
                f"least {least * FEWEST_TRACKS} tracks and {least * FEWEST_IMAGES} images are needed "
                "to judge by: preprocess more music"
            )
    return training, rest
