"""One split of a folder of class folders of images: pixels, labels, tracks and audio settings."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from musicspectrogan.audio.images import ImageError, opened_image, segment_of_image, track_of_image
from musicspectrogan.audio.spectrogram import IMAGE_SIZES, SpectrogramConfig
from musicspectrogan.counts import format_count
from musicspectrogan.data.manifest import MANIFEST_NAME, SPLITS, Manifest, is_foreign
from musicspectrogan.data.pixels import Pixels, read_pixels
from musicspectrogan.data.splits import SPLIT_FOLDERS, find_split_folders
from musicspectrogan.errors import UserError, check_choice
from musicspectrogan.filesystem import is_clutter, visible_folders

logger = logging.getLogger(__name__)

# The suffixes of torchvision.datasets.folder.IMG_EXTENSIONS, which is slow to import.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
NAMES_SHOWN = 5
# Number of images in a hash of the contents.
IMAGES_HASHED = 256
# Names for several splits together.
ALL_SPLITS, HELD_OUT = "all", "held-out"
GROUPS = {split: {split} for split in SPLITS} | {ALL_SPLITS: set(SPLITS), HELD_OUT: {*SPLITS[1:]}}

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ImageDataset:
    """Images and labels of one split."""

    name: str
    """Short, for naming a run."""
    pixels: Pixels
    """uint8 (M, H, W), all images of the root, memory-mapped: index rows, do not copy all."""
    rows: Indices
    """int64 (N,): the rows of `pixels` in this split."""
    labels: Indices
    """int64 (N,): index into genres, in the order of rows."""
    genres: list[str]
    """Genres with images in this split, sorted. Labels of two splits may differ; names do not."""
    tracks: Indices
    """int64 (N,): the number of each image's track."""
    segments: Indices
    """int64 (N,): the image's position in its track; k and k + 1 join seamlessly."""
    spectrogram: SpectrogramConfig
    """How to convert the images to audio."""
    fingerprint: str
    """A hash of the names of this split's images."""

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def contents(self) -> str:
        """A hash of some of the images, to tell apart datasets whose images have the same names."""
        chosen = self.rows[np.unique(np.linspace(0, len(self) - 1, IMAGES_HASHED).astype(np.int64))]
        return hashlib.sha256(np.ascontiguousarray(self.pixels[chosen]).tobytes()).hexdigest()

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        return int(self.pixels.shape[1])


def load_dataset(
    root: Path, *, split: str = "training", image_size: int | None = None
) -> ImageDataset:
    """Read a folder made by preprocess, or any other folder of class folders of images.

    Args:
        split: training, validation, test, held-out (validation and test) or all. A folder without
            our dataset.json is used whole, unless it has train/ and test/ above its classes.
        image_size: height and width for a folder without our dataset.json; None for the size of
            its first image if that is one of IMAGE_SIZES, else 64.

    Raises:
        UserError: no such folder, no class folders with images in it, unfinished preprocessing,
            or an empty split.
    """
    check_choice("--split", split, GROUPS)
    if not root.is_dir():
        problem = "is a file" if root.exists() else "there is no such folder"
        raise UserError(f"--dataset {root}: {problem}; name a folder made by preprocess.py")
    manifest = Manifest.read(root)
    listing = list_images(root, with_splits=manifest is None)
    names = listing.names
    if not names:
        raise UserError(
            f"--dataset {root}: no class folders with images in it; "
            "use a folder made by preprocess.py"
        )
    listing.log_ignored(root)
    name = root.resolve().name
    if manifest is None:
        spectrogram = SpectrogramConfig.for_image_size(image_size or _image_size(root / names[0]))
        _log_usage(root, listing)
    else:
        spectrogram = manifest.spectrogram
        name = name if manifest.source == "folder" else manifest.source
        if not manifest.tracks:
            raise UserError(
                f"--dataset {root}: preprocessing did not finish; repeat the preprocess command"
            )
        if image_size not in (None, spectrogram.n_mels):
            raise UserError(
                f"--image-size {image_size}: the images of {root} are {spectrogram.n_mels} pixels "
                f"high and wide; remove the flag, or preprocess with --image-size {image_size}"
            )
    remedy = "repair them" if manifest is None else "delete them and repeat the preprocess command"
    pixels, damaged = read_pixels(root, names, spectrogram.n_mels, remedy)
    rows = [row for row in _rows_of_split(listing, manifest, split) if row not in damaged]
    if not rows:
        raise UserError(
            f"--dataset {root}: no readable image in the split {split}; give another --split, or "
            "preprocess more music"
        )
    chosen = [names[row] for row in rows]
    genre_of = [listing.genre_of(name) for name in chosen]  # sorted, as the names are
    if manifest is None:  # each image is a track
        tracks, segments = np.arange(len(rows)), np.zeros(len(rows), dtype=np.int64)
    else:
        tracks = _enumerate([_track_of(name) for name in chosen])
        segments = np.array([segment_of_image(name) or 0 for name in chosen], dtype=np.int64)
    return ImageDataset(
        name,
        pixels,
        np.array(rows),
        _enumerate(genre_of),
        list(dict.fromkeys(genre_of)),
        tracks,
        segments,
        spectrogram,
        hashlib.sha256("\n".join(chosen).encode("utf-8", "surrogateescape")).hexdigest(),
    )


