"""From settings to networks, and to the step that trains them."""

from __future__ import annotations

import torch
from torch import nn

from musicspectrogan import models
from musicspectrogan.errors import UserError
from musicspectrogan.models import ModelConfig
from musicspectrogan.models.contract import check_networks
from musicspectrogan.plugins import PluginError
from musicspectrogan.training.augment import Augmentation
from musicspectrogan.training.losses import LOSSES
from musicspectrogan.training.settings import TrainingConfig
from musicspectrogan.training.step import AdversarialStep
from musicspectrogan.training.world import ALONE, World

CPU = torch.device("cpu")


def build_networks(
    config: TrainingConfig, model: ModelConfig, device: torch.device = CPU
) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator on the CPU. Their weights follow from the seed and leave no trace.

    Args:
        device: where they are to be trained, and are tried now.

    Raises:
        UserError: the model is not what `models` asks for, or the settings ask for gradient penalties on a
            discriminator with BatchNorm.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)  # torch.manual_seed is for every device's
        generator, discriminator = models.build(config.gan, model)
        check_networks(config.gan, (generator, discriminator), model, device)
    mixes_images = any(isinstance(module, nn.BatchNorm2d) for module in discriminator.modules())
    if mixes_images and (config.r1 or config.r2):
        raise UserError(
            f"--r1 and --r2 penalise the gradient of each image by itself, but the discriminator of "
            f"--gan {config.gan} has BatchNorm; take --gan anylength_cgan or --gan anylength_gan"
        )
    return generator, discriminator


def _check_loss(name: str) -> None:
    """Raise PluginError for a loss that is no scalar, or not finite where the players are undecided."""
    loss, logits = LOSSES[name], torch.zeros(3, requires_grad=True)
    for player, given in (
        ("discriminator", logits),
        ("generator", logits if loss.is_relative else None),
    ):
        value = getattr(loss, player)(logits, given)
        if value.shape != () or not value.isfinite():
            raise PluginError(
                f"--loss {name}: for the {player} it is {value}; a finite scalar is expected"
            )


def build_step(
    config: TrainingConfig,
    networks: tuple[nn.Module, nn.Module],
    device: torch.device,
    *,
    augment: float,
    recorded: bool = False,
    world: World = ALONE,
) -> AdversarialStep:
    """The step that trains these networks, which it moves to the device.

    Args:
        augment: the probability of augmentation, which the settings may leave to the number of images.
        recorded: whether the step is to be recorded as a CUDA graph.
    """
    # Convolutions are fastest in channels-last layout on CUDA and CPUs; on MPS BatchNorm's gradients
    # are wrong in it (https://github.com/pytorch/pytorch/issues/175189).
    layout = torch.contiguous_format if device.type == "mps" else torch.channels_last
    generator, discriminator = (network.to(device, memory_format=layout) for network in networks)
    _check_loss(config.loss)
    return AdversarialStep(
        generator,
        discriminator,
        LOSSES[config.loss],
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        augmentation=Augmentation(augment),
        r1=config.r1,
        r2=config.r2,
        bfloat16=config.precision == "bfloat16",
        capturable=recorded,
        world=world,
    )
