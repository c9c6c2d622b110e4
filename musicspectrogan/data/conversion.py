"""One track -> its images and a line for the report; what the worker processes run."""

from __future__ import annotations

import errno
import logging
import os
import traceback
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from musicspectrogan.audio.files import AudioError, load
from musicspectrogan.audio.images import image_name, write_image
from musicspectrogan.audio.spectrogram import SpectrogramConfig, cut_images, encode
from musicspectrogan.data.manifest import CONVERTED, SKIPPED, Outcome
from musicspectrogan.data.ownership import is_own_image
from musicspectrogan.data.sources import Track
from musicspectrogan.errors import UserError, printable
from musicspectrogan.filesystem import sync_files

logger = logging.getLogger(__name__)

# What a file system says of a name that it does not take, and not of all that is written to it.
NAME_REFUSED = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EISDIR, errno.ENOTDIR)

# No sample above -80 dBFS.
SILENCE = 10.0 ** (-80.0 / 20.0)


def convert_track(track: Track, output: Path, config: SpectrogramConfig, *, sync: bool) -> Outcome:
    """Decode, encode, cut and write one track; runs in a worker process.

    Whatever goes wrong with it costs this track alone, and is its reason in the report. What concerns the
    output as a whole, such as a full disk, is raised.

    Args:
        sync: wait until the images are on the disk. Without it, that is for the caller to do before the
            report names them.
    """
    try:
        images, measured, warning = _images_of(track, config)
    except Exception as error:
        return outcome_of(track, SKIPPED, _joined(_reason(error, track), track.known_fault))
    paths = {segment: output / track.genre / image_name(track.id, segment) for segment in images}
    try:
        _refuse_to_replace(paths.values(), track)
        text = {
            "genre": track.genre,
            "track": track.id,
            "reference_db": f"{measured['reference_db']:.4f}",
        }
        for segment, image in images.items():
            write_image(paths[segment], image, config, rivals=True, **text)
        if sync:
            sync_files(paths.values())
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in NAME_REFUSED:
            raise
        for path in paths.values():
            if is_own_image(path, track.id):
                path.unlink()
        return outcome_of(track, SKIPPED, _joined(_reason(error, track), track.known_fault))
    return outcome_of(
        track, CONVERTED, _joined(warning, track.known_fault), segments=len(images), **measured
    )


def _images_of(
    track: Track, config: SpectrogramConfig
) -> tuple[dict[int, np.ndarray], dict[str, float], str]:
    """The images uint8 (n_mels, T) by their segments, seconds and reference_db, and a warning.

    Raises:
        AudioError: there is no image to be had.
    """
    audio = load(track.path, config.sample_rate)
    seconds = len(audio.samples) / config.sample_rate
    if 1 + len(audio.samples) // config.hop_length < config.n_frames:
        raise AudioError(
            f"{seconds:.1f} s are shorter than one image of {config.image_seconds:.1f} s"
        )
    if audio.peak <= SILENCE:
        raise AudioError("silent: no sample above -80 dBFS")
    grey, reference_db = encode(audio.samples, config)
    images = {k: image for k, image in enumerate(cut_images(grey, config)) if image.any()}
    if not images:
        raise AudioError("all images would be black")
    measured = {"seconds": round(seconds, 3), "reference_db": round(reference_db, 4)}
    return images, measured, audio.warning


def _refuse_to_replace(paths: Iterable[Path], track: Track) -> None:
    """Raise UserError where a file that is none of this track's images has the name of one."""
    for path in paths:
        if os.path.lexists(path) and not is_own_image(path, track.id):
            raise UserError(f"{path.name} is there and not of preprocess; move it away")


def _reason(error: Exception, track: Track) -> str:
    """Why a track was not converted. What nobody foresaw is named with its place, for a report of the bug."""
    if isinstance(error, AudioError | UserError):
        return str(error)
    if isinstance(error, MemoryError):
        return "not enough memory for it; cut it into pieces"
    if isinstance(error, OSError):
        return f"{type(error).__name__}: {error.strerror or error}"
    logger.debug("%s: %s", track.path, traceback.format_exc())
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return f"{type(error).__name__} at {where}: {error} (a bug of this tool; please report it)"


def outcome_of(track: Track, status: str, reason: str, **measured: float) -> Outcome:
    """The report's line about a track; `measured` are its segments, seconds and reference_db."""
    return Outcome(
        track=track.id,
        genre=track.genre,
        split=track.split,
        status=status,
        reason=_one_line(reason),
        **{"segments": 0, "seconds": 0.0, "reference_db": 0.0, **measured},
        path=_one_line(track.name or track.path.name),
    )


def _one_line(text: str) -> str:
    """Printable text without line breaks: the report is read back line by line."""
    return printable(" ".join(text.split()))


def _joined(*reasons: str) -> str:
    return "; ".join(reason for reason in reasons if reason)
