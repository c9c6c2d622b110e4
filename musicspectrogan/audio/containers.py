"""Streams of audio in a file, each in a form that libsndfile reads to its end.

libsndfile reads only the first stream of a file and trusts the length in its header. `streams_of`
walks the file's own pages, frames and chunks to find every stream, and to correct headers written
before the length was known, as in a pipe. What libsndfile reads whole is passed to it unchanged.
"""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from musicspectrogan.audio import mpeg
from musicspectrogan.audio.mpeg import read_at

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BUFFER_BYTES = 1 << 18

# Searched for MPEG frames whatever their first bytes: a cut from a broadcast starts within a frame.
_MPEG_SUFFIXES = (".mp3", ".mp2")

# Unreadable bytes up to which there is no warning; about 0.3 s of MP3.
_UNREADABLE_BYTES = 4096

# OGG (RFC 3533): length of a page header before its segment table, and two of its flags.
_PAGE_HEADER_BYTES = 27
_FIRST_PAGE, _LAST_PAGE = 2, 4

# FLAC (RFC 9639): the magic and the STREAMINFO block's header, with more blocks after it or none.
_FLAC_STARTS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")

# Byte order by magic, for chunked formats and AU.
_AU = {b".snd": ">", b"dns.": "<"}
_BYTE_ORDERS = {b"RIFF": "<", b"RF64": "<", b"RIFX": ">", b"FORM": ">", **_AU}
_SOUND_CHUNKS = (b"data", b"SSND")
_CHUNK_HEADER = re.compile(rb"[ -~]{4}.{4}", re.DOTALL)
_AU_HEADER_BYTES = 24
_MAX_32_BITS = 2**32 - 1
# Placeholder lengths may be this far from a power of two.
_LENGTH_SLACK = 1 << 16


def soundfile_path(path: Path) -> str | bytes:
    """The path as soundfile takes it; bytes where names need not be UTF-8."""
    return str(path) if os.name == "nt" else os.fsencode(path)


@dataclass(frozen=True)
class Stream:
    """One stream: the whole file, or pieces of it."""

    path: Path
    pieces: Sequence[bytes | range] | None = None
    """Bytes to insert and ranges of the file to read, in order; None for the whole file."""
    frames: int = 0
    """Samples per channel by the file's own frames, where libsndfile only estimates them."""

    @contextmanager
    def opened(self) -> Iterator[str | bytes | BinaryIO]:
        """What soundfile opens."""
        if self.pieces is None:
            yield soundfile_path(self.path)
            return
        with open(self.path, "rb") as file:
            yield io.BufferedReader(_SplicedFile(file, self.pieces), _BUFFER_BYTES)


class _SplicedFile(io.RawIOBase):
    """Pieces of a file as one readable file."""

    def __init__(self, file: BinaryIO, pieces: Sequence[bytes | range]) -> None:
        self._file, self._pieces = file, pieces
        self._offset, self._size = 0, sum(map(len, pieces))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._size}[whence]
        self._offset = max(0, base + offset)
        return self._offset

    def readinto(self, buffer: WriteableBuffer) -> int:
        view, offset = memoryview(buffer), self._offset
        for piece in self._pieces:
            if offset < len(piece):
                part = piece[offset : offset + len(view)]
                data = (
                    part if isinstance(part, bytes) else read_at(self._file, part.start, len(part))
                )
                view[: len(data)] = data
                self._offset += len(data)
                return len(data)
            offset -= len(piece)
        return 0


def streams_of(path: Path) -> tuple[list[Stream], str]:
    """List the streams of a file, at least one, with a warning about bytes that belong to none."""
    with open(path, "rb", buffering=_BUFFER_BYTES) as file:
        size = file.seek(0, io.SEEK_END)
        start = 0
        while length := mpeg.tag_bytes(read_at(file, start, 32)):
            start += length
        magic = read_at(file, start, 4)
        if magic == b"OggS":
            return _ogg_streams(path, file, start, size)
        if magic == b"fLaC":
            return _flac_streams(path, file, start, size)
        if magic in _BYTE_ORDERS:
            return _chunked_streams(path, file, start, size)
        if mpeg.frame_of(magic) or path.suffix.lower() in _MPEG_SUFFIXES:
            return _mpeg_streams(path, file, size)
    return [Stream(path)], ""


