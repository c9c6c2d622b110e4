"""Training through the real command, on a small set of real images."""

from __future__ import annotations

import csv
import fcntl
import itertools
import json
import logging
import os
import re
import shutil
import signal
import struct
import subprocess
import termios
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas
import pytest
import torch
import yaml
from conftest import ROOT, command_line, environment
from PIL import Image
from tqdm import tqdm

from musicspectrogan import models
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.data.dataset import ImageDataset
from musicspectrogan.errors import Interrupted
from musicspectrogan.generation.sampler import Sampler
from musicspectrogan.models import ModelConfig
from musicspectrogan.progress import PacedBar, progress_bar
from musicspectrogan.training import budget, run_directory
from musicspectrogan.training import trainer as trainer_module
from musicspectrogan.training.batches import Batches
from musicspectrogan.training.callbacks import Checkpoints, Metrics, draw_curves
from musicspectrogan.training.checkpoint import load_checkpoint
from musicspectrogan.training.ema import AveragedGenerator
from musicspectrogan.training.losses import LOSSES
from musicspectrogan.training.progress_log import ProgressLog
from musicspectrogan.training.settings import TrainingConfig
from musicspectrogan.training.step import AdversarialStep
from musicspectrogan.training.trainer import Callback, Tick, Trainer

# 16 training images of 4 genres: 4 steps an epoch.
SMALL = (
    "--width",
    4,
    "--batch-size",
    4,
    "--standing-batches",
    3,
    "--log-every",
    3,
    "--device",
    "cpu",
)
WEIGHTS = ("generator", "discriminator", "ema")


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    checkpoint = load_checkpoint(path)
    flat = {f"{part}.{k}": v for part in WEIGHTS for k, v in getattr(checkpoint, part).items()}
    for part in ("optimizer_g", "optimizer_d"):
        for index, state in getattr(checkpoint, part)["state"].items():
            flat |= {f"{part}.{index}.{k}": v for k, v in state.items()}
    return flat


def assert_same_weights(first: Path, second: Path) -> None:
    ours, theirs = weights_of(first), weights_of(second)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


