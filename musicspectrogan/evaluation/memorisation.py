"""Does a generator copy? Each image is held against every training track, at every shift in time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from musicspectrogan.data.dataset import ImageDataset
from musicspectrogan.progress import progress_bar

Array = NDArray[np.floating]

# Bounds the memory that a track of hours takes.
WINDOWS_AT_ONCE = 1024
# Part of the held-out images that count as near to training: the false alarms that are accepted.
NEAR_QUANTILE = 0.05


@dataclass(frozen=True)
class Nearness:
    """How near each of N images is to the training tracks."""

    nearest_db: Array
    """(N,): RMS difference to the nearest window of all, in dB."""
    usual_db: Array
    """(N,): the same to the nearest window of a track, mean over tracks."""
    windows: NDArray[np.uint8]
    """uint8 (N, H, W): the training frames that each image is nearest to."""

    @property
    def relative(self) -> Array:
        """(N,): nearest over usual. A plain image is near to every track; a copy to one alone."""
        return self.nearest_db / np.maximum(self.usual_db, np.finfo(np.float32).tiny)

    def take(self, rows: NDArray[np.int64]) -> Nearness:
        """That of some of the images."""
        return Nearness(self.nearest_db[rows], self.usual_db[rows], self.windows[rows])


def nearness(
    pixels: NDArray[np.uint8],
    dataset: ImageDataset,
    tracks: Array,
    device: torch.device,
    bar_title: str,
) -> Nearness:
    """Hold images uint8 (N, H, W) against all windows of some tracks of a dataset.

    Consecutive segments are joined, and the run is closed to a ring, so that a lone image too is met
    at every shift.

    Args:
        tracks: their numbers in the dataset.
    """
    images = torch.from_numpy(pixels).to(device).flatten(1).float() / 255.0
    energies = images.square().sum(dim=1)
    nearest = np.full(len(pixels), np.inf)
    sums = np.zeros(len(pixels))
    found = np.zeros_like(pixels)
    with progress_bar(total=len(tracks), description=bar_title, unit="track") as bar:
        for track in tracks:
            nearest_here = np.full(len(pixels), np.inf)
            for ring in _rings(dataset, track):
                for windows in _windows(ring, pixels.shape[2]):
                    flat = torch.from_numpy(windows).to(device).flatten(1).float() / 255.0
                    squares = torch.addmm(flat.square().sum(dim=1), images, flat.T, alpha=-2.0)
                    least, which = squares.min(dim=1)
                    # A product in float32 may be below zero by rounding.
                    mean_square = ((least + energies) / images.shape[1]).clamp(min=0.0)
                    distances = mean_square.sqrt().cpu().numpy()
                    nearest_here = np.minimum(nearest_here, distances)
                    closer = distances < nearest
                    nearest[closer] = distances[closer]
                    found[closer] = windows[which.cpu().numpy()[closer]]
            sums += nearest_here
            bar.update()
    top_db = dataset.spectrogram.top_db
    return Nearness(nearest * top_db, sums / len(tracks) * top_db, found)


def nearness_figures(
    sample: Nearness, held_out: Nearness, sample_weights: Array, held_out_weights: Array
) -> dict[str, float]:
    """`nearest_training`, the median difference in dB, and `copied`, the share of samples that are
    relatively nearer to one track than all but NEAR_QUANTILE of the held-out images are."""

    def quantile(values: Array, q: float, weights: Array) -> float:
        return float(np.quantile(values, q, weights=weights, method="inverted_cdf"))

    limit = quantile(held_out.relative, NEAR_QUANTILE, held_out_weights)
    near = sample.relative < limit
    return {
        "nearest_training": quantile(sample.nearest_db, 0.5, sample_weights),
        "copied": float(sample_weights @ near / sample_weights.sum()),
    }


def _rings(dataset: ImageDataset, track: int) -> Iterator[NDArray[np.uint8]]:
    """Each run of consecutive segments of a track, uint8 (H, T)."""
    (members,) = np.nonzero(dataset.tracks == track)
    members = members[np.argsort(dataset.segments[members], kind="stable")]
    gaps = np.nonzero(np.diff(dataset.segments[members]) != 1)[0] + 1
    for run in np.split(members, gaps):
        yield np.concatenate(list(dataset.pixels[dataset.rows[run]]), axis=1)


def _windows(ring: NDArray[np.uint8], width: int) -> Iterator[NDArray[np.uint8]]:
    """All windows of a ring (H, T), T at least `width`: uint8 (n, H, width), some at a time."""
    closed = np.concatenate([ring, ring[:, : width - 1]], axis=1)
    views = np.lib.stride_tricks.sliding_window_view(closed, width, axis=1).swapaxes(0, 1)
    for start in range(0, len(views), WINDOWS_AT_ONCE):
        yield np.ascontiguousarray(views[start : start + WINDOWS_AT_ONCE])