def _mpeg_streams(path: Path, file: BinaryIO, size: int) -> tuple[list[Stream], str]:
    recordings, lost = mpeg.recordings(file, size)
    complete = len(recordings) == 1 and recordings[0].has_true_counts()
    if not recordings or (complete and lost <= _UNREADABLE_BYTES):
        return [Stream(path)], ""
    streams = [Stream(path, each.pieces(), each.estimated_samples()) for each in recordings]
    return streams, _unreadable(lost)


def _ogg_streams(path: Path, file: BinaryIO, start: int, size: int) -> tuple[list[Stream], str]:
    """Streams of an OGG, where several may be chained."""
    starts: list[int] = []
    numbers: dict[int, int] = {}  # of the last page, by the stream's serial number
    offset, lost, missing = start, 0, 0
    beginning = has_sound = ended = False
    while offset < size:
        header = read_at(file, offset, _PAGE_HEADER_BYTES + 255)
        if len(header) < _PAGE_HEADER_BYTES or header[:4] != b"OggS":
            following = next(_find(file, b"OggS", offset + 1, size), size)
            lost, offset = lost + following - offset, following
            continue
        flags, granule, serial, number, segments = struct.unpack_from("<xBqII4xB", header, 4)
        body_at = _PAGE_HEADER_BYTES + segments
        length = body_at + sum(header[_PAGE_HEADER_BYTES:body_at])
        if offset + length > size:
            ended = False
            break
        # Streams that play together, such as sound and pictures, all begin before any other page.
        if flags & _FIRST_PAGE and not beginning:
            starts.append(offset)
            has_sound = ended = False
        # A recorded broadcast may lack pages between its headers and the first sound.
        if has_sound and serial in numbers:
            missing += max(0, number - numbers[serial] - 1)
        numbers[serial] = number
        beginning = bool(flags & _FIRST_PAGE)
        has_sound |= granule > 0
        ended |= bool(flags & _LAST_PAGE)
        offset += length
    warnings = [
        _unreadable(lost),
        f"{missing} of its pages are missing" if missing else "",
        "" if ended else "breaks off before its last page",
    ]
    warning = "; ".join(filter(None, warnings))
    if not starts or (len(starts) == 1 and not start):
        return [Stream(path)], warning
    stops = [*starts[1:], offset]
    return [Stream(path, [range(*ends)]) for ends in zip(starts, stops, strict=True)], warning


def _flac_streams(path: Path, file: BinaryIO, start: int, size: int) -> tuple[list[Stream], str]:
    """Streams of a FLAC, without tags at the end, which the decoder takes for damaged frames."""
    end = _before_trailing_tags(file, size)
    magics = _find(file, b"fLaC", start + 4, end)
    starts = [start, *(at for at in magics if read_at(file, at, 8) in _FLAC_STARTS)]
    if starts == [0] and end == size:
        return [Stream(path)], ""
    stops = [*starts[1:], end]
    return [Stream(path, [range(*ends)]) for ends in zip(starts, stops, strict=True)], ""


def _chunked_streams(path: Path, file: BinaryIO, start: int, size: int) -> tuple[list[Stream], str]:
    """Streams of a WAV, AIFF or AU."""
    streams: list[Stream] = []
    offset, patches = start, dict[int, bytes]()
    while (magic := read_at(file, offset, 4)) in _BYTE_ORDERS:
        measure = _measure_au if magic in _AU else _measure_chunks
        end, patches = measure(file, offset, size, _BYTE_ORDERS[magic])
        streams.append(Stream(path, _patched(offset, end, patches)))
        offset = end
    warning = _unreadable(_count_nonzero(file, offset, _before_trailing_tags(file, size)))
    if len(streams) == 1 and not patches:
        return [Stream(path)], warning
    return streams, warning


