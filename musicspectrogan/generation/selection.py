"""What to generate: the genres of `--genre` and `--morph`, the latents of `--seeds` and so on."""

from __future__ import annotations

import logging
import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from musicspectrogan.errors import SettingError, UserError, did_you_mean
from musicspectrogan.filesystem import tagged_name
from musicspectrogan.generation.sampler import LatentSpec, Mixture, seed_spec
from musicspectrogan.generation.settings import DEFAULT_AMOUNT, GenerateConfig

logger = logging.getLogger(__name__)

# Name of the only row of an unconditional model.
NO_GENRE = "sample"
ALL_GENRES = "all"
# Of a genre in a mixture.
MOST_WEIGHT = 1e9


@dataclass(frozen=True)
class Row:
    """Sounds of one genre, of a mixture, or gliding from one to another: a row of the page."""

    name: str
    start: Mixture
    end: Mixture
    """Mixture at the end of a continuous piece; differs from `start` in a morph."""
    genre: str | None = None
    """The genre, if there is only one."""


def latent_specs(config: GenerateConfig) -> list[LatentSpec]:
    """The latents of the sounds of each row, in order."""
    if config.between is not None:
        return _interpolation(*config.ends(), config.n_samples)
    if config.vary is not None:
        amount = DEFAULT_AMOUNT if config.amount is None else config.amount
        return [seed_spec(config.vary), *_variations(config.vary, amount, config.n_samples)]
    return [seed_spec(seed) for seed in config.seed_list()]


def _variations(seed: int, amount: float, count: int) -> list[LatentSpec]:
    return [
        LatentSpec(
            f"seed{seed:04d}_vary{amount:g}-{number:02d}",
            f"seed {seed}, variation {number} by {amount:g}",
            start=(seed,),
            end=(seed, "vary", number),
            fraction=amount,
        )
        for number in range(1, count + 1)
    ]


def _interpolation(first: int, last: int, count: int) -> list[LatentSpec]:
    inner = [
        LatentSpec(
            f"seed{first:04d}-to-{last:04d}_{number:02d}of{count:02d}",
            f"from seed {first} to {last}, {number} of {count}",
            start=(first,),
            end=(last,),
            fraction=(number - 1) / (count - 1),
        )
        for number in range(2, count)
    ]
    return [seed_spec(first), *inner, seed_spec(last)]


def select_rows(
    genre: str | None, morph: str | None, genres: Sequence[str], *, conditional: bool
) -> list[Row]:
    """The rows that `--genre` or `--morph` select; all genres by default.

    Args:
        genres: those of the checkpoint.
        conditional: whether its model uses them.

    Raises:
        UserError: an unknown genre, any genre for an unconditional model, or a malformed list.
    """
    if not conditional:
        if morph is not None or genre not in (None, ALL_GENRES):
            flag = "--morph" if morph is not None else "--genre"
            raise UserError(f"{flag}: the model of this checkpoint has no genres; omit {flag}")
        return [Row(NO_GENRE, {}, {})]
    if morph is not None:
        first, second = _ends_of_morph(morph, genres)
        return [Row(f"{first}-to-{second}", {first: 1.0}, {second: 1.0})]
    if genre is None or (genre == ALL_GENRES and ALL_GENRES not in genres):
        return [_genre_row(name) for name in genres]
    return _rows_of_list(genre, genres)


def mixture_row(weights: Mapping[str, float], genres: Sequence[str]) -> Row:
    """The row of a mixture; its weights are divided by their sum.

    Raises:
        UserError: no weights, an unknown genre, one that is named twice, or weights that are not
            numbers from 0, or all 0.
    """
    if not genres:
        raise SettingError("genre", "the model of this checkpoint has no genres; omit it")
    named = {find_genre(str(name), genres): _weight(text) for name, text in weights.items()}
    valid = all(0 <= weight < MOST_WEIGHT for weight in named.values())
    if not valid or not sum(named.values()) or len(named) < len(weights):
        raise SettingError(
            "genre", f"{dict(weights)} is not allowed; give each genre once, with a weight above 0"
        )
    named = {name: weight for name, weight in named.items() if weight}
    if len(named) == 1:
        return _genre_row(next(iter(named)))
    total = sum(named.values())
    mixture = {name: weight / total for name, weight in named.items()}
    title = ",".join(f"{name}={weight:.4g}" for name, weight in mixture.items())
    return Row(title, mixture, mixture)


