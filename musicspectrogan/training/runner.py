"""A whole training run: from settings to a run directory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from musicspectrogan import models
from musicspectrogan.config import from_plain, read_yaml, to_plain, to_yaml
from musicspectrogan.counts import counted
from musicspectrogan.data.dataset import ImageDataset, load_dataset
from musicspectrogan.device import arithmetic, check_precision
from musicspectrogan.errors import SettingError, UserError, check_choice, flag_of
from musicspectrogan.filesystem import sole_writer
from musicspectrogan.models import ModelConfig
from musicspectrogan.models.layers import deviation_group
from musicspectrogan.training import run_directory
from musicspectrogan.training.augment import probability_for
from musicspectrogan.training.batches import Batches, steps_per_epoch
from musicspectrogan.training.batchnorm import synchronise_batchnorm
from musicspectrogan.training.building import build_networks, build_step
from musicspectrogan.training.callbacks import (
    Checkpoints,
    Curves,
    Metrics,
    Samples,
    SoundsOf,
    TensorBoard,
)
from musicspectrogan.training.checkpoint import (
    Checkpoint,
    dataset_of,
    load_checkpoint,
    newest_checkpoint,
    settings_beside,
)
from musicspectrogan.training.ema import AveragedGenerator
from musicspectrogan.training.graph import RecordedStep
from musicspectrogan.training.losses import LOSSES
from musicspectrogan.training.pieces import Pieces, StripsOf
from musicspectrogan.training.progress_log import ProgressLog
from musicspectrogan.training.quality import Quality, QualityOf
from musicspectrogan.training.schedule import ROUGH_BELOW, Schedule, with_length
from musicspectrogan.training.settings import PATHS, TrainingConfig
from musicspectrogan.training.speed import measured_speed
from musicspectrogan.training.trainer import Callback, Trainer
from musicspectrogan.training.watch import Watch
from musicspectrogan.training.world import ALONE, World

logger = logging.getLogger(__name__)

# What may differ when a run is resumed: where it trains and for how long, and what touches no weight.
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

# Widest network that does not try the patience of somebody without a GPU.
WIDTH_FOR_CPU = 32


@dataclass(frozen=True)
class Plan:
    """A run that is about to start, in one process or several: everything but the weights."""

    config: TrainingConfig
    run: Path
    dataset: ImageDataset
    model: ModelConfig
    device: torch.device
    start: Checkpoint | None = None
    """Where the weights come from; None for fresh ones."""
    resumed: bool = False
    numbered: bool = False
    """Whether `run` may become another number, if that is taken by the time that the run starts."""
    world: World = ALONE

    @property
    def augment(self) -> float:
        """The probability of augmentation, which may be left to the number of images."""
        return (
            probability_for(len(self.dataset))
            if self.config.augment is None
            else self.config.augment
        )

    @property
    def schedule(self) -> Schedule:
        """When it ends."""
        return Schedule(self.config, steps_per_epoch(len(self.dataset), self.config.batch_size))

    @property
    def steps_taken(self) -> int:
        """Where it begins."""
        return self.start.step if self.start and self.resumed else 0

    @property
    def images_in_words(self) -> str:
        """What it learns from."""
        return (
            f"{counted(len(self.dataset), 'image')} of {counted(len(self.dataset.genres), 'genre')}"
        )

    @property
    def remarks(self) -> list[str]:
        """What to know before it starts, a line each."""
        images, config = self.schedule.images, self.config
        remarks = []
        if images < ROUGH_BELOW:
            ends = f"the run ends after {counted(images, 'image')}"
            remarks.append(
                f"Samples will be rough: {ends}; give --images 100k or more for better ones"
            )
        if 0 < config.eval_every < config.snapshot_every:
            remarks.append(
                f"Samples are judged only with checkpoints, every {counted(config.snapshot_every, 'image')}; "
                f"to judge more often give --snapshot-every {config.eval_every} too"
            )
        return remarks

    def describe(self, images_per_second: float) -> str:
        """The settings, the models' sizes, the length at that speed and the run directory, as text."""
        generator, discriminator = build_networks(self.config, self.model)
        schedule = self.schedule
        seconds = (schedule.images - self.steps_taken * self.config.batch_size) / images_per_second
        return "\n".join(
            [
                to_yaml(self.config).rstrip(),
                f"# dataset: {self.images_in_words} ({', '.join(self.dataset.genres)})",
                f"# generator: {_parameters(generator):,} weights",
                f"# discriminator: {_parameters(discriminator):,} weights",
                f"# device: {self.device}",
                f"# processes: {self.world.size}",
                f"# probability of augmentation: {self.augment:.2g}",
                f"# steps an epoch: {schedule.steps_per_epoch}",
                f"# length: {schedule.in_words(self.steps_taken, seconds, images_per_second)}",
                *(f"# {line}" for line in self.remarks),
                f"# run directory: {self.run}",
            ]
        )


