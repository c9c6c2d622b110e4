"""A conditional GAN whose generator is convolutional in time: it draws any number of frames in one pass.

Latents are a style, the same for a whole piece, and a sequence, some numbers for each cell of a few frames.
M. Pasini, J. Schlüter, Musika! Fast infinite waveform music generation, ISMIR 2022, arXiv:2208.08706;
C. H. Lin et al., InfinityGAN: towards infinite-pixel image synthesis, ICLR 2022, arXiv:2104.03963. Some numbers
of the sequence are smoothed over many cells, so that what they decide drifts slowly.

No layer pads in time. Each drops the frames that would depend on what lies beyond the sequence, so a frame
is the same whatever it is drawn with. Training cuts windows at random offsets within a cell, or else images
would always begin with one.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musicspectrogan.models import ModelConfig, projection
from musicspectrogan.models.blocks import INNERMOST, channels_outwards
from musicspectrogan.models.blocks import initialise as initialise_as_dcgan
from musicspectrogan.models.layers import StyledBatchNorm, upsampling

CONDITIONAL = True
OPTIONS = (*projection.OPTIONS, "pairs")

# Numbers for each cell: those that are used as they are, and those that are smoothed first.
FAST, SLOW = 16, 32
# Cells that a smoothed number is a mean of: 24 s, after which nothing is left of it.
DRIFT = 32
# Cells at each end of a sequence that no frame is drawn for: what they decide reaches to their neighbours.
MARGIN = 2
CELLS_AN_IMAGE = INNERMOST
# Cells that a window lies in: one more, because it begins anywhere in the first.
CELLS_A_WINDOW = CELLS_AN_IMAGE + 1 + 2 * MARGIN
NOISE_A_WINDOW = FAST * CELLS_A_WINDOW + SLOW * (CELLS_A_WINDOW + DRIFT - 1)


class Generator(nn.Module):
    """latents (B, Z), labels (B,) -> images (B, K, H, W) in [-1, 1], K windows of each piece.

    Labels may also be mixtures of genres, float (B, n_genres) with rows that sum to 1. The latents of an image
    hold a style and, for each of its K windows, the sequence and where in a cell the window begins.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_genres, self.n_windows = config.n_genres, config.n_windows
        self.style_dim = config.latent_dim
        self.latent_dim = self.style_dim + self.n_windows * (NOISE_A_WINDOW + 1)
        self.cell_frames = config.image_size // CELLS_AN_IMAGE
        channels = channels_outwards(config.width, config.image_size)
        self.begin = nn.Conv1d(FAST, channels[0] * INNERMOST, 3, bias=False)
        self.layers = nn.ModuleList(
            upsampling(config.upsampling, *pair, padded_in_time=False) for pair in itertools.pairwise(channels)
        )
        self.norms = nn.ModuleList(
            StyledBatchNorm(count, config.n_genres, self.style_dim + SLOW) for count in channels
        )
        self.to_image = upsampling(config.upsampling, channels[-1], 1, padded_in_time=False)
        self.apply(initialise_as_dcgan)
        drift = torch.hann_window(DRIFT + 2, periodic=False)[1:-1]
        self.register_buffer("drift", drift / drift.norm(), persistent=False)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Images (B, K, H, W) in [-1, 1]."""
        genres = labels if labels.is_floating_point() else F.one_hot(labels, self.n_genres)
        genres = genres.to(latents.dtype).repeat_interleave(self.n_windows, dim=0)
        style = latents[:, : self.style_dim].repeat_interleave(self.n_windows, dim=0)
        rest = latents[:, self.style_dim :].reshape(len(style), NOISE_A_WINDOW + 1)
        fast, slow, place = rest.split([FAST * CELLS_A_WINDOW, NOISE_A_WINDOW - FAST * CELLS_A_WINDOW, 1], 1)
        fast, slow = fast.view(-1, FAST, CELLS_A_WINDOW), slow.view(len(style), SLOW, -1)
        cells = CELLS_A_WINDOW
        frames = self.frames(
            style[:, :, None].expand(-1, -1, cells), fast, slow, genres[:, :, None].expand(-1, -1, cells)
        )
        # A normal number's rank among all is uniform in [0, 1].
        start = (torch.special.ndtr(place) * self.cell_frames).long().clamp(max=self.cell_frames - 1)
        size = CELLS_AN_IMAGE * self.cell_frames
        columns = start + torch.arange(size, device=start.device)
        windows = frames.gather(3, columns[:, None, None, :].expand(-1, 1, frames.shape[2], -1))
        return windows.view(-1, self.n_windows, *windows.shape[2:])

    def frames(self, style: Tensor, fast: Tensor, slow: Tensor, genres: Tensor) -> Tensor:
        """All frames (B, 1, H, cell_frames * (C - 2 * MARGIN)) in [-1, 1] of the C cells between the margins.

        Args:
            style: (B, style_dim, C).
            fast: (B, FAST, C), standard normal.
            slow: (B, SLOW, C + DRIFT - 1), standard normal; smoothed here.
            genres: mixtures (B, n_genres, C).
        """
        weights = self.drift.to(slow.dtype).expand(SLOW, 1, -1)
        slow = F.conv1d(slow, weights, groups=SLOW)
        style, genres = (part[:, :, 1:-1] for part in (torch.cat([style, slow], dim=1), genres))
        features = self.begin(fast).unflatten(1, (-1, INNERMOST))
        features = F.relu(self.norms[0](features, genres, style, 1))
        for level, (layer, norm) in enumerate(zip(self.layers, self.norms[1:], strict=True), 1):
            features = F.relu(norm(layer(features), genres, style, 2**level))
        return torch.tanh(self.to_image(features))[..., 1:-1]


class Discriminator(projection.Discriminator):
    """images (B, K, H, W), labels (B,) -> logits (B,); positive means real, of that genre and of one piece."""
