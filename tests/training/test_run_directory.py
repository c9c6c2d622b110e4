"""Run directories: whose they are, their numbers, and what is in them."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import shutil
from pathlib import Path

import filelock
import pytest

from musicspectrogan.progress import progress_bar
from musicspectrogan.training import run_directory, runner
from musicspectrogan.training.run_checkpoints import load_checkpoint
from musicspectrogan.training.run_directory import claim_next, next_run
from musicspectrogan.training.settings import TrainingConfig

AT_ONCE, EACH = 4, 5
SMALL = ("--width", 4, "--batch-size", 4, "--standing-batches", 3, "--device", "cpu")


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


def test_work_beside_training_leaves_its_bar_out_of_the_log(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("musicspectrogan"), "propagate", True)
    caplog.set_level(logging.INFO, logger="musicspectrogan")
    with run_directory.log_to(tmp_path):
        with progress_bar(total=3, description="Comparing", unit="set") as bar:
            bar.update(3)
        run_directory.logger.info("Compared")
    assert [entry[20:] for entry in (tmp_path / "log.txt").read_text().splitlines()] == ["Compared"]
    assert caplog.messages[0].startswith("Comparing: 3/3 [") and caplog.messages[-1] == "Compared"


def test_two_runs_cannot_write_to_one_directory(trained, command, tmp_path):
    with filelock.FileLock(trained / ".lock"):
        told = command("run.py", "--resume", trained, "--epochs", 9, cwd=tmp_path, status=2)
    assert "another run is training there" in told.stderr


def test_a_failed_start_leaves_nothing_in_the_way(trained, images, command, tmp_path):
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
    command(*line, "--init-from", trained, cwd=tmp_path)
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


def test_a_checkpoint_that_lies_in_no_run_is_not_resumed(trained, command, tmp_path):
    (tmp_path / "sub").mkdir()
    shutil.copy(trained / "checkpoints" / "latest.pt", tmp_path / "sub" / "mine.pt")
    told = command("run.py", "--resume", "sub/mine.pt", "--epochs", 9, cwd=tmp_path, status=2)
    assert "--init-from sub/mine.pt" in told.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["sub"]


def test_an_unstarted_run_gives_up_its_own_grids_alone(tmp_path: Path) -> None:
    """Its folder may be the user's, with a copy of the settings and other pictures and files."""
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
