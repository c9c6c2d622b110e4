"""MP3 files by their own frames: where each recording in them lies, and how long it is.

A decoder knows the length of an MP3 from the counts in a first frame without sound (Xing, Info or VBRI).
Without one it estimates from the file's size, and what is behind the first of several recordings does not
count.

Frame headers are in ISO/IEC 11172-3, 2.4.2.3; the counts in Xing's VBR SDK and Fraunhofer's VBRI SDK.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import BinaryIO

# kbit/s by whether the version is 1, and by layer.
_BITRATES = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
# Hz by the two bits of the version; 1 is none.
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}

# Frames of one kind in a row that prove a start. Two are found by chance in other data.
_PROOF = 3

# Read at a time; and of each frame, what may hold its counts.
_PIECE_BYTES = 1 << 16
_HEAD_BYTES = 64
_TAG_HEAD_BYTES = 24
_NAMES = (b"Xing", b"Info")
_VBRI_AT = 36
_FRAME_OR_TAG = re.compile(rb"\xff[\xe0-\xff]|ID3|APETAGEX")


@dataclass(frozen=True)
class Frame:
    """What the first four bytes of a frame say."""

    kind: tuple[int, int, int, bool]
    """Version's bits, layer, sample rate in Hz, mono: a decoder that takes one of a kind takes all."""
    length: int
    """Bytes."""
    samples: int
    name_at: int
    """Where a frame without sound has its name, Xing or Info."""


@dataclass
class Recording:
    """Frames of one kind: what one encoder wrote, or as much of it as is there."""

    kind: tuple[int, int, int, bool]
    first: bytes
    """Four bytes, the header of its first frame."""
    counts: bytes = b""
    """Its frame without sound that has the counts and the encoder's delay."""
    counted: int = 0
    """Frames by these counts."""
    runs: list[list[int]] = field(default_factory=list)
    """Where its frames with sound begin and end in the file."""
    frames: int = 0
    samples: int = 0

    def add(self, place: int, frame: Frame) -> None:
        """Take in a frame with sound."""
        if not self.runs or self.runs[-1][1] != place:
            self.runs.append([place, place])
        self.runs[-1][1] = place + frame.length
        self.frames += 1
        self.samples += frame.samples

    def pieces(self) -> list[bytes | range]:
        """The recording as bytes and as parts of the file, such that a decoder finds its true length."""
        counts = [self._true_counts()] if self.kind[1] == 3 else []
        return [*counts, *(range(start, end) for start, end in self.runs)]

    def has_true_counts(self) -> bool:
        """Whether its own counts are no fewer than its frames; where more, some are missing."""
        return bool(self.counts) and self.counted >= self.frames

    def estimated(self) -> int:
        """Samples a channel where a decoder can only estimate them, otherwise 0."""
        return 0 if self.has_true_counts() else self.samples

    def _true_counts(self) -> bytes:
        """Its counts, or a frame with what they should be."""
        if self.has_true_counts():
            return self.counts
        # At a bit rate that gives the frame room, and without padding and checksum.
        head = bytes([0xFF, self.first[1] | 1, 0x80 | self.first[2] & 0x0C, self.first[3]])
        frame = frame_of(head)
        assert frame is not None, "the bits of a valid header"
        name = head.ljust(frame.name_at, b"\0") + b"Xing"
        return (name + struct.pack(">2I", 1, max(self.frames, self.counted))).ljust(
            frame.length, b"\0"
        )


@lru_cache(maxsize=4096)
def frame_of(head: bytes) -> Frame | None:
    """The frame that begins with these four bytes; None for other bytes, and for a "free" bit rate."""
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    full = version == 3
    samples = 384 if layer == 1 else 1152 if full or layer == 2 else 576
    slot = 4 if layer == 1 else 1
    hertz = _RATES[version][rate]
    slots = _BITRATES[full, layer][bitrate - 1] * 1000 * samples // (8 * slot * hertz)
    mono = head[3] >> 6 == 3
    side_bytes = (17 if mono else 32) if full else (9 if mono else 17)
    checksum_bytes = 0 if head[1] & 1 else 2
    length = (slots + (head[2] >> 1 & 1)) * slot
    return Frame((version, layer, hertz, mono), length, samples, 4 + checksum_bytes + side_bytes)


