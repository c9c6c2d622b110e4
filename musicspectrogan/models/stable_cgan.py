"""A conditional GAN of the DCGAN's size that trains more stably than `cgan`; one image at a time.

The generator has conditional BatchNorm. The discriminator has a projection head and no BatchNorm,
so that the gradient of one image does not depend on the others, as R1 and R2 penalties require.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musicspectrogan.models import ModelConfig
from musicspectrogan.models.layers import (
    INNERMOST,
    SLOPE,
    ConditionalBatchNorm,
    MinibatchDeviation,
    ProjectionDiscriminator,
    channels_outwards,
    genre_mixture,
    init_dcgan,
    upsampling,
)

CONDITIONAL = True
OPTIONS: tuple[str, ...] = (
    "channel_multiple",
    "upsampling",
    "minibatch_deviation",
    "spectral_norm",
)


class Generator(nn.Module):
    """latents (B, Z), labels (B,) or mixtures (B, n_genres) -> images (B, 1, H, W) in [-1, 1]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_genres = config.n_genres
        channels = channels_outwards(config)
        self.layers = nn.ModuleList(
            [nn.ConvTranspose2d(config.latent_dim, channels[0], INNERMOST, bias=False)]
        )
        self.layers += [
            upsampling(config.upsampling, *pair) for pair in itertools.pairwise(channels)
        ]
        self.norms = nn.ModuleList(
            ConditionalBatchNorm(count, config.n_genres) for count in channels
        )
        self.to_image = upsampling(config.upsampling, channels[-1], 1)
        self.apply(init_dcgan)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Images (B, 1, H, W) in [-1, 1]."""
        genres = genre_mixture(labels, self.n_genres).to(latents.dtype)
        features = latents[:, :, None, None]
        for layer, norm in zip(self.layers, self.norms, strict=True):
            features = F.relu(norm(layer(features), genres))
        return torch.tanh(self.to_image(features))


class Discriminator(ProjectionDiscriminator):
    """images (B, 1, H, W), labels (B,) -> logits (B,); positive means real and of that genre."""

    def __init__(self, config: ModelConfig) -> None:
        channels = [1, *reversed(channels_outwards(config))]
        layers: list[nn.Module] = []
        for outer, inner in itertools.pairwise(channels):
            layers += [nn.Conv2d(outer, inner, 4, 2, 1), nn.LeakyReLU(SLOPE, inplace=True)]
        deepest = channels[-1]
        if config.minibatch_deviation:
            layers.append(MinibatchDeviation())
        layers += [
            nn.Conv2d(deepest + config.minibatch_deviation, deepest, 3, 1, 1),
            nn.LeakyReLU(SLOPE, inplace=True),
        ]
        super().__init__(layers, deepest * INNERMOST**2, config)
