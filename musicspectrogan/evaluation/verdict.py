"""What the figures say, in one sentence, and never more than they say."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

from musicspectrogan.evaluation.coherence import LAGS, coherence_name
from musicspectrogan.evaluation.report import Figure, Report
from musicspectrogan.evaluation.resampling import Estimate

# The figure that the sentence is about, and how each kind of features is called in it.
DISTANCE = "frechet"
SEEN_BY = {"classifier": "in what a genre classifier sees", "untrained": "in plain statistics"}
# What a generator may do while its distance is small. Each is a share of the samples.
TRICKS = {
    "copied": "look copied from a training track",
    "duplicates": "have a near-duplicate among them",
}


def verdict(report: Report) -> str:
    """One sentence on one subject: how far its samples are from the held-out tracks, and how they cheat.

    There is none where every distance is too vague to tell samples from real music or to say they are alike.
    """
    figures, tracks = _distances(report), _tracks(report)
    if all(map(_is_vague, figures.values())):
        return f"{_no_verdict(figures.values(), report)}{_tricks(report)}{_structure(report)}."
    farther = any(map(_is_farther, figures.values()))
    parts = []
    for number, (kind, figure) in enumerate(figures.items()):
        as_far = "" if number else f" as far from {tracks} as real music is"
        interval = _interval(figure.ratio, spelt_out=not number)
        parts.append(
            f"{_times(figure.ratio.value)} times{as_far} {SEEN_BY[kind]} ({interval}{_doubt(figure)})"
        )
    opening = f"By the Fréchet distance {_judged(report)} are"
    if not farther:
        tells = (
            "does not clearly tell"
            if any(map(_may_be_farther, figures.values()))
            else "cannot tell"
        )
        opening = f"The Fréchet distance {tells} {_judged(report)} from real music: they are"
    return f"{opening} {' and '.join(parts)}{_genres(report)}{_tricks(report)}{_structure(report)}."


def comparison_verdict(names: Sequence[str], reports: Sequence[Report]) -> str:
    """One sentence on several subjects: which is the best, and whether the intervals overlap.

    Args:
        names: of the subjects, in the order of their reports.
    """
    found, tracks = [_distances(report) for report in reports], _tracks(reports[0])
    kinds = [kind for kind in SEEN_BY if all(kind in f and not _is_vague(f[kind]) for f in found)]
    if not kinds:
        return f"{_no_verdict([figure for figures in found for figure in figures.values()], reports[0])}."
    best, clear, parts = set(), False, []
    for number, kind in enumerate(kinds):
        ratios = {name: figures[kind].ratio for name, figures in zip(names, found, strict=True)}
        (first, ahead), (second, next_to_it), *_ = sorted(
            ratios.items(), key=lambda item: item[1].value
        )
        rivals = [
            name for name, ratio in ratios.items() if name != first and _low(ratio) <= _high(ahead)
        ]
        best.add(first)
        clear = clear or not rivals
        as_far = "" if number else f" as far from {tracks} as real music is"
        parts.append(
            f"{SEEN_BY[kind]} {first} is {_times(ahead.value)} times{as_far} "
            f"({_interval(ahead, spelt_out=not number)}) and {second} {_times(next_to_it.value)} times "
            f"({_interval(next_to_it)}), {_overlap(rivals, len(names))}"
        )
    which = "better" if len(names) == 2 else "the best"
    opening = f"The Fréchet distance does not say which is {which}"
    if clear and len(best) == 1:
        opening = f"By the Fréchet distance {best.pop()} is {which}"
    return f"{opening}: {'; '.join(parts)}."


def _distances(report: Report) -> dict[str, Figure]:
    """The distance by each kind of features, where it has a ratio to real music's own that is a number."""
    figures = {kind: report.find(DISTANCE, kind) for kind in SEEN_BY}
    return {
        kind: figure
        for kind, figure in figures.items()
        if figure and figure.ratio and math.isfinite(_high(figure.ratio))
    }


def _is_vague(figure: Figure) -> bool:
    """Whether it neither shows a difference from real music nor could have shown one of half its size."""
    return not _is_farther(figure) and figure.ratio.half_width > figure.ratio.value / 2


def _is_farther(figure: Figure) -> bool:
    """Whether samples are farther than real music by more than chance, that of either figure, explains."""
    return _exceeds(figure.value, figure.real)


def _may_be_farther(figure: Figure) -> bool:
    """Whether the interval, which is that of the samples' distance alone, is above 1, and that is all."""
    return _low(figure.ratio) > 1.0 and not _is_farther(figure)


