"""What all subjects are measured with: a dataset's real images, and the instruments fitted to them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from musicspectrogan.data.dataset import ImageDataset
from musicspectrogan.evaluation.bins import fit_bins
from musicspectrogan.evaluation.classifier import GenreClassifier, cached_classifiers
from musicspectrogan.evaluation.features import FeatureSpace, untrained_embedding
from musicspectrogan.evaluation.memorisation import Nearness, nearness
from musicspectrogan.evaluation.sets import ImageSet, Splits, images_of
from musicspectrogan.evaluation.stretches import Stretches, joined, tracks_of

# Real images that are looked at: bounds memory and time for datasets of any size.
MOST_TRAINING, MOST_HELD_OUT = 4000, 2000
# Images of whole tracks, of either split, that pieces are held against.
MOST_OF_TRACKS = 2000
# Tracks that are searched for copies, and images that are searched for among them.
MOST_TRACKS, MOST_SUSPECTS = 1000, 500


@dataclass(frozen=True)
class Instruments:
    """What was fitted to one half of the training tracks.

    The other half stands in for samples where real music is to be measured: of the images that it was
    fitted to, an instrument has too good an opinion.
    """

    classifier: GenreClassifier
    spaces: dict[str, FeatureSpace]
    """The two kinds of features, by name."""
    bins: dict[str, KMeans]
    """For each kind of features."""
    fitted_to: NDArray[np.int64]
    """Numbers of the training tracks that it was fitted to."""
    stand_in: ImageSet
    """The other half."""


@dataclass(frozen=True)
class Yardstick:
    """A dataset's real images, and the instruments fitted to its training split."""

    splits: Splits
    genres: list[str]
    training: ImageSet
    held_out: ImageSet
    instruments: tuple[Instruments, ...]
    """One pair of halves, used both ways round; figures are means over both."""
    tracks: NDArray[np.int64]
    """Training tracks that are searched for copies."""
    suspects: ImageSet
    """Held-out images that are searched for, as a standard for samples."""
    nearness: Nearness
    """Of the suspects."""
    device: torch.device

    @property
    def dataset(self) -> ImageDataset:
        """The training split."""
        return self.splits.training

    @cached_property
    def real_pieces(self) -> Stretches:
        """Whole real tracks, held out or of the training split, as a standard for pieces.

        Both, because of a genre at least two are needed, and what they say of music does not depend on
        which of them was seen in training. Clips of the training split have its tracks' numbers.
        """
        rng = np.random.default_rng(0)
        held_out, training = (
            tracks_of(split, self.genres, MOST_OF_TRACKS, rng)
            for split in (self.splits.held_out, self.splits.training)
        )
        return joined(training, held_out)

    @property
    def knows_genres(self) -> bool:
        """Whether there is more than one genre to tell apart."""
        return len(self.genres) > 1

    @property
    def kinds_of_features(self) -> list[str]:
        """Their names."""
        return list(self.instruments[0].spaces)

    def recognise(self, pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The label, (N,), that the classifiers together find most likely for images uint8 (N, H, W)."""
        votes = [instruments.classifier.probabilities(pixels) for instruments in self.instruments]
        return np.mean(votes, axis=0).argmax(axis=1)


def make_yardstick(root: Path, splits: Splits, device: torch.device) -> Yardstick:
    """Fit the instruments. They depend on the dataset alone, not on a seed.

    Args:
        root: the dataset's folder, where the classifiers are kept.
        splits: its real tracks.
    """
    rng = np.random.default_rng(0)
    dataset = splits.training
    training = images_of(dataset, dataset.genres, MOST_TRAINING, rng)
    held_out = images_of(splits.held_out, dataset.genres, MOST_HELD_OUT, rng)
    halves = split_in_halves(training)
    taught, n_classes = halves, len(dataset.genres)
    if n_classes == 1:  # tracks can always be told apart
        taught = [
            ImageSet(h.pixels, np.unique(h.clips, return_inverse=True)[1], h.clips) for h in halves
        ]
        n_classes = max(half.n_clips for half in halves)
    classifiers = cached_classifiers(root, taught, n_classes, device)
    tracks = np.unique(dataset.tracks)
    if len(tracks) > MOST_TRACKS:
        tracks = np.sort(rng.choice(tracks, MOST_TRACKS, replace=False))
    suspects = held_out.at_most(MOST_SUSPECTS, rng)
    return Yardstick(
        splits=splits,
        genres=dataset.genres,
        training=training,
        held_out=held_out,
        instruments=tuple(
            _fit(classifier, fitted, stand_in)
            for classifier, fitted, stand_in in zip(classifiers, halves, halves[::-1], strict=True)
        ),
        tracks=tracks,
        suspects=suspects,
        nearness=nearness(
            suspects.pixels, dataset, tracks, device, "Held-out images against training"
        ),
        device=device,
    )


def split_in_halves(images: ImageSet) -> list[ImageSet]:
    """Two sets with half of the clips of each genre; a genre with one clip is in one of them only."""
    clips, first = np.unique(images.clips, return_index=True)
    by_genre = clips[np.argsort(images.labels[first], kind="stable")]
    return [images.take(np.isin(images.clips, by_genre[side::2])) for side in (0, 1)]


def _fit(classifier: GenreClassifier, fitted: ImageSet, stand_in: ImageSet) -> Instruments:
    embeddings = {"classifier": classifier.embed, "untrained": untrained_embedding(fitted.pixels)}
    spaces = {name: FeatureSpace.fit(embed, fitted.pixels) for name, embed in embeddings.items()}
    bins = {name: fit_bins(space(fitted.pixels)) for name, space in spaces.items()}
    return Instruments(classifier, spaces, bins, np.unique(fitted.clips), stand_in)
