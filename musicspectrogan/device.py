"""Which device to compute on, how exactly, and what is said when it fails."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from musicspectrogan.errors import UserError
from musicspectrogan.launch import check_device

logger = logging.getLogger(__name__)

# Without it `repeatable` matrix products on CUDA are refused. It is read once, at the first product of the
# process, whatever that is for, so that it must be there from the beginning.
os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"

# The newest PyTorch with kernels for NVIDIA's cards before Turing (2018), and where it is
# (https://github.com/pytorch/pytorch/blob/main/RELEASE.md).
FOR_OLD_CARDS = (
    'pip install "torch<2.15" torchvision --index-url https://download.pytorch.org/whl/cu126'
)
OLDEST_IN_CUDA_13 = (7, 5)
# The first that computes in bfloat16.
AMPERE = (8, 0)

# What PyTorch says when a device has no memory left, apart from OutOfMemoryError.
_FULL = re.compile(r"out of memory|_ALLOC_FAILED", re.IGNORECASE)
_HOST_FULL = re.compile(r"you tried to allocate \d+ bytes")
_FROM_DEVICE = re.compile(
    r"(cuda|cudnn|cublas|cufft)( driver)? (error|failure)|CU\w+_STATUS|unable to find an engine",
    re.IGNORECASE,
)
# Says that a kernel was given wrong indices: a bug of ours, which wants its traceback.
_ASSERTION = "device-side assert"


def choose_device(name: str) -> torch.device:
    """The device of that name, made the current one where it is a GPU.

    Args:
        name: `auto` (CUDA where there is a GPU that this PyTorch can use, else MPS, else the CPU), `cpu`,
            `mps`, `cuda` (the first GPU that can be used) or `cuda:N`.

    Raises:
        UserError: no such name, or what was asked for is not there or cannot be used.
    """
    check_device(name)
    kind, _, number = name.partition(":")
    if kind == "auto":
        return _best_device()
    if kind == "cuda":
        return _gpu([int(number)] if number else range(_count_gpus(name)), name)
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserError(
            f"--device {name}: this machine has none that PyTorch can use; try --device auto"
        )
    return torch.device(kind)


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        try:
            return _gpu(range(torch.cuda.device_count()), "cuda")
        except UserError as error:
            logger.warning("Computing on the CPU: %s", error)
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _count_gpus(name: str) -> int:
    if not torch.cuda.is_available():
        raise UserError(
            f"--device {name}: this machine has none that PyTorch can use; try --device auto"
        )
    return torch.cuda.device_count()


def _gpu(numbers: Sequence[int], name: str) -> torch.device:
    """The first of these GPUs that this PyTorch has kernels for, made the current one."""
    count = _count_gpus(name)
    for number in numbers:
        if number >= count:
            raise UserError(f"--device {name}: this machine has {count} GPUs, numbered from 0")
        if (trouble := missing_kernels(number)) is None:
            torch.cuda.set_device(number)
            return torch.device("cuda", number)
    raise UserError(f"--device {name}: {trouble}")


def missing_kernels(number: int) -> str | None:
    """Why this PyTorch cannot use a GPU, and what to do; None where it can.

    A binary for X.Y runs on every X.Z with Z >= Y, and PTX on everything newer
    (https://docs.nvidia.com/cuda/cuda-c-programming-guide/#compute-capability).
    """
    kernels = torch.cuda.get_arch_list()
    if torch.version.cuda is None or not kernels:  # ROCm names its devices otherwise
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch tells the same in a paragraph
        capability = torch.cuda.get_device_capability(number)
        title = torch.cuda.get_device_name(number)
    if any(_runs_on(kernel, capability) for kernel in kernels):
        return None
    remedy = "install a newer PyTorch, with torchvision"
    if capability < OLDEST_IN_CUDA_13:
        remedy = f"install one that has them: {FOR_OLD_CARDS}"
    return (
        f"PyTorch {torch.__version__} has no kernels for the {title} (compute capability "
        f"{'.'.join(map(str, capability))}, it has {' '.join(kernels)}); {remedy}"
    )


def _runs_on(kernel: str, capability: tuple[int, int]) -> bool:
    """Whether a GPU runs what was compiled for `sm_86`, `sm_90a` (that one alone) or `compute_90` (PTX)."""
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
    """Raise UserError for bfloat16 on an NVIDIA GPU that has no convolutions in it."""
    if precision != "bfloat16" or device.type != "cuda" or torch.version.cuda is None:
        return
    if torch.cuda.get_device_capability(device) < AMPERE:
        raise UserError(
            f"--precision bfloat16: the {torch.cuda.get_device_name(device)} is older than Ampere, which "
            "brought it; give --precision float32"
        )


@contextmanager
def arithmetic(precision: str = "float32") -> Iterator[None]:
    """Compute on CUDA with that precision, by the fastest kernels for shapes that stay the same.

    By itself PyTorch lets cuDNN's convolutions round what they multiply to TF32, with 10 bits of mantissa
    (https://docs.pytorch.org/docs/stable/notes/cuda.html#tensorfloat-32-tf32-on-ampere-and-later-devices).

    Args:
        precision: `float32` is float32 in all products; `tf32` allows TF32 in convolutions and matrix
            products. `bfloat16` is for the step's autocast, and what it leaves in float32 is float32.
    """
    allowed = precision == "tf32"
    with (
        _set(torch.backends.cudnn, allow_tf32=allowed, benchmark=True, deterministic=False),
        _set(torch.backends.cuda.matmul, allow_tf32=allowed),
    ):
        yield


@contextmanager
def repeatable() -> Iterator[None]:
    """Compute in float32 by algorithms that give the same bits each time, on one device.

    https://docs.pytorch.org/docs/stable/notes/randomness.html
    """
    before = torch.are_deterministic_algorithms_enabled()
    with (
        arithmetic(),
        _set(torch.backends.cudnn, benchmark=False, deterministic=True),
        # Filling new memory costs time, and nothing here reads what it has not written.
        _set(torch.utils.deterministic, fill_uninitialized_memory=False),
    ):
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)


@contextmanager
def _set(module: Any, **values: bool) -> Iterator[None]:
    """Set attributes, and put them back as they were."""
    before = {name: getattr(module, name) for name in values}
    for name, value in values.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def is_from_device(error: BaseException) -> bool:
    """Whether an error is a GPU's own, as PyTorch and its libraries tell it."""
    return isinstance(
        error, (torch.OutOfMemoryError, getattr(torch, "AcceleratorError", ()))
    ) or bool(
        isinstance(error, RuntimeError)
        and (_FROM_DEVICE.search(str(error)) or _FULL.search(str(error)))
    )


def told_in_one_line(error: BaseException) -> str | None:
    """What a user can do about an error of the device or of memory; None where it is another one, or ours."""
    reason = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and _HOST_FULL.search(str(error))
    ):
        return (
            "the computer's memory is full; close other programs, or lower --batch-size or --width"
        )
    if not is_from_device(error) or _ASSERTION in reason:
        return None
    if isinstance(error, torch.OutOfMemoryError) or _FULL.search(str(error)):
        return (
            "the GPU's memory is full; close other programs that use it, lower --batch-size or --width, "
            "or give --device cpu"
        )
    return f"the GPU failed ({reason}); give --device cpu, or see what `musicspectrogan doctor` says of it"
