"""Differentiable augmentation: what the discriminator sees of images, real and fake alike.

With few images a discriminator soon knows them by heart; seen through changes that keep a spectrogram a
spectrogram, it cannot (S. Zhao et al., Differentiable augmentation for data-efficient GAN training, NeurIPS
2020, arXiv:2006.10738; T. Karras et al., arXiv:2006.06676, on why each must be left out now and then). Flips,
rotations and rescaling are no such changes: time and frequency have a direction and a scale. The masks are
those of D. Park et al., SpecAugment, Interspeech 2019, arXiv:1904.08779.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# The largest changes: parts of the image's side for shift and masks, and of the grey range from -1 to 1 for
# loudness, where 0.15 is 6 dB of 80.
LARGEST_SHIFT = 1 / 8
LARGEST_MASK = 1 / 8
LARGEST_GAIN = 0.15
LARGEST_TILT = 0.15

# The probability that is taken for few training images, and how many are few, and too many for any.
MOST = 0.3
FEW = 1_000
MANY = 100_000

# Uniform numbers that an image's augmentation takes: whether each of five changes is made, and how.
CHANGES = 5
DRAWS = CHANGES + 7


def probability_for(images: int) -> float:
    """What probability suits so many training images: the fewer, the more.

    MOST up to FEW images, and from there down along the logarithm to none at MANY. That fewer images want
    more is from Karras et al.; the three numbers are a choice and no measurement (docs/recipes.md).
    """
    fullness = math.log(max(images, FEW) / FEW) / math.log(MANY / FEW)
    return MOST * max(0.0, 1.0 - fullness)


class Augmentation:
    """Changes images at random, each change with the same probability.

    Args:
        probability: of each change; 0 leaves the images as they are.
    """

    def __init__(self, probability: float) -> None:
        self.probability = probability
        self.draws = DRAWS if probability else 0

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Augmented images, differentiable.

        Args:
            images: (B, K, H, W) in [-1, 1].
            draws: uniform in [0, 1), (B, self.draws); equal draws, equal changes.
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
    """Images (B, K, H, W) moved by whole frames (B,), mirrored at the edges."""
    width = images.shape[3]
    columns = torch.arange(width, device=images.device) + frames.round().long()[:, None]
    mirrored = (width - 1) - ((width - 1) - columns.abs()).abs()
    return images.gather(3, mirrored[:, None, None, :].expand(-1, *images.shape[1:3], -1))


def louder(images: Tensor, gain: Tensor, tilt: Tensor) -> Tensor:
    """Images (B, K, H, W) made brighter by `gain` (B,), and by `tilt` (B,) at the top and darker below."""
    ramp = torch.linspace(
        1.0, -1.0, images.shape[2], device=images.device
    )  # the top row is the highest band
    change = gain[:, None] + tilt[:, None] * ramp
    return (images + change[:, None, :, None]).clamp(-1.0, 1.0)


def _around_zero(draws: Tensor) -> Tensor:
    return 2.0 * draws - 1.0


def _stripe(size: int, extent: Tensor, place: Tensor) -> Tensor:
    """True (B, size) in a stripe that takes `extent` (B,) of the largest mask, somewhere inside."""
    length = (extent * LARGEST_MASK * size).round()
    start = (place * (size - length + 1)).floor()
    position = torch.arange(size, device=extent.device)
    return (position >= start[:, None]) & (position < (start + length)[:, None])
