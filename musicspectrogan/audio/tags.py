"""Tempo and loop points in audio files, for samplers and players.

libsndfile can write some of them, but soundfile does not give access to it.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Mapping
from pathlib import Path

from musicspectrogan.audio.tempo import BEATS_PER_BAR, Tempo

# MIDI note at which samplers play a file at its own pitch.
MIDDLE_C = 60

# Flags of an `acid` chunk: a loop is stretched to the project's tempo, a one-shot is not.
ACID_LOOP, ACID_ONE_SHOT = 0x04, 0x01

# ID3 frames by soundfile's tag names.
ID3_FRAMES = {
    "title": b"TIT2",
    "artist": b"TPE1",
    "genre": b"TCON",
    "bpm": b"TBPM",
    "comment": b"COMM",
}
ID3_HEADER_BYTES = 10
# ID3 stores its size in four bytes of seven bits.
ID3_SIZE_SHIFTS = (21, 14, 7, 0)

# A tag that soundfile can write, with a name one letter longer than BPM.
PLACEHOLDER = "date"
# libsndfile writes Vorbis comments near the start of a file.
COMMENTS_BYTES = 2**17


def tag_wav(
    path: Path,
    frames: int,
    sample_rate: int,
    *,
    loops: bool,
    tempo: Tempo | None,
    tags: Mapping[str, str],
) -> None:
    """Append chunks with the tempo and loop points, if any, to a WAV file of this many frames.

    Args:
        tags: repeated in the ID3 tag with the tempo, because many players read only that.
    """
    chunks = {}
    if tempo is not None:
        chunks[b"id3 "] = id3_tag(tags, tempo)
        if tempo.beats is not None:
            chunks[b"acid"] = _acid_chunk(tempo, tempo.beats, loops=loops)
    if loops:
        chunks[b"smpl"] = _loop_points(frames, sample_rate)
    if not chunks:
        return
    with open(path, "r+b") as file:
        for name, contents in chunks.items():
            # Chunks start at even offsets.
            padding = b"\0" * (file.seek(0, os.SEEK_END) % 2)
            file.write(padding + name + struct.pack("<I", len(contents)) + contents)
        size = file.seek(0, os.SEEK_END)
        size += file.write(b"\0" * (size % 2))
        file.seek(4)
        file.write(struct.pack("<I", size - 8))


def _loop_points(frames: int, sample_rate: int) -> bytes:
    """A `smpl` chunk: one forward loop over all frames, repeated forever.

    Layout: Microsoft, "Multimedia Data Standards Update", 1994.
    """
    period_ns = round(1e9 / sample_rate)
    # Manufacturer, product, period, note, its fraction, SMPTE format and offset, loops, extra
    # bytes.
    sampler = struct.pack("<9I", 0, 0, period_ns, MIDDLE_C, 0, 0, 0, 1, 0)
    # Cue point, type forward, first and last frame, fraction, repeats.
    return sampler + struct.pack("<6I", 0, 0, 0, frames - 1, 0, 0)


def _acid_chunk(tempo: Tempo, beats: int, *, loops: bool) -> bytes:
    """An `acid` chunk: beats, meter and tempo, as Sony's ACID and most samplers and DAWs read it.

    Not published; this is the layout that libsndfile reads.
    """
    flags = ACID_LOOP if loops else ACID_ONE_SHOT
    unknown = (0x8000, 0.0)
    return struct.pack("<IHHfIHHf", flags, MIDDLE_C, *unknown, beats, 4, BEATS_PER_BAR, tempo.bpm)


def id3_tag(tags: Mapping[str, str], tempo: Tempo) -> bytes:
    """An ID3v2.3 tag, with the tempo as an integer, as the standard requires."""
    contents = b""
    for name, value in {**tags, "bpm": f"{tempo.bpm:.0f}"}.items():
        if name in ID3_FRAMES:
            language = b"eng\xff\xfe\0\0" if name == "comment" else b""
            text = b"\1" + language + value.encode("utf-16")
            contents += ID3_FRAMES[name] + struct.pack(">IH", len(text), 0) + text
    size = bytes(len(contents) >> shift & 0x7F for shift in ID3_SIZE_SHIFTS)
    return b"ID3\3\0\0" + size + contents


def tag_mp3(path: Path, tempo: Tempo, tags: Mapping[str, str]) -> None:
    """Put an ID3 tag at the start of an MP3 file, replacing the one there."""
    contents = path.read_bytes()
    if contents[:3] == b"ID3":
        sizes = zip(contents[6:10], ID3_SIZE_SHIFTS, strict=True)
        contents = contents[ID3_HEADER_BYTES + sum(byte << shift for byte, shift in sizes) :]
    path.write_bytes(id3_tag(tags, tempo) + contents)


def tempo_placeholder(tempo: Tempo) -> dict[str, str]:
    """A tag for soundfile to write into FLAC or OGG, as long as `BPM=…`."""
    return {PLACEHOLDER: "0" * (len(str(tempo)) - 1)}


def write_tempo_comment(path: Path, tempo: Tempo) -> None:
    """Replace the placeholder in a FLAC or OGG file by the comment `BPM=…`."""
    with open(path, "r+b") as file:
        data = file.read(COMMENTS_BYTES)
        placeholder = f"{PLACEHOLDER}={tempo_placeholder(tempo)[PLACEHOLDER]}".encode()
        at = data.lower().find(struct.pack("<I", len(placeholder)) + placeholder) + 4
        if at < 4:  # a full disk, which libsndfile does not always report
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        data = data[:at] + f"BPM={tempo}".encode() + data[at + len(placeholder) :]
        if data[:4] == b"OggS":
            data = _with_checksum(data, at)
        file.seek(0)
        file.write(data)


def _with_checksum(data: bytes, at: int) -> bytes:
    """OGG pages, with the CRC-32 of the page around offset `at` recomputed (RFC 3533, 6)."""
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
