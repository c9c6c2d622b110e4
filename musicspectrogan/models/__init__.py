"""The GANs, found by name: one module each.

The module `NAME.py` is `--gan NAME`. It defines `CONDITIONAL`, `OPTIONS`, `Generator` and
`Discriminator`, see `Model`:

    generator(latents (B, Z) float, labels (B,) int64) -> images (B, K, H, W) in [-1, 1]
    discriminator(images (B, K, H, W), labels (B,) int64) -> logits (L * B,)

Z is `ModelConfig.latent_dim`, or the generator's attribute `latent_dim` if it defines one. K is 1,
and 2 with `pairs`: two windows of one track or piece. L is 1: B logits for the first window; B more
follow with `rhythm`, and B for the pair of windows with `pairs`. Generators also take mixtures of
genres in place of labels, float (B, n_genres) with rows that sum to 1. Unconditional models ignore
labels. `contract.check_networks` checks this before training. A generator for pieces of any length
also implements `AnyLengthGenerator`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from musicspectrogan.config import OLD_NAMES, check_within
from musicspectrogan.errors import SettingError, UserError, check_choice
from musicspectrogan.plugins import load_module, module_names, plugin_errors

if TYPE_CHECKING:
    from torch import Tensor, nn

FOLDER = Path(__file__).parent
# Modules in the folder that are not models.
SHARED = ("contract", "layers")
SMALLEST_IMAGE, LARGEST_IMAGE = 16, 1024
LARGEST_WIDTH, LONGEST_LATENT, MOST_GENRES = 1024, 65536, 65536
CHANNEL_MULTIPLE, LARGEST_MULTIPLE = 8, 64
UPSAMPLINGS = ("transposed", "resize", "resize_time")


@dataclass(frozen=True)
class ModelConfig:
    """All that a model is built from; stored in every checkpoint."""

    image_size: int
    """Height and width in pixels, a power of two."""
    width: int
    """Channels of the layer next to the image."""
    latent_dim: int
    """Length Z of a latent vector."""
    n_genres: int
    """Classes; labels are 0 to n_genres - 1."""
    channel_multiple: int = CHANNEL_MULTIPLE
    """Channels double with each layer away from the image, up to this many times the width."""
    upsampling: str = "transposed"
    """Upsampling in the generator, one of UPSAMPLINGS; see `layers.upsampling`."""
    minibatch_deviation: bool = False
    """Show the discriminator the standard deviation within groups of images."""
    spectral_norm: bool = False
    """Divide the discriminator's weights by their largest singular values."""
    rhythm: bool = False
    """Let a second discriminator judge how loud broad bands are over time."""
    pairs: bool = False
    """Show the discriminator two windows of a piece."""

    @property
    def n_windows(self) -> int:
        """Windows K of a piece that the discriminator sees as channels."""
        return 2 if self.pairs else 1

    @property
    def n_logits(self) -> int:
        """Logits L that the discriminator gives each piece."""
        return 1 + self.rhythm + self.pairs

    def __post_init__(self) -> None:
        size = self.image_size
        if not SMALLEST_IMAGE <= size <= LARGEST_IMAGE or size & (size - 1):
            allowed = f"a power of two from {SMALLEST_IMAGE} to {LARGEST_IMAGE}"
            raise SettingError("image_size", f"{size} is not {allowed}")
        check_within(self, width=(1, LARGEST_WIDTH), latent_dim=(1, LONGEST_LATENT))
        check_within(self, n_genres=(1, MOST_GENRES), channel_multiple=(1, LARGEST_MULTIPLE))
        check_choice("upsampling", self.upsampling, UPSAMPLINGS)


class Model(Protocol):
    """What the module of a model defines."""

    CONDITIONAL: bool
    """Whether images depend on labels."""
    OPTIONS: tuple[str, ...]
    """The optional fields of `ModelConfig` that it supports."""
    Generator: Callable[[ModelConfig], nn.Module]
    Discriminator: Callable[[ModelConfig], nn.Module]


class AnyLengthGenerator(Protocol):
    """What a generator for pieces of any length has in addition.

    A piece is drawn from a style, a sequence of cells and a clock that counts beats. Latents are
    standard normal and begin with the style.
    """

    image_size: int
    style_dim: int
    cell_dim: int
    cell_frames: int
    """Frames drawn for each cell."""
    context: int
    """Cells at each end of a sequence for which no frames are drawn."""
    bar: int
    """Beats in a bar."""

    def frames(self, style: Tensor, sequence: Tensor, genres: Tensor, beats: Tensor) -> Tensor:
        """Frames (B, 1, H, cell_frames * (N - 2 * context)) of N cells; see `anylength_cgan`."""

    def begins_at(self, latents: Tensor) -> Tensor:
        """The frame of its first cell at which the image of latents (..., Z) begins."""

    def phase(self, latents: Tensor) -> Tensor:
        """Beats since a bar began at the start of the sequence in latents (..., Z)."""

    def beats_in_cell(self, style: Tensor) -> Tensor:
        """The tempo (B, 1) of a style (B, style_dim)."""

    def at_tempo(self, style: Tensor, beats_in_cell: float) -> Tensor:
        """The style (B, style_dim) at another tempo."""


def names() -> list[str]:
    """The values of `--gan`. Imports no model."""
    return module_names(sys.modules[__name__], SHARED)


def current_name(gan: str) -> str:
    """The name of the model that older versions called `gan`; other names are unchanged."""
    return gan if gan in names() else OLD_NAMES["gan"].get(gan, gan)


def get(gan: str) -> Model:
    """The model of that name.

    Raises:
        UserError: there is none; the text suggests the nearest name.
        PluginError: its module cannot be imported, or does not define a model.
    """
    package, required = (
        sys.modules[__name__],
        ("CONDITIONAL", "OPTIONS", "Generator", "Discriminator"),
    )
    return cast(Model, load_module(package, "gan", current_name(gan), required, SHARED))


def build(gan: str, config: ModelConfig) -> tuple[nn.Module, nn.Module]:
    """Build a freshly initialised (generator, discriminator).

    Raises:
        UserError: there is no such model, or it does not support one of the options.
        PluginError: the model's code fails.
    """
    check_options(gan, config)
    model = get(gan)
    with plugin_errors(sys.modules[__name__], f"--gan {gan}"):
        generator, discriminator = model.Generator(config), model.Discriminator(config)
    if not hasattr(generator, "latent_dim"):
        # torch types all attributes of modules as tensors or modules.
        generator.latent_dim = config.latent_dim  # type: ignore[assignment]
    return generator, discriminator


def check_options(gan: str, config: ModelConfig) -> None:
    """Raise UserError for an option that the model does not support."""
    for field in fields(config):
        changed = field.default is not MISSING and getattr(config, field.name) != field.default
        if changed and field.name not in options_of(gan):
            flag = field.name.replace("_", "-")
            raise UserError(f"--{flag} has no effect with --gan {gan}; omit it")


def options_of(gan: str) -> tuple[str, ...]:
    """The optional fields of `ModelConfig` that the model supports."""
    return tuple(get(gan).OPTIONS)


def is_conditional(gan: str) -> bool:
    """Whether the model's images depend on the labels."""
    return get(gan).CONDITIONAL


def is_any_length(gan: str) -> bool:
    """Whether the model's generator is an `AnyLengthGenerator`."""
    return hasattr(get(gan).Generator, "frames")
