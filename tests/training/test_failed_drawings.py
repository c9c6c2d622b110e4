"""A picture, TensorBoard or an evaluation that fails: training continues with one warning."""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest
from torch.utils import tensorboard

from musicspectrogan.errors import UserError
from musicspectrogan.training import metrics, runner, snapshots
from musicspectrogan.training.run_checkpoints import load_checkpoint
from musicspectrogan.training.settings import TrainingConfig


@pytest.fixture
def config(images) -> TrainingConfig:
    """Two epochs with a snapshot and an evaluation each."""
    return TrainingConfig(
        gan="cgan", dataset=images, epochs=2, width=2, batch_size=8, standing_batches=1,
        device="cpu", snapshot_every=1, eval_every=1, log_every=1, snapshot_share=1.0,
    )  # fmt: skip


@pytest.fixture
def told(caplog) -> pytest.LogCaptureFixture:
    """The package's warnings."""
    logging.getLogger("musicspectrogan").propagate = True
    caplog.set_level(logging.WARNING)
    return caplog


def warnings_of(told: pytest.LogCaptureFixture) -> list[str]:
    """What was told, but for how short these runs are."""
    return [
        text for text in (record.message for record in told.records) if "will be rough" not in text
    ]


def failing(error: BaseException):
    def fail(*arguments: object, **options: object) -> None:
        raise error

    return fail


def judged(pixels: object) -> dict[str, float]:
    return {"kernel_distance": 1.0, "diversity": 1.0}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("a missing font\nand more"), "RuntimeError: a missing font"),
        (OSError("encoder error -2"), "encoder error -2"),
        (MemoryError(), "MemoryError"),
        (PermissionError(errno.EACCES, "Permission denied", "x.png"), "x.png: Permission denied"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_picture_that_fails_costs_that_picture(
    error, reason, config, *, told, tmp_path, monkeypatch
):
    monkeypatch.setattr(metrics, "draw_curves", failing(error))
    monkeypatch.setattr(snapshots, "save_grid", failing(error))
    monkeypatch.setattr("musicspectrogan.errors._warned", set())
    run = runner.train(runner.plan_run(config, tmp_path / "run"), quality_of=judged)
    assert load_checkpoint(run).epoch == 2
    assert sorted(p.name for p in run.rglob("*.png")) == []
    assert warnings_of(told) == [
        f"No grid of samples ({reason}); everything else continues",
        f"No curves ({reason}); everything else continues",
    ]


def test_one_grid_that_fails_costs_no_other(config, told, tmp_path, monkeypatch):
    save, calls = snapshots.save_grid, []

    def sometimes(path: Path, *shown: object) -> object:
        calls.append(path.name)
        if len(calls) == 2:
            raise RuntimeError("once")
        return save(path, *shown)

    monkeypatch.setattr(snapshots, "save_grid", sometimes)
    run = runner.train(runner.plan_run(config, tmp_path / "run"))
    assert calls == ["real.png", "epoch_0000.png", "epoch_0001.png", "epoch_0002.png"]
    assert sorted(p.name for p in (run / "samples").iterdir()) == sorted({*calls} - {calls[1]})


def test_weights_are_saved_before_anything_is_drawn(config, tmp_path, monkeypatch):
    seen = []

    def look(*shown: object) -> None:
        seen.append(len(list(tmp_path.glob("run/checkpoints/epoch_*.pt"))))

    monkeypatch.setattr(metrics, "draw_curves", look)
    monkeypatch.setattr(snapshots, "save_grid", look)
    runner.train(runner.plan_run(config, tmp_path / "run"))
    # The real images, the grid at the start, and then two pictures for each checkpoint.
    assert seen == [0, 0, 1, 1, 2, 2]


def test_tensorboard_that_fails_is_given_up(config, told, tmp_path, monkeypatch):
    monkeypatch.setattr(tensorboard.SummaryWriter, "add_scalar", failing(TypeError("protobuf")))
    run = runner.train(runner.plan_run(config, tmp_path / "run"))
    assert load_checkpoint(run).epoch == 2 and len(list((run / "samples").iterdir())) == 4
    assert warnings_of(told) == ["No TensorBoard (TypeError: protobuf); everything else continues"]


def test_a_judgement_that_fails_costs_that_judgement(config, told, tmp_path):
    run = runner.train(
        runner.plan_run(config, tmp_path / "run"),
        quality_of=failing(ZeroDivisionError("nothing to divide")),
    )
    assert load_checkpoint(run).epoch == 2 and not (run / "checkpoints" / "best.pt").exists()
    assert "kernel_distance" not in (run / "metrics.csv").read_text().splitlines()[0]
    assert warnings_of(told) == [
        "No evaluation of samples (ZeroDivisionError: nothing to divide); everything else continues"
    ]


def test_a_full_disk_ends_the_run_and_what_it_owes_is_drawn_later(config, tmp_path, monkeypatch):
    whole = runner.train(runner.plan_run(config, tmp_path / "whole"))
    save = snapshots.save_grid

    def full(path: Path, *shown: object) -> object:
        if path.name != "real.png" and (tmp_path / "run/checkpoints/epoch_0002.pt").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return save(path, *shown)

    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "save_grid", full)
        with pytest.raises(OSError, match="No space left"):
            runner.train(runner.plan_run(config, tmp_path / "run"))
    begun = runner.load_run(tmp_path / "run")
    assert begun.checkpoint.epoch == 2
    (tmp_path / "run" / "loss_curves.png").unlink()
    run = runner.train(runner.plan_resumed_run(begun, begun.config))
    for path in (whole / "samples").iterdir():
        assert (run / "samples" / path.name).read_bytes() == path.read_bytes()
    assert (run / "loss_curves.png").is_file()
    with pytest.raises(UserError, match=r"already has its 32 images \(2 epochs\)"):
        runner.plan_resumed_run(begun, replace(begun.config))
