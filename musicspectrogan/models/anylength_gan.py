"""`anylength_cgan` without genres: all images are of one class, and labels are ignored."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from musicspectrogan.models import ModelConfig, anylength_cgan

CONDITIONAL = False
OPTIONS = anylength_cgan.OPTIONS


class Generator(anylength_cgan.Generator):
    """latents (B, Z), labels (B,) -> images (B, K, H, W) in [-1, 1]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(replace(config, n_genres=1))

    def frames(self, style: Tensor, sequence: Tensor, genres: Tensor, beats: Tensor) -> Tensor:
        """As `anylength_cgan.Generator.frames`, but genres are ignored."""
        return super().frames(style, sequence, torch.ones_like(genres[:, :1]), beats)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Images (B, K, H, W) in [-1, 1]."""
        return super().forward(latents, latents.new_zeros(len(latents), dtype=torch.int64))


class Discriminator(anylength_cgan.Discriminator):
    """images (B, K, H, W), labels (B,) -> logits (L * B,); positive means real."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(replace(config, n_genres=1))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Logits (L * B,)."""
        return super().forward(images, torch.zeros_like(labels))
