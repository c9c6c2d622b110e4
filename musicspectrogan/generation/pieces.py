"""Continuous pieces of any length: drawn by a generator made for it, else blended from images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from musicspectrogan.generation.sampler import LatentSpec, Sampler, seed_spec
from musicspectrogan.training.checkpoint import LiveGenerator

# Cells in one forward pass: bounds memory.
BLOCK = 64
# Blended images that cover each frame; from 4 on, squared Hann windows too add up to a constant.
OVERLAP = 4
# Blended images from one random latent to the next.
IMAGES_PER_LATENT = 8
# Strips of an unconditional model.
UNCONDITIONAL_STRIPS = 4


def piece(
    sampler: Sampler,
    spec: LatentSpec,
    start: Tensor,
    end: Tensor,
    frames: int,
    *,
    loops: bool,
    truncation: float,
    beats: float | None = None,
) -> npt.NDArray[np.uint8]:
    """Grey levels (n_mels, frames) of one seamless piece.

    Args:
        start, end: genre mixtures (n_genres,) at both ends; the same for a single genre.
        frames: for a loop, a multiple of `loop_multiple`.
        loops: the last frame leads to the first.
        beats: number of beats of the clock in all frames, for loops whole bars; None for the tempo
            of the latents. Generators of single images have no clock.
    """
    generator = sampler.any_length
    if generator is None:
        return _blend(sampler, spec, start, end, frames, loops=loops, truncation=truncation)
    latent = sampler.latent(spec)
    # As in training, where windows begin anywhere in a cell: otherwise the join of a loop would
    # always be at the edge of one.
    offset = int(generator.begins_at(latent))
    count = -(-(frames if loops else frames + offset) // generator.cell_frames)
    style = latent[: generator.style_dim] * truncation
    tempo = float(generator.beats_in_cell(style[None].double()))
    if beats is not None:
        tempo = beats / frames * generator.cell_frames
    elif loops:  # whole bars
        tempo = generator.bar * max(1, round(tempo * count / generator.bar)) / count
    style = generator.at_tempo(style[None], tempo)[0]
    phase = generator.phase(latent).double()
    position = _positions(count, loops=loops)
    blocks = []
    for first in range(0, count, BLOCK):
        last = min(first + BLOCK, count)
        edges = torch.arange(first - generator.context, last + generator.context + 1)
        cells = edges[:-1] % count if loops else edges[:-1]
        sequence = torch.stack([sampler.cell(spec, cell) for cell in cells.tolist()], dim=1)
        genres = start + position[cells.clamp(0, count - 1), None] * (end - start)
        clock = phase + tempo * edges.double()
        blocks.append(sampler.frames(style, sequence * truncation, genres.T, clock))
    whole = np.concatenate(blocks, axis=1)
    return np.roll(whole, -offset, axis=1) if loops else whole[:, offset : offset + frames]


def loop_multiple(sampler: Sampler) -> int:
    """A loop has a multiple of this number of frames."""
    return 1 if sampler.any_length is None else sampler.any_length.cell_frames


def strips_of(generator: LiveGenerator, frames: int) -> dict[str, npt.NDArray[np.uint8]]:
    """Preview pieces (n_mels, frames) by name, always of the same latents, of a model in training.

    The same as `generate --seconds` makes of seed 0 of each genre, or of the first seeds of an
    unconditional model. Leaves the random numbers and weights of the training unchanged.
    """
    sampler = Sampler(generator, next(generator.module.parameters()).device)
    if sampler.conditional:
        strips = {genre: (seed_spec(0), sampler.mixture({genre: 1.0})) for genre in sampler.genres}
    else:
        strips = {
            f"sample {seed}": (seed_spec(seed), sampler.mixture({}))
            for seed in range(UNCONDITIONAL_STRIPS)
        }
    return {
        name: piece(sampler, spec, mixture, mixture, frames, loops=False, truncation=1.0)
        for name, (spec, mixture) in strips.items()
    }


def _positions(count: int, *, loops: bool) -> Tensor:
    """Positions (count,) from 0, the start of a morph, to 1, its end; a loop returns to 0."""
    if loops:
        return 1.0 - (2.0 * torch.arange(count) / count - 1.0).abs()
    return torch.linspace(0, 1, count)


def _blend(
    sampler: Sampler,
    spec: LatentSpec,
    start: Tensor,
    end: Tensor,
    frames: int,
    *,
    loops: bool,
    truncation: float,
) -> npt.NDArray[np.uint8]:
    """`piece` for a generator of single images: overlapping images on a path through latent space.

    OVERLAP images cover each frame and are blended as mel power, with weights whose sum and sum of
    squares are constant, so that all frames are blended alike. With two images, the middle frame of
    each would be that image alone, and the piece would alternate between clear and blurred. Power,
    because a mean of decibels would soften every onset.
    """
    size = sampler.images(sampler.latent(spec)[None], start[None]).shape[-1]
    hop = size // OVERLAP
    count = -(-frames // hop) + (0 if loops else OVERLAP - 1)
    latents = _walk(sampler, spec, count, loops=loops) * truncation
    labels = start + _positions(count, loops=loops)[:, None] * (end - start)
    decades = sampler.spectrogram.top_db / 10.0 / 255.0  # of power, per grey level
    powers = 10.0 ** (sampler.images(latents, labels) * np.float32(decades))
    weights = np.sin(np.pi * (np.arange(size, dtype=np.float32) + 0.5) / size) ** 2
    # If a loop is not a whole number of hops, the last image overlaps the first ones a bit more.
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


def _walk(sampler: Sampler, spec: LatentSpec, count: int, *, loops: bool) -> Tensor:
    """Latents (count, Z) on a smooth path through random ones."""
    segments = max(2, -(-count // IMAGES_PER_LATENT))
    stops = [sampler.latent(spec, "walk", stop) for stop in range(segments + (not loops))]
    if loops:
        stops.append(stops[0])
    points = torch.stack(stops)
    along = torch.arange(count) * (segments / count)
    left = along.long()
    angle = (along - left)[:, None] * (torch.pi / 2)
    # An arc keeps the length of random latents; see `slerp`.
    return torch.cos(angle) * points[left] + torch.sin(angle) * points[left + 1]
