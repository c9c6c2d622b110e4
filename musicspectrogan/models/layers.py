"""Layers that the models share: the DCGAN's, and those of newer GANs."""

from __future__ import annotations

import itertools
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from musicspectrogan.models import ModelConfig

# Height and width of the innermost features of both networks.
INNERMOST = 4
# Negative slope of the discriminators' LeakyReLU.
SLOPE = 0.2
# Standard deviation of what the style adds to scale and shift of an untrained `StyledBatchNorm`.
# With less, a generator leaves most to the sequence, and pieces are incoherent (docs/recipes.md).
STYLE_DEVIATION = 0.5
# Images over which `MinibatchDeviation` takes one standard deviation.
GROUP = 4


def channels_outwards(config: ModelConfig) -> list[int]:
    """Channels at 4x4, 8x8, … up to half the image size; by default [8w, 4w, 2w, w] at 64."""
    layers = (config.image_size // INNERMOST).bit_length() - 1
    return [config.width * min(2**k, config.channel_multiple) for k in reversed(range(layers))]


def dcgan_generator(in_channels: int, config: ModelConfig) -> nn.Sequential:
    """The DCGAN generator: (B, C, 1, 1) -> images (B, 1, H, W) in [-1, 1].

    A. Radford, L. Metz, S. Chintala, Unsupervised representation learning with deep convolutional
    generative adversarial networks, ICLR 2016, arXiv:1511.06434.
    """
    channels = channels_outwards(config)
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
    return nn.Sequential(*layers).apply(init_dcgan)


def dcgan_discriminator(in_channels: int, config: ModelConfig) -> nn.Sequential:
    """The DCGAN discriminator without its sigmoid: (B, C, H, W) -> logits (B,).

    As in the paper, the layer next to the image has no BatchNorm.
    """
    channels = channels_outwards(config)[::-1]
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, channels[0], 4, 2, 1, bias=False),
        nn.LeakyReLU(SLOPE, inplace=True),
    ]
    for outer, inner in itertools.pairwise(channels):
        layers += [
            nn.Conv2d(outer, inner, 4, 2, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.LeakyReLU(SLOPE, inplace=True),
        ]
    layers += [nn.Conv2d(channels[-1], 1, INNERMOST, 1, 0, bias=False), nn.Flatten(0)]
    return nn.Sequential(*layers).apply(init_dcgan)


class ProjectionDiscriminator(nn.Module):
    """images (B, C, H, W), labels (B,) -> logits (B,): a verdict plus a projection on the genre.

    T. Miyato, M. Koyama, cGANs with projection discriminator, ICLR 2018, arXiv:1802.05637. The
    head sees the features at each position, not their sum: in a spectrogram high and low, early and
    late are different things.

    Args:
        layers: images -> features of any shape.
        n_features: numbers in the features of one image.
    """

    def __init__(self, layers: list[nn.Module], n_features: int, config: ModelConfig) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.verdict = nn.Linear(n_features, 1)
        self.directions = nn.Embedding(config.n_genres, n_features)
        self.apply(init_he)
        nn.init.zeros_(self.directions.weight)
        if config.spectral_norm:
            # A weight of zeros has no singular vectors.
            nn.init.normal_(self.directions.weight, 0.0, 0.02)
            add_spectral_norm(self)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Logits (B,)."""
        features: Tensor = self.features(images)
        logits: Tensor = self.verdict(features).squeeze(1)
        projection: Tensor = (self.directions(labels) * features).sum(dim=1)
        return logits + projection


class ConditionalBatchNorm(nn.Module):
    """BatchNorm with a scale and shift for each genre.

    V. Dumoulin, J. Shlens, M. Kudlur, A learned representation for artistic style, ICLR 2017,
    arXiv:1610.07629; for GANs in arXiv:1802.05637.
    """

    def __init__(self, channels: int, n_genres: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale = nn.Parameter(torch.ones(n_genres, channels))
        self.shift = nn.Parameter(torch.zeros(n_genres, channels))

    def forward(self, features: Tensor, genres: Tensor) -> Tensor:
        """Normalise (B, C, H, W) for mixtures of genres (B, n_genres), whose rows sum to 1."""
        normalised: Tensor = self.norm(features)
        scale, shift = genres @ self.scale, genres @ self.shift
        return normalised * scale[:, :, None, None] + shift[:, :, None, None]


class StyledBatchNorm(nn.Module):
    """BatchNorm whose scale and shift depend on genre, style and a clock, and change over time.

    They are the sum of those of the genre, as in `ConditionalBatchNorm`, and of linear functions of
    style and clock, as in X. Huang, S. Belongie, Arbitrary style transfer in real-time with
    adaptive instance normalization, ICCV 2017, arXiv:1703.06868.
    """

    def __init__(self, channels: int, n_genres: int, style_dim: int, clock_dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        scale_and_shift = torch.ones(channels, n_genres), torch.zeros(channels, n_genres)
        self.of_genre = nn.Parameter(torch.cat(scale_and_shift))
        self.of_style = nn.Parameter(
            STYLE_DEVIATION * style_dim**-0.5 * torch.randn(2 * channels, style_dim)
        )
        # Zero: a random beat would have to be unlearned first.
        self.of_clock = nn.Parameter(torch.zeros(2 * channels, clock_dim))

    def forward(self, features: Tensor, genres: Tensor, style: Tensor, clock: Tensor) -> Tensor:
        """Normalise (B, C, H, T), the middle T of the frames of M cells.

        Args:
            genres: mixtures (B, n_genres, M).
            style: (B, style_dim, M).
            clock: (B, clock_dim, M * frames per cell).
        """
        of_cells = self.of_genre @ genres + self.of_style @ style
        over_time = of_cells.repeat_interleave(clock.shape[2] // style.shape[2], dim=2)
        over_time = (over_time + self.of_clock @ clock)[:, :, None]
        cut = (over_time.shape[3] - features.shape[3]) // 2
        scale, shift = over_time.narrow(3, cut, features.shape[3]).chunk(2, dim=1)
        normalised: Tensor = self.norm(features)
        return normalised * scale + shift


class MinibatchDeviation(nn.Module):
    """Append the standard deviation within a group of images as a channel, to detect mode collapse.

    T. Karras et al., Progressive growing of GANs, ICLR 2018, arXiv:1710.10196, section 3. A group
    of G images is k, k + B/G, …, so the batch need not be shuffled nor a multiple of `GROUP`.
    """

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C + 1, H, W)."""
        batch, _, height, width = features.shape
        group = deviation_group(batch)
        members = features.chunk(group)
        # Tensor.var over so few images, far apart in memory, takes ten times as long on a CPU.
        mean: Tensor = sum(members[1:], start=members[0]) / group
        squares = [(member - mean).square() for member in members]
        variance: Tensor = sum(squares[1:], start=squares[0]) / group
        deviation = (variance + 1e-8).sqrt().mean(dim=(1, 2, 3))
        plane = deviation.repeat(group)[:, None, None, None].expand(-1, 1, height, width)
        return torch.cat([features, plane], dim=1)


def deviation_group(batch: int) -> int:
    """Images in a group: the largest divisor of the batch size up to GROUP."""
    return max(size for size in range(1, GROUP + 1) if batch % size == 0)


class TimeResizing(nn.ConvTranspose2d):
    """Doubles height and width; in time, as if each frame were repeated and then convolved.

    A transposed convolution adds one pattern to even and another to odd frames, and a sound that
    stays the same flickers. A kernel of three frames over repeated frames is one of four frames
    over single ones, of which even and odd have the same sum. In frequency it stays transposed:
    each band is different. docs/recipes.md compares them.
    """

    def __init__(self, in_channels: int, out_channels: int, padding: tuple[int, int]) -> None:
        super().__init__(in_channels, out_channels, (4, 3), 2, padding, bias=False)

    def forward(self, features: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, C, H, T) -> (B, C', 2 * H, 2 * T), or 2 * T - 2 frames without padding in time."""
        assert output_size is None
        kernel = F.pad(self.weight, (0, 1)) + F.pad(self.weight, (1, 0))
        padding = cast(tuple[int, int], self.padding)
        return F.conv_transpose2d(features, kernel, stride=2, padding=padding)


def upsampling(
    kind: str, in_channels: int, out_channels: int, *, padded_in_time: bool = True
) -> nn.Module:
    """A layer that doubles height and width.

    Args:
        kind: `transposed` as in the DCGAN; `resize`: nearest neighbour and a convolution, which
            makes no checkerboard (A. Odena, V. Dumoulin, C. Olah, Deconvolution and checkerboard
            artifacts, Distill 2016, https://distill.pub/2016/deconv-checkerboard/); or
            `resize_time`: see `TimeResizing`.
        padded_in_time: if False, T frames become 2 * T - 2, none of which depends on padding.
    """
    if kind == "resize":
        padding = (1, int(padded_in_time))
        convolution = nn.Conv2d(in_channels, out_channels, 3, 1, padding, bias=False)
        return nn.Sequential(nn.Upsample(scale_factor=2), convolution)
    padding = (1, 1 if padded_in_time else 2)
    if kind == "resize_time":
        return TimeResizing(in_channels, out_channels, padding)
    return nn.ConvTranspose2d(in_channels, out_channels, 4, 2, padding, bias=False)


def genre_mixture(labels: Tensor, n_genres: int) -> Tensor:
    """Mixtures (B, n_genres): labels (B,) int64 as one-hot rows, mixtures as they are."""
    return labels if labels.is_floating_point() else F.one_hot(labels, n_genres)


def init_dcgan(module: nn.Module) -> None:
    """N(0, 0.02) for convolutions, N(1, 0.02) for BatchNorm's scale, as in the DCGAN's own code."""
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d) and module.affine:
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def init_he(module: nn.Module) -> None:
    """Weights that keep the variance of features where there is no BatchNorm.

    K. He et al., Delving deep into rectifiers, ICCV 2015, arXiv:1502.01852.
    """
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.kaiming_normal_(module.weight, SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def add_spectral_norm(network: nn.Module) -> None:
    """Divide the weight of each convolution, linear layer and embedding by its spectral norm.

    T. Miyato et al., Spectral normalization for GANs, ICLR 2018, arXiv:1802.05957.
    """
    for module in list(network.modules()):
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.Embedding)):
            spectral_norm(module)
