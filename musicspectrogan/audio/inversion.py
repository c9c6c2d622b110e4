"""From mel-spectrogram images back to sound: mel bands -> Fourier bins -> phase.

Everything is batched, runs on any device, and treats each item of a batch as if it were alone.
docs/inversion.md has the measurements behind the defaults.
"""

from __future__ import annotations

import torch
from torch import Tensor

from musicspectrogan.audio.spectrogram import SpectrogramConfig, grey_to_db, mel_filterbank

POWER_STEPS = 5
PHASE_ITERATIONS = 8
MOMENTUM = 0.99
PHASE_SEED = 0

# Stands in for a divisor of zero, where the numerator is zero too.
TINY = 1e-20


def invert(
    images: Tensor,
    config: SpectrogramConfig,
    *,
    power_steps: int = POWER_STEPS,
    phase_iterations: int = PHASE_ITERATIONS,
) -> Tensor:
    """Sound of spectrogram images.

    Args:
        images: grey levels (B, n_mels, T) from 0 to 255, uint8 or float, low frequencies at the bottom;
            T is free.
        config: how the images were made.

    Returns:
        Samples (B, T * hop_length), float32, at no particular level: the images say nothing of it.
    """
    mel = mel_power_of(images, config)
    power = linear_power(mel, config, steps=power_steps)
    return griffin_lim(power.sqrt(), config, iterations=phase_iterations)


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
    magnitude: Tensor, config: SpectrogramConfig, *, iterations: int = PHASE_ITERATIONS
) -> Tensor:
    """Samples (B, T * hop_length) whose Fourier magnitude is near `magnitude` (B, F, T).

    Fast Griffin-Lim: N. Perraudin, P. Balazs, P. Søndergaard, A fast Griffin-Lim algorithm, WASPAA
    2013. The random phase that it starts from is the same for every item and every call.
    """
    # One frame more, so that T frames give T hops and not T - 1.
    magnitude = _frame_by_frame(torch.cat([magnitude, magnitude[:, :, -1:]], dim=2))
    window = torch.hann_window(config.n_fft, device=magnitude.device)
    transform = {"n_fft": config.n_fft, "hop_length": config.hop_length, "window": window}
    generator = torch.Generator().manual_seed(PHASE_SEED)
    turns = torch.rand(magnitude.shape[1:], generator=generator).to(magnitude.device)
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


def _frame_by_frame(spectra: Tensor) -> Tensor:
    """The same (B, F, T), each frame's F values side by side in memory, as stft leaves them.

    In another layout some CPUs' inverse transforms round differently with the size of the batch.
    """
    return spectra.transpose(1, 2).contiguous().transpose(1, 2)
