"""Batches on the device, each a function of the seed and the position in the run."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from musicspectrogan.data.dataset import ImageDataset
from musicspectrogan.tensors import as_images, generator_at
from musicspectrogan.training.distributed import SINGLE_PROCESS, Distributed

logger = logging.getLogger(__name__)

# The dataset moves to the GPU if it takes no more than this fraction of the free memory.
DEVICE_SHARE = 0.25
BATCHES_AHEAD = 2

Batch = tuple[Tensor, Tensor]
Integers = npt.NDArray[np.int64]


def steps_per_epoch(n_images: int, batch_size: int) -> int:
    """Full batches that it takes to show every image."""
    return -(-n_images // batch_size)


class Batches:
    """Shuffled epochs of (images (B, K, H, W) float32 in [-1, 1], labels (B,) int64) on a device.

    Every batch is full: the last one of an epoch is filled up from the epoch's beginning, so each
    image is seen at least once an epoch and shapes never change.

    Args:
        batch_size: of the whole batch, B, of which each process gets its shard.
        windows: cut images at random offsets in their tracks, up to half an image away from where
            they were cut. Consecutive segments join without a seam, so these are as good as theirs.
        pairs: images are (B, 2, H, W), the second from elsewhere in the same track.
        distributed: the processes that train together.
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
        distributed: Distributed = SINGLE_PROCESS,
    ) -> None:
        self.distributed = distributed
        self.batch_size = batch_size
        self.device = device
        self.seed = seed
        self.size = len(dataset)
        self.steps_per_epoch = steps_per_epoch(self.size, batch_size)
        self.labels = torch.from_numpy(dataset.labels).to(device)
        self._pixels, self._rows, self._host_labels = dataset.pixels, dataset.rows, dataset.labels
        self._neighbours: Tensor | None = None
        if windows:
            self._neighbours = torch.from_numpy(neighbours(dataset.tracks, dataset.segments))
            if (self._neighbours < 0).all():
                logger.info(
                    "No two images of a track are consecutive: windows stay where images were cut"
                )
        self._partners = Partners(dataset.tracks, dataset.labels) if pairs else None
        if pairs and len(np.unique(dataset.tracks)) == self.size:
            logger.info("No two images are of one track: pairs are of one genre, and pieces drift")
        self._resident: Tensor | None = None
        if device.type != "cpu" and self._fits():
            self._resident = torch.from_numpy(self._pixels[self._rows]).to(device)
            if self._neighbours is not None:
                self._neighbours = self._neighbours.to(device)

    def epoch(self, number: int, start: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """Batches of epoch `number` (from 0), from batch `start` to before `stop` or the end."""

        def generator(name: str) -> torch.Generator:
            return generator_at("cpu", self.seed, name, number)

        order = torch.randperm(self.size, generator=generator("order"))
        order = order.repeat(-(-self.steps_per_epoch * self.batch_size // self.size))
        order = order[: self.steps_per_epoch * self.batch_size].view(-1, self.batch_size)
        picks = [order]
        if self._partners is not None:
            draws = torch.rand(order.shape, generator=generator("partners"))
            picks.append(self._partners.of(order, draws))
        half = self._pixels.shape[2] // 2
        generator_of_windows = generator("windows")
        offsets = [
            torch.randint(-half, half, order.shape, generator=generator_of_windows) for _ in picks
        ]
        # (batches, 2, K, B): images, and the offsets of windows.
        indices = torch.stack([torch.stack(picks, dim=1), torch.stack(offsets, dim=1)], dim=1)
        indices = self.distributed.shard(indices[start:stop], dim=3)
        if self._resident is None:
            yield from self._from_host(indices)
            return
        if self.device.type == "cuda":
            # A copy from pinned memory does not wait for work queued on the GPU.
            indices = indices.pin_memory()
        for pick, offset in indices.to(self.device, non_blocking=indices.is_pinned()):
            pixels = self._cut(self._resident.__getitem__, pick, offset)
            yield as_images(pixels), self.labels[pick[0]]

    def _cut(self, fetch: Callable[[Tensor], Tensor], picks: Tensor, offsets: Tensor) -> Tensor:
        """Pixels uint8 (B, K, H, W) of images, or of windows near them.

        Args:
            fetch: indices (B,) -> images (B, H, W).
            picks, offsets: (K, B).
        """
        if self._neighbours is None:
            return torch.stack([fetch(pick) for pick in picks], dim=1)
        width = self._pixels.shape[2]
        windows = []
        for pick, offset in zip(picks, offsets, strict=True):
            left, right, start = place_windows(pick, offset, self._neighbours, width)
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
        return bool(self._rows.size * self._pixels[0].nbytes <= DEVICE_SHARE * free)

    def _from_host(self, indices: Tensor) -> Iterator[Batch]:
        """Batches gathered by a thread that runs ahead, so the step never waits for the disk."""

        def fetch(picks: Tensor) -> Tensor:
            return torch.from_numpy(self._pixels[self._rows[picks.numpy()]])

        def gather(picks: Tensor, offsets: Tensor) -> Batch:
            pixels = self._cut(fetch, picks, offsets)
            labels = torch.from_numpy(self._host_labels[picks[0].numpy()])
            if self.device.type == "cuda":
                pixels = pixels.pin_memory().to(self.device, non_blocking=True)
                labels = labels.pin_memory().to(self.device, non_blocking=True)
            return as_images(pixels), labels

        with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
            ahead: deque[Future[Batch]] = deque()
            for picks, offsets in indices:
                ahead.append(thread.submit(gather, picks, offsets))
                if len(ahead) > BATCHES_AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()


def neighbours(tracks: Integers, segments: Integers) -> Integers:
    """Indices of the image before and after each one, (2, N); -1 where there is none.

    Args:
        tracks, segments: (N,); segment k + 1 of a track begins where k ends.
    """
    keys = list(zip(tracks.tolist(), segments.tolist(), strict=True))
    index = {key: number for number, key in enumerate(keys)}
    found = [
        [index.get((track, segment + step), -1) for track, segment in keys] for step in (-1, 1)
    ]
    return np.array(found, dtype=np.int64)


class Partners:
    """Draws for each image another one of its track, or of its label if the track has no other.

    Args:
        tracks, labels: int64 (N,).
    """

    def __init__(self, tracks: Integers, labels: Integers) -> None:
        sizes = np.bincount(tracks)[tracks]
        # The only images of their tracks form one group per label.
        groups = np.where(sizes > 1, tracks, tracks.max() + 1 + labels)
        order = np.argsort(groups, kind="stable")
        _, first, group, size = np.unique(
            groups[order], return_index=True, return_inverse=True, return_counts=True
        )
        rank = np.empty(len(groups), dtype=np.int64)
        rank[order] = np.arange(len(groups))
        self._order = torch.from_numpy(order)
        self._rank = torch.from_numpy(rank)
        self._first = torch.from_numpy(first[group][rank])
        self._size = torch.from_numpy(size[group][rank])

    def of(self, picks: Tensor, draws: Tensor) -> Tensor:
        """An image for each of `picks`, int64, by uniform `draws` in [0, 1) of the same shape."""
        first, size = self._first[picks], self._size[picks]
        step = 1 + (draws * (size - 1)).long()
        return self._order[first + (self._rank[picks] - first + step) % size]


def place_windows(
    picks: Tensor, offsets: Tensor, neighbours: Tensor, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The pair of images that each window overlaps, and the column where it starts in the pair.

    A window that would leave its track is mirrored to the other side, and stays on its image if
    that has no neighbour at all.

    Args:
        picks: int64 (B,), the images that the windows lie around.
        offsets: int64 (B,), in [-width / 2, width / 2) frames.
        neighbours: (2, N), of the function of that name.
        width: frames in an image.

    Returns:
        left, right: images, int64 (B,).
        start: int64 (B,), in [0, width).
    """
    before, after = neighbours[:, picks]
    offsets = torch.where((offsets < 0) & (before < 0), -offsets, offsets)
    offsets = torch.where(
        (offsets > 0) & (after < 0), torch.where(before < 0, 0, -offsets), offsets
    )
    left = torch.where(offsets < 0, before, picks)
    right = torch.where(offsets > 0, after, picks)
    return left, right, offsets % width


def cut_windows(left: Tensor, right: Tensor, start: Tensor) -> Tensor:
    """Windows (B, H, W) that begin at column `start` (B,) of left and right (B, H, W) joined."""
    pair = torch.cat([left, right], dim=2)
    columns = start[:, None] + torch.arange(left.shape[2], device=left.device)
    return pair.gather(2, columns[:, None, :].expand(-1, left.shape[1], -1))
