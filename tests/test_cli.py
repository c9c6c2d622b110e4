"""Help, version, and one clear line for every error."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, command_line, environment
from PIL import Image

import musicspectrogan
from musicspectrogan import cli, console
from musicspectrogan.cli import COMMANDS


@pytest.mark.parametrize(
    "line",
    [
        ("preprocess.py",), ("run.py",), ("-m", "musicspectrogan"),
        ("-m", "musicspectrogan", "info"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_version_of_every_command(line, command, tmp_path):
    assert (
        command(*line, "--version", cwd=tmp_path).stdout
        == f"musicspectrogan {musicspectrogan.__version__}\n"
    )


def test_help_lists_the_commands_and_the_scripts_flags(command, tmp_path):
    overview = command("-m", "musicspectrogan", "--help", cwd=tmp_path).stdout
    assert all(name in overview for name in ("preprocess", "train", "info"))
    assert "--batch-size" in command("run.py", "--help", cwd=tmp_path).stdout
    assert (
        "--batch-size" in command("-m", "musicspectrogan", "train", "--help", cwd=tmp_path).stdout
    )
    assert "--exclude-faults" in command("preprocess.py", "--help", cwd=tmp_path).stdout


@pytest.mark.parametrize("name", [(), ("info",)])
def test_help_is_the_same_without_docstrings(name, command, command_process, tmp_path):
    line = ("-m", "musicspectrogan", *name, "--help")
    expected = command(*line, cwd=tmp_path).stdout
    assert "a run" in expected
    assert command_process("-OO", *line, cwd=tmp_path).stdout == expected


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_plain_values(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        COMMANDS[name](["--help"], name)
    message = capsys.readouterr().out
    assert "-h, --help" in message and "{" not in message and "[[" not in message
    assert max(map(len, message.splitlines())) <= 110


@pytest.mark.slow
def test_the_installed_package_works_from_any_directory(command_process, images, tmp_path):
    """As `pip install .` installs it: with the recipes and the templates of the pages."""
    pytest.importorskip("setuptools", minversion="77")
    tree = tmp_path / "tree"
    for name in ("musicspectrogan", "configs"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements.txt"):
        shutil.copy(ROOT / name, tree)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--target",
    ]
    subprocess.run([*pip, tmp_path / "site", tree], check=True, capture_output=True)
    installed = {
        p.relative_to(tmp_path / "site") for p in (tmp_path / "site" / "musicspectrogan").rglob("*")
    }
    files = [path for path in (tree / "musicspectrogan").rglob("*") if path.is_file()]
    assert {path.relative_to(tree) for path in files} <= installed
    program = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); "
        "from musicspectrogan.cli import main; main()"
    )
    line = ("train", "--config", "cgan-best", "--dataset", images, "--dry-run", "--device", "cpu")
    message = command_process("-c", program, tmp_path / "site", *line, cwd=tmp_path).stdout
    assert "gan: anylength" in message and "loss: relativistic" in message


def test_a_closed_pipe_is_not_an_error(tmp_path):
    line = shlex.join(command_line("run.py", "--help")) + " | head -n 1; exit ${PIPESTATUS[0]}"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, env=environment(), check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_command_suggests_the_nearest(command, tmp_path):
    message = command("-m", "musicspectrogan", "preproces", cwd=tmp_path, status=2)
    assert "did you mean 'preprocess'?" in message.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gan", "cgan"], "--dataset is missing"),
        (["--dataset", "nowhere"], "there is no such folder"),
        (["--dataset", "n" * 300], "File name too long"),
        (["--dataset", "empty"], "no class folders with images"),
        (["--dataset", "empty", "--gan", "gcan"], "did you mean 'cgan'?"),
        (["--dataset", "empty", "--batchsize", "3"], "did you mean --batch-size?"),
        (["--dataset", "empty", "--batch-size", "three"], "--batch-size"),
        (["--dataset", "empty", "--epochs", "-1"], "epochs: -1"),
        (
            ["--dataset", "empty", "--images", "lots"],
            "--images: 'lots' is not a whole number such as 25000, 100k",
        ),
        (["--dataset", "empty", "--images", "0"], "images: 0 is not allowed"),
        (
            ["--dataset", "empty", "--images", "1k", "--epochs", "3"],
            "--images: epochs is given too",
        ),
        (
            ["--dataset", "empty", "--config", "nothing.yaml"],
            "nothing.yaml: there is no such file; recipes are",
        ),
        (
            ["--dataset", "empty", "--batch-size", "1"],
            "musicspectrogan: --batch-size: 1 is not allowed",
        ),
        (["--dataset", "empty", "--learning-rate", "1"], "did you mean --lr?"),
        (
            ["--dataset", "empty", "--config", "wrong.yaml"],
            "unknown key 'epoch' (did you mean 'epochs'?)",
        ),
        (["--dataset", "text.png"], "is a file"),
        (["--dataset", "broken"], "no readable image"),
        (["--dataset", "empty", "--loss", "bec"], "did you mean 'bce'?"),
        (["--dataset", "empty", "--resume"], "no run of dcgan"),
        (["--resume"], "no run with a checkpoint"),
        (["--dataset", "images", "--init-from", "nowhere.pt"], "no such checkpoint"),
        (["--dataset", "images", "--output", "text.png"], "cannot be made a folder"),
        (["--resume", "nowhere"], "no such checkpoint"),
        (["--resume", "text.png"], "not a checkpoint"),
    ],
)
def test_wrong_input_to_training(arguments, message, command, images, tmp_path):
    (tmp_path / "images").symlink_to(images)
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong.yaml").write_text("epoch: 3\n")
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "broken" / "blues").mkdir(parents=True)
    (tmp_path / "broken" / "blues" / "a.png").write_text("not an image")
    done = command("run.py", *arguments, cwd=tmp_path, status=2)
    assert message in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_cuda_on_a_machine_without_one(command, images, tmp_path):
    done = command("run.py", "--dataset", images, "--device", "cuda", cwd=tmp_path, status=2)
    assert "--device cuda: this machine has none" in done.stderr


def test_a_damaged_image_is_left_out_and_named(command, tmp_path):
    (tmp_path / "set" / "blues").mkdir(parents=True)
    for index in range(3):
        Image.new("L", (64, 64), 50 * index).save(tmp_path / "set" / "blues" / f"{index}.png")
    (tmp_path / "set" / "blues" / "torn.png").write_bytes(
        (tmp_path / "set" / "blues" / "0.png").read_bytes()[:60]
    )
    done = command(
        "run.py", "--dataset", "set", "--epochs", 1, "--width", 2, "--batch-size", 2, "--device",
        "cpu",
        "--standing-batches", 1, cwd=tmp_path,
    )  # fmt: skip
    assert "Left out 1 image that cannot be read: blues/torn.png" in done.stderr
    assert "Training dcgan on 3 images" in done.stderr


def test_info_on_a_dataset(command, images, tmp_path):
    message = command("-m", "musicspectrogan", "info", images, cwd=tmp_path).stdout
    assert "from gtzan" in message
    assert "tracks       16" in message
    assert "images       32" in message
    assert "blues 8, jazz 8, metal 8, rock 8" in message
    assert len(message.splitlines()) <= 10


def test_info_on_a_run(command, images, tmp_path):
    command(
        "run.py", "--gan", "cgan", "--dataset", images, "--epochs", 1, "--width", 4, "--device",
        "cpu",
        "--standing-batches", 1, "--output", "run", cwd=tmp_path,
    )  # fmt: skip
    for path in ("run", "run/checkpoints/epoch_0001.pt"):
        message = command("-m", "musicspectrogan", "info", path, cwd=tmp_path).stdout
        assert "cgan, width 4" in message
        assert "64 images, 1 step, 1 epoch of a run of 1 epoch\n" in message
        assert "blues, jazz, metal, rock" in message
        assert len(message.splitlines()) <= 10


@pytest.mark.parametrize(
    ("name", "message"), [("nowhere", "no such file"), ("text.txt", "not a checkpoint")]
)
def test_info_on_something_else(name, message, command, tmp_path):
    (tmp_path / "text.txt").write_text("hello")
    assert message in command("-m", "musicspectrogan", "info", name, cwd=tmp_path, status=2).stderr


def test_control_characters_are_escaped_and_long_text_is_shortened(command, tmp_path):
    message = command("-m", "musicspectrogan", "info", "a\nb\x1b[2J", cwd=tmp_path, status=2)
    assert message.stderr.startswith("musicspectrogan: a\\nb\\x1b[2J: there is no such file ")
    assert message.stderr.count("\n") == 1
    message = command("-m", "musicspectrogan", "x" * 50_000, cwd=tmp_path, status=2)
    assert len(message.stderr) < 2100


def test_a_later_process_reports_an_error_unless_torchrun_ends_it(monkeypatch, capsys):
    launched = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1"}
    for name, value in {**launched, "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(console, "SECONDS_UNTIL_TORCHRUN_ENDS", 0.01)
    console.print_error("no room")
    assert capsys.readouterr().err == "musicspectrogan: no room\n"

    def end(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(console.time, "sleep", end)
    console.print_error("no room")
    assert capsys.readouterr().err == ""


def exit_status(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    """Exit status of a command that raises an error."""

    def fail(arguments: list[str], program: str) -> None:
        raise error

    monkeypatch.setitem(cli.COMMANDS, "info", fail)
    monkeypatch.setattr(sys, "argv", ["musicspectrogan", "info"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


@pytest.mark.parametrize(
    "name",
    "ENOSPC EACCES EROFS ENOENT EIO ETXTBSY EBUSY EMFILE ENFILE ENOTCONN EHOSTDOWN EREMOTEIO "
    "EUCLEAN ETIMEDOUT EINVAL EILSEQ ENOMEM ENOLCK EAGAIN EXDEV EMLINK ENOTSUP "
    "ECONNREFUSED".split(),
)
def test_a_system_error_is_reported_in_one_line(name, monkeypatch, capsys):
    code = getattr(errno, name, None) or pytest.skip("not known here")
    assert exit_status(monkeypatch, OSError(code, os.strerror(code), "some/file.png")) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"musicspectrogan: some/file.png: {os.strerror(code)}")
    assert message.count("\n") == 1
    assert ("ulimit -n" in message) == (name == "EMFILE")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.EIO, "broken"), "broken"),
        (FileNotFoundError(errno.ENOENT, "gone", b"caf\xe9.png"), ": caf\\udce9.png: gone"),
        (
            UnicodeEncodeError("ascii", "é.png", 0, 1, "ordinal not in range"),
            "é.png: no name can be written",
        ),
        (
            UnicodeEncodeError("utf-8", "\udce9.png", 0, 1, "surrogates"),
            "\\udce9.png: no name can be written",
        ),
        (MemoryError(), "the computer's memory is full"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_so_are_errors_without_a_file_or_a_number(error, message, monkeypatch, capsys):
    assert exit_status(monkeypatch, error) == 2
    line = capsys.readouterr().err
    assert line.startswith("musicspectrogan: ") and message in line and line.count("\n") == 1


def test_full_memory_before_torch_is_imported(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "torch")
    assert exit_status(monkeypatch, MemoryError()) == 2
    assert "memory is full; close other programs, or give fewer --jobs" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [OSError("a library's own words"), ValueError("a bug"), AssertionError()]
)
def test_a_bug_keeps_its_traceback(error, monkeypatch):
    with pytest.raises(type(error)):
        exit_status(monkeypatch, error)


def test_development_mode_prints_the_traceback_of_a_system_error(tmp_path):
    line = ("-m", "musicspectrogan", "info", "n" * 300)
    seen = [
        subprocess.run(
            [sys.executable, *flags, *line],
            capture_output=True,
            text=True,
            check=False,
            env=environment(),
            cwd=tmp_path,
        )
        for flags in ((), ("-X", "dev"))
    ]
    assert [done.returncode for done in seen] == [2, 2]
    assert ["Traceback" in done.stderr for done in seen] == [False, True]
    assert all("File name too long" in done.stderr.splitlines()[-1] for done in seen)
