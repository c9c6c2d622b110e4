"""Templates of the README files in exported folders."""

from __future__ import annotations

import re

from jinja2 import Environment, PackageLoader, StrictUndefined

from musicspectrogan.errors import printable

CARD_NAME = "README.md"


def markdown(value: object) -> str:
    """Return a value as one line of Markdown that shows it as it is: names may hold anything."""
    return _MARKDOWN.sub(r"\\\g<0>", printable(str(value)))


# An underscore within a word, as in many names, is one already.
_MARKDOWN = re.compile(r"[\\`*<>\[\]#|~$&]|(?<!\w)_|_(?!\w)")
TEMPLATES = Environment(
    loader=PackageLoader("musicspectrogan.export"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
TEMPLATES.filters["text"] = markdown
