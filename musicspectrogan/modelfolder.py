"""Model folders: tensors in safetensors and plain values in JSON, as a folder or a zip of it.

Nothing in them can run code. https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from musicspectrogan.filesystem import atomic_write, write_text

WEIGHTS_NAME, CONFIG_NAME = "model.safetensors", "config.json"
# Between the keys of nested dicts, in the names of tensors.
SEPARATOR = "/"
# A zip may not unpack to more than this multiple of its own size: weights hardly compress.
MOST_COMPRESSION = 20


class ModelFolderError(Exception):
    """The folder or zip is damaged, or holds something else; the text says what."""


def is_model_folder(path: Path) -> bool:
    """Whether this is a folder or a zip with the files of a model."""
    if path.is_dir():
        return (path / WEIGHTS_NAME).is_file() and (path / CONFIG_NAME).is_file()
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return _member(archive, WEIGHTS_NAME) is not None
    except (OSError, zipfile.BadZipFile):
        return False


def write_model_folder(contents: dict[str, Any], folder: Path, *, half: bool = False) -> None:
    """Write nested dicts of tensors and plain values into a folder that exists, atomically.

    Args:
        half: store floating-point tensors in half precision.
    """
    tensors: dict[str, Tensor] = {}
    plain = _take_tensors(contents, (), tensors)
    if half:
        tensors = {k: t.half() if t.is_floating_point() else t for k, t in tensors.items()}
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(folder / WEIGHTS_NAME) as temporary:
        temporary.write_bytes(save(tensors, metadata={"format": "pt"}))
    write_text(folder / CONFIG_NAME, json.dumps(plain, indent=1, ensure_ascii=False) + "\n")


def read_model_folder(path: Path) -> dict[str, Any]:
    """Read what `write_model_folder` wrote, from the folder or from a zip of it.

    Raises:
        OSError: a file cannot be read.
        ModelFolderError: it is damaged.
    """
    try:
        contents = json.loads(_read(path, CONFIG_NAME))
        tensors = load(_read(path, WEIGHTS_NAME))
        if not isinstance(contents, dict):
            raise ModelFolderError(f"{CONFIG_NAME} holds no settings")
        for name, tensor in tensors.items():
            *parents, key = name.split(SEPARATOR)
            place = contents
            for parent in parents:
                place = place.setdefault(parent, {})
            place[key] = tensor
    except (OSError, ModelFolderError):
        raise
    except Exception as error:  # the files may hold anything
        raise ModelFolderError(str(error).partition("\n")[0][:200]) from error
    return contents


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


def _read(path: Path, name: str) -> bytes:
    if path.is_dir():
        return (path / name).read_bytes()
    with zipfile.ZipFile(path) as archive:
        member = _member(archive, name)
        if member is None:
            raise ModelFolderError(f"it has no {name}")
        if member.file_size > MOST_COMPRESSION * path.stat().st_size:
            raise ModelFolderError(f"{name} is much larger than the zip")
        return archive.read(member)


def _member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo | None:
    """The file of that name in a zip, at its top or in the only folder that is there."""
    found = [
        entry
        for entry in archive.infolist()
        if entry.filename == name
        or (entry.filename.count("/") == 1 and entry.filename.endswith(f"/{name}"))
    ]
    found = [entry for entry in found if not entry.filename.startswith("__MACOSX/")]
    return found[0] if len(found) == 1 else None
