"""The streams of sound that a file holds, one after another, as libsndfile can read each whole.

libsndfile reads the first stream of a file and trusts the length in its header. Here a file is gone through
by its own frames, pages and chunks. What libsndfile reads whole is left to it as it is.
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
from typing import BinaryIO

from musicspectrogan.audio import flac, mpeg

# Read at a time, so that going through a file costs little beside decoding it.
_BUFFER_BYTES = 1 << 18

# Names of files that are searched for MPEG frames however they begin, as what was cut out of a broadcast does
# with the rest of a frame.
_MPEG_SUFFIXES = (".mp3", ".mp2")

# Bytes that are neither sound nor tags, beyond which the report tells of them: some 0.3 s of an MP3.
_MOST_LOST_BYTES = 4096

# OGG: the bytes of a page before the lengths of its segments, and two of its flags.
_PAGE_HEAD_BYTES = 27
_FIRST_PAGE, _LAST_PAGE = 2, 4

# How a FLAC begins, with more blocks of metadata behind the first or without.
_FLAC_STARTS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")

# Formats of chunks, and AU, whose header is much the same; with the order of bytes in their numbers.
_AU = {b".snd": ">", b"dns.": "<"}
_CHUNK_ORDERS = {b"RIFF": "<", b"RF64": "<", b"RIFX": ">", b"FORM": ">", **_AU}
_SOUND_CHUNKS = (b"data", b"SSND")
_CHUNK = re.compile(rb"[ -~]{4}.{4}", re.DOTALL)
_LEAST_AU_HEAD_BYTES = 24
_MOST_IN_32_BITS = 2**32 - 1
_ROUNDED = 1 << 16


def for_soundfile(path: Path) -> str | bytes:
    """The path as soundfile takes it where a name is not UTF-8, as those from old discs are."""
    return str(path) if os.name == "nt" else os.fsencode(path)


@dataclass(frozen=True)
class Stream:
    """One stream, as the whole file or as pieces of it."""

    path: Path
    pieces: Sequence[bytes | range] | None = None
    """Bytes to read, and ranges of the file's own; None for all of the file."""
    frames: int = 0
    """Samples a channel by the file's own frames, where libsndfile only estimates them."""

    @contextmanager
    def opened(self) -> Iterator[str | bytes | BinaryIO]:
        """What soundfile opens."""
        if self.pieces is None:
            yield for_soundfile(self.path)
            return
        with open(self.path, "rb") as file:
            yield io.BufferedReader(_Splice(file, self.pieces), _BUFFER_BYTES)


class _Splice(io.RawIOBase):
    """Pieces as one file for reading."""

    def __init__(self, file: BinaryIO, pieces: Sequence[bytes | range]) -> None:
        self._file, self._pieces = file, pieces
        self._place, self._size = 0, sum(map(len, pieces))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: memoryview) -> int:
        inside = self._place
        for piece in self._pieces:
            if inside < len(piece):
                wanted = piece[inside : inside + len(buffer)]
                if isinstance(wanted, range):
                    self._file.seek(wanted.start)
                    wanted = self._file.read(len(wanted))
                buffer[: len(wanted)] = wanted
                self._place += len(wanted)
                return len(wanted)
            inside -= len(piece)
        return 0


def streams_of(path: Path) -> tuple[list[Stream], str]:
    """The streams of a file, at least one; and what of the file belongs to none, for the report."""
    with open(path, "rb", buffering=_BUFFER_BYTES) as file:
        size = file.seek(0, io.SEEK_END)
        start = _behind_tags(file)
        magic = _at(file, start, 4)
        if magic == b"OggS":
            return _oggs(path, file, start, size)
        if magic == b"fLaC":
            return _flacs(path, file, start, size)
        if magic in _CHUNK_ORDERS:
            return _chunked(path, file, start, size)
        if mpeg.frame_of(magic) or path.suffix.lower() in _MPEG_SUFFIXES:
            return _recordings(path, file, size)
    return [Stream(path)], ""


def _recordings(path: Path, file: BinaryIO, size: int) -> tuple[list[Stream], str]:
    """Of an MP3."""
    recordings, lost = mpeg.recordings(file, size)
    as_it_is = len(recordings) == 1 and recordings[0].has_true_counts() and lost <= _MOST_LOST_BYTES
    if as_it_is or not recordings:
        return [Stream(path)], ""
    return [Stream(path, each.pieces(), each.estimated()) for each in recordings], _unread(lost)


