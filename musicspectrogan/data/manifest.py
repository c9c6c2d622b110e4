"""The records in a dataset root: dataset.json and preprocess_report.csv."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.config import from_plain
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import atomic_write, name_in_errors, remove_unfinished, write_text

FORMAT_VERSION = 1
SPLITS = ("training", "validation", "test")
MANIFEST_NAME = "dataset.json"
REPORT_NAME = "preprocess_report.csv"
# Holds the path from here to the music, of which dataset.json has the last part.
MUSIC_NAME = ".music_folder"

STATUSES = CONVERTED, SKIPPED, EXCLUDED = "converted", "skipped", "excluded"


@dataclass(frozen=True)
class Outcome:
    """The result for one input file: a line of preprocess_report.csv."""

    track: str
    genre: str
    split: str
    """The dataset's own split; empty if it has none."""
    status: str
    """converted, skipped (cannot be converted) or excluded (by choice)."""
    reason: str
    """Why it was not converted, or a warning about a converted file."""
    segments: int
    """Images written."""
    seconds: float
    reference_db: float
    """Mel power in dB of a white pixel."""
    path: str
    bytes: int | None = None
    """Size of the input file when it was converted; None if unknown."""
    modified_ns: int | None = None
    """Modification time of the input file, in ns since 1970."""


@dataclass(frozen=True)
class _ManifestTrack:
    """Validates a track of dataset.json."""

    id: str
    genre: str
    split: str
    segments: int
    reference_db: float
    seconds: float

    def __post_init__(self) -> None:
        if self.segments < 0 or not math.isfinite(self.reference_db + self.seconds):
            raise ValueError(f"impossible values of the track {self.id[:40]!r}")
        if self.split not in SPLITS:
            raise ValueError(f"{self.split!r} is not a split")


@dataclass
class Manifest:
    """The contents of dataset.json; `tracks` and `genres` are empty until preprocessing is done."""

    source: str
    spectrogram: SpectrogramConfig
    selection: dict[str, Any] = field(default_factory=dict)
    """The selected input: folder, subset and so on, by option name."""
    genres: list[str] = field(default_factory=list)
    tracks: list[dict[str, Any]] = field(default_factory=list)
    """id, genre, split, segments, reference_db, seconds."""

    def write(self, root: Path) -> None:
        """Write dataset.json."""
        contents = {
            "format_version": FORMAT_VERSION,
            "source": self.source,
            "spectrogram": asdict(self.spectrogram),
            "selection": self.selection,
            "genres": self.genres,
        }
        # One line per track: readable, and diffs stay small.
        lines = ",\n".join("  " + json.dumps(track) for track in self.tracks)
        head = json.dumps(contents, indent=1)[:-2]
        write_text(root / MANIFEST_NAME, f'{head},\n "tracks": [\n{lines}\n]}}\n')

    @classmethod
    def read(cls, root: Path) -> Manifest | None:
        """Read dataset.json; return None if there is none or it is foreign (see `is_foreign`).

        Raises:
            UserError: the file is damaged or has a later format.
        """
        path = root / MANIFEST_NAME
        if not path.is_file() or is_foreign(root):
            return None
        try:
            contents = json.loads(path.read_text(encoding="utf-8"))
            version = contents.pop("format_version")
            if not isinstance(version, int):
                raise TypeError("format_version")
            if version == FORMAT_VERSION:
                known = {f.name: contents[f.name] for f in fields(cls) if f.name in contents}
                manifest = from_plain(cls, known)
                for track in manifest.tracks:
                    from_plain(_ManifestTrack, track)
                return manifest
        except (
            LookupError,
            TypeError,
            ValueError,
            AttributeError,
            RecursionError,
            UserError,
        ) as error:
            raise UserError(
                f"{path} is damaged ({type(error).__name__}: {error}); "
                "run preprocess with --overwrite"
            ) from None
        raise UserError(
            f"{path} has format {version}; this version reads format {FORMAT_VERSION}: install a "
            "newer one"
        )

    def split_of_track(self) -> dict[tuple[str, str], str]:
        """Return the split of each (genre, track id)."""
        return {(t["genre"], t["id"]): t["split"] for t in self.tracks}


def record_music_folder(root: Path, music: Path) -> None:
    """Write where the paths in a dataset's report start.

    Relative to the dataset, so that both can be moved together.
    """
    path = os.path.realpath(music)
    with suppress(ValueError):  # on another drive
        path = os.path.relpath(path, os.path.realpath(root))
    with atomic_write(root / MUSIC_NAME) as temporary:
        temporary.write_bytes(os.fsencode(path))  # any name, also one that is not UTF-8


