"""One spectrogram image as a PNG that says in its own text chunks what it shows."""

from __future__ import annotations

import json
import logging
import zlib
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from musicspectrogan.audio.spectrogram import IMAGE_SIZES, SpectrogramConfig
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import whole_file

logger = logging.getLogger(__name__)


def image_name(track_id: str, segment: int) -> str:
    """File name of a track's image number `segment`."""
    return f"{track_id}_{segment:03d}.png"


def track_of_image(name: str) -> str:
    """The track id in such a file name."""
    return name.rpartition("_")[0]


def segment_of_image(name: str) -> int | None:
    """The segment's number in such a file name; None for another name."""
    number = name.rpartition(".")[0].rpartition("_")[2]
    return int(number) if number.isascii() and number.isdigit() else None


def write_image(
    path: Path, image: np.ndarray, config: SpectrogramConfig, *, rivals: bool = False, **text: str
) -> None:
    """Write uint8 (n_mels, T) as a grey PNG, whole or not at all.

    Text chunks: `spectrogram` (the settings as JSON), and each of `text` under its name, such as
    genre, track and reference_db. For `rivals` see `whole_file`.
    """
    chunks = PngInfo()
    chunks.add_text("spectrogram", _as_text(config))
    for name, value in text.items():
        chunks.add_itxt(name, value)
    with whole_file(path, flush=False, rivals=rivals) as temporary:
        # Run lengths and Huffman codes alone: twice as fast as zlib's default, files 2 % larger.
        Image.fromarray(image).save(temporary, format="PNG", pnginfo=chunks, compress_type=zlib.Z_RLE)


@lru_cache(maxsize=8)
def _as_text(config: SpectrogramConfig) -> str:
    return json.dumps(asdict(config))


def read_image(path: Path, fallback: SpectrogramConfig | None = None) -> tuple[np.ndarray, SpectrogramConfig]:
    """A spectrogram PNG as uint8 (n_mels, T), and the settings that it was made with.

    Args:
        fallback: for an image that does not say; None for the defaults at its height.

    Raises:
        UserError: it cannot be read, or is no spectrogram.
    """
    try:
        with Image.open(path) as image:
            written = getattr(image, "text", {}).get("spectrogram")
            mode, pixels = image.mode, np.array(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise UserError(f"{path}: cannot be read as an image") from None
    if mode == "L" and written is not None:
        try:
            config = SpectrogramConfig(**json.loads(written))
        except (ValueError, TypeError):
            raise UserError(f"{path}: its settings are damaged; make it again") from None
    elif mode == "L" and fallback is not None:
        config = fallback
    elif mode == "L" and len(pixels) in IMAGE_SIZES:
        logger.warning("%s does not say how it was made; taking the default settings", path)
        config = SpectrogramConfig.for_image_size(len(pixels))
    else:
        raise UserError(f"{path}: is no spectrogram of this tool, but a {mode} image of {pixels.shape[:2]}")
    if len(pixels) != config.n_mels:
        raise UserError(
            f"{path}: has {len(pixels)} rows, and not the {config.n_mels} mel bands of its settings"
        )
    return pixels, config
