from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from musicspectrogan import models
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.config import to_plain
from musicspectrogan.errors import UserError
from musicspectrogan.models import ModelConfig
from musicspectrogan.training.checkpoint import (
    Checkpoint,
    keep_checkpoint,
    load_checkpoint,
    save_checkpoint,
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
    for name in ("gan", "model", "training", "genres", "spectrogram", "epoch", "step", "dataset_fingerprint"):
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
    assert (tmp_path / "checkpoints" / "latest.pt").samefile(tmp_path / "checkpoints" / "epoch_0010.pt")
    assert load_checkpoint(tmp_path).epoch == 10


@pytest.mark.parametrize(
    ("epochs", "kept"),
    [((8, 9, 10, 5), ["epoch_0005.pt"]), ((9998, 9999, 10000), ["epoch_10000.pt", "epoch_9999.pt"])],
    ids=["back to an older one", "five digits"],
)
def test_newest_means_by_number_up_to_the_one_just_written(epochs, kept, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    for epoch in epochs:
        keep_checkpoint(a_checkpoint(epoch), tmp_path, keep=2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [*kept, "latest.pt"]
    assert load_checkpoint(tmp_path).epoch == epochs[-1]


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "x.pt"
    save_checkpoint(a_checkpoint(1), path)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError):
        save_checkpoint(a_checkpoint(2), path)
    monkeypatch.undo()
    assert load_checkpoint(path).epoch == 1
    assert [p.name for p in tmp_path.iterdir()] == ["x.pt"]


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
