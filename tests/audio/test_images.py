"""PNGs and what they say of themselves, and what is refused as one."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from musicspectrogan.audio.images import (
    ImageError,
    ends_whole,
    image_name,
    opened_image,
    read_image,
    segment_of_image,
    track_of_image,
    write_image,
)
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.errors import UserError

RAMP = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)


def a_png(path: Path, text: str | None = None, pixels: np.ndarray = RAMP, mode: str = "L") -> Path:
    chunks = PngInfo()
    if text is not None:
        chunks.add_text("spectrogram", text)
    Image.fromarray(pixels).convert(mode).save(path, "PNG", pnginfo=chunks)
    return path


def test_an_image_is_read_with_its_settings(tmp_path):
    config = replace(SpectrogramConfig(), f_max=7000.0)
    write_image(tmp_path / "x.png", RAMP, config, genre="a\nb\udcff", track="日本")
    pixels, read = read_image(tmp_path / "x.png")
    assert (pixels == RAMP).all() and read == config
    with opened_image(tmp_path / "x.png") as image:
        assert (image.text["genre"], image.text["track"]) == ("a\\nb\\udcff", "日本")


@pytest.mark.parametrize(
    "text",
    [
        "{}x", "[]", "7", "[" * 100_000, '{"bands": 3}', '{"n_mels": "64"}', '{"n_mels": 1e9}',
        json.dumps({**asdict(SpectrogramConfig()), "sample_rate": 0}),
        json.dumps({**asdict(SpectrogramConfig()), "f_max": float("nan")}),
    ],
)  # fmt: skip
def test_damaged_settings_are_refused(tmp_path, text):
    with pytest.raises(UserError, match="its settings are damaged"):
        read_image(a_png(tmp_path / "x.png", text))


def test_an_image_without_settings_has_the_fallback_or_the_defaults_of_its_height(tmp_path):
    path, fallback = a_png(tmp_path / "x.png"), replace(SpectrogramConfig(), f_max=7000.0)
    assert read_image(path)[1] == SpectrogramConfig()
    assert read_image(path, fallback)[1] == fallback
    with pytest.raises(UserError, match="has 64 rows, not the 128 mel bands of its settings"):
        read_image(path, SpectrogramConfig.for_image_size(128))
    with pytest.raises(UserError, match=r"is no spectrogram, but an image of 64x60 pixels, mode L"):
        read_image(a_png(tmp_path / "y.png", pixels=RAMP[:60]))


def test_a_png_that_is_cut_off_does_not_end_whole(tmp_path):
    contents = a_png(tmp_path / "x.png").read_bytes()
    assert ends_whole(tmp_path / "x.png")
    for length in (0, 5, len(contents) - 1):
        (tmp_path / "x.png").write_bytes(contents[:length])
        assert not ends_whole(tmp_path / "x.png")
    assert not ends_whole(tmp_path / "missing.png")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "1", "LA"])
def test_other_kinds_of_images_are_no_spectrograms(tmp_path, mode):
    with pytest.raises(UserError, match="is no spectrogram"):
        read_image(a_png(tmp_path / "x.png", json.dumps(asdict(SpectrogramConfig())), mode=mode))


def test_an_image_too_long_to_be_made_into_sound_is_refused(tmp_path):
    endless = np.zeros((64, 300_000), np.uint8)
    path = a_png(tmp_path / "x.png", json.dumps(asdict(SpectrogramConfig())), endless)
    assert path.stat().st_size < 100_000
    with pytest.raises(UserError, match="300000 frames are too many"):
        read_image(path)


def test_a_file_of_a_format_that_needs_other_programs_is_no_image(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n")
    with Image.open(path) as image:
        assert image.format == "EPS"  # Pillow would start Ghostscript
    with pytest.raises(ImageError), opened_image(path):
        pass


def test_an_error_of_any_kind_while_decoding_is_damage(tmp_path):
    with (
        pytest.raises(ImageError, match=r"^IndexError: odd$"),
        opened_image(a_png(tmp_path / "x.png")),
    ):
        raise IndexError("odd")


@given(st.text(max_size=30), st.integers(0, 10**9 - 1))
@settings(derandomize=True, max_examples=100, deadline=None)
def test_track_and_segment_are_found_in_the_name(track, segment):
    name = image_name(track, segment)
    assert (track_of_image(name), segment_of_image(name)) == (track, segment)


@given(st.text("0123456789_.-٣²a", max_size=40))
@settings(derandomize=True, max_examples=200, deadline=None)
def test_any_name_has_a_small_segment_or_none(name):
    segment = segment_of_image(name)
    assert segment is None or 0 <= segment < 10**9


def test_a_number_beyond_any_track_is_no_segment():
    assert segment_of_image("x_" + "9" * 200 + ".png") is None
    assert segment_of_image("x_123456789.png") == 123456789
