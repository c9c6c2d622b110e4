"""Spectrogram images to sound, compared with librosa and with plain implementations."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch

from musicspectrogan.audio import inversion
from musicspectrogan.audio.inversion import (
    griffin_lim,
    invert,
    inverted_blocks,
    round_trip_error,
)
from musicspectrogan.audio.magnitude import linear_power, mel_power_of
from musicspectrogan.audio.spectrogram import (
    SpectrogramConfig,
    encode,
    grey_to_db,
    mel_filterbank,
    mel_power,
)
from musicspectrogan.data import composer

CONFIG = SpectrogramConfig()
RATE = CONFIG.sample_rate


def clip(style: str, index: int = 0) -> np.ndarray:
    return composer.compose(style, index, seed=0, seconds=7.0)


def image_of(samples: np.ndarray, config: SpectrogramConfig = CONFIG) -> torch.Tensor:
    """The clip's first two images side by side."""
    grey, _ = encode(samples, config)
    return torch.from_numpy(np.ascontiguousarray(grey[::-1, : 2 * config.n_frames]))


def test_grey_levels_become_the_mel_power_that_they_stand_for():
    samples = clip("chords")
    power = mel_power(samples, CONFIG)[:, :128]
    restored = mel_power_of(image_of(samples)[None], CONFIG)[0].numpy()
    loud = power > power.max() * 1e-7
    difference = 10 * np.log10(restored[loud] / (power[loud] / mel_power(samples, CONFIG).max()))
    assert np.abs(difference).max() < 0.17  # half a grey level is 80 / 255 / 2 dB
    assert restored[image_of(samples).flip(0).numpy() == 0].max() == 0


def test_the_linear_power_explains_the_mel_power():
    mel = mel_power_of(torch.stack([image_of(clip("chords")), image_of(clip("drums"))]), CONFIG)
    power = linear_power(mel, CONFIG, steps=50)
    assert power.shape == (2, 1025, 128)
    assert power.min() >= 0
    explained = torch.from_numpy(mel_filterbank(CONFIG).copy()) @ power
    loud = mel > 1e-6
    assert (10 * torch.log10(explained[loud] / mel[loud])).abs().mean() < 0.5


def test_each_step_comes_nearer():
    mel = mel_power_of(image_of(clip("arpeggio"))[None], CONFIG)
    filters = torch.from_numpy(mel_filterbank(CONFIG).copy())

    def divergence(steps: int) -> float:
        explained = filters @ linear_power(mel, CONFIG, steps=steps)
        ratio = torch.where(
            mel > 0, mel * (mel / explained.clamp_min(1e-20)).clamp_min(1e-20).log(), 0.0
        )
        return (ratio - mel + explained).sum().item()

    values = [divergence(steps) for steps in (0, 1, 3, 10, 30)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.2 * values[0]


def plain_linear_power(mel: np.ndarray, steps: int) -> np.ndarray:
    """(n_mels, T) -> (F, T): multiplicative updates for the generalised KL divergence."""
    filters = mel_filterbank(CONFIG).astype(np.float64)
    used = filters.sum(axis=0) > 0
    kept = filters[:, used]
    power = np.zeros((filters.shape[1], mel.shape[1]))
    power[used] = (kept / kept.sum(axis=0)).T @ (mel / kept.sum(axis=1, keepdims=True))
    for _ in range(steps):
        ratio = np.divide(mel, kept @ power[used], out=np.zeros_like(mel), where=mel > 0)
        power[used] *= (kept.T @ ratio) / kept.sum(axis=0)[:, None]
    return power


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_the_linear_power_equals_a_plain_implementation(steps):
    mel = mel_power_of(torch.stack([image_of(clip("chords")), image_of(clip("drums"))]), CONFIG)
    power = linear_power(mel, CONFIG, steps=steps).numpy()
    for found, target in zip(power, mel.double().numpy(), strict=True):
        expected = plain_linear_power(target, steps)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-7 * expected.max())


