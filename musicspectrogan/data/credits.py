"""credits.csv: whose music a dataset is made from, and under which licence."""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from musicspectrogan.audio.files import read_tags
from musicspectrogan.errors import printable
from musicspectrogan.filesystem import write_text

logger = logging.getLogger(__name__)

CREDITS_NAME = "credits.csv"

_ADDRESS = re.compile(r"https?://[^\s<>\"]+")


@dataclass(frozen=True)
class Credit:
    """What is known about one track; empty where it is not."""

    artist: str = ""
    title: str = ""
    album: str = ""
    license: str = ""
    """As the source words it."""
    url: str = ""
    """Where the track is; where that is not known, a page of the artist."""


_COLUMNS = ["track", *(field.name for field in fields(Credit))]


def credit_of_file(path: Path) -> Credit:
    """From the tags of a file; those of formats that soundfile does not read are not known."""
    tags = read_tags(path)
    address = _ADDRESS.search(tags.get("comment", ""))
    return Credit(
        artist=tags.get("artist", ""),
        title=tags.get("title", ""),
        album=tags.get("album", ""),
        license=tags.get("license") or tags.get("copyright", ""),
        url=address[0] if address else "",
    )


def read_credits(root: Path) -> dict[str, Credit] | None:
    """The credit of each track in credits.csv; None where such a file is not this tool's, or not UTF-8."""
    path = root / CREDITS_NAME
    if not path.exists():
        return {}
    try:
        with open(
            path, encoding="utf-8-sig", newline=""
        ) as file:  # spreadsheets begin it with a mark
            lines = csv.reader(file)
            if next(lines, None) != _COLUMNS:
                return None
            return {line[0]: Credit(*line[1 : len(_COLUMNS)]) for line in lines if line}
    except (OSError, ValueError, csv.Error):
        return None


def write_credits(root: Path, credits: Mapping[str, Credit]) -> None:
    """Write credits.csv, a line a track, or remove it where there is none. Another tool's file stays."""
    path = root / CREDITS_NAME
    if read_credits(root) is None:
        logger.warning(
            "%s is not this tool's and stays; for the credits, move it away and give the same command again",
            path,
        )
    elif credits:
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(_COLUMNS)
        for track, credit in credits.items():
            lines.writerow([track, *map(_one_line, asdict(credit).values())])
        write_text(path, text.getvalue())
    else:
        path.unlink(missing_ok=True)


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))
