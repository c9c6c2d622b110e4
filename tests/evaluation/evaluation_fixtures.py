"""Datasets, models and a reference for the tests of evaluation, made once per process.

Test modules load them with `pytest_plugins`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from evaluation_helpers import CPU, compose_music, put_images, windows_of

from musicspectrogan.data.dataset import load_dataset
from musicspectrogan.evaluation import features
from musicspectrogan.evaluation.reference import Reference, build_reference, load_splits


@pytest.fixture(scope="session")
def music(tmp_path_factory) -> Path:
    """A folder for all that is made once."""
    return tmp_path_factory.mktemp("evaluate")


@pytest.fixture(scope="session")
def known(music, command) -> Path:
    """The dataset of 90 training images and 30 held-out ones; classifiers are kept in it."""
    compose_music(music / "known_music", seed=1)
    line = ("preprocess.py", "--dataset", "gtzan", "--input", "known_music", "--output", "known")
    command(*line, cwd=music)
    return music / "known"


@pytest.fixture(scope="session")
def fresh(music, command) -> Path:
    """120 images of other music of the same styles, in class folders."""
    compose_music(music / "fresh_music", seed=2)
    line = ("preprocess.py", "--dataset", "gtzan", "--input", "fresh_music", "--output", "fresh")
    command(*line, cwd=music)
    return music / "fresh"


@pytest.fixture(scope="session")
def fresh_windows(fresh, music) -> Path:
    """240 images of the fresh music at any offset, flat."""
    return put_images(
        music / "fresh_windows", windows_of(load_dataset(fresh, split="all"), 240, seed=0)
    )


@pytest.fixture(scope="session")
def copies(known, music) -> Path:
    """Windows of the training tracks at any offset, with noise that nobody sees, flat."""
    pixels = windows_of(load_dataset(known), 120, seed=1).astype(np.int16)
    noise = np.random.default_rng(2).integers(-3, 4, pixels.shape)
    return put_images(music / "copies", (pixels + noise).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def runs(known, music, command) -> dict[str, Path]:
    """Run directories of barely trained models: a cgan of the training split, a dcgan of all."""
    folders = {}
    for gan, split in (("cgan", "training"), ("dcgan", "all")):
        folders[gan] = music / gan
        command(
            "run.py", "--gan", gan, "--dataset", known, "--split", split, "--epochs", 2,
            "--width", 4, "--standing-batches", 2, "--device", "cpu", "--output", folders[gan],
            cwd=music,
        )  # fmt: skip
    return folders


@pytest.fixture(scope="session")
def reference(known) -> Reference:
    """The reference of the known music."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "STEPS", 120)
        return build_reference(known, load_splits(known), CPU)
