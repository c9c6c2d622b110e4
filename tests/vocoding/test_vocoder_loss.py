"""The loss of a vocoder, compared with a plain implementation and with values known by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from musicspectrogan.audio.spectrogram import (
    SpectrogramConfig,
    encode,
    grey_to_db,
    mel_filterbank,
)
from musicspectrogan.audio.vocoder import Vocoder
from musicspectrogan.data import composer
from musicspectrogan.vocoding.learn import (
    BIN_WEIGHT,
    COMPARED_BANDS,
    FLUX_WEIGHT,
    INAUDIBLE,
    ONSET_WEIGHT,
    VocoderLoss,
    as_decibels,
)

COLUMNS = 12
CONFIGS = [SpectrogramConfig.for_image_size(size) for size in (64, 128)]
LIKE = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.n_mels}")

Power = np.ndarray
"""(B, T, F)"""


class Oracle(Vocoder):
    """A vocoder whose power is given. It keeps the decibels that it was asked about."""

    def __init__(self, config: SpectrogramConfig, power: Power) -> None:
        super().__init__(config)
        self.power = torch.from_numpy(power).float()

    def forward(self, decibels: torch.Tensor) -> torch.Tensor:
        self.asked = decibels
        frames = decibels.shape[1] * self.frames_per_column
        missing = frames - self.power.shape[1]  # between the last column and the next
        return torch.cat([self.power, torch.full_like(self.power[:, :missing], 7.0)], dim=1)


def sounds_of(config: SpectrogramConfig, *, music: bool = True) -> torch.Tensor:
    """Windows (2, n) of COLUMNS columns, of two clips or of loud noise."""
    length = (COLUMNS - 1) * config.hop_length + config.n_fft
    if not music:
        return torch.randn(2, length, generator=torch.Generator().manual_seed(0))
    clips = [composer.compose(style, 0, seed=0, seconds=3.0) for style in ("drums", "chords")]
    scaled = [10 ** (-encode(clip, config)[1] / 20) * clip[5000:][:length] for clip in clips]
    return torch.from_numpy(np.stack(scaled)).float()


def true_power(config: SpectrogramConfig, sounds: torch.Tensor) -> Power:
    """Frame k starts at sample k * hop, at the vocoder's hop."""
    hop = config.hop_length // Vocoder(config).frames_per_column
    samples = sounds.double().numpy()
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(config.n_fft) / config.n_fft)
    starts = range(0, samples.shape[1] - config.n_fft + 1, hop)
    frames = np.stack([samples[:, k : k + config.n_fft] for k in starts], axis=1)
    return np.abs(np.fft.rfft(frames * window)) ** 2


def parts_of(config: SpectrogramConfig, sounds: torch.Tensor, found: Power) -> dict[str, float]:
    oracle = Oracle(config, found)
    return {name: float(part) for name, part in VocoderLoss(oracle)(oracle, sounds).items()}


def filters_of(config: SpectrogramConfig, bands: int) -> np.ndarray:
    compared = replace(config, n_mels=bands, f_min=0.0, f_max=config.sample_rate / 2)
    return mel_filterbank(compared).astype(np.float64)


def plain_loss(config: SpectrogramConfig, found: Power, power: Power) -> dict[str, float]:
    def decibels(values: np.ndarray, inaudible: float) -> np.ndarray:
        return 10 * np.log10(values + inaudible)

    bins = np.abs(decibels(found, INAUDIBLE) - decibels(power, INAUDIBLE)).mean()
    parts = {"bins": BIN_WEIGHT * bins, "bands": 0.0, "flux": 0.0, "onsets": 0.0}
    for bands in COMPARED_BANDS:
        filters = filters_of(config, bands)
        inaudible = INAUDIBLE * filters.sum(axis=1).mean()
        here, there = (decibels(x @ filters.T, inaudible) for x in (found, power))
        parts["bands"] += np.abs(here - there).mean()
        flux = [np.abs(np.diff(x, axis=1)).mean(axis=1) for x in (here, there)]
        parts["flux"] += FLUX_WEIGHT * np.abs(flux[0] - flux[1]).mean()
        onsets = [np.maximum(np.diff(x, axis=1), 0).mean(axis=2) for x in (here, there)]
        parts["onsets"] += ONSET_WEIGHT * np.abs(onsets[0] - onsets[1]).mean()
    return parts


@LIKE
def test_equal_spectra_lose_nothing(config):
    sounds = sounds_of(config)
    parts = parts_of(config, sounds, true_power(config, sounds))
    assert parts.keys() == {"bins", "bands", "flux", "onsets"}
    assert max(parts.values()) < 1e-3


@LIKE
@pytest.mark.parametrize(
    "change",
    [
        lambda power: power * np.random.default_rng(0).uniform(0.1, 3, power.shape),
        lambda power: power[:, ::-1],
        np.zeros_like,
    ],
    ids=["noisy", "backwards", "silence"],
)
def test_it_equals_a_plain_implementation(config: SpectrogramConfig, change: Callable):
    sounds = sounds_of(config)
    power = true_power(config, sounds)
    found = np.ascontiguousarray(change(power))
    expected = plain_loss(config, found, power)
    assert parts_of(config, sounds, found) == pytest.approx(expected, rel=2e-3, abs=1e-3)


