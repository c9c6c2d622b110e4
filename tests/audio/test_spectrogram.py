"""The encoding of a clip as a grey image, held against librosa's own functions."""

from __future__ import annotations

import math

import librosa
import numpy as np
import pytest

from musicspectrogan.audio.spectrogram import (
    IMAGE_SIZES,
    SpectrogramConfig,
    cut_images,
    db_to_grey,
    encode,
    grey_to_db,
    hz_to_mel,
    mel_filterbank,
    mel_power,
)
from musicspectrogan.data import composer
from musicspectrogan.errors import UserError

SETTINGS = {
    "64 pixels": SpectrogramConfig(),
    "128 pixels": SpectrogramConfig.for_image_size(128),
    "256 pixels": SpectrogramConfig.for_image_size(256),
    "up to 11025 Hz": SpectrogramConfig(f_max=11025.0),
    "200 to 4000 Hz": SpectrogramConfig(f_min=200.0, f_max=4000.0),
    "hop 300": SpectrogramConfig(hop_length=300),
    "little overlap": SpectrogramConfig(n_fft=512, hop_length=384, n_mels=32),
    "n_fft 1000": SpectrogramConfig(n_fft=1000, hop_length=500, n_mels=40),
    "n_fft 4096": SpectrogramConfig(n_fft=4096),
    "60 dB": SpectrogramConfig(top_db=60.0),
    "100.5 dB": SpectrogramConfig(top_db=100.5),
    "16000 Hz": SpectrogramConfig(sample_rate=16000),
    "44100 Hz": SpectrogramConfig(sample_rate=44100, f_max=16000.0),
}
settings = pytest.mark.parametrize("config", SETTINGS.values(), ids=SETTINGS.keys())


@pytest.fixture(scope="module")
def music() -> np.ndarray:
    """Seven seconds with held notes in one half and strokes in the other."""
    held = composer.compose("chords", 0, seed=1, seconds=3.5)
    return np.concatenate([held, composer.compose("drums", 0, seed=1, seconds=3.5)])


def librosa_power(samples: np.ndarray, config: SpectrogramConfig) -> np.ndarray:
    return librosa.feature.melspectrogram(
        y=samples,
        sr=config.sample_rate,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        n_mels=config.n_mels,
        fmin=config.f_min,
        fmax=config.f_max,
    )


def librosa_grey(samples: np.ndarray, config: SpectrogramConfig) -> np.ndarray:
    decibels = librosa.power_to_db(librosa_power(samples, config), ref=np.max, top_db=config.top_db)
    return np.rint((decibels + config.top_db) / config.top_db * 255.0).astype(np.int64)


def assert_equals_librosa(samples: np.ndarray, config: SpectrogramConfig) -> None:
    grey, reference_db = encode(samples, config)
    expected = librosa_grey(samples, config)
    assert grey.dtype == np.uint8
    assert grey.shape == expected.shape
    difference = np.abs(grey.astype(np.int64) - expected)
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 0.01
    loudest = librosa_power(samples, config).max()
    assert reference_db == pytest.approx(10.0 * math.log10(max(loudest, 1e-10)), abs=1e-3)


@settings
def test_encode_equals_librosa_within_one_grey_level(
    music: np.ndarray, config: SpectrogramConfig
) -> None:
    assert_equals_librosa(music, config)


@pytest.mark.filterwarnings("ignore:n_fft=.* is too large:UserWarning")
@pytest.mark.parametrize("length", [1, 1023, 1024, 1025, 2047, 4097, 65535, 65536, 131071, 131073])
def test_encode_equals_librosa_for_odd_lengths(music: np.ndarray, length: int) -> None:
    assert_equals_librosa(music[20000 : 20000 + length], SpectrogramConfig())


def test_encode_equals_librosa_for_very_quiet_sound(music: np.ndarray) -> None:
    assert_equals_librosa(music * np.float32(1e-5), SpectrogramConfig())


@settings
def test_mel_filterbank_equals_librosa(config: SpectrogramConfig) -> None:
    expected = librosa.filters.mel(
        sr=config.sample_rate,
        n_fft=config.n_fft,
        n_mels=config.n_mels,
        fmin=config.f_min,
        fmax=config.f_max,
    )
    filters = mel_filterbank(config)
    assert filters.dtype == np.float32
    np.testing.assert_allclose(filters, expected, rtol=1e-4, atol=1e-8)


@settings
def test_mel_power_equals_librosa(music: np.ndarray, config: SpectrogramConfig) -> None:
    expected = librosa_power(music, config)
    np.testing.assert_allclose(
        mel_power(music, config), expected, rtol=1e-3, atol=1e-6 * expected.max()
    )


