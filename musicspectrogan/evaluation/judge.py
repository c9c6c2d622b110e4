"""A subject held to the yardstick: all of its figures, each beside what real music scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from musicspectrogan.evaluation.classifier import train_classifier
from musicspectrogan.evaluation.comparison import Comparison
from musicspectrogan.evaluation.memorisation import Nearness, nearness, nearness_figures
from musicspectrogan.evaluation.report import Figure, Report
from musicspectrogan.evaluation.resampling import (
    REPLICATES,
    Estimate,
    Figures,
    estimate,
    mean_figures,
)
from musicspectrogan.evaluation.sets import FEWEST_IMAGES, ImageSet
from musicspectrogan.evaluation.spectral import SpectralStatistics, spectral_figures
from musicspectrogan.evaluation.structure import Structure
from musicspectrogan.evaluation.subjects import Subject
from musicspectrogan.evaluation.yardstick import MOST_SUSPECTS, Yardstick
from musicspectrogan.progress import progress_bar

Array = NDArray[np.floating]
Rows = NDArray[np.int64]

# A genre has figures of its own from this many held-out tracks on: with a handful they would be noise.
FEWEST_TRACKS_A_GENRE = 8
# Parts of the samples that are compared each on its own; more cost time and gain little.
MOST_BLOCKS = 12


@dataclass(frozen=True)
class _Group:
    """All images, or those of a genre."""

    genre: str | None = None
    label: int = 0

    def rows(self, images: ImageSet) -> Rows:
        """Which of a set's images belong to it."""
        return (
            np.arange(len(images))
            if self.genre is None
            else np.nonzero(images.labels == self.label)[0]
        )


