"""Choice of the device, its arithmetic, and messages for its errors."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from musicspectrogan.counts import format_count
from musicspectrogan.errors import UserError
from musicspectrogan.launch import check_device

logger = logging.getLogger(__name__)

# PyTorch refuses deterministic matrix products on CUDA without it, and has no other setting for
# it. It is read at the first product of the process, so it must be set before.
os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"

# The newest PyTorch with kernels for NVIDIA GPUs older than Turing (2018):
# https://github.com/pytorch/pytorch/blob/main/RELEASE.md
FOR_OLD_CARDS = (
    'pip install "torch<2.15" torchvision --index-url https://download.pytorch.org/whl/cu126'
)
OLDEST_IN_CUDA_13 = (7, 5)
# The first with bfloat16.
AMPERE = (8, 0)

NO_DEVICE = "this machine has none that PyTorch can use; try --device auto"

# Messages for full memory, beside OutOfMemoryError.
_FULL = re.compile(r"out of memory|_ALLOC_FAILED", re.IGNORECASE)
_HOST_FULL = re.compile(r"you tried to allocate \d+ bytes")
_FROM_DEVICE = re.compile(
    r"(cuda|cudnn|cublas|cufft)( driver)? (error|failure)|CU\w+_STATUS|unable to find an engine",
    re.IGNORECASE,
)
# A kernel got wrong indices: a bug, which needs its traceback.
_ASSERTION = "device-side assert"


def choose_device(name: str) -> torch.device:
    """The device of this name; a GPU becomes the current one.

    Args:
        name: `auto` (CUDA if this PyTorch supports a GPU here, else MPS, else the CPU), `cpu`,
            `mps`, `cuda` (the first supported GPU) or `cuda:N`.

    Raises:
        UserError: an unknown name, or the device is missing or not supported.
    """
    check_device(name)
    kind, _, number = name.partition(":")
    if kind == "auto":
        return _best_device()
    if kind == "cuda":
        return _choose_gpu(name, int(number) if number else None)
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"--device {name}: {NO_DEVICE}")
    return torch.device(kind)


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        try:
            return _choose_gpu("cuda", None)
        except UserError as error:
            logger.warning("Computing on the CPU: %s", error)
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _choose_gpu(name: str, number: int | None) -> torch.device:
    """Make a GPU the current one: the one of this number, or the first that PyTorch supports."""
    if not torch.cuda.is_available():
        raise UserError(f"--device {name}: {NO_DEVICE}")
    count = torch.cuda.device_count()
    if number is not None and number >= count:
        raise UserError(
            f"--device {name}: this machine has {format_count(count, 'GPU')}, numbered from 0; "
            "give --device cuda for the first that works"
        )
    for candidate in range(count) if number is None else [number]:
        if (problem := missing_kernels(candidate)) is None:
            torch.cuda.set_device(candidate)
            return torch.device("cuda", candidate)
    raise UserError(f"--device {name}: {problem}")


def missing_kernels(number: int) -> str | None:
    """Why this PyTorch cannot use a GPU, and the remedy; None if it can.

    A binary for X.Y runs on X.Z with Z >= Y, and PTX on everything newer:
    https://docs.nvidia.com/cuda/cuda-c-programming-guide/#compute-capability
    """
    kernels = torch.cuda.get_arch_list()
    if torch.version.cuda is None or not kernels:  # ROCm has other names
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, a paragraph long
        capability = torch.cuda.get_device_capability(number)
        name = torch.cuda.get_device_name(number)
    if any(_runs_on(kernel, capability) for kernel in kernels):
        return None
    remedy = "install a newer PyTorch, with torchvision"
    if capability < OLDEST_IN_CUDA_13:
        remedy = f"install one that has them: {FOR_OLD_CARDS}"
    return (
        f"PyTorch {torch.__version__} has no kernels for the {name} (compute capability "
        f"{'.'.join(map(str, capability))}, it has {' '.join(kernels)}); {remedy}"
    )


def _runs_on(kernel: str, capability: tuple[int, int]) -> bool:
    """Whether a GPU runs a binary for `sm_86`, `sm_90a` (only 9.0), or PTX for `compute_90`."""
    found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", kernel)
    if found is None:
        return False
    form, *numbers, variant = found.groups()
    built_for = tuple(map(int, numbers))
    if variant == "a":
        return capability == built_for
    if form == "compute" and not variant:
        return capability >= built_for
    return capability[0] == built_for[0] and capability >= built_for


def check_precision(precision: str, device: torch.device) -> None:
    """Raise UserError for bfloat16 on an NVIDIA GPU without it."""
    if precision != "bfloat16" or device.type != "cuda" or torch.version.cuda is None:
        return
    if torch.cuda.get_device_capability(device) < AMPERE:
        raise UserError(
            f"--precision bfloat16: the {torch.cuda.get_device_name(device)} is older than Ampere, "
            "the first with it; give --precision float32"
        )


@contextmanager
def arithmetic(precision: str = "float32") -> Iterator[None]:
    """Set the precision on CUDA, and choose the fastest kernels for constant shapes.

    PyTorch's default lets cuDNN's convolutions round to TF32, with 10 bits of mantissa:
    https://docs.pytorch.org/docs/stable/notes/cuda.html

    Args:
        precision: `float32` for all products in float32; `tf32` for TF32 in convolutions and matrix
            products; `bfloat16` for float32 in what the training step's autocast leaves.
    """
    allowed = precision == "tf32"
    with (
        _set(torch.backends.cudnn, allow_tf32=allowed, benchmark=True, deterministic=False),
        _set(torch.backends.cuda.matmul, allow_tf32=allowed),
    ):
        yield


@contextmanager
def repeatable() -> Iterator[None]:
    """Compute in float32 with deterministic algorithms: the same bits each time, on one device.

    https://docs.pytorch.org/docs/stable/notes/randomness.html
    """
    before = torch.are_deterministic_algorithms_enabled()
    with (
        arithmetic(),
        _set(torch.backends.cudnn, benchmark=False, deterministic=True),
        # Slow, and only of use to code that reads uninitialised memory.
        _set(torch.utils.deterministic, fill_uninitialized_memory=False),
    ):
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)


@contextmanager
def _set(module: Any, **values: bool) -> Iterator[None]:
    """Set attributes, and restore them at the end."""
    before = {name: getattr(module, name) for name in values}
    for name, value in values.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def is_from_device(error: BaseException) -> bool:
    """Whether an error comes from a GPU or its libraries."""
    if isinstance(error, (torch.OutOfMemoryError, getattr(torch, "AcceleratorError", ()))):
        return True
    text = str(error)
    matches = _FROM_DEVICE.search(text) or _FULL.search(text)
    return isinstance(error, RuntimeError) and matches is not None


def describe_device_error(error: BaseException) -> str | None:
    """Message for an error of the device or of memory, with a remedy; None for other errors."""
    text = str(error)
    reason = (text.strip().splitlines() or [""])[0]
    host_full = isinstance(error, RuntimeError) and _HOST_FULL.search(text)
    if isinstance(error, MemoryError) or host_full:
        return (
            "the computer's memory is full; close other programs; when training, lower "
            "--batch-size or --width"
        )
    if not is_from_device(error) or _ASSERTION in reason:
        return None
    if isinstance(error, torch.OutOfMemoryError) or _FULL.search(text):
        return (
            "the GPU's memory is full; close other programs that use it, or give --device cpu; "
            "when training, lower --batch-size or --width"
        )
    return f"the GPU failed ({reason}); give --device cpu, or run `musicspectrogan doctor`"
