"""FMA, the Free Music Archive: numbered MP3 files, described by tracks.csv.

M. Defferrard et al., FMA: A dataset for music analysis, ISMIR 2017, arXiv:1612.01840.
"""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, cast

import pandas

from musicspectrogan.data.archives import is_file, is_folder, list_folder, local_file
from musicspectrogan.data.credits import LICENSES, Credit, format_counts, normalize_license
from musicspectrogan.data.fma_archives import SUBSETS, check_archives, download
from musicspectrogan.data.listing import readable_folders, require_folder
from musicspectrogan.data.manifest import SPLITS
from musicspectrogan.data.sources import Selection, Track
from musicspectrogan.errors import UserError, check_choice
from musicspectrogan.filesystem import distinct_names

logger = logging.getLogger(__name__)

__all__ = ["OPTIONS", "download", "find_tracks", "read_tracks", "verify"]

OPTIONS = ("limit", "subset", "license")

DEFAULT_SUBSET = "small"

NEEDED_COLUMNS = {
    "split": ("set", "split"),
    "subset": ("set", "subset"),
    "genre": ("track", "genre_top"),
    "license": ("track", "license"),
}
# For the credits. The URL of a track is not in tracks.csv but in raw_tracks.csv.
CREDIT_COLUMNS = {
    "artist": ("artist", "name"),
    "title": ("track", "title"),
    "album": ("album", "title"),
    "website": ("artist", "website"),
}
URLS_NAME = "raw_tracks.csv"
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


class _Row(NamedTuple):
    """A track in tracks.csv."""

    id: int
    split: str
    subset: str
    genre: str
    license: str
    license_name: str
    artist: str
    title: str
    album: str
    website: str


def find_tracks(root: Path | None, selection: Selection) -> list[Track]:
    """Return the tracks of a subset, ordered by number, with FMA's own splits."""
    start = require_folder(root, "fma_small and fma_metadata")
    subset = selection.subset or DEFAULT_SUBSET
    check_choice("--subset", subset, SUBSETS)
    audio_root = _find_audio_root(start, subset)
    tracks_csv = _find_tracks_csv(start, audio_root)
    with local_file(tracks_csv) as local:
        table = read_tracks(local, tracks_csv)
    in_subset = table["subset"].isin(SUBSETS[: SUBSETS.index(subset) + 1])
    table = table[in_subset | (subset == "full")]
    if table.empty:
        raise UserError(f"tracks.csv lists no track of the subset {subset}; is it FMA's own?")
    if selection.license:
        _check_licenses(table, selection.license.split(","), subset)
    names = distinct_names(table["genre"].unique())
    urls = _read_urls(tracks_csv.with_name(URLS_NAME))
    columns = list(_Row._fields)
    rows = map(_Row._make, table.reset_index()[columns].itertuples(index=False, name=None))
    return [_track(row, audio_root, names, selection, urls.get(row.id, "")) for row in rows]


def verify(root: Path | None, selection: Selection) -> None:
    """Check the archives of the audio and of tracks.csv against their published SHA-1.

    Raises:
        UserError: one is damaged or is not FMA's, or both are unpacked.
    """
    start = require_folder(root, "fma_small and fma_metadata")
    audio_root = _find_audio_root(start, selection.subset or DEFAULT_SUBSET)
    check_archives(audio_root, _find_tracks_csv(start, audio_root))


def read_tracks(path: Path, name: Path | None = None) -> pandas.DataFrame:
    """Read the needed columns of tracks.csv, indexed and sorted by track number.

    `license_name` is the short name of `license`. Missing columns of the credits are empty.

    The file has two header lines that together name a column, and a third with the name of the
    index. pandas does not support `usecols` with such a header, and reading all 260 MB is slow.

    Args:
        name: for errors, where the file is a copy from an archive.

    Raises:
        UserError: a needed column is missing, or the file is not such a table.
    """
    name = name or path
    try:
        with open(path, encoding="utf-8", newline="") as file:
            lines = csv.reader(file)
            columns = list(zip(next(lines, []), next(lines, []), strict=False))
        missing = [column for column in NEEDED_COLUMNS.values() if column not in columns]
        if missing:
            named = ", ".join(f"({upper}, {lower})" for upper, lower in missing)
            raise UserError(
                f"{name}: no column {named}; expected tracks.csv as it comes in fma_metadata.zip"
            )
        wanted = NEEDED_COLUMNS | {
            key: column for key, column in CREDIT_COLUMNS.items() if column in columns
        }
        positions = {columns.index(column): key for key, column in wanted.items()}
        types = {0: "int64", **dict.fromkeys(positions, "str")}
        table = pandas.read_csv(
            path,
            skiprows=HEADER_LINES,
            header=None,
            usecols=[0, *positions],
            dtype=types,
            keep_default_na=False,
        )
    # pandas raises subclasses of ValueError
    except (ValueError, OverflowError, csv.Error) as error:
        raise UserError(f"{name} is not FMA's tracks.csv: {' '.join(str(error).split())}") from None
    table = table.rename(columns={0: "id", **positions}).set_index("id").sort_index()
    short_names = {license: normalize_license(license) for license in table["license"].unique()}
    absent = dict.fromkeys(CREDIT_COLUMNS.keys() - set(table.columns), "")
    return table.assign(license_name=table["license"].map(short_names), **absent)


