"""How fast a run will be, by some of its steps."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import closing

from torch import Tensor

from musicspectrogan.training.graph import WARM_UP_STEPS
from musicspectrogan.training.trainer import Trainer

# Steps are measured for so long, and one at least.
SECONDS = 2.0


def measured_speed(trainer: Trainer) -> float:
    """Images a second, by steps that nobody keeps: the trainer is spent afterwards."""
    # The first step is slower than the others, and on a GPU one after the warm-up is recorded.
    warm_up = 1 if trainer.batches.device.type == "cpu" else WARM_UP_STEPS + 2
    with closing(_batches(trainer)) as batches:
        for _ in range(warm_up):
            _take_step(trainer, batches)
        begun, taken = time.perf_counter(), 0
        # Asked of the first process, so that all take the same steps together.
        while trainer.world.told_by_main(not taken or time.perf_counter() - begun < SECONDS):
            _take_step(trainer, batches)
            taken += 1
        return taken * trainer.config.batch_size / (time.perf_counter() - begun)


def _take_step(trainer: Trainer, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
    values = trainer.advance(*next(batches))
    next(iter(values.values())).item()  # CPU-GPU sync point: the step is over


def _batches(trainer: Trainer) -> Iterator[tuple[Tensor, Tensor]]:
    for epoch in itertools.count(trainer.epochs_done):
        yield from trainer.batches.epoch(epoch)
