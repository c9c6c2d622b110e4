"""The contract that every model keeps, and the properties of each."""

from __future__ import annotations

import contextlib

import pytest
import torch

from musicspectrogan import models
from musicspectrogan.errors import UserError
from musicspectrogan.models import ModelConfig
from musicspectrogan.models.layers import ConditionalBatchNorm
from musicspectrogan.training.settings import TrainingConfig

GENRES = 3
BATCH = 5


# A value for each option; models are tested without options and with each one that they support.
SWITCHES = {
    "channel_multiple": 4,
    "upsampling": "resize",
    "minibatch_deviation": True,
    "spectral_norm": True,
    "rhythm": True,
    "pairs": True,
}
VARIANTS = [
    *((gan, {}) for gan in models.names()),
    *((gan, {name: SWITCHES[name]}) for gan in models.names() for name in models.options_of(gan)),
    ("stable_cgan", {name: SWITCHES[name] for name in models.options_of("stable_cgan")}),
    ("anylength_cgan", SWITCHES),
]
ANY_LENGTH = ("anylength_cgan", "anylength_gan")
OURS = ("cgan", "dcgan", "stable_cgan", "stable_gan", *ANY_LENGTH)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def config(**changes: object) -> ModelConfig:
    return ModelConfig(
        **{"image_size": 64, "width": 4, "latent_dim": 7, "n_genres": GENRES, **changes}
    )


