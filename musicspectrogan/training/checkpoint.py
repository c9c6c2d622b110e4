"""A checkpoint: tensors and plain values in one file, enough to generate from and to resume.

An exported model has only what generating takes: a folder, or a zip of it, see `modelfolder`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from musicspectrogan import models
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.audio.vocoder import Vocoder
from musicspectrogan.config import from_plain, read_yaml, to_plain
from musicspectrogan.data.dataset import ImageDataset, load_dataset
from musicspectrogan.errors import UserError, not_one_of
from musicspectrogan.filesystem import atomic_write, folder_lock, visible_folders
from musicspectrogan.modelfolder import (
    ModelFolderError,
    is_model_folder,
    read_model_folder,
    write_model_folder,
)
from musicspectrogan.models import ModelConfig
from musicspectrogan.plugins import PluginError
from musicspectrogan.torchfiles import (
    TorchFileError,
    check_weights,
    read_torch_file,
    write_torch_file,
)
from musicspectrogan.training.settings import TrainingConfig

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
CONFIG_NAME = "config.yaml"
CHECKPOINTS_FOLDER = "checkpoints"
LATEST_NAME = "latest.pt"
BEST_NAME = "best.pt"

LONGEST_GENRE = 1000
# What training takes beyond generating, and exported models lack.
OF_TRAINING = ("discriminator", "optimizer_g", "optimizer_d")


@dataclass
class Checkpoint:
    """The contents of a checkpoint file. Random numbers follow from the seed and the position."""

    gan: str
    model: ModelConfig
    training: dict[str, Any]
    """The run's settings by name, as plain values. Paths are reduced to their last part, because
    the file may be shared; older checkpoints hold whole paths."""
    genres: list[str]
    """Label k is genres[k]."""
    spectrogram: SpectrogramConfig
    """How to turn the images back into sound."""
    generator: dict[str, torch.Tensor]
    discriminator: dict[str, torch.Tensor]
    """Empty in an exported model, and so are the optimizers."""
    ema: dict[str, torch.Tensor]
    """The averaged generator with standing statistics, ready to sample from."""
    optimizer_g: dict[str, Any]
    optimizer_d: dict[str, Any]
    epoch: int
    """Epochs completed."""
    step: int
    """Steps taken."""
    images_seen: int
    dataset_fingerprint: str
    """A hash of the names of the images, to recognise the dataset."""
    quality: dict[str, float] = field(default_factory=dict)
    """Metrics of samples; empty if they were not evaluated."""
    dataset_contents: str = ""
    """A hash of some of the images' pixels; empty in older checkpoints."""
    vocoder: dict[str, Any] | None = None
    """`Vocoder.to_plain` of the dataset's vocoder; None if it had none."""

    def __post_init__(self) -> None:
        self.gan = models.current_name(self.gan)

    def build_ema_generator(self) -> nn.Module:
        """The generator to sample from, in eval mode on the CPU."""
        generator, _ = models.build(self.gan, self.model)
        generator.load_state_dict(self.ema)
        return generator.eval().requires_grad_(False)

    def build_vocoder(self) -> Vocoder | None:
        """The vocoder for its images, in eval mode on the CPU."""
        return None if self.vocoder is None else Vocoder.from_plain(self.vocoder)

    @property
    def is_exported(self) -> bool:
        """Whether it can only generate: training needs the discriminator."""
        return not self.discriminator

    @property
    def digest(self) -> str:
        """A short hash of all that its images and sounds depend on, in whatever file it is."""
        facts = (self.gan, asdict(self.model), self.genres, asdict(self.spectrogram))
        sha = hashlib.sha256(repr(facts).encode("utf-8", "backslashreplace"))
        weights = [*self.ema.items(), *(self.vocoder or {}).get("weights", {}).items()]
        for name, weight in sorted(weights):
            sha.update(name.encode())
            sha.update(weight.cpu().contiguous().numpy().tobytes())
        return sha.hexdigest()[:16]

    def is_trained_on(self, dataset: ImageDataset) -> bool:
        """Whether these are the images that it was trained on, in any folder."""
        return (
            self.dataset_fingerprint == dataset.fingerprint
            and self.dataset_contents in ("", dataset.contents)
            and self.spectrogram == dataset.spectrogram
        )


