"""How long a run is, where it may end and go on, and what it shows on the way; in this process."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from musicspectrogan import cli
from musicspectrogan.torchfiles import read_torch_file, write_torch_file
from musicspectrogan.training import runner, schedule
from musicspectrogan.training.diagnostics import Diagnostics
from musicspectrogan.training.ema import AveragedGenerator
from musicspectrogan.training.run_checkpoints import load_checkpoint
from musicspectrogan.training.schedule import Schedule, with_length
from musicspectrogan.training.settings import TrainingConfig

# Ten images: five steps an epoch.
TINY = (
    "--dataset",
    "set",
    "--width",
    1,
    "--batch-size",
    2,
    "--standing-batches",
    20,
    "--device",
    "cpu",
)


@pytest.fixture
def train(monkeypatch, capsys, tmp_path):
    """Runs the command with ten images at hand; returns what it printed, on both streams."""
    rng = np.random.default_rng(0)
    (tmp_path / "set" / "blues").mkdir(parents=True)
    for index in range(10):
        pixels = rng.integers(0, 256, (64, 64), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "set" / "blues" / f"{index}.png")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, status: int = 0):
        monkeypatch.setattr(sys, "argv", ["run.py", *map(str, (*TINY, *arguments))])
        capsys.readouterr()
        handlers = logging.getLogger("musicspectrogan").handlers
        before = handlers[:]
        with pytest.raises(SystemExit) as ended:
            cli.main("train")
        handlers[:] = before
        told = capsys.readouterr()
        assert ended.value.code == status, told.err
        return told

    return run


def weights(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = load_checkpoint(run)
    parts = ("generator", "discriminator", "ema")
    found = {
        f"{part}.{name}": tensor
        for part in parts
        for name, tensor in getattr(checkpoint, part).items()
    }
    for part in ("optimizer_g", "optimizer_d"):
        for index, state in getattr(checkpoint, part)["state"].items():
            found |= {f"{part}.{index}.{name}": tensor for name, tensor in state.items()}
    return found


def assert_same(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("asked", "steps_per_epoch", "steps", "epochs"),
    [
        ({}, 2, 391, 196),  # 72 images: 50 epochs would be 6,400
        ({}, 7, 391, 56),  # 50 epochs would be 22,400
        ({}, 8, 400, 50),
        ({}, 125, 6250, 50),
        ({"epochs": 3}, 2, 6, 3),  # whoever asks for little gets it
        ({"images": 100}, 2, 2, 1),
        ({"images": 129}, 2, 3, 2),
        ({"images": 100_000}, 125, 1563, 13),
    ],
)
def test_a_run_has_the_length_asked_for_or_the_usual_one(asked, steps_per_epoch, steps, epochs):
    planned = Schedule(TrainingConfig(**asked), steps_per_epoch)
    assert (planned.steps, planned.epochs, planned.images) == (steps, epochs, 64 * steps)
    ends = [step for step in range(steps_per_epoch, steps + 1) if planned.snapshot_due(step)]
    assert ends[-1] == steps
    assert planned.snapshots_left(1) == len(ends)
    assert planned.snapshots_left(steps) == 1
    made = with_length(TrainingConfig(**asked), steps_per_epoch)
    assert (made.images is None) != (made.epochs is None)


def test_grids_without_a_checkpoint_come_early():
    planned = Schedule(TrainingConfig(images=100_000), steps_per_epoch=125)
    due = [step for step in range(planned.steps + 1) if planned.preview_due(step)]
    assert [64 * step for step in due] == [0, 1024, 3008]
    # The snapshot at the end is one already.
    planned = Schedule(TrainingConfig(images=1_000), steps_per_epoch=125)
    assert [step for step in range(planned.steps + 1) if planned.preview_due(step)] == [0]


@pytest.mark.parametrize(
    ("in_file", "flags", "length"),
    [
        ("images: 100k", (), (100_000, None)),
        ("images: 100k", ("--epochs", 3), (None, 3)),
        ("epochs: 3", ("--images", "1.5m"), (1_500_000, None)),
        ("epochs: 3", ("--epochs", 4), (None, 4)),
        ("images: 25_000", ("--seed", 1), (25_000, None)),
        ("images: null\nepochs: null", (), (25_000, None)),
    ],
)
def test_a_flag_replaces_the_length_in_a_file_in_whichever_unit(
    in_file, flags, length, train, monkeypatch
):
    monkeypatch.setattr(runner, "measure_speed", lambda trainer: 700.0)
    Path("mine.yaml").write_text(in_file)
    plan = yaml.safe_load(train("--config", "mine.yaml", *flags, "--dry-run").out)
    assert (plan["images"], plan["epochs"]) == length


def test_both_lengths_in_a_file_are_refused_in_one_line(train):
    Path("mine.yaml").write_text("images: 5\nepochs: 3")
    told = train("--config", "mine.yaml", status=2).err
    assert told.count("\n") == 1 and "mine.yaml: images: epochs is given too" in told


def test_a_dry_run_takes_a_few_steps_and_leaves_nothing(train):
    before = sorted(Path().rglob("*"))
    told = train("--images", "100k", "--dry-run").out
    assert re.search(
        r"\n# length: 100,000 images in 50,000 steps: about \d+ \w+ at [\d,]+ images/s\n", told
    )
    assert "rough" not in told
    written = set(Path().rglob("*")) - set(before)
    assert all(path.name.startswith(".") for path in written)  # the cache of decoded images


def test_a_run_ends_within_an_epoch_and_goes_on_to_the_same_weights(train):
    assert (
        "Done after 16 images (1.6 epochs): whole" in train("--images", 16, "--output", "whole").err
    )
    whole = load_checkpoint(Path("whole"))
    assert (whole.epoch, whole.step, whole.images_seen) == (1, 8, 16)
    assert names(Path("whole/checkpoints")) == ["epoch_0001_images_00000016.pt", "latest.pt"]
    assert names(Path("whole/samples")) == [
        "epoch_0000.png",
        "epoch_0001_images_00000016.png",
        "real.png",
    ]
    train("--images", 5, "--output", "parts")
    told = train("--resume", "parts", status=2).err
    assert "already has its 6 images (0 epochs); ask for more with --images or --epochs" in told
    train("--resume", "parts", "--images", 7)
    train("--resume", "parts", "--images", 16)
    assert_same(Path("parts"), Path("whole"))
    assert names(Path("parts/checkpoints")) == [
        "epoch_0000_images_00000006.pt",
        "epoch_0000_images_00000008.pt",
        "epoch_0001_images_00000016.pt",
        "latest.pt",
    ]
    # In the other unit, and on to an epoch's end.
    told = train("--resume", "parts", "--epochs", 2, "--log-every", 1).err
    assert "\n20 images in 10 steps (2 steps left): about " in told
    assert names(Path("parts/checkpoints"))[-2:] == ["epoch_0002.pt", "latest.pt"]
    settings = yaml.safe_load(Path("parts/config.yaml").read_text())
    assert (settings["images"], settings["epochs"]) == (None, 2)
    train("--config", "parts/config.yaml", "--output", "again")
    assert_same(Path("again"), Path("parts"))


def test_a_run_from_before_lengths_in_images_goes_on(train):
    train("--epochs", 1, "--output", "old")
    for path in Path("old/checkpoints").iterdir():
        contents = read_torch_file(path)
        del contents["training"]["images"]
        write_torch_file(contents, path)
    assert "already has its 10 images (1 epoch)" in train("--resume", "old", status=2).err
    assert "Done after 20 images (2 epochs)" in train("--resume", "old", "--images", 20).err


def test_the_same_command_leaves_the_same_checkpoint_and_no_grid_changes_it(train, monkeypatch):
    line = ("--batch-size", 256, "--images", "3.2k", "--snapshot-every", "1m")
    for name in ("one", "two"):
        train(*line, "--output", name)
    # A batch of 256 is an epoch, of ten images.
    assert names(Path("one/samples")) == [
        "epoch_0000.png", "epoch_0004.png", "epoch_0012.png", "epoch_0013.png", "real.png",
    ]  # fmt: skip
    assert names(Path("one/checkpoints")) == ["epoch_0013.pt", "latest.pt"]
    assert (
        Path("one/checkpoints/latest.pt").read_bytes()
        == Path("two/checkpoints/latest.pt").read_bytes()
    )
    monkeypatch.setattr(schedule, "PREVIEWS", ())
    train(*line, "--output", "without")
    assert names(Path("without/samples")) == ["epoch_0013.png", "real.png"]
    assert_same(Path("one"), Path("without"))


def interrupt_at(monkeypatch, step: int, *, twice: bool = False) -> None:
    """Ctrl-C at the tick of a step, and if `twice` again while the grid is prepared."""

    def check_losses(diagnostics, at, means):
        if at == step:
            os.kill(os.getpid(), signal.SIGINT)
            if twice:
                monkeypatch.setattr(
                    AveragedGenerator,
                    "refresh_statistics",
                    lambda average, batches: os.kill(os.getpid(), signal.SIGINT),
                )

    monkeypatch.setattr(Diagnostics, "check_losses", check_losses)


def test_a_run_that_is_stopped_says_what_it_does_and_leaves_a_grid(train, monkeypatch):
    interrupt_at(monkeypatch, 8)
    told = train("--images", 30, "--log-every", 1, "--output", "run", status=130).err
    said = (
        r"\nStopping after this step and saving a grid and a checkpoint, about \d+ s; Ctrl-C again"
    )
    assert re.search(said, told)
    assert "Samples after 16 images are in run/samples/epoch_0001_images_00000016.png\n" in told
    assert told.endswith(
        "musicspectrogan: interrupted and saved after step 8; --resume continues from there\n"
    )
    assert names(Path("run/samples")) == [
        "epoch_0000.png",
        "epoch_0001_images_00000016.png",
        "real.png",
    ]
    assert names(Path("run/checkpoints")) == ["latest.pt"]
    monkeypatch.undo()


def test_a_second_interrupt_ends_at_once_and_damages_nothing(train, monkeypatch):
    line = ("--images", 30, "--log-every", 1, "--snapshot-every", 1, "--output", "run")
    interrupt_at(monkeypatch, 8, twice=True)
    told = train(*line, status=130).err
    assert told.endswith("musicspectrogan: interrupted\n") and "Traceback" not in told
    assert load_checkpoint(Path("run")).step == 5
    assert names(Path("run/samples")) == ["epoch_0000.png", "epoch_0001.png", "real.png"]
    assert not list(Path("run").rglob("*.tmp"))
