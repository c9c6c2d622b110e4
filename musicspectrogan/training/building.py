"""Builds what a run trains with: networks, the step, and the trainer."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict, replace
from time import perf_counter
from typing import TYPE_CHECKING

import torch
from torch import nn

from musicspectrogan import models, training
from musicspectrogan.errors import UserError, flag_of
from musicspectrogan.models import CHANNEL_MULTIPLE, ModelConfig
from musicspectrogan.models.contract import check_networks
from musicspectrogan.models.layers import channels_outwards
from musicspectrogan.plugins import PluginError, plugin_errors
from musicspectrogan.training.augment import Augmentation
from musicspectrogan.training.batches import Batch, Batches
from musicspectrogan.training.distributed import SINGLE_PROCESS, Distributed, convert_batchnorm
from musicspectrogan.training.ema import AveragedGenerator
from musicspectrogan.training.losses import LOSSES
from musicspectrogan.training.optimizers import learning_rate_for
from musicspectrogan.training.settings import TrainingConfig
from musicspectrogan.training.step import WARM_UP_STEPS, AdversarialStep, RecordedStep
from musicspectrogan.training.trainer import Trainer

if TYPE_CHECKING:
    from musicspectrogan.training.runner import Plan

CPU = torch.device("cpu")
# A dry run measures the speed for so long.
MEASURED_SECONDS = 2.0


def build_networks(
    config: TrainingConfig, model: ModelConfig, device: torch.device = CPU
) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator on the CPU, initialised from the seed without side effects.

    Args:
        device: where they will train, and are checked now.

    Raises:
        UserError: the model breaks a rule of the package `models`, or the settings ask for
            gradient penalties on a discriminator with BatchNorm.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)  # torch.manual_seed seeds all devices
        generator, discriminator = models.build(config.gan, model)
        check_networks(config.gan, (generator, discriminator), model, device)
    mixes_images = any(isinstance(module, nn.BatchNorm2d) for module in discriminator.modules())
    if mixes_images and (config.r1 or config.r2):
        raise UserError(
            "--r1 and --r2 penalise the gradient of each image by itself, but the discriminator of "
            f"--gan {config.gan} has BatchNorm; give another --gan, such as anylength_cgan or "
            "anylength_gan, or omit --r1 and --r2"
        )
    return generator, discriminator


def _check_loss(name: str) -> None:
    """Raise PluginError for a loss that is no finite scalar where both players are undecided."""
    loss, logits = LOSSES[name], torch.zeros(3, requires_grad=True)
    with plugin_errors(training, f"--loss {name}"):
        values = {
            "discriminator": loss.discriminator(logits, logits),
            "generator": loss.generator(logits if loss.is_relative else None, logits),
        }
    for player, value in values.items():
        if value.shape != () or not value.isfinite():
            raise PluginError(
                f"--loss {name}: for the {player} it is {value}; a finite scalar is expected"
            )


def learning_rate(config: TrainingConfig, model: ModelConfig) -> float:
    """The learning rate of a run, which follows from its networks if it is `auto`.

    What counts is the innermost layer: networks for 128 pixels whose outer layers are narrow have
    the rate of those for 64 pixels with the same inner ones.
    """
    if not isinstance(config.lr, str):
        return config.lr
    usual = replace(model, width=1, channel_multiple=CHANNEL_MULTIPLE)
    return learning_rate_for(channels_outwards(model)[0] / channels_outwards(usual)[0])


def build_step(
    config: TrainingConfig,
    networks: tuple[nn.Module, nn.Module],
    device: torch.device,
    *,
    augment: float,
    recorded: bool = False,
    distributed: Distributed = SINGLE_PROCESS,
) -> AdversarialStep:
    """The step that trains these networks, which are moved to the device.

    Args:
        augment: the probability of augmentation.
        recorded: whether the step will be recorded as a CUDA graph.
    """
    # Convolutions are fastest in channels-last layout on CUDA and CPUs; on MPS it makes BatchNorm's
    # gradients wrong (https://github.com/pytorch/pytorch/issues/175189).
    layout = torch.contiguous_format if device.type == "mps" else torch.channels_last
    generator, discriminator = (network.to(device).to(memory_format=layout) for network in networks)
    _check_loss(config.loss)
    assert not isinstance(config.lr, str), "the plan of a run has its rate"
    return AdversarialStep(
        generator,
        discriminator,
        LOSSES[config.loss],
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        augmentation=Augmentation(augment),
        r1=config.r1,
        r2=config.r2,
        penalty_share=config.penalty_share,
        bfloat16=config.precision == "bfloat16",
        capturable=recorded,
        distributed=distributed,
    )


def build_trainer(plan: Plan) -> Trainer:
    """The trainer of a run, with its weights where it starts.

    Raises:
        UserError: as `build_networks`, or weights that it starts from do not fit.
    """
    config, device, start, distributed = plan.config, plan.device, plan.start, plan.distributed
    generator, discriminator = build_networks(config, plan.model, device)
    if start is not None:
        _load_weights(generator, start.generator, plan)
        _load_weights(discriminator, start.discriminator, plan)
    # Recording has not been tried with several processes.
    recorded = config.cuda_graph and device.type == "cuda" and distributed.world_size == 1
    step = build_step(
        config,
        (generator, discriminator),
        device,
        augment=plan.augment,
        recorded=recorded,
        distributed=distributed,
    )
    ema = AveragedGenerator(step.generator, config.ema_images)
    if config.sync_batchnorm:  # not in the average, which rank 0 alone samples from
        convert_batchnorm(step.generator, distributed)
        convert_batchnorm(step.discriminator, distributed)
    if start is not None:
        _load_weights(ema.module, start.ema, plan)
        if plan.resumed:
            step.load_optimizers(start.optimizer_d, start.optimizer_g)
    batches = Batches(
        plan.dataset,
        config.batch_size,
        device,
        config.seed,
        windows=config.windows,
        pairs=config.pairs,
        distributed=distributed,
    )
    return Trainer(
        config,
        batches,
        step,
        ema,
        take_step=RecordedStep(step) if recorded else step,
        steps_taken=plan.steps_taken,
        distributed=distributed,
    )


def _load_weights(network: nn.Module, weights: dict[str, torch.Tensor], plan: Plan) -> None:
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise UserError(f"the weights to start from have other layers: {_misfit(plan)}") from None


def _misfit(plan: Plan) -> str:
    """How the model of the checkpoint that a run starts from differs from the run's own."""
    assert plan.start is not None
    gan = plan.config.gan
    theirs = {"gan": models.current_name(plan.start.gan), **asdict(plan.start.model)}
    ours = {"gan": gan, **asdict(plan.model)}
    changed = [name for name in ours if theirs[name] != ours[name]]
    if not models.is_conditional(gan) and theirs["gan"] == gan:
        changed = [name for name in changed if name != "n_genres"]  # in none of its layers
    if not changed:
        return f"--gan {gan} has been changed since it trained them; start without --init-from"
    of_start, of_run = (
        ", ".join(f"{_named(name)} {values[name]}" for name in changed) for values in (theirs, ours)
    )
    remedy = "use images with as many genres" if changed == ["n_genres"] else "make them equal"
    return f"the checkpoint has {of_start}, and this run {of_run}; {remedy}"


def _named(setting: str) -> str:
    """A setting of a model as a user gives it: a flag, or what the images decide."""
    return "genres:" if setting == "n_genres" else flag_of(setting)


def measure_speed(trainer: Trainer) -> float:
    """Images per second over some steps; the trainer cannot be used afterwards."""

    def batches() -> Generator[Batch, None, None]:
        for epoch in itertools.count(trainer.epochs_done):
            yield from trainer.batches.epoch(epoch)

    # The first step is slower than the others, and on a GPU one after the warm-up is recorded.
    warm_up = 1 if trainer.batches.device.type == "cpu" else WARM_UP_STEPS + 2
    begun = perf_counter()
    with closing(batches()) as endless:
        for step, (images, labels) in enumerate(endless):
            if step == warm_up:
                begun = perf_counter()
            # Rank 0 decides, so that all ranks take the same steps.
            elapsed = perf_counter() - begun
            is_enough = step > warm_up and elapsed >= MEASURED_SECONDS
            if trainer.distributed.from_main(is_enough):
                break
            values = trainer.advance(images, labels)
            next(iter(values.values())).item()  # CPU-GPU sync point: the step is over
    return (step - warm_up) * trainer.config.batch_size / elapsed
