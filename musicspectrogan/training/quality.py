"""Judging samples while training goes on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from musicspectrogan.errors import spared
from musicspectrogan.tensors import as_pixels, generator_at
from musicspectrogan.training.trainer import Callback, Trainer

QualityOf = Callable[[np.ndarray], dict[str, float]]

# Samples that are judged, in batches of the run's size.
SAMPLES = 512


class Quality(Callback):
    """Judges samples of the averaged generator at the snapshots that are due for it.

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
        if trainer.schedule.judgement_due(trainer.steps_taken, trainer.last_snapshot):
            quality = None
            with spared("judgement of samples"):
                quality = self.quality_of(self._samples(trainer))
            if quality is not None:
                trainer.tell("on_quality", quality)

    @torch.no_grad()
    def _samples(self, trainer: Trainer) -> np.ndarray:
        size, device = trainer.config.batch_size, trainer.batches.device
        blocks = []
        for number in range(-(-SAMPLES // size)):
            latents = torch.randn(
                size,
                trainer.ema.module.latent_dim,
                generator=generator_at("cpu", self.seed, "quality", number),
            )
            labels = trainer.batches.labels_at("quality", number)
            blocks.append(as_pixels(trainer.ema.module(latents.to(device), labels)))
        return np.concatenate(blocks)[:SAMPLES]
