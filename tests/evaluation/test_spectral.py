"""Levels, spreads, modulation and onsets of images made by hand, whose statistics are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.evaluation import metrics
from musicspectrogan.evaluation.metrics import (
    MIN_POWER,
    ONSET_DB,
    Profile,
    SpectralStatistics,
    modulation_hz,
    spectral_figures,
)

CONFIGS = [SpectrogramConfig(), SpectrogramConfig.for_image_size(128, top_db=60.0)]
config_of_each = pytest.mark.parametrize("config", CONFIGS, ids=["64", "128"])


def flat(grey: float, config: SpectrogramConfig) -> np.ndarray:
    return np.full((config.n_mels, config.n_frames), grey)


def profile_of(
    *images: np.ndarray, config: SpectrogramConfig, weights: list[float] | None = None
) -> Profile:
    pixels = np.rint(np.stack(images)).astype(np.uint8)
    return SpectralStatistics.of(pixels, config).profile(np.array(weights or [1.0] * len(images)))


def oscillating(cycles: float, config: SpectrogramConfig, depth: float = 50.0) -> np.ndarray:
    """All bands oscillate together, `cycles` times in the image, by ± `depth` grey levels."""
    phase = 2.0 * np.pi * cycles * np.arange(config.n_frames) / config.n_frames
    return flat(120.0, config) + depth * np.sin(phase)


def clicks(frames: list[int], grey: float, config: SpectrogramConfig) -> np.ndarray:
    image = flat(30.0, config)
    image[:, frames] = grey
    return image


@config_of_each
def test_levels_are_in_db_with_the_lowest_band_first(config):
    """Low frequencies are at the bottom of an image."""
    image = np.broadcast_to(
        np.linspace(250, 10, config.n_mels)[:, None], (config.n_mels, config.n_frames)
    )
    profile = profile_of(image, config=config)
    expected = np.rint(np.linspace(10, 250, config.n_mels)) / 255.0 * config.top_db - config.top_db
    np.testing.assert_allclose(profile.level, expected, atol=1e-4)
    np.testing.assert_allclose(profile.spread, 0.0, atol=0.1)  # a root of rounding


@config_of_each
def test_a_spread_is_that_over_all_frames_of_all_images(config):
    """Two levels 51 grey levels apart, in turn within an image, or one in each image."""
    grey = config.top_db / 255.0
    within = flat(100.0, config)
    within[:, ::2] += 51.0
    between = [flat(100.0, config), flat(151.0, config)]
    for images in ([within], between):
        profile = profile_of(*images, config=config)
        np.testing.assert_allclose(profile.level, 125.5 * grey - config.top_db, atol=1e-3)
        np.testing.assert_allclose(profile.spread, 25.5 * grey, atol=1e-3)
    # Of the second image three in four.
    profile = profile_of(*between, config=config, weights=[1.0, 3.0])
    np.testing.assert_allclose(profile.level, 138.25 * grey - config.top_db, atol=1e-3)
    np.testing.assert_allclose(profile.spread, 51.0 * grey * 0.1875**0.5, atol=1e-3)


@config_of_each
@pytest.mark.parametrize("cycles", [3, 8, 21])
def test_an_oscillation_peaks_at_its_frequency(cycles, config):
    profile = profile_of(oscillating(cycles, config), config=config)
    peak = int(profile.modulation.argmax())
    assert modulation_hz(config)[peak] == pytest.approx(cycles / (65536 / 22050), rel=1e-6)
    # Under a Hann window a sine of amplitude A has the power A² N / 6 at its frequency.
    amplitude = 50.0 / 255.0 * config.top_db
    power = amplitude**2 * config.n_frames / 6.0
    assert profile.modulation[peak] == pytest.approx(10.0 * np.log10(power), abs=0.1)
    # The window spreads it to both neighbours, 6 dB lower, and no farther.
    far = np.abs(np.arange(len(profile.modulation)) - peak) > 1
    assert profile.modulation[peak + 1] == pytest.approx(profile.modulation[peak] - 6.02, abs=0.2)
    assert profile.modulation[far].max() < profile.modulation[peak] - 25.0


@config_of_each
def test_modulation_frequencies_go_up_to_half_the_frame_rate(config):
    hz = modulation_hz(config)
    assert (
        len(hz)
        == config.n_frames // 2
        == len(profile_of(flat(9.0, config), config=config).modulation)
    )
    assert hz[-1] == pytest.approx(config.sample_rate / config.hop_length / 2)
    assert hz[0] == pytest.approx(22050 / 65536)


def test_modulation_does_not_depend_on_the_level_but_on_the_depth():
    config = CONFIGS[0]
    image = oscillating(5, config, depth=40.0)
    usual, louder, deeper = (
        profile_of(other, config=config).modulation[4]
        for other in (image, image + 60.0, oscillating(5, config, depth=80.0))
    )
    assert louder == pytest.approx(usual, abs=0.05)
    assert deeper == pytest.approx(usual + 6.02, abs=0.1)


def test_modulation_is_the_mean_over_bands():
    """Half of the bands at half the power, 3 dB; bands out of phase do not cancel."""
    config = CONFIGS[0]
    whole, half, opposed = (oscillating(5, config) for _ in range(3))
    half[: config.n_mels // 2] = 120.0
    opposed[: config.n_mels // 2] = 240.0 - opposed[: config.n_mels // 2]
    powers = [profile_of(image, config=config).modulation[4] for image in (whole, half, opposed)]
    assert powers[1] == pytest.approx(powers[0] - 3.01, abs=0.05)
    assert powers[2] == pytest.approx(powers[0], abs=0.05)


def test_a_steady_level_has_no_modulation_and_no_onsets():
    profile = profile_of(flat(200.0, CONFIGS[0]), config=CONFIGS[0])
    assert profile.modulation == pytest.approx(10.0 * np.log10(MIN_POWER), abs=0.1)
    assert profile.onset_rate == 0.0


@config_of_each
@pytest.mark.parametrize("period", [4, 7, 16])
def test_clicks_are_counted_in_a_second(period, config):
    frames = list(range(3, config.n_frames - 1, period))
    profile = profile_of(clicks(frames, 200.0, config), config=config)
    assert profile.onset_rate == pytest.approx(len(frames) / (65536 / 22050))


@pytest.mark.parametrize(("rise_db", "count"), [(ONSET_DB / 2, 0), (2 * ONSET_DB, 3)])
def test_what_hardly_stands_out_is_no_onset(rise_db, count):
    config = CONFIGS[0]
    image = clicks([10, 30, 50], 30.0 + rise_db * 255.0 / config.top_db, config)
    assert profile_of(image, config=config).onset_rate == pytest.approx(
        count / config.image_seconds
    )


def test_a_swell_and_an_end_are_no_onsets():
    config = CONFIGS[0]
    swell = flat(0.0, config) + np.linspace(0, 255, config.n_frames)
    ending = flat(200.0, config)
    ending[:, 20:] = 10.0
    assert profile_of(swell, config=config).onset_rate == 0.0
    assert profile_of(ending, config=config).onset_rate == 0.0


def test_onsets_are_a_mean_over_images():
    config = CONFIGS[0]
    images = clicks([5, 25, 45], 200.0, config), flat(30.0, config)
    rate = 3 / config.image_seconds
    assert profile_of(*images, config=config).onset_rate == pytest.approx(rate / 2)
    assert profile_of(*images, config=config, weights=[3.0, 1.0]).onset_rate == pytest.approx(
        0.75 * rate
    )
    assert profile_of(*images, config=config, weights=[0.0, 2.0]).onset_rate == 0.0


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 64, 64), dtype=np.uint8)


def test_images_are_measured_each_for_itself(monkeypatch):
    """In blocks of any size, and in any choice."""
    pixels = noise(11)
    whole = SpectralStatistics.of(pixels, CONFIGS[0])
    monkeypatch.setattr(metrics, "IMAGES_PER_BATCH", 4)
    rows = np.array([9, 0, 5])
    of_some, taken = SpectralStatistics.of(pixels[rows], CONFIGS[0]), whole.take(rows)
    in_blocks = SpectralStatistics.of(pixels, CONFIGS[0])
    for name in ("levels", "squares", "modulation", "onsets"):
        assert len(getattr(whole, name)) == 11
        np.testing.assert_allclose(getattr(in_blocks, name), getattr(whole, name), rtol=1e-5)
        np.testing.assert_allclose(getattr(of_some, name), getattr(taken, name), rtol=1e-5)


def test_weights_are_repetitions():
    statistics = SpectralStatistics.of(noise(3), CONFIGS[0])
    weighted = statistics.profile(np.array([2.0, 0.0, 1.0]))
    repeated = statistics.take(np.array([0, 0, 2])).profile(np.ones(3))
    for name in ("level", "spread", "modulation", "onset_rate"):
        np.testing.assert_allclose(getattr(weighted, name), getattr(repeated, name), rtol=1e-6)


def test_figures_are_mean_absolute_differences():
    reference = Profile(
        np.array([-10.0, -20.0]), np.array([5.0, 6.0]), np.array([1.0, 2.0, 3.0]), 4.0
    )
    sample = Profile(np.array([-13.0, -15.0]), np.array([4.0, 8.0]), np.array([1.0, 8.0, 0.0]), 2.5)
    assert spectral_figures(sample, reference) == {
        "band_means": 4.0, "band_spreads": 1.5, "modulation": 3.0, "onset_rate": 2.5,
    }  # fmt: skip
    same = spectral_figures(reference, replace(reference))
    assert same == {"band_means": 0.0, "band_spreads": 0.0, "modulation": 0.0, "onset_rate": 4.0}
