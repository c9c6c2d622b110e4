"""Augmentation: each change alone by hand, and all together by bounds and frequencies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from musicspectrogan.training.augment import (
    CHANGES,
    DRAWS,
    Augmentation,
    louder,
    probability_for,
    shifted,
)

SIDE = 64
SHIFT, GAIN, TILT, TIME_MASK, BAND_MASK = range(CHANGES)
# Where the numbers of each change are.
HOW = {SHIFT: (5,), GAIN: (6,), TILT: (7,), TIME_MASK: (8, 9), BAND_MASK: (10, 11)}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_images(count: int, side: int = SIDE, scale: float = 0.5) -> torch.Tensor:
    return (torch.rand(count, 1, side, side, generator=seeded(1)) * 2 - 1) * scale


def draws_of(*made: tuple[int, tuple[float, ...]]) -> torch.Tensor:
    """Draws (1, DRAWS) by which a probability of 0.5 makes these changes and no others."""
    draws = torch.full((1, DRAWS), 0.9)
    for change, numbers in made:
        draws[0, change] = 0.1
        draws[0, list(HOW[change])] = torch.tensor(numbers)
    return draws


def changed(image: torch.Tensor, *made: tuple[int, tuple[float, ...]]) -> torch.Tensor:
    return Augmentation(0.5)(image, draws_of(*made))


def test_without_probability_images_are_left_as_they_are():
    images, nothing = some_images(3), Augmentation(0.0)
    assert nothing.draws == 0
    assert nothing(images, torch.rand(3, nothing.draws)) is images


def test_draws_that_make_no_change_make_no_change():
    images = some_images(3, scale=1.0)
    assert Augmentation(0.5).draws == Augmentation(1.0).draws == DRAWS
    assert torch.equal(Augmentation(0.5)(images, torch.full((3, DRAWS), 0.5)), images)


@pytest.mark.parametrize("frames", [-8, -3, -1, 0, 1, 2, 8])
def test_shifted_images_are_mirrored_at_the_edges(frames):
    images = some_images(2)
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (0, 0), (8, 8)), mode="reflect")
    # By +k the image begins k frames later: what was in column k is in column 0.
    expected = padded[..., 8 + frames : 8 + frames + SIDE]
    moved = shifted(images, torch.tensor([float(frames)] * 2))
    np.testing.assert_array_equal(moved.numpy(), expected)


def test_shifted_columns_by_hand_each_image_by_its_own_frames():
    images = torch.arange(6.0).expand(3, 1, 2, 6)
    moved = shifted(images, torch.tensor([2.0, -2.0, 0.4]))
    assert [image[0, 1].tolist() for image in moved] == [
        [2, 3, 4, 5, 4, 3],
        [2, 1, 0, 1, 2, 3],
        [0, 1, 2, 3, 4, 5],
    ]
    assert torch.equal(moved[:, :, 0], moved[:, :, 1])


@pytest.mark.parametrize(
    ("draw", "frames"), [(0.0, -8), (0.25, -4), (0.5, 0), (0.75, 4), (0.96875, 8)]
)
def test_the_shift_is_up_to_an_eighth_of_the_width_to_both_sides(draw, frames):
    images = some_images(1)
    expected = shifted(images, torch.tensor([float(frames)]))
    assert torch.equal(changed(images, (SHIFT, (draw,))), expected)


def test_louder_adds_the_gain_and_stays_in_the_range_of_grey_levels():
    images = torch.tensor([-1.0, -0.5, 0.0, 0.95]).expand(3, 1, 2, 4)
    changes = louder(images, torch.tensor([0.125, -0.25, 0.0]), torch.zeros(3))
    assert torch.equal(changes[0, 0], torch.tensor([-0.875, -0.375, 0.125, 1.0]).expand(2, 4))
    torch.testing.assert_close(changes[1, 0], torch.tensor([-1.0, -0.75, -0.25, 0.7]).expand(2, 4))
    assert torch.equal(changes[2], images[2])


def test_the_tilt_brightens_the_top_row_and_darkens_the_bottom_row():
    tilted = louder(torch.zeros(2, 1, 5, 3), torch.zeros(2), torch.tensor([0.5, -0.25]))
    assert tilted[0, 0, :, 0].tolist() == [0.5, 0.25, 0.0, -0.25, -0.5]
    assert tilted[1, 0, :, 2].tolist() == [-0.25, -0.125, 0.0, 0.125, 0.25]
    assert torch.equal(tilted, tilted[..., :1].expand_as(tilted))


def test_gain_and_tilt_add_up():
    both = louder(torch.zeros(1, 1, 3, 1), torch.tensor([0.25]), torch.tensor([0.125]))
    assert both.flatten().tolist() == [0.375, 0.25, 0.125]


@pytest.mark.parametrize(("draw", "gain"), [(0.0, -0.15), (0.25, -0.075), (0.5, 0.0), (1.0, 0.15)])
def test_gain_and_tilt_are_up_to_a_fourteenth_of_the_range(draw, gain):
    grey = torch.zeros(1, 1, SIDE, SIDE)
    torch.testing.assert_close(changed(grey, (GAIN, (draw,))), torch.full_like(grey, gain))
    tilted = changed(grey, (TILT, (draw,)))
    torch.testing.assert_close(tilted[0, 0, 0], torch.full((SIDE,), gain))
    torch.testing.assert_close(tilted[0, 0, -1], torch.full((SIDE,), -gain))


@pytest.mark.parametrize(
    ("extent", "place", "first", "length"),
    [
        (0.99, 0.0, 0, 8),  # 7.92 frames
        (0.99, 0.999, 56, 8),  # up to the edge
        (0.5, 0.5, 30, 4),  # half of the 61 places
        (0.1, 0.25, 16, 1),
        (0.05, 0.5, 0, 0),  # less than half a frame is none
    ],
)
def test_masks_are_black_stripes_of_whole_frames_or_bands(extent, place, first, length):
    images = some_images(1)
    by_time, by_band = (changed(images, (mask, (extent, place))) for mask in (TIME_MASK, BAND_MASK))
    expected = images.clone()
    expected[..., first : first + length] = -1.0
    assert torch.equal(by_time, expected)
    expected = images.clone()
    expected[..., first : first + length, :] = -1.0
    assert torch.equal(by_band, expected)


def test_both_masks_can_be_there_and_lie_above_everything_else():
    both = changed(
        some_images(1),
        (TIME_MASK, (0.99, 0.0)),
        (BAND_MASK, (0.5, 0.999)),
        (GAIN, (0.99,)),
        (SHIFT, (0.1,)),
    )
    black = (both[0, 0] == -1.0).numpy()
    expected = np.zeros((SIDE, SIDE), dtype=bool)
    expected[:, :8] = expected[60:] = True
    np.testing.assert_array_equal(black, expected)


def test_stripes_are_contiguous_never_larger_than_an_eighth_and_reach_every_place():
    images = torch.zeros(3000, 1, SIDE, SIDE)  # 0.3 at most from black, whatever the gain and tilt
    black = Augmentation(1.0)(images, torch.rand(3000, DRAWS, generator=seeded()))[:, 0] == -1.0
    for stripes in (black.all(dim=1), black.all(dim=2)):
        lengths = stripes.sum(dim=1)
        assert set(lengths.tolist()) == set(range(9))
        edges = stripes[:, 0].int() + (stripes[:, 1:] & ~stripes[:, :-1]).sum(dim=1)
        assert torch.equal(edges, (lengths > 0).int())
        assert stripes.any(dim=0).all()
    both = black.all(dim=1)[:, None, :] | black.all(dim=2)[:, :, None]
    assert torch.equal(black, both)


def test_images_stay_in_the_range_of_grey_levels():
    extremes = torch.where(some_images(500) > 0, 1.0, -1.0)
    augmented = Augmentation(1.0)(extremes, torch.rand(500, DRAWS, generator=seeded()))
    assert augmented.min() == -1 and augmented.max() == 1
    assert augmented.dtype == torch.float32 and augmented.shape == extremes.shape


def test_gradients_flow_except_under_masks():
    images = some_images(1).requires_grad_()
    weight = torch.rand(1, 1, SIDE, SIDE, generator=seeded(2)) + 0.5
    augmented = changed(
        images, (GAIN, (0.9,)), (TILT, (0.2,)), (TIME_MASK, (0.99, 0.5)), (BAND_MASK, (0.6, 0.3))
    )
    (augmented * weight).sum().backward()
    hidden = augmented.detach() == -1.0
    assert hidden.sum() == 8 * 64 + 5 * 64 - 8 * 5
    assert torch.equal(images.grad, torch.where(hidden, 0.0, weight))


def test_the_gradient_of_a_shift_goes_where_the_pixel_came_from():
    images = some_images(1).requires_grad_()
    changed(images, (SHIFT, (0.75,))).sum().backward()  # by 4
    seen = torch.ones(SIDE)
    seen[:4] = 0.0  # moved out on the left
    seen[59:63] = 2.0  # mirrored on the right, all but the last column
    assert torch.equal(images.grad, seen.expand_as(images))


def test_gradients_are_finite_and_there_for_every_image_of_random_draws():
    images = some_images(200).requires_grad_()
    Augmentation(1.0)(images, torch.rand(200, DRAWS, generator=seeded())).sum().backward()
    assert images.grad.isfinite().all()
    assert (images.grad > 0).flatten(1).float().mean(dim=1).min() > 0.6


def test_equal_draws_make_equal_changes_and_others_others():
    image, augment = some_images(1), Augmentation(1.0)
    draws = torch.rand(5, DRAWS, generator=seeded())
    draws[3] = draws[1]
    results = augment(image.expand(5, -1, -1, -1), draws)
    assert torch.equal(results[1], results[3])
    assert torch.equal(results, augment(image.expand(5, -1, -1, -1), draws))
    for a, b in ((0, 1), (0, 2), (1, 2), (2, 4)):
        assert not torch.equal(results[a], results[b])


def test_an_image_depends_on_its_own_draws_alone():
    images, augment = some_images(4), Augmentation(0.7)
    draws = torch.rand(4, DRAWS, generator=seeded(3))
    together = augment(images, draws)
    alone = torch.cat([augment(images[k : k + 1], draws[k : k + 1]) for k in range(4)])
    assert torch.equal(together, alone)
    others = draws.clone()
    others[2] = torch.rand(DRAWS, generator=seeded(4))
    same = (augment(images, others) == together).flatten(1).all(dim=1)
    assert same.tolist() == [True, True, False, True]


@pytest.mark.parametrize("probability", [0.1, 0.5, 1.0])
def test_each_change_is_made_with_the_probability(probability):
    count = 20_000
    draws = torch.rand(count, DRAWS, generator=seeded(5))
    augment = Augmentation(probability)

    def share(of: torch.Tensor) -> float:
        return of.float().mean().item()

    def near(expected: float) -> object:
        """Within four standard deviations of a binomial share."""
        return pytest.approx(expected, abs=4 * (expected * (1 - expected) / count) ** 0.5 + 1e-9)

    # A shift of 16 frames, up to 2 to both sides, rounds to none once in four times, and so does
    # a mask of up to 2.
    visible = 0.75 * probability
    grey = augment(torch.zeros(count, 1, 16, 16), draws)[:, 0]
    black = grey == -1.0
    assert share(black.all(dim=1).any(dim=1)) == near(visible)
    assert share(black.all(dim=2).any(dim=1)) == near(visible)
    assert share(black.flatten(1).any(dim=1)) == near(1 - (1 - visible) ** 2)
    as_it_was = ((grey == 0.0) | black).flatten(1).all(dim=1)
    assert share(~as_it_was) == near(1 - (1 - probability) ** 2)  # gain or tilt
    # A tilt alone or with a gain: two rows that no mask covers are not alike.
    rows = torch.where(black, -9.0, grey).amax(dim=2)
    upper, lower = rows[:, :8].amax(dim=1), rows[:, 8:].amax(dim=1)
    assert share(upper != lower) == near(probability)
    images = some_images(1, side=16)
    same = (augment(images.expand(count, -1, -1, -1), draws) == images).flatten(1).all(dim=1)
    assert share(~same) == near(1 - (1 - visible) ** 3 * (1 - probability) ** 2)


@pytest.mark.parametrize(
    ("images", "probability"),
    [(1, 0.3), (1_000, 0.3), (10_000, 0.15), (100_000, 0.0), (10**7, 0.0)],
)
def test_few_images_are_changed_more_often_than_many(images, probability):
    assert probability_for(images) == pytest.approx(probability)
