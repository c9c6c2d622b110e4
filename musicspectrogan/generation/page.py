"""The page of generated sounds: one HTML file next to its images and audio files.

It opens from disk, needs neither server nor network, and without scripts it is a plain list of
players. Markup, style and script are files in templates/. The PNGs stay grey, because a grey level
is a loudness; an SVG filter of the page shows them in matplotlib's magma colours.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from musicspectrogan.audio.spectrogram import SpectrogramConfig, hz_to_mel
from musicspectrogan.filesystem import write_text

# matplotlib's magma at 17 equal steps; linear interpolation is within 3 of 255 levels of it.
MAGMA = (
    "000004 0a0822 1d1147 36106b 51127c 6a1c81 832681 9c2e7f b73779 "
    "d0416f e75263 f56b5c fc8961 fea772 fec488 fde2a3 fcfdbf"
).split()

# Axis labels: octaves of 1000 Hz, at least this fraction of the height apart.
MARKED_HZ = [1000.0 * 2.0**octave for octave in range(-3, 8)]
MIN_MARK_DISTANCE = 0.07

# CSS pixels. Pieces longer than one image fill the page and scroll where a second would be narrower
# than SECOND_WIDTH. Browsers do not apply filters to pictures of any width.
IMAGE_WIDTH, SECOND_WIDTH, MAX_PIECE_WIDTH, MARK_WIDTH = 240, 32, 8000, 60

# With more players, the browser does not load their durations: it would open all files at once.
MAX_PRELOADED = 200


def _replace_surrogates(value: object) -> object:
    """Replace what is not Unicode, as in file names of arbitrary bytes, by `?`."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return value.encode("utf-8", "replace").decode("utf-8")
    return value


_LOADER = PackageLoader("musicspectrogan.generation")
TEMPLATES = Environment(
    loader=_LOADER,
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_replace_surrogates,
    trim_blocks=True,
    lstrip_blocks=True,
)


def source(name: str) -> Markup:
    """A stylesheet or script of templates/, to insert without escaping."""
    return Markup(_LOADER.get_source(TEMPLATES, name)[0])


@dataclass(frozen=True)
class PageItem:
    """A spectrogram and its sound. File names are relative to the page's folder, with `/`."""

    genre: str
    """Row of the page; may be empty if there is only one."""
    caption: str
    """Distinguishes it within its row: "seed 3", or the id of a real track."""
    image: str
    """File name of the grey PNG, low frequencies at the bottom."""
    audio: str
    """File name of the sound."""
    real: bool = False
    """Real music, for comparison."""
    columns: int = 0
    """Image width in frames; 0 for the settings' n_frames (continuous pieces are wider)."""
    loops: bool = False
    """A seamless loop: its player loops by default."""
    bpm: str = ""
    """Beats per minute of the detected beat; empty if there is none."""


def write_page(
    folder: Path,
    title: str,
    items: Sequence[PageItem],
    config: SpectrogramConfig,
    facts: Mapping[str, str],
) -> Path:
    """Write `index.html` into `folder` and return its path.

    Args:
        folder: where the items' files are, or will be.
        title: the page's heading.
        items: shown in this order within their genre, real ones after generated ones; genres in the
            order of their first item.
        config: settings of the images, for the axes.
        facts: shown at the top in this order: settings, checkpoint and so on.
    """
    rows: dict[str, list[PageItem]] = {}
    for item in items:
        rows.setdefault(item.genre, []).append(item)
    page = TEMPLATES.get_template("sounds.html").render(
        title=title,
        style=source("style.css") + source("player.css") + source("sounds.css"),
        script=source("sounds.js"),
        magma=_magma_channels(),
        gradient=", ".join(f"#{color}" for color in MAGMA),
        quietest=f"{config.top_db:g}",
        highest=f"{config.f_max / 1000:g}",
        facts=facts,
        loops=any(item.loops for item in items),
        preload="metadata" if len(items) <= MAX_PRELOADED else "none",
        hertz=[(f"{hz:g}", f"{at:.2%}") for hz, at in hertz_marks(config)],
        height=config.n_mels,
        rows=[
            {
                "name": genre or "Samples",
                "generated": [_figure(item, config, folder) for item in row if not item.real],
                "real": [_figure(item, config, folder) for item in row if item.real],
            }
            for genre, row in rows.items()
        ],
    )
    path = folder / "index.html"
    write_text(path, page, concurrent=True)
    return path


