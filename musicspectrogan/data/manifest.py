"""What a dataset root says about itself: dataset.json, preprocess_report.csv, and the splits."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import math
import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.config import from_plain
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import clear_unfinished, named_in_errors, write_text

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
SPLITS = ("training", "validation", "test")
MANIFEST_NAME = "dataset.json"
REPORT_NAME = "preprocess_report.csv"

STATUSES = CONVERTED, SKIPPED, EXCLUDED = "converted", "skipped", "excluded"


@dataclass(frozen=True)
class Outcome:
    """What became of one input file: a line of preprocess_report.csv."""

    track: str
    genre: str
    split: str
    """The dataset's own split; empty where it has none."""
    status: str
    """converted, skipped (it could not be converted) or excluded (left out by choice)."""
    reason: str
    """Why it was not converted, or a warning about a file that was."""
    segments: int
    """Images written."""
    seconds: float
    reference_db: float
    """Mel power in dB that white stands for."""
    path: str
    bytes: int | None = None
    """Size of the input file when it was converted; None where that is not known."""
    modified_ns: int | None = None
    """And its modification time, since 1970."""


@dataclass(frozen=True)
class _Converted:
    """What a track of dataset.json must be."""

    id: str
    genre: str
    split: str
    segments: int
    reference_db: float
    seconds: float

    def __post_init__(self) -> None:
        if self.segments < 0 or not math.isfinite(self.reference_db + self.seconds):
            raise ValueError(f"impossible figures of the track {self.id[:40]!r}")
        SPLITS.index(self.split)


@dataclass
class Manifest:
    """The contents of dataset.json. `tracks` and `genres` are empty until preprocessing is done."""

    source: str
    spectrogram: SpectrogramConfig
    selection: dict[str, Any] = field(default_factory=dict)
    """What was asked for: input folder, subset and the like, by option name."""
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
        # A line a track: readable, and small differences stay small.
        lines = ",\n".join("  " + json.dumps(track) for track in self.tracks)
        head = json.dumps(contents, indent=1)[:-2]
        write_text(root / MANIFEST_NAME, f'{head},\n "tracks": [\n{lines}\n]}}\n')

    @classmethod
    def read(cls, root: Path) -> Manifest | None:
        """Read dataset.json; None when there is none, or only another tool's (see `is_foreign`).

        Raises:
            UserError: it is damaged, or of a later format.
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
                    from_plain(_Converted, track)
                return manifest
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            RecursionError,
            UserError,
        ) as error:
            raise UserError(
                f"{path} is damaged ({type(error).__name__}: {error}); run preprocess with --overwrite"
            ) from None
        raise UserError(f"{path} has format {version}; this version reads format {FORMAT_VERSION}")

    def split_of_track(self) -> dict[tuple[str, str], str]:
        """The split of each (genre, track id)."""
        return {(t["genre"], t["id"]): t["split"] for t in self.tracks}


def is_foreign(root: Path) -> bool:
    """Whether the dataset.json of a folder is another tool's: several write a file of this name.

    Ours has a format version and the spectrogram's settings. Where a power cut or a disk has damaged it, its
    first lines tell, or a report of ours beside it.
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
# Those of versions that did not note the input's size and time.
EARLIER_COLUMNS = COLUMNS[:-2]


