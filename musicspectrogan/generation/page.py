"""A page to look at and play what was generated: one HTML file beside its images and sounds.

It opens from disk, needs no server and no network, and without scripts it is a plain list of players. Markup,
style and script are the files in templates/. The PNG files stay grey, because a grey level is a loudness; an
SVG filter in the page gives them matplotlib's magma colours.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from musicspectrogan.audio.spectrogram import SpectrogramConfig, hz_to_mel
from musicspectrogan.filesystem import write_text

# matplotlib's magma at 17 equal steps; straight lines between them stay within 3 of 255 levels of it.
MAGMA = (
    "000004 0a0822 1d1147 36106b 51127c 6a1c81 832681 9c2e7f b73779 "
    "d0416f e75263 f56b5c fc8961 fea772 fec488 fde2a3 fcfdbf"
).split()

# Octaves through 1000 Hz. From the top down, marks end before two are closer than this part of the height.
MARKED_HZ = [1000.0 * 2.0**octave for octave in range(-3, 8)]
CLOSEST_MARKS = 0.07

# CSS pixels. A piece longer than one image fills the page, but no second is narrower than this; a very
# long one is narrower all the same, for browsers colour no picture of any size.
IMAGE_WIDTH, SECOND_WIDTH, WIDEST_PIECE, MARK_WIDTH = 240, 32, 8000, 60

# Players that show their length before they are played; with more, the browser would open every file at once.
MOST_PRELOADED = 200


def _unicode(value: Any) -> Any:
    """What is no Unicode, as in file names of any bytes, becomes `?`."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return value.encode("utf-8", "replace").decode("utf-8")
    return value


TEMPLATES = Environment(
    loader=PackageLoader("musicspectrogan.generation"),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_unicode,
    trim_blocks=True,
    lstrip_blocks=True,
)


def source(name: str) -> Markup:
    """A file of templates/ as it is, for style and script, in which nothing is to be escaped."""
    return Markup(TEMPLATES.loader.get_source(TEMPLATES, name)[0])