def plan_run(config: TrainingConfig, output: Path | None = None, world: World = ALONE) -> Plan:
    """Plan a new run.

    Args:
        output: the run directory; None for the next number below runs/.
        world: the processes that are to train together.

    Raises:
        UserError: no dataset named, or it cannot be trained on.
    """
    if config.dataset is None:
        raise UserError("--dataset is missing: name the folder that preprocess.py made")
    check_choice("loss", config.loss, LOSSES)
    _check_shares(config, world.size)
    config = with_resolved_paths(config)
    device = world.device(config.device)
    check_precision(config.precision, device)
    dataset = load_dataset(config.dataset, split=config.split, image_size=config.image_size)
    config = with_length(config, steps_per_epoch(len(dataset), config.batch_size))
    model = ModelConfig(
        dataset.image_size,
        config.width,
        config.latent_dim,
        len(dataset.genres),
        upsampling=config.upsampling,
        minibatch_deviation=config.minibatch_deviation,
        spectral_norm=config.spectral_norm,
        pairs=config.pairs,
    )
    models.check_options(config.gan, model)
    run = output or run_directory.next_run(config.gan, dataset.name)
    start = load_checkpoint(config.init_from) if config.init_from else None
    if start and start.genres != dataset.genres:
        logger.warning(
            "The weights were trained on %s; here the same labels mean %s",
            ", ".join(start.genres),
            ", ".join(dataset.genres),
        )
    if device.type == "cpu" and config.width > WIDTH_FOR_CPU:
        logger.info("Training on the CPU, where this width is slow; --width 16 suits it better")
    return Plan(config, run, dataset, model, device, start, numbered=output is None, world=world)


@dataclass(frozen=True)
class BegunRun:
    """A run to go on with."""

    path: Path
    """The run directory, or the checkpoint in it to go on from."""
    config: TrainingConfig
    """What it was begun with."""
    checkpoint: Checkpoint | None
    """None where something ended it before its first one."""


def begun_run(path: Path) -> BegunRun:
    """What a run directory, a checkpoint in one, or `latest` goes on from.

    Raises:
        UserError: it is none of these, or cannot be read.
    """
    path = run_directory.named_run(path)
    if run_directory.is_unstarted(path):
        return BegunRun(path, read_yaml(TrainingConfig, path / run_directory.CONFIG_NAME), None)
    file, checkpoint = newest_checkpoint(path) if path.is_dir() else (path, load_checkpoint(path))
    settings = from_plain(TrainingConfig, checkpoint.training)
    beside = settings_beside(file)
    places = {name: getattr(beside, name) for name in PATHS} if beside else {"init_from": None}
    dataset = dataset_of(checkpoint, file)
    return BegunRun(path, replace(settings, **{**places, "dataset": dataset}), checkpoint)


