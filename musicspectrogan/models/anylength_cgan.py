"""A conditional GAN for pieces of any length: its generator is convolutional in time.

A piece is drawn in one pass from a style, one vector for the whole piece, and a sequence of cells,
a small vector for each few frames. M. Pasini, J. Schlüter, Musika! Fast infinite waveform music
generation, ISMIR 2022, arXiv:2208.08706; C. H. Lin et al., InfinityGAN: towards infinite-pixel
image synthesis, ICLR 2022, arXiv:2104.03963.

Part of each cell's vector is smoothed over many cells, so that what it controls drifts slowly. A
clock, whose tempo belongs to the style, runs through the whole piece and makes a steady rhythm
possible: without it, the cells have no common pulse but their own length.

No layer pads in time. Each drops the frames that would depend on padding, so a frame is the same
whichever part of the piece is drawn. Training crops images at random offsets within a cell;
otherwise all of them would begin with a cell.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musicspectrogan.models import ModelConfig, stable_cgan
from musicspectrogan.models.layers import (
    INNERMOST,
    SLOPE,
    ProjectionDiscriminator,
    StyledBatchNorm,
    channels_outwards,
    genre_mixture,
    init_dcgan,
    upsampling,
)

CONDITIONAL = True
OPTIONS = (*stable_cgan.OPTIONS, "rhythm", "pairs")

# Length of a cell's fast vector; that of its slow, smoothed vector as a share of the style's.
FAST_DIM, SLOW_SHARE = 16, 1 / 4
# Cells over which slow vectors are smoothed, an odd number: 25 s at 64 pixels.
SMOOTHING_CELLS = 33
# Cells on each side within the receptive field of a cell's frames.
REACH = 2
# Tempo in beats per cell at 0, the tempo of 113 beats per minute at 64 pixels; octaves per unit.
BEATS_PER_CELL, OCTAVES = 1.4, 0.4
# Tempi further from 0 do not occur in training.
LARGEST_TEMPO = 4.0
# Oscillations of the clock per beat: a bar, half a bar, a beat, a half and a quarter of a beat.
OSCILLATIONS = (0.25, 0.5, 1.0, 2.0, 4.0)
BEATS_PER_BAR = 4
# Frames of an image, and layers, in the discriminator of pairs.
PAIR_FRAMES, PAIR_LAYERS = 16, 3
# Bands of an image, and layers, in the discriminator of the rhythm.
RHYTHM_BANDS, RHYTHM_LAYERS = 8, 3


class Generator(nn.Module):
    """latents (B, Z), labels (B,) or mixtures (B, n_genres) -> images (B, K, H, W) in [-1, 1].

    The latents are a style (style_dim) and, for each of the K windows, a sequence (cell_dim x
    window_cells), the phase of the clock at its start, and the offset of the image in its first
    cell. All are standard normal.
    """

    context = REACH + SMOOTHING_CELLS // 2
    """Cells at each end of a sequence for which no frames are drawn."""
    bar = BEATS_PER_BAR
    smooth: Tensor
    oscillations: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_genres, self.n_windows = config.n_genres, config.n_windows
        self.style_dim = config.latent_dim
        self.slow_dim = max(1, round(SLOW_SHARE * self.style_dim))
        self.cell_dim = FAST_DIM + self.slow_dim
        self.image_size = config.image_size
        self.cell_frames = config.image_size // INNERMOST
        # An image begins anywhere in a cell, so it takes one cell more than its length.
        self.window_cells = INNERMOST + 1 + 2 * self.context
        self.latent_dim = self.style_dim + self.n_windows * (self.cell_dim * self.window_cells + 2)
        channels = channels_outwards(config)
        self.begin = nn.Conv1d(FAST_DIM, channels[0] * INNERMOST, 3, bias=False)
        self.layers = nn.ModuleList(
            upsampling(config.upsampling, inner, outer, padded_in_time=False)
            for inner, outer in itertools.pairwise(channels)
        )
        style_dim, clock_dim = self.style_dim + self.slow_dim, 2 * len(OSCILLATIONS)
        self.norms = nn.ModuleList(
            StyledBatchNorm(count, config.n_genres, style_dim, clock_dim) for count in channels
        )
        self.to_image = upsampling(config.upsampling, channels[-1], 1, padded_in_time=False)
        self.apply(init_dcgan)
        smooth = torch.hann_window(SMOOTHING_CELLS + 2, periodic=False)[1:-1]
        self.register_buffer("smooth", smooth / smooth.norm(), persistent=False)
        self.register_buffer("oscillations", torch.tensor(OSCILLATIONS)[:, None], persistent=False)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Images (B, K, H, W) in [-1, 1]."""
        batch, size, device = len(latents), self.image_size, latents.device
        genres = genre_mixture(labels, self.n_genres).to(latents.dtype)
        genres = genres[:, :, None].expand(-1, -1, self.window_cells)
        style, windows = latents[:, : self.style_dim], latents[:, self.style_dim :]
        windows = windows.reshape(batch * self.n_windows, -1)
        style, genres = (part.repeat_interleave(self.n_windows, dim=0) for part in (style, genres))
        sequence = windows[:, :-2].reshape(-1, self.cell_dim, self.window_cells)
        edges = torch.arange(self.window_cells + 1, device=device)
        beats = self.phase(windows)[:, None] + self.beats_in_cell(style) * edges
        frames = self.frames(style, sequence, genres, beats)
        columns = self.begins_at(windows)[:, None] + torch.arange(size, device=device)
        images = frames.gather(3, columns[:, None, None, :].expand(-1, 1, size, -1))
        return images.view(batch, self.n_windows, size, size)

    def begins_at(self, latents: Tensor) -> Tensor:
        """The frame (...,) of its first cell at which the image of latents (..., Z) begins.

        The normal distribution function maps the last latent to a uniform number.
        """
        uniform: Tensor = torch.special.ndtr(latents[..., -1])
        # Rounding may yield exactly 1.
        return (uniform * self.cell_frames).long().clamp(max=self.cell_frames - 1)

    def phase(self, latents: Tensor) -> Tensor:
        """Beats (...,) since a bar began at the start of the sequence in latents (..., Z)."""
        uniform: Tensor = torch.special.ndtr(latents[..., -2])
        return BEATS_PER_BAR * uniform

    def beats_in_cell(self, style: Tensor) -> Tensor:
        """The tempo (B, 1) of a style (B, style_dim), which is its first number."""
        factor: Tensor = 2.0 ** (OCTAVES * style[:, :1])
        return BEATS_PER_CELL * factor

    def at_tempo(self, style: Tensor, beats_in_cell: float) -> Tensor:
        """The style (B, style_dim) at another tempo, or at the nearest that occurs in training."""
        tempo = math.log2(beats_in_cell / BEATS_PER_CELL) / OCTAVES
        tempo = max(-LARGEST_TEMPO, min(tempo, LARGEST_TEMPO))
        return torch.cat([torch.full_like(style[:, :1], tempo), style[:, 1:]], dim=1)

    def frames(self, style: Tensor, sequence: Tensor, genres: Tensor, beats: Tensor) -> Tensor:
        """Frames (B, 1, H, cell_frames * (N - 2 * context)) in [-1, 1] of a piece or a part of it.

        Args:
            style: (B, style_dim), standard normal.
            sequence: (B, cell_dim, N), standard normal; no frames are drawn for the first and last
                `context` cells.
            genres: mixtures (B, n_genres, N).
            beats: (B, N + 1), time in beats at the start of each cell and the end of the last; bars
                begin at multiples of `bar`.
        """
        half = SMOOTHING_CELLS // 2
        fast, slow = sequence[:, :FAST_DIM, half:-half], sequence[:, FAST_DIM:]
        kernel = self.smooth.to(slow.dtype).expand(self.slow_dim, 1, -1)
        slow = F.conv1d(slow, kernel, groups=self.slow_dim)[:, :, 1:-1]
        style = torch.cat([style[:, :, None].expand(-1, -1, slow.shape[2]), slow], dim=1)
        genres, beats = (part[..., half + 1 : -half - 1] for part in (genres, beats))

        def activated(norm: nn.Module, features: Tensor, cell_frames: int) -> Tensor:
            clock = clock_features(beats, cell_frames, self.oscillations)
            return F.relu(norm(features, genres, style, clock))

        begun: Tensor = self.begin(fast)
        features = begun.reshape(len(begun), -1, INNERMOST, begun.shape[2])
        features = activated(self.norms[0], features, 1)
        for level, (layer, norm) in enumerate(zip(self.layers, self.norms[1:], strict=True), 1):
            features = activated(norm, layer(features), 2**level)
        return torch.tanh(self.to_image(features))[..., 1:-1]


