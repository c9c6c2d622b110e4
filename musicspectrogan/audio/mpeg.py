"""MPEG audio (MP3) frame by frame: where each recording in a file lies, and how long it is.

A decoder knows the length of an MP3 from the frame count in a first frame without sound (Xing,
Info or VBRI). Without one it estimates the length from the file's size, and it ignores what
follows the first of several recordings.

Frame headers are in ISO/IEC 11172-3, 2.4.2.3; the counts in Xing's VBR SDK and Fraunhofer's VBRI
SDK.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import BinaryIO, NamedTuple

# kbit/s by whether the version is 1, and by layer.
_BITRATES = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
# Hz by the version's two bits; 1 is reserved.
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}

# Consecutive frames of one format that confirm a start; two occur by chance in other data.
_CONFIRMING_FRAMES = 3

_BLOCK_BYTES = 1 << 16
# Of a frame, what may hold its counts; and what `tag_bytes` needs.
_HEADER_BYTES = 64
_TAG_HEADER_BYTES = 24
_COUNT_NAMES = (b"Xing", b"Info")
_VBRI_AT = 36
_FRAME_OR_TAG = re.compile(rb"\xff[\xe0-\xff]|ID3|APETAGEX")


class Format(NamedTuple):
    """What stays the same over the frames of a recording."""

    version: int
    """The two bits of the header: 3 is MPEG 1, 2 MPEG 2 and 0 MPEG 2.5."""
    layer: int
    sample_rate: int
    mono: bool


@dataclass(frozen=True)
class Frame:
    """Contents of a frame header."""

    format: Format
    length: int
    """Bytes."""
    samples: int
    name_at: int
    """Offset of the name Xing or Info in a frame without sound."""


@dataclass
class Recording:
    """Consecutive frames of one format, as one encoder wrote them."""

    format: Format
    header: bytes
    """The four header bytes of its first frame."""
    counts: bytes = b""
    """Its Xing or Info frame, which holds the frame count and the encoder's delay."""
    counted: int = 0
    """Frames by that count."""
    runs: list[tuple[int, int]] = field(default_factory=list)
    """Start and end in the file of each contiguous run of frames with sound."""
    frames: int = 0
    samples: int = 0

    def add(self, offset: int, frame: Frame) -> None:
        """Append a frame with sound."""
        start = offset
        if self.runs and self.runs[-1][1] == offset:
            start, _ = self.runs.pop()
        self.runs.append((start, offset + frame.length))
        self.frames += 1
        self.samples += frame.samples

    def pieces(self) -> list[bytes | range]:
        """Bytes and ranges of the file from which a decoder finds the true length."""
        counts = [self._true_counts()] if self.format.layer == 3 else []
        return [*counts, *(range(start, end) for start, end in self.runs)]

    def has_true_counts(self) -> bool:
        """Whether its count covers all its frames; a higher count means that frames are missing."""
        return bool(self.counts) and self.counted >= self.frames

    def estimated_samples(self) -> int:
        """Samples per channel where a decoder can only estimate them, else 0."""
        return 0 if self.has_true_counts() else self.samples

    def _true_counts(self) -> bytes:
        """Its own counts, or a Xing frame with the true ones."""
        if self.has_true_counts():
            return self.counts
        # Without padding and checksum, at a bit rate whose frames are long enough.
        header = bytes([0xFF, self.header[1] | 1, 0x80 | self.header[2] & 0x0C, self.header[3]])
        frame = frame_of(header)
        assert frame is not None, "made from a valid header"
        counts = b"Xing" + struct.pack(">2I", 1, max(self.frames, self.counted))
        return (header.ljust(frame.name_at, b"\0") + counts).ljust(frame.length, b"\0")


@lru_cache(maxsize=4096)
def frame_of(header: bytes) -> Frame | None:
    """Parse four header bytes; None if they are not a header, or have the "free" bit rate."""
    if len(header) < 4 or header[0] != 0xFF or header[1] < 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bitrate, rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    is_version_1 = version == 3
    samples = 384 if layer == 1 else 1152 if is_version_1 or layer == 2 else 576
    slot_bytes = 4 if layer == 1 else 1
    sample_rate = _RATES[version][rate]
    bit_rate = 1000 * _BITRATES[is_version_1, layer][bitrate - 1]
    slots = bit_rate * samples // (8 * slot_bytes * sample_rate) + (header[2] >> 1 & 1)
    mono = header[3] >> 6 == 3
    side_info_bytes = (17 if mono else 32) if is_version_1 else (9 if mono else 17)
    checksum_bytes = 0 if header[1] & 1 else 2
    return Frame(
        Format(version, layer, sample_rate, mono),
        slots * slot_bytes,
        samples,
        4 + checksum_bytes + side_info_bytes,
    )


