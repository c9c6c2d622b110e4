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
    size_problem,
)

ENCRYPTED, UTF_8 = 0x1, 0x800
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
        infos = (info for info in self._zip.infolist() if not info.is_dir())
        return {member_name(_text(info))[0]: info for info in infos}

    def list_members(self) -> Iterator[Member]:
        """Yield all members in the order of the archive's list."""
        for name, info in self._infos.items():
            # There is no time zone: as good as any other for noticing a change.
            modified = calendar.timegm((*info.date_time, 0, 0, 0)) * 10**9
            problem = _problem(info) or size_problem(info.file_size)
            yield Member(name, info.file_size, modified, member_name(_text(info))[1] or problem)

    def copy(self, name: str, target: BinaryIO) -> None:
        """Write the contents of a member to an open file."""
        info = self._infos.get(name)
        if info is None:
            raise ArchiveError(MISSING)
        if problem := _problem(info) or size_problem(info.file_size):
            raise ArchiveError(problem)
        try:
            with self._zip.open(info) as source:
                shutil.copyfileobj(source, target, COPIED_BYTES)
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
            raise ArchiveError(f"damaged in the archive: {error}") from None
        except OSError as error:
            if error.errno is not None:
                raise
            raise ArchiveError(f"damaged in the archive: {error}") from None  # of bz2


def _text(info: zipfile.ZipInfo) -> str:
    """Return the name of a member, also where it is UTF-8 without saying so, as from macOS."""
    if info.flag_bits & UTF_8:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _problem(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & ENCRYPTED:
        return "encrypted in the archive"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "a link in the archive; unpack it"
    if info.compress_type not in READABLE_METHODS:
        return f"compressed in the archive by method {info.compress_type}; unpack it"
    return ""
