"""One spectrogram image as a PNG that says in its own text chunks what it shows."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.filesystem import whole_file


def image_name(track_id: str, segment: int) -> str:
    """File name of a track's image number `segment`."""
    return f"{track_id}_{segment:03d}.png"


def track_of_image(name: str) -> str:
    """The track id in such a file name."""
    return name.rpartition("_")[0]


def write_image(
    path: Path,
    image: np.ndarray,
    config: SpectrogramConfig,
    *,
    genre: str,
    track: str,
    reference_db: float,
) -> None:
    """Write uint8 (n_mels, n_frames) as a grey PNG, whole or not at all.

    Text chunks: `spectrogram` (the settings as JSON), `genre`, `track`, `reference_db`.
    """
    text = PngInfo()
    text.add_text("spectrogram", json.dumps(asdict(config)))
    text.add_itxt("genre", genre)
    text.add_itxt("track", track)
    text.add_text("reference_db", f"{reference_db:.4f}")
    with whole_file(path, flush=False) as temporary:
        Image.fromarray(image).save(temporary, format="PNG", pnginfo=text)
