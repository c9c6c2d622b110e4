"""Numbers of runs that are started at the same moment."""

from __future__ import annotations

import multiprocessing
import os
import re
from pathlib import Path

import pytest

from musicspectrogan.training import runner
from musicspectrogan.training.run_directory import claim_next, next_run
from musicspectrogan.training.settings import TrainingConfig

AT_ONCE, EACH = 4, 5


def claim_some(folder: Path, gan: str, together: object) -> None:
    """What one of several processes does."""
    for _ in range(EACH):
        wanted = next_run(gan, "music", folder)
        together.wait(60)
        claimed = claim_next(wanted)
        (claimed / "mine").write_text(str(os.getpid()))


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="a start of its own is slow"
)
def test_processes_at_once_have_a_number_each(tmp_path):
    context = multiprocessing.get_context("fork")
    together = context.Barrier(AT_ONCE)
    processes = [
        context.Process(target=claim_some, args=(tmp_path / "runs", gan, together))
        for gan in ("cgan", "dcgan", "cgan", "other")
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * AT_ONCE
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert all(re.fullmatch(r"\d{5}-(cgan|dcgan|other)-music", name) for name in names), names
    numbers = [int(name[:5]) for name in names]
    assert len(numbers) == len(set(numbers)) == AT_ONCE * EACH
    writers = [(path / "mine").read_text() for path in (tmp_path / "runs").iterdir()]
    assert {writers.count(writer) for writer in writers} == {EACH}


def test_a_number_that_was_held_as_its_process_died_is_passed_over(tmp_path):
    (tmp_path / ".00000").mkdir()
    assert claim_next(next_run("cgan", "music", tmp_path)).name == "00001-cgan-music"
    assert next_run("dcgan", "x", tmp_path).name == "00002-dcgan-x"


def test_two_runs_that_were_planned_alike_go_to_two_directories(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = TrainingConfig(
        gan="cgan",
        dataset=images,
        epochs=1,
        width=2,
        batch_size=8,
        standing_batches=1,
        device="cpu",
    )
    plans = [runner.plan_run(config) for _ in range(2)]
    assert plans[0].run == plans[1].run
    runs = [runner.train(plan) for plan in plans]
    assert [run.name for run in runs] == ["00000-cgan-gtzan", "00001-cgan-gtzan"]
    assert all((run / "checkpoints" / "latest.pt").is_file() for run in runs)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [run.name for run in runs]
