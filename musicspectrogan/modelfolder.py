"""Model folders: tensors in safetensors and plain values in JSON, as a folder or a zip of it.

Nothing in them can run code. https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from musicspectrogan.filesystem import atomic_write

WEIGHTS_NAME, CONFIG_NAME = "model.safetensors", "config.json"
# Between the keys of nested dicts, in the names of tensors.
SEPARATOR = "/"
# A file in a zip may have at most this multiple of the zip's size: weights hardly compress.
MOST_COMPRESSION = 4
# Of the plain values, and of the names and shapes of tensors; parsing takes a multiple in memory.
MOST_BYTES_OF_TEXT = 4 << 20
# What a clone without Git LFS has in place of the weights.
LFS_POINTER = b"version https://git-lfs"


class ModelFolderError(Exception):
    """The folder or zip is damaged, or holds something else; the text says what."""


def is_model_folder(path: Path) -> bool:
    """Whether this is a folder or a zip with the weights of a model, intact or not."""
    if path.is_dir():
        return (path / WEIGHTS_NAME).is_file()
    if not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return bool(_members(archive, WEIGHTS_NAME))
    except Exception:  # the file may hold anything
        return False


def write_model_folder(contents: dict[str, Any], folder: Path, *, half: bool = False) -> None:
    """Write nested dicts of tensors and plain values into a folder that exists.

    Args:
        half: store matrices and kernels in half precision, where that holds their values. Vectors
            take little space and may have large values, such as the variances of a BatchNorm.
    """
    tensors: dict[str, Tensor] = {}
    plain = _take_tensors(contents, (), tensors)
    if half:
        tensors = {name: _halved(tensor) for name, tensor in tensors.items()}
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(plain, indent=1, ensure_ascii=False) + "\n"
    # Both files are complete before the first is renamed, so a kill rarely leaves only one of them.
    with (
        atomic_write(folder / CONFIG_NAME) as config,
        atomic_write(folder / WEIGHTS_NAME) as weights,
    ):
        weights.write_bytes(save(tensors, metadata={"format": "pt"}))
        # A lone surrogate, in a file name that is not Unicode, becomes a JSON escape.
        config.write_bytes(text.encode("utf-8", "backslashreplace"))


def read_model_folder(path: Path) -> dict[str, Any]:
    """Read what `write_model_folder` wrote, from the folder or from a zip of it.

    The files may be untrusted: reading takes a small multiple of their size in memory.

    Raises:
        OSError: a file cannot be read.
        ModelFolderError: it is damaged.
    """
    with _as_damage():
        config, weights = _read_files(path, CONFIG_NAME, WEIGHTS_NAME)
        if config is None or weights is None:
            raise ModelFolderError(f"it has no {CONFIG_NAME if config is None else WEIGHTS_NAME}")
        if weights.startswith(LFS_POINTER):
            raise ModelFolderError(f"{WEIGHTS_NAME} is a pointer of Git LFS: run `git lfs pull`")
        for name, size in (
            (CONFIG_NAME, len(config)),
            (WEIGHTS_NAME, int.from_bytes(weights[:8], "little")),
        ):
            if size > MOST_BYTES_OF_TEXT:
                raise ModelFolderError(f"the text in {name} is too long")
        contents = json.loads(config)
        if not isinstance(contents, dict):
            raise ModelFolderError(f"{CONFIG_NAME} holds no settings")
        for name, tensor in load(weights).items():
            _put(contents, name, tensor)
        return contents


def read_file_beside(path: Path, name: str) -> bytes | None:
    """Read another file that is beside the weights, in the folder or zip; None if there is none.

    Raises:
        OSError: it cannot be read.
        ModelFolderError: it is damaged.
    """
    with _as_damage():
        return _read_files(path, name)[0]


@contextmanager
def _as_damage() -> Iterator[None]:
    """Raise ModelFolderError for whatever is raised by files that may hold anything."""
    try:
        yield
    except ModelFolderError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # cannot be opened; a zip with wrong offsets raises others
        raise ModelFolderError(str(error).partition("\n")[0][:200]) from error


def _take_tensors(value: Any, path: tuple[str, ...], tensors: dict[str, Tensor]) -> Any:
    """A copy of nested dicts without their tensors, which are added to `tensors` by name."""
    if not isinstance(value, dict):
        return value
    plain = {}
    for key, item in value.items():
        if isinstance(item, Tensor):
            tensors[SEPARATOR.join((*path, key))] = item
        else:
            plain[key] = _take_tensors(item, (*path, key), tensors)
    return plain


def _put(contents: dict[str, Any], name: str, tensor: Tensor) -> None:
    """Put a tensor into the dict that its name leads to."""
    place, key = contents, name
    while True:
        parent, _, rest = key.partition(SEPARATOR)
        inner = place.get(parent)
        if not (rest and isinstance(inner, dict)):
            break
        place, key = inner, rest
    if key in place:
        raise ModelFolderError(f"{name[:80]!r} is there twice")
    place[key] = tensor


def _halved(tensor: Tensor) -> Tensor:
    if tensor.is_floating_point() and tensor.ndim > 1:
        half = tensor.half()
        if half.isfinite().all():
            return half
    return tensor


def _read_files(path: Path, *names: str) -> list[bytes | None]:
    """The bytes of files beside the weights; None for those that are not there."""
    if path.is_dir():
        return [(path / n).read_bytes() if (path / n).is_file() else None for n in names]
    with zipfile.ZipFile(path) as archive:
        weights = _members(archive, WEIGHTS_NAME)
        if not weights:
            raise ModelFolderError(f"it has no {WEIGHTS_NAME}")
        if len(weights) > 1:
            raise ModelFolderError(f"it has {len(weights)} files {WEIGHTS_NAME}; pack one model")
        folder = weights[0].filename.removesuffix(WEIGHTS_NAME)
        most = MOST_COMPRESSION * path.stat().st_size
        return [_unpacked(archive, folder + name, most) for name in names]


def _members(archive: zipfile.ZipFile, name: str) -> list[zipfile.ZipInfo]:
    """The files of that name in a zip, in whatever folders."""
    found = []
    for entry in archive.infolist():
        if entry.filename.endswith(name):
            # Some programs on Windows write backslashes, others begin with "./".
            *folders, last = entry.filename.replace("\\", "/").removeprefix("./").split("/")
            if last == name and "__MACOSX" not in folders:
                found.append(entry)
    return found


def _unpacked(archive: zipfile.ZipFile, name: str, most: int) -> bytes | None:
    """The bytes of a file in a zip, at most as many as it declares; None if it is not there."""
    entries = [entry for entry in archive.infolist() if entry.filename == name]
    if not entries:
        return None
    if len(entries) > 1:
        raise ModelFolderError(f"it has {len(entries)} files {name}")
    (entry,) = entries
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ModelFolderError(f"{name} is packed by another method than deflate")
    if entry.file_size > most:
        raise ModelFolderError(f"{name} is much larger than the zip")
    with archive.open(entry) as file:
        # Without a size, Python unpacks everything that is there before it looks at the size.
        return file.read(entry.file_size)