@LIKE
def test_ten_times_the_power_is_10_db_in_each_band_and_changes_no_flux(config):
    sounds = sounds_of(config, music=False)
    parts = parts_of(config, sounds, 10 * true_power(config, sounds))
    # Bands without a bin have no power and no difference.
    audible = [filters_of(config, bands).any(axis=1).mean() for bands in COMPARED_BANDS]
    assert audible[0] > 0.95 and 0.5 < audible[1] <= 1
    expected = {"bins": BIN_WEIGHT * 10, "bands": 10 * sum(audible), "flux": 0, "onsets": 0}
    assert parts == pytest.approx(expected, rel=1e-3, abs=1e-3)


@LIKE
def test_a_smoothed_spectrogram_loses_its_whole_flux_and_its_onsets(config):
    sounds = sounds_of(config)
    power = true_power(config, sounds)
    smooth = np.broadcast_to(np.exp(np.log(power + 1e-12).mean(axis=1, keepdims=True)), power.shape)
    flux = onsets = 0.0
    for bands in COMPARED_BANDS:
        filters = filters_of(config, bands)
        inaudible = INAUDIBLE * filters.sum(axis=1).mean()
        changes = np.diff(10 * np.log10(power @ filters.T + inaudible), axis=1)
        flux += np.abs(changes).mean()
        onsets += np.maximum(changes, 0).mean()
    parts = parts_of(config, sounds, np.ascontiguousarray(smooth))
    assert parts["flux"] == pytest.approx(FLUX_WEIGHT * flux, rel=2e-3)
    assert parts["onsets"] == pytest.approx(ONSET_WEIGHT * onsets, rel=2e-3)
    assert min(parts.values()) > 0.5


def test_bands_that_rise_together_are_onsets_and_no_flux():
    """Half of the bands rise in each frame; with the same changes, all do in every other frame."""
    config = CONFIGS[0]
    frames = (COLUMNS - 1) * Vocoder(config).frames_per_column + 1
    length = (COLUMNS - 1) * config.hop_length + config.n_fft
    loss = VocoderLoss(Vocoder(config))
    turns = np.arange(frames)[:, None] % 2
    upper_half = np.fft.rfftfreq(config.n_fft, 1 / config.sample_rate) > 2000  # on the mel scale
    together = np.tile(10.0**turns, (1, len(upper_half)))
    alternating = 10.0 ** (turns ^ upper_half)
    oracle = Oracle(config, together[None])
    # Its sounds have the spectra of the other: the transform is replaced.
    spectra = torch.from_numpy(np.sqrt(alternating).T[None]).to(torch.complex64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "stft", lambda *_, **__: spectra)
        parts = {k: float(v) for k, v in loss(oracle, torch.zeros(1, length)).items()}
    assert parts["onsets"] > 0.8 * ONSET_WEIGHT * 2 * 5
    assert parts["flux"] < 0.1 * parts["onsets"]


def test_what_is_not_heard_does_not_count():
    config = CONFIGS[0]
    sounds = 1e-9 * sounds_of(config, music=False)
    power = true_power(config, sounds)
    assert max(parts_of(config, sounds, 10 * power).values()) < 1e-3
    assert max(parts_of(config, sounds, 0 * power).values()) < 1e-3


@LIKE
def test_the_vocoder_sees_what_an_image_shows(config):
    sounds = sounds_of(config)
    oracle = Oracle(config, true_power(config, sounds))
    VocoderLoss(oracle)(oracle, sounds)
    assert oracle.asked.shape == (2, COLUMNS, config.n_mels)
    power = (
        oracle.power[:, :: oracle.frames_per_column]
        @ torch.from_numpy(mel_filterbank(config).copy()).T
    )
    decibels = 10 * power.clamp_min(1e-10).log10()
    shown = decibels.clamp(-config.top_db, 0)
    assert (oracle.asked - shown).abs().max() <= config.top_db / 255 / 2 + 1e-3
    grey = (oracle.asked + config.top_db) * (255 / config.top_db)
    torch.testing.assert_close(grey, grey.round(), rtol=0, atol=1e-3)


def test_decibels_are_those_of_grey_levels():
    config = CONFIGS[0]
    mel = torch.tensor([0.0, 1e-12, 1e-8, 1.1e-8, 0.5, 1.0, 30.0])
    found = as_decibels(mel, config)
    exact = 10 * np.log10(np.clip(mel.numpy(), 1e-10, None))
    grey = np.rint(np.clip((exact + 80) * 255 / 80, 0, 255))
    np.testing.assert_allclose(found, grey_to_db(grey, config), atol=1e-4)
    assert found[:3].tolist() == [-80, -80, -80] and found[5:].tolist() == [0, 0]


def test_gradients_reach_every_weight_once_the_last_layers_are_not_zero():
    config = CONFIGS[0]
    vocoder = Vocoder(config)
    for weight in vocoder.parameters():
        torch.nn.init.normal_(weight, std=0.05, generator=torch.Generator().manual_seed(1))
    parts = VocoderLoss(vocoder)(vocoder, sounds_of(config))
    sum(parts.values()).backward()
    for name, weight in vocoder.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all(), name
        assert weight.grad.abs().max() > 0, name
