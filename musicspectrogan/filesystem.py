"""Folders, files that are written whole or not at all, and one writer at a time."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import re
import secrets
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import filelock

from musicspectrogan.errors import UNPRINTABLE, UserError

logger = logging.getLogger(__name__)

# Room in a 255-byte file name for a segment number or a seed, the suffix and a temporary name around it.
LONGEST_NAME_BYTES = 160
_UNSAFE = re.compile(rf'\s*[/\\:*?"<>|{UNPRINTABLE}]+\s*')
# A byte that is no UTF-8, as Python tells of it.
_NO_UTF8 = re.compile(r"[\udc80-\udcff]")
# The end of the name of a file that is being written.
_UNFINISHED = ".tmp"
# What Windows takes for devices, whatever suffix follows.
_DEVICES = re.compile(r"(?i:con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)")

# What flock says where a file system has no locks: NFS without lockd, many FUSE and cluster file systems.
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL})

# What systems, tools and this package itself leave in folders, in lower case, whatever is in it. All else is
# the user's, also where its name begins with a dot.
CLUTTER = frozenset(
    {
        ".ds_store", ".localized", ".fseventsd", ".spotlight-v100", ".temporaryitems", ".apdisk", "__macosx",
        ".appledouble", ".documentrevisions-v100",  # macOS
        "$recycle.bin", "recycler", "system volume information", "desktop.ini", "thumbs.db",  # Windows
        "lost+found", ".directory", ".thumbnails", ".gvfs",  # Linux
        "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", ".@__thumb", ".recycle",
        ".snapshot", ".snapshots", ".zfs", ".stfolder", ".stversions", ".dropbox", ".sync",  # storage
        ".git", ".svn", ".hg", ".ipynb_checkpoints", ".venv", "__pycache__", ".idea", ".vscode",  # programs
        ".lock",
    }
)  # fmt: skip
_CLUTTER = re.compile(
    r"\._.*|\.trash(es|-\d+)?|\.cache([-.].*)?|\.dropbox\.cache|\.nfs[0-9a-f]+|\.fuse_hidden[0-9a-f]+"
    r"|\.~lock\..*|\..+\.(tmp|sw[op])"
)


def is_clutter(name: str) -> bool:
    """Whether a file or folder of this name is of a system or a tool, and no music or image of the user's."""
    name = name.lower()
    return name in CLUTTER or bool(_CLUTTER.fullmatch(name))


def safe_name(text: str) -> str:
    """A name that is one folder or file name on every system, as near to `text` as that allows."""
    name = _UNSAFE.sub("-", _NO_UTF8.sub(_as_windows_wrote_it, text)).strip(" .-")
    if _DEVICES.match(name) or is_clutter(name):
        name = f"_{name}"
    if len(name.encode("utf-8")) > LONGEST_NAME_BYTES:
        kept = name.encode("utf-8")[: LONGEST_NAME_BYTES - 9].decode("utf-8", "ignore")
        name = f"{kept}-{_tag(text)}"
    return name or f"unnamed-{_tag(text)}"


def _as_windows_wrote_it(escaped: re.Match) -> str:
    """The letter that such a byte most likely is: names that are no UTF-8 are from old Windows discs."""
    return bytes([ord(escaped[0]) - 0xDC00]).decode("cp1252", "replace")


def distinct_name(text: str) -> str:
    """The same, and where that is not `text` itself, another name for every text."""
    name = safe_name(text)
    return name if name == text else tagged_name(text)


def tagged_name(text: str) -> str:
    """A name with a hash of the text, for where its safe name is another text's."""
    return f"{safe_name(text)}-{_tag(text)}"


