"""A summary of the figures in one sentence, which claims only what the intervals allow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from musicspectrogan.evaluation.report import LAGS, Report, coherence_name
from musicspectrogan.evaluation.resampling import Estimate

# The figure that the verdict is based on, and what it calls the feature spaces.
DISTANCE = "frechet"
SPACES = {"classifier": "in what a genre classifier sees", "untrained": "in plain statistics"}
# Failures that a small distance may hide, each a share of the samples.
FAILURES = {
    "copied": "look copied from a training track",
    "duplicates": "have a near-duplicate among them",
}


@dataclass(frozen=True)
class _Distance:
    """The distance in one feature space, and its ratio to that of real music."""

    value: Estimate
    real: Estimate
    ratio: Estimate

    @property
    def is_farther(self) -> bool:
        """Whether samples are significantly farther than real music."""
        return _exceeds(self.value, self.real)

    @property
    def may_be_farther(self) -> bool:
        """Whether only the interval of the samples' own distance excludes 1."""
        return _low(self.ratio) > 1.0 and not self.is_farther

    @property
    def is_vague(self) -> bool:
        """Whether it shows no difference, and could not have shown one of half its size."""
        return not self.is_farther and self.ratio.half_width > self.ratio.value / 2

    @property
    def caveat(self) -> str:
        """What to say after its interval."""
        if self.is_vague:
            return "; too few tracks to tell"
        return "; may be chance" if self.may_be_farther else ""


def verdict(report: Report) -> str:
    """Say how far the samples are from the held-out tracks, and how else they fail.

    If every distance is too vague to tell samples from real music, there is no verdict.
    """
    distances, tracks = _distances(report), _tracks(report)
    failures = f"{_failures(report)}{_coherence(report)}{_tempo(report)}"
    if all(distance.is_vague for distance in distances.values()):
        return f"{_no_verdict(distances.values(), report)}{failures}."
    parts = []
    for number, (space, distance) in enumerate(distances.items()):
        as_far = "" if number else f" as far from {tracks} as real music is"
        interval = _interval(distance.ratio, long=not number)
        parts.append(
            f"{_times(distance.ratio)} times{as_far} {SPACES[space]} ({interval}{distance.caveat})"
        )
    evaluated = _evaluated(report)
    opening = f"By the Fréchet distance {evaluated} are"
    if not any(distance.is_farther for distance in distances.values()):
        unclear = any(distance.may_be_farther for distance in distances.values())
        tells = "does not clearly tell" if unclear else "cannot tell"
        opening = f"The Fréchet distance {tells} {evaluated} from real music: they are"
    return f"{opening} {' and '.join(parts)}{_accuracy(report)}{failures}."


def comparison_verdict(names: Sequence[str], reports: Sequence[Report]) -> str:
    """Say which of several models is the best, and whether intervals overlap.

    Args:
        names: of the models, in the order of their reports.
    """
    found, tracks = [_distances(report) for report in reports], _tracks(reports[0])
    spaces = [
        space
        for space in SPACES
        if all(space in distances and not distances[space].is_vague for distances in found)
    ]
    if not spaces:
        every = [distance for distances in found for distance in distances.values()]
        return f"{_no_verdict(every, reports[0])}."
    best, clear, parts = set(), False, []
    for number, space in enumerate(spaces):
        ratios = {name: of[space].ratio for name, of in zip(names, found, strict=True)}
        (first, ahead), (second, behind), *_ = sorted(ratios.items(), key=lambda r: r[1].value)
        overlapping = [
            name for name, ratio in ratios.items() if name != first and _low(ratio) <= _high(ahead)
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


def _distances(report: Report) -> dict[str, _Distance]:
    """The distance in each feature space where its ratio is finite."""
    distances = {}
    for space in SPACES:
        figure = report.find(DISTANCE, space)
        if figure and figure.real and figure.ratio and math.isfinite(_high(figure.ratio)):
            distances[space] = _Distance(figure.value, figure.real, figure.ratio)
    return distances


def _no_verdict(distances: Iterable[_Distance], report: Report) -> str:
    highest = [_high(distance.ratio) for distance in distances]
    if not highest:
        return "No verdict: no Fréchet distance has a value for real music to compare with"
    return (
        f"No verdict: {_tracks(report)} are too few; by them {_evaluated(report)} may be anything "
        f"from as good as real music to {_rounded(max(highest))} times as far from it"
    )


def _accuracy(report: Report) -> str:
    accuracy = report.find("genre_accuracy")
    if accuracy is None:
        return ""
    real = f" (real music: {_percent(accuracy.real)})" if accuracy.real else ""
    return f"; {_percent(accuracy.value)} of them are recognised as their genre{real}"


def _failures(report: Report) -> str:
    """The failures that more samples than real images show, in every feature space."""
    text = ""
    for name, failure in FAILURES.items():
        pairs = [
            (f.value, f.real)
            for f in report.figures
            if f.name == name and f.genre is None and f.real
        ]
        if pairs and all(_exceeds(value, real) for value, real in pairs):
            value, real = min(pairs, key=lambda pair: pair[0].value)
            text += f"; but {_percent(value)} {failure} (real music: {_percent(real)})"
    return text


def _coherence(report: Report) -> str:
    """The lag at which pieces differ most from real music, if both feature spaces agree."""
    significant: dict[int, tuple[float, float]] = {}
    for seconds in LAGS:
        figures = [report.find(coherence_name(seconds), space) for space in SPACES]
        pairs = [(f.value, f.real) for f in figures if f and f.real]
        above = len(pairs) == len(SPACES) and all(_exceeds(v, real) for v, real in pairs)
        below = len(pairs) == len(SPACES) and all(_exceeds(real, v) for v, real in pairs)
        if above or below:
            values = [(value.value, real.value) for value, real in pairs]
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
    if stability and stability.real and _exceeds(stability.real, stability.value):
        text += (
            f"; the beat holds in {_percent(stability.value)} of the pieces "
            f"(real music: {_percent(stability.real)})"
        )
    if shared and shared.real and _exceeds(shared.value, shared.real):
        text += (
            f"; two pieces of a genre have the same beat in {_percent(shared.value)} of cases "
            f"(real music: {_percent(shared.real)})"
        )
    return text


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


def _exceeds(one: Estimate, other: Estimate) -> bool:
    """Whether one value is significantly higher than another, with independent intervals."""
    return one.value - other.value > math.hypot(one.half_width, other.half_width)


def _low(ratio: Estimate) -> float:
    return max(0.0, ratio.value - ratio.half_width)


def _high(ratio: Estimate) -> float:
    return ratio.value + ratio.half_width


def _interval(ratio: Estimate, *, long: bool = False) -> str:
    return f"{'95 % interval ' * long}{_rounded(_low(ratio))} to {_rounded(_high(ratio))}"


def _times(ratio: Estimate) -> str:
    return _rounded(ratio.value)


def _rounded(ratio: float) -> str:
    return f"{ratio:.1f}" if 0 < ratio < 10 else f"{ratio:,.0f}"


def _percent(share: Estimate) -> str:
    return f"{100.0 * share.value:.0f} %"
