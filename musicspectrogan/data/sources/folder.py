"""Any folder of class folders of audio; a folder of audio without class folders is one class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from musicspectrogan.audio.files import is_audio
from musicspectrogan.data.sources import (
    Selection,
    Track,
    holds_audio,
    require_folder,
    tracks_of_class_folder,
)
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import safe_name, visible_folders

OPTIONS = ("limit",)


def find_tracks(root: Path | None, selection: Selection) -> list[Track]:
    """A class for each folder that has audio anywhere below it.

    Tracks below a class folder are grouped by the folder that they lie in: an album, or a disc of one.
    """
    root = require_folder(root, "class folders of audio")
    classes = [folder for folder in visible_folders(root) if holds_audio(folder)]
    tracks = [
        replace(track, group=_album(track.path, folder, root))
        for folder in classes
        for track in tracks_of_class_folder(folder, safe_name(folder.name))
    ]
    beside = sorted(path for path in root.iterdir() if is_audio(path.name) and path.is_file())
    if not tracks and not beside:
        raise UserError(
            f"--input {root}: no audio in it; expected one folder a class, "
            f"each with WAV, FLAC, OGG, MP3, AU or AIFF files"
        )
    if classes:
        return tracks + [
            Track(safe_name(path.stem), "", path, excluded="lies beside the class folders, not in one")
            for path in beside
        ]
    name = safe_name(root.resolve().name)
    return [Track(safe_name(path.stem), name, path) for path in beside]


def _album(path: Path, class_folder: Path, root: Path) -> str:
    """The folder of a file, below the root; empty where that is the class folder."""
    return "" if path.parent == class_folder else path.parent.relative_to(root).as_posix()
