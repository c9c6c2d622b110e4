"""ONNX files: the same images, pieces and sounds as PyTorch's, and a README whose code runs."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx as onnx_format
import onnxruntime
import pytest
import soundfile
import torch
from conftest import ROOT, Command
from torch import Tensor, nn
from vocoders import random_vocoder

from musicspectrogan import models
from musicspectrogan.audio.inversion import invert
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.audio.vocoder import Vocoder
from musicspectrogan.errors import UserError
from musicspectrogan.export import onnx, onnx_checks
from musicspectrogan.export.onnx import export_onnx
from musicspectrogan.export.onnx_graphs import Sound
from musicspectrogan.generation.model import vocoder_for
from musicspectrogan.generation.pieces import piece
from musicspectrogan.generation.sampler import Sampler, seed_spec
from musicspectrogan.models import ModelConfig
from musicspectrogan.tensors import generator_at
from musicspectrogan.training.checkpoint import LiveGenerator, read_checkpoint
from musicspectrogan.training.run_directory import DEMO_MODEL

GENRES = ["jazz", "rock’n’roll", "`x`\u202e"]


def trained(gan: str, size: int = 64, **options: Any) -> LiveGenerator:
    """A generator with weights and statistics as after some training."""
    torch.manual_seed(0)
    model = ModelConfig(size, 4, 20, len(GENRES), **options)
    generator, _ = models.build(gan, model)
    with torch.no_grad():
        for weight in generator.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
        for _ in range(5):
            generator(torch.randn(16, generator.latent_dim), torch.arange(16) % len(GENRES))
    settings = SpectrogramConfig.for_image_size(size)
    return LiveGenerator(generator.eval(), gan, model, GENRES, settings)


def read_model(path: Path) -> tuple[dict[str, list[object]], dict[str, str]]:
    """Axes of the inputs and outputs of a file, and its metadata."""
    model = onnx_format.load(path)
    onnx_format.checker.check_model(model)
    axes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    return axes, {entry.key: entry.value for entry in model.metadata_props}


@contextlib.contextmanager
def run_readme(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Run the README's code in the folder; yields what it defines."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    defined: dict[str, Any] = {}
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            exec(compile(code, "README.md", "exec"), defined)
        yield defined


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    return Sampler(read_checkpoint(DEMO_MODEL))


@pytest.fixture(scope="module")
def vocoder() -> Vocoder | None:
    return vocoder_for(read_checkpoint(DEMO_MODEL), None, None)


@pytest.fixture(scope="module")
def folder(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the demo model, made by the command."""
    parent = tmp_path_factory.mktemp("exports")
    done = command(
        "-m", "musicspectrogan", "export", "--checkpoint", "demo", "--format", "onnx",
        "--output", "new/model", cwd=parent,
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Exporting: ")]
    assert len(lines) + len(done.stdout.splitlines()) <= 1, done.stderr
    return parent / "new" / "model"


@pytest.mark.slow
class TestAFolderOfAnyLength:
    """The demo model, an `anylength_cgan` with a vocoder."""

    def test_it_has_four_files_and_a_readme_and_nothing_beside_it(self, folder):
        files = {"README.md", "clock.onnx", "images.onnx", "pieces.onnx", "sound.onnx"}
        assert {path.name for path in folder.iterdir()} == files
        assert list(folder.parent.iterdir()) == [folder]
        assert sum(path.stat().st_size for path in folder.iterdir()) < 20e6

    def test_axes_have_names_and_metadata_tell_all_that_is_needed(self, folder, sampler, vocoder):
        count = len(sampler.genres)
        images, metadata = read_model(folder / "images.onnx")
        assert images == {
            "latents": ["batch", sampler.latent_dim],
            "genres": ["batch", count],
            "images": ["batch", 64, 64],
        }
        assert json.loads(metadata["genres"]) == sampler.genres
        assert SpectrogramConfig(**json.loads(metadata["spectrogram"])) == sampler.spectrogram
        assert metadata["sample_rate"] == "22050"
        assert metadata["vocoder"] == vocoder.digest
        cells = json.loads(metadata["pieces"])
        assert (cells["cell_frames"], cells["bar"]) == (16, 4)
        pieces, _ = read_model(folder / "pieces.onnx")
        assert pieces == {
            "style": ["batch", cells["style_dim"]],
            "sequence": ["batch", cells["cell_dim"], "cells"],
            "beats": ["batch", "cells + 1"],
            "genres": ["batch", count, "cells"],
            "images": ["batch", 64, f"16*cells - {16 * 2 * cells['context']}"],
        }
        assert read_model(folder / "clock.onnx")[0]["offset"] == ["batch"]
        sound, _ = read_model(folder / "sound.onnx")
        assert sound == {"images": ["batch", 64, "frames"], "samples": ["batch", "1024*frames"]}

    def test_nothing_in_it_names_this_computer(self, folder):
        for path in folder.iterdir():
            assert str(ROOT).encode() not in path.read_bytes()

    def test_the_readme_runs_and_gives_the_sounds_of_generate(
        self, folder, sampler, vocoder, monkeypatch
    ):
        with run_readme(folder, monkeypatch) as found:
            sounds = {name: soundfile.read(f"{name}.wav") for name in ("sound", "piece")}
        assert {len(samples) / rate for samples, rate in sounds.values()} == {
            64 * 1024 / 22050,
            216 * 1024 / 22050,
        }
        for position in ((7,), (0, "cell", -3), (123456789, "walk", 2)):
            for count in (16, 20, 64, 1378):
                numbers = found["normals"](count, *position)
                seeded = generator_at("cpu", "sample", *position)
                expected = torch.randn(count, generator=seeded)
                np.testing.assert_allclose(numbers, expected, atol=3e-6)
        first = sampler.mixture({sampler.genres[0]: 1.0})
        drawn = piece(sampler, seed_spec(0), first, first, 216, loops=False, truncation=1.0)
        assert drawn.std() > 20
        assert np.abs(found["piece"][0].astype(int) - drawn).max() <= 1
        expected = invert(torch.from_numpy(found["piece"]), sampler.spectrogram, vocoder=vocoder)
        error = found["samples"] - expected.numpy()
        assert np.sqrt((error**2).mean()) < 1e-3 * expected.square().mean().sqrt()

    def test_batches_and_lengths_may_be_one(self, folder):
        sound = onnxruntime.InferenceSession(folder / "sound.onnx")
        grey = np.random.default_rng(0).integers(0, 256, (1, 64, 1), dtype=np.uint8)
        assert sound.run(None, {"images": grey})[0].shape == (1, 1024)
        images = onnxruntime.InferenceSession(folder / "images.onnx")
        shapes = {value.name: value.shape[1] for value in images.get_inputs()}
        inputs = {name: np.full((1, size), 0.3, np.float32) for name, size in shapes.items()}
        assert images.run(None, inputs)[0].shape == (1, 64, 64)


@pytest.mark.slow
def test_an_unconditional_generator_of_images(tmp_path, monkeypatch, capfd, caplog):
    """No genres and no pieces; with few latents no seeds, and without a vocoder the fit."""
    with caplog.at_level(logging.WARNING):
        export_onnx(trained("dcgan"), None, tmp_path, name="model")
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    folder = tmp_path
    assert {p.name for p in folder.iterdir()} == {"README.md", "images.onnx", "sound.onnx"}
    axes, metadata = read_model(folder / "images.onnx")
    assert axes == {"latents": ["batch", 20], "images": ["batch", 64, 64]}
    assert json.loads(metadata["genres"]) == []
    assert "Genres" not in (folder / "README.md").read_text(encoding="utf-8")
    with run_readme(folder, monkeypatch) as found:
        assert found["samples"].shape == (1, 65536)
        assert soundfile.info("sound.wav").frames == 65536


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gan", "size", "options"),
    [
        ("cgan", 64, {}),
        ("cgan", 128, {}),
        ("dcgan", 128, {}),
        ("stable_cgan", 64, {"upsampling": "resize"}),
        ("stable_gan", 128, {}),
        ("anylength_cgan", 128, {"upsampling": "resize"}),
        ("anylength_gan", 64, {"upsampling": "resize_time", "pairs": True}),
    ],
)
def test_every_gan_draws_the_same_images_and_pieces(gan, size, options, tmp_path):
    """Without the sound, which does not depend on the GAN."""
    sampler = Sampler(trained(gan, size, **options))
    assert sampler.images(sampler.latents(range(4)), onnx_checks.mixtures(sampler, 4)).std() > 20
    graphs = onnx._graphs(sampler, None)
    assert [graph.name for graph in graphs] == (
        ["images", "pieces", "clock", "sound"] if sampler.any_length else ["images", "sound"]
    )
    for graph in graphs[:-1]:
        onnx._write(graph, tmp_path, {}, gan)
        graph.check(tmp_path)
        read_model(tmp_path / f"{graph.name}.onnx")


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        SpectrogramConfig(),
        SpectrogramConfig(hop_length=1500, n_fft=2000),  # no multiple of the hop
        SpectrogramConfig(n_mels=128, hop_length=300, n_fft=1024, f_max=4000.0),
    ],
    ids=lambda settings: f"hop {settings.hop_length}",
)
def test_the_module_for_sound_is_the_inversion(settings, learned):
    vocoder = random_vocoder(settings) if learned else None
    numbers = np.random.default_rng(0).normal(128.0, 40.0, (2, settings.n_mels, 33))
    images = torch.from_numpy(numbers.clip(0, 255).astype(np.uint8))
    images[1, :, 10:20] = 0
    with torch.no_grad():
        samples = Sound(settings, vocoder)(images)
    expected = invert(images, settings, vocoder=vocoder)
    assert samples.shape == expected.shape
    assert (samples - expected).norm() < 1e-3 * expected.norm()


