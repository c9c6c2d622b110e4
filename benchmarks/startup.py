"""Time until training begins, and until a command prints its help.

    PYTHONPATH=. python benchmarks/startup.py

Makes demo music and 80,000 PNGs of it, and prints a section of docs/benchmarks.md.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from common import PROJECT, Table, in_turn, log_progress, ratios, run_command, work_folder
from PIL import Image

from musicspectrogan.cli import COMMANDS
from musicspectrogan.data.dataset import load_dataset

ROUNDS = 3
IMAGES = 80_000
DISTINCT = 200

NOTES = """
The cache key consists of the names of all files, the times of their folders, and size and time of
up to 4,096 of the files: checking each of 80,000 files took 0.4 s, more than everything else. The
workers write their own rows into the cache's memory map; sending pixels to the main process took a
third longer.
"""


def make_images(work: Path) -> Path:
    """Make class folders of IMAGES PNGs: those of DISTINCT clips, and hard links to them."""
    made = (
        "--input",
        work / "music",
        "--output",
        work / "made",
        "--tracks-per-genre",
        DISTINCT // 5,
    )
    run_command("preprocess.py", "--dataset", "demo", *made)
    originals = sorted((work / "made").glob("*/*.png"))
    root = work / "images"
    for number in range(IMAGES):
        original = originals[number % len(originals)]
        genre = root / original.parent.name
        genre.mkdir(parents=True, exist_ok=True)
        os.link(original, genre / f"{original.stem}.{number}.png")
    return root


def load(root: Path, *, cached: bool) -> float:
    """Return the seconds to open the dataset."""
    if not cached:
        forget(root)
    start = time.perf_counter()
    assert len(load_dataset(root)) == IMAGES
    return time.perf_counter() - start


def forget(root: Path) -> None:
    """Remove the cache."""
    for path in root.glob(".cache-*"):
        path.unlink()


def decode(paths: list[Path]) -> None:
    """Decode images with Pillow alone, for the limit."""
    for path in paths:
        with Image.open(path) as image:
            np.asarray(image)


def decode_on_all_cores(paths: list[Path], pool: ProcessPoolExecutor) -> None:
    """The limit: each core decodes its share and keeps nothing."""
    cores = os.cpu_count() or 1
    list(pool.map(decode, [paths[core::cores] for core in range(cores)]))


def first_step(root: Path, work: Path, *, cached: bool) -> float:
    """Return the seconds from the command to the log line of the first step."""
    if not cached:
        forget(root)
    flags = (
        "--width",
        4,
        "--log-every",
        1,
        "--output",
        work / f"run{time.time_ns()}",
        "--device",
        "cpu",
    )
    line = [sys.executable, "run.py", "--dataset", root, *flags]
    start = time.perf_counter()
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(list(map(str, line)), cwd=PROJECT, text=True, **pipes) as process:
        assert process.stderr is not None
        for printed in process.stderr:
            if "[Batch 1/" in printed:
                took = time.perf_counter() - start
                process.terminate()
                process.stderr.read()
                return took
    raise RuntimeError("training did not begin")


def dataset_rows(table: Table, work: Path) -> None:
    """Open the dataset the first time, and from the cache."""
    log_progress("Making images")
    root = make_images(work)
    paths = sorted(root.glob("*/*.png"))
    with ProcessPoolExecutor() as pool:
        took = in_turn(
            {
                "limit": lambda: decode_on_all_cores(paths, pool),
                "first": lambda: load(root, cached=False),
                "cached": lambda: load(root, cached=True),
            },
            ROUNDS,
        )
    first = statistics.median(took["first"])
    table.add_ratio(
        f"{IMAGES:,} PNGs the first time, part of the rate of Pillow on all cores",
        ratios(took["limit"], took["first"]),
        None,
        f"PNG decoding; {first:.1f} s, of which half a second is for starting processes",
    )
    table.add_ratio(
        "the second time, times as fast as the first",
        ratios(took["first"], took["cached"]),
        20,
        f"listing the names; {statistics.median(took['cached']):.2f} s",
    )
    steps = in_turn(
        {
            "first": lambda: first_step(root, work, cached=False),
            "cached": lambda: first_step(root, work, cached=True),
        },
        ROUNDS,
    )
    table.add(
        "from the command to the first step, first time and from the cache",
        ", ".join(f"{statistics.median(seconds):.1f} s" for seconds in steps.values()),
        "",
        None,
        "importing torch with its compiler, TensorBoard and scikit-learn",
    )


def help_rows(table: Table) -> None:
    """Run every command with `--help`."""
    alternatives = {
        name: lambda name=name: run_command("-m", "musicspectrogan", name, "--help")[0]
        for name in COMMANDS
    }
    seconds = in_turn(alternatives, ROUNDS)
    took = {name: statistics.median(of_command) for name, of_command in seconds.items()}
    slowest = max(took, key=took.__getitem__)
    table.add(
        f"`--help`, the slowest of {len(took)} commands ({slowest})",
        f"{took[slowest]:.2f} s",
        "under 0.5 s",
        took[slowest] < 0.5,
        "importing numpy",
    )


def main() -> None:
    """Measure, and print the section."""
    table = Table()
    help_rows(table)
    with work_folder() as work:
        dataset_rows(table, work)
    print(f"## Start-up\n\n{table}\n{NOTES}")


if __name__ == "__main__":
    main()
