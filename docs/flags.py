"""Write docs/flags.md, every command's flags, from the settings classes: `python docs/flags.py`."""

from __future__ import annotations

import sys
from dataclasses import MISSING
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from musicspectrogan.cli import (
    DoctorCommand,
    InfoCommand,
    InvertCommand,
    ReconstructCommand,
    TrainCommand,
)
from musicspectrogan.data.settings import PreprocessConfig
from musicspectrogan.evaluation.settings import EvaluateConfig
from musicspectrogan.export.settings import ExportConfig
from musicspectrogan.flags import Setting, describe_default, documentation, settings_of
from musicspectrogan.generation.settings import GenerateConfig
from musicspectrogan.vocoding.settings import VocoderConfig

COMMANDS = {
    "preprocess": PreprocessConfig,
    "vocoder": VocoderConfig,
    "train": TrainCommand,
    "generate": GenerateConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
    "invert": InvertCommand,
    "reconstruct": ReconstructCommand,
    "info": InfoCommand,
    "doctor": DoctorCommand,
}
HEADER = """\
# Flags

Every command's flags, with defaults and meanings. Written by `python docs/flags.py`; do not
edit. `musicspectrogan COMMAND --help` shows the same. Flags may be written with underscores.
"""


def render() -> str:
    """Return docs/flags.md: a table for each command."""
    parts = [HEADER]
    for name, settings_class in COMMANDS.items():
        settings = settings_of(settings_class)
        rows = ["| flag | default | meaning |", "|---|---|---|", *map(_row, settings)]
        parts.append(f"## {name}\n\n{documentation(settings_class)['']}\n\n" + "\n".join(rows))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _row(item: Setting) -> str:
    flag = f"`{item.flag}`"
    if item.type is bool:
        flag += f", `{item.flag.replace('--', '--no-', 1)}`" if item.default else ""
    else:
        flag += f" `{item.metavar}`" + (" ..." if item.takes_many else "")
    default = "required" if item.default is MISSING else describe_default(item.default)
    return "| " + " | ".join(c.replace("|", "\\|") for c in (flag, default, item.help)) + " |"


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(render(), encoding="utf-8")
