"""Damaged and malicious torch files: each checkpoint is refused, or read and sampled from without leaving its
folder; cached classifiers are read, or trained anew."""

from __future__ import annotations

import torch_cases
from cases import case
from fuzzing import try_cases

GENRES = [
    "../../outside",
    "con",
    "a\0b\x1b[31m\n",
    "<script>alert(1)</script>",
    "$\\frac{$",
    "caf\udce9",
]


def test_a_damaged_checkpoint_is_refused_or_read(torture, tried):
    count = 1000 if torture else 20
    faults, ended = try_cases("checkpoint", 0, count)
    assert not faults, "\n".join(faults)
    assert len(ended) == count
    tried("checkpoint files", count)


def test_damaged_classifiers_are_read_or_trained_anew(torture, tried):
    count = 1000 if torture else 20
    faults, ended = try_cases("classifiers", 0, count)
    assert not faults, "\n".join(faults)
    assert len(ended) == count and "trained anew" in ended.values()
    tried("files of classifiers", count)


def test_genres_of_a_stranger_stay_in_the_folder_and_are_no_markup(command, tmp_path):
    contents = torch_cases.whole_contents(GENRES)
    (tmp_path / "x.pt").write_bytes(torch_cases.saved(contents))
    line = (
        "-m",
        "musicspectrogan",
        "generate",
        "--checkpoint",
        "x.pt",
        "--count",
        1,
        "--output",
        "in/out",
    )
    told = command(*line, "--device", "cpu", cwd=tmp_path)
    assert told.stdout == "Open in/out/index.html\n"
    found = {path for path in tmp_path.rglob("*") if path.is_file()} - {tmp_path / "x.pt"}
    assert {path.parent for path in found} == {tmp_path / "in" / "out"}
    assert len(found) == 2 * len(GENRES) + 1
    names = {path.name.partition("-")[0] for path in found}
    assert {"outside", "_con", "a", "script", "$", "café"} <= names
    page = (tmp_path / "in" / "out" / "index.html").read_text(encoding="utf-8")
    assert page.count("<script") == 1 and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "\x1b" not in told.stderr
    shown = command("-m", "musicspectrogan", "info", "x.pt", cwd=tmp_path).stdout
    assert "a\\x00b\\x1b[31m\\n" in shown and "caf\\udce9" in shown and "\x1b" not in shown


def test_damaged_checkpoints_through_the_commands(command, images, tmp_path, torture, tried):
    count = 20 if torture else 1
    for number in range(count):
        whole = case("checkpoint", number)
        (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
        line = ("-m", "musicspectrogan", "generate", "--checkpoint", "cut.pt", "--output", "out")
        command(*line, cwd=tmp_path, status=2)
        assert not (tmp_path / "out").exists()
        command("run.py", "--dataset", images, "--init-from", "cut.pt", cwd=tmp_path, status=2)
    tried("damaged checkpoints through the commands", 2 * count)
