"""One training step: the discriminator's turn, then the generator's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from musicspectrogan.training.losses import Loss


class AdversarialStep:
    """Updates both networks on one batch and returns named values, without waiting for the device.

    Args:
        generator, discriminator: on the device that the batches are on.
        loss: both players' objectives.
        lr, betas: of both Adam optimizers.
        bfloat16: run the networks' forward and backward passes in bfloat16 where PyTorch's autocast
            deems it safe; weights, losses and optimizers stay float32.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: Loss,
        *,
        lr: float,
        betas: tuple[float, float],
        bfloat16: bool = False,
    ) -> None:
        self.generator = generator
        self.discriminator = discriminator
        self.loss = loss
        self.device = next(generator.parameters()).device
        self.bfloat16 = bfloat16
        # The fused update is one kernel for all weights; on a CPU it saves a pass over each of them.
        # "Capturable" keeps its step count on the device, where a CUDA graph can go on with it.
        self._kind = {"fused": True, "capturable": self.device.type == "cuda"}
        self.optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=lr, betas=betas, **self._kind)
        self.optimizer_g = torch.optim.Adam(generator.parameters(), lr=lr, betas=betas, **self._kind)

    def load_optimizers(self, state_d: dict[str, Any], state_g: dict[str, Any]) -> None:
        """Go on with the optimizers' state_dicts, which may come from a run on another device."""
        for optimizer, state in ((self.optimizer_d, state_d), (self.optimizer_g, state_g)):
            groups = [{**group, **self._kind} for group in state["param_groups"]]
            optimizer.load_state_dict({**state, "param_groups": groups})

    def __call__(self, images: Tensor, labels: Tensor, latents: Tensor) -> dict[str, Tensor]:
        """Train on real images (B, 1, H, W) with their labels (B,), and on fakes of the same labels.

        Returns:
            Scalars on the device: both losses, and the mean probability of being real that the
            discriminator gives to real images, and to fakes before and after its own update.
        """
        with self._precision():
            fakes = self.generator(latents, labels)

        self.optimizer_d.zero_grad(set_to_none=True)
        # Real and fake images in batches of their own: BatchNorm must not see them mixed.
        with self._precision():
            real_logits = self.discriminator(images, labels).float()
            fake_logits = self.discriminator(fakes.detach(), labels).float()
        loss_d = self.loss.discriminator(real_logits, fake_logits)
        loss_d.backward()
        self.optimizer_d.step()

        self.optimizer_g.zero_grad(set_to_none=True)
        # The generator's turn needs no gradients of the discriminator's weights.
        self.discriminator.requires_grad_(False)
        with self._precision():
            fooling_logits = self.discriminator(fakes, labels).float()
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

    def _precision(self) -> torch.autocast:
        # No cache of cast weights: a recorded step must cast them anew each time.
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16, cache_enabled=False)
