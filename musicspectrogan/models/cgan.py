"""The DCGAN conditioned on genre by concatenation: M. Mirza, S. Osindero, arXiv:1411.1784.

The one-hot label extends the generator's latent vector. The discriminator's image has one more
channel for each genre: ones for the image's own genre, zeros for the others.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musicspectrogan.models import ModelConfig
from musicspectrogan.models.layers import dcgan_discriminator, dcgan_generator, genre_mixture

CONDITIONAL = True
OPTIONS = ()


class Generator(nn.Module):
    """latents (B, Z), labels (B,) or mixtures (B, n_genres) -> images (B, 1, H, W) in [-1, 1]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_genres = config.n_genres
        self.layers = dcgan_generator(config.latent_dim + config.n_genres, config)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Images (B, 1, H, W) in [-1, 1]."""
        genres = genre_mixture(labels, self.n_genres).to(latents.dtype)
        images: Tensor = self.layers(torch.cat([latents, genres], dim=1)[:, :, None, None])
        return images


class Discriminator(nn.Module):
    """images (B, 1, H, W), labels (B,) -> logits (B,); positive means real and of that genre."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_genres = config.n_genres
        self.layers = dcgan_discriminator(1 + config.n_genres, config)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Logits (B,)."""
        one_hot = F.one_hot(labels, self.n_genres).to(images.dtype)
        planes = one_hot[:, :, None, None].expand(-1, -1, *images.shape[2:])
        logits: Tensor = self.layers(torch.cat([images, planes], dim=1))
        return logits
