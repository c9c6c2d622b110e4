"""Which of several processes this one is. Imports no torch: the first words are said before that is there."""

from __future__ import annotations

import os
from dataclasses import dataclass


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
    """Its place, from the environment variables of torch.distributed's launchers."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if not all(os.environ.get(name, "").isdecimal() for name in names):
        return Place()
    return Place(*(int(os.environ[name]) for name in names))
