"""What changes in the course of a run, by the position alone: snapshots, judgements, and the pace."""

from __future__ import annotations

import math

from musicspectrogan.training.settings import TrainingConfig

# So many come evenly; from then on each comes when the run is this much longer than at the last. GANs change
# fastest early, and on a fast GPU even spacing would take more time than training.
EVEN = 10
GROWTH = 1.1
# Of the learning rate and the penalties' weights this part is left in the end.
ANNEALED = 0.1


class Schedule:
    """Which epochs end with a snapshot, which of these with a judgement, and how fast a step learns.

    Args:
        config: has `snapshot_every` and `eval_every` in images, and the number of epochs.
        epoch_images: images in one epoch.
    """

    def __init__(self, config: TrainingConfig, epoch_images: int) -> None:
        self.config = config
        self.epoch_images = epoch_images

    def snapshot_due(self, epoch: int) -> bool:
        """Whether epoch number `epoch` (from 1) ends with a snapshot; the last one does."""
        return self._is_due(epoch, self.config.snapshot_every)

    def last_snapshot(self, epoch: int) -> int:
        """The last epoch up to `epoch` for whose end a snapshot was due, 0 where there is none."""
        while epoch and not self.snapshot_due(epoch):
            epoch -= 1
        return epoch

    def judgement_due(self, epoch: int, since: int) -> bool:
        """Whether the snapshot after `epoch` judges samples, where the last one came after epoch `since`."""
        return any(self._is_due(one, self.config.eval_every) for one in range(since + 1, epoch + 1))

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

    def _is_due(self, epoch: int, every: int) -> bool:
        before, now = (_occasions((epoch - ago) * self.epoch_images, every) for ago in (1, 0))
        return now > before or epoch == self.config.epochs


def _occasions(images: int, every: int) -> int:
    """How many there are in a run's first `images` images."""
    if images <= EVEN * every:
        return max(0, images) // every
    return EVEN + int(math.log(images / (EVEN * every), GROWTH))
