"""Conversion to grayscale, and a cache that cannot be locked or written."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from musicspectrogan.data import pixels as caching
from musicspectrogan.data.dataset import load_dataset
from musicspectrogan.data.pixels import read_pixels


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "jazz").mkdir()
    for number in range(40):
        Image.new("L", (64, 64), 5 * number + 1).save(tmp_path / "jazz" / f"{number:02d}.png")
    return tmp_path


def levels(folder: Path) -> list[int]:
    """The first pixel of each image, as it is read."""
    names = [f"jazz/{number:02d}.png" for number in range(40)]
    read, damaged = read_pixels(folder, names, 64)
    assert damaged == set() and (np.ptp(read, axis=(1, 2)) == 0).all()
    return [int(image[0, 0]) for image in read]


EXPECTED = [5 * number + 1 for number in range(40)]


@contextmanager
def read_only(lock_file: Path) -> Iterator[bool]:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(lock_file))
    yield


def test_somebody_elses_cache_in_a_read_only_folder_is_read(folder, monkeypatch, caplog):
    logging.getLogger("musicspectrogan").propagate = True
    assert levels(folder) == EXPECTED
    monkeypatch.setattr(caching, "file_lock", read_only)
    monkeypatch.setattr(caching, "_decode_all", None)  # not decoded again
    assert levels(folder) == EXPECTED
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_read_only_folder_without_a_cache_is_decoded_each_time(folder, monkeypatch, caplog):
    logging.getLogger("musicspectrogan").propagate = True
    monkeypatch.setattr(caching, "file_lock", read_only)
    assert levels(folder) == EXPECTED
    assert "Read-only file system): images are decoded each time" in caplog.text
    assert [path.name for path in folder.iterdir()] == ["jazz"]


@contextmanager
def no_locks(lock_file: Path) -> Iterator[bool]:
    yield False


def check(folder: Path, together: object) -> None:
    together.wait(60)
    assert levels(folder) == EXPECTED


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_several_at_once_without_locks_read_whole_images(folder, monkeypatch):
    monkeypatch.setattr(caching, "file_lock", no_locks)
    context = multiprocessing.get_context("fork")
    together = context.Barrier(4)
    processes = [context.Process(target=check, args=(folder, together)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert not list(folder.glob(".*.tmp"))


# Grey levels of every kind, as a picture that a mode is made from.
RAMP = (np.arange(64 * 64, dtype=np.uint32).reshape(64, 64) * 16).astype(np.uint16)
RAMP8 = np.rint(RAMP / 257.0).astype(np.uint8)
GREY = Image.fromarray(RAMP8)


def shown(path: Path, picture: Image.Image, **options: object) -> np.ndarray:
    """The pixels that training sees of a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)
    (pixels,) = load_dataset(path.parent.parent).pixels
    return np.asarray(pixels).astype(int)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bits_are_scaled_and_not_clipped(tmp_path: Path, suffix: str) -> None:
    picture = Image.fromarray(RAMP)
    assert picture.mode == "I;16"
    if suffix == "pgm":
        picture = picture.convert("I")
    np.testing.assert_array_equal(shown(tmp_path / "a" / f"x.{suffix}", picture), RAMP8)


def test_a_tiff_of_16_bits_whose_zero_is_white(tmp_path: Path) -> None:
    white_is_zero = shown(tmp_path / "w" / "a" / "x.tif", Image.fromarray(RAMP), tiffinfo={262: 0})
    np.testing.assert_array_equal(white_is_zero, 255 - RAMP8.astype(int))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("level", [0, 255])
def test_black_and_white_are_that_in_every_mode(tmp_path: Path, mode: str, level: int) -> None:
    picture = Image.new("L", (64, 64), level)
    picture = (
        picture.convert("P").convert("PA") if mode == "PA" else picture.convert("RGB").convert(mode)
    )
    seen = shown(
        tmp_path / "a" / ("x.tif" if mode in ("PA", "CMYK", "YCbCr") else "x.png"), picture
    )
    assert (seen.min(), seen.max()) == (level, level)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_reach_from_black_to_white(tmp_path: Path, bits: int) -> None:
    levels = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64) % 2**bits
    picture = Image.fromarray(levels).convert("P")
    picture.putpalette([round(k * 255 / (2**bits - 1)) for k in range(2**bits) for _ in range(3)])
    seen = shown(tmp_path / "a" / "x.png", picture, bits=bits)
    np.testing.assert_array_equal(seen, np.rint(levels * (255 / (2**bits - 1))))


@pytest.mark.parametrize(("alpha", "expected"), [(0, 0), (128, 100), (255, 200)])
def test_what_is_transparent_lies_on_black(tmp_path: Path, alpha: int, expected: int) -> None:
    assert (
        shown(tmp_path / "a" / "x.png", Image.new("RGBA", (64, 64), (200, 200, 200, alpha)))
        == expected
    ).all()


def test_a_transparent_colour_of_a_palette_is_black(tmp_path: Path) -> None:
    picture = GREY.convert("P")
    seen = shown(tmp_path / "a" / "x.png", picture, transparency=200)
    np.testing.assert_array_equal(seen, np.where(RAMP8 == 200, 0, RAMP8))


def test_a_picture_is_taken_upright_and_of_several_frames_the_first(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    np.testing.assert_array_equal(
        shown(tmp_path / "t" / "a" / "x.png", GREY, exif=exif), np.rot90(RAMP8, -1)
    )
    frames = [Image.new("L", (64, 64), level) for level in (50, 200)]
    seen = shown(tmp_path / "f" / "a" / "x.png", frames[0], save_all=True, append_images=frames[1:])
    assert (seen == 50).all()
