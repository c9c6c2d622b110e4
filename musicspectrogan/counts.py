"""Counts as people write them, 100k or 1.5m, and as sentences hold them, 1 epoch or 2 epochs."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

SUFFIXES = {"": 1, "k": 1_000, "m": 1_000_000}
LARGEST_COUNT = 10**15


def parse_count(text: str) -> int:
    """Read a whole number written as 25000, 25_000, 25k, 1.5m or 1e5.

    Raises:
        ValueError: it is not one, or too large.
    """
    match = re.fullmatch(
        r"(-?\d[\d_]*(?:\.\d+)?(?:e\d{1,2})?)([km]?)", text.strip().lower(), re.ASCII
    )
    count = Decimal(match[1].replace("_", "")) * SUFFIXES[match[2]] if match else Decimal("0.5")
    if count != count.to_integral_value() or count > LARGEST_COUNT:
        raise ValueError(f"{text[:80]!r} is not a whole number such as 25000, 100k or 1.5m")
    return int(count)


Count = Annotated[int, parse_count]
"""The type of a setting that counts: an int, written as `parse_count` reads it."""


def format_count(number: float, noun: str) -> str:
    """Return `1 epoch`, `2 epochs`, `1.5 epochs`, `12,800 images`."""
    text = f"{number:,.1f}".removesuffix(".0")
    return f"{text} {noun}" if text == "1" else f"{text} {noun}s"


def format_duration(seconds: float) -> str:
    """Return a length of time as people say it: `40 s`, `14 min`, `2.5 h`, `3 days`."""
    for limit, unit, size in ((100, "s", 1), (100 * 60, "min", 60), (48 * 3600, "h", 3600)):
        if seconds < limit:
            amount = seconds / size
            if unit == "h" and amount < 10:
                return f"{amount:.1f} h"
            return f"{max(1, round(amount))} {unit}"
    return format_count(round(seconds / 86400), "day")
