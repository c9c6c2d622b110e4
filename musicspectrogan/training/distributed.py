"""Several processes that train one model, as torchrun starts them, or a single one.

Every random draw is a function of the seed and the position in the run, for the whole batch. Each
process draws the whole batch and takes its shard; a mean over the batch is the mean of the shards'
means. So the number of processes changes nothing but rounding, and BatchNorm (`convert_batchnorm`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from musicspectrogan.device import choose_device, is_from_device
from musicspectrogan.errors import Interrupted, UserError
from musicspectrogan.launch import ProcessRank

# Other ranks wait for rank 0 while it evaluates samples and writes.
TIMEOUT = timedelta(hours=1)


class Distributed:
    """Collective operations over the processes of a run; with one process they do nothing.

    Args:
        process: this process's rank and the number of processes.
    """

    def __init__(self, process: ProcessRank = ProcessRank()) -> None:  # noqa: B008  (frozen)
        self.rank = process.rank
        self.world_size = process.world_size
        self.local_rank = process.local_rank
        self._stop_request: tuple[Tensor, dist.Work] | None = None

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which logs and writes."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """The device of that name; with several processes, this process's own GPU.

        Raises:
            UserError: as `choose_device`, or fewer GPUs than processes, or a kind that cannot be
                used by several processes.
        """
        if self.world_size == 1:
            return choose_device(name)
        if ":" in name:
            raise UserError(
                f"--device {name}: give --device cuda, and each process takes a GPU of its own"
            )
        device = choose_device(name)
        if device.type == "cpu":
            return device
        if device.type != "cuda":
            raise UserError(f"--device {device}: only CUDA and CPUs train in several processes")
        gpus = torch.cuda.device_count()
        if self.local_rank >= gpus:
            raise UserError(
                f"more processes than GPUs on this machine; give --nproc-per-node {gpus}"
            )
        return choose_device(f"cuda:{self.local_rank}")

    @contextmanager
    def init(self, device: torch.device) -> Iterator[None]:
        """Create the process group, and destroy it when all ranks have finished or stopped.

        A rank that fails leaves at once, and torchrun ends the others.
        """
        if self.world_size == 1:
            yield
            return
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=TIMEOUT)
        # Messages between hosts, which do not wait for work queued on the GPUs.
        hosts = dist.new_group(backend="gloo", timeout=TIMEOUT)
        assert isinstance(hosts, dist.ProcessGroup)
        self._hosts = hosts
        try:
            yield
        except Interrupted:
            self._finalize()
            raise
        self._finalize()

    def _finalize(self) -> None:
        with _lost_ranks_explained():
            if self._stop_request is not None:
                self._stop_request[1].wait()
            dist.barrier(self._hosts)
        dist.destroy_process_group()

    def shard(self, batch: Tensor, dim: int = 0) -> Tensor:
        """This rank's part of a whole batch: every world_size-th image from number `rank` on.

        So the groups of minibatch deviation, images k, k + B/G, …, stay together.
        """
        if self.world_size == 1:
            return batch
        indices = torch.arange(self.rank, batch.shape[dim], self.world_size, device=batch.device)
        return batch.index_select(dim, indices)

    @torch.no_grad()
    def average_(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over the ranks, bit for bit the same on all of them."""
        if self.world_size == 1:
            return
        tensors = list(tensors)
        flat = torch.cat([tensor.flatten() for tensor in tensors])  # one message for all
        with _lost_ranks_explained():
            dist.all_reduce(flat)
        flat /= self.world_size
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))

    def any_rank(self, flag: bool) -> bool:
        """Whether the flag was true on any rank; call it after every step.

        With several ranks the answer is that of the call before, which has arrived during the
        step: the call hardly waits, and never for a GPU.
        """
        if self.world_size == 1:
            return flag
        previous = self._stop_request
        flags = torch.tensor(int(flag))
        with _lost_ranks_explained():
            work = dist.all_reduce(flags, group=self._hosts, async_op=True)
            assert work is not None  # as it is asynchronous
            self._stop_request = flags, work
            if previous is None:
                return False
            flags, work = previous
            work.wait()
        return bool(flags)

    def from_main(self, flag: bool) -> bool:
        """Rank 0's value, on all ranks."""
        if self.world_size == 1:
            return flag
        value = torch.tensor(int(flag))
        with _lost_ranks_explained():
            dist.broadcast(value, 0, group=self._hosts)
        return bool(value)

    def check_equal(self, **values: object) -> None:
        """Raise UserError unless each of the values is the same on all ranks."""
        if self.world_size == 1:
            return
        gathered: list[dict[str, object]] = [{}] * self.world_size
        with _lost_ranks_explained():
            dist.all_gather_object(gathered, values, group=self._hosts)
        for name in values:
            for rank, theirs in enumerate(gathered):
                if theirs[name] != gathered[0][name]:
                    raise UserError(
                        f"{name} of process {rank} are not those of process 0; every machine "
                        "needs the same command, dataset and checkpoint"
                    )


@contextmanager
def _lost_ranks_explained() -> Iterator[None]:
    """Turn torch's errors about ranks that are gone into a UserError."""
    try:
        yield
    except RuntimeError as error:
        if is_from_device(error):
            raise
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"another process of this run has ended or cannot be reached ({reason}); fix that, and "
            "continue from the last checkpoint with --resume"
        ) from None


SINGLE_PROCESS = Distributed()


def convert_batchnorm(network: nn.Module, distributed: Distributed) -> None:
    """Let every BatchNorm2d see the whole batch; weights, their names and shapes stay the same.

    On CUDA this is torch.nn.SyncBatchNorm, which refuses CPU tensors; gloo on CPUs gets
    `_SyncBatchNorm2d`. Neither meets a gradient penalty, whose second derivative SyncBatchNorm
    lacks: a discriminator with BatchNorm is refused one.
    """
    if distributed.world_size == 1:
        return
    if next(network.parameters()).is_cuda:
        nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, _SyncBatchNorm2d(child, distributed))


class _SyncBatchNorm2d(nn.BatchNorm2d):
    """`norm`'s weights and statistics, for (B / world_size, C, H, W) on each rank."""

    def __init__(self, norm: nn.BatchNorm2d, distributed: Distributed) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine)
        self._parameters, self._buffers = norm._parameters, norm._buffers
        self.train(norm.training)
        self.distributed = distributed

    def forward(self, features: Tensor) -> Tensor:
        if not self.training:
            return super().forward(features)
        exact = features.float()  # sums over many pixels lose too much in bfloat16
        variance, mean = torch.var_mean(exact, dim=(0, 2, 3), correction=0)
        overall: Tensor = _Mean.apply(mean, self.distributed)
        # About the overall mean, which avoids the difference of two large squares.
        variance = _Mean.apply(variance + (mean - overall).square(), self.distributed)
        count = self.distributed.world_size * features[:, 0].numel()
        self._update_statistics(overall.detach(), variance.detach(), count)
        scale = torch.rsqrt(variance + self.eps)
        scale = scale if self.weight is None else scale * self.weight
        normalised = (exact - overall[:, None, None]) * scale[:, None, None]
        shifted = normalised if self.bias is None else normalised + self.bias[:, None, None]
        return shifted.to(features.dtype)

    def _update_statistics(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics as BatchNorm does: the variance is the unbiased one."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)


class _Mean(torch.autograd.Function):
    """The mean over the ranks. Gradients become means over them too: it is its own derivative."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, distributed: Distributed) -> Tensor:
        ctx.distributed = distributed
        mean = values.clone()
        distributed.average_([mean])
        return mean

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Mean.apply(gradient, ctx.distributed), None
