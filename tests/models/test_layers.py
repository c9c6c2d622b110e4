"""The layers that are not the DCGAN's, each compared with its formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from musicspectrogan import models
from musicspectrogan.models import ModelConfig
from musicspectrogan.models.layers import (
    ConditionalBatchNorm,
    MinibatchDeviation,
    add_spectral_norm,
    init_he,
    upsampling,
)

GENRES, CHANNELS = 3, 2


def features_of(batch: int, channels: int = CHANNELS, side: int = 4, seed: int = 0) -> torch.Tensor:
    return (
        torch.randn(batch, channels, side, side, generator=torch.Generator().manual_seed(seed)) * 2
        + 1
    )


def one_hot(*genres: int) -> torch.Tensor:
    return F.one_hot(torch.tensor(genres), GENRES).float()


def conditional_norm() -> ConditionalBatchNorm:
    norm = ConditionalBatchNorm(CHANNELS, GENRES)
    with torch.no_grad():
        norm.scale.copy_(torch.tensor([[1.0, 2.0], [0.5, -1.0], [3.0, 0.25]]))
        norm.shift.copy_(torch.tensor([[0.0, 1.0], [-2.0, 0.5], [4.0, -3.0]]))
    return norm


def test_a_fresh_conditional_batch_norm_is_a_plain_one_for_every_genre():
    features, plain = features_of(6), nn.BatchNorm2d(CHANNELS)
    for genres in (one_hot(0, 1, 2, 0, 1, 2), one_hot(2, 2, 2, 2, 2, 2)):
        norm = ConditionalBatchNorm(CHANNELS, GENRES)
        torch.testing.assert_close(norm(features, genres), plain(features))


def test_each_image_is_scaled_and_shifted_as_its_genre_is():
    features, norm = features_of(4), conditional_norm()
    normal = nn.BatchNorm2d(CHANNELS, affine=False)(features)
    got = norm(features, one_hot(1, 0, 2, 1))
    assert got.shape == features.shape
    of_genre = [([1.0, 2.0], [0.0, 1.0]), ([0.5, -1.0], [-2.0, 0.5]), ([3.0, 0.25], [4.0, -3.0])]
    for image, genre in enumerate([1, 0, 2, 1]):
        scale, shift = of_genre[genre]
        for channel in range(CHANNELS):
            expected = normal[image, channel] * scale[channel] + shift[channel]
            torch.testing.assert_close(got[image, channel], expected)


def test_a_mixture_of_genres_has_the_mixture_of_their_scales_and_shifts():
    features, norm = features_of(3), conditional_norm()
    mixtures = torch.tensor([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5], [0.0, 0.0, 1.0]])
    normal, got = nn.BatchNorm2d(CHANNELS, affine=False)(features), norm(features, mixtures)
    by_hand = [
        ([0.75, 0.5], [-1.0, 0.75]),
        ([1.875, 0.375], [1.5, -1.125]),
        ([3.0, 0.25], [4.0, -3.0]),
    ]
    for image, (scale, shift) in enumerate(by_hand):
        for channel in range(CHANNELS):
            expected = normal[image, channel] * scale[channel] + shift[channel]
            torch.testing.assert_close(got[image, channel], expected)


def test_statistics_are_those_of_the_batch_in_training_and_standing_ones_later():
    norm, plain = conditional_norm(), nn.BatchNorm2d(CHANNELS, affine=False)
    for seed in range(3):
        norm(features_of(5, seed=seed), one_hot(0, 1, 2, 0, 1)), plain(features_of(5, seed=seed))
    norm.eval(), plain.eval()
    features = features_of(1, seed=9)
    expected = plain(features) * torch.tensor([3.0, 0.25])[:, None, None]
    expected = expected + torch.tensor([4.0, -3.0])[:, None, None]
    torch.testing.assert_close(norm(features, one_hot(2)), expected)


@pytest.mark.parametrize(
    ("batch", "group"),
    [(8, 4), (4, 4), (12, 4), (6, 3), (9, 3), (2, 2), (10, 2), (5, 1), (7, 1), (1, 1)],
)
def test_the_deviation_equals_a_plain_loop(batch, group):
    features = features_of(batch, channels=3, side=2)
    got = MinibatchDeviation()(features)
    assert got.shape == (batch, 4, 2, 2)
    assert torch.equal(got[:, :3], features)
    groups = batch // group
    for image in range(batch):
        members = [
            features[other].flatten().tolist() for other in range(image % groups, batch, groups)
        ]
        assert len(members) == group
        total = 0.0
        for values in zip(*members, strict=True):  # of one channel and place
            mean = sum(values) / group
            total += math.sqrt(sum((value - mean) ** 2 for value in values) / group + 1e-8)
        expected = torch.full((2, 2), total / 12)
        torch.testing.assert_close(got[image, 3], expected, rtol=1e-4, atol=1e-7)


def test_images_that_are_alike_have_no_deviation_and_others_have():
    images = features_of(1).expand(8, -1, -1, -1)
    alike = MinibatchDeviation()(images)[:, CHANNELS]
    torch.testing.assert_close(
        alike, torch.full((8, 4, 4), 1e-4)
    )  # what keeps the root differentiable
    # Images 0, 2, 4, 6 are a group: at 1 in one place, twice for a standard deviation of 1.
    images = images.clone()
    images[[0, 2]] += 1.0
    images[[4, 6]] -= 1.0
    deviation = MinibatchDeviation()(images)[:, CHANNELS, 0, 0]
    torch.testing.assert_close(deviation, torch.tensor([1.0, 1e-4] * 4))


def test_members_of_a_group_are_interchangeable_and_groups_are_apart():
    features, layer = features_of(8), MinibatchDeviation()
    before = layer(features)[:, CHANNELS]
    for k in range(2):
        assert (before[k::2] == before[k, 0, 0]).all()
    assert before[0, 0, 0] != before[1, 0, 0]
    exchanged = features[[2, 1, 6, 3, 0, 5, 4, 7]]  # within the group of even places
    torch.testing.assert_close(layer(exchanged)[:, CHANNELS], before)
    features[3] += 5.0 * features_of(1, seed=1)[0]
    after = layer(features)[:, CHANNELS]
    assert torch.equal(after[0::2], before[0::2])
    assert (after[1::2] > before[1::2]).all()


def test_the_deviation_has_a_gradient_even_where_it_is_nothing():
    features = features_of(1).repeat(4, 1, 1, 1).requires_grad_()
    MinibatchDeviation()(features)[:, CHANNELS].sum().backward()
    assert features.grad.isfinite().all()
    features = features_of(4).requires_grad_()
    MinibatchDeviation()(features)[:, CHANNELS].sum().backward()
    assert (features.grad != 0).all()


def test_the_deviation_does_not_depend_on_the_layout_in_memory():
    features = features_of(6, channels=5)
    last = MinibatchDeviation()(features.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, MinibatchDeviation()(features))


def test_resize_and_convolve_repeats_each_pixel_before_it_convolves():
    layer = upsampling("resize", 1, 1)
    kernel = torch.arange(9.0).view(1, 1, 3, 3)
    with torch.no_grad():
        layer[1].weight.copy_(kernel)
    features = features_of(2, channels=1)
    larger = features.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(layer(features), F.conv2d(larger, kernel, padding=1))
    assert layer(features).shape == (2, 1, 8, 8)


def test_resizing_in_time_repeats_each_frame_before_it_convolves():
    layer = upsampling("resize_time", 2, 3).double()
    features = features_of(2, channels=2).double()
    # In frequency a transposed convolution: rows apart by zeros, and the kernel turned round.
    rows = torch.zeros(*features.shape[:2], 8, 4, dtype=torch.float64)
    rows[:, :, ::2] = features
    kernel = layer.weight.transpose(0, 1).flip(2, 3)
    expected = F.conv2d(F.pad(rows.repeat_interleave(2, dim=3), (1, 1, 2, 1)), kernel)
    torch.testing.assert_close(layer(features), expected)
    unpadded = upsampling("resize_time", 2, 3, padded_in_time=False).double()
    unpadded.load_state_dict(layer.state_dict())
    torch.testing.assert_close(unpadded(features), expected[..., 1:-1])


@pytest.mark.parametrize("kind", models.UPSAMPLINGS)
def test_every_upsampling_doubles_height_and_width_without_a_bias(kind):
    layer = upsampling(kind, 3, 5)
    assert layer(torch.zeros(2, 3, 4, 6)).shape == (2, 5, 8, 12)
    assert (layer(torch.zeros(2, 3, 4, 6)) == 0).all()


def checkerboard(images: torch.Tensor, in_time_only: bool = False) -> float:
    """Mean power of images (B, H, W) at the three frequencies of a pattern of period 2."""
    spectrum = torch.fft.fft2(images, norm="forward").abs().square().mean(dim=0)
    height, width = images.shape[1] // 2, images.shape[2] // 2
    in_time = spectrum[0, width] + spectrum[height, width]
    return float(in_time if in_time_only else in_time + spectrum[height, 0])


def test_the_measure_sees_a_checkerboard_and_nothing_else():
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    board = ((rows + columns) % 2 * 2 - 1).float()[None]
    assert checkerboard(0.25 * board) == pytest.approx(0.0625)
    assert checkerboard((columns % 2 * 2 - 1).float()[None]) == pytest.approx(1.0)
    smooth = torch.sin(2 * torch.pi * columns / 16)[None] + 3.0
    assert checkerboard(smooth) == pytest.approx(0.0, abs=1e-10)


@pytest.mark.parametrize("kind", models.UPSAMPLINGS)
def test_even_features_grow_to_an_even_image_by_resizing(kind):
    torch.manual_seed(0)
    features = torch.randn(6, 8, 1, 1).expand(-1, -1, 12, 12)
    with torch.no_grad():
        image = upsampling(kind, 8, 1)(features)[:, 0]
    assert image.shape == (6, 24, 24)
    inside = image[:, 4:-4, 4:-4]  # at the border the padding shows
    power = float(inside.square().mean())
    uneven, in_time = checkerboard(inside) / power, checkerboard(inside, True) / power
    assert uneven < 1e-9 if kind == "resize" else uneven > 0.05
    assert in_time > 0.05 if kind == "transposed" else in_time < 1e-9


def test_initial_weights_keep_the_variance_behind_a_leaky_relu():
    torch.manual_seed(0)
    convolution, linear = nn.Conv2d(32, 64, 4), nn.Linear(500, 300)
    for layer, fan_in in ((convolution, 32 * 16), (linear, 500)):
        init_he(layer)
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / (1.04 * fan_in)), rel=0.01)
        assert abs(layer.weight.mean().item()) < 1e-3
        assert (layer.bias == 0).all()
    bare = nn.Conv2d(32, 64, 4, bias=False)
    init_he(bare)
    assert bare.bias is None
    features = F.leaky_relu(torch.randn(400, 500), 0.2)
    # After a leaky ReLU of unit normal numbers the second moment is 1.04 / 2; the variance is 1.
    assert linear(features).var().item() == pytest.approx(1.0, rel=0.05)


def discriminator_32() -> nn.Module:
    torch.manual_seed(0)
    config = ModelConfig(32, 4, 5, GENRES, spectral_norm=True, minibatch_deviation=True)
    return models.build("stable_cgan", config)[1]


def normed(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if parametrize.is_parametrized(module, "weight")]


def largest_singular_value(weight: torch.Tensor) -> float:
    return torch.linalg.svdvals(weight.detach().flatten(1))[0].item()


def batch_of(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return images, torch.tensor([0, 1, 2, 0])


def test_every_weight_of_a_spectral_discriminator_has_the_largest_singular_value_one():
    discriminator = discriminator_32()
    layers = normed(discriminator)
    assert len(layers) == 6  # three strides, the 3x3, the verdict and the directions
    for layer in layers:  # as though training had moved them far
        nn.init.normal_(layer.parametrizations.weight.original, 0.0, 3.0)
    assert max(abs(largest_singular_value(layer.weight) - 1) for layer in layers) > 0.5
    for seed in range(60):
        discriminator(*batch_of(seed))
    discriminator.eval()
    for layer in layers:
        assert largest_singular_value(layer.weight) == pytest.approx(1.0, abs=0.03)


def test_in_eval_mode_the_spectral_norm_stays_as_it_is():
    discriminator = discriminator_32().eval()
    before = {name: value.clone() for name, value in discriminator.state_dict().items()}
    first = discriminator(*batch_of(0))
    assert torch.equal(first, discriminator(*batch_of(0)))
    assert all(
        torch.equal(value, before[name]) for name, value in discriminator.state_dict().items()
    )


def test_spectral_norm_divides_and_keeps_the_direction():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(2, 3, 4), nn.Flatten(), nn.Linear(3, 2), nn.ReLU())
    weights = [plain[0].weight.detach().clone(), plain[2].weight.detach().clone()]
    network = plain
    add_spectral_norm(network)
    for _ in range(50):
        network(torch.randn(2, 2, 4, 4))
    network.eval()
    for layer, weight in zip((network[0], network[2]), weights, strict=True):
        expected = weight / largest_singular_value(weight)
        torch.testing.assert_close(layer.weight.detach(), expected, rtol=1e-4, atol=1e-5)


def test_spectral_weights_survive_a_state_dict():
    discriminator, other = discriminator_32(), discriminator_32()
    for layer in normed(discriminator):
        nn.init.normal_(layer.parametrizations.weight.original, 0.0, 2.0)
    for seed in range(5):
        discriminator(*batch_of(seed))
    other.load_state_dict(discriminator.state_dict())
    for mode in (False, True):  # in training mode both go on with their singular vectors
        discriminator.train(mode), other.train(mode)
        for seed in range(6, 9):
            assert torch.equal(discriminator(*batch_of(seed)), other(*batch_of(seed)))
    assert not torch.equal(discriminator(*batch_of(0)), discriminator_32()(*batch_of(0)))
