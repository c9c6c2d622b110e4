"""Sets up a training run: from settings, or from a previous run, to a run directory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from musicspectrogan import models
from musicspectrogan.audio.vocoder import Vocoder, find_vocoder
from musicspectrogan.config import from_plain, read_yaml, to_plain, to_yaml
from musicspectrogan.counts import format_count
from musicspectrogan.data.dataset import ImageDataset, load_dataset
from musicspectrogan.device import arithmetic, check_precision
from musicspectrogan.errors import SettingError, UserError, check_choice, flag_of
from musicspectrogan.filesystem import folder_lock
from musicspectrogan.models import ModelConfig
from musicspectrogan.models.layers import deviation_group
from musicspectrogan.training import run_directory
from musicspectrogan.training.augment import probability_for
from musicspectrogan.training.batches import steps_per_epoch
from musicspectrogan.training.building import (
    build_networks,
    build_trainer,
    learning_rate,
    measure_speed,
)
from musicspectrogan.training.checkpoint import Checkpoint
from musicspectrogan.training.distributed import SINGLE_PROCESS, Distributed
from musicspectrogan.training.losses import LOSSES
from musicspectrogan.training.metrics import MetricsLogger
from musicspectrogan.training.run_checkpoints import (
    CONFIG_NAME,
    dataset_of,
    load_checkpoint,
    open_checkpoint,
    run_settings,
)
from musicspectrogan.training.schedule import ROUGH_BELOW, Schedule, with_length
from musicspectrogan.training.settings import PATHS, TrainingConfig
from musicspectrogan.training.snapshots import QualityOf, Snapshots, SoundsOf, StripsOf

logger = logging.getLogger(__name__)

# Settings that a resumed run may change: where and how long it trains, and what touches no weight.
CHANGEABLE = (
    "images",
    "epochs",
    "device",
    "sync_batchnorm",
    "cuda_graph",
    "log_every",
    "snapshot_every",
    "snapshot_share",
    "eval_every",
    "keep_checkpoints",
)
# Settings that follow from others where they are `auto`.
AUTOMATIC = ("augment", "lr")
NOT_TRAINABLE = (
    "an exported model has no discriminator and cannot be trained further; name a checkpoint of "
    "the run that it was exported from"
)
# The widest network for images of 64 x 64 that trains in reasonable time without a GPU.
WIDTH_FOR_CPU = 32


@dataclass(frozen=True)
class Plan:
    """A run that is about to start: everything but the weights."""

    config: TrainingConfig
    run: Path
    dataset: ImageDataset
    model: ModelConfig
    device: torch.device
    start: Checkpoint | None = None
    """Checkpoint whose weights it starts from; None for newly initialised ones."""
    resumed: bool = False
    numbered: bool = False
    """Whether `run` may get another number if it is taken by the time the run starts."""
    distributed: Distributed = SINGLE_PROCESS

    @property
    def augment(self) -> float:
        """The probability of augmentation."""
        if isinstance(self.config.augment, (int, float)):
            return self.config.augment
        return probability_for(len(self.dataset))

    @property
    def schedule(self) -> Schedule:
        """The length and the snapshots."""
        return Schedule(self.config, steps_per_epoch(len(self.dataset), self.config.batch_size))

    @property
    def steps_taken(self) -> int:
        """Where it starts."""
        return self.start.step if self.start and self.resumed else 0

    @cached_property
    def vocoder(self) -> Vocoder | None:
        """The dataset's vocoder, or the one that a resumed run has had so far."""
        assert self.config.dataset is not None
        vocoder = find_vocoder(self.config.dataset, self.dataset.spectrogram)
        if vocoder is None and self.start and self.resumed:
            vocoder = self.start.build_vocoder()
        return vocoder

    @property
    def contents(self) -> str:
        """The size of the dataset in words."""
        images, genres = len(self.dataset), len(self.dataset.genres)
        return f"{format_count(images, 'image')} of {format_count(genres, 'genre')}"

    @property
    def remarks(self) -> list[str]:
        """What to know before it starts, a line each."""
        images, config = self.schedule.images, self.config
        remarks = []
        if images < ROUGH_BELOW:
            remarks.append(
                f"Samples will be rough: the run ends after {format_count(images, 'image')}; give "
                "--images 100k or more for better ones"
            )
        if 0 < config.eval_every < config.snapshot_every:
            remarks.append(
                "Samples are evaluated only with checkpoints, every "
                f"{format_count(config.snapshot_every, 'image')}; to evaluate more often give "
                f"--snapshot-every {config.eval_every} too"
            )
        return remarks

    def describe(self, images_per_second: float) -> str:
        """The settings, the models' sizes, the length at that speed and the run directory."""
        generator, discriminator = build_networks(self.config, self.model)
        schedule = self.schedule
        seconds = (schedule.images - self.steps_taken * self.config.batch_size) / images_per_second
        return "\n".join(
            [
                to_yaml(self.config).rstrip(),
                f"# dataset: {self.contents} ({', '.join(self.dataset.genres)})",
                f"# generator: {_count_weights(generator):,} weights",
                f"# discriminator: {_count_weights(discriminator):,} weights",
                f"# device: {self.device}",
                f"# processes: {self.distributed.world_size}",
                f"# probability of augmentation: {self.augment:.2g}",
                f"# steps an epoch: {schedule.steps_per_epoch}",
                f"# length: {schedule.describe(self.steps_taken, seconds, images_per_second)}",
                *(f"# {line}" for line in self.remarks),
                f"# run directory: {self.run}",
            ]
        )


