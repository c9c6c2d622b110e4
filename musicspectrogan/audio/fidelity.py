"""How far a restored sound is from the original, as the ear's frequency scale sees it."""

from __future__ import annotations

import numpy as np

from musicspectrogan.audio.spectrogram import MINIMUM_POWER, SpectrogramConfig, mel_power

WINDOW_DB = 60.0


def round_trip_error(original: np.ndarray, restored: np.ndarray, sample_rate: int) -> float:
    """Mean absolute difference in dB of log-mel spectrograms with 128 bands up to half the sample rate.

    Both are taken relative to their own maximum and down to WINDOW_DB below it, so that level does not
    count, nor what nobody hears. The longer one is cut.

    Args:
        original, restored: mono samples (n,) at `sample_rate`.
    """
    length = min(len(original), len(restored))
    config = SpectrogramConfig(
        sample_rate=sample_rate, n_fft=2048, hop_length=512, n_mels=128, f_max=sample_rate / 2
    )

    def log_mel(samples: np.ndarray) -> np.ndarray:
        decibels = 10.0 * np.log10(np.maximum(mel_power(samples[:length], config), MINIMUM_POWER))
        return np.maximum(decibels - decibels.max(), -WINDOW_DB)

    return float(np.abs(log_mel(original) - log_mel(restored)).mean())
