"""All images of a folder as one uint8 array: decoded once on all cores, memory-mapped from then on."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from musicspectrogan.audio.images import ImageError, opened_image
from musicspectrogan.data.parallel import LOST, in_parallel
from musicspectrogan.filesystem import one_at_a_time, reserve, visible_folders, whole_file, write_text
from musicspectrogan.progress import progress_bar

logger = logging.getLogger(__name__)

IMAGES_PER_TASK = 512
# Below this many images, starting worker processes takes longer than decoding.
WORTH_PROCESSES = 8 * IMAGES_PER_TASK
DAMAGED_SHOWN = 5
# Files whose size and time are looked at to tell whether the cache is stale. In a larger set they are spread
# over it: whoever replaces a few of its files without adding or removing one is noticed by the folder's time,
# and if they are written in place, when one of these is among them.
FILES_STAMPED = 4096


def read_pixels(root: Path, names: list[str], size: int) -> tuple[np.ndarray, set[int]]:
    """Grey pixels of images, and the rows of those that cannot be read.

    They are kept in a cache file in `root`, keyed by the files' names, sizes and times. What was damaged is
    noted beside it, and said again every time.

    Args:
        names: `<genre>/<file>` below root, in the order of the rows.
        size: pixels a side; images of other sizes are resized.

    Returns:
        uint8 (M, size, size), memory-mapped: take rows, never all of it.
    """
    cache = root / f".cache-{size}-{_key(root, names, size)}.npy"
    notes = cache.with_suffix(".json")
    try:
        with one_at_a_time(root / ".cache.lock"):
            cached = _read_cache(cache, notes, len(names), size)
            if cached is None:
                for stale in root.glob(f"*.cache-{size}-*"):
                    stale.unlink(missing_ok=True)
                write_text(notes, json.dumps(_decode_all(root, names, size, cache)), rivals=True)
                cached = np.load(cache, mmap_mode="r"), json.loads(notes.read_text("utf-8"))
    except OSError as error:
        cached = _read_cache(cache, notes, len(names), size)  # somebody else's, in a read-only folder
        if cached is None:
            why = error.strerror or error
            logger.warning("no cache in %s (%s): the images are decoded again each time", root, why)
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                cache = Path(folder) / cache.name
                problems = _decode_all(root, names, size, cache)
                cached = np.load(cache, mmap_mode="r"), problems  # what is mapped stays without its name
    pixels, problems = cached
    return pixels, _report_problems(problems, size, len(names))


def _read_cache(cache: Path, notes: Path, count: int, size: int) -> tuple[np.ndarray, dict[str, Any]] | None:
    """What an earlier run left; None where there is nothing, or it is damaged."""
    try:
        pixels, problems = np.load(cache, mmap_mode="r"), json.loads(notes.read_text("utf-8"))
        sound = pixels.dtype == np.uint8 and pixels.shape == (count, size, size) and problems["resized"] >= 0
        if sound and all(0 <= row < count and isinstance(name, str) for row, name, _ in problems["damaged"]):
            return pixels, problems
    except FileNotFoundError:
        return None
    except Exception as error:  # damaged bytes lead numpy's reader into errors of any kind
        logger.debug("%s: %s", cache, error)
    logger.warning("%s is damaged and made anew", cache)
    return None


def _key(root: Path, names: list[str], size: int) -> str:
    """A hash of what tells one state of the folder from another."""
    stamps = [folder.stat().st_mtime_ns for folder in visible_folders(root)]
    for position in range(0, len(names), -(-len(names) // FILES_STAMPED)):
        status = (root / names[position]).stat()
        stamps += [status.st_size, status.st_mtime_ns]
    contents = "\n".join([str((size, stamps)), *names])
    return hashlib.sha256(contents.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _decode_all(root: Path, names: list[str], size: int, cache: Path) -> dict[str, Any]:
    """Write the cache; returns {"damaged": [[row, name, reason]…], "resized": count}.

    Each task writes its own rows through a memory map, so memory does not grow with the dataset, and no
    pixels pass from process to process.
    """
    tasks = [
        (start, names[start : start + IMAGES_PER_TASK]) for start in range(0, len(names), IMAGES_PER_TASK)
    ]
    jobs = -1 if len(names) >= WORTH_PROCESSES else 1
    damaged, resized = [], 0
    # Where there are no locks, others may be at it too; what a kill leaves goes with the stale ones.
    with whole_file(cache, rivals=True) as temporary:
        shape = (len(names), size, size)
        np.lib.format.open_memmap(temporary, "w+", dtype=np.uint8, shape=shape)
        reserve(temporary)
        with progress_bar(total=len(names), description="Reading images", unit="image") as bar:
            decode = partial(_decode_some, root=root, cache=temporary)
            lost = partial(_decode_rest, decode=decode, jobs=jobs)
            for count, failures, changed in in_parallel(decode, tasks, lost=lost, jobs=jobs):
                damaged += failures
                resized += changed
                bar.update(count)
    return {"damaged": sorted(damaged), "resized": resized}


# The row of the first, and the names of some consecutive files.
Task = tuple[int, list[str]]
# Files looked at, (row, name, reason) of those that cannot be read, and how many were changed.
Decoded = tuple[int, list[tuple[int, str, str]], int]


def _decode_rest(task: Task, *, decode: Callable[[Task], Decoded], jobs: int) -> Decoded:
    """What can be had of a task that a worker died over: all but the image that killed it."""
    start, names = task
    if len(names) == 1:
        return 1, [(start, names[0], LOST)], 0
    singles = [(row, [name]) for row, name in enumerate(names, start)]
    lost = partial(_decode_rest, decode=decode, jobs=jobs)
    damaged, resized = [], 0
    for _, failures, changed in in_parallel(decode, singles, lost=lost, jobs=jobs):
        damaged += failures
        resized += changed
    return len(names), damaged, resized


def _decode_some(task: Task, *, root: Path, cache: Path) -> Decoded:
    """Decode some files as grey into their rows of the cache; runs in a worker process."""
    start, names = task
    pixels = np.load(cache, mmap_mode="r+")
    size = pixels.shape[1]
    failures, resized = [], 0
    for row, name in enumerate(names, start):
        try:
            with opened_image(root / name) as image:
                if image.mode != "L" or image.size != (size, size):
                    resized += 1
                    image.draft("L", (size, size))
                    grey = image.convert("L").resize((size, size), Image.Resampling.LANCZOS)
                else:
                    grey = image
                pixels[row] = np.asarray(grey)
        except ImageError as error:
            failures.append((row, name, str(error)))
    return len(names), failures, resized


def _report_problems(problems: dict[str, Any], size: int, total: int) -> set[int]:
    if problems["resized"]:
        logger.info(
            "%d of %d images were made grey or resized to %dx%d", problems["resized"], total, size, size
        )
    damaged = [name for _, name, _ in problems["damaged"]]
    if damaged:
        named = ", ".join(damaged[:DAMAGED_SHOWN]) + (", …" if len(damaged) > DAMAGED_SHOWN else "")
        logger.warning(
            "%d images cannot be read and are left out: %s; delete them and preprocess again for new ones",
            len(damaged),
            named,
        )
    return {row for row, _, _ in problems["damaged"]}
