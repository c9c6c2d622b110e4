"""From settings to networks, and to the step that trains them."""

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
from musicspectrogan.training.losses import LOSSES
from musicspectrogan.training.settings import TrainingConfig
from musicspectrogan.training.step import AdversarialStep
from musicspectrogan.training.world import ALONE, World

CPU = torch.device("cpu")
# Images in the batch that a model is tried with. No other size there is likely to equal it.
CHECKED_IMAGES = 3


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
            f"--gan {config.gan} has BatchNorm; take --gan anylength or --gan anylength_unconditional"
        )
    return generator, discriminator


def check_networks(
    gan: str, networks: tuple[nn.Module, nn.Module], model: ModelConfig, device: torch.device = CPU
) -> None:
    """Hold a model to what the package `models` asks for, with copies of its networks and a small batch.

    Much of what is wrong would train without complaint: logits (B, 1) broadcast against (B,), for one.

    Raises:
        UserError: it breaks a rule; the text says what was expected and what was found.
        PluginError: it fails; the text says in which line.
    """
    what = f"--gan {gan}"
    for name, network in zip(("Generator", "Discriminator"), networks, strict=True):
        if not isinstance(network, nn.Module) or not any(True for _ in network.parameters()):
            raise PluginError(f"{what}: its {name} is no torch.nn.Module with weights to train")
    try:
        with torch.device("meta"):
            models.build(gan, model)
    except PluginError as error:
        raise PluginError(
            f"{error}; a checkpoint is checked against a model without memory, on the device meta"
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
                f"{what}: its Generator makes values from {images.min():.3g} to {images.max():.3g}; images "
                "are in [-1, 1]: let it end with torch.tanh"
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
    """See that pieces have the size that the generator's own numbers promise."""
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
    """Raise PluginError for a loss that is no scalar, or not finite where the players are undecided."""
    loss, logits = LOSSES[name], torch.zeros(CHECKED_IMAGES, requires_grad=True)
    for player, given in (
        ("discriminator", logits),
        ("generator", logits if loss.is_relative else None),
    ):
        value = getattr(loss, player)(logits, given)
        if value.shape != () or not value.isfinite():
            raise PluginError(
                f"--loss {name}: for the {player} it is {value}; a finite scalar is expected"
            )


def _check_tensor(what: str, found: object, shape: tuple[int, ...], expected: str) -> None:
    size = f"expected are {expected}, here {shape}"
    if not isinstance(found, torch.Tensor):
        raise PluginError(f"{what} gives a {type(found).__name__}; {size}")
    if found.shape != shape:
        raise PluginError(f"{what} gives a tensor of shape {tuple(found.shape)}; {size}")
    if found.dtype != torch.get_default_dtype():
        raise PluginError(f"{what} gives {found.dtype}; {torch.get_default_dtype()} is expected")
    if not found.isfinite().all():
        raise PluginError(f"{what} gives what are not finite numbers")


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
