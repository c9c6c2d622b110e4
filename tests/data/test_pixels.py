"""The cache of decoded images where it cannot be locked or written."""

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
    monkeypatch.setattr(caching, "one_at_a_time", read_only)
    monkeypatch.setattr(caching, "_decode_all", None)  # not decoded again
    assert levels(folder) == EXPECTED
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_read_only_folder_without_a_cache_is_decoded_each_time(folder, monkeypatch, caplog):
    logging.getLogger("musicspectrogan").propagate = True
    monkeypatch.setattr(caching, "one_at_a_time", read_only)
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
    monkeypatch.setattr(caching, "one_at_a_time", no_locks)
    context = multiprocessing.get_context("fork")
    together = context.Barrier(4)
    processes = [context.Process(target=check, args=(folder, together)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert not list(folder.glob(".*.tmp"))
