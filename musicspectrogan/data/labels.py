"""Classes from a table beside the audio, as in AudioFolder of Hugging Face's datasets.

The table is metadata.csv or metadata.jsonl in the folder, or in each of its split folders. It has a
column `file_name` with the path from there, and one with the class.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from musicspectrogan.audio.files import is_audio
from musicspectrogan.counts import format_count
from musicspectrogan.data import archives
from musicspectrogan.errors import UserError, printable
from musicspectrogan.filesystem import is_clutter

logger = logging.getLogger(__name__)

TABLE_NAMES = ("metadata.csv", "metadata.jsonl")
FILE_COLUMN, SPLIT_COLUMN = "file_name", "split"


@dataclass(frozen=True)
class Label:
    """What a table says about a file."""

    name: str
    """The class; empty if it is not stated."""
    split: str
    """Empty if it is not stated."""
    table: str
    """The name of the table."""


def read_labels(root: Path) -> dict[Path, Label]:
    """Return the label of each audio file that is in a table; empty if no table has classes.

    Of several labels of a file the last counts.

    Raises:
        UserError: a table is damaged.
    """
    labels: dict[Path, Label] = {}
    changed: list[Path] = []
    try:
        folders = [e.name for e in archives.list_folder(root) if e.is_folder]
    except OSError:  # reported by the search for audio
        return {}
    for folder in [root, *(root / name for name in folders if not is_clutter(name))]:
        for name in TABLE_NAMES:
            if archives.is_file(folder / name):
                for path, label in _read_table(folder / name):
                    if path in labels and labels[path].name != label.name:
                        changed.append(path)
                    labels[path] = label
    if changed:
        path = changed[0]
        logger.warning(
            "Several classes for %s, of which the last counts: %s (%s) is %s",
            format_count(len(set(changed)), "file"),
            printable(path.name),
            labels[path].table,
            printable(labels[path].name or "without a class"),
        )
    return labels


def _read_table(path: Path) -> Iterator[tuple[Path, Label]]:
    """Yield the path and the label of each audio file in a table.

    Raises:
        UserError: it is damaged.
    """
    try:
        # Spreadsheets write a byte order mark.
        with (
            archives.local_file(path) as local,
            open(local, encoding="utf-8-sig", newline="") as file,
        ):
            for number, row in enumerate(_rows(file, path.suffix), 1):
                label = next((c for c in archives.LABEL_COLUMNS if c in row), "")
                if FILE_COLUMN not in row or not label:
                    logger.info("%s: no columns %s and genre or label", path, FILE_COLUMN)
                    break
                value, split = row[label], row.get(SPLIT_COLUMN)
                name = posixpath.normpath(str(row[FILE_COLUMN]).replace("\\", "/"))
                if not is_audio(posixpath.basename(name)):
                    continue
                if not _is_path(name):
                    raise UserError(
                        f"{path}: no file can have the name in row {number}, {name!a}; correct it"
                    )
                yield (
                    path.parent / name,
                    Label(
                        "" if value is None else str(value).strip(),
                        "" if split is None else str(split).strip(),
                        path.name,
                    ),
                )
    except (OSError, ValueError, csv.Error, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as a table: {printable(str(error))}") from None


def _is_path(name: str) -> bool:
    """Return False for what JSON may hold and no file system: half a character, and zeros."""
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


def _rows(file: TextIO, suffix: str) -> Iterator[dict[str, Any]]:
    """Yield the rows by column name in lower case."""
    if suffix == ".csv":
        rows: Iterator[dict[str, Any]] = iter(csv.DictReader(file))
    else:
        rows = (json.loads(line) for line in file if line.strip())
    for row in rows:
        yield {str(name).strip().casefold(): value for name, value in row.items()}
