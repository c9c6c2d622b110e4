"""All images of a folder as one uint8 array, cached on disk and memory-mapped."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from musicspectrogan.audio.images import ImageError, opened_image
from musicspectrogan.counts import format_count
from musicspectrogan.data.parallel import WORKER_DIED, in_parallel
from musicspectrogan.filesystem import allocate_space, atomic_write, file_lock, write_text
from musicspectrogan.progress import progress_bar

logger = logging.getLogger(__name__)

IMAGES_PER_TASK = 512
# With fewer images, starting worker processes takes longer than decoding.
MIN_IMAGES_FOR_PROCESSES = 8 * IMAGES_PER_TASK
DAMAGED_SHOWN, REASONS_SHOWN = 5, 5
# Files whose size and time are part of the cache key, spread over the dataset. Other changes are
# noticed by the modification times of the folders, unless a file is overwritten in place.
FILES_CHECKED = 4096
# Part of the cache key; increased when images are decoded differently.
DECODER_VERSION = 2
_CACHE_NAME = re.compile(r"\.?\.cache-(\d+)-[0-9a-f]{16}\.(npy|json)((\.[0-9a-f]{8})?\.tmp)?")

# TIFF tags, for files in which 0 is white; Pillow supports this for 8 bits only.
_BITS_TAG, _PHOTOMETRIC_TAG, _WHITE_IS_ZERO = 258, 262, 0
# The transposition for each EXIF orientation.
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Pixels = npt.NDArray[np.uint8]
# The row of the first file, and the names of consecutive files.
Task = tuple[int, list[str]]


class Problems(TypedDict):
    """What went wrong while decoding, as stored next to the cache."""

    damaged: list[tuple[int, str, str]]
    """Row, name and reason."""
    resized: int
    """Number of images that were converted to grayscale or resized."""


def is_cache(path: Path, size: int | None = None) -> bool:
    """Return True for a cache file, complete or not, of images of one size or of any size."""
    match = _CACHE_NAME.fullmatch(path.name)
    return match is not None and size in (None, int(match[1])) and not path.is_dir()


def read_pixels(
    root: Path, names: list[str], size: int, remedy: str = ""
) -> tuple[Pixels, set[int]]:
    """Return the pixels of images, and the rows of those that cannot be read.

    Pixels are cached in a file in `root`, keyed by the files' names, sizes and times. Damaged
    images are logged every time.

    Args:
        names: paths below root, with slashes, in the order of the rows.
        size: height and width; images of other sizes are resized.
        remedy: what to do about images that cannot be read, for the log.

    Returns:
        uint8 (M, size, size), memory-mapped: index rows, do not copy the whole array.
    """
    cache = root / f".cache-{size}-{_cache_key(root, names, size)}.npy"
    notes = cache.with_suffix(".json")
    try:
        with file_lock(root / ".cache.lock"):
            cached = _read_cache(cache, notes, len(names), size)
            if cached is None:
                for stale in [path for path in root.glob(".*") if is_cache(path, size)]:
                    stale.unlink(missing_ok=True)
                problems = _decode_all(root, names, size, cache)
                write_text(notes, json.dumps(problems), concurrent=True)
                cached = np.load(cache, mmap_mode="r"), problems
    except OSError as error:  # a read-only folder, possibly with a cache from another user
        cached = _read_cache(cache, notes, len(names), size)
        if cached is None:
            why = error.strerror or error
            logger.warning("no cache in %s (%s): images are decoded each time", root, why)
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                cache = Path(folder) / cache.name
                problems = _decode_all(root, names, size, cache)
                cached = np.load(cache, mmap_mode="r"), problems  # stays mapped after deletion
    pixels, problems = cached
    _log_problems(problems, size, len(names), remedy)
    return pixels, {row for row, _, _ in problems["damaged"]}


def _read_cache(cache: Path, notes: Path, count: int, size: int) -> tuple[Pixels, Problems] | None:
    """Read an earlier run's cache; return None if it does not exist or is damaged."""
    try:
        pixels = np.load(cache, mmap_mode="r")
        problems: Problems = json.loads(notes.read_text("utf-8"))
        valid = pixels.dtype == np.uint8 and pixels.shape == (count, size, size)
        valid = valid and problems["resized"] >= 0
        rows = [row for row, name, _ in problems["damaged"] if isinstance(name, str)]
        if valid and len(rows) == len(problems["damaged"]) and all(0 <= r < count for r in rows):
            return pixels, problems
    except FileNotFoundError:
        return None
    except Exception as error:  # numpy raises errors of any type for damaged files
        logger.debug("%s: %s", cache, error)
    logger.warning("%s is damaged and is recreated", cache)
    return None


