"""Builds and checks the networks of a run, and the step that trains them."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musicspectrogan import models
from musicspectrogan.errors import UserError
from musicspectrogan.models import ModelConfig
from musicspectrogan.plugins import PluginError, blamed_on_plugin
from musicspectrogan.training.augment import Augmentation
from musicspectrogan.training.distributed import SINGLE_PROCESS, Distributed
from musicspectrogan.training.losses import LOSSES
from musicspectrogan.training.optimizers import learning_rate_for
from musicspectrogan.training.settings import TrainingConfig
from musicspectrogan.training.step import AdversarialStep

CPU = torch.device("cpu")
# Batch size of the check; unlikely to equal another size of the model.
CHECKED_IMAGES = 3


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
            f"--gan {config.gan} has BatchNorm; use --gan anylength or --gan anylength_unconditional"
        )
    return generator, discriminator


def check_networks(
    gan: str, networks: tuple[nn.Module, nn.Module], model: ModelConfig, device: torch.device = CPU
) -> None:
    """Check a model against the rules of the package `models`, on copies and a small batch.

    Many mistakes would train without an error, for instance logits (B, 1) that broadcast with (B,).

    Raises:
        PluginError: it breaks a rule or fails; the text says what was expected and found, or where.
    """
    what = f"--gan {gan}"
    for name, network in zip(("Generator", "Discriminator"), networks, strict=True):
        if not isinstance(network, nn.Module) or not any(True for _ in network.parameters()):
            raise PluginError(f"{what}: its {name} is not a torch.nn.Module with trainable weights")
    try:
        with torch.device("meta"):
            models.build(gan, model)
    except PluginError as error:
        raise PluginError(
            f"{error}; checkpoints are checked against a model on the device meta, without memory"
        ) from error
    generator, discriminator = (deepcopy(network).to(device) for network in networks)
    labels = torch.arange(CHECKED_IMAGES, device=device) % model.n_genres
    latents = torch.randn(CHECKED_IMAGES, generator.latent_dim).to(device)
    shape = (CHECKED_IMAGES, model.n_windows, model.image_size, model.image_size)
    mixtures = F.one_hot(labels, model.n_genres).float()
    for kind, given in (("genres", labels), ("mixtures of genres", mixtures)):
        with blamed_on_plugin(models, f"{what}: its Generator, given {kind}"):
            images = generator(latents, given)
        _check_tensor(f"{what}: its Generator, given {kind},", images, shape, "images (B, 1, H, W)")
        if images.abs().max() > 1:
            raise PluginError(
                f"{what}: its Generator makes values from {images.min():.3g} to "
                f"{images.max():.3g}; images are in [-1, 1]: let it end with torch.tanh"
            )
    if models.is_any_length(gan):
        _check_frames(what, generator, mixtures)
    with blamed_on_plugin(models, f"{what}: its Discriminator"):
        logits = discriminator(images, labels)
    _check_tensor(
        f"{what}: its Discriminator", logits, (CHECKED_IMAGES * model.n_windows,), "logits (B,)"
    )
    with blamed_on_plugin(models, f"{what}: its gradients"):
        logits.sum().backward()
    for name, network in (("Generator", generator), ("Discriminator", discriminator)):
        if all(weight.grad is None for weight in network.parameters()):
            raise PluginError(
                f"{what}: no gradient reaches the weights of its {name}: does it detach them?"
            )


def _check_frames(what: str, generator: nn.Module, mixtures: Tensor) -> None:
    """Check that pieces have the size that the generator's attributes promise."""
    with blamed_on_plugin(models, f"{what}: its Generator.frames"):
        cells = 2 * generator.context + 2
        frames = generator.frames(
            torch.randn(CHECKED_IMAGES, generator.style_dim).to(mixtures.device),
            torch.randn(CHECKED_IMAGES, generator.cell_dim, cells).to(mixtures.device),
            mixtures[:, :, None].expand(-1, -1, cells),
            torch.arange(cells + 1.0).to(mixtures.device).expand(CHECKED_IMAGES, -1),
        )
        shape = (CHECKED_IMAGES, 1, generator.image_size, 2 * generator.cell_frames)
    _check_tensor(f"{what}: its Generator.frames", frames, shape, "frames (B, 1, H, T)")


def _check_loss(name: str) -> None:
    """Raise PluginError for a loss that is no finite scalar where both players are undecided."""
    loss, logits = LOSSES[name], torch.zeros(CHECKED_IMAGES, requires_grad=True)
    values = {
        "discriminator": loss.discriminator(logits, logits),
        "generator": loss.generator(logits, logits if loss.is_relative else None),
    }
    for player, value in values.items():
        if value.shape != () or not value.isfinite():
            raise PluginError(
                f"--loss {name}: for the {player} it is {value}; a finite scalar is expected"
            )


def _check_tensor(what: str, found: object, shape: tuple[int, ...], expected: str) -> None:
    size = f"expected {expected}, here {shape}"
    if not isinstance(found, torch.Tensor):
        raise PluginError(f"{what} gives a {type(found).__name__}; {size}")
    if found.shape != shape:
        raise PluginError(f"{what} gives a tensor of shape {tuple(found.shape)}; {size}")
    if found.dtype != torch.get_default_dtype():
        raise PluginError(f"{what} gives {found.dtype}; {torch.get_default_dtype()} is expected")
    if not found.isfinite().all():
        raise PluginError(f"{what} gives values that are not finite")


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
    generator, discriminator = (network.to(device, memory_format=layout) for network in networks)
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
