"""One continuous piece of any length: drawn by a generator that is made for it, or else blended."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from musicspectrogan.generation.blending import blended
from musicspectrogan.generation.sampler import Sampler
from musicspectrogan.generation.takes import Take
from musicspectrogan.models.anylength import BAR

# Cells drawn at once: bounds memory.
BLOCK = 64


def piece(
    sampler: Sampler,
    take: Take,
    start: Tensor,
    end: Tensor,
    frames: int,
    *,
    loops: bool,
    truncation: float,
    beats: float | None = None,
) -> np.ndarray:
    """Grey levels uint8 (n_mels, frames) of one seamless piece.

    Args:
        start, end: genre mixtures (n_genres,) at the two ends; the same for a single genre.
        frames: for a loop a multiple of `frames_of_loops`.
        loops: the last frame goes on at the first.
        beats: how many the clock makes in all frames, for loops whole bars; None for the take's own tempo.
            Generators of single images have no clock.
    """
    if not sampler.any_length:
        return blended(sampler, take, start, end, frames, loops=loops, truncation=truncation)
    generator = sampler.generator
    count = -(-frames // generator.cell_frames)
    latent = sampler.latent(take)
    style = latent[: generator.style_dim] * truncation
    tempo = generator.beats_in_cell(style[None].double()).item()
    if beats is not None:
        tempo = beats / frames * generator.cell_frames
    elif loops:  # whole bars
        tempo = BAR * max(1, round(tempo * count / BAR)) / count
    style = generator.at_tempo(style[None], tempo)[0]
    phase = BAR * torch.special.ndtr(latent[-2].double())
    position = torch.linspace(0, 1, count)
    if loops:  # there and back
        position = 1.0 - (2.0 * torch.arange(count) / count - 1.0).abs()
    blocks = []
    for first in range(0, count, BLOCK):
        last = min(first + BLOCK, count)
        cells = torch.arange(first - generator.context, last + generator.context)
        edges = torch.arange(first - generator.context, last + generator.context + 1)
        beats = phase + tempo * edges.double()
        cells = cells % count if loops else cells
        sequence = torch.stack([sampler.cell(take, cell) for cell in cells.tolist()], dim=1)
        genres = start + position[cells.clamp(0, count - 1), None] * (end - start)
        blocks.append(sampler.frames(style, sequence * truncation, genres.T, beats))
    return np.concatenate(blocks, axis=1)[:, :frames]


def frames_of_loops(sampler: Sampler) -> int:
    """Frames that a loop is made of multiples of."""
    return sampler.generator.cell_frames if sampler.any_length else 1
