"""The command `export`: one checkpoint, in one of several forms."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from musicspectrogan.data.credits import CREDITS_NAME
from musicspectrogan.errors import SettingError, UserError
from musicspectrogan.export.cards import CARD_NAME
from musicspectrogan.export.settings import ExportConfig
from musicspectrogan.filesystem import is_clutter, make_folder, sync_files, sync_folder
from musicspectrogan.generation.model import vocoder_for
from musicspectrogan.modelfolder import CONFIG_NAME, WEIGHTS_NAME
from musicspectrogan.training.checkpoint import Checkpoint
from musicspectrogan.training.run_checkpoints import available_dataset, is_trained_on, run_of

logger = logging.getLogger(__name__)

SUFFIXES = {"folder": "", "html": ".html", "onnx": "-onnx"}
# What exports consist of. A folder with anything else is not replaced.
OWN_FILES = (
    CARD_NAME,
    CONFIG_NAME,
    WEIGHTS_NAME,
    "*.onnx",
    CREDITS_NAME,
    "sounds/*.mp3",
    "sounds/*.png",
)
# Every complete export has one of these.
WEIGHTS = (WEIGHTS_NAME, "*.onnx")


def export(config: ExportConfig, checkpoint: Checkpoint, source: Path) -> Path:
    """Write what `config` asks for; returns the folder or file.

    Args:
        source: file or folder of the checkpoint.

    Raises:
        UserError: the format cannot hold this model, or the output exists.
    """
    name = name_of(source)
    output = config.output or Path(f"{name}{SUFFIXES[config.format]}")
    if output.name in ("", "..") or output.is_symlink():
        raise UserError(f"--output {output}: give the name of a new folder or file")
    is_folder = config.format != "html"
    if is_folder:
        clear_interrupted(output)
    check_output(output, overwrite=config.overwrite, is_folder=is_folder)
    dataset = config.dataset or available_dataset(checkpoint, source)
    if config.dataset and not is_trained_on(checkpoint, config.dataset):
        raise SettingError(
            "dataset", f"{dataset}: does not have the images that the model was trained on"
        )
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

            export_folder(
                config, checkpoint, vocoder, folder, name=name, source=source, dataset=dataset
            )
    return output


def name_of(source: Path) -> str:
    """What a model is called: its run, or its file or folder."""
    path = run_of(source) or source
    return path.resolve().name.removesuffix(".pt").removesuffix(".zip")


def check_output(output: Path, *, overwrite: bool, is_folder: bool) -> None:
    """Raise UserError if there is something that may not be replaced."""
    if not output.exists() or (is_folder and output.is_dir() and not any(output.iterdir())):
        return
    if output.is_dir() != is_folder:
        kind = "a folder" if output.is_dir() else "a file"
        raise UserError(f"--output {output}: is {kind} already; give another name")
    if not overwrite:
        raise UserError(f"--output {output}: exists; give --overwrite, or another name")
    is_export = _has_weights(output) if is_folder else _is_instrument(output)
    other = _foreign(output) if is_export else "is not an export"
    if other:
        raise UserError(f"--output {output}: {other}; give another name")


def _is_instrument(path: Path) -> bool:
    from musicspectrogan.export.html import is_instrument

    return is_instrument(path)


def _has_weights(folder: Path) -> bool:
    return any(path.is_file() for pattern in WEIGHTS for path in folder.glob(pattern))


def _foreign(output: Path) -> str:
    """What in a folder is not from an export, complete or not; empty if there is nothing."""
    own = {path for pattern in OWN_FILES for path in output.glob(pattern)}
    if not _has_weights(output):  # the card is written last; alone it might be anybody's
        own.discard(output / CARD_NAME)
    for path in output.rglob("*"):
        is_folder = path.is_dir() and not path.is_symlink()
        if not (is_folder or path in own or is_clutter(path.name)):
            return f"{path.relative_to(output)} in it is not from an export"
    return ""


def clear_interrupted(output: Path) -> None:
    """Clear away what a killed export to `output` has left; an earlier one gets its name back.

    Raises:
        UserError: what has such a name is not from an export.
    """
    left = [path for path in _temporary(output) if os.path.lexists(path)]
    for path in left:
        is_folder = path.is_dir() and not path.is_symlink()
        if other := _foreign(path) if is_folder else "is not from an export":
            raise UserError(
                f"{path}: {other}, but it has the name of a temporary folder; rename it"
            )
    _, earlier = _temporary(output)
    if earlier in left and not output.exists():
        logger.warning("%s: the last export was killed; this is the one before", output)
        earlier.rename(output)
    for path in left:
        shutil.rmtree(path, ignore_errors=True)


def _temporary(output: Path) -> tuple[Path, Path]:
    """Names of a new export until it is complete, and of an earlier one until it is replaced."""
    unfinished, earlier = f".{output.name}.unfinished", f".{output.name}.earlier"
    return output.with_name(unfinished), output.with_name(earlier)


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """A folder that gets the name `output` when it is complete, in place of an earlier one.

    After a kill, `clear_interrupted` comes first.
    """
    unfinished, earlier = _temporary(output)
    make_folder(unfinished)
    try:
        yield unfinished
        sync_files(path for path in unfinished.rglob("*") if path.is_file())
        if output.exists():
            output.rename(earlier)
        unfinished.rename(output)
        sync_folder(output.parent)
    except BaseException:
        if earlier.exists() and not output.exists():
            earlier.rename(output)
        raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if output.exists():
            shutil.rmtree(earlier, ignore_errors=True)