def _oggs(path: Path, file: BinaryIO, start: int, size: int) -> tuple[list[Stream], str]:
    """Of an OGG, where several may be chained. RFC 3533, sections 4 and 6."""
    starts: list[int] = []
    numbers: dict[int, int] = {}
    place, lost, missing = start, 0, 0
    beginning = has_sound = ended = False
    while place < size:
        head = _at(file, place, _PAGE_HEAD_BYTES + 255)
        if len(head) < _PAGE_HEAD_BYTES or head[:4] != b"OggS":
            following = next(_found(file, b"OggS", place + 1, size), size)
            lost, place = lost + following - place, following
            continue
        flags, granule, serial, number, segments = struct.unpack_from("<xBqII4xB", head, 4)
        length = (
            _PAGE_HEAD_BYTES + segments + sum(head[_PAGE_HEAD_BYTES : _PAGE_HEAD_BYTES + segments])
        )
        if place + length > size:
            ended = False
            break
        if (
            flags & _FIRST_PAGE and not beginning
        ):  # where there are pictures too, both begin together
            starts.append(place)
            has_sound = ended = False
        if (
            has_sound and serial in numbers
        ):  # before that, a recording of a broadcast may leave pages out
            missing += max(0, number - numbers[serial] - 1)
        numbers[serial] = number
        beginning = bool(flags & _FIRST_PAGE)
        has_sound |= granule > 0
        ended |= bool(flags & _LAST_PAGE)
        place += length
    remarks = [_unread(lost)]
    if missing:
        remarks.append(f"{missing} of its pages are missing")
    if not ended:
        remarks.append("breaks off before its last page")
    remark = "; ".join(filter(None, remarks))
    if not starts or (len(starts) == 1 and not start):
        return [Stream(path)], remark
    stops = [*starts[1:], place]
    return [Stream(path, [range(*ends)]) for ends in zip(starts, stops, strict=True)], remark


def _flacs(path: Path, file: BinaryIO, start: int, size: int) -> tuple[list[Stream], str]:
    """Of a FLAC, or of several in one file. RFC 9639."""
    end = _before_tags(file, size)
    later = [at for at in _found(file, b"fLaC", start + 4, end) if _at(file, at, 8) in _FLAC_STARTS]
    starts = [start, *later]
    streams = [_flac(path, file, *ends) for ends in zip(starts, [*starts[1:], end], strict=True)]
    if len(streams) == 1 and streams[0].pieces == [range(start, size)]:
        return [Stream(path)], ""
    return streams, ""


def _flac(path: Path, file: BinaryIO, start: int, end: int) -> Stream:
    """One FLAC, whose header is mended where it does not know the length, as one that went through a pipe."""
    tail_at = max(start, end - _BUFFER_BYTES)
    info = _at(file, start + 8, flac.INFO_BYTES)
    true_info = flac.with_true_length(info, _at(file, tail_at, end - tail_at))
    return Stream(path, _mended(start, end, {start + 8: true_info} if true_info != info else {}))


def _chunked(path: Path, file: BinaryIO, start: int, size: int) -> tuple[list[Stream], str]:
    """Of a WAV, AIFF or AU, or of several in one file."""
    streams: list[Stream] = []
    place, mends = start, {}
    while (magic := _at(file, place, 4)) in _CHUNK_ORDERS:
        read = _au_end if magic in _AU else _chunks_end
        end, mends = read(file, place, size, _CHUNK_ORDERS[magic])
        streams.append(Stream(path, _mended(place, end, mends)))
        place = end
    remark = _unread(_not_zero(file, place, _before_tags(file, size)))
    if len(streams) == 1 and not mends:
        return [Stream(path)], remark
    return streams, remark