def metrics_of(run: Path) -> list[dict[str, str]]:
    with open(run / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def uninterrupted(images, command, tmp_path_factory) -> Path:
    """A cgan trained for six epochs in one go, with a snapshot every other epoch."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    command(
        "run.py", "--gan", "cgan", "--dataset", images, "--epochs", 6, *SMALL,
        "--snapshot-every", 32, "--output", folder / "run", cwd=folder,
    )  # fmt: skip
    return folder / "run"


def test_a_run_leaves_all_that_is_promised(uninterrupted):
    names = sorted(path.name for path in uninterrupted.iterdir() if path.name != ".lock")
    assert names == [
        "checkpoints", "config.yaml", "log.txt", "loss_curves.png", "metrics.csv", "samples", "tensorboard",
    ]  # fmt: skip
    assert sorted(p.name for p in (uninterrupted / "checkpoints").iterdir()) == [
        "epoch_0002.pt", "epoch_0004.pt", "epoch_0006.pt", "latest.pt",
    ]  # fmt: skip
    assert sorted(p.name for p in (uninterrupted / "samples").iterdir()) == [
        "epoch_0000.png", "epoch_0002.png", "epoch_0004.png", "epoch_0006.png", "real.png",
    ]  # fmt: skip
    assert any((uninterrupted / "tensorboard").iterdir())
    log = (uninterrupted / "log.txt").read_text()
    assert "[Epoch 2/6] [Batch 4/4] Loss_D: " in log and "D(G(z)): " in log


# A line of log.txt that tells the position.
TICK = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[Epoch (\d)/2\] \[Batch (\d)/4\] Loss_D: \d+\.\d{4} Loss_G: \d+\.\d{4} "
    r"D\(x\): 0\.\d{4} D\(G\(z\)\): 0\.\d{4}/0\.\d{4} \(\d+ images/s, \d\d:\d\d left\)"
)


def in_terminal(*arguments: object, cwd: Path) -> str:
    """What a command writes that has a terminal of 120 columns for its stderr."""
    master, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    with subprocess.Popen(
        command_line(*arguments), cwd=cwd, env=environment(), stderr=terminal
    ) as process:
        os.close(terminal)
        written = b""
        with (
            suppress(OSError),
            open(master, "rb", buffering=0) as screen,
        ):  # Linux's way to say that it ended
            while part := screen.read(4096):
                written += part
    assert process.returncode == 0, written
    return written.decode()


@pytest.mark.parametrize("on_terminal", [True, False], ids=["terminal", "pipe"])
def test_the_log_holds_lines_and_the_bar_is_on_a_terminal_alone(
    on_terminal, images, command, tmp_path
):
    line = (
        "run.py",
        "--gan",
        "cgan",
        "--dataset",
        images,
        "--epochs",
        2,
        *SMALL,
        "--output",
        "run",
    )
    told = in_terminal(*line, cwd=tmp_path) if on_terminal else command(*line, cwd=tmp_path).stderr
    assert ("images/s] loss" in told, "100%|" in told) == (on_terminal, on_terminal)
    log = (tmp_path / "run" / "log.txt").read_text().splitlines()
    assert not [entry for entry in log if "%|" in entry or "\r" in entry]
    ticks = [match for entry in log if (match := TICK.fullmatch(entry))]
    # A tick every 3 of the 8 steps, and one before the snapshot.
    assert [4 * (int(m[1]) - 1) + int(m[2]) for m in ticks] == [3, 6, 8]
    begun, *rest = [entry for entry in log if not TICK.fullmatch(entry)]
    assert begun[20:].startswith("Training cgan on 16 images of 4 genres")
    assert [re.sub(r"\d+ images/s|about \d+ s", "…", entry[20:]) for entry in rest] == [
        "Samples will be rough: the run ends after 32 images; give --images 100k or more for better ones",
        "Samples after 0 images are in run/samples/epoch_0000.png",
        "32 images in 8 steps: … at …",
        "Samples after 32 images are in run/samples/epoch_0002.png",
        "Done after 32 images (2 epochs): run",
    ]
    # Every line of the log was told as well.
    assert all(entry[20:] in told for entry in log)


def test_work_beside_training_leaves_its_bar_out_of_the_log(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("musicspectrogan"), "propagate", True)
    caplog.set_level(logging.INFO, logger="musicspectrogan")
    handler = run_directory.log_to(tmp_path)
    try:
        with progress_bar(total=3, description="Comparing", unit="set") as bar:
            bar.update(3)
        run_directory.logger.info("Compared")
    finally:
        logging.getLogger("musicspectrogan").removeHandler(handler)
        handler.close()
    assert [entry[20:] for entry in (tmp_path / "log.txt").read_text().splitlines()] == ["Compared"]
    assert caplog.messages[0].startswith("Comparing: 3/3 [") and caplog.messages[-1] == "Compared"


def test_grids_have_a_row_a_genre_that_differ(uninterrupted):
    with Image.open(uninterrupted / "samples" / "epoch_0006.png") as grid:
        assert grid.mode == "L"
        height, width = grid.height, grid.width
    # Four genres, eight columns, 64 pixels doubled, gaps of 4.
    assert height == 4 + 4 * 132
    assert width > 8 * 132
    with Image.open(uninterrupted / "samples" / "real.png") as real:
        assert real.height == height


def test_metrics_are_complete_and_in_range(uninterrupted):
    rows = metrics_of(uninterrupted)
    assert [int(row["step"]) for row in rows] == [3, 6, 8, 9, 12, 15, 16, 18, 21, 24]
    assert [int(row["images_seen"]) for row in rows] == [4 * int(row["step"]) for row in rows]
    for row in rows:
        assert float(row["loss_d"]) > 0 and float(row["loss_g"]) > 0
        for name in ("d_real", "d_fake_before", "d_fake_after"):
            assert 0 <= float(row[name]) <= 1
        assert float(row["images_per_second"]) > 0


def test_tensorboard_has_scalars_grids_and_sounds(uninterrupted):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events = EventAccumulator(
        str(uninterrupted / "tensorboard"), {"audio": 0, "images": 0, "scalars": 0}
    )
    tags = events.Reload().Tags()
    assert [event.step for event in events.Images("real")] == [0]
    assert set(tags["scalars"]) == {
        "loss_d", "loss_g", "d_real", "d_fake_before", "d_fake_after", "images_per_second",
    }  # fmt: skip
    assert [event.step for event in events.Scalars("loss_d")] == [
        int(r["step"]) for r in metrics_of(uninterrupted)
    ]
    assert [event.step for event in events.Images("samples")] == [0, 8, 16, 24]
    # In the same file, so that the settings belong to these scalars.
    assert len(list((uninterrupted / "tensorboard").iterdir())) == 1
    found = {
        kind: HParamsPluginData.FromString(
            events.SummaryMetadata(f"_hparams_/{kind}").plugin_data.content
        )
        for kind in ("experiment", "session_start_info")
    }
    compared = [metric.name.tag for metric in found["experiment"].experiment.metric_infos]
    assert compared == ["quality/kernel_distance", "loss_d", "loss_g"]
    settings = found["session_start_info"].session_start_info.hparams
    assert (settings["gan"].string_value, settings["width"].number_value) == ("cgan", 4)
    assert (settings["epochs"].number_value, settings["loss"].string_value) == (6, "bce")
    assert "dataset" not in settings  # nor any other path
    assert set(tags["audio"]) == {f"sounds/{genre}" for genre in ("blues", "jazz", "metal", "rock")}
    assert {event.length_frames for event in events.Audio("sounds/jazz")} == {64 * 1024}


def test_the_checkpoint_says_where_it_is_and_what_it_was_made_from(uninterrupted, images):
    checkpoint = load_checkpoint(uninterrupted)
    assert (checkpoint.epoch, checkpoint.step, checkpoint.images_seen) == (6, 24, 96)
    assert checkpoint.genres == ["blues", "jazz", "metal", "rock"]
    assert checkpoint.spectrogram.hop_length == 1024
    assert checkpoint.training["dataset"] == images.name
    assert checkpoint.model.n_genres == 4


def test_config_yaml_makes_the_same_run_again(uninterrupted, command, tmp_path):
    command("run.py", "--config", uninterrupted / "config.yaml", "--output", "again", cwd=tmp_path)
    assert_same_weights(tmp_path / "again", uninterrupted)


def test_another_seed_is_another_run(uninterrupted, command, tmp_path):
    config = uninterrupted / "config.yaml"
    command(
        "run.py", "--config", config, "--seed", 1, "--epochs", 1, "--output", "other", cwd=tmp_path
    )
    ours, theirs = weights_of(tmp_path / "other"), weights_of(uninterrupted)
    assert not torch.equal(ours["generator.layers.0.weight"], theirs["generator.layers.0.weight"])


def test_resumed_with_more_epochs_equals_one_go(uninterrupted, images, command, tmp_path):
    common = ("--gan", "cgan", "--dataset", images)
    command("run.py", *common, "--epochs", 3, *SMALL, "--snapshot-every", 32, cwd=tmp_path)
    run = tmp_path / "runs" / "00000-cgan-gtzan"
    assert load_checkpoint(run).epoch == 3
    told = command("run.py", *common, "--epochs", 6, "--resume", cwd=tmp_path)
    assert "runs/00000-cgan-gtzan" in told.stderr
    assert_same_weights(run, uninterrupted)
    steps = [int(row["step"]) for row in metrics_of(run)]
    assert steps == sorted(set(steps)) and steps[-1] == 24
    assert yaml.safe_load((run / "config.yaml").read_text())["epochs"] == 6


# Long enough to be hit in its middle.
LONG = ("run.py", "--gan", "cgan", "--epochs", 60, *SMALL, "--snapshot-every", 240)


@pytest.fixture(scope="module")
def reference(images, command, tmp_path_factory) -> Path:
    """The long run in one go."""
    folder = tmp_path_factory.mktemp("reference")
    command(*LONG, "--dataset", images, "--output", "run", cwd=folder)
    return folder / "run"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_stopped_and_resumed_equals_uninterrupted(number, reference, images, command, tmp_path):
    run = tmp_path / "run"
    with subprocess.Popen(
        command_line(*LONG, "--dataset", images, "--output", run),
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        wait_for(run / "checkpoints" / "latest.pt", process)
        os.killpg(process.pid, number)
        told = process.communicate(timeout=60)[1]
    assert process.returncode == (-9 if number == signal.SIGKILL else 130), told
    assert "Traceback" not in told
    assert 15 <= load_checkpoint(run).epoch < 60
    command("run.py", "--resume", run, cwd=tmp_path)
    assert_same_weights(run, reference)
    assert not list(run.rglob("*.tmp"))


def wait_for(path: Path, process: subprocess.Popen) -> None:
    until = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_run_goes_on_from_the_checkpoint_named(uninterrupted, images, command, tmp_path):
    command(
        "run.py", "--gan", "cgan", "--dataset", images, "--epochs", 4, *SMALL,
        "--snapshot-every", 32, "--output", "run", cwd=tmp_path,
    )  # fmt: skip
    old = tmp_path / "run" / "checkpoints" / "epoch_0002.pt"
    command("run.py", "--resume", old, "--epochs", 6, cwd=tmp_path)
    assert_same_weights(tmp_path / "run", uninterrupted)


def test_a_changed_setting_is_refused_by_name(uninterrupted, command, tmp_path):
    told = command("run.py", "--resume", uninterrupted, "--lr", 0.01, cwd=tmp_path, status=2)
    assert "--lr was 0.0002 and is now 0.01" in told.stderr
    assert (
        "--eval-every, --keep-checkpoints, and the place of --dataset; start a new run"
        in told.stderr
    )


def test_settings_that_touch_no_weight_may_change_on_the_way(
    uninterrupted, images, command, tmp_path
):
    """They hold from where the run goes on, and it ends with the very same weights."""
    run = tmp_path / "run"
    command(
        "run.py", "--gan", "cgan", "--dataset", images, "--epochs", 3, *SMALL,
        "--snapshot-every", 32, "--output", run, cwd=tmp_path,
    )  # fmt: skip
    changed = {
        "log_every": 5,
        "snapshot_every": 16,
        "eval_every": 0,
        "keep_checkpoints": 1,
        "snapshot_share": 1.0,
    }
    flags = [
        part for name, value in changed.items() for part in (f"--{name.replace('_', '-')}", value)
    ]
    command("run.py", "--resume", run, "--epochs", 6, *flags, cwd=tmp_path)
    assert_same_weights(run, uninterrupted)
    # Until step 12 a line every 3 steps and a snapshot every 8, then every 5 and every 4.
    assert [int(row["step"]) for row in metrics_of(run)] == [3, 6, 8, 9, 12, 15, 16, 20, 24]
    grids = sorted(path.name for path in (run / "samples").glob("epoch_*.png"))
    assert grids == [f"epoch_{epoch:04d}.png" for epoch in (0, 2, 3, 4, 5, 6)]
    kept = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert kept == ["epoch_0006.pt", "latest.pt"]
    assert changed.items() <= yaml.safe_load((run / "config.yaml").read_text()).items()
    assert changed.items() <= load_checkpoint(run).training.items()


def test_a_new_run_starts_from_trained_weights(uninterrupted, command, tmp_path):
    command(
        "run.py", "--config", uninterrupted / "config.yaml", "--init-from", uninterrupted,
        "--lr", 1e-12, "--epochs", 1, "--output", "tuned", cwd=tmp_path,
    )  # fmt: skip
    ours, theirs = weights_of(tmp_path / "tuned"), weights_of(uninterrupted)
    name = "generator.layers.0.weight"
    torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-8)
    assert load_checkpoint(tmp_path / "tuned").epoch == 1


def test_weights_of_another_shape_are_refused(uninterrupted, images, command, tmp_path):
    told = command(
        "run.py", "--gan", "cgan", "--dataset", images, "--init-from", uninterrupted,
        "--width", 8, "--output", "tuned", cwd=tmp_path, status=2,
    )  # fmt: skip
    assert "do not fit a cgan of width 8" in told.stderr


def test_divergence_stops_the_run_and_keeps_the_last_checkpoint(images, command, tmp_path):
    told = command(
        "run.py", "--gan", "dcgan", "--dataset", images, "--epochs", 400, *SMALL, "--lr", 1e30,
        "--output", "run", cwd=tmp_path, status=2,
    )  # fmt: skip
    assert "not finite" in told.stderr and "step" in told.stderr
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_dcgan_trains_and_its_grid_has_no_rows_of_genres(images, command, tmp_path):
    command("run.py", "--dataset", images, "--epochs", 1, *SMALL, "--output", "run", cwd=tmp_path)
    with Image.open(tmp_path / "run" / "samples" / "epoch_0001.png") as grid:
        assert grid.size == (4 + 8 * 132, 4 + 8 * 132)
    assert load_checkpoint(tmp_path / "run").gan == "dcgan"


def test_training_learns_what_each_genre_looks_like(command, tmp_path):
    """Noise that is bright in its upper half or in its lower half: the cgan's genres become so too."""
    rng = np.random.default_rng(0)
    for genre, bright in (("high", slice(0, 32)), ("low", slice(32, 64))):
        (tmp_path / "halves" / genre).mkdir(parents=True)
        for index in range(32):
            pixels = 40 + 20 * rng.standard_normal((64, 64))
            pixels[bright] += 170
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(tmp_path / "halves" / genre / f"{index}.png")
    command(
        "run.py", "--gan", "cgan", "--dataset", "halves", "--epochs", 60, "--batch-size", 16, "--width", 8,
        "--lr", 0.001, "--ema-images", 200, "--device", "cpu", "--output", "run", cwd=tmp_path,
    )  # fmt: skip
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.genres == ["high", "low"]
    generator = checkpoint.build_ema_generator()
    latents = torch.randn(32, 100, generator=torch.Generator().manual_seed(0))
    upper_minus_lower = [
        (images[:, :, :32].mean() - images[:, :, 32:].mean()).item()
        for images in (generator(latents, torch.full((32,), label)) for label in (0, 1))
    ]
    # 170 grey levels are 1.33 in the range of the images.
    assert upper_minus_lower[0] > 0.6
    assert upper_minus_lower[1] < -0.6


def test_dry_run_prints_the_plan_and_makes_nothing(images, command, tmp_path):
    told = command("run.py", "--gan", "cgan", "--dataset", images, "--dry-run", cwd=tmp_path)
    plan = yaml.safe_load(told.stdout)
    assert plan["gan"] == "cgan" and plan["width"] == 64
    assert (plan["images"], plan["epochs"]) == (25_000, None)  # 50 epochs would be 3,200 images
    assert "# steps an epoch: 1\n" in told.stdout
    assert re.search(
        r"^# length: 25,024 images in 391 steps: about \S+ \w+ at [\d,]+ images/s$",
        told.stdout,
        re.M,
    )
    assert (
        "# Samples will be rough: the run ends after 25,024 images; give --images 100k"
        in told.stdout
    )
    assert "judged only" not in told.stdout
    line = ("run.py", "--dataset", images, "--eval-every", "2k", "--dry-run", *SMALL)
    remarks = command(*line, cwd=tmp_path).stdout
    assert (
        "# Samples are judged only with checkpoints, every 10,000 images; to judge more often"
        in remarks
    )
    assert "--snapshot-every 2000 too" in remarks
    assert "# run directory: runs/00000-cgan-gtzan" in told.stdout
    assert not list(tmp_path.iterdir())


def test_augmentation_can_be_left_to_the_number_of_images(images, command, tmp_path):
    line = ("run.py", "--gan", "dcgan", "--dataset", images, "--epochs", 1, *SMALL)
    told = command(*line, "--augment", "None", "--dry-run", cwd=tmp_path)
    assert "# probability of augmentation: 0.3" in told.stdout
    weights = {}
    for augment in ("None", 0.3, 0.0):
        command(*line, "--augment", augment, "--output", f"run{augment}", cwd=tmp_path)
        checkpoint = load_checkpoint(tmp_path / f"run{augment}" / "checkpoints" / "latest.pt")
        weights[augment] = torch.cat(
            [weight.flatten() for weight in checkpoint.discriminator.values()]
        )
    assert torch.equal(weights["None"], weights[0.3])
    assert not torch.equal(weights["None"], weights[0.0])


def test_two_runs_cannot_write_to_one_directory(uninterrupted, command, tmp_path):
    import filelock

    with filelock.FileLock(uninterrupted / ".lock"):
        told = command("run.py", "--resume", uninterrupted, "--epochs", 9, cwd=tmp_path, status=2)
    assert "another run is training there" in told.stderr


def test_a_failed_start_leaves_nothing_in_the_way(uninterrupted, images, command, tmp_path):
    line = (
        "run.py",
        "--gan",
        "cgan",
        "--dataset",
        images,
        "--epochs",
        1,
        *SMALL,
        "--output",
        "run",
    )
    command(*line, "--init-from", "nowhere.pt", cwd=tmp_path, status=2)
    assert not list(tmp_path.iterdir())
    command(*line, "--init-from", uninterrupted, cwd=tmp_path)
    assert load_checkpoint(tmp_path / "run").epoch == 1


@pytest.mark.parametrize("settings", ["db: mysql\n", "", "epochs: 3\n"])
def test_somebody_elses_folder_is_no_run_for_its_config_yaml(settings, images, command, tmp_path):
    (tmp_path / "app" / "samples").mkdir(parents=True)
    (tmp_path / "app" / "config.yaml").write_text(settings)
    (tmp_path / "app" / "samples" / "cover.png").write_text("a picture")
    told = command("run.py", "--dataset", images, *SMALL, "--output", "app", cwd=tmp_path, status=2)
    assert "--output app is not empty" in told.stderr
    assert (tmp_path / "app" / "config.yaml").read_text() == settings
    assert (tmp_path / "app" / "samples" / "cover.png").read_text() == "a picture"


@pytest.mark.parametrize("contents", ["no weights", None])
def test_a_best_checkpoint_that_says_nothing_is_no_reason_not_to_go_on(
    contents, uninterrupted, command, tmp_path
):
    run = shutil.copytree(uninterrupted, tmp_path / "run")
    best = run / "checkpoints" / "best.pt"
    if contents is None:
        shutil.copy(run / "checkpoints" / "latest.pt", best)  # never judged
    else:
        best.write_text(contents)
    done = load_checkpoint(run).epoch
    told = command("run.py", "--resume", run, "--epochs", done + 1, cwd=tmp_path)
    assert load_checkpoint(run).epoch == done + 1
    assert ("the next best will replace it" in told.stderr) == (contents is not None)


def test_the_best_of_a_future_that_is_given_up_goes_only_when_there_is_another(tmp_path):
    """A run that goes back to epoch 1, and is ended before or after its next checkpoint."""
    trainer = a_trainer(tmp_path, [], epochs=3)
    checkpoints = Checkpoints(tmp_path, ModelConfig(64, 1, 100, 1), four_images())
    best = tmp_path / "checkpoints" / "best.pt"
    best.parent.mkdir()
    trainer.steps_taken = 6
    checkpoints.on_quality(trainer, {"kernel_distance": 0.5})
    checkpoints.on_snapshot(trainer)
    trainer.steps_taken = 2
    for again in range(2):
        resumed = Checkpoints(tmp_path, checkpoints.model, checkpoints.dataset)
        resumed.on_start(trainer)
        assert load_checkpoint(best).step == load_checkpoint(tmp_path).step == 6, again
    resumed.on_snapshot(trainer)
    assert load_checkpoint(tmp_path).step == 2
    assert not best.exists()


def test_a_checkpoint_that_lies_in_no_run_is_not_resumed(uninterrupted, command, tmp_path):
    (tmp_path / "sub").mkdir()
    shutil.copy(uninterrupted / "checkpoints" / "latest.pt", tmp_path / "sub" / "mine.pt")
    told = command("run.py", "--resume", "sub/mine.pt", "--epochs", 9, cwd=tmp_path, status=2)
    assert "--init-from sub/mine.pt" in told.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["sub"]


def test_a_finished_run_needs_more_epochs(uninterrupted, command, tmp_path):
    told = command("run.py", "--resume", uninterrupted, cwd=tmp_path, status=2)
    assert (
        "has its 96 images (6 epochs) already; ask for more with --images or --epochs"
        in told.stderr
    )
    assert yaml.safe_load((uninterrupted / "config.yaml").read_text())["epochs"] == 6


def test_a_dataset_that_has_changed_is_not_resumed_on(images, command, tmp_path):
    shutil.copytree(images, tmp_path / "set")
    command("run.py", "--dataset", "set", "--epochs", 1, *SMALL, "--output", "run", cwd=tmp_path)
    tracks = json.loads((images / "dataset.json").read_text())["tracks"]
    lost = next(track for track in tracks if track["split"] == "training")
    (tmp_path / "set" / lost["genre"] / f"{lost['id']}_000.png").unlink()
    told = command("run.py", "--resume", "run", "--epochs", 2, cwd=tmp_path, status=2)
    assert "are not those that the run began with" in told.stderr


def four_images() -> ImageDataset:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 64, 64), dtype=np.uint8)
    zeros, rows = np.zeros(4, np.int64), np.arange(4)
    return ImageDataset("x", pixels, rows, zeros, ["a"], rows, zeros, SpectrogramConfig(), "")


