"""Background commands, kills at file operations, a crashing decoder and a dask cluster."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from conftest import command_line, environment

Found = TypeVar("Found")

DASK = [sys.executable, "-m", "dask"]

# Simulates a decoder that crashes: it kills its process on files of this name.
CRASH = """
import os, signal, soundfile

class Crashing(soundfile.SoundFile):
    def __init__(self, file, *arguments, **options):
        if os.path.basename(str(file)).startswith("crash"):
            os.kill(os.getpid(), signal.SIGKILL)
        super().__init__(file, *arguments, **options)

soundfile.SoundFile = Crashing
"""


def with_crashing_decoder(folder: Path) -> dict[str, str]:
    """An environment with that decoder, from a module in `folder`."""
    (folder / "sitecustomize.py").write_text(CRASH)
    path = os.pathsep.join([str(folder), environment()["PYTHONPATH"]])
    return {**environment(), "PYTHONPATH": path}


# Kills the command before its n-th rename, link, removal, creation or flush of a file or folder:
# the points between which a kill makes a difference.
KILL = """
import os, signal

left = int(os.environ["KILL_AT"])

def numbered(function):
    def counting(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            group = os.environ["KILL_GROUP"] == "True"
            os.kill(0 if group else os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return counting

if os.environ.setdefault("KILL_PROCESS", str(os.getpid())) == str(os.getpid()):  # not in workers
    for name in ("replace", "link", "unlink", "mkdir", "rmdir", "fsync"):
        setattr(os, name, numbered(getattr(os, name)))
"""


def killed_at(folder: Path, operation: int, *, group: bool) -> dict[str, str]:
    """An environment in which a command, or its group, is killed before that file operation."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(KILL)
    path = os.pathsep.join([str(folder), environment()["PYTHONPATH"]])
    return {
        **environment(),
        "PYTHONPATH": path,
        "KILL_AT": str(operation),
        "KILL_GROUP": str(group),
    }


def wait_until(condition: Callable[[], Found], otherwise: str, seconds: float = 90) -> Found:
    """Return the value of the condition as soon as it is true."""
    give_up = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < give_up, otherwise
        time.sleep(0.01)
    return value


def in_background(
    *arguments: object, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start a command in a new session, so that all its processes can be killed together."""
    return subprocess.Popen(
        command_line(*arguments),
        cwd=cwd,
        env=env or environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def workers_below(pid: int) -> list[int]:
    """Worker processes that a process has started."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # a thread or a process that has just ended
            for child in children.read_text().split():
                if (
                    b"resource_tracker import main"
                    not in Path(f"/proc/{child}/cmdline").read_bytes()
                ):
                    found.append(int(child))
    return found


@dataclass
class Cluster:
    """A scheduler and its workers, each process with a log in `folder`."""

    folder: Path
    env: dict[str, str]
    processes: list[subprocess.Popen] = field(default_factory=list)
    address: str = ""

    def start(self, *arguments: object, log: str) -> subprocess.Popen:
        """Start `dask …` in a new session, so that all its processes can be killed together."""
        with open(self.folder / log, "wb") as file:
            line = [*DASK, *map(str, arguments), "--no-dashboard"]
            process = subprocess.Popen(
                line,
                cwd=self.folder,
                env=self.env,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def worker_of(self, nanny: subprocess.Popen) -> int:
        """The nanny's child process, which it restarts when it dies."""
        return wait_until(lambda: next(iter(workers_below(nanny.pid)), None), "no worker process")


@contextmanager
def a_cluster(
    folder: Path, workers: int = 2, env: dict[str, str] | None = None
) -> Iterator[Cluster]:
    """Start a scheduler on a free local port, and workers that have joined it."""
    cluster = Cluster(folder, env or environment())
    try:
        cluster.start("scheduler", "--host", "127.0.0.1", "--port", 0, log="scheduler.log")
        log = folder / "scheduler.log"
        cluster.address = wait_until(
            lambda: (found := re.search(r"tcp://127\.0\.0\.1:\d+", log.read_text())) and found[0],
            "no scheduler",
        )
        for number in range(workers):
            cluster.start(
                "worker", cluster.address, "--nthreads", 1, "--local-directory",
                folder / f"w{number}",
                log=f"worker{number}.log",
            )  # fmt: skip
        wait_until(
            lambda: log.read_text().count("Register worker") >= workers,
            "the workers have not joined",
        )
        yield cluster
    finally:
        for process in cluster.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=30)
