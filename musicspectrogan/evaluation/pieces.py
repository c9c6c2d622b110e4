"""Structure of pieces longer than an image, compared with real tracks: coherence and tempo."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.signal import find_peaks
from scipy.spatial.distance import cdist

from musicspectrogan.audio.spectrogram import SpectrogramConfig, grey_to_db
from musicspectrogan.evaluation.metrics import Floats, mean_of_pairs
from musicspectrogan.evaluation.reference import Reference
from musicspectrogan.evaluation.report import LAGS, OF_PIECES, Figure, coherence_name
from musicspectrogan.evaluation.resampling import Estimate, estimate, mean_figures
from musicspectrogan.evaluation.samples import ClipWindows, Ints, Mask, Pixels, choose_clips
from musicspectrogan.evaluation.settings import MIN_TRACKS

# Relative error of a lag, which must be a whole number of images.
LAG_TOLERANCE = 0.25
# Beats per minute to look for, and the most likely tempo. D. Ellis, "Beat Tracking by Dynamic
# Programming", Journal of New Music Research 36 (2007), 51-60, weights tempi by a normal
# distribution of their logarithm around 120 with a standard deviation of one octave.
MIN_BPM, USUAL_BPM, MAX_BPM = 50.0, 120.0, 240.0
TEMPO_OCTAVES = 1.0
# Relative difference up to which two beat periods are the same.
BEAT_TOLERANCE = 0.04
# The most windows of pieces to use, because the number of distances grows with their square.
MAX_PIECE_WINDOWS = 4000
# Each half of a clip must be longer than a beat.
MIN_BEAT_WINDOWS = 2


def lags_in_images(config: SpectrogramConfig) -> dict[str, int]:
    """Lag in images of each coherence figure, for those LAGS that whole images approximate."""
    nearest = {seconds: round(seconds / config.image_seconds) for seconds in LAGS}
    return {
        coherence_name(seconds): count
        for seconds, count in nearest.items()
        if count and abs(count * config.image_seconds - seconds) <= LAG_TOLERANCE * seconds
    }


def clips_with_lag(clips: ClipWindows, lag: int) -> int:
    """Number of clips with two windows that are `lag` images apart."""
    return sum(len(_pairs_at(clips.positions[rows], lag)[0]) > 0 for rows in clips.rows_by_clip())


def _pairs_at(positions: Ints, lag: int) -> tuple[Ints, Ints]:
    """Rows of the windows of a clip with another `lag` images later, and the rows of the latter."""
    _, first, second = np.intersect1d(positions + lag, positions, return_indices=True)
    return first, second


@dataclass(frozen=True)
class _GenreDistances:
    """Distances among the C clips of a genre."""

    first: Ints
    """(C,): the first row of each clip."""
    between: Floats
    """(C, C): mean distance of the windows of two clips."""
    within: dict[str, Floats]
    """(C,) at each lag: mean distance of a clip's windows at that lag; 0 if it has none."""
    has_pairs: dict[str, Mask]
    """(C,) at each lag."""


class Coherence:
    """How far apart the windows of a clip are, relative to windows of different clips.

    Coherence at a lag is the mean distance of two windows of one clip at that lag, over the mean
    distance of windows of two different clips of its genre: a ratio of means. Every clip counts
    once, whatever its length, and every genre counts by its number of clips in numerator and
    denominator. Distances are computed once, and used for all weights.

    Args:
        features: (N, D) of the windows.
        lags: in images, by the names of the figures.
    """

    def __init__(self, features: Floats, clips: ClipWindows, lags: Mapping[str, int]) -> None:
        self._names = list(lags)
        rows_by_genre: dict[int, list[Ints]] = {}
        for rows in clips.rows_by_clip():
            rows_by_genre.setdefault(int(clips.images.labels[rows[0]]), []).append(rows)
        self._genres = [
            _measure_distances(features, clips.positions, rows, lags)
            for rows in rows_by_genre.values()
        ]

    def figures(self, weights: Floats) -> dict[str, float]:
        """Coherence at each lag, for weights (N,); NaN if no genre has two clips."""
        near, far = (dict.fromkeys(self._names, 0.0) for _ in range(2))
        for genre in self._genres:
            w = weights[genre.first]
            if np.count_nonzero(w) < 2:
                continue
            between = mean_of_pairs(genre.between, w)
            for name in self._names:
                near[name] += float(w @ genre.within[name])
                far[name] += float(w @ genre.has_pairs[name] * between)
        return {
            name: near[name] / far[name] if far[name] > 0 else float("nan") for name in self._names
        }


