"""The last touches to a sound before it is written: its rate, its loudness and its ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

# What EBU R 128 asks for. At -23 LUFS hardly any music of these images has peaks above the ceiling: of 120
# inverted clips of GTZAN and the demo two had, and nine at -21.
LOUDNESS_LUFS = -23.0
PEAK_DBFS = -1.0
FADE_SECONDS = 0.005

# Blocks of BS.1770 in seconds, and how far apart they begin. Shorter sounds are repeated, with some to spare
# for rounding.
BLOCK_SECONDS, BLOCK_STEP = 0.4, 0.1
MEASURED_SECONDS = 0.41
# Seconds that are measured at a time, and those before them in which the filters settle.
PART_SECONDS, SETTLING_SECONDS = 30, 1
# Gates of BS.1770: blocks are left out below this loudness, and so far below the mean of the others.
SILENT_LUFS, QUIET_LU = -70.0, 10.0


def resampled(
    samples: np.ndarray, source_rate: float, sample_rate: float, length: int
) -> np.ndarray:
    """Samples (n,) at another rate, cut to (length,) or filled up with silence."""
    return resampled_blocks([samples], source_rate, sample_rate, length)


def resampled_blocks(
    blocks: Iterable[np.ndarray],
    source_rate: float,
    sample_rate: float,
    length: int,
    *,
    skipped: int = 0,
) -> np.ndarray:
    """The same, float32, of samples that come block by block; how they are divided changes nothing.

    Args:
        blocks: each float32 (n,).
        skipped: samples of the result that are left out at its beginning.
    """
    if source_rate != sample_rate:
        blocks = _at_another_rate(blocks, source_rate, sample_rate)
    samples = np.zeros(length, dtype=np.float32)
    place = -skipped
    for block in blocks:
        part = block[max(0, -place) : max(0, length - place)]
        at = max(0, place)
        samples[at : at + len(part)] = part
        place += len(block)
    return samples


def _at_another_rate(
    blocks: Iterable[np.ndarray], source_rate: float, sample_rate: float
) -> Iterator[np.ndarray]:
    import soxr  # here, because training imports this module and resamples nothing

    resampler = soxr.ResampleStream(source_rate, sample_rate, 1, dtype="float32", quality="VHQ")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.empty(0, dtype=np.float32), last=True)


def finished(samples: np.ndarray, sample_rate: int, *, loops: bool = False) -> np.ndarray:
    """A copy of float samples (n,) that is finished as by `finish`."""
    made = samples.copy()
    finish(made, sample_rate, loops=loops)
    return made


def finish(samples: np.ndarray, sample_rate: int, *, loops: bool = False) -> None:
    """Bring float samples (n,) to -23 LUFS (ITU-R BS.1770), in place, with short fades at both ends.

    No sample exceeds -1 dBFS. A sound whose peaks would is left at that peak and is quieter than the others:
    nothing is limited or clipped. Silence stays silence.

    Args:
        loops: the end goes on at the beginning, so that a fade would be a gap.
    """
    peak = float(max(samples.max(initial=0.0), -samples.min(initial=0.0)))
    if peak > 0:
        # First to the ceiling, for there is a loudness below which BS.1770 does not measure.
        samples *= 10.0 ** (PEAK_DBFS / 20.0) / peak
        samples *= min(1.0, 10.0 ** ((LOUDNESS_LUFS - loudness(samples, sample_rate)) / 20.0))
    length = min(round(FADE_SECONDS * sample_rate), len(samples) // 2)
    if not loops and length:
        ramp = np.linspace(0.0, 1.0, length, dtype=samples.dtype)
        samples[:length] *= ramp
        samples[-length:] *= ramp[::-1]


def loudness(samples: np.ndarray, sample_rate: int) -> float:
    """Integrated loudness in LUFS by ITU-R BS.1770 of mono samples (n,), n > 0; -inf for silence.

    What is shorter than the 0.4 s that are measured at a time counts as if it were repeated.
    """
    least = round(MEASURED_SECONDS * sample_rate)
    if len(samples) < least:
        samples = np.resize(samples, least)
    loudnesses = np.concatenate(list(_loudnesses(samples, sample_rate)))
    heard = 10.0 ** (loudnesses[loudnesses >= SILENT_LUFS] / 10.0)
    if not len(heard):
        return -np.inf
    loud = heard[heard > heard.mean() / 10.0 ** (QUIET_LU / 10.0)]
    return float(10.0 * np.log10(loud.mean()))


def _loudnesses(samples: np.ndarray, sample_rate: int) -> Iterator[np.ndarray]:
    """Loudness in LUFS of each block of BS.1770, part by part: an hour takes the memory of half a minute."""
    import pyloudnorm  # brings scipy.signal, which takes a while to import

    meter = pyloudnorm.Meter(
        sample_rate, block_size=BLOCK_SECONDS, overlap=1.0 - BLOCK_STEP / BLOCK_SECONDS
    )
    part, settling = PART_SECONDS * sample_rate, SETTLING_SECONDS * sample_rate
    overlap = round((BLOCK_SECONDS - BLOCK_STEP) * sample_rate)
    steps = round(PART_SECONDS / BLOCK_STEP)
    for start in range(0, len(samples), part):
        first = max(0, start - settling)
        meter.integrated_loudness(samples[first : start + part + overlap])
        before = round((start - first) / sample_rate / BLOCK_STEP)
        yield np.array(meter.blockwise_loudness[before : before + steps])
