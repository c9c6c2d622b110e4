"""The settings of the command `vocoder`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from musicspectrogan.config import check_within, read_fields
from musicspectrogan.errors import SettingError
from musicspectrogan.flags import POSITIONAL
from musicspectrogan.launch import check_device

LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class VocoderConfig:
    """Learn to turn a dataset's spectrograms into sound, from its own music."""

    dataset: Path = field(metadata=POSITIONAL)
    """Folder made by preprocess.py. The vocoder is written to vocoder.pt in it."""
    input: Path | None = None
    """Folder or archive of the music; None for the one that preprocess.py read."""
    minutes: float | None = None
    """Time to learn for, by which the learning rate falls; None for a fixed number of steps, which
    take about three minutes on two CPU cores and give the same vocoder each time."""
    seed: int = 0
    """Seed of all random numbers."""
    device: str = "auto"
    """auto, cuda, cuda:N, mps or cpu."""
    checkpoint: Path | None = None
    """Run directory, checkpoint file, exported folder, or `latest` for the newest run, to put the
    vocoder into; new runs take it by themselves."""
    overwrite: bool = False
    """Learn another vocoder where there is one."""

    @read_fields
    def __post_init__(self) -> None:
        check_device(self.device)
        check_within(self, seed=(0, LARGEST_SEED))
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise SettingError(
                "minutes", f"{self.minutes} is not allowed; give more than 0, for instance 5"
            )