def tag_bytes(head: bytes) -> int:
    """The length of the ID3v2 or APE tag that begins with these bytes, 0 for none."""
    if head[:3] == b"ID3" and len(head) >= 10 and max(head[6:10]) < 0x80:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        return 10 + size + (10 if head[5] & 0x10 else 0)
    if head[:8] == b"APETAGEX" and len(head) >= 24:
        size, flags = struct.unpack_from("<I4xI", head, 12)
        return 32 + (
            size if flags >> 29 & 1 else 0
        )  # the header, which counts all behind it; or the footer
    return 0


def recordings(file: BinaryIO, end: int) -> tuple[list[Recording], int]:
    """The recordings in the first `end` bytes of a file, and how many bytes are neither frames nor tags."""
    found: list[Recording] = []
    recording = None
    lost = place = piece_at = 0
    piece = b""
    while place + 4 <= end:
        head = piece[place - piece_at : place - piece_at + _HEAD_BYTES]
        if len(head) < _HEAD_BYTES:
            file.seek(place)
            piece, piece_at = file.read(_PIECE_BYTES), place
            head = piece[:_HEAD_BYTES].ljust(_HEAD_BYTES, b"\0")
        frame = frame_of(head[:4])
        goes_on = frame is not None and recording is not None and frame.kind == recording.kind
        if frame is None or not (goes_on or _is_start(file, place, frame)):
            place, others = _next_place(file, place, end)
            lost += others
            continue
        if place + frame.length > end:
            break
        counted = _counted(head, frame)
        if recording is None or not goes_on or counted is not None:
            recording = Recording(frame.kind, head[:4])
            found.append(recording)
        if counted is None:
            recording.add(place, frame)
        else:
            recording.counted = counted
            if (
                head[frame.name_at : frame.name_at + 4] in _NAMES
            ):  # others are not known to every decoder
                file.seek(place)
                recording.counts = file.read(frame.length)
        place += frame.length
    return [recording for recording in found if recording.frames], lost


def _counted(head: bytes, frame: Frame) -> int | None:
    """Frames by a frame without sound, 0 where it does not say; None for a frame with sound."""
    if head[frame.name_at : frame.name_at + 4] in _NAMES:
        flags, count = struct.unpack_from(">2I", head, frame.name_at + 4)
        return count if flags & 1 and count != 0xFFFFFFFF else 0
    if head[_VBRI_AT : _VBRI_AT + 4] == b"VBRI":
        return struct.unpack_from(">I", head, _VBRI_AT + 14)[0]
    return None


def _is_start(file: BinaryIO, place: int, frame: Frame) -> bool:
    """Whether frames of the same kind follow this one, or the end of the file."""
    for proven in range(1, _PROOF):
        place += frame.length
        file.seek(place)
        head = file.read(4)
        if not head:
            return True
        following = frame_of(head)
        if following is None or following.kind != frame.kind:
            return len(head) < 4 and proven > 1
        frame = following
    return True


def _next_place(file: BinaryIO, place: int, end: int) -> tuple[int, int]:
    """Behind the tag here; or where a frame or tag comes next, and how many bytes before it are not zero."""
    file.seek(place)
    length = tag_bytes(file.read(_TAG_HEAD_BYTES))
    if 0 < length <= end - place:
        return place + length, 0
    lost, place = 1, place + 1
    while place < end:
        file.seek(place)
        piece = file.read(_PIECE_BYTES)
        for match in _FRAME_OR_TAG.finditer(piece):
            at = place + match.start()
            file.seek(at)
            head = file.read(_TAG_HEAD_BYTES)
            frame = frame_of(head[:4])
            if 0 < tag_bytes(head) <= end - at or (frame and _is_start(file, at, frame)):
                return at, lost + match.start() - piece.count(0, 0, match.start())
        # What begins with the last bytes may go on in the next piece.
        passed = len(piece) - 7 if place + len(piece) < end else len(piece)
        lost += passed - piece.count(0, 0, passed)
        place += passed
    return end, lost
