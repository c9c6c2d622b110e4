"""Evaluation of samples in training: metrics, the best checkpoint, warnings."""

from __future__ import annotations

import csv
import itertools
import logging
from pathlib import Path

import numpy as np
import pytest

from musicspectrogan.audio.files import save
from musicspectrogan.data import composer
from musicspectrogan.data.dataset import load_dataset
from musicspectrogan.evaluation.reference import quality_by_validation
from musicspectrogan.training.diagnostics import RUNAWAY_TICKS, WARM_UP_IMAGES, Diagnostics
from musicspectrogan.training.run_checkpoints import load_checkpoint
from musicspectrogan.training.schedule import Schedule
from musicspectrogan.training.settings import TrainingConfig

# 40 training images: 5 steps an epoch, and a judgement at the end of each.
SMALL = (
    "--gan", "cgan", "--width", 4, "--batch-size", 8, "--standing-batches", 2, "--log-every", 5,
    "--device", "cpu", "--snapshot-every", 40, "--eval-every", 40, "--keep-checkpoints", 10,
)  # fmt: skip
JUDGED = ("kernel_distance", "coverage", "diversity")


@pytest.fixture(scope="module")
def judged_images(command, tmp_path_factory) -> Path:
    """Four genres, four clips of five images: one validation clip of each, just enough."""
    root = tmp_path_factory.mktemp("judged")
    for genre in list(composer.STYLES)[:4]:
        (root / "music" / genre).mkdir(parents=True)
        for index in range(4):
            path = root / "music" / genre / f"{index}.wav"
            save(path, composer.compose(genre, index, seed=3, seconds=15.1), composer.SAMPLE_RATE)
    command(
        "preprocess.py", "--dataset", "folder", "--input", "music", "--output", "images", cwd=root
    )
    return root / "images"


@pytest.fixture(scope="module")
def judged_run(judged_images, command, tmp_path_factory) -> tuple[Path, str]:
    """A run of four epochs, and what it printed."""
    folder = tmp_path_factory.mktemp("judged_run")
    done = command(
        "run.py",
        *SMALL,
        "--dataset",
        judged_images,
        "--epochs",
        4,
        "--output",
        folder / "run",
        cwd=folder,
    )
    return folder / "run", done.stderr