def plan_resumed_run(begun: BegunRun, config: TrainingConfig, world: World = ALONE) -> Plan:
    """Plan to go on with a run; one without a checkpoint begins again.

    Args:
        config: the settings wanted now.
        world: the processes that are to train together, which need not be as many as before.

    Raises:
        UserError: a setting differs that may not, or the dataset is another one now.
    """
    path, checkpoint = begun.path, begun.checkpoint
    if checkpoint is None:
        return plan_run(config, path, world)
    run = path if path.is_dir() else run_directory.run_of_checkpoint(path)
    config, before = with_resolved_paths(config), to_plain(begun.config)
    for name, value in to_plain(config).items():
        # Where the images lie is no matter: the checkpoint knows them.
        if name not in (*CHANGEABLE, "dataset") and value != before[name]:
            raise UserError(
                f"--resume: {flag_of(name)} was {before[name]} and is now {value}; a resumed run may only "
                f"change {', '.join(map(flag_of, CHANGEABLE))}, and the place of --dataset; start a new run, "
                "perhaps with --init-from"
            )
    if config.dataset is None or (
        config.dataset == begun.config.dataset and not config.dataset.exists()
    ):
        known = config.dataset or checkpoint.training["dataset"]
        raise UserError(
            f"--resume {path}: the images that it was trained on, {known}, are not there any more; "
            "name the folder that they are in now with --dataset"
        )
    plan = plan_run(replace(config, init_from=None), run, world)
    if not checkpoint.is_trained_on(plan.dataset) or plan.model != checkpoint.model:
        raise UserError(
            f"--resume {path}: the images of {config.dataset} are not those that the run began with; "
            f"start a new run with --init-from {path}"
        )
    is_complete = plan.schedule.steps <= checkpoint.step
    if is_complete and not run_directory.lacks_grid(
        run, plan.schedule.position_name(checkpoint.step)
    ):
        raise UserError(
            f"--resume {path}: has its {counted(checkpoint.images_seen, 'image')} "
            f"({counted(checkpoint.epoch, 'epoch')}) already; ask for more with --images or --epochs"
        )
    if config.dataset != begun.config.dataset:
        logger.info(
            "%s holds the images that the run began with: going on with them", config.dataset
        )
    config = replace(plan.config, init_from=begun.config.init_from)
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
    """What the run would be, with its speed on the device; nothing is written, and no weights are kept."""
    with arithmetic(plan.config.precision), plan.world.joined(plan.device):
        images_per_second = measured_speed(_set_up(plan))
    return plan.describe(images_per_second)


def train(
    plan: Plan,
    sounds_of: SoundsOf | None = None,
    quality_of: QualityOf | None = None,
    strips_of: StripsOf | None = None,
) -> Path:
    """Train, and return the run directory.

    Args:
        sounds_of: turns images into sound for TensorBoard; None for no sound.
        quality_of: judges samples by the validation tracks; None for no judgement.
        strips_of: draws long pieces, of a GAN that is made for any length; None for no pieces.

    Raises:
        UserError: the run directory is taken, weights do not fit, or training diverged.
        Interrupted: a signal arrived, and the run was saved.
    """
    with arithmetic(plan.config.precision), plan.world.joined(plan.device):
        trainer = _set_up(plan)
        plan.world.check_alike(
            settings={
                n: v for n, v in to_plain(plan.config).items() if n not in ("device", *PATHS)
            },
            images=plan.dataset.fingerprint,
            steps=trainer.steps_taken,
        )
        if not plan.world.is_main:
            trainer.train()
            return plan.run
        with _run_directory(plan) as run:
            trainer.callbacks = _callbacks(replace(plan, run=run), sounds_of, quality_of, strips_of)
            trainer.train()
            images = counted(trainer.images_seen, "image")
            epochs = counted(trainer.steps_taken / trainer.schedule.steps_per_epoch, "epoch")
            logger.info("Done after %s (%s): %s", images, epochs, run)
    return run


