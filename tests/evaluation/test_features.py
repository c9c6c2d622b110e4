"""The untrained features, and all figures of two sets, on images of composed music."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.cluster import KMeans
from sklearn.metrics.pairwise import polynomial_kernel

from musicspectrogan.audio.spectrogram import SpectrogramConfig, cut_images, encode
from musicspectrogan.data import composer
from musicspectrogan.evaluation import features
from musicspectrogan.evaluation.features import DIMENSIONS, FeatureSpace, fit_pca
from musicspectrogan.evaluation.metrics import (
    Comparison,
    Neighbourhoods,
    different_bins,
    fit_bins,
    frechet_distance,
    js_divergence,
    kernel_distance,
    mean_and_covariance,
)
from musicspectrogan.evaluation.report import METRICS

SIZES = (64, 128)
CLIPS_PER_STYLE = 6
Images = np.ndarray


def every_figure(comparison: Comparison, *weights: np.ndarray) -> dict[str, float]:
    """Distances and shares together."""
    return {**comparison.distances(*weights), **comparison.shares(*weights)}


@dataclass(frozen=True)
class Music:
    """Three sets of images uint8 (90, size, size): five styles, six clips each, three a clip."""

    training: Images
    held_out: Images
    more: Images
    """Real music in the place of samples."""
    space: FeatureSpace
    """Fitted to the training images, as the bins are."""
    bins: KMeans

    def figures(self, sample: Images) -> dict[str, float]:
        """Of a sample against the held-out images."""
        comparison = Comparison(self.space(sample), self.space(self.held_out), self.bins)
        return every_figure(comparison, np.ones(len(sample)), np.ones(len(self.held_out)))


def composed(clips: list[np.ndarray], size: int) -> Images:
    config = SpectrogramConfig.for_image_size(size)
    return np.stack(
        [image for clip in clips for image in cut_images(encode(clip, config)[0], config)]
    )


@pytest.fixture(scope="module")
def music_of_size() -> dict[int, Music]:
    clips = [
        [
            composer.compose(style, index, seed=seed, seconds=9.3)
            for style in composer.STYLES
            for index in range(CLIPS_PER_STYLE)
        ]
        for seed in (1, 2, 3)
    ]
    found = {}
    for size in SIZES:
        training, held_out, more = (composed(of_seed, size) for of_seed in clips)
        space = FeatureSpace.fit(fit_pca(training), training)
        found[size] = Music(training, held_out, more, space, fit_bins(space(training)))
    return found


@pytest.fixture(params=SIZES)
def music(request: pytest.FixtureRequest, music_of_size: dict[int, Music]) -> Music:
    return music_of_size[request.param]


@pytest.fixture
def small(music_of_size: dict[int, Music]) -> Music:
    """Of the smaller images, where the size is of no matter."""
    return music_of_size[SIZES[0]]


def noise(count: int, size: int) -> Images:
    return np.random.default_rng(0).integers(0, 256, (count, size, size), dtype=np.uint8)


def test_a_space_has_mean_0_and_mean_square_1_on_its_images() -> None:
    """Of an embedding with values far from that."""
    pixels = noise(50, 8)

    def embedding(images: Images) -> np.ndarray:
        return np.stack([images.mean(axis=(1, 2)) + 500.0, 30.0 * images.std(axis=(1, 2))], axis=1)

    space = FeatureSpace.fit(embedding, pixels)
    found = space(pixels)
    np.testing.assert_allclose(found.mean(axis=0), 0.0, atol=1e-10)
    assert np.mean(found**2) == pytest.approx(1.0)
    # One scale for all features, so that the embedding's own proportions stay, for other images
    # too.
    other = noise(10, 8)[:, ::-1] // 2
    expected = (embedding(other) - embedding(pixels).mean(axis=0)) / space.scale
    np.testing.assert_allclose(space(other), expected)


def test_untrained_features(music: Music) -> None:
    fitted, found = music.space(music.training), music.space(music.held_out)
    assert found.dtype == np.float64 and found.shape == (len(music.held_out), DIMENSIONS)
    np.testing.assert_allclose(fitted.mean(axis=0), 0.0, atol=1e-4)
    assert np.mean(fitted**2) == pytest.approx(1.0)
    # Other music of the same kind spreads a little less along axes that were chosen for these
    # images.
    assert np.mean(found**2) == pytest.approx(0.8, abs=0.3)


def test_untrained_features_are_the_same_again(music: Music) -> None:
    again = FeatureSpace.fit(fit_pca(music.training), music.training)
    np.testing.assert_array_equal(again(music.held_out), music.space(music.held_out))


def test_features_of_an_image_do_not_depend_on_its_company(
    small: Music, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = small.space(small.held_out)
    np.testing.assert_allclose(small.space(small.held_out[7:8]), together[7:8], atol=1e-4)
    # Nor on how many are taken at a time, at the fitting either.
    monkeypatch.setattr(features, "IMAGES_PER_BATCH", 32)
    np.testing.assert_allclose(small.space(small.held_out), together, atol=1e-4)
    in_blocks = FeatureSpace.fit(fit_pca(small.training), small.training)
    np.testing.assert_allclose(in_blocks(small.held_out), together, atol=1e-3)


# Patterns of -1 and 1. All but the last are 0 to the picture, which sees means of two by two
# pixels.
STRIPES = np.tile([1, -1], (64, 32))
SLOW_STRIPES = np.tile([1, -1, -1, 1], (64, 16))
CHECKS = STRIPES * STRIPES.T
BRIGHT_FIRST = np.tile(np.repeat([1, -1], 32), (64, 1))
# Two patterns that all but one of the five descriptions take for the same.
TEXTURES = {
    "picture": (BRIGHT_FIRST, -BRIGHT_FIRST),
    "mean": (STRIPES.T, -STRIPES.T),
    # Twice the swing, half as often: the change from frame to frame is the same.
    "spread": (STRIPES, 2 * SLOW_STRIPES),
    "change": (STRIPES, SLOW_STRIPES),
    "contrast": (STRIPES, CHECKS),
}


@pytest.mark.parametrize("patterns", TEXTURES.values(), ids=TEXTURES.keys())
def test_untrained_features_see_each_single_difference(patterns: tuple[Images, Images]) -> None:
    rng = np.random.default_rng(3)
    # Brightness and strength vary in both groups alike, and every pixel by a level.
    grey, strength = rng.integers(100, 150, (2, 40, 1, 1)), rng.integers(18, 23, (2, 40, 1, 1))
    grain = rng.integers(-1, 2, (2, 40, 64, 64))
    groups = (grey + strength * np.array(patterns)[:, None] + grain).astype(np.uint8)
    fitted = np.concatenate(groups[:, :20])
    space = FeatureSpace.fit(fit_pca(fitted), fitted)
    # The direction in which the groups lie apart also parts images that nothing was fitted to;
    # without the description that sees them it would be chance, a half.
    one, other = (space(group[:20]).mean(axis=0) for group in groups)
    right = [space(group[20:]) @ (one - other) > 0 for group in groups]
    assert np.mean([right[0], ~right[1]]) > 0.9


def shuffled_frames(pixels: Images) -> Images:
    rng = np.random.default_rng(1)
    return np.stack([image[:, rng.permutation(image.shape[1])] for image in pixels])


def blurred(pixels: Images) -> Images:
    return gaussian_filter(pixels.astype(float), (0, 1.5, 1.5)).astype(np.uint8)


def noisy(pixels: Images) -> Images:
    """With a standard deviation of a tenth of the grey scale, 8 dB."""
    rough = pixels + np.random.default_rng(2).normal(0.0, 25.0, pixels.shape)
    return np.clip(rough, 0, 255).astype(np.uint8)


DAMAGE: dict[str, Callable[[Images], Images]] = {
    "noise": lambda pixels: noise(*pixels.shape[:2]),
    "noisy": noisy,
    "blurred": blurred,
    "upside down": lambda pixels: pixels[:, ::-1],
    "frames shuffled": shuffled_frames,
    "bands shuffled": lambda pixels: shuffled_frames(pixels.transpose(0, 2, 1)).transpose(0, 2, 1),
    "darker": lambda pixels: (pixels * 0.7).astype(np.uint8),
    "black": np.zeros_like,
    "one style": lambda pixels: pixels[: len(pixels) // 5],
    "one image": lambda pixels: np.repeat(pixels[:1], len(pixels), axis=0),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_untrained_features_see_damage(damage: Callable[[Images], Images], music: Music) -> None:
    """Both distances are several times those of real music in the same place."""
    real, found = music.figures(music.more), music.figures(damage(music.more))
    assert found["frechet"] > 3.0 * real["frechet"] > 0.0
    assert found["kernel"] > 10.0 * abs(real["kernel"])
    assert found["js_divergence"] > real["js_divergence"]
    assert found["coverage"] < real["coverage"]


def test_untrained_features_take_music_at_another_time_for_music(music: Music) -> None:
    """An image that is reversed or rolled in time stays near, unlike one with shuffled frames."""
    usual, width = music.figures(music.more)["frechet"], music.more.shape[2]
    assert music.figures(music.more[:, :, ::-1])["frechet"] < 1.5 * usual
    assert music.figures(np.roll(music.more, width // 3, axis=2))["frechet"] < 1.5 * usual


@pytest.mark.parametrize("count", [2, 3, 10])
def test_very_few_images(count: int, music: Music) -> None:
    few = music.training[:: len(music.training) // count][:count]
    space = FeatureSpace.fit(fit_pca(few), few)
    # As many axes as there are differences between the images.
    assert space(music.held_out).shape == (len(music.held_out), count - 1)
    assert np.mean(space(few) ** 2) == pytest.approx(1.0)
    assert np.isfinite(space(music.held_out)).all()


# scikit-learn divides by the total variance, for a share of it that nobody asks for.
@pytest.mark.filterwarnings("ignore:invalid value encountered in divide:RuntimeWarning")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("grey", [0, 77, 255])
def test_images_of_one_grey_have_finite_features(grey: int, size: int) -> None:
    pixels = np.full((12, size, size), grey, dtype=np.uint8)
    space = FeatureSpace.fit(fit_pca(pixels), pixels)
    np.testing.assert_array_equal(space(pixels), 0.0)
    assert np.isfinite(space(noise(5, size))).all()


def test_one_grey_among_music_does_no_harm(small: Music) -> None:
    found = small.space(np.concatenate([small.held_out[:3], np.zeros((1, 64, 64), np.uint8)]))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:3], small.space(small.held_out[:3]), atol=1e-4)


def test_figures_of_real_music(music: Music) -> None:
    found = music.figures(music.more)
    assert found["precision"] > 0.8 and found["recall"] > 0.7 and found["coverage"] > 0.7
    assert found["density"] == pytest.approx(1.0, abs=0.3)
    assert found["diversity"] == pytest.approx(1.0, abs=0.1)
    assert found["duplicates"] < 0.2 and found["js_divergence"] < 0.2


def test_figures_of_a_set_against_itself(small: Music) -> None:
    found = small.figures(small.held_out.copy())
    assert found["frechet"] == pytest.approx(0.0, abs=1e-5)
    # It is unbiased for independent sets; of these, an image and itself are a pair across but not
    # within.
    assert found["kernel"] < 0.0
    assert (found["ndb"], found["js_divergence"]) == (0.0, 0.0)
    for name in ("precision", "recall", "coverage", "diversity"):
        assert found[name] == pytest.approx(1.0), name


def test_figures_of_noise(small: Music) -> None:
    found = small.figures(noise(60, 64))
    assert [found[name] for name in ("precision", "recall", "density", "coverage")] == [0.0] * 4
    # Two noises are much alike to these features, so they share a bin or two.
    assert found["diversity"] < 0.3 and found["ndb"] > 0.5


def test_figures_of_one_real_image_again_and_again(small: Music) -> None:
    """Nothing is wrong with the image; there is only one."""
    found = small.figures(np.repeat(small.held_out[:1], 60, axis=0))
    assert (found["precision"], found["duplicates"]) == pytest.approx((1.0, 1.0))
    assert found["diversity"] == pytest.approx(0.0, abs=1e-6)
    # Its ball has no size, so it is all that is recalled; the balls it is in are a few.
    assert found["recall"] <= 1.5 / len(small.held_out) and found["coverage"] < 0.2


def test_figures_of_one_style(small: Music) -> None:
    one, all_five = small.figures(small.more[: len(small.more) // 5]), small.figures(small.more)
    assert one["precision"] > 0.8
    for name in ("recall", "coverage"):
        assert one[name] < 0.5 * all_five[name], name
    assert one["diversity"] < 0.8 * all_five["diversity"]


def two_sets(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0.6, 1.3, (60, 5)), rng.standard_normal((45, 5))


def test_comparison_is_its_parts_with_weights() -> None:
    """Of the sample first and the reference second, each with its own weights."""
    (sample, reference), rng = two_sets(), np.random.default_rng(1)
    times = rng.integers(0, 4, len(sample)), rng.integers(0, 4, len(reference))
    weights = tuple(t.astype(float) for t in times)
    bins = fit_bins(reference)
    found = every_figure(Comparison(sample, reference, bins), *weights)
    repeated = [
        np.repeat(rows, t, axis=0) for rows, t in zip((sample, reference), times, strict=True)
    ]
    moments = [mean_and_covariance(rows, np.ones(len(rows))) for rows in repeated]
    counts = [np.bincount(bins.predict(rows), minlength=bins.n_clusters) for rows in repeated]
    kernels = (
        polynomial_kernel(sample, sample),
        polynomial_kernel(reference, reference),
        polynomial_kernel(sample, reference),
    )
    expected = {
        "frechet": frechet_distance(*moments[0], *moments[1]),
        "kernel": kernel_distance(*kernels, *weights),
        **Neighbourhoods(sample, reference).figures(*weights),
        "js_divergence": js_divergence(*counts),
        "ndb": different_bins(*counts),
    }
    assert found == pytest.approx(expected)
    assert set(found) <= set(METRICS)


@pytest.mark.parametrize("which", [0, 1], ids=["sample", "reference"])
def test_images_without_weight_are_gone_from_all_figures(which: int) -> None:
    """So far from the rest that they are in none of its balls."""
    sets = list(two_sets())
    bins = fit_bins(sets[1])
    ones = [np.ones(len(rows)) for rows in sets]
    expected = every_figure(Comparison(*sets, bins), *ones)
    stray = np.random.default_rng(2).normal(40.0, 1.0, (10, 5))
    sets[which] = np.concatenate([sets[which], stray])
    weights = list(ones)
    weights[which] = np.concatenate([ones[which], np.zeros(10)])
    assert every_figure(Comparison(*sets, bins), *weights) == pytest.approx(expected)
    weights[which] = np.ones(len(sets[which]))
    assert Comparison(*sets, bins).distances(*weights)["frechet"] > 10.0 * expected["frechet"]
