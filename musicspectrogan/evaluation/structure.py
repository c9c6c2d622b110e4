"""How pieces hang together, beside whole real tracks: coherence, and whether the beat holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from musicspectrogan.evaluation.coherence import Coherence, clips_with_lag, lags_in_images
from musicspectrogan.evaluation.report import OF_PIECES, Figure
from musicspectrogan.evaluation.resampling import Estimate, Figures, estimate, mean_figures
from musicspectrogan.evaluation.sets import FEWEST_TRACKS
from musicspectrogan.evaluation.stretches import Stretches, clips_drawn
from musicspectrogan.evaluation.tempo import Tempo
from musicspectrogan.evaluation.yardstick import Yardstick

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]
Features = Mapping[str, Array]

# Images of pieces that are looked at: the distances among them grow with their square.
MOST_OF_PIECES = 4000
# Of which either half is longer than a beat.
FEWEST_IMAGES_OF_BEAT = 2


@dataclass(frozen=True)
class Side:
    """Pieces, or the real tracks in their place."""

    stretches: Stretches
    seen: Sequence[tuple[Features, Mask]]
    """By each of the instruments: features (N, D) by kind, and which images it may judge."""

    def rows_of(self, genre: str | None, label: int) -> Mask:
        """Which images, (N,), are of a genre; of any for None."""
        labels = self.stretches.images.labels
        return np.ones(len(labels), dtype=bool) if genre is None else labels == label


class _Prepared(Protocol):
    def figures(self, weights: Array) -> Figures: ...


class Structure:
    """Takes the figures of pieces, and the same of real tracks.

    An instrument measures real tracks that it was not fitted to, as everywhere.

    Args:
        features: of the pieces' images, (N, D) by kind, by each of the yardstick's instruments.
        pooled: the pieces have no genres, so those of the real tracks are not looked at either.
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
        pieces, real = pieces.take(drawn), yardstick.real_pieces
        every = np.ones(len(pieces.images), dtype=bool)
        self.pieces = Side(
            pieces.pooled() if pooled else pieces,
            [({kind: of[kind][drawn] for kind in of}, every) for of in features],
        )
        self.real = Side(
            real.pooled() if pooled else real,
            [
                (
                    {kind: space(real.images.pixels) for kind, space in each.spaces.items()},
                    ~np.isin(real.images.clips, each.fitted_to),
                )
                for each in yardstick.instruments
            ],
        )
        sides = (pieces, real)
        self._lags = {
            name: lag
            for name, lag in lags_in_images(self._config).items()
            if all(clips_with_lag(side, lag) >= FEWEST_TRACKS for side in sides)
        }
        # As much of pieces as of real tracks, and no more than half of either have.
        self._beat_over = int(
            min(np.median([len(run) for run in side.longest_runs()]) for side in sides)
        )

    @property
    def facts(self) -> dict[str, Any]:
        """What the figures are of, for the report."""
        return {
            "pieces": self.pieces.stretches.images.n_clips,
            "real_tracks": self.real.stretches.images.n_clips,
            "tempo_over_seconds": round(self._beat_over * self._config.image_seconds, 2),
        }

    def figures(self, genre: str | None = None, label: int = 0) -> Iterator[Figure]:
        """Those of all pieces, or of a genre; a figure that cannot be taken is absent."""
        sides = [(side, side.rows_of(genre, label)) for side in (self.pieces, self.real)]
        prepared = {
            kind: [self._coherence(side, kind, rows) for side, rows in sides]
            for kind in (self.pieces.seen[0][0] if self._lags else ())
        }
        if self._beat_over >= FEWEST_IMAGES_OF_BEAT:
            prepared[""] = [self._tempo(side, rows) for side, rows in sides]
        for kind, of_sides in prepared.items():
            ours, real = (
                self._estimated(side.stretches, each)
                for (side, _), each in zip(sides, of_sides, strict=True)
            )
            for name, value in ours.items():
                if _is_finite(value) and _is_finite(real[name]):
                    yield Figure(name, kind, genre, value, real[name])

    def remarks(self, figures: Sequence[Figure]) -> Iterator[str]:
        """What is not among the figures of all pieces, and why."""
        found = {figure.name for figure in figures}
        if OF_PIECES.isdisjoint(found):
            yield (
                "Nothing is said of coherence and tempo: for these pieces and real tracks must be at least "
                f"{2 * self._config.image_seconds:.1f} s long, which are two images."
            )
        elif not any(name in found for name in self._lags):
            yield "Nothing is said of coherence: it takes two pieces and two real tracks of a genre at least."

    def _coherence(self, side: Side, kind: str, rows: Mask) -> list[tuple[Mask, _Prepared]]:
        """As each of the instruments sees it."""
        return [
            (judged, Coherence(of[kind][judged], side.stretches.take(judged), self._lags))
            for of, judged in ((of, mask & rows) for of, mask in side.seen)
        ]

    def _tempo(self, side: Side, rows: Mask) -> list[tuple[Mask, _Prepared]]:
        return [(rows, Tempo(side.stretches.take(rows), self._beat_over, self._config))]

    def _estimated(
        self, stretches: Stretches, prepared: Sequence[tuple[Mask, _Prepared]]
    ) -> dict[str, Estimate]:
        """The mean over what was prepared, each with the images that it is of."""
        return estimate(
            lambda weights: mean_figures([each.figures(weights[rows]) for rows, each in prepared]),
            stretches.images,
            rng=self._rng,
        )


def _is_finite(estimate: Estimate) -> bool:
    return bool(np.isfinite(estimate.value + estimate.half_width))