def test_the_readme_shows_names_without_control_characters():
    generator = trained("cgan")
    sampler = Sampler(generator)
    metadata = onnx._metadata(generator, sampler, None, "my\nmodel")
    assert json.loads(metadata["genres"]) == GENRES
    readme = onnx._readme(metadata, sampler)
    assert readme.startswith("# my\\\\nmodel\n")
    assert r"in this order: jazz, rock’n’roll, \`x\`\\u202e." in readme
    assert "pieces.onnx" not in readme


def test_missing_packages_are_named_with_the_command_that_installs_them(monkeypatch, tmp_path):
    find = onnx.find_spec
    monkeypatch.setattr(onnx, "find_spec", lambda name: None if "runtime" in name else find(name))
    with pytest.raises(UserError) as refused:
        export_onnx(trained("dcgan"), None, tmp_path, name="model")
    assert str(refused.value) == (
        "--format onnx needs onnxruntime: pip install onnx onnxscript onnxruntime"
    )
    assert not any(tmp_path.iterdir())


def test_images_that_differ_from_pytorchs_are_an_error_and_leave_nothing(
    command, monkeypatch, tmp_path
):
    def black(folder: Path, name: str, inputs: dict[str, Tensor]) -> list[np.ndarray]:
        assert (name, (folder / "written").read_text()) == ("images", "images")
        return [np.zeros((len(inputs["latents"]), 64, 64), np.uint8)]

    def write(graph: onnx._Graph, folder: Path, *_: object) -> None:
        (folder / "written").write_text(graph.name)

    monkeypatch.setattr(onnx, "_write", write)
    monkeypatch.setattr(onnx_checks, "run", black)
    done = command(
        "-m", "musicspectrogan", "export", "--checkpoint", "demo", "--format", "onnx",
        "--output", "model", cwd=tmp_path, status=2,
    )  # fmt: skip
    assert re.search(r"images.onnx .* differ by \d+ grey levels, more than 1, so", done.stderr)
    assert not any(tmp_path.iterdir())


class Stubborn(nn.Module):
    """A generator that PyTorch cannot trace: its layers depend on the latents' values."""

    latent_dim = 20

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        level = float(latents.sum()) % 1.0
        torch.manual_seed(int(time.time()))
        return latents.new_full((len(latents), 1, 64, 64), level if level > 0.5 else -level)


def test_a_generator_that_onnx_cannot_express_is_an_error_of_one_line(tmp_path):
    generator = replace(trained("dcgan"), module=Stubborn())
    with pytest.raises(UserError) as refused:
        export_onnx(generator, None, tmp_path, name="model")
    assert re.match(
        r"--format onnx: PyTorch \S+ cannot express images.onnx of --gan dcgan in ONNX \(.+\);",
        str(refused.value),
    )
    assert "\n" not in str(refused.value)
    assert not any(tmp_path.iterdir())
