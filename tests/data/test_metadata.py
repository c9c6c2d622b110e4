"""metadata.jsonl and the tables of the splits, and what the `datasets` library reads from them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Command, environment
from datasets import FOLDER_LINE, files_in, images_in, manifest, touch, write_music

from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.data import preprocessing
from musicspectrogan.data.manifest import Manifest
from musicspectrogan.data.metadata import remove_metadata, write_metadata
from musicspectrogan.data.output import find_images

TABLES = [".test.jsonl", ".training.jsonl", ".validation.jsonl"]
# Names that the library takes for splits or patterns where it can.
CLASSES = ("train", "test", "it's [x] ü")
TRACKS = ("test_drive", "val", "training 1", "eval-2", "[a]")


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def check(root: Path) -> None:
    """Assert that each image is in metadata.jsonl once, and in the table of its split."""
    found = rows(root / "metadata.jsonl")
    assert [row["file_name"] for row in found] == images_in(root)
    split_of = {track["id"]: track["split"] for track in manifest(root)["tracks"]}
    for row in found:
        track, segment = row["file_name"].removesuffix(".png").rpartition("_")[::2]
        assert row == {
            "file_name": row["file_name"],
            "genre": track.partition("/")[0],
            "track": track.partition("/")[2],
            "segment": int(segment),
            "split": split_of[track.partition("/")[2]],
        }
    tables = {path.name for path in root.glob(".*.jsonl")}
    assert tables == {f".{split}.jsonl" for split in split_of.values()}
    for name in tables:
        split = name[1:].partition(".")[0]
        assert rows(root / name) == [row for row in found if row["split"] == split]


def small_dataset(root: Path, split: str = "training") -> Manifest:
    """Names of two images, and the manifest of their track."""
    touch(root, "rock/a_000.png", "rock/a_002.png", "rock/unknown_000.png")
    track = {"id": "a", "genre": "rock", "split": split, "segments": 2}
    return Manifest(
        "folder", SpectrogramConfig(), tracks=[track | {"reference_db": 1.0, "seconds": 9.0}]
    )


def test_it_follows_the_images_and_goes_while_they_change(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        write_music(tmp_path / "music" / "rock" / f"{name}.wav")
    command(*FOLDER_LINE, cwd=tmp_path)
    check(tmp_path / "out")
    command(*FOLDER_LINE, "--top-db", 60, cwd=tmp_path, status=2)  # changes nothing
    check(tmp_path / "out")

    write_music(tmp_path / "music" / "metadata.jsonl" / "d.wav", seconds=7.0)
    (tmp_path / "music" / "rock" / "a.wav").unlink()

    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(preprocessing, "in_parallel", interrupted)
        command(*FOLDER_LINE, cwd=tmp_path, status=130)
    assert not [name for name in files_in(tmp_path / "out") if "jsonl" in name or "hugg" in name]
    command(*FOLDER_LINE, cwd=tmp_path)
    check(tmp_path / "out")
    assert len(rows(tmp_path / "out" / "metadata.jsonl")) == 4


def test_only_images_of_known_tracks_are_in_it(tmp_path: Path) -> None:
    write_metadata(tmp_path, small_dataset(tmp_path), find_images(tmp_path))
    assert (tmp_path / "metadata.jsonl").read_text().splitlines() == [
        '{"file_name": "rock/a_000.png", "genre": "rock", "track": "a", "segment": 0, '
        '"split": "training"}',
        '{"file_name": "rock/a_002.png", "genre": "rock", "track": "a", "segment": 2, '
        '"split": "training"}',
    ]
    assert (tmp_path / ".huggingface.yaml").read_text().splitlines() == [
        "# Written by preprocess.",
        "configs:",
        "- config_name: default",
        "  metadata_filenames:",
        "  - .training.jsonl",
        "  data_files:",
        "  - split: train",
        "    path:",
        "    - .training.jsonl",
        "    - rock/a_000.png",
        "    - rock/a_000.png",
    ]
    remove_metadata(tmp_path)
    assert files_in(tmp_path) == ["rock/a_000.png", "rock/a_002.png", "rock/unknown_000.png"]


@pytest.mark.parametrize(
    ("name", "contents"),
    [
        ("metadata.jsonl", '{"file_name": "rock/a_000.png", "text": "a loud guitar"}\n'),
        ("metadata.jsonl", ""),
        (".huggingface.yaml", "configs: []\n"),
        (".test.jsonl", "[1]\n"),
    ],
)
def test_files_of_others_stay(
    name: str, contents: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = small_dataset(tmp_path)
    (tmp_path / name).write_text(contents)
    before = files_in(tmp_path)
    write_metadata(tmp_path, known, find_images(tmp_path))
    remove_metadata(tmp_path)
    assert files_in(tmp_path) == before and (tmp_path / name).read_text() == contents
    assert f"{tmp_path / name} is from another tool and is kept" in caplog.text


READ = """
import json
import sys
from datasets import load_dataset

def tables(*arguments, **options):
    return {name: [{**row, "image": row["image"].getpixel((5, 5))} for row in table]
            for name, table in load_dataset(*arguments, **options).items()}

root = sys.argv[1]
by_split = tables(root)
one = tables("imagefolder", data_dir=root, data_files="metadata.jsonl")
plain = tables("imagefolder", data_dir=sys.argv[2])
print(json.dumps([by_split, one, plain]))
"""


@pytest.mark.slow  # the library takes seconds to import
def test_the_library_reads_splits_genres_and_tracks(tmp_path: Path, command: Command) -> None:
    from PIL import Image
    from torchvision.datasets import ImageFolder

    for index, genre in enumerate(CLASSES):
        for name in TRACKS:
            path = tmp_path / "music" / genre / f"{name} {index}.wav"
            write_music(path, index=index, seconds=7.0)
    write_music(tmp_path / "plain" / "rock" / "a.wav")
    command(*FOLDER_LINE, cwd=tmp_path)
    command(
        "preprocess.py", "--dataset", "folder", "--input", "plain", "--output", "images", "--jobs",
        1, cwd=tmp_path,
    )  # fmt: skip
    # In a process of its own: the library shares its name with a file of these tests.
    done = subprocess.run(
        [sys.executable, "-c", READ, "out", "images"],
        cwd=tmp_path,
        env=environment() | {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    by_split, one, plain = json.loads(done.stdout)

    def expected(root: Path, split: str | None = None) -> list[dict]:
        found = [row for row in rows(root / "metadata.jsonl") if split in (None, row["split"])]
        for row in found:
            with Image.open(root / row.pop("file_name")) as image:
                row["image"] = image.getpixel((5, 5))
        return found

    out = tmp_path / "out"
    names = {"train": "training", "validation": "validation", "test": "test"}
    assert by_split == {name: expected(out, split) for name, split in names.items()}
    assert {name: len(table) for name, table in by_split.items()} == {
        "train": 18, "validation": 6, "test": 6
    }  # fmt: skip
    assert one == {"train": expected(out)} and len(one["train"]) == 30
    assert plain == {"train": expected(tmp_path / "images")} and len(plain["train"]) == 1
    assert ImageFolder(str(out)).classes == sorted(CLASSES)
