"""One continuous piece of any length: a smooth walk through the latents, blended as mel frames."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from musicspectrogan.generation.sampler import Sampler

# Images from one random latent to the next; between them the walk is smooth.
IMAGES_PER_TURN = 4


def piece(
    sampler: Sampler, seed: int, start: Tensor, end: Tensor, frames: int, *, loops: bool, truncation: float
) -> np.ndarray:
    """Grey levels uint8 (n_mels, frames) of one seamless piece.

    Neighbouring images overlap by half and are blended as mel power, with weights that add up to one
    everywhere. Power, because a mean of decibels would soften every onset that only one of them has,
    and the piece would grow dull and clear again with each image.

    Args:
        start, end: genre mixtures (n_genres,) at the two ends; the same for a single genre.
        loops: the last frame goes on at the first.
    """
    size = sampler.images(sampler.latents([seed]), start[None]).shape[-1]
    hop = size // 2
    count = -(-frames // hop) if loops else -(-frames // hop) + 1
    latents = _walk(sampler, seed, count, loops=loops) * truncation
    position = torch.linspace(0, 1, count)
    if loops:  # there and back
        position = 1.0 - (2.0 * torch.arange(count) / count - 1.0).abs()
    labels = start + position[:, None] * (end - start)
    decades = sampler.spectrogram.top_db / 10.0 / 255.0  # of power, in one grey level
    powers = 10.0 ** (sampler.images(latents, labels) * np.float32(decades))
    weights = np.sin(np.pi * (np.arange(size, dtype=np.float32) + 0.5) / size) ** 2
    # Where a loop is not a whole number of hops the last image reaches a little less far.
    total = frames if loops else (count + 1) * hop
    blended = np.zeros((powers.shape[1], total), dtype=np.float32)
    norm = np.zeros(total, dtype=np.float32)
    for index, power in enumerate(powers):
        columns = np.arange(index * hop, index * hop + size)
        columns = columns % total if loops else columns
        np.add.at(blended.T, columns, (power * weights).T)
        np.add.at(norm, columns, weights)
    first = 0 if loops else hop
    blended = blended[:, first : first + frames] / norm[first : first + frames]
    return np.rint(np.log10(blended) / decades).clip(0, 255).astype(np.uint8)


def _walk(sampler: Sampler, seed: int, count: int, *, loops: bool) -> Tensor:
    """Latents (count, Z) on a smooth path of the length that random latents have."""
    turns = max(2, -(-count // IMAGES_PER_TURN))
    stops = torch.cat([sampler.latents([seed], "walk", turn) for turn in range(turns)])
    stops = torch.cat([stops, stops[:1] if loops else sampler.latents([seed], "walk", turns)])
    along = torch.arange(count) * (turns / count)
    left = along.long()
    part = (along - left)[:, None] * (torch.pi / 2)
    # On a circle, not on a line: half-way between two random latents a mean would be too short.
    return torch.cos(part) * stops[left] + torch.sin(part) * stops[left + 1]
