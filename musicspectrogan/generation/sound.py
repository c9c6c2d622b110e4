"""Images -> finished audio files."""

from __future__ import annotations

import numpy as np
import torch

from musicspectrogan.audio.finishing import finished
from musicspectrogan.audio.images import MOST_BINS
from musicspectrogan.audio.inversion import invert
from musicspectrogan.audio.spectrogram import SpectrogramConfig

# Images inverted at a time, unless they are long: bounds memory, some 20 MB each.
BATCH = 32
# Frames that a loop is continued beyond its end, to be faded into its beginning.
LOOP_FRAMES = 16


def sounds_of(images: np.ndarray, config: SpectrogramConfig) -> list[np.ndarray]:
    """Finished samples (T * hop_length,) of each image in uint8 (B, n_mels, T)."""
    batch = max(1, min(BATCH, MOST_BINS // (images.shape[2] * (1 + config.n_fft // 2))))
    waves = [
        wave
        for start in range(0, len(images), batch)
        for wave in invert(torch.from_numpy(images[start : start + batch]), config).numpy()
    ]
    return [finished(wave, config.sample_rate) for wave in waves]


def sound_of_loop(image: np.ndarray, config: SpectrogramConfig) -> np.ndarray:
    """Finished samples (T * hop_length,) of a looping image uint8 (n_mels, T), whose end meets its start.

    The loop is inverted with its beginning once more at the end, and that continuation is faded over
    into the beginning: what follows the last sample is what would have followed it.
    """
    extra = min(LOOP_FRAMES, image.shape[1])
    unrolled = np.concatenate([image, image[:, :extra]], axis=1)
    wave = invert(torch.from_numpy(unrolled)[None], config)[0].numpy()
    length = image.shape[1] * config.hop_length
    # Half of it only: near its own end the continuation is not itself any more.
    overlap = extra * config.hop_length // 2
    fade = np.linspace(0.0, 1.0, overlap, dtype=np.float32)
    loop = wave[:length].copy()
    loop[:overlap] = np.sqrt(fade) * loop[:overlap] + np.sqrt(1.0 - fade) * wave[length : length + overlap]
    return finished(loop, config.sample_rate, loops=True)
