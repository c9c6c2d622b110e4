"""Loading clips as mono samples at a given rate, and saving them."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from musicspectrogan.errors import UserError
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

# Frames read at a time: small, because all of a block is lost where a damaged file breaks off.
BLOCK_FRAMES = 8192

# Above any float file that means its samples; squares of such numbers are still finite.
LOUDEST = 1e9

# libsndfile notes a chunk that its file cannot hold: "data : 441000 (should be 220478)".
_SHORT_CHUNK = re.compile(r"(?:data|SSND|Data Size)\s*:\s*(\d+) \(should be (\d+)\)")


class AudioError(Exception):
    """This file gives no usable audio; the text is the reason, fit for a report."""


@dataclass(frozen=True)
class Audio:
    """A decoded clip."""

    samples: np.ndarray
    """float32 (n,), mono, full scale is 1."""
    warning: str = ""
    """What is amiss with a file that was decoded all the same."""


def is_audio(path: Path) -> bool:
    """True for names that this module would try to decode; dot files (AppleDouble) are not audio."""
    return path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".")


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
    decode = _decode if path.suffix.lower() in SOUNDFILE_SUFFIXES else _decode_with_librosa
    with _native_messages_silenced():
        samples, source_rate, warning = decode(path)
    if not len(samples):
        raise AudioError("no audio in it")
    if not np.isfinite(samples).all():
        raise AudioError("samples that are not finite numbers")
    if np.abs(samples).max() > LOUDEST:
        raise AudioError("samples far beyond full scale")
    if source_rate != sample_rate:
        samples = soxr.resample(samples, source_rate, sample_rate, quality="HQ")
    return Audio(samples, warning)


def save(path: Path, samples: np.ndarray, sample_rate: int, **tags: str) -> None:
    """Write mono float samples (n,) in [-1, 1], whole or not at all, in the format of the suffix.

    Args:
        path: ends in one of SAVED_FORMATS; wav and flac hold 16 bits a sample.
        tags: such as title, genre and comment, where the format has room for them.

    Raises:
        UserError: it cannot be written, for want of room for instance.
    """
    container, subtype = SAVED_FORMATS[path.suffix.lower().removeprefix(".")]
    form = {"channels": 1, "format": container, "subtype": subtype}
    with whole_file(path, flush=False) as temporary:
        try:
            with soundfile.SoundFile(temporary, "w", sample_rate, **form) as file:
                for name, value in tags.items():
                    setattr(file, name, value)
                file.write(samples)
        except soundfile.LibsndfileError:
            raise UserError(f"{path}: cannot be written; is the disk full?") from None


def _decode(path: Path) -> tuple[np.ndarray, int, str]:
    """Mono samples, their rate, and a warning, by libsndfile."""
    blocks, warning = [], ""
    try:
        with soundfile.SoundFile(path) as file:
            if file.format == "RAW":  # libsndfile's guess about an .au or .snd without a header
                raise AudioError("does not decode: no header of a known format")
            rate, declared = file.samplerate, file.frames
            chunk = _SHORT_CHUNK.search(file.extra_info)
            if chunk and int(chunk[1]) > int(chunk[2]) > 0:
                declared = declared * int(chunk[1]) // int(chunk[2])
            try:
                while len(block := file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)):
                    blocks.append(block.mean(axis=1))
            except soundfile.LibsndfileError:
                if not blocks:
                    raise
                declared = max(declared, 1 + sum(map(len, blocks)))
    except soundfile.LibsndfileError as error:
        reason = " ".join(error.error_string.split())
        if not reason or "does not exist" in reason:  # what it says of an MP3 without a single frame
            reason = "damaged from its start"
        raise AudioError(f"does not decode: {reason}") from None
    samples = np.concatenate(blocks) if blocks else np.empty(0, dtype=np.float32)
    # An MP3 header counts the encoder's padding, up to a few frames of 1152 samples.
    if len(samples) < declared - 4 * 1152:
        warning = (
            f"ends after {len(samples) / rate:.1f} s of the {declared / rate:.1f} s "
            "that its header says; converted as far as it goes"
        )
    return samples, rate, warning


def _decode_with_librosa(path: Path) -> tuple[np.ndarray, int, str]:
    """The same, for formats that libsndfile does not read."""
    import audioread  # librosa's own fallback
    import librosa  # slow to import, and most datasets never need it

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # librosa announces its own fallback
            samples, rate = librosa.load(path, sr=None, mono=True)
    except audioread.NoBackendError:
        if audioread.ffdec.available():
            raise AudioError("does not decode: damaged, or no audio in it") from None
        raise AudioError(
            f"no decoder for {path.suffix.lower()} files here; install ffmpeg, or convert them to WAV"
        ) from None
    except Exception as error:  # decoders behind audioread raise whatever they like
        raise AudioError(f"does not decode: {type(error).__name__}: {error}") from None
    return samples, int(rate), ""


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
