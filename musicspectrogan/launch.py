"""Where to run: which of several processes this is, and the names of devices.

Imports no torch: the first words are said before that is there.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from musicspectrogan.errors import SettingError, did_you_mean

DEVICES = ("auto", "cuda", "mps", "cpu")


@dataclass(frozen=True)
class Place:
    """A process among those that torchrun started, or one that is alone."""

    rank: int = 0
    """Among all; the first one, 0, is the one that talks and writes."""
    size: int = 1
    """How many there are, on all machines."""
    local_rank: int = 0
    """Among those on the same machine, which is the number of its GPU."""


def this_process() -> Place:
    """Its place, from the environment variables of torch.distributed's launchers.

    All of them: a cluster's job may leave some, and a process that is alone would wait for others.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    values = [os.environ.get(name, "") for name in (*names, "MASTER_PORT")]
    if (
        not all(value.isascii() and value.isdecimal() for value in values)
        or "MASTER_ADDR" not in os.environ
    ):
        return Place()
    rank, size, local_rank, _ = map(int, values)
    return Place(rank, size, local_rank) if rank < size else Place()


def check_device(name: str) -> None:
    """Raise SettingError unless `name` can be that of a device; whether it is there is found out later."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", name):
        near = did_you_mean(name.replace("gpu", "cuda"), DEVICES)
        raise SettingError("device", f"{name!r} is not one of {', '.join(DEVICES)}, cuda:N{near}")
