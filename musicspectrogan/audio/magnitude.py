"""Fourier power of spectrogram images by a non-negative fit, which knows nothing of music."""

from __future__ import annotations

import torch
from torch import Tensor

from musicspectrogan.audio.spectrogram import SpectrogramConfig, grey_to_db, mel_filterbank

POWER_STEPS = 5

# Avoids dividing 0 by 0.
EPSILON = 1e-20


def mel_power_of(images: Tensor, config: SpectrogramConfig) -> Tensor:
    """Convert grey levels (B, n_mels, T) to mel power (B, n_mels, T), lowest band first.

    White is 1. Black is 0, because it means -top_db or anything quieter.
    """
    grey = images.float().flip(1)
    return torch.where(grey > 0, 10.0 ** (grey_to_db(grey, config) / 10.0), 0.0)


def linear_power(mel: Tensor, config: SpectrogramConfig, *, steps: int = POWER_STEPS) -> Tensor:
    """Estimate non-negative Fourier power (B, 1 + n_fft // 2, T) from mel power (B, n_mels, T).

    Minimises the generalised Kullback-Leibler divergence by multiplicative updates (D. Lee, S.
    Seung, Algorithms for non-negative matrix factorization, NeurIPS 2000). Unlike least squares,
    it weighs each band by its own power, as hearing does.
    """
    filters = torch.from_numpy(mel_filterbank(config).copy()).to(mel)
    batch, n_mels, frames = mel.shape
    # Two-dimensional: batched products round differently with the batch size.
    target = mel.transpose(1, 2).reshape(batch * frames, n_mels)
    # Start from each band's power spread evenly over its bins.
    spread = filters / filters.sum(dim=0).clamp_min(EPSILON)
    power = (target / filters.sum(dim=1).clamp_min(EPSILON)) @ spread
    for _ in range(steps):
        ratio = target / (power @ filters.T).clamp_min(EPSILON)
        power = power * (ratio @ spread)
    return power.reshape(batch, frames, -1).transpose(1, 2)
