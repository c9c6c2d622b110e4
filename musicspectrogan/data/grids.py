"""Contact sheets of spectrograms that people look at: a row a genre, on one fixed grey scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from musicspectrogan.errors import printable
from musicspectrogan.filesystem import whole_file

GAP = 4
FONT_SIZE = 14
BACKGROUND, TEXT = 40, 230
# 64-pixel images are doubled: on today's screens a single one is a stamp.
SMALLEST_CELL = 128


def draw_grid(rows: Sequence[np.ndarray], names: Sequence[str] | None = None) -> Image.Image:
    """A grey picture of rows of images.

    Args:
        rows: uint8 (columns, H, W) each, low frequencies at the bottom; shorter rows leave a gap.
        names: written before the rows; None for no labels.
    """
    size = rows[0].shape[1]
    scale = max(1, SMALLEST_CELL // size)
    cell = size * scale + GAP
    font = ImageFont.load_default(FONT_SIZE)
    margin = GAP
    names = [printable(name) for name in names or ()]
    if names:
        margin += int(max(font.getlength(name) for name in names)) + 2 * GAP
    columns = max(len(row) for row in rows)
    sheet = Image.new("L", (margin + columns * cell, GAP + len(rows) * cell), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for y, row in enumerate(rows):
        top = GAP + y * cell
        if names:
            draw.text((GAP, top + (cell - GAP) // 2), names[y], fill=TEXT, font=font, anchor="lm")
        for x, pixels in enumerate(row):
            image = Image.fromarray(pixels).resize((size * scale, size * scale), Image.Resampling.NEAREST)
            sheet.paste(image, (margin + x * cell, top))
    return sheet


def save_grid(path: Path, rows: Sequence[np.ndarray], names: Sequence[str] | None = None) -> Image.Image:
    """Draw a grid and write it as PNG; returns the picture."""
    sheet = draw_grid(rows, names)
    with whole_file(path) as temporary:
        sheet.save(temporary, format="PNG")
    return sheet
