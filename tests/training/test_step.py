"""A step against the plain loop that everyone knows, written out once more."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import logsigmoid

from musicspectrogan import models
from musicspectrogan.device import arithmetic
from musicspectrogan.errors import UserError
from musicspectrogan.models import ModelConfig
from musicspectrogan.training.augment import DRAWS, Augmentation
from musicspectrogan.training.losses import LOSSES, Loss
from musicspectrogan.training.step import (
    VIEWS,
    WARM_UP_STEPS,
    AdversarialStep,
    RecordedStep,
    penalised,
)

BATCH, LATENT = 6, 5
ALL_D = ("d_real", "d_fake_before", "d_fake_after")
ADAM = {"lr": 2e-4, "betas": (0.5, 0.999)}


def plain_steps(generator, discriminator, batches, see=lambda images, draws: images):
    """The loop of PyTorch's DCGAN tutorial; the discriminator gets to see `see(images, draws)`."""
    optimizer_d = torch.optim.Adam(discriminator.parameters(), **ADAM)
    optimizer_g = torch.optim.Adam(generator.parameters(), **ADAM)
    ones, zeros, told = torch.ones(BATCH), torch.zeros(BATCH), []
    for images, labels, latents, (draws_real, draws_fake, draws_fooling) in batches:
        discriminator.zero_grad()
        real_logits = discriminator(see(images, draws_real), labels)
        error_real = bce(real_logits, ones)
        error_real.backward()
        fakes = generator(latents, labels)
        fake_logits = discriminator(see(fakes.detach(), draws_fake), labels)
        error_fake = bce(fake_logits, zeros)
        error_fake.backward()
        optimizer_d.step()
        generator.zero_grad()
        fooling = discriminator(see(fakes, draws_fooling), labels)
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


def plain_relativistic_steps(generator, discriminator, batches):
    """The same, comparing each fake with a real image of its genre, and the other way round."""
    optimizer_d = torch.optim.Adam(discriminator.parameters(), **ADAM)
    optimizer_g = torch.optim.Adam(generator.parameters(), **ADAM)
    told = []
    for images, labels, latents, _ in batches:
        fakes = generator(latents, labels)
        real_logits, fake_logits = (
            discriminator(images, labels),
            discriminator(fakes.detach(), labels),
        )
        error_d = -logsigmoid(real_logits - fake_logits).mean()
        discriminator.zero_grad()
        error_d.backward()
        optimizer_d.step()
        fooling = discriminator(fakes, labels)
        error_g = -logsigmoid(fooling - discriminator(images, labels)).mean()
        generator.zero_grad()
        error_g.backward()
        optimizer_g.step()
        middle = (real_logits.mean() + fake_logits.mean()) / 2
        told.append(
            {
                "loss_d": error_d.item(),
                "loss_g": error_g.item(),
                "d_real": (real_logits - middle).sigmoid().mean().item(),
                "d_fake_before": (fake_logits - middle).sigmoid().mean().item(),
                "d_fake_after": (fooling - middle).sigmoid().mean().item(),
            }
        )
    return told


def some_batches(count, device="cpu", size=64, draws=0, *, latent_dim=LATENT, n_windows=1):
    draw = torch.Generator().manual_seed(1)
    for _ in range(count):
        images = torch.rand(BATCH, n_windows, size, size, generator=draw) * 2 - 1
        latents = torch.randn(BATCH, latent_dim, generator=draw)
        uniform = torch.rand(VIEWS, BATCH, draws, generator=draw)
        labels = torch.arange(BATCH, device=device) % 2
        yield images.to(device), labels, latents.to(device), uniform.to(device)


