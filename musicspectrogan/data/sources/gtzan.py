"""GTZAN: ten genre folders of a hundred 30-second clips.

G. Tzanetakis and P. Cook, Musical genre classification of audio signals, IEEE TSAP 10(5), 2002.
Its faults: B. Sturm, The GTZAN dataset: its contents, its faults, arXiv:1306.1461, 2013.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from musicspectrogan.data.sources import (
    Selection,
    Track,
    audio_files,
    one_root,
    require_folder,
    tracks_of_class_folder,
)
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import visible_folders

logger = logging.getLogger(__name__)

OPTIONS = ("limit", "exclude_faults")

GENRES = "blues classical country disco hiphop jazz metal pop reggae rock".split()

KNOWN_FAULTS = {
    "jazz.00054": "known to be corrupt in common copies of GTZAN",
    "reggae.00086": "known fault: all but some 5 s of it is distorted noise",
}

# Replicas, other excerpts of a same recording and gross mislabellings, after Sturm; leaves 948.
_REMOVED = {
    "disco": "51 60 70 74 89 99",
    "hiphop": "45 78",
    "jazz": "51 53 55 58 60 62 65 67 68 69 70 71 72",
    "metal": "13 58 61 62 63 64 65 66 94",
    "pop": "22 31 37 46 57 59 60 71 80 90",
    "reggae": "56 57 58 60 65 69 74 81 82 86 91 92",
}
REMOVED_IDS = frozenset(
    f"{genre}.{int(number):05d}" for genre, numbers in _REMOVED.items() for number in numbers.split()
)


def find_tracks(root: Path | None, selection: Selection) -> list[Track]:
    """The clips below the folder that holds the genre folders, or below a parent of just one such."""
    start = require_folder(root, "GTZAN's genre folders")
    genres_root, candidates = one_root(start, _holds_genres)
    if genres_root is None:
        raise UserError(_what_is_wrong(start, candidates))
    if genres_root != start:
        logger.info("GTZAN's genre folders found in %s", genres_root)
    tracks = []
    for folder in visible_folders(genres_root):
        if folder.name not in GENRES:
            logger.warning("%s is no genre of GTZAN and is left alone", folder)
            continue
        tracks += [_annotated(t, selection) for t in tracks_of_class_folder(folder, folder.name)]
    return tracks


def _annotated(track: Track, selection: Selection) -> Track:
    removed = selection.exclude_faults and track.id in REMOVED_IDS
    return replace(
        track,
        known_fault=KNOWN_FAULTS.get(track.id, ""),
        excluded="on the list of faulty clips (--exclude-faults)" if removed else "",
    )


def _holds_genres(folder: Path) -> bool:
    return any(child.name in GENRES and next(audio_files(child), None) for child in visible_folders(folder))


def _what_is_wrong(start: Path, candidates: list[Path]) -> str:
    if candidates:
        return (
            f"--input {start}: holds more than one copy of GTZAN "
            f"({', '.join(str(p) for p in candidates)}); name one of them"
        )
    if start.name == "images_original" or next(start.rglob("*.png"), None):
        return (
            f"--input {start}: holds pictures, not audio; "
            "GTZAN's clips are in genres_original, beside images_original"
        )
    return (
        f"--input {start}: no genre folder with audio in it; expected folders named like "
        f"{GENRES[0]} or {GENRES[-1]} (for folders with names of your own use --dataset folder)"
    )
