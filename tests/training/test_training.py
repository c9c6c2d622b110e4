"""Training through the real command, on a small set of real images."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
import yaml
from conftest import command_line, environment
from PIL import Image

from musicspectrogan import models
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.data.dataset import ImageDataset
from musicspectrogan.errors import Interrupted
from musicspectrogan.models import ModelConfig
from musicspectrogan.training.batches import Batches
from musicspectrogan.training.callbacks import Checkpoints, Metrics
from musicspectrogan.training.checkpoint import load_checkpoint
from musicspectrogan.training.ema import AveragedGenerator
from musicspectrogan.training.losses import LOSSES
from musicspectrogan.training.settings import TrainingConfig
from musicspectrogan.training.step import AdversarialStep
from musicspectrogan.training.trainer import Callback, Tick, Trainer

# 16 training images of 4 genres: 4 steps an epoch.
SMALL = ("--width", 4, "--batch-size", 4, "--standing-batches", 3, "--log-every", 3, "--device", "cpu")
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
        "epoch_0002.png", "epoch_0004.png", "epoch_0006.png", "real.png",
    ]  # fmt: skip
    assert any((uninterrupted / "tensorboard").iterdir())
    log = (uninterrupted / "log.txt").read_text()
    assert "[Epoch 2/6] [Batch 4/4] Loss_D: " in log and "D(G(z)): " in log


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

    events = EventAccumulator(str(uninterrupted / "tensorboard"), {"audio": 0, "images": 0, "scalars": 0})
    tags = events.Reload().Tags()
    assert set(tags["scalars"]) == {
        "loss_d", "loss_g", "d_real", "d_fake_before", "d_fake_after", "images_per_second",
    }  # fmt: skip
    assert [event.step for event in events.Scalars("loss_d")] == [
        int(r["step"]) for r in metrics_of(uninterrupted)
    ]
    assert [event.step for event in events.Images("samples")] == [8, 16, 24]
    assert set(tags["audio"]) == {f"sounds/{genre}" for genre in ("blues", "jazz", "metal", "rock")}
    assert {event.length_frames for event in events.Audio("sounds/jazz")} == {64 * 1024}


def test_the_checkpoint_says_where_it_is_and_what_it_was_made_from(uninterrupted, images):
    checkpoint = load_checkpoint(uninterrupted)
    assert (checkpoint.epoch, checkpoint.step, checkpoint.images_seen) == (6, 24, 96)
    assert checkpoint.genres == ["blues", "jazz", "metal", "rock"]
    assert checkpoint.spectrogram.hop_length == 1024
    assert checkpoint.training["dataset"] == str(images)
    assert checkpoint.model.n_genres == 4


def test_config_yaml_makes_the_same_run_again(uninterrupted, command, tmp_path):
    command("run.py", "--config", uninterrupted / "config.yaml", "--output", "again", cwd=tmp_path)
    assert_same_weights(tmp_path / "again", uninterrupted)


def test_another_seed_is_another_run(uninterrupted, command, tmp_path):
    config = uninterrupted / "config.yaml"
    command("run.py", "--config", config, "--seed", 1, "--epochs", 1, "--output", "other", cwd=tmp_path)
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
    assert "lr was 0.0002 and is now 0.01" in told.stderr


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
    assert "# steps an epoch: 1, in all 50" in told.stdout
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
        weights[augment] = torch.cat([weight.flatten() for weight in checkpoint.discriminator.values()])
    assert torch.equal(weights["None"], weights[0.3])
    assert not torch.equal(weights["None"], weights[0.0])


def test_two_runs_cannot_write_to_one_directory(uninterrupted, command, tmp_path):
    import filelock

    with filelock.FileLock(uninterrupted / ".lock"):
        told = command("run.py", "--resume", uninterrupted, "--epochs", 9, cwd=tmp_path, status=2)
    assert "another run is training there" in told.stderr


def test_a_failed_start_leaves_nothing_in_the_way(uninterrupted, images, command, tmp_path):
    line = ("run.py", "--gan", "cgan", "--dataset", images, "--epochs", 1, *SMALL, "--output", "run")
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
    assert "has its 6 epochs already" in told.stderr
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


def a_trainer(folder: Path, callbacks: list[Callback], epochs: int) -> Trainer:
    """Four images, two steps an epoch; the network is as small as can be."""
    config = TrainingConfig(
        dataset=folder, width=1, batch_size=2, epochs=epochs, snapshot_every=1, standing_batches=1
    )
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


@pytest.mark.parametrize("damage", ["", "epoch,batch", "{whole}2,3", "{whole}3,1,1\n", "{whole}x\0y,,\n"])
def test_metrics_that_a_kill_damaged_are_mended(damage, uninterrupted, tmp_path):
    whole = (uninterrupted / "metrics.csv").read_text()
    (tmp_path / "metrics.csv").write_text(damage.replace("{whole}", whole))
    metrics = Metrics(tmp_path)
    trainer = a_trainer(tmp_path, [], epochs=1)
    trainer.steps_taken = 9
    metrics.on_start(trainer)
    if "{whole}" in damage:
        assert [int(row["step"]) for row in metrics_of(tmp_path)] == [3, 6, 8, 9]
        assert (tmp_path / "metrics.csv").read_text() == "".join(whole.splitlines(keepends=True)[:5])
    metrics.on_tick(trainer, Tick(3, 1, 12, 48, 1.0, {"loss_d": 1.0}))
    assert metrics_of(tmp_path)[-1]["step"] == "12"
    (tmp_path / "metrics.csv").unlink()
    metrics.on_tick(trainer, Tick(3, 2, 13, 52, 1.0, {"loss_d": 0.5}))
    assert [(row["step"], row["loss_d"]) for row in metrics_of(tmp_path)] == [("13", "0.5")]


def test_a_penalty_is_refused_where_the_discriminator_has_batchnorm(command, images, tmp_path):
    done = command("run.py", "--gan", "cgan", "--dataset", images, "--r1", 1, cwd=tmp_path, status=2)
    assert "the discriminator of --gan cgan has BatchNorm; take --gan projection" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_switch_that_the_model_does_not_know_is_refused(command, images, tmp_path):
    done = command("run.py", "--dataset", images, "--spectral-norm", cwd=tmp_path, status=2)
    assert "--spectral-norm means nothing for --gan dcgan" in done.stderr


@pytest.mark.parametrize(
    "flags",
    [
        ("--gan", "projection", "--loss", "relativistic", "--r1", 1, "--r2", 1, "--minibatch-deviation"),
        ("--gan", "unconditional", "--loss", "hinge", "--spectral-norm", "--upsampling", "resize"),
    ],
)
def test_a_recipe_that_is_resumed_ends_with_the_same_weights(command, images, tmp_path, flags):
    common = ("run.py", *flags, "--dataset", images, "--width", 4, "--batch-size", 8, "--device", "cpu")
    common += ("--augment", 0.5, "--windows", "--anneal-images", 80, "--snapshot-every", 1)
    command(*common, "--epochs", 2, "--output", "straight", cwd=tmp_path)
    command(*common, "--epochs", 1, "--output", "halted", cwd=tmp_path)
    command(*common, "--epochs", 2, "--resume", "halted", cwd=tmp_path)
    one, other = (load_checkpoint(tmp_path / name) for name in ("straight", "halted"))
    for part in ("generator", "discriminator", "ema"):
        for name, weight in getattr(one, part).items():
            assert torch.equal(weight, getattr(other, part)[name]), (part, name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("gan", ["dcgan", "cgan"])
def test_the_classic_width_fits_four_gigabytes(gan, images, tmp_path):
    limited = (
        "import torch; torch.cuda.set_per_process_memory_fraction("
        "4 * 2**30 / torch.cuda.get_device_properties(0).total_memory);"
        "from musicspectrogan.cli import main; main('train')"
    )
    arguments = ["--gan", gan, "--dataset", str(images), "--epochs", "2", "--output", "run"]
    line = [*command_line("-c", limited), *arguments, "--device", "cuda"]
    subprocess.run(
        line, cwd=tmp_path, env={**os.environ, "PYTHONPATH": environment()["PYTHONPATH"]}, check=True
    )
    assert load_checkpoint(tmp_path / "run").epoch == 2
