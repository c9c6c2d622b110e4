"""Work spread over processes, of this machine or of a cluster."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import joblib
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)

# This machine's processes, as joblib calls them.
LOCAL = "loky"
# What there is to say about an item that was lost.
LOST = "its worker process died (out of memory, or a crash in a decoder)"
# In the place of a result: the worker that had it died, and its pool goes on.
DIED = object()

# How often a worker looks whether the process that it works for is still there.
SECONDS_BETWEEN_LOOKS = 0.1


def in_parallel(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    lost: Callable[[Item], Result],
    jobs: int | None = None,
    backend: Any = LOCAL,
) -> Iterator[Result]:
    """Yield results as they are finished, in no fixed order.

    The death of a worker process costs the item that killed it, and no other: what was under way is tried
    again by halves, down to single items. So `function` may be called several times for an item. With one
    job there is no process beside this one, and a crash ends it.

    Args:
        function: importable by name; runs in worker processes, or here when `jobs` is 1.
        items: pickled one by one as workers become free, so memory does not grow with their number.
        lost: gives the result of an item whose worker dies whenever it is tried, even alone.
        jobs: processes, -1 for one a core; None for what the surrounding `joblib.parallel_config`
            says. Each runs its numeric libraries on one thread. A cluster has as many as it has.
        backend: LOCAL, or a `cluster.connected`.
    """
    rest = iter(items)
    while suspects := (yield from _until_a_death(function, rest, jobs, backend)):
        if len(suspects) > 1:
            middle = len(suspects) // 2
            for half in (suspects[:middle], suspects[middle:]):
                yield from in_parallel(function, half, lost=lost, jobs=jobs, backend=backend)
        elif (yield from _until_a_death(function, suspects, jobs, backend)):
            yield lost(suspects[0])


def _until_a_death(
    function: Callable[[Item], Result], items: Iterable[Item], jobs: int | None, backend: Any
) -> Generator[Result, None, list[Item]]:
    """Yield results; return the items that workers held when one died, or an empty list after the last."""
    under_way: dict[int, Item] = {}

    def calls() -> Iterator[tuple]:
        for number, item in enumerate(items):
            under_way[number] = item
            yield joblib.delayed(_numbered)(function, number, item)

    # A cluster's workers keep their numeric libraries to one thread of themselves, and outlive this process.
    options = {"inner_max_num_threads": 1, "initializer": _end_with, "initargs": (os.getpid(),)}
    with (
        threadpool_limits(1),
        _silent_tracker(),
        joblib.parallel_config(backend=backend, **(options if backend == LOCAL else {})),
    ):
        pool = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
        try:
            for number, result in pool(calls()):
                if result is not DIED:
                    del under_way[number]
                    yield result
        except TerminatedWorkerError:
            pass  # joblib's pool of local processes ends with any of them
        finally:
            # Idle workers would stay for minutes, and outlive this process if it is killed.
            if backend == LOCAL and pool.n_jobs != 1:
                get_reusable_executor(reuse=True).shutdown()
    if under_way:
        logger.warning(
            "A worker process died; what was under way (%d) is tried again", len(under_way)
        )
    return list(under_way.values())


@contextmanager
def _silent_tracker() -> Iterator[None]:
    """Keep the resource tracker, a process of its own, from complaining of what lost workers leave behind."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(
        filter(None, (before, "ignore:resource_tracker:UserWarning"))
    )
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


def _numbered(function: Callable[[Item], Result], number: int, item: Item) -> tuple[int, Result]:
    """What a worker runs."""
    return number, function(item)


def _end_with(parent: int) -> None:
    """Let this process end soon after its parent, which cannot see to that when it is killed.

    By then the same command may have been given again, and its workers write the same files.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
