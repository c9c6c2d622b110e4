"""A folder of generated sounds: each is a PNG, whose text chunks describe it, and an audio file.

The PNGs are the only record. So the page also lists what earlier commands left in the folder, and
leaves out what was deleted.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

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
# Every page that this package has ever written contains it.
PAGE_MARKER = b'<filter id="magma"'

# Text chunks: the tempo in the tags of the sound, and that of the beat detected in the image.
BPM, BPM_FOUND = "bpm", "bpm_found"
# In comments, before the checkpoint's digest. Only generated sounds have it.
BY_CHECKPOINT = ", checkpoint "
# The last word of a loop's caption.
LOOP = "loop"


@dataclass(frozen=True)
class Sound:
    """A sound to write."""

    row: str
    """Row of the page: a genre, for instance."""
    caption: str
    image: npt.NDArray[np.uint8]
    """(n_mels, T)."""
    samples: npt.NDArray[np.float32]
    """Finished, (n,)."""
    settings: SpectrogramConfig
    loops: bool = False
    detected: Tempo | None = None
    """Tempo of the image, if it has a steady beat."""
    tempo: Tempo | None = None
    """Tempo for the tags of the audio file."""


def write_sound(
    folder: Path,
    stem: str,
    sound: Sound,
    form: SoundConfig,
    *,
    request: str,
    checkpoint: str = "",
) -> str:
    """Write image and audio file into an existing folder; returns their name without suffix.

    Args:
        stem: the name; a number is added where another sound or a foreign file has it already.
        request: digest of all that determines the sound, by which the same command finds its own
            files again.
        checkpoint: digest of the checkpoint; empty for real music.
    """
    name = _free_name(folder, stem, request)
    comment = sound.caption + (BY_CHECKPOINT + checkpoint if checkpoint else "")
    tags = {"genre": sound.row, "comment": comment}
    tempi = {BPM: sound.tempo, BPM_FOUND: sound.detected}
    text = tags | {key: str(tempo) for key, tempo in tempi.items() if tempo is not None}
    # The image comes first: after a kill between the two, the same command replaces it.
    image = folder / f"{name}.png"
    write_image(image, sound.image, sound.settings, concurrent=False, request=request, **text)
    save(
        folder / f"{name}.{form.format}",
        sound.samples,
        form.rate_for(sound.settings.sample_rate),
        bit_depth=form.bits,
        loops=sound.loops,
        tempo=sound.tempo,
        **tags,
    )
    return name


def _free_name(folder: Path, stem: str, request: str) -> str:
    for number in itertools.count(1):
        name = stem if number == 1 else f"{stem}-{number}"
        if (text_of(folder / f"{name}.png") or {}).get("request") == request:
            return name
        if not any((folder / f"{name}.{suffix}").exists() for suffix in ("png", *FORMATS)):
            return name
    raise AssertionError("unreachable")


def has_sound(folder: Path, stem: str, request: str) -> bool:
    """Whether the sound of this request exists already, in any format."""
    image = folder / f"{stem}.png"
    return (text_of(image) or {}).get("request") == request and _format_of(image) is not None


def check_folder(folder: Path, settings: SpectrogramConfig) -> None:
    """Make the folder, and check that sounds with these settings and a page can be added to it.

    Raises:
        UserError: the folder cannot be made, has a foreign index.html, or sounds of other settings.
    """
    make_folder(folder)
    page = folder / PAGE_NAME
    if page.exists() and not (page.is_file() and PAGE_MARKER in page.read_bytes()):
        raise UserError(
            f"{page}: not a page of this program, and would be overwritten; give another --output"
        )
    for path, found in _find_sounds(folder):
        if replace(found, hop_length=settings.hop_length) != settings:
            raise UserError(
                f"{path}: was made with other spectrogram settings, and a page cannot mix them; "
                "give another --output"
            )


def list_items(folder: Path, new: Sequence[str]) -> list[PageItem]:
    """All sounds of a folder for its page: the new ones in their order, then the others by name.

    Args:
        new: names without suffixes.
    """
    order = {name: number for number, name in enumerate(new)}
    items: dict[str, PageItem] = {}
    checkpoints: dict[str, str] = {}
    for path, _ in _find_sounds(folder):
        name = path.relative_to(folder).as_posix().removesuffix(".png")
        items[name], checkpoints[name] = _read_item(folder, name)
    if len(set(checkpoints.values()) - {""}) > 1:
        for name, checkpoint in checkpoints.items():
            if checkpoint:
                caption = f"{items[name].caption}{BY_CHECKPOINT}{checkpoint[:6]}"
                items[name] = replace(items[name], caption=caption)
    names = sorted(items, key=lambda name: (order.get(name, len(order)), _natural_key(name)))
    return [items[name] for name in names]


def _read_item(folder: Path, name: str) -> tuple[PageItem, str]:
    """A sound as the page shows it, and the digest of its checkpoint."""
    path = folder / f"{name}.png"
    with opened_image(path, formats=("PNG",)) as image:
        text, columns = image.info, image.size[0]
    real = "/" in name
    if real:
        caption, checkpoint = name.rpartition("/")[2], ""
    else:
        caption, _, checkpoint = text["comment"].rpartition(BY_CHECKPOINT)
    item = PageItem(
        genre=text["genre"],
        caption=caption,
        image=f"{name}.png",
        audio=f"{name}.{_format_of(path)}",
        real=real,
        columns=columns,
        loops=not real and caption.endswith(f", {LOOP}"),
        bpm=text.get(BPM_FOUND, ""),
    )
    return item, checkpoint


def _find_sounds(folder: Path) -> Iterator[tuple[Path, SpectrogramConfig]]:
    """The images of sounds that this program wrote, with their settings."""
    real = folder / REAL_FOLDER
    for parent in (folder, *(visible_folders(real) if real.is_dir() else ())):
        for path in sorted(parent.glob("*.png")):
            text = text_of(path) or {}
            is_generated = BY_CHECKPOINT in text.get("comment", "")
            if "genre" not in text or (parent == folder and not is_generated):
                continue
            if _format_of(path) is None:
                continue
            try:
                settings = from_plain(SpectrogramConfig, json.loads(text.get("spectrogram", "")))
            except (ValueError, RecursionError, UserError):
                continue
            yield path, settings


def text_of(path: Path) -> dict[str, str] | None:
    """The text chunks of a PNG; None where the file is missing or not a PNG."""
    try:
        with opened_image(path, formats=("PNG",)) as image:
            chunks = image.info.items()
            return {str(name): text for name, text in chunks if isinstance(text, str)}
    except ImageError:
        return None


def _format_of(image: Path) -> str | None:
    """Format of the audio file of an image; None where there is none."""
    stem = image.name.removesuffix(".png")
    paths = (image.with_name(f"{stem}.{suffix}") for suffix in FORMATS)
    return next((path.suffix[1:] for path in paths if path.is_file()), None)


def _natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key that puts `seed2` before `seed10`."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]
