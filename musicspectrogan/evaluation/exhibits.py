"""From what a judge measured to what the page shows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.metrics import confusion_matrix

from musicspectrogan.evaluation.evidence import Cloud, Curves, Evidence, Strip, Twin
from musicspectrogan.evaluation.judge import Judge
from musicspectrogan.evaluation.sets import ImageSet
from musicspectrogan.evaluation.spectral import modulation_hz

GRID_COLUMNS, GRID_ROWS = 8, 4
TWINS = 12
POINTS = 400
# Half a minute: longer strips are wider than a screen.
STRIP_IMAGES = 10


def evidence_of(judge: Judge) -> Evidence:
    """Images, curves and points: some real and generated ones side by side, the likeliest copies, and how
    samples lie among real images."""
    yardstick = judge.yardstick
    return Evidence(
        genres=yardstick.genres,
        conditional=judge.conditional,
        spectrogram=yardstick.dataset.spectrogram,
        real_rows=list(_rows(judge, judge.held_out, by_genre=True)),
        fake_rows=list(_rows(judge, judge.sample, by_genre=judge.conditional)),
        twins=list(_twins(judge)),
        curves=_curves(judge),
        confusion=_confusion(judge),
        clouds=[_cloud(judge, kind) for kind in yardstick.kinds_of_features],
        strips=list(_strips(judge)),
    )


def _rows(judge: Judge, images: ImageSet, *, by_genre: bool) -> Iterator[NDArray[np.uint8]]:
    rng = np.random.default_rng(judge.seed)
    if by_genre:
        for label in range(len(judge.yardstick.genres)):
            yield images.of_genre(label).at_most(GRID_COLUMNS, rng).pixels
    else:
        yield from np.array_split(images.at_most(GRID_COLUMNS * GRID_ROWS, rng).pixels, GRID_ROWS)


def _twins(judge: Judge) -> Iterator[Twin]:
    near, images = judge.suspects_nearness, judge.suspects
    for number in np.argsort(near.relative)[:TWINS]:
        genre = judge.yardstick.genres[images.labels[number]] if judge.conditional else ""
        yield Twin(
            images.pixels[number], near.windows[number], float(near.nearest_db[number]), genre
        )


def _strips(judge: Judge) -> Iterator[Strip]:
    if judge.structure is None:
        return
    sides = [judge.structure.real.stretches, judge.structure.pieces.stretches]
    for label, genre in enumerate(judge.yardstick.genres if judge.conditional else [""]):
        of_genre = [side.take(side.images.labels == label) for side in sides]
        longest = [max(side.longest_runs(), key=len, default=None) for side in of_genre]
        if all(run is not None for run in longest):
            cut = [
                side.piece(run[:STRIP_IMAGES]) for side, run in zip(of_genre, longest, strict=True)
            ]
            yield Strip(genre, *cut)


def _curves(judge: Judge) -> Curves:
    config = judge.yardstick.dataset.spectrogram
    real, fake = (
        judge.spectra[which].profile(np.ones(len(images)))
        for which, images in (("held_out", judge.held_out), ("sample", judge.sample))
    )
    return Curves(
        band_hz=config.band_hz,
        real_mean=real.level,
        fake_mean=fake.level,
        real_spread=real.spread,
        fake_spread=fake.spread,
        modulation_hz=modulation_hz(config),
        real_modulation=real.modulation,
        fake_modulation=fake.modulation,
    )


def _confusion(judge: Judge) -> dict[str, NDArray[np.int64]]:
    labels = list(range(len(judge.yardstick.genres)))
    sets = {"real": judge.held_out, "samples": judge.sample} if judge.conditional else {}
    return {
        which: confusion_matrix(images.labels, judge.predictions[which], labels=labels)
        for which, images in sets.items()
    }


def _cloud(judge: Judge, kind: str) -> Cloud:
    """In the two directions in which real images differ most."""
    of = judge.features[0][kind]
    plane = PCA(2, random_state=0).fit(np.concatenate([of["stand_in"], of["held_out"]]))
    rng = np.random.default_rng(judge.seed)
    real, fake = (
        rng.permutation(len(images))[:POINTS] for images in (judge.held_out, judge.sample)
    )
    return Cloud(
        kind,
        plane.transform(of["held_out"][real]),
        judge.held_out.labels[real],
        plane.transform(of["sample"][fake]),
        judge.sample.labels[fake],
    )
