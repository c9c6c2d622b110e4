"""From mel-spectrogram images back to sound: mel bands -> Fourier bins -> phase.

Everything is batched, runs on any device, and treats each item of a batch as if it were alone.
docs/inversion.md has the measurements behind the defaults.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from musicspectrogan.audio.spectrogram import SpectrogramConfig, grey_to_db, mel_filterbank

POWER_STEPS = 5
PHASE_ITERATIONS = 8
MOMENTUM = 0.99
PHASE_SEED = 0
# Frames after which the phases that Griffin-Lim starts from come again.
PHASE_FRAMES = 1024
# Frames times Fourier bins that are inverted at a time; each takes some 50 bytes. At the usual settings these
# are 24 s.
BLOCK_BINS = 2**19

# Stands in for a divisor of zero, where the numerator is zero too.
TINY = 1e-20


def invert(
    images: Tensor,
    config: SpectrogramConfig,
    *,
    loops: bool = False,
    power_steps: int = POWER_STEPS,
    phase_iterations: int = PHASE_ITERATIONS,
) -> Tensor:
    """Sound of spectrogram images.

    Args:
        images: grey levels (B, n_mels, T) from 0 to 255, uint8 or float, low frequencies at the bottom;
            T is free.
        config: how the images were made.
        loops: the last frame goes on at the first.

    Returns:
        Samples (B, T * hop_length), float32, at no particular level: the images say nothing of it.
    """
    steps = {"power_steps": power_steps, "phase_iterations": phase_iterations}
    return torch.cat(list(inverted_blocks(images, config, loops=loops, **steps)), dim=1)


def inverted_blocks(
    images: Tensor,
    config: SpectrogramConfig,
    *,
    loops: bool = False,
    margin: int = 0,
    power_steps: int = POWER_STEPS,
    phase_iterations: int = PHASE_ITERATIONS,
) -> Iterator[Tensor]:
    """The same as `invert`, block by block, so that hours take the memory of a minute.

    A sample depends on the frames within a fixed reach alone, and each block is computed with that many
    beside it: the blocks join as if they had been one. A loop is inverted in the same way, with its own
    other end on either side, so that its sound is periodic.

    Args:
        margin: frames of a loop's other end that are inverted too, before its first and behind its last.

    Yields:
        Samples (B, frames * hop_length), one block after another.
    """
    frames, hop = images.shape[2], config.hop_length
    # Each transform there and back mixes neighbours, as far as windows overlap.
    reach = (phase_iterations + 1) * -(-config.n_fft // hop)
    block = max(reach, BLOCK_BINS // (1 + config.n_fft // 2))
    for start in range(-margin, frames + margin, block):
        stop = min(start + block, frames + margin)
        first, last = start - reach, stop + reach
        if not loops:
            first, last = max(0, first), min(frames, last)
        columns = torch.arange(first, last) % frames
        mel = mel_power_of(images[:, :, columns.to(images.device)], config)
        power = linear_power(mel, config, steps=power_steps)
        wave = griffin_lim(power.sqrt(), config, iterations=phase_iterations, positions=columns)
        yield wave[:, (start - first) * hop : (stop - first) * hop]


def mel_power_of(images: Tensor, config: SpectrogramConfig) -> Tensor:
    """Grey levels (B, n_mels, T) -> mel power (B, n_mels, T), lowest band first; white is 1, black 0."""
    relative_db = grey_to_db(images.float().flip(1), config)
    # Black means "no louder than": at some -80 dB silence is the better guess.
    return torch.where(images.flip(1) > 0, 10.0 ** (relative_db / 10.0), 0.0)


def linear_power(mel: Tensor, config: SpectrogramConfig, *, steps: int = POWER_STEPS) -> Tensor:
    """Non-negative Fourier power (B, F, T), F = 1 + n_fft // 2, whose mel power is near `mel`.

    Minimises the generalised Kullback-Leibler divergence by multiplicative updates (D. Lee, S. Seung,
    Algorithms for non-negative matrix factorization, NeurIPS 2000), which weighs every band by its own
    power as the ear does; least squares see only the loudest.

    Args:
        mel: power (B, n_mels, T), lowest band first.
    """
    filters = torch.from_numpy(mel_filterbank(config).copy()).to(mel)
    batch, n_mels, frames = mel.shape
    # Two dimensions: products of batches round differently with the size of the batch.
    target = mel.transpose(1, 2).reshape(batch * frames, n_mels)
    coverage = filters.sum(dim=0).clamp_min(TINY)
    # Start from each band's power spread evenly over its own bins.
    spread = filters / coverage
    power = (target / filters.sum(dim=1).clamp_min(TINY)) @ spread
    for _ in range(steps):
        ratio = target / (power @ filters.T).clamp_min(TINY)
        power = power * (ratio @ spread)
    return power.reshape(batch, frames, -1).transpose(1, 2)


def griffin_lim(
    magnitude: Tensor,
    config: SpectrogramConfig,
    *,
    iterations: int = PHASE_ITERATIONS,
    positions: Tensor | None = None,
) -> Tensor:
    """Samples (B, T * hop_length) whose Fourier magnitude is near `magnitude` (B, F, T).

    Fast Griffin-Lim: N. Perraudin, P. Balazs, P. Søndergaard, A fast Griffin-Lim algorithm, WASPAA
    2013. The random phase that it starts from is the same for every item and every call.

    Args:
        positions: int64 (T,), where these frames lie in a longer piece; None for 0 to T - 1. A frame's
            starting phase is that of its position.
    """
    if positions is None:
        positions = torch.arange(magnitude.shape[2])
    # One frame more, so that T frames give T hops and not T - 1.
    magnitude = _frame_by_frame(torch.cat([magnitude, magnitude[:, :, -1:]], dim=2))
    window = torch.hann_window(config.n_fft, device=magnitude.device)
    transform = {"n_fft": config.n_fft, "hop_length": config.hop_length, "window": window}
    rows = torch.cat([positions, positions[-1:] + 1]) % PHASE_FRAMES
    turns = _starting_turns(magnitude.shape[1])[rows].T.to(magnitude.device)
    phase = torch.polar(torch.ones_like(turns), 2.0 * torch.pi * turns)
    phase = _frame_by_frame(phase.expand(magnitude.shape))
    before = torch.zeros_like(phase)
    for _ in range(iterations):
        samples = torch.istft(magnitude * phase, **transform)
        now = torch.stft(samples, **transform, pad_mode="constant", return_complex=True)
        leap = now - (MOMENTUM / (1.0 + MOMENTUM)) * before
        phase = leap / leap.abs().clamp_min(TINY)
        before = now
    return torch.istft(magnitude * phase, **transform)


@lru_cache(maxsize=2)
def _starting_turns(bins: int) -> Tensor:
    """(PHASE_FRAMES, F) from 0 to 1, parts of a circle."""
    return torch.rand((PHASE_FRAMES, bins), generator=torch.Generator().manual_seed(PHASE_SEED))


def _frame_by_frame(spectra: Tensor) -> Tensor:
    """The same (B, F, T), each frame's F values side by side in memory, as stft leaves them.

    In another layout some CPUs' inverse transforms round differently with the size of the batch.
    """
    return spectra.transpose(1, 2).contiguous().transpose(1, 2)
