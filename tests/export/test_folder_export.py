"""`export --format folder`, and what is exported in the place of a checkpoint."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch
import yaml
from conftest import Command
from PIL import Image
from vocoders import random_vocoder

import musicspectrogan as ms
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.data.credits import CREDITS_NAME, Credit, read_credits, write_credits
from musicspectrogan.errors import UserError
from musicspectrogan.export import folder as exporting
from musicspectrogan.export.cards import markdown
from musicspectrogan.export.export import new_folder
from musicspectrogan.training.checkpoint import Checkpoint, save_checkpoint
from musicspectrogan.training.run_checkpoints import add_vocoder, load_checkpoint

PROGRAM = ("-m", "musicspectrogan")
OLD_RUNS = Path(__file__).parents[1] / "old" / "runs"
FILES = {"README.md", "config.json", "model.safetensors"}


def bytes_in(folder: Path) -> dict[str, bytes]:
    """The contents of all files, by their paths in the folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def model(trained: Path, command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny cgan, exported with two sounds; read-only."""
    folder = tmp_path_factory.mktemp("exported")
    done = command(*PROGRAM, "export", "--checkpoint", trained, "--sounds", 2, cwd=folder)
    assert done.stdout == "Wrote cgan\n"
    return folder / "cgan"


@pytest.fixture
def export(command: Command, tmp_path: Path) -> Callable[..., Path]:
    """`export(checkpoint, *flags)`: exported without sounds to `out`."""

    def run(checkpoint: Path, *flags: object, status: int = 0) -> Path:
        line = ("export", "--checkpoint", checkpoint, "--output", "out", "--sounds", 0)
        command(*PROGRAM, *line, *flags, cwd=tmp_path, status=status)
        return tmp_path / "out"

    return run


@pytest.fixture
def run(trained: Path, images: Path, tmp_path: Path) -> Path:
    """A copy of the run, on a copy of its images that has credits."""
    shutil.copytree(images, tmp_path / "images")
    shutil.copytree(trained, tmp_path / "runs" / "mine")
    config = tmp_path / "runs" / "mine" / "config.yaml"
    text = config.read_text(encoding="utf-8").replace(str(images), str(tmp_path / "images"))
    config.write_text(text, encoding="utf-8")
    credits = {
        "jazz.00000": Credit("Ann|a", "On *and* on", license="CC BY 4.0", url="https://a.org"),
        "jazz.00001": Credit("Ben", "Off", license="Attribution 3.0"),
        "rock.00000": Credit("Cam"),
    }
    write_credits(tmp_path / "images", credits)
    return tmp_path / "runs" / "mine"


def card_of(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def metadata(folder: Path) -> dict:
    """The first lines of the card, as Hugging Face reads them."""
    start, front, _ = card_of(folder).split("---\n", 2)
    assert start == ""
    return yaml.safe_load(front)


def zipped(folder: Path, path: Path, start: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, contents in bytes_in(folder).items():
            archive.writestr(start + name, contents)
    return path


# What is written


def test_the_folder_has_weights_settings_a_card_and_sounds(model: Path, trained: Path) -> None:
    sounds = {
        f"sounds/{name}_seed0000.{end}" for name in ("blues", "jazz") for end in ("mp3", "png")
    }
    assert bytes_in(model).keys() == FILES | sounds
    checkpoint = load_checkpoint(trained)
    tensors = safetensors.torch.load_file(model / "model.safetensors")
    own = {f"generator/{name}" for name in checkpoint.ema}
    assert own < tensors.keys()
    assert {name.rpartition("/")[0] for name in tensors.keys() - own} == {"vocoder/weights"}
    assert all(torch.equal(tensors[f"generator/{k}"], v) for k, v in checkpoint.ema.items())
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    assert config["genres"] == ["blues", "jazz", "metal", "rock"]
    assert config["spectrogram"]["sample_rate"] == 22050
    assert not config.keys() & {"discriminator", "optimizer_g", "optimizer_d", "ema"}
    assert soundfile.info(model / "sounds" / "jazz_seed0000.mp3").duration == pytest.approx(
        10, abs=0.1
    )


def test_sounds_are_those_that_generate_makes(model: Path) -> None:
    loaded = ms.load(model, device="cpu")
    image = loaded.images("jazz", 0, seconds=10)[0]
    with Image.open(model / "sounds" / "jazz_seed0000.png") as picture:
        assert (picture.width, picture.height) == (image.shape[1], image.shape[0])
    samples, rate = soundfile.read(model / "sounds" / "jazz_seed0000.mp3")
    expected = loaded.sounds("jazz", 0, seconds=10)[0]
    assert rate == 22050
    assert (
        np.corrcoef(samples[: len(expected)], expected[: len(samples)])[0, 1] > 0.9
    )  # MP3 is lossy


def test_exporting_again_gives_the_same_bytes(
    model: Path, command: Command, tmp_path: Path
) -> None:
    line = (*PROGRAM, "export", "--checkpoint", model, "--output", "cgan", "--sounds", 2)
    command(*line, cwd=tmp_path)
    assert bytes_in(tmp_path / "cgan") == bytes_in(model)


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_exporting_again_loses_no_facts(form: str, command: Command, tmp_path: Path) -> None:
    """License, evaluation and precision stay, unless the command says otherwise."""

    def exported(source: object, name: str, *flags: object) -> Path:
        line = ("export", "--checkpoint", source, "--output", name, "--sounds", 0, *flags)
        command(*PROGRAM, *line, cwd=tmp_path)
        return tmp_path / name

    first = exported("demo", "demo")
    assert metadata(first)["license"] == "mit" and "tensors (half precision)" in card_of(first)
    assert "| coverage, classifier features |" in card_of(first)
    assert "had not been rounded to half precision" in card_of(first)
    source = first if form == "folder" else zipped(first, tmp_path / "demo.zip")
    (tmp_path / "again").mkdir()
    assert bytes_in(exported(source, "again/demo")) == bytes_in(first)
    changed = exported(source, "other", "--license", "cc0-1.0")
    assert metadata(changed)["license"] == "cc0-1.0"
    assert metadata(exported(changed, "last"))["license"] == "cc0-1.0"


@pytest.mark.parametrize(
    "card",
    [
        [],
        {"license": "mit\nlicense_link: http://x"},
        {"figures": [["a", "b"]]},
        {"figures": ["abcd"]},
        {"half": 1},
        {"more": ""},
    ],
)
def test_facts_that_cannot_be_read_are_left_out(
    card: object, model: Path, command: Command, tmp_path: Path
) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "card": card}), encoding="utf-8")
    line = ("export", "--checkpoint", "model", "--output", "out", "--sounds", 0)
    told = command(*PROGRAM, *line, cwd=tmp_path).stderr
    assert "model: what its model card said is lost: " in told
    assert metadata(tmp_path / "out") == metadata(model)
    assert "Not evaluated yet" in card_of(tmp_path / "out")


def test_half_precision_halves_the_file_and_moves_no_pixel_by_more_than_one(
    export: Callable[..., Path], model: Path
) -> None:
    half = export(model, "--half")
    weights = [safetensors.torch.load_file(path / "model.safetensors") for path in (half, model)]
    sizes = [sum(t.nbytes for k, t in w.items() if k.startswith("gen")) for w in weights]
    assert sizes[0] < 0.51 * sizes[1]
    one, other = (ms.load(folder, device="cpu") for folder in (half, model))
    for genre in one.genres:
        images = [m.images(genre, range(25)).astype(int) for m in (one, other)]
        assert abs(images[0] - images[1]).sum() > 0 and abs(images[0] - images[1]).max() <= 1
    again = load_checkpoint(half)
    assert {weight.dtype for weight in again.ema.values()} <= {torch.float32, torch.int64}
    assert again.digest != load_checkpoint(model).digest


@pytest.mark.parametrize("name", ["anylength", "cgan"])
def test_half_precision_of_runs_of_earlier_versions(name: str, export: Callable[..., Path]) -> None:
    one, other = (
        ms.load(p, device="cpu") for p in (export(OLD_RUNS / name, "--half"), OLD_RUNS / name)
    )
    images = [model.images(one.genres[0], range(25)).astype(int) for model in (one, other)]
    assert abs(images[0] - images[1]).max() <= 1


# In the place of a checkpoint


@pytest.fixture(scope="module")
def by_run(trained: Path, command: Command, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What `generate` makes from the run itself, without real music."""
    folder = tmp_path_factory.mktemp("by_run")
    save_checkpoint(load_checkpoint(trained), folder / "alone.pt")
    return generated(command, folder / "alone.pt", folder)


def generated(command: Command, checkpoint: object, cwd: Path) -> dict[str, bytes]:
    line = (
        "generate",
        "--checkpoint",
        checkpoint,
        "--genre",
        "jazz",
        "--seeds",
        3,
        "--output",
        "made",
    )
    command(*PROGRAM, *line, "--device", "cpu", cwd=cwd)
    made = bytes_in(cwd / "made")
    del made["index.html"]
    assert made.keys() == {"jazz_seed0003.png", "jazz_seed0003.wav"}
    return made


@pytest.mark.parametrize("form", ["folder", "inside it", "zip"])
def test_generate_makes_the_same_bytes(
    form: str, by_run: dict, model: Path, command: Command, tmp_path: Path
) -> None:
    moved = shutil.copytree(model, tmp_path / "elsewhere" / "v1.5")
    if form == "folder":
        made = generated(command, moved, tmp_path)
    elif form == "inside it":
        made = generated(command, ".", moved)
        assert "v1.5 (" in (moved / "made" / "index.html").read_text(encoding="utf-8")
    else:
        made = generated(command, zipped(moved, tmp_path / "x.zip", "v1.5/"), tmp_path)
    assert made == by_run


def test_the_interface_makes_the_same_sounds(model: Path, trained: Path) -> None:
    one, other = (ms.load(path, device="cpu") for path in (model, trained))
    assert one.genres == other.genres
    mixture = {"jazz": 0.5, "rock": 0.5}
    sounds = [m.sounds(mixture, [0, 1], seconds=4) for m in (one, other)]
    assert np.array_equal(*sounds)


def test_generate_writes_beside_and_not_into_the_export(
    model: Path, command: Command, tmp_path: Path
) -> None:
    before = bytes_in(model)
    line = ("generate", "--checkpoint", model, "--genre", 0, "--count", 1, "--device", "cpu")
    done = command(*PROGRAM, *line, cwd=tmp_path)
    assert done.stdout.startswith("Open generated/")
    assert bytes_in(model) == before


def test_info_describes_it(model: Path, command: Command, tmp_path: Path) -> None:
    shown = command(*PROGRAM, "info", model, cwd=tmp_path).stdout
    assert shown.startswith(f"exported     {model}\n") and "blues, jazz, metal, rock" in shown
    path = zipped(model, tmp_path / "x.zip")
    assert (
        command(*PROGRAM, "info", path, cwd=tmp_path).stdout.splitlines()[1:]
        == shown.splitlines()[1:]
    )


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_training_needs_the_run(
    form: str, model: Path, images: Path, command: Command, tmp_path: Path
) -> None:
    path = model if form == "folder" else zipped(model, tmp_path / "x.zip")
    for flags in (("--resume", path), ("--init-from", path, "--dataset", images)):
        told = command("run.py", *flags, "--gan", "cgan", cwd=tmp_path, status=2).stderr
        assert f"{flags[0]} {path}: an exported model has no discriminator" in told
    assert [p.name for p in tmp_path.iterdir()] == ([] if form == "folder" else ["x.zip"])


def test_a_vocoder_is_added_to_a_folder(
    model: Path, export: Callable[..., Path], tmp_path: Path
) -> None:
    half = export(model, "--half")
    before = safetensors.torch.load_file(half / "model.safetensors")
    vocoder = random_vocoder(load_checkpoint(model).spectrogram, seed=5)
    assert add_vocoder(half, vocoder) == [half]
    after = safetensors.torch.load_file(half / "model.safetensors")
    for name, tensor in before.items():
        if name.startswith("generator/"):
            assert tensor.dtype == after[name].dtype and torch.equal(tensor, after[name])
    assert ms.load(half, device="cpu").vocoder.digest == vocoder.digest
    assert bytes_in(half).keys() == FILES
    with pytest.raises(UserError, match=r"is a zip, which is not changed; unpack it"):
        add_vocoder(zipped(half, tmp_path / "x.zip"), vocoder)
    with pytest.raises(UserError, match="other spectrogram settings"):
        add_vocoder(half, random_vocoder(SpectrogramConfig(f_max=9000.0)))


def test_a_folder_in_a_run_is_neither_its_checkpoint_nor_resumed(
    model: Path, command: Command, images: Path, tmp_path: Path
) -> None:
    shutil.copytree(model, tmp_path / "runs" / "00007-cgan-mine")
    line = ("generate", "--checkpoint", "latest", "--count", 1)
    assert "no run with a checkpoint" in command(*PROGRAM, *line, cwd=tmp_path, status=2).stderr
    flags = ("--gan", "cgan", "--dataset", images, "--output", "runs/00007-cgan-mine")
    told = command("run.py", *flags, cwd=tmp_path, status=2).stderr
    assert "is not empty; give another folder" in told


def damage(folder: Path, kind: str) -> None:
    weights, config = folder / "model.safetensors", folder / "config.json"
    text = config.read_text(encoding="utf-8")
    if kind == "cut":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif kind == "no settings":
        config.unlink()
    elif kind == "no weights":
        weights.unlink()
    elif kind == "other model":
        config.write_text(json.dumps({"model_type": "bert"}), encoding="utf-8")
    elif kind == "later":
        config.write_text(text.replace('"format_version": 1', '"format_version": 9', 1))
    elif kind == "not finite":
        config.write_text(text.replace('"f_max": 8000.0', '"f_max": NaN'), encoding="utf-8")
    elif kind == "wrong size":
        config.write_text(text.replace('"width": 4', '"width": 64'), encoding="utf-8")
    elif kind == "plugin":
        config.write_text(text.replace('"gan": "cgan"', '"gan": "os"'), encoding="utf-8")
    else:
        weights.chmod(0)


@pytest.mark.parametrize(
    ("kind", "reported"),
    [
        ("cut", "is damaged or not a model of this tool ("),
        ("no settings", "it has no config.json"),
        ("no weights", "no checkpoint in it"),
        ("other model", "is damaged or not a model of this tool;"),
        ("later", "has format 9; this version reads format 1"),
        ("not finite", "f_max"),
        ("wrong size", "differs in shape or type from its model's"),
        ("plugin", "'os' is not one of"),
        pytest.param(
            "unreadable", "Permission denied",
            marks=pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything"),
        ),
    ],
)  # fmt: skip
def test_what_is_no_model_is_refused_in_one_line(
    kind: str, reported: str, model: Path, command: Command, tmp_path: Path
) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    damage(folder, kind)
    for name in ("generate", "export"):
        line = (*PROGRAM, name, "--checkpoint", "model", "--output", "out")
        assert reported in command(*line, cwd=tmp_path, status=2).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_a_zip_lacks_is_said(model: Path, command: Command, tmp_path: Path) -> None:
    def told(path: Path) -> str:
        line = (*PROGRAM, "info", path)
        return command(*line, cwd=tmp_path, status=2).stderr

    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").touch()
    path = zipped(tmp_path / "notes", tmp_path / "x.zip")
    lacks = "is damaged or not a model of this tool (it has no model.safetensors); copy or export"
    assert lacks in told(path)
    whole = zipped(model, tmp_path / "whole.zip", "d/mine/")
    assert load_checkpoint(whole).genres == ["blues", "jazz", "metal", "rock"]
    path.write_bytes(whole.read_bytes()[:-100])
    assert "x.zip is damaged or not a model of this tool (File is not a zip file)" in told(path)


# Where it is written


def test_nothing_is_replaced_unless_it_is_an_export(
    export: Callable[..., Path], model: Path, command: Command, tmp_path: Path
) -> None:
    def told(*flags: object) -> str:
        line = ("export", "--checkpoint", model, "--sounds", 0, *flags)
        return command(*PROGRAM, *line, cwd=tmp_path, status=2).stderr

    out = tmp_path / "out"
    out.mkdir()  # empty
    before = bytes_in(export(model))
    assert before.keys() == FILES
    assert "--output out: exists; give --overwrite, or another name" in told("--output", "out")
    (out / ".DS_Store").touch()
    (out / "old.onnx").touch()  # of an export in another format
    assert bytes_in(export(model, "--overwrite")) == before
    for name in ("notes.txt", "sounds/mine.wav", "table.csv", ".git/config"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("mine")
        message = f"--output out: {name} in it is not from an export; give another name"
        assert message in told("--output", "out", "--overwrite")
        assert (out / name).read_text() == "mine"
        (out / name).unlink()
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "README.md").write_text("mine")
    assert "project: is not an export" in told("--output", "project", "--overwrite")
    (tmp_path / "file").write_text("mine")
    assert "file: is a file already" in told("--output", "file", "--overwrite")
    assert "file/x: cannot be made a folder" in told("--output", "file/x/y")
    (tmp_path / "link").symlink_to("out")
    for name in (".", "..", "link"):
        assert "give the name of a new folder or file" in told("--output", name, "--overwrite")
    assert {path.name for path in tmp_path.iterdir()} == {"out", "project", "file", "link"}


def test_a_page_replaces_an_instrument_only(command: Command, tmp_path: Path) -> None:
    def page(name: str, status: int = 0) -> str:
        line = ("export", "--checkpoint", "demo", "--format", "html", "--output", name)
        return command(*PROGRAM, *line, "--overwrite", cwd=tmp_path, status=status).stderr

    page("x.html")
    made = (tmp_path / "x.html").read_bytes()
    page("x.html")
    assert (tmp_path / "x.html").read_bytes() == made
    (tmp_path / "x.html").write_text("<!DOCTYPE html>\n<title>mine</title>")
    assert "--output x.html: is not an export; give another name" in page("x.html", 2)
    assert (tmp_path / "x.html").read_text().endswith("mine</title>")
    for name in ("thesis.txt", "best.pt", "new"):
        if name != "new":
            (tmp_path / name).write_bytes(made)
        assert f"--output: {name}: give the page a name that ends in .html" in page(name, 2)
    assert {path.name for path in tmp_path.iterdir()} == {"x.html", "thesis.txt", "best.pt"}


def test_an_interrupted_export_leaves_what_was_there(
    export: Callable[..., Path], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = bytes_in(export(model))
    with monkeypatch.context() as patch:
        patch.setattr(exporting, "_write_sounds", interrupted)
        export(model, "--overwrite", "--half", status=130)
    assert bytes_in(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_export_that_cannot_get_its_name_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if path.name == ".out.unfinished":
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="Input"), new_folder(tmp_path / "out") as folder:
        (folder / "new").touch()
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")] == ["out", "out/old"]


def killed_between_the_renames(output: Path) -> None:
    """What a kill leaves when the earlier export has lost its name and the new one has none yet."""
    shutil.copytree(output, output.with_name(".out.unfinished"))
    output.rename(output.with_name(".out.earlier"))


def test_a_kill_between_the_renames_loses_no_export(
    export: Callable[..., Path], model: Path, tmp_path: Path
) -> None:
    before = bytes_in(export(model))
    killed_between_the_renames(tmp_path / "out")
    export(model, status=2)  # it is there again
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert bytes_in(tmp_path / "out") == before
    killed_between_the_renames(tmp_path / "out")
    (tmp_path / ".out.unfinished" / "model.safetensors").unlink()  # was not that far
    (tmp_path / ".out.unfinished" / "README.md").unlink()
    (tmp_path / ".out.unfinished" / ".model.safetensors.tmp").touch()
    assert bytes_in(export(model, "--overwrite")) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", [".out.unfinished", ".out.earlier"])
def test_what_only_has_the_name_of_a_temporary_folder_is_kept(
    name: str, model: Path, command: Command, tmp_path: Path
) -> None:
    line = (*PROGRAM, "export", "--checkpoint", model, "--output", "out", "--sounds", 0)
    for own in ("notes.txt", "README.md", "checkpoints/best.pt"):
        (tmp_path / name / own).parent.mkdir(parents=True)
        (tmp_path / name / own).write_text("mine")
        told = command(*line, cwd=tmp_path, status=2).stderr
        assert f"{name}: {own} in it is not from an export, but it has the name of a temp" in told
        assert bytes_in(tmp_path) == {f"{name}/{own}": b"mine"}
        shutil.rmtree(tmp_path / name)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / name).symlink_to("elsewhere")
    assert f"{name}: is not from an export" in command(*line, cwd=tmp_path, status=2).stderr


def test_flags_that_make_no_sense_are_refused(
    command: Command, model: Path, tmp_path: Path
) -> None:
    line = (*PROGRAM, "export", "--checkpoint", model)
    for flags, reported in (
        (
            ("--license", "MIT"),
            "--license: 'MIT' is not allowed; write a short name in lower case, such",
        ),
        (("--license", "MIT"), "did you mean 'mit'?"),
        (("--license", "a: b"), "--license: 'a: b' is not allowed"),
        (("--sounds", 1000), "--sounds: 1000 is not allowed"),
        (("--format", "zip"), "--format: 'zip' is not one of folder, html, onnx"),
        (("--half", "--format", "onnx"), "--half has no effect with --format onnx"),
        (("--license", "mit", "--format", "onnx"), "--license has no effect with --format onnx"),
        (("--sounds", 0, "--format", "html"), "--sounds has no effect with --format html; omit it"),
    ):
        assert reported in command(*line, *flags, cwd=tmp_path, status=2).stderr


# The card


def test_the_card_is_as_hugging_face_expects(model: Path, export: Callable[..., Path]) -> None:
    assert metadata(model) == {
        "library_name": "musicspectrogan",
        "license": "unknown",
        "tags": ["audio", "music", "music-generation", "gan", "mel-spectrogram"],
    }
    assert metadata(export(model, "--license", "cc-by-4.0"))["license"] == "cc-by-4.0"
    own = metadata(export(model, "--license", "my-terms-1.0", "--overwrite"))
    assert (own["license"], own["license_name"]) == ("other", "my-terms-1.0")


def test_the_card_is_read_by_their_library(model: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard.load(model / "README.md")
    assert card.data.license == "unknown" and card.data.library_name == "musicspectrogan"
    assert card.text.lstrip().startswith("# cgan\n")


def test_what_the_card_says(model: Path) -> None:
    card = card_of(model)
    assert "Genres: blues, jazz, metal, rock.\n" in card
    assert "They become sound at 22050 Hz.\n" in card and "64 bands and 2.97 s" in card
    assert 'model.sounds("blues", seeds=[0, 1], seconds=10)' in card
    assert "128 images of the dataset gtzan_images, with these settings;" in card
    assert "| latent_dim | 100 |\n" in card
    assert "The licence of the model has not been stated." in card
    assert "Not evaluated yet" in card
    for file in re.findall(r"\]\((\S+)\)", card):
        assert (model / file).is_file()
    assert "\n\n\n" not in card and not re.search(r"[ \t]\n", card)


def test_the_code_of_the_card_runs(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", card_of(model), re.DOTALL)
    names: dict = {}
    monkeypatch.chdir(model)
    exec(code, names)
    assert names["sounds"].shape == (2, 220_500)


@pytest.mark.parametrize("changed", [False, True])
def test_the_evaluation_is_that_of_these_weights(
    changed: bool, run: Path, command: Command, tmp_path: Path
) -> None:
    def export(*flags: object) -> tuple[str, str]:
        line = ("export", "--checkpoint", run, "--output", "out", "--sounds", 0, *flags)
        return command(*PROGRAM, *line, cwd=tmp_path).stderr, card_of(tmp_path / "out")

    digest = load_checkpoint(run).digest
    whole = {"value": 0.5, "half_width": 0.03}
    figure = {"name": "frechet", "features": "untrained", "genre": None}
    figure |= {
        "value": whole,
        "real": {"value": 0.25, "half_width": 0.1},
        "ratio": {"value": 2.0, "half_width": 0.12},
    }
    other = {**figure, "genre": "jazz"}
    report = {
        "subject": {"digest": "0" * 16 if changed else digest},
        "settings": {},
        "figures": [figure, other],
    }
    (run / "evaluation.json").write_text(json.dumps(report), encoding="utf-8")
    pieces = {**report, "settings": {"seconds": 30}, "figures": [{**figure, "name": "density"}]}
    (run / "evaluation-30s.json").write_text(json.dumps(pieces), encoding="utf-8")
    (run / "evaluation_broken.json").write_text("[]", encoding="utf-8")
    earlier = {"subject": {"sha256": "0" * 64}, "settings": {}, "figures": [figure]}
    (run / "evaluation_earlier.json").write_text(json.dumps(earlier), encoding="utf-8")
    row = "| Fréchet distance, untrained features | 0.500 ± 0.030 | 2.00 ± 0.12 | 0.25 ± 0.10 |\n"
    told, card = export()
    assert "evaluation_broken.json is not an evaluation, and is passed over" in told
    advice = f"run `python -m musicspectrogan evaluate --checkpoint {run}/checkpoints/latest.pt`"
    assert (advice in told) == changed
    assert (row in card) != changed and ("Not evaluated yet" in card) == changed
    assert "density" not in card
    _, half = export("--half", "--overwrite")
    assert ("had not been rounded to half precision" in half) != changed


def test_attributions_of_the_music_go_with_the_model(
    run: Path, export: Callable[..., Path], tmp_path: Path
) -> None:
    out = export(run)
    assert bytes_in(out).keys() == FILES | {CREDITS_NAME}
    assert read_credits(out) == read_credits(tmp_path / "images")
    licences = f"Licences of the tracks: by (2), not stated (1). [{CREDITS_NAME}]({CREDITS_NAME})"
    assert licences in card_of(out)
    first = shutil.move(out, tmp_path / "first")
    assert read_credits(export(first)) == read_credits(first)  # exported again
    shutil.rmtree(out)
    packed = export(zipped(first, tmp_path / "x.zip", "first/"))
    assert read_credits(packed) == read_credits(first)


def test_attributions_are_not_lost_in_silence(
    run: Path, images: Path, command: Command, tmp_path: Path
) -> None:
    def exported(*flags: object, status: int = 0) -> str:
        line = ("export", "--checkpoint", run, "--output", "out", "--sounds", 0, "--overwrite")
        return command(*PROGRAM, *line, *flags, cwd=tmp_path, status=status).stderr

    moved = shutil.move(tmp_path / "images", tmp_path / "moved")
    lost = "images, on which the model was trained, is not where it was or has changed: the export"
    assert lost in exported()
    assert not (tmp_path / "out" / CREDITS_NAME).exists()
    assert lost not in exported("--dataset", "moved")
    assert read_credits(tmp_path / "out") == read_credits(moved)
    next(moved.glob("jazz/*.png")).unlink()
    for other in (moved, tmp_path / "nothing", run):
        told = f"--dataset: {other}: does not have the images that the model was trained on"
        assert told in exported("--dataset", other, status=2)
    another = shutil.copytree(images, tmp_path / "another")
    (another / CREDITS_NAME).write_text("who,what\n")
    told = exported("--dataset", another)
    assert f"{another}: its {CREDITS_NAME} is from another tool, and is left out" in told


def renamed(checkpoint: Checkpoint, *genres: str) -> Checkpoint:
    return replace(checkpoint, genres=list(genres))


def test_names_are_shown_as_they_are(trained: Path, command: Command, tmp_path: Path) -> None:
    names = ("[a](http://b) `c`\n# *d*", "Hip Hop / <script>", "| e | _f_", "caf\udce9")
    path = tmp_path / "x_[1].pt"
    save_checkpoint(renamed(load_checkpoint(trained), *names), path)
    command(*PROGRAM, "export", "--checkpoint", path, "--output", "out", cwd=tmp_path)
    card = card_of(tmp_path / "out")
    assert "# x\\_\\[1\\]\n" in card
    assert f"Genres: {', '.join(map(markdown, names))}.\n" in card
    assert "\\[a\\](http://b) \\`c\\`\\\\n\\# \\*d\\*, Hip Hop / \\<script\\>" in card
    assert "<script>" not in card and "\n# *d*" not in card
    links = re.findall(r"\]\((sounds/[^)]*)\)", card)
    assert len(links) == 8 and all(re.fullmatch(r"[\w/.%~-]+", link) for link in links)
    assert {unquote(link) for link in links} == {n for n in bytes_in(tmp_path / "out") if "/" in n}
    assert load_checkpoint(tmp_path / "out").genres == list(names)
    assert metadata(tmp_path / "out")["license"] == "unknown"
    code = re.findall(r"model\.sounds\((.*), seeds", card)[0]
    assert json.loads(code) == names[0]


def test_a_model_without_genres_at_a_rate_that_mp3_lacks(
    trained: Path, command: Command, tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(trained.parent / "dcgan")
    odd = replace(checkpoint.spectrogram, sample_rate=20_000)
    save_checkpoint(replace(checkpoint, spectrogram=odd), tmp_path / "x.pt")
    line = ("export", "--checkpoint", "x.pt", "--output", "out", "--sounds", 1)
    command(*PROGRAM, *line, cwd=tmp_path)
    card = card_of(tmp_path / "out")
    assert "Genres:" not in card and "model.sounds(seeds=[0, 1], seconds=10)" in card
    assert "The vocoder was" not in card  # the package's is for other images
    assert "[seed 0](sounds/seed0000.mp3)" in card
    assert soundfile.info(tmp_path / "out" / "sounds" / "seed0000.mp3").samplerate == 44_100
    tensors = safetensors.torch.load_file(tmp_path / "out" / "model.safetensors")
    assert {name.partition("/")[0] for name in tensors} == {"generator"}
