"""FMA, the Free Music Archive: MP3 files by number, and tracks.csv that says what they are.

M. Defferrard et al., FMA: A dataset for music analysis, ISMIR 2017, arXiv:1612.01840.
"""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pandas

from musicspectrogan.data.manifest import SPLITS
from musicspectrogan.data.sources import (
    Selection,
    Track,
    require_folder,
)
from musicspectrogan.errors import UserError, check_choice
from musicspectrogan.filesystem import safe_name, visible_folders

logger = logging.getLogger(__name__)

OPTIONS = ("limit", "subset", "license")

# In the order of tracks.csv's own column, which names the smallest subset that a track is in:
# a track of "small" is in all four.
SUBSETS = ("small", "medium", "large", "full")
DEFAULT_SUBSET = "small"

NEEDED_COLUMNS = {
    "split": ("set", "split"),
    "subset": ("set", "subset"),
    "genre": ("track", "genre_top"),
    "license": ("track", "license"),
}
HEADER_LINES = 3

_SHORT = "known to be shorter than a clip should be"
_EMPTY = "known to be empty"
_QUIET = "reported to be nearly silent"
KNOWN_FAULTS = {
    **dict.fromkeys((98565, 98567, 98569, 98566, 98568, 108924), _SHORT),
    **dict.fromkeys((99134, 108925, 133297), _EMPTY),
    **dict.fromkeys((1486, 5574, 65753, 80391, 98558, 98559, 98560, 98571), _EMPTY),
    **dict.fromkeys((105247, 126981, 127336, 143992), _EMPTY),
    **dict.fromkeys((107535, 110736, 119979, 130169), _QUIET),
}


def find_tracks(root: Path | None, selection: Selection) -> list[Track]:
    """The tracks of a subset, in the order of their numbers, with FMA's own splits."""
    start = require_folder(root, "fma_small and fma_metadata")
    subset = selection.subset or DEFAULT_SUBSET
    check_choice("--subset", subset, SUBSETS)
    audio_root = _find_audio_root(start, subset)
    table = read_tracks(_find_tracks_csv(start, audio_root))
    in_subset = table["subset"].isin(SUBSETS[: SUBSETS.index(subset) + 1])
    table = table[in_subset | (subset == "full")]
    if table.empty:
        raise UserError(f"tracks.csv lists no track of the subset {subset}; is it FMA's own?")
    return [_track(row, audio_root, selection) for row in table.itertuples()]


def read_tracks(path: Path) -> pandas.DataFrame:
    """The needed columns of tracks.csv, found by name, indexed by track number and sorted by it.

    The file has two header lines that together name a column, and a third with the index's name.
    pandas refuses `usecols` with such a header, and reading all of its 260 MB takes long.

    Raises:
        UserError: a needed column is not there, or the file is no table of this kind.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            lines = csv.reader(file)
            columns = list(zip(next(lines, []), next(lines, []), strict=False))
        missing = [name for name in NEEDED_COLUMNS.values() if name not in columns]
        if missing:
            named = ", ".join(f"({upper}, {lower})" for upper, lower in missing)
            raise UserError(f"{path}: no column {named}; expected tracks.csv as it comes in fma_metadata.zip")
        positions = {columns.index(name): key for key, name in NEEDED_COLUMNS.items()}
        table = pandas.read_csv(
            path,
            skiprows=HEADER_LINES,
            header=None,
            usecols=[0, *positions],
            dtype={0: "int64", **dict.fromkeys(positions, str)},
            keep_default_na=False,
        )
    # UnicodeDecodeError and pandas' errors are among them
    except (ValueError, OverflowError, csv.Error) as error:
        raise UserError(f"{path} is not FMA's tracks.csv: {' '.join(str(error).split())}") from None
    return table.rename(columns={0: "id", **positions}).set_index("id").sort_index()


def _track(row: tuple, audio_root: Path, selection: Selection) -> Track:
    number = row.Index
    excluded = ""
    if not row.genre:
        excluded = "no genre_top in tracks.csv"
    elif selection.license and selection.license.lower() not in row.license.lower():
        excluded = f"licence is {row.license or 'not stated'} (--license {selection.license})"
    return Track(
        id=f"{number:06d}",
        genre=safe_name(row.genre) if row.genre else "",
        path=audio_root / f"{number:06d}"[:3] / f"{number:06d}.mp3",
        split=row.split if row.split in SPLITS else "",
        known_fault=KNOWN_FAULTS.get(number, ""),
        excluded=excluded,
    )


def _find_audio_root(start: Path, subset: str) -> Path:
    """The folder of numbered folders: named after the subset where that can be, else the only one."""
    named = [start / f"fma_{subset}" / f"fma_{subset}", start / f"fma_{subset}", start]
    for folder in [*named, start / start.name]:
        if _holds_numbered_folders(folder):
            return folder
    others = [folder for folder in _folders_below(start, 2) if _holds_numbered_folders(folder)]
    if len(others) == 1:
        logger.warning("no fma_%s in %s; using %s", subset, start, others[0])
        return others[0]
    if others:
        raise UserError(
            f"--input {start}: no fma_{subset} in it, but {', '.join(p.name for p in others)}; "
            "choose with --subset"
        )
    raise UserError(
        f"--input {start}: no folders 000, 001, … of MP3 files; name the folder in which "
        f"fma_{subset}.zip and fma_metadata.zip were unpacked"
    )


def _find_tracks_csv(start: Path, audio_root: Path) -> Path:
    """tracks.csv in or beside the given folder, or beside the audio, up to two levels above it."""
    places = [start, *start.resolve().parents[:2], *audio_root.resolve().parents[:2]]
    for place in places:
        for candidate in (place / "fma_metadata" / "tracks.csv", place / "tracks.csv"):
            if candidate.is_file():
                return candidate
    raise UserError(
        f"--input {start}: no fma_metadata/tracks.csv in it or beside it; unpack fma_metadata.zip there"
    )


def _holds_numbered_folders(folder: Path) -> bool:
    return folder.is_dir() and any(re.fullmatch(r"\d{3}", child.name) for child in visible_folders(folder))


def _folders_below(folder: Path, depth: int) -> Iterator[Path]:
    for child in visible_folders(folder):
        yield child
        if depth > 1 and not _holds_numbered_folders(child):
            yield from _folders_below(child, depth - 1)
