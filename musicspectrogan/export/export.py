"""The command `export`."""

from __future__ import annotations

from pathlib import Path

from musicspectrogan.errors import UserError
from musicspectrogan.export.settings import ExportConfig
from musicspectrogan.training.checkpoint import Checkpoint


def export(config: ExportConfig, checkpoint: Checkpoint, source: Path) -> Path:
    """Write what `config` asks for; returns the folder or file.

    Args:
        source: file or folder of the checkpoint.

    Raises:
        UserError: the format cannot hold this model, or the output exists.
    """
    raise UserError(f"--format {config.format}: not written yet")
