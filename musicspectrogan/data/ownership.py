"""Which files of a dataset root preprocess wrote. No other one is ever removed or written over."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

from musicspectrogan.audio.images import segment_of_image, track_of_image
from musicspectrogan.errors import printable

# The text chunks of an image come first, and take some 400 bytes.
_HEAD_BYTES = 4096
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Where the second chunk of a PNG has its type, and what follows there in an image of ours.
_SECOND_CHUNK, _OUR_TEXT = 37, b'tEXtspectrogram\0{"sample_rate"'
_UNFINISHED = re.compile(r"\.(.+\.png)(\.[0-9a-f]{8})?\.tmp")


def is_own_image(path: str | Path, track: str) -> bool:
    """Whether this is an image of a track by its own text, or one of which a power cut left no picture.

    Read from the first bytes: 80,000 images take a second.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            head = os.read(descriptor, _HEAD_BYTES)
        finally:
            os.close(descriptor)
    except OSError:
        return False
    text = _texts(head)
    if "spectrogram" in text and text.get("track") == printable(track):
        return True
    left = head.rstrip(b"\0")
    as_far_as_it_goes = left[_SECOND_CHUNK : _SECOND_CHUNK + len(_OUR_TEXT)]
    begins_as_ours = _SIGNATURE.startswith(left[:8]) and _OUR_TEXT.startswith(as_far_as_it_goes)
    return begins_as_ours and "IDAT" not in text


def own_images(folder: Path) -> list[Path]:
    """The images of ours in a class folder, and those that were being written."""
    return [folder / name for name in os.listdir(folder) if _is_own(folder, name)]


def is_own_unfinished(folder: Path, name: str) -> bool:
    """Whether this is an image of ours that was being written. Nobody else may be writing it now."""
    unfinished = _UNFINISHED.fullmatch(name)
    return unfinished is not None and is_own_image(folder / name, track_of_image(unfinished[1]))


def _is_own(folder: Path, name: str) -> bool:
    if name.startswith("."):
        return is_own_unfinished(folder, name)
    named_so = name.endswith(".png") and segment_of_image(name) is not None
    return named_so and is_own_image(folder / name, track_of_image(name))


def _texts(head: bytes) -> dict[str, str]:
    """The whole text chunks at the head of a PNG by their names; and "IDAT" where the pixels begin."""
    texts: dict[str, str] = {}
    position = len(_SIGNATURE) if head.startswith(_SIGNATURE) else len(head)
    while position + 8 <= len(head):
        length, kind = struct.unpack_from(">I4s", head, position)
        data = head[position + 8 : position + 8 + length]
        position += 12 + length
        if kind == b"IDAT":
            texts["IDAT"] = ""
            break
        if kind in (b"tEXt", b"iTXt") and len(data) == length:
            name, _, value = data.partition(b"\0")
            # In iTXt, compression, language and translation come first: four zeros where there are none.
            texts[name.decode("latin-1")] = value.removeprefix(b"\0\0\0\0").decode(
                "utf-8", "replace"
            )
    return texts
