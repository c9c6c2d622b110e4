"""Parallel work: the death of a worker, errors, and the working directory."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from musicspectrogan.data.parallel import in_parallel


def negate(number: int) -> int:
    """Kill the worker for 7, and fail for 100."""
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 100:
        raise OSError(28, "No space left on device")
    return -number


def working_directory(_: int) -> str:
    return str(Path.cwd())


def test_a_dead_worker_costs_one_item() -> None:
    results = in_parallel(negate, range(20), on_death=lambda number: 1000 + number, jobs=2)
    expected = [1007 if number == 7 else -number for number in range(20)]
    assert sorted(results) == sorted(expected)


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_is_raised(jobs: int) -> None:
    with pytest.raises(OSError, match="No space left"):
        list(in_parallel(negate, [1, 100], on_death=abs, jobs=jobs))


def test_workers_have_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        found = set(in_parallel(working_directory, range(3), on_death=str, jobs=2))
        assert found == {str(tmp_path / name)}