class Judge:
    """Takes all figures of a subject, and keeps what was measured for whoever wants to show it.

    Args:
        seed: decides what is drawn: parts of the real images, resampled clips.
    """

    def __init__(self, subject: Subject, yardstick: Yardstick, seed: int) -> None:
        self.subject, self.yardstick, self.seed = subject, yardstick, seed
        self.sample, self.training, self.held_out = (
            subject.images,
            yardstick.training,
            yardstick.held_out,
        )
        self.conditional = subject.conditional and yardstick.knows_genres
        self._rng = np.random.default_rng(seed)

    def report(self) -> Report:
        """Take the figures: of all images together, and of each genre with enough held-out tracks."""
        groups = list(self._groups())
        figures: list[Figure] = []
        with progress_bar(total=2 * len(groups), description="Comparing", unit="set") as bar:
            for group in groups:
                for kind in self.yardstick.kinds_of_features:
                    figures += self._compared(group, kind)
                    bar.update()
        for group in groups:
            figures += self._recognised(group)
            figures += self._nearness(group)
            figures += self._spectral(group)
        structure = self.structure
        if structure is not None:
            figures += [
                figure for group in groups for figure in structure.figures(group.genre, group.label)
            ]
        dataset = self.yardstick.dataset
        return Report(
            subject=self.subject.facts,
            dataset={
                "name": dataset.name,
                "genres": self.yardstick.genres,
                "training_images": len(dataset),
                "training_tracks": len(np.unique(dataset.tracks)),
                "split": self.yardstick.splits.split,
                "held_out_images": len(self.held_out),
                "held_out_tracks": self.held_out.n_clips,
            },
            settings={
                "seed": self.seed,
                "compared_at": self._block_size(groups[0]),
                "replicates": REPLICATES,
                **({"seconds": self.subject.seconds, **structure.facts} if structure else {}),
            },
            figures=figures,
            remarks=[
                *self.subject.remarks,
                *self.yardstick.splits.remarks,
                *(structure.remarks(figures) if structure else ()),
                *self._remarks(groups),
            ],
        )

    @cached_property
    def structure(self) -> Structure | None:
        """How the pieces hang together; None for single images."""
        if self.subject.pieces is None:
            return None
        return Structure(
            self.subject.pieces,
            [{kind: of[kind]["sample"] for kind in of} for of in self.features],
            self.yardstick,
            pooled=not self.conditional,
            rng=self._rng,
        )

    def _groups(self) -> Iterator[_Group]:
        yield _Group()
        if self.conditional:
            for label, genre in enumerate(self.yardstick.genres):
                if self._has_enough(group := _Group(genre, label)):
                    yield group

    def _has_enough(self, group: _Group) -> bool:
        enough_tracks = (
            self.held_out.take(group.rows(self.held_out)).n_clips >= FEWEST_TRACKS_A_GENRE
        )
        return enough_tracks and self._block_size(group) >= FEWEST_IMAGES

    @cached_property
    def features(self) -> list[dict[str, dict[str, Array]]]:
        """Features (N, D) of each set, by kind, by each of the instruments."""
        return [
            {
                name: {
                    "sample": space(self.sample.pixels),
                    "held_out": space(self.held_out.pixels),
                    "stand_in": space(instruments.stand_in.pixels),
                }
                for name, space in instruments.spaces.items()
            }
            for instruments in self.yardstick.instruments
        ]

    @cached_property
    def spectra(self) -> dict[str, SpectralStatistics]:
        """Spectral statistics of each set."""
        sets = {"sample": self.sample, "training": self.training, "held_out": self.held_out}
        config = self.yardstick.dataset.spectrogram
        return {
            which: SpectralStatistics.of(images.pixels, config) for which, images in sets.items()
        }

    @cached_property
    def suspects(self) -> ImageSet:
        """The samples that are searched for among the training tracks."""
        return self.sample.at_most(MOST_SUSPECTS, self._rng)

    @cached_property
    def suspects_nearness(self) -> Nearness:
        """How near they are."""
        yardstick = self.yardstick
        return nearness(
            self.suspects.pixels,
            yardstick.dataset,
            yardstick.tracks,
            yardstick.device,
            "Samples against training",
        )

    def _block_size(self, group: _Group) -> int:
        """Sets are compared at the same size: distances of small sets are larger."""
        stand_ins = (group.rows(instruments.stand_in) for instruments in self.yardstick.instruments)
        return min(len(group.rows(self.sample)), *map(len, stand_ins))

    def _blocks(self, rows: Rows, size: int) -> list[Rows]:
        """Samples dealt out genre by genre: as in stand-ins, none has too many of one by chance."""
        count = min(len(rows) // size, MOST_BLOCKS)
        shuffled = self._rng.permutation(rows)
        dealt = shuffled[np.argsort(self.sample.labels[shuffled], kind="stable")]
        parts = [dealt[number::count] for number in range(count)]
        return [part[np.arange(size) * len(part) // size] for part in parts]

    def _compared(self, group: _Group, kind: str) -> list[Figure]:
        """Samples against held-out images, and stand-ins in the place of samples.

        Args:
            kind: of features.
        """
        size = self._block_size(group)
        rows = group.rows(self.sample)
        blocks = self._blocks(rows, size)
        reference = group.rows(self.held_out)
        instruments = self.yardstick.instruments
        stand_ins = [
            np.sort(self._rng.permutation(group.rows(each.stand_in))[:size]) for each in instruments
        ]

        def compared(which: str, rows: Rows, number: int) -> Comparison:
            of = self.features[number][kind]
            return Comparison(
                of[which][rows], of["held_out"][reference], instruments[number].bins[kind]
            )

        def of_samples(weights: Array, theirs: Array) -> Figures:
            of_blocks = zip(ours, weights.reshape(len(blocks), size), strict=True)
            return mean_figures([c.figures(w, theirs) for block, w in of_blocks for c in block])

        def of_real(*weights: Array) -> Figures:
            *mine, theirs = weights
            return mean_figures([c.figures(w, theirs) for c, w in zip(standard, mine, strict=True)])

        ours = [
            [compared("sample", rows, number) for number in range(len(instruments))]
            for rows in blocks
        ]
        standard = [compared("stand_in", rows, number) for number, rows in enumerate(stand_ins)]
        judged_by = self.held_out.take(reference)
        # Drawn over all blocks at once, for windows of one piece may be in several.
        samples = estimate(
            of_samples, self.sample.take(np.concatenate(blocks)), judged_by, rng=self._rng
        )
        in_their_place = [
            each.stand_in.take(r) for each, r in zip(instruments, stand_ins, strict=True)
        ]
        real = estimate(of_real, *in_their_place, judged_by, rng=self._rng)
        return _paired(samples, real, group.genre, kind)

    def _nearness(self, group: _Group) -> list[Figure]:
        """Samples against the training tracks, and held-out images in the place of samples."""
        suspects, standard = self.suspects, self.yardstick.suspects
        ours, theirs = self.suspects_nearness, self.yardstick.nearness
        mine, others = group.rows(suspects), group.rows(standard)
        if not (len(mine) and len(others)):  # a small genre, of which none was drawn
            return []
        suspects, standard = suspects.take(mine), standard.take(others)
        ours, theirs = ours.take(mine), theirs.take(others)
        samples = estimate(
            lambda a, b: nearness_figures(ours, theirs, a, b), suspects, standard, rng=self._rng
        )
        real = estimate(lambda b: nearness_figures(theirs, theirs, b, b), standard, rng=self._rng)
        return _paired(samples, real, group.genre)

    def _spectral(self, group: _Group) -> list[Figure]:
        """Samples against held-out images, and training images in the place of samples."""
        reference = group.rows(self.held_out)
        theirs = self.spectra["held_out"].take(reference)

        def against_held_out(which: str, images: ImageSet) -> dict[str, Estimate]:
            rows = group.rows(images)
            ours = self.spectra[which].take(rows)
            return estimate(
                lambda a, b: spectral_figures(ours.profile(a), theirs.profile(b)),
                images.take(rows),
                self.held_out.take(reference),
                rng=self._rng,
            )

        samples = against_held_out("sample", self.sample)
        real = against_held_out("training", self.training)
        return _paired(samples, real, group.genre)

    @cached_property
    def predictions(self) -> dict[str, NDArray[np.int64]]:
        """Labels given to samples and held-out images, and to these by a classifier taught by samples."""
        yardstick = self.yardstick
        taught_by_samples = train_classifier(
            self.sample,
            len(yardstick.genres),
            yardstick.device,
            seed=self.seed,
            description="Training a classifier on the samples",
        )
        return {
            "samples": yardstick.recognise(self.sample.pixels),
            "real": yardstick.recognise(self.held_out.pixels),
            "real_by_samples": taught_by_samples.probabilities(self.held_out.pixels).argmax(axis=1),
        }

    def _recognised(self, group: _Group) -> list[Figure]:
        """Accuracy on samples, and of what is learned from them; real is the classifier on held-out."""
        if not self.conditional:
            return []

        def recognised(name: str, which: str, images: ImageSet) -> dict[str, Estimate]:
            rows = group.rows(images)
            hits = (self.predictions[which] == images.labels)[rows]
            return estimate(
                lambda w: {name: float(w @ hits / w.sum())}, images.take(rows), rng=self._rng
            )

        figures = []
        for name, which, images in (
            ("genre_accuracy", "samples", self.sample),
            ("gan_train", "real_by_samples", self.held_out),
        ):
            real = recognised(name, "real", self.held_out)
            figures += _paired(recognised(name, which, images), real, group.genre)
        return figures

    def _remarks(self, groups: list[_Group]) -> Iterator[str]:
        if not self.yardstick.knows_genres:
            yield "There is one genre only: the classifier was taught to tell the tracks apart."
        elif not self.conditional:
            yield "The samples have no genres: nothing is said of single genres."
        elif few := [
            g for g in self.yardstick.genres if g not in {group.genre for group in groups}
        ]:
            which = (
                "No genre has"
                if len(few) == len(self.yardstick.genres)
                else f"{', '.join(few)} have not"
            )
            yield (
                f"{which} the {FEWEST_TRACKS_A_GENRE} held-out tracks and {FEWEST_IMAGES} images that "
                "figures of a single genre need: they are pooled."
            )
        yield (
            "An interval tells how far a figure may be off for other tracks and other samples (95 %). "
            "Two models judged by the same tracks may differ by less and still differ."
        )


def _paired(
    samples: dict[str, Estimate], real: dict[str, Estimate], genre: str | None, features: str = ""
) -> list[Figure]:
    return [Figure(name, features, genre, value, real.get(name)) for name, value in samples.items()]
