"""Tables with the classes of audio files, as in AudioFolder of Hugging Face's datasets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from archived import zip_of
from conftest import Command
from datasets import FOLDER_LINE, by_id, dataset_bytes, manifest, reasons, taken, touch, write_music

from musicspectrogan.data.sources import Selection, folder
from musicspectrogan.errors import UserError

ALL = Selection()


def table(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def classes(root: Path) -> dict[str, tuple[str, str]]:
    tracks = by_id(taken(folder.find_tracks(root, ALL)))
    return {name: (track.genre, track.split) for name, track in tracks.items()}


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("metadata.csv", ["\ufefffile_name,genre,bpm", "a.wav,Hip-Hop,90", "b.mp3,AC/DC,1"]),
        ("metadata.csv", ["Label,File_Name", "Hip-Hop,./a.wav", " AC/DC ,b.mp3"]),
        (
            "metadata.jsonl",
            ['{"file_name": "a.wav", "label": "Hip-Hop"}', '{"file_name":"b.mp3","label":"AC/DC"}'],
        ),
    ],
)  # fmt: skip
def test_a_flat_folder(name: str, lines: list[str], tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "b.mp3", "notes.txt")
    table(tmp_path / name, *lines)
    assert classes(tmp_path) == {"a": ("Hip-Hop", ""), "b": ("AC-DC", "")}


def test_numbers_as_classes(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "b.wav")
    table(tmp_path / "metadata.jsonl", *(
        json.dumps({"file_name": f"{name}.wav", "label": k}) for k, name in enumerate("ab")
    ))  # fmt: skip
    assert classes(tmp_path) == {"a": ("0", ""), "b": ("1", "")}


def test_split_folders_with_a_table_each(tmp_path: Path) -> None:
    for split, name in (("train", "a"), ("train", "b"), ("validation", "c"), ("test", "d")):
        touch(tmp_path, f"{split}/{name}.wav")
    for split, names in (("train", "ab"), ("validation", "c"), ("test", "d")):
        table(tmp_path / split / "metadata.csv", "file_name,label", *(f"{n}.wav,x" for n in names))
    assert classes(tmp_path) == {
        "a": ("x", "training"),
        "b": ("x", "training"),
        "c": ("x", "validation"),
        "d": ("x", "test"),
    }


def test_split_and_class_folders_with_one_table_have_the_ids_of_the_tree(tmp_path: Path) -> None:
    names = ["train/folk/a.wav", "train/rock/b.wav", "test/folk/c.wav"]
    touch(tmp_path / "tree", *names)
    shutil.copytree(tmp_path / "tree", tmp_path / "table")
    lines = [f"{name},{name.split('/')[1]}" for name in names]
    table(tmp_path / "table" / "metadata.csv", "file_name,genre", *lines)
    assert classes(tmp_path / "table") == classes(tmp_path / "tree")


def test_a_column_of_splits(tmp_path: Path) -> None:
    touch(tmp_path, *(f"clips/{name}.wav" for name in "abc"))
    lines = ["clips/a.wav,x,train", "clips/b.wav,x,dev", "clips/c.wav,x,test"]
    table(tmp_path / "metadata.csv", "file_name,label,split", *lines)
    assert classes(tmp_path) == {
        "clips-a": ("x", "training"),
        "clips-b": ("x", "validation"),
        "clips-c": ("x", "test"),
    }


def test_files_and_lines_without_a_partner_are_reported(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "b.wav", "c.wav", "._a.wav")
    lines = ["a.wav,x", "b.wav,", "gone.wav,x", "../outside.wav,x"]
    table(tmp_path / "metadata.csv", "file_name,label", *lines)
    found = folder.find_tracks(tmp_path, ALL)
    assert by_id(taken(found)).keys() == {"a"}
    excluded = {track.path.name: (track.excluded, track.unreadable) for track in found}
    assert excluded == {
        "a.wav": ("", False),
        "b.wav": ("no class in metadata.csv", False),
        "c.wav": ("not in metadata.csv", False),
        "._a.wav": ("a file of the system, not audio", False),
        "gone.wav": ("in metadata.csv, but not there", True),
        "outside.wav": ("in metadata.csv, but not there", True),
    }


@pytest.mark.parametrize("line", ["title,genre", "file_name,transcription", ""])
def test_a_table_without_classes_leaves_those_of_the_folders(line: str, tmp_path: Path) -> None:
    touch(tmp_path, "rock/a.wav", "folk/b.wav")
    table(tmp_path / "metadata.csv", line, "a,b")
    assert classes(tmp_path) == {"a": ("rock", ""), "b": ("folk", "")}
    assert reasons(folder.find_tracks(tmp_path, ALL), tmp_path) == {}


def test_a_table_of_other_files_leaves_the_classes_of_the_folders(tmp_path: Path) -> None:
    touch(tmp_path, "rock/a.wav", "folk/b.wav")
    table(tmp_path / "metadata.csv", "file_name,genre", "rock/a.png,calm", "elsewhere/b.wav,loud")
    assert classes(tmp_path) == {"a": ("rock", ""), "b": ("folk", "")}


@pytest.mark.parametrize(
    ("name", "contents"),
    [
        ("metadata.jsonl", b'{"file_name": "a.wav", "label": "x"}\n{"file_name'),
        ("metadata.jsonl", b"[1, 2]\n"),
        ("metadata.csv", b"file_name,label\na.wav,\xff\n"),
    ],
)
def test_a_damaged_table_is_refused(name: str, contents: bytes, tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    (tmp_path / name).write_bytes(contents)
    with pytest.raises(UserError, match=rf"{name} cannot be read as a table"):
        folder.find_tracks(tmp_path, ALL)


@pytest.mark.parametrize("name", ["b\ud800.wav", "b\0.wav"])
def test_a_name_that_no_file_can_have_is_refused_with_its_row(name: str, tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    rows = [{"file_name": file, "label": "x"} for file in ("a.wav", name)]
    table(tmp_path / "metadata.jsonl", *map(json.dumps, rows))
    with pytest.raises(UserError) as told:
        folder.find_tracks(tmp_path, ALL)
    expected = f"metadata.jsonl: no file can have the name in row 2, {name!a}; correct it"
    assert str(told.value) == f"{tmp_path}/{expected}"


def test_a_name_that_is_not_utf_8_may_be_in_a_table(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    row = {"file_name": "b\udcfc.wav", "label": "x"}  # as Python represents that byte
    table(tmp_path / "metadata.jsonl", '{"file_name": "a.wav", "label": "x"}', json.dumps(row))
    reason = "in metadata.jsonl, but not there"
    assert list(reasons(folder.find_tracks(tmp_path, ALL), tmp_path).values()) == [reason]


def test_of_several_classes_of_a_file_the_last_counts_and_that_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "a.wav", "b.wav", "c.wav")
    lines = ["a.wav,x", "a.wav,x", "b.wav,x", "c.wav,x", "b.wav,y"]
    table(tmp_path / "metadata.csv", "file_name,label", *lines)
    table(tmp_path / "metadata.jsonl", '{"file_name": "c.wav", "label": "z"}')
    assert classes(tmp_path) == {"a": ("x", ""), "b": ("y", ""), "c": ("z", "")}
    assert [record.getMessage() for record in caplog.records] == [
        "Several classes for 2 files, of which the last counts: b.wav (metadata.csv) is y"
    ]


def test_the_same_bytes_as_from_class_folders_also_in_an_archive(
    command: Command, tmp_path: Path
) -> None:
    for number, name in enumerate(("folk/a.wav", "folk/b.wav", "rock/c.wav")):
        write_music(tmp_path / "music" / name, index=number)
        write_music(tmp_path / "flat" / Path(name).name, index=number)
    lines = ["a.wav,folk", "b.wav,folk", "c.wav,rock"]
    table(tmp_path / "flat" / "metadata.csv", "file_name,label", *lines)
    zip_of(tmp_path / "flat.zip", tmp_path / "flat", "flat")
    command(*FOLDER_LINE, cwd=tmp_path)
    expected = dataset_bytes(tmp_path / "out")
    for given in ("flat", "flat.zip"):
        command(*FOLDER_LINE, "--input", given, "--output", f"{given}_out", cwd=tmp_path)
        found = dataset_bytes(tmp_path / f"{given}_out")
        assert {**found, "dataset.json": b""} == {**expected, "dataset.json": b""}
        assert manifest(tmp_path / f"{given}_out")["tracks"] == manifest(tmp_path / "out")["tracks"]
