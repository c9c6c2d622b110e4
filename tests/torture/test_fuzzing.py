"""Damaged, malicious and rare input files: each is read, or rejected with a reason."""

from __future__ import annotations

import csv
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch_cases
from cases import ARCHIVES, SOUNDS, YAMLS, case, special_pngs
from conftest import Command
from fuzzing import try_cases
from victims import audio, try_one

Tried = Callable[[str, int], None]

TEXTS = ("yaml", "tracks.csv", "report.csv", "dataset.json")
KINDS = (*SOUNDS, *ARCHIVES, "png", *TEXTS)
GENRES = [
    "../../outside",
    "con",
    "a\0b\x1b[31m\n",
    "<script>alert(1)</script>",
    "$\\frac{$",
    "caf\udce9",
]
# Unusual images that anybody may have in a dataset.
READABLE_PNGS = {
    "as large as may be",
    "long",
    "high",
    "16 bits",
    "16 bits, colours",
    "animated",
    "interlaced",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_damaged_files(kind: str, tmp_path: Path) -> None:
    for number in range(5):
        try_one(kind, case(kind, number), tmp_path / str(number))


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [*KINDS, "checkpoint", "classifiers", "exported folder", "exported zip"]
)
def test_damaged_files_within_limits_of_time_and_memory(
    kind: str, torture: bool, tried: Tried
) -> None:
    count = 1000 if torture else 20
    faults, results = try_cases(kind, 0, count)
    assert not faults, "\n".join(faults)
    assert len(results) == count
    if kind in SOUNDS:
        assert set(results.values()) <= {"converted", "skipped"}
    if kind == "classifiers":
        assert "trained anew" in results.values()
    tried(f"{kind} files", count)


@pytest.mark.slow
def test_rare_and_malicious_pngs_within_limits_of_time_and_memory(tried: Tried) -> None:
    names = list(special_pngs())
    faults, results = try_cases("rare png", 0, len(names))
    assert not faults, "\n".join(faults)
    for number, name in enumerate(names):
        if name in READABLE_PNGS:
            assert results[number].endswith(", in a dataset"), name
        if "bomb" in name:
            assert results[number] == "refused, left out", name
    tried("bombs and rarities", len(names))


def test_cases_depend_on_kind_and_number_alone() -> None:
    assert case("ogg", 3) == case("ogg", 3) != case("ogg", 4)


def wav(rate: int, channels: int, size: int, contents: bytes = bytes(1000)) -> bytes:
    """A WAV file whose header declares `size` bytes of samples."""
    rates = (rate * channels * 2 & 0xFFFFFFFF, channels * 2, 16)
    head = struct.pack(
        "<4sI4s4sIHHIIHH", b"RIFF", size, b"WAVE", b"fmt ", 16, 1, channels, rate, *rates
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
    ids=["4 GB in WAV", "1 Hz", "2 GHz", "1024 channels", "4 GB in AU", "far offset"],
)
def test_headers_that_declare_too_much_are_skipped(
    contents: bytes, suffix: str, tmp_path: Path
) -> None:
    assert len(contents) < 300_000
    assert audio(contents, tmp_path, suffix) == "skipped"


