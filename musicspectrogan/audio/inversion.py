"""Spectrogram images to sound: mel bands -> Fourier bins -> phase.

The Fourier bins are a non-negative fit, or those of a learned vocoder. Batched, on any device; each
item of a batch gives the same samples as alone. docs/inversion.md has the measurements behind the
defaults.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from musicspectrogan.audio.magnitude import EPSILON, POWER_STEPS, linear_power, mel_power_of
from musicspectrogan.audio.spectrogram import MINIMUM_POWER, SpectrogramConfig, mel_power
from musicspectrogan.audio.vocoder import Vocoder

PHASE_ITERATIONS = 8
MOMENTUM = 0.99
PHASE_SEED = 0
# Period of the initial random phases, in frames.
PHASE_FRAMES = 1024
# Frames times Fourier bins inverted at a time, about 50 bytes each; 24 s at the default settings,
# 12 s with a vocoder.
BLOCK_BINS = 2**19

# Dynamic range of `round_trip_error`.
COMPARED_DB = 60.0


def invert(
    images: Tensor,
    config: SpectrogramConfig,
    *,
    vocoder: Vocoder | None = None,
    loops: bool = False,
    power_steps: int = POWER_STEPS,
    phase_iterations: int | None = None,
) -> Tensor:
    """Sound of spectrogram images.

    Args:
        images: grey levels (B, n_mels, T) from 0 to 255, uint8 or float, low frequencies at the
            bottom; any T.
        config: settings of the images.
        vocoder: gives the Fourier bins, for images with its settings but any number of frames, and
            any hop that is a multiple of its `frames_per_column`; None for the fit.
        loops: the last frame is followed by the first.
        power_steps: of the fit without a vocoder.
        phase_iterations: of Griffin-Lim; None for the vocoder's, or PHASE_ITERATIONS without one.

    Returns:
        Samples (B, T * hop_length), float32, at an arbitrary level.
    """
    blocks = inverted_blocks(
        images,
        config,
        vocoder=vocoder,
        loops=loops,
        power_steps=power_steps,
        phase_iterations=phase_iterations,
    )
    return torch.cat(list(blocks), dim=1)


def inverted_blocks(
    images: Tensor,
    config: SpectrogramConfig,
    *,
    vocoder: Vocoder | None = None,
    loops: bool = False,
    margin: int = 0,
    power_steps: int = POWER_STEPS,
    phase_iterations: int | None = None,
) -> Iterator[Tensor]:
    """Same as `invert`, block by block, so that memory does not grow with length.

    A sample depends on a limited context of frames. Each block is computed with that context on
    both sides, so the blocks join without a seam; a loop takes its context from its other end.

    Args:
        margin: for a loop: frames of the other end to yield too, before the first and after the
            last.

    Yields:
        Samples (B, frames * hop_length) of consecutive blocks.
    """
    frames, hop = images.shape[2], config.hop_length
    fine = vocoder.fine_config(config) if vocoder else config
    per_column = hop // fine.hop_length
    if phase_iterations is None:
        phase_iterations = vocoder.phase_iterations if vocoder else PHASE_ITERATIONS
    # Each STFT round trip mixes as many neighbours as the windows overlap.
    context = -(-(phase_iterations + 1) * -(-fine.n_fft // fine.hop_length) // per_column)
    context += vocoder.context if vocoder else 0
    block = max(context, BLOCK_BINS // (per_column * (1 + fine.n_fft // 2)))
    for start in range(-margin, frames + margin, block):
        stop = min(start + block, frames + margin)
        first, last = start - context, stop + context
        if not loops:
            first, last = max(0, first), min(frames, last)
        columns = torch.arange(first, last) % frames
        shown = images[:, :, columns.to(images.device)]
        if vocoder:
            magnitude = vocoder.magnitude(shown)
        else:
            magnitude = linear_power(mel_power_of(shown, config), config, steps=power_steps).sqrt()
        positions = (columns[:, None] * per_column + torch.arange(per_column)).flatten()
        wave = griffin_lim(magnitude, fine, iterations=phase_iterations, positions=positions)
        yield wave[:, (start - first) * hop : (stop - first) * hop]


def griffin_lim(
    magnitude: Tensor,
    config: SpectrogramConfig,
    *,
    iterations: int = PHASE_ITERATIONS,
    positions: Tensor | None = None,
    phase: Tensor | None = None,
) -> Tensor:
    """Samples (B, T * hop_length) whose Fourier magnitude is close to `magnitude` (B, F, T).

    Fast Griffin-Lim: N. Perraudin, P. Balazs, P. Søndergaard, A fast Griffin-Lim algorithm, WASPAA
    2013. The initial random phase is the same for every item and every call.

    Args:
        positions: int64 (T,), the frames' positions in a longer piece, which select their initial
            phases; None for 0 to T - 1.
        phase: phases (B, F, T + 1) in radians to start from, also of the frame after the last; None
            for random ones.
    """
    if positions is None:
        positions = torch.arange(magnitude.shape[2])
    # One more frame, because istft of T + 1 frames gives T hops.
    magnitude = _bins_contiguous(torch.cat([magnitude, magnitude[:, :, -1:]], dim=2))
    n_fft, hop = config.n_fft, config.hop_length
    window = torch.hann_window(n_fft, device=magnitude.device)
    stft = partial(torch.stft, n_fft=n_fft, hop_length=hop, window=window, pad_mode="constant")
    istft = partial(torch.istft, n_fft=n_fft, hop_length=hop, window=window)
    if phase is None:
        rows = torch.cat([positions, positions[-1:] + 1]) % PHASE_FRAMES
        phase = 2.0 * torch.pi * initial_cycles(magnitude.shape[1])[rows].T.to(magnitude.device)
    phase = torch.polar(torch.ones_like(phase), phase)
    phase = _bins_contiguous(phase.expand(magnitude.shape))
    previous = torch.zeros_like(phase)
    for _ in range(iterations):
        rebuilt = stft(istft(magnitude * phase), return_complex=True)
        update = rebuilt - (MOMENTUM / (1.0 + MOMENTUM)) * previous
        phase = update / update.abs().clamp_min(EPSILON)
        previous = rebuilt
    return istft(magnitude * phase)


@lru_cache(maxsize=2)
def initial_cycles(bins: int) -> Tensor:
    """Uniform random phases (PHASE_FRAMES, F) in cycles, from 0 to 1."""
    return torch.rand((PHASE_FRAMES, bins), generator=torch.Generator().manual_seed(PHASE_SEED))


def _bins_contiguous(spectra: Tensor) -> Tensor:
    """The same (B, F, T) with each frame's bins contiguous in memory, as stft returns them.

    In another layout, istft on some CPUs rounds differently with the batch size.
    """
    return spectra.transpose(1, 2).contiguous().transpose(1, 2)


def round_trip_error(
    original: npt.NDArray[np.floating], restored: npt.NDArray[np.floating], sample_rate: int
) -> float:
    """Mean absolute difference in dB of log-mel spectrograms with 128 bands up to Nyquist.

    Each is relative to its own maximum and clipped COMPARED_DB below it, so that neither level nor
    inaudible detail counts. The longer sound is cut.

    Args:
        original, restored: mono samples (n,) at `sample_rate`.
    """
    length = min(len(original), len(restored))
    config = SpectrogramConfig(
        sample_rate=sample_rate, n_fft=2048, hop_length=512, n_mels=128, f_max=sample_rate / 2
    )

    def log_mel(samples: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        decibels = 10.0 * np.log10(np.maximum(mel_power(samples[:length], config), MINIMUM_POWER))
        return np.asarray(np.maximum(decibels - decibels.max(), -COMPARED_DB))

    return float(np.abs(log_mel(original) - log_mel(restored)).mean())