@dataclass(frozen=True)
class PageItem:
    """A spectrogram and its sound. The two file names are relative to the page's folder, with `/`."""

    genre: str
    """The row it belongs to; empty for the single row of a GAN without genres."""
    caption: str
    """What tells it from its neighbours: "seed 3", or a real track's id."""
    image: str
    """File name of the grey PNG, low frequencies at the bottom."""
    audio: str
    """File name of the sound."""
    real: bool = False
    """A real sample of the genre, for comparison."""
    columns: int = 0
    """Image width in frames; 0 for the settings' n_frames (continuous pieces are wider)."""
    loops: bool = False
    """Made to end where it begins: its player loops from the start."""
    bpm: str = ""
    """Beats per minute of the beat that was found in it; empty where there is none."""


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
        items: shown in this order within their genre, the real ones after the generated ones; genres in
            the order of their first item.
        config: how the images were made; gives the axes, and how high the sounds reach.
        facts: shown at the top, in this order: settings, checkpoint and the like.
    """
    rows: dict[str, list[PageItem]] = {}
    for item in items:
        rows.setdefault(item.genre, []).append(item)
    page = TEMPLATES.get_template("sounds.html").render(
        title=title,
        style=source("style.css") + source("sounds.css"),
        script=source("sounds.js"),
        magma=_magma_channels(),
        gradient=", ".join(f"#{color}" for color in MAGMA),
        quietest=f"{config.top_db:g}",
        highest=f"{config.f_max / 1000:g}",
        facts=facts,
        loops=any(item.loops for item in items),
        preload="metadata" if len(items) <= MOST_PRELOADED else "none",
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
    write_text(path, page, rivals=True)
    return path


def mel_height(hz: float, config: SpectrogramConfig) -> float:
    """Where a frequency lies in an image, as a part of its height: 0 is the bottom edge, 1 the top.

    The middle of a pixel row is the centre of its mel band, so the outer edges of the lowest and the
    highest band, f_min and f_max, lie half a row outside.
    """
    low, high = hz_to_mel(config.f_min), hz_to_mel(config.f_max)
    band = (hz_to_mel(hz) - low) / (high - low) * (config.n_mels + 1) - 1.0
    return (band + 0.5) / config.n_mels


def hertz_marks(config: SpectrogramConfig) -> list[tuple[float, float]]:
    """(Hz, part of the height) of the frequencies to write beside an image, from high to low."""
    inside = [hz for hz in MARKED_HZ if config.f_min <= hz <= config.f_max]
    if len(inside) < 2:  # a band of less than two octaves
        inside = [config.f_min, config.f_max]
    marks: list[tuple[float, float]] = []
    for hz in reversed(inside):
        height = min(max(mel_height(hz, config), 0.0), 1.0)
        if marks and marks[-1][1] - height < CLOSEST_MARKS:
            break
        marks.append((hz, height))
    return marks


def second_marks(columns: int, config: SpectrogramConfig) -> list[tuple[float, float]]:
    """(seconds, part of the width) of the times to write under an image of that many frames."""
    seconds = _seconds(columns, config)
    width = _least_width(seconds) if columns > config.n_frames else IMAGE_WIDTH
    most = max(1.0, width / MARK_WIDTH)
    steps = (factor * 10.0**power for power in range(-3, 9) for factor in (1, 2, 5))
    step = next(step for step in steps if seconds / step <= most)
    # Rounded, because 3 * 0.1 would be written 0.30000000000000004.
    times = [round(k * step, 3) for k in range(math.floor(seconds / step) + 1)]
    return [(time, time / seconds) for time in times]


def _seconds(columns: int, config: SpectrogramConfig) -> float:
    return columns * config.hop_length / config.sample_rate


def _least_width(seconds: float) -> int:
    return round(min(max(seconds * SECOND_WIDTH, IMAGE_WIDTH), WIDEST_PIECE))


def _link(name: str) -> str:
    """A file name as a relative address. `./` keeps `//name` and `name:x` from meaning another place."""
    return "./" + quote(os.fsencode(name))


def _magma_channels() -> list[str]:
    """The stops of red, green and blue, as an SVG filter takes them."""
    stops = [bytes.fromhex(color) for color in MAGMA]
    return [" ".join(f"{stop[channel] / 255:.4f}" for stop in stops) for channel in range(3)]


def _figure(item: PageItem, config: SpectrogramConfig, folder: Path) -> dict[str, Any]:
    """What the template says of one item."""
    columns = item.columns or config.n_frames
    seconds = _seconds(columns, config)
    what = ", ".join(filter(None, ("real" if item.real else "generated", item.genre, item.caption)))
    marks = second_marks(columns, config)
    times = [f"{time:g}" for time, _ in marks]
    times[-1] += " s"
    files = ((item.audio, _kind(item.audio, "Sound")), (item.image, _kind(item.image, "Image")))
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
        "downloads": [(_link(name), kind) for name, kind in files],
        "columns": columns,
        "times": [(time, f"{at:.2%}") for time, (_, at) in zip(times, marks, strict=True)],
        # A piece takes the page's width, but is drawn no larger than one image would be, and no smaller
        # than is legible: then it scrolls.
        "wide": columns > config.n_frames,
        "natural_width": max(_least_width(seconds), round(columns / config.n_frames * IMAGE_WIDTH)),
        "least_width": _least_width(seconds),
    }


def _identity(folder: Path, item: PageItem) -> str:
    """By what a favourite is known again: never the mark of one sound for another that has its name later."""
    try:
        contents = (folder / item.image).read_bytes()
    except (OSError, ValueError):  # not there yet, or no name that a file can have
        contents = b""
    return hashlib.sha256(os.fsencode(item.audio) + contents).hexdigest()[:16]


def _kind(name: str, otherwise: str) -> str:
    """`WAV` for `x.wav`; `otherwise` where the name ends in nothing like a suffix."""
    suffix = PurePosixPath(name).suffix[1:]
    return (
        suffix.upper() if suffix.isascii() and suffix.isalnum() and len(suffix) <= 4 else otherwise
    )
