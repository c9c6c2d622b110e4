"""Preprocessing on a dask cluster: the same bytes as locally, even if workers die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from conftest import Command
from datasets import dataset_bytes, files_in, lines_in_report, long_music, report
from processes import Cluster, a_cluster, in_background, wait_until, with_crashing_decoder

from musicspectrogan.data import parallel

pytest.importorskip("distributed")

LINE = ("preprocess.py", "--dataset", "folder", "--input", "music", "--output")
# Of each of two genres.
CLIPS = 20


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, command: Command) -> Path:
    """A working directory with `music`, and `local`, what one machine makes of it."""
    home = tmp_path_factory.mktemp("home")
    music = long_music(home / "music", CLIPS)
    (music / "folk" / "broken.wav").write_text("la la la\n" * 100)
    clip, rate = soundfile.read(music / "rock" / "00.wav", frames=200_000)
    soundfile.write(music / "rock" / "song.mp3", clip, rate)
    command(*LINE, "local", "--jobs", 1, cwd=home)
    return home


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    with a_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def started(home: Path, output: str, address: str) -> subprocess.Popen:
    """The command in the background, as soon as some tracks are converted."""
    process = in_background(*LINE, output, "--backend", "dask", "--scheduler", address, cwd=home)
    wait_until(
        lambda: lines_in_report(home / output) >= 3 or process.poll() is not None,
        "nothing is converted",
    )
    assert process.poll() is None, process.communicate()[1]
    return process


def assert_same_as_local(home: Path, output: str) -> None:
    """Compare images, dataset.json and, except for paths, the report."""
    assert dataset_bytes(home / output) == dataset_bytes(home / "local")
    assert files_in(home / output) == files_in(home / "local")
    ours, theirs = report(home / output), report(home / "local")
    assert {name: line | {"path": ""} for name, line in ours.items()} == {
        name: line | {"path": ""} for name, line in theirs.items()
    }


def test_a_cluster_makes_the_same_bytes(home: Path, cluster: Cluster, command: Command) -> None:
    flags = ("--backend", "dask", "--scheduler", cluster.address)
    command(*LINE, "spread", *flags, cwd=home)
    assert_same_as_local(home, "spread")
    assert report(home / "spread")["broken"]["status"] == "skipped"
    again = command(*LINE, "spread", *flags, cwd=home)
    assert f"{2 * CLIPS + 1} of {2 * CLIPS + 2} tracks were converted before" in again.stderr


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(home: Path, cluster: Cluster) -> None:
    with started(home, "killed", cluster.address) as process:
        os.kill(cluster.worker_of(cluster.processes[1]), signal.SIGKILL)
        told = process.communicate(timeout=120)[1]
    assert process.returncode == 0, told
    assert_same_as_local(home, "killed")


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on(home: Path, cluster: Cluster, command: Command) -> None:
    with started(home, "resumed", cluster.address) as process:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
    command(*LINE, "resumed", "--backend", "dask", "--scheduler", cluster.address, cwd=home)
    assert_same_as_local(home, "resumed")


@pytest.mark.slow
def test_a_scheduler_that_goes_away_is_told_in_one_line(
    home: Path, tmp_path: Path, command: Command
) -> None:
    with a_cluster(tmp_path) as cluster, started(home, "left", cluster.address) as process:
        os.killpg(cluster.processes[0].pid, signal.SIGKILL)
        told = process.communicate(timeout=120)[1]
    assert process.returncode == 2, told
    assert "Traceback" not in told
    assert told.splitlines()[-1].startswith(
        f"musicspectrogan: the dask scheduler at {cluster.address} went away"
    )
    assert "repeat the command to continue" in told
    command(*LINE, "left", cwd=home)
    assert_same_as_local(home, "left")


@pytest.mark.slow
def test_when_no_worker_is_left_it_says_so_and_waits_for_another(
    home: Path, tmp_path: Path
) -> None:
    with (
        a_cluster(tmp_path, workers=1) as cluster,
        started(home, "waited", cluster.address) as process,
    ):
        os.killpg(cluster.processes[1].pid, signal.SIGKILL)
        told = process.stderr.readline()
        while told and "No dask worker is left" not in told:
            told = process.stderr.readline()
        assert f"waiting for one: dask worker {cluster.address}" in told
        cluster.start("worker", cluster.address, "--nthreads", 1, log="another.log")
        told = process.communicate(timeout=120)[1]
    assert process.returncode == 0, told
    assert "No dask worker is left" not in told
    assert_same_as_local(home, "waited")


@pytest.mark.slow
def test_a_track_that_kills_its_workers_is_reported(
    home: Path, tmp_path: Path, command: Command
) -> None:
    music = tmp_path / "music" / "rock"
    music.mkdir(parents=True)
    for index in range(6):
        os.link(home / "music" / "rock" / "00.wav", music / f"{index}.wav")
    os.link(home / "music" / "rock" / "00.wav", music / "crash.wav")
    (tmp_path / "shim").mkdir()
    with a_cluster(tmp_path, env=with_crashing_decoder(tmp_path / "shim")) as cluster:
        command(*LINE, "out", "--backend", "dask", "--scheduler", cluster.address, cwd=tmp_path)
    lines = report(tmp_path / "out")
    assert lines["crash"]["status"] == "skipped"
    assert (
        lines["crash"]["reason"]
        == "its worker process died (out of memory, or a crash in a decoder)"
    )
    assert all(lines[str(index)]["status"] == "converted" for index in range(6))


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--backend", "dask"), "needs --scheduler tcp://HOST:PORT"),
        (
            ("--backend", "dask", "--scheduler", "tcp://127.0.0.1:9"),
            "no scheduler answers there within 0.5 s",
        ),
        (("--backend", "dask", "--scheduler", "my-server"), "needs --scheduler tcp://HOST:PORT"),
        (
            ("--backend", "dask", "--scheduler", "http://127.0.0.1:9"),
            "needs --scheduler tcp://HOST:PORT",
        ),
        (("--backend", "dsak"), "'dsak' is not one of loky, dask (did you mean 'dask'?)"),
        (("--scheduler", "tcp://127.0.0.1:9"), "has no effect without --backend dask"),
        (
            ("--backend", "dask", "--scheduler", "tcp://x:9", "--jobs", 2),
            "--jobs has no effect with",
        ),
    ],
)
def test_what_is_missing_is_told_in_one_line(
    flags: tuple, told: str, home: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "CONNECT_SECONDS", 0.5)
    refused = command(*LINE, "refused", *flags, cwd=home, status=2)
    assert told in refused.stderr
    assert not (home / "refused" / "dataset.json").exists()


def test_without_dask_the_remedy_is_told(
    home: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    flags = ("--backend", "dask", "--scheduler", "tcp://127.0.0.1:9")
    refused = command(*LINE, "refused", *flags, cwd=home, status=2)
    assert "pip install distributed" in refused.stderr.splitlines()[-1]


def test_folders_that_the_workers_do_not_see_are_named(tmp_path: Path) -> None:
    seen, unseen = tmp_path, tmp_path / "elsewhere"
    assert parallel._missing_folders((seen, unseen)) == [unseen]
