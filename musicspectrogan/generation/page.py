"""A page to look at and play what was generated: one HTML file beside its images and sounds.

It opens from disk: no server, no network, no script. The PNG files stay grey, because a grey level is
a loudness; an SVG filter in the page gives them matplotlib's magma colours.
"""

from __future__ import annotations

import html
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from string import Template
from urllib.parse import quote

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


def write_page(
    folder: Path, title: str, items: Sequence[PageItem], config: SpectrogramConfig, facts: Mapping[str, str]
) -> Path:
    """Write `index.html` into `folder` and return its path.

    Args:
        folder: where the items' files are, or will be.
        title: the page's heading.
        items: shown in this order within their genre, the real ones after the generated ones; genres in
            the order of their first item.
        config: how the images were made; gives the axes.
        facts: shown at the top, in this order: settings, checkpoint and the like.
    """
    rows: dict[str, list[PageItem]] = {}
    for item in items:
        rows.setdefault(item.genre, []).append(item)
    page = PAGE.substitute(
        title=_text(title),
        style=STYLE,
        filter=_magma_filter(),
        gradient=", ".join(f"#{color}" for color in MAGMA),
        quietest=f"{config.top_db:g}",
        facts="".join(f"<div><dt>{_text(k)}</dt><dd>{_text(v)}</dd></div>" for k, v in facts.items()),
        contents=_contents(list(rows)),
        rows="".join(_row(number, name, row, config) for number, (name, row) in enumerate(rows.items(), 1)),
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


def _text(text: str) -> str:
    """Markup-safe text, in elements and in quoted attributes; what is no Unicode becomes `?`."""
    return html.escape(text.encode("utf-8", "replace").decode("utf-8"))


def _link(name: str) -> str:
    """A file name as a relative address. `./` keeps `//name` and `name:x` from meaning another place."""
    return "./" + quote(os.fsencode(name))


def _magma_filter() -> str:
    stops = [bytes.fromhex(color) for color in MAGMA]
    channels = (
        f'<feFunc{name} type="table" tableValues="{" ".join(f"{stop[i] / 255:.4f}" for stop in stops)}"/>'
        for i, name in enumerate("RGB")
    )
    return "\n".join(channels)


def _contents(genres: Sequence[str]) -> str:
    if len(genres) < 2:
        return ""
    links = (f'<li><a href="#row-{n}">{_name(genre)}</a></li>' for n, genre in enumerate(genres, 1))
    return f'<nav aria-label="Genres"><ul>{"".join(links)}</ul></nav>'


def _name(genre: str) -> str:
    return _text(genre) if genre else "Samples"


def _row(number: int, genre: str, items: Sequence[PageItem], config: SpectrogramConfig) -> str:
    generated = "".join(_figure(item, config) for item in items if not item.real)
    real = "".join(_figure(item, config) for item in items if item.real)
    parts = [f'\n<section aria-labelledby="row-{number}">\n<h2 id="row-{number}">{_name(genre)}</h2>']
    if generated:
        parts.append(f'<div class="items">{generated}</div>')
    if real:
        parts.append(
            f'<section class="real" aria-labelledby="real-{number}">\n'
            f'<h3 id="real-{number}">Real music, for comparison</h3>\n'
            f'<div class="items">{real}</div></section>'
        )
    parts.append("</section>")
    return "\n".join(parts)


def _figure(item: PageItem, config: SpectrogramConfig) -> str:
    columns = item.columns or config.n_frames
    seconds = _seconds(columns, config)
    wide = columns > config.n_frames
    what = ", ".join(filter(None, ("real" if item.real else "generated", item.genre, item.caption)))
    spoken = _text(f"Spectrogram: {what}; {seconds:.1f} s, {config.f_min:g} to {config.f_max:g} Hz")
    hertz = "".join(f'<span style="--at:{at:.2%}">{hz:g}</span>' for hz, at in hertz_marks(config))
    marks = second_marks(columns, config)
    times = [f"{time:g}" for time, _ in marks]
    times[-1] += " s"
    under = "".join(
        f'<span style="--at:{at:.2%}">{t}</span>' for t, (_, at) in zip(times, marks, strict=True)
    )
    # A piece takes the page's width, but is drawn no larger than one image would be, and no smaller than
    # is legible: then it scrolls.
    natural = max(_least_width(seconds), round(columns / config.n_frames * IMAGE_WIDTH))
    figure = f' class="wide" style="max-width:calc({natural}px + 2.1rem)"' if wide else ""
    sheet = f' style="min-width:{_least_width(seconds)}px"' if wide else ""
    # What scrolls must be reachable by keyboard.
    strip = f' tabindex="0" role="group" aria-label="{spoken}"' if wide else ""
    downloads = " ".join(
        f'<a href="{_link(name)}" download aria-label="{kind}: download, {_text(what)}">{kind}</a>'
        for name, kind in ((item.audio, _kind(item.audio, "Sound")), (item.image, _kind(item.image, "Image")))
    )
    return f"""
<figure{figure}>
<div class="plot"><div class="hertz" aria-hidden="true">{hertz}</div><div class="strip"{strip}><div{sheet}>
<img src="{_link(item.image)}" alt="{spoken}" width="{columns}" height="{config.n_mels}">
<div class="seconds" aria-hidden="true">{under}</div></div></div></div>
<audio controls preload="metadata" src="{_link(item.audio)}" aria-label="{_text(f"Sound: {what}")}"></audio>
<figcaption><span>{'<b class="badge">real</b> ' if item.real else ""}{_text(item.caption)}</span>
<span class="downloads">{downloads}</span></figcaption>
</figure>"""


def _kind(name: str, otherwise: str) -> str:
    """`WAV` for `x.wav`; `otherwise` where the name ends in nothing like a suffix."""
    suffix = PurePosixPath(name).suffix[1:]
    return suffix.upper() if suffix.isascii() and suffix.isalnum() and len(suffix) <= 4 else otherwise


STYLE = """
:root {
  color-scheme: light dark;
  --ground: #fbfaf8; --panel: #f1eff3; --line: #dcd8e0; --text: #1f1c24; --muted: #625c6b; --accent: #8c2981;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #131117; --panel: #1c1922; --line: #37323f; --text: #ebe8ef; --muted: #a69fb0;
    --accent: #fca77a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2.5rem clamp(1rem, 4vw, 3rem) 4rem; max-width: 80rem;
  background: var(--ground); color: var(--text);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  -webkit-text-size-adjust: 100%; overflow-wrap: anywhere;
}
h1, h2, h3 { line-height: 1.2; margin: 0; font-weight: 600; }
h1 { font-size: 1.75rem; letter-spacing: -0.01em; }
h2 { font-size: 1.3rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 0.9rem; color: var(--muted); }
a { color: var(--accent); text-underline-offset: 0.2em; text-decoration-thickness: 1px; }
a:focus-visible, .strip:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
dl { display: flex; flex-wrap: wrap; gap: 0.75rem 2rem; margin: 1.25rem 0 0; }
dt { font-size: 0.8rem; color: var(--muted); }
dd { margin: 0; font-variant-numeric: tabular-nums; }
.key {
  display: flex; flex-wrap: wrap; align-items: center; gap: 0.25rem 0.6rem; margin: 1.5rem 0 0;
  font-size: 0.85rem; color: var(--muted);
}
.key i { width: 7rem; height: 0.6rem; border-radius: 2px; border: 1px solid var(--line); }
nav ul {
  display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; margin: 1.25rem 0 0; padding: 0; list-style: none;
}
nav a { display: inline-block; padding: 0.25rem 0; }
section { margin-top: 2.5rem; }
.items {
  display: grid; gap: 1.5rem 1.75rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 15.5rem), 1fr));
}
.real { margin: 1.75rem -0.9rem 0; padding: 0.9rem; background: var(--panel); border-radius: 10px; }
.badge {
  padding: 0.05rem 0.3rem; border: 1px solid currentColor; border-radius: 4px; color: var(--muted);
  font-size: 0.7rem; font-weight: 600; letter-spacing: 0.04em; text-transform: uppercase;
}
figure { margin: 0; min-width: 0; }
figure.wide { grid-column: 1 / -1; }
.plot { display: grid; grid-template-columns: 2.1rem minmax(0, 1fr); padding-top: 1.9rem; }
.plot img {
  display: block; width: 100%; height: auto; aspect-ratio: 1; background: #000004;
  color: #fff; /* the words in place of a missing image, before the filter */
  image-rendering: pixelated; filter: url(#magma);
}
.wide .strip { overflow-x: auto; }
.wide img { height: 15rem; aspect-ratio: auto; }
.hertz, .seconds { position: relative; color: var(--muted); font-size: 0.7rem; line-height: 1; }
.hertz { margin-bottom: 1.5rem; }
.wide .hertz { height: 15rem; }
.seconds { height: 1.5rem; }
.hertz span, .seconds span { position: absolute; white-space: nowrap; font-variant-numeric: tabular-nums; }
.hertz span { right: 0.45rem; bottom: var(--at); transform: translateY(50%); }
.hertz::before { content: "Hz"; position: absolute; right: 0.45rem; top: -1.5rem; }
/* The label moves from right of its mark to left of it as the mark moves across: none leaves the image. */
.seconds span { top: 0.45rem; left: var(--at); transform: translateX(calc(-1 * var(--at))); }
.hertz span::after, .seconds span::after { content: ""; position: absolute; background: var(--muted); }
.hertz span::after { right: -0.45rem; top: 50%; width: 0.25rem; height: 1px; }
.seconds span::after { left: var(--at); top: -0.45rem; width: 1px; height: 0.25rem; }
audio { display: block; width: calc(100% - 2.1rem); height: 2.5rem; margin-left: 2.1rem; }
figcaption {
  display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 0.5rem;
  margin: 0.4rem 0 0 2.1rem; font-size: 0.875rem;
}
.downloads { display: flex; gap: 0.75rem; font-size: 0.8rem; }
.downloads a { padding: 0.1rem 0; }
"""

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<svg width="0" height="0" style="position:absolute" aria-hidden="true">
<filter id="magma" x="0" y="0" width="1" height="1" color-interpolation-filters="sRGB"><feComponentTransfer>
$filter
</feComponentTransfer></filter>
</svg>
<header>
<h1>$title</h1>
<dl>$facts</dl>
$contents
<p class="key"><span>&minus;$quietest dB</span><i style="background:linear-gradient(90deg, $gradient)"></i>
<span>0 dB, the loudest. Low notes are at the bottom.</span></p>
</header>
<main>$rows
</main>
</body>
</html>
""")
