"""The GANs, found by name: one module each, and `blocks` which they share.

A model module defines `CONDITIONAL: bool` and the classes `Generator` and `Discriminator`, each built
from a `ModelConfig`:

    generator(latents (B, Z) float, labels (B,) int64) -> images (B, 1, H, W) in [-1, 1]
    discriminator(images (B, 1, H, W), labels (B,) int64) -> logits (B,)

An unconditional model ignores the labels; a conditional generator also takes mixtures of genres, labels
(B, n_genres) float with rows that sum to 1.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from musicspectrogan.errors import UserError
from musicspectrogan.plugins import load_module, module_names

if TYPE_CHECKING:
    from torch import nn

SMALLEST_IMAGE = 16
# Modules that are no models.
SHARED = ("blocks",)


@dataclass(frozen=True)
class ModelConfig:
    """All that a model is built from; stored in every checkpoint."""

    image_size: int
    """Pixels a side, a power of two."""
    width: int
    """Channels of the layer next to the image."""
    latent_dim: int
    """Length Z of a latent vector."""
    n_genres: int
    """Classes; labels are 0 to n_genres - 1."""

    def __post_init__(self) -> None:
        if self.image_size < SMALLEST_IMAGE or self.image_size & (self.image_size - 1):
            raise UserError(f"image_size: {self.image_size} is not a power of two from {SMALLEST_IMAGE} on")


def names() -> list[str]:
    """What `--gan` may be; imports no model."""
    return module_names(sys.modules[__name__], SHARED)


def build(gan: str, config: ModelConfig) -> tuple[nn.Module, nn.Module]:
    """A freshly initialised (generator, discriminator).

    Raises:
        UserError: no model has that name.
    """
    module = _module(gan)
    return module.Generator(config), module.Discriminator(config)


def is_conditional(gan: str) -> bool:
    """Whether the model's images depend on the labels."""
    return _module(gan).CONDITIONAL


def _module(gan: str) -> ModuleType:
    return load_module(sys.modules[__name__], "--gan", gan, SHARED)
