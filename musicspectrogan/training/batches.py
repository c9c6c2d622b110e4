"""Batches on the device, each a function of the seed and the position in the run."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from musicspectrogan.data.dataset import ImageDataset
from musicspectrogan.tensors import as_images, generator_at

# The dataset moves to the GPU when it takes no more than this part of the memory that is free.
DEVICE_SHARE = 0.25
BATCHES_AHEAD = 2


def steps_per_epoch(n_images: int, batch_size: int) -> int:
    """Full batches that it takes to show every image."""
    return -(-n_images // batch_size)


class Batches:
    """Shuffled epochs of (images (B, 1, H, W) float32 in [-1, 1], labels (B,) int64) on a device.

    Every batch is full: the last one of an epoch is filled up from the epoch's beginning, so each
    image is seen at least once an epoch and shapes never change.
    """

    def __init__(self, dataset: ImageDataset, batch_size: int, device: torch.device, seed: int) -> None:
        self.batch_size = batch_size
        self.device = device
        self.seed = seed
        self.size = len(dataset)
        self.steps_per_epoch = steps_per_epoch(self.size, batch_size)
        self.labels = torch.from_numpy(dataset.labels).to(device)
        self._pixels, self._rows, self._host_labels = dataset.pixels, dataset.rows, dataset.labels
        self._resident: Tensor | None = None
        if device.type != "cpu" and self._fits():
            self._resident = torch.from_numpy(self._pixels[self._rows]).unsqueeze(1).to(device)

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch `number` (from 0), from batch `start` on."""
        order = torch.randperm(self.size, generator=generator_at("cpu", self.seed, "order", number))
        order = order.repeat(-(-self.batch_size // self.size) + 1)
        order = order[: self.steps_per_epoch * self.batch_size].view(-1, self.batch_size)[start:]
        if self._resident is None:
            yield from self._from_host(order)
            return
        if (
            self.device.type == "cuda"
        ):  # from pinned memory, copies do not wait for the work queued on the GPU
            order = order.pin_memory()
        for picks in order.to(self.device, non_blocking=self.device.type == "cuda"):
            yield as_images(self._resident[picks]), self.labels[picks]

    def labels_at(self, *position: object) -> Tensor:
        """A batch of labels (B,), drawn with the frequencies of the dataset."""
        generator = generator_at("cpu", self.seed, "labels", *position)
        picks = torch.randint(self.size, (self.batch_size,), generator=generator)
        return self.labels[picks.to(self.device)]

    def _fits(self) -> bool:
        if self.device.type != "cuda":
            return True  # MPS shares the computer's memory
        free, _ = torch.cuda.mem_get_info(self.device)
        return self._rows.size * self._pixels[0].nbytes <= DEVICE_SHARE * free

    def _from_host(self, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches gathered by a thread that runs ahead, so that the step never waits for the disk."""

        def gather(picks: Tensor) -> tuple[Tensor, Tensor]:
            pixels = torch.from_numpy(self._pixels[self._rows[picks.numpy()]]).unsqueeze(1)
            labels = torch.from_numpy(self._host_labels[picks.numpy()])
            if self.device.type == "cuda":
                pixels = pixels.pin_memory().to(self.device, non_blocking=True)
                labels = labels.pin_memory().to(self.device, non_blocking=True)
            return as_images(pixels), labels

        with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
            ahead: deque = deque()
            for picks in order:
                ahead.append(thread.submit(gather, picks))
                if len(ahead) > BATCHES_AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
