"""Faults of the machine end in one clear line; once they are fixed, the same command continues."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Command, command_line, environment
from datasets import files_in, images_in, lines_in_report, long_music, manifest, report
from processes import in_background, wait_until, with_crashing_decoder, workers_below
from runs import SMALL, assert_same_dataset, assert_same_run

from musicspectrogan.training.run_checkpoints import load_checkpoint

Tried = Callable[[str, int], None]

PREPROCESS = (
    "preprocess.py",
    "--dataset",
    "folder",
    "--input",
    "music",
    "--jobs",
    2,
    "--output",
    "out",
)
TRAIN = ("run.py", "--gan", "cgan", "--epochs", 12, *SMALL, "--snapshot-every", 32, "--dataset")


class Disk:
    """A file system in memory, which can be small or read-only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def mount(self, options: str) -> None:
        """Mount it, or change it: `size=1m`, `remount,size=9m`, `remount,ro`."""
        line = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if os.name != "posix" or not shutil.which("mount"):
        pytest.skip("nothing can be mounted here")
    folder = tmp_path / "disk"
    folder.mkdir()
    yield Disk(folder)
    subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, command: Command) -> Path:
    """A working directory with `music`, and `out`, the dataset made from it."""
    home = tmp_path_factory.mktemp("home")
    long_music(home / "music", 12)
    command(*PREPROCESS, cwd=home)
    return home


@pytest.fixture
def cwd(home: Path, tmp_path: Path) -> Path:
    """A working directory with a `music` that may be changed."""
    shutil.copytree(home / "music", tmp_path / "music", copy_function=os.link)
    return tmp_path


def copied(images: Path, to: Path) -> Path:
    """A copy of a dataset without its cache."""
    return shutil.copytree(images, to, ignore=shutil.ignore_patterns(".cache*"))


