"""A checkpoint: tensors and plain values in one file, enough to generate from and to resume.

An exported model has only what generating takes: a folder, or a zip of it, see `modelfolder`.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from musicspectrogan import models
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.audio.vocoder import Vocoder
from musicspectrogan.config import from_plain, to_plain
from musicspectrogan.data.dataset import ImageDataset
from musicspectrogan.errors import UserError, not_one_of
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

FORMAT_VERSION = 1
LONGEST_GENRE = 1000
# What training takes beyond generating, and exported models lack.
OF_TRAINING = ("discriminator", "optimizer_g", "optimizer_d")
# What only exported models have.
CARD = "card"


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

    def build_discriminator(self) -> nn.Module:
        """The discriminator as trained, in eval mode on the CPU; not of an exported model."""
        _, discriminator = models.build(self.gan, self.model)
        discriminator.load_state_dict(self.discriminator)
        return discriminator.eval().requires_grad_(False)

    def build_vocoder(self) -> Vocoder | None:
        """The vocoder for its images, in eval mode on the CPU."""
        return None if self.vocoder is None else Vocoder.from_plain(self.vocoder)

    @property
    def is_exported(self) -> bool:
        """Whether it can only generate: training needs the discriminator."""
        return not self.discriminator

    @property
    def digest(self) -> str:
        """A short hash of all that its images depend on, in whatever file it is.

        A vocoder has a digest of its own.
        """
        facts = (self.gan, asdict(self.model), self.genres, asdict(self.spectrogram))
        sha = hashlib.sha256(repr(facts).encode("utf-8", "backslashreplace"))
        for name, weight in sorted(self.ema.items()):
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


def export_checkpoint(
    checkpoint: Checkpoint, folder: Path, *, half: bool = False, card: dict[str, Any] | None = None
) -> None:
    """Write what generating takes into a folder that exists: the averaged generator, the vocoder.

    Args:
        half: store weights in half precision.
        card: facts for a model card, for whoever exports it again; see `read_card`.
    """
    contents = _contents(checkpoint) | {CARD: card or {}}
    contents["generator"] = contents.pop("ema")
    for name in OF_TRAINING:
        del contents[name]
    write_model_folder(contents, folder, half=half)


def _contents(checkpoint: Checkpoint) -> dict[str, Any]:
    contents = {f.name: getattr(checkpoint, f.name) for f in fields(checkpoint)}
    contents["model"] = asdict(checkpoint.model)
    contents["spectrogram"] = asdict(checkpoint.spectrogram)
    return {"format_version": FORMAT_VERSION, **contents}


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint file or an exported model onto the CPU. Nothing in it is executed.

    Raises:
        UserError: there is none, or it is damaged or not of this format.
    """
    if not path.exists():
        raise UserError(
            f"{path}: there is no such checkpoint; name a run, a checkpoint file, `latest` or "
            "`demo`"
        )
    exported = is_model_folder(path)
    try:
        contents = _read_exported(path) if exported else _read_file(path)
        version = int(contents.pop("format_version"))
        checkpoint = from_plain(Checkpoint, contents) if version == FORMAT_VERSION else None
        if checkpoint and checkpoint.gan in models.names():
            _check(checkpoint, exported)
            return checkpoint
    except (OSError, PluginError):  # no permission or a faulty model: the file is not damaged
        raise
    except Exception as error:  # the file may hold anything
        why = f" ({error})" if isinstance(error, REASONS) else ""
        is_shared = exported or path.suffix == ".zip"
        kind = "a model" if is_shared else "a checkpoint"
        remedy = "copy or export it again" if is_shared else "use an older one from its folder"
        raise DamagedError(f"{path} is damaged or not {kind} of this tool{why}; {remedy}") from None
    if checkpoint is None:
        raise UserError(
            f"{path} has format {version}; this version reads format {FORMAT_VERSION}: install a "
            "newer one"
        )
    raise UserError(
        f"{path} is of an unknown GAN: {not_one_of(checkpoint.gan[:40], models.names())}; put its "
        f"file into {models.FOLDER}"
    )


def _read_file(path: Path) -> Any:
    try:
        return read_torch_file(path)
    except TorchFileError:
        if path.suffix != ".zip":
            raise
        return _read_exported(path)  # which says what the zip lacks


def read_card(path: Path) -> object:
    """Read the facts for a model card that `export_checkpoint` stored; {} if there are none.

    Raises:
        OSError: the exported model cannot be read.
        ModelFolderError: it is damaged.
    """
    return read_model_folder(path).get(CARD, {})


def _read_exported(path: Path) -> dict[str, Any]:
    """What a file of a checkpoint would hold."""
    contents = read_model_folder(path)
    contents.pop(CARD, None)
    weights = contents["generator"]
    for name, weight in weights.items():
        if weight.dtype == torch.float16:
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
