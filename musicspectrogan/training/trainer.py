"""The training loop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from musicspectrogan.counts import format_duration
from musicspectrogan.errors import Interrupted, UserError
from musicspectrogan.stopping import stop_on_signals
from musicspectrogan.tensors import generator_at
from musicspectrogan.training.batches import Batches
from musicspectrogan.training.distributed import SINGLE_PROCESS, Distributed
from musicspectrogan.training.ema import AveragedGenerator
from musicspectrogan.training.metrics import MetricsLogger, Tick
from musicspectrogan.training.schedule import Schedule, SnapshotBudget
from musicspectrogan.training.settings import TrainingConfig
from musicspectrogan.training.snapshots import Snapshots
from musicspectrogan.training.step import VIEWS, AdversarialStep

logger = logging.getLogger(__name__)

# Standing statistics of a preview take at most this many batches: it is only looked at.
PREVIEW_BATCHES = 10


class Trainer:
    """Trains a pair of networks; its position in the run is the number of steps taken.

    Args:
        config: the run's settings.
        batches: full batches on the device.
        step: holds the networks and the optimizers, updates them on a batch, and returns named
            scalars on the device.
        ema: follows the generator.
        take_step: does what `step` does, for instance by replaying it; None for `step` itself.
        steps_taken: where a resumed run continues.
        distributed: the processes that train together.
    """

    def __init__(
        self,
        config: TrainingConfig,
        batches: Batches,
        step: AdversarialStep,
        ema: AveragedGenerator,
        *,
        take_step: Callable[[Tensor, Tensor, Tensor, Tensor], dict[str, Tensor]] | None = None,
        steps_taken: int = 0,
        distributed: Distributed = SINGLE_PROCESS,
    ) -> None:
        self.config = config
        self.batches = batches
        self.step = step
        self.take_step = take_step or step
        self.ema = ema
        self.steps_taken = steps_taken
        self.distributed = distributed
        self.schedule = Schedule(config, batches.steps_per_epoch)
        self.budget = SnapshotBudget(config.snapshot_share, batches.device)
        self.metrics: MetricsLogger | None = None
        self.snapshots: Snapshots | None = None
        self.last_snapshot = self.schedule.last_snapshot(steps_taken)
        self._snapshot_pending = False
        self._values: list[dict[str, Tensor]] = []  # of the steps since the last tick
        self._last_tick = time.perf_counter()
        self._stop_requested = False

    @property
    def images_seen(self) -> int:
        """Real images shown to the discriminator so far."""
        return self.steps_taken * self.config.batch_size

    @property
    def epochs_done(self) -> int:
        """Epochs completed."""
        return self.steps_taken // self.batches.steps_per_epoch

    @property
    def position_name(self) -> str:
        """Name of the files that belong to this position."""
        return self.schedule.position_name(self.steps_taken)

    def train(
        self, metrics: MetricsLogger | None = None, snapshots: Snapshots | None = None
    ) -> None:
        """Train to the end of the run, which need not be the end of an epoch.

        Args:
            metrics, snapshots: of rank 0; None writes nothing.

        Raises:
            UserError: a loss or a weight is no longer finite.
            Interrupted: a signal arrived, and the work was saved.
        """
        self.metrics, self.snapshots = metrics, snapshots
        with self._stop_on_signals():
            if snapshots:
                snapshots.start(self)
            self._last_tick = time.perf_counter()
            self.budget.start()
            self._preview_if_due()
            for epoch in range(self.epochs_done, self.schedule.epochs):
                first = epoch * self.batches.steps_per_epoch
                span = self.steps_taken - first, self.schedule.steps - first
                for images, labels in self.batches.epoch(epoch, *span):
                    self._values.append(self.advance(images, labels))
                    if self.steps_taken % self.config.log_every == 0:
                        self._log()
                    self._preview_if_due()
                    if self.distributed.any_rank(self._stop_requested):
                        self._save_and_stop()
                self._snapshot_pending |= self.schedule.snapshot_due(self.steps_taken)
                if self._snapshot_pending and self._snapshot_allowed():
                    self._snapshot()

    def advance(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Take the next step on this process's shard of a batch; returns scalars on the device."""
        latents = self.distributed.shard(self._latents("training", self.images_seen))
        draws = self.distributed.shard(self._augmentation_draws(), dim=1)
        self.step.anneal(self.schedule.annealing(self.images_seen))
        values = self.take_step(images, labels, latents, draws)
        self.steps_taken += 1
        self.ema.update(self.config.batch_size, self.images_seen)
        return values

    def _latents(self, *position: object) -> Tensor:
        """A whole batch of latents (B, Z) on the device, from the seed and the position."""
        generator = generator_at(self.batches.device, self.config.seed, "latents", *position)
        shape = (self.config.batch_size, self.ema.latent_dim)
        return torch.randn(shape, generator=generator, device=self.batches.device)

    def _augmentation_draws(self) -> Tensor:
        """Uniform numbers (VIEWS, B, …) for the next step's augmentation, likewise."""
        device, seed = self.batches.device, self.config.seed
        generator = generator_at(device, seed, "augmentation", self.images_seen)
        shape = (VIEWS, self.config.batch_size, self.step.augmentation.draws)
        return torch.rand(shape, generator=generator, device=device)

    def _log(self) -> None:
        """Log the mean values of the steps since the last tick."""
        if not self._values:
            return
        names = list(self._values[0])
        # CPU-GPU sync point: between snapshots, the only place where the host waits for the device.
        values = torch.stack([torch.stack(list(row.values())) for row in self._values])
        self.distributed.average_([values])
        values = values.cpu()
        self._values.clear()
        first = self.steps_taken - len(values)
        for offset, name in (~values.isfinite()).nonzero().tolist():
            raise UserError(
                f"{names[name]} is not finite at step {first + offset + 1}; training stopped and "
                "the last checkpoint is kept; a lower --lr usually helps"
            )
        seconds = time.perf_counter() - self._last_tick
        if self.metrics:
            self.metrics.log(
                Tick(
                    epoch=(self.steps_taken - 1) // self.batches.steps_per_epoch + 1,
                    batch=(self.steps_taken - 1) % self.batches.steps_per_epoch + 1,
                    step=self.steps_taken,
                    images_seen=self.images_seen,
                    images_per_second=len(values) * self.config.batch_size / seconds,
                    means=dict(zip(names, values.double().mean(dim=0).tolist(), strict=True)),
                )
            )
        self._last_tick = time.perf_counter()

    def _preview_if_due(self) -> None:
        if not self.schedule.preview_due(self.steps_taken):
            return
        self._log()
        with self.budget.paused():
            self._check_weights()
            if self.snapshots:
                self._refresh_statistics(min(PREVIEW_BATCHES, self.config.standing_batches))
                self.snapshots.preview(self)
        self._last_tick = time.perf_counter()

    def _snapshot(self, *, within_epoch: bool = False) -> None:
        self._log()  # waits for the steps so far, which are no part of the snapshot's time
        with self.budget.snapshot():
            self._check_weights()
            if self.snapshots:  # other ranks wait for rank 0 at their next step
                self._refresh_statistics(self.config.standing_batches)
                if within_epoch:
                    self.snapshots.save_latest(self)
                else:
                    self.snapshots.snapshot(self)
        self.last_snapshot, self._snapshot_pending = self.steps_taken, False
        self._last_tick = time.perf_counter()  # a snapshot does not count as training time

    def _snapshot_allowed(self) -> bool:
        """Whether the budget has time for one; the last one always comes."""
        at_end = self.steps_taken == self.schedule.steps
        return at_end or self.distributed.from_main(self.budget.allows_snapshot())

    def _save_and_stop(self) -> None:
        ends_epoch = self.steps_taken % self.batches.steps_per_epoch == 0
        is_due = self.schedule.snapshot_due(self.steps_taken)
        self._snapshot(within_epoch=not (is_due or (self._snapshot_pending and ends_epoch)))
        raise Interrupted(
            f"interrupted and saved after step {self.steps_taken}; --resume continues from there"
        )

    def _check_weights(self) -> None:
        """Raise UserError for weights that are not finite, before they are saved."""
        networks = self.step.generator, self.step.discriminator
        weights: list[Tensor] = [weight for network in networks for weight in network.parameters()]
        if not torch.stack(torch._foreach_norm(weights)).isfinite().all():
            raise UserError(
                f"a weight is not finite after step {self.steps_taken}; training stopped and the "
                "last checkpoint is kept; a lower --lr usually helps"
            )

    def _refresh_statistics(self, batches: int) -> None:
        """Make the averaged generator ready to sample from."""
        begun = time.perf_counter()
        self.ema.refresh_statistics(
            (
                self._latents("standing", self.images_seen, number),
                self.batches.labels_at(self.images_seen, number),
            )
            for number in range(batches)
        )
        seconds_per_batch = (time.perf_counter() - begun) / batches
        self.budget.estimate(seconds_per_batch * self.config.standing_batches)

    def _request_stop(self) -> None:
        self._stop_requested = True
        seconds = self.budget.seconds_per_snapshot
        logger.info(
            "Stopping after this step and saving a grid and a checkpoint%s; Ctrl-C again stops at "
            "once",
            f", about {format_duration(seconds)}" if seconds else "",
        )

    @contextmanager
    def _stop_on_signals(self) -> Iterator[None]:
        """End training after the current step on Ctrl-C or SIGTERM, or at once on a second one."""
        with stop_on_signals(self._request_stop):
            try:
                yield
            except UserError:
                if self._stop_requested and not self.distributed.is_main:
                    raise KeyboardInterrupt from None  # torchrun ended it: rank 0 has failed
                raise
