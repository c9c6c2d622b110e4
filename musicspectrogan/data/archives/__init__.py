"""Paths that lead into archives: `music.zip/rock/a.mp3` is a file in the archive music.zip.

The functions here take such paths as well as ordinary ones, so music can be converted without
unpacking. A folder of parquet files is one archive, `FOLDER/*.parquet`. Nothing is unpacked under
the name that it has in an archive.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from musicspectrogan.data.archives.base import Archive, ArchiveError, Entry
from musicspectrogan.data.archives.parquet_files import (
    ALL_FILES,
    LABEL_COLUMNS,
    ParquetArchive,
    find_parquet,
)
from musicspectrogan.data.archives.tar_files import TarArchive
from musicspectrogan.data.archives.zip_files import ZipArchive
from musicspectrogan.filesystem import name_in_errors

__all__ = [
    "ARCHIVE_SUFFIXES", "LABEL_COLUMNS", "ArchiveError", "Entry", "all_parquet", "archive_stem",
    "file_status", "in_archive", "is_archive", "is_file", "is_folder", "list_folder", "local_file",
    "local_files", "position",
]  # fmt: skip

_TYPES: dict[str, type[Archive]] = {
    ".zip": ZipArchive,
    **dict.fromkeys((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz"), TarArchive),
    ".parquet": ParquetArchive,
}
ARCHIVE_SUFFIXES = tuple(_TYPES)
_ENDINGS = "|".join(re.escape(suffix[1:]) for suffix in ARCHIVE_SUFFIXES)
_SUFFIX = re.compile(rf"\.({_ENDINGS})(?={re.escape(os.sep)}|$)", re.IGNORECASE)


def is_archive(path: Path) -> bool:
    """Return True for the path of an archive itself, not for one that leads into it."""
    found = _find(path)
    return found is not None and not found[1]


def in_archive(path: Path) -> bool:
    """Return True for a path that leads into an archive."""
    return _find(path) is not None


def archive_stem(path: Path) -> str:
    """Return the name of an archive or a folder without the suffix of archives."""
    if path.name == ALL_FILES:
        return path.parent.resolve().name
    return _SUFFIX.sub("", path.name) if is_archive(path) else path.resolve().name


def all_parquet(folder: Path) -> Path | None:
    """Return the path of all parquet files below a folder together; None if there is none."""
    return folder / ALL_FILES if find_parquet(folder) else None


def _find(path: Path) -> tuple[Archive, str] | None:
    """Return the archive that a path leads into, and the rest of the path; None if into none."""
    text = str(path)
    for match in _SUFFIX.finditer(text):
        if version := _version(text[: match.end()]):
            archive = _open(text[: match.end()], match[0].lower(), version)
            return archive, text[match.end() + 1 :].replace(os.sep, "/")
    return None


def _version(path: str) -> tuple[int, ...] | None:
    """Return numbers that change if an archive is replaced; None if there is none."""
    file = Path(path)
    is_all = file.name == ALL_FILES
    try:
        status = (file.parent if is_all else file).stat()
    except OSError:
        return None
    is_there = stat.S_ISDIR(status.st_mode) if is_all else stat.S_ISREG(status.st_mode)
    version = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
    return version if is_there else None


@lru_cache(maxsize=4)
def _open(path: str, suffix: str, version: tuple[int, ...]) -> Archive:
    """Return the archive, which stays open; another one if the file was replaced."""
    return _TYPES[suffix](Path(path))


def list_folder(folder: Path) -> list[Entry]:
    """Return what is in a folder, sorted by name.

    Raises:
        OSError: it cannot be read.
        UserError: the archive that it is in is damaged.
    """
    if found := _find(folder):
        archive, name = found
        return archive.folders.get(name, [])
    entries = []
    with os.scandir(folder) as scanned:
        for entry in scanned:
            try:
                entries.append(Entry(entry.name, entry.is_dir(), entry.is_symlink()))
            except OSError as error:
                entries.append(Entry(entry.name, problem=f"cannot be read: {error.strerror}"))
    return sorted(entries, key=lambda entry: entry.name)


def is_folder(path: Path) -> bool:
    """Return True for a folder and for an archive; False if the system denies access."""
    try:
        if found := _find(path):
            return found[1] in found[0].folders
        return path.is_dir()
    except OSError:
        return False


def is_file(path: Path) -> bool:
    """Return True for a file that is not an archive; False if the system denies access."""
    try:
        if found := _find(path):
            return found[1] in found[0].members
        return path.is_file()
    except OSError:
        return False


def file_status(path: Path) -> tuple[int | None, int | None]:
    """Return the size in bytes of a file and its modification time in ns; None if unknown."""
    try:
        if found := _find(path):
            member = found[0].members.get(found[1])
            return (member.size, member.modified_ns) if member else (None, None)
        status = path.stat()
    except OSError:
        return None, None
    return status.st_size, status.st_mtime_ns


def position(path: Path) -> int:
    """Return the place of a file in the order in which its archive is fast to read."""
    found = _find(path)
    return found[0].positions.get(found[1], 0) if found else 0


@contextmanager
def local_files(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield the paths, but of copies for files in a sequential archive: read those in any order.

    A file that cannot be copied keeps its path.
    """
    files = list(paths)
    with ExitStack() as stack:
        for number in sorted(range(len(paths)), key=lambda number: position(paths[number])):
            found = _find(paths[number])
            if found and found[0].is_sequential:
                with suppress(ArchiveError):
                    files[number] = stack.enter_context(local_file(paths[number]))
        yield files


@contextmanager
def local_file(path: Path, scratch: Path | None = None) -> Iterator[Path]:
    """Yield the path of a file for programs that read files only.

    A file in an archive is copied to a temporary one with the same suffix, which is removed after
    the block.

    Args:
        scratch: folder for it; None for the system's.

    Raises:
        ArchiveError: it cannot be read from the archive.
        OSError: the disk of temporary files is full.
    """
    found = _find(path)
    if found is None:
        yield path
        return
    archive, name = found
    descriptor, temporary = tempfile.mkstemp(path.suffix, "musicspectrogan-", scratch)
    try:
        with name_in_errors(Path(temporary)), archive.lock, open(descriptor, "wb") as file:
            archive.copy(name, file)
        yield Path(temporary)
    finally:
        Path(temporary).unlink(missing_ok=True)
