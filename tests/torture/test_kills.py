"""SIGKILL at any moment: no partial file is used, and the final result is as without kills.

Moments are random, from a seed: a time after the start of a command, or one of its file operations.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Command
from datasets import images_in, long_music, manifest, report
from PIL import Image
from processes import in_background, killed_at, wait_until, workers_below
from runs import SMALL, assert_same_dataset, assert_same_run

from musicspectrogan.training.run_checkpoints import load_checkpoint
from musicspectrogan.training.run_directory import lacks_grid

pytestmark = pytest.mark.slow

Tried = Callable[[str, int], None]

CLIPS, IMAGES_OF_A_CLIP = 24, 20
PREPROCESS = ("preprocess.py", "--dataset", "folder", "--input", "music", "--jobs", 2, "--output")
EPOCHS = 40
TRAIN = ("run.py", "--gan", "cgan", "--epochs", EPOCHS, *SMALL, "--snapshot-every", 48)


def killed(
    rng: random.Random, seconds: float, operations: int, *line: object, cwd: Path
) -> str | None:
    """Run a command and kill it at a random moment; return the moment, or None if it ended before.

    Args:
        seconds: the latest time after the start.
        operations: the latest file operation of its main process.
    """
    group = rng.random() < 0.5
    whom = "with its workers" if group else "alone"
    if rng.random() < 0.5:
        operation = rng.randint(1, operations)
        moment = f"{whom} at file operation {operation}"
        process = in_background(*line, cwd=cwd, env=killed_at(cwd / "shim", operation, group=group))
        stderr = process.communicate(timeout=120)[1]
    else:
        wait = rng.uniform(0.05, seconds)
        moment = f"{whom} after {wait:.3f} s"
        process = in_background(*line, cwd=cwd)
        try:
            stderr = process.communicate(timeout=wait)[1]
        except subprocess.TimeoutExpired:
            (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
            stderr = process.communicate(timeout=60)[1]  # waits until orphans have closed it
    assert process.returncode in (0, -signal.SIGKILL), f"{moment}: {stderr}"
    return moment if process.returncode else None


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, command: Command) -> Path:
    """A working directory with `music`, and two datasets of it, `whole` and `other`."""
    home = tmp_path_factory.mktemp("home")
    long_music(home / "music", CLIPS // 2)
    (home / "music" / "folk" / "broken.wav").write_text("la la la\n" * 100)
    command(*PREPROCESS, "whole", cwd=home)
    command(*PREPROCESS, "other", "--top-db", 60, cwd=home)
    assert len(images_in(home / "whole")) == CLIPS * IMAGES_OF_A_CLIP
    return home


def assert_sound(output: Path) -> None:
    """Assert that images are complete, those in the report exist, and dataset.json is valid."""
    for name in images_in(output):
        with Image.open(output / name) as image:
            image.load()
    if (output / "preprocess_report.csv").exists():
        for line in report(output).values():
            found = len(list((output / line["genre"]).glob(f"{line['track']}_*.png")))
            assert found >= int(line["segments"]), line
    if (output / "dataset.json").exists():
        assert manifest(output)["source"] == "folder"


def test_preprocessing(
    home: Path, tmp_path: Path, command: Command, torture: bool, tried: Tried
) -> None:
    (tmp_path / "music").symlink_to(home / "music")
    wanted, kills, seed = 120 if torture else 4, 0, 0
    while kills < wanted:
        rng = random.Random(seed)
        output = tmp_path / f"out{seed}"
        moments: list[str] = []
        try:
            while moment := killed(rng, 4.0, 40, *PREPROCESS, output, cwd=tmp_path):
                moments.append(moment)
                assert_sound(output)
                if len(moments) == wanted:
                    command(*PREPROCESS, output, cwd=tmp_path)
                    break
            assert_same_dataset(output, home / "whole")
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, kills: {moments}") from error
        kills += len(moments)
        seed += 1
        shutil.rmtree(output)
    tried("kills of preprocess", kills)


def test_overwriting(
    home: Path, tmp_path: Path, command: Command, torture: bool, tried: Tried
) -> None:
    (tmp_path / "music").symlink_to(home / "music")
    for seed in range(20 if torture else 1):
        output = tmp_path / f"out{seed}"
        shutil.copytree(home / "whole", output)
        line = (*PREPROCESS, output, "--top-db", 60)
        moment = killed(random.Random(seed), 1.5, 600, *line, "--overwrite", cwd=tmp_path)
        command(*line, "--overwrite", cwd=tmp_path)
        try:
            assert_same_dataset(output, home / "other")
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, killed {moment}") from error
        shutil.rmtree(output)
        tried("kills of preprocess", int(moment is not None))


def test_workers_end_with_a_parent_that_is_killed(
    home: Path, tmp_path: Path, command: Command
) -> None:
    """And its lock is released at once, while they still run."""
    (tmp_path / "music").symlink_to(home / "music")
    with in_background(*PREPROCESS, "out", cwd=tmp_path) as process:
        workers = wait_until(
            lambda: images_in(tmp_path / "out") and workers_below(process.pid), "no workers"
        )
        os.kill(process.pid, signal.SIGKILL)
        wait_until(
            lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), "orphans", 20
        )
    command(*PREPROCESS, "out", cwd=tmp_path)
    assert_same_dataset(tmp_path / "out", home / "whole")


@pytest.fixture(scope="module")
def reference(
    images: Path, command: Command, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, float]:
    """A run without kills, and the seconds that it took."""
    folder = tmp_path_factory.mktemp("reference")
    begun = time.monotonic()
    command(*TRAIN, "--dataset", images, "--output", "run", cwd=folder)
    return folder / "run", time.monotonic() - begun


@pytest.mark.parametrize("part", range(4))
def test_training(
    part: int,
    images: Path,
    reference: tuple[Path, float],
    *,
    tmp_path: Path,
    command: Command,
    torture: bool,
    tried: Tried,
) -> None:
    """The same command again as long as there is no checkpoint, then --resume."""
    if part and not torture:
        pytest.skip("a part of the long form")
    whole, seconds = reference
    wanted, kills, seed = 12 if torture else 3, 0, 1000 * part
    while kills < wanted:
        rng = random.Random(seed)
        run = tmp_path / f"run{seed}"
        moments: list[str] = []
        line = (*TRAIN, "--dataset", images, "--output", run)
        try:
            while moment := killed(rng, 1.2 * seconds, 60, *line, cwd=tmp_path):
                moments.append(moment)
                for path in run.glob("checkpoints/*.pt"):
                    load_checkpoint(path)
                if any(run.glob("checkpoints/*.pt")) and load_checkpoint(run).epoch == EPOCHS:
                    if lacks_grid(run, f"epoch_{EPOCHS:04d}"):
                        command("run.py", "--resume", run, cwd=tmp_path)
                    break  # training was complete
                begun = (run / "config.yaml").exists()
                if any(run.glob("checkpoints/*.pt")) or (begun and rng.random() < 0.5):
                    line = ("run.py", "--resume", run)
                if len(moments) == wanted:
                    command(*line, cwd=tmp_path)
                    break
            assert_same_run(run, whole)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, kills: {moments}") from error
        kills += len(moments)
        seed += 1
    tried("kills of training", kills)


def test_building_the_cache(
    images: Path, tmp_path: Path, command: Command, torture: bool, tried: Tried
) -> None:
    """Enough images for worker processes, which fill the cache through memory maps."""
    data, some = tmp_path / "data", sorted(images.glob("*/*.png"))
    for number in range(9000):
        path = some[number % len(some)]
        (data / path.parent.name).mkdir(parents=True, exist_ok=True)
        os.link(path, data / path.parent.name / f"{number:05d}.png")
    line = ("run.py", "--dataset", data, *SMALL, "--dry-run")
    command(*line, cwd=tmp_path)
    (cache,) = data.glob(".cache-64-*.npy")
    whole = {path.name: path.read_bytes() for path in data.glob(".cache-64-*")}
    for seed in range(10 if torture else 1):
        rng = random.Random(seed)
        for path in data.glob(".cache-64-*"):
            path.unlink()
        group, wait = seed % 2 == 1, rng.uniform(0.0, 0.5)
        with in_background(*line, cwd=tmp_path) as process:
            wait_until(
                lambda: any(data.glob(f".{cache.name}.*")) or process.poll() is not None,
                "no cache",
                120,
            )
            time.sleep(wait)
            (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
            process.communicate(timeout=60)
        command(*line, cwd=tmp_path)
        found = {path.name: path.read_bytes() for path in data.glob("*.cache-64-*")}
        assert found == whole, f"seed {seed}: group {group}, {wait:.3f} s after its beginning"
        tried("kills of training", 1)
