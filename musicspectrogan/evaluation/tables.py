"""Figures as text to read in a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from musicspectrogan.evaluation.report import MEASURES, Report, keys_of
from musicspectrogan.evaluation.resampling import Estimate

MOST_DECIMALS = 3
# What is told of each genre in a terminal; the rest is in the page and in the JSON.
OF_GENRES = ("frechet", "coverage", "genre_accuracy", "copied")


def written(estimate: Estimate | None) -> str:
    """`0.51 ± 0.03`: two digits of the half-width, and as many decimals of the value."""
    if estimate is None or not math.isfinite(estimate.value + estimate.half_width):
        return ""
    size = max(estimate.half_width, 10.0**-MOST_DECIMALS)
    decimals = min(max(0, 1 - math.floor(math.log10(size))), MOST_DECIMALS)
    value = round(estimate.value, decimals) + 0.0  # no minus before a zero
    return f"{value:.{decimals}f} ± {estimate.half_width:.{decimals}f}"


def table(names: Sequence[str], reports: Sequence[Report]) -> str:
    """The figures of all images: of one report or of several side by side, beside real music's.

    Args:
        names: of the reports, for the heads of their columns.
    """
    heads = [cell for name in names for cell in (name, "ratio")]
    rows = [["figure", "features", *heads, "real music"]]
    for key in keys_of(reports):
        found = [report.find(*key) for report in reports]
        real = next((figure.real for figure in found if figure), None)
        cells = [
            written(part) for f in found for part in ((f.value, f.ratio) if f else (None, None))
        ]
        rows.append([MEASURES[key[0]].title, key[1], *cells, written(real)])
    return _aligned(rows, left=2)


def genre_table(report: Report) -> str:
    """Some figures of each genre, distances as ratios; empty where none were taken."""
    genres = list(
        dict.fromkeys(figure.genre for figure in report.figures if figure.genre is not None)
    )
    keys = [key for key in keys_of([report], of_genres=True) if key[0] in OF_GENRES]
    titles = [MEASURES[name].title + " ratio" * MEASURES[name].is_distance for name, _ in keys]
    rows = [["genre", *titles], ["", *(features for _, features in keys)]]
    for genre in genres:
        figures = [report.find(*key, genre) for key in keys]
        rows.append([genre, *(written((f.ratio or f.value) if f else None) for f in figures)])
    return _aligned(rows, left=1) if genres else ""


def _aligned(rows: Sequence[Sequence[str]], *, left: int) -> str:
    """Columns two spaces apart; the first `left` begin together, the others end together."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
