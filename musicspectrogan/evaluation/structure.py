"""How pieces hang together, beside whole real tracks: coherence, and whether the beat holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicspectrogan.evaluation.coherence import Coherence, clips_with_lag, lags_in_images
from musicspectrogan.evaluation.report import Figure
from musicspectrogan.evaluation.resampling import Estimate, Figures, estimate, mean_figures
from musicspectrogan.evaluation.sets import FEWEST_TRACKS, ImageSet
from musicspectrogan.evaluation.stretches import Stretches, clips_drawn
from musicspectrogan.evaluation.tempo import is_steady
from musicspectrogan.evaluation.yardstick import Yardstick

Array = NDArray[np.floating]
Features = Mapping[str, Array]
Seen = Sequence[tuple[Features, NDArray[np.bool_]]]

# Images of pieces that are looked at: the distances among them grow with their square.
MOST_OF_PIECES = 4000
# Of which either half is longer than a beat.
FEWEST_IMAGES_OF_BEAT = 2


class Structure:
    """Takes the figures of pieces, and the same of real tracks.

    An instrument measures real tracks that it was not fitted to, as everywhere.

    Args:
        features: of the pieces' images, (N, D) by kind, by each of the yardstick's instruments.
        pooled: the pieces have no genres, so the genres of real tracks are not looked at either.
    """

    def __init__(
        self,
        pieces: Stretches,
        features: Sequence[Features],
        yardstick: Yardstick,
        *,
        pooled: bool,
        rng: np.random.Generator,
    ) -> None:
        self._rng, self._config = rng, yardstick.dataset.spectrogram
        drawn = clips_drawn(pieces.images.clips, MOST_OF_PIECES, rng)
        real = yardstick.real_pieces
        self._pieces, self._real = (each.pooled() if pooled else each for each in (pieces.take(drawn), real))
        both = (self._pieces, self._real)
        self.lags = {
            name: lag
            for name, lag in lags_in_images(self._config).items()
            if all(clips_with_lag(each, lag) >= FEWEST_TRACKS for each in both)
        }
        """In images, by figures: those that pieces and enough real tracks are long enough for."""
        # By each instrument what it sees of which images.
        every, instruments = np.ones(drawn.sum(), dtype=bool), yardstick.instruments
        unseen = [~np.isin(real.images.clips, each.fitted_to) for each in instruments]
        self._seen = [
            [({kind: of[kind][drawn] for kind in of}, every) for of in features],
            [
                ({kind: space(real.images.pixels) for kind, space in each.spaces.items()}, rows)
                for each, rows in zip(instruments, unseen, strict=True)
            ],
        ]
        runs = [each.longest_runs() for each in both]
        self.beat_over = int(min(np.median([len(run) for run in of_each]) for of_each in runs))
        """In how many images of each clip the beat is looked for: as many of pieces as of real tracks."""
        self._steady = [self._beats(each, of) for each, of in zip(both, runs, strict=True)]

    @property
    def facts(self) -> dict[str, Any]:
        """What the figures are of, for the report."""
        return {
            "pieces": self._pieces.images.n_clips,
            "real_tracks": self._real.images.n_clips,
            "beat_over_seconds": round(self.beat_over * self._config.image_seconds, 2),
        }

    def remarks(self) -> Iterator[str]:
        """What cannot be told, and why."""
        longest = max(map(len, self._pieces.of_clips()))
        if longest < 2:
            yield (
                f"Pieces shorter than two images ({2 * self._config.image_seconds:.1f} s) say nothing of "
                "coherence and tempo stability."
            )
        elif not self.lags or self.beat_over < FEWEST_IMAGES_OF_BEAT:
            yield (
                f"Coherence and tempo stability need {FEWEST_TRACKS} pieces, and as many real tracks with "
                "consecutive images."
            )

    def figures(self, genre: str | None, label: int) -> Iterator[Figure]:
        """Those of all pieces, or of a genre; a figure that cannot be taken is absent."""

        def rows_of(images: ImageSet) -> NDArray[np.bool_]:
            return np.ones(len(images), dtype=bool) if genre is None else images.labels == label

        kinds = list(self._seen[0][0][0]) if self.lags else []
        taken = {
            kind: [
                self._coherence(each, seen, kind, rows_of(each.images))
                for each, seen in zip((self._pieces, self._real), self._seen, strict=True)
            ]
            for kind in kinds
        }
        if self.beat_over >= FEWEST_IMAGES_OF_BEAT:
            taken[""] = [
                self._tempo_stability(clips, steady, rows_of(clips)) for clips, steady in self._steady
            ]
        for kind, (ours, real) in taken.items():
            for name, value in ours.items():
                if _is_finite(value) and _is_finite(real[name]):
                    yield Figure(name, kind, genre, value, real[name])

    def _coherence(
        self, stretches: Stretches, seen: Seen, kind: str, rows: NDArray[np.bool_]
    ) -> dict[str, Estimate]:
        """At each lag, the mean over the instruments."""
        prepared = [
            (mask & rows, Coherence(of[kind][mask & rows], stretches.take(mask & rows), self.lags))
            for of, mask in seen
        ]

        def figures(weights: Array) -> Figures:
            everywhere = np.zeros(len(rows))
            everywhere[rows] = weights
            return mean_figures([coherence.figures(everywhere[mask]) for mask, coherence in prepared])

        return estimate(figures, stretches.images.take(rows), rng=self._rng)

    def _beats(self, stretches: Stretches, runs: list[NDArray[np.int64]]) -> tuple[ImageSet, Array]:
        """An image of each clip that is long enough, and whether its beat holds, (C,)."""
        runs = [run[: self.beat_over] for run in runs if len(run) >= self.beat_over]
        pixels = stretches.images.pixels
        steady = [is_steady(np.concatenate(list(pixels[run]), axis=1), self._config) for run in runs]
        return stretches.images.take(np.array([run[0] for run in runs])), np.array(steady, dtype=float)

    def _tempo_stability(
        self, clips: ImageSet, steady: Array, rows: NDArray[np.bool_]
    ) -> dict[str, Estimate]:
        clips, steady = clips.take(rows), steady[rows]
        if clips.n_clips < 2:
            return {}
        return estimate(
            lambda weights: {"tempo_stability": float(weights @ steady / weights.sum())}, clips, rng=self._rng
        )


def _is_finite(estimate: Estimate) -> bool:
    return bool(np.isfinite(estimate.value + estimate.half_width))
