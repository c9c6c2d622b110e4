"""Images from a checkpoint: each a function of its seed, its genre and the weights alone."""

from __future__ import annotations

import copy
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from musicspectrogan import models
from musicspectrogan.device import repeatable
from musicspectrogan.generation.genres import Mixture
from musicspectrogan.generation.takes import Take
from musicspectrogan.tensors import as_pixels, generator_at
from musicspectrogan.training.checkpoint import Checkpoint, LiveGenerator

# Every call of the network has this many items, filled up where there are fewer: kernels are chosen by
# size, and round differently.
BATCH = 16


class Sampler:
    """Draws images from a checkpoint's averaged generator.

    Args:
        checkpoint: of any model; or a generator in memory, on the device already.
        device: to compute on; latents are drawn on the CPU, so that they are the same everywhere.
    """

    def __init__(
        self, checkpoint: Checkpoint | LiveGenerator, device: torch.device | str = "cpu"
    ) -> None:
        self.generator = checkpoint.build_ema_generator().to(device)
        self.device = device
        self.latent_dim = self.generator.latent_dim
        self.genres = checkpoint.genres
        self.spectrogram = checkpoint.spectrogram
        self.conditional = models.is_conditional(checkpoint.gan)
        self.any_length = models.is_any_length(checkpoint.gan)

    def latents(self, seeds: list[int], *position: object) -> Tensor:
        """Latents (B, Z), one a seed; `position` tells several draws of one seed apart."""
        return torch.stack([_normal(self.latent_dim, seed, *position) for seed in seeds])

    def latent(self, take: Take, *position: object) -> Tensor:
        """The latent (Z,) of a take; `position` as for `latents`."""
        return _of_take(self.latent_dim, take, *position)

    def cell(self, take: Take, number: int) -> Tensor:
        """The latents (cell_dim,) of a cell of a take's piece, for a generator made for any length."""
        return _of_take(self.generator.cell_dim, take, "cell", number)

    def mixture(self, weights: Mixture) -> Tensor:
        """Labels (n_genres,) of a mixture; an empty one is for a model that has no use for it."""
        labels = torch.zeros(len(self.genres))
        for genre, weight in (weights or {self.genres[0]: 1.0}).items():
            labels[self.genres.index(genre)] = weight
        return labels

    def one_hot(self, genre: str | None, count: int) -> Tensor:
        """Labels (count, n_genres) of one genre; None for a model that has no use for it."""
        labels = torch.zeros(count, len(self.genres))
        labels[:, self.genres.index(genre) if genre else 0] = 1.0
        return labels

    @torch.no_grad()
    @repeatable()
    def images(self, latents: Tensor, labels: Tensor) -> np.ndarray:
        """Grey levels uint8 (B, H, W) of latents (B, Z) and genre mixtures (B, n_genres).

        The same bytes each time on one device, for each alone and among others. Another device, or another
        version of PyTorch, may round differently.
        """
        blocks = []
        for start in range(0, len(latents), BATCH):
            z, mixture = latents[start : start + BATCH], labels[start : start + BATCH]
            missing = BATCH - len(z)
            z = torch.cat([z, z[:1].expand(missing, -1)]).to(self.device)
            mixture = torch.cat([mixture, mixture[:1].expand(missing, -1)]).to(self.device)
            blocks.append(as_pixels(self.generator(z, mixture))[: BATCH - missing])
        return np.concatenate(blocks)

    @torch.no_grad()
    @repeatable()
    def frames(self, style: Tensor, sequence: Tensor, genres: Tensor, beats: Tensor) -> np.ndarray:
        """Grey levels uint8 (n_mels, T) of a part of a piece, as `generator.frames` draws them.

        In float64, of which no rounding is left in a grey level: a part is the same, whatever else is drawn.

        Args:
            style: (style_dim,).
            sequence: (cell_dim, N).
            genres: mixtures (n_genres, N).
            beats: (N + 1,).
        """
        given = (
            part[None].to(self.device, self._precision) for part in (style, sequence, genres, beats)
        )
        return as_pixels(self._precise.frames(*given))[0]

    @cached_property
    def _precise(self) -> nn.Module:
        return copy.deepcopy(self.generator).to(self._precision)

    @property
    def _precision(self) -> torch.dtype:
        return (
            torch.float32 if torch.device(self.device).type == "mps" else torch.float64
        )  # MPS has none


def _of_take(size: int, take: Take, *position: object) -> Tensor:
    start = _normal(size, *take.start, *position)
    return between(start, _normal(size, *take.end, *position), take.part) if take.part else start


def _normal(size: int, *position: object) -> Tensor:
    return torch.randn(size, generator=generator_at("cpu", "sample", *position))


def between(start: Tensor, end: Tensor, part: float) -> Tensor:
    """The latent (Z,) that lies a part, 0 to 1, of the way from one to another.

    On the arc between their directions, and as long as lies between their lengths: on the straight line,
    half-way between two random latents, it would be shorter than any that the generator knows.
    """
    lengths = start.norm(), end.norm()
    directions = start / lengths[0], end / lengths[1]
    angle = torch.acos((directions[0] @ directions[1]).clamp(-1.0, 1.0))
    if torch.sin(angle) < 1e-4:  # of one direction or opposite, as latents of a single number are
        return (1.0 - part) * start + part * end
    on_arc = (
        torch.sin((1.0 - part) * angle) * directions[0] + torch.sin(part * angle) * directions[1]
    )
    return on_arc / torch.sin(angle) * ((1.0 - part) * lengths[0] + part * lengths[1])
