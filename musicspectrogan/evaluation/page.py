"""What an evaluation found as a page to read: one HTML file with its pictures inside, and no script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from musicspectrogan.evaluation import pictures
from musicspectrogan.evaluation.evidence import Curves, Evidence, Twin
from musicspectrogan.evaluation.markup import charts, picture, scrolling, section, text
from musicspectrogan.evaluation.pieces_section import structure_section
from musicspectrogan.evaluation.report import MEASURES, Figure, Report, keys_of
from musicspectrogan.evaluation.resampling import Estimate
from musicspectrogan.evaluation.tables import written
from musicspectrogan.evaluation.verdict import comparison_verdict, verdict
from musicspectrogan.filesystem import write_text
from musicspectrogan.generation.page import source

TABLES_AND_CHARTS = files("musicspectrogan.evaluation") / "templates" / "evaluation.css"

# What the kinds of features are, for the people who read of them.
FEATURES = {
    "classifier": "what a genre classifier sees that was trained on real images",
    "untrained": "principal components of the image and of its statistics in each band",
}


def write_page(path: Path, title: str, report: Report, evidence: Evidence) -> None:
    """Write the page of one evaluation.

    Args:
        path: the HTML file.
        title: its heading.
    """
    sections = [
        _remarks(report.remarks),
        section(
            "How far from real music",
            "Each distance over what real music scores in the samples' place. 1 is as good as real, farther "
            "right is worse. Bars are 95 % intervals.",
            _ratios(["samples"], [report]),
            _table(["samples"], [report]),
            _features_note(),
        ),
        structure_section(["samples"], [report], evidence.strips),
        _samples(evidence),
        _twins(evidence.twins, report),
        _curves(evidence.curves),
        _confusion(evidence),
        _clouds(evidence),
        _genres(report),
        section("What was judged", "", _facts(report)),
    ]
    write_text(path, _page(title, verdict(report), sections), rivals=True)


def write_comparison(path: Path, names: list[str], reports: list[Report]) -> None:
    """Write a page with several evaluations side by side.

    Args:
        path: the HTML file.
        names: of the runs, in the order of their reports.
    """
    sections = [
        section(
            "How far from real music",
            "Each distance over what real music scores in the samples' place. 1 is as good as real, farther "
            "right is worse. Bars are 95 % intervals. In the table the best figure of a row is bold, and any "
            "that cannot be told from it.",
            _ratios(names, reports),
            _table(names, reports),
            _features_note(),
        ),
        structure_section(names, reports),
        section(
            "What was judged",
            "",
            *(
                f"<details><summary>{text(name)}</summary>{_facts(report)}{_remarks(report.remarks)}</details>"
                for name, report in zip(names, reports, strict=True)
            ),
        ),
    ]
    page = _page(f"Comparison of {len(reports)} runs", comparison_verdict(names, reports), sections)
    write_text(path, page, rivals=True)


def _facts(report: Report) -> str:
    groups = {"Judged": report.subject, "Judged by": report.dataset, "Settings": report.settings}
    shown = (
        f"<div><h3>{name}</h3><dl>"
        + "".join(
            f"<div><dt>{text(key.replace('_', ' '))}</dt><dd>{text(_fact(value))}</dd></div>"
            for key, value in group.items()
        )
        + "</dl></div>"
        for name, group in groups.items()
        if group
    )
    return f'<div class="facts">{"".join(shown)}</div>'


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


def _remarks(remarks: Sequence[str]) -> str:
    if not remarks:
        return ""
    lines = "".join(f"<li>{text(remark)}</li>" for remark in remarks)
    return f'<section class="panel"><h3>To keep in mind</h3><ul>{lines}</ul></section>'


def _ratios(names: Sequence[str], reports: Sequence[Report]) -> str:
    """The chart of all distances that have a ratio in some report."""
    rows = {key: [_drawable(report.find(*key)) for report in reports] for key in keys_of(reports)}
    rows = {key: ratios for key, ratios in rows.items() if any(ratios)}
    if not rows:
        return ""
    titles = [", ".join(filter(None, (MEASURES[name].title, features))) for name, features in rows]
    chart = pictures.draw_ratios(titles, names, list(zip(*rows.values(), strict=True)))
    return charts(picture(chart, "Chart of the ratios in the table"))


def _drawable(figure: Figure | None) -> Estimate | None:
    ratio = figure.ratio if figure else None
    return ratio if ratio and math.isfinite(ratio.value + ratio.half_width) else None


def _table(names: Sequence[str], reports: Sequence[Report]) -> str:
    """All figures of all images: what each report's samples score, and what real music does."""
    runs = "".join(f"<th>{text(name)}</th>" for name in names)
    bodies = []
    for name, keys in groupby(keys_of(reports), key=lambda key: key[0]):
        title = (
            f'<th scope="rowgroup" colspan="{len(reports) + 2}">{text(MEASURES[name].title)} '
            f"<small>{text(MEASURES[name].meaning)}</small></th>"
        )
        rows = "".join(f"<tr>{_row(*key, reports)}</tr>" for key in keys)
        bodies.append(f"<tbody><tr>{title}</tr>{rows}</tbody>")
    head = f'<th class="left">features</th>{runs}<th>real music</th>'
    return scrolling(
        f"<table>\n<thead><tr>{head}</tr></thead>\n{''.join(bodies)}\n</table>", "All figures"
    )


