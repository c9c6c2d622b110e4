"""Contact sheets, whatever the genres are called."""

from __future__ import annotations

import numpy as np
import pytest

from musicspectrogan.data.grids import draw_grid


@pytest.mark.parametrize("name", ["a\nb", "caf\udce9", "\x1b[31m", "日本", "x" * 250])
def test_any_name_can_be_written_beside_a_row(name):
    row = np.zeros((2, 64, 64), np.uint8)
    assert draw_grid([row, row], [name, "rock"]).height == draw_grid([row, row]).height
