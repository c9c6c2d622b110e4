"""What an evaluation found, as PNG files in memory: sheets of spectrograms, and charts.

Charts are dark ink on no ground, so that a page can turn them for a dark screen.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from musicspectrogan.charts import chart, load_matplotlib
from musicspectrogan.data.grids import draw_grid
from musicspectrogan.errors import printable, spared
from musicspectrogan.evaluation.evidence import Cloud, Curves, Pixels
from musicspectrogan.evaluation.resampling import Estimate
from musicspectrogan.generation.page import MARKED_HZ

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches of a chart and of its smallest print, for screens of 100 dots an inch; drawn twice as fine.
WIDTH, DOTS = 5.0, 200
FONT_POINTS = 9

# M. Okabe, K. Ito, "Color Universal Design", 2008: told apart in every kind of colour vision.
REAL, SAMPLES = "#0072b2", "#d55e00"
RUNS = (SAMPLES, "#009e73", "#8c2981", "#e69f00", "#56b4e9", "#1a1a1a", "#cc79a7")
MARKERS = "osD^vPX"
LINE, FAINT = "#bbbbbb", "#c8c8c8"

# Pixels a side of an image on a sheet; larger ones are shrunk, for the page carries them all.
LARGEST_CELL = 128
# Letters that there is room for: in a genre's name, and in a line of the names of runs.
LONGEST_NAME, LONGEST_RUN = 18, 60

# A ratio below this is drawn at the edge: what is below 1 cannot be told from real music anyway.
LEAST_RATIO = 0.4
PANELS_ABREAST = 4

Shown = ParamSpec("Shown")


def _spared(draw: Callable[Shown, bytes]) -> Callable[Shown, bytes]:
    """Give no bytes where drawing fails, which costs that picture alone."""

    @wraps(draw)
    def drawing(*shown: Shown.args, **options: Shown.kwargs) -> bytes:
        with spared(f"picture on the page ({draw.__name__.removeprefix('draw_')})"):
            return draw(*shown, **options)
        return b""

    return drawing


@_spared
def draw_sheet(rows: Sequence[Pixels]) -> bytes:
    """Rows of spectrograms in matplotlib's magma colours, as PNG.

    Args:
        rows: uint8 (columns, H, W) each, low frequencies at the bottom.
    """
    return _in_magma(draw_grid([_shrunk(row) for row in rows]))


@_spared
def draw_strip(piece: Pixels) -> bytes:
    """The spectrogram of a piece uint8 (H, T) in the same colours, as PNG."""
    height = piece.shape[0]
    windows = _shrunk(piece.reshape(height, -1, height).swapaxes(0, 1))
    return _in_magma(Image.fromarray(np.concatenate(list(windows), axis=1)))


@_spared
def draw_ratios(
    names: Sequence[str], runs: Sequence[str], ratios: Sequence[Sequence[Estimate | None]]
) -> bytes:
    """Distances over what real music scores, with their intervals, as PNG.

    Args:
        names: of the distances, a row each, from the top.
        runs: their names, for the legend of more than one.
        ratios: for each run the ratio in each row, finite; None where it has none.
    """
    present = [ratio for of_run in ratios for ratio in of_run if ratio]
    highest = max([2.0, *(ratio.value + ratio.half_width for ratio in present)])
    # Runs share the middle of a row.
    step = 0.75 / len(ratios)
    with _canvas(0.75 + len(names) * max(0.3, 0.08 + 0.15 * len(ratios))) as (figure, png):
        axes = figure.subplots()
        _log_axis(axes, LEAST_RATIO, 1.25 * highest)
        axes.axvspan(LEAST_RATIO, 1.0, color=REAL, alpha=0.1, linewidth=0)
        axes.axvline(1.0, color=REAL, linewidth=1.2)
        axes.hlines(
            np.arange(1, len(names)) - 0.5, LEAST_RATIO, 1.25 * highest, color=LINE, linewidth=0.3
        )
        keys = []
        for number, of_run in enumerate(ratios):
            color, marker = RUNS[number % len(RUNS)], MARKERS[number % len(MARKERS)]
            keys += axes.plot([], [], marker, color=color)
            for row, ratio in enumerate(of_run):
                if ratio is None:
                    continue
                y = row + (number - (len(ratios) - 1) / 2) * step
                ends = ratio.value + ratio.half_width * np.array([-1.0, 1.0])
                axes.plot(np.maximum(ends, LEAST_RATIO), [y, y], color=color, linewidth=1.6)
                inside = ratio.value >= LEAST_RATIO
                shown = {"marker": marker if inside else "<", "color": color, "clip_on": False}
                axes.plot(max(ratio.value, LEAST_RATIO), y, **shown)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0, pad=8)
        axes.grid(axis="x")
        axes.set_xlabel("times what real music scores (1: as good as real)")
        if len(runs) > 1:
            labels = [_label(run, LONGEST_RUN) for run in runs]
            columns = max(1, LONGEST_RUN // (max(map(len, labels)) + 6))
            figure.legend(keys, labels, loc="outside upper left", ncols=columns)
    return png.getvalue()


@_spared
def draw_bands(curves: Curves) -> bytes:
    """Mean level and spread in each band, real beside generated, as PNG. All bands are equally wide."""
    bands = np.arange(len(curves.band_hz))
    with _canvas(3.2) as (figure, png):
        axes = figure.subplots()
        for name, mean, spread, color, style in (
            ("real", curves.real_mean, curves.real_spread, REAL, "-"),
            ("samples", curves.fake_mean, curves.fake_spread, SAMPLES, "--"),
        ):
            axes.fill_between(
                bands, mean - spread, mean + spread, color=color, alpha=0.15, linewidth=0
            )
            axes.plot(bands, mean, style, color=color, label=name)
        low, high = curves.band_hz[[0, -1]]
        marks = [hz for hz in MARKED_HZ if low <= hz <= high] or [low, high]
        axes.set_xticks(np.interp(marks, curves.band_hz, bands), [f"{hz:g}" for hz in marks])
        axes.set_xlim(bands[0], bands[-1])
        axes.set_xlabel("Hz")
        axes.set_ylabel("dB re the loudest")
        axes.grid()
        axes.legend()
    return png.getvalue()


@_spared
def draw_modulation(curves: Curves) -> bytes:
    """How much the level of a band moves, and how fast, real beside generated, as PNG."""
    hz = curves.modulation_hz
    with _canvas(3.2) as (figure, png):
        axes = figure.subplots()
        axes.plot(hz, curves.real_modulation, "-", color=REAL, label="real")
        axes.plot(hz, curves.fake_modulation, "--", color=SAMPLES, label="samples")
        _log_axis(axes, hz[0], hz[-1])
        axes.set_xlabel("how often a level rises and falls, Hz")
        axes.set_ylabel("power, dB")
        axes.grid()
        axes.legend()
    return png.getvalue()


@_spared
def draw_coherence(
    seconds: Sequence[int],
    real: Sequence[Estimate],
    runs: Sequence[str],
    coherence: Sequence[Sequence[Estimate | None]],
) -> bytes:
    """How unlike the windows of a piece are, by how far apart they are, beside real music, as PNG.

    Args:
        seconds: the lags.
        real: real music's own at each lag.
        runs: their names, for the legend.
        coherence: for each run that at each lag; None where it has none.
    """
    places = np.arange(len(seconds))
    with _canvas(3.2) as (figure, png):
        axes = figure.subplots()
        level, sides = np.array([(value.value, value.half_width) for value in real]).T
        axes.fill_between(places, level - sides, level + sides, color=REAL, alpha=0.15, linewidth=0)
        axes.plot(places, level, "-", color=REAL, label="real")
        axes.axhline(1.0, color=LINE, linewidth=1.0, linestyle=":")
        for number, (run, values) in enumerate(zip(runs, coherence, strict=True)):
            color, marker = RUNS[number % len(RUNS)], MARKERS[number % len(MARKERS)]
            # Beside each other, for the bars of several would hide one another.
            shift = 0.06 * (number - (len(runs) - 1) / 2)
            found = [(place + shift, v.value, v.half_width) for place, v in enumerate(values) if v]
            if found:
                x, y, half_widths = zip(*found, strict=True)
                label = _label(run, LONGEST_RUN // 2)
                axes.errorbar(x, y, half_widths, fmt=f"{marker}--", color=color, label=label)
        axes.set_xticks(places, [f"{lag}" for lag in seconds])
        axes.set_ylim(bottom=0.0)
        axes.set_xlabel("seconds apart")
        axes.set_ylabel("1: as unlike as different pieces")
        axes.grid()
        axes.legend()
    return png.getvalue()


@_spared
def draw_confusion(counts: NDArray[np.int64], genres: Sequence[str]) -> bytes:
    """A confusion matrix in percent of each row, as PNG.

    Args:
        counts: (G, G), a row a true genre, a column what the classifier takes it for.
    """
    percent = 100.0 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [_label(genre) for genre in genres]
    with _canvas(WIDTH) as (figure, png):
        axes = figure.subplots()
        axes.imshow(percent, cmap="Purples", vmin=0.0, vmax=100.0)
        for (row, column), value in np.ndenumerate(percent):
            if value >= 0.5:
                color = "white" if value > 55 else "black"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=color)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("taken for")
        axes.set_ylabel("true genre")
        axes.tick_params(length=0)
    return png.getvalue()


@_spared
def draw_cloud(cloud: Cloud, genres: Sequence[str] | None) -> bytes:
    """Real images as rings and generated ones as dots, as PNG: a panel a genre, the real rest faint.

    A panel each and not a colour each, because nobody tells ten colours apart in a crowd.

    Args:
        genres: None for a single panel, where samples have no genres.
    """
    panels = len(genres) if genres else 1
    across = min(PANELS_ABREAST, panels)
    down = math.ceil(panels / across)
    # A lone panel is lower than it is wide.
    with _canvas(0.3 + (down * (WIDTH / across + 0.15) if panels > 1 else 0.7 * WIDTH)) as (
        figure,
        png,
    ):
        grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
        for unused in grid.flat[panels:]:
            unused.set_axis_off()
        for number, axes in enumerate(grid.flat[:panels]):
            real, fake = cloud.real, cloud.fake
            if genres:
                axes.scatter(*real.T, s=3, color=FAINT, linewidths=0)
                real, fake = real[cloud.real_labels == number], fake[cloud.fake_labels == number]
                axes.set_title(_label(genres[number]), fontsize=FONT_POINTS)
            rings = axes.scatter(*real.T, s=14, facecolors="none", edgecolors=REAL, linewidths=0.8)
            dots = axes.scatter(*fake.T, s=6, color=SAMPLES, alpha=0.8, linewidths=0)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(visible=True, color=LINE)
        figure.legend([rings, dots], ["real", "samples"], loc="outside upper left", ncols=2)
    return png.getvalue()


def _in_magma(sheet: Image.Image) -> bytes:
    """A grey picture, mode L or P, in matplotlib's magma colours, as PNG."""
    sheet.putpalette(
        load_matplotlib().colormaps["magma"](np.arange(256), bytes=True)[:, :3].tobytes()
    )
    file = io.BytesIO()
    sheet.save(file, format="PNG", optimize=True)
    return file.getvalue()


