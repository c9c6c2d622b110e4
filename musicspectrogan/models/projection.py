"""A DCGAN-sized conditional GAN made for stable training: projection discriminator, conditional BatchNorm.

T. Miyato, M. Koyama, cGANs with projection discriminator, ICLR 2018, arXiv:1802.05637. The discriminator
has no BatchNorm, which would make one image's gradient depend on the others, and its features keep their
place until the end: in a spectrogram high and low, early and late are different things.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musicspectrogan.models import ModelConfig
from musicspectrogan.models.blocks import INNERMOST, channels_outwards
from musicspectrogan.models.blocks import initialise as initialise_as_dcgan
from musicspectrogan.models.layers import (
    SLOPE,
    ConditionalBatchNorm,
    MinibatchDeviation,
    initialise,
    upsampling,
    with_spectral_norm,
)

CONDITIONAL = True
OPTIONS = ("upsampling", "minibatch_deviation", "spectral_norm")


class Generator(nn.Module):
    """latents (B, Z), labels (B,) -> images (B, 1, H, W) in [-1, 1].

    Labels may also be mixtures of genres, float (B, n_genres) with rows that sum to 1.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_genres = config.n_genres
        channels = channels_outwards(config.width, config.image_size)
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
        self.apply(initialise_as_dcgan)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Images (B, 1, H, W) in [-1, 1]."""
        genres = labels if labels.is_floating_point() else F.one_hot(labels, self.n_genres)
        genres = genres.to(latents.dtype)
        features = latents[:, :, None, None]
        for layer, norm in zip(self.layers, self.norms, strict=True):
            features = F.relu(norm(layer(features), genres))
        return torch.tanh(self.to_image(features))


class Discriminator(nn.Module):
    """images (B, 1, H, W), labels (B,) -> logits (B,); positive means real and of that genre."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = [1, *reversed(channels_outwards(config.width, config.image_size))]
        layers: list[nn.Module] = []
        for outer, inner in itertools.pairwise(channels):
            layers += [nn.Conv2d(outer, inner, 4, 2, 1), nn.LeakyReLU(SLOPE, inplace=True)]
        deepest = channels[-1]
        if config.minibatch_deviation:
            layers.append(MinibatchDeviation())
        layers += [
            nn.Conv2d(deepest + config.minibatch_deviation, deepest, 3, 1, 1),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Flatten(),
        ]
        self.features = nn.Sequential(*layers)
        self.verdict = nn.Linear(deepest * INNERMOST**2, 1)
        self.directions = nn.Embedding(config.n_genres, deepest * INNERMOST**2)
        self.apply(initialise)
        nn.init.zeros_(self.directions.weight)
        if config.spectral_norm:
            nn.init.normal_(
                self.directions.weight, 0.0, 0.02
            )  # a weight of zeros has no singular vectors
            with_spectral_norm(self)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Logits (B,)."""
        features = self.features(images)
        return self.verdict(features).squeeze(1) + (self.directions(labels) * features).sum(dim=1)
