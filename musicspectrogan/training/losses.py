"""Adversarial losses: pure functions of logits, found by name. A new loss is a new entry in LOSSES."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Loss:
    """Both players' objectives, to be minimised."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    """(real logits (B,), fake logits (B,)) -> scalar."""
    generator: Callable[[Tensor], Tensor]
    """fake logits (B,) -> scalar."""


def bce_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-E log D(x) - E log(1 - D(G(z))), with D the logits' sigmoid.

    I. Goodfellow et al., Generative adversarial nets, NeurIPS 2014, arXiv:1406.2661, equation 1.
    softplus keeps the logarithms finite: -log sigmoid(t) = softplus(-t).
    """
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def bce_generator(fake_logits: Tensor) -> Tensor:
    """-E log D(G(z)): the non-saturating form of section 3 of the same paper."""
    return F.softplus(-fake_logits).mean()


LOSSES = {"bce": Loss(bce_discriminator, bce_generator)}
