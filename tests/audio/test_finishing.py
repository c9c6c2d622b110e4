"""Loudness, rate and length of sounds."""

from __future__ import annotations

import warnings

import numpy as np
import pyloudnorm
import pytest

from musicspectrogan.audio.files import load, save
from musicspectrogan.audio.finishing import (
    LOUDNESS_LUFS,
    finish,
    loudness,
    resample,
)
from musicspectrogan.data import composer
from musicspectrogan.generation.sound import RESAMPLING_REACH

RATE = 22050
PEAK = 10 ** (-1 / 20)


def finished(samples: np.ndarray, rate: int, *, loops: bool = False) -> np.ndarray:
    copy = samples.copy()
    finish(copy, rate, loops=loops)
    return copy


def tone(hz: float, seconds: float, rate: int = RATE) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


@pytest.mark.parametrize("rate", [22050, 48000])
def test_a_full_tone_has_the_loudness_that_the_standard_gives(rate):
    """BS.1770: a sine of 997 Hz at full scale in one channel is at -3.01 LUFS."""
    assert loudness(tone(997.0, 5.0, rate), rate) == pytest.approx(-3.01, abs=0.1)


def test_sounds_of_all_shapes_become_equally_loud():
    styles = [composer.compose(style, 0, seed=0, seconds=7.0) for style in composer.STYLES]
    noise = np.random.default_rng(0).standard_normal(7 * RATE).astype(np.float32)
    for samples in (*styles, 1e-6 * styles[0], 1e6 * noise, np.concatenate([styles[0], 0 * noise])):
        made = finished(samples, RATE)
        assert loudness(made, RATE) == pytest.approx(LOUDNESS_LUFS, abs=0.2)
        assert np.abs(made).max() <= PEAK and made.dtype == np.float32
        assert abs(made[0]) < 1e-6 and abs(made[-1]) < 1e-6


def test_peaks_are_not_clipped_but_the_sound_stays_quieter():
    samples = 1e-3 * tone(200.0, 3.0)
    samples[:: RATE // 4] = 1.0
    made = finished(samples, RATE, loops=True)
    assert np.abs(made).max() == pytest.approx(PEAK)
    assert loudness(made, RATE) < LOUDNESS_LUFS - 3
    np.testing.assert_allclose(made, samples * PEAK, atol=1e-6)  # all of it by one factor


@pytest.mark.parametrize("length", [1, 2, 100, 8819, 8820, 8821, 9041])
def test_what_is_shorter_than_a_measurement_counts_as_if_repeated(length):
    noise = np.random.default_rng(1).standard_normal(length).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = finished(noise, RATE, loops=True)
    assert made.shape == (length,) and np.isfinite(made).all()
    assert np.abs(made).max() <= PEAK + 1e-6
    if length >= 100:
        assert loudness(made, RATE) == pytest.approx(LOUDNESS_LUFS, abs=0.1)
        assert loudness(np.tile(made, 20_000 // length + 1), RATE) == pytest.approx(
            LOUDNESS_LUFS, abs=0.5
        )


@pytest.mark.parametrize("length", [0, 1, 5000, 50_000])
def test_silence_stays_silence(length):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not finished(np.zeros(length, dtype=np.float32), RATE).any()


def test_hours_are_measured_in_parts_to_the_same_loudness():
    """Loud for a fifth of the time: the standard's relative gate excludes the quiet rest."""
    samples = composer.compose("chords", 0, seed=0, seconds=100.4)
    samples[: 80 * RATE] *= 0.05
    measured = loudness(samples, RATE)
    assert measured == pytest.approx(pyloudnorm.Meter(RATE).integrated_loudness(samples), abs=0.01)
    assert measured > loudness(samples[: 80 * RATE], RATE) + 20


@pytest.mark.parametrize("rate", [44100, 48000, 22051])
def test_resampling_in_blocks_is_the_same_to_the_last_bit(rate):
    samples = np.random.default_rng(0).standard_normal(50_000).astype(np.float32)
    length = round(len(samples) * rate / RATE)
    whole = resample([samples], RATE, rate, length)
    for size in (1000, 7777, 49_999):
        blocks = (samples[start : start + size] for start in range(0, len(samples), size))
        assert np.array_equal(resample(blocks, RATE, rate, length), whole)
    blocks = (samples[start : start + 7777] for start in range(0, len(samples), 7777))
    assert np.array_equal(resample(blocks, RATE, rate, 1000, skipped=20_000), whole[20_000:21_000])


@pytest.mark.parametrize(
    ("rate", "length"), [(44100, 44100), (48000, 48000), (22050, 22000), (22050, 22100)]
)
def test_another_rate_keeps_the_pitch_and_gives_the_length_asked(rate, length):
    made = resample([tone(1000.0, 1.0)], RATE, rate, length)
    assert made.shape == (length,)
    middle = made[length // 4 : length // 2]
    expected = np.sin(2 * np.pi * 1000.0 * np.arange(length // 4, length // 2) / rate)
    np.testing.assert_allclose(middle, expected, atol=2e-3)


@pytest.mark.parametrize("length", [22050, 22000, 22087, 44100, 48000])
def test_a_loop_stays_a_loop_at_any_length(length):
    """A tone of whole turns is that tone still, across the seam too; silence does not leak in."""
    around = np.pad(tone(1000.0, 1.0), RESAMPLING_REACH, mode="wrap")
    skipped = round(RESAMPLING_REACH * length / RATE)
    made = resample([around], RATE, length, length, skipped=skipped)
    assert made.shape == (length,)
    spectrum = np.abs(np.fft.rfft(made)) * 2 / length
    assert spectrum.argmax() == 1000
    assert spectrum[1000] == pytest.approx(1.0, abs=1e-3)
    assert np.delete(spectrum, 1000).max() < 1e-4


def test_24_bits_keep_what_16_round_away(tmp_path):
    samples = 0.5 * tone(440.0, 0.5)[:10_001]  # an odd number of odd-sized samples
    errors = {}
    for depth in (16, 24):
        for suffix in ("wav", "flac"):
            path = tmp_path / f"{depth}.{suffix}"
            save(path, samples, RATE, bit_depth=depth, loops=True)
            errors[depth, suffix] = np.abs(load(path, RATE).samples - samples).max()
    assert max(errors[24, "wav"], errors[24, "flac"]) < 2**-22
    assert min(errors[16, "wav"], errors[16, "flac"]) > 2**-18
    content = (tmp_path / "24.wav").read_bytes()
    assert content.index(b"smpl") % 2 == 0  # where readers look for the next chunk
    assert int.from_bytes(content[4:8], "little") + 8 == len(content)
