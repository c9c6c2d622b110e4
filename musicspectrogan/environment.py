"""Check environment variables that libraries read when they are imported."""

from __future__ import annotations

import logging
import os
import re

from musicspectrogan.errors import UserError

logger = logging.getLogger(__name__)

# Variables and the values that they may have. With others joblib, numba, librosa or tqdm raise
# ValueError while they are imported. OpenMP and MKL ignore a wrong value by themselves.
_ALLOWED = (
    (
        r"NUMBA_NUM_THREADS|LOKY_MAX_CPU_COUNT|LOKY_MAX_DEPTH",
        r"\s*0*[1-9]\d*\s*",
        "a number, at least 1",
    ),
    (r"JOBLIB_MULTIPROCESSING|LIBROSA_CACHE_LEVEL", r"\s*\d+\s*", "a number, at least 0"),
    (
        r"TQDM_(DELAY|INITIAL|MAXINTERVAL|MININTERVAL|MINITERS|NCOLS|NROWS|POSITION|SMOOTHING)",
        r"\s*\d+(\.\d*)?\s*",
        "a number, at least 0",
    ),
)


def check_environment() -> None:
    """Raise UserError for a variable that would make an import fail.

    The environment itself is left as it is: it belongs to the user.
    """
    for name, value in os.environ.items():
        for names, values, expected in _ALLOWED:
            if re.fullmatch(names, name) and not re.fullmatch(values, value):
                raise UserError(
                    f"the environment variable {name} is {value!r}, but must be {expected}; "
                    "unset it"
                )
    if "NVIDIA_TF32_OVERRIDE" in os.environ:
        logger.warning("NVIDIA_TF32_OVERRIDE is set, which overrides --precision on NVIDIA GPUs")
