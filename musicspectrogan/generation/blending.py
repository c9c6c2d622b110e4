"""Pieces from a generator of single images: a smooth walk through its latents, blended as mel power."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from musicspectrogan.generation.sampler import Sampler
from musicspectrogan.generation.takes import Take

# Images over every frame; a power of two from which on squared Hann windows, too, add up to a constant.
OVERLAP = 4
# Images from one random latent to the next; between them the walk is smooth.
IMAGES_PER_TURN = 8


def blended(
    sampler: Sampler,
    take: Take,
    start: Tensor,
    end: Tensor,
    frames: int,
    *,
    loops: bool,
    truncation: float,
) -> np.ndarray:
    """Grey levels uint8 (n_mels, frames) of one seamless piece.

    OVERLAP images lie over every frame and are blended as mel power, with weights whose sum and sum of
    squares are the same everywhere, so that every frame is as much a blend as any other. With two
    images, each frame in the middle of one is that image alone, and the piece grows dull and clear
    again with each image. Power, because a mean of decibels would soften every onset.

    Args:
        start, end: genre mixtures (n_genres,) at the two ends; the same for a single genre.
        loops: the last frame goes on at the first.
    """
    size = sampler.images(sampler.latent(take)[None], start[None]).shape[-1]
    hop = size // OVERLAP
    count = -(-frames // hop) + (0 if loops else OVERLAP - 1)
    latents = _walk(sampler, take, count, loops=loops) * truncation
    position = torch.linspace(0, 1, count)
    if loops:  # there and back
        position = 1.0 - (2.0 * torch.arange(count) / count - 1.0).abs()
    labels = start + position[:, None] * (end - start)
    decades = sampler.spectrogram.top_db / 10.0 / 255.0  # of power, in one grey level
    powers = 10.0 ** (sampler.images(latents, labels) * np.float32(decades))
    weights = np.sin(np.pi * (np.arange(size, dtype=np.float32) + 0.5) / size) ** 2
    # Where a loop is not a whole number of hops the last image reaches a little less far.
    total = frames if loops else (count + OVERLAP - 1) * hop
    blended = np.zeros((powers.shape[1], total), dtype=np.float32)
    norm = np.zeros(total, dtype=np.float32)
    for index, power in enumerate(powers):
        columns = np.arange(index * hop, index * hop + size)
        columns = columns % total if loops else columns
        np.add.at(blended.T, columns, (power * weights).T)
        np.add.at(norm, columns, weights)
    first = 0 if loops else size - hop
    blended = blended[:, first : first + frames] / norm[first : first + frames]
    return np.rint(np.log10(blended) / decades).clip(0, 255).astype(np.uint8)


def _walk(sampler: Sampler, take: Take, count: int, *, loops: bool) -> Tensor:
    """Latents (count, Z) on a smooth path of the length that random latents have."""
    turns = max(2, -(-count // IMAGES_PER_TURN))
    stops = torch.stack([sampler.latent(take, "walk", turn) for turn in range(turns + (not loops))])
    stops = torch.cat([stops, stops[:1]]) if loops else stops
    along = torch.arange(count) * (turns / count)
    left = along.long()
    part = (along - left)[:, None] * (torch.pi / 2)
    # On a circle, not on a line: half-way between two random latents a mean would be too short.
    return torch.cos(part) * stops[left] + torch.sin(part) * stops[left + 1]