def test_any_layout_and_float_type_of_the_samples_is_taken(music: np.ndarray) -> None:
    config = SpectrogramConfig()
    expected = mel_power(music, config)
    interleaved = np.stack([music, music], axis=1).astype(np.float64)[:, 0]
    np.testing.assert_array_equal(mel_power(interleaved, config), expected)
    assert expected.dtype == np.float32


def test_the_filters_that_all_callers_share_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        mel_filterbank(SpectrogramConfig())[0, 0] = 1.0


@settings
def test_mels_equal_librosas(config: SpectrogramConfig) -> None:
    expected = librosa.mel_frequencies(config.n_mels + 2, fmin=config.f_min, fmax=config.f_max)
    np.testing.assert_allclose(config.band_hz, expected[1:-1], rtol=1e-6)
    for hertz in (0.0, 1.5, 500.0, 999.0, 1000.0, 1001.0, 4000.0, 11025.0):
        assert hz_to_mel(hertz) == pytest.approx(librosa.hz_to_mel(hertz))


@pytest.mark.parametrize("top_db", [60.0, 80.0, 100.5])
def test_grey_inverts_to_half_a_grey_level(top_db: float) -> None:
    config = SpectrogramConfig(top_db=top_db)
    decibels = np.linspace(-top_db, 0.0, 10_001)
    returned = grey_to_db(db_to_grey(decibels, config), config)
    assert np.abs(returned - decibels).max() <= 0.5 * top_db / 255 + 1e-4

    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(db_to_grey(grey_to_db(levels, config), config), levels)


def test_white_is_0_db_and_black_is_the_floor_and_below() -> None:
    config = SpectrogramConfig()
    np.testing.assert_array_equal(
        db_to_grey(np.array([5.0, 0.0, -40.0, -80.0, -200.0]), config), [255, 255, 128, 0, 0]
    )
    np.testing.assert_allclose(grey_to_db(np.array([255, 0], dtype=np.uint8), config), [0.0, -80.0])


def test_white_is_the_loudest_bin_of_the_clip_and_not_of_the_image(music: np.ndarray) -> None:
    config = SpectrogramConfig()
    quiet_then_loud = np.concatenate([0.01 * music, music])
    grey, _ = encode(quiet_then_loud, config)
    power = librosa_power(quiet_then_loud, config)
    white = power[grey == 255]
    assert white.max() == power.max()
    half_a_level_db = 0.5 * config.top_db / 255
    assert 10 * np.log10(power.max() / white.min()) <= half_a_level_db + 1e-3
    first, *_, last = cut_images(grey, config)
    assert last.max() == 255
    # A hundredth of the amplitude is 40 dB less: half of the grey scale.
    assert 100 < first.max() <= 128


def test_images_are_consecutive_cuts_of_one_spectrogram(music: np.ndarray) -> None:
    config = SpectrogramConfig()
    clip = np.tile(music, 2)
    images = cut_images(encode(clip, config)[0], config)
    frames = 1 + len(clip) // config.hop_length
    assert len(images) == frames // 64 == 4
    assert {image.shape for image in images} == {(64, 64)}
    whole = librosa_grey(clip, config)[::-1]
    joined = np.concatenate(images, axis=1).astype(np.int64)
    assert np.abs(joined - whole[:, : 64 * 4]).max() <= 1


def test_a_remainder_shorter_than_an_image_is_dropped() -> None:
    config = SpectrogramConfig()
    grey = np.arange(64 * 130, dtype=np.int64).reshape(64, 130).astype(np.uint8)
    first, second = cut_images(grey, config)
    np.testing.assert_array_equal(first, grey[::-1, :64])
    np.testing.assert_array_equal(second, grey[::-1, 64:128])
    assert cut_images(grey[:, :63], config) == []


@pytest.mark.parametrize("size", IMAGE_SIZES)
@pytest.mark.parametrize("position", [0.05, 0.3, 0.6, 0.9])
def test_a_sine_lights_the_row_of_its_frequency_counted_from_the_bottom(
    size: int, position: float
) -> None:
    config = SpectrogramConfig.for_image_size(size)
    band = int(position * size)
    hertz = librosa.mel_frequencies(size + 2, fmin=config.f_min, fmax=config.f_max)[band + 1]
    time = np.arange(4 * config.sample_rate) / config.sample_rate
    grey, _ = encode(np.sin(2 * np.pi * hertz * time).astype(np.float32), config)
    image = cut_images(grey, config)[0]
    assert image.mean(axis=1).argmax() == size - 1 - band


