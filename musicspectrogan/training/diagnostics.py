"""Warnings when a run goes wrong, with what to try: runaway, collapse and decay."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping

logger = logging.getLogger(__name__)

# The discriminator has run away if, over this many ticks, D(x) exceeds D(G(z)) by this much on
# average; the generator has caught up below the second limit.
RUNAWAY_TICKS = 3
RUNAWAY, CAUGHT_UP = 0.9, 0.8
# Samples have collapsed if two of them differ by less than this fraction of what two real images
# do, once they differed more or after this many images. Every generator begins like that.
COLLAPSED = 0.4
WARM_UP_IMAGES = 30_000
# Samples decay if over this many evaluations their distance stays this many times the least so far.
DECAY_EVALUATIONS, DECAYED = 3, 3.0
LEAST_DISTANCE = 0.1


class Diagnostics:
    """Logs one warning when something goes wrong, and one line when it is well again."""

    def __init__(self) -> None:
        self._leads: deque[float] = deque(maxlen=RUNAWAY_TICKS)
        self._distances: list[float] = []
        self._ran_away = self._collapsed = self._decayed = self._was_diverse = False

    def check_losses(self, step: int, means: Mapping[str, float]) -> None:
        """Check whether the discriminator has run away."""
        d_real, d_fake = means["d_real"], means["d_fake_before"]
        self._leads.append(d_real - d_fake)
        lead = sum(self._leads) / len(self._leads)
        if not self._ran_away and len(self._leads) == RUNAWAY_TICKS and lead > RUNAWAY:
            self._ran_away = True
            logger.warning(
                "The discriminator has run away by step %d (D(x) %.2f, D(G(z)) %.2f): the "
                "generator learns little; stop and use an earlier checkpoint, or try more music "
                "or a lower --lr",
                step,
                d_real,
                d_fake,
            )
        elif self._ran_away and lead < CAUGHT_UP:
            self._ran_away = False
            logger.info("The generator has caught up with the discriminator by step %d", step)

    def check_samples(self, step: int, images_seen: int, quality: Mapping[str, float]) -> None:
        """Check whether samples are all alike, or worse than they were."""
        self._check_diversity(step, images_seen, quality["diversity"])
        self._check_distance(step, quality["kernel_distance"])

    def _check_diversity(self, step: int, images_seen: int, diversity: float) -> None:
        has_begun = self._was_diverse or images_seen >= WARM_UP_IMAGES
        collapsed = has_begun and diversity < COLLAPSED
        if collapsed and not self._collapsed:
            logger.warning(
                "The samples have collapsed by step %d: two differ by %.0f %% of what two real "
                "images do; stop and use an earlier checkpoint, or try more music, a lower --lr "
                "or another --seed",
                step,
                100 * diversity,
            )
        elif self._collapsed and not collapsed:
            logger.info("The samples differ again by step %d", step)
        self._collapsed = collapsed
        self._was_diverse |= diversity >= COLLAPSED

    def _check_distance(self, step: int, distance: float) -> None:
        self._distances.append(distance)
        least = min(self._distances)
        # The least may be about 0, of which any distance is many times.
        limit = DECAYED * max(least, LEAST_DISTANCE)
        decayed = min(self._distances[-DECAY_EVALUATIONS:]) > limit
        if decayed and not self._decayed:
            logger.warning(
                "The samples have been growing worse by step %d (kernel distance %.3g, at best "
                "%.3g): stop and use best.pt, or try more music or a lower --lr",
                step,
                distance,
                least,
            )
        self._decayed = decayed