def tag_bytes(header: bytes) -> int:
    """Length of the ID3v2 or APE tag that begins with these bytes; 0 if none does."""
    if header[:3] == b"ID3" and len(header) >= 10 and max(header[6:10]) < 0x80:
        size = header[6] << 21 | header[7] << 14 | header[8] << 7 | header[9]
        return 10 + size + (10 if header[5] & 0x10 else 0)
    if header[:8] == b"APETAGEX" and len(header) >= 24:
        size, flags = struct.unpack_from("<I4xI", header, 12)
        is_header = flags >> 29 & 1  # not the footer; its size counts all that follows
        return int(32 + (size if is_header else 0))
    return 0


def recordings(file: BinaryIO, end: int) -> tuple[list[Recording], int]:
    """Find the recordings in the first `end` bytes; count the bytes outside frames and tags."""
    found: list[Recording] = []
    lost = offset = block_at = 0
    block = b""
    while offset + 4 <= end:
        header = block[offset - block_at : offset - block_at + _HEADER_BYTES]
        if len(header) < _HEADER_BYTES:
            block, block_at = read_at(file, offset, _BLOCK_BYTES), offset
            header = block[:_HEADER_BYTES].ljust(_HEADER_BYTES, b"\0")
        frame = frame_of(header[:4])
        continues = frame is not None and bool(found) and frame.format == found[-1].format
        if frame is None or not (continues or _is_start(file, offset, frame)):
            offset, skipped = _next_frame_or_tag(file, offset, end)
            lost += skipped
            continue
        if offset + frame.length > end:
            break
        counted = _frame_count(header, frame)
        if not continues or counted is not None:
            found.append(Recording(frame.format, header[:4]))
        if counted is None:
            found[-1].add(offset, frame)
        else:
            found[-1].counted = counted
            # Not VBRI, which some decoders do not know.
            if header[frame.name_at : frame.name_at + 4] in _COUNT_NAMES:
                found[-1].counts = read_at(file, offset, frame.length)
        offset += frame.length
    return [recording for recording in found if recording.frames], lost


def _frame_count(header: bytes, frame: Frame) -> int | None:
    """The count in a frame without sound, 0 if unknown; None for a frame with sound."""
    if header[frame.name_at : frame.name_at + 4] in _COUNT_NAMES:
        flags, count = struct.unpack_from(">2I", header, frame.name_at + 4)
        return int(count) if flags & 1 and count != 0xFFFFFFFF else 0
    if header[_VBRI_AT : _VBRI_AT + 4] == b"VBRI":
        return int.from_bytes(header[_VBRI_AT + 14 : _VBRI_AT + 18], "big")
    return None


def _is_start(file: BinaryIO, offset: int, frame: Frame) -> bool:
    """Whether this frame is followed by frames of the same format, or by the end of the file."""
    for confirmed in range(1, _CONFIRMING_FRAMES):
        offset += frame.length
        header = read_at(file, offset, 4)
        if not header:
            return True
        following = frame_of(header)
        if following is None or following.format != frame.format:
            return len(header) < 4 and confirmed > 1
        frame = following
    return True


def _next_frame_or_tag(file: BinaryIO, offset: int, end: int) -> tuple[int, int]:
    """Offset after the tag here, else of the next frame or tag, and the non-zero bytes skipped."""
    length = tag_bytes(read_at(file, offset, _TAG_HEADER_BYTES))
    if 0 < length <= end - offset:
        return offset + length, 0
    lost, offset = 1, offset + 1
    while offset < end:
        block = read_at(file, offset, _BLOCK_BYTES)
        for match in _FRAME_OR_TAG.finditer(block):
            at = offset + match.start()
            header = read_at(file, at, _TAG_HEADER_BYTES)
            frame = frame_of(header[:4])
            if 0 < tag_bytes(header) <= end - at or (frame and _is_start(file, at, frame)):
                return at, lost + match.start() - block.count(0, 0, match.start())
        # The last bytes may begin a match that ends in the next block.
        passed = len(block) - 7 if offset + len(block) < end else len(block)
        lost += passed - block.count(0, 0, passed)
        offset += passed
    return end, lost


def read_at(file: BinaryIO, offset: int, count: int) -> bytes:
    """Read up to `count` bytes at an offset."""
    file.seek(offset)
    return file.read(count)
