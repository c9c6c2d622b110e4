"""What a command inherits from where it is started: variables that libraries read as they load."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

# How many threads or processes, or how deep. What is no number from 1 up is an error to some libraries.
_COUNTS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
    "LOKY_MAX_DEPTH",
)
# OpenMP takes a list too, a number for each level of nesting.
_COUNT = re.compile(r"\s*0*[1-9]\d{0,5}(\s*,\s*0*[1-9]\d{0,5})*\s*")
# Of no use here: an error to PyTorch, joblib or librosa unless it is just so, and what rounds in a GPU behind
# the back of --precision.
_UNUSED = re.compile(
    r"TORCH_LOGS|JOBLIB_(MULTIPROCESSING|START_METHOD|TEMP_FOLDER)|LIBROSA_CACHE_\w+|NVIDIA_TF32_OVERRIDE"
)


def settle() -> None:
    """Drop variables that would end this process, or one that it starts."""
    for name, value in list(os.environ.items()):
        if _UNUSED.fullmatch(name) or (name in _COUNTS and not _COUNT.fullmatch(value)):
            del os.environ[name]


@contextmanager
def without_variables(names: str) -> Iterator[None]:
    """Load a library that obeys none of the variables whose names match a regular expression."""
    before = {name: value for name, value in os.environ.items() if re.fullmatch(names, name)}
    for name in before:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(before)
