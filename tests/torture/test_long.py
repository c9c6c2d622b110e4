"""Long training runs: the log is on the disk at once, and memory does not grow."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import command_line, environment
from processes import in_background, wait_until
from runs import SMALL

from musicspectrogan.training.run_checkpoints import load_checkpoint

pytestmark = pytest.mark.slow

Tried = Callable[[str, int], None]

# Of the resident memory: allocator and libraries vary.
GROWTH_ALLOWED = 1.03


def resident(pid: int) -> int:
    """Return the resident memory in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def four(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images of two genres: one step an epoch."""
    folder = tmp_path_factory.mktemp("four")
    for genre in ("jazz", "rock"):
        (folder / genre).mkdir()
        for path in sorted((images / genre).glob("*.png"))[:2]:
            shutil.copy(path, folder / genre)
    return folder


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc to read memory from")
def test_memory_is_flat(
    four: Path,
    tmp_path: Path,
    *,
    torture: bool,
    tried: Tried,
    record_property: Callable[[str, object], None],
) -> None:
    """Snapshots are as frequent as in a run of millions of images, metrics every five steps."""
    epochs = 10_000 if torture else 200
    line = (
        "run.py",
        "--gan",
        "cgan",
        "--dataset",
        four,
        *SMALL,
        "--epochs",
        epochs,
        "--log-every",
        5,
    )
    line += ("--snapshot-every", 40, "--output", "run")
    seen: list[tuple[int, int]] = []  # rows of metrics, bytes
    metrics, stderr = tmp_path / "run" / "metrics.csv", tmp_path / "stderr.txt"
    with (
        open(stderr, "w") as file,
        subprocess.Popen(
            command_line(*line), cwd=tmp_path, env=environment(), stderr=file
        ) as process,
    ):
        while process.poll() is None:
            if metrics.exists():
                seen.append((metrics.read_bytes().count(b"\n"), resident(process.pid)))
            time.sleep(0.05)
    assert process.returncode == 0, stderr.read_text()
    with open(metrics, newline="") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == sorted(set(steps))
    assert set(range(5, epochs + 1, 5)) <= set(steps)
    assert load_checkpoint(tmp_path / "run").epoch == epochs
    third = len(steps) / 3
    early = [
        size for rows, size in seen if third / 2 < rows < third
    ]  # after the first steps, which allocate what all need
    late = [size for rows, size in seen if rows > 2 * third]
    assert early and late, seen
    before, after = statistics.median(early) / 1e6, statistics.median(late) / 1e6
    record_property("resident", f"{before:.1f} MB early, {after:.1f} MB late")
    assert after / before < (GROWTH_ALLOWED if torture else 1.1), (
        f"{before:.1f} MB grew to {after:.1f} MB"
    )
    tried("epochs of one run", epochs)


def test_a_kill_loses_nothing_that_was_logged(four: Path, tmp_path: Path, tried: Tried) -> None:
    """Each line on the terminal is in log.txt and metrics.csv before the next line."""
    line = (
        "run.py",
        "--dataset",
        four,
        *SMALL,
        "--epochs",
        5000,
        "--log-every",
        5,
        "--output",
        "run",
    )
    with in_background(*line, cwd=tmp_path) as process:
        wait_until((tmp_path / "run" / "metrics.csv").exists, "no metrics")
        lines = [process.stderr.readline().rstrip("\n") for _ in range(20)]
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
    log = (tmp_path / "run" / "log.txt").read_text()
    ticks = [line for line in lines if line.startswith("[Epoch ")]
    assert len(ticks) > 5
    assert all(line in log for line in ticks[:-1])
    with open(tmp_path / "run" / "metrics.csv", newline="") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps[: len(ticks) - 1] == [5 * (number + 1) for number in range(len(ticks) - 1)]
    tried("kills of training", 1)
