"""Does the beat of a piece hold? The period of its onsets in the first half, and in the second."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks

from musicspectrogan.audio.spectrogram import SpectrogramConfig, grey_to_db
from musicspectrogan.evaluation.distances import mean_of_pairs
from musicspectrogan.evaluation.stretches import Stretches

Array = NDArray[np.floating]

# Beats a minute that are looked for, and where they are most likely: D. Ellis, "Beat Tracking by Dynamic
# Programming", Journal of New Music Research 36 (2007), 51-60, weighs tempi by a normal distribution of
# their logarithm around 120, an octave wide.
SLOWEST, LIKELIEST, FASTEST = 50.0, 120.0, 240.0
SPREAD_OCTAVES = 1.0
# By this much two periods may differ and be the same.
TOLERANCE = 0.04


class Tempo:
    """Prepares what does not depend on weights, so that resampling is cheap.

    Args:
        stretches: clips with fewer images in a row than `length` are left out.
        length: in images, of the part of each clip that is looked at.
    """

    def __init__(self, stretches: Stretches, length: int, config: SpectrogramConfig) -> None:
        runs = [run[:length] for run in stretches.longest_runs() if len(run) >= length]
        halves = [halves_of(stretches.piece(run), config) for run in runs]
        first, second = np.array(halves).reshape(-1, 2).T
        self._same = is_same_beat(first[:, None], second[None, :])
        self._images = np.array([run[0] for run in runs], dtype=np.int64)
        self._labels = stretches.images.labels[self._images]

    def figures(self, weights: Array) -> dict[str, float]:
        """`tempo_stability`, the share of clips whose second half has the beat of the first; and
        `shared_tempo`, the share of pairs of a genre where the second half of another clip has it.

        A beat that all pieces share is the generator's own, and holds for no merit. NaN where there is
        nothing to take a share of.

        Args:
            weights: (N,), how often each image counts.
        """
        weights = weights[self._images]
        sums = np.array(
            [
                (w.sum(), w.sum() * mean_of_pairs(self._same[np.ix_(rows, rows)], w))
                for rows in (
                    np.flatnonzero(self._labels == label) for label in np.unique(self._labels)
                )
                if np.count_nonzero(w := weights[rows]) > 1
            ]
        ).reshape(-1, 2)
        of_pairs, shared = sums.sum(axis=0)
        total = weights.sum()
        return {
            "tempo_stability": float(weights @ self._same.diagonal() / total) if total else np.nan,
            "shared_tempo": float(shared / of_pairs) if of_pairs else np.nan,
        }


def halves_of(piece: NDArray[np.uint8], config: SpectrogramConfig) -> tuple[float, float]:
    """The beat's period in seconds in each half of a piece uint8 (n_mels, T); NaN where there is none."""
    envelope = onset_envelope(piece, config)
    half = len(envelope) // 2
    frame_seconds = config.hop_length / config.sample_rate
    return beat_period(envelope[:half], frame_seconds), beat_period(envelope[-half:], frame_seconds)


def onset_envelope(piece: NDArray[np.uint8], config: SpectrogramConfig) -> Array:
    """Mean rise over bands in dB from frame to frame, (T - 1,), of a piece uint8 (n_mels, T)."""
    db = grey_to_db(piece.astype(np.float32), config)
    return np.maximum(np.diff(db, axis=1), 0.0).mean(axis=0)


def beat_period(envelope: Array, frame_seconds: float) -> float:
    """Seconds from beat to beat: the likeliest peak of the envelope's autocorrelation; NaN without any.

    The peak is found between frames, by a parabola: one frame of 46 ms is more than TOLERANCE.
    """
    centred = envelope - envelope.mean()
    count = len(centred)
    spectrum = np.fft.rfft(centred, 2 * count)  # twice as long: the end must not meet the beginning
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[:count]
    peaks, _ = find_peaks(correlation)
    seconds = peaks * frame_seconds
    peaks = peaks[
        (seconds >= 60.0 / FASTEST) & (seconds <= 60.0 / SLOWEST) & (correlation[peaks] > 0.0)
    ]
    if not len(peaks):
        return np.nan
    octaves = np.log2(peaks * frame_seconds * LIKELIEST / 60.0)
    likelihood = np.exp(-0.5 * (octaves / SPREAD_OCTAVES) ** 2)
    best = peaks[np.argmax(correlation[peaks] * likelihood)]
    before, top, after = correlation[best - 1 : best + 2]
    bend = before - 2.0 * top + after
    return float((best + (0.5 * (before - after) / bend if bend else 0.0)) * frame_seconds)


def is_same_beat(first: Array, second: Array) -> NDArray[np.bool_]:
    """Whether periods are alike; NaN is like none.

    Half and double are the same beat: which of them is found is chance, in real music too.
    """
    octaves = np.log2(second / first)
    return np.abs(octaves - np.clip(np.rint(octaves), -1, 1)) <= np.log2(1.0 + TOLERANCE)
