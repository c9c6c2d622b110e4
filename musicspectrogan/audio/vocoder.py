"""A learned vocoder: from mel bands to Fourier magnitudes at a finer hop.

A network multiplies the non-negative fit of `magnitude` by a gain for each Fourier bin. It is
learned from music by `musicspectrogan.vocoding`, and stored in `vocoder.pt` and in checkpoints.
"""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musicspectrogan.audio import VOCODER_NAME
from musicspectrogan.audio.magnitude import linear_power
from musicspectrogan.audio.spectrogram import (
    SpectrogramConfig,
    grey_to_db,
    hz_to_mel,
    mel_filterbank,
)
from musicspectrogan.config import from_plain
from musicspectrogan.counts import format_count
from musicspectrogan.errors import UserError
from musicspectrogan.torchfiles import (
    TorchFileError,
    check_weights,
    read_torch_file,
    write_torch_file,
)

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
# Comes with the package, for images with the default settings; docs/inversion.md says how it was
# learned.
DEFAULT = Path(__file__).with_name("default_vocoder.pt")

# Sizes of the network; docs/inversion.md compares others.
CHANNELS, LAYERS = 32, 5
# Columns and bands that a layer sees.
KERNEL = (3, 5)
# Of LeakyReLU, which rounds alike wherever a tensor is split among threads; GELU does not.
SLOPE = 0.1
# Gains in each mel band, which are interpolated to Fourier bins.
SUBBANDS = 4
# Largest logarithm of a gain of power, 43 dB.
LARGEST_GAIN = 10.0
# Windows that overlap at the vocoder's hop: where there are fewer, phases are hard to find.
OVERLAP = 4
# A hop that has no small divisor, such as a prime number, is not divided.
MOST_FRAMES_PER_COLUMN = 8


@dataclass(frozen=True)
class Record:
    """What a vocoder was learned from, and how well it does."""

    tracks: int = 0
    minutes: float = 0.0
    """Of music."""
    steps: int = 0
    seed: int = 0
    error_db: float | None = None
    """Mean `round_trip_error` of validation tracks; None if there were none."""
    fit_error_db: float | None = None
    """The same for the non-negative fit alone."""

    def describe(self) -> str:
        """One line about it."""
        text = f"learned from {format_count(self.tracks, 'track')}, {self.minutes:.1f} minutes"
        if self.error_db is not None and self.fit_error_db is not None:
            text += (
                f"; round-trip error of validation tracks {self.error_db:.2f} dB, "
                f"{self.fit_error_db:.2f} dB without it"
            )
        return text


