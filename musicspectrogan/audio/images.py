"""Spectrogram images as PNG files, with their settings in text chunks."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile

from musicspectrogan.audio.png import PNG_END, encode_png
from musicspectrogan.audio.spectrogram import IMAGE_SIZES, LARGEST, SpectrogramConfig
from musicspectrogan.config import from_plain
from musicspectrogan.errors import UserError, printable
from musicspectrogan.filesystem import atomic_write

logger = logging.getLogger(__name__)

# Formats read as images, whatever the file's suffix. Pillow knows forty more, and runs other
# programs for some of them.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM", "GIF")

# Maximum digits of a segment number.
SEGMENT_DIGITS = 9

# Maximum frames times Fourier bins to invert, at about 50 bytes each: three hours at the default
# settings. A highly compressed PNG could hold far more.
MAX_BINS = 2**28


class ImageError(Exception):
    """The file cannot be read as an image; the text is the reason."""


@contextmanager
def opened_image(path: Path, formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """Open an image file, without decoding it, and with Pillow's limit on its pixels.

    Raises:
        ImageError: anything wrong with the file, also if the `with` block decodes it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that are read nevertheless
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=formats) as image:
                yield image
    except (UserError, ImageError):
        raise
    except UnidentifiedImageError:
        raise ImageError("no picture of a known format") from None
    except Exception as error:  # Pillow raises errors of any type for damaged files
        raise ImageError(f"{type(error).__name__}: {error}") from None


def image_name(track_id: str, segment: int) -> str:
    """File name of a track's segment."""
    return f"{track_id}_{segment:03d}.png"


def track_of_image(name: str) -> str:
    """Track id in a file name from `image_name`."""
    return name.rpartition("_")[0]


def segment_of_image(name: str) -> int | None:
    """Segment number in a file name from `image_name`; None for other names."""
    number = name.rpartition(".")[0].rpartition("_")[2]
    is_number = number.isascii() and number.isdigit() and len(number) <= SEGMENT_DIGITS
    return int(number) if is_number else None


def write_image(
    path: Path,
    image: npt.NDArray[np.uint8],
    config: SpectrogramConfig,
    *,
    concurrent: bool = False,
    **text: str,
) -> None:
    """Write (n_mels, T) as a greyscale PNG, atomically but without syncing it to disk.

    Args:
        concurrent: see `atomic_write`.
        text: more text chunks, such as genre, track and reference_db. The chunk `spectrogram` holds
            the settings as JSON.
    """
    chunks = {"spectrogram": _to_json(config)}
    chunks |= {name: printable(value) for name, value in text.items()}
    with atomic_write(path, flush=False, concurrent=concurrent) as temporary:
        temporary.write_bytes(encode_png(image, chunks))


def ends_whole(path: str | Path) -> bool:
    """Whether a file ends as a PNG does: a quick check that it is not empty or truncated."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            os.lseek(descriptor, -len(PNG_END), os.SEEK_END)
            return os.read(descriptor, len(PNG_END)) == PNG_END
        finally:
            os.close(descriptor)
    except OSError:
        return False


@lru_cache(maxsize=8)
def _to_json(config: SpectrogramConfig) -> str:
    return json.dumps(asdict(config))


def read_image(
    path: Path, fallback: SpectrogramConfig | None = None
) -> tuple[npt.NDArray[np.uint8], SpectrogramConfig]:
    """Read a spectrogram PNG (n_mels, T) and its settings.

    Args:
        fallback: settings of an image without any; None for the defaults at its height.

    Raises:
        UserError: it cannot be read, or is no spectrogram.
    """
    try:
        with opened_image(path, formats=("PNG",)) as image:
            mode, (width, height) = image.mode, image.size
            no_spectrogram = (
                f"{path}: is no spectrogram, but an image of {width}x{height} pixels, mode {mode}; "
                "give a PNG that this tool wrote"
            )
            if mode != "L" or height > LARGEST["n_mels"]:
                raise UserError(no_spectrogram)
            assert isinstance(image, PngImageFile)
            written, pixels = image.text.get("spectrogram"), np.array(image)
    except ImageError as error:
        raise UserError(
            f"{path}: cannot be read as an image ({error}); give a PNG that this tool wrote"
        ) from None
    if written is not None:
        try:
            config = from_plain(SpectrogramConfig, json.loads(written))
        except (ValueError, RecursionError, UserError):
            raise UserError(f"{path}: its settings are damaged; make it again") from None
    elif fallback is not None:
        config = fallback
    elif len(pixels) in IMAGE_SIZES:
        logger.warning("%s does not say how it was made; using the default settings", path)
        config = SpectrogramConfig.for_image_size(len(pixels))
    else:
        raise UserError(no_spectrogram)
    if len(pixels) != config.n_mels:
        raise UserError(
            f"{path}: has {len(pixels)} rows, not the {config.n_mels} mel bands of its settings"
        )
    check_frames(width, config, path)
    return pixels, config


def check_frames(frames: int, config: SpectrogramConfig, what: object) -> None:
    """Raise UserError if inverting this many frames would take too much memory."""
    if frames * (1 + config.n_fft // 2) > MAX_BINS:
        raise UserError(f"{what}: {frames} frames are too many to invert; cut it into pieces")