def _measure_chunks(
    file: BinaryIO, start: int, size: int, order: str
) -> tuple[int, dict[int, bytes]]:
    """Where the chunked stream at `start` ends, and header bytes to correct, by offset."""
    offset, ds64_at = start + 12, 0
    while offset < size:
        header = read_at(file, offset, 8)
        if not _CHUNK_HEADER.match(header) or header[:4] in _BYTE_ORDERS:
            break
        (length,) = struct.unpack_from(f"{order}I", header, 4)
        if header[:4] == b"ds64":
            ds64_at = offset + 8
        if header[:4] in _SOUND_CHUNKS:
            # RF64 has its lengths in 64 bits, in the ds64 chunk.
            in_64_bits = ds64_at > 0 and length == _MAX_32_BITS
            field, form = (ds64_at + 8, "<Q") if in_64_bits else (offset + 4, f"{order}I")
            if in_64_bits:
                length = int.from_bytes(read_at(file, field, 8), "little")
            rest = min(size - offset - 8, size if in_64_bits else _MAX_32_BITS)
            following = offset + 8 + length
            # A chunk right after one of length 0 shows that it is truly empty.
            is_empty = following < size and _is_chunk(
                read_at(file, following, 8), order, size - following - 8
            )
            if _is_placeholder(length, rest) and not is_empty:
                patches = {field: struct.pack(form, rest)}
                if in_64_bits:
                    patches[ds64_at] = struct.pack("<Q", size - start - 8)
                return offset + 8 + rest, patches
        elif offset + 8 + length > size:
            return offset, {}
        offset += 8 + length
        # Chunks are padded to even lengths, though not by every program.
        if length % 2 and offset < size and not _CHUNK_HEADER.match(read_at(file, offset, 8)):
            offset += 1
    return min(offset, size), {}


def _is_chunk(header: bytes, order: str, rest: int) -> bool:
    """Whether a chunk of at most `rest` bytes has this header."""
    return bool(_CHUNK_HEADER.match(header)) and (
        struct.unpack_from(f"{order}I", header, 4)[0] <= rest
    )


def _measure_au(file: BinaryIO, start: int, size: int, order: str) -> tuple[int, dict[int, bytes]]:
    """As `_measure_chunks`, for an AU."""
    header = read_at(file, start + 4, 8).ljust(8, b"\0")
    data_offset, length = struct.unpack(f"{order}2I", header)
    data_at = start + max(data_offset, _AU_HEADER_BYTES)
    rest = min(max(0, size - data_at), _MAX_32_BITS)
    if _is_placeholder(length, rest):
        return data_at + rest, {start + 8: struct.pack(f"{order}I", rest)}
    return min(data_at + length, size), {}


def _is_placeholder(length: int, rest: int) -> bool:
    """Whether a length was written before it was known, with `rest` bytes following it.

    Programs then leave 0, or the largest number of 32 or 64 bits, signed or unsigned, often less
    the header or rounded down.
    """
    if length <= 8:  # AIFF counts 8 bytes of its own header
        return length < rest
    return length > rest and any(
        -_LENGTH_SLACK < length - 2**bits <= _LENGTH_SLACK for bits in (31, 32, 63, 64)
    )


def _patched(start: int, end: int, patches: dict[int, bytes]) -> list[bytes | range]:
    """Pieces of the file from `start` to `end`, with some bytes replaced."""
    pieces: list[bytes | range] = []
    for offset, data in sorted(patches.items()):
        pieces += [range(start, offset), data]
        start = offset + len(data)
    return [*pieces, range(start, end)]


def _find(file: BinaryIO, pattern: bytes, start: int, end: int) -> Iterator[int]:
    """Yield the offsets of a byte pattern between `start` and `end`."""
    while start < end:
        block = read_at(file, start, min(_BUFFER_BYTES, end - start))
        at = block.find(pattern)
        while at >= 0:
            yield start + at
            at = block.find(pattern, at + 1)
        if start + len(block) >= end:
            return
        start += len(block) - len(pattern) + 1  # a match may cross the boundary


def _count_nonzero(file: BinaryIO, start: int, end: int) -> int:
    """Count the bytes between `start` and `end` that are not zero."""
    count = 0
    while start < end and (block := read_at(file, start, min(_BUFFER_BYTES, end - start))):
        count += len(block) - block.count(0)
        start += len(block)
    return count


def _before_trailing_tags(file: BinaryIO, size: int) -> int:
    """Offset of the tags at the end of the file: ID3v1 and, before it, APE."""
    if size > 128 and read_at(file, size - 128, 3) == b"TAG":
        size -= 128
    footer = read_at(file, max(0, size - 32), 32)
    if footer[:8] == b"APETAGEX":
        length, flags = struct.unpack_from("<I4xI", footer, 12)
        size = max(0, size - length - (32 if flags >> 31 else 0))
    return size


def _unreadable(lost: int) -> str:
    """Warning for so many bytes that are neither sound nor tags."""
    return f"{lost} bytes cannot be read as audio" if lost > _UNREADABLE_BYTES else ""
