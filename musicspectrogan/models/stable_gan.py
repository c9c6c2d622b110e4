"""`stable_cgan` without genres: all images are of one class, and labels are ignored."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from musicspectrogan.models import ModelConfig, stable_cgan

CONDITIONAL = False
OPTIONS = stable_cgan.OPTIONS


class Generator(stable_cgan.Generator):
    """latents (B, Z), labels (B,) -> images (B, 1, H, W) in [-1, 1]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(replace(config, n_genres=1))

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Images (B, 1, H, W) in [-1, 1]."""
        return super().forward(latents, latents.new_zeros(len(latents), dtype=torch.int64))


class Discriminator(stable_cgan.Discriminator):
    """images (B, 1, H, W), labels (B,) -> logits (B,); positive means real."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(replace(config, n_genres=1))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Logits (B,)."""
        return super().forward(images, torch.zeros_like(labels))
