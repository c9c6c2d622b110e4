"""A subject held to the yardstick: the report, and what is shown beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.metrics import confusion_matrix

from musicspectrogan.evaluation.classifier import train_classifier
from musicspectrogan.evaluation.comparison import Comparison
from musicspectrogan.evaluation.evidence import Cloud, Curves, Evidence, Twin
from musicspectrogan.evaluation.memorisation import nearness, nearness_figures
from musicspectrogan.evaluation.report import Figure, Report
from musicspectrogan.evaluation.resampling import REPLICATES, Estimate, Figures, estimate, mean_figures
from musicspectrogan.evaluation.sets import ImageSet
from musicspectrogan.evaluation.spectral import SpectralStatistics, modulation_hz, spectral_figures
from musicspectrogan.evaluation.subjects import Subject
from musicspectrogan.evaluation.yardstick import MOST_SUSPECTS, Yardstick
from musicspectrogan.progress import progress_bar

Array = NDArray[np.floating]
Rows = NDArray[np.int64]

# A genre has figures of its own from this many held-out tracks on: with a handful they would be noise.
FEWEST_TRACKS_A_GENRE = 8
# Parts of the samples that are compared each on its own; more cost time and gain little.
MOST_BLOCKS = 12
# Shown on the page.
GRID_COLUMNS, GRID_ROWS = 8, 4
TWINS = 12
POINTS = 400


@dataclass(frozen=True)
class _Group:
    """The images of a genre, or all of them, as rows of the three sets."""

    genre: str | None
    sample: Rows
    training: Rows
    held_out: Rows


class Judge:
    """Takes all figures of a subject.

    Args:
        seed: decides what is drawn: parts of the real images, resampled clips.
    """

    def __init__(self, subject: Subject, yardstick: Yardstick, seed: int) -> None:
        self.subject, self.yardstick, self.seed = subject, yardstick, seed
        self.sample, self.training, self.held_out = subject.images, yardstick.training, yardstick.held_out
        self.conditional = subject.conditional and yardstick.knows_genres
        self._rng = np.random.default_rng(seed)

    def report(self) -> Report:
        """Take the figures: of all images together, and of each genre with enough held-out tracks."""
        groups = list(self._groups())
        figures: list[Figure] = []
        with progress_bar(total=2 * len(groups), description="Comparing", unit="set") as bar:
            for group in groups:
                for features in self.yardstick.spaces:
                    figures += self._compared(group, features)
                    bar.update()
        for group in groups:
            figures += self._recognised(group)
            figures += self._nearness(group)
            figures += self._spectral(group)
        dataset = self.yardstick.dataset
        return Report(
            subject=self.subject.facts,
            dataset={
                "name": dataset.name,
                "genres": self.yardstick.genres,
                "training_images": len(dataset),
                "training_tracks": len(np.unique(dataset.tracks)),
                "held_out_images": len(self.held_out),
                "held_out_tracks": self.held_out.n_clips,
            },
            settings={
                "seed": self.seed,
                "compared_at": self._block_size(groups[0]),
                "replicates": REPLICATES,
            },
            figures=figures,
            remarks=[*self.subject.remarks, *self._remarks(groups)],
        )

    def evidence(self) -> Evidence:
        """What the page shows beside the figures."""
        sample, held_out = self._spectra["sample"].profile, self._spectra["held_out"].profile
        ours, real = (
            profile(np.ones(len(images)))
            for profile, images in ((sample, self.sample), (held_out, self.held_out))
        )
        config = self.yardstick.dataset.spectrogram
        return Evidence(
            genres=self.yardstick.genres,
            conditional=self.conditional,
            spectrogram=config,
            real_rows=list(self._grid(self.held_out, by_genre=True)),
            fake_rows=list(self._grid(self.sample, by_genre=self.conditional)),
            twins=self._twins(),
            curves=Curves(
                config.band_hz,
                real.level,
                ours.level,
                real.spread,
                ours.spread,
                modulation_hz(config),
                real.modulation,
                ours.modulation,
            ),
            confusion=self._confusion(),
            clouds=[self._cloud(features) for features in self.yardstick.spaces],
        )

    def _groups(self) -> Iterator[_Group]:
        sets = (self.sample, self.training, self.held_out)
        yield _Group(None, *(np.arange(len(images)) for images in sets))
        if self.conditional:
            for label, genre in enumerate(self.yardstick.genres):
                if self.held_out.of_genre(label).n_clips >= FEWEST_TRACKS_A_GENRE:
                    yield _Group(genre, *(np.nonzero(images.labels == label)[0] for images in sets))

    @cached_property
    def _features(self) -> dict[str, dict[str, Array]]:
        """Features (N, D) of each set, by kind."""
        sets = {"sample": self.sample, "training": self.training, "held_out": self.held_out}
        return {
            name: {which: space(images.pixels) for which, images in sets.items()}
            for name, space in self.yardstick.spaces.items()
        }

    @cached_property
    def _spectra(self) -> dict[str, SpectralStatistics]:
        sets = {"sample": self.sample, "training": self.training, "held_out": self.held_out}
        config = self.yardstick.dataset.spectrogram
        return {which: SpectralStatistics.of(images.pixels, config) for which, images in sets.items()}

    @cached_property
    def _suspects(self) -> ImageSet:
        return self.sample.at_most(MOST_SUSPECTS, self._rng)

    @cached_property
    def _suspects_nearness(self):
        yardstick = self.yardstick
        return nearness(
            self._suspects.pixels,
            yardstick.dataset,
            yardstick.tracks,
            yardstick.device,
            "Samples against training",
        )

    def _block_size(self, group: _Group) -> int:
        """Sets are compared at the same size: distances of small sets are larger."""
        return min(len(group.sample), len(group.training))

    def _compared(self, group: _Group, features: str) -> list[Figure]:
        """Samples against held-out images, and training images in the place of samples."""
        size = self._block_size(group)
        count = min(len(group.sample) // size, MOST_BLOCKS)
        blocks = self._rng.permutation(group.sample)[: count * size].reshape(count, size)
        stand_in = np.sort(self._rng.permutation(group.training)[:size])
        of = self._features[features]
        reference = of["held_out"][group.held_out]
        held_out = self.held_out.take(group.held_out)
        bins = self.yardstick.bins[features]

        def against_reference(images: ImageSet, vectors: Array, blocks: list[Rows]) -> dict[str, Estimate]:
            comparisons = [Comparison(vectors[rows], reference, bins) for rows in blocks]

            def figures(*weights: Array) -> Figures:
                of_blocks = zip(comparisons, weights[:-1], strict=True)
                return mean_figures([comparison.figures(w, weights[-1]) for comparison, w in of_blocks])

            return estimate(figures, *(images.take(rows) for rows in blocks), held_out, rng=self._rng)

        samples = against_reference(self.sample, of["sample"], list(blocks))
        real = against_reference(self.training, of["training"], [stand_in])
        return _paired(samples, real, group.genre, features)

    def _nearness(self, group: _Group) -> list[Figure]:
        """Samples against the training tracks, and held-out images in the place of samples."""
        suspects, standard = self._suspects, self.yardstick.suspects
        ours, theirs = self._suspects_nearness, self.yardstick.nearness
        if group.genre is not None:
            label = self.yardstick.genres.index(group.genre)
            mine, others = suspects.labels == label, standard.labels == label
            suspects, standard = suspects.take(mine), standard.take(others)
            ours, theirs = ours.take(mine), theirs.take(others)
        samples = estimate(
            lambda a, b: nearness_figures(ours, theirs, a, b), suspects, standard, rng=self._rng
        )
        real = estimate(lambda b: nearness_figures(theirs, theirs, b, b), standard, rng=self._rng)
        return _paired(samples, real, group.genre)

    def _spectral(self, group: _Group) -> list[Figure]:
        """Samples against held-out images, and training images in the place of samples."""

        def against_held_out(which: str, images: ImageSet, rows: Rows) -> dict[str, Estimate]:
            ours, theirs = (
                self._spectra[name].take(taken)
                for name, taken in ((which, rows), ("held_out", group.held_out))
            )
            return estimate(
                lambda a, b: spectral_figures(ours.profile(a), theirs.profile(b)),
                images.take(rows),
                self.held_out.take(group.held_out),
                rng=self._rng,
            )

        samples = against_held_out("sample", self.sample, group.sample)
        real = against_held_out("training", self.training, group.training)
        return _paired(samples, real, group.genre)

    @cached_property
    def _predictions(self) -> dict[str, NDArray[np.int64]]:
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
            "samples": yardstick.classifier.predict(self.sample.pixels),
            "real": yardstick.classifier.predict(self.held_out.pixels),
            "real_by_samples": taught_by_samples.predict(self.held_out.pixels),
        }

    def _recognised(self, group: _Group) -> list[Figure]:
        """Accuracy on samples, and of what is learned from them; real is the classifier on held-out."""
        if not self.conditional:
            return []

        def recognised(name: str, which: str, images: ImageSet, rows: Rows) -> dict[str, Estimate]:
            hits = (self._predictions[which] == images.labels)[rows]
            return estimate(lambda w: {name: float(w @ hits / w.sum())}, images.take(rows), rng=self._rng)

        figures = []
        for name, which, images, rows in (
            ("genre_accuracy", "samples", self.sample, group.sample),
            ("gan_train", "real_by_samples", self.held_out, group.held_out),
        ):
            real = recognised(name, "real", self.held_out, group.held_out)
            figures += _paired(recognised(name, which, images, rows), real, group.genre)
        return figures

    def _confusion(self) -> dict[str, NDArray[np.int64]]:
        labels = list(range(len(self.yardstick.genres)))
        sets = {"real": self.held_out, "samples": self.sample} if self.conditional else {}
        return {
            which: confusion_matrix(images.labels, self._predictions[which], labels=labels)
            for which, images in sets.items()
        }

    def _grid(self, images: ImageSet, *, by_genre: bool) -> Iterator[NDArray[np.uint8]]:
        rng = np.random.default_rng(self.seed)
        if by_genre:
            for label in range(len(self.yardstick.genres)):
                yield images.of_genre(label).at_most(GRID_COLUMNS, rng).pixels
        else:
            yield from np.array_split(images.at_most(GRID_COLUMNS * GRID_ROWS, rng).pixels, GRID_ROWS)

    def _twins(self) -> list[Twin]:
        near, images = self._suspects_nearness, self._suspects
        return [
            Twin(
                images.pixels[number],
                near.windows[number],
                float(near.nearest_db[number]),
                self.yardstick.genres[images.labels[number]] if self.conditional else "",
            )
            for number in np.argsort(near.relative)[:TWINS]
        ]

    def _cloud(self, features: str) -> Cloud:
        """The two directions in which real images differ most."""
        of = self._features[features]
        plane = PCA(2, random_state=0).fit(np.concatenate([of["training"], of["held_out"]]))
        rng = np.random.default_rng(self.seed)
        picks = [rng.permutation(len(images))[:POINTS] for images in (self.held_out, self.sample)]
        real, fake = (
            plane.transform(of[which][rows])
            for which, rows in zip(("held_out", "sample"), picks, strict=True)
        )
        return Cloud(features, real, self.held_out.labels[picks[0]], fake, self.sample.labels[picks[1]])

    def _remarks(self, groups: list[_Group]) -> Iterator[str]:
        if not self.yardstick.knows_genres:
            yield "There is one genre only: the classifier was taught to tell the tracks apart."
        elif not self.conditional:
            yield "The samples have no genres: nothing is said of single genres."
        elif few := [g for g in self.yardstick.genres if g not in {group.genre for group in groups}]:
            which = "No genre has" if len(few) == len(self.yardstick.genres) else f"{', '.join(few)} have not"
            yield (
                f"{which} the {FEWEST_TRACKS_A_GENRE} held-out tracks that figures of a single genre need: "
                "they are pooled."
            )
        yield (
            "An interval tells how far a figure may be off for other tracks and other samples (95 %). "
            "Two models judged by the same tracks may differ by less and still differ."
        )


def _paired(
    samples: dict[str, Estimate], real: dict[str, Estimate], genre: str | None, features: str = ""
) -> list[Figure]:
    return [Figure(name, features, genre, value, real.get(name)) for name, value in samples.items()]
