"""One split of a folder of class folders of images: pixels, labels, tracks and how to sound them."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from musicspectrogan.audio.images import ImageError, opened_image, segment_of_image, track_of_image
from musicspectrogan.audio.spectrogram import IMAGE_SIZES, SpectrogramConfig
from musicspectrogan.data.listing import Listing, list_pictures
from musicspectrogan.data.manifest import MANIFEST_NAME, SPLITS, Manifest, is_foreign
from musicspectrogan.data.pixels import read_pixels
from musicspectrogan.data.splits import SPLIT_FOLDERS
from musicspectrogan.errors import UserError, check_choice

logger = logging.getLogger(__name__)

# Enough to tell datasets apart, and read in no time.
IMAGES_HASHED = 256
# Names for several splits together.
ALL_SPLITS, HELD_OUT = "all", "held-out"
GROUPS = {split: {split} for split in SPLITS} | {ALL_SPLITS: set(SPLITS), HELD_OUT: {*SPLITS[1:]}}


@dataclass(frozen=True)
class ImageDataset:
    """Images and labels of one split."""

    name: str
    """Short, for naming a run."""
    pixels: np.ndarray
    """uint8 (M, H, W), all images of the root, usually memory-mapped: take rows, never all of it."""
    rows: np.ndarray
    """int64 (N,): which of them belong to this split."""
    labels: np.ndarray
    """int64 (N,): index into genres, in the order of rows."""
    genres: list[str]
    """Those that this split has images of, sorted; between splits, go by name and not by label."""
    tracks: np.ndarray
    """int64 (N,): a number for the track that each image is from; equal numbers, same track."""
    segments: np.ndarray
    """int64 (N,): the image's number within its track; k and k + 1 join without a seam."""
    spectrogram: SpectrogramConfig
    """How to turn the images back into sound."""
    fingerprint: str
    """A hash of the names of this split's images: tells one dataset from another."""

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def contents(self) -> str:
        """A hash of some of the split's images: tells datasets apart whose images have the same names."""
        chosen = self.rows[np.unique(np.linspace(0, len(self) - 1, IMAGES_HASHED).astype(np.int64))]
        return hashlib.sha256(np.ascontiguousarray(self.pixels[chosen]).tobytes()).hexdigest()

    @property
    def image_size(self) -> int:
        """Pixels a side."""
        return self.pixels.shape[1]


def load_dataset(
    root: Path, *, split: str = "training", image_size: int | None = None
) -> ImageDataset:
    """Read a folder made by preprocess, or any other folder of class folders of images.

    Args:
        split: training, validation, test, held-out (the latter two together) or all. A folder without
            dataset.json, or with another tool's, is used whole, unless it has train/ and test/ above its
            classes.
        image_size: pixels a side for foreign images; None for their own where it is one of
            IMAGE_SIZES, else 64.

    Raises:
        UserError: no such folder, no class folders with images in it, preprocessing unfinished,
            or an empty split.
    """
    check_choice("--split", split, GROUPS)
    _check_folder(root)
    manifest = Manifest.read(root)
    listing = list_pictures(root, with_splits=manifest is None)
    names = listing.names
    if not names:
        raise UserError(
            f"--dataset {root}: no class folders with images in it; give a folder made by preprocess.py"
        )
    listing.report(root)
    if manifest is None:
        spectrogram = SpectrogramConfig.for_image_size(image_size or _own_size(root / names[0]))
        _say_how_taken(root, listing)
    else:
        spectrogram = manifest.spectrogram
        if not manifest.tracks:
            raise UserError(
                f"--dataset {root}: preprocessing did not finish; give the same preprocess command again"
            )
        if image_size not in (None, spectrogram.n_mels):
            raise UserError(
                f"--image-size {image_size}: the images of {root} have {spectrogram.n_mels} pixels a side; "
                f"leave the flag away, or preprocess with --image-size {image_size}"
            )
    remedy = "mend them" if manifest is None else "delete them and preprocess again for new ones"
    pixels, damaged = read_pixels(root, names, spectrogram.n_mels, remedy)
    rows = [row for row in _rows_of_split(listing, manifest, split) if row not in damaged]
    if not rows:
        raise UserError(f"--dataset {root}: no readable image in the split {split}")
    chosen = [names[row] for row in rows]
    genre_of = [listing.genre_of(name) for name in chosen]  # sorted, as the names are
    genres, labels = list(dict.fromkeys(genre_of)), _numbered(genre_of)
    if manifest is None:  # names that mean nothing: each image is a track of its own
        tracks, segments = np.arange(len(rows)), np.zeros(len(rows), dtype=np.int64)
    else:
        tracks = _numbered([_track_of(name) for name in chosen])
        segments = np.array([segment_of_image(name) or 0 for name in chosen], dtype=np.int64)
    named_after_source = manifest is not None and manifest.source != "folder"
    name = manifest.source if named_after_source else root.resolve().name
    fingerprint = hashlib.sha256("\n".join(chosen).encode("utf-8", "surrogateescape")).hexdigest()
    return ImageDataset(
        name, pixels, np.array(rows), labels, genres, tracks, segments, spectrogram, fingerprint
    )


def _check_folder(root: Path) -> None:
    if not root.is_dir():
        what = "is a file" if root.exists() else "there is no such folder"
        raise UserError(f"--dataset {root}: {what}; name a folder made by preprocess.py")


def _say_how_taken(root: Path, listing: Listing) -> None:
    """Log what a folder that preprocess did not make is taken for."""
    has = (
        f"has a {MANIFEST_NAME} of another tool" if is_foreign(root) else f"has no {MANIFEST_NAME}"
    )
    splits = sorted(listing.splits.items(), key=lambda item: SPLITS.index(item[1]))
    taken = ", ".join(f"{name}/ for {split}" for name, split in splits)
    how = f"taking {taken}" if splits else "training on all of its images"
    logger.info("%s %s: %s; audio settings are the defaults", root, has, how)
    classes = {} if splits else dict.fromkeys(map(listing.genre_of, listing.names))
    for name in classes:
        if SPLIT_FOLDERS.get(name.lower()) == "training":
            logger.warning(
                "%s is taken for a class, beside %d others; if it is a split, give --dataset %s",
                root / name, len(classes) - 1, root / name,
            )  # fmt: skip


def _own_size(path: Path) -> int:
    try:
        with opened_image(path) as image:
            return image.width if image.width in IMAGE_SIZES else IMAGE_SIZES[0]
    except ImageError:
        return IMAGE_SIZES[0]


def _rows_of_split(listing: Listing, manifest: Manifest | None, split: str) -> list[int]:
    if manifest is not None:
        splits = {
            f"{genre}/{track}": part for (genre, track), part in manifest.split_of_track().items()
        }
        found = [splits.get(_track_of(name)) for name in listing.names]
        strangers = found.count(None)
        if strangers:
            logger.warning(
                "%d images belong to no track of dataset.json and are left out", strangers
            )
    elif listing.splits:
        found = [listing.split_of(name) for name in listing.names]
    else:
        return list(range(len(listing.names)))
    return [row for row, part in enumerate(found) if part in GROUPS[split]]


def _track_of(name: str) -> str:
    """`<genre>/<track id>` of an image that preprocess made, in whatever folder of its class it lies now."""
    genre, _, below = name.partition("/")
    return f"{genre}/{track_of_image(below.rpartition('/')[2])}"


def _numbered(keys: list[str]) -> np.ndarray:
    """A number for each key, int64 (n,): equal keys, equal numbers, counted from 0 as they first come."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)
