"""What `--genre` and `--morph` ask for: genres by name, mixtures of them, and ways from one to another."""

from __future__ import annotations

import logging
import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from musicspectrogan.errors import UserError, did_you_mean
from musicspectrogan.filesystem import tagged_name

logger = logging.getLogger(__name__)

# The row of a model without genres.
NO_GENRE = "sample"
EVERY_GENRE = "all"

Mixture = dict[str, float]
"""Weights that sum to 1, by genre."""


@dataclass(frozen=True)
class Row:
    """Sounds of one kind: those of a genre, of a mixture of genres, or on the way between two."""

    name: str
    start: Mixture
    end: Mixture
    """The mixture at the other end of a continuous piece; mostly the same."""
    genre: str | None = None
    """The one genre that it is of."""


def rows_of(
    genre: str | None, morph: str | None, genres: Sequence[str], *, conditional: bool
) -> list[Row]:
    """The rows that `--genre` or `--morph` ask for; every genre where neither is given.

    Args:
        genres: those of the checkpoint.
        conditional: whether its model knows them.

    Raises:
        UserError: an unknown genre, one for a model without genres, or a list that cannot be read.
    """
    every = genre is None or (genre == EVERY_GENRE and EVERY_GENRE not in genres)
    if not conditional:
        flag = "--morph" if morph is not None else "--genre"
        if morph is not None or not every:
            raise UserError(
                f"{flag}: this checkpoint is of a model without genres; leave {flag} away"
            )
        return [Row(NO_GENRE, {}, {})]
    if morph is not None:
        first, second = _ends_of_morph(morph, genres)
        return [Row(f"{first}-to-{second}", {first: 1.0}, {second: 1.0})]
    if every:
        return [_row_of(name) for name in genres]
    return _rows_of_list(genre, genres)


def find_genre(wanted: str, genres: Sequence[str], flag: str = "--genre") -> str:
    """The genre of that name, or of that index.

    An exact name always wins. Otherwise letters' case, spaces, hyphens and what file names cannot hold are
    forgiven where that leaves one genre alone; then a number is an index.

    Args:
        flag: the one to blame.

    Raises:
        UserError: there is none, or more than one.
    """
    # A class folder that was too much like another one has this name in the dataset.
    if wanted not in genres and tagged_name(wanted) in genres:
        return tagged_name(wanted)
    for alike in _ALIKE:
        key = alike(wanted)
        found = [genre for genre in genres if key and alike(genre) == key]
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(
                f"{flag}: {wanted!r} may be {_or(found)}; write one of these names exactly"
            )
    if wanted.isascii() and wanted.isdigit() and len(wanted) < 10 and int(wanted) < len(genres):
        genre = genres[int(wanted)]
        if any(name.isdigit() for name in genres):
            logger.info(
                "%s %s: no genre has that name; taking it as an index, of %r", flag, wanted, genre
            )
        return genre
    raise UserError(
        f"{flag}: {wanted!r} is not one of {', '.join(genres)}{did_you_mean(wanted, genres)}"
    )


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _caseless(name: str) -> str:
    return _composed(name).casefold()


def _simple(name: str) -> str:
    return re.sub(r'[\s._\-/\\:*?"<>|]+', "", _caseless(name))


# Ways to compare names, from the strictest on.
_ALIKE: tuple[Callable[[str], str], ...] = (str, _composed, _caseless, _simple)


def _row_of(genre: str) -> Row:
    return Row(genre, {genre: 1.0}, {genre: 1.0}, genre)


def _rows_of_list(text: str, genres: Sequence[str]) -> list[Row]:
    """A row for each genre in `drums,bass`, one row for all in `drums=0.7,bass=0.3`."""
    parts = [_weighted(part, genres) for part in _parts(text, genres)]
    names = list(dict.fromkeys(name for name, _ in parts))
    weights = [weight for _, weight in parts if weight is not None]
    if not weights:
        return [_row_of(name) for name in names]
    if len(weights) < len(parts):
        raise UserError(f"--genre {text}: give every genre a weight, or none of them")
    if len(names) < len(parts):
        raise UserError(f"--genre {text}: name each genre once")
    total = sum(weights)
    mixture = {name: weight / total for name, weight in zip(names, weights, strict=True)}
    if len(mixture) == 1:
        return [_row_of(names[0])]
    return [
        Row(",".join(f"{name}={weight:.4g}" for name, weight in mixture.items()), mixture, mixture)
    ]


def _parts(text: str, genres: Sequence[str]) -> list[str]:
    """The text cut at its commas, but for those within a genre's own name."""
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


def _weighted(part: str, genres: Sequence[str]) -> tuple[str, float | None]:
    """The genre and the weight in `drums=0.7`; None for no weight."""
    name, equals, number = part.rpartition("=")
    if part in genres or not equals:
        return find_genre(part, genres), None
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not 0 < weight < 1e9:
        raise UserError(
            f"--genre {part}: {number!r} is no weight; write a number above 0, as in drums=0.7"
        )
    return find_genre(name.strip(), genres), weight


def _ends_of_morph(text: str, genres: Sequence[str]) -> tuple[str, str]:
    """The two genres in `blues:jazz`, whose names may have colons too."""
    cuts = [(text[:at], text[at + 1 :]) for at, letter in enumerate(text) if letter == ":"]
    if not cuts:
        raise UserError(f"--morph {text}: write two genres as in blues:jazz")
    exact = [(first, second) for first, second in cuts if first in genres and second in genres]
    found = exact or [
        (find_genre(first, genres, "--morph"), find_genre(second, genres, "--morph"))
        for first, second in cuts
        if len(cuts) == 1 or (_is_known(first, genres) and _is_known(second, genres))
    ]
    if not found:
        raise UserError(f"--morph {text}: these are no two of {', '.join(genres)}")
    if len(found) > 1:
        ways = _or([f"{first} and {second}" for first, second in found])
        raise UserError(f"--morph {text}: may be {ways}; give the genres' indices, as in 0:1")
    return found[0]


def _is_known(name: str, genres: Sequence[str]) -> bool:
    try:
        find_genre(name, genres)
    except UserError:
        return False
    return True


def _or(names: Sequence[str]) -> str:
    return " or ".join(map(repr, names))
