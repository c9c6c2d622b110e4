"""The DCGAN of Radford et al. 2016 (arXiv:1511.06434) for one grey channel; labels are ignored."""

from __future__ import annotations

from torch import Tensor, nn

from musicspectrogan.models import ModelConfig
from musicspectrogan.models.layers import dcgan_discriminator, dcgan_generator

CONDITIONAL = False
OPTIONS = ()


class Generator(nn.Module):
    """latents (B, Z), labels (B,) -> images (B, 1, H, W) in [-1, 1]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = dcgan_generator(config.latent_dim, config)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Images (B, 1, H, W) in [-1, 1]."""
        images: Tensor = self.layers(latents[:, :, None, None])
        return images


class Discriminator(nn.Module):
    """images (B, 1, H, W), labels (B,) -> logits (B,); positive means real."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = dcgan_discriminator(1, config)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Logits (B,)."""
        logits: Tensor = self.layers(images)
        return logits
