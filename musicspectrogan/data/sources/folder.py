"""Any folder of class folders of audio; a folder of audio without class folders is one class."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from musicspectrogan.data.credits import CREDITS_NAME
from musicspectrogan.data.sources import (
    Selection,
    Track,
    audio_files,
    id_below,
    left_out,
    require_folder,
    splits_of_folders,
)
from musicspectrogan.errors import UserError, printable
from musicspectrogan.filesystem import caseless, distinct_names, safe_name

logger = logging.getLogger(__name__)

OPTIONS = ("limit",)

# What stands beside the class folders of a dataset.
TAKEN_NAMES = (CREDITS_NAME,)


def find_tracks(root: Path | None, selection: Selection) -> list[Track]:
    """A class for each folder that has audio anywhere below it; what is passed over is excluded.

    Where all of these folders are named after splits (`train`, `test`) and hold class folders, they are taken
    for the splits. Tracks below a class folder are grouped by the folder that they lie in: an album, or one
    disc of it.
    """
    root = require_folder(root, "class folders of audio")
    found = list(audio_files(root))
    left = [left_out(one, root) for one in found if one.passed_over]
    music = [(one.path, one.path.parts[len(root.parts) :]) for one in found if not one.passed_over]
    if not music:
        raise UserError(f"--input {root}: {_why_nothing(left)}")
    splits = _split_folders([parts for _, parts in music])
    depth = 2 if splits else 1
    inside = [(path, parts) for path, parts in music if len(parts) > depth]
    if not inside:
        name = root.resolve().name
        return left + [
            Track(safe_name(path.stem), _class_names([name])[name], path) for path, _ in music
        ]
    beside = [
        Track(safe_name(path.stem), "", path, excluded="lies beside the class folders, not in one")
        for path, parts in music
        if len(parts) <= depth
    ]
    folders = {parts[depth - 1] for _, parts in inside}
    if all(re.fullmatch(r"\d{3}", folder) for folder in folders):
        logger.warning(
            "Folders named 000 to 155 are FMA's, and no genres: for these give --dataset fma"
        )
    names = _class_names(folders)
    return [
        Track(
            id_below(path, root.joinpath(*parts[:depth])),
            names[parts[depth - 1]],
            path,
            split=splits.get(parts[0], ""),
            group="/".join(parts[:-1]) if len(parts) > depth + 1 else "",
        )
        for path, parts in inside
    ] + [*beside, *left]


def _split_folders(music: Iterable[tuple[str, ...]]) -> dict[str, str]:
    """The split of each top folder, where they are split folders that hold class folders; else empty."""
    classes: dict[str, set[str]] = {}
    for parts in music:
        if len(parts) > 1:
            classes.setdefault(parts[0], set()).update(map(caseless, parts[1:-1][:1]))
    return splits_of_folders(classes)


def _class_names(folders: Iterable[str]) -> dict[str, str]:
    """The name of the class of each folder; says so where that is not the folder's."""
    names = distinct_names(folders, TAKEN_NAMES)
    forms = Counter(names.values())
    for name in (name for name, count in forms.items() if count > 1):
        logger.info(
            "%s: two folders whose names differ in their Unicode form alone are one class", name
        )
    for folder, name in names.items():
        if forms[name] == 1 and name != folder:
            alike = name != safe_name(folder)
            why = (
                "for another name is too much like it"
                if alike
                else "a name that every system takes"
            )
            logger.warning("%s: becomes the class %s, %s", printable(folder), name, why)
    return names


def _why_nothing(left: list[Track]) -> str:
    if left:
        reason, count = Counter(track.excluded for track in left).most_common(1)[0]
        return (
            f"no audio in it that can be taken; {count} of {len(left)} are left out for: {reason}"
        )
    return "no audio in it; expected one folder a class, each with WAV, FLAC, OGG, MP3, AU or AIFF files"
