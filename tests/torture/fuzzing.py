"""Try many cases in separate processes, with limits on time and memory.

A case that fails is identified by its kind and number. To repeat it:

    python tests/torture/fuzzing.py wav 17 18
"""

from __future__ import annotations

import os
import queue
import resource
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent)]

SECONDS_A_CASE, SECONDS_TO_START = 60.0, 300.0
# A case may raise the peak of resident memory by the first; beyond the second, allocations fail.
MOST_MEMORY, HARD_LIMIT = 700 << 20, 6 << 30
# Stop after that many faults of a kind.
MOST_FAULTS = 20

FAULT, READY = "FAULT", "READY"


def try_cases(kind: str, first: int, last: int) -> tuple[list[str], dict[int, str]]:
    """Try the cases [first, last) of a kind; return the faults and the other results."""
    faults: list[str] = []
    results: dict[int, str] = {}
    while first < last and len(faults) < MOST_FAULTS:
        first = _try_in_a_process(kind, first, last, faults, results)
    return faults, results


def _try_in_a_process(
    kind: str, first: int, last: int, faults: list[str], results: dict[int, str]
) -> int:
    """Try cases until one ends the process; return the next case."""
    line = [sys.executable, str(HERE / "fuzzing.py"), kind, str(first), str(last)]
    options = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "errors": "replace",
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(line, **options, env={**os.environ, "TMPDIR": folder}) as process,
    ):
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_pass_on, args=(process.stdout, lines), daemon=True).start()
        stderr: list[str] = []
        threading.Thread(
            target=lambda: stderr.append(process.stderr.read()[-2000:]), daemon=True
        ).start()
        patience = SECONDS_TO_START
        try:
            while (result := lines.get(timeout=patience)) is not None:
                patience = SECONDS_A_CASE
                if result.startswith(READY):
                    continue
                if result.startswith(FAULT):
                    faults.append(f"({kind}, {first}) {result}")
                else:
                    results[first] = result
                first += 1
                if len(faults) >= MOST_FAULTS:
                    break
            else:
                process.wait()
                if first < last:
                    why = " ".join(stderr)
                    faults.append(
                        f"({kind}, {first}) ended the process with {process.returncode}: {why}"
                    )
        except queue.Empty:
            faults.append(f"({kind}, {first}) took more than {patience:.0f} s")
        if first < last:
            process.kill()
            return first + 1
    return first


def _pass_on(stream, lines: queue.Queue) -> None:
    for line in stream:
        lines.put(line.rstrip("\n"))
    lines.put(None)


def main(kind: str, first: int, last: int) -> None:
    """Try cases in this process, and write a line about each."""
    import logging

    from cases import case
    from victims import try_one

    logging.getLogger("musicspectrogan").addHandler(logging.NullHandler())
    sink = open(os.devnull, "w")  # noqa: SIM115  (as long as the process)
    # Decoders in C write to stdout too, so results go to a copy of it.
    out = os.fdopen(os.dup(1), "w", buffering=1, errors="backslashreplace")
    os.dup2(sink.fileno(), 1)
    case(kind, first)  # import what the kind needs
    with tempfile.TemporaryDirectory() as folder:
        with open("/proc/self/statm") as file:
            taken = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + HARD_LIMIT, resource.RLIM_INFINITY))
        out.write(f"{READY}\n")
        for number in range(first, last):
            data = case(kind, number)
            before = _peak()
            try:
                result = try_one(kind, data, Path(folder) / str(number))
            except Exception:
                result = f"{FAULT} {' | '.join(traceback.format_exc().splitlines()[-9:])}"
            if _peak() - before > MOST_MEMORY:
                result = f"{FAULT} took {(_peak() - before) >> 20} MiB"
            out.write(f"{result}\n")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:4]))
