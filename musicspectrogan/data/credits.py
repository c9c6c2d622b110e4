"""Whose music a dataset is made from, and under which license: attribution.csv."""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from musicspectrogan.audio.files import read_tags
from musicspectrogan.data.archives import local_file
from musicspectrogan.errors import UserError, printable
from musicspectrogan.filesystem import write_text

logger = logging.getLogger(__name__)

CREDITS_NAME = "attribution.csv"
# The name that earlier versions gave it.
_EARLIER_NAME = "credits.csv"
_URL = re.compile(r"https?://[^\s<>\"]+")

LICENSES = ("by", "by-sa", "by-nd", "by-nc", "by-nc-sa", "by-nc-nd", "cc0", "public-domain")
_ELEMENTS = {
    "by": r"by|attribution",
    "nc": r"nc|non ?commercial",
    "sa": r"sa|share ?alike",
    "nd": r"nd|no ?deriv(?:s|atives?(?: works?)?)?",
}
_COMPOSED = re.compile(rf"(?:(?:{'|'.join(_ELEMENTS.values())})(?: |$))+")
_ZERO = re.compile(r"(?:(?:cc0|zero) ?)+(?:public domain(?: dedication)?)?")
_PUBLIC_DOMAIN = re.compile(r"pdm?|public domain(?: mark| dedication)?")
_LICENSE_URL = re.compile(
    r"(?:https?://)?(?:www\.)?creativecommons\.org/(?:licenses|publicdomain)/([a-z-]+)/?\S*"
)
_IN_URL = {"zero": "cc0", "mark": "public-domain", "publicdomain": "public-domain"}
# Words that set no condition. Any other word might set one.
_NEUTRAL_WORDS = frozenset(
    """creative commons cc license licence version v generic unported international universal igo

    argentina australia austria azerbaijan belgium brasil brazil bulgaria canada chile china
    mainland colombia costa rica croatia czech republic denmark deutschland dutch ecuador egypt
    england españa estonia finland france georgia germany greece guatemala hong kong hungary india
    ireland israel italia italy japan korea luxembourg macedonia malaysia malta mexico méxico
    netherlands norway new zealand peru philippines poland portugal puerto rico romania scotland
    serbia singapore slovenia south africa spain sweden switzerland taiwan thailand uganda uk united
    kingdom ukraine us usa united states venezuela vietnam wales""".split()
)


@dataclass(frozen=True)
class Credit:
    """The known facts about one track; empty if unknown."""

    artist: str = ""
    title: str = ""
    album: str = ""
    license: str = ""
    """As worded by the source."""
    url: str = ""
    """Address of the track, or else of the artist."""


_COLUMNS = ["track", *(field.name for field in fields(Credit))]


def read_credit(path: Path) -> Credit:
    """Read the credit of a file from its tags; empty for formats that soundfile cannot read."""
    with local_file(path) as local:
        tags = read_tags(local)
    url = _URL.search(tags.get("comment", ""))
    return Credit(
        artist=tags.get("artist", ""),
        title=tags.get("title", ""),
        album=tags.get("album", ""),
        license=tags.get("license") or tags.get("copyright", ""),
        url=url[0] if url else "",
    )


def read_credits(root: Path) -> dict[str, Credit] | None:
    """Read attribution.csv, or the credits.csv of an earlier version, as a credit per track id.

    Returns:
        None if the file is from another tool, or not UTF-8; empty if there is none.
    """
    path = root / CREDITS_NAME
    return _read(path) if path.exists() else _read(root / _EARLIER_NAME) or {}


def _read(path: Path) -> dict[str, Credit] | None:
    """Return None for no file, one of another tool, or one that is not UTF-8."""
    try:
        # Spreadsheets write a byte order mark.
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            if next(lines, None) != _COLUMNS:
                return None
            return {line[0]: Credit(*line[1 : len(_COLUMNS)]) for line in lines if line}
    except (OSError, ValueError, csv.Error):
        return None


def write_credits(root: Path, credits: Mapping[str, Credit]) -> None:
    """Write attribution.csv, or remove it if there are no credits. Keep another tool's file."""
    path = root / CREDITS_NAME
    if read_credits(root) is None:
        logger.warning(
            "%s is from another tool and is kept; to get credits, move it away and repeat the "
            "command",
            path,
        )
        return
    if credits:
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(_COLUMNS)
        for track, credit in credits.items():
            values = (getattr(credit, name) for name in _COLUMNS[1:])
            lines.writerow([track, *(printable(" ".join(value.split())) for value in values)])
        write_text(path, text.getvalue())
    else:
        path.unlink(missing_ok=True)
    if _read(root / _EARLIER_NAME) is not None:
        (root / _EARLIER_NAME).unlink()


def normalize_license(text: str) -> str:
    """Return the short name of a license: `by-nc-sa`, `cc0`, `public-domain`.

    "Attribution-Noncommercial-Share Alike 3.0 United States" is `by-nc-sa`; versions and
    jurisdictions are dropped. A text with any other word, which might set a further condition, is
    returned in lower case with hyphens. Empty if no license is stated.
    """
    text = text.strip().casefold()
    if url := _LICENSE_URL.fullmatch(text):
        text = _IN_URL.get(url[1], url[1])
    words = " ".join(re.findall(r"[^\W_]+", text))
    words = words.replace("cc 0", "cc0").replace("aka music sharing", "")
    core = " ".join(
        word for word in words.split() if not word.isdigit() and word not in _NEUTRAL_WORDS
    )
    if _ZERO.fullmatch(core):
        return "cc0"
    if _PUBLIC_DOMAIN.fullmatch(core):
        return "public-domain"
    if _COMPOSED.fullmatch(core):
        found = [name for name, word in _ELEMENTS.items() if re.search(rf"\b(?:{word})\b", core)]
        if (name := "-".join(found)) in LICENSES:
            return name
    return words.replace(" ", "-")


def parse_licenses(text: str) -> tuple[str, ...]:
    """Return the sorted short names in a value of `--license`, which are separated by commas.

    Raises:
        UserError: there is none.
    """
    names = {normalize_license(part) for part in text.split(",")} - {""}
    if not names:
        raise UserError(f"--license: no license is named; choose from {', '.join(LICENSES)}")
    return tuple(sorted(names))


def format_counts(counts: Iterable[tuple[str, int]], most: int = 20) -> str:
    """Return licenses with their number of tracks: `by-nc-sa (12), by (3), not stated (1)`."""
    shown = [f"{name or 'not stated'} ({count:,})" for name, count in counts]
    others = f" and {len(shown) - most} others" if len(shown) > most else ""
    return ", ".join(shown[:most]) + others
