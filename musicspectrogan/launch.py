"""This process's rank among those of a distributed run, and the names of devices; without torch."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from musicspectrogan.errors import SettingError, did_you_mean

DEVICES = ("auto", "cuda", "mps", "cpu")


@dataclass(frozen=True)
class ProcessRank:
    """A process among those that torchrun started, or a single one."""

    rank: int = 0
    """Among all processes; rank 0 logs and writes."""
    world_size: int = 1
    """Number of processes on all machines."""
    local_rank: int = 0
    """Among those on the same machine: the number of its GPU."""


def this_process() -> ProcessRank:
    """This process's rank, from the environment variables of torch.distributed's launchers.

    All of them must be set: a cluster's job may leave some in a shell, and a single process would
    wait for others.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT")
    values = [os.environ.get(name, "") for name in names]
    are_numbers = all(value.isascii() and value.isdecimal() for value in values)
    if not are_numbers or "MASTER_ADDR" not in os.environ:
        return ProcessRank()
    rank, world_size, local_rank, _ = map(int, values)
    return ProcessRank(rank, world_size, local_rank) if rank < world_size else ProcessRank()


def check_device(name: str) -> None:
    """Raise SettingError unless `name` names a device, which this machine need not have."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", name):
        near = did_you_mean(name.replace("gpu", "cuda"), DEVICES)
        raise SettingError("device", f"{name!r} is not one of {', '.join(DEVICES)}, cuda:N{near}")
