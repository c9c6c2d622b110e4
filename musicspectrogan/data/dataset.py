"""Class folders of images as one uint8 array, decoded once and memory-mapped from then on."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import warnings
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from musicspectrogan.audio.images import segment_of_image, track_of_image
from musicspectrogan.audio.spectrogram import IMAGE_SIZES, SpectrogramConfig
from musicspectrogan.data.manifest import SPLITS, Manifest
from musicspectrogan.data.parallel import in_parallel
from musicspectrogan.errors import UserError, check_choice
from musicspectrogan.filesystem import one_at_a_time, reserve, visible_folders, whole_file, write_text
from musicspectrogan.progress import progress_bar

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
# Names for several splits together.
ALL_SPLITS, HELD_OUT = "all", "held-out"
GROUPS = {split: {split} for split in SPLITS} | {ALL_SPLITS: set(SPLITS), HELD_OUT: {*SPLITS[1:]}}

IMAGES_PER_TASK = 512
# Below this many images, starting worker processes takes longer than decoding.
WORTH_PROCESSES = 8 * IMAGES_PER_TASK
DAMAGED_SHOWN = 5


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

    @property
    def image_size(self) -> int:
        """Pixels a side."""
        return self.pixels.shape[1]


@dataclass(frozen=True)
class _ImageFile:
    genre: str
    name: str
    stamp: tuple[int, int]
    """Size and modification time: what tells that the cache is stale."""


def load_dataset(root: Path, *, split: str = "training", image_size: int | None = None) -> ImageDataset:
    """Read a folder made by preprocess, or any other folder of class folders of images.

    Args:
        split: training, validation, test, held-out (the latter two together) or all. A folder without
            dataset.json is used whole.
        image_size: pixels a side for foreign images; None for their own where it is one of
            IMAGE_SIZES, else 64.

    Raises:
        UserError: no such folder, no class folders with images in it, preprocessing unfinished,
            or an empty split.
    """
    check_choice("--split", split, GROUPS)
    files = _list_images(root)
    manifest = Manifest.read(root)
    if manifest is None:
        spectrogram = SpectrogramConfig.for_image_size(image_size or _own_size(root, files[0]))
        logger.info(
            "%s has no dataset.json: training on all of its images; audio settings are the defaults", root
        )
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
    pixels, damaged = _read_pixels(root, files, spectrogram.n_mels)
    chosen = _rows_of_split(files, manifest, split)
    rows = np.array([row for row in chosen if row not in damaged], dtype=np.int64)
    if not len(rows):
        raise UserError(f"--dataset {root}: no readable image in the split {split}")
    genres = sorted({files[row].genre for row in rows})
    labels = np.array([genres.index(files[row].genre) for row in rows], dtype=np.int64)
    tracks, segments = _places([files[row] for row in rows], known=manifest is not None)
    named_after_source = manifest is not None and manifest.source != "folder"
    name = manifest.source if named_after_source else root.resolve().name
    listing = "\n".join(f"{files[row].genre}/{files[row].name}" for row in rows)
    fingerprint = hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()
    return ImageDataset(name, pixels, rows, labels, genres, tracks, segments, spectrogram, fingerprint)


def _list_images(root: Path) -> list[_ImageFile]:
    if not root.is_dir():
        what = "is a file" if root.exists() else "there is no such folder"
        raise UserError(f"--dataset {root}: {what}; name a folder made by preprocess.py")
    files = []
    for folder in visible_folders(root):
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.lower().endswith(IMAGE_SUFFIXES) and not entry.name.startswith("."):
                    status = entry.stat()
                    stamp = (status.st_size, status.st_mtime_ns)
                    files.append(_ImageFile(folder.name, entry.name, stamp))
    if not files:
        raise UserError(
            f"--dataset {root}: no class folders with images in it; give a folder made by preprocess.py"
        )
    return files


def _own_size(root: Path, file: _ImageFile) -> int:
    try:
        with Image.open(root / file.genre / file.name) as image:
            return image.width if image.width in IMAGE_SIZES else IMAGE_SIZES[0]
    except (OSError, ValueError):
        return IMAGE_SIZES[0]


def _rows_of_split(files: list[_ImageFile], manifest: Manifest | None, split: str) -> list[int]:
    if manifest is None:
        return list(range(len(files)))
    splits = manifest.split_of_track()
    found = [splits.get((file.genre, track_of_image(file.name))) for file in files]
    strangers = sum(value is None for value in found)
    if strangers:
        logger.warning("%d images belong to no track of dataset.json and are left out", strangers)
    return [row for row, value in enumerate(found) if value in GROUPS[split]]


def _places(files: list[_ImageFile], *, known: bool) -> tuple[np.ndarray, np.ndarray]:
    """Track and segment of each image; unless the names are `known` to say so, each is its own track."""
    if not known:
        return np.arange(len(files)), np.zeros(len(files), dtype=np.int64)
    numbers: dict[tuple[str, str], int] = {}
    tracks = [numbers.setdefault((f.genre, track_of_image(f.name)), len(numbers)) for f in files]
    segments = [segment_of_image(f.name) or 0 for f in files]
    return np.array(tracks, dtype=np.int64), np.array(segments, dtype=np.int64)


def _read_pixels(root: Path, files: list[_ImageFile], size: int) -> tuple[np.ndarray, set[int]]:
    """Pixels uint8 (M, size, size) of all files, and the rows of those that could not be read.

    They are kept in a cache file, keyed by the files' names, sizes and times. What was damaged is
    noted beside it, and said again every time.
    """
    key = hashlib.sha256(repr((size, files)).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    cache = root / f".cache-{size}-{key}.npy"
    notes = cache.with_suffix(".json")
    try:
        with one_at_a_time(root / ".cache.lock"):
            if not (cache.is_file() and notes.is_file()):
                for stale in root.glob(f"*.cache-{size}-*"):
                    stale.unlink()
                write_text(notes, json.dumps(_fill_cache(cache, root, files, size)))
            pixels, problems = np.load(cache, mmap_mode="r"), json.loads(notes.read_text("utf-8"))
    except OSError as error:
        logger.warning("no cache in %s (%s): the images are decoded again each time", root, error.strerror)
        pixels = np.empty((len(files), size, size), dtype=np.uint8)
        problems = _decode_all(root, files, pixels)
    return pixels, _report_problems(problems, size, len(files))


def _fill_cache(cache: Path, root: Path, files: list[_ImageFile], size: int) -> dict[str, list]:
    """Decode into a memory-mapped file, so that memory does not grow with the dataset."""
    shape = (len(files), size, size)
    with whole_file(cache) as temporary:
        pixels = np.lib.format.open_memmap(temporary, "w+", dtype=np.uint8, shape=shape)
        reserve(temporary)
        problems = _decode_all(root, files, pixels)
        pixels.flush()
    return problems


def _decode_all(root: Path, files: list[_ImageFile], pixels: np.ndarray) -> dict[str, list]:
    """Fill `pixels`; returns {"damaged": [[row, name, reason]…], "resized": [count]}."""
    size = pixels.shape[1]
    starts = range(0, len(files), IMAGES_PER_TASK)
    tasks = [
        (start, [root / f.genre / f.name for f in files[start : start + IMAGES_PER_TASK]]) for start in starts
    ]
    jobs = -1 if len(files) >= WORTH_PROCESSES else 1
    damaged, changed = [], 0
    with progress_bar(total=len(files), description="Reading images", unit="image") as bar:
        for start, block, failures, resized in in_parallel(partial(_decode_block, size=size), tasks, jobs):
            pixels[start : start + len(block)] = block
            damaged += failures
            changed += resized
            bar.update(len(block))
    return {"damaged": sorted(damaged), "resized": [changed]}


def _decode_block(
    task: tuple[int, list[Path]], *, size: int
) -> tuple[int, np.ndarray, list[tuple[int, str, str]], int]:
    """Decode some files as grey (n, size, size); runs in a worker process."""
    start, paths = task
    block = np.zeros((len(paths), size, size), dtype=np.uint8)
    failures, resized = [], 0
    for offset, path in enumerate(paths):
        try:
            with warnings.catch_warnings(), Image.open(path) as image:
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                if image.mode != "L" or image.size != (size, size):
                    resized += 1
                    image.draft("L", (size, size))
                    grey = image.convert("L").resize((size, size), Image.Resampling.LANCZOS)
                else:
                    grey = image
                block[offset] = np.asarray(grey)
        # Pillow raises all of these for damaged files, and a bomb's error is an Exception of its own.
        except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError) as error:
            failures.append((start + offset, str(path.relative_to(path.parents[1])), str(error)))
    return start, block, failures, resized


def _report_problems(problems: dict[str, list], size: int, total: int) -> set[int]:
    (resized,) = problems["resized"]
    if resized:
        logger.info("%d of %d images were made grey or resized to %dx%d", resized, total, size, size)
    reasons = Counter(name for _, name, _ in problems["damaged"])
    if reasons:
        named = ", ".join(list(reasons)[:DAMAGED_SHOWN]) + (", …" if len(reasons) > DAMAGED_SHOWN else "")
        logger.warning("%d images cannot be read and are left out: %s", len(reasons), named)
    return {row for row, _, _ in problems["damaged"]}
