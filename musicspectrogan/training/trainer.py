"""The training loop. It knows batches, a step and callbacks; what they do is their own business."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import torch
from torch import Tensor

from musicspectrogan.counts import rounded_time
from musicspectrogan.errors import Interrupted, UserError, spared
from musicspectrogan.tensors import generator_at
from musicspectrogan.training.batches import Batches
from musicspectrogan.training.budget import SnapshotBudget
from musicspectrogan.training.ema import AveragedGenerator
from musicspectrogan.training.schedule import Schedule
from musicspectrogan.training.settings import TrainingConfig
from musicspectrogan.training.step import VIEWS, AdversarialStep
from musicspectrogan.training.world import ALONE, World

logger = logging.getLogger(__name__)

# A preview's statistics are taken over no more batches than this: it is looked at and not kept.
PREVIEW_BATCHES = 10


@dataclass(frozen=True)
class Tick:
    """What is known at a logging tick: a row of metrics.csv."""

    epoch: int
    """From 1."""
    batch: int
    """Within the epoch, from 1."""
    step: int
    """Steps taken in the whole run."""
    images_seen: int
    images_per_second: float
    means: dict[str, float]
    """Named values of the step, averaged since the last tick."""


class Callback:
    """Something that happens beside training. Every method may be left as it is."""

    spares = ""
    """What is lost where a method fails, and training goes on; empty where training ends."""
    fails_for_good = False
    """Whether it is left out from then on."""

    def on_start(self, trainer: Trainer) -> None:
        """Before the first step of this process."""

    def on_tick(self, trainer: Trainer, tick: Tick) -> None:
        """Every `log_every` steps and before every snapshot and preview."""

    def on_preview(self, trainer: Trainer) -> None:
        """Before the first step and early on; the averaged generator is good enough to show."""

    def on_snapshot(self, trainer: Trainer) -> None:
        """At the run's end, and that of an epoch due for it; the averaged generator is ready to sample."""

    def on_quality(self, trainer: Trainer, quality: dict[str, float]) -> None:
        """When samples have been judged, within a snapshot; figures by name."""

    def on_interrupt(self, trainer: Trainer) -> None:
        """Ctrl-C or SIGTERM, between two steps; the averaged generator is ready to sample."""

    def on_end(self, trainer: Trainer) -> None:
        """When training stops, for whatever reason."""