class Vocoder(nn.Module):
    """Estimates Fourier magnitudes from spectrogram images.

    The network is convolutional over time and bands. So it learns what neighbouring bands say about
    where between them a partial is from little music, because all bands share its weights.

    Args:
        spectrogram: settings of the images; the number of frames does not matter.
    """

    interpolation: Tensor
    position: Tensor

    def __init__(self, spectrogram: SpectrogramConfig) -> None:
        super().__init__()
        self.spectrogram = replace(spectrogram, n_frames=SpectrogramConfig.n_frames)
        self.record = Record()
        self.frames_per_column = _frames_per_column(spectrogram)
        self.input = nn.Conv2d(4, CHANNELS, KERNEL, padding="same")
        self.layers = nn.Sequential(*(ResidualLayer() for _ in range(LAYERS)))
        self.output = _zero_convolution(self.frames_per_column * SUBBANDS)
        interpolation = _interpolation(spectrogram)
        # Where a band is, because weights are shared: its number, and that around a circle.
        number = torch.linspace(0.0, 1.0, len(interpolation) // SUBBANDS)
        circle = 2.0 * torch.pi * number
        position = torch.stack([number, circle.cos(), circle.sin()])[None, :, None]
        self.register_buffer("position", position, persistent=False)
        self.register_buffer("interpolation", interpolation, persistent=False)

    def to_plain(self) -> dict[str, Any]:
        """Tensors and plain values, with weights in half precision: for files and checkpoints."""
        return {
            "format_version": FORMAT_VERSION,
            "spectrogram": asdict(self.spectrogram),
            "weights": {name: weight.half() for name, weight in self.state_dict().items()},
            "record": asdict(self.record),
        }

    @classmethod
    def check_plain(cls, contents: dict[str, Any]) -> Vocoder:
        """A vocoder without weights, on the device meta, of what `to_plain` gave and a file held.

        Raises:
            UserError: it is of another version, or its parts do not fit together.
        """
        version, weights = contents.get("format_version"), contents.get("weights")
        if version != FORMAT_VERSION or not isinstance(weights, dict):
            raise UserError(f"a vocoder of format {version}; this version reads {FORMAT_VERSION}")
        spectrogram = from_plain(SpectrogramConfig, contents.get("spectrogram"))
        with torch.device("meta"):  # shapes without memory
            vocoder = cls(spectrogram).half()
        check_weights("vocoder", weights, vocoder)
        vocoder.record = from_plain(Record, contents.get("record", {}))
        return vocoder

    @classmethod
    def from_plain(cls, contents: dict[str, Any]) -> Vocoder:
        """The vocoder in eval mode on the CPU, from what `to_plain` gave.

        Raises:
            UserError: as `check_plain`.
        """
        checked = cls.check_plain(contents)
        vocoder = cls(checked.spectrogram).float()  # whatever the default dtype is
        vocoder.load_state_dict(contents["weights"])
        vocoder.record = checked.record
        return vocoder.eval().requires_grad_(False)

    @property
    def digest(self) -> str:
        """A short hash of the weights."""
        sha = hashlib.sha256()
        for weight in self.to_plain()["weights"].values():
            sha.update(weight.cpu().numpy().tobytes())
        return sha.hexdigest()[:8]

    @property
    def context(self) -> int:
        """Columns on either side of a column that its magnitudes depend on."""
        return (1 + LAYERS) * (KERNEL[0] // 2) + 1  # one by interpolation

    @property
    def phase_iterations(self) -> int:
        """Iterations of Griffin-Lim that its magnitudes are worth: more where bands are narrow."""
        return 4 if self.frames_per_column > 1 else 16

    def fits(self, config: SpectrogramConfig) -> bool:
        """Whether images with these settings can be inverted, of any number of frames."""
        return replace(config, n_frames=self.spectrogram.n_frames) == self.spectrogram

    def fine_config(self, config: SpectrogramConfig) -> SpectrogramConfig:
        """The settings of images, with the hop of the magnitudes.

        Args:
            config: the vocoder's own settings, or these with another hop, as for a loop.
        """
        hop_length, remainder = divmod(config.hop_length, self.frames_per_column)
        assert not remainder, "the hop is no multiple of frames_per_column"
        return replace(config, hop_length=hop_length)

    def forward(self, decibels: Tensor) -> Tensor:
        """Power (B, T * frames_per_column, F) of dB relative to white (B, T, n_mels).

        The lowest band comes first; -top_db is silence.
        """
        with torch.no_grad():
            fit = self._fit(decibels)
        gain = self._log_gain(decibels).clamp(-LARGEST_GAIN, LARGEST_GAIN)
        return fit * gain.exp()

    @torch.no_grad()
    def magnitude(self, images: Tensor) -> Tensor:
        """Magnitudes (B, F, T * frames_per_column) of grey levels (B, n_mels, T) from 0 to 255.

        Low frequencies are at the bottom of the images.
        """
        decibels = grey_to_db(images.float().flip(1).transpose(1, 2), self.spectrogram)
        power: Tensor = self(decibels)
        return power.sqrt().transpose(1, 2)

    def _log_gain(self, decibels: Tensor) -> Tensor:
        """Natural logarithms of gains of power (B, T * frames_per_column, F)."""
        batch, columns, n_mels = decibels.shape
        bands = self.position.shape[3]
        above = decibels[:, :, -1:].expand(-1, -1, bands - n_mels)
        shown = 1.0 + torch.cat([decibels, above], dim=2) * (2.0 / self.spectrogram.top_db)
        position = self.position.expand(batch, -1, columns, -1)
        features = torch.cat([shown[:, None], position], dim=1)  # -1 to 1
        if features.device.type == "cpu":  # faster there
            features = features.contiguous(memory_format=torch.channels_last)
        gain: Tensor = self.output(F.leaky_relu(self.layers(self.input(features)), SLOPE))
        # (B, frames * SUBBANDS, T, bands) -> (B * T * frames, bands * SUBBANDS)
        gain = gain.reshape(batch, self.frames_per_column, SUBBANDS, columns, bands)
        gain = gain.permute(0, 3, 1, 4, 2).reshape(-1, bands * SUBBANDS)
        return (gain @ self.interpolation).reshape(batch, columns * self.frames_per_column, -1)

    def _fit(self, decibels: Tensor) -> Tensor:
        """The non-negative fit (B, T * frames_per_column, F), between columns too."""
        following = torch.cat([decibels[:, 1:], decibels[:, -1:]], dim=1)
        weights = torch.arange(self.frames_per_column).to(decibels) / self.frames_per_column
        between = torch.lerp(decibels[:, :, None], following[:, :, None], weights[:, None])
        between = between.flatten(1, 2).transpose(1, 2)
        mel = torch.where(between > -self.spectrogram.top_db, 10.0 ** (between / 10.0), 0.0)
        power = linear_power(mel, self.spectrogram).transpose(1, 2)
        # Above the highest band nothing is known: go on with the power of its rising side.
        filters = mel_filterbank(self.spectrogram)
        highest = filters[filters.any(axis=1)][-1]  # a band narrower than a bin is empty
        first, peak = int(np.flatnonzero(highest)[0]), int(highest.argmax())
        edge = power[:, :, first : peak + 1].mean(dim=2, keepdim=True)
        above = torch.arange(power.shape[2], device=power.device) > peak
        return torch.where(above, edge, power)


def save_vocoder(vocoder: Vocoder, path: Path) -> None:
    """Write a vocoder atomically."""
    write_torch_file(vocoder.to_plain(), path)


def load_vocoder(path: Path) -> Vocoder:
    """Read a vocoder onto the CPU. Nothing in the file is executed.

    Raises:
        UserError: there is no such file, or it is not a vocoder of this format.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such vocoder")
    try:
        return Vocoder.from_plain(read_torch_file(path))
    except OSError:
        raise
    except Exception as error:  # the file may hold anything
        why = f" ({error})" if isinstance(error, (TorchFileError, UserError)) else ""
        raise UserError(
            f"{path} is damaged or not a vocoder{why}; learn it again: "
            "python -m musicspectrogan vocoder DATASET --overwrite"
        ) from None


def default_vocoder(config: SpectrogramConfig) -> Vocoder | None:
    """The vocoder of this package, learned from its demo music; None if it does not fit."""
    vocoder = _default_vocoder()
    return vocoder if vocoder.fits(config) else None


@cache
def _default_vocoder() -> Vocoder:
    return load_vocoder(DEFAULT)


def find_vocoder(folder: Path, config: SpectrogramConfig) -> Vocoder | None:
    """The vocoder of a dataset for its images; None, with a warning, where it cannot be used."""
    path = folder / VOCODER_NAME
    if not path.is_file():
        return None
    try:
        vocoder = load_vocoder(path)
    except UserError as error:
        logger.warning("%s; going on without it", error)
        return None
    if not vocoder.fits(config):
        logger.warning(
            "%s is for images with other spectrogram settings: going on without it; learn another: "
            "python -m musicspectrogan vocoder %s",
            path,
            folder,
        )
        return None
    return vocoder


class ResidualLayer(nn.Module):
    """A residual layer over time and bands of features (B, CHANNELS, T, n_mels)."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(CHANNELS, CHANNELS, KERNEL, padding="same")
        self.add = _zero_convolution(CHANNELS)

    def forward(self, features: Tensor) -> Tensor:
        """Features of the same shape."""
        added: Tensor = self.add(F.leaky_relu(self.mix(features), SLOPE))
        return features + added


def _zero_convolution(out_channels: int) -> nn.Conv2d:
    """A 1x1 convolution that gives zeros before it has learned."""
    convolution = nn.Conv2d(CHANNELS, out_channels, 1)
    for weight in convolution.parameters():
        nn.init.zeros_(weight)
    return convolution


def _frames_per_column(config: SpectrogramConfig) -> int:
    """The least number of equal parts of a hop of which OVERLAP fit into a window, or 1."""
    for parts in range(1, MOST_FRAMES_PER_COLUMN + 1):
        if config.hop_length % parts == 0 and config.hop_length // parts * OVERLAP <= config.n_fft:
            return parts
    return 1


def _interpolation(config: SpectrogramConfig) -> Tensor:
    """Linear interpolation from sub-bands to bins on the mel scale, (bands * SUBBANDS, F).

    The bands go on above the highest mel band, as wide as those, to half the sample rate, but to no
    more than twice their number.
    """
    low, high = hz_to_mel(config.f_min), hz_to_mel(config.f_max)
    width = (high - low) / (config.n_mels + 1)
    above = math.ceil((hz_to_mel(config.sample_rate / 2) - high) / width)
    count = (config.n_mels + min(above, config.n_mels)) * SUBBANDS
    first = low + width * (0.5 + 0.5 / SUBBANDS)
    hz = np.fft.rfftfreq(config.n_fft, 1.0 / config.sample_rate)
    place = (np.array([hz_to_mel(f) for f in hz]) - first) / (width / SUBBANDS)
    place = np.clip(place, 0.0, count - 1)
    lower = np.minimum(place.astype(np.int64), count - 2)
    share = torch.from_numpy((place - lower).astype(np.float32))
    matrix = torch.zeros(count, len(hz), dtype=torch.float32)
    if not matrix.is_meta:
        rows, bins = torch.from_numpy(lower), torch.arange(len(hz))
        matrix[rows, bins], matrix[rows + 1, bins] = 1.0 - share, share
    return matrix