def plain_griffin_lim(magnitude: torch.Tensor, config: SpectrogramConfig, rounds: int, start: int):
    """(F, T) -> samples; in float64, with the random phases of frames `start` and on."""
    magnitude = torch.cat([magnitude, magnitude[:, -1:]], dim=1).double()
    n_fft, hop = config.n_fft, config.hop_length
    options = {"window": torch.hann_window(n_fft, dtype=torch.float64)}
    generator = torch.Generator().manual_seed(0)
    cycles = torch.rand((1024, magnitude.shape[0]), generator=generator)
    rows = [(start + frame) % 1024 for frame in range(magnitude.shape[1])]
    phase = torch.exp(2j * torch.pi * cycles[rows].T.double())
    previous = torch.zeros_like(phase)
    for _ in range(rounds):
        samples = torch.istft(magnitude * phase, n_fft, hop, **options)
        rebuilt = torch.stft(
            samples, n_fft, hop, **options, pad_mode="constant", return_complex=True
        )
        update = rebuilt - 0.99 / 1.99 * previous
        phase = update / update.abs()
        previous = rebuilt
    return torch.istft(magnitude * phase, n_fft, hop, **options)


@pytest.mark.parametrize(("start", "rounds"), [(None, 0), (None, 2), (0, 1), (1020, 3)])
def test_griffin_lim_equals_a_plain_implementation(start, rounds):
    config = SpectrogramConfig(n_fft=256, hop_length=64, n_mels=32)
    magnitude = torch.rand((2, 129, 20), generator=torch.Generator().manual_seed(1))
    positions = None if start is None else torch.arange(start, start + 20)
    found = griffin_lim(magnitude, config, iterations=rounds, positions=positions)
    assert found.dtype == torch.float32 and found.shape == (2, 20 * 64)
    for one, target in zip(found, magnitude, strict=True):
        expected = plain_griffin_lim(target, config, rounds, start or 0)
        assert (one - expected).norm() < 1e-3 * expected.norm()


def test_griffin_lim_starts_from_the_phases_that_it_is_given():
    samples = torch.from_numpy(clip("chords")).float()[None, : 32 * 1024]
    n_fft, hop, window = CONFIG.n_fft, CONFIG.hop_length, torch.hann_window(CONFIG.n_fft)
    spectrum = torch.stft(
        samples, n_fft, hop, window=window, pad_mode="constant", return_complex=True
    )
    magnitude, phase = spectrum.abs()[:, :, :-1], spectrum.angle()
    for iterations in (0, 2):
        found = griffin_lim(magnitude, CONFIG, iterations=iterations, phase=phase)
        assert found.shape == samples.shape
        inside = slice(0, -2 * n_fft)  # the magnitudes of the frame after the last are lost
        assert (found - samples)[:, inside].abs().max() < 1e-5
    assert not torch.allclose(griffin_lim(magnitude, CONFIG), found, atol=0.1)


def test_the_defaults_are_5_steps_of_power_and_8_of_phase():
    image = image_of(clip("bass"))[None]
    samples = invert(image, CONFIG)
    assert torch.equal(samples, invert(image, CONFIG, power_steps=5, phase_iterations=8))
    mel = mel_power_of(image, CONFIG)
    magnitude = linear_power(mel, CONFIG).sqrt()
    assert torch.equal(magnitude, linear_power(mel, CONFIG, steps=5).sqrt())
    assert torch.equal(griffin_lim(magnitude, CONFIG), samples)
    for changed in ({"power_steps": 4}, {"phase_iterations": 7}):
        assert not torch.equal(samples, invert(image, CONFIG, **changed))


def test_white_is_1_black_is_0_and_low_bands_come_first():
    image = torch.tensor([[0, 255], [51, 1]], dtype=torch.uint8)
    power = mel_power_of(image[None], CONFIG)[0]
    expected = [[10 ** (-64 / 10), 10 ** ((80 / 255 - 80) / 10)], [0.0, 1.0]]
    np.testing.assert_allclose(power, expected, rtol=1e-5)
    assert torch.equal(mel_power_of(image.float()[None], CONFIG)[0], power)


