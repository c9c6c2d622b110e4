"""The checkpoints of a run: the newest and the best, and what they were trained on."""

from __future__ import annotations

import logging
import os
import re
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.audio.vocoder import Vocoder
from musicspectrogan.config import read_yaml
from musicspectrogan.data.dataset import ImageDataset, load_dataset
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import atomic_write, folder_lock, visible_folders
from musicspectrogan.modelfolder import is_model_folder, read_model_folder, write_model_folder
from musicspectrogan.training.checkpoint import (
    Checkpoint,
    DamagedError,
    read_checkpoint,
    save_checkpoint,
)
from musicspectrogan.training.settings import TrainingConfig

logger = logging.getLogger(__name__)

CONFIG_NAME = "config.yaml"
CHECKPOINTS_FOLDER = "checkpoints"
LATEST_NAME = "latest.pt"
BEST_NAME = "best.pt"


def load_checkpoint(path: Path) -> Checkpoint:
    """Read the checkpoint that a path names, the newest of a run; see `open_checkpoint`."""
    return open_checkpoint(path)[1]


def open_checkpoint(path: Path, *, best: bool = False) -> tuple[Path, Checkpoint]:
    """Read the checkpoint that a path names; returns its file, or its folder if exported, too.

    Args:
        path: a run directory, a checkpoint file, or an exported model.
        best: take the best of a run by the validation tracks, not the newest.

    Raises:
        UserError: there is none, or it is damaged or not of this format.
    """
    if not path.is_dir() or is_model_folder(path):
        return path, read_checkpoint(path)
    return best_checkpoint(path) if best else newest_checkpoint(path)


def is_checkpoint(path: Path) -> bool:
    """Whether a path names a checkpoint, rather than a folder of images."""
    return not path.is_dir() or is_model_folder(path) or has_checkpoint(path)


def has_checkpoint(run: Path) -> bool:
    """Whether a run directory has a checkpoint, intact or not."""
    return bool(_newest_first(run))


def newest_checkpoint(run: Path) -> tuple[Path, Checkpoint]:
    """The newest intact checkpoint of a run directory; damaged ones are skipped with a warning.

    Raises:
        UserError: it has none, or one that cannot be read for another reason than damage.
    """
    return _first_intact(run, _newest_first(run))


def best_checkpoint(run: Path) -> tuple[Path, Checkpoint]:
    """The best by the validation tracks; the newest if none was evaluated, or it is damaged.

    Raises:
        UserError: as `newest_checkpoint`.
    """
    best = run / CHECKPOINTS_FOLDER / BEST_NAME
    return _first_intact(run, [*([best] if best.is_file() else []), *_newest_first(run)])


def _first_intact(run: Path, paths: list[Path]) -> tuple[Path, Checkpoint]:
    damaged: list[Path] = []
    for path in paths:
        try:
            checkpoint = read_checkpoint(path)
        except DamagedError:
            damaged.append(path)
            continue
        if damaged:
            logger.warning(
                "%s cannot be read; using %s of epoch %d instead",
                ", ".join(map(str, damaged)),
                path,
                checkpoint.epoch,
            )
        return path, checkpoint
    if damaged:
        raise UserError(f"{run}: no checkpoint of {len(damaged)} can be read; start a new run")
    raise UserError(f"{run}: no checkpoint in it; name a run directory or a checkpoint file")


def run_of(checkpoint: Path) -> Path | None:
    """The run directory that a checkpoint file is in; None if it is elsewhere, or exported."""
    folder = checkpoint.resolve().parent
    is_in_run = folder.name == CHECKPOINTS_FOLDER and not checkpoint.is_dir()
    return folder.parent if is_in_run else None


def run_settings(checkpoint: Path) -> TrainingConfig | None:
    """The settings of the run that a checkpoint file is in; None if it is elsewhere."""
    run = run_of(checkpoint)
    if run is None or not (run / CONFIG_NAME).is_file():
        return None
    try:
        return read_yaml(TrainingConfig, run / CONFIG_NAME)
    except UserError as error:
        logger.warning("%s", error)
        return None


def dataset_of(checkpoint: Checkpoint, path: Path) -> Path | None:
    """The folder that a checkpoint was trained on, by its run's settings; None if unknown.

    It may be gone, or contain another dataset.

    Args:
        path: the checkpoint's file.
    """
    settings = run_settings(path)
    named = settings.dataset if settings else Path(checkpoint.training["dataset"])
    return named if named and named.is_absolute() else None


def available_dataset(checkpoint: Checkpoint, path: Path) -> Path | None:
    """The folder that it was trained on; None if it is gone, or contains other images now."""
    dataset = dataset_of(checkpoint, path)
    return dataset if dataset and is_trained_on(checkpoint, dataset) else None


