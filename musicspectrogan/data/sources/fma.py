"""FMA, the Free Music Archive: MP3 files by number, and tracks.csv that says what they are.

M. Defferrard et al., FMA: A dataset for music analysis, ISMIR 2017, arXiv:1612.01840.
"""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pandas

from musicspectrogan.data.credits import Credit
from musicspectrogan.data.licences import KINDS, kind_of, listed
from musicspectrogan.data.manifest import SPLITS
from musicspectrogan.data.sources import (
    Selection,
    Track,
    is_folder,
    readable_folders,
    require_folder,
)
from musicspectrogan.errors import UserError, check_choice
from musicspectrogan.filesystem import distinct_names

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
# For the credits. No address of a track is among FMA's columns; raw_tracks.csv beside it has them.
CREDIT_COLUMNS = {
    "artist": ("artist", "name"),
    "title": ("track", "title"),
    "album": ("album", "title"),
    "website": ("artist", "website"),
}
ADDRESSES_NAME = "raw_tracks.csv"
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
    tracks_csv = _find_tracks_csv(start, audio_root)
    table = read_tracks(tracks_csv)
    in_subset = table["subset"].isin(SUBSETS[: SUBSETS.index(subset) + 1])
    table = table[in_subset | (subset == "full")]
    if table.empty:
        raise UserError(f"tracks.csv lists no track of the subset {subset}; is it FMA's own?")
    if selection.license:
        _check_licences(table, selection.license.split(","), subset)
    names = distinct_names(table["genre"].unique())
    addresses = _read_addresses(tracks_csv.with_name(ADDRESSES_NAME))
    return [
        _track(row, audio_root, names, selection, addresses.get(row.Index, ""))
        for row in table.itertuples()
    ]


def read_tracks(path: Path) -> pandas.DataFrame:
    """The needed columns of tracks.csv, found by name, indexed by track number and sorted by it.

    `kind` is what `license` amounts to. Columns of credits that are not there are empty.

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
            raise UserError(
                f"{path}: no column {named}; expected tracks.csv as it comes in fma_metadata.zip"
            )
        wanted = NEEDED_COLUMNS | {
            key: name for key, name in CREDIT_COLUMNS.items() if name in columns
        }
        positions = {columns.index(name): key for key, name in wanted.items()}
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
    table = table.rename(columns={0: "id", **positions}).set_index("id").sort_index()
    kinds = {licence: kind_of(licence) for licence in table["license"].unique()}
    absent = dict.fromkeys(CREDIT_COLUMNS.keys() - set(table.columns), "")
    return table.assign(kind=table["license"].map(kinds), **absent)


def _check_licences(table: pandas.DataFrame, wanted: list[str], subset: str) -> None:
    """Raise UserError when no track of the subset has one of the licences, or one is no licence at all."""
    there = table.loc[table["genre"] != "", "kind"].value_counts()
    unknown = [kind for kind in wanted if kind not in KINDS and kind not in there]
    absent = [kind for kind in wanted if kind not in there]
    if unknown or absent == wanted:
        raise UserError(
            f"--license {','.join(unknown or absent)}: no track of the subset {subset} has it; "
            f"there are {listed(there.items())}"
        )
    if absent:
        logger.warning("--license: no track of the subset %s is %s", subset, " or ".join(absent))


def _read_addresses(path: Path) -> dict[int, str]:
    """Where each track is on the Free Music Archive, by its number; empty without raw_tracks.csv."""
    if not path.is_file():
        return {}
    try:
        table = pandas.read_csv(
            path, usecols=["track_id", "track_url"], dtype=str, keep_default_na=False
        )
        return {int(number): address for number, address in table[["track_id", "track_url"]].values}
    except (ValueError, OverflowError, csv.Error, OSError) as error:
        logger.warning("%s: no addresses in the credits: %s", path, " ".join(str(error).split()))
        return {}


def _track(
    row: tuple, audio_root: Path, names: dict[str, str], selection: Selection, address: str
) -> Track:
    number = row.Index
    excluded = ""
    if not row.genre:
        excluded = "no genre_top in tracks.csv"
    elif selection.license and row.kind not in selection.license.split(","):
        excluded = f"licence is {row.license or 'not stated'} (--license {selection.license})"
    return Track(
        id=f"{number:06d}",
        genre=names[row.genre] if row.genre else "",
        path=audio_root / f"{number:06d}"[:3] / f"{number:06d}.mp3",
        split=row.split if row.split in SPLITS else "",
        known_fault=KNOWN_FAULTS.get(number, ""),
        excluded=excluded,
        credit=Credit(row.artist, row.title, row.album, row.license, address or row.website),
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
            with suppress(OSError):  # a folder above the music that may not be entered
                if candidate.is_file():
                    return candidate
    raise UserError(
        f"--input {start}: no fma_metadata/tracks.csv in it or beside it; unpack fma_metadata.zip there"
    )


def _holds_numbered_folders(folder: Path) -> bool:
    children = readable_folders(folder) if is_folder(folder) else []
    return any(re.fullmatch(r"\d{3}", child.name) for child in children)


def _folders_below(folder: Path, depth: int) -> Iterator[Path]:
    for child in readable_folders(folder):
        yield child
        if depth > 1 and not _holds_numbered_folders(child):
            yield from _folders_below(child, depth - 1)
