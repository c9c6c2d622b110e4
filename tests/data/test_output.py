"""Which files count as images that preprocess wrote, whole or cut off at any byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from musicspectrogan.audio.images import write_image
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.data.output import is_own_image, own_images


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image of a track whose name is not printable as it is."""
    path = tmp_path / "a_000.png"
    pixels = np.arange(4096, dtype=np.uint8).reshape(64, 64)
    write_image(
        path, pixels, SpectrogramConfig(), genre="rock", track="a «ü»\n1", reference_db="1.0"
    )
    return path


def test_an_image_is_its_tracks_alone(image: Path) -> None:
    assert is_own_image(image, "a «ü»\n1")
    assert not is_own_image(image, "a")
    assert not is_own_image(image.with_name("nothing"), "a")
    assert not is_own_image(image.parent, "a")


@pytest.mark.parametrize("filled", [False, True], ids=["short", "zeros"])
def test_whatever_a_power_cut_leaves_of_it_may_go(image: Path, filled: bool) -> None:
    whole = image.read_bytes()
    for length in range(len(whole)):
        image.write_bytes(whole[:length] + bytes(len(whole) - length if filled else 0))
        assert is_own_image(image, "a «ü»\n1"), length


@pytest.mark.parametrize("pnginfo", [None, "spectrogram", "track"])
def test_pictures_of_others_stay(tmp_path: Path, pnginfo: str | None) -> None:
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    if pnginfo:
        chunks.add_text(pnginfo, "a")
    for size in ((1, 1), (64, 64)):
        path = tmp_path / "a_000.png"
        Image.new("L", size).save(path, pnginfo=chunks)
        whole = path.read_bytes()
        for length in (len(whole), len(whole) - 1, max(60, len(whole) // 2)):
            path.write_bytes(whole[:length])
            assert not is_own_image(path, "a"), (size, length)
    for contents in (b"GIF89a", b"text", b"\xff\xd8\xff\xe0" + bytes(9)):
        path.write_bytes(contents)
        assert not is_own_image(path, "a")


def test_images_under_other_names_and_unfinished_ones(image: Path) -> None:
    whole = image.read_bytes()
    write_image(image, np.zeros((64, 64), np.uint8), SpectrogramConfig(), genre="rock", track="a")
    ours = image.read_bytes()
    names = {
        ".a_001.png.0123abcd.tmp": ours[: len(ours) // 2],
        ".a_002.png.tmp": b"",
        ".b_002.png.0123abcd.tmp": ours,
        "b_000.png": ours,
        "a_001.txt": ours,
        "a_003.png": whole,
        ".a_004.png.bak.tmp": ours,
    }
    for name, contents in names.items():
        (image.parent / name).write_bytes(contents)
    found = sorted(path.name for path in own_images(image.parent))
    assert found == [".a_001.png.0123abcd.tmp", ".a_002.png.tmp", "a_000.png"]
