"""Any picture as 8-bit grey, by what its pixels mean."""

from __future__ import annotations

import numpy as np
from PIL import ExifTags, Image

from musicspectrogan.audio.images import ImageError

# A TIFF says so by a tag where 0 is white; Pillow heeds it for 8 bits alone.
_BITS_TAG, _PHOTOMETRIC_TAG, _WHITE_IS_ZERO = 258, 262, 0
# How to turn a picture upright, by its EXIF orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def as_grey(image: Image.Image) -> Image.Image:
    """What a viewer shows of a picture, as 8-bit grey (mode L).

    Colours become their Rec. 601 luma. 16 bits are scaled to 8. What is transparent lies on black, which is
    silence in a spectrogram. EXIF's orientation is obeyed. Of several frames or pages it is the first.

    Raises:
        ImageError: the file does not say which value is white (floating point, 32-bit integers), or its
            colours are in a space that is not converted here (LAB).
    """
    image.load()
    grey = _grey(image)
    turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return grey if turn is None else grey.transpose(turn)


def _grey(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return _of_16_bits(image)
    if image.mode in ("I", "F"):
        kind = "floating-point" if image.mode == "F" else "32-bit integer"
        raise ImageError(
            f"{kind} pixels (mode {image.mode}) do not say which value is white; save it with 8 or 16 bits"
        )
    if image.mode == "LAB":
        raise ImageError("its colours are CIELAB (mode LAB); save it as grey or RGB")
    if image.has_transparency_data:
        straight = {"La": "LA", "RGBa": "RGBA"}.get(
            image.mode, image.mode
        )  # not multiplied by alpha
        colours = image.convert(straight).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), colours)
    return image if image.mode == "L" else image.convert("RGB").convert("L")


def _of_16_bits(image: Image.Image) -> Image.Image:
    """65535 is white; in a TIFF of 12 bits it is 4095."""
    values = np.asarray(image).astype(np.float32)
    values[values == image.info.get("transparency")] = 0.0
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS_TAG, 16)
    white = 2 ** (bits if isinstance(bits, int) else bits[0]) - 1
    scaled = np.clip(np.rint(values * (255.0 / white)), 0, 255).astype(np.uint8)
    return Image.fromarray(255 - scaled if tags.get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO else scaled)
