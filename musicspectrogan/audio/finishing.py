"""The last touches to a sound before it is written: level and ends."""

from __future__ import annotations

import numpy as np

PEAK_DBFS = -1.0
FADE_SECONDS = 0.005


def finished(samples: np.ndarray, sample_rate: int, *, loops: bool = False) -> np.ndarray:
    """Float samples (n,) brought to a peak of -1 dBFS, with short fades at both ends.

    Args:
        loops: the end goes on at the beginning, so that a fade would be a gap.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    samples = samples * (10.0 ** (PEAK_DBFS / 20.0) / peak) if peak > 0 else samples.copy()
    length = min(round(FADE_SECONDS * sample_rate), len(samples) // 2)
    if not loops and length:
        ramp = np.linspace(0.0, 1.0, length, dtype=samples.dtype)
        samples[:length] *= ramp
        samples[-length:] *= ramp[::-1]
    return samples
