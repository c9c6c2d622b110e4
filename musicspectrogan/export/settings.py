"""Settings of the command `export`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from musicspectrogan.config import check_within
from musicspectrogan.errors import UserError, check_choice

FORMATS = ("folder", "html", "onnx")
MOST_SOUNDS = 100


@dataclass(frozen=True)
class ExportConfig:
    """Export a trained generator, to share it or to play it elsewhere."""

    checkpoint: Path | None = None
    """Run directory, checkpoint file, exported folder, `latest` for the newest run, or `demo` for
    the model of this package."""
    format: str = "folder"
    """folder (weights, settings and a model card), html (an instrument in one file) or onnx."""
    output: Path | None = None
    """Folder to write, or HTML file; None for one named after the model in the working
    directory."""
    half: bool = False
    """Store weights in half precision: half the size, and nearly the same sounds. Folders only."""
    license: str = "other"
    """License of the model for its card, in Hugging Face's words, such as mit or cc-by-4.0."""
    sounds: int = 4
    """Sounds of ten seconds to add to a folder."""
    overwrite: bool = False
    """Replace an earlier export."""

    def __post_init__(self) -> None:
        check_choice("format", self.format, FORMATS)
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", self.license):
            raise UserError(
                f"--license: {self.license!r} is not allowed; write a short name, such as mit"
            )
        check_within(self, sounds=(0, MOST_SOUNDS))
        if self.half and self.format != "folder":
            raise UserError(f"--half has no effect with --format {self.format}; omit it")
