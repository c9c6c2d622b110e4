"""What an ONNX file computes, as modules that PyTorch can trace.

They call generators and vocoders as they are. Only Griffin-Lim is written again, in real numbers
and with overlapping frames as sums of shifted blocks: ONNX has no counterpart of `torch.istft`.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musicspectrogan.audio.inversion import (
    MOMENTUM,
    PHASE_FRAMES,
    PHASE_ITERATIONS,
    initial_cycles,
)
from musicspectrogan.audio.magnitude import EPSILON, linear_power, mel_power_of
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.audio.vocoder import Vocoder
from musicspectrogan.models import AnyLengthGenerator


class Images(nn.Module):
    """latents (B, Z), genre mixtures (B, n_genres) -> grey levels uint8 (B, H, W).

    Without genres for an unconditional generator.
    """

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, latents: Tensor, genres: Tensor | None = None) -> Tensor:
        """Grey levels."""
        if genres is None:
            genres = latents.new_zeros(latents.shape[0], dtype=torch.int64)
        return _grey_levels(self.generator(latents, genres))


class Pieces(nn.Module):
    """Parts of pieces: style, sequence, beats, genres -> grey levels uint8 (B, H, T).

    The arguments are those of `AnyLengthGenerator.frames`; without genres for an unconditional
    generator.
    """

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(
        self, style: Tensor, sequence: Tensor, beats: Tensor, genres: Tensor | None = None
    ) -> Tensor:
        """Grey levels."""
        if genres is None:
            genres = torch.ones_like(sequence[:, :1])
        generator = cast(AnyLengthGenerator, self.generator)
        return _grey_levels(generator.frames(style, sequence, genres, beats))


class Clock(nn.Module):
    """latents (B, Z) -> what a piece needs to begin as the image of these latents does.

    That is the tempo in beats per cell, the beats since a bar began at the start of its first cell,
    and the frame of this cell at which the piece begins, (B,) each.
    """

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tempo, phase and offset."""
        generator = cast(AnyLengthGenerator, self.generator)
        tempo = generator.beats_in_cell(latents[:, : generator.style_dim])[:, 0]
        return tempo, generator.phase(latents), generator.begins_at(latents)


def _grey_levels(images: Tensor) -> Tensor:
    """As `tensors.as_pixels`, but on the device."""
    return images[:, 0].add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)


class Sound(nn.Module):
    """Grey levels uint8 (B, n_mels, T) -> samples (B, T * hop_length), the same as `invert`.

    All frames are inverted at once, so memory grows with T.
    """

    cycles: Tensor
    window: Tensor
    weights: Tensor

    def __init__(self, config: SpectrogramConfig, vocoder: Vocoder | None) -> None:
        super().__init__()
        self.config, self.vocoder = config, vocoder
        self.iterations = vocoder.phase_iterations if vocoder else PHASE_ITERATIONS
        fine = vocoder.fine_config(config) if vocoder else config
        self.n_fft, self.hop = fine.n_fft, fine.hop_length
        # Blocks of one hop that a window overlaps.
        self.blocks = -(-self.n_fft // self.hop)
        bins = 1 + self.n_fft // 2
        # The real part of the inverse transform of the lower half of a spectrum, if all bins but
        # those without a mirror image count twice, is that of the whole.
        weights = torch.full((bins, 1), 2.0)
        weights[0] = 1.0
        if self.n_fft % 2 == 0:
            weights[-1] = 1.0
        self.register_buffer("weights", weights)
        self.register_buffer("cycles", initial_cycles(bins))
        self.register_buffer("window", torch.hann_window(self.n_fft))

    def forward(self, images: Tensor) -> Tensor:
        """Samples at an arbitrary level."""
        magnitude = self._magnitude(images).transpose(1, 2)
        magnitude = torch.cat([magnitude, magnitude[:, -1:]], dim=1)[..., None]
        rows = torch.arange(magnitude.shape[1]) % PHASE_FRAMES
        phase = 2.0 * torch.pi * self.cycles[rows]
        phase = torch.stack([phase.cos(), phase.sin()], dim=2)
        phase = phase.expand(magnitude.shape[0], -1, -1, -1)
        norm = self._overlap(self.window.square().expand(1, magnitude.shape[1], -1))
        previous = torch.zeros_like(phase)
        for _ in range(self.iterations):
            rebuilt = self._stft(self._istft(magnitude * phase, norm))
            update = rebuilt - (MOMENTUM / (1.0 + MOMENTUM)) * previous
            length = update.square().sum(dim=3, keepdim=True).sqrt()
            phase = update / length.clamp_min(EPSILON)
            previous = rebuilt
        return self._istft(magnitude * phase, norm)

    def _magnitude(self, images: Tensor) -> Tensor:
        """Fourier magnitudes (B, F, T * frames per column)."""
        if self.vocoder is not None:
            return self.vocoder.magnitude(images)
        return linear_power(mel_power_of(images, self.config), self.config).sqrt()

    def _istft(self, spectra: Tensor, norm: Tensor) -> Tensor:
        """Spectra (B, M, F, 2) -> samples (B, (M - 1) * hop).

        Args:
            norm: sum of the squared windows, (1, (M - 1) * hop).
        """
        mirrored = self.n_fft - spectra.shape[2]
        spectra = F.pad(spectra * self.weights, (0, 0, 0, mirrored))
        frames = torch.view_as_real(torch.fft.ifft(torch.view_as_complex(spectra)))[..., 0]
        return self._overlap(frames * self.window) / norm

    def _overlap(self, frames: Tensor) -> Tensor:
        """Sum of frames (B, M, n_fft), each a hop after the one before, (B, (M - 1) * hop)."""
        whole = F.pad(frames, (0, self.blocks * self.hop - self.n_fft))
        parts = whole.reshape(*frames.shape[:2], self.blocks, self.hop)
        total = F.pad(parts[:, :, 0], (0, 0, 0, self.blocks - 1))
        for block in range(1, self.blocks):
            total = total + F.pad(parts[:, :, block], (0, 0, block, self.blocks - 1 - block))
        return total.flatten(1).narrow(1, self.n_fft // 2, (frames.shape[1] - 1) * self.hop)

    def _stft(self, samples: Tensor) -> Tensor:
        """Samples (B, (M - 1) * hop) -> spectra (B, M, F, 2)."""
        before = self.n_fft // 2
        padded = F.pad(samples, (before, self.blocks * self.hop - before))
        parts = padded.reshape(samples.shape[0], -1, self.hop)
        count = parts.shape[1] - self.blocks + 1
        shifted = [parts[:, block : block + count] for block in range(self.blocks)]
        frames = torch.cat(shifted, dim=2)[:, :, : self.n_fft]
        return torch.view_as_real(torch.fft.rfft(frames * self.window))
