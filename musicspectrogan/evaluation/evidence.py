"""What is shown beside the figures: images, curves and points, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from musicspectrogan.audio.spectrogram import SpectrogramConfig

Array = NDArray[np.floating]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Twin:
    """A sample beside what is nearest to it in the training images."""

    sample: Pixels
    """uint8 (H, W)."""
    nearest: Pixels
    """uint8 (H, W): the training track's frames where it is nearest."""
    difference_db: float
    """RMS over all pixels."""
    label: str
    """The sample's genre, or an empty string."""


@dataclass(frozen=True)
class Strip:
    """A generated piece, or the beginning of it, beside a real track."""

    genre: str
    """Empty where pieces have none."""
    real: Pixels
    """uint8 (H, T)."""
    fake: Pixels


@dataclass(frozen=True)
class Curves:
    """Spectral statistics of real (held-out) and generated images."""

    band_hz: Array
    """(n_mels,): centre of each band, rising."""
    real_mean: Array
    """(n_mels,): mean level in dB below the clip's loudest bin."""
    fake_mean: Array
    real_spread: Array
    """(n_mels,): standard deviation in dB."""
    fake_spread: Array
    modulation_hz: Array
    """(M,): how often a level rises and falls in a second."""
    real_modulation: Array
    """(M,): power in dB, mean over bands."""
    fake_modulation: Array


@dataclass(frozen=True)
class Cloud:
    """Real and generated images as points, in two dimensions."""

    features: str
    """classifier or untrained."""
    real: Array
    """(M, 2)."""
    real_labels: NDArray[np.int64]
    fake: Array
    """(N, 2)."""
    fake_labels: NDArray[np.int64]


@dataclass(frozen=True)
class Evidence:
    """Everything that the page draws."""

    genres: list[str]
    conditional: bool
    """Whether samples have genres; without, their labels mean nothing."""
    spectrogram: SpectrogramConfig
    real_rows: list[Pixels]
    """uint8 (columns, H, W) a row: held-out images, a row a genre."""
    fake_rows: list[Pixels]
    """The same of samples; where they have no genres, as many rows of any."""
    twins: list[Twin]
    """The likeliest copies first."""
    curves: Curves
    confusion: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    """`real` (held-out) and `samples`: counts (n_genres, n_genres), a row a true genre, a column what the
    classifier takes it for. `samples` is absent without genres."""
    clouds: list[Cloud] = field(default_factory=list)
    """One for each kind of features."""
    strips: list[Strip] = field(default_factory=list)
    """One a genre; empty where single images are judged."""
