"""One training step: the discriminator's turn, then the generator's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from musicspectrogan.errors import UserError
from musicspectrogan.training.augment import Augmentation
from musicspectrogan.training.losses import Loss, gradient_penalty
from musicspectrogan.training.world import ALONE, World

# Views of images in a step, each augmented by itself: real, fake, and fake in the generator's turn.
VIEWS = 3


def _check_moments(optimizer: torch.optim.Optimizer, moments: object) -> None:
    """Raise UserError unless these are Adam's moments of the optimizer's own weights, or of some of them."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    try:
        for number, of_weight in moments.items():
            like = {
                "step": (),
                "exp_avg": weights[number].shape,
                "exp_avg_sq": weights[number].shape,
            }
            fits = {name: tuple(tensor.shape) for name, tensor in of_weight.items()} == like
            if (
                number < 0
                or not fits
                or not all(tensor.isfinite().all() for tensor in of_weight.values())
            ):
                raise ValueError(number)
    except (AttributeError, IndexError, TypeError, ValueError, RuntimeError):
        raise UserError(
            "the state of the optimizers is damaged; start a new run with --init-from in place of --resume"
        ) from None


class AdversarialStep:
    """Updates both networks on one batch and returns named values, without waiting for the device.

    Several processes each take a step on their share of the batch and average the gradients of each turn.
    That serves any loss; DistributedDataParallel does not work with torch.autograd.grad, which gradient
    penalties take (https://docs.pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html).

    Args:
        generator, discriminator: on the device that the batches are on.
        loss: both players' objectives.
        lr, betas: of both Adam optimizers.
        augmentation: of all that the discriminator sees; None for none.
        r1, r2: weights gamma of the gradient penalties on real and on fake images. The gradient is taken with
            respect to what the discriminator sees: the images after augmentation. R3GAN (arXiv:2501.05441)
            and StyleGAN2-ADA (arXiv:2006.06676) take it with respect to the images before, through the
            augmentation; docs/recipes.md measures both.
        bfloat16: run the networks' forward and backward passes in bfloat16 where PyTorch's autocast
            deems it safe, but the discriminator's turn in float32 where there is a penalty; weights, losses
            and optimizers stay float32.
        capturable: keep what the optimizers count and their learning rates on the device, as recording the
            step as a CUDA graph needs.
        world: the processes that take this step together.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: Loss,
        *,
        lr: float,
        betas: tuple[float, float],
        augmentation: Augmentation | None = None,
        r1: float = 0.0,
        r2: float = 0.0,
        bfloat16: bool = False,
        capturable: bool = False,
        world: World = ALONE,
    ) -> None:
        self.generator = generator
        self.discriminator = discriminator
        self.loss = loss
        self.augmentation = augmentation or Augmentation(0.0)
        self.r1, self.r2 = r1, r2
        self.lr = lr
        self.device = next(generator.parameters()).device
        self.bfloat16 = bfloat16
        self.world = world
        # The fused update is one kernel for all weights; on a CPU it saves a pass over each of them.
        self._kind = {"fused": True, "capturable": capturable}
        adam = partial(torch.optim.Adam, betas=betas, **self._kind)
        self.optimizer_d = adam(discriminator.parameters(), lr=self._rate())
        self.optimizer_g = adam(generator.parameters(), lr=self._rate())
        # On the device, so that a recorded step sees it change.
        self._annealing = torch.ones((), device=self.device)
        self._annealed_to = 1.0

    def anneal(self, factor: float) -> None:
        """From the next step on, use that part of the learning rate and of the penalties' weights."""
        if factor == self._annealed_to:
            return
        self._annealed_to = factor
        self._annealing.fill_(factor)
        for optimizer in (self.optimizer_d, self.optimizer_g):
            for group in optimizer.param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(self.lr * factor)
                else:
                    group["lr"] = self.lr * factor

    def _rate(self) -> float | Tensor:
        """The learning rate, on the device where a recorded step must see it change."""
        return torch.tensor(self.lr, device=self.device) if self._kind["capturable"] else self.lr

    @torch.no_grad()
    def load_optimizers(self, state_d: dict[str, Any], state_g: dict[str, Any]) -> None:
        """Go on with the optimizers' state_dicts, which may come from a run on another device.

        Raises:
            UserError: they are damaged, or of other networks.
        """
        for optimizer, state in ((self.optimizer_d, state_d), (self.optimizer_g, state_g)):
            _check_moments(optimizer, state.get("state"))
            groups = [
                {**group, "lr": self._rate()} for group in optimizer.state_dict()["param_groups"]
            ]
            optimizer.load_state_dict({"state": state["state"], "param_groups": groups})
            for weight, of_weight in optimizer.state.items():
                for name in ("exp_avg", "exp_avg_sq"):
                    # The fused update goes through memory, and other devices lay weights out otherwise.
                    of_weight[name] = torch.empty_like(weight).copy_(of_weight[name])
        self._annealed_to = 1.0
        self._annealing.fill_(1.0)

    def __call__(
        self, images: Tensor, labels: Tensor, latents: Tensor, draws: Tensor
    ) -> dict[str, Tensor]:
        """Train on real images (B, 1, H, W) with their labels (B,), and on fakes of the same labels.

        Args:
            draws: uniform in [0, 1), (VIEWS, B, augmentation.draws).

        Returns:
            Scalars on the device, of this process's share: both losses, the mean probability of being real
            that the discriminator gives to real images, and to fakes before and after its own update, and
            the penalties that have a weight.
        """
        with self._precision():
            fakes = self.generator(latents, labels)

        self.optimizer_d.zero_grad(set_to_none=True)
        # Real and fake images in batches of their own: BatchNorm must not see them mixed.
        real_logits, r1 = self._judge(self.augmentation(images, draws[0]), labels, self.r1)
        fake_logits, r2 = self._judge(self.augmentation(fakes.detach(), draws[1]), labels, self.r2)
        loss_d = self.loss.discriminator(real_logits, fake_logits)
        (loss_d + self._annealing * (self.r1 / 2 * r1 + self.r2 / 2 * r2)).backward()
        self._average_gradients(self.discriminator)
        self.optimizer_d.step()

        self.optimizer_g.zero_grad(set_to_none=True)
        with self._discriminator_frozen():
            with self._precision():
                fooling_logits = self.discriminator(
                    self.augmentation(fakes, draws[2]), labels
                ).float()
                beside = None
                if self.loss.is_relative:
                    beside = self.discriminator(self.augmentation(images, draws[0]), labels).float()
            loss_g = self.loss.generator(fooling_logits, beside)
            loss_g.backward()
        self._average_gradients(self.generator)
        self.optimizer_g.step()

        # Relative logits mean something only beside each other: their middle counts as undecided.
        middle = (
            (real_logits.mean() + fake_logits.mean()).detach() / 2 if self.loss.is_relative else 0.0
        )

        def probability(logits: Tensor) -> Tensor:
            return (logits.detach() - middle).sigmoid().mean()

        return {
            "loss_d": loss_d.detach(),
            "loss_g": loss_g.detach(),
            "d_real": probability(real_logits),
            "d_fake_before": probability(fake_logits),
            "d_fake_after": probability(fooling_logits),
            **({"r1": r1.detach()} if self.r1 else {}),
            **({"r2": r2.detach()} if self.r2 else {}),
        }

    def _average_gradients(self, network: nn.Module) -> None:
        """Each process has those of its share; their mean is the whole batch's."""
        self.world.average(
            weight.grad for weight in network.parameters() if weight.grad is not None
        )

    @contextmanager
    def _discriminator_frozen(self) -> Iterator[None]:
        """The generator's turn needs no gradients of the discriminator's weights."""
        self.discriminator.requires_grad_(False)
        try:
            yield
        finally:  # whatever fails in between must not leave a discriminator that never learns again
            self.discriminator.requires_grad_(True)

    def _judge(self, images: Tensor, labels: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        """The discriminator's logits (B,), and where it has a weight the gradient penalty."""
        # With a penalty real and fake images are judged in float32: a gradient of gradients is too coarse in
        # bfloat16's 8 bits, and the logits of both are compared, so that they need the same precision.
        with self._precision(bfloat16=self.bfloat16 and not (self.r1 or self.r2)):
            images = images.detach().float().requires_grad_(weight > 0)
            logits = self.discriminator(images, labels).float()
        return logits, gradient_penalty(logits, images) if weight else logits.new_zeros(())

    def _precision(self, bfloat16: bool | None = None) -> torch.autocast:
        enabled = self.bfloat16 if bfloat16 is None else bfloat16
        # No cache of cast weights: a recorded step must cast them anew each time.
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=enabled, cache_enabled=False
        )
