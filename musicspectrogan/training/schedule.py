"""When a run makes snapshots and evaluates, how its rates fall, and when it ends."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from musicspectrogan.counts import format_count, format_duration
from musicspectrogan.training.settings import TrainingConfig

logger = logging.getLogger(__name__)

# Length of a run without one: that of the classics, which on small datasets would be too short.
USUAL_EPOCHS, LEAST_IMAGES = 50, 25_000
# With any recipe, samples of a run that ends earlier are rough.
ROUGH_BELOW = 50_000
# Grids without a checkpoint come at the start, and after so many images.
PREVIEWS = (0, 1_000, 3_000)
# The first snapshots are evenly spaced; then each comes when the run is this much longer than at
# the last. GANs change fastest early, and on a fast GPU even spacing takes longer than training.
EVEN = 10
GROWTH = 1.1
# The fraction of the learning rate and of the penalties' weights that remains in the end.
ANNEALED = 0.1
# On a GPU a snapshot can take as long as a hundred thousand images.
SHARE_ON_GPU = 0.1


def with_length(config: TrainingConfig, steps_per_epoch: int) -> TrainingConfig:
    """The same settings with a length: their own, or the usual one."""
    if config.images or config.epochs:
        return config
    if USUAL_EPOCHS * steps_per_epoch * config.batch_size >= LEAST_IMAGES:
        return replace(config, epochs=USUAL_EPOCHS)
    return replace(config, images=LEAST_IMAGES)


class Schedule:
    """Everything in a run that depends on its position alone.

    Steps are counted from 1: step n is the one after which n have been taken.

    Args:
        config: has the length, and `snapshot_every` and `eval_every` in images.
        steps_per_epoch: snapshots come at the ends of epochs.
    """

    def __init__(self, config: TrainingConfig, steps_per_epoch: int) -> None:
        self.config = with_length(config, steps_per_epoch)
        self.steps_per_epoch = steps_per_epoch

    @property
    def steps(self) -> int:
        """Steps in all: the last is the first one that reaches the length."""
        if self.config.epochs:
            return self.config.epochs * self.steps_per_epoch
        assert self.config.images is not None
        return -(-self.config.images // self.config.batch_size)

    @property
    def images(self) -> int:
        """Images shown in all."""
        return self.steps * self.config.batch_size

    @property
    def epochs(self) -> int:
        """Epochs that are begun; the last need not be complete."""
        return -(-self.steps // self.steps_per_epoch)

    def describe(self, done: int, seconds: float, images_per_second: float) -> str:
        """The length in words, and how long it takes from step `done` on."""
        rest = f" ({format_count(self.steps - done, 'step')} left)" if done else ""
        length = f"{format_count(self.images, 'image')} in {format_count(self.steps, 'step')}{rest}"
        return f"{length}: about {format_duration(seconds)} at {images_per_second:,.0f} images/s"

    def position_name(self, step: int) -> str:
        """Sortable file name: epoch_0007 after it, epoch_0007_images_00012345 within the next."""
        epoch, within = divmod(step, self.steps_per_epoch)
        images = f"_images_{step * self.config.batch_size:08d}" if within else ""
        return f"epoch_{epoch:04d}{images}"

    def preview_due(self, step: int) -> bool:
        """Whether a grid comes after this step, or before the first, without a snapshot."""
        reached = {-(-images // self.config.batch_size) for images in PREVIEWS}
        return step in reached and not self.snapshot_due(step)

    def snapshot_due(self, step: int) -> bool:
        """Whether a snapshot comes after this step, as it does after the last."""
        return step == self.steps or self._is_due(step, self.config.snapshot_every)

    def last_snapshot(self, step: int) -> int:
        """The last end of an epoch up to this step at which a snapshot was due; 0 if none was."""
        step -= step % self.steps_per_epoch
        while step and not self._is_due(step, self.config.snapshot_every):
            step -= self.steps_per_epoch
        return step

    def snapshots_left(self, step: int) -> int:
        """Number of snapshots from this step on, including the one after it, if all are on time."""
        every = self.config.snapshot_every
        ended, whole = (max(0, s) // self.steps_per_epoch for s in (step - 1, self.steps))
        done, due = (self._marks(epochs * self.steps_per_epoch, every) for epochs in (ended, whole))
        is_extra = not self._is_due(self.steps, every)  # the one at the end of the run
        return min(due - done + is_extra, self.epochs - ended)

    def evaluation_due(self, step: int, since: int) -> bool:
        """Whether the snapshot after this step evaluates, if the last came after step `since`."""
        if step == self.steps:
            return True
        done, now = (self._marks(s, self.config.eval_every) for s in (since, step))
        return now > done

    def annealing(self, images_seen: int) -> float:
        """The factor of the learning rate and the penalties' weights: from 1, along half a cosine.

        I. Loshchilov, F. Hutter, SGDR, ICLR 2017, arXiv:1608.03983, without restarts; for the
        penalties, N. Huang et al., arXiv:2501.05441, section 4.
        """
        if not self.config.anneal_images:
            return 1.0
        progress = min(1.0, images_seen / self.config.anneal_images)
        remaining = 0.5 + 0.5 * math.cos(math.pi * progress)
        return ANNEALED + (1.0 - ANNEALED) * remaining

    def _is_due(self, step: int, every: int) -> bool:
        """Whether this step ends an epoch, and a mark was passed within that epoch."""
        if step % self.steps_per_epoch:
            return False
        return self._marks(step, every) > self._marks(step - self.steps_per_epoch, every)

    def _marks(self, step: int, every: int) -> int:
        """Number of marks passed by this step: evenly spaced at first, then growing apart."""
        images = step * self.config.batch_size
        if images <= EVEN * every:
            return max(0, images) // every
        return EVEN + int(math.log(images / (EVEN * every), GROWTH))


class SnapshotBudget:
    """Limits snapshots to a share of the time, by measuring them.

    Args:
        share: the largest share of the time since training began in this process; None for a tenth
            on a GPU, and no limit on a CPU.
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
        self._estimate = 0.0
        self._logged = False

    @property
    def training_seconds(self) -> float:
        """Time that training took so far, without snapshots and previews."""
        return time.perf_counter() - self._begun - self._spent

    @property
    def seconds_per_snapshot(self) -> float:
        """Time of the last snapshot, or the estimate before the first; 0 if unknown."""
        return self._last or self._estimate

    def seconds_left(self, training: float, snapshots: int) -> float:
        """Time for so many seconds of training with so many snapshots."""
        most = training * self.share / (1 - self.share) if self.share < 1 else float("inf")
        return training + min(snapshots * self.seconds_per_snapshot, most)

    def allows_snapshot(self) -> bool:
        """Whether another snapshot, as long as the last, stays within the share."""
        elapsed = time.perf_counter() - self._begun
        allowed = self._spent + self._last <= self.share * (elapsed + self._last)
        if not allowed and not self._logged:
            self._logged = True
            logger.info(
                "A snapshot takes %.1f s: some come later than planned, to leave %.0f %% of the "
                "time for training (--snapshot-share)",
                self._last,
                100 * (1 - self.share),
            )
        return allowed

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Measure a snapshot."""
        before = self._spent
        with self.paused():
            yield
        self._last = self._spent - before

    def estimate(self, seconds: float) -> None:
        """Set what a snapshot takes, as long as none has been measured."""
        self._estimate = seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count what happens now as no training, but as no snapshot either."""
        begun = time.perf_counter()
        yield
        self._spent += time.perf_counter() - begun
