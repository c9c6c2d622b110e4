"""Check that a model's networks keep the contract of `musicspectrogan.models` before they train."""

from __future__ import annotations

from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musicspectrogan import models
from musicspectrogan.models import AnyLengthGenerator, ModelConfig
from musicspectrogan.plugins import PluginError, plugin_errors

CPU = torch.device("cpu")
# Images in the test batch. No other size of a model is likely to equal it.
BATCH = 3


def check_networks(
    gan: str,
    networks: tuple[nn.Module, nn.Module],
    model: ModelConfig,
    device: torch.device = CPU,
) -> None:
    """Run copies of a generator and discriminator on a small batch and check what they return.

    The random state is left unchanged. Much of what can be wrong trains without complaint, for
    instance logits (B, 1), which broadcast against (B,).

    Raises:
        PluginError: a rule is broken, or the model's code fails; the text says what was expected
            and what was found, or names the line.
    """
    what = f"--gan {gan}"
    for name, network in zip(("Generator", "Discriminator"), networks, strict=True):
        if not isinstance(network, nn.Module) or not any(True for _ in network.parameters()):
            raise PluginError(f"{what}: its {name} is not a torch.nn.Module with weights to train")
    try:
        with torch.device("meta"):
            models.build(gan, model)
    except PluginError as error:
        raise PluginError(
            f"{error}; checkpoints are checked against a model without memory, on device meta"
        ) from error
    copies = tuple(deepcopy(network).to(device) for network in networks)
    with torch.random.fork_rng(devices=[]):
        _run_networks(what, gan, copies, model)


def _run_networks(what: str, gan: str, networks: tuple[nn.Module, ...], model: ModelConfig) -> None:
    generator, discriminator = networks
    device = next(generator.parameters()).device
    labels = torch.arange(BATCH, device=device) % model.n_genres
    mixtures = F.one_hot(labels, model.n_genres).float()
    latents = torch.randn(BATCH, cast(int, generator.latent_dim)).to(device)
    shape = (BATCH, model.n_windows, model.image_size, model.image_size)
    for kind, given in (("genres", labels), ("mixtures of genres", mixtures)):
        with plugin_errors(models, f"{what}: its Generator, given {kind}"):
            images = generator(latents, given)
        _check_tensor(f"{what}: its Generator, given {kind},", images, shape, "images (B, K, H, W)")
        if images.abs().max() > 1:
            raise PluginError(
                f"{what}: its Generator returns values from {images.min():.3g} to "
                f"{images.max():.3g}; images are in [-1, 1]: end it with torch.tanh"
            )
    if models.is_any_length(gan):
        _check_frames(what, cast(AnyLengthGenerator, generator), mixtures)
    with plugin_errors(models, f"{what}: its Discriminator"):
        logits = discriminator(images, labels)
    n_logits = BATCH * model.n_logits
    _check_tensor(f"{what}: its Discriminator", logits, (n_logits,), "logits (L * B,)")
    with plugin_errors(models, f"{what}: its gradients"):
        logits.sum().backward()
    for name, network in (("Generator", generator), ("Discriminator", discriminator)):
        if all(weight.grad is None for weight in network.parameters()):
            raise PluginError(
                f"{what}: no gradient reaches the weights of its {name}: does it detach them?"
            )


def _check_frames(what: str, generator: AnyLengthGenerator, mixtures: Tensor) -> None:
    """Check that a piece has the size that the generator's attributes promise."""
    device = mixtures.device
    with plugin_errors(models, f"{what}: its Generator.frames"):
        cells = 2 * generator.context + 2
        frames = generator.frames(
            torch.randn(BATCH, generator.style_dim).to(device),
            torch.randn(BATCH, generator.cell_dim, cells).to(device),
            mixtures[:, :, None].expand(-1, -1, cells),
            torch.arange(cells + 1.0).to(device).expand(BATCH, -1),
        )
        shape = (BATCH, 1, generator.image_size, 2 * generator.cell_frames)
    _check_tensor(f"{what}: its Generator.frames", frames, shape, "frames (B, 1, H, T)")


def _check_tensor(what: str, found: object, shape: tuple[int, ...], expected: str) -> None:
    size = f"it must return {expected} of shape {shape}"
    if not isinstance(found, Tensor):
        raise PluginError(f"{what} returns a {type(found).__name__}; {size}")
    if found.shape != shape:
        raise PluginError(f"{what} returns a tensor of shape {tuple(found.shape)}; {size}")
    if found.dtype != torch.get_default_dtype():
        raise PluginError(f"{what} returns {found.dtype}; expected is {torch.get_default_dtype()}")
    if not found.isfinite().all():
        raise PluginError(f"{what} returns numbers that are not finite")