def clock_features(beats: Tensor, cell_frames: int, oscillations: Tensor) -> Tensor:
    """Cosines and sines (B, 2 * O, M * cell_frames) of the time in beats, averaged over each frame.

    The average makes oscillations that are too fast for the frames vanish rather than alias.

    Args:
        beats: (B, M + 1), time at the start of each cell and the end of the last.
        oscillations: per beat, (O, 1).
    """
    per_frame = beats.diff(dim=1)[:, :, None] / cell_frames
    centres = torch.arange(cell_frames, device=beats.device) + 0.5
    times = beats[:, :-1, None] + per_frame * centres
    angles = 2 * torch.pi * oscillations * times.flatten(1)[:, None]
    amplitude = torch.sinc(oscillations * per_frame.expand_as(times).flatten(1)[:, None])
    return torch.cat([amplitude * angles.cos(), amplitude * angles.sin()], dim=1)


class Discriminator(nn.Module):
    """images (B, K, H, W), labels (B,) -> logits (L * B,); positive means real and of that genre.

    The first B logits judge the first window in full detail. With `rhythm`, B more judge how loud
    a few broad bands are over time; with `pairs`, B more judge whether both windows are of one
    piece. They are not added up: a confident verdict of one would leave no gradient for another.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.window = stable_cgan.Discriminator(config)
        self.rhythm = RhythmDiscriminator(config) if config.rhythm else None
        self.pair = PairDiscriminator(config) if config.pairs else None

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Logits (L * B,)."""
        window = images[:, :1]
        logits: list[Tensor] = [self.window(window, labels)]
        if self.rhythm:
            logits.append(self.rhythm(window, labels))
        if self.pair:
            logits.append(self.pair(images, labels))
        return torch.cat(logits)


