"""The last touches to a sound before it is written: its rate, its loudness and its ends."""

from __future__ import annotations

import numpy as np

# What EBU R 128 asks for. At -23 LUFS hardly any music of these images has peaks above the ceiling: of 120
# inverted clips of GTZAN and the demo two had, and nine at -21.
LOUDNESS_LUFS = -23.0
PEAK_DBFS = -1.0
FADE_SECONDS = 0.005

# Seconds that BS.1770 measures at a time, with some to spare for rounding; shorter sounds are repeated.
MEASURED_SECONDS = 0.41
PART_SECONDS = 300
# Samples of a loop's other end beside it while it is resampled: more than the filter is long.
RESAMPLING_REACH = 8192


def resampled(
    samples: np.ndarray, source_rate: float, sample_rate: float, length: int, *, loops: bool = False
) -> np.ndarray:
    """Samples (n,) at another rate, cut to (length,) or filled up with silence.

    Args:
        loops: the end goes on at the beginning. Then all n samples become all of `length`, which changes the
            pitch by as much as n / source_rate and length / sample_rate differ.
    """
    if loops:
        source_rate, sample_rate = len(samples), length
    if source_rate != sample_rate:
        import soxr  # here, because training imports this module and resamples nothing

        reach = RESAMPLING_REACH if loops else 0
        samples = np.pad(samples, reach, mode="wrap") if loops else samples
        samples = soxr.resample(samples, source_rate, sample_rate, quality="VHQ")
        samples = samples[round(reach * sample_rate / source_rate) :]
    missing = length - len(samples)
    return np.pad(samples, (0, missing)) if missing > 0 else samples[:length]


def finished(samples: np.ndarray, sample_rate: int, *, loops: bool = False) -> np.ndarray:
    """Float samples (n,) brought to -23 LUFS (ITU-R BS.1770), with short fades at both ends.

    No sample exceeds -1 dBFS. A sound whose peaks would is left at that peak and is quieter than the others:
    nothing is limited or clipped. Silence stays silence.

    Args:
        loops: the end goes on at the beginning, so that a fade would be a gap.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    if peak > 0:
        # First to the ceiling, for there is a loudness below which BS.1770 does not measure.
        samples = samples * (10.0 ** (PEAK_DBFS / 20.0) / peak)
        samples *= min(1.0, 10.0 ** ((LOUDNESS_LUFS - loudness(samples, sample_rate)) / 20.0))
    else:
        samples = samples.copy()
    length = min(round(FADE_SECONDS * sample_rate), len(samples) // 2)
    if not loops and length:
        ramp = np.linspace(0.0, 1.0, length, dtype=samples.dtype)
        samples[:length] *= ramp
        samples[-length:] *= ramp[::-1]
    return samples


def loudness(samples: np.ndarray, sample_rate: int) -> float:
    """Integrated loudness in LUFS by ITU-R BS.1770 of mono samples (n,), n > 0; -inf for silence.

    What is shorter than the 0.4 s that are measured at a time counts as if it were repeated. What is longer
    than five minutes is measured part by part, which takes less memory, and has the mean power of its parts.
    """
    import pyloudnorm  # brings scipy.signal, which takes a while to import

    least = round(MEASURED_SECONDS * sample_rate)
    if len(samples) < least:
        samples = np.resize(samples, least)
    meter = pyloudnorm.Meter(sample_rate)
    count = -(-len(samples) // (PART_SECONDS * sample_rate))
    parts = np.array_split(samples, count)
    powers = [10.0 ** (meter.integrated_loudness(part) / 10.0) for part in parts]
    with np.errstate(divide="ignore"):
        return float(10.0 * np.log10(np.mean(powers)))
