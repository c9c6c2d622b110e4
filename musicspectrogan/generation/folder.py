"""A folder of generated sounds: each a PNG, which says in its own text what it is, beside its audio file.

The PNGs are the only record. So the page lists what earlier commands left there too, and what somebody has
removed is off the page.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from musicspectrogan.audio.files import save
from musicspectrogan.audio.images import ImageError, opened_image, write_image
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.audio.tempo import Tempo
from musicspectrogan.config import from_plain
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import make_folder, visible_folders
from musicspectrogan.generation.page import PageItem
from musicspectrogan.generation.settings import FORMATS, SoundConfig

REAL_FOLDER = "real"
PAGE_NAME = "index.html"
# What every page of this tool has had.
MARK_OF_PAGE = b'<filter id="magma"'

BY = ", checkpoint "
# Texts of a PNG: the tempo in the sound's tags, and that of the beat that was found.
BPM, BPM_FOUND = "bpm", "bpm_found"
# The last word of a loop's caption.
LOOP = "loop"


@dataclass(frozen=True)
class Sound:
    """A sound on its way to the disk."""

    row: str
    """Its row on the page: a genre, for instance."""
    caption: str
    image: np.ndarray
    """uint8 (n_mels, T)."""
    samples: np.ndarray
    """Finished, float (n,)."""
    settings: SpectrogramConfig
    checkpoint: str = ""
    """Digest of the checkpoint that it was made with; empty for real music."""
    loops: bool = False
    found: Tempo | None = None
    """The tempo of the image, where it has a steady beat."""
    tempo: Tempo | None = None
    """The tempo in the file's tags."""


def write_sound(folder: Path, stem: str, sound: Sound, form: SoundConfig, request: str) -> str:
    """Write a sound's two files into a folder that exists, and return their name without a suffix.

    Args:
        stem: the name, but where another sound or a file of somebody else has it: then a number follows.
        request: a digest of all that determines the sound. By it the same command finds its own files again.
    """
    name = _free_name(folder, stem, request)
    about = f"{sound.caption}{BY}{sound.checkpoint}" if sound.checkpoint else sound.caption
    tags = {"genre": sound.row, "comment": about}
    # The image comes first: by what it says, a sound that a kill has kept from the disk is made in its place.
    tempi = {BPM: sound.tempo, BPM_FOUND: sound.found}
    texts = tags | {key: str(tempo) for key, tempo in tempi.items() if tempo is not None}
    write_image(folder / f"{name}.png", sound.image, sound.settings, request=request, **texts)
    rate = form.sample_rate or sound.settings.sample_rate
    path = folder / f"{name}.{form.format}"
    save(
        path, sound.samples, rate, bit_depth=form.bits, loops=sound.loops, tempo=sound.tempo, **tags
    )
    return name


def _free_name(folder: Path, stem: str, request: str) -> str:
    for number in itertools.count(1):
        name = stem if number == 1 else f"{stem}-{number}"
        text = text_of(folder / f"{name}.png")
        if text is not None and text.get("request") == request:
            return name
        taken = [
            f"{name}.{suffix}"
            for suffix in ("png", *FORMATS)
            if (folder / f"{name}.{suffix}").exists()
        ]
        if not taken:
            return name
    raise AssertionError("the numbers do not end")


def is_there(folder: Path, stem: str, request: str) -> bool:
    """Whether a sound that was asked for like this is there already, in whatever format."""
    image = folder / f"{stem}.png"
    return (text_of(image) or {}).get("request") == request and _format_of(image) is not None


def check_folder(folder: Path, settings: SpectrogramConfig) -> None:
    """Make the folder, and see that a page of sounds with these settings may be written there.

    Raises:
        UserError: it cannot be made, its page is somebody else's, or it holds sounds of other settings.
    """
    make_folder(folder)
    page = folder / PAGE_NAME
    if page.exists() and not (page.is_file() and MARK_OF_PAGE in page.read_bytes()):
        raise UserError(
            f"{page}: is no page of this tool and would be overwritten; give another --output"
        )
    for path, found in _sounds_in(folder):
        if replace(found, hop_length=settings.hop_length) != settings:
            raise UserError(
                f"{path}: was made with other spectrogram settings, which one page cannot show; give another "
                "--output"
            )


def items_in(folder: Path, made: Sequence[str]) -> list[PageItem]:
    """All sounds in a folder, for its page: those just made in their order, and then the others by name.

    Args:
        made: names without suffixes.
    """
    order = {name: number for number, name in enumerate(made)}
    items, checkpoints = {}, {}
    for path, _ in _sounds_in(folder):
        name = path.relative_to(folder).as_posix().removesuffix(".png")
        items[name], checkpoints[name] = _item(folder, name)
    if len(set(checkpoints.values()) - {""}) > 1:
        for name, checkpoint in checkpoints.items():
            if checkpoint:
                items[name] = replace(
                    items[name], caption=f"{items[name].caption}{BY}{checkpoint[:6]}"
                )
    return [
        items[name]
        for name in sorted(items, key=lambda name: (order.get(name, len(order)), _natural(name)))
    ]


def _item(folder: Path, name: str) -> tuple[PageItem, str]:
    """What the page shows of a sound, and the digest of its checkpoint."""
    with opened_image(folder / f"{name}.png", formats=("PNG",)) as image:
        text, columns = image.info, image.size[0]
    real = "/" in name
    caption, _, checkpoint = ("", "", "") if real else text["comment"].rpartition(BY)
    shown = name.rpartition("/")[2] if real else caption
    audio = f"{name}.{_format_of(folder / f'{name}.png')}"
    loops = caption.endswith(f", {LOOP}")
    found = text.get(BPM_FOUND, "")
    item = PageItem(text["genre"], shown, f"{name}.png", audio, real, columns, loops, found)
    return item, checkpoint


def _sounds_in(folder: Path) -> Iterator[tuple[Path, SpectrogramConfig]]:
    """The images of this tool's sounds, and how they were made; whatever else lies there is passed over."""
    real = folder / REAL_FOLDER
    for place in (folder, *(visible_folders(real) if real.is_dir() else ())):
        for path in sorted(place.glob("*.png")):
            text = text_of(path)
            is_ours = (
                text is not None
                and "genre" in text
                and (place != folder or BY in text.get("comment", ""))
            )
            if is_ours and _format_of(path):
                try:
                    yield (
                        path,
                        from_plain(SpectrogramConfig, json.loads(text.get("spectrogram", ""))),
                    )
                except (ValueError, RecursionError, UserError):
                    continue


def text_of(path: Path) -> dict[str, str] | None:
    """The text chunks of a PNG; None where it is none, or there is none."""
    try:
        with opened_image(path, formats=("PNG",)) as image:
            return {name: text for name, text in image.info.items() if isinstance(text, str)}
    except ImageError:
        return None


def _format_of(image: Path) -> str | None:
    """The format of the sound beside an image; None where there is no sound."""
    name = image.name.removesuffix(".png")
    return next(
        (suffix for suffix in FORMATS if image.with_name(f"{name}.{suffix}").is_file()), None
    )


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts `seed2` before `seed10`."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]
