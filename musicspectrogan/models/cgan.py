"""The DCGAN conditioned on genre by concatenation: M. Mirza, S. Osindero, arXiv:1411.1784.

The generator's latent vector is extended by the one-hot label; the discriminator's image by one
plane a genre, filled with ones for the image's own genre and with zeros elsewhere.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musicspectrogan.models import ModelConfig
from musicspectrogan.models.blocks import DownsamplingStack, UpsamplingStack

CONDITIONAL = True
OPTIONS = ()


class Generator(nn.Module):
    """latents (B, Z), labels (B,) -> images (B, 1, H, W) in [-1, 1].

    Labels may also be mixtures of genres, float (B, n_genres) with rows that sum to 1.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_genres = config.n_genres
        self.layers = UpsamplingStack(
            config.latent_dim + config.n_genres, config.width, config.image_size
        )

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Images (B, 1, H, W) in [-1, 1]."""
        one_hot = labels if labels.is_floating_point() else F.one_hot(labels, self.n_genres)
        one_hot = one_hot.to(latents.dtype)
        return self.layers(torch.cat([latents, one_hot], dim=1)[:, :, None, None])


class Discriminator(nn.Module):
    """images (B, 1, H, W), labels (B,) -> logits (B,); positive means real and of that genre."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_genres = config.n_genres
        self.layers = DownsamplingStack(1 + config.n_genres, config.width, config.image_size)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Logits (B,)."""
        one_hot = F.one_hot(labels, self.n_genres).to(images.dtype)
        planes = one_hot[:, :, None, None].expand(-1, -1, *images.shape[2:])
        return self.layers(torch.cat([images, planes], dim=1))
