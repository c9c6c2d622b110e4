"""The processes that train one model together, as torchrun starts them; mostly there is but one.

Every random draw is a function of the seed and the position in the run, for the whole batch. So each process
draws the whole batch and takes its share, and whatever is a mean over a batch is the mean of the shares'
means. How many processes there are changes nothing but rounding, and BatchNorm (batchnorm.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor, distributed

from musicspectrogan.device import choose_device, is_from_device
from musicspectrogan.errors import Interrupted, UserError
from musicspectrogan.launch import Place, this_process

# The others wait for the first one while it judges samples and writes.
PATIENCE = timedelta(hours=1)


class World:
    """One process alone, which has all of a batch and nobody to ask."""

    place = Place()

    @property
    def size(self) -> int:
        """How many processes there are."""
        return self.place.size

    @property
    def is_main(self) -> bool:
        """Whether this is the process that talks and writes."""
        return self.place.rank == 0

    def device(self, name: str) -> torch.device:
        """The device of that name, and of several GPUs this process's own.

        Raises:
            UserError: as `choose_device` does.
        """
        return choose_device(name)

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """Be in touch with the other processes."""
        yield

    def share(self, batch: Tensor, dim: int = 0) -> Tensor:
        """This process's part of what has the whole batch along `dim`."""
        return batch

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, bit for bit the same in all of them."""

    def agreed_to_stop(self, wish: bool) -> bool:
        """Whether any process wishes to stop; to be asked after every step, and never waits for a device."""
        return wish

    def told_by_main(self, choice: bool) -> bool:
        """The first process's choice, in all of them."""
        return choice

    def check_alike(self, **facts: object) -> None:
        """Raise UserError where one of the facts is not the same in all processes."""


class Processes(World):
    """Several processes, each with a device of its own. NCCL connects GPUs, and gloo all else."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._asked: tuple[Tensor, distributed.Work] | None = None

    def device(self, name: str) -> torch.device:
        """This process's GPU, or the CPU.

        Raises:
            UserError: the machine has fewer GPUs than processes, or they are of a kind that cannot be joined.
        """
        if ":" in name:
            raise UserError(
                f"--device {name}: give --device cuda, and each process takes a GPU of its own"
            )
        device = choose_device(name)
        if device.type == "cpu":
            return device
        if device.type != "cuda":
            raise UserError(f"--device {device}: only CUDA and CPUs train in several processes")
        here = torch.cuda.device_count()
        if self.place.local_rank >= here:
            raise UserError(
                f"more processes than GPUs on this machine; give --nproc-per-node {here}"
            )
        return choose_device(f"cuda:{self.place.local_rank}")

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """Be in touch with the others; who has finished or was interrupted leaves with them all.

        Who fails leaves at once, and torchrun ends the others.
        """
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, timeout=PATIENCE)
        # Between the hosts, past the GPUs and whatever is queued on them.
        self._hosts = distributed.new_group(backend="gloo", timeout=PATIENCE)
        try:
            yield
        except Interrupted:
            self._leave()
            raise
        self._leave()

    def _leave(self) -> None:
        with _others_are_there():
            if self._asked is not None:
                self._asked[1].wait()
            distributed.barrier(self._hosts)
        distributed.destroy_process_group()

    def share(self, batch: Tensor, dim: int = 0) -> Tensor:
        """Every size-th image, from number rank on.

        So the groups of minibatch deviation, which are images k, k + B/G, …, stay together.
        """
        rank, size = self.place.rank, self.place.size
        places = torch.arange(rank, batch.shape[dim], size, device=batch.device)
        return batch.index_select(dim, places)

    @torch.no_grad()
    def average(self, tensors: Iterable[Tensor]) -> None:
        """As `World.average`, with all tensors in one message."""
        tensors = list(tensors)
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with _others_are_there():
            distributed.all_reduce(flat)
        flat /= self.size
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))

    def agreed_to_stop(self, wish: bool) -> bool:
        """As `World.agreed_to_stop`; a wish is granted in all of them when they are asked for the next time.

        So hardly anybody waits: the last answer has come while this step was taken.
        """
        before = self._asked
        wishes = torch.tensor(int(wish))
        with _others_are_there():
            self._asked = wishes, distributed.all_reduce(wishes, group=self._hosts, async_op=True)
            if before is None:
                return False
            wishes, answer = before
            answer.wait()
        return bool(wishes)

    def told_by_main(self, choice: bool) -> bool:
        """As `World.told_by_main`."""
        told = torch.tensor(int(choice))
        with _others_are_there():
            distributed.broadcast(told, 0, group=self._hosts)
        return bool(told)

    def check_alike(self, **facts: object) -> None:
        """Raise UserError where one of the facts is not the same in all processes."""
        told: list[dict[str, object]] = [{}] * self.size
        with _others_are_there():
            distributed.all_gather_object(told, facts, group=self._hosts)
        for name in facts:
            for rank, theirs in enumerate(told):
                if theirs[name] != told[0][name]:
                    raise UserError(
                        f"{name} of process {rank} are not those of process 0; every machine needs the same "
                        "command, dataset and checkpoint"
                    )


@contextmanager
def _others_are_there() -> Iterator[None]:
    """What torch says when they are not is no bug of ours."""
    try:
        yield
    except RuntimeError as error:
        if is_from_device(error):
            raise
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"another process of this run has ended or cannot be reached ({reason}); mend that, and go "
            "on from the last checkpoint with --resume"
        ) from None


ALONE = World()


def world_of_this_process() -> World:
    """The processes that torchrun started with this one, or this one alone."""
    place = this_process()
    return Processes(place) if place.size > 1 else ALONE