class Report:
    """preprocess_report.csv: one line an input file, the record of what is finished.

    A later line about the same track replaces an earlier one. A line that a kill cut off is dropped. Sync
    what a line is about before it is added: a power cut may otherwise leave the line alone.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / REPORT_NAME
        self.outcomes: dict[str, Outcome] = {}
        clear_unfinished(root, REPORT_NAME)
        if not self.path.exists():
            self._write()
        contents = self.path.read_bytes()
        whole = contents[: contents.rfind(b"\n") + 1]
        if len(whole) < len(contents):
            with open(self.path, "r+b") as file:
                file.truncate(len(whole))
        head, *lines = whole.decode("utf-8", "replace").replace("\0", "").split("\n")
        if not _is_head(head):
            raise UserError(f"{self.path} is not a report of this tool; move it away")
        for line in filter(None, lines):
            self._remember(line)
        if head.rstrip("\r") != ",".join(COLUMNS):
            self._write()

    @staticmethod
    def is_in(root: Path) -> bool:
        """Whether there is a report of this tool."""
        try:
            with open(root / REPORT_NAME, encoding="utf-8", errors="replace") as file:
                return _is_head(file.readline(1000).rstrip("\n"))
        except OSError:
            return False

    def _remember(self, line: str) -> None:
        # Line by line, for none has a line break in it: a stray quote then damages no other.
        try:
            (values,) = csv.reader([line])
            texts, (segments, seconds, reference_db, path, *source) = values[:5], values[5:]
            known = [int(value) if value else None for value in source]
            outcome = Outcome(
                *texts, int(segments), float(seconds), float(reference_db), path, *known
            )
        except (TypeError, ValueError, csv.Error):
            return  # damaged: the track counts as not done
        sound = outcome.segments >= 0 and math.isfinite(outcome.seconds + outcome.reference_db)
        if sound and outcome.status in STATUSES and outcome.split in ("", *SPLITS):
            self.outcomes[outcome.track] = outcome

    def append(self, *outcomes: Outcome) -> None:
        """Add a line for each that says anything new about its track, and wait until they are on the disk."""
        new = [outcome for outcome in outcomes if self.outcomes.get(outcome.track) != outcome]
        if not new:
            return
        self.outcomes |= {outcome.track: outcome for outcome in new}
        with named_in_errors(self.path), open(self.path, "a", encoding="utf-8", newline="") as file:
            file.write(_lines(new))
            file.flush()
            os.fsync(file.fileno())

    def forget(self, tracks: Iterable[str]) -> None:
        """Drop the lines about tracks that are about to be done again, before their images go."""
        known = self.outcomes.keys() & set(tracks)
        for track in known:
            del self.outcomes[track]
        if known:
            self._write()

    def _write(self) -> None:
        write_text(self.path, f"{','.join(COLUMNS)}\n{_lines(self.outcomes.values())}")


def _is_head(line: str) -> bool:
    return line.rstrip("\r") in (",".join(COLUMNS), ",".join(EARLIER_COLUMNS))


def _lines(outcomes: Iterable[Outcome]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        asdict(outcome).values() for outcome in outcomes
    )
    return text.getvalue()


def assign_splits(
    outcomes: Iterable[Outcome], groups: Mapping[str, str] | None = None, own: Collection[str] = ()
) -> dict[str, str]:
    """The split of each converted track: the dataset's own, or else 80/10/10 within each genre.

    Tracks of one group, such as an album, go to one split, and the sizes are as near to 80/10/10 as that
    allows. Groups are ordered by a hash of their name, so that the order of files means nothing. From three
    groups on every split has at least one. With fewer, tracks are split one by one, which is logged; fewer
    than three tracks are all for training.

    Args:
        groups: the group of a track, by its id; a track without one is a group by itself.
        own: splits that the dataset has itself; for these no tracks are drawn.
    """
    missing = [split for split in ("test", "validation") if split not in own]
    splits: dict[str, str] = {}
    unassigned: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.split:
            splits[outcome.track] = outcome.split
        else:
            unassigned.setdefault(outcome.genre, []).append(outcome.track)
    for genre, tracks in unassigned.items():
        rest = _grouped(tracks, groups or {})
        enough = 1 + len(missing)
        if len(rest) < enough <= len(tracks):
            logger.warning(
                "%s: its %d tracks lie in too few folders to hold out whole ones; they are split one by one, "
                "and an album may be in training and in test",
                genre,
                len(tracks),
            )
            rest = _grouped(tracks, {})
        if len(rest) >= enough:
            held_out = max(1, round(0.1 * len(tracks)))
            for number, split in enumerate(missing):
                drawn, rest = _draw(rest, held_out, len(rest) - (len(missing) - number))
                splits |= {track: split for group in drawn for track in group}
        splits |= {track: "training" for group in rest for track in group}
    return splits


def _grouped(tracks: Iterable[str], groups: Mapping[str, str]) -> list[list[str]]:
    """Tracks that have a group together, and each other one alone, ordered by a hash of the name."""
    found: dict[str, list[str]] = {}
    for track in tracks:
        found.setdefault(groups.get(track) or track, []).append(track)
    order = sorted(
        found, key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    )
    return [found[name] for name in order]


def _draw(groups: list[list[str]], size: int, most: int) -> tuple[list[list[str]], list[list[str]]]:
    """Take at least one and at most `most` groups, from the last one on, of some `size` tracks together.

    Returns:
        Those, and the rest.
    """
    drawn, rest, missing = [], [], size
    for group in reversed(groups):
        if len(group) <= missing and len(drawn) < most:
            drawn.append(group)
            missing -= len(group)
        else:
            rest.append(group)
    rest.reverse()
    smallest = min(rest, key=len)
    nearer = len(smallest) - missing < missing
    if not drawn or (nearer and len(drawn) < most):
        rest.remove(smallest)
        drawn.append(smallest)
    return drawn, rest
