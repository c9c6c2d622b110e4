"""Class folders of audio; a folder of audio without class folders is one class.

In a folder with a table of classes, metadata.csv or metadata.jsonl, that takes their place.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from musicspectrogan.counts import format_count
from musicspectrogan.data.archives import archive_stem
from musicspectrogan.data.credits import CREDITS_NAME
from musicspectrogan.data.labels import Label, read_labels
from musicspectrogan.data.listing import AudioFile, describe_archives, find_audio, require_folder
from musicspectrogan.data.sources import (
    Selection,
    Track,
    excluded_track,
    splits_of_folders,
    track_id,
)
from musicspectrogan.errors import UserError, printable
from musicspectrogan.filesystem import distinct_names, fold_case, safe_name

logger = logging.getLogger(__name__)

OPTIONS = ("limit",)


def find_tracks(root: Path | None, selection: Selection) -> list[Track]:
    """Return the tracks of all classes: each folder in `root` with audio anywhere below it.

    If there is a table of classes (see `data.labels`), it counts instead of the folders.

    If all of these folders are named after splits (`train`, `test`) and hold class folders, they
    are the splits. Tracks in a sub-folder of a class folder, such as an album, form a group.
    """
    root = require_folder(root, "class folders of audio")
    files = list(find_audio(root))
    excluded = [excluded_track(file, root) for file in files if file.skip_reason]
    music = [
        (file.path, file.path.parts[len(root.parts) :]) for file in files if not file.skip_reason
    ]
    if not music:
        raise UserError(f"--input {root}: {_describe_problem(excluded, root)}")
    labels = read_labels(root)
    if any(path in labels for path, _ in music):
        return _labelled_tracks(root, music, labels) + excluded
    splits = _split_folders([parts for _, parts in music])
    depth = 2 if splits else 1
    inside = [(path, parts) for path, parts in music if len(parts) > depth]
    if not inside:
        name = archive_stem(root)
        return excluded + [
            Track(safe_name(path.stem), _class_names([name])[name], path) for path, _ in music
        ]
    loose = [
        Track(safe_name(path.stem), "", path, excluded="not in a class folder")
        for path, parts in music
        if len(parts) <= depth
    ]
    folders = {parts[depth - 1] for _, parts in inside}
    if all(re.fullmatch(r"\d{3}", folder) for folder in folders):
        logger.warning(
            "Folders named 000 to 155 are those of FMA, not genres: use --dataset fma for them"
        )
    names = _class_names(folders)
    return [
        Track(
            track_id(path, root.joinpath(*parts[:depth])),
            names[parts[depth - 1]],
            path,
            split=splits.get(parts[0], ""),
            group="/".join(parts[:-1]) if len(parts) > depth + 1 else "",
        )
        for path, parts in inside
    ] + [*loose, *excluded]


def _labelled_tracks(
    root: Path, music: list[tuple[Path, tuple[str, ...]]], labels: dict[Path, Label]
) -> list[Track]:
    """Return the tracks of the classes in a table; splits are those of the table, or the folders.

    The id is the path without the folders of the split and the class.
    """
    table = next(iter(labels.values())).table
    classes: dict[str, set[str]] = {}
    for path, parts in music:
        if (label := labels.get(path)) and label.name:
            folder = label.split or "/".join(parts[:-1][:1])
            classes.setdefault(folder, set()).add(fold_case(label.name))
    splits = splits_of_folders(classes)
    names = _class_names(label.name for label in labels.values() if label.name)
    tracks = []
    for path, parts in music:
        label = labels.pop(path, None)
        if label is None or not label.name:
            reason = f"no class in {table}" if label else f"not in {table}"
            tracks.append(excluded_track(AudioFile(path), root, reason))
            continue
        *folders, name = parts
        split = splits.get(label.split or "/".join(folders[:1]), "")
        if splits and not label.split:
            del folders[0]
        if folders[:1] == [label.name]:
            del folders[0]
        track = safe_name("-".join([*folders, name.rpartition(".")[0]]))
        tracks.append(Track(track, names[label.name], path, split=split))
    missing = [AudioFile(path, f"in {table}, but not there", unreadable=True) for path in labels]
    return tracks + [excluded_track(file, root) for file in missing]


def _split_folders(music: Iterable[tuple[str, ...]]) -> dict[str, str]:
    """Return the split of each top folder; empty if they are not split folders above classes."""
    classes: dict[str, set[str]] = {}
    for parts in music:
        if len(parts) > 1:
            classes.setdefault(parts[0], set()).update(map(fold_case, parts[1:-1][:1]))
    return splits_of_folders(classes)


def _class_names(folders: Iterable[str]) -> dict[str, str]:
    """Return the class name of each folder; log those that differ from the folder's name."""
    names = distinct_names(folders, taken=(CREDITS_NAME,))
    forms = Counter(names.values())
    for name in (name for name, count in forms.items() if count > 1):
        logger.info("%s: folders whose names differ only in their Unicode form are one class", name)
    for folder, name in names.items():
        if forms[name] == 1 and name != folder:
            collides = name != safe_name(folder)
            why = "too similar to another name" if collides else "not a name on every system"
            logger.warning("%s (%s) becomes the class %s", printable(folder), why, name)
    return names


def _describe_problem(excluded: list[Track], root: Path) -> str:
    packed = describe_archives(root)
    if excluded and not packed:
        reason, count = Counter(track.excluded for track in excluded).most_common(1)[0]
        return (
            f"no usable audio in it; left out {format_count(len(excluded), 'file')}, {count} "
            f"of them for: {reason}"
        )
    return (
        f"no audio in it{packed}; expected one folder per class, each with WAV, "
        "FLAC, OGG, MP3, AU or AIFF files"
    )
