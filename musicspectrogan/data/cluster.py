"""The workers of a dask scheduler, as a place for `in_parallel` to spread work over."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from distributed import Client, KilledWorker
from joblib._dask import DaskDistributedBackend

from musicspectrogan.data.parallel import DIED
from musicspectrogan.errors import UserError

SECONDS_TO_CONNECT = 5
SECONDS_FOR_WORKERS = 20
SECONDS_BETWEEN_LOOKS = 2

logger = logging.getLogger(__name__)


class ClusterBackend(DaskDistributedBackend):
    """joblib's backend for dask, which streams results and keeps few tasks under way, with two gaps filled.

    It never tells joblib of a task that dask itself gave up, so that one would wait for ever; and a cluster
    of one worker looks to joblib like one job, which it would do in this process.
    """

    def submit(self, func: Any, callback: Callable[[Any], None]) -> Future:
        """Hand a batch of calls to the cluster."""

        def tell(future: Future) -> None:
            error = future.exception()
            if isinstance(error, KilledWorker):
                callback([(number, DIED) for _, (_, number, *_), _ in func.items])
            elif error is not None:
                callback(error)

        future = super().submit(func, callback)
        future.add_done_callback(tell)
        return future

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Threads of all workers; joblib keeps twice as many batches under way."""
        return max(2, super().effective_n_jobs(n_jobs))


@contextmanager
def connected(scheduler: str, *shared: Path) -> Iterator[ClusterBackend]:
    """The cluster of a scheduler, as a `backend` for `in_parallel`.

    Args:
        scheduler: its address, `tcp://HOST:PORT`.
        shared: folders that every worker must see under the same names.

    Raises:
        UserError: nobody answers there, no worker has joined, a worker lacks this package or the folders,
            or the scheduler went away.
    """
    # What dask says of a lost connection, with tracebacks, is said in one line here.
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(("distributed", "tornado")):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        client = Client(scheduler, timeout=SECONDS_TO_CONNECT, set_as_default=False)
    except OSError:
        raise UserError(
            f"--scheduler {scheduler}: no scheduler answers there within {SECONDS_TO_CONNECT} s; start one "
            f"with `dask scheduler`, and workers with `dask worker {scheduler} --nworkers auto --nthreads 1`"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=SECONDS_FOR_WORKERS)
        except OSError:
            raise UserError(
                f"--scheduler {scheduler}: no worker has joined it within {SECONDS_FOR_WORKERS} s; start "
                f"some with `dask worker {scheduler} --nworkers auto --nthreads 1`"
            ) from None
        _check_workers(client, shared)
        try:
            with _told_when_none_is_left(client, scheduler):
                # Without workers for a while it waits; joblib would give up.
                yield ClusterBackend(client=client, wait_for_workers_timeout=0)
        except CancelledError:
            raise UserError(
                f"the dask scheduler at {scheduler} went away; start it and its workers again, and give the "
                "same command to go on"
            ) from None


@contextmanager
def _told_when_none_is_left(client: Client, scheduler: str) -> Iterator[None]:
    """Say it once when the last worker has gone: dask then waits for another, for as long as it takes."""
    ended = threading.Event()

    def watch() -> None:
        told = False
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            with suppress(Exception):  # a scheduler that is gone is told of elsewhere
                none_left = not client.nthreads()
                if none_left and not told:
                    logger.warning(
                        "No dask worker is left; the rest waits until one joins: dask worker %s --nthreads 1",
                        scheduler,
                    )
                told = none_left

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _check_workers(client: Client, shared: tuple[Path, ...]) -> None:
    try:
        unseen = client.run(_unseen, shared)
    except ModuleNotFoundError as error:
        raise UserError(
            f"the dask workers cannot import {error.name}: install this package where they run"
        ) from None
    for worker, paths in unseen.items():
        if paths:
            raise UserError(
                f"the dask worker {worker} does not see {paths[0]}; all machines must share the file "
                "system of --input and --output, under the same names"
            )


def _unseen(paths: tuple[Path, ...]) -> list[Path]:
    """Those that are no folders here; runs in every worker."""
    return [path for path in paths if not path.is_dir()]
