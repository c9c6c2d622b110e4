"""Pictures of long pieces while training, for GANs that are made for any length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from musicspectrogan.data.dataset import ImageDataset
from musicspectrogan.data.grids import save_grid
from musicspectrogan.models import ModelConfig
from musicspectrogan.training import run_directory
from musicspectrogan.training.checkpoint import LiveGenerator
from musicspectrogan.training.trainer import Callback, Trainer

# Images that a piece is as long as: 15 s at the usual settings.
IMAGES_LONG = 5

Strips = dict[str, np.ndarray]
"""Grey levels uint8 (n_mels, T), by name."""
StripsOf = Callable[[LiveGenerator, int], Strips]


class Pieces(Callback):
    """With every grid a picture of the averaged generator's pieces, a strip a genre of the same latents.

    Args:
        strips_of: draws pieces of so many frames. It belongs to a layer above this one.
    """

    spares = "picture of pieces"

    def __init__(
        self, run: Path, gan: str, model: ModelConfig, dataset: ImageDataset, strips_of: StripsOf
    ) -> None:
        self.run = run
        self.gan = gan
        self.model = model
        self.dataset = dataset
        self.strips_of = strips_of
        self.real: Image.Image | None = None
        self.newest: Image.Image | None = None
        self.newest_strips: Strips = {}

    def on_start(self, trainer: Trainer) -> None:
        real = real_strips(self.dataset, IMAGES_LONG)
        if real and not self._path("real").exists():  # a resumed run has its own
            self.real = self._save("real", real)
        if run_directory.lacks_grid(self.run, trainer.position_name):
            self.on_snapshot(trainer)

    def on_snapshot(self, trainer: Trainer) -> None:
        self.newest = None
        settings = self.dataset.spectrogram
        live = LiveGenerator(
            trainer.ema.module, self.gan, self.model, self.dataset.genres, settings
        )
        self.newest_strips = self.strips_of(live, IMAGES_LONG * settings.n_frames)
        self.newest = self._save(trainer.position_name, self.newest_strips)

    def on_preview(self, trainer: Trainer) -> None:
        self.on_snapshot(trainer)

    def on_interrupt(self, trainer: Trainer) -> None:
        self.on_snapshot(trainer)

    def _path(self, name: str) -> Path:
        return self.run / run_directory.SAMPLES_FOLDER / f"pieces_{name}.png"

    def _save(self, name: str, strips: Strips) -> Image.Image:
        settings = self.dataset.spectrogram
        seconds = settings.hop_length / settings.sample_rate
        rows = [strip[None] for strip in strips.values()]
        return save_grid(self._path(name), rows, list(strips), seconds_a_column=seconds)


def real_strips(dataset: ImageDataset, images: int) -> Strips:
    """So many consecutive images of a track of each genre, by genre, or as many as there are.

    Empty where no two images are consecutive.
    """
    runs = {
        genre: _longest_run(dataset, label)[:images] for label, genre in enumerate(dataset.genres)
    }
    if max(map(len, runs.values())) < 2:
        return {}
    return {genre: np.hstack(dataset.pixels[dataset.rows[run]]) for genre, run in runs.items()}


def _longest_run(dataset: ImageDataset, label: int) -> np.ndarray:
    """Which of the split's images are consecutive in a track, int64 (n,)."""
    found = np.flatnonzero(dataset.labels == label)
    found = found[np.lexsort((dataset.segments[found], dataset.tracks[found]))]
    follows = (np.diff(dataset.tracks[found]) == 0) & (np.diff(dataset.segments[found]) == 1)
    return max(np.split(found, np.flatnonzero(~follows) + 1), key=len)
