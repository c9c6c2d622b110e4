"""The command `export`: one checkpoint, in one of several forms."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from musicspectrogan.errors import UserError
from musicspectrogan.export.settings import ExportConfig
from musicspectrogan.filesystem import make_folder
from musicspectrogan.generation.model import vocoder_for
from musicspectrogan.training.checkpoint import CHECKPOINTS_FOLDER, Checkpoint, available_dataset

SUFFIXES = {"folder": "", "html": ".html", "onnx": "-onnx"}
# What exports consist of. A folder with anything else is not replaced.
OWN_FILES = (
    "README.md",
    "config.json",
    "*.safetensors",
    "*.onnx",
    "*.csv",
    "sounds/*.mp3",
    "sounds/*.png",
)


def export(config: ExportConfig, checkpoint: Checkpoint, source: Path) -> Path:
    """Write what `config` asks for; returns the folder or file.

    Args:
        source: file or folder of the checkpoint.

    Raises:
        UserError: the format cannot hold this model, or the output exists.
    """
    name = name_of(source)
    output = config.output or Path(f"{name}{SUFFIXES[config.format]}")
    check_output(output, overwrite=config.overwrite, is_folder=config.format != "html")
    dataset = available_dataset(checkpoint, source)
    vocoder = vocoder_for(checkpoint, dataset, None)
    make_folder(output.parent)
    if config.format == "html":
        from musicspectrogan.export.html import export_html

        return export_html(checkpoint, vocoder, output, name=name)
    with new_folder(output) as folder:
        if config.format == "onnx":
            from musicspectrogan.export.onnx import export_onnx

            export_onnx(checkpoint, vocoder, folder, name=name)
        else:
            from musicspectrogan.export.folder import export_folder

            origin = dataset or (source if source.is_dir() else None)
            export_folder(
                config, checkpoint, vocoder, folder, name=name, source=source, origin=origin
            )
    return output


def name_of(source: Path) -> str:
    """What a model is called: its run, or its file or folder."""
    parent = source.resolve().parent
    if parent.name == CHECKPOINTS_FOLDER:
        return parent.parent.name
    return source.resolve().name.removesuffix(".pt").removesuffix(".zip")


def check_output(output: Path, *, overwrite: bool, is_folder: bool) -> None:
    """Raise UserError if there is something that may not be replaced."""
    if not output.exists():
        return
    if output.is_dir() != is_folder:
        kind = "a folder" if output.is_dir() else "a file"
        raise UserError(f"--output {output}: is {kind} already; give another name")
    if not overwrite:
        raise UserError(f"--output {output}: exists; give --overwrite, or another name")
    if is_folder:
        own = {path for pattern in OWN_FILES for path in output.glob(pattern)}
        found = (path for path in output.rglob("*") if path.is_file() and path not in own)
        if other := next(found, None):
            raise UserError(
                f"--output {output}: {other.relative_to(output)} in it is not from an export; "
                "give another name"
            )


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """A folder that gets the name `output` when it is complete, in place of an earlier one."""
    unfinished = output.with_name(f".{output.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    make_folder(unfinished)
    try:
        yield unfinished
        if output.exists():
            shutil.rmtree(output)
        unfinished.rename(output)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
