"""Windows at any offset: images that begin anywhere in a track, and not only where it was cut.

Consecutive segments of a track join without a seam, so whatever lies across two of them is music as good as
theirs: some sixty times as many views, for the price of two images in place of one.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def neighbours(tracks: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Where the image before and after each one is, int64 (2, N); -1 where there is none.

    Args:
        tracks, segments: int64 (N,); segment k + 1 of a track begins where k ends.
    """
    keys = list(zip(tracks.tolist(), segments.tolist(), strict=True))
    place = {key: position for position, key in enumerate(keys)}
    found = [
        [place.get((track, segment + step), -1) for track, segment in keys] for step in (-1, 1)
    ]
    return np.array(found, dtype=np.int64)


class Partners:
    """For each image another one of the same track; where that has no other, one of the same label.

    Args:
        tracks, labels: int64 (N,).
    """

    def __init__(self, tracks: np.ndarray, labels: np.ndarray) -> None:
        sizes = np.bincount(tracks)[tracks]
        # The only images of their tracks are one group a label.
        groups = np.where(sizes > 1, tracks, tracks.max() + 1 + labels)
        self._order = torch.from_numpy(np.argsort(groups, kind="stable"))
        _, first, group, size = np.unique(
            groups[self._order], return_index=True, return_inverse=True, return_counts=True
        )
        place = np.empty(len(groups), dtype=np.int64)
        place[self._order] = np.arange(len(groups))
        self._place, self._first, self._size = (
            torch.from_numpy(part) for part in (place, first[group][place], size[group][place])
        )

    def of(self, picks: Tensor, draws: Tensor) -> Tensor:
        """An image for each of `picks`, int64, by `draws`, uniform in [0, 1), of the same shape."""
        first, size = self._first[picks], self._size[picks]
        step = 1 + (draws * (size - 1)).long()
        return self._order[first + (self._place[picks] - first + step) % size]


def place_windows(
    picks: Tensor, offsets: Tensor, beside: Tensor, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The pair of images that each window lies across, and the column where it starts in the pair.

    A window that would leave its track is mirrored to the other side, and stays on its image where that
    has no neighbour at all.

    Args:
        picks: int64 (B,), images around whose own place the windows lie.
        offsets: int64 (B,), in [-width / 2, width / 2) frames.
        beside: neighbours (2, N).
        width: frames in an image.

    Returns:
        left, right: images, int64 (B,).
        start: int64 (B,), in [0, width).
    """
    before, after = beside[:, picks]
    offsets = torch.where((offsets < 0) & (before < 0), -offsets, offsets)
    offsets = torch.where(
        (offsets > 0) & (after < 0), torch.where(before < 0, 0, -offsets), offsets
    )
    left = torch.where(offsets < 0, before, picks)
    right = torch.where(offsets > 0, after, picks)
    return left, right, offsets % width


def cut_windows(left: Tensor, right: Tensor, start: Tensor) -> Tensor:
    """The windows (B, H, W) that begin at `start` (B,) in left and right (B, H, W) side by side."""
    pair = torch.cat([left, right], dim=2)
    columns = start[:, None] + torch.arange(left.shape[2], device=left.device)
    return pair.gather(2, columns[:, None, :].expand(-1, left.shape[1], -1))
