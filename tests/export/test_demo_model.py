"""The trained model of the package, and the page of it in docs/."""

from __future__ import annotations

import json

import numpy as np
from conftest import ROOT

import musicspectrogan as ms
from musicspectrogan.data.composer import STYLES
from musicspectrogan.training.run_directory import DEMO_MODEL


def test_the_package_has_a_model_of_its_own_music():
    size = sum(path.stat().st_size for path in DEMO_MODEL.iterdir())
    assert size < 1_000_000
    assert {path.name for path in DEMO_MODEL.iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
    }
    card = (DEMO_MODEL / "README.md").read_text(encoding="utf-8")
    training = json.loads((DEMO_MODEL / "config.json").read_text(encoding="utf-8"))["training"]
    assert "license: mit" in card and f"| seed | {training['seed']} |" in card
    assert "| Fréchet distance, classifier features |" in card


def test_demo_is_its_name_unless_there_is_such_a_checkpoint(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = ms.load("demo", device="cpu")
    assert model.genres == sorted(STYLES)
    images = {genre: model.images(genre, seeds=range(8)) for genre in model.genres}
    levels = {genre: made.mean() for genre, made in images.items()}
    assert np.ptp(list(levels.values())) > 20  # genres differ
    line = ["-m", "musicspectrogan", "generate", "--checkpoint", "demo"]
    command(*line, "--genre", "drums", "--count", 1, "--output", "out", cwd=tmp_path)
    assert (tmp_path / "out" / "drums_seed0000.wav").stat().st_size > 100_000
    (tmp_path / "demo").mkdir()  # not a checkpoint, so the name is still the model's
    assert ms.load("demo").checkpoint.digest == model.checkpoint.digest
    # A run that was stopped before its first checkpoint has nothing to generate with.
    (tmp_path / "demo" / "config.yaml").write_text("gan: cgan\ndataset: images\n")
    told = command(*line, "--genre", "drums", cwd=tmp_path, status=2).stderr
    assert "demo: no checkpoint" in told
    (tmp_path / "demo" / "config.yaml").unlink()
    for file in DEMO_MODEL.iterdir():
        (tmp_path / "demo" / file.name).write_bytes(file.read_bytes())
    config = tmp_path / "demo" / "config.json"
    config.write_text(config.read_text().replace('"drums"', '"percussion"'))
    assert "percussion" in ms.load("demo").genres


def test_the_packages_model_is_not_changed(command, images, tmp_path):
    before = (DEMO_MODEL / "model.safetensors").read_bytes()
    line = ["-m", "musicspectrogan", "vocoder", images, "--checkpoint", "demo"]
    done = command(*line, cwd=tmp_path, status=2)
    assert "--checkpoint demo: is part of the package; export it" in done.stderr
    assert (DEMO_MODEL / "model.safetensors").read_bytes() == before


def test_the_instrument_in_docs_is_that_of_the_model(command, tmp_path):
    line = ["-m", "musicspectrogan", "export", "--checkpoint", "demo", "--format", "html"]
    command(*line, "--output", "instrument.html", cwd=tmp_path)
    made = (tmp_path / "instrument.html").read_bytes()
    assert made == (ROOT / "docs" / "instrument.html").read_bytes(), (
        "python -m musicspectrogan export --checkpoint demo --format html "
        "--output docs/instrument.html --overwrite"
    )
