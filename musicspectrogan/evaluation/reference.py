"""What samples are compared with: real images, and the feature extractors fitted to them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.cluster import KMeans
from sklearn.metrics.pairwise import polynomial_kernel

from musicspectrogan.counts import format_count
from musicspectrogan.data.dataset import ImageDataset, load_dataset
from musicspectrogan.data.manifest import MANIFEST_NAME, Manifest, is_foreign
from musicspectrogan.data.splits import find_split_folders
from musicspectrogan.errors import UserError
from musicspectrogan.evaluation.features import (
    FeatureSpace,
    GenreClassifier,
    cached_classifiers,
    fit_pca,
)
from musicspectrogan.evaluation.memorisation import Nearest, search_training
from musicspectrogan.evaluation.metrics import Neighbourhoods, fit_bins, kernel_distance
from musicspectrogan.evaluation.musicnn import Listener, fit_musicnn
from musicspectrogan.evaluation.samples import ClipWindows, ImageSet, Ints, Pixels, choose_clips
from musicspectrogan.evaluation.settings import MIN_IMAGES, MIN_TRACKS, MUSICNN

logger = logging.getLogger(__name__)

# The most real images to use, which bounds memory and time for datasets of any size.
MAX_TRAINING, MAX_HELD_OUT = 4000, 2000
# The most images of whole tracks, of each split, to compare pieces with.
MAX_TRACK_IMAGES = 2000
# The most tracks to search for copies, and the most images to search for in them.
MAX_SEARCHED_TRACKS, MAX_QUERIES = 1000, 500
# The most real images of each split for the scores during training.
MAX_VALIDATION = 1000


@dataclass(frozen=True)
class Splits:
    """The real tracks of an evaluation."""

    training: ImageDataset
    held_out: ImageDataset
    """The tracks that samples are compared with."""
    split: str
    """Which tracks these are: test, validation, or held-out (both)."""
    remarks: tuple[str, ...] = ()
    """Caveats about that choice, for the report."""


def load_splits(root: Path, split: str | None = None) -> Splits:
    """Load training and held-out images of a dataset made by preprocess, or of train/ and test/.

    Args:
        split: test, validation, or held-out (both). None for the test tracks, because scores on the
            validation tracks are too good for a checkpoint chosen on them. If there are too few
            test tracks, None uses held-out and adds a remark.

    Raises:
        UserError: no track is held out, or too few are.
    """
    known = _known_splits(root) if root.is_dir() else set()
    training = _load_enough(root, "training", times=2)
    if split is not None:
        return Splits(training, _load_enough(root, split), split)
    problem = "There are no test tracks"
    if "test" in known:
        test = load_dataset(root, split="test")
        if _is_enough(test):
            return Splits(training, test, "test")
        problem = f"The test split has {_size(test)}, too few"
    remark = (
        f"{problem} to judge by: the validation tracks, on which best.pt is chosen, were used too."
    )
    return Splits(training, _load_enough(root, "held-out"), "held-out", (remark,))


def _known_splits(root: Path) -> set[str]:
    """Return the names of a dataset's splits; raise UserError if it has none."""
    manifest = Manifest.read(root)
    if manifest is not None:
        return {track["split"] for track in manifest.tracks}
    folders = find_split_folders(root)
    if folders is None:
        what = f"has no {MANIFEST_NAME}" + (" but another tool's" if is_foreign(root) else "")
        raise UserError(
            f"--dataset {root}: {what}, so none of its tracks is known to be held out; make the "
            "folder with preprocess.py, or put the classes into folders train and test"
        )
    return set(folders.values())


def _load_enough(root: Path, split: str, times: int = 1) -> ImageDataset:
    """Load a split; raise UserError if it has less than `times` the minimum size."""
    dataset = load_dataset(root, split=split)
    if not _is_enough(dataset, times):
        raise UserError(
            f"--dataset {root}: its split {split} has {_size(dataset)}; at least "
            f"{times * MIN_TRACKS} tracks and {times * MIN_IMAGES} images are needed to judge by: "
            "preprocess more music"
        )
    return dataset


def _is_enough(dataset: ImageDataset, times: int = 1) -> bool:
    n_tracks = len(np.unique(dataset.tracks))
    return len(dataset) >= times * MIN_IMAGES and n_tracks >= times * MIN_TRACKS


def _size(dataset: ImageDataset) -> str:
    tracks = format_count(len(np.unique(dataset.tracks)), "track")
    return f"{tracks} with {format_count(len(dataset), 'image')}"


