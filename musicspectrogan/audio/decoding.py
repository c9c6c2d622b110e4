"""Decoding of audio files, block by block, to mono samples at one rate."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from musicspectrogan.audio.containers import Stream, streams_of

SOUNDFILE_SUFFIXES = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .mp2 .au .snd .aif .aiff .aifc".split()
)
FALLBACK_SUFFIXES = frozenset(".m4a .mp4 .aac .wma .webm .ape .wv .mka .3gp".split())

# Limits on what a small file may expand to.
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1000, 3_000_000
MAX_CHANNELS = 64
MAX_HOURS = 4
# Beyond the peak of any float file, and with finite squares.
MAX_SAMPLE = 1e9

# Channels cancel each other in a block if their sum has less than this share of the energy that
# unrelated channels would have (opposed ones differ by what a lossy codec adds), and the block is
# above -80 dBFS. Energies are estimated from every 61st frame.
COMPARED_FRAMES = 65536
CANCELLED_ENERGY_RATIO = 0.25
SILENT_ENERGY = 1e-8
ENERGY_STRIDE = 61

# Samples of all channels read at a time: many, since decoder and resampler displace each other from
# the CPU's caches. In a damaged file few, because the whole block is lost where it breaks off.
BLOCK_SAMPLES = 1 << 20
DAMAGED_BLOCK_SAMPLES = 1 << 13

# An MP3 header counts the encoder's padding: up to a few frames of 1152 samples.
PADDING_FRAMES = 4 * 1152
# libsndfile reports more frames than this where it does not know their number.
UNKNOWN_FRAMES = 2**62

# 16-bit sample for full scale, 1.0.
FULL_SCALE = 32768.0

# libsndfile's note on a chunk longer than its file: "data : 441000 (should be 220478)".
_TRUNCATED_CHUNK = re.compile(r"(?:data|SSND|Data Size)\s*:\s*(\d+) \(should be (\d+)\)")


class AudioError(Exception):
    """The file has no usable audio; the text is the reason."""


class _RefusedError(Exception):
    """libsndfile finds no audio in the file; another decoder may."""


class _DamagedError(Exception):
    """Decoding failed within a block, all of which is lost."""


class _SoundFile(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """Without soundfile's seek after each block where it fails: in a FLAC of unknown length."""

    def seekable(self) -> bool:
        return self.frames < UNKNOWN_FRAMES and bool(super().seekable())


class MonoResampler:
    """Mixes blocks down to mono, resamples them with soxr, and checks them.

    Block by block, so that hours of music need no more memory than the result.

    Args:
        channel: use this channel instead of the mean of all.
    """

    def __init__(self, sample_rate: int, channel: int | None = None) -> None:
        self.seconds = 0.0
        self.peak = 0.0
        self._sample_rate, self._channel = sample_rate, channel
        self._source_rate = 0
        self._resampler: soxr.ResampleStream | None = None
        self._audible_seconds = self._cancelled_seconds = 0.0
        self._energies = np.zeros(1)
        self._parts: list[npt.NDArray[np.float32]] = []

    def begin(self, source_rate: int, channels: int) -> None:
        """Set the format of the next blocks.

        Raises:
            AudioError: an implausible rate or number of channels.
        """
        if channels > MAX_CHANNELS:
            raise AudioError(f"{channels} channels are too many")
        if not MIN_SAMPLE_RATE <= source_rate <= MAX_SAMPLE_RATE:
            raise AudioError(f"its sample rate of {source_rate} Hz is implausible")
        if source_rate == self._source_rate:
            return
        self._flush()
        self._source_rate = source_rate
        if source_rate != self._sample_rate:
            self._resampler = soxr.ResampleStream(
                source_rate, self._sample_rate, 1, dtype="float32", quality="HQ"
            )

    def add(self, block: npt.NDArray[np.float32 | np.int16]) -> None:
        """Append a block (n, channels).

        Raises:
            AudioError: too long in total, or samples that are not finite or far beyond full scale.
        """
        seconds = len(block) / self._source_rate
        if self.seconds + seconds > MAX_HOURS * 3600:
            raise AudioError(f"longer than {MAX_HOURS} hours; cut it into pieces")
        if self._channel is None:
            mono = _mix_down(block)
        else:
            channel = min(self._channel, block.shape[1] - 1)
            mono = _mix_down(block[:, channel : channel + 1])
        peak = float(max(mono.max(), -mono.min()))
        if not np.isfinite(peak):
            raise AudioError("samples that are not finite numbers")
        if peak > MAX_SAMPLE:
            raise AudioError("samples far beyond full scale")
        if self._channel is None and block.shape[1] > 1:
            for start in range(0, len(block), COMPARED_FRAMES):
                self._compare_channels(block[start : start + COMPARED_FRAMES])
        self.seconds += seconds
        self.peak = max(self.peak, peak)
        self._parts.append(self._resampler.resample_chunk(mono) if self._resampler else mono)

    @property
    def cancelled_share(self) -> float:
        """Share of the audible time in which the channels cancel each other in the mean."""
        return self._cancelled_seconds / self._audible_seconds if self._audible_seconds else 0.0

    @property
    def loudest_channel(self) -> int:
        """The channel with most energy, counted from 0."""
        return int(self._energies.argmax())

    def samples(self) -> npt.NDArray[np.float32]:
        """All samples so far, (n,)."""
        self._flush()
        return self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)

    def _flush(self) -> None:
        """Take the resampler's remaining samples, which ends it."""
        if self._resampler:
            empty = np.empty(0, dtype=np.float32)
            self._parts.append(self._resampler.resample_chunk(empty, last=True))
        self._resampler = None

    def _compare_channels(self, block: npt.NDArray[np.float32 | np.int16]) -> None:
        """Update the energy of each channel, and the time in which they cancel each other."""
        seconds = len(block) / self._source_rate
        frames = block[::ENERGY_STRIDE].astype(np.float32)
        products = frames.T @ frames / len(frames)
        if block.dtype == np.int16:
            products /= FULL_SCALE**2
        energies = products.diagonal()
        if energies.sum() > SILENT_ENERGY:
            self._audible_seconds += seconds
            if products.sum() < CANCELLED_ENERGY_RATIO * energies.sum():
                self._cancelled_seconds += seconds
        if len(energies) > len(self._energies):
            self._energies = np.pad(self._energies, (0, len(energies) - len(self._energies)))
        self._energies[: len(energies)] += energies * seconds


