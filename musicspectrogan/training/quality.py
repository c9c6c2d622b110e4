"""Judging samples while training goes on, and saying in plain words when it goes wrong."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

import numpy as np
import torch

from musicspectrogan.tensors import as_pixels, generator_at
from musicspectrogan.training.trainer import Callback, Tick, Trainer

logger = logging.getLogger(__name__)

QualityOf = Callable[[np.ndarray], dict[str, float]]

# Samples that are judged, in batches of the run's size.
SAMPLES = 512

# The discriminator has run away when, over this many ticks, D(x) is above D(G(z)) by this much on average;
# it is caught again below the second limit.
RUNAWAY_TICKS = 3
RUNAWAY, CAUGHT = 0.9, 0.8
# Samples have collapsed when two of them are nearer to each other than this part of what two real images
# are: once they were farther apart, or after so many images. Any generator begins like that.
COLLAPSED = 0.4
WARM_UP_IMAGES = 30_000


class Quality(Callback):
    """Judges samples of the averaged generator at snapshots, at most once in `eval_every` images.

    Args:
        quality_of: uint8 (N, H, W) -> named figures, among them kernel_distance and diversity. It
            belongs to a layer above this one.
        seed: of the latents, which are the same each time.
    """

    def __init__(self, quality_of: QualityOf, seed: int) -> None:
        self.quality_of = quality_of
        self.seed = seed

    def on_snapshot(self, trainer: Trainer) -> None:
        """Judge, and tell the other callbacks."""
        if self._due(trainer):
            trainer.tell("on_quality", self.quality_of(self._samples(trainer)))

    def _due(self, trainer: Trainer) -> bool:
        config = trainer.config
        every = config.eval_every
        since = trainer.images_seen - max(
            config.snapshot_every, trainer.batches.steps_per_epoch * config.batch_size
        )
        return trainer.images_seen // every > since // every or trainer.epochs_done == config.epochs

    @torch.no_grad()
    def _samples(self, trainer: Trainer) -> np.ndarray:
        size, device = trainer.config.batch_size, trainer.batches.device
        blocks = []
        for number in range(-(-SAMPLES // size)):
            latents = torch.randn(
                size, trainer.config.latent_dim, generator=generator_at("cpu", self.seed, "quality", number)
            )
            labels = trainer.batches.labels_at("quality", number)
            blocks.append(as_pixels(trainer.ema.module(latents.to(device), labels)))
        return np.concatenate(blocks)[:SAMPLES]


class Watch(Callback):
    """One line when a run goes wrong, with what to try, and one when it is well again."""

    def on_start(self, trainer: Trainer) -> None:
        """Nothing has been seen yet."""
        self._leads: deque[float] = deque(maxlen=RUNAWAY_TICKS)
        self._ran_away = self._collapsed = False
        self._was_diverse = False

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
        """Are the samples all alike?"""
        begun = self._was_diverse or trainer.images_seen >= WARM_UP_IMAGES
        alike = begun and quality["diversity"] < COLLAPSED
        if alike and not self._collapsed:
            logger.warning(
                "The samples have collapsed by step %d: two differ by %.0f %% of what two real images do; "
                "stop and take an earlier checkpoint, or try more music, a lower --lr or another --seed",
                trainer.steps_taken,
                100 * quality["diversity"],
            )
        elif self._collapsed and not alike:
            logger.info("The samples differ again by step %d", trainer.steps_taken)
        self._collapsed = alike
        self._was_diverse |= quality["diversity"] >= COLLAPSED
