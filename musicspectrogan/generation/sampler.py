"""Images from a checkpoint: each a function of its seed, its genre and the weights alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from musicspectrogan import models
from musicspectrogan.device import repeatable
from musicspectrogan.errors import UserError, did_you_mean
from musicspectrogan.tensors import as_pixels, generator_at
from musicspectrogan.training.checkpoint import Checkpoint

# Every call of the network has this many items, filled up where there are fewer: kernels are chosen by
# size, and round differently.
BATCH = 16


class Sampler:
    """Draws images from a checkpoint's averaged generator.

    Args:
        checkpoint: of any model.
        device: to compute on; latents are drawn on the CPU, so that they are the same everywhere.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device | str = "cpu") -> None:
        self.generator = checkpoint.build_ema_generator().to(device)
        self.device = device
        self.latent_dim = checkpoint.model.latent_dim
        self.genres = checkpoint.genres
        self.spectrogram = checkpoint.spectrogram
        self.conditional = models.is_conditional(checkpoint.gan)

    def latents(self, seeds: list[int], *position: object) -> Tensor:
        """Latents (B, Z), one a seed; `position` tells several draws of one seed apart."""
        draws = [
            torch.randn(self.latent_dim, generator=generator_at("cpu", "sample", seed, *position))
            for seed in seeds
        ]
        return torch.stack(draws)

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

    def find_genre(self, wanted: str) -> str:
        """The genre of that name (case, spaces and hyphens forgiven) or index.

        Raises:
            UserError: there is none, or the model does not know genres.
        """
        if not self.conditional:
            raise UserError("this checkpoint is of a model without genres; leave --genre and --morph away")

        def simple(name: str) -> str:
            return "".join(character for character in name.lower() if character.isalnum())

        for genre in self.genres:
            if simple(genre) == simple(wanted):
                return genre
        if wanted.isascii() and wanted.isdigit() and int(wanted) < len(self.genres):
            return self.genres[int(wanted)]
        near = did_you_mean(wanted, self.genres)
        raise UserError(f"--genre: {wanted!r} is not one of {', '.join(self.genres)}{near}")
