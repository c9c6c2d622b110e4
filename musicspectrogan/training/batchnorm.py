"""BatchNorm over the whole of a batch whose parts lie in several processes.

torch's own SyncBatchNorm refuses tensors on CPUs. This one is made of means of the parts, so it runs wherever
gradients can be averaged; for that it is slower than BatchNorm, and a choice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from musicspectrogan.training.world import World


def synchronise_batchnorm(network: nn.Module, world: World) -> None:
    """Let every BatchNorm of the network see the whole batch; weights, their names and shapes stay.

    One process alone sees it anyway, and its network is left as it is.
    """
    if world.size == 1:
        return
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, _WholeBatchNorm2d(child, world))


class _WholeBatchNorm2d(nn.BatchNorm2d):
    """`norm` with its own weights and statistics, for (B / processes, C, H, W) in each of them."""

    def __init__(self, norm: nn.BatchNorm2d, world: World) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine)
        self._parameters, self._buffers = norm._parameters, norm._buffers
        self.train(norm.training)
        self.world = world

    def forward(self, features: Tensor) -> Tensor:
        if not self.training:
            return super().forward(features)
        exact = features.float()  # sums over many places would lose too much in bfloat16
        variance, mean = torch.var_mean(exact, dim=(0, 2, 3), correction=0)
        overall = _Average.apply(mean, self.world)
        # The variance about the overall mean, without a difference of large squares.
        variance = _Average.apply(variance + (mean - overall).square(), self.world)
        self._remember(
            overall.detach(), variance.detach(), self.world.size * features[:, 0].numel()
        )
        scale = torch.rsqrt(variance + self.eps)
        scale = scale if self.weight is None else scale * self.weight
        normalised = (exact - overall[:, None, None]) * scale[:, None, None]
        shifted = normalised if self.bias is None else normalised + self.bias[:, None, None]
        return shifted.to(features.dtype)

    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics, as BatchNorm does: of the variance, the unbiased one."""
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)


class _Average(torch.autograd.Function):
    """The mean over the processes; as gradients become means over them too, it is its own derivative."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, world: World) -> Tensor:
        ctx.world = world
        averaged = values.clone()
        world.average([averaged])
        return averaged

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Average.apply(gradient, ctx.world), None
