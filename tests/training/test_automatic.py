"""Settings that may be `auto`: the learning rate and the probability of augmentation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from musicspectrogan.config import from_plain, read_yaml, to_plain
from musicspectrogan.errors import UserError
from musicspectrogan.models import ModelConfig
from musicspectrogan.training import runner
from musicspectrogan.training.building import learning_rate
from musicspectrogan.training.optimizers import learning_rate_for
from musicspectrogan.training.run_checkpoints import load_checkpoint
from musicspectrogan.training.settings import TrainingConfig


@pytest.mark.parametrize(
    ("width", "rate"), [(16, 5e-4), (64, 2e-4), (32, 3.16e-4), (8, 7.91e-4), (256, 8e-5)]
)
def test_the_learning_rate_falls_with_the_width_along_a_line_of_logarithms(width, rate):
    assert learning_rate_for(width) == rate


@pytest.mark.parametrize(
    ("image_size", "width", "multiple", "like"),
    [
        (64, 16, 8, 16),
        (32, 16, 8, 16),
        (128, 16, 8, 16),
        (128, 32, 16, 64),  # the recipe: inner layers of 512 channels, as at 64 pixels and width 64
        (128, 32, 64, 64),  # and no more than 16 times the width
        (64, 64, 16, 64),
        (64, 16, 4, 8),
    ],
)
def test_the_innermost_layer_decides_the_learning_rate(image_size, width, multiple, like):
    model = ModelConfig(image_size, width, 64, 5, channel_multiple=multiple)
    assert learning_rate(TrainingConfig(lr="auto"), model) == learning_rate_for(like)
    assert learning_rate(TrainingConfig(lr=0.003), model) == 0.003


def test_a_multiple_out_of_range_is_refused_with_auto_too(images: Path):
    config = TrainingConfig(dataset=images, lr="auto", channel_multiple=0)
    with pytest.raises(UserError, match="channel_multiple: 0 is not allowed; it must be from 1 to"):
        runner.plan_run(config)


def test_older_files_and_commands_mean_auto_by_none(tmp_path):
    (tmp_path / "old.yaml").write_text("augment: null\n")
    read = read_yaml(TrainingConfig, tmp_path / "old.yaml")
    plain = from_plain(TrainingConfig, {**to_plain(TrainingConfig()), "augment": None})
    assert read.augment == plain.augment == TrainingConfig(augment=None).augment == "auto"
    assert TrainingConfig().augment == 0.0 and TrainingConfig().lr == 0.0002


@pytest.mark.parametrize("change", [{"lr": 0.0}, {"lr": float("nan")}, {"augment": 1.1}])
def test_numbers_out_of_range_are_refused_and_auto_is_named(change):
    with pytest.raises(UserError, match=r"is not allowed; .* or auto"):
        TrainingConfig(**change)


def test_a_run_stores_the_learning_rate_it_takes_and_is_resumed_with_auto_or_that(
    images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    config = TrainingConfig(
        dataset=images,
        epochs=1,
        width=4,
        lr="auto",
        augment="auto",
        standing_batches=1,
        device="cpu",
    )
    plan = runner.plan_run(config, tmp_path / "run")
    assert plan.config.lr == learning_rate_for(4)
    assert "\nlr: 0.00125\n" in plan.describe(1.0)
    run = runner.train(plan)
    stored = yaml.safe_load((run / "config.yaml").read_text())
    assert (stored["lr"], stored["augment"]) == (0.00125, "auto")
    assert load_checkpoint(run).training["lr"] == 0.00125
    previous = runner.load_run(run)
    for lr in ("auto", 0.00125):
        wanted = replace(previous.config, lr=lr, epochs=2)
        assert runner.plan_resumed_run(previous, wanted).config.lr == 0.00125
    with caplog.at_level("INFO"):
        runner.plan_resumed_run(previous, replace(previous.config, lr="auto", epochs=2))
    assert "--lr auto: the resumed run keeps its value, 0.00125" in caplog.messages
    with pytest.raises(UserError, match=r"--lr was 0\.00125 and is now 0\.001"):
        runner.plan_resumed_run(previous, replace(previous.config, lr=0.001, epochs=2))
