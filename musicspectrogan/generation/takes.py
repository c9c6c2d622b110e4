"""Which sounds a command asks for: seeds, variations of a seed, or steps between two."""

from __future__ import annotations

from dataclasses import dataclass

from musicspectrogan.generation.settings import GenerateConfig

Draw = tuple[object, ...]
"""A seed, and what tells several random draws of it apart."""


@dataclass(frozen=True)
class Take:
    """One sound that a model can make: a random draw, or a place on the way from one to another."""

    name: str
    """Part of a file's name."""
    caption: str
    start: Draw
    end: Draw = ()
    part: float = 0.0
    """How far it is from `start` to `end`, below 1."""


def takes_of(config: GenerateConfig) -> list[Take]:
    """All sounds that are asked for of each genre, in order."""
    if config.between is not None:
        return _steps(*config.ends(), config.number)
    if config.vary is not None:
        return [take_of(config.vary), *_variations(config.vary, config.distance, config.number)]
    return [take_of(seed) for seed in config.seed_list()]


def take_of(seed: int) -> Take:
    """A seed's own sound."""
    return Take(f"seed{seed:04d}", f"seed {seed}", (seed,))


def _variations(seed: int, amount: float, count: int) -> list[Take]:
    return [
        Take(
            f"seed{seed:04d}_vary{amount:g}-{number:02d}",
            f"seed {seed}, variation {number} by {amount:g}",
            start=(seed,),
            end=(seed, "vary", number),
            part=amount,
        )
        for number in range(1, count + 1)
    ]


def _steps(first: int, last: int, count: int) -> list[Take]:
    between = [
        Take(
            f"seed{first:04d}-to-{last:04d}_{number:02d}of{count:02d}",
            f"from seed {first} to {last}, {number} of {count}",
            start=(first,),
            end=(last,),
            part=(number - 1) / (count - 1),
        )
        for number in range(2, count)
    ]
    return [take_of(first), *between, take_of(last)]