def assert_equal_steps(gan, loss, batches, reference, pairs=False, **options):
    """Steps on fresh networks return and learn the same as those of `reference` on equal ones."""
    torch.manual_seed(0)
    model = ModelConfig(64, 8, LATENT, 2, pairs=pairs)
    # Both in one layout: Adam enlarges differences in rounding.
    networks = [n.to(memory_format=torch.channels_last) for n in models.build(gan, model)]
    ours = [copy.deepcopy(network) for network in networks]
    step = AdversarialStep(*ours, LOSSES[loss], **ADAM, **options)
    told = [{name: value.item() for name, value in step(*batch).items()} for batch in batches]

    for got, expected in zip(told, reference(*networks, batches), strict=True):
        assert got == pytest.approx(expected, rel=1e-3, abs=1e-4)
    for mine, theirs in zip(ours, networks, strict=True):
        for (name, weight), other in zip(mine.named_parameters(), theirs.parameters(), strict=True):
            # Adam's first steps are as large as the learning rate whatever the gradient, so that
            # rounding may turn single weights by that much; nearly all must agree.
            assert (weight - other).abs().median() < 2e-6, name
            assert (weight - other).abs().max() <= len(batches) * 2 * 2e-4 * 1.01, name


@pytest.mark.parametrize("gan", models.names())
def test_three_steps_equal_the_plain_loop(gan):
    latent_dim = models.build(gan, ModelConfig(64, 8, LATENT, 2))[0].latent_dim
    assert_equal_steps(gan, "bce", list(some_batches(3, latent_dim=latent_dim)), plain_steps)


def test_three_steps_on_pairs_equal_the_plain_loop():
    """With two verdicts on each pair, which both count."""
    latent_dim = models.build("anylength", ModelConfig(64, 8, LATENT, 2, pairs=True))[0].latent_dim
    batches = list(some_batches(3, latent_dim=latent_dim, n_windows=2))
    assert_equal_steps("anylength", "relativistic", batches, plain_relativistic_steps, pairs=True)


@pytest.mark.parametrize("gan", ["cgan", "projection"])
def test_three_relativistic_steps_equal_the_plain_loop(gan):
    assert_equal_steps(gan, "relativistic", list(some_batches(3)), plain_relativistic_steps)


@pytest.mark.parametrize("gan", ["cgan", "projection"])
def test_three_augmented_steps_equal_a_plain_loop_that_augments_by_the_same_draws(gan):
    augmentation = Augmentation(1.0)

    def reference(*networks_and_batches):
        return plain_steps(*networks_and_batches, see=augmentation)

    batches = list(some_batches(3, draws=augmentation.draws))
    assert_equal_steps(gan, "bce", batches, reference, augmentation=augmentation)


