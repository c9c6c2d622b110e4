from __future__ import annotations

import pytest
import torch
from torch import nn

from musicspectrogan import models
from musicspectrogan.models import ModelConfig
from musicspectrogan.training.ema import RAMP_UP, AveragedGenerator


def one_weight(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


def test_a_weight_counts_half_after_the_half_life():
    source = one_weight(0.0)
    ema = AveragedGenerator(source, half_life_images=100)
    nn.init.constant_(source.weight, 1.0)
    for _ in range(10):
        ema.update(batch_size=10, images_seen=10**9)
    assert ema.module.weight.item() == pytest.approx(0.5)
    assert source.weight.item() == 1.0


def test_early_on_the_average_reaches_back_only_a_part_of_the_run():
    source = one_weight(0.0)
    ema = AveragedGenerator(source, half_life_images=10**6)
    nn.init.constant_(source.weight, 1.0)
    ema.update(batch_size=10, images_seen=200)
    assert ema.module.weight.item() == pytest.approx(1 - 0.5 ** (10 / (200 * RAMP_UP)))


def test_no_half_life_follows_exactly():
    source = one_weight(0.0)
    ema = AveragedGenerator(source, half_life_images=0)
    nn.init.constant_(source.weight, 3.0)
    ema.update(batch_size=10, images_seen=10)
    assert ema.module.weight.item() == 3.0


def test_standing_statistics_are_the_mean_over_the_batches():
    torch.manual_seed(0)
    generator, _ = models.build("cgan", ModelConfig(64, 4, 5, 2))
    ema = AveragedGenerator(generator, 100)
    batches = [(torch.randn(8, 5), torch.arange(8) % 2) for _ in range(6)]
    norm = next(m for m in ema.module.modules() if isinstance(m, nn.BatchNorm2d))
    seen: list[torch.Tensor] = []
    hook = norm.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    ema.refresh_statistics(batches)
    hook.remove()
    means = torch.stack([x.mean(dim=(0, 2, 3)) for x in seen])
    variances = torch.stack([x.var(dim=(0, 2, 3)) for x in seen])
    torch.testing.assert_close(norm.running_mean, means.mean(dim=0))
    torch.testing.assert_close(norm.running_var, variances.mean(dim=0))
    assert not norm.training and norm.momentum == 0.1


def test_refreshing_leaves_the_trained_generator_alone():
    generator, _ = models.build("dcgan", ModelConfig(64, 4, 5, 1))
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    ema = AveragedGenerator(generator, 100)
    ema.refresh_statistics([(torch.randn(4, 5), torch.zeros(4, dtype=torch.int64))])
    assert generator.training
    for name, tensor in generator.state_dict().items():
        assert torch.equal(tensor, before[name]), name
