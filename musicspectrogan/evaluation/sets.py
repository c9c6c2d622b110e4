"""The images that are judged and those they are judged by, each with its label and the clip it is from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from musicspectrogan.data.dataset import ImageDataset, load_dataset
from musicspectrogan.data.manifest import MANIFEST_NAME, Manifest, is_foreign
from musicspectrogan.data.splits import find_split_folders
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


def labels_of(dataset: ImageDataset, genres: list[str]) -> np.ndarray:
    """int64 (N,): the images' genres as numbers in a list of genres; -1 for others."""
    names = np.array([genres.index(genre) if genre in genres else -1 for genre in dataset.genres])
    return names[dataset.labels]


def images_of(
    dataset: ImageDataset, genres: list[str], most: int | None, rng: np.random.Generator
) -> ImageSet:
    """The images of a split, or as many of them drawn at random.

    Args:
        genres: what labels count in; images of other genres are left out.
        most: bounds the memory that is taken; None for all.
    """
    labels = labels_of(dataset, genres)
    (rows,) = np.nonzero(labels >= 0)
    if most is not None and len(rows) > most:
        rows = np.sort(rng.choice(rows, most, replace=False))
    return ImageSet(
        np.asarray(dataset.pixels[dataset.rows[rows]]), labels[rows], dataset.tracks[rows]
    )


@dataclass(frozen=True)
class Splits:
    """The real tracks of an evaluation."""

    training: ImageDataset
    held_out: ImageDataset
    """What is judged by."""
    split: str
    """Which tracks these are: test, validation, or held-out, which is both."""
    remarks: tuple[str, ...] = ()
    """What to keep in mind about that choice."""


def load_splits(root: Path, split: str | None = None) -> Splits:
    """The training split of a folder made by preprocess, or with train/ and test/, and what to judge by.

    Args:
        split: test, validation, or held-out, which is both. None for the test tracks: the validation
            tracks flatter a checkpoint that was chosen by them. Where the test tracks are too few, None
            takes held-out, and there is a remark.

    Raises:
        UserError: nothing is held out there, or too little of it to judge by.
    """
    known = _splits_of(root) if root.is_dir() else set()
    training = _enough_of(root, "training", 2)
    if split is not None:
        return Splits(training, _enough_of(root, split), split)
    test = None
    if "test" in known:
        test = load_dataset(root, split="test")
        if _is_enough(test):
            return Splits(training, test, "test")
    size = (
        "There are no test tracks"
        if test is None
        else f"The test tracks are {_size(test)}, too few"
    )
    remark = (
        f"{size} to judge by: the validation tracks, by which best.pt is chosen, were used too."
    )
    return Splits(training, _enough_of(root, "held-out"), "held-out", (remark,))


def _splits_of(root: Path) -> set[str]:
    """The splits that a dataset has; UserError where it has none."""
    manifest = Manifest.read(root)
    if manifest is not None:
        return {track["split"] for track in manifest.tracks}
    folders = find_split_folders(root)
    if folders is None:
        what = f"has no {MANIFEST_NAME}" + (" but another tool's" if is_foreign(root) else "")
        raise UserError(
            f"--dataset {root}: {what}, so no track of it is known to be held out; "
            "make the folder with preprocess.py, or put the classes below folders train and test"
        )
    return set(folders.values())


def _enough_of(root: Path, split: str, times: int = 1) -> ImageDataset:
    """A split; UserError where it is not so many times what judging needs."""
    dataset = load_dataset(root, split=split)
    if not _is_enough(dataset, times):
        raise UserError(
            f"--dataset {root}: its {split} tracks are {_size(dataset)}; at least {times * FEWEST_TRACKS} "
            f"tracks and {times * FEWEST_IMAGES} images are needed to judge by: preprocess more music"
        )
    return dataset


def _is_enough(dataset: ImageDataset, times: int = 1) -> bool:
    n_tracks = len(np.unique(dataset.tracks))
    return len(dataset) >= times * FEWEST_IMAGES and n_tracks >= times * FEWEST_TRACKS


def _size(dataset: ImageDataset) -> str:
    return f"{len(np.unique(dataset.tracks))} with {len(dataset)} images"
