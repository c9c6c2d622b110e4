"""What the page of an instrument embeds: its engine, and a checkpoint in the form that it reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from musicspectrogan.audio.vocoder import Vocoder
from musicspectrogan.training.checkpoint import Checkpoint

ENGINE = Path(__file__).with_name("engine")


def payload(checkpoint: Checkpoint, vocoder: Vocoder | None, *, name: str) -> dict[str, Any]:
    """Plain values for JSON: `description`, and in base64 `weights` and `kernels`.

    Args:
        vocoder: of `generation.sound.choose_vocoder`; None for the non-negative fit.
        name: of the instrument.

    Raises:
        UserError: the engine does not know this GAN, or its spectrogram settings.
    """
    raise NotImplementedError


def engine_source() -> str:
    """The script of the worker."""
    raise NotImplementedError