def _chunks_end(file: BinaryIO, start: int, size: int, order: str) -> tuple[int, dict[int, bytes]]:
    """Where the chunks that begin here end, and what is to be mended in them: bytes by their place."""
    place, long_sizes_at = start + 12, None
    while (
        place < size and _CHUNK.match(head := _at(file, place, 8)) and head[:4] not in _CHUNK_ORDERS
    ):
        (length,) = struct.unpack_from(f"{order}I", head, 4)
        if head[:4] == b"ds64":
            long_sizes_at = place + 8
        if head[:4] in _SOUND_CHUNKS:
            field, form = place + 4, f"{order}I"
            if long_sizes_at and length == 0xFFFFFFFF:
                field, form = long_sizes_at + 8, "<Q"
                length = int.from_bytes(_at(file, field, 8), "little")
            rest = min(size - place - 8, _MOST_IN_32_BITS if form != "<Q" else size)
            following = place + 8 + length
            is_empty = following < size and _is_chunk(
                _at(file, following, 8), order, size - following - 8
            )
            if _is_unknown(length, rest) and not is_empty:
                mends = {field: struct.pack(form, rest)}
                if form == "<Q":
                    mends[long_sizes_at] = struct.pack("<Q", size - start - 8)
                return place + 8 + rest, mends
        if place + 8 + length > size and head[:4] not in _SOUND_CHUNKS:
            return place, {}
        place += 8 + length
        if length % 2 and place < size and not _CHUNK.match(_at(file, place, 8)):
            place += 1
    return min(place, size), {}


def _is_chunk(head: bytes, order: str, rest: int) -> bool:
    """Whether a chunk of the `rest` of the file begins so."""
    return bool(_CHUNK.match(head)) and struct.unpack_from(f"{order}I", head, 4)[0] <= rest


def _au_end(file: BinaryIO, start: int, size: int, order: str) -> tuple[int, dict[int, bytes]]:
    """The same for an AU, which has one header."""
    offset, length = struct.unpack(f"{order}2I", _at(file, start + 4, 8).ljust(8, b"\0"))
    place = start + max(offset, _LEAST_AU_HEAD_BYTES)
    rest = min(max(0, size - place), _MOST_IN_32_BITS)
    if _is_unknown(length, rest):
        return place + rest, {start + 8: struct.pack(f"{order}I", rest)}
    return min(place + length, size), {}


def _is_unknown(length: int, rest: int) -> bool:
    """Whether a header was written before its length was known, and none of its `rest` bytes counted.

    Then programs leave a zero, or give the most that fits: into 32 or 64 bits, with a sign or without, often
    less the header or rounded down.
    """
    if length <= 8:  # what an AIFF counts of its own
        return length < rest
    return length > rest and any(
        -_ROUNDED < length - 2**bits <= _ROUNDED for bits in (31, 32, 63, 64)
    )


def _mended(start: int, end: int, mends: dict[int, bytes]) -> list[bytes | range]:
    """The bytes from `start` to `end` with others in some places."""
    pieces: list[bytes | range] = []
    for place, data in sorted(mends.items()):
        pieces += [range(start, place), data]
        start = place + len(data)
    return [*pieces, range(start, end)]


def _at(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)


def _found(file: BinaryIO, pattern: bytes, start: int, end: int) -> Iterator[int]:
    """Where these bytes lie between two places."""
    while start < end:
        piece = _at(file, start, min(_BUFFER_BYTES, end - start))
        at = piece.find(pattern)
        while at >= 0:
            yield start + at
            at = piece.find(pattern, at + 1)
        if start + len(piece) >= end:
            return
        start += (
            len(piece) - len(pattern) + 1
        )  # what begins with the last bytes goes on in the next piece


def _not_zero(file: BinaryIO, start: int, end: int) -> int:
    """How many bytes between two places are not zero."""
    count = 0
    while start < end and (piece := _at(file, start, min(_BUFFER_BYTES, end - start))):
        count += len(piece) - piece.count(0)
        start += len(piece)
    return count


def _behind_tags(file: BinaryIO) -> int:
    """Where the tags at the beginning end."""
    place = 0
    while length := mpeg.tag_bytes(_at(file, place, 32)):
        place += length
    return place


def _before_tags(file: BinaryIO, size: int) -> int:
    """Where the tags at the end begin: ID3v1 and, before it, APE."""
    if size > 128 and _at(file, size - 128, 3) == b"TAG":
        size -= 128
    footer = _at(file, max(0, size - 32), 32)
    if footer[:8] == b"APETAGEX":
        length, flags = struct.unpack_from("<I4xI", footer, 12)
        size = max(0, size - length - (32 if flags >> 31 else 0))
    return size


def _unread(lost: int) -> str:
    """For the report; little is lost in every other file."""
    return f"{lost} of its bytes are no sound that can be read" if lost > _MOST_LOST_BYTES else ""