@pytest.mark.parametrize(
    "text",
    [
        "a0: &a0 {x: y}\n"
        + "".join(f"a{k + 1}: &a{k + 1}\n  <<: [*a{k}, *a{k}, *a{k}]\n" for k in range(40)),
        "a0: &a0 [x]\n"
        + "".join(f"a{k + 1}: &a{k + 1} [*a{k}, *a{k}, *a{k}]\n" for k in range(40)),
        "[" * 60_000,
        "gan: " + "x" * 10_000_000,
        YAMLS[1],
        YAMLS[4],
    ],
    ids=["merged laughs", "laughs", "deep", "huge", "python object", "huge number"],
)
def test_malicious_settings_are_rejected_at_once(
    text: str, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    before = time.process_time()
    line = ("run.py", "--config", "bad.yaml", "--dataset", "nowhere")
    rejected = command(*line, cwd=tmp_path, status=2)
    assert time.process_time() - before < 30.0
    assert rejected.stderr.startswith("musicspectrogan: --config bad.yaml")
    assert len(rejected.stderr) < 2100


def test_malicious_genres_stay_in_the_folder_and_are_escaped(
    command: Command, tmp_path: Path
) -> None:
    contents = torch_cases.whole_contents(GENRES)
    (tmp_path / "x.pt").write_bytes(torch_cases.saved(contents))
    line = ("-m", "musicspectrogan", "generate", "--checkpoint", "x.pt", "--count", 1)
    done = command(*line, "--output", "in/out", "--device", "cpu", cwd=tmp_path)
    assert done.stdout == "Open in/out/index.html\n"
    found = {path for path in tmp_path.rglob("*") if path.is_file()} - {tmp_path / "x.pt"}
    assert {path.parent for path in found} == {tmp_path / "in" / "out"}
    assert len(found) == 2 * len(GENRES) + 1
    names = {path.name.partition("-")[0] for path in found}
    assert {"outside", "_con", "a", "script", "$", "café"} <= names
    page = (tmp_path / "in" / "out" / "index.html").read_text(encoding="utf-8")
    assert page.count("<script") == 1 and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "\x1b" not in done.stderr
    shown = command("-m", "musicspectrogan", "info", "x.pt", cwd=tmp_path).stdout
    assert "a\\x00b\\x1b[31m\\n" in shown and "caf\\udce9" in shown and "\x1b" not in shown


class TestThroughTheCommands:
    """Every kind of damaged file, as a user passes it."""

    def test_sounds(self, command: Command, tmp_path: Path, torture: bool, tried: Tried) -> None:
        music = tmp_path / "music" / "rock"
        music.mkdir(parents=True)
        count = 40 if torture else 4
        for kind in SOUNDS:
            for number in range(count):
                (music / f"{number}.{kind}").write_bytes(case(kind, number))
        line = ("preprocess.py", "--dataset", "folder", "--input", "music", "--output", "out")
        command(*line, "--jobs", 1, cwd=tmp_path)
        with open(tmp_path / "out" / "preprocess_report.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == count * len(SOUNDS)
        assert all(row["reason"] for row in rows if row["status"] == "skipped")
        tried("damaged sounds through the command", len(rows))

    def test_images(self, command: Command, tmp_path: Path, torture: bool, tried: Tried) -> None:
        """Training leaves out what it cannot read; invert names the first that it rejects."""
        genre = tmp_path / "images" / "rock"
        genre.mkdir(parents=True)
        count = 60 if torture else 10
        for number in range(count):
            (genre / f"{number}.png").write_bytes(case("png", number))
        for name, contents in special_pngs().items():
            (genre / f"{name}.png").write_bytes(contents)
        line = ("run.py", "--dataset", "images", "--dry-run", "--device", "cpu", "--width", 2)
        done = command(*line, cwd=tmp_path)
        assert " that cannot be read: " in done.stderr
        command("-m", "musicspectrogan", "invert", "images", cwd=tmp_path, status=2)
        tried("damaged images through the commands", count + len(special_pngs()))

    def test_texts(
        self, command: Command, images: Path, tmp_path: Path, *, torture: bool, tried: Tried
    ) -> None:
        """As FMA's table, as the record of a dataset, and as settings."""
        count = 20 if torture else 1
        for number in range(count):
            fma = tmp_path / f"fma{number}"
            (fma / "fma_small" / "000").mkdir(parents=True)
            (fma / "tracks.csv").write_bytes(case("tracks.csv", number))
            line = ("preprocess.py", "--dataset", "fma", "--input", fma, "--output", fma / "out")
            command(*line, cwd=tmp_path, status=2)  # there is no sound, whatever the table says
            record = b"[" * (number + 1) + case("dataset.json", number)
            (tmp_path / "dataset.json").write_bytes(record)
            command("-m", "musicspectrogan", "info", tmp_path, cwd=tmp_path, status=2)
            (tmp_path / "case.yaml").write_bytes(b"nothing: 1\n" + case("yaml", number))
            command("run.py", "--config", "case.yaml", "--dataset", images, cwd=tmp_path, status=2)
        tried("damaged text files through the commands", 3 * count)

    def test_checkpoints(
        self, command: Command, images: Path, tmp_path: Path, *, torture: bool, tried: Tried
    ) -> None:
        count = 20 if torture else 1
        for number in range(count):
            whole = case("checkpoint", number)
            (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
            line = ("-m", "musicspectrogan", "generate", "--checkpoint", "cut.pt")
            command(*line, "--output", "out", cwd=tmp_path, status=2)
            assert not (tmp_path / "out").exists()
            command("run.py", "--dataset", images, "--init-from", "cut.pt", cwd=tmp_path, status=2)
        tried("damaged checkpoints through the commands", 2 * count)
