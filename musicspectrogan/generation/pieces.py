"""One continuous piece of any length: drawn by a generator that is made for it, or else blended."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from musicspectrogan.generation.blending import blended
from musicspectrogan.generation.sampler import Sampler
from musicspectrogan.generation.takes import Take

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
    latent = sampler.latent(take)
    # As in training, where windows begin anywhere in a cell: else it could be told where a loop was joined.
    offset = int(generator.begins_at(latent))
    count = -(-(frames if loops else frames + offset) // generator.cell_frames)
    style = latent[: generator.style_dim] * truncation
    tempo = generator.beats_in_cell(style[None].double()).item()
    if beats is not None:
        tempo = beats / frames * generator.cell_frames
    elif loops:  # whole bars
        tempo = generator.bar * max(1, round(tempo * count / generator.bar)) / count
    style = generator.at_tempo(style[None], tempo)[0]
    phase = generator.phase(latent).double()
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
    whole = np.concatenate(blocks, axis=1)
    return np.roll(whole, -offset, axis=1) if loops else whole[:, offset : offset + frames]


def frames_of_loops(sampler: Sampler) -> int:
    """Frames that a loop is made of multiples of."""
    return sampler.generator.cell_frames if sampler.any_length else 1
