"""Shared by the speed benchmarks: alternating measurements, ratios by round, and the table.

Absolute times mean little on a machine with other work. So alternatives run in turn in the same
rounds, the first of which only warms up, and the result is the median of the rounds' own ratios.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]

# Peak memory of the largest process among a command and all that it started.
_PEAK_OF = """
import resource, subprocess, sys
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
status = subprocess.run(sys.argv[1:], **quiet).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


@dataclass
class Table:
    """A Markdown table of measurements and their targets."""

    rows: list[str] = field(default_factory=list)

    def add(self, what: str, measured: str, target: str, met: bool | None, limit: str) -> None:
        """Add a row; `met` is None without a target or a measurement."""
        verdict = {True: "met", False: "**missed**", None: ""}[met]
        self.rows.append(f"| {what} | {measured} | {target} | {verdict} | {limit} |")
        log_progress(f"{what}: {measured} (target {target or 'none'})")

    def add_ratio(self, what: str, ratios: list[float], at_least: float | None, limit: str) -> None:
        """Add a row for a ratio that was measured in every round."""
        median = statistics.median(ratios)
        measured = f"{median:.3g} ({min(ratios):.3g} to {max(ratios):.3g})"
        met = None if at_least is None else median >= at_least
        self.add(what, measured, f"at least {at_least:g}" if at_least else "", met, limit)

    def __str__(self) -> str:
        head = "| what | measured | target | | current limit |\n|---|---|---|---|---|"
        return "\n".join([head, *self.rows])


def log_progress(line: str) -> None:
    """Print to stderr; the report goes to stdout."""
    print(line, file=sys.stderr, flush=True)


def in_turn(alternatives: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds that each alternative takes in each round, after one round of warm-up.

    An alternative that measures itself returns its seconds as a float.
    """
    seconds: dict[str, list[float]] = {name: [] for name in alternatives}
    for number in range(rounds + 1):
        for name, run in alternatives.items():
            start = time.perf_counter()
            returned = run()
            elapsed = time.perf_counter() - start
            took = returned if isinstance(returned, float) else elapsed
            if number:
                seconds[name].append(took)
        log_progress(
            f"  round {number}: " + ", ".join(f"{n} {s[-1]:.3g} s" for n, s in seconds.items() if s)
        )
    return seconds


def ratios(slower: list[float], faster: list[float]) -> list[float]:
    """Return slower / faster for each round."""
    return [a / b for a, b in zip(slower, faster, strict=True)]


def run_command(*arguments: object) -> tuple[float, float]:
    """Run a command of the project; return seconds and peak memory of its largest process in MB."""
    line = [sys.executable, "-c", _PEAK_OF, sys.executable, *map(str, arguments)]
    start = time.perf_counter()
    done = subprocess.run(line, cwd=PROJECT, stdout=subprocess.PIPE, check=True, text=True)
    return time.perf_counter() - start, int(done.stdout) / 1024


@contextmanager
def work_folder() -> Iterator[Path]:
    """A temporary folder, in memory if possible: disks vary tenfold from run to run."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@contextmanager
def one_core() -> Iterator[None]:
    """Pin this process to a single core, if the system supports it."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
