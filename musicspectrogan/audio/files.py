"""Loading clips as mono samples at a given rate, and saving them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from musicspectrogan.audio.containers import soundfile_path
from musicspectrogan.audio.decoding import (
    FALLBACK_SUFFIXES,
    SOUNDFILE_SUFFIXES,
    AudioError,
    decode,
    join_warnings,
)
from musicspectrogan.audio.tags import (
    tag_mp3,
    tag_wav,
    tempo_placeholder,
    write_tempo_comment,
)
from musicspectrogan.audio.tempo import Tempo
from musicspectrogan.errors import UserError, printable
from musicspectrogan.filesystem import atomic_write, is_clutter

__all__ = [
    "AUDIO_SUFFIXES",
    "Audio",
    "AudioError",
    "check_rate",
    "comment_of",
    "is_audio",
    "load",
    "read_tags",
    "save",
]

AUDIO_SUFFIXES = SOUNDFILE_SUFFIXES | FALLBACK_SUFFIXES

# Format and subtype by suffix.
SAVED_FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}

# Sample rates in Hz: of MP3; the highest of libvorbis, and of FLAC in steps of 1 Hz and of 10 Hz.
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
MAX_OGG_RATE = 200_000
MAX_FLAC_RATE, MAX_ROUND_FLAC_RATE = 65_535, 655_350

# libvorbis overflows the stack on minutes of samples at once.
WRITTEN_FRAMES = 65536

# Shares of the audible time in which channels cancel each other: above the first there is a
# warning, above the second one channel is used alone.
WARNED_CANCELLED_SHARE, MAX_CANCELLED_SHARE = 0.01, 0.1


@dataclass(frozen=True)
class Audio:
    """A decoded clip."""

    samples: npt.NDArray[np.float32]
    """Mono (n,), full scale is 1."""
    peak: float
    """Largest absolute sample before resampling."""
    warning: str = ""
    """What is wrong with a file that was decoded nevertheless."""


def is_audio(name: str) -> bool:
    """Whether a file name has the suffix of audio, and is no AppleDouble file or the like."""
    return name.lower().endswith(tuple(AUDIO_SUFFIXES)) and not is_clutter(name)


def read_tags(path: Path) -> dict[str, str]:
    """Read tags such as title, artist, album, license, copyright and comment.

    Empty for formats that soundfile does not read.
    """
    try:
        with _muted_stderr(), soundfile.SoundFile(soundfile_path(path)) as file:
            return dict(file.copy_metadata())
    except (soundfile.LibsndfileError, OSError, ValueError):
        return {}


def comment_of(path: Path) -> str:
    """The comment tag of an audio file; empty if there is none."""
    return read_tags(path).get("comment", "")


def load(path: Path, sample_rate: int) -> Audio:
    """Decode a file, mix it down to mono and resample it with soxr.

    A truncated file is decoded as far as it goes. Of channels that cancel each other only the
    loudest is used. Both give a warning.

    Raises:
        AudioError: missing, undecodable, empty, or with samples that are not finite.
    """
    if not path.is_file():
        raise AudioError("file is missing")
    if path.stat().st_size == 0:
        raise AudioError("file is empty")
    with _muted_stderr():
        decoded, warning = decode(path, sample_rate)
        if (share := decoded.cancelled_share) >= WARNED_CANCELLED_SHARE:
            cancelled = f"its channels cancel each other in {share:.0%} of it"
            if share > MAX_CANCELLED_SHARE:
                channel = decoded.loudest_channel
                decoded, warning = decode(path, sample_rate, channel)
                cancelled += f"; channel {channel + 1} was taken alone"
            warning = join_warnings(warning, cancelled)
    if not decoded.seconds:
        raise AudioError(join_warnings("no audio in it", warning))
    return Audio(decoded.samples(), decoded.peak, warning)


def save(
    path: Path,
    samples: npt.NDArray[np.float32],
    sample_rate: int,
    *,
    bit_depth: int = 16,
    loops: bool = False,
    tempo: Tempo | None = None,
    **tags: str,
) -> None:
    """Write mono samples (n,) in [-1, 1] in the format of the suffix, atomically.

    Args:
        path: ends in one of SAVED_FORMATS.
        bit_depth: 16 or 24, in wav and flac.
        loops: the whole sound is a loop; adds loop points to wav.
        tempo: written as an ID3 tag in wav and mp3, as the comment `BPM` in flac and ogg; for a
            whole number of beats also as an `acid` chunk in wav.
        tags: such as title, genre and comment, where the format has them.

    Raises:
        UserError: the format does not support the sample rate, or the disk is full.
    """
    suffix = path.suffix.lower().removeprefix(".")
    check_rate(suffix, sample_rate)
    container, subtype = SAVED_FORMATS[suffix]
    subtype = f"PCM_{bit_depth}" if subtype.startswith("PCM") else subtype
    tags = {name: printable(value) for name, value in tags.items()}
    placeholder = tempo_placeholder(tempo) if tempo and container in ("FLAC", "OGG") else {}
    with atomic_write(path) as temporary:
        try:
            with soundfile.SoundFile(
                soundfile_path(temporary), "w", sample_rate, 1, subtype, format=container
            ) as file:
                for name, value in {**tags, **placeholder}.items():
                    setattr(file, name, value)
                for start in range(0, len(samples), WRITTEN_FRAMES):
                    file.write(samples[start : start + WRITTEN_FRAMES])
            if container == "WAV":
                tag_wav(temporary, len(samples), sample_rate, loops=loops, tempo=tempo, tags=tags)
            elif tempo and container == "MP3":
                tag_mp3(temporary, tempo, tags)
            elif tempo:
                write_tempo_comment(temporary, tempo)
        except soundfile.LibsndfileError:
            raise UserError(f"{path}: cannot be written; free space on its disk") from None


def check_rate(suffix: str, sample_rate: int) -> None:
    """Raise UserError unless the format of this suffix supports the sample rate in Hz.

    Args:
        suffix: one of SAVED_FORMATS.
    """
    if suffix == "mp3":
        supported = sample_rate in MP3_RATES
        rates = f"only {', '.join(map(str, MP3_RATES))}"
    elif suffix == "ogg":
        supported = sample_rate <= MAX_OGG_RATE
        rates = f"only up to {MAX_OGG_RATE}"
    elif suffix == "flac":
        is_round = sample_rate % 10 == 0 and sample_rate <= MAX_ROUND_FLAC_RATE
        supported = sample_rate <= MAX_FLAC_RATE or is_round
        rates = f"above {MAX_FLAC_RATE} only multiples of 10 up to {MAX_ROUND_FLAC_RATE}"
    else:
        return
    if not supported:
        raise UserError(
            f"--format {suffix}: has no sample rate of {sample_rate} Hz, {rates}; "
            "give --format wav, or one of those rates"
        )


@contextmanager
def _muted_stderr() -> Iterator[None]:
    """Discard what C decoders write straight to stderr; errors and warnings have the reasons."""
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