def a_trainer(folder: Path, callbacks: list[Callback], epochs: int, **settings) -> Trainer:
    """Four images, two steps an epoch; the network is as small as can be."""
    settings = {"dataset": folder, "snapshot_every": 1, **settings}
    settings = {"standing_batches": 1, **settings}
    config = TrainingConfig(width=1, batch_size=2, epochs=epochs, **settings)
    dataset = four_images()
    generator, discriminator = models.build("dcgan", ModelConfig(64, 1, 100, 1))
    step = AdversarialStep(generator, discriminator, LOSSES["bce"], lr=1e-4, betas=(0.5, 0.9))
    ema = AveragedGenerator(generator, 10)
    return Trainer(config, Batches(dataset, 2, torch.device("cpu"), 0), step, ema, callbacks)


@pytest.mark.parametrize(("after", "event"), [(3, "on_interrupt"), (4, "on_snapshot")])
def test_stopping_at_the_end_of_an_epoch_still_makes_its_snapshot(after, event, tmp_path):
    class Recorder(Callback):
        """Asks to stop as Ctrl-C does, after some steps, and notes what is called then."""

        events: ClassVar[list[str]] = []

        def on_tick(self, trainer, tick):
            if tick.step == after:
                os.kill(os.getpid(), signal.SIGINT)

        def on_snapshot(self, trainer):
            self.events.append(f"on_snapshot {trainer.steps_taken}")

        def on_interrupt(self, trainer):
            self.events.append(f"on_interrupt {trainer.steps_taken}")

    Recorder.events.clear()
    trainer = a_trainer(tmp_path, [Recorder()], epochs=5)
    trainer.config = replace(trainer.config, log_every=1)
    with pytest.raises(Interrupted):
        trainer.train()
    assert Recorder.events == ["on_snapshot 2", f"{event} {after}"]


