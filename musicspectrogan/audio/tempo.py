"""The tempo of a spectrogram image, where it has a steady beat.

librosa names a tempo for everything, for noise too, and on these frames in steps of some 8 %: a file must not
be tagged with that. Beats that return after a fixed time show in the autocorrelation of the onsets at every
multiple of it, which tells the tempo between frames, and whether there is one at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from musicspectrogan.audio.spectrogram import SpectrogramConfig

BEATS_PER_BAR = 4

# Beats per minute that are looked for, in steps of a quarter of a per cent, and the one that decides between
# a tempo and its double (as in D. Ellis, Beat tracking by dynamic programming, 2007).
SLOWEST, FASTEST, USUAL = 60.0, 180.0, 120.0
STEP = 0.0025
# Points of the autocorrelation a frame.
FINER = 8
# A beat is compared with as many that follow it.
MOST_BEATS, LEAST_BEATS = 8, 2
# What counts as a steady beat: onsets that stand out by so much (demo music without notes has 0.3 dB, other
# music 0.7 and more), their mean autocorrelation over the beats, and the same in standard errors of unrelated
# onsets. Of 6,000 images of 3 to 19 s whose frames were shuffled three pass; of demo music with notes as it
# is 43 % at 3 s, 93 % at 6 s and all at 19 s.
LEAST_DB = 0.5
LEAST_CORRELATION = 0.15
LEAST_ERRORS = 7.5
# From so many seconds on, both halves must have the beat.
HALVED_SECONDS = 8.0


@dataclass(frozen=True)
class Tempo:
    """Of a sound."""

    bpm: float
    """Beats per minute."""
    beats: int | None = None
    """How many beats the whole sound lasts, where that is a whole number; else None."""

    def __str__(self) -> str:
        return f"{round(self.bpm, 2):g}"


def tempo_of(image: np.ndarray, config: SpectrogramConfig, *, loops: bool = False) -> Tempo | None:
    """The tempo of an image, uint8 (n_mels, T), or None where no steady beat is found.

    Three seconds tell it to 1 %, thirty to 0.1 %.

    Args:
        config: how the image was made.
        loops: the last frame goes on at the first. Then only a whole number of beats is a steady beat.
    """
    onsets = _onsets(image, config, loops=loops)
    frames, rate = len(onsets), config.sample_rate / config.hop_length
    if frames < 2 or onsets.std() < LEAST_DB:
        return None
    onsets = np.sqrt(onsets)  # or the few loudest would decide
    tempi = _tempi(frames / rate, loops=loops)
    if not len(tempi):
        return None
    correlations, beats = _correlations(onsets, 60.0 * rate / tempi, loops=loops)
    prior = np.exp(-0.5 * np.log2(tempi / USUAL) ** 2)
    best = int(np.argmax(np.where(beats >= LEAST_BEATS, correlations * prior, -1.0)))
    errors = correlations[best] * np.sqrt(frames * beats[best])
    if beats[best] < LEAST_BEATS or correlations[best] < LEAST_CORRELATION or errors < LEAST_ERRORS:
        return None
    if frames / rate >= HALVED_SECONDS:
        period = np.array([60.0 * rate / tempi[best]])
        halves = (onsets[: frames // 2], onsets[frames // 2 :])
        if (
            min(_correlations(half, period, loops=False)[0][0] for half in halves)
            < LEAST_CORRELATION / 2
        ):
            return None
    bpm = float(tempi[best])
    return Tempo(bpm, round(bpm * frames / rate / 60.0)) if loops else Tempo(round(bpm, 1))


def _onsets(image: np.ndarray, config: SpectrogramConfig, *, loops: bool) -> np.ndarray:
    """By how many dB the bands rise with each frame, in the mean: (T,)."""
    before = np.roll(image, 1, axis=1)
    if not loops:
        before[:, :1] = image[:, :1]
    return (np.maximum(image, before) - before).mean(axis=0) * (config.top_db / 255.0)


def _tempi(seconds: float, *, loops: bool) -> np.ndarray:
    """The tempi to try; of a loop those of which a whole number of beats fits in."""
    if loops:
        beats = np.arange(np.ceil(SLOWEST * seconds / 60.0), np.floor(FASTEST * seconds / 60.0) + 1)
        return 60.0 * beats / seconds
    return np.exp(np.arange(np.log(SLOWEST), np.log(FASTEST), STEP))


def _correlations(
    onsets: np.ndarray, periods: np.ndarray, *, loops: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Mean autocorrelation (P,) of onsets (T,) at the multiples of each period (P,), and how many these are.

    Multiples beyond half of the frames are left out: too few pairs are so far apart.
    """
    frames = len(onsets)
    size = frames if loops else 2 * frames
    spectrum = np.fft.rfft(onsets - onsets.mean(), size)
    # More points than frames: beats lie between them, and straight lines would draw them to the nearest.
    products = FINER * np.fft.irfft(np.abs(spectrum) ** 2, FINER * size)[: FINER * frames]
    lag = np.arange(len(products)) / FINER
    correlation = products / (frames if loops else frames - lag) / max(products[0] / frames, 1e-12)
    lags = periods[:, None] * np.arange(1, MOST_BEATS + 1)
    inside = lags <= frames / 2
    values = np.interp(lags, lag, correlation)
    count = inside.sum(axis=1)
    return np.where(inside, values, 0.0).sum(axis=1) / np.maximum(count, 1), count
