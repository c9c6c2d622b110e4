"""GTZAN: ten genre folders of a hundred 30-second clips.

G. Tzanetakis and P. Cook, Musical genre classification of audio signals, IEEE TSAP 10(5), 2002.
Faults: B. Sturm, The GTZAN dataset: its contents, its faults, arXiv:1306.1461, 2013.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from musicspectrogan.data.archives import list_folder
from musicspectrogan.data.credits import Credit
from musicspectrogan.data.listing import (
    contains_audio,
    describe_archives,
    find_audio,
    readable_folders,
    require_folder,
)
from musicspectrogan.data.sources import (
    Selection,
    Track,
    excluded_track,
    splits_of_folders,
    track_id,
)
from musicspectrogan.errors import UserError

logger = logging.getLogger(__name__)

OPTIONS = ("limit", "exclude_faults")

GENRES = "blues classical country disco hiphop jazz metal pop reggae rock".split()

KNOWN_FAULTS = {
    "jazz.00054": "known to be corrupt in common copies of GTZAN",
    "reggae.00086": "known fault: all but about 5 s is distorted noise",
}

# Replicas, other excerpts of the same recording and wrong labels, after Sturm; leaves 948 clips.
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
    """Return the clips in the genre folders of `root`, or of the one folder below that has them.

    Several such folders are accepted if they are named after splits (`train`, `test`).
    """
    start = require_folder(root, "GTZAN's genre folders")
    roots = list(_genre_roots(start, depth=3))
    if len(roots) == 1:
        if roots[0] != start:
            logger.info("GTZAN's genre folders found in %s", roots[0])
        return _tracks_below(roots[0], "", selection)
    one_parent = len({folder.parent for folder in roots}) == 1
    splits = splits_of_folders({folder.name: GENRES for folder in roots}) if one_parent else {}
    if not splits:
        raise UserError(_describe_problem(start, roots))
    return [
        track for folder in roots for track in _tracks_below(folder, splits[folder.name], selection)
    ]


def _genre_roots(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the folders that hold genre folders with audio, at most `depth` levels below."""
    children = readable_folders(folder)
    if any(child.name in GENRES and contains_audio(child) for child in children):
        yield folder
    elif depth:
        for child in children:
            yield from _genre_roots(child, depth - 1)


def _tracks_below(genres_root: Path, split: str, selection: Selection) -> list[Track]:
    tracks, unknown_genres = [], set()
    for file in find_audio(genres_root):
        genre, *inside = file.path.parts[len(genres_root.parts) :] or [""]
        if file.skip_reason:
            tracks.append(excluded_track(file, genres_root))
        elif not inside:
            tracks.append(excluded_track(file, genres_root, "not in a genre folder"))
        elif genre not in GENRES:
            unknown_genres.add(genre)
            tracks.append(excluded_track(file, genres_root, f"{genre} is not a genre of GTZAN"))
        else:
            name = track_id(file.path, genres_root / genre)
            removed = selection.exclude_faults and name in REMOVED_IDS
            track = Track(
                name,
                genre,
                file.path,
                split,
                known_fault=KNOWN_FAULTS.get(name, ""),
                excluded="on the list of faulty clips (--exclude-faults)" if removed else "",
                credit=Credit(),
            )
            tracks.append(track)
    for genre in sorted(unknown_genres):
        logger.warning("%s is not a genre of GTZAN and is ignored", genres_root / genre)
    return tracks


def _describe_problem(start: Path, roots: list[Path]) -> str:
    if roots:
        return (
            f"--input {start}: holds more than one copy of GTZAN "
            f"({', '.join(str(root) for root in roots)}); name one of them"
        )
    if start.name == "images_original" or _holds_images(start):
        return (
            f"--input {start}: holds images, not audio; "
            "GTZAN's clips are in genres_original, next to images_original"
        )
    return (
        f"--input {start}: no genre folder with audio in it{describe_archives(start)}; "
        f"expected folders such as {GENRES[0]} or {GENRES[-1]} "
        "(for other class folders use --dataset folder)"
    )


def _holds_images(folder: Path) -> bool:
    with suppress(OSError):
        for entry in list_folder(folder):
            is_image = entry.name.endswith(".png")
            if is_image or (entry.is_folder and _holds_images(folder / entry.name)):
                return True
    return False
