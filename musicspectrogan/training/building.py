"""Builds and checks the networks of a run, and the step that trains them."""

from __future__ import annotations

import torch
from torch import nn

from musicspectrogan import models
from musicspectrogan.errors import UserError
from musicspectrogan.models import ModelConfig
from musicspectrogan.models.contract import check_networks
from musicspectrogan.plugins import PluginError
from musicspectrogan.training.augment import Augmentation
from musicspectrogan.training.distributed import SINGLE_PROCESS, Distributed
from musicspectrogan.training.losses import LOSSES
from musicspectrogan.training.optimizers import learning_rate_for
from musicspectrogan.training.settings import TrainingConfig
from musicspectrogan.training.step import AdversarialStep

CPU = torch.device("cpu")


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
            f"--gan {config.gan} has BatchNorm; use --gan anylength_cgan or --gan anylength_gan"
        )
    return generator, discriminator


def _check_loss(name: str) -> None:
    """Raise PluginError for a loss that is no finite scalar where both players are undecided."""
    loss, logits = LOSSES[name], torch.zeros(3, requires_grad=True)
    values = {
        "discriminator": loss.discriminator(logits, logits),
        "generator": loss.generator(logits, logits if loss.is_relative else None),
    }
    for player, value in values.items():
        if value.shape != () or not value.isfinite():
            raise PluginError(
                f"--loss {name}: for the {player} it is {value}; a finite scalar is expected"
            )


def learning_rate(config: TrainingConfig) -> float:
    """The learning rate of a run, which follows from the width if it is `auto`."""
    return learning_rate_for(config.width) if isinstance(config.lr, str) else config.lr


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
    return AdversarialStep(
        generator,
        discriminator,
        LOSSES[config.loss],
        lr=learning_rate(config),
        betas=(config.beta1, config.beta2),
        augmentation=Augmentation(augment),
        r1=config.r1,
        r2=config.r2,
        bfloat16=config.precision == "bfloat16",
        capturable=recorded,
        distributed=distributed,
    )
