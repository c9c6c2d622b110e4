"""Files that cannot be converted: each is skipped with a reason in the report."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Command
from datasets import (
    FOLDER_LINE,
    RATE,
    dataset_bytes,
    images_in,
    manifest,
    report,
    write_music,
)

from musicspectrogan.audio.files import save
from musicspectrogan.data import composer, conversion
from musicspectrogan.data.preprocessing import preprocess
from musicspectrogan.data.settings import PreprocessConfig


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, command: Command) -> Path:
    """A working directory with class folders `music` of good and bad files, converted to `out`."""
    folder = tmp_path_factory.mktemp("mixed")
    good, bad = folder / "music" / "good", folder / "music" / "bad"
    write_music(good / "whole.wav", seconds=7.0)
    write_music(good / "flac.flac", style="bass")
    cut_off = write_music(good / "cut off.mp3", style="drums", seconds=7.0)
    cut_off.write_bytes(cut_off.read_bytes()[: round(0.6 * cut_off.stat().st_size)])
    write_music(bad / "short.wav", seconds=1.5)
    save(bad / "silent.wav", np.zeros(4 * RATE, dtype=np.float32), RATE)
    samples = composer.compose("drums", 0, seed=1, seconds=4.0)
    samples[1000] = np.nan
    soundfile.write(bad / "nan.wav", samples, RATE, subtype="FLOAT")
    (bad / "text.wav").write_text("la la la\n" * 100)
    (bad / "empty.mp3").touch()
    command(*FOLDER_LINE, cwd=folder)
    return folder


def test_they_are_reported_with_the_reason(mixed: Path) -> None:
    bad = {name: line for name, line in report(mixed / "out").items() if line["genre"] == "bad"}
    assert {(line["status"], line["segments"]) for line in bad.values()} == {("skipped", "0")}
    assert bad.pop("text")["reason"].startswith("does not decode: ")
    assert {name: line["reason"] for name, line in bad.items()} == {
        "short": "1.5 s are shorter than one image of 3.0 s",
        "silent": "silent: no sample above -80 dBFS",
        "nan": "samples that are not finite numbers",
        "empty": "file is empty",
    }


def test_the_good_ones_are_converted(mixed: Path) -> None:
    output = mixed / "out"
    assert images_in(output) == [
        "good/cut off_000.png",
        "good/flac_000.png",
        "good/whole_000.png",
        "good/whole_001.png",
    ]
    lines = report(output)
    assert (lines["whole"]["status"], lines["whole"]["reason"]) == ("converted", "")
    assert lines["cut off"]["status"] == "converted"
    assert lines["cut off"]["reason"].startswith("ends after 4.")
    assert "of the 7.0 s that its header says" in lines["cut off"]["reason"]


def test_what_nobody_foresaw_in_a_track_costs_that_track(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b", "c", "d", "e"):
        write_music(tmp_path / "music" / "rock" / f"{name}.wav")
    real_load, real_write = conversion.load, conversion.write_image

    def load(path: Path, rate: int) -> object:
        errors = {
            "a": ZeroDivisionError("an odd\nthing"),
            "b": OSError(5, "I/O error"),
            "c": MemoryError(),
        }
        if path.stem in errors:
            raise errors[path.stem]
        return real_load(path, rate)

    def write(path: Path, *rest: object, **text: object) -> None:
        real_write(path, *rest, **text)
        if path.name.startswith("d"):
            raise ValueError("no such colour")

    monkeypatch.setattr(conversion, "load", load)
    monkeypatch.setattr(conversion, "write_image", write)
    caplog.set_level(logging.DEBUG, logger="musicspectrogan")
    preprocess(PreprocessConfig("folder", tmp_path / "music", tmp_path / "out", jobs=1))
    lines = report(tmp_path / "out")
    assert {name: line["status"] for name, line in lines.items()} == {
        **dict.fromkeys("abcd", "skipped"),
        "e": "converted",
    }
    bug = "(a bug of this tool; please report it)"
    assert lines["a"]["reason"].startswith("ZeroDivisionError at test_conversion.py:")
    assert lines["a"]["reason"].endswith(f": an odd thing {bug}")
    assert lines["b"]["reason"] == "OSError: I/O error"
    assert lines["c"]["reason"] == "not enough memory for it; cut it into pieces"
    assert lines["d"]["reason"].startswith("ValueError at ") and lines["d"]["reason"].endswith(bug)
    assert images_in(tmp_path / "out") == ["rock/e_000.png"]
    assert "Traceback" in caplog.text


def test_a_full_disk_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_music(tmp_path / "music" / "rock" / "a.wav")

    def write(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(conversion, "write_image", write)
    with pytest.raises(OSError, match="No space left"):
        preprocess(PreprocessConfig("folder", tmp_path / "music", tmp_path / "out", jobs=1))
    assert report(tmp_path / "out") == {}


def test_a_class_without_images_is_no_class(mixed: Path) -> None:
    assert manifest(mixed / "out")["genres"] == ["good"]
    assert not (mixed / "out" / "bad").exists()


def test_strict_makes_them_an_error(mixed: Path, command: Command) -> None:
    before, lines = dataset_bytes(mixed / "out"), report(mixed / "out")
    refused = command(*FOLDER_LINE, "--strict", cwd=mixed, status=2)
    assert "--strict: skipped 5 files; " in refused.stderr
    assert "preprocess_report.csv" in refused.stderr
    assert dataset_bytes(mixed / "out") == before
    assert report(mixed / "out") == lines


def test_nothing_convertible_is_an_error(tmp_path: Path, command: Command) -> None:
    write_music(tmp_path / "music" / "rock" / "short.wav", seconds=1.0)
    (tmp_path / "music" / "rock" / "empty.wav").touch()
    (tmp_path / "music" / "rock" / "also empty.wav").touch()
    refused = command(*FOLDER_LINE, cwd=tmp_path, status=2)
    assert "nothing converted: left out 3 files, most often for: file is empty" in refused.stderr
    assert images_in(tmp_path / "out") == []
    assert len(report(tmp_path / "out")) == 3


def test_files_beside_class_folders_are_excluded_in_the_report(
    tmp_path: Path, command: Command
) -> None:
    write_music(tmp_path / "music" / "rock" / "song.wav")
    write_music(tmp_path / "music" / "stray.wav", seconds=1.0)
    command(*FOLDER_LINE, "--strict", cwd=tmp_path)
    stray = report(tmp_path / "out")["stray"]
    assert stray["status"] == "excluded"
    assert stray["reason"] == "not in a class folder"


def test_a_track_may_be_called_like_an_image_of_another(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO, logger="musicspectrogan")
    for name in ("a", "a_000", "a_001", "a_000_000", "7"):
        write_music(tmp_path / "music" / "0" / f"{name}.wav", seconds=7.0)
    config = PreprocessConfig("folder", tmp_path / "music", tmp_path / "out", jobs=1)
    preprocess(config)
    assert {t["id"]: t["segments"] for t in manifest(tmp_path / "out")["tracks"]} == {
        "7": 2, "a": 2, "a_000": 2, "a_000_000": 2, "a_001": 2
    }  # fmt: skip
    assert len(images_in(tmp_path / "out")) == 10
    preprocess(config)
    assert "5 of 5 tracks were converted before" in caplog.text


def test_no_two_tracks_share_an_image(tmp_path: Path, command: Command) -> None:
    write_music(tmp_path / "music" / "rock" / "live" / "one.wav", style="bass")
    write_music(tmp_path / "music" / "rock" / "live-one.wav", style="drums")
    command(*FOLDER_LINE, cwd=tmp_path)
    tracks = manifest(tmp_path / "out")["tracks"]
    assert len({track["id"] for track in tracks}) == 2
    assert len(images_in(tmp_path / "out")) == sum(track["segments"] for track in tracks) == 2