@pytest.mark.parametrize("size", IMAGE_SIZES)
def test_every_image_size_spans_the_same_seconds(size: int) -> None:
    config = SpectrogramConfig.for_image_size(size)
    assert (config.n_mels, config.n_frames, config.hop_length) == (size, size, 65536 // size)
    assert config.image_seconds == pytest.approx(2.972, abs=1e-3)


def test_the_default_settings() -> None:
    assert SpectrogramConfig.for_image_size(64) == SpectrogramConfig(
        sample_rate=22050,
        n_fft=2048,
        hop_length=1024,
        n_mels=64,
        n_frames=64,
        f_min=0.0,
        f_max=8000.0,
        top_db=80.0,
    )


def test_changes_replace_the_usual_values_and_none_keeps_them() -> None:
    config = SpectrogramConfig.for_image_size(128, f_max=4000.0, hop_length=700, n_fft=None)
    assert (config.f_max, config.hop_length, config.n_fft, config.n_mels) == (
        4000.0,
        700,
        2048,
        128,
    )


def f_max_range(f_min: str = "0", half_the_rate: str = "11025") -> str:
    return (
        f"it must be at least 1 Hz above --f-min, {f_min} Hz, and at most {half_the_rate} "
        "(half the sample rate)"
    )


OVERLAP = "must overlap by at least a quarter; give up to"
WRONG = [
    ({"sample_rate": 0}, "sample_rate: 0 is not allowed; it must be positive"),
    ({"n_fft": -2048}, "n_fft: -2048 is not allowed; it must be positive"),
    ({"hop_length": 0}, "hop_length: 0 is not allowed; it must be positive"),
    ({"n_mels": 0}, "n_mels: 0 is not allowed; it must be positive"),
    ({"n_frames": 0}, "n_frames: 0 is not allowed; it must be positive"),
    ({"top_db": 0.0}, "top_db: 0.0 is not allowed; it must be positive"),
    ({"top_db": math.nan}, "top_db: nan is not allowed; it must be positive"),
    ({"top_db": math.inf}, "top_db: inf is not allowed; it must be positive"),
    ({"n_fft": 65537}, "n_fft: 65537 is not allowed; it is at most 65536"),
    ({"hop_length": 65537}, "hop_length: 65537 is not allowed; it is at most 65536"),
    ({"n_mels": 513}, "n_mels: 513 is not allowed; it is at most 512"),
    ({"n_frames": 4097}, "n_frames: 4097 is not allowed; it is at most 4096"),
    ({"sample_rate": 999}, "sample_rate: 999 Hz is not allowed; give 1000 to 384000"),
    ({"sample_rate": 384001}, "sample_rate: 384001 Hz is not allowed; give 1000 to 384000"),
    ({"f_min": -1.0}, "f_min: -1 Hz is not allowed; it must be at least 0"),
    ({"f_min": 8000.0}, f"f_max: 8000 Hz is not allowed; {f_max_range('8000')}"),
    ({"f_max": 11026.0}, f"f_max: 11026 Hz is not allowed; {f_max_range()}"),
    ({"f_max": math.nan}, f"f_max: nan Hz is not allowed; {f_max_range()}"),
    (
        {"sample_rate": 8000},
        f"f_max: 8000 Hz is not allowed; {f_max_range(half_the_rate='4000')}",
    ),
    ({"f_max": 0.5}, f"f_max: 0.5 Hz is not allowed; {f_max_range()}"),
    (
        {"hop_length": 1537},
        f"hop_length: 1537 is not allowed: Fourier frames of 2048 samples {OVERLAP} 1536, "
        "or a larger n_fft",
    ),
    (
        {"n_fft": 1024},
        f"hop_length: 1024 is not allowed: Fourier frames of 1024 samples {OVERLAP} 768, "
        "or a larger n_fft",
    ),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG, ids=str)
def test_wrong_settings_are_refused_by_name(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(UserError) as refusal:
        SpectrogramConfig(**wrong)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    "limits",
    [
        {"n_fft": 65536, "hop_length": 49152, "n_mels": 512, "n_frames": 4096},
        {"n_fft": 1, "hop_length": 0.75, "n_mels": 1, "n_frames": 1, "top_db": 0.5},
        {"sample_rate": 1000, "f_max": 500.0},
        {"sample_rate": 384000, "f_max": 192000.0},
        {"f_min": 0.5, "f_max": 1.5},
        {"hop_length": 1536},
    ],
    ids=str,
)
def test_settings_at_their_limits_are_allowed(limits: dict[str, float]) -> None:
    SpectrogramConfig(**limits)


@pytest.mark.parametrize(("seconds", "frames"), [(0.0, 0), (0.001, 1), (2.97, 64), (2.98, 65)])
def test_frames_cover_seconds(seconds: float, frames: int) -> None:
    assert SpectrogramConfig().frames_in(seconds) == frames


@pytest.mark.parametrize("size", [0, 65, 100, 512])
def test_other_image_sizes_are_refused(size: int) -> None:
    with pytest.raises(UserError, match=f"^image_size: {size} is not one of 64, 128, 256$"):
        SpectrogramConfig.for_image_size(size)
