"""Random numbers as a function of a position, and conversion of grey levels to tensors and back."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def generator_at(device: torch.device | str, *position: object) -> torch.Generator:
    """A generator seeded by everything in `position`, for instance (seed, "latents", images seen).

    So a resumed run draws the same numbers as one without a stop.
    """
    digest = hashlib.sha256(repr(position).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def as_images(pixels: Tensor) -> Tensor:
    """uint8 grey levels -> float32 in [-1, 1]."""
    return pixels.float().mul_(2.0 / 255.0).sub_(1.0)


def as_pixels(images: Tensor) -> npt.NDArray[np.uint8]:
    """Images (B, K, H, W) in [-1, 1] -> grey levels uint8 (B, H, W) of window 0, on the host."""
    grey = images.detach()[:, 0]
    grey = grey.to(torch.promote_types(grey.dtype, torch.float32))
    grey = grey.add(1.0).mul(127.5).round().clamp(0, 255)
    pixels: npt.NDArray[np.uint8] = grey.to(torch.uint8).cpu().numpy()
    return pixels
