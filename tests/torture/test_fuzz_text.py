"""Damaged and malicious text files: settings, tables and records."""

from __future__ import annotations

import resource

import pytest
from cases import YAMLS, case
from fuzzing import try_cases

KINDS = ("yaml", "tracks.csv", "report.csv", "dataset.json")


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_text_file_is_refused_or_read(kind, torture, tried):
    count = 1000 if torture else 30
    faults, ended = try_cases(kind, 0, count)
    assert not faults, "\n".join(faults)
    assert len(ended) == count
    tried(f"{kind} files", count)


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
def test_malicious_settings_are_refused_at_once(text, command, tmp_path):
    (tmp_path / "bad.yaml").write_text(text)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    told = command("run.py", "--config", "bad.yaml", "--dataset", "nowhere", cwd=tmp_path, status=2)
    # Of the processor's time, of which the imports take most.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 30.0
    assert told.stderr.startswith("musicspectrogan: --config bad.yaml")
    assert len(told.stderr) < 2100


def test_damaged_files_through_the_commands(command, images, tmp_path, torture, tried):
    """As FMA's table, as the record of a dataset, and as settings."""
    count = 20 if torture else 1
    for number in range(count):
        fma = tmp_path / f"fma{number}"
        (fma / "fma_small" / "000").mkdir(parents=True)
        (fma / "tracks.csv").write_bytes(case("tracks.csv", number))
        line = ("preprocess.py", "--dataset", "fma", "--input", fma, "--output", fma / "out")
        command(*line, cwd=tmp_path, status=2)  # there is no sound, whatever the table says
        (tmp_path / "dataset.json").write_bytes(b"[" * (number + 1) + case("dataset.json", number))
        command("-m", "musicspectrogan", "info", tmp_path, cwd=tmp_path, status=2)
        (tmp_path / "case.yaml").write_bytes(b"nothing: 1\n" + case("yaml", number))
        command("run.py", "--config", "case.yaml", "--dataset", images, cwd=tmp_path, status=2)
    tried("damaged text files through the commands", 3 * count)
