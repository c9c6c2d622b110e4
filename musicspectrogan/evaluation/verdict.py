"""A summary of the figures in one sentence, which claims only what the intervals allow."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from musicspectrogan.evaluation.report import (
    CANNOT_TELL,
    FARTHER,
    LAGS,
    Figure,
    Report,
    coherence_name,
)
from musicspectrogan.evaluation.resampling import Estimate

# The figure that the verdict is based on, and what it calls the feature spaces.
DISTANCE = "frechet"
SPACES = {"classifier": "in what a genre classifier sees", "untrained": "in plain statistics"}
# Failures that a small distance may hide, each a share of the samples.
FAILURES = {
    "copied": "look copied from a training track",
    "duplicates": "have a near-duplicate among them",
}


def verdict(report: Report) -> str:
    """Say how far the samples are from the held-out tracks, and how else they fail."""
    distances, tracks = _distances(report), _tracks(report)
    failures = f"{_failures(report)}{_coherence(report)}{_tempo(report)}"
    findings = [figure.finding for figure in distances.values()]
    if not set(findings) - {CANNOT_TELL}:
        return f"{_no_verdict(distances.values(), report)}{failures}."
    parts = []
    for number, (space, figure) in enumerate(distances.items()):
        as_far = "" if number else f" as far from {tracks} as real music is"
        interval = _interval(figure, long=not number)
        if figure.finding == CANNOT_TELL:
            interval += f"; {CANNOT_TELL}"
        parts.append(f"{_times(figure)} times{as_far} {SPACES[space]} ({interval})")
    evaluated = _evaluated(report)
    opening = f"By the Fréchet distance {evaluated} are"
    if FARTHER not in findings:
        opening = (
            f"The Fréchet distance finds no difference between {evaluated} and real music: they are"
        )
    return f"{opening} {' and '.join(parts)}{_accuracy(report)}{failures}."


def comparison_verdict(names: Sequence[str], reports: Sequence[Report]) -> str:
    """Say which of several models is the best, and whether intervals overlap.

    Args:
        names: of the models, in the order of their reports.
    """
    found, tracks = [_distances(report) for report in reports], _tracks(reports[0])
    shared = [space for space in SPACES if all(space in distances for distances in found)]
    spaces = [
        space
        for space in shared
        if any(distances[space].finding != CANNOT_TELL for distances in found)
    ]
    if not spaces:
        every = [distances[space] for distances in found for space in shared]
        return f"{_no_verdict(every, reports[0])}."
    best, clear, parts = set(), False, []
    for number, space in enumerate(spaces):
        figures = {name: of[space] for name, of in zip(names, found, strict=True)}
        (first, ahead), (second, behind), *_ = sorted(
            figures.items(), key=lambda item: _ratio(item[1]).value
        )
        overlapping = [
            name
            for name, figure in figures.items()
            if name != first and _low(figure) <= _high(ahead)
        ]
        best.add(first)
        clear = clear or not overlapping
        as_far = "" if number else f" as far from {tracks} as real music is"
        parts.append(
            f"{SPACES[space]} {first} is {_times(ahead)} times{as_far} "
            f"({_interval(ahead, long=not number)}) and {second} {_times(behind)} times "
            f"({_interval(behind)}), {_overlap(overlapping, len(names))}"
        )
    which = "better" if len(names) == 2 else "the best"
    opening = f"The Fréchet distance does not say which is {which}"
    if clear and len(best) == 1:
        opening = f"By the Fréchet distance {best.pop()} is {which}"
    return f"{opening}: {'; '.join(parts)}."


def _distances(report: Report) -> dict[str, Figure]:
    """The distance in each feature space where it has a finding."""
    figures = {space: report.find(DISTANCE, space) for space in SPACES}
    return {space: figure for space, figure in figures.items() if figure and figure.finding}


def _no_verdict(figures: Collection[Figure], report: Report) -> str:
    if not figures:
        return "No verdict: no Fréchet distance has a value for real music to compare with"
    tracks, evaluated = _tracks(report), _evaluated(report)
    low, high = min(map(_low, figures)), max(map(_high, figures))
    smallest = _rounded(min(figure.detectable or math.inf for figure in figures))
    return (
        f"Cannot tell: by {tracks} {evaluated} may be {_rounded(low)} to {_rounded(high)} times as "
        f"far from them as real music is, and less than {smallest} times would hardly show"
    )


def _accuracy(report: Report) -> str:
    accuracy = report.find("genre_accuracy")
    if accuracy is None:
        return ""
    return f"; {_percent(accuracy.value)} of them are recognised as their genre{_of_real(accuracy)}"


def _failures(report: Report) -> str:
    """The failures that more samples than real images show, in each of SPACES."""
    text = ""
    for name, failure in FAILURES.items():
        figures = [
            f
            for f in report.figures
            if f.name == name and f.genre is None and f.real and f.features in ("", *SPACES)
        ]
        if figures and all(figure.exceeds_real for figure in figures):
            least = min(figures, key=lambda figure: figure.value.value)
            text += f"; but {_percent(least.value)} {failure}{_of_real(least)}"
    return text


def _coherence(report: Report) -> str:
    """The lag at which pieces differ most from real music, if both feature spaces agree."""
    significant: dict[int, tuple[float, float]] = {}
    for seconds in LAGS:
        figures = [report.find(coherence_name(seconds), space) for space in SPACES]
        both = [figure for figure in figures if figure and figure.real]
        if len(both) == len(SPACES) and (
            all(figure.exceeds_real for figure in both) or all(figure.below_real for figure in both)
        ):
            values = [(figure.value.value, figure.real.value) for figure in both if figure.real]
            significant[seconds] = min(values, key=_difference)
    if not significant:
        return ""
    seconds = max(significant, key=lambda seconds: _difference(significant[seconds]))
    value, real = significant[seconds]
    why = "they lose their thread" if value > real else "they are monotonous"
    return (
        f"; {why}: {seconds} s apart, two moments of a piece are {value:.2f} times as unlike "
        f"as two of different pieces (real music: {real:.2f})"
    )


def _difference(pair: tuple[float, float]) -> float:
    return abs(pair[0] - pair[1])


def _tempo(report: Report) -> str:
    text = ""
    stability, shared = report.find("tempo_stability"), report.find("shared_tempo")
    if stability and stability.below_real:
        text += (
            f"; the beat holds in {_percent(stability.value)} of the pieces{_of_real(stability)}"
        )
    if shared and shared.exceeds_real:
        text += (
            f"; two pieces of a genre have the same beat in {_percent(shared.value)} of cases"
            f"{_of_real(shared)}"
        )
    return text


def _of_real(figure: Figure) -> str:
    return f" (real music: {_percent(figure.real)})" if figure.real else ""


def _evaluated(report: Report) -> str:
    seconds = report.settings.get("seconds")
    return "these samples" if seconds is None else f"these pieces of {seconds:g} s"


def _tracks(report: Report) -> str:
    """`the 10 test tracks`."""
    split = report.dataset.get("split", "held-out")
    number = report.dataset.get("held_out_tracks")
    return f"the {f'{number:,} ' if number else ''}{split} tracks"


def _overlap(overlapping: Sequence[str], count: int) -> str:
    if count == 2:
        return f"and the intervals {'overlap' if overlapping else 'do not overlap'}"
    if not overlapping:
        return "and its interval overlaps with no other"
    return f"and its interval overlaps with that of {' and '.join(overlapping)}"


def _ratio(figure: Figure) -> Estimate:
    assert figure.ratio is not None  # it has a finding
    return figure.ratio


def _low(figure: Figure) -> float:
    return max(0.0, _ratio(figure).value - _ratio(figure).half_width)


def _high(figure: Figure) -> float:
    return _ratio(figure).value + _ratio(figure).half_width


def _interval(figure: Figure, *, long: bool = False) -> str:
    return f"{'95 % interval ' * long}{_rounded(_low(figure))} to {_rounded(_high(figure))}"


def _times(figure: Figure) -> str:
    return _rounded(_ratio(figure).value)


def _rounded(ratio: float) -> str:
    return f"{ratio:.1f}" if 0 < ratio < 10 else f"{ratio:,.0f}"


def _percent(share: Estimate) -> str:
    return f"{100.0 * share.value:.0f} %"
