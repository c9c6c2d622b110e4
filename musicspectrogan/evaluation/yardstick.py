"""What all subjects are measured with: a dataset's real images, and the instruments fitted to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.cluster import KMeans

from musicspectrogan.data.dataset import ImageDataset
from musicspectrogan.evaluation.bins import fit_bins
from musicspectrogan.evaluation.classifier import GenreClassifier, cached_classifier
from musicspectrogan.evaluation.features import FeatureSpace, untrained_embedding
from musicspectrogan.evaluation.memorisation import Nearness, nearness
from musicspectrogan.evaluation.sets import ImageSet, images_of

# Real images of a kind that are looked at: bounds memory and time for datasets of any size.
MOST_IMAGES = 2000
# Tracks that are searched for copies, and images that are searched for among them.
MOST_TRACKS, MOST_SUSPECTS = 1000, 500


@dataclass(frozen=True)
class Yardstick:
    """A dataset's real images, and the instruments fitted to its training split."""

    dataset: ImageDataset
    """The training split."""
    genres: list[str]
    training: ImageSet
    held_out: ImageSet
    classifier: GenreClassifier
    spaces: dict[str, FeatureSpace]
    """The two kinds of features, by name."""
    bins: dict[str, KMeans]
    tracks: np.ndarray
    """Training tracks that are searched for copies."""
    suspects: ImageSet
    """Held-out images that are searched for, as a standard for samples."""
    nearness: Nearness
    """Of the suspects."""
    device: torch.device

    @property
    def knows_genres(self) -> bool:
        """Whether there is more than one genre to tell apart."""
        return len(self.genres) > 1


def make_yardstick(root: Path, dataset: ImageDataset, rest: ImageDataset, device: torch.device) -> Yardstick:
    """Fit the instruments. They depend on the dataset alone, not on a seed.

    Args:
        root: the dataset's folder, where the classifier is kept.
        dataset: its training split.
        rest: real tracks to judge by.
    """
    rng = np.random.default_rng(0)
    training, held_out = (images_of(part, dataset.genres, MOST_IMAGES, rng) for part in (dataset, rest))
    taught, n_classes = training, len(dataset.genres)
    if n_classes == 1:  # tracks can always be told apart
        _, clips = np.unique(training.clips, return_inverse=True)
        taught, n_classes = ImageSet(training.pixels, clips, training.clips), int(clips.max()) + 1
    # The same classifier for every split and seed: it is a part of the yardstick.
    classifier = cached_classifier(root, dataset, taught, n_classes, device)
    embeddings = {"classifier": classifier.embed, "untrained": untrained_embedding(training.pixels)}
    spaces = {name: FeatureSpace.fit(embed, training.pixels) for name, embed in embeddings.items()}
    tracks = np.unique(dataset.tracks)
    if len(tracks) > MOST_TRACKS:
        tracks = np.sort(rng.choice(tracks, MOST_TRACKS, replace=False))
    suspects = held_out.at_most(MOST_SUSPECTS, rng)
    return Yardstick(
        dataset=dataset,
        genres=dataset.genres,
        training=training,
        held_out=held_out,
        classifier=classifier,
        spaces=spaces,
        bins={name: fit_bins(space(training.pixels)) for name, space in spaces.items()},
        tracks=tracks,
        suspects=suspects,
        nearness=nearness(suspects.pixels, dataset, tracks, device, "Held-out images against training"),
        device=device,
    )
