"""Spectrogram settings, and the encoding of a clip as a grey mel-spectrogram.

The values equal `librosa.feature.melspectrogram` followed by `librosa.power_to_db` (tested). They
are computed here because importing librosa is slow in every worker process, and some workers lack
it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from musicspectrogan.errors import SettingError

if TYPE_CHECKING:
    from scipy.sparse import csr_array
    from torch import Tensor

IMAGE_SIZES = (64, 128, 256)

# Upper limits, to bound memory.
LARGEST = {"n_fft": 65536, "hop_length": 65536, "n_mels": 512, "n_frames": 4096}

ArrayT = TypeVar("ArrayT", npt.NDArray[Any], "Tensor")

# Frames transformed at a time: bounds memory for long clips and fits the CPU cache.
FRAMES_PER_BLOCK = 64

# Smallest power before the logarithm, as `amin` of librosa.power_to_db.
MINIMUM_POWER = 1e-10


@dataclass(frozen=True)
class SpectrogramConfig:
    """How audio becomes an image. Stored in the dataset, in every PNG and in every checkpoint."""

    sample_rate: int = 22050
    """Hz; audio is mono at this rate."""
    n_fft: int = 2048
    """Samples in one Fourier frame (Hann window)."""
    hop_length: int = 1024
    """Samples from one frame to the next; one frame is one pixel column."""
    n_mels: int = 64
    """Mel bands (Slaney scale and area normalisation); one band is one pixel row."""
    n_frames: int = 64
    """Frames in one image."""
    f_min: float = 0.0
    """Hz; lower edge of the lowest band."""
    f_max: float = 8000.0
    """Hz; upper edge of the highest band, at most half the sample rate."""
    top_db: float = 80.0
    """Dynamic range in dB below the clip's loudest bin; what is quieter is black."""

    def __post_init__(self) -> None:
        for name in ("sample_rate", "n_fft", "hop_length", "n_mels", "n_frames", "top_db"):
            value, limit = getattr(self, name), LARGEST.get(name, math.inf)
            if not 0 < value < math.inf:
                raise SettingError(name, f"{value} is not allowed; it must be positive")
            if value > limit:
                raise SettingError(name, f"{value} is not allowed; it is at most {limit}")
        if not 1000 <= self.sample_rate <= 384000:
            raise SettingError(
                "sample_rate", f"{self.sample_rate} Hz is not allowed; give 1000 to 384000"
            )
        if not self.f_min >= 0:
            raise SettingError("f_min", f"{self.f_min:g} Hz is not allowed; it must be at least 0")
        if not self.f_min + 1 <= self.f_max <= self.sample_rate / 2:
            raise SettingError(
                "f_max",
                f"{self.f_max:g} Hz is not allowed; it must be at least 1 Hz above --f-min, "
                f"{self.f_min:g} Hz, and at most {self.sample_rate / 2:g} (half the sample rate)",
            )
        if self.hop_length > self.n_fft * 3 / 4:  # the image could not be inverted
            raise SettingError(
                "hop_length",
                f"{self.hop_length} is not allowed: Fourier frames of {self.n_fft} samples must "
                f"overlap by at least a quarter; give up to {self.n_fft * 3 // 4}, or a larger "
                "n_fft",
            )

    @classmethod
    def for_image_size(cls, size: int, **changes: Any) -> SpectrogramConfig:
        """Settings for square images, which span three seconds at every size.

        Args:
            size: height and width in pixels, one of IMAGE_SIZES.
            changes: fields to override; None keeps the default.
        """
        if size not in IMAGE_SIZES:
            raise SettingError(
                "image_size", f"{size} is not one of {', '.join(map(str, IMAGE_SIZES))}"
            )
        default = cls()
        hop_length = default.hop_length * default.n_frames // size
        scaled = replace(default, n_mels=size, n_frames=size, hop_length=hop_length)
        return replace(scaled, **{k: v for k, v in changes.items() if v is not None})

    @property
    def image_seconds(self) -> float:
        """Seconds of audio in one image."""
        return self.n_frames * self.hop_length / self.sample_rate

    def frames_in(self, seconds: float) -> int:
        """Number of frames that cover this many seconds."""
        return math.ceil(seconds * self.sample_rate / self.hop_length)

    @property
    def band_hz(self) -> npt.NDArray[np.float64]:
        """Centre frequencies of the mel bands in Hz, (n_mels,), lowest first."""
        return mel_edges(self)[1:-1]


# The mel scale is linear below a knee and logarithmic above it: M. Slaney, Auditory Toolbox,
# Interval Research TR 1998-010.
HZ_PER_MEL = 200.0 / 3.0
KNEE_HZ = 1000.0
KNEE_MEL = KNEE_HZ / HZ_PER_MEL
MELS_PER_LOG = 27.0 / float(np.log(6.4))


def hz_to_mel(hz: float) -> float:
    """Convert Hz to mels."""
    if hz < KNEE_HZ:
        return hz / HZ_PER_MEL
    return KNEE_MEL + float(np.log(hz / KNEE_HZ)) * MELS_PER_LOG


