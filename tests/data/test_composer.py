"""The demo music: reproducible, well-formed, and different from style to style."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from musicspectrogan.audio.spectrogram import SpectrogramConfig, encode, grey_to_db
from musicspectrogan.data import composer

CONFIG = SpectrogramConfig()
CLIPS_PER_STYLE = 4

styles = pytest.mark.parametrize("style", composer.STYLES)


def spectrum(decibels: np.ndarray) -> np.ndarray:
    """Mean level of each mel band (n_mels,)."""
    return decibels.mean(axis=1)


def onset_flux(decibels: np.ndarray) -> float:
    """Mean rise in dB from frame to frame: high for strokes, low for held notes."""
    return float(np.maximum(0.0, np.diff(decibels, axis=1)).mean())


def spectrograms(seed: int) -> dict[str, list[np.ndarray]]:
    """Some clips of each style, dB (n_mels, frames)."""
    return {
        style: [
            grey_to_db(
                encode(composer.compose(style, index, seed=seed, seconds=6.0), CONFIG)[0], CONFIG
            )
            for index in range(CLIPS_PER_STYLE)
        ]
        for style in composer.STYLES
    }


@pytest.fixture(scope="module")
def some() -> dict[str, list[np.ndarray]]:
    return spectrograms(seed=0)


@pytest.fixture(scope="module")
def others() -> dict[str, list[np.ndarray]]:
    return spectrograms(seed=1)


def test_there_are_five_styles() -> None:
    assert list(composer.STYLES) == ["ambient", "arpeggio", "bass", "chords", "drums"]


@styles
def test_the_same_arguments_give_the_same_samples(style: str) -> None:
    one = composer.compose(style, 3, seed=5, seconds=2.0)
    np.testing.assert_array_equal(one, composer.compose(style, 3, seed=5, seconds=2.0))


@styles
def test_another_index_or_seed_gives_other_music(style: str) -> None:
    one = composer.compose(style, 0, seed=0, seconds=4.0)
    for other in (
        composer.compose(style, 1, seed=0, seconds=4.0),
        composer.compose(style, 0, seed=1, seconds=4.0),
    ):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.5


@styles
@pytest.mark.parametrize("seconds", [0.5, 2.0, 3.7])
def test_samples_are_finite_with_the_asked_length_and_a_peak_of_nine_tenths(
    style: str, seconds: float
) -> None:
    samples = composer.compose(style, 1, seed=2, seconds=seconds)
    assert samples.dtype == np.float32
    assert samples.shape == (round(seconds * composer.SAMPLE_RATE),)
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() == pytest.approx(0.9, abs=1e-5)


@styles
def test_no_image_of_a_clip_is_black(style: str, some: dict[str, list[np.ndarray]]) -> None:
    for decibels in some[style]:
        assert decibels[:, :64].max() > -40.0
        assert decibels[:, 64:128].max() > -40.0


@pytest.mark.parametrize(("style", "other"), list(combinations(composer.STYLES, 2)))
def test_the_mean_spectra_of_two_styles_are_apart(
    style: str, other: str, some: dict[str, list[np.ndarray]]
) -> None:
    one = np.mean([spectrum(clip) for clip in some[style]], axis=0)
    two = np.mean([spectrum(clip) for clip in some[other]], axis=0)
    assert np.abs(one - two).mean() > 5.0


def test_a_clip_is_known_by_the_mean_spectrum_of_its_style(
    some: dict[str, list[np.ndarray]], others: dict[str, list[np.ndarray]]
) -> None:
    known = {
        style: np.mean([spectrum(clip) for clip in clips], axis=0) for style, clips in some.items()
    }
    right = sum(
        min(known, key=lambda name: float(np.linalg.norm(spectrum(clip) - known[name]))) == style
        for style, clips in others.items()
        for clip in clips
    )
    assert right >= 15  # of 20, where guessing gives 4


def test_strokes_and_held_notes_differ_in_onset_flux(
    some: dict[str, list[np.ndarray]], others: dict[str, list[np.ndarray]]
) -> None:
    flux = {
        style: [onset_flux(clip) for clip in some[style] + others[style]]
        for style in composer.STYLES
    }
    for struck in ("drums", "arpeggio"):
        for held in ("ambient", "chords"):
            assert min(flux[struck]) > 1.5 * max(flux[held])


def test_bass_has_its_energy_at_the_bottom(some: dict[str, list[np.ndarray]]) -> None:
    """Power-weighted mean of the band number; 0 is the lowest of 64."""

    def centre(clip: np.ndarray) -> float:
        power = (10.0 ** (clip / 10.0)).mean(axis=1)
        return float((power * np.arange(CONFIG.n_mels)).sum() / power.sum())

    centres = {style: np.mean([centre(clip) for clip in clips]) for style, clips in some.items()}
    assert min(centres, key=centres.__getitem__) == "bass"
    assert centres["bass"] < 6.0
