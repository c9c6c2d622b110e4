"""The contract that every model keeps, found by its file; and what is particular to each."""

from __future__ import annotations

import pytest
import torch

from musicspectrogan import models
from musicspectrogan.errors import UserError
from musicspectrogan.models import ModelConfig

GENRES = 3
BATCH = 5


def config(**changes: int) -> ModelConfig:
    return ModelConfig(**{"image_size": 64, "width": 4, "latent_dim": 7, "n_genres": GENRES, **changes})


def inputs(model: ModelConfig) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(BATCH, model.latent_dim, generator=generator)
    return latents, torch.tensor([0, 1, 2, 0, 1])


def weights(network: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def test_both_classics_are_found_and_shared_blocks_are_no_model():
    assert {"dcgan", "cgan"} <= set(models.names())
    assert "blocks" not in models.names()


@pytest.mark.parametrize("image_size", [64, 128, 256])
@pytest.mark.parametrize("gan", models.names())
def test_shapes_and_ranges(gan, image_size):
    model = config(image_size=image_size)
    generator, discriminator = models.build(gan, model)
    latents, labels = inputs(model)
    images = generator(latents, labels)
    assert images.shape == (BATCH, 1, image_size, image_size)
    assert images.dtype == torch.float32
    assert -1 <= images.min() < images.max() <= 1
    logits = discriminator(images, labels)
    assert logits.shape == (BATCH,)


@pytest.mark.parametrize("gan", models.names())
def test_every_weight_gets_a_gradient(gan):
    model = config()
    generator, discriminator = models.build(gan, model)
    latents, labels = inputs(model)
    discriminator(generator(latents, labels), labels).square().sum().backward()
    for network in (generator, discriminator):
        for name, weight in network.named_parameters():
            assert weight.grad is not None and weight.grad.abs().sum() > 0, name


@pytest.mark.parametrize("gan", models.names())
def test_labels_matter_exactly_when_the_model_is_conditional(gan):
    model = config()
    latents, labels = inputs(model)
    for network, given in zip(
        models.build(gan, model), (latents, torch.zeros(BATCH, 1, 64, 64)), strict=True
    ):
        network.eval()
        same = torch.equal(network(given, labels), network(given, (labels + 1) % GENRES))
        assert same is not models.is_conditional(gan)


@pytest.mark.parametrize("gan", models.names())
def test_in_eval_mode_an_image_does_not_depend_on_its_neighbours(gan):
    model = config()
    generator, _ = models.build(gan, model)
    latents, labels = inputs(model)
    generator(latents, labels)  # so that BatchNorm has statistics of its own
    generator.eval()
    together = generator(latents, labels)
    alone = torch.cat([generator(latents[k : k + 1], labels[k : k + 1]) for k in range(BATCH)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("gan", models.names())
def test_the_same_seed_builds_the_same_weights(gan):
    built = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        generator, discriminator = models.build(gan, config())
        built.append(torch.cat([w.flatten() for n in (generator, discriminator) for w in n.parameters()]))
    assert torch.equal(built[0], built[1])
    assert not torch.equal(built[0], built[2])


def test_the_classic_dcgan_has_the_known_number_of_weights():
    """For one channel; PyTorch's tutorial, with three, has 3,576,704 and 2,765,568."""
    generator, discriminator = models.build("dcgan", config(width=64, latent_dim=100))
    assert weights(generator) == 3_576_704 - 2 * 64 * 16
    assert weights(discriminator) == 2_765_568 - 2 * 64 * 16


def test_initial_weights_are_those_of_the_paper():
    torch.manual_seed(0)
    generator, discriminator = models.build("dcgan", config(width=32))
    for network in (generator, discriminator):
        for module in network.modules():
            if isinstance(module, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
                assert abs(module.weight.mean()) < 0.004
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.15)
            elif isinstance(module, torch.nn.BatchNorm2d):
                assert module.weight.mean().item() == pytest.approx(1.0, abs=0.02)
                assert module.bias.abs().max() == 0


def test_larger_images_add_one_layer_each():
    layers = {
        size: sum(
            isinstance(m, torch.nn.ConvTranspose2d)
            for m in models.build("dcgan", config(image_size=size))[0].modules()
        )
        for size in (64, 128, 256)
    }
    assert layers == {64: 5, 128: 6, 256: 7}


def test_an_unknown_model_is_named_with_its_neighbour():
    with pytest.raises(UserError, match=r"'dcgn' is not one of .*did you mean 'dcgan'"):
        models.build("dcgn", config())


def test_a_size_that_is_no_power_of_two_is_refused():
    with pytest.raises(UserError, match="image_size: 96"):
        config(image_size=96)
