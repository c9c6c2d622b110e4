"""Compute all figures of samples, each with the same of real music."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from musicspectrogan.evaluation.features import train_classifier
from musicspectrogan.evaluation.memorisation import Nearest, copy_figures, search_training
from musicspectrogan.evaluation.metrics import Comparison, SpectralStatistics, spectral_figures
from musicspectrogan.evaluation.pieces import Structure
from musicspectrogan.evaluation.reference import MAX_QUERIES, Reference
from musicspectrogan.evaluation.report import Figure, Report
from musicspectrogan.evaluation.resampling import (
    REPLICATES,
    Figures,
    Pair,
    Side,
    estimate_pair,
    mean_figures,
)
from musicspectrogan.evaluation.samples import ImageSet, Ints, Samples
from musicspectrogan.evaluation.settings import MIN_IMAGES
from musicspectrogan.progress import progress_bar

Floats = npt.NDArray[np.float64]
# Figures of a comparison for the weights of its two sets.
Measure = Callable[[Comparison, Floats, Floats], Figures]

# Held-out tracks that a genre needs to have figures; with fewer they would be noise.
MIN_TRACKS_OF_GENRE = 8
# The most blocks of samples to compare; more take time and gain little.
MAX_BLOCKS = 12


@dataclass(frozen=True)
class _Group:
    """All images, or those of a genre."""

    genre: str | None = None
    label: int = 0

    def rows(self, images: ImageSet) -> Ints:
        """Rows of a set's images in the group."""
        everything = np.arange(len(images))
        return everything if self.genre is None else np.nonzero(images.labels == self.label)[0]