def test_a_loops_margin_is_its_other_end(monkeypatch):
    config = SpectrogramConfig(n_fft=256, hop_length=64, n_mels=32)
    image = image_of(clip("bass"), config)[None, :, :100]
    monkeypatch.setattr(inversion, "BLOCK_BINS", 45 * 129)
    loop = invert(image, config, loops=True)
    with_margin = torch.cat(list(inverted_blocks(image, config, loops=True, margin=7)), dim=1)
    assert with_margin.shape == (1, (100 + 2 * 7) * 64)
    torch.testing.assert_close(with_margin[:, 7 * 64 : -7 * 64], loop, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(with_margin[:, : 7 * 64], loop[:, -7 * 64 :], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(with_margin[:, -7 * 64 :], loop[:, : 7 * 64], rtol=1e-3, atol=1e-4)


def test_blocks_are_as_long_as_their_context_at_least(monkeypatch):
    image = image_of(clip("bass"))[None]  # 128 frames
    for bins, lengths in ((1, [18] * 7 + [2]), (100 * 1025, [100, 28]), (2**19, [128])):
        monkeypatch.setattr(inversion, "BLOCK_BINS", bins)
        blocks = list(inverted_blocks(image, CONFIG))
        assert [block.shape[1] // CONFIG.hop_length for block in blocks] == lengths
        assert torch.equal(torch.cat(blocks, dim=1), invert(image, CONFIG, loops=False))


def test_griffin_lim_finds_the_sound_of_a_true_magnitude():
    samples = torch.from_numpy(clip("chords"))[: 128 * CONFIG.hop_length]
    window = torch.hann_window(CONFIG.n_fft)
    spectrum = torch.stft(
        samples,
        CONFIG.n_fft,
        CONFIG.hop_length,
        window=window,
        pad_mode="constant",
        return_complex=True,
    )
    restored = griffin_lim(spectrum.abs()[None, :, :128], CONFIG, iterations=64)[0]
    assert restored.shape == samples.shape
    again = torch.stft(
        restored,
        CONFIG.n_fft,
        CONFIG.hop_length,
        window=window,
        pad_mode="constant",
        return_complex=True,
    )
    convergence = (again.abs() - spectrum.abs()).norm() / spectrum.abs().norm()
    assert convergence < 0.25


@pytest.mark.parametrize("size", [64, 128, 256])
def test_an_image_sounds_for_as_long_as_it_is_wide(size):
    config = SpectrogramConfig.for_image_size(size)
    assert invert(image_of(clip("bass"), config)[None], config).shape == (
        1,
        2 * size * config.hop_length,
    )


def test_alone_or_in_a_batch_it_is_the_same_sound_to_the_last_bit():
    images = torch.stack([image_of(clip(style)) for style in composer.STYLES])
    together = invert(images, CONFIG)
    for image, samples in zip(images, together, strict=True):
        assert torch.equal(invert(image[None], CONFIG)[0], samples)


def test_a_long_image_in_blocks_is_the_same_sound_to_the_last_bit(monkeypatch):
    image = torch.cat([image_of(clip(style)) for style in composer.STYLES], dim=1)[None]
    monkeypatch.setattr(inversion, "BLOCK_BINS", 2**30)
    whole = invert(image, CONFIG)
    monkeypatch.setattr(inversion, "BLOCK_BINS", 100 * 1025)
    assert torch.equal(invert(image, CONFIG), whole)


def test_a_loop_is_the_same_sound_wherever_it_begins():
    image = image_of(clip("arpeggio"))[None]
    loop, later = (
        invert(i, CONFIG, loops=True)[0].numpy() for i in (image, torch.roll(image, -40, dims=2))
    )
    assert loop.shape == (128 * 1024,)
    unrolled = invert(image.tile(1, 1, 3), CONFIG)[0].numpy()[128 * 1024 : 2 * 128 * 1024]
    for other in (
        np.roll(later, 40 * 1024),
        unrolled,
    ):  # the phases that they start from are others
        assert round_trip_error(loop, other, RATE) < 2.5
    bends = np.abs(np.diff(np.tile(loop, 2), 2))
    seam = len(loop)
    assert bends[seam - 8 : seam + 8].max() < np.quantile(bends, 0.9999)


def test_a_tone_comes_back_at_its_pitch():
    time = np.arange(3 * RATE) / RATE
    tone = np.sin(2 * np.pi * 880.0 * time).astype(np.float32)
    grey, _ = encode(tone, CONFIG)
    restored = invert(torch.from_numpy(np.ascontiguousarray(grey[::-1, :64]))[None], CONFIG)[
        0
    ].numpy()
    spectrum = np.abs(np.fft.rfft(restored))
    loudest = np.fft.rfftfreq(len(restored), 1 / RATE)[spectrum.argmax()]
    assert loudest == pytest.approx(880.0, abs=40)  # a band is some 80 Hz wide there


def test_black_is_silence():
    assert invert(torch.zeros(1, 64, 64, dtype=torch.uint8), CONFIG).abs().max() == 0


def test_the_round_trip_is_no_worse_than_librosas():
    clips = [clip(style)[: 64 * CONFIG.hop_length] for style in ("chords", "drums", "bass")]
    images = [image_of(samples)[:, :64] for samples in clips]
    ours = invert(torch.stack(images), CONFIG).numpy()
    theirs = [
        librosa.feature.inverse.mel_to_audio(
            librosa.db_to_power(grey_to_db(image.numpy()[::-1], CONFIG)), sr=RATE,
            n_fft=CONFIG.n_fft, hop_length=CONFIG.hop_length, fmin=CONFIG.f_min,
            fmax=CONFIG.f_max,
        )
        for image in images
    ]  # fmt: skip
    errors = [
        np.mean([round_trip_error(a, b, RATE) for a, b in zip(clips, restored, strict=True)])
        for restored in (ours, theirs)
    ]
    assert errors[0] <= errors[1]


@pytest.mark.gpu
def test_on_a_gpu_it_sounds_the_same():
    image = image_of(clip("chords"))[None]
    on_gpu = invert(image.cuda(), CONFIG).cpu().numpy()[0]
    assert round_trip_error(invert(image, CONFIG).numpy()[0], on_gpu, RATE) < 1.0


class TestRoundTripError:
    @pytest.mark.parametrize("rate", [16000, 44100])
    def test_it_equals_the_same_by_librosa(self, rate):
        clips = [clip("chords"), clip("drums")[:100_000]]

        def log_mel(samples):
            power = librosa.feature.melspectrogram(
                y=samples[:100_000], sr=rate, n_fft=2048, hop_length=512, n_mels=128, fmax=rate / 2
            )
            return librosa.power_to_db(power, ref=np.max, top_db=60)

        expected = np.abs(log_mel(clips[0]) - log_mel(clips[1])).mean()
        assert round_trip_error(*clips, rate) == pytest.approx(expected, rel=1e-4)

    def test_a_copy_has_none_at_any_level(self):
        samples = clip("arpeggio")
        assert round_trip_error(samples, samples, RATE) == 0
        assert round_trip_error(samples, 0.1 * samples, RATE) == pytest.approx(0, abs=0.01)

    def test_noise_is_far_from_music_and_music_from_silence(self):
        samples = clip("bass")
        noise = np.random.default_rng(0).standard_normal(len(samples)).astype(np.float32)
        assert round_trip_error(samples, noise, RATE) > 20
        assert round_trip_error(noise, samples, RATE) > 20

    def test_a_gain_in_half_of_the_bands_counts_half(self):
        noise = np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)
        tilted = np.fft.rfft(noise)
        config = SpectrogramConfig(n_mels=128, f_max=RATE / 2)
        middle = int(np.flatnonzero(mel_filterbank(config)[64])[0]) / 2048 * RATE
        tilted[np.fft.rfftfreq(len(noise), 1 / RATE) < middle] *= 10 ** (-6 / 20)
        assert round_trip_error(
            noise, np.fft.irfft(tilted).astype(np.float32), RATE
        ) == pytest.approx(3, abs=0.5)
