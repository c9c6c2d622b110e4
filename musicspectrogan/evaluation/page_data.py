"""What the page of an evaluation shows besides the figures: images, copies, clouds, strips."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA
from sklearn.metrics import confusion_matrix

from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.evaluation.evaluator import Evaluator
from musicspectrogan.evaluation.metrics import Profile
from musicspectrogan.evaluation.plots import Cloud, Ints, Pixels
from musicspectrogan.evaluation.samples import ImageSet

# Images of the grids, and rows of those without genres.
GRID_COLUMNS, GRID_ROWS = 8, 4
NEAREST_PAIRS = 12
CLOUD_POINTS = 400
# Half a minute; longer strips are wider than a screen.
STRIP_IMAGES = 10


class NearestPair(NamedTuple):
    """A sample and the training frames nearest to it."""

    sample: Pixels
    """uint8 (H, W)."""
    nearest: Pixels
    """uint8 (H, W)."""
    difference_db: float
    """RMS difference."""
    genre: str
    """Of the sample; empty if it has none."""


class Strip(NamedTuple):
    """A real track and a generated piece, or their beginnings."""

    genre: str
    """Empty if pieces have none."""
    real: Pixels
    """uint8 (H, T)."""
    generated: Pixels


@dataclass(frozen=True)
class PageData:
    """What the page shows besides the figures."""

    genres: list[str]
    conditional: bool
    """Whether samples have genres."""
    spectrogram: SpectrogramConfig
    real_rows: list[Pixels]
    """uint8 (columns, H, W): held-out images, one row per genre."""
    sample_rows: list[Pixels]
    """The same of samples; if they have no genres, as many rows of any."""
    nearest_pairs: list[NearestPair]
    """The most likely copies first."""
    real_profile: Profile
    sample_profile: Profile
    confusion: dict[str, Ints] = field(default_factory=dict)
    """`held_out` and `samples`: counts (n_genres, n_genres); rows are true genres, columns
    predictions. Empty if samples have no genres."""
    clouds: list[Cloud] = field(default_factory=list)
    """One for each feature space."""
    strips: list[Strip] = field(default_factory=list)
    """One per genre; empty for single images."""


def collect_page_data(evaluator: Evaluator) -> PageData:
    """Choose what to show from the results of an evaluation."""
    reference, conditional = evaluator.reference, evaluator.conditional
    images, held_out = evaluator.images, evaluator.held_out

    def grid_rows(images: ImageSet, by_genre: bool) -> list[Pixels]:
        rng = np.random.default_rng(evaluator.seed)
        if by_genre:
            labels = range(len(reference.genres))
            return [images.of_genre(n).subsample(GRID_COLUMNS, rng).pixels for n in labels]
        chosen = images.subsample(GRID_COLUMNS * GRID_ROWS, rng).pixels
        return np.array_split(chosen, GRID_ROWS)

    def confusion(name: str, images: ImageSet) -> Ints:
        labels = list(range(len(reference.genres)))
        matrix: Ints = confusion_matrix(images.labels, evaluator.predictions[name], labels=labels)
        return matrix

    nearest, queries = evaluator.nearest, evaluator.queries
    pairs = [
        NearestPair(
            queries.pixels[row],
            nearest.windows[row],
            float(nearest.nearest_db[row]),
            reference.genres[queries.labels[row]] if conditional else "",
        )
        for row in np.argsort(nearest.relative)[:NEAREST_PAIRS]
    ]
    sets = {"held_out": held_out, "samples": images} if conditional else {}
    return PageData(
        genres=reference.genres,
        conditional=conditional,
        spectrogram=reference.dataset.spectrogram,
        real_rows=grid_rows(held_out, by_genre=True),
        sample_rows=grid_rows(images, by_genre=conditional),
        nearest_pairs=pairs,
        real_profile=evaluator.spectra["held_out"].profile(np.ones(len(held_out))),
        sample_profile=evaluator.spectra["samples"].profile(np.ones(len(images))),
        confusion={name: confusion(name, of) for name, of in sets.items()},
        clouds=[_cloud(evaluator, name) for name in reference.feature_names],
        strips=_strips(evaluator),
    )


def _strips(evaluator: Evaluator) -> list[Strip]:
    if evaluator.structure is None:
        return []
    strips = []
    sides = [evaluator.structure.tracks.clips, evaluator.structure.pieces.clips]
    for label, genre in enumerate(evaluator.reference.genres if evaluator.conditional else [""]):
        of_genre = [clips.take(clips.images.labels == label) for clips in sides]
        runs = [clips.longest_runs() for clips in of_genre]
        if all(runs):
            real, generated = (
                clips.concatenate(max(of_clips, key=len)[:STRIP_IMAGES])
                for clips, of_clips in zip(of_genre, runs, strict=True)
            )
            strips.append(Strip(genre, real, generated))
    return strips


def _cloud(evaluator: Evaluator, name: str) -> Cloud:
    """Project onto the two principal components of real images."""
    features = evaluator.features[0][name]
    plane = PCA(2, random_state=0).fit(
        np.concatenate([features["other_half"], features["held_out"]])
    )
    rng = np.random.default_rng(evaluator.seed)
    real, samples = (
        rng.permutation(len(images))[:CLOUD_POINTS]
        for images in (evaluator.held_out, evaluator.images)
    )
    return Cloud(
        name,
        plane.transform(features["held_out"][real]),
        evaluator.held_out.labels[real],
        plane.transform(features["samples"][samples]),
        evaluator.images.labels[samples],
    )
