"""The DCGAN's layers, shared by the models: 4x4 kernels, stride 2, BatchNorm.

A. Radford, L. Metz, S. Chintala, Unsupervised representation learning with deep convolutional
generative adversarial networks, ICLR 2016, arXiv:1511.06434.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn

# Channels grow by 2 a layer up to this many times the base width; 128 and 256 pixel models add layers
# of that many channels and no wider ones, or they would not fit 4 GB.
LARGEST_MULTIPLE = 8

# From 4x4 features, the innermost of both networks.
INNERMOST = 4


def channels_outwards(width: int, image_size: int) -> list[int]:
    """Channels at 4x4, 8x8, … up to half the image size; 64 pixels: [8w, 4w, 2w, w]."""
    layers = (image_size // INNERMOST).bit_length() - 1
    return [width * min(2**k, LARGEST_MULTIPLE) for k in reversed(range(layers))]


class UpsamplingStack(nn.Sequential):
    """Input (B, C, 1, 1) -> images (B, 1, H, W) in [-1, 1]: the DCGAN generator."""

    def __init__(self, in_channels: int, width: int, image_size: int) -> None:
        channels = channels_outwards(width, image_size)
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(in_channels, channels[0], INNERMOST, 1, 0, bias=False),
            nn.BatchNorm2d(channels[0]),
            nn.ReLU(inplace=True),
        ]
        for inner, outer in itertools.pairwise(channels):
            layers += [
                nn.ConvTranspose2d(inner, outer, 4, 2, 1, bias=False),
                nn.BatchNorm2d(outer),
                nn.ReLU(inplace=True),
            ]
        layers += [nn.ConvTranspose2d(channels[-1], 1, 4, 2, 1, bias=False), nn.Tanh()]
        super().__init__(*layers)
        self.apply(initialise)


class DownsamplingStack(nn.Sequential):
    """Input (B, C, H, W) -> logits (B,): the DCGAN discriminator, without the sigmoid.

    As in the paper, the layer next to the image has no BatchNorm.
    """

    def __init__(self, in_channels: int, width: int, image_size: int) -> None:
        channels = channels_outwards(width, image_size)[::-1]
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, channels[0], 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        for outer, inner in itertools.pairwise(channels):
            layers += [
                nn.Conv2d(outer, inner, 4, 2, 1, bias=False),
                nn.BatchNorm2d(inner),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        layers += [nn.Conv2d(channels[-1], 1, INNERMOST, 1, 0, bias=False), nn.Flatten(0)]
        super().__init__(*layers)
        self.apply(initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B,) of images (B, C, H, W)."""
        return super().forward(images)


def initialise(module: nn.Module) -> None:
    """N(0, 0.02) for convolutions, N(1, 0.02) for BatchNorm's scale, as in the paper's own code."""
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d) and module.affine:
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
