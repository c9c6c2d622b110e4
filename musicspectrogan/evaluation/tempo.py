"""Does the beat of a piece hold? The period of its onsets in the first half, and in the second."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks

from musicspectrogan.audio.spectrogram import SpectrogramConfig, grey_to_db

Array = NDArray[np.floating]

# Beats a minute that are looked for, and where they are most likely: D. Ellis, "Beat Tracking by Dynamic
# Programming", Journal of New Music Research 36 (2007), 51-60, weighs tempi by a normal distribution of
# their logarithm around 120, an octave wide.
SLOWEST, LIKELIEST, FASTEST = 50.0, 120.0, 240.0
SPREAD_OCTAVES = 1.0
# By this much two periods may differ and be the same.
TOLERANCE = 0.04


def onset_envelope(piece: NDArray[np.uint8], config: SpectrogramConfig) -> Array:
    """Mean rise over bands in dB from frame to frame, (T - 1,), of a piece uint8 (n_mels, T)."""
    db = grey_to_db(piece.astype(np.float32), config)
    return np.maximum(np.diff(db, axis=1), 0.0).mean(axis=0)


def beat_period(envelope: Array, frame_seconds: float) -> float:
    """Seconds from beat to beat: the likeliest peak of the envelope's autocorrelation; NaN without any.

    The peak is found between frames by a parabola, for 46 ms of 500 are more than TOLERANCE.
    """
    centred = envelope - envelope.mean()
    count = len(centred)
    spectrum = np.fft.rfft(centred, 2 * count)  # twice as long: the end must not meet the beginning
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[:count]
    slowest = int(60.0 / SLOWEST / frame_seconds) + 1
    peaks, _ = find_peaks(correlation[: slowest + 2])
    peaks = peaks[(peaks * frame_seconds >= 60.0 / FASTEST) & (correlation[peaks] > 0.0)]
    if not len(peaks):
        return np.nan
    octaves = np.log2(peaks * frame_seconds * LIKELIEST / 60.0)
    likelihood = np.exp(-0.5 * (octaves / SPREAD_OCTAVES) ** 2)
    best = peaks[np.argmax(correlation[peaks] * likelihood)]
    before, top, after = correlation[best - 1 : best + 2]
    bend = before - 2.0 * top + after
    return float((best + (0.5 * (before - after) / bend if bend < 0.0 else 0.0)) * frame_seconds)


def is_steady(piece: NDArray[np.uint8], config: SpectrogramConfig) -> bool:
    """Whether both halves of a piece uint8 (n_mels, T) have the same beat.

    Half and double are the same beat: which of them is found is chance, in real music too.
    """
    envelope = onset_envelope(piece, config)
    half = len(envelope) // 2
    frame_seconds = config.hop_length / config.sample_rate
    periods = [beat_period(part, frame_seconds) for part in (envelope[:half], envelope[-half:])]
    octaves = np.log2(periods[1] / periods[0])
    off = octaves - np.clip(np.rint(octaves), -1, 1)
    return bool(abs(off) <= np.log2(1.0 + TOLERANCE))  # never for NaN
