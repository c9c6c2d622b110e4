"""Models that are convolutional in time, for pieces of any length."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from musicspectrogan import models
from musicspectrogan.models import ModelConfig
from musicspectrogan.models.anylength_cgan import (
    BEATS_PER_BAR,
    FAST_DIM,
    OSCILLATIONS,
    clock_features,
)

GENRES = 3
CELLS = 12
EACH = torch.tensor(OSCILLATIONS, dtype=torch.float64)[:, None]
GANS = ("anylength_cgan", "anylength_gan")


def built(gan: str = "anylength_cgan", **changes: object) -> nn.Module:
    """A generator in eval mode and float64, with weights and statistics as after some training."""
    torch.manual_seed(0)
    config = ModelConfig(
        **{"image_size": 64, "width": 4, "latent_dim": 7, "n_genres": GENRES, **changes}
    )
    generator = models.build(gan, config)[0].double()
    with torch.no_grad():
        for weight in generator.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    generator(torch.randn(8, generator.latent_dim, dtype=torch.float64), torch.arange(8) % GENRES)
    return generator.eval()


def drawn(generator: nn.Module, cells: int = CELLS) -> dict[str, Tensor]:
    """What frames of so many cells are drawn from."""
    torch.manual_seed(1)
    size = cells + 2 * generator.context
    genres = (
        nn.functional.one_hot(torch.tensor([1]), GENRES).double()[:, :, None].expand(-1, -1, size)
    )
    return {
        "style": torch.randn(1, generator.style_dim, dtype=torch.float64),
        "sequence": torch.randn(1, generator.cell_dim, size, dtype=torch.float64),
        "genres": genres,
        "beats": 0.7 + 1.3 * torch.arange(size + 1, dtype=torch.float64)[None],
    }


def part_of(given: dict[str, Tensor], first: int, last: int) -> dict[str, Tensor]:
    """What the frames of some of the cells are drawn from."""
    context = given["sequence"].shape[2] - CELLS
    cells = {name: given[name][:, :, first : last + context] for name in ("sequence", "genres")}
    return {
        "style": given["style"],
        **cells,
        "beats": given["beats"][:, first : last + context + 1],
    }


def test_they_are_the_models_for_any_length():
    assert [gan for gan in models.names() if models.is_any_length(gan)] == list(GANS)


@pytest.mark.parametrize("upsampling", models.UPSAMPLINGS)
@pytest.mark.parametrize("image_size", [64, 128])
@pytest.mark.parametrize("gan", GANS)
def test_a_part_of_a_piece_is_the_same_drawn_alone(gan, image_size, upsampling):
    generator = built(gan, image_size=image_size, upsampling=upsampling)
    given, cell = drawn(generator), generator.cell_frames
    whole = generator.frames(**given)
    assert whole.shape == (1, 1, image_size, CELLS * cell)
    for first, last in ((0, 1), (3, 7), (CELLS - 2, CELLS)):
        part = generator.frames(**part_of(given, first, last))
        torch.testing.assert_close(part, whole[..., first * cell : last * cell], rtol=0, atol=1e-12)


def test_an_image_is_a_window_of_the_frames_of_its_latents():
    generator = built(pairs=True)
    latents = torch.randn(5, generator.latent_dim, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 1, 0])
    size = generator.window_cells * generator.cell_dim
    found = []
    for image, z, label in zip(generator(latents, labels), latents, labels, strict=True):
        genres = nn.functional.one_hot(label, GENRES).double()[None, :, None]
        for window, numbers in zip(image, z[generator.style_dim :].chunk(2), strict=True):
            style, ranks = z[None, : generator.style_dim], torch.special.ndtr(numbers[size:])
            edges = torch.arange(generator.window_cells + 1)
            frames = generator.frames(
                style,
                numbers[:size].view(1, generator.cell_dim, -1),
                genres.expand(-1, -1, generator.window_cells),
                BEATS_PER_BAR * ranks[0] + generator.beats_in_cell(style) * edges,
            )
            assert frames.shape == (1, 1, 64, 80)
            start = [
                k
                for k in range(16)
                if torch.allclose(frames[0, 0, :, k : k + 64], window, atol=1e-9)
            ]
            assert start == [int(ranks[1] * 16)]
            found += start
    assert len(set(found)) > 3


def test_windows_begin_anywhere_in_a_cell_equally_often():
    generator = built()
    latents = torch.randn(1, generator.latent_dim, dtype=torch.float64).repeat(400, 1)
    latents[:, -1] = torch.randn(400, generator=torch.Generator().manual_seed(2)).double()
    with torch.no_grad():
        images = generator(latents, torch.zeros(400, dtype=torch.int64))
    _, counts = images.flatten(1).round(decimals=9).unique(dim=0, return_counts=True)
    assert len(counts) == 16 and counts.min() > 5 and counts.max() < 60


@pytest.mark.parametrize(("part", "last"), [("fast", 3), ("slow", CELLS)])
def test_fast_numbers_decide_near_frames_and_slow_ones_far_ones(part, last):
    """Change the cell in the middle of the smoothing: fast numbers reach two cells each side."""
    generator = built()
    given, cell = drawn(generator), generator.cell_frames
    before = generator.frames(**given)
    numbers = slice(0, FAST_DIM) if part == "fast" else slice(FAST_DIM, None)
    given["sequence"][:, numbers, generator.context] += 3.0
    changed = (
        (generator.frames(**given) - before).abs().amax(dim=(0, 1, 2)).view(CELLS, cell).amax(dim=1)
    )
    assert (changed[:last] > 1e-6).all() and (changed[last:] == 0).all()


def test_slow_numbers_have_the_variance_of_the_style_and_drift():
    generator = built()
    smooth = generator.smooth.double()
    assert smooth.square().sum().item() == pytest.approx(1)
    related = [float(smooth[: len(smooth) - lag] @ smooth[lag:]) for lag in (1, 4, 8, 16, 32)]
    assert related == sorted(related, reverse=True)
    assert related[0] > 0.98 and related[1] > 0.8 and related[3] < 0.25 and related[4] < 0.01


def test_the_clock_oscillates_with_beats_bars_and_parts_of_beats():
    """Half a beat a cell, of four frames each, from the middle of a bar on."""
    found = clock_features(torch.tensor([[2.0, 2.5, 3.0, 3.5]], dtype=torch.float64), 4, EACH)
    assert found.shape == (1, 2 * len(OSCILLATIONS), 12)
    within = (torch.arange(1000).double() + 0.5) / 1000
    at = 2.0 + (torch.arange(12)[:, None] + within) / 8
    for number, oscillation in enumerate(OSCILLATIONS):
        angle = 2 * torch.pi * oscillation * at
        torch.testing.assert_close(found[0, number], angle.cos().mean(dim=1), rtol=0, atol=1e-5)
        torch.testing.assert_close(
            found[0, len(OSCILLATIONS) + number], angle.sin().mean(dim=1), rtol=0, atol=1e-5
        )


def test_a_clock_has_no_beat_that_is_faster_than_the_frames():
    """Of 1.4 beats a cell little is left in frames of a cell, and nearly all in eighths of one."""
    beats = 1.4 * torch.arange(200, dtype=torch.float64)[None]
    left = [
        clock_features(beats, frames, EACH)[0, OSCILLATIONS.index(1.0)].abs().max().item()
        for frames in (1, 8)
    ]
    assert left[0] < 0.25 and left[1] > 0.9


def test_the_first_number_of_the_style_is_the_tempo():
    generator = built()
    style = torch.zeros(3, generator.style_dim, dtype=torch.float64)
    style[:, 0] = torch.tensor([-2.5, 0.0, 2.5])
    tempo = generator.beats_in_cell(style) * 60 / (16 * 1024 / 22050)
    torch.testing.assert_close(
        tempo[:, 0], torch.tensor([56.5, 113.0, 226.1]).double(), rtol=1e-2, atol=0
    )


def test_a_whole_bar_on_the_clock_is_the_same_and_half_a_bar_is_not():
    generator = built()
    given = drawn(generator)
    before = generator.frames(**given)
    later = {
        step: generator.frames(**given | {"beats": given["beats"] + step})
        for step in (BEATS_PER_BAR, BEATS_PER_BAR / 2)
    }
    torch.testing.assert_close(later[BEATS_PER_BAR], before, rtol=0, atol=1e-9)
    assert (later[BEATS_PER_BAR / 2] - before).abs().max() > 0.01


def test_genres_may_glide_in_a_piece():
    generator = built()
    given = drawn(generator)
    first = generator.frames(**given)
    second = generator.frames(**given | {"genres": given["genres"].roll(1, dims=1)})
    gliding = given["genres"].clone()
    gliding[:, :, -generator.context - CELLS // 2 :] = gliding.roll(1, dims=1)[:, :, :1]
    glide, cell = generator.frames(**given | {"genres": gliding}), generator.cell_frames
    torch.testing.assert_close(glide[..., : 4 * cell], first[..., : 4 * cell], rtol=0, atol=1e-12)
    torch.testing.assert_close(
        glide[..., -4 * cell :], second[..., -4 * cell :], rtol=0, atol=1e-12
    )


def test_two_windows_share_the_style_and_nothing_else():
    generator = built(pairs=True)
    torch.manual_seed(3)
    latents = torch.randn(2, generator.latent_dim, dtype=torch.float64)
    labels = torch.zeros(2, dtype=torch.int64)
    before = generator(latents, labels)
    assert before.shape == (2, 2, 64, 64)
    other = latents.clone()
    other[:, : generator.style_dim] += 1.0
    changed = (generator(other, labels) - before).abs().amax(dim=(2, 3))
    assert (changed > 1e-3).all()
    other = latents.clone()
    other[:, generator.style_dim + (latents.shape[1] - generator.style_dim) // 2 :] += 1.0
    changed = (generator(other, labels) - before).abs().amax(dim=(2, 3))
    assert (changed[:, 0] == 0).all() and (changed[:, 1] > 1e-3).all()


def test_the_discriminator_judges_one_window_in_detail_and_two_in_outline():
    torch.manual_seed(4)
    config = ModelConfig(64, 4, 7, GENRES, pairs=True)
    discriminator = models.build("anylength_cgan", config)[1]
    images, labels = torch.rand(5, 2, 64, 64) * 2 - 1, torch.tensor([0, 1, 2, 1, 0])
    window, pair = discriminator.window(images[:, :1], labels), discriminator.pair(images, labels)
    assert torch.equal(discriminator(images, labels), torch.cat([window, pair]))
    # The pair discriminator averages over four frames, so their order matters only to the other.
    shuffled = images.unflatten(3, (16, 4)).flip(4).flatten(3)
    torch.testing.assert_close(discriminator.pair(shuffled, labels), pair)
    assert not torch.allclose(discriminator.window(shuffled[:, :1], labels), window, atol=1e-3)
    # The logit of a pair depends on both of its windows.
    exchanged = images.clone()
    exchanged[:, 1] = images.roll(1, dims=0)[:, 1]
    assert (discriminator.pair(exchanged, labels) != pair).all()


def test_the_rhythm_is_what_broad_bands_do_over_time():
    torch.manual_seed(4)
    config = ModelConfig(64, 4, 7, GENRES, rhythm=True, pairs=True)
    discriminator = models.build("anylength_cgan", config)[1]
    images, labels = torch.rand(5, 2, 64, 64) * 2 - 1, torch.tensor([0, 1, 2, 1, 0])
    window, rhythm, pair = discriminator(images, labels).chunk(3)
    first = images[:, :1]
    assert torch.equal(window, discriminator.window(first, labels))
    assert torch.equal(rhythm, discriminator.rhythm(first, labels))
    assert torch.equal(pair, discriminator.pair(images, labels))
    # Bands within an eighth of them may change places, but frames may not.
    shuffled = first.unflatten(2, (8, 8)).flip(3).flatten(2, 3)
    torch.testing.assert_close(discriminator.rhythm(shuffled, labels), rhythm)
    assert not torch.allclose(discriminator.window(shuffled, labels), window, atol=1e-3)
    exchanged = first.unflatten(3, (8, 8)).flip(4).flatten(3)
    assert not torch.allclose(discriminator.rhythm(exchanged, labels), rhythm, atol=1e-3)


def test_without_pairs_the_discriminator_is_that_of_single_images():
    torch.manual_seed(4)
    discriminator = models.build("anylength_cgan", ModelConfig(64, 4, 7, GENRES))[1]
    images, labels = torch.rand(5, 1, 64, 64) * 2 - 1, torch.tensor([0, 1, 2, 1, 0])
    assert discriminator.pair is None
    assert torch.equal(discriminator(images, labels), discriminator.window(images, labels))


def test_at_first_the_style_makes_pieces_differ():
    """By what it adds to the scales: much less, and a generator leaves all to the sequence."""
    torch.manual_seed(5)
    generator = models.build("anylength_cgan", ModelConfig(64, 8, 64, GENRES))[0]
    style = torch.randn(200, generator.style_dim + generator.slow_dim)
    for norm in generator.norms:
        assert (norm.of_style @ style.T).std().item() == pytest.approx(0.5, rel=0.1)