def judgements(run: Path) -> list[dict[str, str]]:
    with open(run / "metrics.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if row["kernel_distance"]]


def test_metrics_have_a_row_a_judgement_beside_those_of_the_ticks(judged_run):
    run, _ = judged_run
    rows = judgements(run)
    assert [(int(row["epoch"]), int(row["step"]), int(row["images_seen"])) for row in rows] == [
        (1, 5, 40), (2, 10, 80), (3, 15, 120), (4, 20, 160),
    ]  # fmt: skip
    assert {row["loss_d"] for row in rows} == {""}
    for row in rows:
        assert float(row["kernel_distance"]) > 0  # so short a training is far from music
        assert 0 <= float(row["coverage"]) <= 1
        assert 0 < float(row["diversity"]) < 2
    with open(run / "metrics.csv", newline="") as file:
        ticks = [row for row in csv.DictReader(file) if row["loss_d"]]
    assert [row["step"] for row in ticks] == ["5", "10", "15", "20"]
    assert {row[name] for row in ticks for name in JUDGED} == {""}


def test_tensorboard_has_them_too(judged_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, _ = judged_run
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    for name in JUDGED:
        found = [(event.step, event.value) for event in events.Scalars(f"quality/{name}")]
        assert [step for step, _ in found] == [5, 10, 15, 20]
        assert [value for _, value in found] == pytest.approx(
            [float(row[name]) for row in judgements(run)], rel=1e-4
        )


def test_the_best_checkpoint_is_kept_and_named(judged_run):
    run, printed = judged_run
    rows = judgements(run)
    least = min(rows, key=lambda row: float(row["kernel_distance"]))
    best = load_checkpoint(run / "checkpoints" / "best.pt")
    assert best.epoch == int(least["epoch"])
    assert best.quality["kernel_distance"] == pytest.approx(
        float(least["kernel_distance"]), rel=1e-4
    )
    said = [
        line for line in printed.splitlines() if line.startswith("Best by the validation tracks")
    ]
    assert len(said) == 1
    assert f"after {best.images_seen} images " in said[0] and "best.pt" in said[0]


def test_the_best_survives_when_it_is_no_longer_among_the_newest(judged_images, command, tmp_path):
    command(
        "run.py", *SMALL, "--keep-checkpoints", 1, "--dataset", judged_images, "--epochs", 3,
        "--lr", "0.9", "--output", "run", cwd=tmp_path,
    )  # fmt: skip
    run = tmp_path / "run"
    least = min(judgements(run), key=lambda row: float(row["kernel_distance"]))
    assert load_checkpoint(run / "checkpoints" / "best.pt").epoch == int(least["epoch"])
    assert len(list((run / "checkpoints").glob("epoch_*.pt"))) == 1
    # Whoever names the run gets the best, and hears of it.
    for checkpoint, hints in ((run, 1), (run / "checkpoints" / "latest.pt", 0)):
        said = command(
            "-m",
            "musicspectrogan",
            "generate",
            "--checkpoint",
            checkpoint,
            "--count",
            1,
            cwd=tmp_path,
        )
        told = f"Taking {run / 'checkpoints' / 'best.pt'}, the best by the validation tracks"
        assert said.stderr.count(told) == hints


def test_a_resumed_run_judges_as_one_that_never_stopped(
    judged_run, judged_images, command, tmp_path
):
    whole, _ = judged_run
    command(
        "run.py", *SMALL, "--dataset", judged_images, "--epochs", 2, "--output", "run", cwd=tmp_path
    )
    run = tmp_path / "run"
    command("run.py", "--resume", run, "--epochs", 4, cwd=tmp_path)
    assert judgements(run) == judgements(whole)
    ours, theirs = (load_checkpoint(r / "checkpoints" / "best.pt") for r in (run, whole))
    assert (ours.epoch, ours.quality) == (theirs.epoch, theirs.quality)
    # Back to the first epoch: whatever was best later is another future now, and comes again.
    command(
        "run.py", "--resume", run / "checkpoints" / "epoch_0001.pt", "--epochs", 4, cwd=tmp_path
    )
    assert judgements(run) == judgements(whole)
    assert load_checkpoint(run / "checkpoints" / "best.pt").epoch == theirs.epoch


def test_judgements_may_begin_and_end_on_the_way(judged_run, judged_images, command, tmp_path):
    whole, _ = judged_run
    run, best = tmp_path / "run", tmp_path / "run" / "checkpoints" / "best.pt"
    line = ("run.py", *SMALL, "--dataset", judged_images, "--output", run)
    command(*line, "--epochs", 1, "--eval-every", 0, cwd=tmp_path)
    assert not best.exists()
    command("run.py", "--resume", run, "--epochs", 3, "--eval-every", 40, cwd=tmp_path)
    assert judgements(run) == judgements(whole)[1:3]
    command("run.py", "--resume", run, "--epochs", 4, "--eval-every", 0, cwd=tmp_path)
    assert judgements(run) == judgements(whole)[1:3]
    # What was found the best stays, though nothing is judged any more.
    least = min(judgements(run), key=lambda row: float(row["kernel_distance"]))
    assert load_checkpoint(best).epoch == int(least["epoch"])


def test_nothing_is_judged_without_validation_tracks_or_unless_it_is_wanted(
    images, judged_images, command, tmp_path
):
    short = ("--epochs", 1, "--width", 4, "--standing-batches", 2, "--device", "cpu")
    done = command("run.py", *short, "--dataset", images, "--output", "few", cwd=tmp_path)
    assert "not judged while training" in done.stderr and "preprocess more music" in done.stderr
    off = ("--eval-every", 0)
    command("run.py", *short, *off, "--dataset", judged_images, "--output", "off", cwd=tmp_path)
    for run in ("few", "off"):
        assert "kernel_distance" not in (tmp_path / run / "metrics.csv").read_text()
        assert not (tmp_path / run / "checkpoints" / "best.pt").exists()


def test_the_quick_figures_tell_music_from_noise_and_from_one_image(judged_images):
    training = load_dataset(judged_images)
    quality_of = quality_by_validation(judged_images, training)
    real = np.asarray(training.pixels[training.rows])
    rng = np.random.default_rng(0)
    music = quality_of(np.concatenate([real] * 4))
    noise = quality_of(rng.integers(0, 256, (160, 64, 64), dtype=np.uint8))
    one = quality_of(np.repeat(real[:1], 160, axis=0))
    assert music["kernel_distance"] < 1
    assert noise["kernel_distance"] > 100
    assert music["kernel_distance"] < one["kernel_distance"]
    assert music["coverage"] > 0.5 > noise["coverage"]
    assert one["diversity"] == pytest.approx(0.0, abs=1e-6) and music["diversity"] > 0.7


@pytest.mark.parametrize(
    ("snapshot_every", "eval_every", "due"),
    [
        (40, 40, [40, 80, 120, 160, 200, 240]),
        (80, 40, [80, 160, 240]),
        (40, 120, [120, 240]),
        (40, 100, [120, 200]),
    ],
)
def test_judgements_come_with_snapshots_by_position_alone(snapshot_every, eval_every, due):
    settings = {"snapshot_every": snapshot_every, "eval_every": eval_every}
    config = TrainingConfig(epochs=1000, batch_size=8, **settings)
    schedule = Schedule(config, steps_per_epoch=5)
    snapshots = [step for step in range(1, 31) if schedule.snapshot_due(step)]
    assert [8 * step for step in snapshots] == list(range(snapshot_every, 241, snapshot_every))
    judged = [
        step
        for step in snapshots
        if schedule.evaluation_due(step, schedule.last_snapshot(step - 1))
    ]
    assert [8 * step for step in judged] == due


def test_snapshots_grow_rarer_in_long_runs_and_end_with_one():
    config = TrainingConfig(epochs=1505, batch_size=50, snapshot_every=1000, eval_every=4000)
    schedule = Schedule(config, steps_per_epoch=2)
    due = [50 * step for step in range(1, 3011) if schedule.snapshot_due(step)]
    assert due[:10] == list(range(1000, 11000, 1000))
    assert due[-1] == 150_500
    assert all(1.09 < later / sooner < 1.12 for sooner, later in itertools.pairwise(due[9:-1]))
    judged = [
        50 * step
        for before, step in itertools.pairwise([0, *(images // 50 for images in due)])
        if schedule.evaluation_due(step, before)
    ]
    assert judged[:2] == [4000, 8000]
    # Evenly up to ten times 4000, each at the first snapshot from then on; later at every snapshot.
    between = [later - sooner for sooner, later in itertools.pairwise(judged)]
    assert all(2000 < step < 8000 for step in between[:7])
    assert [images for images in due if images > 44_000] == [
        images for images in judged if images > 44_000
    ]


def check(leads: list[float]) -> None:
    """Ticks with D(x) and D(G(z)) that far apart, around a half."""
    diagnostics = Diagnostics()
    for number, lead in enumerate(leads, 1):
        means = {"d_real": 0.5 + lead / 2, "d_fake_before": 0.5 - lead / 2}
        diagnostics.check_losses(number, means)


@pytest.fixture
def told(caplog, monkeypatch):
    """Lines that the package logs."""
    monkeypatch.setattr(logging.getLogger("musicspectrogan"), "propagate", True)
    caplog.set_level(logging.INFO, logger="musicspectrogan")
    return caplog


def test_a_runaway_discriminator_is_said_once_when_it_begins(told):
    check([0.6, 0.7, 0.95, 0.96, 0.97, 0.98, 0.99, 0.99])
    (line,) = told.messages
    assert line.startswith("The discriminator has run away by step 5")
    assert "D(x) 0.98" in line and "--lr" in line


def test_a_healthy_contest_is_passed_over_in_silence(told):
    # What the demo's own training shows, with a single tick out of line.
    check([0.85, 0.69, 0.67, 0.95, 0.7, 0.72, 0.8, 0.75] * 3)
    assert told.messages == []


def test_a_generator_that_catches_up_is_said_too_and_the_next_runaway_again(told):
    check([0.95] * RUNAWAY_TICKS + [0.5] * RUNAWAY_TICKS + [0.95] * RUNAWAY_TICKS)
    assert [line.split(" by step")[0] for line in told.messages] == [
        "The discriminator has run away",
        "The generator has caught up with the discriminator",
        "The discriminator has run away",
    ]


@pytest.mark.parametrize(
    ("diversities", "said_at"),
    [
        ([0.2, 0.3, 0.5, 0.8, 0.3, 0.2, 0.1], 50_000),  # it was better before
        ([0.2, 0.2, 0.2, 0.2, 0.2], 30_000),  # it never was, and had its time
        ([0.2, 0.3, 0.5, 0.8, 0.9], None),  # any generator begins like that
    ],
)
def test_a_collapse_is_said_once_when_it_begins(told, diversities, said_at):
    assert WARM_UP_IMAGES == 30_000
    diagnostics = Diagnostics()
    for number, diversity in enumerate(diversities, 1):
        quality = {"diversity": diversity, "kernel_distance": 1.0}
        diagnostics.check_samples(1250 * number, 10_000 * number, quality)
    lines = [line for line in told.messages if "collapsed" in line]
    assert len(lines) == (said_at is not None)
    if said_at:
        assert lines[0].startswith(f"The samples have collapsed by step {said_at // 8}:")
        assert "--seed" in lines[0]


@pytest.mark.parametrize(
    ("distances", "said_at"),
    [
        # The classic cgan on a small set: best at the fourth, and from the ninth on hopeless.
        ([2.59, 1.1, 0.74, 0.67, 0.87, 0.77, 1.46, 2.77, 4.5, 5.0, 5.4, 6.7], 10),
        ([2.59, 1.1, 0.3, 4.0, 0.4, 4.0, 0.4], None),  # an outlier now and then
        ([0.2, 0.01, -0.02, 0.1, 0.2, 0.25, 0.2], None),  # all of them about 0
    ],
)
def test_samples_that_grow_worse_are_said_once(told, distances, said_at):
    diagnostics = Diagnostics()
    for number, distance in enumerate(distances, 1):
        quality = {"diversity": 1.0, "kernel_distance": distance}
        diagnostics.check_samples(number, 8 * number, quality)
    assert len(told.messages) == (said_at is not None)
    if said_at:
        assert told.messages[0].startswith(
            f"The samples have been growing worse by step {said_at} "
        )
        assert "best.pt" in told.messages[0] and "0.67" in told.messages[0]
