"""The benchmarks run: small, and with CUDA graphs simulated on the CPU."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, environment

from musicspectrogan.data.dataset import load_dataset
from musicspectrogan.models import ModelConfig
from musicspectrogan.training.step import WARM_UP_STEPS

BENCHMARKS = ROOT / "benchmarks"


def run_benchmark(name: str, *arguments: object, cwd: Path) -> str:
    """What a benchmark prints."""
    line = [sys.executable, str(BENCHMARKS / name), *map(str, arguments)]
    done = subprocess.run(
        line, cwd=cwd, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_training_takes_more_images_in_a_round_than_there_are(tmp_path):
    """As on a GPU, where a round takes many epochs."""
    line = ["--device", "cpu", "--tracks", 3]
    line += ["--images", 250, "--widths", 4, "--rounds", 1]  # 4,000 at this width; there are 150
    printed = run_benchmark("training.py", *line, cwd=tmp_path)
    assert printed.startswith("## Training (CPU, ")
    for row in (
        "times as fast as the tutorial's loop",
        "part of the rate of a large",
        "images a second",
    ):
        assert f"| width 4, float32: {row}" in printed


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_training_by_a_recorded_step(stage, images, monkeypatch, precision):
    monkeypatch.syspath_prepend(BENCHMARKS)
    training = importlib.import_module("training")
    dataset = load_dataset(images, split="all")
    model = ModelConfig(64, 2, training.CONFIG.latent_dim, len(dataset.genres))
    ours = training.ProjectLoop(dataset, model, torch.device("cpu"), precision, recorded=True)
    stage.step = ours.take_step
    steps = 12
    ours.train(steps * training.CONFIG.batch_size)
    assert stage.replays == steps - WARM_UP_STEPS
    assert all(weight.isfinite().all() for weight in ours.step.generator.parameters())


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("report")


def test_each_part_of_the_page_is_written_by_itself(report, tmp_path):
    page = tmp_path / "benchmarks.md"
    report.rewrite(page, ["# How fast", "on a CPU"], on_gpu=False)
    assert page.read_text() == f"# How fast\n\non a CPU\n\n{report.NOT_MEASURED}"
    report.rewrite(page, [report.ON_GPU, "40,000"], on_gpu=True)
    assert page.read_text() == "# How fast\n\non a CPU\n\n# On a GPU\n\n40,000\n"
    report.rewrite(page, ["# How fast", "faster"], on_gpu=False)
    assert page.read_text() == "# How fast\n\nfaster\n\n# On a GPU\n\n40,000\n"


def test_the_page_in_the_docs_has_both_parts(report):
    page = report.PAGE.read_text("utf-8")
    assert page.startswith(report.HEAD)
    assert page.count(f"\n{report.ON_GPU}\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_figures_of_a_gpu_need_one():
    line = [sys.executable, str(BENCHMARKS / "report.py"), "--gpu"]
    done = subprocess.run(line, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--gpu: this machine has no GPU that PyTorch can use" in done.stderr


@pytest.mark.slow
def test_a_speedrun_measures_seeds_and_adds_a_row(tmp_path, command):
    command("preprocess.py", "--dataset", "demo", "--output", "demo_images", cwd=tmp_path)
    line = ["--dataset", "demo_images", "--seeds", 1, "--most", 1600]
    printed = run_benchmark("speedrun.py", *line, cwd=tmp_path)
    _, change, median, worst, images, reached, _ = printed.strip("| \n").split(" | ")
    assert (change, images, reached) == ("", "1,600", "0 of 1")  # far too few
    assert float(median) == float(worst) > 1.0


def test_rows_of_a_speedrun_give_median_and_worst(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    speedrun = importlib.import_module("speedrun")
    runs = [
        {"seconds": seconds, "images": 1000 * seconds, "ratio": ratio}
        for seconds, ratio in ((70.4, 1.2), (95.6, 1.5), (60.2, 1.51))
    ]
    row = speedrun.table_row("a change", 1, runs)
    assert "| a change | 70 | 96 | 70,400 | 2 of 3 | " in row
    assert row.endswith(", 1 thread |")
