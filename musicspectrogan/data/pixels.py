"""All images of a folder as one uint8 array: decoded once on all cores, memory-mapped from then on."""

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
from typing import Any

import numpy as np
from PIL import Image

from musicspectrogan.audio.images import ImageError, opened_image
from musicspectrogan.data.grey import as_grey
from musicspectrogan.data.parallel import LOST, in_parallel
from musicspectrogan.filesystem import one_at_a_time, reserve, whole_file, write_text
from musicspectrogan.progress import progress_bar

logger = logging.getLogger(__name__)

IMAGES_PER_TASK = 512
# Below this many images, starting worker processes takes longer than decoding.
WORTH_PROCESSES = 8 * IMAGES_PER_TASK
DAMAGED_SHOWN, REASONS_SHOWN = 5, 5
# Files whose size and time are looked at to tell whether the cache is stale. In a larger set they are spread
# over it: whoever replaces a few of its files without adding or removing one is noticed by the folder's time,
# and if they are written in place, when one of these is among them.
FILES_STAMPED = 4096
# Part of the key: what earlier versions read otherwise (pictures of 16 bits) is read anew.
READING = 2
_CACHE_NAME = re.compile(r"\.?\.cache-(\d+)-[0-9a-f]{16}\.(npy|json)((\.[0-9a-f]{8})?\.tmp)?")


def is_cache(path: Path, size: int | None = None) -> bool:
    """Whether this is a cache in a dataset root, of images of one size or of any, whole or unfinished."""
    match = _CACHE_NAME.fullmatch(path.name)
    return match is not None and size in (None, int(match[1])) and not path.is_dir()


def read_pixels(
    root: Path, names: list[str], size: int, remedy: str = ""
) -> tuple[np.ndarray, set[int]]:
    """Grey pixels of images, and the rows of those that cannot be read.

    They are kept in a cache file in `root`, keyed by the files' names, sizes and times. What was damaged is
    noted beside it, and said again every time.

    Args:
        names: paths below root, with slashes, in the order of the rows.
        size: pixels a side; images of other sizes are resized.
        remedy: what to do about those that cannot be read.

    Returns:
        uint8 (M, size, size), memory-mapped: take rows, never all of it.
    """
    cache = root / f".cache-{size}-{_key(root, names, size)}.npy"
    notes = cache.with_suffix(".json")
    try:
        with one_at_a_time(root / ".cache.lock"):
            cached = _read_cache(cache, notes, len(names), size)
            if cached is None:
                for stale in [path for path in root.glob(".*") if is_cache(path, size)]:
                    stale.unlink(missing_ok=True)
                write_text(notes, json.dumps(_decode_all(root, names, size, cache)), rivals=True)
                cached = np.load(cache, mmap_mode="r"), json.loads(notes.read_text("utf-8"))
    except OSError as error:
        cached = _read_cache(
            cache, notes, len(names), size
        )  # somebody else's, in a read-only folder
        if cached is None:
            why = error.strerror or error
            logger.warning("no cache in %s (%s): the images are decoded again each time", root, why)
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                cache = Path(folder) / cache.name
                problems = _decode_all(root, names, size, cache)
                cached = (
                    np.load(cache, mmap_mode="r"),
                    problems,
                )  # what is mapped stays without its name
    pixels, problems = cached
    return pixels, _report_problems(problems, size, len(names), remedy)


def _read_cache(
    cache: Path, notes: Path, count: int, size: int
) -> tuple[np.ndarray, dict[str, Any]] | None:
    """What an earlier run left; None where there is nothing, or it is damaged."""
    try:
        pixels, problems = np.load(cache, mmap_mode="r"), json.loads(notes.read_text("utf-8"))
        sound = (
            pixels.dtype == np.uint8
            and pixels.shape == (count, size, size)
            and problems["resized"] >= 0
        )
        if sound and all(
            0 <= row < count and isinstance(name, str) for row, name, _ in problems["damaged"]
        ):
            return pixels, problems
    except FileNotFoundError:
        return None
    except Exception as error:  # damaged bytes lead numpy's reader into errors of any kind
        logger.debug("%s: %s", cache, error)
    logger.warning("%s is damaged and made anew", cache)
    return None


def _key(root: Path, names: list[str], size: int) -> str:
    """A hash of what tells one state of the folder from another."""
    folders = sorted({name.rpartition("/")[0] for name in names})
    stamped = names[:: -(-len(names) // FILES_STAMPED)]
    stamps = [_stamp(root / folder)[1:] for folder in folders] + [
        _stamp(root / name) for name in stamped
    ]
    contents = "\n".join([str((READING, size, stamps)), *names])
    return hashlib.sha256(contents.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _stamp(path: Path) -> tuple[int, int]:
    """Size and modification time; zeros for a link that leads nowhere, which is one more damaged image."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _decode_all(root: Path, names: list[str], size: int, cache: Path) -> dict[str, Any]:
    """Write the cache; returns {"damaged": [[row, name, reason]…], "resized": count}.

    Each task writes its own rows through a memory map, so memory does not grow with the dataset, and no
    pixels pass from process to process.
    """
    tasks = [
        (start, names[start : start + IMAGES_PER_TASK])
        for start in range(0, len(names), IMAGES_PER_TASK)
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
                changed = image.mode != "L" or image.size != (size, size)
                image.draft("L", (size, size))
                grey = as_grey(image)
                if grey.size != (size, size):
                    grey = grey.resize((size, size), Image.Resampling.LANCZOS)
                pixels[row] = np.asarray(grey)
                resized += changed
        except ImageError as error:
            failures.append((row, name, str(error)))
    return len(names), failures, resized


def _report_problems(problems: dict[str, Any], size: int, total: int, remedy: str) -> set[int]:
    if problems["resized"]:
        logger.info(
            "%d of %d images were made grey or resized to %dx%d",
            problems["resized"],
            total,
            size,
            size,
        )
    damaged = [name for _, name, _ in problems["damaged"]]
    if damaged:
        named = ", ".join(damaged[:DAMAGED_SHOWN]) + (", …" if len(damaged) > DAMAGED_SHOWN else "")
        reasons = Counter(reason for *_, reason in problems["damaged"]).most_common(REASONS_SHOWN)
        logger.warning(
            "%d images cannot be read and are left out: %s%s",
            len(damaged),
            named,
            f"; {remedy}" if remedy else "",
        )
        for reason, count in reasons:
            logger.warning("  %d: %s", count, reason)
    return {row for row, _, _ in problems["damaged"]}