def distinct_names(texts: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """A safe name for each text; different texts have names that differ on every file system.

    So they differ in more than case. A text that is its own safe name keeps it; another that would get the
    same has a hash at its end. Two Unicode forms of a text, composed and decomposed, are one text.

    Args:
        taken: names that are not to be given.
    """
    forms: dict[str, list[str]] = {}
    for text in sorted(set(texts)):
        forms.setdefault(unicodedata.normalize("NFC", text), []).append(text)
    # The form that is there: HFS+ would decompose another one.
    chosen = {(text if text in same else same[0]): same for text, same in forms.items()}
    used, names = {caseless(name) for name in taken}, {}
    for text in sorted(chosen, key=lambda text: (safe_name(text) != text, text)):
        name = safe_name(text)
        if caseless(name) in used:
            name = tagged_name(text)
        used.add(caseless(name))
        names |= dict.fromkeys(chosen[text], name)
    return names


def caseless(name: str) -> str:
    """What is equal for names that are one file's where case and Unicode's forms are ignored."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


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
        rivals: another process may be writing the same file, as a worker does whose owner was killed
            or lost sight of it, or a second command. The temporary name is then this writer's alone, and
            what a kill leaves of it is for the caller to clear.
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


def write_text(path: Path, text: str, *, rivals: bool = False) -> None:
    """Write `text` as UTF-8, whole or not at all. For `rivals` see `whole_file`."""
    with whole_file(path, rivals=rivals) as temporary:
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
    """Sub-folders without those of systems and tools, sorted by name."""
    return sorted(p for p in folder.iterdir() if not is_clutter(p.name) and p.is_dir())


def expanded(path: Path) -> Path:
    """The path with the home directory in place of a leading `~`, which shells leave in `--input=~/music`."""
    try:
        return path.expanduser()
    except RuntimeError:  # no such user
        return path


def reserve(path: Path) -> None:
    """Claim room on the disk for all of a file that is about to be filled through a memory map.

    A map of a file with holes ends the process when the disk is full; this raises OSError instead.
    """
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


@contextmanager
def one_at_a_time(lock_file: Path, patience: float = -1) -> Iterator[bool]:
    """Wait for the lock and hold it; the system releases it by itself when the process dies.

    Args:
        patience: seconds to wait; -1 for as long as it takes.

    Yields:
        False where the file system has no locks: nobody waits, and `whole_file` wants `rivals`.

    Raises:
        filelock.Timeout: another process holds it.
    """
    # Its fallback, a file that says who holds the lock, outlives a process that is killed on another machine.
    lock = filelock.FileLock(lock_file, timeout=patience, fallback_to_soft=False)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def sole_writer(folder: Path, doing: str) -> Iterator[None]:
    """Hold the folder's lock; the system releases it by itself when the process dies.

    Where the file system has no locks, there is a warning instead.

    Raises:
        UserError: another process holds it, or the folder went away meanwhile.
    """
    with ExitStack() as stack:
        try:
            is_held = stack.enter_context(one_at_a_time(folder / ".lock", patience=0))
        except filelock.Timeout:
            raise UserError(
                f"{folder}: another run is {doing} there; wait for it, or name another folder"
            ) from None
        if not is_held:
            logger.warning(
                "%s: this file system has no locks, so a second run is not kept from %s there at the same "
                "time: start one alone",
                folder,
                doing,
            )
        try:
            yield
        except OSError:
            if folder.is_dir():
                raise
            raise UserError(
                f"{folder}: moved or removed while a run was {doing} there; what it had finished is whole: "
                "put it back and go on"
            ) from None


def public_name(path: Path) -> str:
    """A path as files that may be given away name it: as it was typed, of an absolute one only the end."""
    if not path.is_absolute():
        return str(path)
    # A checkpoint says little without its run.
    return str(Path(*path.parts[-3:])) if path.parent.name == "checkpoints" else path.name


def public_names(paths: Sequence[Path]) -> list[str]:
    """The public name of each path; what is named alike is numbered."""
    names = [public_name(path) for path in paths]
    repeats = [names[:k].count(name) for k, name in enumerate(names)]
    return [
        f"{name} ({again + 1})" if again else name
        for name, again in zip(names, repeats, strict=True)
    ]
