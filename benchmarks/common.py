"""What the speed benchmarks share: ways taken in turn, ratios round by round, and the table.

Absolute times mean little on a machine that others use too. So whatever is compared runs in turn in the same
rounds, the first of which only warms up, and what is told is the median of the rounds' own ratios.
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

# Memory of processes: the largest of a command and all that it started.
_PEAK_OF = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


@dataclass
class Table:
    """Rows of figures beside their targets, in Markdown."""

    rows: list[str] = field(default_factory=list)

    def add(self, what: str, measured: str, target: str, met: bool | None, bound: str) -> None:
        """A row: `met` is None where there is no target or nothing could be measured."""
        verdict = {True: "met", False: "**missed**", None: ""}[met]
        self.rows.append(f"| {what} | {measured} | {target} | {verdict} | {bound} |")
        tell(f"{what}: {measured} (target {target or 'none'})")

    def add_ratio(self, what: str, ratios: list[float], at_least: float | None, bound: str) -> None:
        """A row for a ratio that was measured in every round."""
        median = statistics.median(ratios)
        measured = f"{median:.3g} ({min(ratios):.3g} to {max(ratios):.3g})"
        met = None if at_least is None else median >= at_least
        self.add(what, measured, f"at least {at_least:g}" if at_least else "", met, bound)

    def __str__(self) -> str:
        head = "| what | measured | target | | what bounds it now |\n|---|---|---|---|---|"
        return "\n".join([head, *self.rows])


def tell(line: str) -> None:
    """Progress, beside the report on stdout."""
    print(line, file=sys.stderr, flush=True)


def in_turn(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds that each way takes in each round; one round more, the first, is not counted.

    A way that measures itself returns its seconds as a float.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            own = way()
            took = own if isinstance(own, float) else time.perf_counter() - start
            if number:
                seconds[name].append(took)
        tell(
            f"  round {number}: " + ", ".join(f"{n} {s[-1]:.3g} s" for n, s in seconds.items() if s)
        )
    return seconds


def ratios(slower: list[float], faster: list[float]) -> list[float]:
    """How many times as long the one took as the other, round by round."""
    return [a / b for a, b in zip(slower, faster, strict=True)]


def run_command(*arguments: object) -> tuple[float, float]:
    """Seconds and peak memory in MB (of the largest process) of a command of the project."""
    line = [sys.executable, "-c", _PEAK_OF, sys.executable, *map(str, arguments)]
    start = time.perf_counter()
    done = subprocess.run(line, cwd=PROJECT, stdout=subprocess.PIPE, check=True, text=True)
    return time.perf_counter() - start, int(done.stdout) / 1024


@contextmanager
def work_folder() -> Iterator[Path]:
    """A folder for files, in memory where the system has such a place: disks vary tenfold from run to run."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@contextmanager
def one_core() -> Iterator[None]:
    """This process on a single core, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
