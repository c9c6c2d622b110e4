"""Contact sheets, whatever the genres are called."""

from __future__ import annotations

import numpy as np
import pytest

from musicspectrogan.data.grids import AXIS, BACKGROUND, GAP, MOST_TICKS, TEXT, draw_grid


@pytest.mark.parametrize("name", ["a\nb", "caf\udce9", "\x1b[31m", "日本", "x" * 250])
def test_any_name_can_be_written_beside_a_row(name):
    row = np.zeros((2, 64, 64), np.uint8)
    assert draw_grid([row, row], [name, "rock"]).height == draw_grid([row, row]).height


def test_what_is_narrower_leaves_a_gap():
    wide, narrow = (np.full((1, 64, width), 255, np.uint8) for width in (200, 128))
    sheet = np.asarray(draw_grid([wide, narrow]))
    assert sheet.shape == (GAP + 2 * (128 + GAP), GAP + 2 * 200 + GAP)
    assert (sheet[GAP : GAP + 128, GAP:-GAP] == 255).all()
    below = sheet[GAP + 128 + GAP : -GAP, GAP:-GAP]
    assert (below[:, :256] == 255).all() and (below[:, 256:] == BACKGROUND).all()


def ticks_of(frames: int, seconds_a_column: float) -> list[int]:
    """Columns of the ticks, in frames of 64 bands, which are doubled."""
    strip = np.zeros((1, 64, frames), np.uint8)
    plain, sheet = draw_grid([strip]), draw_grid([strip], seconds_a_column=seconds_a_column)
    assert (sheet.width, sheet.height) == (plain.width, plain.height + AXIS)
    first = np.asarray(sheet)[plain.height]
    assert set(first.tolist()) == {BACKGROUND, TEXT}
    return [(x - GAP) / 2 for x in np.flatnonzero(first == TEXT).tolist()]


def test_a_time_axis_has_a_tick_every_two_seconds_of_fifteen():
    expected = [seconds * 22050 / 1024 for seconds in range(0, 15, 2)]
    assert ticks_of(320, 1024 / 22050) == pytest.approx(expected, abs=0.5)


def test_the_last_number_of_a_time_axis_is_whole():
    """A tick of 30 s at the very end."""
    sheet = np.asarray(draw_grid([np.zeros((1, 64, 646), np.uint8)], seconds_a_column=1024 / 22050))
    assert ticks_of(646, 1024 / 22050)[-1] == pytest.approx(646, abs=0.5)
    numbers = sheet[-AXIS + 7 :]
    assert (numbers[:, -GAP:] == BACKGROUND).all()
    assert (numbers[:, -60:-GAP] == TEXT).any()


@pytest.mark.parametrize("seconds", [0.003, 0.1, 1.0, 7.0, 10.0, 14.86, 99.0, 3600.0])
def test_a_time_axis_has_a_handful_of_ticks_at_round_seconds(seconds):
    ticks = ticks_of(1000, seconds / 1000)
    assert 4 <= len(ticks) <= MOST_TICKS
    step = ticks[1] * seconds / 1000
    power = 10.0 ** np.floor(np.log10(step * 1.01))
    assert min(abs(step / power - digit) for digit in (1, 2, 5)) < 0.02
