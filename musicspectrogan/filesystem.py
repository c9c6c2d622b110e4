"""Safe names, atomic and durable writes, and locks."""

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

# Leaves room in a 255-byte file name for a segment number or a seed, a suffix and a temporary name.
LONGEST_NAME_BYTES = 160
_UNSAFE = re.compile(rf'\s*[/\\:*?"<>|{UNPRINTABLE}]+\s*')
# A byte of a file name that is not UTF-8, as Python represents it.
_NO_UTF8 = re.compile(r"[\udc80-\udcff]")
# Suffix of a file that is being written.
_UNFINISHED = ".tmp"
# Device names on Windows, with any suffix.
_DEVICES = re.compile(r"(?i:con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)")

# Errors of flock on file systems without locks: NFS without lockd, many FUSE and cluster ones.
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL})

# Files and folders of systems, tools and this package, in lower case. Everything else belongs to
# the user, also if its name begins with a dot.
CLUTTER = frozenset(
    {
        ".ds_store", ".localized", ".fseventsd", ".spotlight-v100", ".temporaryitems", ".apdisk",
        "__macosx", ".appledouble", ".documentrevisions-v100",  # macOS
        "$recycle.bin", "recycler", "system volume information", "desktop.ini",
        "thumbs.db",  # Windows
        "lost+found", ".directory", ".thumbnails", ".gvfs",  # Linux
        "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", ".@__thumb",
        ".recycle", ".snapshot", ".snapshots", ".zfs", ".stfolder", ".stversions", ".dropbox",
        ".sync",  # storage
        ".git", ".svn", ".hg", ".ipynb_checkpoints", ".venv", "__pycache__", ".idea",
        ".vscode",  # programs
        ".lock",
    }
)  # fmt: skip
_CLUTTER = re.compile(
    r"\._.*|\.trash(es|-\d+)?|\.cache([-.].*)?|\.dropbox\.cache|\.nfs[0-9a-f]+|\.fuse_hidden[0-9a-f]+"
    r"|\.~lock\..*|\..+\.(tmp|sw[op])"
)


def is_clutter(name: str) -> bool:
    """Whether a file or folder of this name belongs to a system or a tool, not to the user."""
    name = name.lower()
    return name in CLUTTER or bool(_CLUTTER.fullmatch(name))


def safe_name(text: str) -> str:
    """Return the text as a name that is valid for one file or folder on every system."""
    name = _UNSAFE.sub("-", _NO_UTF8.sub(_from_cp1252, text)).strip(" .-")
    if _DEVICES.match(name) or is_clutter(name):
        name = f"_{name}"
    if len(name.encode("utf-8")) > LONGEST_NAME_BYTES:
        kept = name.encode("utf-8")[: LONGEST_NAME_BYTES - 9].decode("utf-8", "ignore")
        name = f"{kept}-{_tag(text)}"
    return name or f"unnamed-{_tag(text)}"


def _from_cp1252(escaped: re.Match[str]) -> str:
    """Decode such a byte: names that are not UTF-8 are most likely from old Windows discs."""
    return bytes([ord(escaped[0]) - 0xDC00]).decode("cp1252", "replace")


def distinct_name(text: str) -> str:
    """Return the safe name, with a hash if it differs from the text: each text has its own."""
    name = safe_name(text)
    return name if name == text else tagged_name(text)


def tagged_name(text: str) -> str:
    """Return the safe name with a hash of the text, for a name that is taken."""
    return f"{safe_name(text)}-{_tag(text)}"


