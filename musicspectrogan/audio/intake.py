"""Decoded blocks on their way to mono samples of one rate."""

from __future__ import annotations

import numpy as np
import soxr

# What music has. Beyond that a file of some bytes may become any amount of samples; who has longer recordings
# cuts them.
LOWEST_RATE, HIGHEST_RATE = 1000, 3_000_000
MOST_CHANNELS = 64
LONGEST_HOURS = 4

# Above any float file that means its samples; squares of such numbers are still finite.
LOUDEST = 1e9

# Channels cancel each other where their sum has less than a quarter of the energy that it has if unrelated,
# and they are above -80 dBFS: a lossy codec leaves so much of two that are opposed. One of them is taken
# where that is so in more than a tenth of what can be heard. Every so many frames one is looked at: that is
# enough to know an energy.
CANCELLED_ENERGY = 0.25
MOST_CANCELLED = 0.1
LEAST_TOLD = 0.01
SILENT_ENERGY = 1e-8
COMPARED_FRAMES = 61

# The 16-bit sample that full scale, 1, stands for.
FULL_SCALE = 32768.0


class AudioError(Exception):
    """This file gives no usable audio; the text is the reason, fit for a report."""


class Intake:
    """Takes a file in block by block: checks it, mixes it down and resamples it.

    So hours of music need no more memory than their result, and a clip's blocks stay in the cache.

    Args:
        channel: taken alone, in place of the mean of all.
    """

    def __init__(self, sample_rate: int, channel: int | None = None) -> None:
        self.seconds = 0.0
        self.peak = 0.0
        self._sample_rate, self._channel = sample_rate, channel
        self._source_rate = 0
        self._resampler: soxr.ResampleStream | None = None
        self._audible = self._cancelled = 0.0
        self._energies = np.zeros(1)
        self._parts: list[np.ndarray] = []

    def begin(self, source_rate: int, channels: int) -> None:
        """Expect blocks of this kind from here on; AudioError for a kind that music has not."""
        if channels > MOST_CHANNELS:
            raise AudioError(f"{channels} channels are too many")
        if not LOWEST_RATE <= source_rate <= HIGHEST_RATE:
            raise AudioError(f"its sample rate of {source_rate} Hz is none of music")
        if source_rate == self._source_rate:
            return
        self._flush()
        self._source_rate = source_rate
        if source_rate != self._sample_rate:
            self._resampler = soxr.ResampleStream(
                source_rate, self._sample_rate, 1, dtype="float32", quality="HQ"
            )

    def add(self, block: np.ndarray) -> None:
        """Take in (n, channels), float32 or int16; AudioError for samples that are no music."""
        seconds = len(block) / self._source_rate
        if self.seconds + seconds > LONGEST_HOURS * 3600:
            raise AudioError(f"longer than {LONGEST_HOURS} hours; cut it into pieces")
        channel = None if self._channel is None else min(self._channel, block.shape[1] - 1)
        mono = _mixed_down(block if channel is None else block[:, channel : channel + 1])
        peak = float(max(mono.max(), -mono.min()))
        if not np.isfinite(peak):
            raise AudioError("samples that are not finite numbers")
        if peak > LOUDEST:
            raise AudioError("samples far beyond full scale")
        if channel is None and block.shape[1] > 1:
            self._compare_channels(block, seconds)
        self.seconds += seconds
        self.peak = max(self.peak, peak)
        self._parts.append(self._resampler.resample_chunk(mono) if self._resampler else mono)

    @property
    def cancelled_share(self) -> float:
        """In how much of what can be heard the mean of the channels has far less energy than they."""
        return self._cancelled / self._audible if self._audible else 0.0

    @property
    def loudest_channel(self) -> int:
        """The one with most energy, counted from 0."""
        return int(self._energies.argmax())

    def samples(self) -> np.ndarray:
        """All that was taken in, float32 (n,)."""
        self._flush()
        return np.concatenate(self._parts)

    def _flush(self) -> None:
        """Take what the resampler still holds, which ends it."""
        if self._resampler:
            self._parts.append(
                self._resampler.resample_chunk(np.empty(0, dtype=np.float32), last=True)
            )
        self._resampler = None

    def _compare_channels(self, block: np.ndarray, seconds: float) -> None:
        """Note the energy of each channel, and whether they cancel each other."""
        some = block[::COMPARED_FRAMES].astype(np.float32)
        products = some.T @ some / len(some)
        if block.dtype == np.int16:
            products /= FULL_SCALE**2
        energies = products.diagonal()
        if energies.sum() > SILENT_ENERGY:
            self._audible += seconds
            if products.sum() < CANCELLED_ENERGY * energies.sum():
                self._cancelled += seconds
        if len(energies) > len(self._energies):
            self._energies = np.pad(self._energies, (0, len(energies) - len(self._energies)))
        self._energies[: len(energies)] += energies * seconds


def _mixed_down(block: np.ndarray) -> np.ndarray:
    """The mean (n,) of channels (n, channels), as float32 of full scale 1.

    Channel by channel: numpy's mean over so short an axis takes as long as decoding.
    """
    total = block[:, 0].astype(np.float32)
    for channel in range(1, block.shape[1]):
        total += block[:, channel]
    full_scale = FULL_SCALE if block.dtype == np.int16 else 1.0
    total *= np.float32(1.0 / (full_scale * block.shape[1]))
    return total
