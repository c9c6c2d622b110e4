"""Templates of the README files in exported folders."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from musicspectrogan.config import from_plain
from musicspectrogan.errors import UserError, printable
from musicspectrogan.export.settings import UNKNOWN, check_license
from musicspectrogan.modelfolder import ModelFolderError, is_model_folder
from musicspectrogan.training.checkpoint import read_card

CARD_NAME = "README.md"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Facts:
    """What a model card says beyond its checkpoint, in config.json for whoever exports it again."""

    license: str = UNKNOWN
    half: bool = False
    """Whether weights are in half precision."""
    figures: list[list[str]] = field(default_factory=list)
    """Of an evaluation: name, value, ratio, real music."""
    evaluated: str = ""
    """Digest of the weights that were evaluated."""

    def __post_init__(self) -> None:
        check_license(self.license)
        if any(len(row) != COLUMNS for row in self.figures):
            raise UserError(f"a figure without its {COLUMNS} parts")


COLUMNS = 4


def read_facts(source: Path) -> Facts:
    """The facts of an exported model; of another checkpoint, what is so until somebody says more.

    Whatever is wrong with them is logged.
    """
    if is_model_folder(source):
        try:
            return from_plain(Facts, read_card(source))
        except (UserError, ModelFolderError, OSError) as error:
            logger.warning("%s: what its model card said is lost: %s", source, error)
    return Facts()


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
