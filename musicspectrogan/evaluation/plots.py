"""Plots and spectrogram grids of an evaluation, as PNG files in memory.

Plots are dark on a transparent background, so that the page can invert them for a dark screen. A
plot that cannot be drawn is None, with a warning, and the page is written without it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.charts import chart, load_matplotlib
from musicspectrogan.data.grids import draw_grid
from musicspectrogan.errors import continue_on_error, printable
from musicspectrogan.evaluation.metrics import Profile, modulation_hz
from musicspectrogan.evaluation.resampling import Estimate
from musicspectrogan.generation.page import MARKED_HZ

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]

# Inches, for screens of 100 dots an inch, and twice their resolution.
WIDTH, DPI = 5.0, 200
FONT_POINTS = 9

# M. Okabe, K. Ito, "Color Universal Design", 2008: distinct in every kind of colour vision.
REAL, SAMPLES = "#0072b2", "#d55e00"
RUNS = (SAMPLES, "#009e73", "#8c2981", "#e69f00", "#56b4e9", "#1a1a1a", "#cc79a7")
MARKERS = "osD^vPX"
LINE, FAINT = "#bbbbbb", "#c8c8c8"

# Pixels a side of an image in a grid; larger ones are shrunk to keep the page small.
MAX_IMAGE = 128
# Characters of a genre's name, and of a line of run names.
MAX_LABEL, MAX_RUN_LABEL = 18, 60

# Lower ratios are drawn at the edge.
MIN_RATIO = 0.4
PANELS_PER_ROW = 4


class Cloud(NamedTuple):
    """Real images and samples as points in two dimensions of a feature space."""

    features: str
    """Name of the feature space."""
    real: Floats
    """(M, 2)."""
    real_labels: Ints
    samples: Floats
    """(N, 2)."""
    sample_labels: Ints


@continue_on_error("picture on the page (sheet)")
def draw_sheet(rows: Sequence[Pixels]) -> bytes | None:
    """Draw rows of spectrograms with matplotlib's colormap magma.

    Args:
        rows: uint8 (columns, H, W) each, low frequencies at the bottom.
    """
    return _in_magma(draw_grid([_shrink(row) for row in rows]))


@continue_on_error("picture on the page (strip)")
def draw_strip(piece: Pixels) -> bytes | None:
    """Draw the spectrogram of a piece uint8 (H, T), T a multiple of H, with the same colormap."""
    height = piece.shape[0]
    windows = _shrink(piece.reshape(height, -1, height).swapaxes(0, 1))
    return _in_magma(Image.fromarray(np.concatenate(list(windows), axis=1)))


@continue_on_error("picture on the page (ratios)")
def draw_ratios(
    names: Sequence[str], runs: Sequence[str], ratios: Sequence[Sequence[Estimate | None]]
) -> bytes | None:
    """Plot the ratios of distances to those of real music, with their intervals.

    Args:
        names: of the distances, from the top.
        runs: names for the legend, which is left out for one run.
        ratios: for each run its ratios, finite, in the order of the names; None if there is none.
    """
    present = [ratio for of_run in ratios for ratio in of_run if ratio]
    highest = 1.25 * max([2.0, *(ratio.value + ratio.half_width for ratio in present)])
    step = 0.75 / len(ratios)
    with _plot(0.75 + len(names) * max(0.3, 0.08 + 0.15 * len(ratios))) as (figure, png):
        axes = figure.subplots()
        _log_axis(axes, MIN_RATIO, highest)
        axes.axvspan(MIN_RATIO, 1.0, color=REAL, alpha=0.1, linewidth=0)
        axes.axvline(1.0, color=REAL, linewidth=1.2)
        axes.hlines(np.arange(1, len(names)) - 0.5, MIN_RATIO, highest, color=LINE, linewidth=0.3)
        handles = []
        for number, of_run in enumerate(ratios):
            color, marker = RUNS[number % len(RUNS)], MARKERS[number % len(MARKERS)]
            handles += axes.plot([], [], marker, color=color)
            for row, ratio in enumerate(of_run):
                if ratio is None:
                    continue
                y = row + (number - (len(ratios) - 1) / 2) * step
                ends = ratio.value + ratio.half_width * np.array([-1.0, 1.0])
                axes.plot(np.maximum(ends, MIN_RATIO), [y, y], color=color, linewidth=1.6)
                axes.plot(
                    max(ratio.value, MIN_RATIO),
                    y,
                    marker=marker if ratio.value >= MIN_RATIO else "<",
                    color=color,
                    clip_on=False,
                )
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0, pad=8)
        axes.grid(axis="x")
        axes.set_xlabel("ratio to real music (1: as good as real)")
        if len(runs) > 1:
            labels = [_label(run, MAX_RUN_LABEL) for run in runs]
            columns = max(1, MAX_RUN_LABEL // (max(map(len, labels)) + 6))
            figure.legend(handles, labels, loc="outside upper left", ncols=columns)
    return png.getvalue()


@continue_on_error("picture on the page (bands)")
def draw_bands(real: Profile, samples: Profile, config: SpectrogramConfig) -> bytes | None:
    """Plot mean level and standard deviation of each band, with bands equally spaced."""
    bands = np.arange(config.n_mels)
    with _plot(3.2) as (figure, png):
        axes = figure.subplots()
        for name, profile, color, style in (
            ("real", real, REAL, "-"),
            ("samples", samples, SAMPLES, "--"),
        ):
            low, high = profile.level - profile.spread, profile.level + profile.spread
            axes.fill_between(bands, low, high, color=color, alpha=0.15, linewidth=0)
            axes.plot(bands, profile.level, style, color=color, label=name)
        lowest, highest = config.band_hz[[0, -1]]
        marks = [hz for hz in MARKED_HZ if lowest <= hz <= highest] or [lowest, highest]
        axes.set_xticks(np.interp(marks, config.band_hz, bands), [f"{hz:g}" for hz in marks])
        axes.set_xlim(bands[0], bands[-1])
        axes.set_xlabel("Hz")
        axes.set_ylabel("dB re the loudest")
        axes.grid()
        axes.legend()
    return png.getvalue()


@continue_on_error("picture on the page (modulation)")
def draw_modulation(real: Profile, samples: Profile, config: SpectrogramConfig) -> bytes | None:
    """Plot the modulation spectra."""
    hz = modulation_hz(config)
    with _plot(3.2) as (figure, png):
        axes = figure.subplots()
        axes.plot(hz, real.modulation, "-", color=REAL, label="real")
        axes.plot(hz, samples.modulation, "--", color=SAMPLES, label="samples")
        _log_axis(axes, hz[0], hz[-1])
        axes.set_xlabel("modulation frequency, Hz")
        axes.set_ylabel("power, dB")
        axes.grid()
        axes.legend()
    return png.getvalue()


@continue_on_error("picture on the page (coherence)")
def draw_coherence(
    seconds: Sequence[int],
    real: Sequence[Estimate],
    runs: Sequence[str],
    coherence: Sequence[Sequence[Estimate | None]],
) -> bytes | None:
    """Plot coherence over lag, with that of real music.

    Args:
        seconds: the lags.
        real: coherence of real music at each lag.
        runs: names for the legend.
        coherence: of each run at each lag; None if it has none.
    """
    positions = np.arange(len(seconds))
    with _plot(3.2) as (figure, png):
        axes = figure.subplots()
        level, half = np.array([(value.value, value.half_width) for value in real]).T
        axes.fill_between(
            positions, level - half, level + half, color=REAL, alpha=0.15, linewidth=0
        )
        axes.plot(positions, level, "-", color=REAL, label="real")
        axes.axhline(1.0, color=LINE, linewidth=1.0, linestyle=":")
        for number, (run, values) in enumerate(zip(runs, coherence, strict=True)):
            color, marker = RUNS[number % len(RUNS)], MARKERS[number % len(MARKERS)]
            # Shifted, so that the error bars do not hide each other.
            shift = 0.06 * (number - (len(runs) - 1) / 2)
            found = [(x + shift, v.value, v.half_width) for x, v in enumerate(values) if v]
            if found:
                x, y, half_widths = zip(*found, strict=True)
                label = _label(run, MAX_RUN_LABEL // 2)
                axes.errorbar(x, y, half_widths, fmt=f"{marker}--", color=color, label=label)
        axes.set_xticks(positions, [f"{lag}" for lag in seconds])
        axes.set_ylim(bottom=0.0)
        axes.set_xlabel("lag, s")
        axes.set_ylabel("1: as unlike as different pieces")
        axes.grid()
        axes.legend()
    return png.getvalue()


@continue_on_error("picture on the page (confusion)")
def draw_confusion(counts: Ints, genres: Sequence[str]) -> bytes | None:
    """Plot a confusion matrix in percent of each row.

    Args:
        counts: (G, G); rows are true genres, columns predictions.
    """
    percent = 100.0 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [_label(genre) for genre in genres]
    with _plot(WIDTH) as (figure, png):
        axes = figure.subplots()
        axes.imshow(percent, cmap="Purples", vmin=0.0, vmax=100.0)
        for (row, column), value in np.ndenumerate(percent):
            if value >= 0.5:
                color = "white" if value > 55 else "black"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=color)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("predicted genre")
        axes.set_ylabel("true genre")
        axes.tick_params(length=0)
    return png.getvalue()


@continue_on_error("picture on the page (cloud)")
def draw_cloud(cloud: Cloud, genres: Sequence[str] | None) -> bytes | None:
    """Plot real images as rings and samples as dots, in one panel per genre.

    Panels instead of colours, because ten colours cannot be told apart.

    Args:
        genres: None for a single panel, if samples have no genres.
    """
    panels = len(genres) if genres else 1
    columns = min(PANELS_PER_ROW, panels)
    rows = math.ceil(panels / columns)
    height = rows * (WIDTH / columns + 0.15) if panels > 1 else 0.7 * WIDTH
    with _plot(0.3 + height) as (figure, png):
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for unused in grid.flat[panels:]:
            unused.set_axis_off()
        for number, axes in enumerate(grid.flat[:panels]):
            real, samples = cloud.real, cloud.samples
            if genres:
                axes.scatter(*real.T, s=3, color=FAINT, linewidths=0)
                real = real[cloud.real_labels == number]
                samples = samples[cloud.sample_labels == number]
                axes.set_title(_label(genres[number]), fontsize=FONT_POINTS)
            rings = axes.scatter(*real.T, s=14, facecolors="none", edgecolors=REAL, linewidths=0.8)
            dots = axes.scatter(*samples.T, s=6, color=SAMPLES, alpha=0.8, linewidths=0)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(visible=True, color=LINE)
        figure.legend([rings, dots], ["real", "samples"], loc="outside upper left", ncols=2)
    return png.getvalue()


def _in_magma(sheet: Image.Image) -> bytes:
    """Encode a grey picture, mode L or P, as PNG with the palette of the colormap magma."""
    palette = load_matplotlib().colormaps["magma"](np.arange(256), bytes=True)
    sheet.putpalette(palette[:, :3].tobytes())
    file = io.BytesIO()
    sheet.save(file, format="PNG", optimize=True)
    return file.getvalue()


def _plot(height: float) -> AbstractContextManager[tuple[Figure, io.BytesIO]]:
    """A figure of a height in inches, and the file that holds it as PNG after the context."""
    style = {
        "font.size": FONT_POINTS,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#777777",
        "axes.linewidth": 0.8,
        "grid.color": "#999999",
        "grid.alpha": 0.3,
        "grid.linewidth": 0.6,
        "lines.markersize": 5.0,
        "legend.frameon": False,
    }
    return chart(WIDTH, height, style, dpi=DPI, transparent=True)


def _log_axis(axes: Axes, low: float, high: float) -> None:
    """Make the x axis logarithmic with ticks at 1, 2 and 5, or only at powers of ten."""
    steps = (1, 2, 5) if high < 1000.0 * low else (1,)
    ticks = [step * 10.0**power for power in range(-3, 12) for step in steps]
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_xticks([tick for tick in ticks if low <= tick <= high])
    axes.minorticks_off()
    axes.xaxis.set_major_formatter("{x:g}")


def _shrink(images: Pixels) -> Pixels:
    """Average images (n, H, W), sides a power of 2, over blocks to at most MAX_IMAGE a side."""
    count, height, width = images.shape
    if height <= MAX_IMAGE:
        return images
    block = height // MAX_IMAGE
    blocks = images.reshape(count, height // block, block, width // block, block)
    shrunk: Pixels = blocks.mean(axis=(2, 4)).astype(np.uint8)
    return shrunk


def _label(name: str, longest: int = MAX_LABEL) -> str:
    """Shorten a name for a plot, and escape matplotlib's formulas."""
    text = printable(name)
    if len(text) > longest:
        text = f"{text[: longest // 2 - 1]}…{text[-(longest // 2) :]}"
    return text.replace("$", r"\$")