class Trainer:
    """Trains a pair of networks; its position in the run is the number of steps taken.

    Args:
        config: the run's settings.
        batches: full batches on the device.
        step: has the networks and the optimizers, updates them on a batch and returns named scalars on the
            device.
        ema: follows the generator.
        callbacks: called in this order.
        take_step: does what `step` does, perhaps by replaying it; None for `step` itself.
        steps_taken: where a resumed run goes on.
        world: the processes that train together; all but the first have no callbacks.
    """

    def __init__(
        self,
        config: TrainingConfig,
        batches: Batches,
        step: AdversarialStep,
        ema: AveragedGenerator,
        callbacks: Sequence[Callback] = (),
        *,
        take_step: Callable[..., dict[str, Tensor]] | None = None,
        steps_taken: int = 0,
        world: World = ALONE,
    ) -> None:
        self.config = config
        self.batches = batches
        self.step = step
        self.take_step = take_step or step
        self.ema = ema
        self.callbacks = callbacks
        self.steps_taken = steps_taken
        self.world = world
        self.schedule = Schedule(config, batches.steps_per_epoch)
        self.budget = SnapshotBudget(config.snapshot_share, batches.device)
        self.last_snapshot = self.schedule.last_snapshot(steps_taken)
        self._owes_snapshot = False
        self._untold: list[dict[str, Tensor]] = []
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
        """Names the files that belong to it."""
        return self.schedule.position_name(self.steps_taken)

    def train(self) -> None:
        """Train to the run's end, which need not be an epoch's.

        Raises:
            UserError: a loss or a weight is no longer finite.
            Interrupted: a signal arrived; `on_interrupt` has saved the work.
        """
        with self._signals_noted():
            self.tell("on_start")
            self._last_tick = time.perf_counter()
            self.budget.start()
            try:
                self._preview_if_due()
                for epoch in range(self.epochs_done, self.schedule.epochs):
                    before = epoch * self.batches.steps_per_epoch
                    span = (self.steps_taken - before, self.schedule.steps - before)
                    for images, labels in self.batches.epoch(epoch, *span):
                        self._untold.append(self.advance(images, labels))
                        if self.steps_taken % self.config.log_every == 0:
                            self._tick()
                        self._preview_if_due()
                        if self.world.agreed_to_stop(self._stop_requested):
                            self._interrupt()
                    self._owes_snapshot |= self.schedule.snapshot_due(self.steps_taken)
                    if self._owes_snapshot and self._affords_snapshot():
                        self._snapshot("on_snapshot")
            finally:
                self.tell("on_end")

    def advance(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Take the next step, on this process's share of a batch; returns named scalars on the device."""
        latents = self.world.share(self.latents_at("training", self.images_seen))
        draws = self.world.share(self._draws_at(self.images_seen), dim=1)
        self.step.anneal(self.schedule.annealing(self.images_seen))
        values = self.take_step(images, labels, latents, draws)
        self.steps_taken += 1
        self.ema.update(self.config.batch_size, self.images_seen)
        return values

    def latents_at(self, *position: object) -> Tensor:
        """A whole batch of latents (B, Z) on the device, a function of the seed and the position."""
        generator = generator_at(self.batches.device, self.config.seed, "latents", *position)
        shape = (self.config.batch_size, self.step.generator.latent_dim)
        return torch.randn(shape, generator=generator, device=self.batches.device)

    def _draws_at(self, images_seen: int) -> Tensor:
        """Uniform numbers (VIEWS, B, …) for a step's augmentation, likewise."""
        generator = generator_at(self.batches.device, self.config.seed, "augmentation", images_seen)
        shape = (VIEWS, self.config.batch_size, self.step.augmentation.draws)
        return torch.rand(shape, generator=generator, device=self.batches.device)

    def tell(self, event: str, *arguments: object) -> None:
        """Call that method of every callback, in their order."""
        for callback in self.callbacks:
            if not callback.spares:
                getattr(callback, event)(self, *arguments)
                continue
            failed = True
            with spared(callback.spares):
                getattr(callback, event)(self, *arguments)
                failed = False
            if failed and callback.fails_for_good:
                self.callbacks = [other for other in self.callbacks if other is not callback]

    def _tick(self) -> None:
        """Tell the callbacks what the steps since the last tick gave."""
        if not self._untold:
            return
        names = list(self._untold[0])
        # CPU-GPU sync point: between snapshots, the one place where the host waits for the device.
        values = torch.stack([torch.stack(list(row.values())) for row in self._untold])
        self.world.average([values])
        values = values.cpu()
        first = self.steps_taken - len(values)
        self._untold.clear()
        for offset, name in (~values.isfinite()).nonzero().tolist():
            raise UserError(
                f"{names[name]} is not finite at step {first + offset + 1}; training stopped and the last "
                "checkpoint is kept; a lower --lr usually helps"
            )
        now = time.perf_counter()
        tick = Tick(
            epoch=(self.steps_taken - 1) // self.batches.steps_per_epoch + 1,
            batch=(self.steps_taken - 1) % self.batches.steps_per_epoch + 1,
            step=self.steps_taken,
            images_seen=self.images_seen,
            images_per_second=len(values) * self.config.batch_size / (now - self._last_tick),
            means=dict(zip(names, values.double().mean(dim=0).tolist(), strict=True)),
        )
        self.tell("on_tick", tick)
        self._last_tick = time.perf_counter()

    def _affords_snapshot(self) -> bool:
        """Whether the time for one is left; for the last one always."""
        at_end = self.steps_taken == self.schedule.steps
        return at_end or self.world.told_by_main(self.budget.affords_one())

    def _snapshot(self, event: str) -> None:
        """Let the callbacks show or save a state that is sound, and ready to sample from."""
        self._tick()  # which waits for the steps so far: no part of what a snapshot takes
        with self.budget.spent():
            self._show(event, self.config.standing_batches)
        if event == "on_snapshot":
            self.last_snapshot, self._owes_snapshot = self.steps_taken, False
        self._last_tick = time.perf_counter()  # not training, so no part of its speed

    def _preview_if_due(self) -> None:
        if not self.schedule.preview_due(self.steps_taken):
            return
        self._tick()
        with self.budget.paused():
            self._show("on_preview", min(PREVIEW_BATCHES, self.config.standing_batches))
        self._last_tick = time.perf_counter()

    def _show(self, event: str, standing_batches: int) -> None:
        weights = [*self.step.generator.parameters(), *self.step.discriminator.parameters()]
        if not torch.stack(torch._foreach_norm(weights)).isfinite().all():
            raise UserError(
                f"a weight is not finite after step {self.steps_taken}; training stopped and the last "
                "checkpoint is kept; a lower --lr usually helps"
            )
        if not self.callbacks:
            return  # of several processes the first has them, and the next step waits for it
        begun = time.perf_counter()
        self.ema.refresh_statistics(
            (
                self.latents_at("standing", self.images_seen, number),
                self.batches.labels_at(self.images_seen, number),
            )
            for number in range(standing_batches)
        )
        seconds_a_batch = (time.perf_counter() - begun) / standing_batches
        self.budget.expect(seconds_a_batch * self.config.standing_batches)
        self.tell(event)

    def _interrupt(self) -> None:
        ends_epoch = self.steps_taken % self.batches.steps_per_epoch == 0
        is_due = self.schedule.snapshot_due(self.steps_taken) or (
            self._owes_snapshot and ends_epoch
        )
        self._snapshot("on_snapshot" if is_due else "on_interrupt")
        raise Interrupted(
            f"interrupted and saved after step {self.steps_taken}; --resume goes on from there"
        )

    @contextmanager
    def _signals_noted(self) -> Iterator[None]:
        """The first Ctrl-C or SIGTERM ends training after the current step; the second at once."""

        def note(number: int, frame: FrameType | None) -> None:
            if self._stop_requested:
                raise KeyboardInterrupt
            self._stop_requested = True
            seconds = self.budget.seconds_of_one
            logger.info(
                "Stopping after this step, and saving a grid and a checkpoint%s; Ctrl-C again stops at once",
                f", about {rounded_time(seconds)}" if seconds else "",
            )

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        except UserError:
            if self._stop_requested and not self.world.is_main:
                raise KeyboardInterrupt from None  # torchrun ends it, for the first process has failed
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