class RhythmDiscriminator(ProjectionDiscriminator):
    """images (B, 1, H, W), labels (B,) -> logits (B,); positive means real and of that genre.

    It averages over neighbouring bands: what many of them do at once is heard as a beat, however
    faint it is in each. Where a gradient is spread over many pixels, its square is small, so that
    gradient penalties leave this discriminator more sensitive to it than the one of the window.
    """

    def __init__(self, config: ModelConfig) -> None:
        channels = [RHYTHM_BANDS, *(2 * config.width * 2**k for k in range(RHYTHM_LAYERS))]
        layers: list[nn.Module] = [_BroadBands(config.image_size // RHYTHM_BANDS)]
        for outer, inner in itertools.pairwise(channels):
            layers += [
                nn.Conv2d(outer, inner, (1, 4), (1, 2), (0, 1)),
                nn.LeakyReLU(SLOPE, inplace=True),
            ]
        super().__init__(layers, channels[-1] * (config.image_size >> RHYTHM_LAYERS), config)


class _BroadBands(nn.Module):
    """images (B, 1, H, W) -> (B, H / size, 1, W): means over `size` neighbouring bands."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        return F.avg_pool2d(images, (self.size, 1)).transpose(1, 2)


class PairDiscriminator(ProjectionDiscriminator):
    """images (B, 2, H, W), labels (B,) -> logits (B,); positive means one piece, and of that genre.

    It averages over a few frames: what stays the same in a piece is its sound, not its details.
    """

    def __init__(self, config: ModelConfig) -> None:
        channels = [2, *(config.width * 2**k for k in range(PAIR_LAYERS))]
        layers: list[nn.Module] = [nn.AvgPool2d((1, config.image_size // PAIR_FRAMES))]
        for outer, inner in itertools.pairwise(channels):
            layers += [nn.Conv2d(outer, inner, 4, 2, 1), nn.LeakyReLU(SLOPE, inplace=True)]
        n_positions = (config.image_size >> PAIR_LAYERS) * (PAIR_FRAMES >> PAIR_LAYERS)
        super().__init__(layers, channels[-1] * n_positions, config)
