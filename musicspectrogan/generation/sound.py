"""From images to finished sound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from musicspectrogan.audio.finishing import finish, resample
from musicspectrogan.audio.inversion import BLOCK_BINS, invert, inverted_blocks
from musicspectrogan.audio.spectrogram import SpectrogramConfig

# Samples around a loop while it is resampled: longer than the filter.
RESAMPLING_REACH = 8192


def sounds_of(
    images: npt.NDArray[np.uint8],
    config: SpectrogramConfig,
    *,
    sample_rate: int | None = None,
    seconds: float | None = None,
) -> list[npt.NDArray[np.float32]]:
    """Finished samples (n,) of each image of (B, n_mels, T).

    Args:
        sample_rate: Hz; None for that of `config`.
        seconds: length, at most that of the images; None for all of it.
    """
    rate = sample_rate or config.sample_rate
    seconds = (
        images.shape[2] * config.hop_length / config.sample_rate if seconds is None else seconds
    )
    sounds = []
    for blocks in _invert_each(images, config):
        samples = resample(blocks, config.sample_rate, rate, round(seconds * rate))
        finish(samples, rate)
        sounds.append(samples)
    return sounds


def _invert_each(
    images: npt.NDArray[np.uint8], config: SpectrogramConfig
) -> Iterator[Iterable[npt.NDArray[np.float32]]]:
    """Samples of each image, in blocks. Short images are inverted in batches, in one block each."""
    batch = BLOCK_BINS // (images.shape[2] * (1 + config.n_fft // 2))
    if batch < 2:
        for image in images:
            yield _as_blocks(inverted_blocks(torch.from_numpy(image)[None], config))
    else:
        for start in range(0, len(images), batch):
            for wave in invert(torch.from_numpy(images[start : start + batch]), config).numpy():
                yield [wave]


def _as_blocks(waves: Iterable[torch.Tensor]) -> Iterator[npt.NDArray[np.float32]]:
    return (wave[0].numpy() for wave in waves)


def loop_settings(
    seconds: float, config: SpectrogramConfig, multiple: int = 1
) -> tuple[int, SpectrogramConfig]:
    """Number of frames of a loop, and settings with a hop that gives them nearly that length.

    The hop is a whole number of samples, so frames are off by half a sample at most: 0.05 % at a
    hop of 1024, less than a cent of pitch.

    Args:
        multiple: the number of frames is a multiple of it. With 1 the frames cover the time, else
            they come as close as they can: a longer or shorter hop makes music slower or faster.
    """
    length = seconds * config.sample_rate / config.hop_length
    count = np.ceil(length) if multiple == 1 else round(length / multiple)
    frames = multiple * max(1, int(count))
    return frames, replace(config, hop_length=max(1, round(length * config.hop_length / frames)))


def sound_of_loop(
    image: npt.NDArray[np.uint8],
    config: SpectrogramConfig,
    seconds: float,
    *,
    sample_rate: int | None = None,
) -> npt.NDArray[np.float32]:
    """Finished samples (round(seconds * rate),) of a looping image (n_mels, T).

    Inversion and resampling are circular, so that the join sounds like any other point.

    Args:
        config: from `loop_settings` for `seconds`; resampling removes the remaining difference.
        sample_rate: Hz; None for that of `config`.
    """
    rate = sample_rate or config.sample_rate
    own, length = image.shape[1] * config.hop_length, round(seconds * rate)
    margin = -(-RESAMPLING_REACH // config.hop_length)
    waves = inverted_blocks(torch.from_numpy(image)[None], config, loops=True, margin=margin)
    skipped = round(margin * config.hop_length * length / own)
    samples = resample(_as_blocks(waves), own, length, length, skipped=skipped)
    finish(samples, rate, loops=True)
    return samples