class Evaluator:
    """Computes the figures of samples, and keeps the intermediate results for the page.

    Args:
        seed: decides which samples are drawn, and how clips are resampled.
    """

    def __init__(self, samples: Samples, reference: Reference, seed: int) -> None:
        self.samples, self.reference, self.seed = samples, reference, seed
        self.images, self.held_out = samples.images, reference.held_out
        self.conditional = samples.conditional and reference.has_genres
        self._rng = np.random.default_rng(seed)

    def report(self) -> Report:
        """Compute the figures of all images, and of each genre with enough held-out tracks."""
        groups = list(self._groups())
        figures: list[Figure] = []
        with progress_bar(
            total=len(self.reference.feature_names) * len(groups),
            description="Comparing",
            unit="set",
        ) as bar:
            for group in groups:
                for name in self.reference.feature_names:
                    figures += self._compare(group, name)
                    bar.update()
        for group in groups:
            figures += self._classification(group)
            figures += self._copying(group)
            figures += self._spectrum(group)
        structure = self.structure
        if structure is not None:
            for group in groups:
                figures += structure.figures(group.genre, group.label)
        dataset = self.reference.dataset
        return Report(
            subject=self.samples.facts,
            dataset={
                "name": dataset.name,
                "genres": self.reference.genres,
                "training_images": len(dataset),
                "training_tracks": len(np.unique(dataset.tracks)),
                "split": self.reference.splits.split,
                "held_out_images": len(self.held_out),
                "held_out_tracks": self.held_out.n_clips,
            },
            settings={
                "seed": self.seed,
                "compared_at": self._block_size(groups[0]),
                "replicates": REPLICATES,
                **({"seconds": self.samples.seconds, **structure.facts} if structure else {}),
            },
            figures=figures,
            remarks=[
                *self.samples.remarks,
                *self.reference.splits.remarks,
                *(structure.remarks(figures) if structure else ()),
                *self._remarks(groups),
            ],
        )

    @cached_property
    def structure(self) -> Structure | None:
        """Structure of the pieces; None for single images."""
        if self.samples.pieces is None:
            return None
        return Structure(
            self.samples.pieces,
            [{name: sets["samples"] for name, sets in of.items()} for of in self.features],
            self.reference,
            pooled=not self.conditional,
            rng=self._rng,
        )

    @cached_property
    def features(self) -> list[dict[str, dict[str, Floats]]]:
        """Features (N, D) of each set, by name, for each of the feature extractors."""
        return [
            {
                name: {
                    "samples": space(self.images.pixels),
                    "held_out": space(self.held_out.pixels),
                    "other_half": space(extractors.other_half.pixels),
                }
                for name, space in extractors.spaces.items()
            }
            for extractors in self.reference.extractors
        ]

    @cached_property
    def spectra(self) -> dict[str, SpectralStatistics]:
        """Spectral statistics of each set."""
        training = self.reference.training
        sets = {"samples": self.images, "training": training, "held_out": self.held_out}
        config = self.reference.dataset.spectrogram
        return {name: SpectralStatistics.of(s.pixels, config) for name, s in sets.items()}

    @cached_property
    def queries(self) -> ImageSet:
        """The samples to search for in the training tracks."""
        return self.images.subsample(MAX_QUERIES, self._rng)

    @cached_property
    def nearest(self) -> Nearest:
        """Nearest training frames of the queries."""
        reference = self.reference
        return search_training(
            self.queries.pixels,
            reference.dataset,
            reference.searched_tracks,
            reference.device,
            "Samples against training",
        )

    @cached_property
    def predictions(self) -> dict[str, Ints]:
        """Predicted labels of samples and held-out images, the latter by two classifiers."""
        reference = self.reference
        trained_on_samples = train_classifier(
            self.images,
            len(reference.genres),
            reference.device,
            seed=self.seed,
            description="Training a classifier on the samples",
        )
        gan_train = trained_on_samples.probabilities(self.held_out.pixels).argmax(axis=1)
        return {
            "samples": reference.classify(self.images.pixels),
            "held_out": reference.classify(self.held_out.pixels),
            "held_out_by_samples": np.asarray(gan_train),
        }

    def _groups(self) -> Iterator[_Group]:
        yield _Group()
        if self.conditional:
            for label, genre in enumerate(self.reference.genres):
                group = _Group(genre, label)
                n_tracks = self.held_out.of_genre(label).n_clips
                if n_tracks >= MIN_TRACKS_OF_GENRE and self._block_size(group) >= MIN_IMAGES:
                    yield group

    def _block_size(self, group: _Group) -> int:
        """Size at which all sets are compared, because distances of small sets are larger."""
        halves = (group.rows(each.other_half) for each in self.reference.extractors)
        return min(len(group.rows(self.images)), *map(len, halves))

    def _blocks(self, rows: Ints, size: int) -> list[Ints]:
        """Split samples into blocks with equal proportions of genres, as the other halves have."""
        count = min(len(rows) // size, MAX_BLOCKS)
        shuffled = self._rng.permutation(rows)
        by_genre = shuffled[np.argsort(self.images.labels[shuffled], kind="stable")]
        parts = [by_genre[number::count] for number in range(count)]
        return [part[np.arange(size) * len(part) // size] for part in parts]

    def _compare(self, group: _Group, name: str) -> list[Figure]:
        """Compare samples, and the other half of the training images, with held-out images.

        Args:
            name: of the feature space.
        """
        size = self._block_size(group)
        blocks = self._blocks(group.rows(self.images), size)
        reference = group.rows(self.held_out)
        extractors = self.reference.extractors
        halves = [
            np.sort(self._rng.permutation(group.rows(each.other_half))[:size])
            for each in extractors
        ]

        def comparison(which: str, rows: Ints, number: int) -> Comparison:
            features, bins = self.features[number][name], extractors[number].bins[name]
            return Comparison(features[which][rows], features["held_out"][reference], bins)

        of_blocks = [
            [comparison("samples", rows, number) for number in range(len(extractors))]
            for rows in blocks
        ]
        of_halves = [comparison("other_half", rows, n) for n, rows in enumerate(halves)]

        def of_samples(measure: Measure) -> Callable[..., Figures]:
            def figures(weights: Floats, held_out: Floats) -> Figures:
                pairs = zip(of_blocks, weights.reshape(len(blocks), size), strict=True)
                return mean_figures([measure(c, w, held_out) for block, w in pairs for c in block])

            return figures

        def of_real(measure: Measure) -> Callable[..., Figures]:
            def figures(*weights: Floats) -> Figures:
                *of_each, held_out = weights
                pairs = zip(of_halves, of_each, strict=True)
                return mean_figures([measure(c, w, held_out) for c, w in pairs])

            return figures

        # All blocks are resampled together, because they may share the windows of a piece.
        sample_sets = [self.images.take(np.concatenate(blocks))]
        real_sets = [e.other_half.take(rows) for e, rows in zip(extractors, halves, strict=True)]
        samples, real = (
            Side(sets, of(Comparison.shares), of(Comparison.distances))
            for sets, of in ((sample_sets, of_samples), (real_sets, of_real))
        )
        return _figures(
            estimate_pair(samples, real, self.held_out.take(reference), rng=self._rng), group, name
        )

    def _classification(self, group: _Group) -> list[Figure]:
        """Accuracy on samples, and on held-out images after training on samples."""
        if not self.conditional:
            return []

        def accuracy(name: str, predicted: str, of: ImageSet) -> Side:
            rows = group.rows(of)
            correct = (self.predictions[predicted] == of.labels)[rows]
            # Held-out images are the shared set, whose weights are the only ones here.
            sets = [] if of is self.held_out else [of.take(rows)]
            return Side(sets, lambda weights, *_: {name: float(weights @ correct / weights.sum())})

        shared = self.held_out.take(group.rows(self.held_out))
        figures = []
        for name, predicted, of in (
            ("genre_accuracy", "samples", self.images),
            ("gan_train", "held_out_by_samples", self.held_out),
        ):
            samples, real = accuracy(name, predicted, of), accuracy(name, "held_out", self.held_out)
            figures += _figures(estimate_pair(samples, real, shared, rng=self._rng), group)
        return figures

    def _copying(self, group: _Group) -> list[Figure]:
        """Search for samples, and for held-out images, in the training tracks."""
        rows, real_rows = group.rows(self.queries), group.rows(self.reference.queries)
        if not (len(rows) and len(real_rows)):  # a small genre may have no queries
            return []
        queries, real_queries = self.queries.take(rows), self.reference.queries.take(real_rows)
        nearest, real_nearest = self.nearest.take(rows), self.reference.nearest.take(real_rows)
        samples = Side([queries], lambda w, shared: copy_figures(nearest, real_nearest, w, shared))
        real = Side([], lambda shared: copy_figures(real_nearest, real_nearest, shared, shared))
        return _figures(estimate_pair(samples, real, real_queries, rng=self._rng), group)

    def _spectrum(self, group: _Group) -> list[Figure]:
        """Compare spectral statistics of samples and of training images with held-out images."""
        reference = group.rows(self.held_out)
        held_out = self.spectra["held_out"].take(reference)

        def side(which: str, images: ImageSet) -> Side:
            rows = group.rows(images)
            statistics = self.spectra[which].take(rows)
            return Side(
                [images.take(rows)],
                lambda a, b: spectral_figures(statistics.profile(a), held_out.profile(b)),
            )

        samples = side("samples", self.images)
        real = side("training", self.reference.training)
        shared = self.held_out.take(reference)
        return _figures(estimate_pair(samples, real, shared, rng=self._rng), group)

    def _remarks(self, groups: list[_Group]) -> Iterator[str]:
        genres = self.reference.genres
        without = [g for g in genres if g not in {group.genre for group in groups}]
        if not self.reference.has_genres:
            yield "There is only one genre: the classifier was trained to tell tracks apart."
        elif not self.conditional:
            yield "The samples have no genres: there are no figures of single genres."
        elif without:
            which = "All genres" if without == genres else ", ".join(without)
            yield (
                f"Without figures of their own, for which a genre needs {MIN_TRACKS_OF_GENRE} "
                f"held-out tracks and {MIN_IMAGES} images: {which}."
            )
        yield (
            "Finding: farther or as near only where these tracks can tell it from real music. In "
            "brackets is the smallest ratio that they would have shown four times in five."
        )
        yield (
            "An interval says how much a figure may change with other tracks and other samples (95 "
            "%). Two models evaluated on the same tracks may differ by less and still be different."
        )


def _figures(pairs: dict[str, Pair], group: _Group, features: str = "") -> list[Figure]:
    return [
        Figure(name, features, group.genre, pair.value, pair.real, pair.difference)
        for name, pair in pairs.items()
    ]
