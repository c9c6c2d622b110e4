"""Our PNG writer against Pillow's reader."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from musicspectrogan.audio.png import encode_png

RANDOM = np.random.default_rng(0)
IMAGES = {
    "noise": RANDOM.integers(0, 256, (64, 64), dtype=np.uint8),
    "notes": np.repeat(RANDOM.integers(0, 256, (64, 1), dtype=np.uint8), 64, axis=1),
    "drums": np.repeat(RANDOM.integers(0, 256, (1, 64), dtype=np.uint8), 64, axis=0),
    "wide": RANDOM.integers(0, 256, (40, 301), dtype=np.uint8),
    "large": RANDOM.integers(0, 256, (256, 256), dtype=np.uint8),
    "one pixel": np.full((1, 1), 7, dtype=np.uint8),
    "one column": np.arange(5, dtype=np.uint8)[:, None],
    "not contiguous": RANDOM.integers(0, 256, (64, 130), dtype=np.uint8)[::-1, 60:124],
}


@pytest.mark.parametrize("name", IMAGES)
def test_pillow_reads_every_pixel_and_text(name):
    image = IMAGES[name]

    data = encode_png(image, {"spectrogram": '{"n_mels": 64}', "track": "Beyoncé – 夜"})

    read = Image.open(io.BytesIO(data), formats=["PNG"])
    assert (read.mode, read.size) == ("L", image.shape[::-1])
    np.testing.assert_array_equal(np.array(read), image)
    assert read.text == {"spectrogram": '{"n_mels": 64}', "track": "Beyoncé – 夜"}
    Image.open(io.BytesIO(data)).verify()  # checksums


def test_neighbours_that_are_alike_are_subtracted_along_rows_or_columns():
    notes = IMAGES["notes"] // 2 + RANDOM.integers(0, 2, (64, 64), dtype=np.uint8)
    assert _filters(encode_png(notes, {})) == {1}
    assert _filters(encode_png(notes.T, {})) == {2}
    assert len(encode_png(notes, {})) < 1400  # of 4096 pixels, each with a random bit


def _filters(png: bytes) -> set[int]:
    """The numbers of the filters of all rows (W3C, PNG, section 9.2), of 64 pixels each."""
    start = png.index(b"IDAT") + 4
    (length,) = struct.unpack(">I", png[start - 8 : start - 4])
    return set(zlib.decompress(png[start : start + length])[:: 1 + 64])
