"""Metrics that compare samples with real images.

Every image may have a weight, so that resampling clips needs no new distances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.linalg
from scipy.fft import rfft
from scipy.signal import find_peaks
from scipy.signal.windows import hann
from scipy.spatial.distance import cdist
from scipy.special import rel_entr
from scipy.stats import norm
from sklearn.cluster import KMeans
from sklearn.metrics.pairwise import polynomial_kernel

from musicspectrogan.audio.spectrogram import SpectrogramConfig, grey_to_db

Floats = npt.NDArray[np.floating]

NEIGHBOURS = 5
# An image is a near-duplicate if its nearest neighbour is nearer than this part of the usual
# distance.
DUPLICATE_PART = 0.5
# Number of bins: one for this many images, up to the usual hundred.
IMAGES_PER_BIN = 10
MAX_BINS = 100
SIGNIFICANCE = 0.05
IMAGES_PER_BATCH = 256
# Prominence of an onset: a peak in dB of the rise from frame to frame, mean over bands.
ONSET_DB = 2.0
# Added to a power in dB² before the logarithm.
MIN_POWER = 1e-6


def mean_and_covariance(features: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Weighted mean (D,) and unbiased covariance (D, D) of features (N, D).

    Args:
        weights: (N,), how often each row counts.
    """
    total = weights.sum()
    mean = weights @ features / total
    centred = features - mean
    return mean, (centred * weights[:, None]).T @ centred / (total - 1.0)


def frechet_distance(
    mean_a: Floats, covariance_a: Floats, mean_b: Floats, covariance_b: Floats
) -> float:
    """Squared Fréchet distance of two Gaussians, |m_a - m_b|² + tr(C_a + C_b - 2 (C_a C_b)^½).

    D. Dowson, B. Landau, Journal of Multivariate Analysis 12 (1982), 450-455; for GANs M. Heusel et
    al., arXiv:1706.08500. The trace of the root is computed from the eigenvalues of the product,
    which are real and not negative, so covariances may be singular.
    """
    eigenvalues = scipy.linalg.eigvals(covariance_a @ covariance_b).real
    trace_of_root = np.sqrt(np.maximum(eigenvalues, 0.0)).sum()
    difference = mean_a - mean_b
    squared = difference @ difference + np.trace(covariance_a + covariance_b) - 2.0 * trace_of_root
    return max(0.0, float(squared))  # rounding


def mean_of_pairs(values: Floats | npt.NDArray[np.bool_], weights: Floats) -> float:
    """Weighted mean of values (N, N) over pairs of different items.

    Args:
        weights: (N,), at least two of them above 0. Copies of one item form no pairs.
    """
    pairs = weights.sum() ** 2 - weights @ weights
    return float((weights @ values @ weights - values.diagonal() @ weights**2) / pairs)


def kernel_distance(
    within_a: Floats, within_b: Floats, across: Floats, weights_a: Floats, weights_b: Floats
) -> float:
    """Unbiased squared maximum mean discrepancy; may be slightly negative.

    A. Gretton et al., JMLR 13 (2012), 723-773, equation 3. With the cubic kernel (x·y / D + 1)³,
    the default of scikit-learn's polynomial_kernel, it is the kernel inception distance of M.
    Bińkowski et al., arXiv:1801.01401.

    Args:
        within_a, within_b, across: kernel matrices (N, N), (M, M) and (N, M).
        weights_a, weights_b: (N,) and (M,), as for `mean_of_pairs`.
    """
    between = weights_a @ across @ weights_b / (weights_a.sum() * weights_b.sum())
    within = mean_of_pairs(within_a, weights_a) + mean_of_pairs(within_b, weights_b)
    return float(within - 2.0 * between)


