"""Spectrogram settings, and the encoding of a clip as a grey mel-spectrogram.

The numbers are those of `librosa.feature.melspectrogram` followed by `librosa.power_to_db` (a test
holds the two together). They are computed here because training and preprocessing's worker
processes would otherwise wait for librosa's imports, and some of them run where it is not installed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from musicspectrogan.errors import SettingError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

IMAGE_SIZES = (64, 128, 256)

# Beyond these a spectrogram is no use, and takes any amount of memory.
LARGEST = {"n_fft": 65536, "hop_length": 65536, "n_mels": 512, "n_frames": 4096}

Levels = TypeVar("Levels")

# Frames transformed at a time: bounds memory for clips of hours, and keeps a block inside the cache.
FRAMES_PER_BLOCK = 64

# The floor that librosa.power_to_db puts under a power before taking its logarithm.
MINIMUM_POWER = 1e-10


@dataclass(frozen=True)
class SpectrogramConfig:
    """How audio becomes an image. Travels with the dataset, every PNG and every checkpoint."""

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
    """dB below the clip's loudest bin that are still told from black."""

    def __post_init__(self) -> None:
        for name in ("sample_rate", "n_fft", "hop_length", "n_mels", "n_frames", "top_db"):
            if not 0 < getattr(self, name) < np.inf:
                raise SettingError(
                    name, f"{getattr(self, name)} is not allowed; it must be positive"
                )
        for name, most in LARGEST.items():
            if getattr(self, name) > most:
                raise SettingError(
                    name, f"{getattr(self, name)} is not allowed; it is at most {most}"
                )
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
        if self.hop_length > self.n_fft * 3 / 4:  # beyond, there is no way back to sound
            raise SettingError(
                "hop_length",
                f"{self.hop_length} is not allowed: Fourier frames of {self.n_fft} samples must overlap by a "
                f"quarter at least; give up to {self.n_fft * 3 // 4}, or longer frames",
            )

    @classmethod
    def for_image_size(cls, size: int, **changes: Any) -> SpectrogramConfig:
        """Settings for square images that span the same three seconds at every size.

        Args:
            size: pixels a side, one of IMAGE_SIZES.
            changes: fields that replace the usual value; None keeps the usual one.
        """
        if size not in IMAGE_SIZES:
            raise SettingError(
                "image_size", f"{size} is not one of {', '.join(map(str, IMAGE_SIZES))}"
            )
        usual = cls()
        hop_length = usual.hop_length * usual.n_frames // size
        scaled = replace(usual, n_mels=size, n_frames=size, hop_length=hop_length)
        return replace(scaled, **{k: v for k, v in changes.items() if v is not None})

    @property
    def image_seconds(self) -> float:
        """Seconds of audio in one image."""
        return self.n_frames * self.hop_length / self.sample_rate

    def frames_in(self, seconds: float) -> int:
        """Frames that it takes to cover so many seconds of audio."""
        return math.ceil(seconds * self.sample_rate / self.hop_length)

    @property
    def band_hz(self) -> np.ndarray:
        """(n_mels,): where each mel filter peaks, in Hz, lowest first."""
        return mel_edges(self)[1:-1]


# Slaney's mel scale is linear up to a knee, and logarithmic above it: M. Slaney, Auditory Toolbox,
# Interval Research TR 1998-010.
HZ_PER_MEL = 200.0 / 3.0
KNEE_HZ = 1000.0
KNEE_MEL = KNEE_HZ / HZ_PER_MEL
MELS_PER_LOG = 27.0 / np.log(6.4)


def hz_to_mel(hz: float) -> float:
    """Mels of a frequency."""
    return hz / HZ_PER_MEL if hz < KNEE_HZ else KNEE_MEL + np.log(hz / KNEE_HZ) * MELS_PER_LOG


def mel_to_hz(mels: np.ndarray) -> np.ndarray:
    """Frequencies in Hz of mels (n,); the inverse."""
    logarithmic = KNEE_HZ * np.exp((mels - KNEE_MEL) / MELS_PER_LOG)
    return np.where(mels < KNEE_MEL, mels * HZ_PER_MEL, logarithmic)


def mel_edges(config: SpectrogramConfig) -> np.ndarray:
    """(n_mels + 2,) in Hz, evenly spaced in mels: band k rises from k, peaks at k + 1, ends at k + 2."""
    return mel_to_hz(
        np.linspace(hz_to_mel(config.f_min), hz_to_mel(config.f_max), config.n_mels + 2)
    )


