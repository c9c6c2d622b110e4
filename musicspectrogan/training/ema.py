"""The averaged generator, which samples are drawn from."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

# The half-life is at most this fraction of the run so far: otherwise early samples would show the
# initial weights (T. Karras et al., arXiv:2006.06676, appendix B).
RAMP_UP = 0.05


class AveragedGenerator:
    """An exponential moving average of a generator's weights; the generator is only read.

    Args:
        generator: the one being trained.
        half_life_images: images after which a weight counts half; 0 follows without averaging.
    """

    def __init__(self, generator: nn.Module, half_life_images: float) -> None:
        self.module = copy.deepcopy(generator).eval().requires_grad_(False)
        self.half_life_images = half_life_images
        self._averages: list[Tensor] = list(self.module.parameters())
        self._sources: list[Tensor] = list(generator.parameters())

    @property
    def latent_dim(self) -> int:
        """Length Z of a latent vector."""
        return cast(int, self.module.latent_dim)

    @torch.no_grad()
    def update(self, batch_size: int, images_seen: int) -> None:
        """Move towards the generator's weights after a step on `batch_size` images."""
        half_life = min(self.half_life_images, images_seen * RAMP_UP)
        keep = 0.5 ** (batch_size / half_life) if half_life > 0 else 0.0
        torch._foreach_lerp_(self._averages, self._sources, 1.0 - keep)

    @torch.no_grad()
    def refresh_statistics(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Standing statistics: BatchNorm's mean and variance, computed with the averaged weights.

        Statistics copied or averaged from the generator belong to other weights, which is visible
        (A. Brock, J. Donahue, K. Simonyan, arXiv:1809.11096, appendix B).

        Args:
            batches: (latents (B, Z), labels (B,)), as drawn in training.
        """
        norms = [m for m in self.module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if not norms:
            return
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over all batches
            norm.train()
        for latents, labels in batches:
            self.module(latents, labels)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
