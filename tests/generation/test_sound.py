"""Images made into finished sound: memory, blocks and loops."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.stats

from musicspectrogan.audio import inversion
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.generation import sound
from musicspectrogan.generation.sound import loop_settings, sound_of_loop, sounds_of

# Small, so that minutes take a second.
CONFIG = SpectrogramConfig(
    sample_rate=8000, n_fft=512, hop_length=256, n_mels=16, n_frames=64, f_max=4000.0
)


def image_of(seconds: float, config: SpectrogramConfig = CONFIG) -> np.ndarray:
    frames = int(np.ceil(seconds * config.sample_rate / config.hop_length))
    return np.random.default_rng(0).integers(1, 255, (config.n_mels, frames), dtype=np.uint8)


@pytest.mark.parametrize("loops", [False, True], ids=["piece", "loop"])
@pytest.mark.parametrize("rate", [8000, 22050])
def test_minutes_take_the_memory_of_half_a_minute_and_their_own_samples(rate, loops, monkeypatch):
    widths, griffin_lim = [], inversion.griffin_lim

    def watched(magnitude, *arguments, **options):
        widths.append(magnitude.shape[2])
        return griffin_lim(magnitude, *arguments, **options)

    def peak(seconds: float) -> float:
        """Of what numpy takes, in bytes; what torch takes grows with the frames at a time."""
        image = image_of(seconds)
        tracemalloc.start()
        if loops:
            samples = sound_of_loop(image, CONFIG, seconds, sample_rate=rate)
        else:
            (samples,) = sounds_of(image[None], CONFIG, sample_rate=rate, seconds=seconds)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert samples.shape == (round(seconds * rate),) and samples.dtype == np.float32
        return peak

    monkeypatch.setattr(inversion, "griffin_lim", watched)
    peak(1.0)  # what is imported on the way
    shorter, longer = peak(40.0), peak(240.0)
    assert longer - shorter < 1.05 * 4 * 200 * rate
    assert max(widths) * 257 <= 1.1 * inversion.BLOCK_BINS


@pytest.mark.parametrize("rate", [8000, 22050])
@pytest.mark.parametrize("loops", [False, True], ids=["piece", "loop"])
def test_the_sound_does_not_depend_on_the_blocks(rate, loops, monkeypatch):
    seconds = 20.01
    frames, looping = loop_settings(seconds, CONFIG)

    def made() -> np.ndarray:
        if loops:
            image = image_of(seconds)[:, :frames]
            return sound_of_loop(image, looping, seconds, sample_rate=rate)
        return sounds_of(image_of(seconds)[None], CONFIG, sample_rate=rate, seconds=seconds)[0]

    whole = made()
    for module in (inversion, sound):
        monkeypatch.setattr(module, "BLOCK_BINS", 100 * 257)
    assert np.array_equal(made(), whole)


def rank_of_join(values: np.ndarray) -> float:
    """Which part of the values is below the first, which is that of the join."""
    return float((values < values[0]).mean() + 0.5 * (values == values[0]).mean())


def changes(samples: np.ndarray, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Jump from the previous sample, and change of the spectrum, at each frame: (T,) each."""
    places = np.round(np.arange(frames) * len(samples) / frames).astype(int)
    jumps = np.abs(samples - np.roll(samples, 1))[places]
    around = np.pad(samples, 512, mode="wrap")
    before, after = (
        np.log(
            np.abs(np.fft.rfft(around[places[:, None] + at + np.arange(512)] * np.hanning(512)))
            + 1e-3
        )
        for at in (128, 384)
    )
    return jumps, np.abs(after - before).mean(axis=1)


def test_the_join_of_loops_cannot_be_told_from_other_places():
    """Over 50 loops, the ranks of its jump and its spectral flux are uniform; not so for pieces."""
    rng = np.random.default_rng(0)
    ranks = {"loops": [], "pieces": []}
    for number, seconds in enumerate(rng.uniform(0.7, 1.4, 50)):
        frames, looping = loop_settings(seconds, CONFIG)
        image = rng.integers(60, 255, (CONFIG.n_mels, frames), dtype=np.uint8)
        loop = sound_of_loop(image, looping, seconds)
        ranks["loops"].append([rank_of_join(values) for values in changes(loop, frames)])
        if number < 20:
            (piece,) = sounds_of(image[None], CONFIG, seconds=seconds)
            ranks["pieces"].append([rank_of_join(values) for values in changes(piece, frames)])
    chance = {
        kind: scipy.stats.kstest(np.array(found), "uniform").pvalue for kind, found in ranks.items()
    }
    assert (chance["loops"] > 0.01).all()
    assert (chance["pieces"] < 1e-3).all()
