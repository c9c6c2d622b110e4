"""The GANs, found by name: one module each, and what they share.

A model module defines `CONDITIONAL: bool`, `OPTIONS` (the names of the switches of `ModelConfig` that it
knows), and the classes `Generator` and `Discriminator`, each built from a `ModelConfig`:

    generator(latents (B, Z) float, labels (B,) int64) -> images (B, K, H, W) in [-1, 1]
    discriminator(images (B, K, H, W), labels (B,) int64) -> logits (K * B,)

K is 1, and with `pairs` 2: two windows of one track or piece, of which the first is shown, and two verdicts
on them, all B of a kind together. Z is `ModelConfig.latent_dim`, or what a generator has as its own attribute
`latent_dim`.

A generator that is made for any length also draws pieces from a style and a sequence of cells:

    generator.frames(
        style (B, style_dim), sequence (B, cell_dim, N), genres (B, n_genres, N), beats (B, N + 1)
    ) -> frames (B, 1, H, cell_frames * (N - 2 * context)) in [-1, 1]

on a clock that counts `beats` up to the edge of each cell. It has these numbers, and `image_size`, as
attributes, and methods for the tempo of a style (`beats_in_cell`, `at_tempo`). Latents are standard normal
and begin with the style.

Generators also take mixtures of genres, labels (B, n_genres) float with rows that sum to 1; an unconditional
model ignores labels of either kind. `contract.check_networks` sees to it before a model trains.
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from musicspectrogan.config import check_within
from musicspectrogan.errors import SettingError, UserError, check_choice
from musicspectrogan.plugins import blamed_on_plugin, load_module, module_names

if TYPE_CHECKING:
    from torch import Tensor, nn

SMALLEST_IMAGE, LARGEST_IMAGE = 16, 1024
LARGEST_WIDTH, LONGEST_LATENT, MOST_GENRES = 1024, 65536, 65536
# What a model's module defines.
DEFINED = ("CONDITIONAL", "OPTIONS", "Generator", "Discriminator")
# Where they lie.
FOLDER = Path(__file__).parent
# Modules that are no models.
SHARED = ("blocks", "contract", "layers")
UPSAMPLINGS = ("transposed", "resize")


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
    upsampling: str = "transposed"
    """How the generator doubles height and width: transposed convolutions, or resize and convolve."""
    minibatch_deviation: bool = False
    """The discriminator sees how much the images of a group differ."""
    spectral_norm: bool = False
    """The discriminator's weights are divided by their largest singular values."""
    pairs: bool = False
    """The discriminator sees two windows of a piece."""

    @property
    def n_windows(self) -> int:
        """Windows K of a piece that the discriminator sees as channels."""
        return 2 if self.pairs else 1

    def __post_init__(self) -> None:
        if not SMALLEST_IMAGE <= self.image_size <= LARGEST_IMAGE or self.image_size & (
            self.image_size - 1
        ):
            allowed = f"a power of two from {SMALLEST_IMAGE} to {LARGEST_IMAGE}"
            raise SettingError("image_size", f"{self.image_size} is not {allowed}")
        check_within(self, width=(1, LARGEST_WIDTH), latent_dim=(1, LONGEST_LATENT))
        check_within(self, n_genres=(1, MOST_GENRES))
        check_choice("upsampling", self.upsampling, UPSAMPLINGS)


class AnyLengthGenerator(Protocol):
    """What a generator for any length has beside `forward`; see the head of this file."""

    image_size: int
    style_dim: int
    cell_dim: int
    cell_frames: int
    context: int
    bar: int

    def frames(self, style: Tensor, sequence: Tensor, genres: Tensor, beats: Tensor) -> Tensor:
        """Frames (B, 1, H, cell_frames * (N - 2 * context)) in [-1, 1]."""

    def begins_at(self, latents: Tensor) -> Tensor:
        """The frame of its first cell that an image of latents (..., Z) begins at."""

    def phase(self, latents: Tensor) -> Tensor:
        """Beats since a bar began where the sequence of latents (..., Z) begins."""

    def beats_in_cell(self, style: Tensor) -> Tensor:
        """The tempo (B, 1) of a style (B, style_dim)."""

    def at_tempo(self, style: Tensor, beats_in_cell: float) -> Tensor:
        """The style (B, style_dim) with another tempo."""


def names() -> list[str]:
    """What `--gan` may be; imports no model."""
    return module_names(sys.modules[__name__], SHARED)


def build(gan: str, config: ModelConfig) -> tuple[nn.Module, nn.Module]:
    """A freshly initialised (generator, discriminator).

    Raises:
        UserError: no model has that name, or it does not know one of the switches.
        PluginError: the model's file has a mistake.
    """
    check_options(gan, config)
    module = _module(gan)
    with blamed_on_plugin(sys.modules[__name__], f"--gan {gan}"):
        generator, discriminator = module.Generator(config), module.Discriminator(config)
    if not hasattr(generator, "latent_dim"):
        generator.latent_dim = config.latent_dim
    return generator, discriminator


def check_options(gan: str, config: ModelConfig) -> None:
    """Raise UserError for a switch that the model does not know."""
    for field in fields(config):
        changed = field.default is not MISSING and getattr(config, field.name) != field.default
        if changed and field.name not in options_of(gan):
            flag = field.name.replace("_", "-")
            raise UserError(f"--{flag} means nothing for --gan {gan}; leave it away")


def options_of(gan: str) -> tuple[str, ...]:
    """The switches of `ModelConfig` that the model knows."""
    return tuple(_module(gan).OPTIONS)


def is_conditional(gan: str) -> bool:
    """Whether the model's images depend on the labels."""
    return _module(gan).CONDITIONAL


def is_any_length(gan: str) -> bool:
    """Whether its generator draws any number of frames at once."""
    return hasattr(_module(gan).Generator, "frames")


def _module(gan: str) -> ModuleType:
    return load_module(sys.modules[__name__], "gan", gan, DEFINED, SHARED)
