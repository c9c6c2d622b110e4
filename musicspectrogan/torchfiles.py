"""Torch files: tensors and plain values, written whole, and read without trust onto the CPU."""

from __future__ import annotations

import io
import os
import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import whole_file

# The entries of the zip file that torch needs.
_ENTRY = re.compile(r"[^/]+/(data\.pkl|data/\d+|byteorder|version)")
# What the pickle of such a file names. torch's reader executes nothing, but knows more functions, and with
# some of them a few bytes become gigabytes.
_NAMED = re.compile(r"collections OrderedDict|torch\._utils _rebuild_tensor_v2|torch \w+Storage")


class TorchFileError(Exception):
    """This file is damaged, or holds more than tensors and plain values; the text says what was found."""


def write_torch_file(contents: Any, path: Path) -> None:
    """Write nested dicts and lists of tensors and plain values, whole or not at all.

    Tensors are written as CPU tensors, so that the file names no device.

    Raises:
        OSError: it cannot be written.
    """
    # In memory first: on a full disk torch would stumble over its own half a file, and hide the reason.
    archive = io.BytesIO()
    torch.save(_on_cpu(contents), archive)
    with whole_file(path) as temporary:
        temporary.write_bytes(archive.getbuffer())


def read_torch_file(path: Path) -> Any:
    """Read what `write_torch_file` wrote, with all tensors on the CPU whatever device they were saved from.

    The file may come from a stranger. It is data: nothing in it is executed, and it takes a few times
    its own size of memory.

    Raises:
        OSError: it cannot be opened.
        TorchFileError: it is damaged, or was written by something else.
    """
    with open(path, "rb") as file:
        try:
            contents = torch.load(_checked_copy(file), map_location="cpu", weights_only=True)
            _check_contents(contents)
        except TorchFileError:
            raise
        except Exception as error:  # damaged bytes lead torch's reader into errors of any kind
            raise TorchFileError("not as torch.save writes it") from error
    return contents


def check_weights(name: str, weights: object, network: nn.Module) -> None:
    """Check that weights from a file are a state_dict for `network`, which may be on the meta device.

    Raises:
        UserError: other layers, shapes or dtypes, or values that are not finite. `name` says whose they are.
    """
    expected = network.state_dict()
    if not isinstance(weights, dict) or weights.keys() != expected.keys():
        raise UserError(f"the {name} has other layers than its model")
    for key, like in expected.items():
        tensor = weights[key]
        if (
            not isinstance(tensor, Tensor)
            or tensor.shape != like.shape
            or tensor.dtype != like.dtype
        ):
            raise UserError(f"the {name}'s {key} is of another kind than its model's")
        if not tensor.isfinite().all():
            raise UserError(f"the {name}'s {key} holds what are not finite numbers")


def _on_cpu(contents: Any) -> Any:
    if isinstance(contents, Tensor):
        return contents.detach().cpu()
    if isinstance(contents, Mapping):
        return {key: _on_cpu(value) for key, value in contents.items()}
    if isinstance(contents, (list, tuple)):
        return type(contents)(_on_cpu(value) for value in contents)
    return contents


def _checked_copy(file: BinaryIO) -> io.BytesIO:
    """The archive again in memory, with only the entries that were checked.

    torch reads zip files in its own way, and may find other entries in the same bytes than Python does.

    Raises:
        TorchFileError: compressed, or with a pickle that names more than tensors.
    """
    begins_as_zip = file.read(4) == b"PK\3\4"
    size = file.seek(0, os.SEEK_END)
    copy = io.BytesIO()
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(copy, "w") as checked:
        entries = {e.filename: e for e in archive.infolist() if _ENTRY.fullmatch(e.filename)}
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries.values())
        if not (
            begins_as_zip and stored and sum(entry.file_size for entry in entries.values()) <= size
        ):
            raise TorchFileError("not as torch.save writes it")
        for name, entry in entries.items():
            body = archive.read(entry)
            if name.endswith("data.pkl"):
                _check_pickle(body)
            checked.writestr(name, body)
    copy.seek(0)
    return copy


def _check_pickle(pickle: bytes) -> None:
    for code, argument, _ in pickletools.genops(pickle):
        if code.name in ("GLOBAL", "INST", "STACK_GLOBAL") and not _NAMED.fullmatch(str(argument)):
            raise TorchFileError(f"names {str(argument)[:80]}")


def _check_contents(contents: Any) -> None:
    """Raise TorchFileError for what is no plain value, and for a tensor of more bytes than the file has."""
    # A few bytes may nest one list in itself many times: each value is looked at once.
    waiting, seen = [contents], set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            if value.nbytes > value.untyped_storage().nbytes():
                raise TorchFileError(f"a tensor of {value.nbytes} bytes that are not in the file")
        elif isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, (list, tuple)):
            waiting += value
        elif value is not None and not isinstance(value, (str, int, float)):
            raise TorchFileError(f"holds a {type(value).__name__}")
