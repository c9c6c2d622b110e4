"""A step against the plain loop that everyone knows, written out once more."""

from __future__ import annotations

import contextlib
import copy
import logging
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from musicspectrogan import models
from musicspectrogan.models import ModelConfig
from musicspectrogan.training.graph import WARM_UP_STEPS, GraphedStep
from musicspectrogan.training.losses import LOSSES
from musicspectrogan.training.step import AdversarialStep

BATCH, LATENT = 6, 5


def plain_steps(generator, discriminator, batches):
    """The loop of PyTorch's DCGAN tutorial."""
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    ones, zeros, told = torch.ones(BATCH), torch.zeros(BATCH), []
    for images, labels, latents in batches:
        discriminator.zero_grad()
        real_logits = discriminator(images, labels)
        error_real = bce(real_logits, ones)
        error_real.backward()
        fakes = generator(latents, labels)
        fake_logits = discriminator(fakes.detach(), labels)
        error_fake = bce(fake_logits, zeros)
        error_fake.backward()
        optimizer_d.step()
        generator.zero_grad()
        fooling = discriminator(fakes, labels)
        error_g = bce(fooling, ones)
        error_g.backward()
        optimizer_g.step()
        told.append(
            {
                "loss_d": (error_real + error_fake).item(),
                "loss_g": error_g.item(),
                "d_real": real_logits.sigmoid().mean().item(),
                "d_fake_before": fake_logits.sigmoid().mean().item(),
                "d_fake_after": fooling.sigmoid().mean().item(),
            }
        )
    return told


@pytest.mark.parametrize("gan", models.names())
def test_three_steps_equal_the_plain_loop(gan):
    torch.manual_seed(0)
    generator, discriminator = models.build(gan, ModelConfig(64, 8, LATENT, 2))
    batches = [
        (torch.rand(BATCH, 1, 64, 64) * 2 - 1, torch.arange(BATCH) % 2, torch.randn(BATCH, LATENT))
        for _ in range(3)
    ]
    ours = [
        n.to(memory_format=torch.channels_last)
        for n in (copy.deepcopy(generator), copy.deepcopy(discriminator))
    ]
    step = AdversarialStep(*ours, LOSSES["bce"], lr=2e-4, betas=(0.5, 0.999))
    told = [{name: value.item() for name, value in step(*batch).items()} for batch in batches]

    for got, expected in zip(told, plain_steps(generator, discriminator, batches), strict=True):
        assert got == pytest.approx(expected, rel=1e-3, abs=1e-4)
    for mine, theirs in zip(ours, (generator, discriminator), strict=True):
        for (name, weight), reference in zip(mine.named_parameters(), theirs.parameters(), strict=True):
            # Adam's first steps are as large as the learning rate whatever the gradient, so that
            # rounding may turn single weights by that much; nearly all must agree.
            assert (weight - reference).abs().median() < 2e-6, name
            assert (weight - reference).abs().max() <= 3 * 2 * 2e-4 * 1.01, name


def some_batches(count, device="cpu"):
    draw = torch.Generator().manual_seed(1)
    for _ in range(count):
        images, latents = (
            torch.rand(BATCH, 1, 64, 64, generator=draw),
            torch.randn(BATCH, LATENT, generator=draw),
        )
        yield (images * 2 - 1).to(device), torch.arange(BATCH, device=device) % 2, latents.to(device)


def two_alike(step_class, other_class, device="cpu", **options):
    """Two steps on equal networks."""
    torch.manual_seed(0)
    networks = models.build("cgan", ModelConfig(64, 8, LATENT, 2))
    return (
        kind(
            *(copy.deepcopy(n).to(device, memory_format=torch.channels_last) for n in networks),
            LOSSES["bce"],
            lr=2e-4,
            betas=(0.5, 0.999),
            **choice,
        )
        for kind, choice in ((step_class, {}), (other_class, options))
    )


def weights_of(step):
    return [*step.generator.state_dict().values(), *step.discriminator.state_dict().values()]


