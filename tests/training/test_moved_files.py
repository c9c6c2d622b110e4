"""Where datasets, runs and checkpoints lie: found again when moved, and told to nobody else."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import Command
from PIL import Image

from musicspectrogan.errors import UserError
from musicspectrogan.training import runner
from musicspectrogan.training.run_checkpoints import (
    available_dataset,
    best_checkpoint,
    load_checkpoint,
)
from musicspectrogan.training.run_directory import named_run
from musicspectrogan.training.settings import TrainingConfig

TINY = ("--width", 2, "--standing-batches", 1, "--device", "cpu", "--eval-every", 0)
RUN = Path("runs") / "00000-cgan-gtzan"


@pytest.fixture(scope="module")
def begun(images: Path, command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a dataset and a run of one epoch on it; not to be changed."""
    home = tmp_path_factory.mktemp("begun")
    shutil.copytree(images, home / "set")
    command("run.py", "--gan", "cgan", "--dataset", "set", "--epochs", 1, *TINY, cwd=home)
    return home


@pytest.fixture
def home(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same under another name, with the dataset moved away: all paths in the run are wrong."""
    home = tmp_path / "home"
    shutil.copytree(begun, home)
    (home / "set").rename(home / "moved")
    config = (home / RUN / "config.yaml").read_text()
    (home / RUN / "config.yaml").write_text(config.replace(str(begun), str(home)))
    monkeypatch.chdir(home)
    return home


def config_of(run: Path) -> dict:
    return yaml.safe_load((run / "config.yaml").read_text())


def change(folder: Path) -> None:
    """Other pixels under the same names."""
    for path in folder.glob("*/*.png"):
        with Image.open(path) as image:
            text, pixels = image.text, 255 - np.asarray(image)
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        for key, value in text.items():
            info.add_text(key, value)
        Image.fromarray(pixels).save(path, pnginfo=info)


def test_a_run_goes_on_with_its_dataset_in_another_place(home, command):
    lost = command("run.py", "--resume", RUN, "--epochs", 2, cwd=home, status=2).stderr
    assert (
        f"{home / 'set'}, are not there any more; name the folder that they are in now with "
        "--dataset" in lost
    )
    told = command("run.py", "--resume", RUN, "--dataset", "moved", "--epochs", 2, cwd=home).stderr
    assert f"{home / 'moved'} holds the images that the run began with: resuming" in told
    assert load_checkpoint(home / RUN).epoch == 2
    assert config_of(home / RUN)["dataset"] == str(home / "moved")


def test_other_images_of_the_same_names_are_refused(home):
    change(home / "moved")
    begun = runner.load_run(RUN)
    wanted = TrainingConfig(**{**vars(begun.config), "dataset": Path("moved"), "epochs": 2})
    with pytest.raises(
        UserError, match="moved are not those that the run began with; start a new run"
    ):
        runner.plan_resumed_run(begun, wanted)


def test_the_newest_run_of_a_dataset_is_found_by_its_images(home):
    """Not by the folder's name, under which another dataset lies now."""
    shutil.copytree("moved", "set")
    change(home / "set")
    other = Path("runs") / "00001-cgan-gtzan"
    shutil.copytree(RUN, other)
    checkpoint = load_checkpoint(other)
    config = TrainingConfig(gan="cgan", dataset=Path("moved"))
    other_config = TrainingConfig(
        gan="cgan",
        dataset=Path("set"),
        epochs=1,
        width=2,
        standing_batches=1,
        device="cpu",
        eval_every=0,
    )
    runner.train(runner.plan_run(other_config, Path("runs/00002-cgan-gtzan")))
    assert runner.newest_run_of(config) == other
    assert (
        runner.newest_run_of(TrainingConfig(gan="cgan", dataset=Path("set"))).name
        == "00002-cgan-gtzan"
    )
    with pytest.raises(UserError, match="no run of dcgan on"):
        runner.newest_run_of(TrainingConfig(gan="dcgan", dataset=Path("moved")))
    assert available_dataset(checkpoint, other / "checkpoints" / "latest.pt") is None


def test_an_older_checkpoint_knows_its_dataset_by_the_whole_path(home):
    path = home / RUN / "checkpoints" / "latest.pt"
    contents = torch.load(path, weights_only=True)
    contents["training"]["dataset"] = str(home / "moved")
    del contents["dataset_contents"]
    for file in path.parent.iterdir():
        torch.save(contents, file)
    (home / RUN / "config.yaml").unlink()
    begun = runner.load_run(RUN)
    assert begun.config.dataset == home / "moved" == available_dataset(begun.checkpoint, path)
    wanted = TrainingConfig(**{**vars(begun.config), "epochs": 2})
    assert runner.plan_resumed_run(begun, wanted).start.epoch == 1


def test_a_run_without_its_settings_asks_for_the_dataset_by_name(home):
    (home / RUN / "config.yaml").unlink()
    begun = runner.load_run(RUN)
    wanted = TrainingConfig(**{**vars(begun.config), "epochs": 2})
    with pytest.raises(
        UserError, match=r"trained on, set, are not there any more; .* with --dataset"
    ):
        runner.plan_resumed_run(begun, wanted)


def test_what_may_be_given_away_holds_no_path_of_its_owner(
    begun, images, gtzan_tree, command, tmp_path
):
    home = tmp_path / "home"
    shutil.copytree(begun, home)
    line = (
        "generate",
        "--checkpoint",
        home / RUN,
        "--count",
        1,
        "--genre",
        "jazz",
        "--format",
        "flac",
    )
    command("-m", "musicspectrogan", *line, cwd=home)
    command(
        "run.py", "--dataset", home / "set",
        "--init-from", home / RUN / "checkpoints" / "latest.pt", "--gan", "cgan",
        "--epochs", 1, *TINY, "--output", home / "tuned", cwd=tmp_path,
    )  # fmt: skip
    command(
        "preprocess.py",
        "--dataset",
        "gtzan",
        "--input",
        gtzan_tree,
        "--output",
        home / "new",
        cwd=home,
    )
    private = {"config.yaml", "log.txt"}  # which are the owner's own
    shared = [path for path in home.rglob("*") if path.is_file() and path.name not in private]
    kinds = {path.suffix for path in shared}
    assert {".pt", ".png", ".flac", ".html", ".json", ".csv"} < kinds
    assert any("tfevents" in path.name for path in shared)
    roots = [str(folder).encode() for folder in (tmp_path, begun, images.parent, gtzan_tree.parent)]
    assert [path for path in shared if any(root in path.read_bytes() for root in roots)] == []


def test_music_that_was_moved_is_the_same_music(gtzan_tree, command, tmp_path):
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "music").symlink_to(gtzan_tree)
    shutil.copytree(gtzan_tree, tmp_path / "one" / "tracks")
    line = ("preprocess.py", "--dataset", "folder", "--output", "out", "--input")
    command(*line, tmp_path / "one" / "tracks", cwd=tmp_path)
    (tmp_path / "one" / "tracks").rename(tmp_path / "two" / "tracks")
    told = command(*line, tmp_path / "two" / "tracks", cwd=tmp_path).stderr
    assert "converted before" in told