@pytest.mark.parametrize(
    "damage", ["", "epoch,batch", "{whole}2,3", "{whole}3,1,1\n", "{whole}x\0y,,\n"]
)
def test_metrics_that_a_kill_damaged_are_mended(damage, uninterrupted, tmp_path):
    whole = (uninterrupted / "metrics.csv").read_text()
    (tmp_path / "metrics.csv").write_text(damage.replace("{whole}", whole))
    metrics = Metrics(tmp_path)
    trainer = a_trainer(tmp_path, [], epochs=1)
    trainer.steps_taken = 9
    metrics.on_start(trainer)
    if "{whole}" in damage:
        assert [int(row["step"]) for row in metrics_of(tmp_path)] == [3, 6, 8, 9]
        assert (tmp_path / "metrics.csv").read_text() == "".join(
            whole.splitlines(keepends=True)[:5]
        )
    metrics.on_tick(trainer, Tick(3, 1, 12, 48, 1.0, {"loss_d": 1.0}))
    assert metrics_of(tmp_path)[-1]["step"] == "12"
    (tmp_path / "metrics.csv").unlink()
    metrics.on_tick(trainer, Tick(3, 2, 13, 52, 1.0, {"loss_d": 0.5}))
    assert [(row["step"], row["loss_d"]) for row in metrics_of(tmp_path)] == [("13", "0.5")]


