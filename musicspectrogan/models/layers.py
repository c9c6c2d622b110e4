"""Layers of the models that are not classic: conditional BatchNorm, minibatch deviation, ways to upsample."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

SLOPE = 0.2
# Images over which one deviation is taken.
GROUP = 4


class ConditionalBatchNorm(nn.Module):
    """BatchNorm whose scale and shift belong to the genre.

    V. Dumoulin, J. Shlens, M. Kudlur, A learned representation for artistic style, ICLR 2017,
    arXiv:1610.07629; as used in T. Miyato, M. Koyama, cGANs with projection discriminator, ICLR 2018,
    arXiv:1802.05637.
    """

    def __init__(self, channels: int, n_genres: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale = nn.Parameter(torch.ones(n_genres, channels))
        self.shift = nn.Parameter(torch.zeros(n_genres, channels))

    def forward(self, features: Tensor, genres: Tensor) -> Tensor:
        """Features (B, C, H, W) of genres (B, n_genres), whose rows sum to 1."""
        scale, shift = genres @ self.scale, genres @ self.shift
        return self.norm(features) * scale[:, :, None, None] + shift[:, :, None, None]


class MinibatchDeviation(nn.Module):
    """One feature more: how much the images of a group differ, so that a collapse is seen.

    T. Karras et al., Progressive growing of GANs, ICLR 2018, arXiv:1710.10196, section 3. A group is
    images k, k + B/G, …: the batch need not be shuffled, nor a multiple of the group.
    """

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C + 1, H, W)."""
        batch, channels, height, width = features.shape
        group = deviation_group(batch)
        grouped = features.view(group, batch // group, channels, height, width)
        deviation = (grouped.var(dim=0, correction=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))
        plane = deviation.repeat(group)[:, None, None, None].expand(-1, 1, height, width)
        return torch.cat([features, plane], dim=1)


def deviation_group(batch: int) -> int:
    """How many images of a batch make a group: at most GROUP, and so that nothing is left over."""
    return max(size for size in range(1, GROUP + 1) if batch % size == 0)


class ResizeConv(nn.Sequential):
    """Doubles height and width by repetition and convolves: no checkerboard by construction.

    A. Odena, V. Dumoulin, C. Olah, Deconvolution and checkerboard artifacts, Distill 2016,
    https://distill.pub/2016/deconv-checkerboard/
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Upsample(scale_factor=2), nn.Conv2d(in_channels, out_channels, 3, 1, 1, bias=False)
        )


def upsampling(kind: str, in_channels: int, out_channels: int) -> nn.Module:
    """A layer that doubles height and width: `transposed` as in the DCGAN, or `resize`."""
    if kind == "resize":
        return ResizeConv(in_channels, out_channels)
    return nn.ConvTranspose2d(in_channels, out_channels, 4, 2, 1, bias=False)


def initialise(module: nn.Module) -> None:
    """Weights that keep the variance of features where no BatchNorm mends it.

    K. He et al., Delving deep into rectifiers, ICCV 2015, arXiv:1502.01852.
    """
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.kaiming_normal_(module.weight, SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def with_spectral_norm(network: nn.Module) -> nn.Module:
    """Divide every convolution's and linear layer's weight by its largest singular value.

    T. Miyato et al., Spectral normalization for GANs, ICLR 2018, arXiv:1802.05957.
    """
    for module in list(network.modules()):
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.Embedding)):
            spectral_norm(module)
    return network