class Neighbourhoods:
    """Nearest neighbours within and between a sample (N, D) and a reference (M, D).

    An image's ball has the distance to its `NEIGHBOURS`-th neighbour in the same set as radius.
    Weights do not change the balls and neighbours, which are those of the full sets.
    """

    def __init__(self, sample: Floats, reference: Floats) -> None:
        self._within_sample = cdist(sample, sample)
        self._within_reference = cdist(reference, reference)
        across = cdist(sample, reference)
        self._in_reference_ball = (across <= _radii(self._within_reference)).astype(np.float32)
        self._in_sample_ball = (across <= _radii(self._within_sample)[:, None]).astype(np.float32)
        self._nearest_in_sample = _nearest_distances(self._within_sample)
        self._nearest_in_reference = _nearest_distances(self._within_reference)

    def figures(self, sample_weights: Floats, reference_weights: Floats) -> dict[str, float]:
        """Compute the metrics for weights (N,) and (M,).

        - precision: share of the sample inside a ball of the reference; recall: share of the
          reference inside a ball of the sample (T. Kynkäänniemi et al., arXiv:1904.06991).
        - density: reference balls around an image of the sample, over `NEIGHBOURS`; coverage: share
          of the reference with a sample in its ball (M. Naeem et al., arXiv:2002.09797).
        - diversity: mean distance of two images of the sample, over that of the reference.
        - duplicates: share of the sample with a neighbour nearer than `DUPLICATE_PART` of the
          median nearest-neighbour distance of the reference.
        """
        in_use, reference_in_use = (
            (weights > 0).astype(np.float32) for weights in (sample_weights, reference_weights)
        )
        precise = self._in_reference_ball @ reference_in_use > 0
        recalled = in_use @ self._in_sample_ball > 0
        covered = in_use @ self._in_reference_ball > 0
        balls = self._in_reference_ball @ reference_weights
        usual = np.quantile(
            self._nearest_in_reference, 0.5, weights=reference_weights, method="inverted_cdf"
        )
        duplicate = self._nearest_in_sample < DUPLICATE_PART * usual
        spread = mean_of_pairs(self._within_sample, sample_weights)
        total, reference_total = sample_weights.sum(), reference_weights.sum()
        return {
            "precision": float(sample_weights @ precise / total),
            "recall": float(reference_weights @ recalled / reference_total),
            "density": float(sample_weights @ balls / total / NEIGHBOURS),
            "coverage": float(reference_weights @ covered / reference_total),
            "diversity": spread / mean_of_pairs(self._within_reference, reference_weights),
            "duplicates": float(sample_weights @ duplicate / total),
        }


def _radii(within: Floats) -> Floats:
    """Distance of each image to its NEIGHBOURS-th neighbour; the first is itself."""
    nearest = min(NEIGHBOURS, len(within) - 1)
    radii: Floats = np.partition(within, nearest, axis=1)[:, nearest]
    return radii


def _nearest_distances(within: Floats) -> Floats:
    nearest: Floats = (within + np.diag(np.full(len(within), np.inf))).min(axis=1)
    return nearest