def test_a_penalty_is_refused_where_the_discriminator_has_batchnorm(command, images, tmp_path):
    done = command(
        "run.py", "--gan", "cgan", "--dataset", images, "--r1", 1, cwd=tmp_path, status=2
    )
    assert "the discriminator of --gan cgan has BatchNorm; take --gan anylength_cgan" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_switch_that_the_model_does_not_know_is_refused(command, images, tmp_path):
    done = command("run.py", "--dataset", images, "--spectral-norm", cwd=tmp_path, status=2)
    assert "--spectral-norm means nothing for --gan dcgan" in done.stderr


@pytest.mark.parametrize(
    "flags",
    [
        (
            "--gan",
            "projection",
            "--loss",
            "relativistic",
            "--r1",
            1,
            "--r2",
            1,
            "--minibatch-deviation",
        ),
        ("--gan", "unconditional", "--loss", "hinge", "--spectral-norm", "--upsampling", "resize"),
    ],
)
def test_a_recipe_that_is_resumed_ends_with_the_same_weights(command, images, tmp_path, flags):
    common = (
        "run.py",
        *flags,
        "--dataset",
        images,
        "--width",
        4,
        "--batch-size",
        8,
        "--device",
        "cpu",
    )
    common += ("--augment", 0.5, "--windows", "--anneal-images", 80, "--snapshot-every", 1)
    command(*common, "--epochs", 2, "--output", "straight", cwd=tmp_path)
    command(*common, "--epochs", 1, "--output", "halted", cwd=tmp_path)
    command(*common, "--epochs", 2, "--resume", "halted", cwd=tmp_path)
    one, other = (load_checkpoint(tmp_path / name) for name in ("straight", "halted"))
    for part in ("generator", "discriminator", "ema"):
        for name, weight in getattr(one, part).items():
            assert torch.equal(weight, getattr(other, part)[name]), (part, name)