def _measure_distances(
    features: Floats, positions: Ints, rows_by_clip: list[Ints], lags: Mapping[str, int]
) -> _GenreDistances:
    all_rows = np.concatenate(rows_by_clip)
    sizes = np.array([len(rows) for rows in rows_by_clip])
    starts = np.cumsum(sizes) - sizes
    # Clip by clip, because the distances of all windows would need too much memory.
    between = np.stack(
        [
            np.add.reduceat(cdist(features[rows], features[all_rows]).mean(axis=0), starts) / sizes
            for rows in rows_by_clip
        ]
    )
    within, has_pairs = {}, {}
    for name, lag in lags.items():
        distances = []
        for rows in rows_by_clip:
            first, second = _pairs_at(positions[rows], lag)
            apart = features[rows[first]] - features[rows[second]]
            distances.append(np.linalg.norm(apart, axis=1))
        has_pairs[name] = np.array([len(of_clip) > 0 for of_clip in distances])
        within[name] = np.array([of_clip.mean() if len(of_clip) else 0.0 for of_clip in distances])
    first_rows = np.array([rows[0] for rows in rows_by_clip])
    return _GenreDistances(first_rows, between, within, has_pairs)


class Tempo:
    """Whether the beat of a clip is the same in both of its halves.

    Args:
        clips: those with fewer than `length` adjacent windows are left out.
        length: number of windows of each clip to use.
    """

    def __init__(self, clips: ClipWindows, length: int, config: SpectrogramConfig) -> None:
        runs = [run[:length] for run in clips.longest_runs() if len(run) >= length]
        periods = [half_periods(clips.concatenate(run), config) for run in runs]
        first, second = np.array(periods).reshape(-1, 2).T
        self._same = is_same_beat(first[:, None], second[None, :])
        self._rows = np.array([run[0] for run in runs], dtype=np.int64)
        self._labels = clips.images.labels[self._rows]

    def figures(self, weights: Floats) -> dict[str, float]:
        """`tempo_stability` and `shared_tempo`, for weights (N,); NaN without clips or pairs.

        `tempo_stability` is the share of clips whose halves have the same beat. `shared_tempo` is
        the share of pairs of different clips of a genre where the first half of one and the second
        half of the other have the same beat: if all pieces share one beat, its stability is no
        merit.
        """
        weights = weights[self._rows]
        of_pairs = shared = 0.0
        for label in np.unique(self._labels):
            rows = np.flatnonzero(self._labels == label)
            w = weights[rows]
            if np.count_nonzero(w) > 1:
                of_pairs += float(w.sum())
                shared += float(w.sum()) * mean_of_pairs(self._same[np.ix_(rows, rows)], w)
        total = weights.sum()
        stable = weights @ self._same.diagonal()
        return {
            "tempo_stability": float(stable / total) if total else float("nan"),
            "shared_tempo": shared / of_pairs if of_pairs else float("nan"),
        }


def half_periods(piece: Pixels, config: SpectrogramConfig) -> tuple[float, float]:
    """Beat period in seconds in each half of a piece uint8 (n_mels, T); NaN without a beat."""
    db = grey_to_db(piece.astype(np.float32), config)
    envelope = np.maximum(np.diff(db, axis=1), 0.0).mean(axis=0)
    half = len(envelope) // 2
    frame_seconds = config.hop_length / config.sample_rate
    return beat_period(envelope[:half], frame_seconds), beat_period(envelope[-half:], frame_seconds)


def beat_period(envelope: Floats, frame_seconds: float) -> float:
    """Beat period in seconds of an onset envelope (T,): its likeliest autocorrelation peak, or NaN.

    The peak is interpolated by a parabola, because a frame of 46 ms is more than BEAT_TOLERANCE.
    librosa's tempo is a whole number of frames, and it finds one in noise too.
    """
    centred = envelope - envelope.mean()
    count = len(centred)
    spectrum = np.fft.rfft(centred, 2 * count)  # zero-padded: no circular correlation
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[:count]
    peaks, _ = find_peaks(correlation)
    seconds = peaks * frame_seconds
    in_range = (seconds >= 60.0 / MAX_BPM) & (seconds <= 60.0 / MIN_BPM)
    peaks = peaks[in_range & (correlation[peaks] > 0.0)]
    if not len(peaks):
        return float("nan")
    octaves = np.log2(peaks * frame_seconds * USUAL_BPM / 60.0)
    likelihood = np.exp(-0.5 * (octaves / TEMPO_OCTAVES) ** 2)
    best = peaks[np.argmax(correlation[peaks] * likelihood)]
    before, top, after = correlation[best - 1 : best + 2]
    curvature = before - 2.0 * top + after
    offset = 0.5 * (before - after) / curvature if curvature else 0.0
    return float((best + offset) * frame_seconds)


def is_same_beat(first: Floats, second: Floats) -> Mask:
    """Whether two beat periods are the same, or one is twice the other; False for NaN.

    Which of the two octaves is found is chance, in real music too.
    """
    octaves = np.log2(second / first)
    distance = np.abs(octaves - np.clip(np.rint(octaves), -1, 1))
    return np.asarray(distance <= np.log2(1.0 + BEAT_TOLERANCE))


