"""The training step as a CUDA graph: recorded once, then replayed with a single launch.

A step launches more than a thousand kernels, most of them so short that a fast GPU would wait for
Python between them. https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from musicspectrogan.training.step import AdversarialStep

logger = logging.getLogger(__name__)

# Steps taken before recording: libraries choose their kernels and optimizers make their state in them.
WARM_UP_STEPS = 3


class GraphedStep(AdversarialStep):
    """An AdversarialStep on a CUDA device, for batches that all have the same shape.

    Where a step cannot be recorded, for instance because something in it waits for the device, it is
    taken kernel by kernel as ever, and a line says so.
    """

    _steps_taken = 0
    _graph: torch.cuda.CUDAGraph | None = None
    _recordable = True
    _aside: torch.cuda.Stream | None = None

    def __call__(self, *batch: Tensor) -> dict[str, Tensor]:
        """Train on a batch, as AdversarialStep does."""
        if self._graph is None and self._recordable and self._steps_taken >= WARM_UP_STEPS:
            self._record(*batch)
        self._steps_taken += 1
        if self._graph is None:
            return self._step_aside(*batch)
        for place, given in zip(self._inputs, batch, strict=True):
            place.copy_(given)
        self._graph.replay()
        # A copy, because the next replay writes to the same place.
        return dict(zip(self._names, self._values.clone().unbind(), strict=True))

    def _record(self, *batch: Tensor) -> None:
        """Record a step without taking it."""
        graph = torch.cuda.CUDAGraph()
        self._inputs = [part.clone() for part in batch]
        try:
            # "thread_local", for the thread that loads batches may allocate memory meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                values = super().__call__(*self._inputs)
                self._names, self._values = list(values), torch.stack(list(values.values()))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            logger.warning("This step cannot be a CUDA graph (%s): training goes on, slower", reason)
            self._recordable = False
            return
        self._graph = graph

    def _step_aside(self, *batch: Tensor) -> dict[str, Tensor]:
        """A step on a stream of its own, as what is to be recorded later must be warmed up."""
        # Always the same, because each stream keeps memory of its own.
        self._aside = self._aside or torch.cuda.Stream()
        self._aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._aside):
            values = super().__call__(*batch)
        torch.cuda.current_stream().wait_stream(self._aside)
        return values
