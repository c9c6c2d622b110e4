from __future__ import annotations

import io
import os
import pickle
import re
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

from musicspectrogan import models
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.config import to_plain
from musicspectrogan.errors import UserError
from musicspectrogan.models import ModelConfig
from musicspectrogan.training.checkpoint import Checkpoint, save_checkpoint
from musicspectrogan.training.run_checkpoints import (
    keep_checkpoint,
    load_checkpoint,
    newest_checkpoint,
)
from musicspectrogan.training.settings import TrainingConfig


def a_checkpoint(epoch: int = 3) -> Checkpoint:
    torch.manual_seed(epoch)
    model = ModelConfig(64, 4, 5, 2)
    generator, discriminator = models.build("cgan", model)
    optimizer = torch.optim.Adam(generator.parameters())
    return Checkpoint(
        gan="cgan",
        model=model,
        training=to_plain(TrainingConfig(gan="cgan", dataset=Path("somewhere"), width=4)),
        genres=["blues", "jazz"],
        spectrogram=SpectrogramConfig(f_max=7000.0),
        generator=generator.state_dict(),
        discriminator=discriminator.state_dict(),
        ema=generator.state_dict(),
        optimizer_g=optimizer.state_dict(),
        optimizer_d=optimizer.state_dict(),
        epoch=epoch,
        step=10 * epoch,
        images_seen=640 * epoch,
        dataset_fingerprint="abc",
    )


def test_what_is_saved_is_loaded(tmp_path):
    saved = a_checkpoint()
    save_checkpoint(saved, tmp_path / "x.pt")
    loaded = load_checkpoint(tmp_path / "x.pt")
    for name in (
        "gan",
        "model",
        "training",
        "genres",
        "spectrogram",
        "epoch",
        "step",
        "dataset_fingerprint",
    ):
        assert getattr(loaded, name) == getattr(saved, name), name
    assert all(torch.equal(loaded.ema[name], saved.ema[name]) for name in saved.ema)
    generator = loaded.build_ema_generator()
    assert not generator.training
    assert generator(torch.zeros(2, 5), torch.tensor([0, 1])).shape == (2, 1, 64, 64)


def test_the_file_needs_nothing_but_torch_and_plain_values(tmp_path):
    save_checkpoint(a_checkpoint(), tmp_path / "x.pt")
    contents = torch.load(tmp_path / "x.pt", weights_only=True)
    assert contents["format_version"] == 1
    assert contents["genres"] == ["blues", "jazz"]
    assert contents["spectrogram"]["f_max"] == 7000.0


def test_only_the_newest_are_kept_and_latest_shares_the_file(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    for epoch in (1, 2, 3, 10):
        keep_checkpoint(a_checkpoint(epoch), tmp_path, keep=2)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["epoch_0003.pt", "epoch_0010.pt", "latest.pt"]
    assert (tmp_path / "checkpoints" / "latest.pt").samefile(
        tmp_path / "checkpoints" / "epoch_0010.pt"
    )
    assert load_checkpoint(tmp_path).epoch == 10


@pytest.mark.parametrize(
    ("epochs", "kept"),
    [
        ((8, 9, 10, 5), ["epoch_0005.pt"]),
        ((9998, 9999, 10000), ["epoch_10000.pt", "epoch_9999.pt"]),
    ],
    ids=["back to an older one", "five digits"],
)
def test_newest_means_by_number_up_to_the_one_just_written(epochs, kept, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    for epoch in epochs:
        keep_checkpoint(a_checkpoint(epoch), tmp_path, keep=2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        *kept,
        "latest.pt",
    ]
    assert load_checkpoint(tmp_path).epoch == epochs[-1]


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "x.pt"
    save_checkpoint(a_checkpoint(1), path)
    monkeypatch.setattr(
        os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(OSError):
        save_checkpoint(a_checkpoint(2), path)
    monkeypatch.undo()
    assert load_checkpoint(path).epoch == 1
    assert [p.name for p in tmp_path.iterdir()] == ["x.pt"]


@pytest.mark.parametrize("damage", ["empty", "cut", "zeros", "gone"])
def test_a_run_goes_on_from_its_newest_sound_checkpoint(tmp_path, caplog, damage):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for epoch in (1, 2, 3):
        keep_checkpoint(a_checkpoint(epoch), tmp_path, keep=3)
    whole = (folder / "latest.pt").read_bytes()
    kinds = {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "zeros": bytes(len(whole)),
        "gone": None,
    }
    damaged = kinds[damage]
    for name in ("latest.pt", "epoch_0003.pt"):
        (folder / name).unlink()
        if damaged is not None:
            (folder / name).write_bytes(damaged)
    assert load_checkpoint(tmp_path).epoch == 2
    assert newest_checkpoint(tmp_path)[0] == folder / "epoch_0002.pt"
    told = f"{folder / 'latest.pt'}, {folder / 'epoch_0003.pt'} cannot be read; using"
    assert all(told in message for message in caplog.messages)
    assert bool(caplog.messages) == (damage != "gone")
    if damage != "gone":
        with pytest.raises(UserError, match="is damaged"):  # what is named is not passed over
            load_checkpoint(folder / "latest.pt")


def test_a_run_without_any_sound_checkpoint_is_refused(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "latest.pt").touch()
    with pytest.raises(UserError, match="no checkpoint of 1 can be read; start a new run"):
        load_checkpoint(tmp_path)


class Harmful:
    """Unpickled by a careless reader, this makes a folder."""

    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self):
        return (os.mkdir, (str(self.evidence),))


@pytest.mark.parametrize("kind", ["missing", "cut", "text", "other", "later", "harmful", "pickle"])
def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path, kind):
    path, evidence = tmp_path / "x.pt", tmp_path / "executed"
    save_checkpoint(a_checkpoint(), path)
    if kind == "missing":
        path.unlink()
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "text":
        path.write_text("these are no weights")
    elif kind == "other":
        torch.save({"weights": torch.zeros(3)}, path)
    elif kind == "later":
        torch.save({"format_version": 99}, path)
    elif kind == "harmful":
        torch.save({"format_version": 1, "gan": Harmful(evidence)}, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Harmful(evidence), protocol=2))
    with pytest.raises(UserError) as told:
        load_checkpoint(path)
    assert str(path) in str(told.value) and "\n" not in str(told.value)
    assert not evidence.exists()