def _labels_in(dataset: ImageDataset, genres: list[str]) -> Ints:
    """Labels (N,) of a dataset's images as indices into `genres`; -1 for other genres."""
    indices = np.array([genres.index(genre) if genre in genres else -1 for genre in dataset.genres])
    return np.asarray(indices[dataset.labels])


def load_images(
    dataset: ImageDataset, genres: list[str], limit: int | None, rng: np.random.Generator
) -> ImageSet:
    """Load the images of a split, or at most `limit` of them drawn at random.

    Args:
        genres: what labels index; images of other genres are left out.
    """
    labels = _labels_in(dataset, genres)
    (rows,) = np.nonzero(labels >= 0)
    if limit is not None and len(rows) > limit:
        rows = np.sort(rng.choice(rows, limit, replace=False))
    pixels = np.asarray(dataset.pixels[dataset.rows[rows]])
    return ImageSet(pixels, labels[rows], dataset.tracks[rows])


def load_tracks(
    dataset: ImageDataset, genres: list[str], limit: int, rng: np.random.Generator
) -> ClipWindows:
    """Load whole tracks of a split, drawn at random until they have at least `limit` images.

    Args:
        genres: what labels index; tracks of other genres are left out.
    """
    labels = _labels_in(dataset, genres)
    (known,) = np.nonzero(labels >= 0)
    rows = known[choose_clips(dataset.tracks[known], limit, rng)]
    pixels = np.asarray(dataset.pixels[dataset.rows[rows]])
    images = ImageSet(pixels, labels[rows], dataset.tracks[rows])
    return ClipWindows(images, dataset.segments[rows])


@dataclass(frozen=True)
class FeatureExtractors:
    """Feature spaces fitted to one half of the training tracks.

    They are biased towards the images that they were fitted to. The scores of real music are
    therefore those of the other half.
    """

    classifier: GenreClassifier
    spaces: dict[str, FeatureSpace]
    """The feature spaces by name: `classifier`, `untrained` and, if asked for, `musicnn`."""
    bins: dict[str, KMeans]
    """Bins of each feature space."""
    fitted_tracks: Ints
    """Numbers of the training tracks that they were fitted to."""
    other_half: ImageSet
    """Split-half reference: the images of the other half, scored in the place of samples."""


@dataclass(frozen=True)
class Reference:
    """A dataset's real images, and the feature extractors fitted to its training split."""

    splits: Splits
    genres: list[str]
    training: ImageSet
    held_out: ImageSet
    extractors: tuple[FeatureExtractors, ...]
    """One for each half of the training tracks; metrics are means over both."""
    searched_tracks: Ints
    """Numbers of the training tracks that are searched for copies."""
    queries: ImageSet
    """Held-out images that are searched for, as a baseline for samples."""
    nearest: Nearest
    """Nearest training frames of the queries."""
    device: torch.device

    @property
    def dataset(self) -> ImageDataset:
        """The training split."""
        return self.splits.training

    @cached_property
    def tracks(self) -> ClipWindows:
        """Whole real tracks, held-out and training, to compare pieces with.

        Both splits, because coherence needs two tracks of a genre, and it does not matter here
        which were seen in training. Clips of the training split have the numbers of its tracks,
        from 0 up; those of held-out tracks are negative.
        """
        rng = np.random.default_rng(0)
        held_out, training = (
            load_tracks(split, self.genres, MAX_TRACK_IMAGES, rng)
            for split in (self.splits.held_out, self.splits.training)
        )
        images = ImageSet(
            np.concatenate([training.images.pixels, held_out.images.pixels]),
            np.concatenate([training.images.labels, held_out.images.labels]),
            np.concatenate([training.images.clips, -1 - held_out.images.clips]),
        )
        return ClipWindows(images, np.concatenate([training.positions, held_out.positions]))

    @property
    def has_genres(self) -> bool:
        """Whether there is more than one genre."""
        return len(self.genres) > 1

    @property
    def feature_names(self) -> list[str]:
        """Names of the feature spaces."""
        return list(self.extractors[0].spaces)

    def classify(self, pixels: Pixels) -> Ints:
        """Predict labels (N,) of images uint8 (N, H, W) with the ensemble of classifiers."""
        votes = [extractors.classifier.probabilities(pixels) for extractors in self.extractors]
        return np.asarray(np.mean(votes, axis=0).argmax(axis=1))


