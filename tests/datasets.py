"""Music to convert, and the contents of a dataset root."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musicspectrogan.audio.files import load, save
from musicspectrogan.audio.spectrogram import SpectrogramConfig, cut_images, encode
from musicspectrogan.data import composer
from musicspectrogan.data.sources import Track


def long_music(root: Path, clips: int) -> Path:
    """Two genres of that many clips of a minute: 20 images each. Clips of a genre are equal."""
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


RATE = composer.SAMPLE_RATE

GENRES = ("blues", "jazz", "metal", "rock")

# Class folders below `music` in the working directory -> `out`.
FOLDER_LINE = "preprocess.py --dataset folder --input music --output out --jobs 1".split()

DEFAULT_SPECTROGRAM = {
    "sample_rate": 22050,
    "n_fft": 2048,
    "hop_length": 1024,
    "n_mels": 64,
    "n_frames": 64,
    "f_min": 0.0,
    "f_max": 8000.0,
    "top_db": 80.0,
}


def write_music(path: Path, *, style: str = "chords", index: int = 0, seconds: float = 4.0) -> Path:
    """A short clip in the format of the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, composer.compose(style, index, seed=1, seconds=seconds), RATE)
    return path


def expected_images(clip: Path, config: SpectrogramConfig) -> list[np.ndarray]:
    return cut_images(encode(load(clip, config.sample_rate).samples, config)[0], config)


def touch(root: Path, *names: str) -> Path:
    """Empty files below root; sources look at names alone."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def by_id(tracks: Iterable[Track]) -> dict[str, Track]:
    return {track.id: track for track in tracks}


def taken(tracks: Iterable[Track]) -> list[Track]:
    return [track for track in tracks if not track.excluded]


def reasons(tracks: Iterable[Track], root: Path) -> dict[str, str]:
    """Why files and folders below root are left out."""
    return {
        track.path.relative_to(root).as_posix(): track.excluded
        for track in tracks
        if track.excluded
    }


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, code: int) -> None:
    """Refuse to list folders of this name; root ignores permissions."""
    for function in ("scandir", "listdir"):
        real = getattr(os, function)

        def refusing(path: str | Path, real: Callable = real) -> object:
            if Path(path).name == name:
                raise OSError(code, os.strerror(code), str(path))
            return real(path)

        monkeypatch.setattr(os, function, refusing)