def test_bfloat16_is_near_float32_and_keeps_float32_weights():
    exact, rough = two_alike(AdversarialStep, AdversarialStep, bfloat16=True)
    for batch in some_batches(3):
        expected, got = exact(*batch), rough(*batch)
    assert {name: value.item() for name, value in got.items()} == pytest.approx(
        {name: value.item() for name, value in expected.items()}, rel=0.05, abs=0.02
    )
    assert any(not torch.equal(a, b) for a, b in zip(weights_of(exact), weights_of(rough), strict=True))
    assert all(w.dtype != torch.bfloat16 for w in weights_of(rough))
    assert all(value.dtype == torch.float32 for value in got.values())


def test_optimizers_go_on_from_a_run_on_another_device():
    one, other = two_alike(AdversarialStep, AdversarialStep)
    batches = list(some_batches(3))
    for batch in batches[:2]:
        one(*batch)
    for mine, theirs in ((other.generator, one.generator), (other.discriminator, one.discriminator)):
        mine.load_state_dict(theirs.state_dict())
    states = [copy.deepcopy(o.state_dict()) for o in (one.optimizer_d, one.optimizer_g)]
    for state in states:
        state["param_groups"][0]["capturable"] = True  # as a run with CUDA leaves it
    other.load_optimizers(*states)
    assert other.optimizer_g.param_groups[0]["capturable"] is False
    one(*batches[2]), other(*batches[2])
    assert all(torch.equal(a, b) for a, b in zip(weights_of(one), weights_of(other), strict=True))


def test_a_step_that_cannot_be_recorded_is_taken_all_the_same_and_says_so_once(monkeypatch, caplog):
    plain, graphed = two_alike(AdversarialStep, GraphedStep)

    @contextlib.contextmanager
    def refuse(*_, **__):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")
        yield

    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", refuse)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(logging.getLogger("musicspectrogan"), "propagate", True)
    for batch in some_batches(WARM_UP_STEPS + 3):
        expected, got = plain(*batch), graphed(*batch)
        assert all(torch.equal(got[name], value) for name, value in expected.items())
    assert all(torch.equal(a, b) for a, b in zip(weights_of(plain), weights_of(graphed), strict=True))
    assert [record.getMessage() for record in caplog.records] == [
        "This step cannot be a CUDA graph (operation not permitted when stream is capturing): "
        "training goes on, slower"
    ]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_recorded_step_equals_one_that_is_launched_kernel_by_kernel(bfloat16):
    plain, graphed = two_alike(AdversarialStep, GraphedStep, "cuda", bfloat16=bfloat16)
    plain.bfloat16 = bfloat16
    told = []
    for batch in some_batches(WARM_UP_STEPS + 5, "cuda"):
        told.append((plain(*batch), graphed(*batch)))
    assert graphed._graph is not None
    for expected, got in told:
        assert {name: value.item() for name, value in got.items()} == pytest.approx(
            {name: value.item() for name, value in expected.items()}, rel=1e-2, abs=1e-2
        )
    for weight, reference in zip(weights_of(graphed), weights_of(plain), strict=True):
        assert (weight - reference).abs().double().median() < 1e-4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_recorded_step_never_waits_for_the_device():
    _, graphed = two_alike(AdversarialStep, GraphedStep, "cuda")
    batches = list(some_batches(WARM_UP_STEPS + 4, "cuda"))
    for batch in batches[:-3]:
        graphed(*batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches[-3:]:
            graphed(*batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_discriminator_can_learn_again_after_the_generators_turn():
    generator, discriminator = models.build("dcgan", ModelConfig(64, 4, LATENT, 1))
    step = AdversarialStep(generator, discriminator, LOSSES["bce"], lr=1e-3, betas=(0.5, 0.999))
    labels = torch.zeros(BATCH, dtype=torch.int64)
    step(torch.zeros(BATCH, 1, 64, 64), labels, torch.randn(BATCH, LATENT))
    assert all(weight.requires_grad for weight in discriminator.parameters())
