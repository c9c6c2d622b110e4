"""Images -> finished audio files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch

from musicspectrogan.audio.finishing import finish, resampled_blocks
from musicspectrogan.audio.inversion import BLOCK_BINS, invert, inverted_blocks
from musicspectrogan.audio.spectrogram import SpectrogramConfig

# Samples of a loop's other end beside it while it is resampled: more than the filter is long.
RESAMPLING_REACH = 8192


def sounds_of(
    images: np.ndarray,
    config: SpectrogramConfig,
    *,
    sample_rate: int | None = None,
    seconds: float | None = None,
) -> list[np.ndarray]:
    """Finished samples (n,) of each image in uint8 (B, n_mels, T).

    Args:
        sample_rate: Hz; None for the settings' own. Another one adds nothing above `f_max`.
        seconds: length, at most that of the images; None for all of it.
    """
    rate = sample_rate or config.sample_rate
    seconds = (
        images.shape[2] * config.hop_length / config.sample_rate if seconds is None else seconds
    )
    sounds = []
    for blocks in _waves(images, config):
        samples = resampled_blocks(blocks, config.sample_rate, rate, round(seconds * rate))
        finish(samples, rate)
        sounds.append(samples)
    return sounds


def _waves(images: np.ndarray, config: SpectrogramConfig) -> Iterator[Iterable[np.ndarray]]:
    """The inverted samples of each image, block by block: of short ones a batch at a time, in one block."""
    batch = BLOCK_BINS // (images.shape[2] * (1 + config.n_fft // 2))
    if batch < 2:
        for image in images:
            yield _blocks(inverted_blocks(torch.from_numpy(image)[None], config))
    else:
        for start in range(0, len(images), batch):
            for wave in invert(torch.from_numpy(images[start : start + batch]), config).numpy():
                yield [wave]


def _blocks(waves: Iterable[torch.Tensor]) -> Iterator[np.ndarray]:
    return (wave[0].numpy() for wave in waves)


def loop_settings(
    seconds: float, config: SpectrogramConfig, step: int = 1
) -> tuple[int, SpectrogramConfig]:
    """How many frames a loop has, and the settings with a hop at which they last nearly that long.

    The hop becomes the nearest whole number of samples, so that frames are off by half a sample at most:
    0.05 % at a hop of 1024, less than a cent of pitch.

    Args:
        step: the frames are a multiple of it. Where it is 1 they are as many as cover the time, else as many
            as come nearest: with a longer or shorter hop, music is a little slower or faster.
    """
    length = seconds * config.sample_rate / config.hop_length
    count = np.ceil(length) if step == 1 else round(length / step)
    frames = step * max(1, int(count))
    return frames, replace(config, hop_length=max(1, round(length * config.hop_length / frames)))


def sound_of_loop(
    image: np.ndarray, config: SpectrogramConfig, seconds: float, *, sample_rate: int | None = None
) -> np.ndarray:
    """Finished samples (round(seconds * rate),) of a looping image, uint8 (n_mels, T).

    It is inverted and resampled as a circle, so that the seam is a place like any other.

    Args:
        config: as `loop_settings` gives them for `seconds`. Resampling makes up for what is left to the
            length asked. sample_rate: Hz; None for the settings' own.
    """
    rate = sample_rate or config.sample_rate
    own, length = image.shape[1] * config.hop_length, round(seconds * rate)
    margin = -(-RESAMPLING_REACH // config.hop_length)
    waves = inverted_blocks(torch.from_numpy(image)[None], config, loops=True, margin=margin)
    # All of its own samples become all of the length asked; the pitch changes by as much as they differ.
    skipped = round(margin * config.hop_length * length / own)
    samples = resampled_blocks(_blocks(waves), own, length, length, skipped=skipped)
    finish(samples, rate, loops=True)
    return samples