def test_latest_is_the_newest_run_everywhere(home, command, capsys):
    shutil.copytree(RUN, "runs/00001-cgan-gtzan")
    config = home / "runs" / "00001-cgan-gtzan" / "config.yaml"
    config.write_text(config.read_text().replace("/set", "/moved"))
    assert (
        "runs/00001-cgan-gtzan"
        in command("-m", "musicspectrogan", "info", "latest", cwd=home).stdout
    )
    assert runner.load_run(Path("latest")).path == Path("runs/00001-cgan-gtzan")
    plan = runner.plan_run(
        TrainingConfig(gan="cgan", width=2, dataset=Path("moved"), init_from=Path("latest"))
    )
    assert plan.config.init_from == home / "runs" / "00001-cgan-gtzan" and plan.start.epoch == 1
    told = command("run.py", "--resume", "latest", "--epochs", 2, cwd=home).stderr
    assert "everything goes to runs/00001-cgan-gtzan" in told
    few = command(
        "-m", "musicspectrogan", "evaluate", "--compare", "latest", RUN, cwd=home, status=2
    ).stderr
    assert "are needed" in few  # to judge by: it got as far as the dataset
    assert named_run(Path("other/latest")) == Path("other/latest")
    shutil.copytree(RUN, "latest")  # a folder of that name is meant
    assert named_run(Path("latest")) == Path("latest")
    assert runner.load_run(Path("latest")).path == Path("latest")


def test_latest_without_a_run_is_told(command, tmp_path):
    told = command("-m", "musicspectrogan", "info", "latest", cwd=tmp_path, status=2).stderr
    assert "no run with a checkpoint in runs" in told


def test_a_run_directory_is_its_best_checkpoint_for_generating_and_the_newest_elsewhere(
    home, command
):
    folder = home / RUN / "checkpoints"
    contents = torch.load(folder / "latest.pt", weights_only=True)
    torch.save({**contents, "epoch": 7}, folder / "best.pt")
    assert best_checkpoint(RUN)[0] == RUN / "checkpoints" / "best.pt"
    line = ("-m", "musicspectrogan", "generate", "--genre", "jazz", "--count", 1, "--output", "out")
    told = command(*line, "--checkpoint", "latest", cwd=home).stderr
    taken = [text for text in told.splitlines() if text.startswith("Taking")]
    best, newest = (f"{RUN}/checkpoints/{name}.pt" for name in ("best", "latest"))
    assert taken == [f"Taking {best}, the best by the validation tracks; the newest is {newest}"]
    assert "best.pt" in (home / "out" / "index.html").read_text()
    assert runner.load_run(RUN).checkpoint.epoch == 1
    (folder / "best.pt").write_bytes(b"cut")
    assert best_checkpoint(RUN)[0] == RUN / "checkpoints" / "latest.pt"
    (folder / "best.pt").unlink()
    assert best_checkpoint(RUN)[0] == RUN / "checkpoints" / "latest.pt"
