"""Detect copies of training data: compare images with every window of the training tracks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from musicspectrogan.data.dataset import ImageDataset
from musicspectrogan.progress import progress_bar

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]

# Bounds the memory for tracks of hours.
WINDOWS_PER_BATCH = 1024
# Accepted rate of false alarms: this part of the held-out images counts as copied.
COPY_QUANTILE = 0.05


@dataclass(frozen=True)
class Nearest:
    """The nearest training window of each of N images."""

    nearest_db: Floats
    """(N,): RMS difference to the nearest window of all tracks, in dB."""
    usual_db: Floats
    """(N,): RMS difference to the nearest window of one track, mean over tracks."""
    windows: Pixels
    """uint8 (N, H, W): the nearest window."""

    @property
    def relative(self) -> Floats:
        """(N,): nearest over usual. A plain image is near to every track; a copy to only one."""
        return np.asarray(self.nearest_db / np.maximum(self.usual_db, np.finfo(np.float32).tiny))

    def take(self, rows: Ints) -> Nearest:
        """Select images by their indices."""
        return Nearest(self.nearest_db[rows], self.usual_db[rows], self.windows[rows])


def search_training(
    pixels: Pixels, dataset: ImageDataset, tracks: Ints, device: torch.device, description: str
) -> Nearest:
    """Compare images uint8 (N, H, W) with the windows of training tracks at every shift in time.

    Consecutive segments are concatenated and closed to a ring, so that a single image has all
    shifts too.

    Args:
        tracks: numbers of the tracks to search.
        description: text of the progress bar.
    """
    images = torch.from_numpy(pixels).to(device).flatten(1).float() / 255.0
    energies = images.square().sum(dim=1)
    nearest = np.full(len(pixels), np.inf)
    sums = np.zeros(len(pixels))
    found = np.zeros_like(pixels)
    with progress_bar(total=len(tracks), description=description, unit="track") as bar:
        for track in tracks:
            nearest_in_track = np.full(len(pixels), np.inf)
            for windows in _windows(dataset, track, pixels.shape[2]):
                flat = torch.from_numpy(windows).to(device).flatten(1).float() / 255.0
                squares = torch.addmm(flat.square().sum(dim=1), images, flat.T, alpha=-2.0)
                least, which = squares.min(dim=1)
                # Rounding of the product in float32 may make it negative.
                mean_square = ((least + energies) / images.shape[1]).clamp(min=0.0)
                distances = mean_square.sqrt().cpu().numpy()
                nearest_in_track = np.minimum(nearest_in_track, distances)
                closer = distances < nearest
                nearest[closer] = distances[closer]
                found[closer] = windows[which.cpu().numpy()[closer]]
            sums += nearest_in_track
            bar.update()
    top_db = dataset.spectrogram.top_db
    return Nearest(nearest * top_db, sums / len(tracks) * top_db, found)


def _windows(dataset: ImageDataset, track: int, width: int) -> Iterator[Pixels]:
    """Batches of all windows uint8 (n, H, width) of a track, at every shift."""
    (members,) = np.nonzero(dataset.tracks == track)
    members = members[np.argsort(dataset.segments[members], kind="stable")]
    gaps = np.nonzero(np.diff(dataset.segments[members]) != 1)[0] + 1
    for run in np.split(members, gaps):
        images = list(dataset.pixels[dataset.rows[run]])
        ring = np.concatenate([*images, images[0][:, : width - 1]], axis=1)
        views = np.lib.stride_tricks.sliding_window_view(ring, width, axis=1).swapaxes(0, 1)
        for start in range(0, len(views), WINDOWS_PER_BATCH):
            yield np.ascontiguousarray(views[start : start + WINDOWS_PER_BATCH])


def copy_figures(
    sample: Nearest, held_out: Nearest, sample_weights: Floats, held_out_weights: Floats
) -> dict[str, float]:
    """`nearest_training`, the median difference in dB, and `copied`, a share of the samples.

    A sample is copied if its relative difference is below the `COPY_QUANTILE` of held-out images.
    """

    def quantile(values: Floats, q: float, weights: Floats) -> float:
        return float(np.quantile(values, q, weights=weights, method="inverted_cdf"))

    copied = sample.relative < quantile(held_out.relative, COPY_QUANTILE, held_out_weights)
    return {
        "nearest_training": quantile(sample.nearest_db, 0.5, sample_weights),
        "copied": float(sample_weights @ copied / sample_weights.sum()),
    }