def test_a_run_without_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match="no checkpoint in it"):
        load_checkpoint(tmp_path)


def contents_of(path: Path) -> dict:
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"genres": ["blues", 7]}, "genres: 7 is not text"),
        ({"genres": ["blues"]}, "1 genres for a model of 2"),
        ({"genres": ["blues", "blues"]}, "2 genres for a model of 2"),
        ({"genres": ["blues", ""]}, "a genre whose name is empty or too long"),
        ({"genres": ["blues", "x" * 2000]}, "a genre whose name is empty or too long"),
        ({"gan": "../../x"}, "is not one of anylength_cgan, anylength_gan, cgan, dcgan"),
        ({"epoch": -1}, "a negative position"),
        ({"step": 10**30}, "step: the number is too large"),
        ({"images_seen": 1.5}, "images_seen: 1.5 is not a whole number"),
        ({"training": {"epochs": "many"}}, "epochs: 'many' is not a whole number"),
        ({"training": {"pochs": 3}}, "'pochs' is unknown"),
        ({"training": {}}, "no dataset in its settings"),
        ({"quality": {"a": "good"}}, "quality: 'good' is not a number"),
        ({"ema": {}}, "the generator has other layers"),
        ({"optimizer_d": None}, "optimizer_d: None is not names and values"),
        ({"another": 1}, "'another' is unknown"),
    ],
)
def test_parts_of_the_wrong_kind_are_named(tmp_path, change, told):
    path = tmp_path / "x.pt"
    save_checkpoint(a_checkpoint(), path)
    torch.save({**contents_of(path), **change}, path)
    with pytest.raises(UserError, match=re.escape(told)):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("part", "change", "told"),
    [
        ("model", {"width": 10**9}, "width: 1000000000 is not allowed"),
        (
            "model",
            {"width": 512},
            "differs in shape or type from its model's",
        ),  # gigabytes, if it were built
        ("model", {"image_size": 2**40}, "image_size"),
        ("model", {"image_size": 128}, "64 mel bands in images of 128 rows"),
        ("model", {"latent_dim": -1}, "latent_dim"),
        ("model", {"n_genres": 10**9}, "n_genres"),
        ("model", {"width": float("nan")}, "width: nan is not a whole number"),
        ("spectrogram", {"n_mels": 10**9}, "n_mels: 1000000000 is not allowed"),
        ("spectrogram", {"n_fft": 2**40}, "n_fft"),
        ("spectrogram", {"sample_rate": 0}, "sample_rate: 0 is not allowed"),
        ("spectrogram", {"hop_length": 0.5}, "hop_length: 0.5 is not a whole number"),
        ("spectrogram", {"f_max": float("nan")}, "f_max: nan"),
        ("spectrogram", {"top_db": float("inf")}, "top_db: inf"),
    ],
)
def test_absurd_settings_are_refused_before_anything_is_built(tmp_path, part, change, told):
    path = tmp_path / "x.pt"
    save_checkpoint(a_checkpoint(), path)
    contents = contents_of(path)
    contents[part].update(change)
    torch.save(contents, path)
    with pytest.raises(UserError, match=re.escape(told)):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["generator", "ema", "discriminator"])
