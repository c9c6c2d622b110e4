"""Our PNG writer against Pillow's reader."""

import io

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


@pytest.mark.parametrize("name", ["notes", "drums"])
def test_what_repeats_along_an_axis_becomes_small(name):
    assert len(encode_png(IMAGES[name], {})) < 300
