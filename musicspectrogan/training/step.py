"""One training step: the discriminator's turn, then the generator's; on CUDA also recorded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from musicspectrogan.errors import UserError
from musicspectrogan.models.layers import GROUP
from musicspectrogan.training.augment import Augmentation
from musicspectrogan.training.distributed import SINGLE_PROCESS, Distributed
from musicspectrogan.training.losses import Loss, gradient_penalty
from musicspectrogan.training.optimizers import load_adam, make_adam, set_learning_rate

# Batches that are augmented in a step: real, fake, and fake again in the generator's turn.
VIEWS = 3
# Steps taken before recording: libraries choose their kernels and optimizers make their state.
WARM_UP_STEPS = 3


class AdversarialStep:
    """Updates both networks on one batch and returns named values, without waiting for the device.

    Several processes each take a step on their shard of the batch and average the gradients of
    each turn. DistributedDataParallel does not work with torch.autograd.grad, which gradient
    penalties use (https://docs.pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html).

    Args:
        generator, discriminator: on the device that the batches are on.
        loss: both players' objectives.
        lr, betas: of both Adam optimizers.
        augmentation: of all that the discriminator sees; None for none.
        r1, r2: weights gamma of the gradient penalties on real and on fake images. The gradient
            is that with respect to what the discriminator sees, the augmented images. R3GAN
            (arXiv:2501.05441) and StyleGAN2-ADA (arXiv:2006.06676) differentiate through the
            augmentation; docs/recipes.md measures both.
        penalty_share: share of the batch from which the penalties are computed, rounded up to whole
            groups of `MinibatchDeviation`. Unlike a penalty every few steps (T. Karras et al.,
            arXiv:1912.04958, appendix B) this leaves all steps alike.
        bfloat16: run the networks in bfloat16 where autocast deems it safe, except for the
            discriminator's turn with a penalty; weights, losses and optimizers stay float32.
        capturable: keep the optimizers' counts and rates on the device, for `RecordedStep`.
        distributed: the processes that take this step together.
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
        penalty_share: float = 1.0,
        bfloat16: bool = False,
        capturable: bool = False,
        distributed: Distributed = SINGLE_PROCESS,
    ) -> None:
        self.generator = generator
        self.discriminator = discriminator
        self.loss = loss
        self.augmentation = augmentation or Augmentation(0.0)
        self.r1, self.r2 = r1, r2
        self.penalty_share = penalty_share
        self.lr = lr
        self.device = next(generator.parameters()).device
        self.bfloat16 = bfloat16
        self.distributed = distributed
        self.optimizer_d = make_adam(discriminator, lr, betas, capturable=capturable)
        self.optimizer_g = make_adam(generator, lr, betas, capturable=capturable)
        # On the device, so that a recorded step sees it change.
        self._annealing = torch.ones((), device=self.device)
        self._factor = 1.0

    def anneal(self, factor: float) -> None:
        """Scale the learning rate and the penalties' weights from the next step on."""
        if factor == self._factor:
            return
        self._factor = factor
        self._annealing.fill_(factor)
        for optimizer in (self.optimizer_d, self.optimizer_g):
            set_learning_rate(optimizer, self.lr * factor)

    def load_optimizers(self, state_d: dict[str, Any], state_g: dict[str, Any]) -> None:
        """Continue with the optimizers' state_dicts; UserError if they are damaged."""
        load_adam(self.optimizer_d, state_d)
        load_adam(self.optimizer_g, state_g)

    def __call__(
        self, images: Tensor, labels: Tensor, latents: Tensor, draws: Tensor
    ) -> dict[str, Tensor]:
        """Train on real images (B, K, H, W) with labels (B,), and on fakes of the same labels.

        Args:
            draws: uniform in [0, 1), (VIEWS, B, augmentation.draws).

        Returns:
            Scalars on the device, of this process's shard: both losses, the mean probability of
            being real that the discriminator gives to real images and to fakes before and after
            its own update, and the penalties that have a weight.
        """
        with self._autocast(self.bfloat16):
            fakes = self.generator(latents, labels)

        self.optimizer_d.zero_grad(set_to_none=True)
        # Real and fake images in separate batches: BatchNorm must not see them mixed.
        real_logits, r1 = self._discriminate(self.augmentation(images, draws[0]), labels, self.r1)
        fake_logits, r2 = self._discriminate(
            self.augmentation(fakes.detach(), draws[1]), labels, self.r2
        )
        loss_d = self.loss.discriminator(real_logits, fake_logits)
        penalty = self._annealing * (self.r1 / 2 * r1 + self.r2 / 2 * r2)
        torch.autograd.backward(loss_d + penalty)
        self._average_gradients(self.discriminator)
        self.optimizer_d.step()

        self.optimizer_g.zero_grad(set_to_none=True)
        with self._discriminator_frozen():
            with self._autocast(self.bfloat16):
                logits = self.discriminator(self.augmentation(fakes, draws[2]), labels).float()
                reference = None
                if self.loss.is_relative:
                    seen = self.augmentation(images, draws[0])
                    reference = self.discriminator(seen, labels).float()
            loss_g = self.loss.generator(reference, logits)
            torch.autograd.backward(loss_g)
        self._average_gradients(self.generator)
        self.optimizer_g.step()

        # Relative logits are comparable only with each other: their middle counts as undecided.
        middle: Tensor | float = 0.0
        if self.loss.is_relative:
            middle = (real_logits.mean() + fake_logits.mean()).detach() / 2

        def probability(logits: Tensor) -> Tensor:
            return (logits.detach() - middle).sigmoid().mean()

        return {
            "loss_d": loss_d.detach(),
            "loss_g": loss_g.detach(),
            "d_real": probability(real_logits),
            "d_fake_before": probability(fake_logits),
            "d_fake_after": probability(logits),
            **({"r1": r1.detach()} if self.r1 else {}),
            **({"r2": r2.detach()} if self.r2 else {}),
        }

    def _average_gradients(self, network: nn.Module) -> None:
        """Each process has those of its shard; their mean is the whole batch's."""
        gradients = (weight.grad for weight in network.parameters())
        self.distributed.average_(gradient for gradient in gradients if gradient is not None)

    @contextmanager
    def _discriminator_frozen(self) -> Iterator[None]:
        """The generator's turn needs no gradients of the discriminator's weights."""
        self.discriminator.requires_grad_(False)
        try:
            yield
        finally:  # whatever fails must not leave a discriminator that no longer learns
            self.discriminator.requires_grad_(True)

    def _discriminate(self, images: Tensor, labels: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
        """The discriminator's logits (L * B,), and the gradient penalty where it has a weight."""
        # With a penalty on either, both batches run in float32: second derivatives are too coarse
        # in bfloat16's 8 bits, and logits that are compared need the same precision.
        with self._autocast(self.bfloat16 and not (self.r1 or self.r2)):
            images = images.detach().float()
            if not gamma:
                logits = self.discriminator(images, labels).float()
                return logits, logits.new_zeros(())
            count = penalised(len(images), self.penalty_share)
            part = images[:count].requires_grad_()  # of a shuffled batch
            logits_of_part = self.discriminator(part, labels[:count]).float()
            penalty = gradient_penalty(logits_of_part, part)
            if count == len(images):
                return logits_of_part, penalty
            return self.discriminator(images, labels).float(), penalty

    def _autocast(self, bfloat16: bool) -> torch.autocast:
        # No cache of cast weights: a recorded step must cast them anew each time.
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=bfloat16, cache_enabled=False
        )


