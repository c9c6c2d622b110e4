"""Torch files: written atomically, read on any device, and safe to read if untrusted."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from musicspectrogan.errors import UserError
from musicspectrogan.torchfiles import (
    TorchFileError,
    check_weights,
    read_torch_file,
    write_torch_file,
)


def contents() -> dict:
    """Everything that a torch file may hold."""
    weight = torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last)
    return {
        "weights": [{"weight": weight, "count": torch.tensor(3)}],
        "betas": (0.5, 0.999),
        "none": None,
        "flag": True,
        "text": "ü",
        7: -1,
    }


@pytest.fixture
def path(tmp_path) -> Path:
    """A file of the contents."""
    write_torch_file(contents(), tmp_path / "x.pt")
    return tmp_path / "x.pt"


def test_what_is_written_is_read(path):
    read = read_torch_file(path)
    weights, expected = read.pop("weights")[0], contents()
    assert torch.equal(weights["weight"], expected["weights"][0]["weight"])
    assert weights["weight"].is_contiguous(memory_format=torch.channels_last)
    assert weights["count"].item() == 3 and weights["count"].dtype == torch.int64
    del expected["weights"]
    assert read == expected
    assert [p.name for p in path.parent.iterdir()] == ["x.pt"]


def test_what_was_saved_from_a_gpu_is_read_without_one(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save(contents(), tmp_path / "x.pt")
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(tmp_path / "x.pt", weights_only=True)
    assert read_torch_file(tmp_path / "x.pt")["weights"][0]["weight"].device.type == "cpu"


def test_a_file_is_written_from_copies_on_the_cpu(tmp_path, monkeypatch):
    """Tested without a GPU: Tensor.cpu is replaced with a function that adds 1."""
    monkeypatch.setattr(Tensor, "cpu", lambda tensor: tensor + 1)
    write_torch_file([nn.Linear(2, 2).state_dict(), (torch.zeros(3),)], tmp_path / "x.pt")
    assert torch.equal(read_torch_file(tmp_path / "x.pt")[1][0], torch.ones(3))


def test_a_failed_write_leaves_the_file_as_it_was(path, monkeypatch):
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_torch_file({}, path)
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == ["x.pt"]


def test_a_file_that_cannot_be_opened_is_not_called_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_torch_file(tmp_path / "x.pt")
    with pytest.raises(IsADirectoryError):
        read_torch_file(tmp_path)


def repacked(
    source: Path, *, compression: int = zipfile.ZIP_STORED, upper: str = "", data: bytes = b""
) -> bytes:
    """The zip file, compressed, with an entry's name in upper case or with another pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(file, "w", compression) as new:
        for name in old.namelist():
            body = data if data and name.endswith("data.pkl") else old.read(name)
            new.writestr(name.replace(upper, upper.upper()), body)
    return file.getvalue()


EVIL = b"cos\nmkdir\n(X\6\0\0\0harmedtR."
# Reserves 64 GiB from 50 bytes.
GROWING = b"ctorch.storage\nUntypedStorage\n(\x8a\5\0\0\0\0\x10tR."
ENCODED = b"c_codecs\nencode\n(X\1\0\0\0aX\6\0\0\0latin1tR."


@pytest.mark.parametrize("pickled", [EVIL, GROWING, ENCODED])
def test_a_pickle_names_nothing_but_tensors(pickled, path, monkeypatch):
    monkeypatch.chdir(path.parent)
    path.write_bytes(repacked(path, data=pickled))
    with pytest.raises(
        TorchFileError, match=r"^names (os mkdir|torch\.storage Untyped|_codecs encode)"
    ):
        read_torch_file(path)
    assert [p.name for p in path.parent.iterdir()] == ["x.pt"]


def test_the_pickle_is_checked_under_any_name_that_torch_reads_it_by(path):
    path.write_bytes(repacked(path, upper="data.pkl", data=ENCODED))  # case means nothing to torch
    with pytest.raises(TorchFileError):
        read_torch_file(path)


def test_what_torch_would_read_in_the_bytes_of_another_archive_is_not_read(path):
    """Of two concatenated archives of one size, torch reads the first, Python the second."""
    second = repacked(path)
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
        size = archive.getinfo(name).file_size
    first = repacked(path, data=ENCODED.ljust(size, b"\0"))
    assert len(first) == len(second)
    path.write_bytes(first + second)
    assert read_torch_file(path)["text"] == "ü"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda whole, path: whole[:-100],
        lambda whole, path: whole[: len(whole) // 2],
        lambda whole, path: b"",
        lambda whole, path: b"no weights" * 99,
        lambda whole, path: b"MZ" + whole,
        lambda whole, path: repacked(path, compression=zipfile.ZIP_DEFLATED),
        lambda whole, path: pickle.dumps({"weights": 1}),
        lambda whole, path: whole.replace(struct.pack("<f", 23.0), struct.pack("<f", 22.0)),
    ],
    ids=["cut", "half", "empty", "text", "prefix", "compressed", "pickle", "changed value"],
)
def test_a_damaged_file_is_refused(spoil, path):
    path.write_bytes(spoil(path.read_bytes(), path))
    with pytest.raises(TorchFileError, match="not as torch"):
        read_torch_file(path)


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(1).expand(2**20, 2**20),
        torch.zeros(2).to_sparse(),
        torch.zeros(2, device="meta"),
        nn.Parameter(torch.zeros(2)),
        torch.float64,
        b"bytes",
        {1, 2},
        1j,
    ],
    ids=["expanded", "sparse", "meta", "parameter", "dtype", "bytes", "set", "complex"],
)
def test_only_plain_values_and_whole_tensors_are_read(value, tmp_path):
    torch.save({"a": [1, {"b": (value,)}]}, tmp_path / "x.pt")
    with pytest.raises(TorchFileError, match=r"not in the file|^names "):
        read_torch_file(tmp_path / "x.pt")


def test_lists_nested_in_themselves_are_read_fast(tmp_path):
    value: list = [1]
    for _ in range(60):
        value = [value, value]
    value.append(value)
    torch.save(value, tmp_path / "x.pt")
    assert len(read_torch_file(tmp_path / "x.pt")) == 3


@pytest.mark.parametrize(
    ("change", "reported"),
    [
        (lambda weights: None, "other layers"),
        (lambda weights: {"weight": weights["weight"]}, "other layers"),
        (lambda weights: {**weights, "bias": [0.0, 0.0]}, "bias differs in shape or type"),
        (lambda weights: {**weights, "bias": torch.zeros(3)}, "bias differs in shape or type"),
        (
            lambda weights: {**weights, "bias": torch.zeros(2).double()},
            "bias differs in shape or type",
        ),
        (
            lambda weights: {**weights, "bias": torch.tensor([0.0, torch.inf])},
            "bias holds numbers that are not finite",
        ),
    ],
)
def test_weights_must_be_those_of_the_network(change, reported):
    network = nn.Linear(2, 2, device="meta")
    weights = nn.Linear(2, 2).state_dict()
    check_weights("network", dict(weights), network)
    with pytest.raises(UserError, match=f"the network.* {reported}|the network's {reported}"):
        check_weights("network", change(weights), network)
