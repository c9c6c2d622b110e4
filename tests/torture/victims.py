"""The functions that read a case. Each returns a result; any error but a UserError is a fault."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from cases import ARCHIVES, SOUNDS, dataset_json
from PIL import Image

from musicspectrogan.audio.images import image_name, read_image
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.config import read_yaml
from musicspectrogan.data import archives
from musicspectrogan.data.conversion import convert_track
from musicspectrogan.data.dataset import load_dataset
from musicspectrogan.data.listing import find_top
from musicspectrogan.data.manifest import CONVERTED, SKIPPED, Manifest, Report
from musicspectrogan.data.sources import Selection, Track, fma, with_unique_ids
from musicspectrogan.data.sources import folder as class_folders
from musicspectrogan.data.splits import assign_splits
from musicspectrogan.errors import UserError, printable
from musicspectrogan.filesystem import safe_name
from musicspectrogan.information import describe
from musicspectrogan.training.settings import TrainingConfig


def audio(data: bytes, folder: Path, suffix: str) -> str:
    """Convert it, or skip it with a reason that fits on a line of the report."""
    path = folder / f"case.{suffix}"
    path.write_bytes(data)
    (folder / "genre").mkdir()
    outcome = convert_track(
        Track("case", "genre", path), folder, SpectrogramConfig(), sync=True
    ).outcome
    assert outcome.status in (CONVERTED, SKIPPED)
    assert outcome.reason or outcome.status == CONVERTED
    assert outcome.reason == printable(outcome.reason), outcome.reason
    assert len(list((folder / "genre").iterdir())) == outcome.segments
    return outcome.status


def archive(data: bytes, folder: Path, suffix: str) -> str:
    """List it, and copy what it holds."""
    path = folder / f"case.{suffix}"
    path.write_bytes(data)
    tracks = class_folders.find_tracks(find_top(path), Selection())
    for track in tracks:
        archives.file_status(track.path)
        with suppress(archives.ArchiveError), archives.local_file(track.path, folder) as copy:
            assert copy.stat().st_size < 1 << 20
    assert list(folder.iterdir()) == [path]
    return f"{len(tracks)} members"


def png(data: bytes, folder: Path) -> str:
    """Read it as a spectrogram, and as part of a folder of images."""
    (folder / "rock").mkdir()
    path = folder / "rock" / "case.png"
    path.write_bytes(data)
    ended = "read"
    try:
        pixels, _ = read_image(path)
        assert pixels.dtype == np.uint8 and pixels.ndim == 2
    except UserError:
        ended = "refused"
    try:
        load_dataset(folder)
    except UserError as error:
        assert "no readable image" in str(error), error
        return f"{ended}, left out"
    return f"{ended}, in a dataset"


def tracks_csv(data: bytes, folder: Path) -> str:
    """Find tracks with ids and genres that are safe as file names."""
    (folder / "fma_small" / "000").mkdir(parents=True)
    (folder / "tracks.csv").write_bytes(data)
    tracks = with_unique_ids(fma.find_tracks(folder, Selection(subset="full")), folder)
    for track in tracks:
        assert track.excluded or safe_name(track.genre) == track.genre, track
        assert (
            Path(track.id).name == track.id and track.path.parent.parent == folder / "fma_small"
        ), track
    return f"{len(tracks)} tracks"


def report_csv(data: bytes, folder: Path) -> str:
    """Read a report, continue it, and write a valid dataset.json from it."""
    (folder / "preprocess_report.csv").write_bytes(data)
    report = Report(folder)
    done = [outcome for outcome in report.outcomes.values() if outcome.status == CONVERTED]
    splits = assign_splits(done)
    manifest = Manifest(
        "folder", SpectrogramConfig(), genres=sorted({outcome.genre for outcome in done})
    )
    measured = ("segments", "reference_db", "seconds")
    for o in done:
        of_track = {"id": o.track, "genre": o.genre, "split": splits[o.track]}
        manifest.tracks.append({**of_track, **{name: getattr(o, name) for name in measured}})
    manifest.write(folder)
    assert Manifest.read(folder) == manifest
    for outcome in list(report.outcomes.values()):
        report.outcomes.pop(outcome.track)
        report.append(outcome)
    assert Report(folder).outcomes == report.outcomes
    return f"{len(done)} done"


def _silence(images: np.ndarray, *settings: object, **form: object) -> list[np.ndarray]:
    return [np.zeros(1000, np.float32)] * len(images)


@cache
def _images() -> list[tuple[str, bytes]]:
    file = io.BytesIO()
    Image.fromarray(np.arange(4096, dtype=np.uint8).reshape(64, 64)).save(file, "PNG")
    names = [
        (t["genre"], image_name(t["id"], k))
        for t in dataset_json()["tracks"]
        for k in range(t["segments"])
    ]
    return [(f"{genre}/{name}", file.getvalue()) for genre, name in names]


def dataset(data: bytes, folder: Path) -> str:
    """Describe a dataset, and load its images."""
    (folder / "dataset.json").write_bytes(data)
    for name, contents in _images():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(contents)
    text = describe(folder)
    assert text.split("\n") == [printable(line) for line in text.split("\n")]
    found = load_dataset(folder, split="all")
    assert set(found.genres) <= {"jazz", "rock"}
    return f"{len(found)} images"


def yaml(data: bytes, folder: Path) -> str:
    """Read settings."""
    path = folder / "case.yaml"
    path.write_bytes(data)
    assert isinstance(read_yaml(TrainingConfig, path), TrainingConfig)
    return "read"


def checkpoint(data: bytes, folder: Path) -> str:
    """Load it as for resuming, describe it, and generate within the output folder."""
    import torch_cases

    path = folder / "case.pt"
    path.write_bytes(data)
    loaded = _generated_from(path, folder)
    try:
        torch_cases.a_step().load_optimizers(loaded.optimizer_d, loaded.optimizer_g)
    except UserError:
        return "loaded, not resumed"
    return "loaded"


def _generated_from(path: Path, folder: Path) -> Any:
    """The checkpoint of a file or folder, after describing it and generating from it."""
    import torch

    from musicspectrogan.config import from_plain
    from musicspectrogan.generation import generate as generating
    from musicspectrogan.generation.settings import GenerateConfig
    from musicspectrogan.training.run_checkpoints import load_checkpoint

    before = {p for p in folder.rglob("*") if p.is_file()}
    loaded = load_checkpoint(path)
    text = describe(path)
    assert text.split("\n") == [printable(line) for line in text.split("\n")]
    assert isinstance(from_plain(TrainingConfig, loaded.training), TrainingConfig)
    output = folder / "inside" / "out"
    generating.sounds_of = _silence  # slow, and tested elsewhere
    page = generating.generate(
        GenerateConfig(count=1, output=output), loaded, path, torch.device("cpu")
    )
    made = {p.name for p in {p for p in folder.rglob("*") if p.is_file()} - before}
    assert made == {p.name for p in output.iterdir()}, made
    assert len(made) == 1 + 2 * (len(loaded.genres) if loaded.gan == "cgan" else 1), made
    assert page.read_text(encoding="utf-8").count("<script") == 1  # its own
    return loaded


def exported(data: bytes, folder: Path, *, unpacked: bool) -> str:
    """Generate from an exported folder, or from the zip of it, and export it again."""
    from musicspectrogan.export import folder as exporting
    from musicspectrogan.export.settings import ExportConfig

    path = folder / "case.zip"
    path.write_bytes(data)
    if unpacked:
        path = folder / "case"
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            archive.extractall(path)
    loaded = _generated_from(path, folder)
    (folder / "again").mkdir()
    exporting.export_folder(
        ExportConfig(sounds=0), loaded, loaded.build_vocoder(), folder / "again",
        name="case", source=path, dataset=None,
    )  # fmt: skip
    assert {p.name for p in (folder / "again").iterdir()} == {
        "README.md", "config.json", "model.safetensors",
    }  # fmt: skip
    return "loaded"


def classifiers(data: bytes, folder: Path) -> str:
    """Read cached classifiers, or train them again and replace the file."""
    import torch
    import torch_cases

    from musicspectrogan.evaluation import features as classifying
    from musicspectrogan.evaluation.samples import ImageSet

    trained = []

    def train(*args: object, **kwargs: object) -> classifying.GenreClassifier:
        trained.append(args)  # slow, and tested elsewhere
        return classifying.GenreClassifier(len(torch_cases.GENRES), 64).eval()

    classifying.train_classifier = train
    pixels = np.arange(2 * 64 * 64, dtype=np.uint8).reshape(2, 64, 64)
    parts = [ImageSet(pixels, np.arange(2), np.arange(2))] * 2

    def cached() -> list[classifying.GenreClassifier]:
        return classifying.cached_classifiers(
            folder, parts, len(torch_cases.GENRES), torch.device("cpu")
        )

    cached()
    (path,) = folder.iterdir()
    path.write_bytes(data)
    trained.clear()
    for classifier in cached():
        # Finite weights may still be absurd.
        assert classifier.probabilities(pixels).shape == (2, len(torch_cases.GENRES))
    ended = "trained anew" if trained else "read"
    trained.clear()
    cached()
    assert not trained and list(folder.iterdir()) == [path]
    return ended


VICTIMS: dict[str, Callable[[bytes, Path], str]] = {
    **{form: (lambda data, folder, form=form: audio(data, folder, form)) for form in SOUNDS},
    **{form: (lambda data, folder, form=form: archive(data, folder, form)) for form in ARCHIVES},
    "png": png,
    "rare png": png,
    "tracks.csv": tracks_csv,
    "report.csv": report_csv,
    "dataset.json": dataset,
    "yaml": yaml,
    "checkpoint": checkpoint,
    "classifiers": classifiers,
    "exported folder": lambda data, folder: exported(data, folder, unpacked=True),
    "exported zip": lambda data, folder: exported(data, folder, unpacked=False),
}


def try_one(kind: str, data: bytes, folder: Path) -> str:
    """Return the result of a case, in a new folder, which is removed."""
    folder.mkdir(parents=True)
    try:
        return VICTIMS[kind](data, folder)
    except UserError as error:
        assert str(error), "a reason"
        return "refused"
    finally:
        shutil.rmtree(folder)
