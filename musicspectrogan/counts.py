"""Counts as people write them, 100k or 1.5m, and as sentences hold them, 1 epoch or 2 epochs."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

from tyro.constructors import PrimitiveConstructorSpec

SUFFIXES = {"": 1, "k": 1_000, "m": 1_000_000}
LARGEST_COUNT = 10**15


def parse_count(text: str) -> int:
    """A whole number written as 25000, 25_000, 25k, 1.5m or 1e5.

    Raises:
        ValueError: it is none, or too large.
    """
    match = re.fullmatch(
        r"(-?\d[\d_]*(?:\.\d+)?(?:e\d{1,2})?)([km]?)", text.strip().lower(), re.ASCII
    )
    count = Decimal(match[1].replace("_", "")) * SUFFIXES[match[2]] if match else Decimal("0.5")
    if count != count.to_integral_value() or count > LARGEST_COUNT:
        raise ValueError(f"{text!r} is no whole number such as 25000, 100k or 1.5m")
    return int(count)


def counted(number: float, noun: str) -> str:
    """`1 epoch`, `2 epochs`, `1.5 epochs`, `12,800 images`."""
    text = f"{number:,.1f}".removesuffix(".0")
    return f"{text} {noun}" if text == "1" else f"{text} {noun}s"


def rounded_time(seconds: float) -> str:
    """A length of time as one would say it: `40 s`, `14 min`, `2.5 h`, `3 days`."""
    for limit, unit, size in ((100, "s", 1), (100 * 60, "min", 60), (48 * 3600, "h", 3600)):
        if seconds < limit:
            amount = seconds / size
            return (
                f"{amount:.1f} {unit}"
                if unit == "h" and amount < 10
                else f"{max(1, round(amount))} {unit}"
            )
    return counted(round(seconds / 86400), "day")


def _read_from_flags(*, or_none: bool) -> PrimitiveConstructorSpec:
    """How tyro reads and shows a count; with `or_none` also `None`, which a union would do less clearly."""

    def read(words: list[str]) -> int | None:
        return None if or_none and words == ["None"] else parse_count(words[0])

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="COUNT",
        instance_from_str=read,
        is_instance=lambda value: type(value) is int or (or_none and value is None),
        str_from_instance=lambda value: [str(value)],
    )


Count = Annotated[int, _read_from_flags(or_none=False)]
"""The type of a setting that counts: an int, which flags and YAML may write in the ways of `parse_count`."""

CountOrNone = Annotated[int | None, _read_from_flags(or_none=True)]
"""The same, or None."""