def distinct_names(texts: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """Return a safe name for each text; names of different texts differ on every file system.

    They differ in more than case. A text that is its own safe name keeps it; another with the same
    name gets a hash. The composed and decomposed Unicode forms of a text count as one text.

    Args:
        taken: names that must not be used.
    """
    forms: dict[str, list[str]] = {}
    for text in sorted(set(texts)):
        forms.setdefault(unicodedata.normalize("NFC", text), []).append(text)
    # Prefer a form that exists: HFS+ would decompose another one.
    chosen = {(text if text in same else same[0]): same for text, same in forms.items()}
    used = {fold_case(name) for name in taken}
    names: dict[str, str] = {}
    for text in sorted(chosen, key=lambda text: (safe_name(text) != text, text)):
        name = safe_name(text)
        if fold_case(name) in used:
            name = tagged_name(text)
        used.add(fold_case(name))
        names |= dict.fromkeys(chosen[text], name)
    return names


def fold_case(name: str) -> str:
    """Return a key that is equal for names that differ only in case and Unicode form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _tag(text: str) -> str:
    return f"{crc32(text.encode('utf-8', 'backslashreplace')):08x}"


@contextmanager
def atomic_write(path: Path, *, flush: bool = True, concurrent: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the same folder, and rename it to `path` if the block succeeds.

    The temporary name is always the same, so the next writer removes what a killed one has left;
    for a file that is written once, see `remove_unfinished`.

    Args:
        flush: wait for the disk, so that the file and its name survive a power cut. Without it the
            file is still complete after a kill; for thousands of small files, which `sync_files` or
            `sync_file_system` flush together.
        concurrent: another process may write the same file: a second command, or a worker that has
            outlived its parent. The temporary name is then unique, and the caller removes what a
            kill has left.
    """
    own = f".{secrets.token_hex(4)}" if concurrent else ""
    temporary = path.with_name(f".{path.name}{own}{_UNFINISHED}")
    try:
        with name_in_errors(path, temporary):
            if not concurrent:
                # After a power cut within a rename it may be a second name of the file itself.
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


def remove_unfinished(folder: Path, names: str = "*") -> None:
    """Remove temporary files that a kill or a power cut has left; `names` is a glob pattern.

    No other process may be writing these files.
    """
    for path in folder.glob(f".{names}{_UNFINISHED}"):
        path.unlink()


@contextmanager
def name_in_errors(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Name the file in an OSError: that of a full disk comes from write(), which has no name."""
    try:
        yield
    except OSError as error:
        if str(error.filename) in ("None", str(temporary)):
            error.filename = str(path)
        raise


def write_text(path: Path, text: str, *, concurrent: bool = False) -> None:
    """Write `text` as UTF-8, completely or not at all. For `concurrent` see `atomic_write`."""
    with atomic_write(path, concurrent=concurrent) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sync_file(path: Path) -> None:
    """Wait until the contents of a file are on the disk; its name may not be."""
    with open(path, "r+b") as file:  # Windows flushes only what is open for writing
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk: files created, renamed or removed there.

    Syncing a file does not do that (Pillai et al., OSDI 2014). Windows neither has nor needs it.
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
    """Wait until everything written to the file system of a folder is on the disk.

    For thousands of small files this takes a thirtieth of the time of syncing each (ext4).

    Returns:
        False if the system has no syncfs, which only Linux has. Sync each file then.
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
    """Call a function with the descriptor of a folder; return False if that is not supported."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            function(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        # Some network file systems refuse it, and a folder may be writable but not readable.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES):
            raise
        return False
    return True


def make_folder(path: Path) -> None:
    """Create a folder with its parents, if missing, so that it survives a power cut.

    Raises:
        UserError: it cannot be created.
    """
    try:
        missing = [folder for folder in path.parents if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for folder in (path, *missing):
            sync_folder(folder.parent)
    except OSError as error:
        raise UserError(f"{path}: cannot be made a folder: {error.strerror}") from None


def visible_folders(folder: Path) -> list[Path]:
    """Return the subfolders, except those of systems and tools, sorted by name."""
    return sorted(p for p in folder.iterdir() if not is_clutter(p.name) and p.is_dir())


def expand_home(path: Path) -> Path:
    """Expand a leading `~`, which shells leave as it is in `--input=~/music`."""
    try:
        return path.expanduser()
    except RuntimeError:  # no such user
        return path


def allocate_space(path: Path) -> None:
    """Allocate disk space for a file that will be written through a memory map.

    Writing to a map of a sparse file kills the process if the disk is full; this raises OSError.
    """
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


@contextmanager
def file_lock(lock_file: Path, patience: float = -1) -> Iterator[bool]:
    """Wait for a lock and hold it. The system releases it if the process dies.

    Args:
        patience: seconds to wait; -1 for no limit.

    Yields:
        False if the file system has no locks. Then nobody waits, and `atomic_write` needs
            `concurrent`.

    Raises:
        filelock.Timeout: another process holds it.
    """
    # A soft lock, a file with the holder's name, would outlive a process killed elsewhere.
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
def folder_lock(folder: Path, doing: str) -> Iterator[None]:
    """Hold the lock of a folder. The system releases it if the process dies.

    Log a warning if the file system has no locks.

    Raises:
        UserError: another process holds it, or the folder has been moved or removed meanwhile.
    """
    with ExitStack() as stack:
        try:
            is_held = stack.enter_context(file_lock(folder / ".lock", patience=0))
        except filelock.Timeout:
            raise UserError(
                f"{folder}: another run is {doing} there; wait for it, or name another folder"
            ) from None
        if not is_held:
            logger.warning(
                "%s: this file system has no locks, so nothing prevents a second run from %s there "
                "at the same time: start only one",
                folder,
                doing,
            )
        try:
            yield
        except OSError:
            if folder.is_dir():
                raise
            raise UserError(
                f"{folder}: moved or removed while a run was {doing} there; its finished files are "
                "complete: move it back, and repeat the command"
            ) from None


def public_name(path: Path) -> str:
    """Return a path for files to share: as it was typed, or only the end of an absolute one."""
    if path.name in ("", ".."):  # such as the working directory
        path = path.resolve()
    if not path.is_absolute():
        return str(path)
    # The name of a checkpoint means little without its run.
    return str(Path(*path.parts[-3:])) if path.parent.name == "checkpoints" else path.name


def public_names(paths: Sequence[Path]) -> list[str]:
    """Return the public name of each path, numbered if several are the same."""
    names = [public_name(path) for path in paths]
    repeats = [names[:k].count(name) for k, name in enumerate(names)]
    return [
        f"{name} ({again + 1})" if again else name
        for name, again in zip(names, repeats, strict=True)
    ]
