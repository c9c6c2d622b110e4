"""Torch files of tensors and plain values: written atomically, read safely onto the CPU."""

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
from musicspectrogan.filesystem import atomic_write

# Entries of the zip file that torch.load needs.
_ENTRY = re.compile(r"[^/]+/(data\.pkl|data/\d+|byteorder|version)")
# Globals that the pickle of such a file may name. torch.load(weights_only=True) executes no code,
# but allows more functions, some of which make gigabytes out of a few bytes.
_ALLOWED = re.compile(r"collections OrderedDict|torch\._utils _rebuild_tensor_v2|torch \w+Storage")
_NOT_BY_TORCH = "not as torch.save writes it"


class TorchFileError(Exception):
    """The file is damaged, or holds more than tensors and plain values; the text says what."""


def write_torch_file(contents: Any, path: Path) -> None:
    """Write nested dicts and lists of tensors and plain values, atomically.

    Tensors are copied to the CPU, so that the file does not depend on a device.

    Raises:
        OSError: the file cannot be written.
    """
    # Into memory first: on a full disk, torch.save raises an error that hides the reason.
    archive = io.BytesIO()
    torch.save(_on_cpu(contents), archive)
    with atomic_write(path) as temporary:
        temporary.write_bytes(archive.getbuffer())


def read_torch_file(path: Path) -> Any:
    """Read what `write_torch_file` wrote, with all tensors on the CPU.

    The file may be untrusted: no code in it is executed, and reading takes a small multiple of its
    size in memory.

    Raises:
        OSError: the file cannot be opened.
        TorchFileError: it is damaged, or another program wrote it.
    """
    with open(path, "rb") as file:
        try:
            contents = torch.load(_checked_copy(file), map_location="cpu", weights_only=True)
            _check_contents(contents)
        except TorchFileError:
            raise
        except Exception as error:  # damaged bytes make torch.load raise errors of any type
            raise TorchFileError(_NOT_BY_TORCH) from error
    return contents


def check_weights(name: str, weights: object, network: nn.Module) -> None:
    """Check that weights from a file are a state_dict of `network`, which may be on device meta.

    Args:
        name: what the weights belong to, for errors.

    Raises:
        UserError: layers, shapes or dtypes differ, or a value is not finite.
    """
    expected = network.state_dict()
    if not isinstance(weights, dict) or weights.keys() != expected.keys():
        raise UserError(f"the {name} has other layers than its model")
    for key, reference in expected.items():
        found = weights[key]
        kind = (reference.shape, reference.dtype)
        if not isinstance(found, Tensor) or (found.shape, found.dtype) != kind:
            raise UserError(f"the {name}'s {key} differs in shape or type from its model's")
        if not found.isfinite().all():
            raise UserError(f"the {name}'s {key} holds numbers that are not finite")


def _on_cpu(contents: Any) -> Any:
    if isinstance(contents, Tensor):
        return contents.detach().cpu()
    if isinstance(contents, Mapping):
        return {key: _on_cpu(value) for key, value in contents.items()}
    if isinstance(contents, (list, tuple)):
        return type(contents)(_on_cpu(value) for value in contents)
    return contents


def _checked_copy(file: BinaryIO) -> io.BytesIO:
    """A copy of the archive in memory, with nothing but the entries that were checked.

    torch has its own zip reader, which may find other entries in the same bytes than Python's.

    Raises:
        TorchFileError: an entry is compressed, or the pickle names more than tensors.
    """
    starts_as_zip = file.read(4) == b"PK\3\4"
    size = file.seek(0, os.SEEK_END)
    copy = io.BytesIO()
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(copy, "w") as checked:
        entries = [entry for entry in archive.infolist() if _ENTRY.fullmatch(entry.filename)]
        entries = list({entry.filename: entry for entry in entries}.values())  # the last of a name
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        if not (starts_as_zip and stored and sum(entry.file_size for entry in entries) <= size):
            raise TorchFileError(_NOT_BY_TORCH)
        for entry in entries:
            body = archive.read(entry)
            if entry.filename.endswith("data.pkl"):
                _check_pickle(body)
            checked.writestr(entry.filename, body)
    copy.seek(0)
    return copy


def _check_pickle(pickle: bytes) -> None:
    for opcode, argument, _ in pickletools.genops(pickle):
        name = str(argument)
        if opcode.name in ("GLOBAL", "INST", "STACK_GLOBAL") and not _ALLOWED.fullmatch(name):
            raise TorchFileError(f"names {name[:80]}")


def _check_contents(contents: Any) -> None:
    """Raise TorchFileError for other than plain values, and tensors larger than their storage."""
    # A few bytes can nest a list in itself many times, so visit each value once.
    pending, seen = [contents], set()
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            if value.nbytes > value.untyped_storage().nbytes():
                raise TorchFileError(f"a tensor of {value.nbytes} bytes that are not in the file")
        elif isinstance(value, dict):
            pending += [*value, *value.values()]
        elif isinstance(value, (list, tuple)):
            pending += value
        elif value is not None and not isinstance(value, (str, int, float)):
            raise TorchFileError(f"holds a {type(value).__name__}")
