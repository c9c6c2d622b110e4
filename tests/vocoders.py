"""Vocoders that have not learned, whose weights are random."""

from __future__ import annotations

import torch
from torch import nn

from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.audio.vocoder import Record, Vocoder


def random_vocoder(
    config: SpectrogramConfig | None = None, seed: int = 0, scale: float = 1.0
) -> Vocoder:
    """A vocoder whose gains are some decibels; its weights are exact in half precision.

    Args:
        scale: of the gains.
    """
    vocoder = Vocoder(config or SpectrogramConfig())
    generator = torch.Generator().manual_seed(seed)
    for weight in vocoder.parameters():
        std = weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.1
        nn.init.normal_(weight, std=std, generator=generator)
    for weight in vocoder.output.parameters():
        nn.init.normal_(weight, std=0.2 * scale, generator=generator)
    vocoder.record = Record(tracks=7, minutes=1.25, steps=11, seed=seed)
    return Vocoder.from_plain(vocoder.to_plain())
