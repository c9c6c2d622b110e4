"""Which device to train on."""

from __future__ import annotations

import logging

import torch

from musicspectrogan.errors import UserError

logger = logging.getLogger(__name__)


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
        if name == "cpu":
            logger.info("No GPU found, training on the CPU; a narrow network suits it: --width 16")
    elif not available[name]:
        raise UserError(f"--device {name}: this machine has none that PyTorch can use; try --device auto")
    return torch.device(name)
