"""From images to finished sound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from musicspectrogan.audio.finishing import finish, resample
from musicspectrogan.audio.inversion import BLOCK_BINS, invert, inverted_blocks
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.audio.vocoder import Vocoder, default_vocoder, load_vocoder
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import expand_home

# Samples around a loop while it is resampled: longer than the filter.
RESAMPLING_REACH = 8192
# The value of --vocoder for inversion by the fit alone.
NO_VOCODER = "none"


def choose_vocoder(
    named: str | None, own: Vocoder | None, config: SpectrogramConfig
) -> Vocoder | None:
    """The vocoder for images: the one that --vocoder names, their own, or the package's.

    Args:
        named: a file, or NO_VOCODER; None for the images' own, or the package's if it fits.
        own: of their checkpoint or dataset.
        config: settings of the images.

    Raises:
        UserError: the file is no vocoder, or is for images with other settings.
    """
    if named is None:
        return own or default_vocoder(config)
    if named == NO_VOCODER:
        return None
    vocoder = load_vocoder(expand_home(Path(named)))
    if not vocoder.fits(config):
        raise UserError(
            f"--vocoder {named}: is for images of {vocoder.spectrogram.n_mels} mel bands and with "
            f"hop {vocoder.spectrogram.hop_length}, or has other settings than these images "
            f"({config.n_mels} bands, hop {config.hop_length}); learn one from their dataset, or "
            "give --vocoder none"
        )
    return vocoder


def sounds_of(
    images: npt.NDArray[np.uint8],
    config: SpectrogramConfig,
    vocoder: Vocoder | None = None,
    *,
    sample_rate: int | None = None,
    seconds: float | None = None,
) -> list[npt.NDArray[np.float32]]:
    """Finished samples (n,) of each image of (B, n_mels, T).

    Args:
        vocoder: of `choose_vocoder`.
        sample_rate: Hz; None for that of `config`.
        seconds: length, at most that of the images; None for all of it.
    """
    rate = sample_rate or config.sample_rate
    seconds = (
        images.shape[2] * config.hop_length / config.sample_rate if seconds is None else seconds
    )
    sounds = []
    for blocks in _invert_each(images, config, vocoder):
        samples = resample(blocks, config.sample_rate, rate, round(seconds * rate))
        finish(samples, rate)
        sounds.append(samples)
    return sounds


def _invert_each(
    images: npt.NDArray[np.uint8], config: SpectrogramConfig, vocoder: Vocoder | None
) -> Iterator[Iterable[npt.NDArray[np.float32]]]:
    """Samples of each image, in blocks. Short images are inverted in batches, in one block each."""
    frames = images.shape[2] * (vocoder.frames_per_column if vocoder else 1)
    batch = BLOCK_BINS // (frames * (1 + config.n_fft // 2))
    if batch < 2:
        for image in images:
            blocks = inverted_blocks(torch.from_numpy(image)[None], config, vocoder=vocoder)
            yield _as_blocks(blocks)
    else:
        for start in range(0, len(images), batch):
            shown = torch.from_numpy(images[start : start + batch])
            for wave in invert(shown, config, vocoder=vocoder).numpy():
                yield [wave]


def _as_blocks(waves: Iterable[torch.Tensor]) -> Iterator[npt.NDArray[np.float32]]:
    return (wave[0].numpy() for wave in waves)


def loop_settings(
    seconds: float, config: SpectrogramConfig, multiple: int = 1, vocoder: Vocoder | None = None
) -> tuple[int, SpectrogramConfig]:
    """Number of frames of a loop, and settings with a hop that gives them nearly that length.

    The hop is a whole number of samples, so frames are off by half a sample at most: 0.05 % at a
    hop of 1024, less than a cent of pitch. With a vocoder the hop is a multiple of its frames in a
    column, and off by up to half of that.

    Args:
        multiple: the number of frames is a multiple of it. With 1 the frames cover the time, else
            they come as close as they can: a longer or shorter hop makes music slower or faster.
    """
    length = seconds * config.sample_rate / config.hop_length
    count = np.ceil(length) if multiple == 1 else round(length / multiple)
    frames = multiple * max(1, int(count))
    step = vocoder.frames_per_column if vocoder else 1
    hop_length = step * max(1, round(length * config.hop_length / frames / step))
    return frames, replace(config, hop_length=hop_length)


def sound_of_loop(
    image: npt.NDArray[np.uint8],
    config: SpectrogramConfig,
    seconds: float,
    vocoder: Vocoder | None = None,
    *,
    sample_rate: int | None = None,
) -> npt.NDArray[np.float32]:
    """Finished samples (round(seconds * rate),) of a looping image (n_mels, T).

    Inversion and resampling are circular, so that the join sounds like any other point.

    Args:
        config: from `loop_settings` for `seconds`; resampling removes the remaining difference.
        vocoder: of `choose_vocoder`.
        sample_rate: Hz; None for that of `config`.
    """
    rate = sample_rate or config.sample_rate
    own, length = image.shape[1] * config.hop_length, round(seconds * rate)
    margin = -(-RESAMPLING_REACH // config.hop_length)
    waves = inverted_blocks(
        torch.from_numpy(image)[None], config, vocoder=vocoder, loops=True, margin=margin
    )
    skipped = round(margin * config.hop_length * length / own)
    samples = resample(_as_blocks(waves), own, length, length, skipped=skipped)
    finish(samples, rate, loops=True)
    return samples
