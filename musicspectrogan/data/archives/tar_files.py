"""TAR archives, also compressed ones."""

from __future__ import annotations

import lzma
import posixpath
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from musicspectrogan.data.archives.base import (
    COPIED_BYTES,
    MISSING,
    Archive,
    ArchiveError,
    Member,
    damaged,
    member_name,
    reading,
    size_problem,
)
from musicspectrogan.progress import progress_bar

# What a damaged stream raises, besides OSError.
_DAMAGED = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, OverflowError)

# Headers with long names and other facts about the next member, which tarfile reads as a whole.
_LONG_HEADERS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
MOST_HEADER_BYTES = 1 << 20


class _Header(tarfile.TarInfo):
    """The header of a member. Small compressed files may have one of gigabytes: it is refused."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        """Return the header in a block; raise ReadError if what follows it is too long."""
        info = super().frombuf(buf, encoding, errors)
        if info.type in _LONG_HEADERS and info.size > MOST_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {info.size} bytes")
        return info


class TarArchive(Archive):
    """A TAR archive. A compressed one can only be read from its start: each reader reads forward.

    Going back is possible, but begins again. So members are read in the order of the archive.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.is_sequential = not path.name.lower().endswith(".tar")
        self._passed: dict[str, tarfile.TarInfo] = {}

    @cached_property
    def _file(self) -> BinaryIO:
        return open(self.path, "rb")

    @cached_property
    def _tar(self) -> tarfile.TarFile:
        try:
            return tarfile.open(fileobj=self._file, mode="r:*", tarinfo=_Header)
        except (*_DAMAGED, OSError) as error:
            raise damaged(self.path, error) from None

    def list_members(self) -> Iterator[Member]:
        """Yield all members; links have the size and time of their targets."""
        size = self.path.stat().st_size
        repeated: set[str] = set()
        with progress_bar(
            total=size, description="Listing", unit="B", unit_scale=True, unit_divisor=1024
        ) as bar:
            try:
                while (info := self._tar.next()) is not None:
                    name = member_name(info.name)[0]
                    if name in self._passed and not info.isdir():
                        repeated.add(name)
                    self._passed[name] = info
                    bar.update(self._file.tell() - bar.n)
                self._check_end()
            except (*_DAMAGED, OSError) as error:
                raise damaged(self.path, error) from None
        for name, info in self._passed.items():
            if info.isdir():
                continue
            target = self._target(name)
            if target is None:
                yield Member(name, problem="a link, or no file, in the archive; unpack it")
                continue
            problem = member_name(info.name)[1] or size_problem(target.size)
            if name in repeated:  # a reader that goes forward would take the first
                problem = "several files of this name in the archive; unpack it"
            yield Member(name, target.size, int(target.mtime) * 10**9, problem)

    def _check_end(self) -> None:
        """Raise ReadError at a damaged header, which tarfile takes for the end."""
        self._tar.fileobj.seek(self._tar.offset)
        if self._tar.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError(f"no header at byte {self._tar.offset}")

    def _target(self, name: str) -> tarfile.TarInfo | None:
        """Return the file that a member is or links to; None if there is none in the archive."""
        for _ in range(10):
            info = self._find(name)
            if info is None or info.isfile():
                return info
            if info.islnk():
                name = member_name(info.linkname)[0]
            elif info.issym():
                above = posixpath.dirname(name)
                name = posixpath.normpath(posixpath.join(above, info.linkname))
            else:
                return None
        return None

    def _find(self, name: str) -> tarfile.TarInfo | None:
        """Return a member; read forward to it if it was not passed yet."""
        while name not in self._passed and (info := self._tar.next()) is not None:
            self._passed[member_name(info.name)[0]] = info
        return self._passed.get(name)

    def copy(self, name: str, target: BinaryIO) -> None:
        """Write the contents of a member to an open file."""
        with reading(*_DAMAGED):
            info = self._target(name)
            if info is None:
                raise ArchiveError(MISSING)
            if problem := size_problem(info.size):
                raise ArchiveError(problem)
            with self._tar.extractfile(info) as source:  # type: ignore[union-attr]
                shutil.copyfileobj(source, target, COPIED_BYTES)
