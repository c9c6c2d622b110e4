"""Where music comes from. One module a dataset; the file's name is the name on the command line.

A source module defines

    OPTIONS: tuple[str, ...]                          the fields of `Selection` that it understands
    find_tracks(root: Path | None, selection: Selection) -> list[Track]

and nothing else: decoding, encoding, splits, reports and parallel work are shared.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from zlib import crc32

from musicspectrogan.audio.files import is_audio
from musicspectrogan.config import check_at_least
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import safe_name, visible_folders

# What a source module defines.
DEFINED = ("OPTIONS", "find_tracks")


@dataclass(frozen=True)
class Track:
    """One input file and what is known about it before it is decoded."""

    id: str
    """Unique in the dataset, and safe as a file name."""
    genre: str
    """Also the class folder's name."""
    path: Path
    split: str = ""
    """training, validation or test where the dataset defines it; empty: assigned by a hash of the id."""
    group: str = ""
    """The folder of an album, with a slash in it; its tracks go to one split. Empty: a track by itself."""
    known_fault: str = ""
    """What is known to be wrong with this file; added to its line in the report."""
    excluded: str = ""
    """Why it is left out by choice, before any attempt; empty: it is converted."""
    name: str = ""
    """The path below the input folder, for the report; filled in when all tracks are found."""


@dataclass(frozen=True)
class Selection:
    """Which tracks of a dataset are taken. A source refuses the options that mean nothing to it."""

    limit: int | None = None
    """Take the first N tracks of each genre; None for all."""
    subset: str | None = None
    """FMA only: small, medium, large or full; None for small."""
    license: str | None = None
    """FMA only: keep tracks whose licence contains this text; None for all."""
    exclude_faults: bool = False
    """GTZAN only: leave out the clips that are known to be replicas or mislabelled."""
    tracks_per_genre: int | None = None
    """Demo only: clips composed for each genre; None for 40."""
    seed: int | None = None
    """Demo only: another seed is other music; None for 0."""

    def __post_init__(self) -> None:
        check_at_least(self, limit=1, tracks_per_genre=1, seed=0)

    def asked_for(self) -> dict[str, str | int | bool]:
        """The options that were given, by name."""
        return {k: v for k, v in asdict(self).items() if v not in (None, False)}


def audio_files(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """All audio files below a folder, sorted within each level; nothing hidden is entered.

    Args:
        above: the real folders on the way down to this one, which no link leads into again.
    """
    above |= {folder.resolve()}
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            path = folder / entry.name
            if entry.is_symlink() and path.resolve() in above:
                continue  # without end
            yield from audio_files(path, above)
        elif is_audio(entry.name):
            yield folder / entry.name


def holds_audio(folder: Path) -> bool:
    """True when there is an audio file anywhere below."""
    return next(audio_files(folder), None) is not None


def tracks_of_class_folder(folder: Path, genre: str) -> list[Track]:
    """One track a file below a class folder; the id is the path inside it, joined by hyphens."""
    below = len(str(folder)) + 1
    return [
        Track(safe_name(str(path.with_suffix(""))[below:].replace(os.sep, "-")), genre, path)
        for path in audio_files(folder)
    ]


def with_unique_ids(tracks: Iterable[Track], root: Path) -> list[Track]:
    """Tracks whose ids collide (also where case is ignored) get a short hash of their path below `root`."""
    tracks = list(tracks)
    seen: dict[str, int] = {}
    for track in tracks:
        seen[track.id.lower()] = seen.get(track.id.lower(), 0) + 1

    def unique(track: Track) -> Track:
        if seen[track.id.lower()] == 1:
            return track
        tag = crc32(os.fsencode(os.path.relpath(track.path, root)))
        return replace(track, id=f"{track.id}-{tag:08x}")

    return [unique(track) for track in tracks]


def require_folder(root: Path | None, dataset: str) -> Path:
    """The input folder, or a UserError when none was given or it is not there."""
    if root is None:
        raise UserError(f"--input is missing: name the folder that holds {dataset}")
    if not root.exists():
        raise UserError(f"--input {root}: there is no such folder")
    if not root.is_dir():
        raise UserError(f"--input {root} is a file; name the folder that holds the music")
    return root


def one_root(
    start: Path, is_root: Callable[[Path], bool], *, depth: int = 3
) -> tuple[Path | None, list[Path]]:
    """Find the dataset's root at `start` or up to `depth` levels below it.

    Returns:
        The root, or None; and all candidates, so that the caller can name them when there are many.
    """
    found: list[Path] = []

    def look(folder: Path, levels: int) -> None:
        if is_root(folder):
            found.append(folder)
        elif levels:
            for child in visible_folders(folder):
                look(child, levels - 1)

    look(start, depth)
    return (found[0] if len(found) == 1 else None), found