def build_reference(
    root: Path, splits: Splits, device: torch.device, listener: Listener | None = None
) -> Reference:
    """Fit the feature extractors, which depend on the dataset but not on a seed.

    Args:
        root: the dataset's folder, in which the classifiers are cached.
        splits: its real tracks.
        listener: for a third feature space.
    """
    rng = np.random.default_rng(0)
    dataset = splits.training
    training = load_images(dataset, dataset.genres, MAX_TRAINING, rng)
    held_out = load_images(splits.held_out, dataset.genres, MAX_HELD_OUT, rng)
    if listener is not None:
        listener(training.pixels, "training images")
        listener(held_out.pixels, "held-out images")
    halves = split_in_halves(training)
    labelled, n_classes = halves, len(dataset.genres)
    if n_classes == 1:  # classify tracks instead of genres
        labelled = [
            ImageSet(h.pixels, np.unique(h.clips, return_inverse=True)[1], h.clips) for h in halves
        ]
        n_classes = max(half.n_clips for half in halves)
    classifiers = cached_classifiers(root, labelled, n_classes, device)
    tracks = np.unique(dataset.tracks)
    if len(tracks) > MAX_SEARCHED_TRACKS:
        tracks = np.sort(rng.choice(tracks, MAX_SEARCHED_TRACKS, replace=False))
    queries = held_out.subsample(MAX_QUERIES, rng)
    return Reference(
        splits=splits,
        genres=dataset.genres,
        training=training,
        held_out=held_out,
        extractors=tuple(
            _fit_extractors(classifier, fitted, other_half, listener)
            for classifier, fitted, other_half in zip(
                classifiers, halves, halves[::-1], strict=True
            )
        ),
        searched_tracks=tracks,
        queries=queries,
        nearest=search_training(
            queries.pixels, dataset, tracks, device, "Held-out images against training"
        ),
        device=device,
    )


def split_in_halves(images: ImageSet) -> list[ImageSet]:
    """Split the clips of each genre into two halves; a single clip is in only one of them."""
    clips, first = np.unique(images.clips, return_index=True)
    by_genre = clips[np.argsort(images.labels[first], kind="stable")]
    return [images.take(np.isin(images.clips, by_genre[half::2])) for half in (0, 1)]


def _fit_extractors(
    classifier: GenreClassifier,
    fitted: ImageSet,
    other_half: ImageSet,
    listener: Listener | None,
) -> FeatureExtractors:
    embeddings = {"classifier": classifier.embed, "untrained": fit_pca(fitted.pixels)}
    if listener is not None:
        embeddings[MUSICNN] = fit_musicnn(listener, fitted.pixels)
    spaces = {name: FeatureSpace.fit(embed, fitted.pixels) for name, embed in embeddings.items()}
    bins = {name: fit_bins(space(fitted.pixels)) for name, space in spaces.items()}
    return FeatureExtractors(classifier, spaces, bins, np.unique(fitted.clips), other_half)


def quality_by_validation(
    root: Path, training: ImageDataset
) -> Callable[[npt.NDArray[np.uint8]], dict[str, float]] | None:
    """Prepare the scores of samples during training: kernel distance, coverage and diversity.

    They are those of `evaluate` in the untrained features, which are fitted in a second, against
    the validation tracks; the test tracks stay unseen.

    Args:
        root: the dataset's folder.
        training: its training split, to which the features are fitted.

    Returns:
        A function of samples uint8 (N, H, W), with the same N throughout a run, because coverage
        depends on it. None if there are too few validation tracks.
    """
    try:
        validation = load_splits(root, "validation").held_out
    except UserError as error:
        logger.info("Samples are not judged while training: %s", error)
        return None
    rng = np.random.default_rng(0)
    fitted, reference = (
        load_images(part, part.genres, MAX_VALIDATION, rng).pixels
        for part in (training, validation)
    )
    space = FeatureSpace.fit(fit_pca(fitted), fitted)
    real = space(reference)
    within_real = polynomial_kernel(real)

    def score(pixels: Pixels) -> dict[str, float]:
        samples = space(pixels)
        once = np.ones(len(samples)), np.ones(len(real))
        neighbours = Neighbourhoods(samples, real).figures(*once)
        kernels = (polynomial_kernel(samples), within_real, polynomial_kernel(samples, real))
        return {
            "kernel_distance": kernel_distance(*kernels, *once),
            "coverage": neighbours["coverage"],
            "diversity": neighbours["diversity"],
        }

    return score
