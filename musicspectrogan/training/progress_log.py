"""Telling how training goes: the bar on a terminal, and everywhere the line that people know."""

from __future__ import annotations

import logging

from tqdm import tqdm

from musicspectrogan.counts import counted
from musicspectrogan.progress import PacedBar
from musicspectrogan.training.trainer import Callback, Tick, Trainer

logger = logging.getLogger(__name__)


class ProgressLog(Callback):
    """The bar over all images on a terminal, a line at each tick, and early on how long it will take.

    The time left is that of the steps left, at the mean pace so far, and of the snapshots left, each as long
    as the last: so it stays steady when one comes.
    """

    def on_start(self, trainer: Trainer) -> None:
        """No pace is known yet."""
        self._bar = PacedBar(total=trainer.schedule.images, initial=trainer.images_seen)
        self._first = trainer.steps_taken
        self._measured_from = self._first, 0.0
        self._ticks = 0
        self._distance = ""
        # A GPU chooses kernels and records its step first: the pace is known by the second tick.
        self._tick_of_pace = 1 if trainer.batches.device.type == "cpu" else 2

    def on_tick(self, trainer: Trainer, tick: Tick) -> None:
        self._ticks += 1
        seconds = self._seconds_left(trainer)
        if self._ticks == self._tick_of_pace and tick.step < trainer.schedule.steps:
            whole = trainer.budget.training_seconds + seconds
            logger.info(trainer.schedule.in_words(self._first, whole, tick.images_per_second))
        means = tick.means
        left = tqdm.format_interval(seconds)
        losses = f"loss {means['loss_d']:.2f}/{means['loss_g']:.2f}"
        pace = f"{tick.images_per_second:.0f} images/s"
        self._bar.tell(tick.images_seen, pace=pace, left=left, values=losses + self._distance)
        logger.info(
            "[Epoch %d/%d] [Batch %d/%d] Loss_D: %.4f Loss_G: %.4f D(x): %.4f D(G(z)): %.4f/%.4f "
            "(%.0f images/s, %s left)",
            tick.epoch,
            trainer.schedule.epochs,
            tick.batch,
            trainer.batches.steps_per_epoch,
            means["loss_d"],
            means["loss_g"],
            means["d_real"],
            means["d_fake_before"],
            means["d_fake_after"],
            tick.images_per_second,
            left,
        )
        if self._ticks == 1:  # which the first steps, slower than the others, were part of
            self._measured_from = tick.step, trainer.budget.training_seconds

    def on_quality(self, trainer: Trainer, quality: dict[str, float]) -> None:
        """Samples have been judged: the bar shows their distance from now on."""
        if "kernel_distance" in quality:
            self._distance = f", distance {quality['kernel_distance']:.2g}"
        told = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in quality.items())
        images = counted(trainer.images_seen, "image")
        logger.info("Samples after %s, judged by the validation tracks: %s", images, told)

    def on_end(self, trainer: Trainer) -> None:
        """The bar stays as it is."""
        self._bar.close()

    def _seconds_left(self, trainer: Trainer) -> float:
        first, before = self._measured_from
        seconds_a_step = (trainer.budget.training_seconds - before) / (trainer.steps_taken - first)
        steps = trainer.schedule.steps - trainer.steps_taken
        snapshots = trainer.schedule.snapshots_left(trainer.steps_taken)
        return trainer.budget.seconds_left(seconds_a_step * steps, snapshots)
