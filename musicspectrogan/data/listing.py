"""Which files of a folder are pictures, and of which class: what torchvision's ImageFolder finds."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from musicspectrogan.audio.images import ImageError, opened_image
from musicspectrogan.data.splits import split_folders
from musicspectrogan.filesystem import is_clutter, visible_folders

logger = logging.getLogger(__name__)

# torchvision.datasets.folder.IMG_EXTENSIONS; importing that takes longer than listing.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
NAMES_SHOWN = 5


@dataclass(frozen=True)
class Listing:
    """The pictures of a folder."""

    names: list[str]
    """Paths below the folder, with slashes; by class, and within a class in ImageFolder's order."""
    splits: dict[str, str]
    """The split of each first folder, where these are splits and the classes lie below; else empty."""
    beside: list[str] = field(default_factory=list)
    """Pictures that lie in no class folder, sorted."""
    passed_over: list[str] = field(default_factory=list)
    """Files in the class folders that are no pictures, and folders of systems and tools."""

    def genre_of(self, name: str) -> str:
        """The class of a picture."""
        return name.split("/", 2)[1 if self.splits else 0]

    def split_of(self, name: str) -> str:
        """The split of a picture; empty where there are none."""
        return self.splits.get(name.partition("/")[0], "")

    def report(self, folder: Path) -> None:
        """Log what is no picture of a class."""
        for what, names in (
            ("files are no pictures and are passed over", self.passed_over),
            ("pictures lie beside the class folders and are passed over", self.beside),
        ):
            if names:
                shown = ", ".join(names[:NAMES_SHOWN]) + (", …" if len(names) > NAMES_SHOWN else "")
                logger.info("%s: %d %s: %s", folder, len(names), what, shown)


def list_pictures(folder: Path, *, with_splits: bool = True) -> Listing:
    """List the class folders of a folder as ImageFolder does: all pictures anywhere below, by their suffix.

    What systems and tools leave there is passed over, where ImageFolder would trip over it.

    Args:
        with_splits: whether folders may be splits that hold the class folders; see `split_folders`.
    """
    splits = (split_folders(folder) if with_splits else None) or {}
    above = [path.name for path in splits] or [""]
    names: list[str] = []
    passed_over: list[str] = []
    for part in above:
        for path in visible_folders(folder / part):
            prefix = f"{part}/{path.name}/" if part else f"{path.name}/"
            names += _pictures_below(path, prefix, passed_over)
    around = sorted(os.scandir(folder), key=lambda entry: entry.name)
    beside = [
        entry.name for entry in around if not entry.is_dir() and _is_picture(entry, entry.path)
    ]
    passed_over += [
        f"{entry.name}/" for entry in around if is_clutter(entry.name) and entry.is_dir()
    ]
    listing = Listing(
        names, {path.name: split for path, split in splits.items()}, beside, passed_over
    )
    if splits:  # the classes of several splits by turns, until now
        names.sort(key=listing.genre_of)
    return listing


def _pictures_below(folder: Path, prefix: str, passed_over: list[str]) -> Iterator[str]:
    """Names with the prefix, folder by folder as `sorted(os.walk(…, followlinks=True))` has them."""
    found: dict[str, list[str]] = {}
    pending = [(folder, "", frozenset[str]())]
    while pending:
        place, below, above = pending.pop()
        above |= {os.path.realpath(place)}
        pictures = found.setdefault(below, [])
        try:
            entries = list(os.scandir(place))
        except OSError as error:
            logger.warning("%s cannot be read (%s) and is passed over", place, error.strerror)
            continue
        for entry in entries:
            name = entry.name
            if entry.is_dir():
                if is_clutter(name):
                    passed_over.append(f"{prefix}{below}{name}/")
                elif not (
                    entry.is_symlink() and os.path.realpath(entry.path) in above
                ):  # without end
                    pending.append((place / name, f"{below}{name}/", above))
            elif _is_picture(entry, entry.path):
                pictures.append(name)
            else:
                passed_over.append(f"{prefix}{below}{name}")
    for below in sorted(found, key=lambda below: below.rstrip("/")):
        yield from (f"{prefix}{below}{name}" for name in sorted(found[below]))


def _is_picture(entry: os.DirEntry[str], path: str) -> bool:
    """By the suffix; of dot files, which systems leave beside pictures, also by what is in them."""
    if not entry.name.lower().endswith(IMAGE_SUFFIXES):
        return False
    if not entry.name.startswith("."):
        return True
    try:
        with opened_image(Path(path)):
            return True
    except ImageError:
        return False
