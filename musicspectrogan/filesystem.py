"""Folders, files that are written whole or not at all, and one writer at a time."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from musicspectrogan.errors import UserError


@contextmanager
def whole_file(path: Path, *, flush: bool = True, rivals: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes that name only when the block succeeds.

    The temporary name is the same every time, so a killed writer leaves nothing that the next one
    does not clear.

    Args:
        flush: wait for the disk. Without it the file is still whole after a kill, but not after a power
            cut; for small files by the thousand.
        rivals: another process may be writing the same contents, as a worker does whose owner was killed
            or lost sight of it. The temporary name is then this writer's alone, and what a kill leaves
            of it is for the caller to clear.
    """
    own = f".{secrets.token_hex(4)}" if rivals else ""
    temporary = path.with_name(f".{path.name}{own}.tmp")
    try:
        with named_in_errors(path, temporary):
            yield temporary
            if flush:
                with open(temporary, "r+b") as written:  # Windows flushes only what is open for writing
                    os.fsync(written.fileno())
            os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextmanager
def named_in_errors(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Let an OSError name the file that is written: that of a full disk comes from write(): unnamed."""
    try:
        yield
    except OSError as error:
        if str(error.filename) in ("None", str(temporary)):
            error.filename = str(path)
        raise


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def make_folder(path: Path) -> None:
    """Create a folder with its parents; it may be there already.

    Raises:
        UserError: that cannot be done.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be made a folder: {error.strerror}") from None


def visible_folders(folder: Path) -> list[Path]:
    """Sub-folders without the hidden ones, sorted by name."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def reserve(path: Path) -> None:
    """Claim room on the disk for all of a file that is about to be filled through a memory map.

    A map of a file with holes ends the process when the disk is full; this raises OSError instead.
    """
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


@contextmanager
def one_at_a_time(lock_file: Path) -> Iterator[None]:
    """Wait for the lock and hold it; the system releases it by itself when the process dies."""
    with filelock.FileLock(lock_file):
        yield


@contextmanager
def sole_writer(folder: Path, doing: str) -> Iterator[None]:
    """Hold the folder's lock; the system releases it by itself when the process dies.

    Raises:
        UserError: another process holds it, or the folder went away meanwhile.
    """
    lock = filelock.FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UserError(
            f"{folder}: another run is {doing} there; wait for it, or name another folder"
        ) from None
    try:
        yield
    except OSError:
        if folder.is_dir():
            raise
        raise UserError(
            f"{folder}: moved or removed while a run was {doing} there; what it had finished is whole: put "
            "it back and go on"
        ) from None
    finally:
        lock.release()