@pytest.fixture(scope="module")
def reference(images: Path, command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without interruption."""
    folder = tmp_path_factory.mktemp("reference")
    command(*TRAIN, images, "--output", "run", cwd=folder)
    return folder / "run"


def finished(process: subprocess.Popen, status: int = 2) -> str:
    """Return the last line of a background command, after checking that it has no traceback."""
    stderr = process.communicate(timeout=120)[1]
    assert process.returncode == status, stderr
    assert "Traceback" not in stderr
    assert status != 2 or stderr.splitlines()[-1].startswith("musicspectrogan: "), stderr
    return stderr.splitlines()[-1]


def converting(cwd: Path, tracks: int = 3) -> subprocess.Popen:
    """Start preprocessing in the background, and wait for the images of that many tracks.

    Images are counted because the report is written in batches.
    """
    process = in_background(*PREPROCESS, cwd=cwd)
    enough = tracks * 20
    wait_until(
        lambda: len(images_in(cwd / "out")) >= enough or process.poll() is not None,
        "no progress",
    )
    assert process.poll() is None, process.communicate()[1]
    return process


def training(run: Path, images: Path, *flags: object) -> subprocess.Popen:
    """Start a long training in the background, and wait for its first checkpoint."""
    line = (*TRAIN, images, "--output", run, "--epochs", 5000, *flags)
    process = in_background(*line, cwd=run.parent)
    latest = run / "checkpoints" / "latest.pt"
    wait_until(lambda: latest.exists() or process.poll() is not None, "no checkpoint", 120)
    assert process.poll() is None, process.communicate()[1]
    return process


class TestAFullDisk:
    @pytest.mark.slow
    def test_preprocessing(
        self,
        home: Path,
        cwd: Path,
        disk: Disk,
        *,
        command: Command,
        torture: bool,
        tried: Tried,
    ) -> None:
        (cwd / "out").symlink_to(disk.folder)
        for kilobytes in range(20, 1500, 60) if torture else (400,):
            disk.mount(f"size={kilobytes}k")
            rejected = command(*PREPROCESS, cwd=cwd, status=2)
            last = rejected.stderr.splitlines()[-1]
            assert "No space left on device" in last and str(cwd / "out").split("/")[-1] in last
            disk.mount("remount,size=50m")
            command(*PREPROCESS, cwd=cwd)
            assert_same_dataset(disk.folder, home / "out")
            subprocess.run(["umount", str(disk.folder)], check=True)
            tried("full disks")

    def test_training(
        self,
        images: Path,
        reference: Path,
        disk: Disk,
        *,
        command: Command,
        torture: bool,
        tried: Tried,
    ) -> None:
        run = disk.folder / "run"
        for kilobytes in range(16, 2400, 160) if torture else (1700,):
            disk.mount(f"size={kilobytes}k")
            line = (*TRAIN, images, "--output", run)
            rejected = command(*line, cwd=disk.folder.parent, status=2)
            last = rejected.stderr.splitlines()[-1]
            assert "No space left on device" in last and str(run) in last
            for path in run.glob("checkpoints/*.pt"):
                load_checkpoint(path)
            disk.mount("remount,size=50m")
            command(
                *(("run.py", "--resume", run) if any(run.glob("*/*.pt")) else line),
                cwd=disk.folder.parent,
            )
            assert_same_run(run, reference)
            subprocess.run(["umount", str(disk.folder)], check=True)
            tried("full disks")

    def test_no_room_for_the_cache(
        self, images: Path, reference: Path, disk: Disk, *, command: Command, tried: Tried
    ) -> None:
        disk.mount("size=50m")
        copied(images, disk.folder / "images")
        used = sum(path.stat().st_blocks * 512 for path in disk.folder.rglob("*"))
        disk.mount(f"remount,size={used + 8192}")
        done = command(*TRAIN, disk.folder / "images", "--output", "run", cwd=disk.folder.parent)
        assert "No space left on device" in done.stderr and "decoded each time" in done.stderr
        assert not list(disk.folder.glob("images/*.cache-*"))
        assert_same_run(disk.folder.parent / "run", reference)
        tried("full disks")


class TestAReadOnlyDisk:
    @pytest.mark.slow
    def test_preprocessing(
        self, home: Path, cwd: Path, disk: Disk, command: Command, tried: Tried
    ) -> None:
        disk.mount("size=50m")
        line = (*PREPROCESS[:-1], disk.folder / "out")
        with in_background(*line, cwd=cwd) as process:
            wait_until(lambda: lines_in_report(disk.folder / "out") >= 3, "no progress")
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.3)
        disk.mount("remount,ro")
        assert "Read-only file system" in command(*line, cwd=cwd, status=2).stderr
        disk.mount("remount,rw")
        command(*line, cwd=cwd)
        assert_same_dataset(disk.folder / "out", home / "out")
        tried("read-only disks")

    def test_training(
        self, images: Path, reference: Path, disk: Disk, *, command: Command, tried: Tried
    ) -> None:
        disk.mount("size=50m")
        copied(images, disk.folder / "images")
        disk.mount("remount,ro")
        line = (*TRAIN, disk.folder / "images", "--output")
        rejected = command(*line, disk.folder / "run", cwd=disk.folder.parent, status=2)
        assert "Read-only file system" in rejected.stderr.splitlines()[-1]
        done = command(*line, "run", cwd=disk.folder.parent)
        assert "decoded each time" in done.stderr
        assert_same_run(disk.folder.parent / "run", reference)
        tried("read-only disks", 2)


@pytest.mark.slow
class TestMissingFiles:
    def test_a_source_file(self, home: Path, cwd: Path, command: Command, tried: Tried) -> None:
        with converting(cwd) as process:
            gone = next(
                path for path in sorted((cwd / "music" / "rock").iterdir(), reverse=True)
                if path.stem not in {name.split("-")[0] for name in report(cwd / "out")}
            )  # fmt: skip
            gone.unlink()
            finished(process, status=0)
        (line,) = (line for line in report(cwd / "out").values() if line["status"] == "skipped")
        assert (line["path"], line["reason"]) == (f"rock/{gone.name}", "file is missing")
        shutil.copy(home / "music" / "rock" / gone.name, gone)
        command(*PREPROCESS, cwd=cwd)
        assert_same_dataset(cwd / "out", home / "out")
        tried("vanished files and folders")

    def test_the_music(self, home: Path, cwd: Path, command: Command, tried: Tried) -> None:
        with converting(cwd) as process:
            (cwd / "music").rename(cwd / "away")
            assert "--input music: vanished while it was read" in finished(process)
        assert manifest(cwd / "out")["tracks"] == []
        (cwd / "away").rename(cwd / "music")
        command(*PREPROCESS, cwd=cwd)
        assert_same_dataset(cwd / "out", home / "out")
        tried("vanished files and folders")

    def test_the_images(self, home: Path, cwd: Path, command: Command, tried: Tried) -> None:
        with converting(cwd) as process:
            (cwd / "out").rename(cwd / "away")
            assert "out: moved or removed while a run was preprocessing there" in finished(process)
        assert not (cwd / "out").exists()
        (cwd / "away").rename(cwd / "out")
        command(*PREPROCESS, cwd=cwd)
        assert_same_dataset(cwd / "out", home / "out")
        tried("vanished files and folders")

    def test_the_run_directory(
        self, images: Path, reference: Path, tmp_path: Path, command: Command, tried: Tried
    ) -> None:
        run = tmp_path / "run"
        with training(run, images) as process:
            run.rename(tmp_path / "away")
            assert "run: moved or removed while a run was training there" in finished(process)
        assert not run.exists()
        (tmp_path / "away").rename(run)
        done = load_checkpoint(run).epoch
        command("run.py", "--resume", run, "--epochs", done + 4, cwd=tmp_path)
        command(*TRAIN, images, "--output", "whole", "--epochs", done + 4, cwd=tmp_path)
        assert_same_run(run, tmp_path / "whole", pictures=False)
        tried("vanished files and folders")

    def test_the_dataset_is_not_needed_once_training_has_begun(
        self, images: Path, tmp_path: Path, command: Command, tried: Tried
    ) -> None:
        copied(images, tmp_path / "images")
        with training(tmp_path / "run", tmp_path / "images") as process:
            (tmp_path / "images").rename(tmp_path / "away")
            before = load_checkpoint(tmp_path / "run").epoch
            wait_until(
                lambda: load_checkpoint(tmp_path / "run").epoch > before, "no further checkpoint"
            )
            os.killpg(process.pid, signal.SIGTERM)
            finished(process, status=130)
        rejected = command("run.py", "--resume", "run", cwd=tmp_path, status=2)
        assert "are not there any more; name the folder" in rejected.stderr.splitlines()[-1]
        tried("vanished files and folders")


def test_a_damaged_image_is_listed_left_out_and_made_again(
    gtzan_tree: Path, images: Path, tmp_path: Path, command: Command, tried: Tried
) -> None:
    out = copied(images, tmp_path / "out")
    name = images_in(out)[-1]
    whole = (out / name).read_bytes()
    (out / name).write_bytes(whole[:100])
    line = ("run.py", "--dataset", out, "--split", "all", *SMALL, "--dry-run")
    done = command(*line, cwd=tmp_path)
    assert f"Left out 1 image that cannot be read: {name}; delete them" in done.stderr
    assert f"# dataset: {len(images_in(out)) - 1} images" in done.stdout
    (out / name).unlink()
    line = ("preprocess.py", "--dataset", "gtzan", "--input", gtzan_tree, "--output", out)
    command(*line, cwd=tmp_path)
    assert (out / name).read_bytes() == whole
    tried("damaged images")


class TestAClockThatJumps:
    @pytest.mark.slow
    @pytest.mark.parametrize("moment", [0, 4_000_000_000])
    def test_file_times_mean_nothing_but_change(
        self,
        moment: int,
        images: Path,
        *,
        reference: Path,
        tmp_path: Path,
        command: Command,
        tried: Tried,
    ) -> None:
        copied(images, tmp_path / "images")
        line = (*TRAIN, tmp_path / "images", "--output", "run")
        command(*line, "--epochs", 6, cwd=tmp_path)
        for path in [*(tmp_path / "images").rglob("*"), *(tmp_path / "run").rglob("*")]:
            os.utime(path, (moment, moment))
        command("run.py", "--resume", "run", "--epochs", 12, cwd=tmp_path)
        assert_same_run(tmp_path / "run", reference, pictures=False)
        assert len(list((tmp_path / "images").glob(".cache-*.npy"))) == 1
        tried("jumps of the clock")

    def test_the_newest_run_is_that_of_the_highest_number(
        self, images: Path, tmp_path: Path, command: Command, tried: Tried
    ) -> None:
        for _ in range(2):
            command(*TRAIN, images, "--epochs", 1, cwd=tmp_path)
        for path in [
            tmp_path / "runs" / "00001-cgan-gtzan",
            *(tmp_path / "runs" / "00001-cgan-gtzan").rglob("*"),
        ]:
            os.utime(path, (0, 0))
        done = command(
            "run.py", "--gan", "cgan", "--dataset", images, "--resume", "--epochs", 2, cwd=tmp_path
        )
        assert "runs/00001-cgan-gtzan" in done.stderr
        tried("jumps of the clock")

    @pytest.mark.slow
    def test_while_it_trains(
        self, images: Path, reference: Path, tmp_path: Path, tried: Tried
    ) -> None:
        """Every reading of the clock is in another century."""
        (tmp_path / "sitecustomize.py").write_text(
            "import itertools, time\n"
            "hours = itertools.cycle([0, 2e9, -1e9])\n"
            "clock = time.time\n"
            "time.time = lambda: clock() + next(hours)\n"
        )
        path = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
        line = command_line(*TRAIN, images, "--output", "run")
        done = subprocess.run(
            line,
            cwd=tmp_path,
            env={**environment(), "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert_same_run(tmp_path / "run", reference)
        tried("jumps of the clock")


@pytest.mark.slow
class TestTwoAtOnce:
    def test_preprocessing(self, home: Path, cwd: Path, command: Command, tried: Tried) -> None:
        with converting(cwd, tracks=1) as process:
            os.kill(process.pid, signal.SIGSTOP)
            rejected = command(*PREPROCESS, cwd=cwd, status=2)
            assert "out: another run is preprocessing there" in rejected.stderr.splitlines()[-1]
            os.kill(process.pid, signal.SIGKILL)
            process.wait(timeout=30)
            command(*PREPROCESS, cwd=cwd)
        assert_same_dataset(cwd / "out", home / "out")
        tried("two runs at once")

    def test_training(self, images: Path, tmp_path: Path, command: Command, tried: Tried) -> None:
        with training(tmp_path / "run", images) as process:
            os.kill(process.pid, signal.SIGSTOP)
            rejected = command("run.py", "--resume", "run", cwd=tmp_path, status=2)
            assert "run: another run is training there" in rejected.stderr.splitlines()[-1]
            os.kill(process.pid, signal.SIGKILL)
            process.wait(timeout=30)
        done = load_checkpoint(tmp_path / "run").epoch
        command("run.py", "--resume", "run", "--epochs", done + 1, cwd=tmp_path)
        assert load_checkpoint(tmp_path / "run").epoch == done + 1
        tried("two runs at once")


@pytest.mark.slow
class TestAWorkerThatDies:
    def test_a_crashing_decoder_costs_its_track(
        self, home: Path, cwd: Path, command: Command, tried: Tried
    ) -> None:
        for genre, name in (("rock", "crash"), ("rock", "crash again"), ("folk", "crashing")):
            os.link(home / "music" / genre / "00.wav", cwd / "music" / genre / f"{name}.wav")
        done = subprocess.run(
            command_line(*PREPROCESS),
            cwd=cwd,
            env=with_crashing_decoder(cwd),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert (
            "3 skipped: its worker process died (out of memory, or a crash in a decoder)"
            in done.stderr
        )
        assert "Traceback" not in done.stderr
        skipped = {
            name: line["reason"] for name, line in report(cwd / "out").items() if line["reason"]
        }
        assert skipped.keys() == {"crash", "crash again", "crashing"}
        assert set(skipped.values()) == {
            "its worker process died (out of memory, or a crash in a decoder)"
        }
        assert images_in(cwd / "out") == images_in(home / "out")
        command(*PREPROCESS, cwd=cwd)  # with a working decoder
        assert {line["status"] for line in report(cwd / "out").values()} == {"converted"}
        tried("workers killed", 3)

    def test_one_that_is_killed_costs_nothing(
        self, home: Path, cwd: Path, *, torture: bool, tried: Tried
    ) -> None:
        for _ in range(20 if torture else 1):
            with converting(cwd) as process:
                os.kill(workers_below(process.pid)[0], signal.SIGKILL)
                finished(process, status=0)
            assert_same_dataset(cwd / "out", home / "out")
            assert files_in(cwd / "out") == files_in(home / "out")
            shutil.rmtree(cwd / "out")
            tried("workers killed")