def mel_height(hz: float, config: SpectrogramConfig) -> float:
    """Height of a frequency in an image: 0 is the bottom edge, 1 the top.

    The middle of a pixel row is the centre of its mel band. So f_min and f_max, the outer edges of
    the lowest and the highest band, lie half a row outside.
    """
    low, high = hz_to_mel(config.f_min), hz_to_mel(config.f_max)
    band = (hz_to_mel(hz) - low) / (high - low) * (config.n_mels + 1) - 1.0
    return (band + 0.5) / config.n_mels


def hertz_marks(config: SpectrogramConfig) -> list[tuple[float, float]]:
    """(Hz, height as in `mel_height`) of the labels of the frequency axis, from high to low."""
    inside = [hz for hz in MARKED_HZ if config.f_min <= hz <= config.f_max]
    if len(inside) < 2:  # a band of less than two octaves
        inside = [config.f_min, config.f_max]
    marks: list[tuple[float, float]] = []
    for hz in reversed(inside):
        height = min(max(mel_height(hz, config), 0.0), 1.0)
        if marks and marks[-1][1] - height < MIN_MARK_DISTANCE:
            break
        marks.append((hz, height))
    return marks


def second_marks(columns: int, config: SpectrogramConfig) -> list[tuple[float, float]]:
    """(seconds, fraction of the width) of the labels of the time axis of `columns` frames."""
    seconds = _seconds(columns, config)
    width = _min_width(seconds) if columns > config.n_frames else IMAGE_WIDTH
    most = max(1.0, width / MARK_WIDTH)
    steps = (factor * 10.0**power for power in range(-3, 9) for factor in (1, 2, 5))
    step = next(step for step in steps if seconds / step <= most)
    # Rounded, because 3 * 0.1 is 0.30000000000000004.
    times = [round(k * step, 3) for k in range(math.floor(seconds / step) + 1)]
    return [(time, time / seconds) for time in times]


def _seconds(columns: int, config: SpectrogramConfig) -> float:
    return columns * config.hop_length / config.sample_rate


def _min_width(seconds: float) -> int:
    return round(min(max(seconds * SECOND_WIDTH, IMAGE_WIDTH), MAX_PIECE_WIDTH))


def _link(name: str) -> str:
    """Relative URL of a file. `./` keeps `//name` and `name:x` from naming a host or a scheme."""
    return "./" + quote(os.fsencode(name))


def _magma_channels() -> list[str]:
    """The table values of red, green and blue for an SVG filter."""
    stops = [bytes.fromhex(color) for color in MAGMA]
    return [" ".join(f"{stop[channel] / 255:.4f}" for stop in stops) for channel in range(3)]


def _figure(item: PageItem, config: SpectrogramConfig, folder: Path) -> dict[str, object]:
    """The variables of one item in the template."""
    columns = item.columns or config.n_frames
    seconds = _seconds(columns, config)
    what = ", ".join(filter(None, ("real" if item.real else "generated", item.genre, item.caption)))
    marks = second_marks(columns, config)
    times = [f"{time:g}" for time, _ in marks]
    times[-1] += " s"
    files = ((item.audio, "Sound"), (item.image, "Image"))
    return {
        "identity": _identity(folder, item),
        "what": what,
        "spoken": f"Spectrogram: {what}; {seconds:.1f} s, {config.f_min:g} to {config.f_max:g} Hz",
        "caption": item.caption,
        "real": item.real,
        "loops": item.loops,
        "bpm": item.bpm,
        "image": _link(item.image),
        "audio": _link(item.audio),
        "downloads": [(_link(name), _file_type(name, otherwise)) for name, otherwise in files],
        "columns": columns,
        "times": [(time, f"{at:.2%}") for time, (_, at) in zip(times, marks, strict=True)],
        # A piece fills the width of the page, but not at a larger scale than single images, and
        # scrolls where it would be too narrow to read.
        "wide": columns > config.n_frames,
        "max_width": max(_min_width(seconds), round(columns / config.n_frames * IMAGE_WIDTH)),
        "min_width": _min_width(seconds),
    }


def _identity(folder: Path, item: PageItem) -> str:
    """Key of a favourite; includes the image, because a file name may get another sound later."""
    try:
        contents = (folder / item.image).read_bytes()
    except (OSError, ValueError):  # missing, or not a possible file name
        contents = b""
    return hashlib.sha256(os.fsencode(item.audio) + contents).hexdigest()[:16]


def _file_type(name: str, otherwise: str) -> str:
    """`WAV` for `x.wav`; `otherwise` for a name without a usual suffix."""
    suffix = PurePosixPath(name).suffix[1:]
    is_usual = suffix.isascii() and suffix.isalnum() and len(suffix) <= 4
    return suffix.upper() if is_usual else otherwise
