"""Fake GPUs and CUDA graphs on the CPU, to run the code for GPUs without one."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest
import torch

from musicspectrogan.training.step import RecordedStep


class FakeCuda:
    """A fake CUDA: streams that are only names, and graphs that take the step again.

    Recording a real graph does not run it. This one does run, so the first replay, which follows at
    once with the same batch, does nothing.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.current = self._stream("default")
        self.is_capturing = False
        self.fails_to_begin: Exception | None = None
        self.fails_to_end: Exception | None = None
        self.replays = 0
        stage = self

        class Graph:
            first = True

            def replay(self) -> None:
                stage.replays += 1
                if not self.first:
                    values = stage.step.step(*stage.step._inputs)
                    stage.step._values = torch.stack(list(values.values()))
                self.first = False

        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "graph", self._capture)
        monkeypatch.setattr(torch.cuda, "Stream", lambda: self._stream("aside"))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: self.current)
        monkeypatch.setattr(torch.cuda, "set_stream", self._set)
        monkeypatch.setattr(torch.cuda, "stream", self._on)

    def record(self, step: object) -> RecordedStep:
        """A recorded step on this stage."""
        self.step = RecordedStep(step)
        return self.step

    @staticmethod
    def _stream(name: str) -> SimpleNamespace:
        return SimpleNamespace(name=name, wait_stream=lambda other: None)

    def _set(self, stream: object) -> None:
        self.current = stream

    @contextlib.contextmanager
    def _on(self, stream: object):
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    def _capture(self, graph: object, *, stream: object, capture_error_mode: str):
        return _Capture(self, stream)


class _Capture:
    """As torch.cuda.graph: if starting or ending fails, its stream stays the current one."""

    def __init__(self, stage: FakeCuda, stream: object) -> None:
        self.stage, self.stream = stage, stream

    def __enter__(self) -> None:
        self.before, self.stage.current = self.stage.current, self.stream
        if self.stage.fails_to_begin:
            raise self.stage.fails_to_begin
        self.stage.is_capturing = True

    def __exit__(self, *failure: object) -> None:
        self.stage.is_capturing = False
        if failure[0] is not None:  # a capture that is broken cannot be ended either
            raise RuntimeError(
                "CUDA error: operation failed due to a previous error during capture"
            )
        if self.stage.fails_to_end:
            raise self.stage.fails_to_end
        self.stage.current = self.before


def fake_gpus(
    monkeypatch: pytest.MonkeyPatch,
    capabilities: list[tuple[int, int]],
    kernels: str = "sm_75 sm_86 sm_120",
) -> list[int]:
    """Make PyTorch see GPUs of these compute capabilities; return a list of those made current."""
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "get_arch_list", kernels.split)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda gpu: capabilities[_number(gpu)])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda gpu: f"Card {_number(gpu)}")
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    for name in ("_cuda_graph_capture_health_check", "_accelerator_graph_capture_health_check"):
        # Adam asks the driver whether its step is being recorded.
        monkeypatch.setattr(torch.optim.Optimizer, name, lambda optimizer: None, raising=False)
    return chosen


def _number(gpu: int | torch.device) -> int:
    return gpu if isinstance(gpu, int) else gpu.index
