"""Parquet files of Hugging Face datasets, as split folders of class folders."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from musicspectrogan.audio.files import AUDIO_SUFFIXES
from musicspectrogan.counts import format_count
from musicspectrogan.data.archives.base import (
    MISSING,
    Archive,
    ArchiveError,
    Member,
    damaged,
    reading,
)
from musicspectrogan.data.splits import EVALUATION_FOLDERS, SPLIT_FOLDERS
from musicspectrogan.errors import UserError, printable
from musicspectrogan.filesystem import distinct_names, is_clutter, safe_name

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

logger = logging.getLogger(__name__)

# Columns with the class of a row; the first that there is.
LABEL_COLUMNS = ("genre", "label", "genre_top", "class", "style", "category")

# The name of all files below a folder together.
ALL_FILES = "*.parquet"

# Read at a time. A page of the file is in memory as a whole; most files have one page a row group.
BUFFER_BYTES = 1 << 20
ROWS_LISTED = 1024

# What pyarrow raises for a damaged file, besides OSError.
_DAMAGED = (ValueError, LookupError, TypeError, NotImplementedError, MemoryError)

_SPLIT = re.compile(rf"(?:^|[-_.])({'|'.join([*SPLIT_FOLDERS, *EVALUATION_FOLDERS])})(?=[-_.]|$)")
_MAGIC = {
    b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg", b"FORM": ".aiff", b".snd": ".au",
}  # fmt: skip


class _Row(NamedTuple):
    """Where the bytes of a member are."""

    file: Path
    group: int
    """The row group in the file."""
    number: int
    """The row in the group."""


class _Columns(NamedTuple):
    """Which columns of a file have what."""

    audio: str
    label: str = ""
    """Empty if there is none."""
    label_names: Sequence[object] = ()
    """The names of a label that is a number; empty if it is its own name."""


class ParquetArchive(Archive):
    """A parquet file, or all those below a folder, with the bytes of one sound in each row.

    Args:
        path: of the file, or FOLDER/*.parquet.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._rows: dict[str, _Row] = {}
        self._reader: Iterator[pyarrow.RecordBatch] = iter(())
        self._next: _Row | None = None

    def list_members(self) -> Iterator[Member]:
        """Yield a member `SPLIT/LABEL/FILE` for each row.

        Without SPLIT if not all files are named after one, or none after that for training. Size
        and time are those of the parquet file. A row without a label is in no class folder.
        """
        files = find_parquet(self.path.parent) if self.path.name == ALL_FILES else [self.path]
        found = [
            (split, label, name, row)
            for file, split in _splits_of(files).items()
            for label, name, row in self._list_file(file)
        ]
        classes = distinct_names({label for _, label, *_ in found if label}) | {"": ""}
        renamed: list[str] = []
        for split, label, name, row in found:
            folders = [part for part in (split, classes[label]) if part]
            full = wanted = "/".join([*folders, name])
            while full in self._rows:
                stem, dot, suffix = full.rpartition(".")
                full = f"{stem}-{len(self._rows)}{dot}{suffix}"
            if full != wanted:
                renamed.append(f"{wanted} becomes {full}")
            self._rows[full] = row
            status = row.file.stat()
            yield Member(full, status.st_size, status.st_mtime_ns)
        if renamed:  # for information: workers, which list it again, do not show that
            logger.info(
                "%s: renamed %s with a name that others have; %s",
                self.path,
                format_count(len(renamed), "row"),
                printable(renamed[0]),
            )

    def _list_file(self, file: Path) -> Iterator[tuple[str, str, _Row]]:
        """Yield the label, the name and the place of each row."""
        parquet = _open(file)
        columns = _find_columns(parquet.schema_arrow, file)
        listed = [f"{columns.audio}.path", *filter(None, [columns.label])]
        suffix = ""
        for group in range(parquet.num_row_groups):
            number = 0
            try:
                for batch in parquet.iter_batches(ROWS_LISTED, [group], listed):
                    for values in batch.to_pylist():
                        row = _Row(file, group, number)
                        number += 1
                        path = (values[columns.audio] or {}).get("path") or ""
                        name = path.replace("\\", "/").rpartition("/")[2]
                        name = safe_name(name) if name else f"{file.stem}-{group:04d}-{number:05d}"
                        if Path(name).suffix.lower() not in AUDIO_SUFFIXES:
                            suffix = suffix or self._guess_suffix(row)
                            name += suffix or ".wav"  # any that counts as audio
                        yield self._label_of(values, columns), name, row
            except (OSError, *_DAMAGED) as error:
                raise damaged(file, error) from None

    def _label_of(self, values: dict[str, Any], columns: _Columns) -> str:
        """Return the class of a row; the name of the dataset if there is no column of classes."""
        if not columns.label:
            return self.path.parent.name if self.path.name == ALL_FILES else self.path.stem
        value = values[columns.label]
        if isinstance(value, int) and columns.label_names:
            known = 0 <= value < len(columns.label_names)
            value = columns.label_names[value] if known else None
        return "" if value is None else str(value)

    def _guess_suffix(self, row: _Row) -> str:
        """Return the suffix for the format of a row, for names without one; empty if unknown."""
        try:
            start = bytes(self._read(row)[:12])
        except ArchiveError:  # told when it is converted
            return ""
        if not start:
            return ""
        return ".m4a" if start[4:8] == b"ftyp" else _MAGIC.get(start[:4], ".mp3")

    def copy(self, name: str, target: BinaryIO) -> None:
        """Write the contents of a member to an open file."""
        if name not in self.members:  # which also finds the rows
            raise ArchiveError(MISSING)
        target.write(self._read(self._rows[name]))

    def _read(self, row: _Row) -> memoryview:
        """Return the bytes in a row; fast for rows that follow each other.

        Raises:
            ArchiveError: there are none, or they cannot be read.
        """
        following = self._next
        self._next = None
        with reading(*_DAMAGED, StopIteration):
            if not following or row[:2] != following[:2] or row.number < following.number:
                self._reader = iter(())  # not two row groups in memory
                parquet = _open(row.file)
                column = f"{_find_columns(parquet.schema_arrow, row.file).audio}.bytes"
                self._reader = parquet.iter_batches(1, [row.group], [column])
                following = row._replace(number=0)
            for _ in range(row.number - following.number):
                next(self._reader)
            value = next(self._reader).column(0).field("bytes")[0]
        self._next = row._replace(number=row.number + 1)
        if not value.is_valid:
            raise ArchiveError(f"{row.file.name} has no bytes of it, only its name")
        return memoryview(value.as_buffer())


def _open(file: Path) -> pyarrow.parquet.ParquetFile:
    try:
        import pyarrow.parquet  # an extra, and slow to import
    except ImportError:
        raise UserError(
            f"--input {file}: parquet files need the package pyarrow: pip install pyarrow"
        ) from None
    try:
        return pyarrow.parquet.ParquetFile(file, buffer_size=BUFFER_BYTES, pre_buffer=False)
    except (OSError, *_DAMAGED) as error:
        raise damaged(file, error) from None


def find_parquet(folder: Path) -> list[Path]:
    """Return the parquet files in a folder and its sub-folders, sorted."""
    found = [*folder.glob("*.parquet"), *folder.glob("*/*.parquet")]
    return sorted(
        path
        for path in found
        if not any(is_clutter(part) for part in path.relative_to(folder).parts) and path.is_file()
    )


