"""Batches on the device, each a function of the seed and the position in the run."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from musicspectrogan.data.dataset import ImageDataset
from musicspectrogan.tensors import as_images, generator_at
from musicspectrogan.training.windows import Partners, cut_windows, neighbours, place_windows
from musicspectrogan.training.world import ALONE, World

logger = logging.getLogger(__name__)

# The dataset moves to the GPU when it takes no more than this part of the memory that is free.
DEVICE_SHARE = 0.25
BATCHES_AHEAD = 2


def steps_per_epoch(n_images: int, batch_size: int) -> int:
    """Full batches that it takes to show every image."""
    return -(-n_images // batch_size)


class Batches:
    """Shuffled epochs of (images (B, K, H, W) float32 in [-1, 1], labels (B,) int64) on a device.

    Every batch is full: the last one of an epoch is filled up from the epoch's beginning, so each
    image is seen at least once an epoch and shapes never change.

    Args:
        batch_size: of the whole batch, B; each process of a `world` gets its share of it.
        windows: instead of each image show as many frames of its track, begun up to half an image away.
        pairs: images are (B, 2, H, W), the second from elsewhere in the same track.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batch_size: int,
        device: torch.device,
        seed: int,
        *,
        windows: bool = False,
        pairs: bool = False,
        world: World = ALONE,
    ) -> None:
        self.world = world
        self.batch_size = batch_size
        self.device = device
        self.seed = seed
        self.size = len(dataset)
        self.steps_per_epoch = steps_per_epoch(self.size, batch_size)
        self.labels = torch.from_numpy(dataset.labels).to(device)
        self._pixels, self._rows, self._host_labels = dataset.pixels, dataset.rows, dataset.labels
        self._beside = (
            torch.from_numpy(neighbours(dataset.tracks, dataset.segments)) if windows else None
        )
        if self._beside is not None and (self._beside < 0).all():
            logger.info(
                "No two images of a track are consecutive: windows stay where the images were cut"
            )
        self._partners = Partners(dataset.tracks, dataset.labels) if pairs else None
        if pairs and len(np.unique(dataset.tracks)) == self.size:
            logger.info(
                "No two images are of one track: pairs are of one genre, in which pieces wander"
            )
        self._resident: Tensor | None = None
        if device.type != "cpu" and self._fits():
            self._resident = torch.from_numpy(self._pixels[self._rows]).to(device)
            self._beside = None if self._beside is None else self._beside.to(device)

    def epoch(
        self, number: int, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch `number` (from 0), from batch `start` to before `stop`; None for the end."""
        order = torch.randperm(self.size, generator=generator_at("cpu", self.seed, "order", number))
        order = order.repeat(-(-self.steps_per_epoch * self.batch_size // self.size))
        order = order[: self.steps_per_epoch * self.batch_size].view(-1, self.batch_size)
        half = self._pixels.shape[2] // 2
        picks = [order]
        if self._partners is not None:
            draws = torch.rand(
                order.shape, generator=generator_at("cpu", self.seed, "partners", number)
            )
            picks.append(self._partners.of(order, draws))
        generator = generator_at("cpu", self.seed, "windows", number)
        offsets = [torch.randint(-half, half, order.shape, generator=generator) for _ in picks]
        where = torch.stack([torch.stack(picks, dim=1), torch.stack(offsets, dim=1)], dim=1)
        where = self.world.share(where[start:stop], dim=3)
        if self._resident is None:
            yield from self._from_host(where)
            return
        if (
            self.device.type == "cuda"
        ):  # from pinned memory the copy does not wait for work queued on the GPU
            where = where.pin_memory()
        for picks, shifts in where.to(self.device, non_blocking=where.is_pinned()):
            yield (
                as_images(self._views(self._resident.__getitem__, picks, shifts)),
                self.labels[picks[0]],
            )

    def _views(self, fetch: Callable[[Tensor], Tensor], picks: Tensor, offsets: Tensor) -> Tensor:
        """uint8 (B, K, H, W): images, or windows around their places; `fetch` gives images (B, H, W).

        Args:
            picks, offsets: (K, B).
        """
        if self._beside is None:
            return torch.stack([fetch(pick) for pick in picks], dim=1)
        windows = []
        for pick, offset in zip(picks, offsets, strict=True):
            left, right, start = place_windows(pick, offset, self._beside, self._pixels.shape[2])
            windows.append(cut_windows(fetch(left), fetch(right), start))
        return torch.stack(windows, dim=1)

    def labels_at(self, *position: object) -> Tensor:
        """A whole batch of labels (B,), drawn with the frequencies of the dataset."""
        generator = generator_at("cpu", self.seed, "labels", *position)
        picks = torch.randint(self.size, (self.batch_size,), generator=generator)
        return self.labels[picks.to(self.device)]

    def _fits(self) -> bool:
        if self.device.type != "cuda":
            return True  # MPS shares the computer's memory
        free, _ = torch.cuda.mem_get_info(self.device)
        return self._rows.size * self._pixels[0].nbytes <= DEVICE_SHARE * free

    def _from_host(self, where: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches gathered by a thread that runs ahead, so that the step never waits for the disk."""

        def fetch(picks: Tensor) -> Tensor:
            return torch.from_numpy(self._pixels[self._rows[picks.numpy()]])

        def gather(picks: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
            pixels = self._views(fetch, picks, offsets)
            labels = torch.from_numpy(self._host_labels[picks[0].numpy()])
            if self.device.type == "cuda":
                pixels = pixels.pin_memory().to(self.device, non_blocking=True)
                labels = labels.pin_memory().to(self.device, non_blocking=True)
            return as_images(pixels), labels

        with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
            ahead: deque = deque()
            for picks, offsets in where:
                ahead.append(thread.submit(gather, picks, offsets))
                if len(ahead) > BATCHES_AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