@contextmanager
def _run_directory(plan: Plan) -> Iterator[Path]:
    """The run directory with its settings and its log, held against other runs."""
    run = run_directory.claim_next(plan.run) if plan.numbered else plan.run
    if not plan.resumed:
        run_directory.claim(run)
    with sole_writer(run, "training"):
        if not plan.resumed:
            run_directory.create_run(run, plan.config)
        run_directory.clear_unfinished_files(run)
        handler = run_directory.log_to(run)
        try:
            run_directory.write_settings(run, plan.config)
            logger.info(
                "Training %s on %s; everything goes to %s",
                plan.config.gan,
                plan.images_in_words,
                run,
            )
            for line in plan.remarks:
                logger.warning(line)
            yield run
        finally:
            logging.getLogger("musicspectrogan").removeHandler(handler)
            handler.close()


def _check_shares(config: TrainingConfig, processes: int) -> None:
    """Raise UserError for a batch that so many processes cannot share evenly."""
    share, left = divmod(config.batch_size, processes)
    if left:
        fitting = [n * processes for n in (share, share + 1) if n * processes > 1]
        raise SettingError(
            "batch_size",
            f"{config.batch_size} cannot be shared evenly by {processes} processes; "
            f"give {' or '.join(map(str, fitting))}",
        )
    group = deviation_group(config.batch_size)
    if config.minibatch_deviation and deviation_group(share) != group:
        raise SettingError(
            "batch_size",
            f"with {config.batch_size} images the groups of {group} for --minibatch-deviation "
            f"cannot be shared by {processes} processes; give a multiple of {group * processes}",
        )


def _set_up(plan: Plan) -> Trainer:
    config, device = plan.config, plan.device
    generator, discriminator = build_networks(config, plan.model, device)
    start = plan.start
    if start is not None:
        _load_weights(generator, start.generator, config)
        _load_weights(discriminator, start.discriminator, config)
    # Whether the messages of several processes can be recorded has not been tried.
    recorded = config.cuda_graph and device.type == "cuda" and plan.world.size == 1
    step = build_step(
        config,
        (generator, discriminator),
        device,
        augment=plan.augment,
        recorded=recorded,
        world=plan.world,
    )
    generator, discriminator = step.generator, step.discriminator
    ema = AveragedGenerator(generator, config.ema_images)
    if config.sync_batchnorm:  # not of the average, which one process samples from
        synchronise_batchnorm(generator, plan.world)
        synchronise_batchnorm(discriminator, plan.world)
    if start is not None:
        _load_weights(ema.module, start.ema, config)
    if start is not None and plan.resumed:
        step.load_optimizers(start.optimizer_d, start.optimizer_g)
    batches = Batches(
        plan.dataset,
        config.batch_size,
        device,
        config.seed,
        windows=config.windows,
        pairs=config.pairs,
        world=plan.world,
    )
    return Trainer(
        config,
        batches,
        step,
        ema,
        take_step=RecordedStep(step) if recorded else step,
        steps_taken=plan.steps_taken,
        world=plan.world,
    )


def _callbacks(
    plan: Plan, sounds_of: SoundsOf | None, quality_of: QualityOf | None, strips_of: StripsOf | None
) -> list[Callback]:
    """What the first process does beside training, in this order."""
    gan = plan.config.gan
    samples = Samples(plan.run, gan, plan.dataset, plan.config.seed)
    pieces = None
    if strips_of and models.is_any_length(gan):
        pieces = Pieces(plan.run, gan, plan.model, plan.dataset, strips_of)
    return [
        ProgressLog(),
        Watch(),
        *([Quality(quality_of, plan.config.seed)] if quality_of else []),
        Metrics(plan.run),
        Checkpoints(plan.run, plan.model, plan.dataset),
        # Weights are saved before anything is drawn, whatever happens then; a resumed run draws what is owed.
        # By the grid a resumed run knows that all of it was drawn, so that comes last.
        Curves(plan.run),
        *([pieces] if pieces else []),
        samples,
        TensorBoard(plan.run, samples, sounds_of, pieces),
    ]


def _load_weights(
    network: nn.Module, weights: dict[str, torch.Tensor], config: TrainingConfig
) -> None:
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise UserError(
            f"the weights do not fit a {config.gan} of width {config.width} on this dataset; "
            "the same --gan, --width, --latent-dim, image size and number of genres are needed"
        ) from None


def _parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())