def plan_run(
    config: TrainingConfig,
    output: Path | None = None,
    distributed: Distributed = SINGLE_PROCESS,
) -> Plan:
    """Plan a new run.

    Args:
        output: the run directory; None for the next number below runs/.
        distributed: the processes that train together.

    Raises:
        UserError: no dataset is given, or it cannot be trained on.
    """
    if config.dataset is None:
        raise UserError("--dataset is missing: name the folder that preprocess.py made")
    check_choice("loss", config.loss, LOSSES)
    _check_shards(config, distributed.world_size)
    config = with_resolved_paths(config)
    assert config.dataset is not None
    device = distributed.device(config.device)
    check_precision(config.precision, device)
    dataset = load_dataset(config.dataset, split=config.split, image_size=config.image_size)
    config = with_length(config, steps_per_epoch(len(dataset), config.batch_size))
    model = ModelConfig(
        dataset.image_size,
        config.width,
        config.latent_dim,
        len(dataset.genres),
        channel_multiple=config.channel_multiple,
        upsampling=config.upsampling,
        minibatch_deviation=config.minibatch_deviation,
        spectral_norm=config.spectral_norm,
        rhythm=config.rhythm,
        pairs=config.pairs,
    )
    models.check_options(config.gan, model)
    config = replace(config, lr=learning_rate(config, model))
    run = output or run_directory.next_run(config.gan, dataset.name)
    start = load_checkpoint(config.init_from) if config.init_from else None
    if start and start.is_exported:
        raise UserError(f"--init-from {config.init_from}: {NOT_TRAINABLE}")
    if start and start.genres != dataset.genres:
        logger.warning(
            "The weights were trained on %s; here the same labels mean %s",
            ", ".join(start.genres),
            ", ".join(dataset.genres),
        )
    widest = WIDTH_FOR_CPU * 64 // dataset.image_size
    if device.type == "cpu" and config.width > widest:
        logger.info(
            "Training on the CPU, where this width is slow; --width %d suits it better",
            max(1, widest // 2),
        )
    return Plan(
        config,
        run,
        dataset,
        model,
        device,
        start,
        numbered=output is None,
        distributed=distributed,
    )


@dataclass(frozen=True)
class PreviousRun:
    """A run to resume."""

    path: Path
    """The run directory, or the checkpoint in it to resume from."""
    config: TrainingConfig
    """The settings it was started with."""
    checkpoint: Checkpoint | None
    """None if it ended before its first one."""


def load_run(path: Path) -> PreviousRun:
    """Load a run directory, a checkpoint in one, or `latest`, to resume from.

    Raises:
        UserError: it is none of these, or cannot be read.
    """
    path = run_directory.named_run(path)
    if run_directory.is_unstarted(path):
        return PreviousRun(path, read_yaml(TrainingConfig, path / CONFIG_NAME), None)
    file, checkpoint = open_checkpoint(path)
    if checkpoint.is_exported:
        raise UserError(f"--resume {path}: {NOT_TRAINABLE}")
    config = from_plain(TrainingConfig, checkpoint.training)
    settings = run_settings(file)  # with whole paths, of which the checkpoint has the last part
    return PreviousRun(
        path,
        replace(
            config,
            dataset=dataset_of(checkpoint, file),
            init_from=settings.init_from if settings else None,
        ),
        checkpoint,
    )


def plan_resumed_run(
    previous: PreviousRun, config: TrainingConfig, distributed: Distributed = SINGLE_PROCESS
) -> Plan:
    """Plan to resume a run; one without a checkpoint starts again.

    Args:
        config: the settings wanted now.
        distributed: the processes that train together, which may be more or fewer than before.

    Raises:
        UserError: a setting differs that may not, or the dataset is another one now.
    """
    path, checkpoint = previous.path, previous.checkpoint
    if checkpoint is None:
        return plan_run(config, path, distributed)
    run = path if path.is_dir() else run_directory.run_of_checkpoint(path)
    for name in AUTOMATIC:
        value = getattr(previous.config, name)
        if getattr(config, name) == "auto" and value != "auto":
            config = replace(config, **{name: value})
            logger.info("%s auto: the resumed run keeps its value, %s", flag_of(name), value)
    config, before = with_resolved_paths(config), to_plain(previous.config)
    for name, value in to_plain(config).items():
        # The dataset may have moved: the checkpoint identifies its images.
        if name not in (*CHANGEABLE, "dataset") and value != before[name]:
            raise UserError(
                f"--resume: {flag_of(name)} was {before[name]} and is now {value}; a resumed run "
                f"may only change {', '.join(map(flag_of, CHANGEABLE))}, and the folder of "
                "--dataset; start a new run, for instance with --init-from"
            )
    is_same = config.dataset == previous.config.dataset
    if config.dataset is None or (is_same and not config.dataset.exists()):
        known = config.dataset or checkpoint.training["dataset"]
        raise UserError(
            f"--resume {path}: the images that it was trained on, {known}, are not there any more; "
            "name the folder that they are in now with --dataset"
        )
    plan = plan_run(replace(config, init_from=None), run, distributed)
    if not checkpoint.is_trained_on(plan.dataset) or plan.model != checkpoint.model:
        raise UserError(
            f"--resume {path}: the images of {config.dataset} are not those that the run began "
            f"with; start a new run with --init-from {path}"
        )
    position = plan.schedule.position_name(checkpoint.step)
    is_complete = plan.schedule.steps <= checkpoint.step
    if is_complete and not run_directory.lacks_grid(run, position):
        raise UserError(
            f"--resume {path}: already has its {format_count(checkpoint.images_seen, 'image')} "
            f"({format_count(checkpoint.epoch, 'epoch')}); ask for more with --images or --epochs"
        )
    if not is_same:
        logger.info("%s holds the images that the run began with: resuming", config.dataset)
    config = replace(plan.config, init_from=previous.config.init_from)
    return replace(plan, config=config, start=checkpoint, resumed=True)


def newest_run_of(config: TrainingConfig) -> Path:
    """The newest run of the same gan and dataset; UserError when there is none."""
    return run_directory.newest_run(with_resolved_paths(config))


def with_resolved_paths(config: TrainingConfig) -> TrainingConfig:
    """The same settings, valid from any working directory and after the next run."""
    if config.init_from:
        config = replace(config, init_from=run_directory.named_run(config.init_from))
    return replace(config, **{n: path.resolve() for n in PATHS if (path := getattr(config, n))})


def describe_dry_run(plan: Plan) -> str:
    """What the run would be, with its measured speed. Nothing is written."""
    with arithmetic(plan.config.precision), plan.distributed.init(plan.device):
        images_per_second = measure_speed(build_trainer(plan))
    return plan.describe(images_per_second)


def train(
    plan: Plan,
    sounds_of: SoundsOf | None = None,
    quality_of: QualityOf | None = None,
    strips_of: StripsOf | None = None,
) -> Path:
    """Train, and return the run directory.

    Args:
        sounds_of, quality_of, strips_of: of `Snapshots`; None for no sounds in TensorBoard, no
            evaluation of samples and no pictures of pieces.

    Raises:
        UserError: the run directory is taken, weights do not fit, or training diverged.
        Interrupted: a signal arrived, and the run was saved.
    """
    config, distributed = plan.config, plan.distributed
    with arithmetic(config.precision), distributed.init(plan.device):
        trainer = build_trainer(plan)
        own = ("device", *PATHS)  # each machine may have its own
        distributed.check_equal(
            settings={name: v for name, v in to_plain(config).items() if name not in own},
            images=plan.dataset.fingerprint,
            steps=trainer.steps_taken,
        )
        if not distributed.is_main:
            trainer.train()
            return plan.run
        with _open_run_directory(plan) as run:
            metrics = MetricsLogger(
                run,
                trainer.schedule,
                trainer.budget,
                steps_taken=trainer.steps_taken,
                on_gpu=plan.device.type != "cpu",
            )
            snapshots = Snapshots(
                run,
                plan.model,
                plan.dataset,
                metrics,
                quality_of=quality_of,
                strips_of=strips_of,
                sounds_of=sounds_of,
                vocoder=plan.vocoder,
            )
            try:
                trainer.train(metrics, snapshots)
            finally:
                snapshots.close()
                metrics.close()
            images = format_count(trainer.images_seen, "image")
            epochs = format_count(trainer.steps_taken / trainer.schedule.steps_per_epoch, "epoch")
            logger.info("Done after %s (%s): %s", images, epochs, run)
    return run


@contextmanager
def _open_run_directory(plan: Plan) -> Iterator[Path]:
    """The run directory with its settings and its log, locked against other runs."""
    run = run_directory.claim_next(plan.run) if plan.numbered else plan.run
    if not plan.resumed:
        run_directory.claim(run)
    with folder_lock(run, "training"):
        if not plan.resumed:
            run_directory.create_run(run, plan.config)
        run_directory.clear_unfinished_files(run)
        with run_directory.log_to(run):
            run_directory.write_settings(run, plan.config)
            logger.info(
                "Training %s on %s; everything goes to %s", plan.config.gan, plan.contents, run
            )
            for line in plan.remarks:
                logger.warning(line)
            yield run


def _check_shards(config: TrainingConfig, world_size: int) -> None:
    """Raise UserError for a batch that so many processes cannot divide evenly."""
    share, remainder = divmod(config.batch_size, world_size)
    if remainder:
        fitting = [n * world_size for n in (share, share + 1) if n * world_size > 1]
        raise SettingError(
            "batch_size",
            f"{config.batch_size} cannot be shared evenly by {world_size} processes; "
            f"give {' or '.join(map(str, fitting))}",
        )
    group = deviation_group(config.batch_size)
    if config.minibatch_deviation and deviation_group(share) != group:
        raise SettingError(
            "batch_size",
            f"with {config.batch_size} images the groups of {group} for --minibatch-deviation "
            f"cannot be shared by {world_size} processes; give a multiple of {group * world_size}",
        )


def _count_weights(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())