def _log_usage(root: Path, listing: Listing) -> None:
    """Log how a folder without our dataset.json is used."""
    foreign = "has a {} of another tool" if is_foreign(root) else "has no {}"
    splits = sorted(listing.splits.items(), key=lambda item: SPLITS.index(item[1]))
    used = "using " + ", ".join(f"{folder}/ for {split}" for folder, split in splits)
    logger.info(
        "%s %s: %s; audio settings are the defaults",
        root,
        foreign.format(MANIFEST_NAME),
        used if splits else "training on all of its images",
    )
    classes = [] if splits else list(dict.fromkeys(map(listing.genre_of, listing.names)))
    for name in classes:
        if SPLIT_FOLDERS.get(name.lower()) == "training":
            logger.warning(
                "%s is used as one of %d classes; if it is a split, use --dataset %s",
                root / name,
                len(classes),
                root / name,
            )


def _image_size(path: Path) -> int:
    try:
        with opened_image(path) as image:
            return image.width if image.width in IMAGE_SIZES else IMAGE_SIZES[0]
    except ImageError:
        return IMAGE_SIZES[0]


def _rows_of_split(listing: Listing, manifest: Manifest | None, split: str) -> list[int]:
    if manifest is not None:
        split_of = manifest.split_of_track()
        splits = {f"{genre}/{track}": split_of[genre, track] for genre, track in split_of}
        found = [splits.get(_track_of(name)) for name in listing.names]
        if unknown := found.count(None):
            logger.warning(
                "Left out %s of no track in dataset.json", format_count(unknown, "image")
            )
    elif listing.splits:
        found = [listing.split_of(name) for name in listing.names]
    else:
        return list(range(len(listing.names)))
    return [row for row, part in enumerate(found) if part in GROUPS[split]]


def _track_of(name: str) -> str:
    """Return `<genre>/<track id>` of an image made by preprocess, in any folder of its class."""
    genre, _, below = name.partition("/")
    return f"{genre}/{track_of_image(below.rpartition('/')[2])}"


def _enumerate(keys: list[str]) -> Indices:
    """Number the keys from 0 in order of appearance, int64 (n,)."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


@dataclass(frozen=True)
class Listing:
    """The images in the class folders of a folder."""

    names: list[str]
    """Paths below the folder, with slashes; by class, and within a class in ImageFolder's order."""
    splits: dict[str, str]
    """The split of each top folder if these are splits that hold the class folders; else empty."""
    unclassified: list[str] = field(default_factory=list)
    """Images that are not in a class folder, sorted."""
    ignored: list[str] = field(default_factory=list)
    """Files in the class folders that are not images, and folders of systems and tools."""

    def genre_of(self, name: str) -> str:
        """Return the class of an image."""
        return name.split("/", 2)[1 if self.splits else 0]

    def split_of(self, name: str) -> str:
        """Return the split of an image; empty without split folders."""
        return self.splits.get(name.partition("/")[0], "")

    def log_ignored(self, folder: Path) -> None:
        """Log the files that are not images of a class."""
        for noun, why, names in (
            ("file", "not an image format", self.ignored),
            ("image", "not in a class folder", self.unclassified),
        ):
            if names:
                shown = ", ".join(names[:NAMES_SHOWN]) + (", …" if len(names) > NAMES_SHOWN else "")
                count = format_count(len(names), noun)
                logger.info("%s: ignoring %s (%s): %s", folder, count, why, shown)


def list_images(folder: Path, *, with_splits: bool = True) -> Listing:
    """List the images in the class folders of a folder as ImageFolder does, by suffix.

    Unlike ImageFolder, ignore the files of systems and tools.

    Args:
        with_splits: accept split folders above the class folders, see `find_split_folders`.
    """
    splits = (find_split_folders(folder) if with_splits else None) or {}
    names: list[str] = []
    ignored: list[str] = []
    for part in [path.name for path in splits] or [""]:
        for path in visible_folders(folder / part):
            prefix = f"{part}/{path.name}/" if part else f"{path.name}/"
            names += _images_below(path, prefix, ignored)
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    unclassified = [entry.name for entry in entries if not entry.is_dir() and _is_image(entry)]
    ignored += [f"{e.name}/" for e in entries if is_clutter(e.name) and e.is_dir()]
    listing = Listing(
        names, {path.name: split for path, split in splits.items()}, unclassified, ignored
    )
    if splits:  # join the images of a class
        names.sort(key=listing.genre_of)
    return listing


def _images_below(folder: Path, prefix: str, ignored: list[str]) -> Iterator[str]:
    """Yield names with a prefix, in the order of `sorted(os.walk(folder, followlinks=True))`."""
    found: dict[str, list[str]] = {}
    pending = [(folder, "", frozenset[str]())]
    while pending:
        current, below, parents = pending.pop()
        parents |= {os.path.realpath(current)}
        images = found.setdefault(below, [])
        try:
            entries = list(os.scandir(current))
        except OSError as error:
            logger.warning("%s cannot be read (%s) and is skipped", current, error.strerror)
            continue
        for entry in entries:
            name = entry.name
            if entry.is_dir():
                if is_clutter(name):
                    ignored.append(f"{prefix}{below}{name}/")
                elif not (entry.is_symlink() and os.path.realpath(entry.path) in parents):
                    pending.append((current / name, f"{below}{name}/", parents))
            elif _is_image(entry):
                images.append(name)
            else:
                ignored.append(f"{prefix}{below}{name}")
    for below in sorted(found, key=lambda below: below.rstrip("/")):
        yield from (f"{prefix}{below}{name}" for name in sorted(found[below]))


def _is_image(entry: os.DirEntry[str]) -> bool:
    """Decide by suffix; open dot files, which systems leave next to images."""
    if not entry.name.lower().endswith(IMAGE_SUFFIXES):
        return False
    if not entry.name.startswith("."):
        return True
    try:
        with opened_image(Path(entry.path)):
            return True
    except ImageError:
        return False
