"""Loading clips as mono samples at a given rate, and saving them."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from musicspectrogan.errors import UserError, printable
from musicspectrogan.filesystem import whole_file

SOUNDFILE_SUFFIXES = frozenset(".wav .flac .ogg .oga .opus .mp3 .au .snd .aif .aiff .aifc".split())
FALLBACK_SUFFIXES = frozenset(".m4a .mp4 .aac .wma .webm .ape .wv .mka .3gp .mp2".split())
AUDIO_SUFFIXES = SOUNDFILE_SUFFIXES | FALLBACK_SUFFIXES

# Format and subtype by suffix.
SAVED_FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}

# Frames read at a time; and where a damaged file breaks off, for all of that block is lost.
BLOCK_FRAMES = 65536
DAMAGED_BLOCK_FRAMES = 8192

# What music has. Beyond that a file of some bytes may become any amount of samples; who has longer recordings
# cuts them.
LOWEST_RATE, HIGHEST_RATE = 1000, 3_000_000
MOST_CHANNELS = 64
LONGEST_HOURS = 4

# Above any float file that means its samples; squares of such numbers are still finite.
LOUDEST = 1e9

# MIDI note at which samplers play a file as it is.
MIDDLE_C = 60

# The 16-bit sample that full scale, 1, stands for.
FULL_SCALE = 32768.0

# libsndfile notes a chunk that its file cannot hold: "data : 441000 (should be 220478)".
_SHORT_CHUNK = re.compile(r"(?:data|SSND|Data Size)\s*:\s*(\d+) \(should be (\d+)\)")


class AudioError(Exception):
    """This file gives no usable audio; the text is the reason, fit for a report."""


@dataclass(frozen=True)
class Audio:
    """A decoded clip."""

    samples: np.ndarray
    """float32 (n,), mono, full scale is 1."""
    peak: float
    """The largest absolute sample, before resampling."""
    warning: str = ""
    """What is amiss with a file that was decoded all the same."""


def is_audio(name: str) -> bool:
    """True for file names that this module would try to decode; dot files (AppleDouble) are not audio."""
    return name.lower().endswith(tuple(AUDIO_SUFFIXES)) and not name.startswith(".")


def load(path: Path, sample_rate: int) -> Audio:
    """Decode a file, mix it down to mono and resample it with soxr.

    A file that ends before its header says is decoded as far as it goes, with a warning.

    Raises:
        AudioError: missing, undecodable, empty, or with samples that are not finite.
    """
    if not path.is_file():
        raise AudioError("file is missing")
    if path.stat().st_size == 0:
        raise AudioError("file is empty")
    decode = _decode if path.suffix.lower() in SOUNDFILE_SUFFIXES else _decode_by_audioread
    with _native_messages_silenced():
        return decode(path, sample_rate)


def save(
    path: Path,
    samples: np.ndarray,
    sample_rate: int,
    *,
    bit_depth: int = 16,
    loops: bool = False,
    **tags: str,
) -> None:
    """Write mono float samples (n,) in [-1, 1], whole or not at all, in the format of the suffix.

    Args:
        path: ends in one of SAVED_FORMATS.
        bit_depth: 16 or 24, in wav and flac.
        loops: all of it is one loop. A wav file then has loop points, which samplers read.
        tags: such as title, genre and comment, where the format has room for them.

    Raises:
        UserError: it cannot be written, for want of room for instance.
    """
    container, subtype = SAVED_FORMATS[path.suffix.lower().removeprefix(".")]
    subtype = f"PCM_{bit_depth}" if subtype.startswith("PCM") else subtype
    form = {"channels": 1, "format": container, "subtype": subtype}
    with whole_file(path) as temporary:
        try:
            with soundfile.SoundFile(temporary, "w", sample_rate, **form) as file:
                for name, value in tags.items():
                    setattr(file, name, printable(value))
                file.write(samples)
            if loops and container == "WAV":
                _append_loop_points(temporary, len(samples), sample_rate)
        except soundfile.LibsndfileError:
            raise UserError(f"{path}: cannot be written; is the disk full?") from None


def comment_of(path: Path) -> str:
    """The comment in a sound file that `save` may have written; empty where there is none."""
    try:
        with _native_messages_silenced(), soundfile.SoundFile(path) as file:
            return file.comment
    except soundfile.LibsndfileError:
        return ""


def _append_loop_points(path: Path, frames: int, sample_rate: int) -> None:
    """Add a `smpl` chunk to a WAV file: one forward loop over all frames, without end.

    Its layout is in Microsoft's "Multimedia Data Standards Update" of 1994. libsndfile can write it, but
    soundfile has no way to ask for it.
    """
    period_ns = round(1e9 / sample_rate)
    no_one, no_fraction, no_smpte = (0, 0), 0, (0, 0)
    sampler = struct.pack("<9I", *no_one, period_ns, MIDDLE_C, no_fraction, *no_smpte, 1, 0)
    loop = struct.pack("<6I", 0, 0, 0, frames - 1, 0, 0)  # number, forward, first, last, fraction, times
    chunk = b"smpl" + struct.pack("<I", len(sampler + loop)) + sampler + loop
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size % 2:  # chunks begin at even places, and 24-bit samples may end at an odd one
            size += file.write(b"\0")
        file.write(chunk)
        file.seek(4)
        file.write(struct.pack("<I", size + len(chunk) - 8))


class _Intake:
    """Takes a file in block by block: checks it, mixes it down and resamples it.

    So hours of music need no more memory than their result, and a clip's blocks stay in the cache.
    """

    def __init__(self, source_rate: int, sample_rate: int) -> None:
        if not LOWEST_RATE <= source_rate <= HIGHEST_RATE:
            raise AudioError(f"its sample rate of {source_rate} Hz is none of music")
        self.frames = 0
        self.peak = 0.0
        self._most_frames = LONGEST_HOURS * 3600 * source_rate
        self._resampler = None
        if source_rate != sample_rate:
            self._resampler = soxr.ResampleStream(source_rate, sample_rate, 1, dtype="float32", quality="HQ")
        self._parts: list[np.ndarray] = []

    def add(self, block: np.ndarray) -> None:
        """Take in (n, channels), float32 or int16; AudioError for samples that are no music."""
        if self.frames + len(block) > self._most_frames:
            raise AudioError(f"longer than {LONGEST_HOURS} hours; cut it into pieces")
        mono = _mixed_down(block)
        peak = float(max(mono.max(), -mono.min()))
        if not np.isfinite(peak):
            raise AudioError("samples that are not finite numbers")
        if peak > LOUDEST:
            raise AudioError("samples far beyond full scale")
        self.frames += len(mono)
        self.peak = max(self.peak, peak)
        self._parts.append(self._resampler.resample_chunk(mono) if self._resampler else mono)

    def audio(self, warning: str = "") -> Audio:
        """All that was taken in; AudioError when that is nothing."""
        if not self.frames:
            raise AudioError("no audio in it")
        if self._resampler:
            self._parts.append(self._resampler.resample_chunk(np.empty(0, dtype=np.float32), last=True))
        return Audio(np.concatenate(self._parts), self.peak, warning)


def _mixed_down(block: np.ndarray) -> np.ndarray:
    """The mean (n,) of channels (n, channels), as float32 of full scale 1.

    Channel by channel: numpy's mean over so short an axis takes as long as decoding.
    """
    total = block[:, 0].astype(np.float32)
    for channel in range(1, block.shape[1]):
        total += block[:, channel]
    full_scale = FULL_SCALE if block.dtype == np.int16 else 1.0
    total *= np.float32(1.0 / (full_scale * block.shape[1]))
    return total


def _decode(path: Path, sample_rate: int, block_frames: int = BLOCK_FRAMES) -> Audio:
    """By libsndfile."""
    try:
        with soundfile.SoundFile(path) as file:
            if file.format == "RAW":  # libsndfile's guess about an .au or .snd without a header
                raise AudioError("does not decode: no header of a known format")
            if file.channels > MOST_CHANNELS:
                raise AudioError(f"{file.channels} channels are too many")
            rate, declared = file.samplerate, file.frames
            chunk = _SHORT_CHUNK.search(file.extra_info)
            if chunk and int(chunk[1]) > int(chunk[2]) > 0:
                declared = declared * int(chunk[1]) // int(chunk[2])
            # 16-bit samples come as they are: much faster than libsndfile's way to float, to the same values.
            dtype = "int16" if file.subtype == "PCM_16" else "float32"
            intake = _Intake(rate, sample_rate)
            place = np.empty((block_frames, file.channels), dtype=dtype)
            try:
                while len(block := file.read(out=place)):
                    intake.add(block)
            except soundfile.LibsndfileError:
                if block_frames > DAMAGED_BLOCK_FRAMES:
                    return _decode(path, sample_rate, DAMAGED_BLOCK_FRAMES)
                if not intake.frames:
                    raise
                declared = max(declared, 1 + intake.frames)
    except soundfile.LibsndfileError as error:
        reason = " ".join(error.error_string.split())
        if not reason or "does not exist" in reason:  # what it says of an MP3 without a single frame
            reason = "damaged from its start"
        raise AudioError(f"does not decode: {reason}") from None
    # An MP3 header counts the encoder's padding, up to a few frames of 1152 samples.
    if intake.frames >= declared - 4 * 1152:
        return intake.audio()
    return intake.audio(
        f"ends after {intake.frames / rate:.1f} s of the {declared / rate:.1f} s "
        "that its header says; converted as far as it goes"
    )


def _decode_by_audioread(path: Path, sample_rate: int) -> Audio:
    """The same, for formats that libsndfile does not read, mostly by ffmpeg."""
    import audioread  # librosa's own fallback, which few datasets need

    try:
        with audioread.audio_open(str(path)) as file:
            if file.channels > MOST_CHANNELS:
                raise AudioError(f"{file.channels} channels are too many")
            intake = _Intake(file.samplerate, sample_rate)
            rest = b""
            for block in file:
                rest += block
                whole = len(rest) - len(rest) % (2 * file.channels)
                if whole:
                    intake.add(np.frombuffer(rest[:whole], "<i2").reshape(-1, file.channels))
                rest = rest[whole:]
    except AudioError:
        raise
    except audioread.NoBackendError:
        if audioread.ffdec.available():
            raise AudioError("does not decode: damaged, or no audio in it") from None
        raise AudioError(
            f"no decoder for {path.suffix.lower()} files here; install ffmpeg, or convert them to WAV"
        ) from None
    except Exception as error:  # decoders behind audioread raise whatever they like
        raise AudioError(f"does not decode: {type(error).__name__}: {error}") from None
    return intake.audio()


@contextmanager
def _native_messages_silenced() -> Iterator[None]:
    """Decoders in C write their complaints straight to stderr; the report has the reasons."""
    saved = os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)
