"""The loop, its time and its snapshots, with the smallest networks and a simulated clock."""

from __future__ import annotations

import csv
import itertools
import logging
import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from tqdm import tqdm

from musicspectrogan import models
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.data.dataset import ImageDataset
from musicspectrogan.errors import Interrupted
from musicspectrogan.models import ModelConfig
from musicspectrogan.progress import PacedBar
from musicspectrogan.training import run_directory, schedule
from musicspectrogan.training import trainer as trainer_module
from musicspectrogan.training.batches import Batches
from musicspectrogan.training.ema import AveragedGenerator
from musicspectrogan.training.losses import LOSSES
from musicspectrogan.training.metrics import MetricsFile, MetricsLogger, Tick, draw_curves
from musicspectrogan.training.run_checkpoints import load_checkpoint
from musicspectrogan.training.schedule import SnapshotBudget
from musicspectrogan.training.settings import TrainingConfig
from musicspectrogan.training.snapshots import Snapshots
from musicspectrogan.training.step import AdversarialStep
from musicspectrogan.training.trainer import Trainer

MEANS = {"loss_d": 0.5, "loss_g": 2.0, "d_real": 0.8, "d_fake_before": 0.2, "d_fake_after": 0.1}


def four_images() -> ImageDataset:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 64, 64), dtype=np.uint8)
    zeros, rows = np.zeros(4, np.int64), np.arange(4)
    return ImageDataset("x", pixels, rows, zeros, ["a"], rows, zeros, SpectrogramConfig(), "")


def a_trainer(folder: Path, epochs: int, **settings) -> Trainer:
    """Four images, two steps an epoch; the network is as small as can be."""
    settings = {"dataset": folder, "snapshot_every": 1, **settings}
    settings = {"standing_batches": 1, **settings}
    config = TrainingConfig(width=1, batch_size=2, epochs=epochs, **settings)
    dataset = four_images()
    generator, discriminator = models.build("dcgan", ModelConfig(64, 1, 100, 1))
    step = AdversarialStep(generator, discriminator, LOSSES["bce"], lr=1e-4, betas=(0.5, 0.9))
    ema = AveragedGenerator(generator, 10)
    return Trainer(config, Batches(dataset, 2, torch.device("cpu"), 0), step, ema)


