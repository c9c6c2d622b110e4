"""The page of an evaluation: one HTML file with its plots inside, and without scripts.

Markup and style are the files in templates/; those of the generation's page are shared.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import ChoiceLoader, PackageLoader

from musicspectrogan.evaluation import plots
from musicspectrogan.evaluation.page_data import PageData
from musicspectrogan.evaluation.report import (
    LAGS,
    METRICS,
    OF_PIECES,
    Figure,
    Report,
    coherence_name,
    figure_keys,
    format_estimate,
    format_finding,
)
from musicspectrogan.evaluation.resampling import Estimate
from musicspectrogan.evaluation.verdict import comparison_verdict, verdict
from musicspectrogan.filesystem import write_text
from musicspectrogan.generation.page import TEMPLATES as GENERATION_TEMPLATES

TEMPLATES = GENERATION_TEMPLATES.overlay(
    loader=ChoiceLoader(
        [PackageLoader("musicspectrogan.evaluation"), PackageLoader("musicspectrogan.generation")]
    )
)
TEMPLATES.filters = {
    **TEMPLATES.filters,
    "base64": lambda png: b64encode(png).decode("ascii"),
    "estimate": format_estimate,
}


def write_page(path: Path, title: str, report: Report, data: PageData) -> None:
    """Write the page of one evaluation.

    Args:
        path: the HTML file.
        title: its heading.
    """
    spectra = (data.real_profile, data.sample_profile, data.spectrogram)
    genre_keys = figure_keys([report], of_genres=True)
    median = report.find("nearest_training")
    _write(
        path,
        "evaluation.html",
        title=title,
        verdict=verdict(report),
        **_shared(["samples"], [report]),
        strips=[
            (strip.genre, plots.draw_strip(strip.real), plots.draw_strip(strip.generated))
            for strip in data.strips
        ],
        spectrogram=data.spectrogram,
        sheets=_sheets(data),
        nearest_pairs=[
            (
                plots.draw_sheet([np.stack([pair.sample, pair.nearest])]),
                ", ".join(filter(None, (pair.genre, f"{pair.difference_db:.2f} dB"))),
            )
            for pair in data.nearest_pairs
        ],
        median=median if median and median.real else None,
        bands=plots.draw_bands(*spectra),
        modulation=plots.draw_modulation(*spectra),
        confusion=_confusion(data),
        clouds=[
            (plots.draw_cloud(cloud, data.genres if data.conditional else None), cloud.features)
            for cloud in data.clouds
        ],
        conditional=data.conditional,
        genre_keys=[(METRICS[name].title, features) for name, features in genre_keys],
        genre_rows=[
            (genre, [_cell(report.find(*key, genre), with_real=True) for key in genre_keys])
            for genre in report.genres
        ],
    )


def write_comparison(path: Path, names: list[str], reports: list[Report]) -> None:
    """Write a page with several evaluations side by side.

    Args:
        path: the HTML file.
        names: of the runs, in the order of their reports.
    """
    _write(
        path,
        "comparison.html",
        title=f"Comparison of {len(reports)} runs",
        verdict=comparison_verdict(names, reports),
        **_shared(names, reports),
        strips=[],
    )


def _write(path: Path, template: str, **context: Any) -> None:
    write_text(path, TEMPLATES.get_template(template).render(context), concurrent=True)


def _shared(names: list[str], reports: list[Report]) -> dict[str, Any]:
    """What both pages show of the reports."""
    return {
        "names": names,
        "reports": [
            (
                name,
                report.remarks,
                {
                    "Evaluated": _facts(report.subject),
                    "Real music": _facts(report.dataset),
                    "Settings": _facts(report.settings),
                },
            )
            for name, report in zip(names, reports, strict=True)
        ],
        "ratios": _ratio_plot(names, reports),
        "table": _table(reports),
        "coherence": _coherence_plots(names, reports),
    }


def _facts(facts: dict[str, Any]) -> dict[str, str]:
    return {key.replace("_", " "): _fact(value) for key, value in facts.items()}


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_fact(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_fact, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)


def _ratio_plot(names: list[str], reports: list[Report]) -> bytes | None:
    """Plot the distances with a ratio in any of the reports; None without any."""
    rows = {}
    for key in figure_keys(reports):
        ratios = [figure.ratio if figure else None for figure in (r.find(*key) for r in reports)]
        drawn = [r if r and math.isfinite(r.value + r.half_width) else None for r in ratios]
        if any(drawn):
            title, features = METRICS[key[0]].title, key[1]
            rows[f"{title}, {features}" if features else title] = drawn
    if not rows:
        return None
    return plots.draw_ratios(list(rows), names, list(zip(*rows.values(), strict=True)))


def _coherence_plots(names: list[str], reports: list[Report]) -> list[tuple[bytes | None, str]]:
    """Plot coherence over lag in each feature space, with its name."""
    spaces = dict.fromkeys(
        features for name, features in figure_keys(reports) if name in OF_PIECES and features
    )
    drawn = []
    for space in spaces:
        found = {lag: [r.find(coherence_name(lag), space) for r in reports] for lag in LAGS}
        real = {
            lag: next((figure.real for figure in figures if figure and figure.real), None)
            for lag, figures in found.items()
        }
        lags = {lag: estimate for lag, estimate in real.items() if estimate}
        of_runs = zip(*([f.value if f else None for f in found[lag]] for lag in lags), strict=True)
        plot = plots.draw_coherence(list(lags), list(lags.values()), names, list(of_runs))
        drawn.append((plot, space))
    return drawn


class Cell(NamedTuple):
    """A figure in a table, and what is shown below it."""

    value: Estimate | None
    below: list[str]
    is_best: bool


def _cell(figure: Figure | None, *, is_best: bool = False, with_real: bool = False) -> Cell:
    """A figure with its ratio, or for `with_real`, if it has none, the value of real music."""
    if figure is None:
        return Cell(None, [], False)
    if figure.ratio:
        below = [f"{format_estimate(figure.ratio)} × real", format_finding(figure)]
    else:
        below = [f"real {format_estimate(figure.real)}"] if with_real and figure.real else []
    return Cell(figure.value, [line for line in below if line], is_best)


def _table(reports: list[Report]) -> list[dict[str, Any]]:
    """The figures of all images by metric: a row per feature space, a cell per report."""
    table = []
    for name, keys in groupby(figure_keys(reports), key=lambda key: key[0]):
        rows = []
        for _, features in keys:
            figures = [report.find(name, features) for report in reports]
            best = _best([f.value if f else None for f in figures], METRICS[name].best)
            real = next((figure.real for figure in figures if figure), None)
            cells = [_cell(f, is_best=number in best) for number, f in enumerate(figures)]
            rows.append((features, cells, real))
        table.append({"metric": METRICS[name], "rows": rows})
    return table


def _best(values: Sequence[Estimate | None], which: str) -> set[int]:
    """Indices of the best of several figures, and of those not significantly different from it.

    Args:
        which: lowest or highest; empty if neither is better.
    """
    found = {n: v for n, v in enumerate(values) if v and math.isfinite(v.value)}
    if len(found) < 2 or not which:
        return set()
    best = (min if which == "lowest" else max)(found.values(), key=lambda estimate: estimate.value)
    return {
        number
        for number, v in found.items()
        if v is best or abs(v.value - best.value) <= math.hypot(v.half_width, best.half_width)
    }


def _sheets(data: PageData) -> list[tuple[str, list[tuple[bytes | None, str]]]]:
    """Grids of real images and samples with their captions, by genre."""
    grids = [("", data.real_rows, data.sample_rows)]
    if data.conditional:
        rows = zip(data.genres, data.real_rows, data.sample_rows, strict=True)
        grids = [(genre, [real], [samples]) for genre, real, samples in rows]
    return [
        (
            genre,
            [
                (plots.draw_sheet(rows), caption)
                for caption, rows in (("real, held out", real), ("samples", samples))
                if any(len(row) for row in rows)
            ],
        )
        for genre, real, samples in grids
    ]


def _confusion(data: PageData) -> list[tuple[bytes | None, str]]:
    """Confusion matrices with their captions; none for a single genre."""
    drawn = []
    for name, title in {"held_out": "real, held out", "samples": "samples"}.items():
        counts = data.confusion.get(name)
        if counts is not None and counts.sum() and len(data.genres) > 1:
            accuracy = 100.0 * np.trace(counts) / counts.sum()
            caption = f"{title}: {accuracy:.0f} % on the diagonal"
            drawn.append((plots.draw_confusion(counts, data.genres), caption))
    return drawn
