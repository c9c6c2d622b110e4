"""Music that takes a while to convert, and what is in a dataset root, as tests compare it."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np

from musicspectrogan.audio.files import save
from musicspectrogan.data import composer


def long_music(root: Path, clips: int) -> Path:
    """Two genres of so many clips each, of a minute: some 20 images a clip. Those of a genre are alike."""
    for genre, style in (("rock", "drums"), ("folk", "arpeggio")):
        (root / genre).mkdir(parents=True)
        clip = np.tile(composer.compose(style, 0, seed=1, seconds=6.0), 10)
        save(root / genre / "00.wav", clip, composer.SAMPLE_RATE)
        for index in range(1, clips):
            os.link(root / genre / "00.wav", root / genre / f"{index:02d}.wav")
    return root


def manifest(root: Path) -> dict:
    return json.loads((root / "dataset.json").read_text(encoding="utf-8"))


def report(root: Path) -> dict[str, dict[str, str]]:
    """The last line about each track, by its id."""
    with open(root / "preprocess_report.csv", encoding="utf-8", newline="") as file:
        return {row["track"]: row for row in csv.DictReader(file)}


def lines_in_report(root: Path) -> int:
    """Lines so far, without the header; the file may not be there yet."""
    path = root / "preprocess_report.csv"
    return path.read_bytes().count(b"\n") - 1 if path.exists() else 0


def images_in(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.glob("*/*.png"))


def files_in(root: Path) -> list[str]:
    """Everything below root, hidden files too."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def dataset_bytes(root: Path) -> dict[str, bytes]:
    """dataset.json and all images."""
    return {name: (root / name).read_bytes() for name in ["dataset.json", *images_in(root)]}
