"""Layers of the models that are not classic: conditional BatchNorm, minibatch deviation, ways to upsample."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

SLOPE = 0.2
# Standard deviation of what the style adds to scale and shift of an untrained `StyledBatchNorm`. With less a
# generator leaves most to the sequence, and pieces fall apart; docs/recipes.md has the measurements.
STYLE_DEVIATION = 0.5
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


class StyledBatchNorm(nn.Module):
    """BatchNorm whose scale and shift come from genre, style and a clock, and may change over time.

    The sum of a genre's own, as in `ConditionalBatchNorm`, and of a linear function of the style, as in
    X. Huang, S. Belongie, Arbitrary style transfer in real-time with adaptive instance normalization, ICCV
    2017, arXiv:1703.06868.
    """

    def __init__(self, channels: int, n_genres: int, style_dim: int, clock_dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        scale_and_shift = torch.ones(channels, n_genres), torch.zeros(channels, n_genres)
        self.of_genre = nn.Parameter(torch.cat(scale_and_shift))
        self.of_style = nn.Parameter(
            STYLE_DEVIATION * style_dim**-0.5 * torch.randn(2 * channels, style_dim)
        )

        # From none: a beat that is there before it was learned is in the way.
        self.of_clock = nn.Parameter(torch.zeros(2 * channels, clock_dim))

    def forward(self, features: Tensor, genres: Tensor, style: Tensor, clock: Tensor) -> Tensor:
        """Features (B, C, H, T) of the T frames in the middle of M cells.

        Args:
            genres: mixtures (B, n_genres, M).
            style: (B, style_dim, M).
            clock: (B, clock_dim, M * frames in a cell), for each of the features' frames.
        """
        of_cells = self.of_genre @ genres + self.of_style @ style
        over_time = of_cells.repeat_interleave(clock.shape[2] // style.shape[2], dim=2)
        over_time = (over_time + self.of_clock @ clock)[:, :, None]
        missing = (over_time.shape[3] - features.shape[3]) // 2
        scale, shift = over_time.narrow(3, missing, features.shape[3]).chunk(2, dim=1)
        return self.norm(features) * scale + shift


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

    def __init__(
        self, in_channels: int, out_channels: int, padding: tuple[int, int] = (1, 1)
    ) -> None:
        super().__init__(
            nn.Upsample(scale_factor=2),
            nn.Conv2d(in_channels, out_channels, 3, 1, padding, bias=False),
        )


def upsampling(
    kind: str, in_channels: int, out_channels: int, *, padded_in_time: bool = True
) -> nn.Module:
    """A layer that doubles height and width: `transposed` as in the DCGAN, or `resize`.

    Args:
        padded_in_time: if not, T frames become 2 * T - 2, none of which depends on what lies beyond the T.
    """
    if kind == "resize":
        return ResizeConv(in_channels, out_channels, (1, int(padded_in_time)))
    padding = (1, 1 if padded_in_time else 2)
    return nn.ConvTranspose2d(in_channels, out_channels, 4, 2, padding, bias=False)


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
