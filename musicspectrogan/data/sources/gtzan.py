"""GTZAN: ten genre folders of a hundred 30-second clips.

G. Tzanetakis and P. Cook, Musical genre classification of audio signals, IEEE TSAP 10(5), 2002.
Its faults: B. Sturm, The GTZAN dataset: its contents, its faults, arXiv:1306.1461, 2013.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

from musicspectrogan.data.credits import Credit
from musicspectrogan.data.sources import (
    Selection,
    Track,
    audio_files,
    holds_audio,
    id_below,
    left_out,
    one_root,
    readable_folders,
    require_folder,
    splits_of_folders,
)
from musicspectrogan.errors import UserError

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
    f"{genre}.{int(number):05d}"
    for genre, numbers in _REMOVED.items()
    for number in numbers.split()
)


def find_tracks(root: Path | None, selection: Selection) -> list[Track]:
    """The clips below the folder that holds the genre folders, or below a parent of just one such.

    Where there are several in folders named after splits (`train`, `test`), they are taken for the splits.
    """
    start = require_folder(root, "GTZAN's genre folders")
    genres_root, candidates = one_root(start, _holds_genres)
    if genres_root is not None:
        if genres_root != start:
            logger.info("GTZAN's genre folders found in %s", genres_root)
        return _tracks_below(genres_root, "", selection)
    one_parent = len({folder.parent for folder in candidates}) == 1
    splits = splits_of_folders({folder.name: GENRES for folder in candidates}) if one_parent else {}
    if not splits:
        raise UserError(_what_is_wrong(start, candidates))
    return [
        track
        for folder in candidates
        for track in _tracks_below(folder, splits[folder.name], selection)
    ]


def _tracks_below(genres_root: Path, split: str, selection: Selection) -> list[Track]:
    tracks, strangers = [], set()
    for found in audio_files(genres_root):
        genre, *inside = found.path.parts[len(genres_root.parts) :] or [""]
        if found.passed_over:
            tracks.append(left_out(found, genres_root))
        elif not inside:
            tracks.append(left_out(found, genres_root, "lies beside the genre folders, not in one"))
        elif genre not in GENRES:
            strangers.add(genre)
            tracks.append(left_out(found, genres_root, f"{genre} is no genre of GTZAN"))
        else:
            track = Track(id_below(found.path, genres_root / genre), genre, found.path, split)
            tracks.append(_annotated(track, selection))
    for genre in sorted(strangers):
        logger.warning("%s is no genre of GTZAN and is left alone", genres_root / genre)
    return tracks


def _annotated(track: Track, selection: Selection) -> Track:
    removed = selection.exclude_faults and track.id in REMOVED_IDS
    return replace(
        track,
        known_fault=KNOWN_FAULTS.get(track.id, ""),
        credit=Credit(),
        excluded="on the list of faulty clips (--exclude-faults)" if removed else "",
    )


def _holds_genres(folder: Path) -> bool:
    return any(child.name in GENRES and holds_audio(child) for child in readable_folders(folder))


def _holds_pictures(folder: Path) -> bool:
    return any(name.endswith(".png") for _, _, names in os.walk(folder) for name in names)


def _what_is_wrong(start: Path, candidates: list[Path]) -> str:
    if candidates:
        return (
            f"--input {start}: holds more than one copy of GTZAN "
            f"({', '.join(str(p) for p in candidates)}); name one of them"
        )
    if start.name == "images_original" or _holds_pictures(start):
        return (
            f"--input {start}: holds pictures, not audio; "
            "GTZAN's clips are in genres_original, beside images_original"
        )
    return (
        f"--input {start}: no genre folder with audio in it; expected folders named like "
        f"{GENRES[0]} or {GENRES[-1]} (for folders with names of your own use --dataset folder)"
    )
