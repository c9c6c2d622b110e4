"""Differentiable augmentation of all images that the discriminator sees, real and fake.

With few images a discriminator soon memorises them; augmentation prevents it, if each change still
gives a plausible spectrogram (S. Zhao et al., Differentiable augmentation for data-efficient GAN
training, NeurIPS 2020, arXiv:2006.10738) and is left out now and then (T. Karras et al.,
arXiv:2006.06676). Flips, rotations and rescaling are not used: time and frequency have a direction
and a scale. The masks are those of D. Park et al., SpecAugment, Interspeech 2019, arXiv:1904.08779.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Largest changes: fractions of the image's side for shift and masks; for loudness, units of the
# range from -1 to 1, where 0.15 is 6 dB of 80.
LARGEST_SHIFT = 1 / 8
LARGEST_MASK = 1 / 8
LARGEST_GAIN = 0.15
LARGEST_TILT = 0.15

# The automatic probability for FEW training images or less; none from MANY on.
MOST = 0.3
FEW = 1_000
MANY = 100_000

# Uniform numbers for each image: whether each of five changes is made, and how.
CHANGES = 5
DRAWS = CHANGES + 7


def probability_for(images: int) -> float:
    """The probability of augmentation for so many training images.

    MOST up to FEW images, then linear in their logarithm down to 0 at MANY. That fewer images need
    more is from Karras et al.; the three numbers are chosen, not measured (docs/recipes.md).
    """
    fullness = math.log(max(images, FEW) / FEW) / math.log(MANY / FEW)
    return MOST * max(0.0, 1.0 - fullness)


class Augmentation:
    """Changes images at random, each change with the same probability.

    Args:
        probability: of each change; 0 for none.
    """

    def __init__(self, probability: float) -> None:
        self.probability = probability
        self.draws = DRAWS if probability else 0

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Augmented images, differentiable.

        Args:
            images: (B, K, H, W) in [-1, 1].
            draws: uniform in [0, 1), (B, self.draws); the same draws give the same changes.
        """
        if not self.probability:
            return images
        made = (draws[:, :CHANGES] < self.probability).to(images.dtype)
        shift, gain, tilt, *masks = draws[:, CHANGES:].unbind(dim=1)
        height, width = images.shape[2:]
        images = shifted(images, made[:, 0] * _around_zero(shift) * LARGEST_SHIFT * width)
        images = louder(
            images,
            made[:, 1] * _around_zero(gain) * LARGEST_GAIN,
            made[:, 2] * _around_zero(tilt) * LARGEST_TILT,
        )
        hidden = _stripe(width, made[:, 3] * masks[0], masks[1])[:, None, None, :]
        hidden = hidden | _stripe(height, made[:, 4] * masks[2], masks[3])[:, None, :, None]
        return torch.where(hidden, -1.0, images)


def shifted(images: Tensor, frames: Tensor) -> Tensor:
    """Images (B, K, H, W) shifted by whole frames (B,), mirrored at the edges."""
    width = images.shape[3]
    columns = torch.arange(width, device=images.device) + frames.round().long()[:, None]
    mirrored = (width - 1) - ((width - 1) - columns.abs()).abs()
    return images.gather(3, mirrored[:, None, None, :].expand(-1, *images.shape[1:3], -1))


def louder(images: Tensor, gain: Tensor, tilt: Tensor) -> Tensor:
    """Images (B, K, H, W) plus `gain` (B,), and plus `tilt` (B,) at the top to -tilt below."""
    ramp = torch.linspace(1.0, -1.0, images.shape[2], device=images.device)
    change = gain[:, None] + tilt[:, None] * ramp
    return (images + change[:, None, :, None]).clamp(-1.0, 1.0)


def _around_zero(draws: Tensor) -> Tensor:
    return 2.0 * draws - 1.0


def _stripe(size: int, extent: Tensor, position: Tensor) -> Tensor:
    """A mask (B, size) of `extent` (B,) times the largest length, at a relative `position` (B,)."""
    length = (extent * LARGEST_MASK * size).round()
    start = (position * (size - length + 1)).floor()
    index = torch.arange(size, device=extent.device)
    return (index >= start[:, None]) & (index < (start + length)[:, None])
