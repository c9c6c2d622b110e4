"""How much of a run's time goes into grids, judgements and checkpoints instead of training."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

logger = logging.getLogger(__name__)

# On a GPU a snapshot can take as long as a hundred thousand images.
SHARE_ON_GPU = 0.1


class SnapshotBudget:
    """Keeps snapshots to a part of the time, by measuring.

    Args:
        share: the largest part of the time, from training's beginning in this process; None for a tenth on a
            GPU, and for no limit on a CPU.
        device: that training is on.
    """

    def __init__(self, share: float | None, device: torch.device) -> None:
        self.share = share or (1.0 if device.type == "cpu" else SHARE_ON_GPU)
        self.start()

    def start(self) -> None:
        """Training begins now."""
        self._begun = time.perf_counter()
        self._spent = 0.0
        self._last = 0.0
        self._expected = 0.0
        self._told = False

    @property
    def training_seconds(self) -> float:
        """What training took so far, without snapshots and previews."""
        return time.perf_counter() - self._begun - self._spent

    @property
    def seconds_of_one(self) -> float:
        """What the last snapshot took, before the first what it is expected to; 0 where that is unknown."""
        return self._last or self._expected

    def seconds_left(self, training: float, snapshots: int) -> float:
        """Until the end of so many seconds of training, with so many snapshots on the way."""
        most = training * self.share / (1 - self.share) if self.share < 1 else float("inf")
        return training + min(snapshots * self.seconds_of_one, most)

    def affords_one(self) -> bool:
        """Whether another snapshot, as long as the last one, stays within the share. The first one does."""
        elapsed = time.perf_counter() - self._begun
        affords = self._spent + self._last <= self.share * (elapsed + self._last)
        if not affords and not self._told:
            self._told = True
            logger.info(
                "A snapshot takes %.1f s: some come later than planned, to leave %.0f %% of the time for "
                "training (--snapshot-share)",
                self._last,
                100 * (1 - self.share),
            )
        return affords

    @contextmanager
    def spent(self) -> Iterator[None]:
        """Measure a snapshot."""
        before = self._spent
        with self.paused():
            yield
        self._last = self._spent - before

    def expect(self, seconds: float) -> None:
        """Be told what a snapshot will take, by a part of one."""
        self._expected = seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens now is neither training nor a snapshot."""
        begun = time.perf_counter()
        yield
        self._spent += time.perf_counter() - begun
