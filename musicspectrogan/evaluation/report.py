"""What an evaluation found: figures, each beside what real music scores in its place, and remarks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from musicspectrogan.evaluation.coherence import LAGS, coherence_name
from musicspectrogan.evaluation.resampling import Estimate
from musicspectrogan.filesystem import write_text

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Measure:
    """What a figure is, for the people who read it."""

    title: str
    meaning: str
    """One line: what it is, in what unit, and which way is good."""
    best: str = ""
    """lowest or highest; empty where it is to be like real music's."""
    is_distance: bool = False
    """From 0 up; shown as a ratio to its floor too."""
    may_vanish: bool = False
    """Whether two sets of one kind may have a distance of about 0, by which nothing can be divided."""


def _distance(title: str, meaning: str, *, may_vanish: bool = False) -> Measure:
    return Measure(title, meaning, "lowest", is_distance=True, may_vanish=may_vanish)


def _coherence(seconds: int) -> Measure:
    return Measure(
        f"coherence, {seconds} s",
        f"distance of windows of a piece {seconds} s apart over that of different pieces; real is the aim",
    )


MEASURES = {
    "frechet": _distance("Fréchet distance", "of two Gaussians fitted to the features; 0 is best"),
    "kernel": _distance(
        "kernel distance",
        "cubic MMD², unbiased: about 0 for the same distribution",
        may_vanish=True,
    ),
    "precision": Measure("precision", "share of samples among real images; 1 is best", "highest"),
    "recall": Measure("recall", "share of real images among samples; 1 is best", "highest"),
    "density": Measure(
        "density", "how deep among real images the samples lie; about 1, more is safer"
    ),
    "coverage": Measure(
        "coverage", "share of real images with a sample beside them; 1 is best", "highest"
    ),
    "ndb": Measure(
        "NDB/K", "share of kinds of images met too often or too seldom; 0 is best", "lowest"
    ),
    "js_divergence": _distance(
        "JS divergence", "of how often each kind is met, in bits; 0 is best", may_vanish=True
    ),
    "diversity": Measure(
        "diversity", "mean distance of two samples over that of two real images; about 1"
    ),
    "duplicates": Measure("near-duplicates", "share of samples with a fellow much alike", "lowest"),
    "genre_accuracy": Measure(
        "genre accuracy", "share of samples recognised as their genre", "highest"
    ),
    "gan_train": Measure(
        "GAN-train", "accuracy on real images after training on samples", "highest"
    ),
    "nearest_training": Measure(
        "nearest training image", "RMS difference in dB, median; far below real is copying"
    ),
    "copied": Measure(
        "copied", "share of samples that are like one training track alone", "lowest"
    ),
    "band_means": _distance(
        "band means", "mean absolute difference of the bands' levels, dB; 0 is best"
    ),
    "band_spreads": _distance(
        "band spreads", "the same of their standard deviations, dB; 0 is best"
    ),
    "modulation": _distance(
        "temporal modulation", "difference of log modulation spectra, dB; 0 is best"
    ),
    "onset_rate": Measure("onset rate", "onsets a second; real is the aim"),
    **{coherence_name(seconds): _coherence(seconds) for seconds in LAGS},
    "tempo_stability": Measure(
        "tempo stability", "share of pieces with the same beat in both halves; real is the aim"
    ),
    "shared_tempo": Measure(
        "shared tempo", "share of pairs of different pieces with the same beat; real is the aim"
    ),
}
# Of pieces alone: how the windows of one hang together.
OF_PIECES = {*map(coherence_name, LAGS), "tempo_stability", "shared_tempo"}


@dataclass(frozen=True)
class Figure:
    """One figure, of one kind of features, of all images or of a genre."""

    name: str
    """A key of MEASURES."""
    features: str
    """classifier or untrained; empty for figures that need no features."""
    genre: str | None
    """None for all images together."""
    value: Estimate
    real: Estimate | None
    """What real images score in the place of the generated ones: floor of a distance, else a ceiling."""

    @property
    def floor(self) -> float | None:
        """What a distance cannot be below but by chance: the one that real music has in its place.

        Where that may be about 0, at least the half-width of its interval: less cannot be told from 0.
        """
        measure = MEASURES[self.name]
        if self.real is None or not measure.is_distance:
            return None
        return max(self.real.value, self.real.half_width) if measure.may_vanish else self.real.value

    @property
    def ratio(self) -> Estimate | None:
        """A distance over its floor: 1 is as good as real; its interval is that of the distance alone."""
        floor = self.floor
        if floor is None or not 0.0 < floor < math.inf:
            return None
        return Estimate(self.value.value / floor, self.value.half_width / floor)


@dataclass
class Report:
    """The contents of evaluation.json."""

    subject: dict[str, Any]
    """What was judged: a checkpoint with its training, or a folder of images."""
    dataset: dict[str, Any]
    """By what: the folder, its genres, and how many images and tracks each part has."""
    settings: dict[str, Any]
    figures: list[Figure]
    remarks: list[str] = field(default_factory=list)
    """What to keep in mind when reading the figures."""

    def find(self, name: str, features: str = "", genre: str | None = None) -> Figure | None:
        """A figure, or None where it was not taken."""
        wanted = (name, features, genre)
        return next((f for f in self.figures if (f.name, f.features, f.genre) == wanted), None)

    def plain(self) -> dict[str, Any]:
        """As JSON holds it; what is not finite becomes None."""
        contents = asdict(self)
        for line, figure in zip(contents["figures"], self.figures, strict=True):
            line["ratio"] = asdict(figure.ratio) if figure.ratio else None
        return _finite(contents)


def write_report(path: Path, report: Report) -> None:
    """Write a report as JSON."""
    write_text(
        path,
        json.dumps({"format_version": FORMAT_VERSION, **report.plain()}, indent=1) + "\n",
        rivals=True,
    )


def write_reports(path: Path, reports: Mapping[str, Report]) -> None:
    """Write several reports as JSON, each under its name."""
    named = {name: report.plain() for name, report in reports.items()}
    write_text(
        path,
        json.dumps({"format_version": FORMAT_VERSION, "reports": named}, indent=1) + "\n",
        rivals=True,
    )


def keys_of(reports: Sequence[Report], *, of_genres: bool = False) -> list[tuple[str, str]]:
    """The name and the features of each figure in some report, those of one name together.

    Args:
        of_genres: of single genres, and not of all images together.
    """
    figures = [
        f for report in reports for f in report.figures if of_genres == (f.genre is not None)
    ]
    names = list(dict.fromkeys(f.name for f in figures))
    return sorted(
        dict.fromkeys((f.name, f.features) for f in figures), key=lambda key: names.index(key[0])
    )


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
