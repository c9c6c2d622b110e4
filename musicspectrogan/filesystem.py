"""Folders, files that are written whole or not at all, and one writer at a time."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import filelock

from musicspectrogan.errors import UNPRINTABLE, UserError

# Room in a 255-byte file name for a segment number or a seed, the suffix and a temporary name around it.
LONGEST_NAME_BYTES = 160
_UNSAFE = re.compile(rf'\s*[/\\:*?"<>|{UNPRINTABLE}]+\s*')
# The end of the name of a file that is being written.
_UNFINISHED = ".tmp"
# What Windows takes for devices, whatever suffix follows.
_DEVICES = re.compile(r"(?i:con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)")


def safe_name(text: str) -> str:
    """A name that is one folder or file name on every system, as near to `text` as that allows."""
    name = _UNSAFE.sub("-", text.encode("utf-8", "replace").decode("utf-8")).strip(" .-")
    if _DEVICES.match(name):
        name = f"_{name}"
    if len(name.encode("utf-8")) > LONGEST_NAME_BYTES:
        kept = name.encode("utf-8")[: LONGEST_NAME_BYTES - 9].decode("utf-8", "ignore")
        name = f"{kept}-{_tag(text)}"
    return name or f"unnamed-{_tag(text)}"


def distinct_name(text: str) -> str:
    """The same, and where that is not `text` itself, another name for every text."""
    name = safe_name(text)
    return name if name == text else f"{name}-{_tag(text)}"


def _tag(text: str) -> str:
    return f"{crc32(text.encode('utf-8', 'backslashreplace')):08x}"


@contextmanager
def whole_file(path: Path, *, flush: bool = True, rivals: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes that name only when the block succeeds.

    The temporary name is the same every time, so a killed writer leaves nothing that the next one
    does not clear; for a file that is written once, see `clear_unfinished`.

    Args:
        flush: wait for the disk, so that both the file and its name outlast a power cut from then on. Without
            it the file is still whole after a kill; for small files by the thousand, which `sync_files` or
            `sync_file_system` make safe together.
        rivals: another process may be writing the same contents, as a worker does whose owner was killed
            or lost sight of it. The temporary name is then this writer's alone, and what a kill leaves
            of it is for the caller to clear.
    """
    own = f".{secrets.token_hex(4)}" if rivals else ""
    temporary = path.with_name(f".{path.name}{own}{_UNFINISHED}")
    try:
        with named_in_errors(path, temporary):
            if not rivals:
                # What is left may be the file itself under two names, when a power cut came within a rename.
                temporary.unlink(missing_ok=True)
            yield temporary
            if flush:
                sync_file(temporary)
            os.replace(temporary, path)
            if flush:
                sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def clear_unfinished(folder: Path, names: str = "*") -> None:
    """Remove what a kill or a power cut left of files that were being written, by a pattern of their names.

    Nobody else may be writing them now.
    """
    for path in folder.glob(f".{names}{_UNFINISHED}"):
        path.unlink()


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


def sync_file(path: Path) -> None:
    """Wait until what a file holds is on the disk; its name may not be."""
    with open(path, "r+b") as file:  # Windows flushes only what is open for writing
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk: what was created, renamed or removed there.

    Syncing a file does not do that (Pillai et al., OSDI 2014). Windows has no such call and needs none.
    """
    if os.name == "posix":
        _sync_by(os.fsync, folder)


def sync_files(files: Iterable[Path]) -> None:
    """Wait until these files and their names are on the disk."""
    files = list(files)
    if files and not sync_file_system(files[0].parent):
        for file in files:
            sync_file(file)
        for folder in {file.parent for file in files}:
            sync_folder(folder)


def sync_file_system(folder: Path) -> bool:
    """Wait until all that this machine wrote to the file system of a folder is on the disk.

    For thousands of small files this takes a thirtieth of the time that syncing each of them takes (ext4).

    Returns:
        False where the system has no such call, which is Linux's syncfs. Sync each file then.
    """
    function = _syncfs_of_libc()
    if function is None:
        return False

    def syncfs(descriptor: int) -> None:
        if function(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(folder))

    return _sync_by(syncfs, folder)


@cache
def _syncfs_of_libc() -> Any:
    if sys.platform == "linux":
        with suppress(OSError):  # a Python without dynamic libraries
            return getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    return None


def _sync_by(function: Callable[[int], None], folder: Path) -> bool:
    """Call it with a folder's descriptor; False where that cannot be done here."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            function(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        # Some network file systems refuse it, and there are folders that may be written to but not read.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES):
            raise
        return False
    return True


def make_folder(path: Path) -> None:
    """Create a folder with its parents; it may be there already. It outlasts a power cut from then on.

    Raises:
        UserError: that cannot be done.
    """
    try:
        missing = [folder for folder in path.parents if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for folder in (path, *missing):
            sync_folder(folder.parent)
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


def public_name(path: Path) -> str:
    """A path as files that may be given away name it: as it was typed, of an absolute one only the end."""
    if not path.is_absolute():
        return str(path)
    # A checkpoint says little without its run.
    return str(Path(*path.parts[-3:])) if path.parent.name == "checkpoints" else path.name


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """The public name of each path; what is named alike is numbered."""
    names = [public_name(path) for path in paths]
    repeats = [names[:k].count(name) for k, name in enumerate(names)]
    return [f"{name} ({again + 1})" if again else name for name, again in zip(names, repeats, strict=True)]