def _cache_key(root: Path, names: list[str], size: int) -> str:
    """Return a hash that changes with the contents of the folder."""
    folders = sorted({name.rpartition("/")[0] for name in names})
    checked = names[:: -(-len(names) // FILES_CHECKED)]
    stamps = [_stamp(root / folder)[1:] for folder in folders]
    stamps += [_stamp(root / name) for name in checked]
    contents = "\n".join([str((DECODER_VERSION, size, stamps)), *names])
    return hashlib.sha256(contents.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _stamp(path: Path) -> tuple[int, ...]:
    """Return size and modification time; zeros for a broken link, which is one damaged image."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _decode_all(root: Path, names: list[str], size: int, cache: Path) -> Problems:
    """Write the cache.

    Each task writes its rows through a memory map: memory does not grow with the dataset, and no
    pixels are sent between processes.
    """
    tasks = [
        (start, names[start : start + IMAGES_PER_TASK])
        for start in range(0, len(names), IMAGES_PER_TASK)
    ]
    # On a file system without locks another process may write the same cache.
    with atomic_write(cache, concurrent=True) as temporary:
        shape = (len(names), size, size)
        np.lib.format.open_memmap(temporary, "w+", dtype=np.uint8, shape=shape)
        allocate_space(temporary)
        with progress_bar(total=len(names), description="Reading images", unit="image") as bar:
            decode = partial(_decode, root=root, cache=temporary)
            jobs = -1 if len(names) >= MIN_IMAGES_FOR_PROCESSES else 1
            problems = _decode_tasks(tasks, decode, jobs, bar.update)
    return {"damaged": sorted(problems["damaged"]), "resized": problems["resized"]}


def _decode_tasks(
    tasks: list[Task],
    decode: Callable[[Task], Problems],
    jobs: int,
    update: Callable[[int], object] | None = None,
) -> Problems:

    def decode_singly(task: Task) -> Problems:
        """Decode a task that killed its worker, except for the image that did."""
        start, names = task
        if len(names) == 1:
            return {"damaged": [(start, names[0], WORKER_DIED)], "resized": 0}
        singles = [(row, [name]) for row, name in enumerate(names, start)]
        return _decode_tasks(singles, decode, jobs)

    remaining = sum(len(names) for _, names in tasks)
    total: Problems = {"damaged": [], "resized": 0}
    for problems in in_parallel(decode, tasks, on_death=decode_singly, jobs=jobs):
        total["damaged"] += problems["damaged"]
        total["resized"] += problems["resized"]
        if update is not None:
            done = min(IMAGES_PER_TASK, remaining)
            remaining -= done
            update(done)
    return total


def _decode(task: Task, *, root: Path, cache: Path) -> Problems:
    """Decode some files into their rows of the cache; runs in a worker process."""
    start, names = task
    pixels = np.load(cache, mmap_mode="r+")
    size = pixels.shape[1]
    problems: Problems = {"damaged": [], "resized": 0}
    for row, name in enumerate(names, start):
        try:
            with opened_image(root / name) as image:
                changed = image.mode != "L" or image.size != (size, size)
                image.draft("L", (size, size))
                gray = to_grayscale(image)
                if gray.size != (size, size):
                    gray = gray.resize((size, size), Image.Resampling.LANCZOS)
                pixels[row] = np.asarray(gray)
                problems["resized"] += changed
        except ImageError as error:
            problems["damaged"].append((row, name, str(error)))
    return problems


def _log_problems(problems: Problems, size: int, total: int, remedy: str) -> None:
    if count := problems["resized"]:
        logger.info(
            "Converted %d of %s to grayscale or resized to %dx%d",
            count,
            format_count(total, "image"),
            size,
            size,
        )
    damaged = [name for _, name, _ in problems["damaged"]]
    if damaged:
        shown = ", ".join(damaged[:DAMAGED_SHOWN]) + (", …" if len(damaged) > DAMAGED_SHOWN else "")
        logger.warning(
            "Left out %s that cannot be read: %s%s",
            format_count(len(damaged), "image"),
            shown,
            f"; {remedy}" if remedy else "",
        )
        reasons = Counter(reason for *_, reason in problems["damaged"])
        for reason, count in reasons.most_common(REASONS_SHOWN):
            logger.warning("  %d: %s", count, reason)


def to_grayscale(image: Image.Image) -> Image.Image:
    """Convert an image to 8-bit grayscale (mode L).

    Colors become their Rec. 601 luma, 16 bits are scaled to 8, and transparent pixels are black,
    which is silence in a spectrogram. The EXIF orientation is applied. Of several frames or pages,
    the first is used.

    Raises:
        ImageError: the file does not define which value is white (floating point, 32-bit integers),
            or its color space is not supported (LAB).
    """
    image.load()
    gray = _drop_color(image)
    turn = _TRANSPOSITIONS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return gray if turn is None else gray.transpose(turn)


def _drop_color(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return _scale_16_bits(image)
    if image.mode in ("I", "F"):
        kind = "floating-point" if image.mode == "F" else "32-bit integer"
        raise ImageError(
            f"{kind} pixels (mode {image.mode}) do not define which value is white; "
            "save the image with 8 or 16 bits"
        )
    if image.mode == "LAB":
        raise ImageError("its colors are CIELAB (mode LAB); save it as grayscale or RGB")
    if image.has_transparency_data:
        unmultiplied = {"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)
        colors = image.convert(unmultiplied).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), colors)
    return image if image.mode == "L" else image.convert("RGB").convert("L")


def _scale_16_bits(image: Image.Image) -> Image.Image:
    """Scale 65535 to white, or 4095 in a TIFF of 12 bits."""
    values = np.asarray(image).astype(np.float32)
    values[values == image.info.get("transparency")] = 0.0
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS_TAG, 16)
    white = 2 ** (bits if isinstance(bits, int) else bits[0]) - 1
    scaled = np.clip(np.rint(values * (255.0 / white)), 0, 255).astype(np.uint8)
    return Image.fromarray(255 - scaled if tags.get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO else scaled)
