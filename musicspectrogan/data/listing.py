"""What is in an input folder or archive: its sub-folders and audio files."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from musicspectrogan.audio.files import AUDIO_SUFFIXES, is_audio
from musicspectrogan.data import archives
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import is_clutter

logger = logging.getLogger(__name__)

# Audio formats that cannot be read; the report lists such files.
UNREAD_SUFFIXES = frozenset(
    """.mid .midi .mod .xm .it .m4b .m4p .caf .w64 .rf64 .tta .mpc .dsf .dff .spx .amr .ac3 .dts
    .ra""".split()
)


@dataclass(frozen=True)
class AudioFile:
    """A file below a folder that is audio, looks like audio, or may hold it."""

    path: Path
    skip_reason: str = ""
    """Why it is not taken; empty if it is."""
    unreadable: bool = False
    """True if it is not taken because the system does not allow to read it."""


def find_audio(folder: Path, parents: frozenset[str] = frozenset()) -> Iterator[AudioFile]:
    """Yield all audio files below a folder, sorted at each level, including those not taken.

    Args:
        parents: real paths of the folders above, to stop at links that lead back to them.
    """
    parents |= {os.path.realpath(folder)}
    try:
        found = archives.list_folder(folder)
    except OSError as error:
        yield AudioFile(folder, f"cannot be read: {error.strerror}", unreadable=True)
        return
    for entry in found:
        path = folder / entry.name
        if entry.problem:
            yield AudioFile(path, entry.problem, unreadable=True)
        elif entry.is_folder:
            if entry.is_link and os.path.realpath(path) in parents:
                continue
            inside = find_audio(path, parents)
            if is_clutter(entry.name):
                reason = "in a folder of the system"
                inside = (AudioFile(file.path, file.skip_reason or reason) for file in inside)
            yield from inside
        elif is_audio(entry.name):
            yield AudioFile(path)
        elif reason := _why_not_audio(path):
            yield AudioFile(path, reason)


def _why_not_audio(path: Path) -> str:
    """Return why a file that may hold audio is not taken; empty for any other file."""
    name = path.name.lower()
    suffix = f".{name.rpartition('.')[2]}"
    if suffix in AUDIO_SUFFIXES:
        return "a file of the system, not audio"
    if name.endswith(archives.ARCHIVE_SUFFIXES) and not is_clutter(name):
        is_packed = archives.in_archive(path.parent)
        return f"an archive; {'unpack the outer one' if is_packed else 'name it as --input'}"
    return f"{suffix} is not read; convert it to WAV" if suffix in UNREAD_SUFFIXES else ""


def contains_audio(folder: Path) -> bool:
    """Return True if there is an audio file to take anywhere below a folder."""
    return any(not file.skip_reason for file in find_audio(folder))


def readable_folders(folder: Path) -> list[Path]:
    """Return sub-folders without clutter, sorted; warn if the folder cannot be read."""
    try:
        found = archives.list_folder(folder)
    except OSError as error:
        logger.warning("%s: cannot be read and is skipped: %s", folder, error.strerror)
        return []
    return [folder / e.name for e in found if e.is_folder and not is_clutter(e.name)]


def require_folder(root: Path | None, dataset: str) -> Path:
    """Return the input folder or archive; raise UserError if it is not given or not there."""
    if root is None:
        raise UserError(f"--input is missing: name the folder that holds {dataset}")
    if archives.is_folder(root):
        return root
    if root.exists():
        raise UserError(
            f"--input {root} is a file; name the folder that holds the music, or an archive: "
            f"{', '.join(archives.ARCHIVE_SUFFIXES)}"
        )
    raise UserError(f"--input {root}: there is no such folder; name the one that holds {dataset}")


def find_top(root: Path) -> Path:
    """Return where the paths of tracks start: the input folder, or a place in an archive.

    In a folder without audio but with parquet files it is all of these. In an archive that packs
    one folder it is that folder.
    """
    if archives.is_archive(root):
        entries = [e for e in archives.list_folder(root) if not is_clutter(e.name)]
        packs_folder = len(entries) == 1 and entries[0].is_folder
        is_packed = packs_folder and not root.name.lower().endswith(".parquet")
        return root / entries[0].name if is_packed else root
    parquet = archives.all_parquet(root) if root.is_dir() else None
    return parquet if parquet and not contains_audio(root) else root


def describe_archives(root: Path) -> str:
    """Return a remedy that names the archives in a folder without audio; empty if there is none."""
    try:
        names = [entry.name for entry in archives.list_folder(root)]
    except OSError:
        return ""
    found = [name for name in names if name.lower().endswith(archives.ARCHIVE_SUFFIXES)]
    if not found:
        return ""
    remedy = "name one as --input" if root.is_dir() else "unpack the outer one"
    return f", but archives ({', '.join(found)}): {remedy}"
