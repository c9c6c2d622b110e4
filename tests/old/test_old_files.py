"""Datasets, runs, checkpoints and command lines that earlier versions left behind still work."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import Command
from PIL import Image

from musicspectrogan import models
from musicspectrogan.data.dataset import load_dataset
from musicspectrogan.training.run_checkpoints import load_checkpoint

HERE = Path(__file__).parent
GANS = sorted(path.name for path in (HERE / "runs").iterdir())


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the dataset and the runs, with the dataset's path in each run's settings."""
    for name in ("images", "runs"):
        shutil.copytree(HERE / name, tmp_path / name)
    return tmp_path


def test_every_gan_is_there() -> None:
    assert (
        sorted("dcgan cgan unconditional projection anylength anylength_unconditional".split())
        == GANS
    )


def test_a_dataset_holds_the_tracks_that_it_held() -> None:
    dataset = load_dataset(HERE / "images", split="all")
    assert len(dataset) == 27
    assert dataset.genres == ["bass", "chords", "drums"]
    assert len(load_dataset(HERE / "images", split="training")) == 9


@pytest.mark.parametrize("gan", GANS)
def test_a_checkpoint_draws_the_images_that_it_drew(gan: str, old: Path, command: Command) -> None:
    genre = ["--genre", 0] if gan in ("cgan", "projection", "anylength") else []
    command(
        "-m", "musicspectrogan", "generate", "--checkpoint", old / "runs" / gan, *genre,
        "--seeds", "0-1", "--device", "cpu", "--output", old / "out", cwd=old,
    )  # fmt: skip
    for seed in (0, 1):
        drawn, before = (
            np.asarray(Image.open(path), dtype=int)
            for path in (
                *(old / "out").glob(f"*_seed000{seed}.png"),
                *(HERE / "samples" / gan).glob(f"*_seed000{seed}.png"),
            )
        )
        assert np.abs(drawn - before).max() <= 1


@pytest.mark.parametrize("gan", GANS)
def test_a_run_goes_on(gan: str, old: Path, command: Command) -> None:
    run = old / "runs" / gan
    command("run.py", "--resume", run, "--dataset", old / "images", "--images", 64, cwd=old)
    latest = load_checkpoint(run / "checkpoints" / "latest.pt")
    assert (latest.gan, latest.images_seen) == (models.current_name(gan), 64)


@pytest.mark.parametrize("gan", GANS)
def test_the_settings_of_a_run_start_another(gan: str, old: Path, command: Command) -> None:
    config = old / "runs" / gan / "config.yaml"
    told = command("run.py", "--config", config, "--dataset", old / "images", "--dry-run", cwd=old)
    settings = yaml.safe_load(told.stdout)
    assert settings["gan"] == models.current_name(gan)
    assert settings["lr"] == yaml.safe_load(config.read_text(encoding="utf-8"))["lr"]


@pytest.mark.parametrize(
    "flags",
    [
        "--gan unconditional --loss relativistic --r1 1 --r2 1",
        "--gan projection --loss hinge --spectral-norm --windows",
        "--gan anylength --augment None",
        "--gan anylength_unconditional --upsampling resize --minibatch_deviation",
        "--config dcgan-best --width 16 --lr 0.0005",
        "--config cgan-best-128 --anneal-images 200k",
        "--config dcgan-best-128",
        f"--config {HERE.parents[1] / 'configs' / 'dcgan-best.yaml'}",
    ],
)
def test_a_command_line_is_still_understood(flags: str, old: Path, command: Command) -> None:
    told = command("run.py", *flags.split(), "--dataset", old / "images", "--dry-run", cwd=old)
    assert "# run directory: runs/00000-" in told.stdout