def find_genre(name: str, genres: Sequence[str], flag: str = "--genre") -> str:
    """Find a genre by name or index.

    An exact name wins. Otherwise case, spaces, hyphens and characters that file names cannot hold
    are ignored, if that leaves a single match; then a number is an index.

    Args:
        flag: named in errors.

    Raises:
        UserError: no match, or several.
    """
    # Preprocessing gives this name to a class folder that clashes with another.
    if name not in genres and tagged_name(name) in genres:
        return tagged_name(name)
    for normalise in _NORMALISATIONS:
        key = normalise(name)
        found = [genre for genre in genres if key and normalise(genre) == key]
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(
                f"{flag}: {name!r} matches {_alternatives(found)}; write the exact name of one"
            )
    if name.isascii() and name.isdigit() and len(name) < 10 and int(name) < len(genres):
        genre = genres[int(name)]
        if any(name.isdigit() for name in genres):
            logger.info("%s %s: no genre has this name; using it as index of %r", flag, name, genre)
        return genre
    raise UserError(
        f"{flag}: {name!r} is not one of {', '.join(genres)}{did_you_mean(name, genres)}"
    )


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _caseless(name: str) -> str:
    return _composed(name).casefold()


def _simplified(name: str) -> str:
    return re.sub(r'[\s._\-/\\:*?"<>|]+', "", _caseless(name))


# From the strictest to the most tolerant.
_NORMALISATIONS: tuple[Callable[[str], str], ...] = (str, _composed, _caseless, _simplified)


def _genre_row(genre: str) -> Row:
    return Row(genre, {genre: 1.0}, {genre: 1.0}, genre)


def _rows_of_list(text: str, genres: Sequence[str]) -> list[Row]:
    """One row for each genre in `drums,bass`; a single row for `drums=0.7,bass=0.3`."""
    parts = [_parse_weight(part, genres) for part in _split_list(text, genres)]
    names = list(dict.fromkeys(name for name, _ in parts))
    weights = [weight for _, weight in parts if weight is not None]
    if not weights:
        return [_genre_row(name) for name in names]
    if len(weights) < len(parts):
        raise UserError(f"--genre {text}: give a weight to every genre, or to none")
    if len(names) < len(parts):
        raise UserError(f"--genre {text}: name each genre once")
    return [mixture_row(dict(zip(names, weights, strict=True)), genres)]


def _split_list(text: str, genres: Sequence[str]) -> list[str]:
    """Split at commas, except at those inside the name of a genre."""
    pieces, parts = text.split(","), []
    while pieces:
        for length in range(len(pieces), 0, -1):
            part = ",".join(pieces[:length]).strip()
            name, _, weight = part.rpartition("=")
            if length == 1 or part in genres or (name in genres and "," not in weight):
                break
        parts.append(part)
        pieces = pieces[length:]
    return parts


def _parse_weight(part: str, genres: Sequence[str]) -> tuple[str, float | None]:
    """Genre and weight of `drums=0.7`; weight None of `drums`."""
    name, equals, number = part.rpartition("=")
    if part in genres or not equals:
        return find_genre(part, genres), None
    weight = _weight(number)
    if not 0 < weight < MOST_WEIGHT:
        raise UserError(
            f"--genre {part}: {number!r} is not a weight; write a number above 0, as in drums=0.7"
        )
    return find_genre(name.strip(), genres), weight


def _weight(value: Any) -> float:
    """The number; NaN if it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _ends_of_morph(text: str, genres: Sequence[str]) -> tuple[str, str]:
    """The two genres of `blues:jazz`, whose names may contain colons too."""
    splits = [(text[:at], text[at + 1 :]) for at, letter in enumerate(text) if letter == ":"]
    if not splits:
        raise UserError(f"--morph {text}: write two genres as in blues:jazz")
    found = [(first, second) for first, second in splits if first in genres and second in genres]
    if not found:
        for first, second in splits:
            try:
                ends = find_genre(first, genres, "--morph"), find_genre(second, genres, "--morph")
            except UserError:
                if len(splits) == 1:
                    raise
            else:
                found.append(ends)
    if not found:
        raise UserError(f"--morph {text}: these are not two of {', '.join(genres)}")
    if len(found) > 1:
        pairs = _alternatives([f"{first} and {second}" for first, second in found])
        raise UserError(f"--morph {text}: can mean {pairs}; give indices, as in 0:1")
    return found[0]


def _alternatives(names: Sequence[str]) -> str:
    return " or ".join(map(repr, names))
