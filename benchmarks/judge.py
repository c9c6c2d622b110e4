"""Can the judge tell? Mixtures of real held-out music with a known part of bad samples.

    PYTHONPATH=. python benchmarks/judge.py [--tracks 20 50] [--repeats 20] [--music FILE]

Composes music of five styles and draws training tracks, test tracks and samples from it, again and
again. Samples are images of other tracks, some of them with grain. For each number of test tracks
and each part of grainy samples, the first table counts how often the Fréchet distance in untrained
features says farther, cannot tell and as near. The second compares the smallest ratio that it names
with the one that was found in four of five cases.

The features are those that `evaluate` fits without training, and the distance is estimated by the
same functions. Only classifiers are left out, which take too long to train hundreds of times.
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
from common import log_progress

from musicspectrogan.audio.spectrogram import SpectrogramConfig, cut_images, encode
from musicspectrogan.data import composer
from musicspectrogan.evaluation.features import FeatureSpace, fit_pca
from musicspectrogan.evaluation.metrics import frechet_distance, mean_and_covariance
from musicspectrogan.evaluation.reference import MAX_HELD_OUT, MAX_TRAINING, split_in_halves
from musicspectrogan.evaluation.report import AS_NEAR, CANNOT_TELL, FARTHER, Figure
from musicspectrogan.evaluation.resampling import Side, estimate_pair
from musicspectrogan.evaluation.samples import ImageSet
from musicspectrogan.progress import progress_bar

Floats = npt.NDArray[np.float64]

PARTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
SAMPLES = 1000
# Training tracks, at most, and as a multiple of the test tracks: splits have 8 to 1.
MAX_TRAINING_TRACKS, TRAINING_PER_TEST = 800, 8
# Standard deviation of the grain in grey levels, of 255.
GRAIN = 20.0
# Rate at which a ratio counts as found.
POWER = 0.8


def compose_music(tracks: int) -> ImageSet:
    """Images of this many tracks, as many of each style."""
    config, found = SpectrogramConfig.for_image_size(64), []
    with progress_bar(total=tracks, description="Composing", unit="track") as bar:
        for number in range(tracks):
            index, label = divmod(number, len(composer.STYLES))
            samples = composer.compose(list(composer.STYLES)[label], index, seed=77)
            images = np.stack(cut_images(encode(samples, config)[0], config))
            found.append((images, np.full(len(images), label), np.full(len(images), number)))
            bar.update()
    return ImageSet(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def draw_tracks(images: ImageSet, count: int, rng: np.random.Generator) -> tuple[ImageSet, ...]:
    """Draw as many tracks of each style; return their images, and those of the others."""
    clips, first = np.unique(images.clips, return_index=True)
    labels = images.labels[first]
    styles = np.unique(labels)
    drawn = np.concatenate(
        [rng.permutation(clips[labels == label])[: count // len(styles)] for label in styles]
    )
    inside = np.isin(images.clips, drawn)
    return images.take(inside), images.take(~inside)


def frechet(own: Floats, shared: Floats, own_weights: Floats, shared_weights: Floats) -> float:
    """Fréchet distance of features (N, D) and (M, D) with weights."""
    return frechet_distance(
        *mean_and_covariance(own, own_weights), *mean_and_covariance(shared, shared_weights)
    )


def judge(music: ImageSet, tracks: int, rng: np.random.Generator) -> dict[float, Figure]:
    """Draw tracks, and evaluate samples with each part of bad ones; return the distances."""
    training, rest = draw_tracks(music, min(TRAINING_PER_TEST * tracks, MAX_TRAINING_TRACKS), rng)
    test, rest = draw_tracks(rest, tracks, rng)
    training, test = training.subsample(MAX_TRAINING, rng), test.subsample(MAX_HELD_OUT, rng)
    styles = np.unique(rest.labels)
    rows = np.concatenate(
        [
            rng.choice(np.flatnonzero(rest.labels == label), SAMPLES // len(styles), replace=False)
            for label in styles
        ]
    )
    samples = rest.take(rows)
    grain = rng.normal(0.0, GRAIN, samples.pixels.shape)
    grainy = np.clip(samples.pixels + grain, 0, 255).astype(np.uint8)
    halves = split_in_halves(training)
    spaces = [FeatureSpace.fit(fit_pca(half.pixels), half.pixels) for half in halves]
    good, bad, held_out = (
        [space(pixels) for space in spaces] for pixels in (samples.pixels, grainy, test.pixels)
    )
    others = [space(half.pixels) for space, half in zip(spaces, halves[::-1], strict=True)]

    def of_real(*weights: Floats) -> dict[str, float]:
        *own, shared = weights
        each = zip(others, held_out, own, strict=True)
        return {"frechet": float(np.mean([frechet(of, t, w, shared) for of, t, w in each]))}

    figures, order = {}, rng.permutation(len(samples))
    for part in PARTS:
        is_bad = (order < part * len(samples))[:, None]
        mixed = [np.where(is_bad, *both) for both in zip(bad, good, strict=True)]

        def of_samples(
            own: Floats, shared: Floats, mixed: list[Floats] = mixed
        ) -> dict[str, float]:
            each = zip(mixed, held_out, strict=True)
            return {"frechet": float(np.mean([frechet(of, t, own, shared) for of, t in each]))}

        sides = (
            Side([samples], lambda *_: {}, of_samples),
            Side(halves[::-1], lambda *_: {}, of_real),
        )
        pair = estimate_pair(*sides, test, rng=rng)["frechet"]
        figures[part] = Figure("frechet", "untrained", None, pair.value, pair.real, pair.difference)
    return figures


def found_ratio(rates: list[float], ratios: list[float]) -> str:
    """The ratio that is found with `POWER`, between the parts that were measured."""
    steps = zip(itertools.pairwise(rates), itertools.pairwise(ratios), strict=True)
    for (low, high), (below, above) in steps:
        if low < POWER <= high:
            return f"{below + (above - below) * (POWER - low) / (high - low):.2f}"
    return ""


def main() -> None:
    """Measure, and print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tracks", type=int, nargs="+", default=[20, 50, 200, 1000])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--music", type=Path, help="keep the composed images in this file")
    arguments = parser.parse_args()
    if arguments.music and arguments.music.is_file():
        with np.load(arguments.music) as kept:
            music = ImageSet(kept["pixels"], kept["labels"], kept["clips"])
    else:
        music = compose_music(MAX_TRAINING_TRACKS + 2 * max(arguments.tracks) + SAMPLES)
        if arguments.music:
            np.savez(arguments.music, pixels=music.pixels, labels=music.labels, clips=music.clips)
    print("| test tracks | bad samples | ratio | farther | cannot tell | as near |")
    print("|---|---|---|---|---|---|")
    smallest = []
    for tracks in arguments.tracks:
        judged = []
        for repeat in range(arguments.repeats):
            judged.append(judge(music, tracks, np.random.default_rng([tracks, repeat])))
            log_progress(f"{tracks} tracks: {repeat + 1} of {arguments.repeats}")
        rates, ratios = [], []
        for part in PARTS:
            figures = [each[part] for each in judged]
            counts = Counter(figure.finding for figure in figures)
            ratios.append(float(np.mean([f.ratio.value for f in figures if f.ratio])))
            rates.append(counts[FARTHER] / len(figures))
            shares = " | ".join(
                f"{100 * counts[finding] / len(figures):.0f} %"
                for finding in (FARTHER, CANNOT_TELL, AS_NEAR)
            )
            print(f"| {tracks} | {100 * part:.0f} % | {ratios[-1]:.2f} | {shares} |", flush=True)
        named = np.median([each[0.0].detectable for each in judged])
        smallest.append(f"| {tracks} | {named:.2f} | {found_ratio(rates, ratios)} |")
    print("\n| test tracks | smallest ratio named | found in 80 % |\n|---|---|---|")
    print("\n".join(smallest))


if __name__ == "__main__":
    main()
