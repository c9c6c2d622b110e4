"""Loading clips as mono samples at a given rate, and saving them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from musicspectrogan.audio.intake import LEAST_TOLD, MOST_CANCELLED, AudioError, Intake
from musicspectrogan.audio.streams import Stream, for_soundfile, streams_of
from musicspectrogan.audio.tags import add_to_mp3, add_to_wav, name_tempo, placeholder
from musicspectrogan.audio.tempo import Tempo
from musicspectrogan.errors import UserError, printable
from musicspectrogan.filesystem import is_clutter, whole_file

SOUNDFILE_SUFFIXES = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .mp2 .au .snd .aif .aiff .aifc".split()
)
FALLBACK_SUFFIXES = frozenset(".m4a .mp4 .aac .wma .webm .ape .wv .mka .3gp".split())
AUDIO_SUFFIXES = SOUNDFILE_SUFFIXES | FALLBACK_SUFFIXES

# Format and subtype by suffix.
SAVED_FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}

# Hz of MP3; and the most that libvorbis writes, and FLAC has in steps of 1 Hz and of 10 Hz.
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
HIGHEST_OGG_RATE = 200_000
HIGHEST_FLAC_RATE, HIGHEST_ROUND_FLAC_RATE = 65_535, 655_350

# Frames read or written at a time; and where a damaged file breaks off, for all of that block is lost.
BLOCK_FRAMES = 65536
DAMAGED_BLOCK_FRAMES = 8192

# An MP3 header counts the encoder's padding, up to a few frames of 1152 samples.
PADDING_FRAMES = 4 * 1152

# More is libsndfile's way to say that it does not know.
UNKNOWN_FRAMES = 2**62

# libsndfile notes a chunk that its file cannot hold: "data : 441000 (should be 220478)".
_SHORT_CHUNK = re.compile(r"(?:data|SSND|Data Size)\s*:\s*(\d+) \(should be (\d+)\)")


class _RefusalError(Exception):
    """libsndfile finds no sound in this file, for the reason in the text; another decoder may."""


class _DamageError(Exception):
    """Decoding broke off within a block, all of which is lost."""


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
    """True for file names that this module would try to decode; AppleDouble and the like are not audio."""
    return name.lower().endswith(tuple(AUDIO_SUFFIXES)) and not is_clutter(name)


def read_tags(path: Path) -> dict[str, str]:
    """What a file says of itself, such as title, artist, album, license, copyright and comment.

    Empty for formats that soundfile does not read.
    """
    try:
        with _native_messages_silenced(), soundfile.SoundFile(for_soundfile(path)) as file:
            return file.copy_metadata()
    except (soundfile.LibsndfileError, OSError, ValueError):
        return {}


def load(path: Path, sample_rate: int) -> Audio:
    """Decode a file, mix it down to mono and resample it with soxr.

    A file that ends before its header says is decoded as far as it goes, and one whose channels cancel each
    other by one of them; both with a warning.

    Raises:
        AudioError: missing, undecodable, empty, or with samples that are not finite.
    """
    if not path.is_file():
        raise AudioError("file is missing")
    if path.stat().st_size == 0:
        raise AudioError("file is empty")
    with _native_messages_silenced():
        intake, warning = _decoded(path, sample_rate)
        if (share := intake.cancelled_share) >= LEAST_TOLD:
            remark = f"its channels cancel each other in {share:.0%} of it"
            if share > MOST_CANCELLED:
                channel = intake.loudest_channel
                intake, warning = _decoded(path, sample_rate, channel)
                remark += f"; channel {channel + 1} was taken alone"
            warning = _joined(warning, remark)
    if not intake.seconds:
        raise AudioError(_joined("no audio in it", warning))
    return Audio(intake.samples(), intake.peak, warning)


def save(
    path: Path,
    samples: np.ndarray,
    sample_rate: int,
    *,
    bit_depth: int = 16,
    loops: bool = False,
    tempo: Tempo | None = None,
    **tags: str,
) -> None:
    """Write mono float samples (n,) in [-1, 1], whole or not at all, in the format of the suffix.

    Args:
        path: ends in one of SAVED_FORMATS.
        bit_depth: 16 or 24, in wav and flac.
        loops: all of it is one loop. A wav file then has loop points, which samplers read.
        tempo: written as each format has it: an ID3 tag in wav and mp3, and where it is cut to a number of
            beats an `acid` chunk in wav; a comment `BPM` in flac and ogg.
        tags: such as title, genre and comment, where the format has room for them.

    Raises:
        UserError: the format has no such rate, or it cannot be written, for want of room for instance.
    """
    check_rate(path.suffix.lower().removeprefix("."), sample_rate)
    container, subtype = SAVED_FORMATS[path.suffix.lower().removeprefix(".")]
    subtype = f"PCM_{bit_depth}" if subtype.startswith("PCM") else subtype
    form = {"channels": 1, "format": container, "subtype": subtype}
    tags = {name: printable(value) for name, value in tags.items()}
    has_comments = tempo is not None and container in ("FLAC", "OGG")
    with whole_file(path) as temporary:
        try:
            with soundfile.SoundFile(for_soundfile(temporary), "w", sample_rate, **form) as file:
                for name, value in {**tags, **(placeholder(tempo) if has_comments else {})}.items():
                    setattr(file, name, value)
                for start in range(
                    0, len(samples), BLOCK_FRAMES
                ):  # libvorbis crashes at minutes at a time
                    file.write(samples[start : start + BLOCK_FRAMES])
            if has_comments:
                name_tempo(temporary, tempo)
            elif container == "WAV":
                add_to_wav(
                    temporary, len(samples), sample_rate, loops=loops, tempo=tempo, tags=tags
                )
            elif tempo is not None:
                add_to_mp3(temporary, tempo, tags)
        except soundfile.LibsndfileError:
            raise UserError(f"{path}: cannot be written; is the disk full?") from None


def check_rate(suffix: str, sample_rate: int) -> None:
    """Raise UserError unless the format of this suffix, one of SAVED_FORMATS, has this rate in Hz."""
    round_flac = sample_rate % 10 == 0 and sample_rate <= HIGHEST_ROUND_FLAC_RATE
    has_it, rates = {
        "mp3": (sample_rate in MP3_RATES, f"only {', '.join(map(str, MP3_RATES))}"),
        "ogg": (sample_rate <= HIGHEST_OGG_RATE, f"only up to {HIGHEST_OGG_RATE}"),
        "flac": (
            sample_rate <= HIGHEST_FLAC_RATE or round_flac,
            f"above {HIGHEST_FLAC_RATE} only multiples of 10 up to {HIGHEST_ROUND_FLAC_RATE}",
        ),
    }.get(suffix, (True, ""))
    if not has_it:
        raise UserError(
            f"--format {suffix}: has no sample rate of {sample_rate} Hz, {rates}; give --format wav, "
            "or one of those rates"
        )


def comment_of(path: Path) -> str:
    """The comment in a sound file that `save` may have written; empty where there is none."""
    try:
        with _native_messages_silenced(), soundfile.SoundFile(for_soundfile(path)) as file:
            return file.comment
    except soundfile.LibsndfileError:
        return ""


def _decoded(path: Path, sample_rate: int, channel: int | None = None) -> tuple[Intake, str]:
    """A file taken in, and what is amiss with it; by libsndfile if that can, else by another decoder."""
    try:
        try:
            return _by_libsndfile(path, Intake(sample_rate, channel), BLOCK_FRAMES)
        except _DamageError:
            return _by_libsndfile(path, Intake(sample_rate, channel), DAMAGED_BLOCK_FRAMES)
    except _RefusalError as refusal:
        return _by_audioread(path, Intake(sample_rate, channel), str(refusal))
    except OSError as error:
        raise AudioError(f"cannot be read: {error.strerror or error}") from None


def _by_libsndfile(path: Path, intake: Intake, block_frames: int) -> tuple[Intake, str]:
    """Raises _RefusalError for a file without any sound, _DamageError where smaller blocks give more."""
    streams, remark = streams_of(path)
    remarks = [remark]
    declared, short, broken = 0.0, False, False
    for number, stream in enumerate(streams, start=1):
        before = intake.seconds
        try:
            with stream.opened() as source, soundfile.SoundFile(source) as file:
                if file.format == "RAW":  # libsndfile's guess about an .au or .snd without a header
                    raise _RefusalError("no header of a known format")
                intake.begin(file.samplerate, file.channels)
                expected = _declared_frames(file, stream) / file.samplerate
                declared += expected
                broken |= not _take_in(file, intake, block_frames)
                short |= intake.seconds - before < expected - PADDING_FRAMES / file.samplerate
        except soundfile.LibsndfileError as error:
            reason = " ".join(error.error_string.split()).rstrip(".")
            if (
                not reason or "does not exist" in reason
            ):  # what it says of an MP3 without a single frame
                reason = "damaged from its start"
            if len(streams) == 1:
                raise _RefusalError(reason) from None
            remarks.append(f"recording {number} of {len(streams)} does not decode: {reason}")
    if len(streams) > 1:
        if not intake.seconds:
            raise _RefusalError(remarks[-1])
        remarks.append(f"{len(streams)} recordings one after another, taken as one")
    if short:
        taken = f"{intake.seconds:.1f} s of the {declared:.1f} s"
        remarks.append(
            f"ends after {taken} that its header says; converted as far as it goes"
            if len(streams) == 1
            else f"only {taken} that their headers say decode"
        )
    elif broken:
        remarks.append(f"damaged; {intake.seconds:.1f} s of it decode")
    return intake, _joined(*remarks)


def _declared_frames(file: soundfile.SoundFile, stream: Stream) -> int:
    """Frames by the header, also of a file that does not hold them."""
    declared = file.frames if file.frames < UNKNOWN_FRAMES else 0
    chunk = _SHORT_CHUNK.search(file.extra_info)
    if chunk and int(chunk[1]) > int(chunk[2]) > 0:
        declared = declared * int(chunk[1]) // int(chunk[2])
    return max(declared, stream.frames)


def _take_in(file: soundfile.SoundFile, intake: Intake, block_frames: int) -> bool:
    """Take in all that decodes; False where it breaks off."""
    # 16-bit samples come as they are: much faster than libsndfile's way to float, to the same values.
    dtype = "int16" if file.subtype == "PCM_16" else "float32"
    place = np.empty((block_frames, file.channels), dtype=dtype)
    before = intake.seconds
    try:
        while len(block := file.read(out=place)):
            intake.add(block)
    except soundfile.LibsndfileError:
        if block_frames > DAMAGED_BLOCK_FRAMES:
            raise _DamageError from None
        if intake.seconds == before:
            raise
        return False
    return True


def _by_audioread(path: Path, intake: Intake, refusal: str) -> tuple[Intake, str]:
    """For what libsndfile refuses, mostly by ffmpeg."""
    import audioread  # librosa's own fallback, which few datasets need
    from audioread.rawread import RawAudioFile

    # Not its reader of WAV, AIFF and AU, whose errors keep the others from trying; libsndfile reads these.
    decoders = [
        each for each in audioread.available_backends() if not issubclass(each, RawAudioFile)
    ]
    try:
        with audioread.audio_open(
            str(path.absolute()), decoders
        ) as file:  # "a:b.mp3" would be an address
            intake.begin(file.samplerate, file.channels)
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
        remedy = "; ffmpeg does not decode it either"
        if not audioread.ffdec.available():
            remedy = "; ffmpeg, which reads more formats, is not installed here: install it, or convert to WAV"
        raise AudioError(f"does not decode: {refusal}{remedy}") from None
    except Exception as error:  # decoders behind audioread raise whatever they like
        raise AudioError(f"does not decode: {type(error).__name__}: {error}") from None
    remarks = []
    if path.suffix.lower() not in FALLBACK_SUFFIXES:
        name = (
            "ffmpeg" if isinstance(file, audioread.ffdec.FFmpegAudioFile) else type(file).__name__
        )
        remarks.append(f"decoded by {name}, because libsndfile does not: {refusal}")
    duration = getattr(file, "duration", 0) or 0
    if intake.seconds < 0.98 * duration - 0.2 and not _is_without_container(path):
        remarks.append(
            f"ends after {intake.seconds:.1f} s of the {duration:.1f} s that its header says; "
            "converted as far as it goes"
        )
    return intake, _joined(*remarks)


def _is_without_container(path: Path) -> bool:
    """Whether a file is frame after frame of AAC or MPEG: ffmpeg then only guesses how long it is."""
    with open(path, "rb") as file:
        head = file.read(2)
    return (head[:1] == b"\xff" and head[1:] >= b"\xe0") or head == b"ID"


def _joined(*remarks: str) -> str:
    return "; ".join(remark for remark in remarks if remark)


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
