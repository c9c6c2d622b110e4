"""The settings of a training run. Their defaults are the classic DCGAN."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from musicspectrogan import models
from musicspectrogan.config import check_at_least, check_within, read_fields, to_plain
from musicspectrogan.counts import Count
from musicspectrogan.errors import SettingError, check_choice
from musicspectrogan.launch import check_device

PRECISIONS = ("float32", "tf32", "bfloat16")
LARGEST_BATCH = 65536
LARGEST_SEED = 2**63 - 1  # what torch takes


@dataclass(frozen=True)
class TrainingConfig:
    """Train a GAN on a folder of spectrogram images."""

    gan: str = "dcgan"
    """Model: dcgan, or cgan, which is conditioned on genre; stable_gan and stable_cgan, which train
    more stably; anylength_gan and anylength_cgan, which also generate pieces of any length."""
    dataset: Path | None = None
    """Folder made by preprocess.py, or any folder of class folders of images."""
    split: str = "training"
    """Which tracks to train on: training, validation, test, held-out or all."""
    image_size: int | None = None
    """Pixels a side for images that preprocess.py did not make; None for their own, or 64."""
    images: Count | None = None
    """Length of the run: images shown, for instance 100k or 1.5m. None for that of `epochs`; if
    both are None, 50 epochs, and at least 25,000 images."""
    epochs: int | None = None
    """Length of the run in passes over the dataset, in place of `images`."""
    batch_size: int = 64
    """Images in one step."""
    width: int = 64
    """Channels of the layers next to the image; 64 is the classic, 16 to 32 suit a CPU."""
    channel_multiple: int = models.CHANNEL_MULTIPLE
    """Channels of non-classic networks double with each layer away from the image, up to this many
    times the width."""
    latent_dim: int = 100
    """Length of the latent vector; for anylength_gan and anylength_cgan, of a piece's style."""
    upsampling: str = "transposed"
    """Upsampling in non-classic generators: transposed, resize, or resize_time (in time only)."""
    minibatch_deviation: bool = False
    """Show a non-classic discriminator how much the images of a batch differ."""
    spectral_norm: bool = False
    """Divide the weights of a non-classic discriminator by their spectral norms."""
    loss: str = "bce"
    """Adversarial loss: bce, hinge or relativistic."""
    r1: float = 0.0
    """Weight of the gradient penalty on real images; 0 for none."""
    r2: float = 0.0
    """Weight of the gradient penalty on fake images; 0 for none."""
    penalty_share: float = 1.0
    """Share of each batch from which the gradient penalties are computed, rounded up to a multiple
    of 4 images: they cost more than the rest of the discriminator's turn, and a part of the batch
    estimates the same mean."""
    augment: float | Literal["auto"] | None = 0.0
    """Probability of each augmentation of what the discriminator sees, real and fake; 0 for none,
    auto for one that suits the number of training images (older files: null)."""
    windows: bool = False
    """Train on windows at any offset in the tracks instead of on the images as they were cut."""
    rhythm: bool = False
    """Let the discriminator of anylength_gan or anylength_cgan also judge how loud broad bands are
    over time, so that the generator learns a more natural rhythm."""
    pairs: bool = False
    """Let the discriminator of anylength_gan or anylength_cgan compare two windows of a track, so
    that the generator learns how much of a piece stays the same."""
    lr: float | Literal["auto"] = 0.0002
    """Learning rate of both Adam optimizers; auto for the one of the recommended recipes for
    networks as wide as these."""
    beta1: float = 0.5
    """Adam's decay of the mean of gradients."""
    beta2: float = 0.999
    """Adam's decay of the mean of squared gradients."""
    anneal_images: Count = 0
    """Images over which the learning rate and the penalties' weights fall to a tenth; 0: never."""
    ema_images: Count = 10000
    """Half-life in images of the averaged weights of the generator that is sampled from."""
    standing_batches: int = 100
    """Batches from which BatchNorm's statistics of the averaged generator are computed."""
    seed: int = 0
    """Seed of all random numbers."""
    device: str = "auto"
    """auto, cuda, cuda:N, mps or cpu; auto takes the first of CUDA, MPS and CPU that works."""
    precision: str = "float32"
    """float32; tf32, which rounds the factors of convolutions to 10 bits; or bfloat16 for the
    networks' passes without a gradient penalty. The last two are for NVIDIA GPUs from Ampere on;
    bfloat16 slows most CPUs."""
    cuda_graph: bool = True
    """On an NVIDIA GPU record the training step as a CUDA graph and replay it, which is faster."""
    sync_batchnorm: bool = False
    """With several processes, let BatchNorm see the whole batch instead of each process's part."""
    log_every: int = 50
    """Steps between two lines of the log and of metrics.csv."""
    snapshot_every: Count = 10000
    """Images between two sample grids and checkpoints, which come at ends of epochs and of the run;
    from the tenth on, a tenth of the images seen so far."""
    snapshot_share: float | None = None
    """Largest share of the time for snapshots; one that is due waits for the end of a later epoch.
    None for a tenth on a GPU, and for no limit on a CPU, where the same command always leaves the
    same checkpoints."""
    eval_every: Count = 10000
    """Images between two evaluations of samples against the validation tracks, spaced like
    snapshots and made with them; 0 for none."""
    keep_checkpoints: int = 3
    """Number of newest checkpoints to keep."""
    init_from: Path | None = None
    """Checkpoint whose weights a new run starts from; None for newly initialised ones."""

    @read_fields
    def __post_init__(self) -> None:
        object.__setattr__(self, "gan", models.current_name(self.gan))
        if self.augment is None:  # older files and commands; the one place that knows
            object.__setattr__(self, "augment", "auto")
        check_choice("gan", self.gan, models.names())
        check_device(self.device)
        check_choice("precision", self.precision, PRECISIONS)
        check_at_least(
            self, images=1, epochs=1, width=1, latent_dim=1, standing_batches=1, log_every=1
        )
        check_at_least(self, snapshot_every=1, eval_every=0, keep_checkpoints=1)
        check_within(self, batch_size=(2, LARGEST_BATCH), seed=(0, LARGEST_SEED))
        check_at_least(self, r1=0, r2=0, anneal_images=0, ema_images=0)
        if self.images is not None and self.epochs is not None:
            raise SettingError(
                "images", "epochs is given too, which also says how long to train; give one"
            )
        for name in ("r1", "r2"):
            if getattr(self, name) == float("inf"):
                raise SettingError(name, "inf is not allowed; it is a weight, for instance 1")
        if self.minibatch_deviation and self.batch_size % 2 and self.batch_size % 3:
            raise SettingError(
                "batch_size",
                f"{self.batch_size} cannot be split into groups for --minibatch-deviation; "
                "give a multiple of 4, or of 2 or 3",
            )
        if not 0 < self.penalty_share <= 1:
            raise SettingError(
                "penalty_share",
                f"{self.penalty_share} is not allowed; give more than 0, at most 1",
            )
        if self.snapshot_share is not None and not 0 < self.snapshot_share <= 1:
            raise SettingError(
                "snapshot_share",
                f"{self.snapshot_share} is not allowed; give more than 0, at most 1",
            )
        if isinstance(self.augment, (int, float)) and not 0 <= self.augment <= 1:
            raise SettingError(
                "augment", f"{self.augment} is not allowed; it is a probability, 0 to 1, or auto"
            )
        if isinstance(self.lr, (int, float)) and not 0 < self.lr < float("inf"):
            raise SettingError(
                "lr", f"{self.lr} is not allowed; it must be positive, for instance 0.0002, or auto"
            )
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingError(
                    name, f"{getattr(self, name)} is not allowed; it must be in [0, 1)"
                )


# The settings that are paths.
PATHS = tuple(field.name for field in fields(TrainingConfig) if "Path" in str(field.type))


def to_portable(config: TrainingConfig) -> dict[str, Any]:
    """The settings as plain values for files that are shared: of a path only its last part."""
    names = {n: os.fsencode(path.name) for n in PATHS if (path := getattr(config, n))}
    return {**to_plain(config), **{n: name.decode("utf-8", "replace") for n, name in names.items()}}
