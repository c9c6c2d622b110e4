"""Checkerboard, as the 2-D spectrum sees it: transposed convolutions make it, resizing does not."""

from __future__ import annotations

import pytest
import torch

from musicspectrogan.models import UPSAMPLINGS
from musicspectrogan.models.layers import upsampling


def checkerboard(images: torch.Tensor) -> float:
    """Power (mean over images (B, H, W), even sides) at the three frequencies of a pattern of period 2."""
    spectrum = torch.fft.fft2(images, norm="forward").abs().square().mean(dim=0)
    height, width = images.shape[1] // 2, images.shape[2] // 2
    return float(spectrum[height, 0] + spectrum[0, width] + spectrum[height, width])


def test_the_measure_sees_a_checkerboard_and_nothing_else():
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    board = ((rows + columns) % 2 * 2 - 1).float()[None]
    assert checkerboard(0.25 * board) == pytest.approx(0.0625)
    assert checkerboard((columns % 2 * 2 - 1).float()[None]) == pytest.approx(1.0)
    smooth = torch.sin(2 * torch.pi * columns / 16)[None] + 3.0
    assert checkerboard(smooth) == pytest.approx(0.0, abs=1e-10)


@pytest.mark.parametrize("kind", UPSAMPLINGS)
def test_even_features_grow_to_an_even_image_only_by_resizing(kind):
    torch.manual_seed(0)
    features = torch.randn(6, 8, 1, 1).expand(-1, -1, 12, 12)
    with torch.no_grad():
        image = upsampling(kind, 8, 1)(features)[:, 0]
    assert image.shape == (6, 24, 24)
    inside = image[:, 4:-4, 4:-4]  # at the border the padding shows
    uneven = checkerboard(inside) / float(inside.square().mean())
    assert uneven < 1e-9 if kind == "resize" else uneven > 0.05
