"""ZIP archives."""

from __future__ import annotations

import calendar
import lzma
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from functools import cached_property
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

ENCRYPTED, UTF_8 = 0x1, 0x800
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError, ValueError,
)  # fmt: skip
READABLE_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


class ZipArchive(Archive):
    """A ZIP archive, in which every member can be read by itself."""

    @cached_property
    def _zip(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise damaged(self.path, error) from None

    @cached_property
    def _infos(self) -> dict[str, zipfile.ZipInfo]:
        infos = [info for info in self._zip.infolist() if not info.filename.endswith("/")]
        return {name: info for info in infos if (name := member_name(_text(info))[0])}

    def list_members(self) -> Iterator[Member]:
        """Yield all members in the order of the archive's list."""
        for name, info in self._infos.items():
            problem = _problem(info) or size_problem(info.file_size)
            problem = member_name(_text(info))[1] or problem
            yield Member(name, info.file_size, _modified_ns(info), problem)

    def copy(self, name: str, target: BinaryIO) -> None:
        """Write the contents of a member to an open file."""
        info = self._infos.get(name)
        if info is None:
            raise ArchiveError(MISSING)
        if problem := _problem(info) or size_problem(info.file_size):
            raise ArchiveError(problem)
        with reading(*_DAMAGED), self._zip.open(info) as source:
            shutil.copyfileobj(source, target, COPIED_BYTES)


def _text(info: zipfile.ZipInfo) -> str:
    """Return the name of a member, also where it is UTF-8 without saying so, as from macOS."""
    if info.flag_bits & UTF_8:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _modified_ns(info: zipfile.ZipInfo) -> int | None:
    """Return the time without its zone, which is good enough for noticing a change."""
    try:
        return calendar.timegm((*info.date_time, 0, 0, 0)) * 10**9
    except ValueError:  # some programs write zeros
        return None


def _problem(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & ENCRYPTED:
        return "encrypted in the archive"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "a link in the archive; unpack it"
    if info.compress_type not in READABLE_METHODS:
        return f"compressed in the archive by method {info.compress_type}; unpack it"
    return ""
