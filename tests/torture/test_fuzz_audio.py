"""Damaged and made-up sounds: each is converted, or skipped with a reason."""

from __future__ import annotations

import csv
import struct

import pytest
from cases import SOUNDS, case
from fuzzing import try_cases
from victims import audio


@pytest.mark.parametrize("kind", SOUNDS)
def test_damaged_sound_is_converted_or_skipped(kind, torture, tried):
    count = 1000 if torture else 20
    faults, ended = try_cases(kind, 0, count)
    assert not faults, "\n".join(faults)
    assert len(ended) == count and set(ended.values()) <= {"converted", "skipped"}
    tried(f"{kind} files", count)


def test_cases_depend_on_kind_and_number_alone():
    assert case("ogg", 3) == case("ogg", 3) != case("ogg", 4)


def wav(rate: int, channels: int, size: int, contents: bytes = bytes(1000)) -> bytes:
    sizes = (rate * channels * 2 & 0xFFFFFFFF, channels * 2, 16)
    head = struct.pack(
        "<4sI4s4sIHHIIHH", b"RIFF", size, b"WAVE", b"fmt ", 16, 1, channels, rate, *sizes
    )
    return head + struct.pack("<4sI", b"data", size) + contents


@pytest.mark.parametrize(
    ("contents", "suffix"),
    [
        (wav(22050, 1, 2**32 - 1), "wav"),
        (wav(1, 1, 1000), "wav"),
        (wav(2**31 - 1, 1, 1000), "wav"),
        (wav(22050, 1024, 2**31, bytes(200_000)), "wav"),
        (struct.pack(">4s5I", b".snd", 24, 2**32 - 2, 3, 22050, 1) + bytes(1000), "au"),
        (struct.pack(">4s5I", b".snd", 2**31, 0, 3, 22050, 1), "au"),
    ],
    ids=[
        "4 GB promised",
        "1 Hz",
        "2 GHz",
        "1024 channels",
        "4 GB in AU",
        "far offset",
    ],
)
def test_headers_that_promise_too_much_are_skipped(contents, suffix, tmp_path):
    assert len(contents) < 300_000
    assert audio(contents, tmp_path, suffix) == "skipped"


def test_damaged_sounds_through_the_command(command, tmp_path, torture, tried):
    music = tmp_path / "music" / "rock"
    music.mkdir(parents=True)
    count = 40 if torture else 4
    for kind in SOUNDS:
        for number in range(count):
            (music / f"{number}.{kind}").write_bytes(case(kind, number))
    line = (
        "preprocess.py",
        "--dataset",
        "folder",
        "--input",
        tmp_path / "music",
        "--output",
        "out",
        "--jobs",
        1,
    )
    command(*line, cwd=tmp_path)
    with open(tmp_path / "out" / "preprocess_report.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == count * len(SOUNDS)
    assert all(row["reason"] for row in rows if row["status"] == "skipped")
    tried("damaged sounds through the command", len(rows))
