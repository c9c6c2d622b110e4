"""Training through the real command, on a small set of real images."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import termios
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import command_line, environment
from PIL import Image

from musicspectrogan.training.run_checkpoints import load_checkpoint

OLD_RUNS = Path(__file__).parents[1] / "old" / "runs"
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
        "checkpoints", "config.yaml", "log.txt", "loss_curves.png", "metrics.csv", "samples",
        "tensorboard",
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
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[Epoch (\d)/2\] \[Batch (\d)/4\] Loss_D: \d+\.\d{4} "
    r"Loss_G: \d+\.\d{4} D\(x\): 0\.\d{4} D\(G\(z\)\): 0\.\d{4}/0\.\d{4} "
    r"\(\d+ images/s, \d\d:\d\d left\)"
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
        "Samples will be rough: the run ends after 32 images; give --images 100k or more for "
        "better ones",
        "Samples after 0 images are in run/samples/epoch_0000.png",
        "32 images in 8 steps: … at …",
        "Samples after 32 images are in run/samples/epoch_0002.png",
        "Done after 32 images (2 epochs): run",
    ]
    # Every line of the log was told as well.
    assert all(entry[20:] in told for entry in log)


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


@pytest.mark.slow
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
        "--eval-every, --keep-checkpoints, and the folder of --dataset; start a new run"
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
    assert "have other layers: the checkpoint has --width 4, and this run --width 8" in told.stderr


@pytest.mark.parametrize(
    ("start", "named"),
    [
        (
            ("cgan", "--gan", "cgan"),
            "the checkpoint has genres: 3, and this run genres: 4; use images with as many genres",
        ),
        (  # which has other genres too, but no layer for them
            ("unconditional", "--gan", "stable_gan", "--upsampling", "resize_time"),
            "the checkpoint has --upsampling resize, and this run --upsampling resize_time; "
            "make them equal",
        ),
    ],
)
def test_weights_for_other_genres_or_layers_are_refused(start, named, images, command, tmp_path):
    run, *flags = start
    model = load_checkpoint(OLD_RUNS / run).model
    told = command(
        "run.py", *flags, "--dataset", images, "--init-from", OLD_RUNS / run,
        "--width", model.width, "--latent-dim", model.latent_dim,
        "--output", "tuned", cwd=tmp_path, status=2,
    )  # fmt: skip
    assert f"have other layers: {named}" in told.stderr


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
    """Noise that is bright in its upper or lower half: the cgan's genres become so too."""
    rng = np.random.default_rng(0)
    for genre, bright in (("high", slice(0, 32)), ("low", slice(32, 64))):
        (tmp_path / "halves" / genre).mkdir(parents=True)
        for index in range(32):
            pixels = 40 + 20 * rng.standard_normal((64, 64))
            pixels[bright] += 170
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(tmp_path / "halves" / genre / f"{index}.png")
    command(
        "run.py", "--gan", "cgan", "--dataset", "halves", "--epochs", 60, "--batch-size", 16,
        "--width", 8, "--lr", 0.001, "--ema-images", 200, "--device", "cpu",
        "--output", "run", cwd=tmp_path,
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
    assert "evaluated only" not in told.stdout
    line = ("run.py", "--dataset", images, "--eval-every", "2k", "--dry-run", *SMALL)
    remarks = command(*line, cwd=tmp_path).stdout
    assert (
        "# Samples are evaluated only with checkpoints, every 10,000 images; to evaluate more often"
        in remarks
    )
    assert "--snapshot-every 2000 too" in remarks
    assert "# run directory: runs/00000-cgan-gtzan" in told.stdout
    assert not list(tmp_path.iterdir())


def test_augmentation_can_be_left_to_the_number_of_images(images, command, tmp_path):
    line = ("run.py", "--gan", "dcgan", "--dataset", images, "--epochs", 1, *SMALL)
    told = command(*line, "--augment", "auto", "--dry-run", cwd=tmp_path)
    assert "augment: auto\n" in told.stdout
    assert "# probability of augmentation: 0.3" in told.stdout
    weights = {}
    for augment in ("auto", 0.3, 0.0):
        command(*line, "--augment", augment, "--output", f"run{augment}", cwd=tmp_path)
        checkpoint = load_checkpoint(tmp_path / f"run{augment}" / "checkpoints" / "latest.pt")
        weights[augment] = torch.cat(
            [weight.flatten() for weight in checkpoint.discriminator.values()]
        )
    assert torch.equal(weights["auto"], weights[0.3])
    assert not torch.equal(weights["auto"], weights[0.0])


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


def test_a_finished_run_needs_more_epochs(uninterrupted, command, tmp_path):
    told = command("run.py", "--resume", uninterrupted, cwd=tmp_path, status=2)
    assert (
        "already has its 96 images (6 epochs); ask for more with --images or --epochs"
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


def test_a_penalty_is_refused_where_the_discriminator_has_batchnorm(command, images, tmp_path):
    done = command(
        "run.py", "--gan", "cgan", "--dataset", images, "--r1", 1, cwd=tmp_path, status=2
    )
    assert "the discriminator of --gan cgan has BatchNorm; give another --gan" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_switch_that_the_model_does_not_know_is_refused(command, images, tmp_path):
    done = command("run.py", "--dataset", images, "--spectral-norm", cwd=tmp_path, status=2)
    assert "--spectral-norm has no effect with --gan dcgan" in done.stderr


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
