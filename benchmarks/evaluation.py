"""Check the evaluation on images of known quality; prints the tables of docs/evaluation.md.

    python benchmarks/evaluation.py DATASET RUN

DATASET is a folder made by preprocess.py, RUN a training run on it that kept all its checkpoints
(--keep-checkpoints). Degraded sets must score badly, and real music must score as well as real
music. The reference is the test tracks, as in evaluate by default.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from musicspectrogan.data.dataset import ImageDataset, load_dataset
from musicspectrogan.evaluation.evaluator import Evaluator
from musicspectrogan.evaluation.reference import build_reference, load_images, load_splits
from musicspectrogan.evaluation.report import METRICS, Report, format_estimate
from musicspectrogan.evaluation.samples import ImageSet, Samples, sample_checkpoint
from musicspectrogan.training.run_checkpoints import load_checkpoint

DEVICE = torch.device("cpu")
COUNT = 2000
COLUMNS = (
    ("frechet", "classifier"),
    ("frechet", "untrained"),
    ("kernel", "classifier"),
    ("kernel", "untrained"),
    ("coverage", "classifier"),
    ("coverage", "untrained"),
    ("duplicates", "untrained"),
    ("diversity", "untrained"),
    ("genre_accuracy", ""),
    ("gan_train", ""),
    ("copied", ""),
)


def windows_at_any_offset(dataset: ImageDataset, rng: np.random.Generator) -> ImageSet:
    """Training windows at random offsets, across the border of consecutive images of a track."""
    pixels = dataset.pixels[dataset.rows]
    follows = (np.diff(dataset.tracks) == 0) & (np.diff(dataset.segments) == 1)
    firsts = rng.choice(np.nonzero(follows)[0], COUNT)
    width = pixels.shape[2]
    starts = rng.integers(width, size=COUNT)
    joined = np.concatenate([pixels[firsts], pixels[firsts + 1]], axis=2)
    windows = np.stack(
        [pair[:, start : start + width] for pair, start in zip(joined, starts, strict=True)]
    )
    return ImageSet(windows, dataset.labels[firsts], np.arange(COUNT))


def degraded_sets(dataset: ImageDataset, training: ImageSet) -> dict[str, ImageSet]:
    """Sets with known faults, made from training images."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(training), COUNT)
    clips = np.arange(COUNT)
    real, labels = training.pixels[rows], training.labels[rows]
    firsts = np.array([np.nonzero(training.labels == label)[0][0] for label in labels])
    grain = rng.normal(0.0, 3.0, real.shape)
    windows = windows_at_any_offset(dataset, rng)

    def grey(images: np.ndarray) -> np.ndarray:
        return np.clip(images, 0, 255).astype(np.uint8)

    return {
        "noise": ImageSet(rng.integers(0, 256, real.shape, dtype=np.uint8), labels, clips),
        "one image": ImageSet(grey(training.pixels[:1] + grain), labels, clips),
        "one image a genre": ImageSet(grey(training.pixels[firsts] + grain), labels, clips),
        "training, blurred": ImageSet(
            grey(gaussian_filter(real.astype(float), (0, 1, 1))), labels, clips
        ),
        "training, with grain": ImageSet(grey(real + 5.0 * grain), labels, clips),
        "training, at any offset": windows,
        "the same, labels shuffled": replace(windows, labels=rng.permutation(windows.labels)),
    }


def row(name: str, report: Report) -> str:
    """A line of the table."""
    cells = [name]
    for key in COLUMNS:
        figure = report.find(*key)
        cells.append(format_estimate((figure.ratio or figure.value) if figure else None))
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Evaluate all of them, and print two tables."""
    root, run = map(Path, sys.argv[1:])
    splits = load_splits(root)
    training = splits.training
    genres, rng = training.genres, np.random.default_rng(0)
    print(f"By {len(splits.held_out)} images of the {splits.split} tracks.", *splits.remarks, "\n")
    titles = (
        f"{METRICS[n].title}{' ratio' * METRICS[n].is_distance}{f', {f}' if f else ''}"
        for n, f in COLUMNS
    )
    print(f"| samples | {' | '.join(titles)} |\n|{'---|' * (len(COLUMNS) + 1)}")

    for split, other in (("validation", "test"), ("test", "validation")):
        images = load_images(load_dataset(root, split=split), genres, None, rng)
        held_out = replace(splits, held_out=load_dataset(root, split=other), split=other)
        reference = build_reference(root, held_out, DEVICE)
        report = Evaluator(Samples(images, True, {}), reference, 0).report()
        print(row(f"real: {split} tracks by {other} tracks", report), flush=True)

    reference = build_reference(root, splits, DEVICE)
    for name, images in degraded_sets(training, reference.training).items():
        print(row(name, Evaluator(Samples(images, True, {}), reference, 0).report()), flush=True)

    folder = run / "checkpoints"
    early, *_, last = sorted(folder.glob("epoch_*.pt"))
    reports = {}
    for path, seed in ((early, 0), (folder / "best.pt", 0), (folder / "best.pt", 1), (last, 0)):
        checkpoint = load_checkpoint(path)
        samples = sample_checkpoint(
            checkpoint, path, training, count=COUNT, seed=seed, device=DEVICE
        )
        reports[path, seed] = report = Evaluator(samples, reference, seed).report()
        what = {early: "early", last: "last"}.get(path, "best by validation")
        print(row(f"{what}: {checkpoint.images_seen:,} images, seed {seed}", report), flush=True)
    figures = (reports[last, 0].find(*key) for key in COLUMNS)
    cells = (format_estimate(figure.real) for figure in figures)
    print(f"| real music in their place | {' | '.join(cells)} |")

    first, second = (reports[folder / "best.pt", seed].figures for seed in (0, 1))
    print("\n| figure | features | seed 0 | seed 1 |\n|---|---|---|---|")
    for figure, other in zip(first, second, strict=True):
        title = METRICS[figure.name].title
        values = f"{format_estimate(figure.value)} | {format_estimate(other.value)}"
        print(f"| {title} | {figure.features} | {values} |")


if __name__ == "__main__":
    main()
