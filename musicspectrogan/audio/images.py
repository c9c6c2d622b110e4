"""One spectrogram image as a PNG that says in its own text chunks what it shows."""

from __future__ import annotations

import json
import logging
import os
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from musicspectrogan.audio.spectrogram import IMAGE_SIZES, LARGEST, SpectrogramConfig
from musicspectrogan.config import from_plain
from musicspectrogan.errors import UserError, printable
from musicspectrogan.filesystem import whole_file

logger = logging.getLogger(__name__)

# What is read as an image, whatever the file is called. Pillow knows forty formats more, and starts other
# programs for some of them.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM", "GIF")

# The last chunk of every PNG.
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"

# Digits of a segment's number: a track of 10 ** 9 segments would last a century.
MOST_DIGITS = 9

# Frames times Fourier bins of the most that is made into sound at a time, where each takes some 50 bytes:
# three hours at the usual settings. The PNG of it may be a thousandth of that.
MOST_BINS = 2**28


class ImageError(Exception):
    """This file gives no image; the text is the reason, fit for a report."""


@contextmanager
def opened_image(path: Path, formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """Yield an image file of no more pixels than Pillow thinks safe; what it shows is not decoded yet.

    Raises:
        ImageError: for anything that is wrong with the file, also while the block decodes it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about oddities of a file that is read all the same
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=formats) as image:
                yield image
    except (UserError, ImageError):
        raise
    except UnidentifiedImageError:
        raise ImageError("no picture of a known format") from None
    except Exception as error:  # damaged bytes lead Pillow's readers into errors of any kind
        raise ImageError(f"{type(error).__name__}: {error}") from None


def image_name(track_id: str, segment: int) -> str:
    """File name of a track's image number `segment`."""
    return f"{track_id}_{segment:03d}.png"


def track_of_image(name: str) -> str:
    """The track id in such a file name."""
    return name.rpartition("_")[0]


def segment_of_image(name: str) -> int | None:
    """The segment's number in such a file name; None for another name."""
    number = name.rpartition(".")[0].rpartition("_")[2]
    return (
        int(number)
        if number.isascii() and number.isdigit() and len(number) <= MOST_DIGITS
        else None
    )


def write_image(
    path: Path, image: np.ndarray, config: SpectrogramConfig, *, rivals: bool = False, **text: str
) -> None:
    """Write uint8 (n_mels, T) as a grey PNG, whole or not at all.

    Text chunks: `spectrogram` (the settings as JSON), and each of `text` under its name, such as
    genre, track and reference_db. For `rivals` see `whole_file`. It is for the caller to sync.
    """
    chunks = PngInfo()
    chunks.add_text("spectrogram", _as_text(config))
    for name, value in text.items():
        chunks.add_itxt(name, printable(value))
    with whole_file(path, flush=False, rivals=rivals) as temporary:
        # Run lengths and Huffman codes alone: twice as fast as zlib's default, files 2 % larger.
        Image.fromarray(image).save(
            temporary, format="PNG", pnginfo=chunks, compress_type=zlib.Z_RLE
        )


def ends_whole(path: str | Path) -> bool:
    """Whether a file ends as a PNG does. One that is empty or was cut short does not.

    This takes 6 us a file, where decoding it takes 100.
    """
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
def _as_text(config: SpectrogramConfig) -> str:
    return json.dumps(asdict(config))


def read_image(
    path: Path, fallback: SpectrogramConfig | None = None
) -> tuple[np.ndarray, SpectrogramConfig]:
    """A spectrogram PNG as uint8 (n_mels, T), and the settings that it was made with.

    Args:
        fallback: for an image that does not say; None for the defaults at its height.

    Raises:
        UserError: it cannot be read, or is no spectrogram.
    """
    try:
        with opened_image(path, formats=("PNG",)) as image:
            mode, (width, height) = image.mode, image.size
            no_spectrogram = (
                f"{path}: is no spectrogram of this tool, but a {mode} image of {height, width}"
            )
            if mode != "L" or height > LARGEST["n_mels"]:
                raise UserError(no_spectrogram)
            written, pixels = image.text.get("spectrogram"), np.array(image)
    except ImageError:
        raise UserError(f"{path}: cannot be read as an image") from None
    if written is not None:
        try:
            config = from_plain(SpectrogramConfig, json.loads(written))
        except (ValueError, RecursionError, UserError):
            raise UserError(f"{path}: its settings are damaged; make it again") from None
    elif fallback is not None:
        config = fallback
    elif len(pixels) in IMAGE_SIZES:
        logger.warning("%s does not say how it was made; taking the default settings", path)
        config = SpectrogramConfig.for_image_size(len(pixels))
    else:
        raise UserError(no_spectrogram)
    if len(pixels) != config.n_mels:
        raise UserError(
            f"{path}: has {len(pixels)} rows, and not the {config.n_mels} mel bands of its settings"
        )
    check_frames(width, config, path)
    return pixels, config


def check_frames(frames: int, config: SpectrogramConfig, what: object) -> None:
    """Raise UserError where the sound of so many frames would take too much memory."""
    if frames * (1 + config.n_fft // 2) > MOST_BINS:
        raise UserError(
            f"{what}: {frames} frames are too many to be made into sound; cut it into pieces"
        )
