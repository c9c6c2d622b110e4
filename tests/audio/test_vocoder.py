"""The learned vocoder: magnitudes, blocks and batches, and its file."""

from __future__ import annotations

import io
import os
import pickle
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from vocoders import random_vocoder

from musicspectrogan.audio import inversion
from musicspectrogan.audio.inversion import griffin_lim, invert, inverted_blocks
from musicspectrogan.audio.magnitude import linear_power, mel_power_of
from musicspectrogan.audio.spectrogram import (
    SpectrogramConfig,
    encode,
    grey_to_db,
    mel_edges,
    mel_filterbank,
)
from musicspectrogan.audio.vocoder import (
    LARGEST_GAIN,
    SUBBANDS,
    Record,
    Vocoder,
    _interpolation,
    find_vocoder,
    load_vocoder,
    save_vocoder,
)
from musicspectrogan.data import composer
from musicspectrogan.errors import UserError
from musicspectrogan.torchfiles import write_torch_file

OLD = Path(__file__).parents[1] / "old"
CONFIG = SpectrogramConfig()
SIZES = [SpectrogramConfig.for_image_size(size) for size in (64, 128, 256)]
UNUSUAL = [
    SpectrogramConfig(n_fft=1024, hop_length=768, n_mels=32),
    SpectrogramConfig(f_min=60.0, f_max=11025.0),
    SpectrogramConfig(sample_rate=44100, n_fft=4096, hop_length=1500, f_min=30.0, f_max=16000.0),
    SpectrogramConfig(n_fft=512, hop_length=100, n_mels=16, f_max=11025.0, top_db=60.0),
]
LIKE = pytest.mark.parametrize("config", [*SIZES, *UNUSUAL], ids=lambda c: f"{c.n_mels}-{c.n_fft}")


def image_of(style: str, config: SpectrogramConfig = CONFIG, columns: int = 64) -> torch.Tensor:
    """The start of a clip, (n_mels, columns)."""
    samples = composer.compose(style, 0, seed=0, seconds=7.0)
    grey, _ = encode(samples, config)
    return torch.from_numpy(np.ascontiguousarray(grey[::-1, :columns]))


def noise(config: SpectrogramConfig, columns: int, count: int = 1) -> torch.Tensor:
    """Images (count, n_mels, columns) of all grey levels."""
    generator = torch.Generator().manual_seed(0)
    shape = (count, config.n_mels, columns)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def highest_band(config: SpectrogramConfig) -> tuple[int, int]:
    """The first bin and the peak of its filter."""
    filters = mel_filterbank(config)[-1]
    return int(np.flatnonzero(filters)[0]), int(filters.argmax())


