"""The training step as a CUDA graph: recorded once, then replayed with a single launch.

A step launches more than a thousand kernels, most of them so short that a fast GPU would wait for
Python between them. https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import torch
from torch import Tensor

from musicspectrogan.errors import UserError
from musicspectrogan.training.step import AdversarialStep

# Steps taken before recording: libraries choose their kernels and optimizers make their state in them.
WARM_UP_STEPS = 3


class RecordedStep:
    """Takes a step by replaying it, from the fourth on; batches must all have the same shape.

    Args:
        step: on a CUDA device, and `capturable`.
    """

    def __init__(self, step: AdversarialStep) -> None:
        self.step = step
        # One stream for warming up and recording, because each keeps memory of its own.
        self._stream = torch.cuda.Stream()
        self._warm_ups_left = WARM_UP_STEPS
        self._graph: torch.cuda.CUDAGraph | None = None

    @property
    def is_recorded(self) -> bool:
        """Whether steps are replayed by now."""
        return self._graph is not None

    def __call__(self, *batch: Tensor) -> dict[str, Tensor]:
        """Train on a batch, as AdversarialStep does.

        Raises:
            UserError: the step cannot be recorded, for instance because something in it waits for the device.
        """
        if self._warm_ups_left:
            self._warm_ups_left -= 1
            return self._warm_up(*batch)
        if self._graph is None:
            self._graph = self._record(*batch)
        for place, given in zip(self._inputs, batch, strict=True):
            place.copy_(given)
        self._graph.replay()
        # A copy, because the next replay writes to the same place.
        return dict(zip(self._names, self._values.clone().unbind(), strict=True))

    def _warm_up(self, *batch: Tensor) -> dict[str, Tensor]:
        """Take the step itself, on the stream that it will be recorded on."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            values = self.step(*batch)
        torch.cuda.current_stream().wait_stream(self._stream)
        return values

    def _record(self, *batch: Tensor) -> torch.cuda.CUDAGraph:
        """Record a step without taking it."""
        graph = torch.cuda.CUDAGraph()
        self._inputs = [part.clone() for part in batch]
        before = torch.cuda.current_stream()
        try:
            # "thread_local", for the thread that loads batches may allocate memory meanwhile.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                values = self.step(*self._inputs)
                self._names, self._values = list(values), torch.stack(list(values.values()))
        except RuntimeError as error:
            raise _explained(error) from None
        finally:
            torch.cuda.set_stream(before)  # a capture that fails to end leaves its own current
        return graph


def _explained(error: RuntimeError) -> Exception:
    """What to raise for what went wrong first: ending a capture that is broken fails once more."""
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    if isinstance(error, torch.OutOfMemoryError):
        return torch.OutOfMemoryError(str(error))
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UserError(
        f"the training step cannot be recorded as a CUDA graph ({reason}); give --no-cuda-graph"
    )