class TinyGenerator(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(LATENT, 16 * 16)

    def forward(self, latents, labels):
        return torch.tanh(self.layer(latents)).view(-1, 1, 16, 16)


class LinearDiscriminator(nn.Module):
    """logits = sum w x + b: the gradient with respect to every image is w."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(1, 16, 16) / 16)
        self.b = nn.Parameter(torch.tensor(0.1))

    def forward(self, images, labels):
        return (self.w * images).flatten(1).sum(dim=1) + self.b


class QuadraticDiscriminator(LinearDiscriminator):
    """logits = sum w x² + b: the gradient with respect to an image is 2 w x."""

    def forward(self, images, labels):
        return super().forward(images.square(), labels)


def tiny_step(discriminator_class, loss="bce", seed=0, **options):
    torch.manual_seed(seed)
    return AdversarialStep(TinyGenerator(), discriminator_class(), LOSSES[loss], **ADAM, **options)


@pytest.mark.parametrize(("r1", "r2"), [(0.0, 0.0), (3.0, 0.0), (0.0, 5.0), (3.0, 5.0)])
def test_penalties_on_a_linear_discriminator_are_its_squared_weight_and_draw_it_to_zero(r1, r2):
    step = tiny_step(LinearDiscriminator, r1=r1, r2=r2)
    reference = copy.deepcopy(step.discriminator)
    optimizer = torch.optim.Adam(reference.parameters(), **ADAM)
    for images, labels, latents, draws in some_batches(4, size=16):
        fakes = step.generator(latents, labels).detach()
        told = step(images, labels, latents, draws)
        real_logits, fake_logits = reference(images, labels), reference(fakes, labels)
        loss = bce(real_logits, torch.ones(BATCH)) + bce(fake_logits, torch.zeros(BATCH))
        squared_weight = reference.w.square().sum()
        optimizer.zero_grad()
        (loss + (r1 + r2) / 2 * squared_weight).backward()
        # By hand: of the loss mean (p - target) x, of the penalty gamma / 2 · 2 w.
        by_hand = (-(-real_logits).sigmoid()[:, None, None, None] * images).mean(dim=0)
        by_hand += (fake_logits.sigmoid()[:, None, None, None] * fakes).mean(dim=0)
        by_hand += (r1 + r2) * reference.w
        torch.testing.assert_close(
            step.discriminator.w.grad, by_hand.detach(), rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(
            step.discriminator.b.grad, reference.b.grad, rtol=1e-4, atol=1e-6
        )
        optimizer.step()

        assert told["loss_d"].item() == pytest.approx(
            loss.item(), rel=1e-5
        )  # without the penalties
        weighted = {"r1"} if r1 else set()
        weighted |= {"r2"} if r2 else set()
        assert told.keys() - {"loss_d", "loss_g", *ALL_D} == weighted
        for name in weighted:
            assert told[name].item() == pytest.approx(squared_weight.item(), rel=1e-5)
    torch.testing.assert_close(step.discriminator.w, reference.w, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("share", "count"), [(1.0, BATCH), (0.5, 4), (0.1, 4)])
@pytest.mark.parametrize(("name", "weight"), [("r1", 0.7), ("r2", 0.4)])
def test_r1_is_of_real_images_and_r2_of_fakes_or_a_share_of_them(name, weight, share, count):
    step, free = (
        tiny_step(QuadraticDiscriminator, penalty_share=share, **{name: w}) for w in (weight, 0.0)
    )
    images, labels, latents, draws = next(some_batches(1, size=16))
    fakes = step.generator(latents, labels).detach()
    w = step.discriminator.w.detach().clone()
    told = step(images, labels, latents, draws)
    assert name not in free(images, labels, latents, draws)
    part = (images if name == "r1" else fakes)[:count]
    expected = (4 * w.square() * part.square()).flatten(1).sum(dim=1).mean()
    assert told[name].item() == pytest.approx(expected.item(), rel=1e-5)
    pull = weight / 2 * (8 * w * part.square()).mean(dim=0)
    torch.testing.assert_close(
        step.discriminator.w.grad - free.discriminator.w.grad, pull, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("batch", "share", "count"),
    [(32, 0.25, 8), (32, 0.5, 16), (64, 0.25, 16), (64, 0.01, 4), (10, 0.5, 8), (6, 0.9, 6)],
)
def test_a_share_of_a_batch_is_rounded_up_to_fours(batch, share, count):
    assert penalised(batch, share) == count


def test_annealing_takes_that_part_of_the_rate_and_of_the_penalties_weights_from_the_next_step_on():
    r1, r2, factors = 3.0, 5.0, (1.0, 0.5, 0.5, 0.1)
    step = tiny_step(LinearDiscriminator, r1=r1, r2=r2)
    judge, maker = copy.deepcopy(step.discriminator), copy.deepcopy(step.generator)
    optimizers = [torch.optim.Adam(network.parameters(), **ADAM) for network in (judge, maker)]
    ones, zeros = torch.ones(BATCH), torch.zeros(BATCH)
    for factor, (images, labels, latents, draws) in zip(
        factors, some_batches(4, size=16), strict=True
    ):
        step.anneal(factor)
        told = step(images, labels, latents, draws)
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = factor * ADAM["lr"]
        fakes, squared_weight = maker(latents, labels), judge.w.square().sum()
        loss = bce(judge(images, labels), ones) + bce(judge(fakes.detach(), labels), zeros)
        judge.zero_grad()
        (loss + factor * (r1 + r2) / 2 * squared_weight).backward()
        torch.testing.assert_close(step.discriminator.w.grad, judge.w.grad, rtol=1e-4, atol=1e-6)
        optimizers[0].step()
        maker.zero_grad()
        bce(judge(fakes, labels), ones).backward()
        optimizers[1].step()
        assert told["r1"].item() == pytest.approx(
            squared_weight.item(), rel=1e-5
        )  # without its weight
    torch.testing.assert_close(step.discriminator.w, judge.w, rtol=0, atol=1e-6)
    torch.testing.assert_close(step.generator.layer.weight, maker.layer.weight, rtol=0, atol=1e-6)


def test_penalties_reach_the_generator_only_through_the_discriminator():
    step, free = (tiny_step(QuadraticDiscriminator, r1=r, r2=r) for r in (10.0, 0.0))
    batch = next(some_batches(1, size=16))
    step.optimizer_d.param_groups[0]["lr"] = free.optimizer_d.param_groups[0]["lr"] = 0.0
    step(*batch), free(*batch)
    assert torch.equal(step.generator.layer.weight.grad, free.generator.layer.weight.grad)


def views_seen(loss, draws):
    """What the discriminator sees in a step, in order, and what there was: real and fake."""
    step = tiny_step(LinearDiscriminator, loss, augmentation=Augmentation(1.0))
    images, labels, latents, _ = next(some_batches(1, size=16))
    fakes = step.generator(latents, labels).detach()
    seen = []
    step.discriminator.register_forward_pre_hook(
        lambda _, given: seen.append(given[0].detach().clone())
    )
    step(images, labels, latents, draws)
    return seen, images, fakes


def test_each_view_is_augmented_by_draws_of_its_own():
    draws = torch.rand(VIEWS, BATCH, DRAWS, generator=torch.Generator().manual_seed(3))
    augment = Augmentation(1.0)
    seen, images, fakes = views_seen("bce", draws)
    expected = [augment(images, draws[0]), augment(fakes, draws[1]), augment(fakes, draws[2])]
    for got, view in zip(seen, expected, strict=True):
        torch.testing.assert_close(got, view, rtol=0, atol=1e-6)
    assert not torch.equal(seen[1], seen[2])
    assert not any(
        torch.equal(view, plain) for view, plain in zip(seen, (images, fakes, fakes), strict=True)
    )
    for changed in range(VIEWS):
        others = draws.clone()
        others[changed] = 1 - others[changed]
        again, _, _ = views_seen("bce", others)
        same = [torch.equal(a, b) for a, b in zip(seen, again, strict=True)]
        assert same == [view != changed for view in range(VIEWS)]


def test_the_real_images_beside_the_fakes_are_the_view_that_was_judged_before():
    draws = torch.rand(VIEWS, BATCH, DRAWS, generator=torch.Generator().manual_seed(3))
    seen, images, fakes = views_seen("relativistic", draws)
    augment = Augmentation(1.0)
    assert len(seen) == 4
    for got, whole, by in zip(seen, (images, fakes, fakes, images), (0, 1, 2, 0), strict=True):
        torch.testing.assert_close(got, augment(whole, draws[by]), rtol=0, atol=1e-6)


def two_alike(step_class, other_class, device="cpu", loss="bce", both=None, **options):
    """Two steps on equal networks; `options` are for the other one alone."""
    torch.manual_seed(0)
    networks = models.build("cgan", ModelConfig(64, 8, LATENT, 2))
    return (
        kind(
            *(copy.deepcopy(n).to(device, memory_format=torch.channels_last) for n in networks),
            LOSSES[loss],
            **ADAM,
            **{**(both or {}), **choice},
        )
        for kind, choice in ((step_class, {}), (other_class, options))
    )


def weights_of(step):
    return [*step.generator.state_dict().values(), *step.discriminator.state_dict().values()]


PENALISED = {"r1": 0.5, "r2": 0.5}


@pytest.mark.parametrize("both", [{}, PENALISED, {**PENALISED, "augmentation": Augmentation(1.0)}])
def test_bfloat16_is_near_float32_and_keeps_float32_weights(both):
    exact, rough = two_alike(AdversarialStep, AdversarialStep, both=both, bfloat16=True)
    for batch in some_batches(3, draws=exact.augmentation.draws):
        expected, got = exact(*batch), rough(*batch)
    assert {name: value.item() for name, value in got.items()} == pytest.approx(
        {name: value.item() for name, value in expected.items()}, rel=0.05, abs=0.02
    )
    assert any(
        not torch.equal(a, b) for a, b in zip(weights_of(exact), weights_of(rough), strict=True)
    )
    assert all(w.dtype != torch.bfloat16 for w in weights_of(rough))
    assert all(value.dtype == torch.float32 for value in got.values())


def test_optimizers_go_on_from_a_device_that_lays_weights_out_otherwise():
    """MPS keeps them contiguous; the fused update does not look at strides."""
    one, other = two_alike(AdversarialStep, AdversarialStep)
    batches = list(some_batches(2))
    one(*batches[0])
    for mine, theirs in (
        (other.generator, one.generator),
        (other.discriminator, one.discriminator),
    ):
        mine.load_state_dict(theirs.state_dict())
    states = [copy.deepcopy(o.state_dict()) for o in (one.optimizer_d, one.optimizer_g)]
    for state in states:
        for moments in state["state"].values():
            for name in ("exp_avg", "exp_avg_sq"):
                moments[name] = moments[name].contiguous(memory_format=torch.contiguous_format)
    other.load_optimizers(*states)
    one(*batches[1]), other(*batches[1])
    assert all(torch.equal(a, b) for a, b in zip(weights_of(one), weights_of(other), strict=True))


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_optimizers_go_on_from_a_run_on_another_device(factor):
    one, other = two_alike(AdversarialStep, AdversarialStep)
    batches = list(some_batches(3))
    for batch in batches[:2]:
        one(*batch)
    for mine, theirs in (
        (other.generator, one.generator),
        (other.discriminator, one.discriminator),
    ):
        mine.load_state_dict(theirs.state_dict())
    states = [copy.deepcopy(o.state_dict()) for o in (one.optimizer_d, one.optimizer_g)]
    for state in states:
        state["param_groups"][0]["capturable"] = True  # as a run with CUDA leaves it
        state["param_groups"][0]["lr"] = torch.tensor(1e-5)  # and one that has been annealed
    other.anneal(factor)
    other.load_optimizers(*states)
    assert other.optimizer_g.param_groups[0]["capturable"] is False
    one.anneal(factor), other.anneal(factor)
    one(*batches[2]), other(*batches[2])
    assert all(torch.equal(a, b) for a, b in zip(weights_of(one), weights_of(other), strict=True))


def test_a_recorded_step_equals_the_plain_one_and_is_replayed_after_warming_up(stage):
    plain, other = two_alike(AdversarialStep, AdversarialStep)
    recorded = stage.record(other)
    for taken, batch in enumerate(some_batches(WARM_UP_STEPS + 3)):
        assert recorded.is_recorded == (taken > WARM_UP_STEPS)
        expected, got = plain(*batch), recorded(*batch)
        assert all(torch.equal(got[name], value) for name, value in expected.items())
    assert all(torch.equal(a, b) for a, b in zip(weights_of(plain), weights_of(other), strict=True))
    assert stage.replays == 3


def a_loss_that_fails(stage, turn, error):
    """BCE, but for one player's turn while it is recorded."""

    def of(player):
        def loss(*logits):
            if stage.is_capturing and player == turn:
                raise error
            return getattr(LOSSES["bce"], player)(*logits)

        return loss

    return Loss(of("discriminator"), of("generator"))


@pytest.mark.parametrize("turn", ["discriminator", "generator"])
@pytest.mark.parametrize("both", [{}, PENALISED])
def test_a_step_that_cannot_be_recorded_says_what_to_give_and_leaves_all_as_it_was(
    stage, turn, both
):
    plain, step = two_alike(AdversarialStep, AdversarialStep, both=both)
    error = RuntimeError("CUDA error: operation not permitted when stream is capturing\nand more")
    step.loss = a_loss_that_fails(stage, turn, error)
    recorded, before = stage.record(step), stage.current
    *batches, last, _ = some_batches(WARM_UP_STEPS + 2)
    for batch in batches:
        recorded(*batch), plain(*batch)
    told = r"\(CUDA error: operation not permitted when stream is capturing\); give --no-cuda-graph"
    with pytest.raises(UserError, match=told):
        recorded(*last)
    assert stage.current is before
    assert all(weight.requires_grad for weight in step.discriminator.parameters())
    # The simulated recording may have updated the discriminator: continue from equal weights.
    for network in ("generator", "discriminator"):
        getattr(step, network).load_state_dict(getattr(plain, network).state_dict())
    states = [copy.deepcopy(o.state_dict()) for o in (plain.optimizer_d, plain.optimizer_g)]
    step.load_optimizers(*states)
    expected, got = plain(*last), step(*last)
    assert {n: v.item() for n, v in got.items()} == {n: v.item() for n, v in expected.items()}
    assert all(torch.equal(a, b) for a, b in zip(weights_of(plain), weights_of(step), strict=True))


@pytest.mark.parametrize("when", ["fails_to_begin", "fails_to_end"])
def test_a_recording_that_does_not_begin_or_end_gives_the_stream_back(stage, when):
    _, step = two_alike(AdversarialStep, AdversarialStep)
    recorded, before = stage.record(step), stage.current
    *batches, last = some_batches(WARM_UP_STEPS + 1)
    for batch in batches:
        recorded(*batch)
    setattr(stage, when, RuntimeError("CUDA error: stream capture is unjoined"))
    with pytest.raises(UserError, match=r"stream capture is unjoined.*--no-cuda-graph"):
        recorded(*last)
    assert stage.current is before
    assert not recorded.is_recorded


def test_memory_that_is_full_while_recording_is_told_as_that(stage):
    _, step = two_alike(AdversarialStep, AdversarialStep)
    step.loss = a_loss_that_fails(stage, "generator", torch.OutOfMemoryError("CUDA out of memory."))
    recorded = stage.record(step)
    *batches, last = some_batches(WARM_UP_STEPS + 1)
    for batch in batches:
        recorded(*batch)
    with pytest.raises(torch.OutOfMemoryError):
        recorded(*last)


def test_only_a_step_that_is_to_be_recorded_has_capturable_optimizers():
    plain, other = two_alike(AdversarialStep, AdversarialStep)
    assert not plain.optimizer_d.param_groups[0]["capturable"]
    assert isinstance(plain.optimizer_d.param_groups[0]["lr"], float)
    _, other = two_alike(AdversarialStep, AdversarialStep, capturable=True)
    for optimizer in (other.optimizer_d, other.optimizer_g):
        assert optimizer.param_groups[0]["capturable"]
        assert isinstance(optimizer.param_groups[0]["lr"], torch.Tensor)


@pytest.mark.parametrize(("r1", "r2"), [(0.5, 0.0), (0.0, 0.5), (0.5, 0.5), (0.0, 0.0)])
def test_real_and_fake_images_are_judged_in_the_same_precision(r1, r2):
    """With one penalty alone too: float32 and bfloat16 logits differ by their rounding."""
    step = tiny_step(LinearDiscriminator, "relativistic", r1=r1, r2=r2, bfloat16=True)
    enabled = []
    step.discriminator.register_forward_pre_hook(
        lambda *_: enabled.append(torch.is_autocast_enabled("cpu"))
    )
    step(*next(some_batches(1, size=16)))
    of_discriminator, of_generator = enabled[:2], enabled[2:]
    assert of_discriminator == [not (r1 or r2)] * 2
    assert of_generator == [True, True]


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize(
    ("loss", "options"),
    [("bce", {}), ("relativistic", {**PENALISED, "augmentation": Augmentation(0.5)})],
)
def test_a_recorded_step_equals_one_that_is_launched_kernel_by_kernel(loss, options, precision):
    both = {**options, "bfloat16": precision == "bfloat16"}
    plain, other = two_alike(AdversarialStep, AdversarialStep, "cuda", loss, both, capturable=True)
    recorded, told = RecordedStep(other), []
    with arithmetic(precision), warnings.catch_warnings():
        warnings.simplefilter("error")
        batches = some_batches(WARM_UP_STEPS + 5, "cuda", draws=plain.augmentation.draws)
        for taken, batch in enumerate(batches):
            for step in (plain, other):
                step.anneal(0.7**taken)
            told.append((plain(*batch), recorded(*batch)))
    assert recorded.is_recorded
    for expected, got in told:
        assert {name: value.item() for name, value in got.items()} == pytest.approx(
            {name: value.item() for name, value in expected.items()}, rel=1e-2, abs=1e-2
        )
    for weight, reference in zip(weights_of(other), weights_of(plain), strict=True):
        assert (weight - reference).abs().double().median() < 1e-4


@pytest.mark.gpu
def test_a_recorded_step_never_waits_for_the_device():
    _, step = two_alike(AdversarialStep, AdversarialStep, "cuda", capturable=True)
    recorded = RecordedStep(step)
    batches = list(some_batches(WARM_UP_STEPS + 4, "cuda"))
    for batch in batches[:-3]:
        recorded(*batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches[-3:]:
            recorded(*batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_a_recording_that_fails_on_a_gpu_leaves_a_step_that_goes_on():
    _, step = two_alike(AdversarialStep, AdversarialStep, "cuda", capturable=True)
    sound = step.loss

    def waits(fakes, reals=None):
        loss = sound.generator(fakes, reals)
        loss.item()  # the host waits for the device, which no graph can hold
        return loss

    step.loss = Loss(sound.discriminator, waits)
    recorded, before = RecordedStep(step), torch.cuda.current_stream()
    *batches, last = some_batches(WARM_UP_STEPS + 1, "cuda")
    for batch in batches:
        recorded(*batch)
    with pytest.raises(UserError, match="--no-cuda-graph"):
        recorded(*last)
    assert torch.cuda.current_stream() == before
    assert all(weight.requires_grad for weight in step.discriminator.parameters())


def test_the_discriminator_can_learn_again_after_the_generators_turn():
    generator, discriminator = models.build("dcgan", ModelConfig(64, 4, LATENT, 1))
    step = AdversarialStep(generator, discriminator, LOSSES["bce"], lr=1e-3, betas=(0.5, 0.999))
    labels = torch.zeros(BATCH, dtype=torch.int64)
    step(
        torch.zeros(BATCH, 1, 64, 64),
        labels,
        torch.randn(BATCH, LATENT),
        torch.rand(VIEWS, BATCH, 0),
    )
    assert all(weight.requires_grad for weight in discriminator.parameters())


@pytest.mark.parametrize(
    "moments",
    [
        None,
        [],
        {99: {}},
        {0: None},
        {0: {"step": torch.ones(()), "exp_avg": torch.ones(3), "exp_avg_sq": torch.ones(3)}},
        {"0": {"step": torch.ones(())}},
        "nan",
    ],
)
def test_damaged_states_of_optimizers_are_refused(moments):
    networks = models.build("dcgan", ModelConfig(64, 2, LATENT, 2))
    step = AdversarialStep(*networks, LOSSES["bce"], **ADAM)
    for batch in some_batches(1):
        step(*batch)
    state_d, state_g = copy.deepcopy([step.optimizer_d.state_dict(), step.optimizer_g.state_dict()])
    step.load_optimizers(state_d, state_g)
    if moments == "nan":
        state_g["state"][0]["exp_avg"] *= torch.nan
    else:
        state_g["state"] = moments
    with pytest.raises(UserError, match="the state of the optimizers is damaged"):
        step.load_optimizers(state_d, state_g)
