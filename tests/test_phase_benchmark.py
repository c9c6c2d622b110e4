"""The formulas of PGHI in benchmarks/phase.py."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest
import torch
from conftest import ROOT

from musicspectrogan.audio.inversion import griffin_lim
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.data import composer

pytest.importorskip("numba")

N_FFT, HOP, BINS = 2048, 256, 1025


@pytest.fixture
def phase(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("phase")


def angle_between(found, expected) -> float:
    """The largest difference of phases in radians."""
    return float(np.abs(np.angle(np.exp(1j * (np.asarray(found) - expected)))).max())


def test_a_sinusoids_phases_advance_by_2_pi_f_hop_a_frame(phase):
    """Exactly in a Gaussian window, whose magnitudes these are."""
    cycles, gamma = 100.3 / N_FFT, phase.HANN * N_FFT**2
    spectrum = np.exp(-np.pi * gamma * (np.arange(BINS) / N_FFT - cycles) ** 2)
    found = phase.pghi(np.tile(spectrum.astype(np.float32), (20, 1)), HOP, N_FFT)
    near = slice(97, 104)
    assert angle_between(np.diff(found, axis=0)[:, near], 2.0 * np.pi * cycles * HOP) < 1e-4
    # From bin to bin the phase turns by half a cycle: torch.stft's starts with the window.
    assert angle_between(np.diff(found[:, near], axis=1), np.pi) < 1e-4


def test_a_clicks_phases_turn_by_its_time_from_bin_to_bin(phase):
    place, gamma = 10.4 * HOP, phase.HANN * N_FFT**2
    distance = np.arange(21) * HOP - place  # of the windows' centres
    envelope = np.exp(-np.pi * distance**2 / gamma).astype(np.float32)
    found = phase.pghi(np.tile(envelope[:, None], (1, 40)), HOP, N_FFT)
    expected = 2.0 * np.pi * (distance - N_FFT / 2) / N_FFT
    near = slice(8, 14)  # frames; those at the ends have no slope on one side
    assert angle_between(np.diff(found, axis=1)[near], expected[near, None]) < 1e-4


def stft_of(samples: torch.Tensor) -> torch.Tensor:
    """(1, n) -> (1, F, T)"""
    window = torch.hann_window(N_FFT)
    return torch.stft(samples, N_FFT, HOP, window=window, pad_mode="constant", return_complex=True)


def test_the_phases_of_a_sinusoid_are_those_of_torchs_stft(phase):
    """Up to that of the whole, which its magnitudes do not tell."""
    samples = torch.sin(2.0 * torch.pi * 100.3 / N_FFT * torch.arange(100.0 * HOP))[None]
    spectrum = stft_of(samples)[0, :, 8:93].T.contiguous()  # frames inside
    difference = phase.pghi(spectrum.abs().numpy(), HOP, N_FFT) - spectrum.angle().numpy()
    advance = np.diff(difference, axis=0)[:, 99:103]
    assert angle_between(advance, 0.0) < 0.05
    assert angle_between(np.diff(difference[:, 99:103], axis=1), 0.0) < 0.05


def test_silence_has_random_phases(phase):
    found = phase.pghi(np.zeros((5, BINS), np.float32), HOP, N_FFT)
    assert np.isfinite(found).all() and found.std() > 1.0


@pytest.mark.parametrize("style", ["chords", "drums"])
def test_the_sound_of_true_magnitudes_is_near_without_iterations(phase, style):
    config = SpectrogramConfig(n_fft=N_FFT, hop_length=HOP)
    clip = composer.compose(style, 0, seed=0, seconds=3.0)
    magnitude = stft_of(torch.from_numpy(clip).float()[None]).abs()

    def convergence(start: torch.Tensor | None) -> float:
        """Spectral convergence in dB: how far its magnitudes are from those wanted."""
        sound = griffin_lim(magnitude, config, iterations=0, phase=start)
        rest = stft_of(sound).abs()[:, :, : magnitude.shape[2]] - magnitude
        return 20.0 * math.log10(float(rest.norm() / magnitude.norm()))

    assert convergence(phase.pghi_start(magnitude, config)) < -18.0
    assert convergence(None) > -6.0