@pytest.mark.parametrize(
    "weights",
    [
        torch.zeros(3),
        torch.zeros(1).expand(2**20, 2**20),
        torch.full((1, 1, 1, 1), torch.nan),
        "like",
        "nan",
        "expanded",
    ],
    ids=["another shape", "endless", "another shape of NaN", "another type", "NaN", "expanded"],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, name, weights):
    path = tmp_path / "x.pt"
    save_checkpoint(a_checkpoint(), path)
    contents = contents_of(path)
    key = next(key for key in contents[name] if key.endswith("weight"))
    before = contents[name][key]
    made = {
        "like": before.double(),
        "nan": before * torch.nan,
        "expanded": torch.zeros(1).expand(before.shape),
    }
    contents[name][key] = made[weights] if isinstance(weights, str) else weights
    torch.save(contents, path)
    with pytest.raises(UserError, match=f"{re.escape(key)}|bytes that are not in the file"):
        load_checkpoint(path)


def repacked(source: Path, compression: int = zipfile.ZIP_STORED, **replaced: bytes) -> bytes:
    """The zip file with some of its entries, named by the end of their names, replaced."""
    file = io.BytesIO()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(file, "w", compression) as new:
        for name in old.namelist():
            body = next(
                (body for end, body in replaced.items() if name.endswith(end)), old.read(name)
            )
            new.writestr(zipfile.ZipInfo(name), body, compression)
    return file.getvalue()


def test_zip_bombs_and_pickles_that_grow_are_refused(tmp_path):
    path, plain = tmp_path / "x.pt", tmp_path / "plain.pt"
    save_checkpoint(a_checkpoint(), plain)
    path.write_bytes(repacked(plain))
    assert load_checkpoint(path).epoch == 3
    bomb = pickle.dumps({"format_version": 1})
    for _ in range(40):  # each doubles it
        bomb = b"c_codecs\nencode\n" + bomb.removesuffix(b".") + b"X\3\0\0\0hex\x86R."
    for bad in (
        repacked(plain, zipfile.ZIP_DEFLATED),
        repacked(plain, zipfile.ZIP_DEFLATED, **{"data/0": bytes(2**26)}),
        repacked(plain, pkl=b"\x80\2" + bomb),
        b"MZ" + plain.read_bytes(),
    ):
        path.write_bytes(bad)
        with pytest.raises(UserError, match="is damaged or not a checkpoint"):
            load_checkpoint(path)
    torch.save(contents_of(plain), path, _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match="is damaged or not a checkpoint"):
        load_checkpoint(path)


class Marker:
    """Unpickled by a careless reader, this runs a command of the shell that writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (os.system, (f"touch '{self.marker}'",))


@pytest.mark.parametrize("kind", ["bare", "in the archive", "beside sound parts", "legacy", "tar"])
def test_nothing_in_a_checkpoint_is_executed_by_any_command(tmp_path, command, kind):
    path, plain, marker = tmp_path / "x.pt", tmp_path / "plain.pt", tmp_path / "marker"
    save_checkpoint(a_checkpoint(), plain)
    evil = pickle.dumps(Marker(marker), protocol=2)
    if kind == "bare":
        path.write_bytes(evil)
    elif kind == "in the archive":
        path.write_bytes(repacked(plain, pkl=evil))
    elif kind == "beside sound parts":
        torch.save({**contents_of(plain), "quality": {"a": Marker(marker)}}, path)
    elif kind == "legacy":
        torch.save(
            {"format_version": 1, "gan": Marker(marker)}, path, _use_new_zipfile_serialization=False
        )
    else:
        with tarfile.open(path, "w") as archive:
            for name in ("storages", "tensors", "pickle"):
                entry = tarfile.TarInfo(name)
                entry.size = len(evil)
                archive.addfile(entry, io.BytesIO(evil))
    told = command("-m", "musicspectrogan", "info", path, cwd=tmp_path, status=2)
    assert "is damaged or not a checkpoint of this tool" in told.stderr
    assert not marker.exists()
    pickle.loads(evil)  # the file does what it is made for
    assert marker.exists()


def test_settings_that_a_checkpoint_does_not_name_have_their_defaults(tmp_path):
    path = tmp_path / "x.pt"
    save_checkpoint(a_checkpoint(), path)
    contents = contents_of(path)
    del contents["training"]["init_from"], contents["training"]["windows"]
    torch.save(contents, path)
    assert load_checkpoint(path).training == a_checkpoint().training