def inputs(generator: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    latents = torch.randn(BATCH, generator.latent_dim, generator=torch.Generator().manual_seed(0))
    return latents, torch.tensor([0, 1, 2, 0, 1])


def weights(network: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def randomise(network: torch.nn.Module, deviation: float = 0.1) -> torch.nn.Module:
    """Move the weights as training does: some start at zero, so that an input has no effect."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=deviation)
    return network


def test_all_models_are_found_and_shared_modules_are_not():
    assert set(OURS) <= set(models.names())
    assert not {"contract", "layers"} & set(models.names())


@pytest.mark.parametrize(
    ("old", "gan"),
    [
        ("unconditional", "stable_gan"),
        ("projection", "stable_cgan"),
        ("anylength_unconditional", "anylength_gan"),
        ("anylength", "anylength_cgan"),
        ("dcgan", "dcgan"),
        ("unknown", "unknown"),
    ],
)
def test_models_answer_to_the_names_of_older_versions(old, gan):
    assert models.current_name(old) == gan
    if gan in OURS:
        assert TrainingConfig(gan=old) == TrainingConfig(gan=gan)
        assert models.options_of(old) == models.options_of(gan)


def test_a_model_file_takes_precedence_over_an_old_name(monkeypatch):
    monkeypatch.setattr(models, "names", lambda: ["projection", "stable_cgan"])
    assert models.current_name("projection") == "projection"


@pytest.mark.parametrize("image_size", [64, 128, 256])
@pytest.mark.parametrize(("gan", "switches"), VARIANTS)
def test_shapes_and_ranges(gan, switches, image_size):
    model = config(image_size=image_size, **switches)
    generator, discriminator = models.build(gan, model)
    latents, labels = inputs(generator)
    images = generator(latents, labels)
    assert images.shape == (BATCH, model.n_windows, image_size, image_size)
    assert images.dtype == torch.float32
    assert -1 <= images.min() < images.max() <= 1
    assert randomise(generator, 1.0)(latents, labels).abs().max() <= 1
    logits = discriminator(images, labels)
    assert logits.shape == (BATCH * model.n_logits,)


@pytest.mark.parametrize(("gan", "switches"), VARIANTS)
def test_every_weight_gets_a_gradient(gan, switches):
    model = config(**switches)
    generator, discriminator = map(randomise, models.build(gan, model))
    latents, labels = inputs(generator)
    discriminator(generator(latents, labels), labels).square().sum().backward()
    for network in (generator, discriminator):
        for name, weight in network.named_parameters():
            assert weight.grad is not None and weight.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("gan", "switches"), VARIANTS)
def test_labels_matter_exactly_when_the_model_is_conditional(gan, switches):
    model = config(**switches)
    networks = models.build(gan, model)
    latents, labels = inputs(networks[0])
    for network, given in zip(
        networks, (latents, torch.zeros(BATCH, model.n_windows, 64, 64)), strict=True
    ):
        randomise(network).eval()
        one, other = network(given, labels), network(given, (labels + 1) % GENRES)
        alike = [torch.equal(a, b) for a, b in zip(one, other, strict=True)]
        assert set(alike) == {not models.is_conditional(gan)}


@pytest.mark.parametrize("gan", [gan for gan in models.names() if models.is_conditional(gan)])
def test_a_mixture_of_one_genre_alone_is_that_genre_and_others_lie_between(gan):
    generator = randomise(models.build(gan, config())[0]).eval()
    latents, labels = inputs(generator)
    pure = torch.nn.functional.one_hot(labels, GENRES).float()
    torch.testing.assert_close(
        generator(latents, pure), generator(latents, labels), rtol=0, atol=1e-5
    )
    others = torch.nn.functional.one_hot((labels + 1) % GENRES, GENRES).float()
    ends = generator(latents, pure), generator(latents, others)
    near = generator(latents, 0.999 * pure + 0.001 * others)
    way, step = (ends[1] - ends[0]).flatten(1).norm(dim=1), (near - ends[0]).flatten(1).norm(dim=1)
    assert (step > 0).all() and (step < 0.05 * way).all()


@pytest.mark.parametrize("size", [1, 2])
def test_an_unconditional_model_takes_any_labels(size):
    generator, discriminator = models.build("stable_gan", config())
    latents, labels = inputs(generator)
    images = generator.eval()(latents[:size], labels[:size])
    assert torch.equal(images, generator(latents[:size], torch.rand(size, GENRES)))
    assert torch.equal(
        discriminator(images, labels[:size]), discriminator(images, labels[:size] + 1)
    )
    assert all(
        len(m.scale) == 1 for m in generator.modules() if isinstance(m, ConditionalBatchNorm)
    )


@pytest.mark.parametrize("gan", models.names())
def test_in_eval_mode_an_image_does_not_depend_on_the_batch(gan):
    model = config()
    generator, _ = models.build(gan, model)
    latents, labels = inputs(generator)
    randomise(generator)(latents, labels)  # gives BatchNorm statistics
    generator.eval()
    together = generator(latents, labels)
    alone = torch.cat([generator(latents[k : k + 1], labels[k : k + 1]) for k in range(BATCH)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("gan", models.names())
def test_a_model_computes_where_its_inputs_are(gan):
    """Tested on device meta, which has shapes but no numbers."""
    meta = torch.device("meta")
    with meta:
        generator, discriminator = models.build(gan, config())
    latents, labels = (given.to(meta) for given in inputs(generator))
    images = generator(latents, labels)
    assert images.device == discriminator(images, labels).device == meta


@pytest.mark.parametrize("gan", models.names())
def test_the_same_seed_builds_the_same_weights(gan):
    built = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        generator, discriminator = models.build(gan, config())
        built.append(
            torch.cat([w.flatten() for n in (generator, discriminator) for w in n.parameters()])
        )
    assert torch.equal(built[0], built[1])
    assert not torch.equal(built[0], built[2])


def test_the_classic_dcgan_has_the_known_number_of_weights():
    """For one channel; PyTorch's tutorial, with three, has 3,576,704 and 2,765,568."""
    with torch.device("meta"):
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


def test_the_projection_model_has_the_known_number_of_weights():
    with torch.device("meta"):
        generator, discriminator = models.build("stable_cgan", config(width=64, latent_dim=100))
        classic, _ = models.build("dcgan", config(width=64, latent_dim=100))
    # A scale and a shift for each channel of each genre, and not for each channel.
    assert weights(generator) - weights(classic) == (GENRES - 1) * 2 * (512 + 256 + 128 + 64)
    strides = sum(
        16 * outer * inner + inner for outer, inner in ((1, 64), (64, 128), (128, 256), (256, 512))
    )
    features = 512 * 4 * 4
    assert (
        weights(discriminator)
        == strides + (9 * 512 * 512 + 512) + (features + 1) + GENRES * features
    )


def test_initial_weights_of_the_projection_model():
    torch.manual_seed(0)
    generator, discriminator = models.build("stable_cgan", config(width=32))
    for module in generator.modules():
        if isinstance(module, torch.nn.ConvTranspose2d):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.15)
        elif isinstance(module, ConditionalBatchNorm):
            assert (module.scale == 1).all() and (module.shift == 0).all()
    for module in discriminator.modules():
        if isinstance(module, torch.nn.Conv2d):
            fan_in = module.weight[0].numel()
            assert module.weight.std().item() == pytest.approx((2 / 1.04 / fan_in) ** 0.5, rel=0.1)
            assert (module.bias == 0).all()
    assert (discriminator.directions.weight == 0).all()


@pytest.mark.parametrize("gan", ["stable_cgan", "stable_gan"])
def test_upsampling_by_resizing_leaves_one_transposed_convolution_from_the_latents(gan):
    generator, _ = models.build(gan, config(upsampling="resize"))
    modules = list(generator.modules())
    transposed = [module for module in modules if isinstance(module, torch.nn.ConvTranspose2d)]
    assert [module.in_channels for module in transposed] == [7]
    assert sum(isinstance(module, torch.nn.Upsample) for module in modules) == 4


def test_larger_images_add_one_layer_each():
    layers = {
        size: sum(
            isinstance(m, torch.nn.ConvTranspose2d)
            for m in models.build("dcgan", config(image_size=size))[0].modules()
        )
        for size in (64, 128, 256)
    }
    assert layers == {64: 5, 128: 6, 256: 7}


@pytest.mark.parametrize(
    ("image_size", "changes", "channels"),
    [
        (64, {}, [32, 16, 8, 4]),
        (128, {}, [32, 32, 16, 8, 4]),
        (128, {"width": 2, "channel_multiple": 16}, [32, 16, 8, 4, 2]),
        (64, {"channel_multiple": 2}, [8, 8, 8, 4]),
    ],
)
def test_channels_double_away_from_the_image_up_to_a_multiple(image_size, changes, channels):
    model = config(image_size=image_size, **changes)
    generator, discriminator = models.build("anylength_cgan", model)
    inputs = [layer.in_channels for layer in [*generator.layers, generator.to_image]]
    assert inputs == channels
    layers = [m for m in discriminator.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [layer.out_channels for layer in layers[:-1]] == channels[::-1]


def test_an_unknown_model_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match=r"'dcgn' is not one of .*did you mean 'dcgan'"):
        models.build("dcgn", config())


@pytest.mark.parametrize(("switch", "value"), SWITCHES.items())
@pytest.mark.parametrize("gan", ["dcgan", "cgan"])
def test_an_option_that_a_classic_does_not_support_is_refused_by_its_flag(gan, switch, value):
    flag = "--" + switch.replace("_", "-")
    for build in (models.build, models.check_options):
        with pytest.raises(UserError, match=f"{flag} has no effect with --gan {gan}"):
            build(gan, config(**{switch: value}))


@pytest.mark.parametrize("gan", models.names())
def test_each_model_supports_the_options_that_it_names(gan):
    models.check_options(gan, config())
    supported = set()
    for switch, value in SWITCHES.items():
        with contextlib.suppress(UserError):
            models.check_options(gan, config(**{switch: value}))
            supported.add(switch)
    assert supported == set(models.options_of(gan)) <= set(SWITCHES)


def test_an_unknown_upsampling_is_refused():
    with pytest.raises(UserError, match=r"'resise' is not one of .*did you mean 'resize'"):
        config(upsampling="resise")


@pytest.mark.parametrize("switches", [{}, {"minibatch_deviation": True}, {"spectral_norm": True}])
def test_labels_change_logits_by_the_projection_on_their_directions(switches):
    discriminator = randomise(models.build("stable_cgan", config(**switches))[1]).eval()
    images = torch.rand(BATCH, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    features, directions = discriminator.features(images), discriminator.directions.weight
    one, other = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([1, 0, 1, 2, 1])
    difference = discriminator(images, one) - discriminator(images, other)
    for image, (a, b) in enumerate(zip(one.tolist(), other.tolist(), strict=True)):
        expected = torch.dot(directions[a] - directions[b], features[image])
        torch.testing.assert_close(difference[image], expected, rtol=1e-4, atol=1e-5)
    verdict = discriminator.verdict
    whole = features @ (verdict.weight[0] + directions[2]) + verdict.bias
    given = torch.full((BATCH,), 2)
    torch.testing.assert_close(discriminator(images, given), whole, rtol=1e-4, atol=1e-5)


def test_a_fresh_projection_discriminator_ignores_genres():
    discriminator = models.build("stable_cgan", config())[1]
    images = torch.rand(BATCH, 1, 64, 64)
    logits = [discriminator(images, torch.full((BATCH,), genre)) for genre in range(GENRES)]
    assert torch.equal(logits[0], logits[1]) and torch.equal(logits[0], logits[2])


def test_a_logit_does_not_depend_on_the_batch_without_minibatch_deviation():
    for deviation in (False, True):
        model = config(minibatch_deviation=deviation)
        discriminator = randomise(models.build("stable_cgan", model)[1])  # in training mode
        images = torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
        together = discriminator(images, torch.zeros(4, dtype=torch.int64))
        alone = discriminator(images[:1], torch.zeros(1, dtype=torch.int64))
        assert torch.allclose(together[:1], alone, rtol=1e-4, atol=1e-4) is not deviation


@pytest.mark.parametrize("with_options", [False, True])
@pytest.mark.parametrize("gan", OURS)
def test_our_models_are_about_as_large_as_the_classic(gan, with_options):
    size = {"width": 64, "latent_dim": 100, "n_genres": 10}
    switches = {name: SWITCHES[name] for name in models.options_of(gan) if with_options}
    switches.pop("channel_multiple", None)  # is there to make them smaller
    with torch.device("meta"):
        classic = models.build("cgan", config(**size))
        networks = models.build(gan, config(**size, **switches))
    for network, reference in zip(networks, classic, strict=True):
        assert 0.5 <= weights(network) / weights(reference) <= 2.5


def test_a_size_that_is_no_power_of_two_is_refused():
    with pytest.raises(UserError, match="image_size: 96"):
        config(image_size=96)
