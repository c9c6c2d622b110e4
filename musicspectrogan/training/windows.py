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
    found = [[place.get((track, segment + step), -1) for track, segment in keys] for step in (-1, 1)]
    return np.array(found, dtype=np.int64)


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
    offsets = torch.where((offsets > 0) & (after < 0), torch.where(before < 0, 0, -offsets), offsets)
    left = torch.where(offsets < 0, before, picks)
    right = torch.where(offsets > 0, after, picks)
    return left, right, offsets % width


def cut_windows(left: Tensor, right: Tensor, start: Tensor) -> Tensor:
    """The windows (B, H, W) that begin at `start` (B,) in left and right (B, H, W) side by side."""
    pair = torch.cat([left, right], dim=2)
    columns = start[:, None] + torch.arange(left.shape[2], device=left.device)
    return pair.gather(2, columns[:, None, :].expand(-1, left.shape[1], -1))