def mel_edges(config: SpectrogramConfig) -> npt.NDArray[np.float64]:
    """Band edges in Hz, (n_mels + 2,): band k rises from edge k, peaks at k + 1, ends at k + 2."""
    mels = np.linspace(hz_to_mel(config.f_min), hz_to_mel(config.f_max), config.n_mels + 2)
    logarithmic = KNEE_HZ * np.exp((mels - KNEE_MEL) / MELS_PER_LOG)
    return np.where(mels < KNEE_MEL, mels * HZ_PER_MEL, logarithmic).astype(np.float64)


@lru_cache(maxsize=8)
def mel_filterbank(config: SpectrogramConfig) -> npt.NDArray[np.float32]:
    """Triangular mel filters of unit area, (n_mels, 1 + n_fft // 2); read-only."""
    edges = mel_edges(config)
    bins = np.fft.rfftfreq(config.n_fft, 1.0 / config.sample_rate)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    area = 2.0 / (edges[2:] - edges[:-2])
    filters = (triangles * area[:, None]).astype(np.float32)
    filters.setflags(write=False)  # the cache returns the same array to every caller
    return filters


def mel_power(
    samples: npt.NDArray[np.floating], config: SpectrogramConfig
) -> npt.NDArray[np.float32]:
    """Mel power spectrogram (n_mels, 1 + len(samples) // hop_length).

    Frames are centred on multiples of the hop; both ends are padded with zeros.

    Args:
        samples: mono (n,) at the config's sample rate.
    """
    from scipy.fft import rfft  # lazy: training imports this module for the settings alone

    filters, window = _sparse_filterbank(config), _window(config)
    samples = np.ascontiguousarray(samples, dtype=np.float32)
    n_frames, hop = 1 + len(samples) // config.hop_length, config.hop_length
    mel = np.empty((config.n_mels, n_frames), dtype=np.float32)
    for start in range(0, n_frames, FRAMES_PER_BLOCK):
        stop = min(start + FRAMES_PER_BLOCK, n_frames)
        first = start * hop - config.n_fft // 2
        block = _padded_slice(samples, first, first + (stop - start - 1) * hop + config.n_fft)
        frames = np.lib.stride_tricks.sliding_window_view(block, config.n_fft)[::hop]
        spectrum = np.ascontiguousarray(rfft((frames * window).T, axis=0)[: filters.shape[1]])
        # Power is real² + imaginary²; squaring in place and adding after the filters copies
        # nothing.
        squares = spectrum.view(np.float32)
        squares *= squares
        filtered = filters @ squares
        np.add(filtered[:, ::2], filtered[:, 1::2], out=mel[:, start:stop])
    return mel


@lru_cache(maxsize=8)
def _sparse_filterbank(config: SpectrogramConfig) -> csr_array:
    """The filters, without the bins above the highest band."""
    from scipy.sparse import csr_array

    filters = mel_filterbank(config)
    n_bins = 1 + int(np.flatnonzero(filters.any(axis=0))[-1])
    return csr_array(filters[:, :n_bins])


@lru_cache(maxsize=8)
def _window(config: SpectrogramConfig) -> npt.NDArray[np.float32]:
    """Periodic Hann window."""
    phase = np.arange(config.n_fft) * (2.0 * np.pi / config.n_fft)
    window: npt.NDArray[np.float32] = (0.5 - 0.5 * np.cos(phase)).astype(np.float32)
    return window


def _padded_slice(
    samples: npt.NDArray[np.float32], start: int, stop: int
) -> npt.NDArray[np.float32]:
    """samples[start:stop], padded with zeros beyond either end."""
    inside = samples[max(start, 0) : stop]
    before, after = max(-start, 0), max(stop - len(samples), 0)
    return np.pad(inside, (before, after)) if before or after else inside


def encode(
    samples: npt.NDArray[np.floating], config: SpectrogramConfig
) -> tuple[npt.NDArray[np.uint8], float]:
    """Encode a whole clip as grey levels.

    Returns:
        grey: (n_mels, frames), lowest band first; 255 is the clip's loudest bin, 0 is `top_db`
            below it or quieter.
        reference_db: mel power in dB of the loudest bin.
    """
    power_db = 10.0 * np.log10(np.maximum(mel_power(samples, config), MINIMUM_POWER))
    reference_db = float(power_db.max())
    return db_to_grey(power_db - reference_db, config), reference_db


def db_to_grey(
    relative_db: npt.NDArray[np.floating], config: SpectrogramConfig
) -> npt.NDArray[np.uint8]:
    """Convert dB relative to the clip's maximum (at most 0) to grey levels, with clipping."""
    grey = np.rint((relative_db + config.top_db) * (255.0 / config.top_db))
    return np.asarray(np.clip(grey, 0, 255), dtype=np.uint8)


def grey_to_db(grey: ArrayT, config: SpectrogramConfig) -> ArrayT:
    """Convert grey levels (0 to 255) to dB relative to the clip's maximum.

    Inverts `db_to_grey` to within half a grey level.
    """
    return grey * (config.top_db / 255.0) - config.top_db


def cut_images(
    grey: npt.NDArray[np.uint8], config: SpectrogramConfig
) -> list[npt.NDArray[np.uint8]]:
    """Cut (n_mels, frames) into images (n_mels, n_frames), low frequencies at the bottom.

    Image k holds frames [k * n_frames, (k + 1) * n_frames); the remainder is dropped.
    """
    upright = grey[::-1]
    width = config.n_frames
    return [upright[:, k * width : (k + 1) * width] for k in range(grey.shape[1] // width)]
