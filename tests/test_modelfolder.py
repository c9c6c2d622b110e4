"""Model folders and zips of them: what is written is read, and what is hostile is refused."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import struct
import subprocess
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from musicspectrogan import modelfolder
from musicspectrogan.modelfolder import (
    ModelFolderError,
    is_model_folder,
    read_file_beside,
    read_model_folder,
    write_model_folder,
)

NAMES = ("config.json", "model.safetensors")


def some_contents() -> dict[str, Any]:
    torch.manual_seed(0)
    return {
        "version": 1,
        "name": "Ünïcode \udcff",
        "layers": {"a.weight": torch.randn(300, 4), "a/b": torch.zeros(2, dtype=torch.int64)},
        "inner": {"deep": {"weights": {"x": torch.full((3,), 1e9)}, "empty": {}}, "none": None},
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    write_model_folder(some_contents(), tmp_path / "model")
    return tmp_path / "model"


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return one == other


def zip_of(folder: Path, start: str = "", method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name in NAMES:
            archive.write(folder / name, start + name)
    return file.getvalue()


def test_what_is_written_is_read(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == list(NAMES)
    assert same(read_model_folder(folder), some_contents())
    plain = json.loads((folder / "config.json").read_bytes())  # valid UTF-8, for other programs
    assert plain["name"] == "Ünïcode \udcff" and plain["layers"] == {}
    assert set(safetensors.torch.load_file(folder / "model.safetensors")) == {
        "layers/a.weight", "layers/a/b", "inner/deep/weights/x",
    }  # fmt: skip


def test_half_precision_is_for_what_it_can_hold(tmp_path: Path) -> None:
    contents = {
        "matrix": torch.randn(4, 4),
        "large": torch.full((2, 2), 1e5),
        "vector": torch.full((2,), 1.0001),
        "count": torch.zeros(2, 2, dtype=torch.int64),
    }
    write_model_folder(contents, tmp_path, half=True)
    found = read_model_folder(tmp_path)
    assert torch.equal(found["matrix"], contents["matrix"].half())
    assert all(same(found[name], contents[name]) for name in ("large", "vector", "count"))


def macos(folder: Path) -> bytes:
    """As the Finder packs it: a folder, and another one with what only macOS understands."""
    file = io.BytesIO(zip_of(folder, "model/"))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("model/", b"")
        for name in NAMES:
            archive.writestr(f"__MACOSX/model/._{name}", b"\0\5\x16\7 no weights")
            archive.writestr(f"__MACOSX/{name}", b"nor here")
    return file.getvalue()


def info_zip(folder: Path) -> bytes:
    line = ["zip", "-qr", str(folder.parent / "by.zip"), "model"]
    subprocess.run(line, cwd=folder.parent, check=True)
    return (folder.parent / "by.zip").read_bytes()


@pytest.mark.parametrize(
    "pack",
    [
        zip_of,
        lambda folder: zip_of(folder, "some model-main/", zipfile.ZIP_STORED),
        lambda folder: zip_of(folder, "./"),
        lambda folder: zip_of(folder, "model\\"),
        macos,
        pytest.param(
            info_zip, marks=pytest.mark.skipif(not shutil.which("zip"), reason="needs zip")
        ),
        lambda folder: zip_of(folder, "d/mine/"),
        lambda folder: zip_of(folder, "./home/../d\\mine/"),
        lambda folder: b"MZ" + bytes(1000) + zip_of(folder),
    ],
    ids=["top", "folder", "dot", "Windows", "macOS", "zip -r", "deep", "odd", "self-extracting"],
)
def test_a_zip_is_read_as_the_folder_is(pack: Callable, folder: Path) -> None:
    path = folder.with_suffix(".zip")
    path.write_bytes(pack(folder))
    assert is_model_folder(path)
    assert same(read_model_folder(path), some_contents())


def test_links_are_followed_as_in_a_cache_of_downloads(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "snapshot").mkdir()
    for name in NAMES:
        (folder / name).rename(tmp_path / f"blob {name}")
        (tmp_path / "snapshot" / name).symlink_to(Path("..") / f"blob {name}")
    assert same(read_model_folder(tmp_path / "snapshot"), some_contents())


def test_other_folders_and_files_are_no_models(folder: Path, tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, tmp_path / "x.pt")  # is a zip too
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text("{}")
    (tmp_path / "cut.zip").write_bytes(zip_of(folder)[:-30])
    (tmp_path / "text").write_text("none")
    os.mkfifo(tmp_path / "pipe")  # would block whoever opens it
    for name in ("x.pt", "run", "cut.zip", "text", "pipe", "nothing"):
        assert not is_model_folder(tmp_path / name), name


def test_asking_costs_little_however_large_the_file_is(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive, archive.open("archive/data/0", "w") as entry:
        for _ in range(64):
            entry.write(bytes(1 << 20))
    tracemalloc.start()
    assert not is_model_folder(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def encrypted(folder: Path) -> bytes:
    """The bytes of the files are not encrypted, but are said to be."""
    packed = bytearray(zip_of(folder))
    for start, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = packed.find(start)
        while at >= 0:
            packed[at + offset] |= 1
            at = packed.find(start, at + 1)
    return bytes(packed)


def with_member(folder: Path, name: str, body: bytes) -> bytes:
    """A zip with another member beside those of the folder."""
    file = io.BytesIO(zip_of(folder))
    with zipfile.ZipFile(file, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr(name, body)  # Python warns of a name that is there already
    return file.getvalue()


def packed(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, body in members:
            archive.writestr(zipfile.ZipInfo(name), body, method)
    return file.getvalue()


def lying(size: int, method: int) -> bytes:
    """A zip of 64 MB of zeros in few bytes, whose directory gives another size."""
    body = packed((NAMES[0], b"{}"), (NAMES[1], bytes(1 << 26)), method=method)
    return body.replace(struct.pack("<I", 1 << 26), struct.pack("<I", size))


@pytest.mark.parametrize(
    ("make", "reported"),
    [
        (encrypted, "encrypted"),
        (lambda f: zip_of(f, method=zipfile.ZIP_LZMA), "another method than deflate"),
        (lambda f: zip_of(f, method=zipfile.ZIP_BZIP2), "another method than deflate"),
        (lambda f: with_member(f, "model.safetensors", b"1"), "2 files model.safetensors"),
        (lambda f: with_member(f, "other/model.safetensors", b"1"), "2 files model.safetensors"),
        (lambda f: with_member(f, "a/b/model.safetensors", b"1"), "2 files model.*; pack one mod"),
        (lambda f: with_member(f, "config.json", b"{}"), "2 files config.json"),
        (
            lambda f: packed(("a/model.safetensors", b""), ("b/config.json", b"{}")),
            "it has no config.json",
        ),
        (lambda f: packed(("model.safetensors", b"")), "it has no config.json"),
        (lambda f: lying(1 << 26, zipfile.ZIP_DEFLATED), "much larger than the zip"),
        (lambda f: lying(2000, zipfile.ZIP_DEFLATED), "CRC"),
        (lambda f: lying(2000, zipfile.ZIP_BZIP2), "another method"),
    ],
)
def test_hostile_zips_are_refused_in_little_memory(
    make: Callable[[Path], bytes], reported: str, folder: Path
) -> None:
    path = folder.with_suffix(".zip")
    path.write_bytes(make(folder))
    assert is_model_folder(path)
    tracemalloc.start()
    with pytest.raises(ModelFolderError, match=reported):
        read_model_folder(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


def test_a_link_in_a_zip_is_not_followed(folder: Path, tmp_path: Path) -> None:
    link = zipfile.ZipInfo("config.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(folder / "model.safetensors", "model.safetensors")
        archive.writestr(link, str(folder / "config.json"))
    with pytest.raises(ModelFolderError):
        read_model_folder(path)


CONFIG = json.dumps({"a": {}, "b": 1}).encode()


def header(text: bytes, size: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if size is None else size) + text


@pytest.mark.parametrize(
    ("config", "weights", "reported"),
    [
        (b"", None, "Expecting value"),
        (b"[]", None, "config.json holds no settings"),
        (b"null", None, "config.json holds no settings"),
        (b"[" * 200_000, None, "recursion"),
        (b'{"a":' * 200_000, None, "recursion"),
        (b"9" * 5000, None, "digits"),
        (b"\xff\xfe\x00", None, ""),
        (b'{"a": "' + b"x" * (5 << 20) + b'"}', None, "the text in config.json is too long"),
        (CONFIG, b"", ""),
        (CONFIG, b"1234567", ""),
        (CONFIG, b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (CONFIG, header(b"{}", 2**64 - 1), "the text in model.safetensors is too long"),
        (CONFIG, header(b"{}" + b" " * (5 << 20)), "the text in model.safetensors is too long"),
        (CONFIG, header(b"[" * 100_000), ""),
        (CONFIG, header(b'{"x":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'), ""),
        (
            CONFIG,
            header(b'{"x":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}'),
            "",
        ),
        (
            CONFIG,
            header(
                b'{"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},'
                b'"y":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}'
            )
            + bytes(6),
            "",
        ),
        (CONFIG, header(b'{"x":{"dtype":"PY","shape":[],"data_offsets":[0,0]}}'), ""),
        (CONFIG, safetensors.torch.save({"b": torch.zeros(1)}), "'b' is there twice"),
        (CONFIG, safetensors.torch.save({"a": torch.zeros(1)}), "'a' is there twice"),
    ],
    ids=range(20),
)
def test_hostile_files_are_refused(
    config: bytes, weights: bytes | None, reported: str, folder: Path
) -> None:
    (folder / "config.json").write_bytes(config)
    if weights is not None:
        (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(ModelFolderError, match=reported or None) as refused:
        read_model_folder(folder)
    assert len(str(refused.value)) <= 200 and "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["a//b", "../x", "/", "x/y/z", "b/c", "", "a/" * 50_000])
def test_the_name_of_a_tensor_is_a_name_and_no_path(name: str, folder: Path) -> None:
    (folder / "config.json").write_bytes(CONFIG)
    (folder / "model.safetensors").write_bytes(safetensors.torch.save({name: torch.ones(1)}))
    contents = read_model_folder(folder)
    inner = name.removeprefix("a/") if name.startswith("a/") else None
    found = contents["a"][inner] if inner is not None else contents[name]
    assert torch.equal(found, torch.ones(1)) and contents["b"] == 1
    assert sorted(path.name for path in folder.iterdir()) == list(NAMES)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(ModelFolderError, match=r"it has no config\.json"):
        read_model_folder(folder)


def test_what_may_not_be_read_is_not_called_damaged(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(PermissionError, match="Permission denied"):
        read_model_folder(folder)


def test_a_file_beside_the_weights_is_read(folder: Path, tmp_path: Path) -> None:
    (folder / "notes").write_text("x")
    packed = tmp_path / "x.zip"
    packed.write_bytes(with_member(folder, "notes", b"x"))
    for path in (folder, packed):
        assert read_file_beside(path, "notes") == b"x"
        assert read_file_beside(path, "other") is None
    packed.write_bytes(packed.read_bytes().replace(b"PK\3\4", b"PK\3\5"))
    with pytest.raises(ModelFolderError, match="magic"):
        read_file_beside(packed, "notes")


def test_a_failed_write_leaves_both_files_as_they_were(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> bytes:
        raise OSError(28, "No space left on device")

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(modelfolder, "save", full)
    with pytest.raises(OSError, match="No space"):
        write_model_folder({"version": 2}, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
