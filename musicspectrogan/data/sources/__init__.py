"""Datasets of music, found by name: one module each.

The module `NAME.py` is `--dataset NAME`. It defines `OPTIONS` and `find_tracks`, see `Source`. All
sources share decoding, spectrograms, splits, reports and parallel work.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol, cast, runtime_checkable
from zlib import crc32

from musicspectrogan.config import check_at_least, read_fields
from musicspectrogan.data.credits import Credit, parse_licenses
from musicspectrogan.data.listing import AudioFile
from musicspectrogan.data.manifest import SPLITS
from musicspectrogan.data.splits import EVALUATION_FOLDERS, SPLIT_FOLDERS, match_split_folders
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import fold_case, safe_name
from musicspectrogan.plugins import load_module, module_names

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Track:
    """One input file, and what is known about it before decoding."""

    id: str
    """Unique in the dataset, and safe as a file name."""
    genre: str
    """Also the name of the class folder."""
    path: Path
    """May lead into an archive; see `data.archives`."""
    split: str = ""
    """training, validation or test if the dataset defines it; empty to assign one."""
    group: str = ""
    """The folder of an album, with a slash in it; its tracks go to one split. Empty: no group."""
    known_fault: str = ""
    """A documented fault of this file; added to its line in the report."""
    excluded: str = ""
    """Why the file is not converted; empty to convert it."""
    unreadable: bool = False
    """True if it is excluded because it cannot be read, not by choice."""
    credit: Credit | None = None
    """The credit that the dataset states; None to read the tags of the file."""
    relative_path: str = ""
    """The path below the input folder, for the report; set after all tracks are found."""


@dataclass(frozen=True)
class Selection:
    """Which tracks of a dataset to take. A source rejects options that it does not support."""

    limit: int | None = None
    """Take the first N tracks of each genre; None for all."""
    subset: str | None = None
    """FMA only: small, medium, large or full; None for small."""
    license: str | None = None
    """FMA only: keep tracks with these licenses only, such as by or by,cc0; None for all."""
    exclude_faults: bool = False
    """GTZAN only: leave out clips that are known to be replicas or mislabelled."""
    tracks_per_genre: int | None = None
    """Demo only: clips to compose for each genre; None for 40."""
    seed: int | None = None
    """Demo only: another seed composes other music; None for 0."""

    @read_fields
    def __post_init__(self) -> None:
        check_at_least(self, limit=1, tracks_per_genre=1, seed=0)
        if self.license is not None:  # one spelling, to compare with dataset.json
            object.__setattr__(self, "license", ",".join(parse_licenses(self.license)))

    def given(self) -> dict[str, str | int | bool]:
        """Return the options that are set, by name."""
        return {k: v for k, v in asdict(self).items() if v not in (None, False)}


class Source(Protocol):
    """What the module of a source defines."""

    OPTIONS: tuple[str, ...]
    """The fields of `Selection` that it supports."""

    def find_tracks(self, root: Path | None, selection: Selection) -> list[Track]:
        """Return the tracks below the input folder."""


@runtime_checkable
class VerifiableSource(Source, Protocol):
    """A source whose archives have published checksums."""

    def verify(self, root: Path | None, selection: Selection) -> None:
        """Check the archives that `find_tracks` would use.

        Raises:
            UserError: one is damaged, or there is none.
        """


@runtime_checkable
class DownloadableSource(Source, Protocol):
    """A source that can be downloaded."""

    def download(
        self, folder: Path, archive: str, selection: Selection, mirror: str | None
    ) -> None:
        """Download what `find_tracks` needs to a folder, unless it is there.

        Args:
            archive: what the user asked for, such as a subset.
            mirror: address of the archives; None for the dataset's own.

        Raises:
            UserError: there is no such archive, or it cannot be downloaded.
        """


def names() -> list[str]:
    """Return the names of all sources, sorted."""
    return module_names(sys.modules[__name__])


def get(name: str) -> Source:
    """Return the source of that name.

    Raises:
        UserError: there is none; the text suggests the nearest name.
        PluginError: its module cannot be imported, or does not define a source.
    """
    package = sys.modules[__name__]
    return cast(Source, load_module(package, "dataset", name, ("OPTIONS", "find_tracks")))


def excluded_track(file: AudioFile, root: Path, reason: str = "") -> Track:
    """Return the track that lists a file below `root` in the report as not taken."""
    below = os.path.relpath(file.path, root)
    name = safe_name(f"{below.replace(os.sep, '-')}-{crc32(os.fsencode(below)):08x}")
    return Track(
        name, "", file.path, excluded=file.skip_reason or reason, unreadable=file.unreadable
    )


def track_id(path: Path, class_folder: Path) -> str:
    """Return a track's id: the path below its class folder without the suffix, with hyphens."""
    below = str(path)[len(str(class_folder)) + 1 :].rpartition(".")[0]
    return safe_name(below.replace(os.sep, "-"))


def splits_of_folders(classes: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Return the split of each folder such as `train` and `test`, as for `Track.split`.

    The split of training tracks is empty if validation or test tracks are to be drawn from them.

    Args:
        classes: the names of the class folders in each folder.

    Returns:
        An empty dict if the folders are not splits, see `match_split_folders`.
    """
    known = SPLIT_FOLDERS | dict.fromkeys(EVALUATION_FOLDERS, "test")
    if "test" in {SPLIT_FOLDERS.get(folder.casefold()) for folder in classes}:
        known |= dict.fromkeys(EVALUATION_FOLDERS, "validation")
    splits = match_split_folders(classes, known)
    if not splits:
        return {}
    missing = [split for split in ("validation", "test") if split not in splits.values()]
    used = ", ".join(
        f"{folder}/ for {split}" for split in SPLITS for folder in splits if splits[folder] == split
    )
    drawn = f"; drawing {' and '.join(missing)} from the training tracks" if missing else ""
    logger.info("Using folders as splits: %s%s", used, drawn)
    return {
        folder: "" if missing and split == "training" else split for folder, split in splits.items()
    }


def check_tracks(tracks: Iterable[Track], source: str) -> None:
    """Raise UserError if a source returns anything but valid tracks."""
    for track in tracks:
        if not isinstance(track, Track):
            problem = f"find_tracks must return Track objects, not {track!r}"
        elif not all(name == safe_name(name) for name in (track.id, track.genre) if name):
            problem = (
                f"the id {track.id!r} or the genre {track.genre!r} is not a file name; "
                "use safe_name"
            )
        else:
            continue
        raise UserError(f"--dataset {source}: musicspectrogan/data/sources/{source}.py: {problem}")


def with_unique_ids(tracks: Iterable[Track], root: Path) -> list[Track]:
    """Append a hash of the path below `root` to ids that are equal when case is ignored."""
    tracks = list(tracks)
    counts = Counter(fold_case(track.id) for track in tracks)

    def unique(track: Track) -> Track:
        if counts[fold_case(track.id)] == 1:
            return track
        path = os.fsencode(os.path.relpath(track.path, root))
        return replace(track, id=f"{track.id}-{crc32(path):08x}")

    return [unique(track) for track in tracks]