def _row(name: str, features: str, reports: Sequence[Report]) -> str:
    figures = [report.find(name, features) for report in reports]
    best = _best([f.value if f else None for f in figures], MEASURES[name].best)
    real = next((figure.real for figure in figures if figure), None)
    cells = [_cell(figure, number in best) for number, figure in enumerate(figures)]
    return f'<td class="left">{text(features)}</td>{"".join(cells)}<td>{written(real)}</td>'


def _cell(figure: Figure | None, best: bool = False, with_real: bool = False) -> str:
    """A figure, under it its ratio, or if asked for, where it has none, what real music scores."""
    if figure is None:
        return "<td></td>"
    value = f"<strong>{written(figure.value)}</strong>" if best else written(figure.value)
    under = f"{written(figure.ratio)} × real" if figure.ratio else ""
    if with_real and figure.real and not under:
        under = f"real {written(figure.real)}"
    return f"<td>{value}{f'<small>{under}</small>' if under else ''}</td>"


def _best(values: Sequence[Estimate | None], which: str) -> set[int]:
    """Which of several figures is the best, with those whose difference from it may be chance.

    Args:
        which: lowest or highest; empty where neither is better.
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


def _features_note() -> str:
    kinds = "; ".join(f"<b>{name}</b>: {meaning}" for name, meaning in FEATURES.items())
    return f'<p class="note">Features: {kinds}. To be good by one alone is to have found its weakness.</p>'


def _samples(evidence: Evidence) -> str:
    config = evidence.spectrogram
    pairs = {"": (evidence.real_rows, evidence.fake_rows)}
    if evidence.conditional:
        rows = zip(evidence.genres, evidence.real_rows, evidence.fake_rows, strict=True)
        pairs = {genre: ([real], [fake]) for genre, real, fake in rows}
    parts = []
    for genre, (real, fake) in pairs.items():
        heading = f"<h3>{text(genre)}</h3>" if genre else ""
        figures = (
            picture(
                pictures.draw_sheet(rows),
                f"Spectrograms: {', '.join(filter(None, (genre, what)))}",
                what,
            )
            for what, rows in (("real, held out", real), ("samples", fake))
            if any(len(row) for row in rows)
        )
        parts.append(f'{heading}<div class="sheets">{"".join(figures)}</div>')
    return section(
        "Samples beside real music",
        f"Each image is {config.image_seconds:.1f} s of {config.f_min:g} to {config.f_max:g} Hz, low notes "
        f"at the bottom; brighter is louder, black is {config.top_db:g} dB below the loudest.",
        *parts,
    )


def _twins(twins: Sequence[Twin], report: Report) -> str:
    figures = "".join(
        picture(
            pictures.draw_sheet([np.stack([twin.sample, twin.nearest])]),
            "A sample beside the training frames nearest to it",
            ", ".join(filter(None, (twin.label, f"{twin.difference_db:.2f} dB"))),
        )
        for twin in twins
    )
    note = (
        "Left a sample, right the training frames nearest to it, with their RMS difference; "
        "the likeliest copies first."
    )
    median = report.find("nearest_training")
    if median and median.real:
        note += (
            f" Half of all samples are nearer than {median.value.value:.2f} dB; "
            f"half of the held-out real images, nearer than {median.real.value:.2f} dB."
        )
    return section("Is it copying?", note, f'<div class="items">{figures}</div>' if twins else "")


def _curves(curves: Curves) -> str:
    return section(
        "Bands and movement",
        "Levels: the line is the mean, the band one standard deviation to each side. Movement: how strongly "
        "levels rise and fall, by how often in a second they do.",
        charts(
            picture(
                pictures.draw_bands(curves), "Chart: level in each band", "level of each mel band"
            ),
            picture(
                pictures.draw_modulation(curves),
                "Chart: modulation spectrum",
                "temporal modulation",
            ),
        ),
    )


def _confusion(evidence: Evidence) -> str:
    titles = {"real": "real, held out", "samples": "samples"}
    figures = []
    for what, title in titles.items():
        counts = evidence.confusion.get(what)
        if counts is not None and counts.sum() and len(evidence.genres) > 1:
            caption = f"{title}: {100.0 * np.trace(counts) / counts.sum():.0f} % on the diagonal"
            chart = pictures.draw_confusion(counts, evidence.genres)
            figures.append(picture(chart, f"Confusion matrix: {caption}", caption))
    return section(
        "What the classifier takes them for",
        "In percent of each true genre. Where real music is confused too, samples may be.",
        charts(*figures) if figures else "",
    )


def _clouds(evidence: Evidence) -> str:
    figures = [
        picture(
            pictures.draw_cloud(cloud, evidence.genres if evidence.conditional else None),
            f"Real images and samples as points, by {cloud.features} features",
            f"{cloud.features} features",
        )
        for cloud in evidence.clouds
    ]
    return section(
        "Where samples lie among real images",
        "Features in two dimensions. Rings without dots are real music that is not made; dots without rings "
        f"are samples unlike real music.{' Grey is real music of other genres.' * evidence.conditional}",
        charts(*figures) if figures else "",
    )


def _genres(report: Report) -> str:
    """The figures of each genre by itself, folded away; nothing where none were taken."""
    genres = list(
        dict.fromkeys(figure.genre for figure in report.figures if figure.genre is not None)
    )
    if not genres:
        return ""
    keys = keys_of([report], of_genres=True)
    head = "".join(
        f"<th>{MEASURES[name].title}<small>{text(features)}</small></th>" for name, features in keys
    )
    rows = [
        f'<tr><th scope="row">{text(genre)}</th>'
        + "".join(_cell(report.find(*key, genre), with_real=True) for key in keys)
        + "</tr>"
        for genre in genres
    ]
    table = (
        f'<table class="genres"><thead><tr><th class="left">genre</th>{head}</tr></thead>\n'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
    folded = f"<details><summary>Show the figures of each genre</summary>{scrolling(table, 'By genre')}</details>"
    return section("Each genre by itself", "", folded)


def _page(title: str, said: str, sections: Sequence[str]) -> str:
    shown = "\n".join(filter(None, sections))
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(title)}</title>
<style>
{source("style.css")}{TABLES_AND_CHARTS.read_text(encoding="utf-8")}</style></head>
<body>
<header><h1>{text(title)}</h1>
<p class="verdict">{text(said)}</p></header>
<main>
{shown}
</main>
</body></html>
"""