def _doubt(figure: Figure) -> str:
    if _is_vague(figure):
        return "; too few tracks to tell"
    if _may_be_farther(figure):
        return "; may be chance"
    return ""


def _structure(report: Report) -> str:
    """How pieces fail to hang together: by coherence where both kinds of features say so, and by tempo."""
    return "".join(f"; {told}" for told in (_coherence(report), *_tempo(report)) if told)


def _coherence(report: Report) -> str:
    """The lag at which windows of a piece are most plainly too far apart, or too near each other."""
    plain = {}
    for seconds in LAGS:
        figures = [report.find(coherence_name(seconds), kind) for kind in SEEN_BY]
        if all(figures) and {_side(figure) for figure in figures} in ({-1}, {1}):
            plain[seconds] = min(figures, key=_off)
    if not plain:
        return ""
    seconds, figure = max(plain.items(), key=lambda item: _off(item[1]))
    why = "they lose their thread" if _side(figure) > 0 else "they are monotonous"
    return (
        f"{why}: {seconds} s apart, two moments of a piece are {figure.value.value:.2f} times as unlike "
        f"as two of different pieces (real music: {figure.real.value:.2f})"
    )


def _side(figure: Figure) -> int:
    """1 above real music by more than chance explains, -1 below, else 0."""
    return _exceeds(figure.value, figure.real) - _exceeds(figure.real, figure.value)


def _off(figure: Figure) -> float:
    return abs(figure.value.value - figure.real.value)


def _tempo(report: Report) -> Iterator[str]:
    stability, shared = report.find("tempo_stability"), report.find("shared_tempo")
    if stability and _exceeds(stability.real, stability.value):
        yield (
            f"the beat holds in {_percent(stability.value)} of the pieces "
            f"(real music: {_percent(stability.real)})"
        )
    if shared and _exceeds(shared.value, shared.real):
        yield (
            f"two pieces of a genre have the same beat in {_percent(shared.value)} of cases "
            f"(real music: {_percent(shared.real)})"
        )


def _judged(report: Report) -> str:
    seconds = report.settings.get("seconds")
    return "these samples" if seconds is None else f"these pieces of {seconds:g} s"


def _exceeds(ours: Estimate, theirs: Estimate) -> bool:
    return ours.value - theirs.value > math.hypot(ours.half_width, theirs.half_width)


def _genres(report: Report) -> str:
    accuracy = report.find("genre_accuracy")
    if accuracy is None:
        return ""
    real = f" (real music: {_percent(accuracy.real)})" if accuracy.real else ""
    return f"; {_percent(accuracy.value)} of them are recognised as their genre{real}"


def _tricks(report: Report) -> str:
    """The tricks that more samples show than real music does, by every kind of features."""
    told = ""
    for name, trick in TRICKS.items():
        figures = [f for f in report.figures if f.name == name and f.genre is None and f.real]
        if figures and all(_exceeds(figure.value, figure.real) for figure in figures):
            least = min(figures, key=lambda figure: figure.value.value)
            told += f"; but {_percent(least.value)} {trick} (real music: {_percent(least.real)})"
    return told


def _no_verdict(figures: Collection[Figure], report: Report) -> str:
    if not figures:
        return "No verdict: no Fréchet distance could be taken beside real music's own"
    most = _times(max(_high(figure.ratio) for figure in figures))
    return (
        f"No verdict: {_tracks(report)} are too few; by them {_judged(report)} may be anything from as good "
        f"as real music to {most} times as far from it"
    )


def _overlap(rivals: Sequence[str], count: int) -> str:
    if count == 2:
        return "and the intervals overlap" if rivals else "and the intervals do not overlap"
    if not rivals:
        return "and its interval overlaps with no other"
    return f"and its interval overlaps with that of {' and '.join(rivals)}"


def _tracks(report: Report) -> str:
    """`the 10 test tracks`."""
    split = report.dataset.get("split", "held-out")
    number = report.dataset.get("held_out_tracks")
    return f"the {f'{number:,} ' if number else ''}{split} tracks"


def _interval(ratio: Estimate, *, spelt_out: bool = False) -> str:
    return f"{'95 % interval ' * spelt_out}{_times(_low(ratio))} to {_times(_high(ratio))}"


def _low(ratio: Estimate) -> float:
    return max(0.0, ratio.value - ratio.half_width)


def _high(ratio: Estimate) -> float:
    return ratio.value + ratio.half_width


def _times(ratio: float) -> str:
    return f"{ratio:.1f}" if 0 < ratio < 10 else f"{ratio:,.0f}"


def _percent(share: Estimate) -> str:
    return f"{100.0 * share.value:.0f} %"
