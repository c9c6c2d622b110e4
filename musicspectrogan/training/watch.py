"""Saying in plain words when training goes wrong, and what to try."""

from __future__ import annotations

import logging
from collections import deque

from musicspectrogan.training.trainer import Callback, Tick, Trainer

logger = logging.getLogger(__name__)

# The discriminator has run away when, over this many ticks, D(x) is above D(G(z)) by this much on average;
# it is caught again below the second limit.
RUNAWAY_TICKS = 3
RUNAWAY, CAUGHT = 0.9, 0.8
# Samples have collapsed when two of them are nearer to each other than this part of what two real images
# are: once they were farther apart, or after so many images. Any generator begins like that.
COLLAPSED = 0.4
WARM_UP_IMAGES = 30_000
# Samples decay when over so many judgements their distance stays so many times the least so far.
DECAY_JUDGEMENTS, DECAYED = 3, 3.0
LEAST_DISTANCE = 0.1


class Watch(Callback):
    """One line when a run goes wrong, with what to try, and one when it is well again."""

    def on_start(self, trainer: Trainer) -> None:
        """Nothing has been seen yet."""
        self._leads: deque[float] = deque(maxlen=RUNAWAY_TICKS)
        self._ran_away = self._collapsed = False
        self._was_diverse = False
        self._distances: list[float] = []
        self._decays = False

    def on_tick(self, trainer: Trainer, tick: Tick) -> None:
        """Is the discriminator too sure?"""
        d_real, d_fake = tick.means["d_real"], tick.means["d_fake_before"]
        self._leads.append(d_real - d_fake)
        lead = sum(self._leads) / len(self._leads)
        if not self._ran_away and len(self._leads) == RUNAWAY_TICKS and lead > RUNAWAY:
            self._ran_away = True
            logger.warning(
                "The discriminator has run away by step %d (D(x) %.2f, D(G(z)) %.2f): the generator learns "
                "little; stop and take an earlier checkpoint, or try more music or a lower --lr",
                tick.step,
                d_real,
                d_fake,
            )
        elif self._ran_away and lead < CAUGHT:
            self._ran_away = False
            logger.info("The generator has caught up with the discriminator by step %d", tick.step)

    def on_quality(self, trainer: Trainer, quality: dict[str, float]) -> None:
        """Are the samples all alike, or worse than they were?"""
        self._watch_diversity(trainer, quality["diversity"])
        self._watch_distance(trainer, quality["kernel_distance"])

    def _watch_distance(self, trainer: Trainer, distance: float) -> None:
        self._distances.append(distance)
        least = min(self._distances)
        # The least may be about 0, of which any distance is many times.
        limit = DECAYED * max(least, LEAST_DISTANCE)
        decays = min(self._distances[-DECAY_JUDGEMENTS:]) > limit
        if decays and not self._decays:
            logger.warning(
                "The samples have been growing worse by step %d (kernel distance %.3g, at best %.3g): "
                "stop and take best.pt, or try more music or a lower --lr",
                trainer.steps_taken,
                distance,
                least,
            )
        self._decays = decays

    def _watch_diversity(self, trainer: Trainer, diversity: float) -> None:
        begun = self._was_diverse or trainer.images_seen >= WARM_UP_IMAGES
        alike = begun and diversity < COLLAPSED
        if alike and not self._collapsed:
            logger.warning(
                "The samples have collapsed by step %d: two differ by %.0f %% of what two real images do; "
                "stop and take an earlier checkpoint, or try more music, a lower --lr or another --seed",
                trainer.steps_taken,
                100 * diversity,
            )
        elif self._collapsed and not alike:
            logger.info("The samples differ again by step %d", trainer.steps_taken)
        self._collapsed = alike
        self._was_diverse |= diversity >= COLLAPSED