def _splits_of(files: Sequence[Path]) -> dict[Path, str]:
    """Return the name of the split of each file; all empty if they are not split."""
    splits = {file: _split_of(file) for file in files}
    unnamed = [file.name for file, split in splits.items() if not split]
    has_training = "training" in map(SPLIT_FOLDERS.get, splits.values())
    if has_training and not unnamed:
        return splits
    if len(unnamed) < len(files):
        why = f"{unnamed[0]} is not named after one" if unnamed else "no file is one of training"
        logger.info("%s: splits are drawn anew: %s", files[0].parent, printable(why))
    return dict.fromkeys(files, "")


def _split_of(file: Path) -> str:
    """Return the name of the split in that of a file, or its folder's; empty if there is none."""
    match = _SPLIT.search(file.stem.casefold()) or _SPLIT.fullmatch(file.parent.name.casefold())
    return match[1] if match else ""


def _find_columns(schema: pyarrow.Schema, file: Path) -> _Columns:
    """Find the columns of the sound and its class.

    Raises:
        UserError: there is no sound.
    """
    import pyarrow

    sounds = [
        field.name
        for field in schema
        if pyarrow.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
    ]
    features = _features(schema)
    sounds = [name for name in sounds if features.get(name, {}).get("_type", "Audio") == "Audio"]
    if not sounds:
        raise UserError(
            f"--input {file}: no column with the bytes of sounds; it has {', '.join(schema.names)}"
        )
    for label in LABEL_COLUMNS:
        if label in schema.names:
            kind = schema.field(label).type
            if not pyarrow.types.is_nested(kind):
                names = features.get(label, {}).get("names")
                return _Columns(sounds[0], label, names if isinstance(names, list) else ())
    return _Columns(sounds[0])


def _features(schema: pyarrow.Schema) -> dict[str, dict[str, Any]]:
    """Return what Hugging Face's library wrote about each column; empty if it is not by it."""
    try:
        info = json.loads((schema.metadata or {})[b"huggingface"])
        return {k: v for k, v in info["info"]["features"].items() if isinstance(v, dict)}
    except (LookupError, ValueError, TypeError, AttributeError):
        return {}