@dataclass(frozen=True)
class LiveGenerator:
    """An averaged generator in memory, to sample from during training like from a checkpoint."""

    module: nn.Module
    """In eval mode, ready to sample from; not to be changed."""
    gan: str
    model: ModelConfig
    genres: list[str]
    spectrogram: SpectrogramConfig

    def build_ema_generator(self) -> nn.Module:
        """The module itself; a checkpoint builds one."""
        return self.module


# Errors whose text says what is wrong with a file.
REASONS = (TorchFileError, ModelFolderError, UserError)


class DamagedError(UserError):
    """The file is damaged; an older checkpoint may be intact."""


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint atomically."""
    write_torch_file(_contents(checkpoint), path)


def export_checkpoint(checkpoint: Checkpoint, folder: Path, *, half: bool = False) -> None:
    """Write what generating takes into a folder that exists: the averaged generator, the vocoder.

    Args:
        half: store weights in half precision.
    """
    contents = _contents(checkpoint)
    contents["generator"] = contents.pop("ema")
    for name in OF_TRAINING:
        del contents[name]
    write_model_folder(contents, folder, half=half)


def _contents(checkpoint: Checkpoint) -> dict[str, Any]:
    contents = {f.name: getattr(checkpoint, f.name) for f in fields(checkpoint)}
    contents["model"] = asdict(checkpoint.model)
    contents["spectrogram"] = asdict(checkpoint.spectrogram)
    return {"format_version": FORMAT_VERSION, **contents}


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU. Nothing in it is executed.

    Args:
        path: a checkpoint file, an exported model, or a run directory for its newest intact
            checkpoint.

    Raises:
        UserError: there is none, or it is damaged or not of this format.
    """
    exported = is_model_folder(path)
    if path.is_dir() and not exported:
        return newest_checkpoint(path)[1]
    if not path.exists():
        raise UserError(f"{path}: there is no such checkpoint")
    try:
        contents = _read_exported(path) if exported else read_torch_file(path)
        version = int(contents.pop("format_version"))
        checkpoint = from_plain(Checkpoint, contents) if version == FORMAT_VERSION else None
        if checkpoint and checkpoint.gan in models.names():
            _check(checkpoint, exported)
            return checkpoint
    except (OSError, PluginError):  # no permission or a faulty model: the file is not damaged
        raise
    except Exception as error:  # the file may hold anything
        why = f" ({error})" if isinstance(error, REASONS) else ""
        remedy = "export it again" if exported else "use an older one from its folder"
        raise DamagedError(
            f"{path} is damaged or not a checkpoint of this tool{why}; {remedy}"
        ) from None
    if checkpoint is None:
        raise UserError(f"{path} has format {version}; this version reads format {FORMAT_VERSION}")
    raise UserError(
        f"{path} is of an unknown GAN: {not_one_of(checkpoint.gan[:40], models.names())}; put its "
        f"file into {models.FOLDER}"
    )


def _read_exported(path: Path) -> dict[str, Any]:
    """What a file of a checkpoint would hold."""
    contents = read_model_folder(path)
    weights = contents["generator"]
    for name, weight in weights.items():
        if weight.is_floating_point():
            weights[name] = weight.float()
    return {**contents, "ema": weights, **{name: {} for name in OF_TRAINING}}


def _check(checkpoint: Checkpoint, exported: bool) -> None:
    """Raise UserError for parts that do not fit together. No network is built in memory."""
    model, genres = checkpoint.model, checkpoint.genres
    if min(checkpoint.epoch, checkpoint.step, checkpoint.images_seen) < 0:
        raise UserError("a negative position")
    if len(set(genres)) != model.n_genres or len(genres) != model.n_genres:
        raise UserError(f"{len(genres)} genres for a model of {model.n_genres}")
    if not all(0 < len(genre) <= LONGEST_GENRE for genre in genres):
        raise UserError("a genre whose name is empty or too long")
    if checkpoint.spectrogram.n_mels != model.image_size:
        raise UserError(
            f"{checkpoint.spectrogram.n_mels} mel bands in images of {model.image_size} rows"
        )
    training = from_plain(TrainingConfig, checkpoint.training)
    if training.dataset is None:
        raise UserError("no dataset in its settings")
    checkpoint.training = to_plain(training)  # adds settings that older versions lacked
    with torch.device("meta"):  # shapes without memory
        generator, discriminator = models.build(checkpoint.gan, model)
    check_weights("generator", checkpoint.generator, generator)
    check_weights("generator", checkpoint.ema, generator)
    if not exported:
        check_weights("discriminator", checkpoint.discriminator, discriminator)
    if checkpoint.vocoder is not None:
        vocoder = Vocoder.check_plain(checkpoint.vocoder)
        if not vocoder.fits(checkpoint.spectrogram):
            raise UserError("a vocoder for images with other settings")


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
            checkpoint = load_checkpoint(path)
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
        raise UserError(
            f"{run}: none of its {len(damaged)} checkpoints can be read; start a new run"
        )
    raise UserError(f"{run}: no checkpoint in it; name a run directory or a checkpoint file")


