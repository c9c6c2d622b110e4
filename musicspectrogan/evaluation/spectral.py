"""What anybody would measure on a spectrogram: levels and spreads of bands, modulation, onsets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft
from scipy.signal import find_peaks
from scipy.signal.windows import hann

from musicspectrogan.audio.spectrogram import SpectrogramConfig, grey_to_db

Array = NDArray[np.floating]

IMAGES_AT_ONCE = 256
# An onset is a peak of the mean rise over bands that stands out from its surroundings by this much.
ONSET_DB = 2.0
# Under the logarithm of a power in dB².
LEAST_POWER = 1e-6


@dataclass(frozen=True)
class SpectralStatistics:
    """Of each of N images; a set's statistics are weighted means of these."""

    levels: Array
    """(N, n_mels): mean over time in dB, lowest band first."""
    squares: Array
    """(N, n_mels): mean square over time, dB²."""
    modulation: Array
    """(N, n_frames // 2): power at each modulation frequency but 0, mean over bands, dB²."""
    onsets: Array
    """(N,): a second."""

    @classmethod
    def of(cls, pixels: NDArray[np.uint8], config: SpectrogramConfig) -> SpectralStatistics:
        """Measure images uint8 (N, H, W), low frequencies at the bottom."""
        starts = range(0, len(pixels), IMAGES_AT_ONCE)
        blocks = [_measure(pixels[start : start + IMAGES_AT_ONCE], config) for start in starts]
        return cls(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))

    def take(self, rows: NDArray[np.int64]) -> SpectralStatistics:
        """Those of some of the images."""
        return SpectralStatistics(
            self.levels[rows], self.squares[rows], self.modulation[rows], self.onsets[rows]
        )

    def profile(self, weights: Array) -> Profile:
        """The statistics of all images together; weights (N,) say how often each counts."""
        share = weights / weights.sum()
        level = share @ self.levels
        return Profile(
            level,
            np.sqrt(np.maximum(share @ self.squares - level**2, 0.0)),
            10.0 * np.log10(share @ self.modulation + LEAST_POWER),
            float(share @ self.onsets),
        )


@dataclass(frozen=True)
class Profile:
    """The statistics of a set of images."""

    level: Array
    """(n_mels,): dB, lowest band first."""
    spread: Array
    """(n_mels,): standard deviation over all frames, dB."""
    modulation: Array
    """(n_frames // 2,): 10 log10 of dB²."""
    onset_rate: float
    """Onsets a second."""


def modulation_hz(config: SpectrogramConfig) -> Array:
    """(n_frames // 2,): how often a level rises and falls in a second, for each modulation frequency."""
    return np.arange(1, config.n_frames // 2 + 1) / config.image_seconds


def spectral_figures(sample: Profile, reference: Profile) -> dict[str, float]:
    """`band_means`, `band_spreads` and `modulation`, mean absolute differences in dB; `onset_rate`."""
    return {
        "band_means": float(np.abs(sample.level - reference.level).mean()),
        "band_spreads": float(np.abs(sample.spread - reference.spread).mean()),
        "modulation": float(np.abs(sample.modulation - reference.modulation).mean()),
        "onset_rate": sample.onset_rate,
    }


def _measure(pixels: NDArray[np.uint8], config: SpectrogramConfig) -> tuple[Array, ...]:
    db = grey_to_db(pixels[:, ::-1].astype(np.float64), config)
    levels = db.mean(axis=2)
    window = hann(db.shape[2], sym=False)
    spectrum = rfft((db - levels[:, :, None]) * window, axis=2)[:, :, 1:]
    modulation = (spectrum.real**2 + spectrum.imag**2).mean(axis=1) / (window**2).sum()
    rises = np.maximum(np.diff(db, axis=2), 0.0).mean(axis=1)
    # Silence before and after, for a peak at the edge has no side that it stands out from.
    counts = [len(find_peaks(np.pad(rise, 1), prominence=ONSET_DB)[0]) for rise in rises]
    return levels, (db**2).mean(axis=2), modulation, np.array(counts) / config.image_seconds