def _mix_down(block: npt.NDArray[np.float32 | np.int16]) -> npt.NDArray[np.float32]:
    """Mean (n,) of the channels (n, channels), full scale 1.

    Channel by channel: numpy's mean over so short an axis takes as long as decoding.
    """
    if block.shape[1] == 1:
        total = block[:, 0].astype(np.float32)
    else:
        total = np.add(block[:, 0], block[:, 1], dtype=np.float32)
    for channel in range(2, block.shape[1]):
        total += block[:, channel]
    full_scale = FULL_SCALE if block.dtype == np.int16 else 1.0
    total *= np.float32(1.0 / (full_scale * block.shape[1]))
    return total


def decode(path: Path, sample_rate: int, channel: int | None = None) -> tuple[MonoResampler, str]:
    """Decode a file with libsndfile, else with another decoder; with a warning if it is damaged.

    Args:
        channel: use this channel instead of the mean of all.

    Raises:
        AudioError: not decodable, or no plausible audio.
    """
    try:
        try:
            return _decode_soundfile(path, MonoResampler(sample_rate, channel), BLOCK_SAMPLES)
        except _DamagedError:
            again = MonoResampler(sample_rate, channel)
            return _decode_soundfile(path, again, DAMAGED_BLOCK_SAMPLES)
    except _RefusedError as refusal:
        return _decode_audioread(path, MonoResampler(sample_rate, channel), str(refusal))
    except OSError as error:
        raise AudioError(f"cannot be read: {error.strerror or error}") from None


def _decode_soundfile(
    path: Path, output: MonoResampler, block_samples: int
) -> tuple[MonoResampler, str]:
    """Decode all streams of a file.

    Raises:
        _RefusedError: there is no audio in it.
        _DamagedError: smaller blocks would give more.
    """
    streams, warning = streams_of(path)
    warnings = [warning]
    declared, short, broken = 0.0, False, False
    for number, stream in enumerate(streams, start=1):
        before = output.seconds
        try:
            with stream.opened() as source, _SoundFile(source) as file:
                if file.format == "RAW":  # libsndfile's guess for an .au or .snd without a header
                    raise _RefusedError("no header of a known format")
                output.begin(file.samplerate, file.channels)
                expected = _declared_frames(file, stream) / file.samplerate
                declared += expected
                broken |= not _read_blocks(file, output, block_samples)
                short |= output.seconds - before < expected - PADDING_FRAMES / file.samplerate
        except soundfile.LibsndfileError as error:
            reason = " ".join(error.error_string.split()).rstrip(".")
            if not reason or "does not exist" in reason:  # for an MP3 without a single frame
                reason = "damaged from its start"
            if len(streams) == 1:
                raise _RefusedError(reason) from None
            warnings.append(f"recording {number} of {len(streams)} does not decode: {reason}")
    if len(streams) > 1:
        if not output.seconds:
            raise _RefusedError(warnings[-1])
        warnings.append(f"{len(streams)} recordings one after another, taken as one")
    if short and len(streams) == 1:
        warnings.append(_ends_early(output.seconds, declared))
    elif short:
        warnings.append(
            f"only {output.seconds:.1f} s of the {declared:.1f} s that their headers say decode"
        )
    elif broken:
        warnings.append(f"damaged; {output.seconds:.1f} s of it decode")
    return output, join_warnings(*warnings)


