"""Windows on strips whose columns are numbered: each must be a piece of one strip."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from musicspectrogan.training.batches import Partners, cut_windows, neighbours, place_windows

WIDTH, HEIGHT = 8, 3
OFFSETS = range(-WIDTH // 2, WIDTH // 2)


def beside(tracks: list[int], segments: list[int]) -> np.ndarray:
    return neighbours(np.array(tracks, dtype=np.int64), np.array(segments, dtype=np.int64))


def test_neighbours_are_the_segments_before_and_after_of_the_same_track():
    #         position: 0  1  2  3  4  5  6  7
    found = beside([5, 5, 9, 5, 9, 5, 7, 9], [0, 1, 1, 2, 0, 4, 3, 3])
    assert found.dtype == np.int64
    before, after = found.tolist()
    # Track 5 is 0, 1, 3 and after a gap 5; track 9 is 4, 2 and after a gap 7; track 7 is 6 alone,
    # although track 5 has a segment 2 and a segment 4.
    assert before == [-1, 0, 4, 1, -1, -1, -1, -1]
    assert after == [1, 3, -1, -1, 2, -1, -1, -1]


def test_the_same_segment_numbers_in_different_tracks_are_kept_apart():
    assert beside([0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 1, 1]).tolist() == [
        [-1, -1, -1, 0, 1, 2],
        [3, 4, 5, -1, -1, -1],
    ]


def test_of_duplicates_one_is_the_neighbour_and_each_has_its_own():
    before, after = beside([0, 0, 0], [0, 1, 1]).tolist()
    assert before == [-1, 0, 0]
    assert after[0] in (1, 2)
    assert after[1:] == [-1, -1]


def test_images_without_tracks_have_no_neighbours():
    assert (beside(list(range(6)), [0] * 6) == -1).all()
    assert beside([], []).shape == (2, 0)


def test_a_partner_is_another_image_of_the_track_each_equally_often():
    tracks, labels = np.array([4, 2, 4, 4, 2, 4]), np.array([0, 1, 0, 0, 1, 0])
    partners, picks = Partners(tracks, labels), torch.arange(6).repeat_interleave(3000)
    found = partners.of(picks, torch.rand(len(picks), generator=torch.Generator().manual_seed(0)))
    for pick in range(6):
        counts = torch.bincount(found[picks == pick], minlength=6).tolist()
        fellows = [k for k in range(6) if tracks[k] == tracks[pick] and k != pick]
        assert all((count > 0) == (k in fellows) for k, count in enumerate(counts))
        assert min(counts[k] for k in fellows) > 0.8 * 3000 / len(fellows)


def test_the_only_image_of_a_track_has_a_partner_of_its_label_that_is_alone_too():
    tracks, labels = np.array([0, 0, 1, 2, 3, 4]), np.array([0, 0, 0, 0, 0, 1])
    draws = torch.linspace(0, 0.999, 50)
    found = [
        set(Partners(tracks, labels).of(torch.full((50,), k), draws).tolist()) for k in range(6)
    ]
    assert found == [{1}, {0}, {3, 4}, {2, 4}, {2, 3}, {5}]


# Images 10, 11, 12 in a row, 20 and 21, and 30 alone; at the positions 0 to 5.
ROW = torch.from_numpy(beside([1, 1, 1, 2, 2, 3], [0, 1, 2, 0, 1, 0]))


@pytest.mark.parametrize(
    ("pick", "offset", "left", "right", "start"),
    [
        (1, 0, 1, 1, 0),  # the image itself
        (1, 3, 1, 2, 3),
        (1, -3, 0, 1, 5),
        (1, 1, 1, 2, 1),
        (1, -1, 0, 1, 7),
        (1, -4, 0, 1, 4),  # the farthest
        (0, 2, 0, 1, 2),  # the first of its track …
        (0, -2, 0, 1, 2),  # … is mirrored to the other side
        (0, -4, 0, 1, 4),
        (0, 0, 0, 0, 0),
        (2, -2, 1, 2, 6),  # the last
        (2, 2, 1, 2, 6),
        (2, 3, 1, 2, 5),
        (2, -4, 1, 2, 4),
        (2, 0, 2, 2, 0),
        (3, -1, 3, 4, 1),  # neighbours in the arrays are none in the music
        (4, 1, 3, 4, 7),
        (5, -4, 5, 5, 0),  # alone: stays
        (5, 3, 5, 5, 0),
        (5, 0, 5, 5, 0),
    ],
)
def test_places_by_hand(pick, offset, left, right, start):
    found = place_windows(torch.tensor([pick]), torch.tensor([offset]), ROW, WIDTH)
    assert [part.tolist() for part in found] == [[left], [right], [start]]


def test_a_batch_is_placed_as_each_window_alone():
    picks = torch.arange(6).repeat_interleave(len(OFFSETS))
    offsets = torch.tensor(list(OFFSETS)).repeat(6)
    together = torch.stack(place_windows(picks, offsets, ROW, WIDTH))
    alone = [
        torch.cat(place_windows(pick[None], offset[None], ROW, WIDTH))
        for pick, offset in zip(picks, offsets, strict=True)
    ]
    assert torch.equal(together, torch.stack(alone, dim=1))
    assert together.dtype == torch.int64
    assert together[2].min() == 0 and together[2].max() == WIDTH - 1


def strip(track: int, count: int) -> torch.Tensor:
    """(HEIGHT, count · WIDTH): columns numbered from 100 · track on, 1000 more in each row."""
    columns = 100 * track + torch.arange(count * WIDTH)
    return columns + 1000 * torch.arange(HEIGHT)[:, None]


def cut(whole: torch.Tensor) -> torch.Tensor:
    return whole.view(HEIGHT, -1, WIDTH).transpose(0, 1)


def test_a_window_is_what_the_pair_shows_side_by_side():
    left, right = cut(strip(0, 2))[[0]], cut(strip(0, 2))[[1]]
    for start in range(WIDTH):
        window = cut_windows(left, right, torch.tensor([start]))
        assert torch.equal(window[0], strip(0, 2)[:, start : start + WIDTH])


def test_every_window_is_a_piece_of_its_strip_wherever_it_begins():
    images = cut(strip(0, 4))
    row = torch.from_numpy(beside([0] * 4, list(range(4))))
    for segment in range(4):
        for offset in OFFSETS:
            left, right, start = place_windows(
                torch.tensor([segment]), torch.tensor([offset]), row, WIDTH
            )
            window = cut_windows(images[left], images[right], start)
            mirrored = -offset if (segment, offset > 0) in ((0, False), (3, True)) else offset
            begin = segment * WIDTH + mirrored
            assert torch.equal(window[0], strip(0, 4)[:, begin : begin + WIDTH]), (segment, offset)


def test_windows_never_cross_into_another_track():
    lengths = {0: 3, 1: 1, 2: 2, 3: 4}
    tracks = [track for track, count in lengths.items() for _ in range(count)]
    segments = [segment for count in lengths.values() for segment in range(count)]
    images = torch.cat([cut(strip(track, count)) for track, count in lengths.items()])
    shuffled = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images = images[shuffled]
    tracks, segments = torch.tensor(tracks)[shuffled], torch.tensor(segments)[shuffled]
    row = torch.from_numpy(neighbours(tracks.numpy(), segments.numpy()))

    picks = torch.arange(len(images)).repeat_interleave(len(OFFSETS))
    offsets = torch.tensor(list(OFFSETS)).repeat(len(images))
    left, right, start = place_windows(picks, offsets, row, WIDTH)
    windows = cut_windows(images[left], images[right], start)
    begins = windows[:, 0, 0]
    assert torch.equal(begins // 100, tracks[picks])
    assert torch.equal(windows, begins[:, None, None] + strip(0, 1))  # without a seam
    away = (begins % 100 - WIDTH * segments[picks]).abs()
    assert torch.equal(away, torch.where(tracks[picks] == 1, 0, offsets.abs()))


def test_grey_levels_stay_bytes():
    pixels = torch.arange(2 * HEIGHT * WIDTH, dtype=torch.uint8).view(2, HEIGHT, WIDTH)
    window = cut_windows(pixels[:1], pixels[1:], torch.tensor([5]))
    assert window.dtype == torch.uint8
    assert window[0, 1].tolist() == [13, 14, 15, 32, 33, 34, 35, 36]
