"""The result of an evaluation: figures, each with the same of real music, as JSON and as tables."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from musicspectrogan.evaluation.resampling import Z_95, Estimate
from musicspectrogan.filesystem import write_text

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
# Lags of the coherence of pieces, in seconds between the starts of two windows.
LAGS = (3, 6, 12, 24)
MAX_DECIMALS = 3
# What a distance says of samples.
FARTHER, AS_NEAR, CANNOT_TELL = "farther", "as near", "cannot tell"
# The ratio to real music that matters: samples are as near only if the tracks rule it out.
RELEVANT = 1.5
# One-sided standard errors of a power of 80 %.
Z_80 = 0.84
# Figures of each genre in the terminal; the page and the JSON file have all.
GENRE_TABLE = ("frechet", "coverage", "genre_accuracy", "copied")


def coherence_name(seconds: int) -> str:
    """Name of the coherence at a lag."""
    return f"coherence_{seconds}s"


@dataclass(frozen=True)
class Metric:
    """Description of a figure."""

    title: str
    meaning: str
    """One line: definition, unit, and which way is good."""
    best: str = ""
    """lowest or highest; empty if the aim is the value of real music."""
    is_distance: bool = False
    """Not negative, and shown as a ratio to its floor too."""
    may_vanish: bool = False
    """Whether the distance of two sets of one distribution may be 0, which is no divisor."""


def _distance(title: str, meaning: str, *, may_vanish: bool = False) -> Metric:
    return Metric(title, meaning, "lowest", is_distance=True, may_vanish=may_vanish)


def _coherence(seconds: int) -> Metric:
    return Metric(
        f"coherence, {seconds} s",
        f"distance of windows of a piece {seconds} s apart, over that of other pieces; like real",
    )


METRICS = {
    "frechet": _distance("Fréchet distance", "of Gaussians fitted to the features; 0 is best"),
    "kernel": _distance(
        "kernel distance", "cubic MMD², unbiased: about 0 for equal distributions", may_vanish=True
    ),
    "precision": Metric("precision", "share of samples among real images; 1 is best", "highest"),
    "recall": Metric("recall", "share of real images among samples; 1 is best", "highest"),
    "density": Metric(
        "density", "real neighbourhoods around a sample, normalised; about 1 or more"
    ),
    "coverage": Metric(
        "coverage", "share of real images with a sample nearby; 1 is best", "highest"
    ),
    "ndb": Metric(
        "NDB/K", "share of bins with significantly different proportions; 0 is best", "lowest"
    ),
    "js_divergence": _distance(
        "JS divergence", "of the bins' proportions, in bits; 0 is best", may_vanish=True
    ),
    "diversity": Metric(
        "diversity", "mean distance of two samples over that of two real images; about 1"
    ),
    "duplicates": Metric("near-duplicates", "share of samples with a near copy", "lowest"),
    "genre_accuracy": Metric(
        "genre accuracy", "share of samples classified as their genre", "highest"
    ),
    "gan_train": Metric(
        "GAN-train", "accuracy on real images after training on samples", "highest"
    ),
    "nearest_training": Metric(
        "nearest training image", "RMS difference in dB, median; far below real is copying"
    ),
    "copied": Metric("copied", "share of samples that resemble only one training track", "lowest"),
    "band_means": _distance(
        "band means", "mean absolute difference of the bands' levels, dB; 0 is best"
    ),
    "band_spreads": _distance(
        "band spreads", "the same of their standard deviations, dB; 0 is best"
    ),
    "modulation": _distance(
        "temporal modulation", "difference of log modulation spectra, dB; 0 is best"
    ),
    "onset_rate": Metric("onset rate", "onsets per second; like real"),
    **{coherence_name(seconds): _coherence(seconds) for seconds in LAGS},
    "tempo_stability": Metric(
        "tempo stability", "share of pieces with the same beat in both halves; like real"
    ),
    "shared_tempo": Metric(
        "shared tempo", "share of pairs of different pieces with the same beat; like real"
    ),
}
# Figures of pieces only.
OF_PIECES = {*map(coherence_name, LAGS), "tempo_stability", "shared_tempo"}


@dataclass(frozen=True)
class Figure:
    """One metric, in one feature space, of all images or of a genre."""

    name: str
    """A key of METRICS."""
    features: str
    """classifier or untrained; empty for metrics that use no features."""
    genre: str | None
    """None for all images together."""
    value: Estimate
    real: Estimate | None
    """The same with real images in the place of samples."""
    difference: Estimate | None = None
    """Value minus real, if both were compared with the same resampled tracks."""

    @property
    def floor(self) -> float | None:
        """The distance that real music has; None if this is not a distance.

        If it may be about 0, at least the half-width of its interval, which 0 cannot be told from.
        An extrapolated distance of very few tracks may even be negative.
        """
        metric = METRICS[self.name]
        if self.real is None or not metric.is_distance:
            return None
        if metric.may_vanish or self.real.value < 0.0:
            return max(self.real.value, self.real.half_width)
        return self.real.value

    @property
    def ratio(self) -> Estimate | None:
        """A distance over its floor; its interval is that of the difference to real music."""
        floor = self.floor
        if floor is None or not 0.0 < floor < math.inf:
            return None
        half_width = (self.difference or self.value).half_width
        return Estimate(self.value.value / floor, half_width / floor)

    @property
    def gap(self) -> Estimate | None:
        """The difference to real music; without one, that of two independent figures."""
        if self.difference or self.real is None:
            return self.difference
        half_width = math.hypot(self.value.half_width, self.real.half_width)
        return Estimate(self.value.value - self.real.value, half_width)

    @property
    def exceeds_real(self) -> bool:
        """Whether samples have a significantly higher figure than real music."""
        return self.gap is not None and self.gap.value > self.gap.half_width

    @property
    def below_real(self) -> bool:
        """Whether samples have a significantly lower figure than real music."""
        return self.gap is not None and self.gap.value < -self.gap.half_width

    @property
    def detectable(self) -> float | None:
        """The smallest ratio that these tracks would have shown, four times in five.

        Minimum detectable effect: H. Bloom, Evaluation Review 19 (1995), 547-556.
        """
        if self.ratio is None or self.gap is None or self.real is None or self.floor is None:
            return None
        return (self.real.value + (Z_95 + Z_80) / Z_95 * self.gap.half_width) / self.floor

    @property
    def finding(self) -> str:
        """FARTHER, AS_NEAR or CANNOT_TELL; empty for what has no ratio.

        As near requires that a ratio of `RELEVANT` is outside the interval, and would have shown.
        """
        ratio, detectable = self.ratio, self.detectable
        if ratio is None or detectable is None or not math.isfinite(ratio.value + detectable):
            return ""
        if self.exceeds_real:
            return FARTHER
        is_close = ratio.value + ratio.half_width < RELEVANT
        return AS_NEAR if is_close and detectable <= RELEVANT else CANNOT_TELL


@dataclass
class Report:
    """The contents of evaluation.json."""

    subject: dict[str, Any]
    """What was evaluated: a checkpoint and its training, or a folder of images."""
    dataset: dict[str, Any]
    """The real music: folder, genres, and number of images and tracks of each split."""
    settings: dict[str, Any]
    figures: list[Figure]
    remarks: list[str] = field(default_factory=list)
    """Caveats."""

    def find(self, name: str, features: str = "", genre: str | None = None) -> Figure | None:
        """Return a figure, or None if it was not computed."""
        key = (name, features, genre)
        return next((f for f in self.figures if (f.name, f.features, f.genre) == key), None)

    @property
    def genres(self) -> list[str]:
        """Genres with figures."""
        return list(dict.fromkeys(f.genre for f in self.figures if f.genre is not None))

    def to_plain(self) -> dict[str, Any]:
        """Convert to JSON types, with None for infinity and NaN."""
        contents = asdict(self)
        for line, figure in zip(contents["figures"], self.figures, strict=True):
            line["ratio"] = asdict(figure.ratio) if figure.ratio else None
            line["detectable_ratio"] = figure.detectable
            line["finding"] = figure.finding
        return {key: _finite(value) for key, value in contents.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, reports: Mapping[str, Report]) -> None:
    """Write one report as JSON, or several under their names."""
    plain = {name: report.to_plain() for name, report in reports.items()}
    contents = {"reports": plain} if len(plain) > 1 else next(iter(plain.values()))
    text = json.dumps({"format_version": FORMAT_VERSION, **contents}, indent=1) + "\n"
    write_text(path, text, concurrent=True)


def read_figures(folder: Path, digest: str) -> tuple[list[Figure], int]:
    """Read the figures of a checkpoint, if one of the JSON files in a folder has them.

    Single images are preferred to pieces.

    Args:
        folder: where `evaluate` writes: a run, or the working directory.
        digest: of the checkpoint.

    Returns:
        The figures, and how many of the reports are of other checkpoints.
    """
    others = 0
    found: dict[bool, list[Figure]] = {}
    for path in sorted(folder.glob("evaluation*.json")):
        try:
            contents = json.loads(path.read_text(encoding="utf-8"))
            for report in contents.get("reports", {"": contents}).values():
                if report["subject"].get("digest") == digest:
                    figures = [_figure(line) for line in report["figures"]]
                    found.setdefault("seconds" in report["settings"], figures)
                else:
                    others += 1
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("%s is not an evaluation, and is passed over: %s", path, error)
    return found.get(False) or found.get(True) or [], others


def _figure(line: Mapping[str, Any]) -> Figure:
    """The inverse of `asdict`, with NaN for None."""
    METRICS[line["name"]]  # KeyError: of a later version

    def estimate(plain: Mapping[str, float | None]) -> Estimate:
        return Estimate(*(_number(plain[key]) for key in ("value", "half_width")))

    # Earlier reports have no difference.
    real, difference = (line.get(key) and estimate(line[key]) for key in ("real", "difference"))
    names = (line["name"], line["features"], line["genre"])
    return Figure(*names, estimate(line["value"]), real, difference)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def figure_keys(reports: Sequence[Report], *, of_genres: bool = False) -> list[tuple[str, str]]:
    """List name and features of the figures in any of the reports, grouped by name.

    Args:
        of_genres: the figures of single genres, instead of those of all images.
    """
    figures = [
        f for report in reports for f in report.figures if of_genres == (f.genre is not None)
    ]
    names = list(dict.fromkeys(f.name for f in figures))
    return sorted(
        dict.fromkeys((f.name, f.features) for f in figures), key=lambda key: names.index(key[0])
    )


def format_estimate(estimate: Estimate | None) -> str:
    """`0.51 ± 0.03`: two digits of the half-width, and as many decimals of the value."""
    if estimate is None or not math.isfinite(estimate.value + estimate.half_width):
        return ""
    size = max(estimate.half_width, 10.0**-MAX_DECIMALS)
    decimals = min(max(0, 1 - math.floor(math.log10(size))), MAX_DECIMALS)
    value = round(estimate.value, decimals) + 0.0  # turns -0.0 into 0.0
    return f"{value:.{decimals}f} ± {estimate.half_width:.{decimals}f}"


def format_finding(figure: Figure) -> str:
    """`cannot tell (1.7)`: the finding and the smallest ratio that would have shown."""
    if not figure.finding:
        return ""
    detectable = figure.detectable or 0.0
    return f"{figure.finding} ({detectable:.{1 if detectable < 10 else 0}f})"


def table(names: Sequence[str], reports: Sequence[Report]) -> str:
    """Format the figures of all images as text, with several reports side by side.

    Args:
        names: of the reports, as column headings.
    """
    headings = [cell for name in names for cell in (name, "ratio", "finding (from)")]
    rows = [["figure", "features", *headings, "real music"]]
    for key in figure_keys(reports):
        found = [report.find(*key) for report in reports]
        real = next((figure.real for figure in found if figure), None)
        cells = [cell for figure in found for cell in _cells(figure)]
        rows.append([METRICS[key[0]].title, key[1], *cells, format_estimate(real)])
    return _aligned(rows, left=2)


def _cells(figure: Figure | None) -> tuple[str, str, str]:
    if figure is None:
        return "", "", ""
    return format_estimate(figure.value), format_estimate(figure.ratio), format_finding(figure)


def genre_table(report: Report) -> str:
    """Format some figures of each genre as text, distances as ratios; empty without genres."""
    if not report.genres:
        return ""
    keys = [key for key in figure_keys([report], of_genres=True) if key[0] in GENRE_TABLE]
    titles = [METRICS[name].title + " ratio" * METRICS[name].is_distance for name, _ in keys]
    rows = [["genre", *titles], ["", *(features for _, features in keys)]]
    for genre in report.genres:
        found = [report.find(*key, genre) for key in keys]
        rows.append([genre, *(format_estimate((f.ratio or f.value) if f else None) for f in found)])
    return _aligned(rows, left=1)


def _aligned(rows: Sequence[Sequence[str]], *, left: int) -> str:
    """Align the first `left` columns on the left, and the others on the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = zip(row, widths, strict=True)
        padded = [c.ljust(w) if n < left else c.rjust(w) for n, (c, w) in enumerate(cells)]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)
