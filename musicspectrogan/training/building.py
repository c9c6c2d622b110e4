"""From settings to networks, and to the step that trains them."""

from __future__ import annotations

import torch
from torch import nn

from musicspectrogan import models
from musicspectrogan.errors import UserError
from musicspectrogan.models import ModelConfig
from musicspectrogan.training.augment import Augmentation
from musicspectrogan.training.losses import LOSSES
from musicspectrogan.training.settings import TrainingConfig
from musicspectrogan.training.step import AdversarialStep
from musicspectrogan.training.world import ALONE, World


def build_networks(config: TrainingConfig, model: ModelConfig) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator on the CPU. Their weights follow from the seed and leave no trace.

    Raises:
        UserError: the settings ask for gradient penalties on a discriminator with BatchNorm.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)  # torch.manual_seed is for every device's
        generator, discriminator = models.build(config.gan, model)
    mixes_images = any(isinstance(module, nn.BatchNorm2d) for module in discriminator.modules())
    if mixes_images and (config.r1 or config.r2):
        raise UserError(
            f"--r1 and --r2 penalise the gradient of each image by itself, but the discriminator of "
            f"--gan {config.gan} has BatchNorm; take --gan projection or --gan unconditional"
        )
    return generator, discriminator


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