@LIKE
def test_before_it_has_learned_it_gives_the_fit(config):
    image = noise(config, 9, 2)
    image[:, : config.n_mels // 2, 4] = 0
    found = Vocoder(config).magnitude(image)
    per_column = Vocoder(config).frames_per_column
    assert found.shape == (2, 1 + config.n_fft // 2, 9 * per_column)
    assert found.dtype == torch.float32
    power = linear_power(mel_power_of(image, config), config)
    first, peak = highest_band(config)
    own = found[:, :, ::per_column]
    torch.testing.assert_close(own[:, : peak + 1], power[:, : peak + 1].sqrt(), rtol=1e-5, atol=0)
    edge = power[:, first : peak + 1].mean(dim=1, keepdim=True).sqrt()
    above = own[:, peak + 1 :]
    torch.testing.assert_close(above, edge.expand_as(above), rtol=1e-5, atol=0)


@LIKE
def test_between_columns_decibels_are_interpolated(config):
    vocoder, image = Vocoder(config), noise(config, 5)
    image[:, :8, 1:3] = 0
    parts = vocoder.frames_per_column
    decibels = grey_to_db(image[0].numpy()[::-1].astype(np.float64), config)  # lowest band first
    frames = np.minimum(np.arange(5 * parts) / parts, 4)
    between = np.stack([np.interp(frames, np.arange(5), row) for row in decibels])
    mel = torch.from_numpy(np.where(between > -config.top_db, 10 ** (between / 10), 0)).float()
    expected = linear_power(mel[None], config).sqrt()
    _, peak = highest_band(config)
    found = vocoder.magnitude(image)[:, : peak + 1]
    torch.testing.assert_close(found, expected[:, : peak + 1], rtol=1e-3, atol=1e-8)


def test_black_is_silence_and_nothing_sounds_above_black_bands():
    vocoder = random_vocoder()
    black = torch.zeros(1, 64, 10, dtype=torch.uint8)
    assert vocoder.magnitude(black).max() == 0
    assert invert(black, CONFIG, vocoder=vocoder).abs().max() == 0
    upper = noise(CONFIG, 10).clamp_min(1)
    upper[:, :32] = 0
    magnitude = vocoder.magnitude(upper)
    highest = int(np.flatnonzero(mel_filterbank(CONFIG)[31])[-1])
    assert magnitude[:, highest + 1 :].max() == 0
    assert magnitude[:, 1:highest].min() > 0


def test_a_highest_band_without_a_bin_is_passed_over():
    config = SpectrogramConfig(n_fft=512, hop_length=128, f_max=300.0)
    filters = mel_filterbank(config)
    assert not filters[-1].any()
    highest = filters[filters.any(axis=1)][-1]
    magnitude = Vocoder(config).magnitude(noise(config, 10).clamp_min(1))[0]
    edge = magnitude[np.flatnonzero(highest)[0] : highest.argmax() + 1].square().mean(dim=0).sqrt()
    torch.testing.assert_close(magnitude[-1], edge)
    assert edge.min() > 0


@LIKE
def test_an_image_sounds_for_as_long_as_it_is_wide(config):
    sound = invert(noise(config, 30, 2), config, vocoder=random_vocoder(config), phase_iterations=1)
    assert sound.shape == (2, 30 * config.hop_length) and sound.dtype == torch.float32
    assert sound.isfinite().all() and sound.abs().max() > 0


@pytest.mark.parametrize(
    ("n_fft", "hop_length", "expected"),
    [
        (2048, 1024, 2), (2048, 512, 1), (2048, 256, 1), (2048, 513, 3), (2048, 768, 2),
        (2048, 1536, 3), (2048, 1500, 3), (2048, 1022, 2), (2048, 1090, 5), (4096, 1024, 1),
        (2048, 521, 1), (2048, 1021, 1), (2048, 1342, 1),  # primes, and twice a prime
        (4096, 2048, 2), (1024, 768, 3), (512, 100, 1), (512, 128, 1), (512, 130, 2),
    ],
)  # fmt: skip
def test_frames_in_a_column(n_fft, hop_length, expected):
    config = SpectrogramConfig(n_fft=n_fft, hop_length=hop_length, n_mels=16)
    vocoder = Vocoder(config)
    assert vocoder.frames_per_column == expected
    assert vocoder.fine_config(config) == replace(config, hop_length=hop_length // expected)


@LIKE
def test_gains_are_interpolated_on_the_mel_scale(config):
    matrix = _interpolation(config).numpy()
    assert matrix.shape[1] == 1 + config.n_fft // 2
    np.testing.assert_allclose(matrix.sum(axis=0), 1, rtol=1e-5)
    assert matrix.min() >= 0 and (np.count_nonzero(matrix, axis=0) <= 2).all()

    def mels(hz: np.ndarray) -> np.ndarray:  # Slaney's scale
        logarithmic = 15 + 27 * np.log(np.maximum(hz, 1) / 1000) / np.log(6.4)
        return np.where(hz < 1000, hz * 3 / 200, logarithmic)

    # The gains of a band divide the middle between the peaks of its neighbours.
    edges = mels(mel_edges(config))
    width = edges[1] - edges[0]
    offsets = (np.arange(SUBBANDS) + 0.5) / SUBBANDS - 0.5
    # Above the highest band more of them, as wide, to half the sample rate.
    above = int(np.ceil((mels(np.array(config.sample_rate / 2)) - edges[-1]) / width))
    peaks = edges[1] + width * np.arange(config.n_mels + min(above, config.n_mels))
    centres = (peaks[:, None] + width * offsets).flatten()
    assert len(matrix) == len(centres)
    values = np.random.default_rng(0).standard_normal(len(centres))
    bins = mels(np.fft.rfftfreq(config.n_fft, 1 / config.sample_rate))
    np.testing.assert_allclose(values @ matrix, np.interp(bins, centres, values), atol=2e-4)


@pytest.mark.parametrize("config", SIZES, ids=lambda c: f"{c.n_mels}")
def test_a_column_changes_its_context_and_nothing_else(config):
    vocoder = random_vocoder(config)
    reach, columns = vocoder.context, 2 * vocoder.context + 11
    image = noise(config, columns).clamp_max(200)
    changed, at = image.clone(), columns // 2
    changed[:, :, at] += 50
    before, after = (vocoder.magnitude(i) for i in (image, changed))
    per_column = vocoder.frames_per_column
    differs = (before != after).any(dim=1)[0].reshape(columns, per_column).any(dim=1)
    found = differs.nonzero().flatten().tolist()
    assert at - reach <= found[0] <= at - reach + 1
    assert at + reach - 1 <= found[-1] <= at + reach
    assert found == list(range(found[0], found[-1] + 1))


@pytest.fixture(
    params=[1, pytest.param(2, marks=pytest.mark.slow)], ids=["one thread", "two threads"]
)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """The number of threads that torch uses."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
class TestToTheLastBit:
    """The parts of a sound do not depend on what is computed beside them."""

    @pytest.mark.parametrize("config", SIZES[:2], ids=lambda c: f"{c.n_mels}")
    def test_a_long_image_in_blocks_is_one_pass(self, config, monkeypatch):
        vocoder = random_vocoder(config)
        parts = [image_of(style, config, 90) for style in list(composer.STYLES)[:3]]
        image = torch.cat(parts, dim=1)[None]
        options = {"vocoder": vocoder, "phase_iterations": 2}
        monkeypatch.setattr(inversion, "BLOCK_BINS", 2**30)
        whole = invert(image, config, **options)
        for bins in (1, 50 * vocoder.frames_per_column * 1025):
            monkeypatch.setattr(inversion, "BLOCK_BINS", bins)
            blocks = list(inverted_blocks(image, config, **options))
            assert len(blocks) > 4
            assert torch.equal(torch.cat(blocks, dim=1), whole)

    @pytest.mark.parametrize("config", SIZES[:2], ids=lambda c: f"{c.n_mels}")
    def test_an_item_of_a_batch_is_the_same_alone(self, config):
        vocoder = random_vocoder(config)
        images = torch.stack([image_of(style, config) for style in composer.STYLES])
        together = vocoder.magnitude(images)
        for image, magnitude in zip(images, together, strict=True):
            assert torch.equal(vocoder.magnitude(image[None])[0], magnitude)
        sounds = invert(images, config, vocoder=vocoder, phase_iterations=2)
        for image, samples in zip(images, sounds, strict=True):
            alone = invert(image[None], config, vocoder=vocoder, phase_iterations=2)
            assert torch.equal(alone[0], samples)

    def test_a_loop_rotates_with_its_image_where_initial_phases_are_all_equal(self, monkeypatch):
        vocoder = random_vocoder()
        cycles = torch.rand(1025, generator=torch.Generator().manual_seed(0)).expand(1024, -1)
        monkeypatch.setattr(inversion, "initial_cycles", lambda bins: cycles)
        image = image_of("arpeggio", columns=50)[None]
        options = {"vocoder": vocoder, "loops": True, "phase_iterations": 2}
        loop = invert(image, CONFIG, **options)
        for bins in (1, 2**19):
            monkeypatch.setattr(inversion, "BLOCK_BINS", bins)
            for columns in (1, 17, 49):
                rotated = invert(image.roll(-columns, dims=2), CONFIG, **options)
                assert torch.equal(rotated, loop.roll(-columns * CONFIG.hop_length, dims=1))


def test_a_loops_margin_is_its_other_end(monkeypatch):
    vocoder, image = random_vocoder(), image_of("bass", columns=40)[None]
    options = {"vocoder": vocoder, "loops": True, "phase_iterations": 2}
    loop = invert(image, CONFIG, **options)
    monkeypatch.setattr(inversion, "BLOCK_BINS", 1)
    blocks = list(inverted_blocks(image, CONFIG, margin=7, **options))
    assert len(blocks) > 3
    with_margin, margin = torch.cat(blocks, dim=1), 7 * CONFIG.hop_length
    assert torch.equal(with_margin[:, margin:-margin], loop)
    assert torch.equal(with_margin[:, :margin], loop[:, -margin:])
    assert torch.equal(with_margin[:, -margin:], loop[:, :margin])


@pytest.mark.parametrize("config", SIZES[:2], ids=lambda c: f"{c.n_mels}")
def test_the_phases_are_those_of_its_magnitudes_at_its_hop(config):
    vocoder, image = random_vocoder(config), image_of("chords", config)[None]
    magnitude, fine = vocoder.magnitude(image), vocoder.fine_config(config)
    for iterations in (2, vocoder.phase_iterations):
        expected = griffin_lim(magnitude, fine, iterations=iterations)
        sound = invert(image, config, vocoder=vocoder, phase_iterations=iterations)
        assert torch.equal(sound, expected)
    assert torch.equal(invert(image, config, vocoder=vocoder), expected)


def test_another_hop_is_taken_for_a_loop_if_it_can_be_divided():
    vocoder, image = random_vocoder(), image_of("bass")[None]
    faster = replace(CONFIG, hop_length=1000)
    sound = invert(image, faster, vocoder=vocoder, loops=True, phase_iterations=1)
    assert sound.shape == (1, 64_000)
    assert vocoder.fine_config(faster).hop_length == 500
    with pytest.raises(AssertionError, match="no multiple of frames_per_column"):
        vocoder.fine_config(replace(CONFIG, hop_length=1001))


def test_gains_are_bounded():
    vocoder, image = random_vocoder(scale=1e4), noise(CONFIG, 10)
    fit, found = Vocoder(CONFIG).magnitude(image).double(), vocoder.magnitude(image).double()
    gains = 2 * (found[fit > 0] / fit[fit > 0]).log()
    assert gains.max() == pytest.approx(LARGEST_GAIN, abs=1e-4)
    assert gains.min() == pytest.approx(-LARGEST_GAIN, abs=1e-4)
    assert found[fit == 0].numel() == 0 or found[fit == 0].max() == 0
    assert invert(image, CONFIG, vocoder=vocoder).isfinite().all()


@pytest.mark.gpu
@pytest.mark.parametrize("config", SIZES, ids=lambda c: f"{c.n_mels}")
def test_on_a_gpu_magnitudes_are_the_same(config):
    vocoder, image = random_vocoder(config), image_of("chords", config)[None]
    found = vocoder.to("cuda").magnitude(image.cuda()).cpu()
    expected = vocoder.cpu().magnitude(image)
    loud = expected > 1e-3 * expected.max()
    assert (20 * (found[loud] / expected[loud]).log10()).abs().max() < 0.2


class TestFile:
    @pytest.mark.parametrize("config", [CONFIG, UNUSUAL[2]], ids=["usual", "unusual"])
    def test_what_is_saved_is_loaded(self, config, tmp_path):
        saved = random_vocoder(config, seed=3)
        saved.record = Record(3, 1.5, 400, 3, 2.5, 3.25)
        save_vocoder(saved, tmp_path / "v.pt")
        loaded = load_vocoder(tmp_path / "v.pt")
        assert loaded.spectrogram == saved.spectrogram == replace(config, n_frames=64)
        assert loaded.record == saved.record
        assert not loaded.training
        assert not any(weight.requires_grad for weight in loaded.parameters())
        assert loaded.digest == saved.digest != random_vocoder(config, seed=4).digest
        assert re.fullmatch("[0-9a-f]{8}", loaded.digest)
        image = noise(config, 10)
        assert torch.equal(loaded.magnitude(image), saved.magnitude(image))

    def test_weights_are_in_half_precision_and_the_rest_is_plain(self, tmp_path):
        vocoder = random_vocoder()
        with torch.no_grad():
            for weight in vocoder.parameters():
                weight.mul_(1 + 1e-5)  # half precision takes no notice
        save_vocoder(vocoder, tmp_path / "v.pt")
        contents = torch.load(tmp_path / "v.pt", weights_only=True)
        assert contents.keys() == {"format_version", "spectrogram", "weights", "record"}
        assert contents["format_version"] == 1
        assert contents["spectrogram"] == asdict(CONFIG)
        parameters = dict(vocoder.named_parameters())
        assert contents["weights"].keys() == parameters.keys()
        for name, weight in contents["weights"].items():
            assert weight.dtype == torch.float16 and torch.equal(weight, parameters[name].half())
        size = sum(weight.numel() for weight in parameters.values())
        assert (tmp_path / "v.pt").stat().st_size < 2 * size + 20_000
        assert load_vocoder(tmp_path / "v.pt").digest == vocoder.digest

    def test_a_record_describes_itself(self):
        text = "learned from 3 tracks, 1.5 minutes"
        errors = "; round-trip error of validation tracks 2.50 dB, 3.25 dB without it"
        assert Record(3, 1.5, 400, 0, 2.5, 3.25).describe() == text + errors
        assert Record(3, 1.5, 400, 0).describe() == text
        assert Record(1, 0.04).describe() == "learned from 1 track, 0.0 minutes"

    def test_it_fits_images_of_any_length_with_its_settings(self):
        vocoder = random_vocoder(replace(CONFIG, n_frames=100))
        assert vocoder.fits(CONFIG) and vocoder.fits(replace(CONFIG, n_frames=300))
        for changed in (
            {"sample_rate": 24000}, {"n_fft": 4096}, {"hop_length": 512}, {"n_mels": 128},
            {"f_min": 20.0}, {"f_max": 9000.0}, {"top_db": 60.0},
        ):  # fmt: skip
            assert not vocoder.fits(replace(CONFIG, **changed)), changed


class Harmful:
    """Unpickled by a careless reader, this makes a folder."""

    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> tuple[Callable, tuple[str]]:
        return os.mkdir, (str(self.evidence),)


def plain(**changes: Any) -> dict[str, Any]:
    """A complete vocoder's contents with some parts changed."""
    return {**random_vocoder().to_plain(), **changes}


def with_weight(change: Callable[[torch.Tensor], torch.Tensor | None]) -> dict[str, Any]:
    """The contents with the first weight changed, or without it."""
    contents = plain()
    name = next(iter(contents["weights"]))
    changed = change(contents["weights"].pop(name))
    if changed is not None:
        contents["weights"] = {name: changed, **contents["weights"]}
    return contents


def expanded(weight: torch.Tensor) -> torch.Tensor:
    return torch.zeros(1, dtype=weight.dtype).expand(weight.shape)


def torch_bytes(contents: object) -> bytes:
    file = io.BytesIO()
    torch.save(contents, file)
    return file.getvalue()


DAMAGED = {
    "empty": (lambda _: b"", "not as torch.save writes it"),
    "text": (lambda _: b"these are no weights", "not as torch.save writes it"),
    "cut": (lambda _: torch_bytes(plain())[:2000], "not as torch.save writes it"),
    "a list": (lambda _: torch_bytes([1, 2]), "is damaged or not a vocoder"),
    "other": (lambda _: torch_bytes({"weights": {}}), "format None; this version reads 1"),
    "later": (lambda _: torch_bytes(plain(format_version=2)), "format 2; this version reads 1"),
    "no weights": (lambda _: torch_bytes(plain(weights=[])), "is damaged or not a vocoder"),
    "missing weight": (lambda _: torch_bytes(with_weight(lambda w: None)), "has other layers"),
    "another shape": (lambda _: torch_bytes(with_weight(lambda w: w[:1])), "differs in shape"),
    "whole precision": (
        lambda _: torch_bytes(with_weight(lambda w: w.float())),
        "differs in shape or type",
    ),
    "NaN": (lambda _: torch_bytes(with_weight(lambda w: w * torch.nan)), "are not finite"),
    "infinity": (lambda _: torch_bytes(with_weight(lambda w: w + torch.inf)), "are not finite"),
    "no settings": (lambda _: torch_bytes(plain(spectrogram=None)), "expected names and values"),
    "other settings": (
        lambda _: torch_bytes(plain(spectrogram={"n_mels": 10**9})),
        "n_mels: 1000000000 is not allowed",
    ),
    "unknown record": (lambda _: torch_bytes(plain(record={"a": 1})), "'a' is unknown"),
    "wrong record": (lambda _: torch_bytes(plain(record={"steps": "x"})), "'x' is not a whole"),
    "endless": (lambda _: torch_bytes(with_weight(expanded)), "bytes that are not in the file"),
    "harmful": (lambda e: torch_bytes(plain(record=Harmful(e))), "names "),
    "pickle": (lambda e: pickle.dumps(Harmful(e), 2), "not as torch.save writes it"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_what_is_no_vocoder_is_refused_in_one_line(kind, tmp_path, caplog):
    make, told = DAMAGED[kind]
    path, evidence = tmp_path / "vocoder.pt", tmp_path / "executed"
    path.write_bytes(make(evidence))
    with pytest.raises(UserError) as error:
        load_vocoder(path)
    line = str(error.value)
    assert line.startswith(f"{path} is damaged or not a vocoder") and told in line
    assert line.endswith("learn it again: python -m musicspectrogan vocoder DATASET --overwrite")
    assert "\n" not in line
    assert find_vocoder(tmp_path, CONFIG) is None
    assert caplog.messages == [f"{line}; going on without it"]
    assert not evidence.exists()


def test_a_missing_vocoder_is_told_where_one_is_named_and_not_where_one_is_looked_for(
    tmp_path, caplog
):
    with pytest.raises(UserError, match=r"v\.pt: there is no such vocoder"):
        load_vocoder(tmp_path / "v.pt")
    assert find_vocoder(tmp_path, CONFIG) is None
    assert not caplog.messages


def test_a_checkpoint_of_a_gan_is_no_vocoder():
    with pytest.raises(UserError, match=r"latest\.pt is damaged or not a vocoder \(a vocoder of"):
        load_vocoder(OLD / "runs" / "cgan" / "checkpoints" / "latest.pt")


def test_a_datasets_vocoder_is_found_if_it_is_for_its_images(tmp_path, caplog):
    save_vocoder(random_vocoder(seed=5), tmp_path / "vocoder.pt")
    found = find_vocoder(tmp_path, replace(CONFIG, n_frames=200))
    assert found is not None and found.digest == random_vocoder(seed=5).digest
    assert not caplog.messages
    assert find_vocoder(tmp_path, replace(CONFIG, f_max=9000.0)) is None
    (told,) = caplog.messages
    assert "vocoder.pt is for images with other spectrogram settings" in told
    assert told.endswith(f"learn another: python -m musicspectrogan vocoder {tmp_path}")


def test_a_vocoder_of_absurd_settings_is_refused_before_anything_is_built(tmp_path):
    contents = plain(spectrogram={**asdict(CONFIG), "hop_length": 2**16})
    write_torch_file(contents, tmp_path / "v.pt")
    with pytest.raises(UserError, match="hop_length: 65536 is not allowed"):
        load_vocoder(tmp_path / "v.pt")
