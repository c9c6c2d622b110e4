"""Long pieces of a generator that is being trained, always of the same latents: to see it develop."""

from __future__ import annotations

import numpy as np

from musicspectrogan.generation.pieces import piece
from musicspectrogan.generation.sampler import Sampler
from musicspectrogan.generation.takes import take_of
from musicspectrogan.training.checkpoint import LiveGenerator

# Pieces of a model without genres.
WITHOUT_GENRES = 4


def strips_of(generator: LiveGenerator, frames: int) -> dict[str, np.ndarray]:
    """Grey levels uint8 (n_mels, frames) of a piece each, by their names.

    They are what `generate --seconds` makes of seed 0 of each genre; without genres, of the first seeds. The
    training's random numbers and weights stay as they are.
    """
    sampler = Sampler(generator, next(generator.module.parameters()).device)
    if sampler.conditional:
        wanted = {genre: (take_of(0), sampler.mixture({genre: 1.0})) for genre in sampler.genres}
    else:
        wanted = {
            f"sample {seed}": (take_of(seed), sampler.mixture({})) for seed in range(WITHOUT_GENRES)
        }
    return {
        name: piece(sampler, take, mixture, mixture, frames, loops=False, truncation=1.0)
        for name, (take, mixture) in wanted.items()
    }
