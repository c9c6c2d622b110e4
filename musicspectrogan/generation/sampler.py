"""Draw images from a checkpoint: each depends on its seed, its genre and the weights alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from musicspectrogan import models
from musicspectrogan.device import repeatable
from musicspectrogan.tensors import as_pixels, generator_at
from musicspectrogan.training.checkpoint import Checkpoint, LiveGenerator

# Every forward pass has this batch size, padded where there are fewer: kernels are chosen by size,
# and round differently.
BATCH = 16

Mixture = dict[str, float]
"""Weights by genre that sum to 1; empty for unconditional models."""


@dataclass(frozen=True)
class LatentSpec:
    """The latents of one sound: a random draw, or an interpolation between two."""

    name: str
    """Part of file names."""
    caption: str
    start: tuple[object, ...]
    """The seed, and what distinguishes several random draws of it."""
    end: tuple[object, ...] = ()
    fraction: float = 0.0
    """Position between `start` and `end`, below 1."""


def seed_spec(seed: int) -> LatentSpec:
    """The latents of a seed."""
    return LatentSpec(f"seed{seed:04d}", f"seed {seed}", (seed,))


class Sampler:
    """Draws images from the averaged generator of a checkpoint.

    Args:
        checkpoint: of any model; or a generator in memory, already on the device.
        device: computes the images. Latents are drawn on the CPU, so they are the same everywhere.
    """

    def __init__(
        self, checkpoint: Checkpoint | LiveGenerator, device: torch.device | str = "cpu"
    ) -> None:
        self.generator = checkpoint.build_ema_generator().to(device)
        self.device = torch.device(device)
        self.latent_dim = cast(int, self.generator.latent_dim)
        self.genres = checkpoint.genres
        self.spectrogram = checkpoint.spectrogram
        self.conditional = models.is_conditional(checkpoint.gan)
        self.any_length: models.AnyLengthGenerator | None = None
        """The generator, where it draws pieces of any length."""
        if models.is_any_length(checkpoint.gan):
            self.any_length = cast(models.AnyLengthGenerator, self.generator)

    def latents(self, seeds: Sequence[int], *position: object) -> Tensor:
        """Latents (B, Z), one for each seed; `position` distinguishes several draws of a seed."""
        return torch.stack([_normal(self.latent_dim, seed, *position) for seed in seeds])

    def latent(self, spec: LatentSpec, *position: object) -> Tensor:
        """Latent (Z,) of a sound; `position` as in `latents`."""
        return _draw(self.latent_dim, spec, *position)

    def cell(self, spec: LatentSpec, number: int) -> Tensor:
        """Latent (cell_dim,) of one cell of a piece, for generators of any length."""
        assert self.any_length is not None
        return _draw(self.any_length.cell_dim, spec, "cell", number)

    def mixture(self, weights: Mixture) -> Tensor:
        """Labels (n_genres,) of a mixture."""
        labels = torch.zeros(len(self.genres))
        for genre, weight in (weights or {self.genres[0]: 1.0}).items():
            labels[self.genres.index(genre)] = weight
        return labels

    def one_hot(self, genre: str | None, count: int) -> Tensor:
        """Labels (count, n_genres) of one genre; None for unconditional models."""
        return self.mixture({genre: 1.0} if genre else {}).repeat(count, 1)

    @torch.no_grad()
    @repeatable()
    def images(self, latents: Tensor, labels: Tensor) -> npt.NDArray[np.uint8]:
        """Grey levels (B, H, W) of latents (B, Z) and genre mixtures (B, n_genres).

        On one device, an image has the same bytes each time, whatever else is in the batch. Another
        device or version of PyTorch may round differently.
        """
        batches = []
        for start in range(0, len(latents), BATCH):
            z, mixture = latents[start : start + BATCH], labels[start : start + BATCH]
            missing = BATCH - len(z)
            z = torch.cat([z, z[:1].expand(missing, -1)]).to(self.device)
            mixture = torch.cat([mixture, mixture[:1].expand(missing, -1)]).to(self.device)
            batches.append(as_pixels(self.generator(z, mixture))[: BATCH - missing])
        return np.concatenate(batches)

    @torch.no_grad()
    @repeatable()
    def frames(
        self, style: Tensor, sequence: Tensor, genres: Tensor, beats: Tensor
    ) -> npt.NDArray[np.uint8]:
        """Grey levels (n_mels, T) of a part of a piece, for generators of any length.

        Computed in float64, so that no rounding shows in a grey level: a part is the same, however
        a piece is divided.

        Args:
            style: (style_dim,).
            sequence: (cell_dim, N).
            genres: mixtures (n_genres, N).
            beats: (N + 1,).
        """
        inputs = (
            part[None].to(self.device, self._precision) for part in (style, sequence, genres, beats)
        )
        pixels: npt.NDArray[np.uint8] = as_pixels(self._precise_generator.frames(*inputs))[0]
        return pixels

    @cached_property
    def _precise_generator(self) -> models.AnyLengthGenerator:
        generator: nn.Module = copy.deepcopy(self.generator).to(self._precision)
        return cast(models.AnyLengthGenerator, generator)

    @property
    def _precision(self) -> torch.dtype:
        return torch.float32 if self.device.type == "mps" else torch.float64  # MPS has no float64


def _draw(size: int, spec: LatentSpec, *position: object) -> Tensor:
    start = _normal(size, *spec.start, *position)
    if not spec.fraction:
        return start
    return slerp(start, _normal(size, *spec.end, *position), spec.fraction)


def _normal(size: int, *position: object) -> Tensor:
    return torch.randn(size, generator=generator_at("cpu", "sample", *position))


def slerp(start: Tensor, end: Tensor, fraction: float) -> Tensor:
    """Interpolate between two latents (Z,): directions on an arc, lengths linearly.

    Halfway on the straight line between two random latents, a latent would be shorter than any that
    the generator has been trained on.
    """
    lengths = start.norm(), end.norm()
    directions = start / lengths[0], end / lengths[1]
    angle = torch.acos((directions[0] @ directions[1]).clamp(-1.0, 1.0))
    if torch.sin(angle) < 1e-4:  # same or opposite directions, as in one dimension
        return (1.0 - fraction) * start + fraction * end
    weights = torch.sin((1.0 - fraction) * angle), torch.sin(fraction * angle)
    between = (weights[0] * directions[0] + weights[1] * directions[1]) / torch.sin(angle)
    latent: Tensor = between * ((1.0 - fraction) * lengths[0] + fraction * lengths[1])
    return latent