def _canvas(height: float) -> AbstractContextManager[tuple[Figure, io.BytesIO]]:
    """A figure of some inches to draw on, and the file that holds it as PNG afterwards."""
    look = {
        "font.size": FONT_POINTS,
        "axes.spines.top": False, "axes.spines.right": False,
        "axes.edgecolor": "#777777", "axes.linewidth": 0.8,
        "grid.color": "#999999", "grid.alpha": 0.3, "grid.linewidth": 0.6,
        "lines.markersize": 5.0, "legend.frameon": False,
    }  # fmt: skip
    return chart(WIDTH, height, look, dpi=DOTS, transparent=True)


def _log_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic x axis with round numbers: 1, 2 and 5, or only tens on a long one."""
    steps = (1, 2, 5) if high < 1000.0 * low else (1,)
    ticks = [step * 10.0**power for power in range(-3, 12) for step in steps]
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_xticks([tick for tick in ticks if low <= tick <= high])
    axes.minorticks_off()
    axes.xaxis.set_major_formatter("{x:g}")


def _shrunk(images: Pixels) -> Pixels:
    """Images (n, H, W) of no more than LARGEST_CELL a side, by means over blocks; sides are powers of 2."""
    count, height, width = images.shape
    if height <= LARGEST_CELL:
        return images
    block = height // LARGEST_CELL
    blocks = images.reshape(count, height // block, block, width // block, block)
    return blocks.mean(axis=(2, 4)).astype(np.uint8)


def _label(name: str, longest: int = LONGEST_NAME) -> str:
    """A name short enough to write beside a picture, and no formula."""
    text = printable(name)
    if len(text) > longest:
        text = f"{text[: longest // 2 - 1]}…{text[-(longest // 2) :]}"
    return text.replace("$", r"\$")