def is_trained_on(checkpoint: Checkpoint, dataset: Path) -> bool:
    """Whether a folder, which may be gone, has the images that a checkpoint was trained on."""
    try:
        # Folder names first, which is cheap: somebody else's checkpoint may name any folder.
        folders = {folder.name for folder in visible_folders(dataset)}
        if not folders.issuperset(checkpoint.genres):
            return False
        images = images_in(dataset, checkpoint.training["split"], checkpoint.training["image_size"])
    except OSError:  # gone, or not readable
        return False
    return images is not None and checkpoint.is_trained_on(images)


def images_in(dataset: Path, split: str, image_size: int | None) -> ImageDataset | None:
    """A folder's images; None if there are none of that split."""
    try:
        return load_dataset(dataset, split=split, image_size=image_size)
    except UserError:
        return None


def _newest_first(run: Path) -> list[Path]:
    folder = run / CHECKPOINTS_FOLDER
    if not folder.is_dir():
        return []
    # A kill may leave a numbered checkpoint without latest.pt.
    paths = [folder / LATEST_NAME, *reversed(_saved(folder)), folder / BEST_NAME]
    return [path for path in paths if path.is_file()]


def keep_checkpoint(
    checkpoint: Checkpoint, run: Path, *, keep: int, best: bool = False, name: str | None = None
) -> Path:
    """Save as `name`.pt, by default epoch_NNNN.pt, and delete all but the newest `keep` of these.

    latest.pt is the same file under another name, and so is best.pt if it is the `best` so far.
    All of them are on the disk before an older one is deleted.
    """
    folder = run / CHECKPOINTS_FOLDER
    name = name or f"epoch_{checkpoint.epoch:04d}"
    path = folder / f"{name}.pt"
    save_checkpoint(checkpoint, path)
    for link in (LATEST_NAME, BEST_NAME) if best else (LATEST_NAME,):
        _link(path, folder / link)
    saved = _saved(folder)
    # A run that went back to an older checkpoint has later ones, which are obsolete.
    newest = saved[: saved.index(path) + 1][-keep:]
    for other in saved:
        if other not in newest:
            other.unlink()
    return path


def _link(path: Path, name: Path) -> None:
    """Give a file another name in its folder, atomically."""
    with atomic_write(name) as temporary:
        try:
            os.link(path, temporary)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, temporary)


def checkpoints_for(path: Path, spectrogram: SpectrogramConfig) -> list[Path]:
    """A checkpoint file, an exported folder, or all those of a run, whose images a vocoder is for.

    Raises:
        UserError: there is none, one cannot be read, or one is of images with other settings; or it
            is a zip.
    """
    is_exported = is_model_folder(path)
    if is_exported and not path.is_dir():
        raise UserError(f"{path} is a zip, which is not changed; unpack it and name the folder")
    paths = _newest_first(path) if path.is_dir() and not is_exported else [path]
    if not paths:
        raise UserError(f"{path}: no checkpoint in it; name a run directory or a checkpoint file")
    for file in paths:
        found = read_checkpoint(file).spectrogram
        if replace(found, n_frames=spectrogram.n_frames) != spectrogram:
            raise UserError(
                f"{file} is of images with other spectrogram settings than the vocoder; learn one "
                "from the dataset that it was trained on"
            )
    return paths


def add_vocoder(path: Path, vocoder: Vocoder) -> list[Path]:
    """Put a vocoder into a checkpoint, or into all checkpoints of a run; returns their paths.

    Raises:
        UserError: as `checkpoints_for`, and nothing is changed; or the run is being trained.
    """
    if is_model_folder(path):
        (path,) = checkpoints_for(path, vocoder.spectrogram)
        write_model_folder({**read_model_folder(path), "vocoder": vocoder.to_plain()}, path)
        logger.info("%s: its model card and sounds are those of before; export it again", path)
        return [path]
    with folder_lock(path, "adding a vocoder") if path.is_dir() else nullcontext():
        paths = checkpoints_for(path, vocoder.spectrogram)
        names: list[list[Path]] = []  # those of one file together
        for file in paths:
            same = (group for group in names if file.samefile(group[0]))
            group = next(same, None) if file.stat().st_nlink > 1 else None
            if group is None:
                names.append([file])
            else:
                group.append(file)
        for first, *others in names:
            save_checkpoint(replace(read_checkpoint(first), vocoder=vocoder.to_plain()), first)
            for other in others:
                _link(first, other)
    return paths


def _saved(folder: Path) -> list[Path]:
    """The numbered checkpoints in a folder, oldest first, of ends of epochs and within them."""
    found = [
        (re.fullmatch(r"epoch_(\d{4,})(?:_images_(\d{8,}))?\.pt", p.name), p)
        for p in folder.iterdir()
    ]
    numbered = [(int(match[1]), int(match[2] or 0), path) for match, path in found if match]
    return [path for _, _, path in sorted(numbered)]
