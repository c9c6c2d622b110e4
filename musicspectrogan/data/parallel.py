"""Parallel work in the processes of this machine (joblib) or on a dask cluster."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import joblib
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from musicspectrogan.errors import UserError

if TYPE_CHECKING:
    from distributed import Client

Item = TypeVar("Item")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)

# The reason to report for an item whose worker died.
WORKER_DIED = "its worker process died (out of memory, or a crash in a decoder)"

# How often a worker checks that its parent is alive, and when an idle worker exits.
PARENT_CHECK_SECONDS = 0.1
IDLE_SECONDS = 60

# How long to wait for a dask scheduler and its first worker, and how often to count its workers.
CONNECT_SECONDS = 5
WORKERS_SECONDS = 20
CLUSTER_CHECK_SECONDS = 2


def in_parallel(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    on_death: Callable[[Item], Result],
    jobs: int | None = None,
    cluster: Client | None = None,
) -> Iterator[Result]:
    """Yield results as they complete, in any order.

    If a worker process dies, only the item that killed it is lost: unfinished items are retried one
    by one, so `function` may run several times for an item. With one job everything runs in this
    process, and a crash ends it.

    Args:
        function: importable by name.
        items: consumed and pickled as workers become free, so memory does not grow with the count.
        on_death: returns the result of an item whose worker died when it was tried alone.
        jobs: processes, -1 for one per core, None for the setting of `joblib.parallel_config`.
            Numeric libraries use one thread in each.
        cluster: a client of `connect`, to run on its workers instead.
    """
    if cluster is not None:
        yield from _on_cluster(cluster, function, items, on_death)
        return
    rest = iter(items)
    while unfinished := (yield from _until_death(function, rest, jobs)):
        for item in unfinished:
            if (yield from _until_death(function, [item], jobs)):
                yield on_death(item)


def _until_death(
    function: Callable[[Item], Result], items: Iterable[Item], jobs: int | None
) -> Generator[Result, None, list[Item]]:
    """Yield results; return the items that were submitted but not finished when a worker died."""
    running: dict[int, Item] = {}

    def calls() -> Iterator[object]:
        for number, item in enumerate(items):
            running[number] = item
            yield joblib.delayed(_numbered)(function, number, item)

    with (
        threadpool_limits(1),
        joblib.parallel_config(
            backend="loky",
            inner_max_num_threads=1,
            idle_worker_timeout=IDLE_SECONDS,
            initializer=_start_worker,
            initargs=(os.getpid(), str(Path.cwd())),  # idle workers are reused if these are equal
        ),
    ):
        results = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(calls())
        try:
            for number, result in results:
                del running[number]
                yield result
        except BrokenProcessPool:
            logger.warning("A worker process died; unfinished items: %d", len(running))
        finally:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about cancelled tasks, if interrupted
                results.close()
    return list(running.values())


def _numbered(function: Callable[[Item], Result], number: int, item: Item) -> tuple[int, Result]:
    return number, function(item)


def _start_worker(parent: int, folder: str) -> None:
    """Set the working directory, leave Ctrl-C to the parent process, and exit soon after it.

    If the parent is killed, the same command could be started again while workers still write the
    same files.
    """
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def connect(scheduler: str, *shared: Path) -> Iterator[Client]:
    """Connect to a dask scheduler, for `in_parallel`.

    Args:
        scheduler: address, tcp://HOST:PORT.
        shared: folders and files that every worker must see under the same names.

    Raises:
        UserError: distributed is not installed, no scheduler answers, no worker has joined, a
            worker lacks this package or the folders, or the scheduler went away.
    """
    try:
        from distributed import Client  # an extra, and slow to import
        from distributed.comm.core import CommClosedError
    except ImportError:
        raise UserError(
            "--backend dask needs the package distributed, here and where the workers run: "
            "pip install distributed"
        ) from None
    # Errors of the connection are reported in one line below, not in dask's tracebacks.
    for name in ("distributed", "distributed.client", "tornado", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    start_workers = f"`dask worker {scheduler} --nworkers auto --nthreads 1`"
    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS)  # type: ignore[no-untyped-call]
    except OSError:
        raise UserError(
            f"--scheduler {scheduler}: no scheduler answers there within {CONNECT_SECONDS} s; "
            f"start one with `dask scheduler`, and workers with {start_workers}"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKERS_SECONDS)
        except OSError:
            raise UserError(
                f"--scheduler {scheduler}: no worker has joined it within {WORKERS_SECONDS} s; "
                f"start some with {start_workers}"
            ) from None
        try:
            unseen = client.run(_missing_folders, shared)
        except ModuleNotFoundError as error:
            raise UserError(
                f"the dask workers cannot import {error.name}: install this package where they run"
            ) from None
        for worker, folders in unseen.items():
            if folders:
                raise UserError(
                    f"the dask worker {worker} does not see {folders[0]}; all machines must share "
                    "the file system of --input and --output, under the same names"
                )
        try:
            yield client
        except (CancelledError, CommClosedError):
            raise UserError(
                f"the dask scheduler at {scheduler} went away; start it and its workers again, "
                "then repeat the command to continue"
            ) from None


def _missing_folders(folders: tuple[Path, ...]) -> list[Path]:
    return [folder for folder in folders if not folder.exists()]


def _on_cluster(
    client: Client,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    on_death: Callable[[Item], Result],
) -> Iterator[Result]:
    """Yield results from the workers of a cluster, with two items per thread submitted ahead.

    dask retries a task whose worker dies, and raises KilledWorker after a few attempts.
    """
    import distributed

    rest = iter(items)
    running: dict[distributed.Future[Result], Item] = {}
    threads, next_check = 0, 0.0
    while True:
        if time.monotonic() >= next_check:
            before, threads = threads, _count_threads(client, threads)
            next_check = time.monotonic() + CLUSTER_CHECK_SECONDS
            if before and not threads:
                logger.warning(
                    "No dask worker is left; waiting for one: dask worker %s --nthreads 1",
                    client.scheduler_info()["address"],
                )
        for item in islice(rest, max(0, 2 * max(1, threads) - len(running))):
            running[client.submit(function, item, pure=False)] = item
        if not running:
            return
        try:
            done = distributed.wait(  # type: ignore[no-untyped-call]
                list(running), CLUSTER_CHECK_SECONDS, "FIRST_COMPLETED"
            ).done
        except distributed.TimeoutError:
            continue
        for future in done:
            item = running.pop(future)
            try:
                result = future.result()
            except distributed.KilledWorker:
                result = on_death(item)
            yield result


def _count_threads(client: Client, before: int) -> int:
    """Return the threads of all workers, or `before` if the scheduler does not answer."""
    try:
        return sum(client.nthreads().values())  # type: ignore[no-untyped-call]
    except OSError:
        return before