def _declared_frames(file: soundfile.SoundFile, stream: Stream) -> int:
    """Frames by the header, even if the file ends before them."""
    declared: int = file.frames if file.frames < UNKNOWN_FRAMES else 0
    chunk = _TRUNCATED_CHUNK.search(file.extra_info)
    if chunk and int(chunk[1]) > int(chunk[2]) > 0:
        declared = declared * int(chunk[1]) // int(chunk[2])
    return max(declared, stream.frames)


def _read_blocks(file: soundfile.SoundFile, output: MonoResampler, block_samples: int) -> bool:
    """Read all blocks that decode; False if decoding fails before the end."""
    # 16-bit samples as they are: much faster than libsndfile's conversion, with the same result.
    dtype = "int16" if file.subtype == "PCM_16" else "float32"
    buffer = np.empty((block_samples // file.channels, file.channels), dtype=dtype)
    before = output.seconds
    try:
        while len(block := file.read(out=buffer)):
            output.add(block)
    except soundfile.LibsndfileError:
        if block_samples > DAMAGED_BLOCK_SAMPLES:
            raise _DamagedError from None
        if output.seconds == before:
            raise
        return False
    return True


def _decode_audioread(path: Path, output: MonoResampler, refusal: str) -> tuple[MonoResampler, str]:
    """Decode what libsndfile refuses, mostly with ffmpeg."""
    import audioread  # type: ignore[import-untyped]  # lazy: few datasets need it

    # Without its reader of WAV, AIFF and AU, whose errors would keep the others from being tried.
    backends = [b for b in audioread.available_backends() if b.__name__ != "RawAudioFile"]
    try:
        # An absolute path, because ffmpeg takes "a:b.mp3" for a URL.
        with audioread.audio_open(str(path.absolute()), backends) as file:
            output.begin(file.samplerate, file.channels)
            rest = b""
            for block in file:
                rest += block
                whole = len(rest) - len(rest) % (2 * file.channels)
                if whole:
                    output.add(np.frombuffer(rest[:whole], "<i2").reshape(-1, file.channels))
                rest = rest[whole:]
    except AudioError:
        raise
    except audioread.NoBackendError:
        remedy = "ffmpeg does not decode it either"
        if not audioread.ffdec.available():
            remedy = (
                "ffmpeg, which reads more formats, is not installed here: install it, or "
                "convert to WAV"
            )
        raise AudioError(f"does not decode: {refusal}; {remedy}") from None
    except Exception as error:  # audioread's backends raise errors of any type
        raise AudioError(f"does not decode: {type(error).__name__}: {error}") from None
    warnings = []
    if path.suffix.lower() not in FALLBACK_SUFFIXES:
        is_ffmpeg = isinstance(file, audioread.ffdec.FFmpegAudioFile)
        name = "ffmpeg" if is_ffmpeg else type(file).__name__
        warnings.append(f"decoded by {name}, because libsndfile does not: {refusal}")
    duration = getattr(file, "duration", 0) or 0
    if output.seconds < 0.98 * duration - 0.2 and not _is_bare_stream(path):
        warnings.append(_ends_early(output.seconds, duration))
    return output, join_warnings(*warnings)


def _is_bare_stream(path: Path) -> bool:
    """Whether a file is AAC or MPEG without a container, whose length ffmpeg only guesses."""
    with open(path, "rb") as file:
        start = file.read(2)
    return (start[:1] == b"\xff" and start[1:] >= b"\xe0") or start == b"ID"


def _ends_early(seconds: float, declared: float) -> str:
    return (
        f"ends after {seconds:.1f} s of the {declared:.1f} s that its header says; "
        "converted as far as it goes"
    )


def join_warnings(*warnings: str) -> str:
    """The non-empty warnings in one line."""
    return "; ".join(filter(None, warnings))