# Coherence or Tempo, with the windows that it was computed from.
_Measured = Sequence[tuple[Mask, Coherence | Tempo]]


@dataclass(frozen=True)
class Side:
    """Pieces, or real tracks to compare them with."""

    clips: ClipWindows
    features: Sequence[tuple[Mapping[str, Floats], Mask]]
    """For each feature extractor: features (N, D) by name, and which windows may be used."""

    def rows_of(self, genre: str | None, label: int) -> Mask:
        """Mask (N,) of the windows of a genre, or of all for None."""
        labels = self.clips.images.labels
        return np.ones(len(labels), dtype=bool) if genre is None else labels == label


class Structure:
    """Coherence and tempo of pieces and of real tracks.

    Real tracks are measured by the feature extractors that were not fitted to them.

    Args:
        features: of the pieces' windows, (N, D) by name, for each of the feature extractors.
        pooled: ignore the genres of real tracks, because the pieces have none.
    """

    def __init__(
        self,
        pieces: ClipWindows,
        features: Sequence[Mapping[str, Floats]],
        reference: Reference,
        *,
        pooled: bool,
        rng: np.random.Generator,
    ) -> None:
        self._rng, self._config = rng, reference.dataset.spectrogram
        chosen = choose_clips(pieces.images.clips, MAX_PIECE_WINDOWS, rng)
        pieces, tracks = pieces.take(chosen), reference.tracks
        everything = np.ones(len(pieces.images), dtype=bool)
        self.pieces = Side(
            pieces.without_genres() if pooled else pieces,
            [({name: of[name][chosen] for name in of}, everything) for of in features],
        )
        self.tracks = Side(
            tracks.without_genres() if pooled else tracks,
            [
                (
                    {name: space(tracks.images.pixels) for name, space in each.spaces.items()},
                    ~np.isin(tracks.images.clips, each.fitted_tracks),
                )
                for each in reference.extractors
            ],
        )
        sides = (pieces, tracks)
        self._lags = {
            name: lag
            for name, lag in lags_in_images(self._config).items()
            if all(clips_with_lag(clips, lag) >= MIN_TRACKS for clips in sides)
        }
        # The same length for pieces and tracks, which at least half of either have.
        self._beat_windows = int(
            min(np.median([len(run) for run in clips.longest_runs()]) for clips in sides)
        )

    @property
    def facts(self) -> dict[str, Any]:
        """What the figures were computed from, for the report."""
        return {
            "pieces": self.pieces.clips.images.n_clips,
            "real_tracks": self.tracks.clips.images.n_clips,
            "tempo_over_seconds": round(self._beat_windows * self._config.image_seconds, 2),
        }

    def figures(self, genre: str | None = None, label: int = 0) -> Iterator[Figure]:
        """Yield the figures of all pieces or of a genre, without those that cannot be computed."""
        measures: dict[str, Callable[[Side, Mask], _Measured]] = {}
        if self._lags:
            names = self.pieces.features[0][0]
            measures = {name: partial(self._coherence, name) for name in names}
        if self._beat_windows >= MIN_BEAT_WINDOWS:
            measures[""] = self._tempo
        for features, measure in measures.items():
            pieces, tracks = (
                self._estimate(side, measure(side, side.rows_of(genre, label)))
                for side in (self.pieces, self.tracks)
            )
            for name, value in pieces.items():
                if _is_finite(value) and _is_finite(tracks[name]):
                    yield Figure(name, features, genre, value, tracks[name])

    def remarks(self, figures: Sequence[Figure]) -> Iterator[str]:
        """Yield what is missing among the figures of all pieces, and why."""
        found = {figure.name for figure in figures}
        if OF_PIECES.isdisjoint(found):
            yield (
                "There are no figures of coherence and tempo: they need pieces and real tracks of "
                f"at least {2 * self._config.image_seconds:.1f} s, which are two images."
            )
        elif not any(name in found for name in self._lags):
            yield (
                "There are no figures of coherence: they need at least two pieces and two real "
                "tracks of a genre."
            )

    def _coherence(self, name: str, side: Side, rows: Mask) -> _Measured:
        measured = []
        for features, usable in side.features:
            used = usable & rows
            measured.append(
                (used, Coherence(features[name][used], side.clips.take(used), self._lags))
            )
        return measured

    def _tempo(self, side: Side, rows: Mask) -> _Measured:
        return [(rows, Tempo(side.clips.take(rows), self._beat_windows, self._config))]

    def _estimate(self, side: Side, measured: _Measured) -> dict[str, Estimate]:
        """Mean over the feature extractors, with intervals."""
        return estimate(
            lambda weights: mean_figures([each.figures(weights[rows]) for rows, each in measured]),
            side.clips.images,
            rng=self._rng,
        )


def _is_finite(estimate: Estimate) -> bool:
    return bool(np.isfinite(estimate.value + estimate.half_width))
