"""Helpers of the tests of evaluation: music with known faults, and access to figures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from musicspectrogan.audio.files import save
from musicspectrogan.data import composer
from musicspectrogan.data.dataset import ImageDataset, load_dataset
from musicspectrogan.evaluation import features, resampling
from musicspectrogan.evaluation.report import METRICS, OF_PIECES, Report

GENRES = ["blues", "jazz", "metal"]
KINDS = ["classifier", "untrained"]
# Figures of both kinds of features, and figures that need genres.
COMPARED = {
    "frechet", "kernel", "precision", "recall", "density", "coverage", "diversity", "duplicates",
    "ndb", "js_divergence",
}  # fmt: skip
OF_GENRES = {"genre_accuracy", "gan_train"}
OF_IMAGES = set(METRICS) - OF_PIECES
# Distances whose floor is the value that real music has, whatever its half-width.
PLAIN_DISTANCES = {"frechet", "band_means", "band_spreads", "modulation"}
SAMPLES = 120
CPU = torch.device("cpu")


@contextmanager
def hurried(steps: int = 40) -> Iterator[None]:
    """Use few replicates and short training of classifiers, where precision does not matter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "STEPS", steps)
        patch.setattr(resampling, "REPLICATES", 10)
        yield


def expected_figures(*, conditional: bool) -> set[tuple[str, str]]:
    """The name and the features of every figure of all images."""
    plain = OF_IMAGES - COMPARED - (set() if conditional else OF_GENRES)
    return {(name, kind) for name in COMPARED for kind in KINDS} | {(name, "") for name in plain}


def compose_music(root: Path, seed: int) -> Path:
    """Three genres in GTZAN's layout, eight clips of five images each; six of each for training."""
    for genre, style in zip(GENRES, composer.STYLES, strict=False):
        (root / genre).mkdir(parents=True)
        for index in range(8):
            samples = composer.compose(style, index, seed=seed, seconds=15.1)
            save(root / genre / f"{genre}.{index:05d}.wav", samples, composer.SAMPLE_RATE)
    return root


def put_images(folder: Path, pixels: np.ndarray) -> Path:
    """Write images uint8 (N, H, W) as PNGs in a new folder."""
    folder.mkdir(parents=True)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number:03d}.png")
    return folder


def windows_of(dataset: ImageDataset, count: int, seed: int) -> np.ndarray:
    """uint8 (count, H, W): windows of tracks at any offset, across the joints of segments."""
    rng = np.random.default_rng(seed)
    windows = []
    for track in rng.choice(np.unique(dataset.tracks), count):
        (members,) = np.nonzero(dataset.tracks == track)
        members = members[np.argsort(dataset.segments[members])]
        whole = np.concatenate(list(dataset.pixels[dataset.rows[members]]), axis=1)
        start = rng.integers(whole.shape[1] - dataset.image_size + 1)
        windows.append(whole[:, start : start + dataset.image_size])
    return np.stack(windows)


def tracks_in(root: Path) -> list[tuple[str, np.ndarray]]:
    """The genre of each track of a dataset, and its images uint8 (5, H, W) in order."""
    dataset = load_dataset(root, split="all")
    found = []
    for track in np.unique(dataset.tracks):
        (members,) = np.nonzero(dataset.tracks == track)
        members = members[np.argsort(dataset.segments[members])]
        found.append(
            (dataset.genres[dataset.labels[members[0]]], dataset.pixels[dataset.rows[members]])
        )
    return found


def put_pieces(folder: Path, pieces: list[tuple[str, np.ndarray]], *, remainder: int = 0) -> Path:
    """Write images uint8 (n, H, W) side by side, one PNG per piece, in class folders.

    Args:
        remainder: black frames to append.
    """
    for number, (genre, images) in enumerate(pieces):
        (folder / genre).mkdir(parents=True, exist_ok=True)
        strip = np.pad(np.concatenate(list(images), axis=1), ((0, 0), (0, remainder)))
        Image.fromarray(strip).save(folder / genre / f"{number:03d}.png")
    return folder


def with_splits(known: Path, root: Path, *, training: int, validation: int = 0) -> Path:
    """Copy a dataset with other splits, given as numbers of tracks; the rest is test."""
    shutil.copytree(known, root, ignore=shutil.ignore_patterns(".*"))
    contents = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
    in_turn = sorted(contents["tracks"], key=lambda track: track["id"].partition(".")[2])
    for number, track in enumerate(in_turn):
        split = "training" if number < training else "validation"
        track["split"] = split if number < training + validation else "test"
    (root / "dataset.json").write_text(json.dumps(contents), encoding="utf-8")
    return root


def value(report: Report, name: str, features: str = "") -> float:
    """A figure of all images."""
    return report.find(name, features).value.value


def real(report: Report, name: str, features: str = "") -> float:
    """What real music has in its place."""
    return report.find(name, features).real.value


def ratio(report: Report, name: str, features: str = "") -> float:
    """A distance over its floor."""
    return report.find(name, features).ratio.value
