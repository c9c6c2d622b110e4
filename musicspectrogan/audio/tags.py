"""What a sound file says beside its samples: its tempo and its loop, where samplers and players look.

libsndfile can write some of it, but soundfile has no way to ask for it.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Mapping
from pathlib import Path

from musicspectrogan.audio.tempo import BEATS_PER_BAR, Tempo

# MIDI note at which samplers play a file as it is.
MIDDLE_C = 60

# Flag of an `acid` chunk: it is a loop, to be stretched to the project's tempo; without it a one-shot.
ACID_LOOP, ACID_ONE_SHOT = 0x04, 0x01

# Frames of ID3 by soundfile's names of the same.
ID3_FRAMES = {
    "title": b"TIT2",
    "artist": b"TPE1",
    "genre": b"TCON",
    "bpm": b"TBPM",
    "comment": b"COMM",
}
ID3_HEAD_BYTES = 10
# It writes its size into four bytes of seven bits each.
SEVEN_BITS = (21, 14, 7, 0)

# A tag of soundfile's own, whose name is one letter longer than BPM.
PLACEHOLDER = "date"
# Where its comments are in a file that libsndfile has written: near the beginning.
COMMENTS_BYTES = 2**17


def add_to_wav(
    path: Path,
    frames: int,
    sample_rate: int,
    *,
    loops: bool,
    tempo: Tempo | None,
    tags: Mapping[str, str],
) -> None:
    """Append what samplers and players read to a WAV file of so many frames, where there is something to say.

    Args:
        tags: for the ID3 tag with the tempo, which many players read alone.
    """
    chunks = {}
    if tempo is not None:
        chunks[b"id3 "] = id3_tag(tags, tempo)
        if tempo.beats is not None:
            chunks[b"acid"] = _acid_chunk(tempo, loops=loops)
    if loops:
        chunks[b"smpl"] = _loop_points(frames, sample_rate)
    if not chunks:
        return
    with open(path, "r+b") as file:
        for name, contents in chunks.items():
            end = file.seek(0, os.SEEK_END)
            # Chunks begin at even places, and 24-bit samples may end at an odd one.
            file.write(b"\0" * (end % 2))
            file.write(name + struct.pack("<I", len(contents)) + contents)
        size = file.seek(0, os.SEEK_END)
        size += file.write(b"\0" * (size % 2))
        file.seek(4)
        file.write(struct.pack("<I", size - 8))


def _loop_points(frames: int, sample_rate: int) -> bytes:
    """A `smpl` chunk: one forward loop over all frames, without end.

    Its layout is in Microsoft's "Multimedia Data Standards Update" of 1994.
    """
    period_ns = round(1e9 / sample_rate)
    no_one, no_fraction, no_smpte = (0, 0), 0, (0, 0)
    sampler = struct.pack("<9I", *no_one, period_ns, MIDDLE_C, no_fraction, *no_smpte, 1, 0)
    loop = struct.pack(
        "<6I", 0, 0, 0, frames - 1, 0, 0
    )  # number, forward, first, last, fraction, times
    return sampler + loop


def _acid_chunk(tempo: Tempo, *, loops: bool) -> bytes:
    """An `acid` chunk: beats, meter and tempo, as Sony's ACID and most samplers and DAWs read it.

    It is nowhere published; this is the layout that libsndfile reads.
    """
    kind = ACID_LOOP if loops else ACID_ONE_SHOT
    unknown = (0x8000, 0.0)
    return struct.pack(
        "<IHHfIHHf", kind, MIDDLE_C, *unknown, tempo.beats, 4, BEATS_PER_BAR, tempo.bpm
    )


def id3_tag(tags: Mapping[str, str], tempo: Tempo) -> bytes:
    """An ID3v2.3 tag. Its tempo is a whole number, as that standard asks."""
    contents = b""
    for name, value in {**tags, "bpm": f"{tempo.bpm:.0f}"}.items():
        if name in ID3_FRAMES:
            text = (
                b"\1" + (b"eng\xff\xfe\0\0" if name == "comment" else b"") + value.encode("utf-16")
            )
            contents += ID3_FRAMES[name] + struct.pack(">IH", len(text), 0) + text
    size = bytes(len(contents) >> shift & 0x7F for shift in SEVEN_BITS)
    return b"ID3\3\0\0" + size + contents


def add_to_mp3(path: Path, tempo: Tempo, tags: Mapping[str, str]) -> None:
    """Put an ID3 tag in front of an MP3 file, in place of one that is there."""
    contents = path.read_bytes()
    if contents[:3] == b"ID3":
        size = sum(byte << shift for byte, shift in zip(contents[6:10], SEVEN_BITS, strict=True))
        contents = contents[ID3_HEAD_BYTES + size :]
    path.write_bytes(id3_tag(tags, tempo) + contents)


def placeholder(tempo: Tempo) -> dict[str, str]:
    """A tag for soundfile to write into a FLAC or OGG file, as long as that of the tempo."""
    return {PLACEHOLDER: "0" * (len(str(tempo)) - 1)}


def name_tempo(path: Path, tempo: Tempo) -> None:
    """Write `BPM=120` over the placeholder among a FLAC or OGG file's comments."""
    with open(path, "r+b") as file:
        data = file.read(COMMENTS_BYTES)
        wanted = f"{PLACEHOLDER}={placeholder(tempo)[PLACEHOLDER]}".encode()
        at = data.lower().find(struct.pack("<I", len(wanted)) + wanted) + 4
        if at < 4:  # libsndfile has written less than it says
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        data = data[:at] + f"BPM={tempo}".encode() + data[at + len(wanted) :]
        if data[:4] == b"OggS":
            data = _with_checksum(data, at)
        file.seek(0)
        file.write(data)


def _with_checksum(data: bytes, at: int) -> bytes:
    """Pages of Ogg, the checksum (RFC 3533, 6) of the one that holds this place made right."""
    start = end = 0
    while end <= at:
        start, segments = end, data[end + 26]
        end = start + 27 + segments + sum(data[start + 27 : start + 27 + segments])
    checksum = 0
    for byte in data[start : start + 22] + bytes(4) + data[start + 26 : end]:
        checksum ^= byte << 24
        for _ in range(8):
            checksum = checksum << 1 ^ (0x104C11DB7 if checksum >> 31 else 0)
    return data[: start + 22] + struct.pack("<I", checksum) + data[start + 26 :]
