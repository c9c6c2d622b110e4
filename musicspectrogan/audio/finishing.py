"""Finishing of a sound before it is saved: sample rate, loudness and fades."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

# The target of EBU R 128. At this level hardly any inverted music has peaks above the ceiling: 2
# of 120 clips of GTZAN and the demo, against 9 at -21 LUFS.
LOUDNESS_LUFS = -23.0
PEAK_DBFS = -1.0
FADE_SECONDS = 0.005

# BS.1770: length of a block in seconds, and the step from one to the next.
BLOCK_SECONDS, BLOCK_STEP = 0.4, 0.1
# Shorter sounds are repeated; a block and some samples for rounding.
MIN_SECONDS = 0.41
# Seconds measured at a time, and seconds before them in which the filters settle.
PART_SECONDS, SETTLING_SECONDS = 30, 1
# BS.1770: absolute gate, and relative gate below the mean of the blocks above it.
ABSOLUTE_GATE_LUFS, RELATIVE_GATE_LU = -70.0, 10.0

Samples = npt.NDArray[np.float32]


def resample(
    blocks: Iterable[Samples],
    source_rate: float,
    sample_rate: float,
    length: int,
    *,
    skipped: int = 0,
) -> Samples:
    """Resample, then cut or zero-pad to (length,). The block sizes do not change the result.

    Args:
        blocks: consecutive samples, each (n,).
        skipped: samples to drop at the start of the result.
    """
    if source_rate != sample_rate:
        blocks = _resample_blocks(blocks, source_rate, sample_rate)
    samples = np.zeros(length, dtype=np.float32)
    position = -skipped
    for block in blocks:
        part = block[max(0, -position) : max(0, length - position)]
        start = max(0, position)
        samples[start : start + len(part)] = part
        position += len(block)
    return samples


def _resample_blocks(
    blocks: Iterable[Samples], source_rate: float, sample_rate: float
) -> Iterator[Samples]:
    import soxr  # lazy: training imports this module but never resamples

    resampler = soxr.ResampleStream(source_rate, sample_rate, 1, dtype="float32", quality="VHQ")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.empty(0, dtype=np.float32), last=True)


def finish(samples: Samples, sample_rate: int, *, loops: bool = False) -> None:
    """Scale samples (n,) to -23 LUFS in place, and fade both ends.

    No sample exceeds -1 dBFS: a sound with higher peaks stays quieter, without limiting or
    clipping. Silence stays silence.

    Args:
        loops: do not fade, which would leave a gap in a loop.
    """
    peak = float(max(samples.max(initial=0.0), -samples.min(initial=0.0)))
    if peak > 0:
        # First to the ceiling, because BS.1770 does not measure very quiet sounds.
        samples *= 10.0 ** (PEAK_DBFS / 20.0) / peak
        samples *= min(1.0, 10.0 ** ((LOUDNESS_LUFS - loudness(samples, sample_rate)) / 20.0))
    length = min(round(FADE_SECONDS * sample_rate), len(samples) // 2)
    if not loops and length:
        ramp = np.linspace(0.0, 1.0, length, dtype=samples.dtype)
        samples[:length] *= ramp
        samples[-length:] *= ramp[::-1]


def loudness(samples: Samples, sample_rate: int) -> float:
    """Integrated loudness in LUFS of mono samples (n,), n > 0, by ITU-R BS.1770; -inf for silence.

    Sounds shorter than one block of 0.4 s are repeated.
    """
    min_length = round(MIN_SECONDS * sample_rate)
    if len(samples) < min_length:
        samples = np.resize(samples, min_length)
    blocks = np.concatenate(list(_block_loudness(samples, sample_rate)))
    power = 10.0 ** (blocks[blocks >= ABSOLUTE_GATE_LUFS] / 10.0)
    if not len(power):
        return -np.inf
    gated = power[power > power.mean() / 10.0 ** (RELATIVE_GATE_LU / 10.0)]
    return float(10.0 * np.log10(gated.mean()))


def _block_loudness(samples: Samples, sample_rate: int) -> Iterator[npt.NDArray[np.float64]]:
    """Yield the loudness of each block in LUFS, part by part to bound memory."""
    import pyloudnorm  # lazy: imports scipy.signal

    meter = pyloudnorm.Meter(
        sample_rate, block_size=BLOCK_SECONDS, overlap=1.0 - BLOCK_STEP / BLOCK_SECONDS
    )
    part, settling = PART_SECONDS * sample_rate, SETTLING_SECONDS * sample_rate
    overlap = round((BLOCK_SECONDS - BLOCK_STEP) * sample_rate)
    steps = round(PART_SECONDS / BLOCK_STEP)
    for start in range(0, len(samples), part):
        first = max(0, start - settling)
        meter.integrated_loudness(samples[first : start + part + overlap])
        settled = round((start - first) / sample_rate / BLOCK_STEP)
        yield np.array(meter.blockwise_loudness[settled : settled + steps])
