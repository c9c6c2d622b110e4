"""One training step: the discriminator's turn, then the generator's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from musicspectrogan.training.losses import Loss


class AdversarialStep:
    """Updates both networks on one batch and returns named values, without waiting for the device.

    Args:
        generator, discriminator: on the device that the batches are on.
        loss: both players' objectives.
        lr, betas: of both Adam optimizers.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: Loss,
        *,
        lr: float,
        betas: tuple[float, float],
    ) -> None:
        self.generator = generator
        self.discriminator = discriminator
        self.loss = loss
        # The fused update is one kernel for all weights; on a CPU it saves a pass over each of them.
        self.optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=lr, betas=betas, fused=True)
        self.optimizer_g = torch.optim.Adam(generator.parameters(), lr=lr, betas=betas, fused=True)

    def __call__(self, images: Tensor, labels: Tensor, latents: Tensor) -> dict[str, Tensor]:
        """Train on real images (B, 1, H, W) with their labels (B,), and on fakes of the same labels.

        Returns:
            Scalars on the device: both losses, and the mean probability of being real that the
            discriminator gives to real images, and to fakes before and after its own update.
        """
        fakes = self.generator(latents, labels)

        self.optimizer_d.zero_grad(set_to_none=True)
        # Real and fake images in batches of their own: BatchNorm must not see them mixed.
        real_logits = self.discriminator(images, labels)
        fake_logits = self.discriminator(fakes.detach(), labels)
        loss_d = self.loss.discriminator(real_logits, fake_logits)
        loss_d.backward()
        self.optimizer_d.step()

        self.optimizer_g.zero_grad(set_to_none=True)
        # The generator's turn needs no gradients of the discriminator's weights.
        self.discriminator.requires_grad_(False)
        fooling_logits = self.discriminator(fakes, labels)
        loss_g = self.loss.generator(fooling_logits)
        loss_g.backward()
        self.discriminator.requires_grad_(True)
        self.optimizer_g.step()

        return {
            "loss_d": loss_d.detach(),
            "loss_g": loss_g.detach(),
            "d_real": real_logits.detach().sigmoid().mean(),
            "d_fake_before": fake_logits.detach().sigmoid().mean(),
            "d_fake_after": fooling_logits.detach().sigmoid().mean(),
        }
