"""ZIP archives."""

from __future__ import annotations

import bz2
import calendar
import copy
import lzma
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from functools import cached_property
from typing import IO, BinaryIO

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
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, NotImplementedError,
    RuntimeError, ValueError,
)  # fmt: skip
# Of these, zipfile unpacks all that it has read at once, which a small file can make gigabytes.
UNBOUNDED_METHODS = (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
READABLE_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, *UNBOUNDED_METHODS)
# For the dictionary of LZMA, whose size the file states. The strongest preset of xz needs 65 MiB.
MOST_LZMA_MEMORY = 1 << 28


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
        with reading(*_DAMAGED):
            if info.compress_type in UNBOUNDED_METHODS:
                self._unpack(info, target)
                return
            with self._zip.open(info) as source:
                shutil.copyfileobj(source, target, COPIED_BYTES)

    def _unpack(self, info: zipfile.ZipInfo, target: BinaryIO) -> None:
        """Write the contents of a member by bzip2 or LZMA, a part at a time."""
        packed = copy.copy(info)
        packed.compress_type, packed.file_size = zipfile.ZIP_STORED, info.compress_size
        del packed.CRC  # is that of the contents
        with self._zip.open(packed) as source:
            if info.compress_type == zipfile.ZIP_BZIP2:
                unpacker: bz2.BZ2Decompressor | lzma.LZMADecompressor = bz2.BZ2Decompressor()
            else:
                unpacker = _lzma_unpacker(source)
            left, checksum = info.file_size, 0
            while left and not unpacker.eof:
                data = source.read(COPIED_BYTES) if unpacker.needs_input else b""
                is_at_end = unpacker.needs_input and not data
                part = unpacker.decompress(data, min(left, COPIED_BYTES))
                if is_at_end and not part:
                    break
                target.write(part)
                checksum = zlib.crc32(part, checksum)
                left -= len(part)
        if left or checksum != info.CRC:
            raise zipfile.BadZipFile(f"Bad CRC-32 for file {info.filename!r}")


def _lzma_unpacker(source: IO[bytes]) -> lzma.LZMADecompressor:
    """Return what unpacks the rest of a member by LZMA, after its header.

    The header is that of a ZIP: a version, the number of bytes of the filter's settings, and
    these. An `.lzma` file has these and 8 bytes for the size, here unknown.
    """
    _, size = struct.unpack("<HH", source.read(4))
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=MOST_LZMA_MEMORY)
    unpacker.decompress(source.read(size) + b"\xff" * 8, 0)
    return unpacker


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