def run_settings(checkpoint: Path) -> TrainingConfig | None:
    """The settings of the run that a checkpoint file is in; None if it is elsewhere."""
    parent = checkpoint.resolve().parent
    path = parent.parent / CONFIG_NAME
    if parent.name != CHECKPOINTS_FOLDER or not path.is_file():
        return None
    try:
        return read_yaml(TrainingConfig, path)
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
    if dataset is None:
        return None
    try:
        # Folder names first, which is cheap: somebody else's checkpoint may name any folder.
        folders = {folder.name for folder in visible_folders(dataset)}
        if not folders.issuperset(checkpoint.genres):
            return None
        images = images_in(dataset, checkpoint.training["split"], checkpoint.training["image_size"])
    except OSError:  # gone, or not readable
        return None
    return dataset if images and checkpoint.is_trained_on(images) else None


def images_in(dataset: Path, split: str, image_size: int | None) -> ImageDataset | None:
    """A folder's images; None if there are none of that split."""
    try:
        return load_dataset(dataset, split=split, image_size=image_size)
    except UserError:
        return None


def open_checkpoint(path: Path, *, best: bool = False) -> tuple[Path, Checkpoint]:
    """Read the checkpoint that a path names; returns its file, or folder, too.

    Args:
        path: a run directory, a checkpoint file, or an exported model.
        best: take the best of a run by the validation tracks, not the newest.

    Raises:
        UserError: there is none, or it is damaged or not of this format.
    """
    if not path.is_dir():
        return path, load_checkpoint(path)
    return best_checkpoint(path) if best else newest_checkpoint(path)


def is_checkpoint(path: Path) -> bool:
    """Whether a path names a checkpoint, rather than a folder of images."""
    return not path.is_dir() or has_checkpoint(path)


def has_checkpoint(run: Path) -> bool:
    """Whether a run directory has a checkpoint, intact or not, or is an exported model."""
    return bool(_newest_first(run))


def _newest_first(run: Path) -> list[Path]:
    if is_model_folder(run):
        return [run]
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
    """A checkpoint file, or all those of a run, whose images a vocoder is for.

    Raises:
        UserError: there is none, one cannot be read, or one is of images with other settings.
    """
    paths = _newest_first(path) if path.is_dir() else [path]
    if not paths:
        raise UserError(f"{path}: no checkpoint in it; name a run directory or a checkpoint file")
    for file in paths:
        if not file.is_dir() and is_model_folder(file):
            raise UserError(f"{file} is a zip, which is not changed; unpack it and name the folder")
        found = load_checkpoint(file).spectrogram
        if replace(found, n_frames=spectrogram.n_frames) != spectrogram:
            raise UserError(
                f"{file} is of images with other spectrogram settings than the vocoder; learn one "
                "from the dataset that it was trained on"
            )
    return paths


def add_vocoder(path: Path, vocoder: Vocoder) -> list[Path]:
    """Put a vocoder into a checkpoint file, or into all checkpoints of a run; returns their paths.

    Raises:
        UserError: as `checkpoints_for`, and nothing is changed; or the run is being trained.
    """
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
            changed = replace(load_checkpoint(first), vocoder=vocoder.to_plain())
            if changed.is_exported:
                export_checkpoint(changed, first, half=_is_half(changed.ema))
            else:
                save_checkpoint(changed, first)
            for other in others:
                _link(first, other)
    return paths


def _is_half(weights: dict[str, torch.Tensor]) -> bool:
    """Whether half precision holds these weights exactly."""
    return all(weight.half().to(weight.dtype).equal(weight) for weight in weights.values())


def _saved(folder: Path) -> list[Path]:
    """The numbered checkpoints in a folder, oldest first, of ends of epochs and within them."""
    found = [
        (re.fullmatch(r"epoch_(\d{4,})(?:_images_(\d{8,}))?\.pt", p.name), p)
        for p in folder.iterdir()
    ]
    numbered = [(int(match[1]), int(match[2] or 0), path) for match, path in found if match]
    return [path for _, _, path in sorted(numbered)]
