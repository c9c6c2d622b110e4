"""Small pieces of HTML that the page of an evaluation is made of."""

from __future__ import annotations

import html
from base64 import b64encode


def text(plain: str) -> str:
    """Markup-safe text, in elements and in quoted attributes; what is no Unicode becomes `?`."""
    return html.escape(plain.encode("utf-8", "replace").decode("utf-8"))


def section(title: str, note: str, *parts: str) -> str:
    """A part of the page under a heading; nothing where there is nothing to show."""
    contents = "\n".join(filter(None, parts))
    about = f'\n<p class="note">{text(note)}</p>' if note else ""
    return f"<section>\n<h2>{text(title)}</h2>{about}\n{contents}\n</section>" if contents else ""


def picture(png: bytes, spoken: str, caption: str = "") -> str:
    """A PNG within the page, and what is read out in its place."""
    if not png:  # it could not be drawn
        return ""
    under = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    source = f"data:image/png;base64,{b64encode(png).decode('ascii')}"
    return f'<figure><img src="{source}" alt="{text(spoken)}">{under}</figure>'


def charts(*figures: str) -> str:
    """Pictures side by side where there is room; dark ones on a dark screen."""
    return f'<div class="charts">{"".join(figures)}</div>'


def scrolling(table: str, spoken: str) -> str:
    """What is wider than a phone scrolls by itself; it must be reachable by keyboard."""
    return f'<div class="strip" tabindex="0" role="group" aria-label="{text(spoken)}">{table}</div>'
