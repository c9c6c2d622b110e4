"""Convert one track to images and a line of the report; runs in the worker processes."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import sys
import traceback
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from musicspectrogan.audio.files import AudioError, load
from musicspectrogan.audio.images import image_name, write_image
from musicspectrogan.audio.spectrogram import SpectrogramConfig, cut_images, encode
from musicspectrogan.data.archives import local_file
from musicspectrogan.data.credits import Credit, read_credit
from musicspectrogan.data.manifest import CONVERTED, SKIPPED, Outcome
from musicspectrogan.data.output import is_own_image
from musicspectrogan.data.sources import Track
from musicspectrogan.errors import DISK_FULL, UserError, printable
from musicspectrogan.filesystem import sync_files

logger = logging.getLogger(__name__)

# Errors of a file system that concern one file name only.
NAME_ERRORS = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EISDIR, errno.ENOTDIR)

# No sample above -80 dBFS.
SILENCE = 10.0 ** (-80.0 / 20.0)

# glibc's mallopt: numbers of two parameters, and the most of freed memory that a worker keeps. The
# samples of two hours are larger than one block may be, and go back to the system at once.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES, _LARGEST_KEPT_BLOCK = 64 << 20, 32 << 20


class Conversion(NamedTuple):
    """What is known about a track after its conversion."""

    outcome: Outcome
    credit: Credit | None = None
    """From the tags of the file; None if they were not read."""


def convert_track(
    track: Track,
    output: Path,
    config: SpectrogramConfig,
    *,
    sync: bool,
    scratch: Path | None = None,
) -> Conversion:
    """Decode one track and write its spectrogram images.

    An error skips this track only and becomes the reason in the report. Errors that concern the
    whole output, such as a full disk, are raised.

    Args:
        sync: wait until the images are on the disk. Otherwise the caller must sync them before
            adding the outcome to the report.
        scratch: folder for files taken out of an archive; None for the system's.
    """
    _keep_freed_memory()
    try:
        with local_file(track.path, scratch) as path:
            images, seconds, reference_db, warning = _encode_track(path, config)
            credit = read_credit(path) if track.credit is None else None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise
        return Conversion(_skip(track, error))
    paths = {segment: output / track.genre / image_name(track.id, segment) for segment in images}
    try:
        _check_replaceable(paths.values(), track)
        text = {"genre": track.genre, "track": track.id, "reference_db": f"{reference_db:.4f}"}
        for segment, image in images.items():
            write_image(paths[segment], image, config, concurrent=True, **text)
        if sync:
            sync_files(paths.values())
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in NAME_ERRORS:
            raise
        for path in paths.values():
            if is_own_image(path, track.id):
                path.unlink()
        return Conversion(_skip(track, error))
    outcome = make_outcome(
        track,
        CONVERTED,
        warning,
        track.known_fault,
        segments=len(images),
        seconds=seconds,
        reference_db=reference_db,
    )
    return Conversion(outcome, credit)


@cache
def _keep_freed_memory() -> None:
    """Reuse freed memory for the next clip, on Linux.

    Otherwise each clip's samples are in new pages, and clearing those takes as long as decoding.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # no dynamic libraries, or not glibc
            libc = ctypes.CDLL(None)
            libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
            libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BLOCK)


def _skip(track: Track, error: Exception) -> Outcome:
    return make_outcome(track, SKIPPED, _describe(error, track), track.known_fault)


def _encode_track(
    path: Path, config: SpectrogramConfig
) -> tuple[dict[int, npt.NDArray[np.uint8]], float, float, str]:
    """Return images uint8 (n_mels, T) by segment, seconds, reference_db, and a warning.

    Raises:
        AudioError: there is no image to make.
    """
    audio = load(path, config.sample_rate)
    seconds = len(audio.samples) / config.sample_rate
    if 1 + len(audio.samples) // config.hop_length < config.n_frames:
        raise AudioError(
            f"{seconds:.1f} s are shorter than one image of {config.image_seconds:.1f} s"
        )
    if audio.peak <= SILENCE:
        raise AudioError("silent: no sample above -80 dBFS")
    gray, reference_db = encode(audio.samples, config)
    images = {k: image for k, image in enumerate(cut_images(gray, config)) if image.any()}
    if not images:
        raise AudioError("all images would be black")
    return images, round(seconds, 3), round(reference_db, 4), audio.warning


def _check_replaceable(paths: Iterable[Path], track: Track) -> None:
    """Raise UserError if a path exists and is not an image of this track."""
    for path in paths:
        if os.path.lexists(path) and not is_own_image(path, track.id):
            raise UserError(f"{path.name} exists and is not from preprocess; move it away")


def _describe(error: Exception, track: Track) -> str:
    """Return why a track was not converted, with the source line of an unexpected error."""
    if isinstance(error, AudioError | UserError):
        return str(error)
    if isinstance(error, MemoryError):
        return "not enough memory for it; cut it into pieces"
    if isinstance(error, OSError):
        return f"{type(error).__name__}: {error.strerror or error}"
    logger.debug("%s: %s", track.path, traceback.format_exc())
    frame = traceback.extract_tb(error.__traceback__)[-1]
    line = f"{Path(frame.filename).name}:{frame.lineno}"
    return f"{type(error).__name__} at {line}: {error} (a bug of this tool; please report it)"


def make_outcome(
    track: Track,
    status: str,
    *reasons: str,
    segments: int = 0,
    seconds: float = 0.0,
    reference_db: float = 0.0,
) -> Outcome:
    """Return the line of the report about a track."""
    return Outcome(
        track=track.id,
        genre=track.genre,
        split=track.split,
        status=status,
        reason=_one_line("; ".join(filter(None, reasons))),
        segments=segments,
        seconds=seconds,
        reference_db=reference_db,
        path=_one_line(track.relative_path or track.path.name),
    )


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))