class Recorder:
    """Stands in for `MetricsLogger` and `Snapshots`; notes when which snapshot comes.

    Args:
        stop_after: asks to stop as Ctrl-C does, after so many steps.
        clock: what a snapshot's second passes on.
    """

    def __init__(self, stop_after: int = 0, clock: Clock | None = None) -> None:
        self.stop_after, self.clock = stop_after, clock
        self.events: list[tuple[str, int]] = []

    @property
    def epochs(self) -> list[int]:
        """When snapshots came, two steps an epoch."""
        return [step // 2 for event, step in self.events if event == "snapshot"]

    def log(self, tick: Tick) -> None:
        if tick.step == self.stop_after:
            os.kill(os.getpid(), signal.SIGINT)

    def start(self, trainer: Trainer) -> None:
        pass

    def preview(self, trainer: Trainer) -> None:
        pass

    def snapshot(self, trainer: Trainer) -> None:
        self.events.append(("snapshot", trainer.steps_taken))
        if self.clock:
            self.clock.now += 1.0

    def save_latest(self, trainer: Trainer) -> None:
        self.events.append(("latest", trainer.steps_taken))


@pytest.mark.parametrize(("after", "event"), [(3, "latest"), (4, "snapshot")])
def test_stopping_at_the_end_of_an_epoch_still_makes_its_snapshot(after, event, tmp_path):
    recorder = Recorder(stop_after=after)
    trainer = a_trainer(tmp_path, epochs=5, log_every=1)
    with pytest.raises(Interrupted):
        trainer.train(recorder, recorder)
    assert recorder.events == [("snapshot", 2), (event, after)]


def snapshots_of(folder: Path, trainer: Trainer, **options) -> Snapshots:
    metrics = MetricsLogger(folder, trainer.schedule, trainer.budget)
    return Snapshots(folder, ModelConfig(64, 1, 100, 1), four_images(), metrics, **options)


def test_the_best_of_later_steps_goes_only_when_there_is_another(tmp_path):
    """A run that goes back to epoch 1, and is ended before or after its next checkpoint."""
    trainer = a_trainer(tmp_path, epochs=3)
    run_directory.create_run(tmp_path, trainer.config)
    best = tmp_path / "checkpoints" / "best.pt"
    judged = snapshots_of(
        tmp_path, trainer, quality_of=lambda pixels: {"kernel_distance": 0.5, "diversity": 1.0}
    )
    judged.metrics.log(Tick(3, 2, 6, 12, 1.0, MEANS))
    trainer.steps_taken = 6
    judged.snapshot(trainer)
    trainer.steps_taken = 2
    for again in range(2):
        resumed = snapshots_of(tmp_path, trainer)
        resumed.start(trainer)
        assert load_checkpoint(best).step == load_checkpoint(tmp_path).step == 6, again
    resumed.metrics.log(Tick(1, 2, 2, 4, 1.0, MEANS))
    resumed.snapshot(trainer)
    assert load_checkpoint(tmp_path).step == 2
    assert not best.exists()


@pytest.mark.parametrize(
    "damage", ["", "epoch,batch", "{whole}2,3", "{whole}3,1,1\n", "{whole}x\0y,,\n"]
)
def test_metrics_that_a_kill_damaged_are_mended(damage, trained, tmp_path):
    header, *rows = (trained / "metrics.csv").read_text().splitlines(keepends=True)
    rows = rows * 3
    for number, row in enumerate(rows):
        epoch, batch, _, rest = row.split(",", 3)
        rows[number] = ",".join((epoch, batch, str(3 * number), rest))
    whole, path = "".join([header, *rows]), tmp_path / "metrics.csv"
    path.write_text(damage.replace("{whole}", whole))
    file = MetricsFile(path, steps_taken=9)
    if "{whole}" in damage:
        assert path.read_text() == "".join([header, *rows[:4]])
    file.append({"epoch": 3, "step": 12, "loss_d": 1.0})
    assert steps_in(path)[-1] == ("12", "1")
    path.unlink()
    file.append({"epoch": 3, "step": 13, "loss_d": 0.5})
    assert steps_in(path) == [("13", "0.5")]


def steps_in(path: Path) -> list[tuple[str, str]]:
    with open(path, newline="") as file:
        return [(row["step"], row["loss_d"]) for row in csv.DictReader(file)]


class Clock:
    """Time that passes when somebody says so."""

    now = 0.0

    def perf_counter(self):
        return self.now


def timed_trainer(monkeypatch, tmp_path, share, epochs=100, **settings):
    """Epochs take 0.1 s, and snapshots, due every epoch or `snapshot_every` images, 1 s."""
    clock = Clock()
    for module in (schedule, trainer_module):
        monkeypatch.setattr(module, "time", clock)
    trainer = a_trainer(tmp_path, epochs, snapshot_share=share, **settings)
    take = trainer.take_step

    def step(*batch):
        clock.now += 0.05
        return take(*batch)

    trainer.take_step = step
    return trainer, Recorder(clock=clock), clock


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_snapshots_take_no_more_than_their_share_of_the_time(monkeypatch, tmp_path, share, caplog):
    caplog.set_level(logging.INFO, "musicspectrogan")
    monkeypatch.setattr(logging.getLogger("musicspectrogan"), "propagate", True)
    trainer, slow, clock = timed_trainer(monkeypatch, tmp_path, share)
    trainer.train(None, slow)
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
    trainer.train(None, slow)
    assert slow.epochs == [1, 2, 3, 4, 5]
    assert SnapshotBudget(None, torch.device("cuda", 0)).share == 0.1
    assert SnapshotBudget(0.3, torch.device("cuda", 0)).share == 0.3


def test_a_snapshot_that_waits_still_evaluates(monkeypatch, tmp_path):
    """An evaluation that was due with one that did not come is made with the next."""
    trainer, slow, _ = timed_trainer(monkeypatch, tmp_path, 0.5)
    due = []

    class Evaluating(Recorder):
        def snapshot(self, trainer):
            if trainer.schedule.evaluation_due(trainer.steps_taken, trainer.last_snapshot):
                due.append(trainer.epochs_done)
            slow.snapshot(trainer)

    trainer.schedule.config = replace(trainer.config, eval_every=16)
    trainer.train(None, Evaluating())
    between = [sooner // 4 < later // 4 for sooner, later in itertools.pairwise([0, *slow.epochs])]
    assert due == [epoch for epoch, is_due in zip(slow.epochs, between, strict=True) if is_due]
    assert any(epoch % 4 for epoch in due)


def test_the_time_left_does_not_jump_at_snapshots(monkeypatch, tmp_path):
    """40 epochs of 0.1 s and a snapshot of 1 s after every tenth are 8 s in all."""
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
    trainer.train(MetricsLogger(tmp_path, trainer.schedule, trainer.budget), slow)
    assert slow.epochs == [10, 20, 30, 40]
    assert clock.now == pytest.approx(8.0)
    assert [end for _, end in ends[:20]] == pytest.approx([4.0] * 20)
    assert [end for _, end in ends[20:]] == pytest.approx([8.0] * 60)


def test_what_a_snapshot_takes_is_known_by_the_first_preview(monkeypatch, tmp_path):
    """Standing statistics of 10 batches take 1 s, those of a snapshot of 30 batches 3 s."""
    trainer, slow, clock = timed_trainer(monkeypatch, tmp_path, None, epochs=3, standing_batches=30)
    known = []

    def refresh(average, batches):
        known.append(trainer.budget.seconds_per_snapshot)
        clock.now += len(list(batches)) / 10

    monkeypatch.setattr(AveragedGenerator, "refresh_statistics", refresh)
    trainer.train(None, slow)
    assert known == pytest.approx([0.0, 3.0, 4.0, 4.0])
    assert clock.now == pytest.approx(1.0 + 3 * (0.1 + 4.0))


def test_the_bar_shows_losses_and_the_distance_of_the_last_judgement(monkeypatch, tmp_path):
    shown = []
    monkeypatch.setattr(
        PacedBar, "tell", lambda bar, position, **told: shown.append((position, told))
    )
    trainer = a_trainer(tmp_path, epochs=3, log_every=1)
    metrics = MetricsLogger(tmp_path, trainer.schedule, trainer.budget)
    for step in (1, 2):
        metrics.log(Tick(1, step, step, 2 * step, 700.0, MEANS))
        metrics.log_quality(step, {"kernel_distance": 0.4213, "coverage": 0.5, "diversity": 1.0})
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
