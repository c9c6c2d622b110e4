"""Spectrograms over players, to show in a notebook."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from musicspectrogan.generation.page import MAGMA, TEMPLATES

# Width of an image of three seconds, and the most for a longer one.
WIDTH, MOST_WIDTH = 240, 960


@dataclass(frozen=True, repr=False)
class Player:
    """Images and their sounds; as the value of a notebook's cell, players of them."""

    images: npt.NDArray[np.uint8]
    """Grey levels (B, n_mels, T)."""
    sounds: Sequence[npt.NDArray[np.float32]]
    """Samples (n,) of each."""
    sample_rate: int
    captions: Sequence[str]
    loops: bool = False
    """Let the players start again at the end."""

    def __repr__(self) -> str:
        return f"Player({', '.join(self.captions)}; {self.sample_rate} Hz)"

    def _repr_html_(self) -> str:
        items = [
            (
                caption,
                _data("image/png", coloured_png(image)),
                _data("audio/wav", self._wav(samples)),
            )
            for caption, image, samples in zip(self.captions, self.images, self.sounds, strict=True)
        ]
        height, length = self.images.shape[1:]
        width = min(max(WIDTH, WIDTH * length // height), MOST_WIDTH)
        template = TEMPLATES.get_template("player.html")
        return template.render(items=items, loops=self.loops, width=width)

    def _wav(self, samples: npt.NDArray[np.float32]) -> bytes:
        import soundfile  # not needed by who makes images only

        file = BytesIO()
        soundfile.write(file, samples, self.sample_rate, "PCM_16", format="WAV")
        return file.getvalue()


def coloured_png(image: npt.NDArray[np.uint8]) -> bytes:
    """A PNG of grey levels (H, W) in matplotlib's magma colours."""
    colours = np.array([list(bytes.fromhex(colour)) for colour in MAGMA])
    places = np.linspace(0, 255, len(colours))
    palette = np.stack([np.interp(np.arange(256), places, channel) for channel in colours.T], 1)
    picture, file = Image.fromarray(image), BytesIO()
    picture.putpalette(palette.round().astype(np.uint8).tobytes())
    picture.save(file, "PNG")
    return file.getvalue()


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
