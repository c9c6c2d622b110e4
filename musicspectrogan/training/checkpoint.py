"""A checkpoint: tensors and plain values in one file, enough to generate from and to resume."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from musicspectrogan import models
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import whole_file
from musicspectrogan.models import ModelConfig

FORMAT_VERSION = 1
FOLDER = "checkpoints"
LATEST = "latest.pt"


@dataclass
class Checkpoint:
    """The contents of a checkpoint file. Random numbers follow from the seed and the position."""

    gan: str
    model: ModelConfig
    training: dict[str, Any]
    """The run's settings, by name, as plain values."""
    genres: list[str]
    """Label k is genres[k]."""
    spectrogram: SpectrogramConfig
    """How to turn the images back into sound."""
    generator: dict[str, torch.Tensor]
    discriminator: dict[str, torch.Tensor]
    ema: dict[str, torch.Tensor]
    """The averaged generator with standing statistics, ready to sample from."""
    optimizer_g: dict[str, Any]
    optimizer_d: dict[str, Any]
    epoch: int
    """Epochs completed."""
    step: int
    """Steps taken."""
    images_seen: int

    def build_ema_generator(self) -> nn.Module:
        """The generator to sample from, in eval mode on the CPU."""
        generator, _ = models.build(self.gan, self.model)
        generator.load_state_dict(self.ema)
        return generator.eval().requires_grad_(False)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint, whole or not at all."""
    contents = {f.name: getattr(checkpoint, f.name) for f in fields(checkpoint)}
    contents["model"] = asdict(checkpoint.model)
    contents["spectrogram"] = asdict(checkpoint.spectrogram)
    with whole_file(path) as temporary:
        torch.save({"format_version": FORMAT_VERSION, **contents}, temporary)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU. It is data: nothing in it is executed.

    Args:
        path: a checkpoint file, or a run directory, whose newest checkpoint is then taken.

    Raises:
        UserError: nothing there, damaged, or not a checkpoint of this format.
    """
    path = newest_checkpoint(path) if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"{path}: there is no such checkpoint")
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
        version = contents.pop("format_version")
        if version == FORMAT_VERSION:
            contents["model"] = ModelConfig(**contents["model"])
            contents["spectrogram"] = SpectrogramConfig(**contents["spectrogram"])
            return Checkpoint(**contents)
    except OSError:
        raise  # no permission, no room: not the file's fault
    except Exception:  # damaged bytes lead torch's reader into errors of any kind
        raise UserError(
            f"{path} is damaged or not a checkpoint of this tool; take an older one from its folder"
        ) from None
    raise UserError(f"{path} has format {version}; this version reads format {FORMAT_VERSION}")


def newest_checkpoint(run: Path) -> Path:
    """The newest checkpoint of a run directory.

    Raises:
        UserError: it has none.
    """
    latest = run / FOLDER / LATEST
    if not latest.is_file():
        raise UserError(f"{run}: no checkpoint in it; name a run directory or a checkpoint file")
    return latest


def keep_checkpoint(checkpoint: Checkpoint, run: Path, *, keep: int) -> Path:
    """Save as epoch_NNNN.pt and as latest.pt, which share one file, and drop all but the newest `keep`."""
    folder = run / FOLDER
    path = folder / f"epoch_{checkpoint.epoch:04d}.pt"
    save_checkpoint(checkpoint, path)
    with whole_file(folder / LATEST, flush=False) as temporary:
        temporary.unlink(missing_ok=True)
        try:
            os.link(path, temporary)
        except OSError:  # a file system without hard links
            save_checkpoint(checkpoint, temporary)
    others = sorted(p for p in folder.glob("epoch_*.pt") if p != path)
    for old in others[: max(0, len(others) - keep + 1)]:
        old.unlink()
    return path