def penalised(batch: int, share: float) -> int:
    """Images that are a share of a batch, rounded up to a multiple of `GROUP`, or all of them."""
    return min(batch, GROUP * math.ceil(share * batch / GROUP))


class RecordedStep:
    """The step as a CUDA graph, recorded after three steps and then replayed with one launch.

    A step launches more than a thousand kernels, most so short that a fast GPU would wait for
    Python between them. https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs

    Args:
        step: on a CUDA device, and `capturable`. Its batches must all have the same shape.
    """

    def __init__(self, step: AdversarialStep) -> None:
        self.step = step
        # One stream for warming up and recording, because each keeps memory of its own.
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._warm_ups_left = WARM_UP_STEPS
        self._graph: torch.cuda.CUDAGraph | None = None

    @property
    def is_recorded(self) -> bool:
        """Whether steps are replayed by now."""
        return self._graph is not None

    def __call__(
        self, images: Tensor, labels: Tensor, latents: Tensor, draws: Tensor
    ) -> dict[str, Tensor]:
        """Train on a batch, as AdversarialStep does.

        Raises:
            UserError: the step cannot be recorded, for instance because it waits for the device.
        """
        batch = images, labels, latents, draws
        if self._warm_ups_left:
            self._warm_ups_left -= 1
            return self._warm_up(*batch)
        if self._graph is None:
            self._graph = self._record(*batch)
        for recorded, given in zip(self._inputs, batch, strict=True):
            recorded.copy_(given)
        self._graph.replay()
        # A copy, because the next replay overwrites it.
        return dict(zip(self._names, self._values.clone().unbind(), strict=True))

    def _warm_up(self, *batch: Tensor) -> dict[str, Tensor]:
        """Take the step itself, on the stream that it will be recorded on."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            values = self.step(*batch)
        torch.cuda.current_stream().wait_stream(self._stream)
        return values

    def _record(self, *batch: Tensor) -> torch.cuda.CUDAGraph:
        """Record a step without taking it."""
        graph = torch.cuda.CUDAGraph()
        self._inputs = [part.clone() for part in batch]
        before = torch.cuda.current_stream()
        try:
            # "thread_local": the thread that loads batches may allocate memory meanwhile.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                values = self.step(*self._inputs)
                self._names, self._values = list(values), torch.stack(list(values.values()))
        except RuntimeError as error:
            raise _first_cause(error) from None
        finally:
            torch.cuda.set_stream(before)  # a failed capture leaves its own stream current
        return graph


def _first_cause(error: RuntimeError) -> Exception:
    """What to raise for the first error: ending a broken capture raises one more."""
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    if isinstance(error, torch.OutOfMemoryError):
        return torch.OutOfMemoryError(str(error))
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UserError(
        f"the training step cannot be recorded as a CUDA graph ({reason}); give --no-cuda-graph"
    )
