"""A conditional GAN whose generator is convolutional in time: it draws any number of frames in one pass.

Latents are a style, the same for a whole piece, and a sequence, some numbers for each cell of a few frames.
M. Pasini, J. Schlüter, Musika! Fast infinite waveform music generation, ISMIR 2022, arXiv:2208.08706;
C. H. Lin et al., InfinityGAN: towards infinite-pixel image synthesis, ICLR 2022, arXiv:2104.03963. Some
numbers of the sequence are smoothed over many cells, so that what they decide drifts slowly. A clock, whose
tempo belongs to the style, goes on through the whole piece, so that a rhythm can: without one the only pulse
that cells have in common is that of the cells themselves.

No layer pads in time. Each drops the frames that would depend on what lies beyond the sequence, so a frame
is the same whatever it is drawn with. Training cuts windows at random offsets within a cell, or else images
would always begin with one.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musicspectrogan.models import ModelConfig, projection
from musicspectrogan.models.blocks import INNERMOST, channels_outwards
from musicspectrogan.models.blocks import initialise as initialise_as_dcgan
from musicspectrogan.models.layers import (
    SLOPE,
    StyledBatchNorm,
    initialise,
    upsampling,
    with_spectral_norm,
)

CONDITIONAL = True
OPTIONS = (*projection.OPTIONS, "pairs")

# Numbers for each cell that are used as they are; and, as a part of the style's, those that are smoothed.
FAST, SLOW_SHARE = 16, 1 / 4
# Cells over which these are smoothed, an odd number: 25 s, after which nothing is left of what they were.
DRIFT = 33
# Cells on each side that the convolutions of a cell's frames reach to.
REACH = 2
# Beats in a cell where the tempo's number is 0, 113 a minute at the usual settings; octaves a unit of it.
BEATS, OCTAVES = 1.4, 0.4
# Oscillations in a beat: of a bar, half a bar, a beat, a half and a quarter of one.
OSCILLATIONS = (0.25, 0.5, 1.0, 2.0, 4.0)
BAR = 4
# Steps in time, and layers, of the discriminator of pairs.
PAIR_FRAMES, PAIR_LAYERS = 16, 3


class Generator(nn.Module):
    """latents (B, Z), labels (B,) -> images (B, K, H, W) in [-1, 1], K windows of each piece.

    Labels may also be mixtures of genres, float (B, n_genres) with rows that sum to 1. The latents hold a
    style and, for each window, a sequence, where in a bar it begins, and where in a cell the window does.
    """

    context = REACH + DRIFT // 2
    """Cells at each end of a sequence that no frame is drawn for."""
    bar = BAR

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_genres, self.n_windows = config.n_genres, config.n_windows
        self.style_dim = config.latent_dim
        self.slow_dim = max(1, round(SLOW_SHARE * self.style_dim))
        self.cell_dim = FAST + self.slow_dim
        self.image_size = config.image_size
        self.cell_frames = config.image_size // INNERMOST
        # A window begins anywhere in a cell, so that it takes one more than an image has.
        self.window_cells = INNERMOST + 1 + 2 * self.context
        self.latent_dim = self.style_dim + self.n_windows * (self.cell_dim * self.window_cells + 2)
        channels = channels_outwards(config.width, config.image_size)
        self.begin = nn.Conv1d(FAST, channels[0] * INNERMOST, 3, bias=False)
        self.layers = nn.ModuleList(
            upsampling(config.upsampling, inner, outer, padded_in_time=False)
            for inner, outer in itertools.pairwise(channels)
        )
        self.norms = nn.ModuleList(
            StyledBatchNorm(
                count, config.n_genres, self.style_dim + self.slow_dim, 2 * len(OSCILLATIONS)
            )
            for count in channels
        )
        self.to_image = upsampling(config.upsampling, channels[-1], 1, padded_in_time=False)
        self.apply(initialise_as_dcgan)
        smooth = torch.hann_window(DRIFT + 2, periodic=False)[1:-1]
        self.register_buffer("smooth", smooth / smooth.norm(), persistent=False)
        self.register_buffer("oscillations", torch.tensor(OSCILLATIONS)[:, None], persistent=False)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Images (B, K, H, W) in [-1, 1]."""
        genres = labels if labels.is_floating_point() else F.one_hot(labels, self.n_genres)
        genres = genres.to(latents.dtype)[:, :, None].expand(-1, -1, self.window_cells)
        style, windows = latents[:, : self.style_dim], latents[:, self.style_dim :]
        windows = windows.reshape(len(latents) * self.n_windows, -1)
        style, genres = (part.repeat_interleave(self.n_windows, dim=0) for part in (style, genres))
        sequence = windows[:, :-2].unflatten(1, (self.cell_dim, self.window_cells))
        edges = torch.arange(self.window_cells + 1, device=style.device)
        beats = self.phase(windows)[:, None] + self.beats_in_cell(style) * edges
        frames = self.frames(style, sequence, genres, beats)
        columns = self.begins_at(windows)[:, None] + torch.arange(
            self.image_size, device=latents.device
        )
        cut = frames.gather(3, columns[:, None, None, :].expand(-1, 1, self.image_size, -1))
        return cut.view(len(latents), self.n_windows, self.image_size, self.image_size)

    def begins_at(self, latents: Tensor) -> Tensor:
        """The frame (...,) of its first cell that an image of latents (..., Z) begins at: their last number.

        The rank of a normal number among all of them is uniform in [0, 1].
        """
        place = torch.special.ndtr(latents[..., -1]) * self.cell_frames
        return place.long().clamp(max=self.cell_frames - 1)  # rounded, a rank may be 1

    def phase(self, latents: Tensor) -> Tensor:
        """Beats since a bar began (...,), where the sequence of latents (..., Z) does: the number before."""
        return BAR * torch.special.ndtr(latents[..., -2])

    def beats_in_cell(self, style: Tensor) -> Tensor:
        """The tempo (B, 1) of a style (B, style_dim): its first number."""
        return BEATS * 2.0 ** (OCTAVES * style[:, :1])

    def at_tempo(self, style: Tensor, beats_in_cell: float) -> Tensor:
        """The styles (B, style_dim) with another tempo, or the nearest that training meets now and then."""
        number = math.log2(beats_in_cell / BEATS) / OCTAVES
        return torch.cat(
            [torch.full_like(style[:, :1], max(-4.0, min(number, 4.0))), style[:, 1:]], dim=1
        )

    def frames(self, style: Tensor, sequence: Tensor, genres: Tensor, beats: Tensor) -> Tensor:
        """Frames (B, 1, H, cell_frames * (N - 2 * context)) in [-1, 1] of a piece, or of a part of one.

        Args:
            style: (B, style_dim), standard normal.
            sequence: (B, cell_dim, N), standard normal; of the N cells those between the contexts are drawn.
            genres: mixtures (B, n_genres, N).
            beats: (B, N + 1), from the beginning of some bar up to where each cell begins and the last ends.
        """
        slow = sequence[:, FAST:]
        slow = F.conv1d(
            slow, self.smooth.to(slow.dtype).expand(self.slow_dim, 1, -1), groups=self.slow_dim
        )
        fast, genres = (
            part[:, :, DRIFT // 2 : -(DRIFT // 2)] for part in (sequence[:, :FAST], genres)
        )
        features = self.begin(fast).unflatten(1, (-1, INNERMOST))
        genres, slow = genres[:, :, 1:-1], slow[:, :, 1:-1]
        style = torch.cat([style[:, :, None].expand(-1, -1, slow.shape[2]), slow], dim=1)
        beats = beats[:, DRIFT // 2 + 1 : -(DRIFT // 2) - 1]
        features = F.relu(
            self.norms[0](features, genres, style, clock(beats, 1, self.oscillations))
        )
        for level, (layer, norm) in enumerate(zip(self.layers, self.norms[1:], strict=True), 1):
            features = F.relu(
                norm(layer(features), genres, style, clock(beats, 2**level, self.oscillations))
            )
        return torch.tanh(self.to_image(features))[..., 1:-1]


def clock(beats: Tensor, cell_frames: int, oscillations: Tensor) -> Tensor:
    """Cosines and sines (B, 2 * O, M * cell_frames) of the beats: the mean of each over each frame.

    So those that are too fast for the frames fade out, and leave no slower beat in their place.

    Args:
        beats: (B, M + 1), up to where each cell begins and the last ends.
        oscillations: in a beat, (O, 1).
    """
    in_frame = beats.diff(dim=1)[:, :, None] / cell_frames
    middles = beats[:, :-1, None] + in_frame * (
        torch.arange(cell_frames, device=beats.device) + 0.5
    )
    angles = 2 * torch.pi * oscillations * middles.flatten(1)[:, None]
    left = torch.sinc(oscillations * in_frame.expand_as(middles).flatten(1)[:, None])
    return torch.cat([left * angles.cos(), left * angles.sin()], dim=1)


class Discriminator(nn.Module):
    """images (B, K, H, W), labels (B,) -> logits (K * B,); positive means real and of that genre.

    The first B judge the first window in all detail. Where there are two, B more judge whether both are of
    one piece. Windows are drawn alike: what is learned from the first holds for the second. The two are
    not added: a sure verdict on the pair would leave the window nothing to learn.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.window = projection.Discriminator(config)
        self.pair = PairDiscriminator(config) if config.pairs else None

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Logits (K * B,)."""
        logits = self.window(images[:, :1], labels)
        return torch.cat([logits, self.pair(images, labels)]) if self.pair else logits


class PairDiscriminator(nn.Module):
    """images (B, 2, H, W), labels (B,) -> logits (B,); positive means of one piece, and of that genre.

    It sees levels over a few frames and not the detail: what stays the same in a piece is its sound.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = [2, *(config.width * 2**k for k in range(PAIR_LAYERS))]
        layers: list[nn.Module] = [nn.AvgPool2d((1, config.image_size // PAIR_FRAMES))]
        for outer, inner in itertools.pairwise(channels):
            layers += [nn.Conv2d(outer, inner, 4, 2, 1), nn.LeakyReLU(SLOPE, inplace=True)]
        self.features = nn.Sequential(*layers, nn.Flatten())
        size = channels[-1] * (config.image_size >> PAIR_LAYERS) * (PAIR_FRAMES >> PAIR_LAYERS)
        self.verdict = nn.Linear(size, 1)
        self.directions = nn.Embedding(config.n_genres, size)
        self.apply(initialise)
        nn.init.zeros_(self.directions.weight)
        if config.spectral_norm:
            nn.init.normal_(self.directions.weight, 0.0, 0.02)
            with_spectral_norm(self)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Logits (B,)."""
        features = self.features(images)
        return self.verdict(features).squeeze(1) + (self.directions(labels) * features).sum(dim=1)
