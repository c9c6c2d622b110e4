"""What changes in the course of a run, by the position alone: snapshots, judgements, the pace, the end."""

from __future__ import annotations

import math
from dataclasses import replace

from musicspectrogan.counts import counted, rounded_time
from musicspectrogan.training.settings import TrainingConfig

# The length of a run that is given none: the usual one of the classics, which on small sets would end in fog.
USUAL_EPOCHS, LEAST_IMAGES = 50, 25_000
# Samples of a run that ends before are rough, with any recipe.
ROUGH_BELOW = 50_000
# Grids without a checkpoint come at the start, and after so many images.
PREVIEWS = (0, 1_000, 3_000)
# So many snapshots come evenly; from then on each comes when the run is this much longer than at the last.
# GANs change fastest early, and on a fast GPU even spacing would take more time than training.
EVEN = 10
GROWTH = 1.1
# Of the learning rate and the penalties' weights this part is left in the end.
ANNEALED = 0.1


def with_length(config: TrainingConfig, steps_per_epoch: int) -> TrainingConfig:
    """The same settings with a length: the one that they have, or the usual one."""
    if config.images or config.epochs:
        return config
    if USUAL_EPOCHS * steps_per_epoch * config.batch_size >= LEAST_IMAGES:
        return replace(config, epochs=USUAL_EPOCHS)
    return replace(config, images=LEAST_IMAGES)


class Schedule:
    """When a run ends, which of its steps end with a snapshot or a judgement, and how fast a step learns.

    Steps are counted from 1: step n is the one after which n have been taken.

    Args:
        config: has the length, and `snapshot_every` and `eval_every` in images.
        steps_per_epoch: snapshots come at ends of epochs.
    """

    def __init__(self, config: TrainingConfig, steps_per_epoch: int) -> None:
        self.config = with_length(config, steps_per_epoch)
        self.steps_per_epoch = steps_per_epoch

    @property
    def steps(self) -> int:
        """Steps in all: the last is the first one that reaches the length."""
        if self.config.epochs:
            return self.config.epochs * self.steps_per_epoch
        return -(-self.config.images // self.config.batch_size)

    @property
    def images(self) -> int:
        """Images shown in all."""
        return self.steps * self.config.batch_size

    @property
    def epochs(self) -> int:
        """Epochs that are begun; the last need not be completed."""
        return -(-self.steps // self.steps_per_epoch)

    def in_words(self, done: int, seconds: float, images_per_second: float) -> str:
        """The length, and how long it takes from step `done` on, as measured."""
        rest = f", of which {counted(self.steps - done, 'step')} are left" if done else ""
        length = f"{counted(self.images, 'image')} in {counted(self.steps, 'step')}{rest}"
        return f"{length}: about {rounded_time(seconds)} at {images_per_second:,.0f} images/s"

    def preview_due(self, step: int) -> bool:
        """Whether a grid comes after step `step`, or before the first, though no snapshot does."""
        reached = {-(-images // self.config.batch_size) for images in PREVIEWS}
        return step in reached and not self.snapshot_due(step)

    def snapshot_due(self, step: int) -> bool:
        """Whether a snapshot comes after step `step`; after the last one, it does."""
        return step == self.steps or self._is_due(step, self.config.snapshot_every)

    def last_snapshot(self, step: int) -> int:
        """The last end of an epoch up to `step` at which a snapshot was due; 0 where there is none."""
        step -= step % self.steps_per_epoch
        while step and not self._is_due(step, self.config.snapshot_every):
            step -= self.steps_per_epoch
        return step

    def snapshots_left(self, step: int) -> int:
        """How many come from step `step` on, the one after it included, where none is put off."""
        every = self.config.snapshot_every
        ended, whole = (max(0, s) // self.steps_per_epoch for s in (step - 1, self.steps))
        done, due = (
            self._occasions_by(epochs * self.steps_per_epoch, every) for epochs in (ended, whole)
        )
        is_extra = not self._is_due(self.steps, every)  # the one at the run's end
        return min(due - done + is_extra, self.epochs - ended)

    def position_name(self, step: int) -> str:
        """Names files so that they sort: epoch_0007 after it, epoch_0007_images_00012345 within the next."""
        epoch, within = divmod(step, self.steps_per_epoch)
        return f"epoch_{epoch:04d}" + (
            f"_images_{step * self.config.batch_size:08d}" if within else ""
        )

    def judgement_due(self, step: int, since: int) -> bool:
        """Whether the snapshot after `step` judges samples, where the last one came after step `since`."""
        if step == self.steps:
            return True
        done, now = (self._occasions_by(s, self.config.eval_every) for s in (since, step))
        return now > done

    def annealing(self, images_seen: int) -> float:
        """What is left of the learning rate and of the penalties' weights, from 1 on along half a cosine.

        I. Loshchilov, F. Hutter, SGDR, ICLR 2017, arXiv:1608.03983, without restarts; of the penalties too,
        N. Huang et al., arXiv:2501.05441, section 4.
        """
        if not self.config.anneal_images:
            return 1.0
        progress = min(1.0, images_seen / self.config.anneal_images)
        left = 0.5 + 0.5 * math.cos(math.pi * progress)
        return ANNEALED + (1.0 - ANNEALED) * left

    def _is_due(self, step: int, every: int) -> bool:
        """Whether the epoch that ends with this step has come by an occasion."""
        if step % self.steps_per_epoch:
            return False
        return self._occasions_by(step, every) > self._occasions_by(
            step - self.steps_per_epoch, every
        )

    def _occasions_by(self, step: int, every: int) -> int:
        return _occasions(step * self.config.batch_size, every)


def _occasions(images: int, every: int) -> int:
    """How many there are in a run's first `images` images."""
    if images <= EVEN * every:
        return max(0, images) // every
    return EVEN + int(math.log(images / (EVEN * every), GROWTH))