# What is left of 4 GB beside CUDA's own context.
LIMIT_BYTES = int(3.5 * 2**30)

ON_GPU = """
import torch
torch.cuda.set_per_process_memory_fraction({limit} / torch.cuda.get_device_properties(0).total_memory)
from musicspectrogan.cli import main
try:
    main("train")
finally:
    print("reserved", torch.cuda.max_memory_reserved())
"""


@pytest.mark.gpu
@pytest.mark.parametrize(
    "flags",
    [
        ("--gan", "dcgan"),
        ("--gan", "cgan", "--precision", "bfloat16"),
        ("--gan", "cgan", "--windows", "--augment", 0.3, "--precision", "tf32"),
        ("--config", ROOT / "configs" / "cgan-best.yaml"),
        ("--config", ROOT / "configs" / "cgan-best.yaml", "--precision", "bfloat16"),
    ],
)
def test_full_width_on_a_gpu_fits_four_gigabytes_recorded_or_not(flags, images, tmp_path):
    """Ten steps, of which seven are replayed; the plain ones tell and learn the same."""
    program = ON_GPU.format(limit=LIMIT_BYTES)
    for name, graph in (("recorded", "--cuda-graph"), ("plain", "--no-cuda-graph")):
        arguments = (*flags, graph, "--dataset", images, "--epochs", 10, "--log-every", 1)
        line = [*command_line("-c", program), *arguments, "--output", name, "--device", "cuda:0"]
        done = subprocess.run(
            list(map(str, line)),
            cwd=tmp_path,
            env=environment(gpu=True),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "capturable" not in done.stderr
        assert "Warning" not in done.stderr
        reserved = int(done.stdout.split("reserved")[1])
        assert 0 < reserved <= LIMIT_BYTES
    checkpoints = [load_checkpoint(tmp_path / name) for name in ("recorded", "plain")]
    assert [checkpoint.step for checkpoint in checkpoints] == [10, 10]
    for column in ("loss_d", "loss_g", "d_real", "d_fake_before", "d_fake_after"):
        told, expected = (
            [float(row[column]) for row in metrics_of(tmp_path / name) if row[column]]
            for name in ("recorded", "plain")
        )
        assert len(told) == 10
        assert told == pytest.approx(expected, rel=0.05, abs=0.05)
    ours, theirs = (checkpoint.ema for checkpoint in checkpoints)
    for name, weight in ours.items():
        assert (weight.double() - theirs[name].double()).abs().median() < 1e-2, name


@pytest.mark.gpu
def test_a_run_on_a_gpu_is_resumed_on_the_cpu_and_back(images, tmp_path):
    common = ["run.py", "--gan", "cgan", "--width", 4, "--dataset", images]
    for epochs, device in ((4, "cuda"), (6, "cpu"), (10, "cuda")):
        where = ("--output", "run") if epochs == 4 else ("--resume", "run")
        line = command_line(*common, "--epochs", epochs, "--device", device, *where)
        subprocess.run(line, cwd=tmp_path, env=environment(gpu=True), check=True)
    assert load_checkpoint(tmp_path / "run").step == 10


@pytest.mark.gpu
def test_samples_are_the_same_bytes_each_time_on_a_gpu(trained):
    sampler = Sampler(load_checkpoint(trained), "cuda")
    seeds = list(range(40))
    together = sampler.images(sampler.latents(seeds), sampler.one_hot(sampler.genres[0], 40))
    again = sampler.images(sampler.latents(seeds), sampler.one_hot(sampler.genres[0], 40))
    alone = sampler.images(sampler.latents([7]), sampler.one_hot(sampler.genres[0], 1))
    assert together.tobytes() == again.tobytes()
    assert together[7].tobytes() == alone[0].tobytes()


class Slow(Callback):
    """Makes a second pass in every snapshot, and notes when they come."""

    def __init__(self, clock, seconds=1.0):
        self.clock, self.seconds, self.epochs = clock, seconds, []

    def on_snapshot(self, trainer):
        self.epochs.append(trainer.epochs_done)
        self.clock.now += self.seconds


class Clock:
    """Time that passes when somebody says so."""

    now = 0.0

    def perf_counter(self):
        return self.now


def timed_trainer(monkeypatch, tmp_path, share, epochs=100, **settings):
    """One whose epochs take 0.1 s and snapshots, due after each epoch or `snapshot_every` images, 1 s."""
    clock = Clock()
    for module in (budget, trainer_module):
        monkeypatch.setattr(module, "time", clock)
    slow = Slow(clock)
    trainer = a_trainer(tmp_path, [slow], epochs, snapshot_share=share, **settings)
    take = trainer.take_step

    def step(*batch):
        clock.now += 0.05
        return take(*batch)

    trainer.take_step = step
    return trainer, slow, clock


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_snapshots_take_no_more_than_their_share_of_the_time(monkeypatch, tmp_path, share, caplog):
    caplog.set_level(logging.INFO, "musicspectrogan")
    monkeypatch.setattr(logging.getLogger("musicspectrogan"), "propagate", True)
    trainer, slow, clock = timed_trainer(monkeypatch, tmp_path, share)
    trainer.train()
    taken = len(slow.epochs)
    assert clock.now == pytest.approx(10 + taken)
    # The first one comes, for nobody knows how long it takes, and so does the last.
    assert (slow.epochs[0], slow.epochs[-1]) == (1, 100)
    assert taken - 1 <= share * clock.now  # but for the last one
    assert taken >= {0.1: 2, 0.5: 8}[share]
    told = [
        record.getMessage()
        for record in caplog.records
        if "--snapshot-share" in record.getMessage()
    ]
    assert len(told) == 1
    assert told[0].startswith("A snapshot takes 1.0 s: some come later than planned")


def test_on_a_cpu_every_snapshot_comes_when_it_is_due(monkeypatch, tmp_path):
    trainer, slow, _ = timed_trainer(monkeypatch, tmp_path, None, epochs=5)
    trainer.train()
    assert slow.epochs == [1, 2, 3, 4, 5]
    assert budget.SnapshotBudget(None, torch.device("cuda", 0)).share == 0.1
    assert budget.SnapshotBudget(0.3, torch.device("cuda", 0)).share == 0.3


def test_a_snapshot_that_waits_still_judges(monkeypatch, tmp_path):
    """A judgement that was due with one that did not come is made with the next."""
    trainer, slow, _ = timed_trainer(monkeypatch, tmp_path, 0.5)
    judged = []

    class Judge(Callback):
        def on_snapshot(self, trainer):
            if trainer.schedule.judgement_due(trainer.steps_taken, trainer.last_snapshot):
                judged.append(trainer.epochs_done)

    trainer.callbacks = [*trainer.callbacks, Judge()]
    trainer.config = trainer.schedule.config = replace(trainer.config, eval_every=16)
    trainer.train()
    between = [sooner // 4 < later // 4 for sooner, later in itertools.pairwise([0, *slow.epochs])]
    assert judged == [epoch for epoch, is_due in zip(slow.epochs, between, strict=True) if is_due]
    assert any(epoch % 4 for epoch in judged)


def test_the_time_left_does_not_jump_at_snapshots(monkeypatch, tmp_path):
    """40 epochs of 0.1 s and a snapshot of 1 s after every tenth are 8 s, which the first snapshot tells."""
    trainer, slow, clock = timed_trainer(
        monkeypatch, tmp_path, None, epochs=40, snapshot_every=40, log_every=1
    )
    ends = []
    monkeypatch.setattr(tqdm, "format_interval", repr)
    monkeypatch.setattr(
        PacedBar,
        "tell",
        lambda bar, position, left, **told: ends.append((position, clock.now + float(left))),
    )
    trainer.callbacks = [ProgressLog(), *trainer.callbacks]
    trainer.train()
    assert slow.epochs == [10, 20, 30, 40]
    assert clock.now == pytest.approx(8.0)
    assert [end for _, end in ends[:20]] == pytest.approx([4.0] * 20)
    assert [end for _, end in ends[20:]] == pytest.approx([8.0] * 60)


def test_what_a_snapshot_takes_is_known_by_the_first_preview(monkeypatch, tmp_path):
    """Standing statistics over 10 batches take a second, those of a snapshot over 30 batches take three."""
    trainer, _, clock = timed_trainer(monkeypatch, tmp_path, None, epochs=3, standing_batches=30)
    known = []

    def refresh(average, batches):
        known.append(trainer.budget.seconds_of_one)
        clock.now += len(list(batches)) / 10

    monkeypatch.setattr(AveragedGenerator, "refresh_statistics", refresh)
    trainer.train()
    assert known == pytest.approx([0.0, 3.0, 4.0, 4.0])
    assert clock.now == pytest.approx(1.0 + 3 * (0.1 + 4.0))


def test_the_bar_shows_losses_and_the_distance_of_the_last_judgement(monkeypatch, tmp_path):
    shown = []
    monkeypatch.setattr(
        PacedBar, "tell", lambda bar, position, **told: shown.append((position, told))
    )
    trainer = a_trainer(tmp_path, [], epochs=3, log_every=1)
    log = ProgressLog()
    log.on_start(trainer)
    means = {"loss_d": 0.5, "loss_g": 2.0, "d_real": 0.8, "d_fake_before": 0.2, "d_fake_after": 0.1}
    for step in (1, 2):
        trainer.steps_taken = step
        log.on_tick(trainer, Tick(1, step, step, 2 * step, 700.0, means))
        log.on_quality(trainer, {"kernel_distance": 0.4213, "coverage": 0.5})
    assert [(position, told["pace"], told["values"]) for position, told in shown] == [
        (2, "700 images/s", "loss 0.50/2.00"), (4, "700 images/s", "loss 0.50/2.00, distance 0.42"),
    ]  # fmt: skip
    assert all(re.fullmatch(r"\d\d:\d\d", told["left"]) for _, told in shown)


@pytest.mark.parametrize(
    "distances",
    [
        [2.5],
        [0.07],
        [30.0],
        [0.0],
        [2.1, 4.9, 3.0],
        [12.0, 99.0],
        [1.5, 15.5],
        [900.0, 30.0, 0.1, -0.01],
    ],
)
def test_the_curves_axes_have_ticks_whatever_the_values_are(distances, tmp_path):
    """Also where there is a single point; which is seen, for a line it is none."""
    images = [10_000.0 * (number + 1) for number in range(len(distances))]
    losses = {"loss_d": 0.5, "loss_g": 1.0, "d_real": 0.8, "d_fake_before": 0.2}
    rows = [{"images_seen": seen, **losses} for seen in images]
    rows += [
        {"images_seen": seen, "kernel_distance": far}
        for seen, far in zip(images, distances, strict=True)
    ]
    figure = draw_curves(pandas.DataFrame(rows), tmp_path / "curves.png")
    assert len(figure.axes) == 3
    for axes in figure.axes:
        for ticks, limits in (
            (axes.get_xticks(), axes.get_xlim()),
            (axes.get_yticks(), axes.get_ylim()),
        ):
            assert sum(limits[0] <= tick <= limits[1] for tick in ticks) >= 3
        assert (axes.lines[0].get_marker() == "o") == (
            len(distances) == 1 or axes is figure.axes[2]
        )


def test_the_share_is_a_setting(command, images, tmp_path):
    for share in ("0", "1.1", "nan"):
        told = command(
            "run.py", "--dataset", images, "--snapshot-share", share, cwd=tmp_path, status=2
        )
        assert "--snapshot-share: " in told.stderr
    common = ("run.py", "--dataset", images, "--snapshot-every", 1, "--epochs", 4, *SMALL)
    command(
        *common, "--snapshot-share", 1, "--keep-checkpoints", 9, "--output", "all", cwd=tmp_path
    )
    assert len(list((tmp_path / "all" / "samples").glob("epoch_*.png"))) == 5


def test_an_unstarted_run_gives_up_its_own_grids_alone(tmp_path: Path) -> None:
    """Its folder may be the user's, with a copy of our settings and pictures and files of theirs."""
    config = TrainingConfig(dataset=tmp_path)
    grids = ("real.png", "epoch_0001.png", "epoch_0001_images_00000064.png")
    names = (*grids, *(f"pieces_{name}" for name in grids))
    mine = (
        "holiday.png",
        "pieces_holiday.png",
        "real.png.jpg",
        "epoch_one.png",
        ".notes.tmp",
        ".a.txt.tmp",
    )
    (tmp_path / "samples").mkdir()
    for name in (*names, *mine):
        (tmp_path / "samples" / name).write_text("a picture")
    run_directory.create_run(tmp_path, config)
    (tmp_path / "samples" / ".real.png.tmp").touch()
    run_directory.clear_unfinished_files(tmp_path)
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == sorted(mine)