@lru_cache(maxsize=8)
def mel_filterbank(config: SpectrogramConfig) -> np.ndarray:
    """Triangular mel filters of unit area, float32 (n_mels, 1 + n_fft // 2)."""
    edges = mel_edges(config)
    bins = np.fft.rfftfreq(config.n_fft, 1.0 / config.sample_rate)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    area = 2.0 / (edges[2:] - edges[:-2])
    filters = (triangles * area[:, None]).astype(np.float32)
    filters.setflags(write=False)  # one array serves every caller
    return filters


def mel_power(samples: np.ndarray, config: SpectrogramConfig) -> np.ndarray:
    """Mel power spectrogram, float32 (n_mels, 1 + len(samples) // hop_length).

    Frames are centred on multiples of the hop; beyond both ends the clip counts as silence.

    Args:
        samples: mono float32 (n,) at the config's sample rate.
    """
    from scipy.fft import rfft  # here, because training needs the settings above and no transform

    filters, window = _sparse_filterbank(config), _window(config)
    samples = np.ascontiguousarray(samples, dtype=np.float32)
    n_frames, hop = 1 + len(samples) // config.hop_length, config.hop_length
    mel = np.empty((config.n_mels, n_frames), dtype=np.float32)
    for start in range(0, n_frames, FRAMES_PER_BLOCK):
        stop = min(start + FRAMES_PER_BLOCK, n_frames)
        first = start * hop - config.n_fft // 2
        stretch = _padded_slice(samples, first, first + (stop - start - 1) * hop + config.n_fft)
        frames = np.ndarray((stop - start, config.n_fft), np.float32, stretch, strides=(4 * hop, 4))
        spectrum = np.ascontiguousarray(rfft((frames * window).T, axis=0)[: filters.shape[1]])
        # Power is real² + imaginary²; squared in place and filtered before they are added, nothing is copied.
        squares = spectrum.view(np.float32)
        squares *= squares
        filtered = filters @ squares
        np.add(filtered[:, ::2], filtered[:, 1::2], out=mel[:, start:stop])
    return mel


@lru_cache(maxsize=8)
def _sparse_filterbank(config: SpectrogramConfig) -> csr_array:
    """The filters without the bins above the highest band; no bin is in more than two of them."""
    from scipy.sparse import csr_array

    filters = mel_filterbank(config)
    n_bins = 1 + int(np.flatnonzero(filters.any(axis=0))[-1])
    return csr_array(filters[:, :n_bins])


@lru_cache(maxsize=8)
def _window(config: SpectrogramConfig) -> np.ndarray:
    """The periodic Hann window, as for every STFT."""
    phase = np.arange(config.n_fft) * (2.0 * np.pi / config.n_fft)
    return (0.5 - 0.5 * np.cos(phase)).astype(np.float32)


def _padded_slice(samples: np.ndarray, start: int, stop: int) -> np.ndarray:
    """samples[start:stop], with zeros for what lies beyond either end."""
    inside = samples[max(start, 0) : stop]
    before, after = max(-start, 0), max(stop - len(samples), 0)
    return np.pad(inside, (before, after)) if before or after else inside


def encode(samples: np.ndarray, config: SpectrogramConfig) -> tuple[np.ndarray, float]:
    """Encode a whole clip as grey levels.

    Returns:
        grey: uint8 (n_mels, frames), lowest band first; 255 is the clip's loudest bin, 0 is
            `top_db` below it or quieter.
        reference_db: the loudest bin's mel power in dB, which 255 stands for.
    """
    power_db = 10.0 * np.log10(np.maximum(mel_power(samples, config), MINIMUM_POWER))
    reference_db = float(power_db.max())
    return db_to_grey(power_db - reference_db, config), reference_db


def db_to_grey(relative_db: np.ndarray, config: SpectrogramConfig) -> np.ndarray:
    """dB relative to the clip's maximum (0 and below) -> uint8 grey; the range is clipped."""
    grey = np.rint((relative_db + config.top_db) * (255.0 / config.top_db))
    return np.clip(grey, 0, 255).astype(np.uint8)


def grey_to_db(grey: Levels, config: SpectrogramConfig) -> Levels:
    """Grey (0 to 255) -> dB relative to the clip's maximum; inverts to half a grey level.

    Args:
        grey: a numpy array, or a float tensor.
    """
    return grey * (config.top_db / 255.0) - config.top_db


def cut_images(grey: np.ndarray, config: SpectrogramConfig) -> list[np.ndarray]:
    """Cut (n_mels, frames) into images (n_mels, n_frames) with low frequencies at the bottom.

    Image k holds frames [k * n_frames, (k + 1) * n_frames); a shorter remainder is dropped.
    """
    upright = grey[::-1]
    width = config.n_frames
    return [upright[:, k * width : (k + 1) * width] for k in range(grey.shape[1] // width)]
