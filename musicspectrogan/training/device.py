"""Which device to train on."""

from __future__ import annotations

import torch

from musicspectrogan.errors import UserError


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is CUDA where there is one, else MPS, else the CPU.

    Raises:
        UserError: CUDA or MPS was asked for and is not there.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(candidate for candidate, present in available.items() if present)
    elif not available[name]:
        raise UserError(f"--device {name}: this machine has none that PyTorch can use; try --device auto")
    return torch.device(name)
