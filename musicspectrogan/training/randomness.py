"""Random numbers as a function of a seed and a position, so that a resumed run is the same run."""

from __future__ import annotations

import hashlib

import torch


def generator_at(device: torch.device | str, *position: object) -> torch.Generator:
    """A generator seeded by everything in `position`, for instance (seed, "latents", images seen)."""
    digest = hashlib.sha256(repr(position).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)
