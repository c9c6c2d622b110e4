"""Work spread over processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import joblib
from joblib.externals.loky import get_reusable_executor
from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(
    function: Callable[[Item], Result], items: Iterable[Item], jobs: int | None = None
) -> Iterator[Result]:
    """Yield results as they are finished, in no fixed order.

    Args:
        function: importable by name; runs in worker processes, or here when `jobs` is 1.
        items: pickled one by one as workers become free, so memory does not grow with their number.
        jobs: processes, -1 for one a core; None for what the surrounding `joblib.parallel_config`
            says. Each runs its numeric libraries on one thread.
    """
    with threadpool_limits(1), joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        pool = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
        try:
            yield from pool(joblib.delayed(function)(item) for item in items)
        finally:
            # Idle workers would stay for minutes, and outlive this process if it is killed.
            if pool.n_jobs != 1:
                get_reusable_executor(reuse=True).shutdown()
