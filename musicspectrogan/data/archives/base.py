"""What all archives have in common: members that are listed like files in folders."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from musicspectrogan.audio.files import AudioError, is_audio
from musicspectrogan.errors import DISK_FULL, UserError, printable

COPIED_BYTES = 1 << 20
# A small archive may expand to anything. WAV files are no longer than this.
MOST_BYTES = 2**32

# As for a file that is not in a folder.
MISSING = "file is missing"
LEADS_OUT = "its name leads out of the archive"


class ArchiveError(AudioError, UserError):
    """A member cannot be read; the text is the reason."""


@dataclass(frozen=True)
class Member:
    """A file in an archive."""

    name: str
    """Its path from the top of the archive, with slashes; see `member_name`."""
    size: int | None = None
    """Bytes; None if unknown."""
    modified_ns: int | None = None
    """Modification time in ns since 1970; None if unknown."""
    problem: str = ""
    """Why it cannot be read; empty if it can."""


@dataclass(frozen=True)
class Entry:
    """A file or folder, on a disk or in an archive."""

    name: str
    is_folder: bool = False
    is_link: bool = False
    problem: str = ""
    """Why it cannot be read; empty if it can."""


class Archive(ABC):
    """The members of an archive, as a tree of folders. One reader at a time."""

    is_sequential = False
    """True if reading in another order than that of the members is slow."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.Lock()

    @abstractmethod
    def list_members(self) -> Iterable[Member]:
        """Yield all members, in the order in which they are fast to read.

        Raises:
            UserError: the archive is damaged.
        """

    @abstractmethod
    def copy(self, name: str, target: BinaryIO) -> None:
        """Write the contents of a member to an open file.

        Raises:
            ArchiveError: it cannot be read.
        """

    @cached_property
    def members(self) -> dict[str, Member]:
        """The members by name. Of several with the same name the last counts, as in unpacking."""
        return {member.name: member for member in self.list_members()}

    @cached_property
    def positions(self) -> dict[str, int]:
        """The place of each member in the order in which they are fast to read."""
        return {name: number for number, name in enumerate(self.members)}

    @cached_property
    def folders(self) -> dict[str, list[Entry]]:
        """The entries of each folder, sorted; the top is the empty name."""
        entries: dict[str, dict[str, Entry]] = {"": {}}
        for member in self.members.values():
            folder, _, name = member.name.rpartition("/")
            problem = member.problem if is_audio(name) else ""
            entries.setdefault(folder, {})[name] = Entry(name, problem=problem)
        for folder in list(entries):
            while folder:
                above, _, name = folder.rpartition("/")
                entries.setdefault(above, {})[name] = Entry(name, is_folder=True)
                folder = above  # noqa: PLW2901
        return {
            folder: sorted(inside.values(), key=lambda entry: entry.name)
            for folder, inside in entries.items()
        }


def member_name(name: str) -> tuple[str, str]:
    """Return the name of a member without `.`, `..` and a leading slash, and what is wrong with it.

    Nothing is ever written under that name. An archive with `..` in it is still suspicious.
    """
    if "/" not in name:
        name = name.replace("\\", "/")  # of old Windows programs
    parts = [part for part in name.split("/") if part not in ("", ".")]
    inside = [part for part in parts if part != ".."]
    return "/".join(inside), LEADS_OUT if len(inside) < len(parts) else ""


def size_problem(size: int) -> str:
    """Return what is wrong with the size of a member; empty if nothing."""
    return f"larger than {MOST_BYTES >> 30} GiB; unpack the archive" if size > MOST_BYTES else ""


@contextmanager
def reading(*errors: type[Exception]) -> Iterator[None]:
    """Raise ArchiveError for what a damaged member raises: OSError, and these.

    A full disk, to which the member is copied, stays OSError.
    """
    try:
        yield
    except ArchiveError:
        raise
    except OSError as error:
        if error.errno in DISK_FULL:
            raise
        raise ArchiveError(f"damaged in the archive: {describe(error)}") from None
    except errors as error:
        raise ArchiveError(f"damaged in the archive: {describe(error)}") from None


def describe(error: Exception) -> str:
    """Return an error of a library in one line."""
    return printable(" ".join(str(error).split())) or type(error).__name__


def damaged(path: Path, error: Exception) -> UserError:
    """Return the error for an archive that cannot be opened or listed."""
    return UserError(f"--input {path}: is damaged or incomplete ({describe(error)}); get it again")
