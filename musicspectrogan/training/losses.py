"""Adversarial losses and penalties: pure functions. A new loss is a new entry in LOSSES."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Loss:
    """Both players' objectives, to be minimised. Real and fake logits at an index share a genre."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    """(real logits (B,), fake logits (B,)) -> scalar."""
    generator: Callable[[Tensor | None, Tensor], Tensor]
    """(real logits (B,), or None unless `is_relative`; fake logits (B,)) -> scalar."""
    is_relative: bool = False
    """Whether the generator's objective needs real logits."""


def bce_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-E log D(x) - E log(1 - D(G(z))), with D the logits' sigmoid.

    I. Goodfellow et al., Generative adversarial nets, NeurIPS 2014, arXiv:1406.2661, equation 1.
    softplus keeps the logarithms finite: -log sigmoid(t) = softplus(-t).
    """
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def bce_generator(real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
    """-E log D(G(z)): the non-saturating form of section 3 of the same paper."""
    return F.softplus(-fake_logits).mean()


def hinge_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))).

    T. Miyato et al., Spectral normalization for GANs, ICLR 2018, arXiv:1802.05957, equation 16.
    """
    return F.relu(1.0 - real_logits).mean() + F.relu(1.0 + fake_logits).mean()


def hinge_generator(real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
    """-E D(G(z)): equation 17 of the same paper."""
    return -fake_logits.mean()


def relativistic_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-E log sigmoid(D(x) - D(G(z))): each fake is compared with a real image of its genre.

    A. Jolicoeur-Martineau, The relativistic discriminator, ICLR 2019, arXiv:1807.00734. With
    zero-centred penalties on both kinds of images: N. Huang et al., The GAN is dead; long live the
    GAN!, NeurIPS 2024, arXiv:2501.05441.
    """
    return F.softplus(fake_logits - real_logits).mean()


def relativistic_generator(real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
    """-E log sigmoid(D(G(z)) - D(x)): the same with real and fake exchanged."""
    assert real_logits is not None
    return F.softplus(real_logits - fake_logits).mean()


def gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """E |grad of the logits with respect to the images|²: R1 on real images, R2 on fakes.

    L. Mescheder, A. Geiger, S. Nowozin, Which training methods for GANs do actually converge?,
    ICML 2018, arXiv:1801.04406, equation 9; without its factor gamma / 2.

    Args:
        logits: (B,) or a multiple of B, computed from the images.
        images: (B, ...), which require gradients.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().flatten(1).sum(dim=1).mean()


LOSSES = {
    "bce": Loss(bce_discriminator, bce_generator),
    "hinge": Loss(hinge_discriminator, hinge_generator),
    "relativistic": Loss(relativistic_discriminator, relativistic_generator, is_relative=True),
}