def find_music_folder(root: Path, manifest: Manifest) -> Path | None:
    """The folder that the paths in a dataset's report start from; None if it is not known.

    It may be an archive, or lead into one. It is where preprocessing found it, or beside the
    dataset or in the working directory under its name, if the dataset came from another machine.
    """
    # Training reads manifests too, without loading a library for audio.
    from musicspectrogan.data.archives import is_folder
    from musicspectrogan.data.listing import find_top

    candidates: list[Path] = []
    record = root / MUSIC_NAME
    if record.is_file():
        found = os.fsdecode(record.read_bytes())
        candidates.append(root.resolve() / found)
    if name := manifest.selection.get("input"):
        named = [root.absolute().parent / str(name), Path(str(name))]
        candidates += [find_top(path) for path in named if path.exists()]
    return next((folder for folder in candidates if is_folder(folder)), None)


def is_foreign(root: Path) -> bool:
    """Return True if the dataset.json in a folder is from another tool.

    Ours has a format version and spectrogram settings. A damaged file counts as ours if it starts
    like one, or if our report is next to it.
    """
    path = root / MANIFEST_NAME
    if not path.is_file():
        return False
    with open(path, encoding="utf-8", errors="replace") as file:
        if re.match(r'\{\s*"format_version": \d+,\s*"source": ', file.read(100)):
            return False
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return not Report.is_in(root)
    return not (isinstance(contents, dict) and {"format_version", "spectrogram"} <= contents.keys())


COLUMNS = [f.name for f in fields(Outcome)]
# Earlier versions did not record size and time of the input.
EARLIER_COLUMNS = COLUMNS[:-2]


class Report:
    """preprocess_report.csv: one line per input file, the record of finished tracks.

    A later line about a track replaces an earlier one. A line cut off by a kill is dropped. Sync
    the images of a track to disk before appending its line, so that a power cut cannot keep the
    line and lose the images.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / REPORT_NAME
        self.outcomes: dict[str, Outcome] = {}
        remove_unfinished(root, REPORT_NAME)
        if not self.path.exists():
            self._write()
        contents = self.path.read_bytes()
        whole = contents[: contents.rfind(b"\n") + 1]
        if len(whole) < len(contents):
            with open(self.path, "r+b") as file:
                file.truncate(len(whole))
        head, *lines = whole.decode("utf-8", "replace").replace("\0", "").split("\n")
        if not _is_header(head):
            raise UserError(f"{self.path} is not a report of this tool; move it away")
        for line in filter(None, lines):
            self._parse(line)
        if head.rstrip("\r") != ",".join(COLUMNS):
            self._write()

    @staticmethod
    def is_in(root: Path) -> bool:
        """Return True if `root` contains a report of this tool."""
        try:
            with open(root / REPORT_NAME, encoding="utf-8", errors="replace") as file:
                return _is_header(file.readline(1000).rstrip("\n"))
        except OSError:
            return False

    def _parse(self, line: str) -> None:
        """Add the outcome in a line; ignore a damaged line, so that its track is converted again.

        Lines contain no line breaks, so a stray quote in one does not affect the next.
        """
        try:
            (values,) = csv.reader([line])
            track, genre, split, status, reason, segments, seconds, reference_db, path, *source = (
                values
            )
            size, modified_ns = [int(value) if value else None for value in source or ("", "")]
            outcome = Outcome(
                track,
                genre,
                split,
                status,
                reason,
                int(segments),
                float(seconds),
                float(reference_db),
                path,
                size,
                modified_ns,
            )
        except (ValueError, csv.Error):
            return
        valid = outcome.segments >= 0 and math.isfinite(outcome.seconds + outcome.reference_db)
        if valid and outcome.status in STATUSES and outcome.split in ("", *SPLITS):
            self.outcomes[outcome.track] = outcome

    def append(self, *outcomes: Outcome) -> None:
        """Append a line for each outcome that changed, and flush the file to disk."""
        new = [outcome for outcome in outcomes if self.outcomes.get(outcome.track) != outcome]
        if not new:
            return
        self.outcomes |= {outcome.track: outcome for outcome in new}
        with name_in_errors(self.path), open(self.path, "a", encoding="utf-8", newline="") as file:
            file.write(_lines(new))
            file.flush()
            os.fsync(file.fileno())

    def forget(self, tracks: Iterable[str]) -> None:
        """Remove the lines of tracks that are about to be converted again."""
        known = self.outcomes.keys() & set(tracks)
        for track in known:
            del self.outcomes[track]
        if known:
            self._write()

    def _write(self) -> None:
        write_text(self.path, f"{','.join(COLUMNS)}\n{_lines(self.outcomes.values())}")


def _is_header(line: str) -> bool:
    return line.rstrip("\r") in (",".join(COLUMNS), ",".join(EARLIER_COLUMNS))


def _lines(outcomes: Iterable[Outcome]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        asdict(outcome).values() for outcome in outcomes
    )
    return text.getvalue()