def _check_licenses(table: pandas.DataFrame, wanted: list[str], subset: str) -> None:
    """Raise UserError if no track of the subset has one of the licenses, or one is unknown."""
    counts = table.loc[table["genre"] != "", "license_name"].value_counts()
    absent = [name for name in wanted if name not in counts]
    unknown = [name for name in absent if name not in LICENSES]
    if unknown or absent == wanted:
        present = cast(Iterable[tuple[str, int]], counts.items())
        raise UserError(
            f"--license {','.join(unknown or absent)}: no track of the subset {subset} has it; "
            f"there are {format_counts(present)}"
        )
    if absent:
        logger.warning("--license: no track of the subset %s is %s", subset, " or ".join(absent))


def _read_urls(path: Path) -> dict[int, str]:
    """Return the URL of each track number; empty without raw_tracks.csv."""
    if not is_file(path):
        return {}
    try:
        with local_file(path) as local:
            table = pandas.read_csv(
                local, usecols=["track_id", "track_url"], dtype=str, keep_default_na=False
            )
        return {int(number): url for number, url in table[["track_id", "track_url"]].values}
    except (ValueError, OverflowError, csv.Error, OSError) as error:
        logger.warning("%s: no track URLs in the credits: %s", path, " ".join(str(error).split()))
        return {}


def _track(
    row: _Row, audio_root: Path, names: dict[str, str], selection: Selection, url: str
) -> Track:
    name = f"{row.id:06d}"
    excluded = ""
    if not row.genre:
        excluded = "no genre_top in tracks.csv"
    elif selection.license and row.license_name not in selection.license.split(","):
        excluded = f"license is {row.license or 'not stated'} (--license {selection.license})"
    return Track(
        id=name,
        genre=names[row.genre] if row.genre else "",
        path=audio_root / name[:3] / f"{name}.mp3",
        split=row.split if row.split in SPLITS else "",
        known_fault=KNOWN_FAULTS.get(row.id, ""),
        excluded=excluded,
        credit=Credit(row.artist, row.title, row.album, row.license, url or row.website),
    )


def _find_audio_root(start: Path, subset: str) -> Path:
    """Return the folder of numbered folders: the one named after the subset, else the only one."""
    name = f"fma_{subset}"
    named = [start / name / name, start / name, start, start / f"{name}.zip" / name]
    for folder in [*named, start / start.name]:
        if _holds_numbered_folders(folder):
            return folder
    others = [
        folder
        for folder in [*_folders_below(start, 2), *_archived_folders(start)]
        if _holds_numbered_folders(folder)
    ]
    if len(others) == 1:
        logger.warning("no fma_%s in %s; using %s", subset, start, others[0])
        return others[0]
    if others:
        raise UserError(
            f"--input {start}: no fma_{subset} in it, but {', '.join(p.name for p in others)}; "
            "choose one with --subset"
        )
    raise UserError(
        f"--input {start}: no folders 000, 001, … of MP3 files; name the folder of "
        f"{name}.zip and fma_metadata.zip, or that in which they were unpacked"
    )


def _find_tracks_csv(start: Path, audio_root: Path) -> Path:
    """Find tracks.csv in the given folder, or up to two levels above it or above the audio."""
    above = [start.resolve(), audio_root.resolve(), audio_root.absolute()]
    for folder in [start, *(parent for path in above for parent in path.parents[:2])]:
        for inside in ("fma_metadata", "fma_metadata.zip/fma_metadata", ""):
            candidate = folder / inside / "tracks.csv"
            if is_file(candidate):
                return candidate
    raise UserError(
        f"--input {start}: no fma_metadata/tracks.csv in it or next to it; "
        "put fma_metadata.zip there"
    )


def _holds_numbered_folders(folder: Path) -> bool:
    children = readable_folders(folder) if is_folder(folder) else []
    return any(re.fullmatch(r"\d{3}", child.name) for child in children)


def _archived_folders(folder: Path) -> Iterator[Path]:
    """Yield the folders of audio in FMA's archives."""
    for entry in list_folder(folder):
        if match := re.fullmatch(r"(fma_\w+)\.zip", entry.name):
            yield folder / entry.name / match[1]


def _folders_below(folder: Path, depth: int) -> Iterator[Path]:
    for child in readable_folders(folder):
        yield child
        if depth > 1 and not _holds_numbered_folders(child):
            yield from _folders_below(child, depth - 1)
