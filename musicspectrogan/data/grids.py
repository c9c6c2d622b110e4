"""Sheets of spectrograms that people look at: a row a genre, on one fixed grey scale."""

from __future__ import annotations

import math
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
# Of a time axis: its height and that of its ticks, in pixels, and how many ticks there are at most.
AXIS, TICK, MOST_TICKS = 24, 6, 10


def draw_grid(
    rows: Sequence[np.ndarray],
    names: Sequence[str] | None = None,
    *,
    seconds_a_column: float | None = None,
) -> Image.Image:
    """A grey picture of rows of images.

    Args:
        rows: uint8 (columns, H, W) each, low frequencies at the bottom; what is shorter or narrower leaves
            a gap.
        names: written before the rows; None for no labels.
        seconds_a_column: of pixels, for a time axis below rows of a single image; None for no axis.
    """
    height, width = rows[0].shape[1], max(row.shape[2] for row in rows)
    scale = max(1, SMALLEST_CELL // height)
    cell_width, cell_height = width * scale + GAP, height * scale + GAP
    font = ImageFont.load_default(FONT_SIZE)
    margin = GAP
    names = [printable(name) for name in names or ()]
    if names:
        margin += int(max(font.getlength(name) for name in names)) + 2 * GAP
    columns = max(len(row) for row in rows)
    bottom = GAP + len(rows) * cell_height
    axis = AXIS if seconds_a_column else 0
    sheet = Image.new("L", (margin + columns * cell_width, bottom + axis), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for y, row in enumerate(rows):
        top = GAP + y * cell_height
        if names:
            draw.text((GAP, top + height * scale // 2), names[y], fill=TEXT, font=font, anchor="lm")
        for x, pixels in enumerate(row):
            size = pixels.shape[1] * scale, pixels.shape[0] * scale
            image = Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)
            sheet.paste(image, (margin + x * cell_width, top))
    if seconds_a_column:
        _draw_axis(draw, (margin, bottom), width * scale, seconds_a_column / scale)
    return sheet


def _draw_axis(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], length: int, seconds_a_pixel: float
) -> None:
    """Ticks from the corner (x, y) to the right, and the seconds below them."""
    left, top = corner
    seconds = length * seconds_a_pixel
    power = 10.0 ** math.floor(math.log10(seconds / MOST_TICKS))
    step = next(power * digit for digit in (1, 2, 5, 10) if seconds < power * digit * MOST_TICKS)
    font = ImageFont.load_default(FONT_SIZE)
    for number in range(math.ceil(seconds / step)):
        x = left + number * step / seconds_a_pixel
        draw.line((x, top, x, top + TICK), fill=TEXT)
        text = f"{number * step:g} s"
        start = min(x, left + length - font.getlength(text))  # the last one is not to be cut off
        draw.text((start, top + TICK + GAP), text, fill=TEXT, font=font, anchor="lt")


def save_grid(
    path: Path,
    rows: Sequence[np.ndarray],
    names: Sequence[str] | None = None,
    *,
    seconds_a_column: float | None = None,
) -> Image.Image:
    """Draw a grid and write it as PNG; returns the picture."""
    sheet = draw_grid(rows, names, seconds_a_column=seconds_a_column)
    with whole_file(path) as temporary:
        sheet.save(temporary, format="PNG")
    return sheet