def fit_bins(features: Floats) -> KMeans:
    """Partition the feature space into the Voronoi cells of k-means centres of features (N, D)."""
    count = int(np.clip(len(features) // IMAGES_PER_BIN, 2, MAX_BINS))
    return KMeans(count, n_init=4, random_state=0).fit(features)


def different_bins(sample_counts: Floats, reference_counts: Floats) -> float:
    """Share of bins with significantly different proportions.

    E. Richardson, Y. Weiss, arXiv:1805.12462: a two-proportion z-test at level `SIGNIFICANCE`
    without correction. It assumes independent images, which segments of a track are not; real music
    too has more than `SIGNIFICANCE`.

    Args:
        sample_counts, reference_counts: (K,), images in each bin.
    """
    n, m = sample_counts.sum(), reference_counts.sum()
    pooled = (sample_counts + reference_counts) / (n + m)
    error = np.sqrt(pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m))
    differs = np.abs(sample_counts / n - reference_counts / m) > (
        norm.isf(SIGNIFICANCE / 2.0) * error
    )
    return float(differs.mean())


def js_divergence(sample_counts: Floats, reference_counts: Floats) -> float:
    """Jensen-Shannon divergence in bits of the bins' proportions, from counts (K,)."""
    p, q = sample_counts / sample_counts.sum(), reference_counts / reference_counts.sum()
    mean = (p + q) / 2.0
    nats = (rel_entr(p, mean) + rel_entr(q, mean)).sum() / 2.0
    # Rounding may make the divergence of nearly equal proportions negative.
    return max(0.0, float(nats / np.log(2.0)))


class Comparison:
    """All metrics of a sample against a reference in one feature space.

    Distances are computed once, and used for all weights.

    Args:
        sample, reference: features (N, D) and (M, D).
        bins: fitted to real features of the same space.
    """

    def __init__(self, sample: Floats, reference: Floats, bins: KMeans) -> None:
        self._features = (sample, reference)
        self._kernels = (
            polynomial_kernel(sample),
            polynomial_kernel(reference),
            polynomial_kernel(sample, reference),
        )
        self._neighbourhoods = Neighbourhoods(sample, reference)
        self._bins = [bins.predict(features) for features in self._features]
        self._n_bins = bins.n_clusters

    def distances(self, sample_weights: Floats, reference_weights: Floats) -> dict[str, float]:
        """Fréchet, kernel and Jensen-Shannon distance for weights (N,) and (M,)."""
        weights = (sample_weights, reference_weights)
        moments = [
            mean_and_covariance(features, w)
            for features, w in zip(self._features, weights, strict=True)
        ]
        return {
            "frechet": frechet_distance(*moments[0], *moments[1]),
            "kernel": kernel_distance(*self._kernels, *weights),
            "js_divergence": js_divergence(*self._counts(weights)),
        }

    def shares(self, sample_weights: Floats, reference_weights: Floats) -> dict[str, float]:
        """All other metrics for weights (N,) and (M,)."""
        weights = (sample_weights, reference_weights)
        return {
            **self._neighbourhoods.figures(*weights),
            "ndb": different_bins(*self._counts(weights)),
        }

    def _counts(self, weights: tuple[Floats, Floats]) -> list[Floats]:
        """Images in each bin (K,), of sample and reference."""
        return [
            np.bincount(bins, weights=w, minlength=self._n_bins).astype(np.float64)
            for bins, w in zip(self._bins, weights, strict=True)
        ]


@dataclass(frozen=True)
class Profile:
    """Spectral statistics of a set of images."""

    level: Floats
    """(n_mels,): dB, lowest band first."""
    spread: Floats
    """(n_mels,): standard deviation over all frames, dB."""
    modulation: Floats
    """(n_frames // 2,): modulation spectrum, 10 log10 of dB²."""
    onset_rate: float
    """Onsets per second."""


@dataclass(frozen=True)
class SpectralStatistics:
    """Spectral statistics of each of N images."""

    levels: Floats
    """(N, n_mels): mean over time in dB, lowest band first."""
    squares: Floats
    """(N, n_mels): mean square over time, dB²."""
    modulation: Floats
    """(N, n_frames // 2): power at each modulation frequency but 0, mean over bands, dB²."""
    onsets: Floats
    """(N,): onsets per second."""

    @classmethod
    def of(cls, pixels: npt.NDArray[np.uint8], config: SpectrogramConfig) -> SpectralStatistics:
        """Measure images uint8 (N, H, W), low frequencies at the bottom."""
        starts = range(0, len(pixels), IMAGES_PER_BATCH)
        parts = [_measure(pixels[start : start + IMAGES_PER_BATCH], config) for start in starts]
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def take(self, rows: npt.NDArray[np.int64]) -> SpectralStatistics:
        """Select images by their indices."""
        return SpectralStatistics(
            self.levels[rows], self.squares[rows], self.modulation[rows], self.onsets[rows]
        )

    def profile(self, weights: Floats) -> Profile:
        """Pool all images; weights (N,) say how often each counts."""
        share = weights / weights.sum()
        level = share @ self.levels
        return Profile(
            level,
            np.sqrt(np.maximum(share @ self.squares - level**2, 0.0)),
            10.0 * np.log10(share @ self.modulation + MIN_POWER),
            float(share @ self.onsets),
        )


def _measure(pixels: npt.NDArray[np.uint8], config: SpectrogramConfig) -> tuple[Floats, ...]:
    db = grey_to_db(pixels[:, ::-1].astype(np.float64), config)
    levels = db.mean(axis=2)
    window = hann(db.shape[2], sym=False)
    spectrum = rfft((db - levels[:, :, None]) * window, axis=2)[:, :, 1:]
    modulation = (spectrum.real**2 + spectrum.imag**2).mean(axis=1) / (window**2).sum()
    rises = np.maximum(np.diff(db, axis=2), 0.0).mean(axis=1)
    # Padded, because a peak at the edge has no prominence.
    counts = [len(find_peaks(np.pad(rise, 1), prominence=ONSET_DB)[0]) for rise in rises]
    return levels, (db**2).mean(axis=2), modulation, np.array(counts) / config.image_seconds


def modulation_hz(config: SpectrogramConfig) -> Floats:
    """Modulation frequencies (n_frames // 2,) in Hz."""
    return np.arange(1, config.n_frames // 2 + 1) / config.image_seconds


def spectral_figures(sample: Profile, reference: Profile) -> dict[str, float]:
    """Mean absolute differences in dB, and the onset rate of the sample."""
    return {
        "band_means": float(np.abs(sample.level - reference.level).mean()),
        "band_spreads": float(np.abs(sample.spread - reference.spread).mean()),
        "modulation": float(np.abs(sample.modulation - reference.modulation).mean()),
        "onset_rate": sample.onset_rate,
    }
