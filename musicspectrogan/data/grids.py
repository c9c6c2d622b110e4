"""Grids of spectrogram images for viewing, one row per genre, on a fixed gray scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from musicspectrogan.errors import printable
from musicspectrogan.filesystem import atomic_write

GAP = 4
FONT_SIZE = 14
BACKGROUND, TEXT = 40, 230
# Smaller images are enlarged, to be visible on a screen.
SMALLEST_CELL = 128
# The height of the time axis and its ticks in pixels, and the maximum number of ticks.
AXIS, TICK, MOST_TICKS = 24, 6, 10


def draw_grid(
    rows: Sequence[npt.NDArray[np.uint8]],
    names: Sequence[str] | None = None,
    *,
    seconds_a_column: float | None = None,
) -> Image.Image:
    """Draw rows of images as one grayscale image.

    Args:
        rows: uint8 (columns, H, W) each, low frequencies at the bottom. Shorter or narrower rows
            leave a gap.
        names: labels of the rows; None for no labels.
        seconds_a_column: seconds per column of pixels, to draw a time axis below rows of a single
            image; None for no axis.
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
    """Draw ticks from the corner (x, y) to the right, labelled in seconds."""
    left, top = corner
    seconds = length * seconds_a_pixel
    power = 10.0 ** math.floor(math.log10(seconds / MOST_TICKS))
    step = next(power * digit for digit in (1, 2, 5, 10) if seconds < power * digit * MOST_TICKS)
    font = ImageFont.load_default(FONT_SIZE)
    for number in range(math.ceil(seconds / step)):
        x = left + number * step / seconds_a_pixel
        draw.line((x, top, x, top + TICK), fill=TEXT)
        text = f"{number * step:g} s"
        start = min(x, left + length - font.getlength(text))  # do not cut off the last
        draw.text((start, top + TICK + GAP), text, fill=TEXT, font=font, anchor="lt")


def save_grid(
    path: Path,
    rows: Sequence[npt.NDArray[np.uint8]],
    names: Sequence[str] | None = None,
    *,
    seconds_a_column: float | None = None,
) -> Image.Image:
    """Draw a grid, write it as PNG, and return it."""
    sheet = draw_grid(rows, names, seconds_a_column=seconds_a_column)
    with atomic_write(path) as temporary:
        sheet.save(temporary, format="PNG")
    return sheet
