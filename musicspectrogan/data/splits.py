"""Splits by track: the names of split folders, and 80/10/10 for a dataset without its own."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from musicspectrogan.filesystem import visible_folders

if TYPE_CHECKING:
    from musicspectrogan.data.manifest import Outcome

logger = logging.getLogger(__name__)

# Names of split folders in lower case.
SPLIT_FOLDERS: dict[str, str] = {
    "train": "training",
    "training": "training",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
# Folders for validation if there is also one for test, and otherwise for test.
EVALUATION_FOLDERS = ("eval", "evaluation")


def match_split_folders(
    classes: Mapping[str, Collection[str]], names: Mapping[str, str] = SPLIT_FOLDERS
) -> dict[str, str]:
    """Return the split of each folder, or an empty dict if the folders are not splits.

    They are splits if all have split names, one is for training, and each shares a class with the
    training folders. So two classes called Train and Test are not mistaken for splits.

    Args:
        classes: the class folders in each folder.
        names: the split of each folder name, in lower case.
    """
    splits = {folder: names.get(folder.casefold(), "") for folder in classes}
    trained = {
        name for folder, split in splits.items() if split == "training" for name in classes[folder]
    }
    if not trained or "" in splits.values():
        return {}
    return {} if any(trained.isdisjoint(inside) for inside in classes.values()) else splits


def find_split_folders(root: Path) -> dict[Path, str] | None:
    """Return the split of each folder in `root` if these are split folders above the classes.

    Returns:
        None if they are not, or if there is no other split beside training.
    """
    folders = {path.name: path for path in visible_folders(root)}
    if not {"training"} < {SPLIT_FOLDERS.get(name.casefold()) for name in folders}:
        return None  # without listing the class folders
    classes = {
        name: {child.name.casefold() for child in visible_folders(path)}
        for name, path in folders.items()
    }
    splits = match_split_folders(classes)
    return {folders[name]: split for name, split in splits.items()} or None


def assign_splits(
    outcomes: Iterable[Outcome], groups: Mapping[str, str] | None = None, own: Collection[str] = ()
) -> dict[str, str]:
    """Return the split of each converted track: the dataset's own, else 80/10/10 within each genre.

    All tracks of a group, such as an album, go to one split; sizes are as close to 80/10/10 as that
    allows. Groups are ordered by a hash of their name, so the order of files does not matter. With
    three groups or more, each split gets at least one. With fewer, tracks are split one by one and
    a warning is logged. Fewer than three tracks all go to training.

    Args:
        groups: the group of each track id; a track without one is its own group.
        own: splits that the dataset defines; no tracks are drawn for them.
    """
    missing = [split for split in ("test", "validation") if split not in own]
    splits: dict[str, str] = {}
    unassigned: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.split:
            splits[outcome.track] = outcome.split
        else:
            unassigned.setdefault(outcome.genre, []).append(outcome.track)
    for genre, tracks in unassigned.items():
        rest = _group_tracks(tracks, groups or {})
        enough = 1 + len(missing)
        if len(rest) < enough <= len(tracks):
            logger.warning(
                "%s: its %d tracks are in too few folders to hold out whole folders; splitting "
                "track by track, so an album may be in both training and test",
                genre,
                len(tracks),
            )
            rest = _group_tracks(tracks, {})
        if len(rest) >= enough:
            held_out = max(1, round(0.1 * len(tracks)))
            for number, split in enumerate(missing):
                drawn, rest = _draw(rest, held_out, len(rest) - (len(missing) - number))
                splits |= {track: split for group in drawn for track in group}
        splits |= {track: "training" for group in rest for track in group}
    return splits


def _group_tracks(tracks: Iterable[str], groups: Mapping[str, str]) -> list[list[str]]:
    """Collect the tracks of each group, ordered by a hash of the group's name."""
    members: dict[str, list[str]] = {}
    for track in tracks:
        members.setdefault(groups.get(track) or track, []).append(track)
    order = sorted(
        members, key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    )
    return [members[name] for name in order]


def _draw(groups: list[list[str]], size: int, most: int) -> tuple[list[list[str]], list[list[str]]]:
    """Draw at least one and at most `most` groups with about `size` tracks, from the end.

    Returns:
        The drawn groups and the others.
    """
    drawn: list[list[str]] = []
    rest: list[list[str]] = []
    missing = size
    for group in reversed(groups):
        if len(group) <= missing and len(drawn) < most:
            drawn.append(group)
            missing -= len(group)
        else:
            rest.append(group)
    rest.reverse()
    smallest = min(rest, key=len)
    nearer = len(smallest) - missing < missing
    if not drawn or (nearer and len(drawn) < most):
        rest.remove(smallest)
        drawn.append(smallest)
    return drawn, rest
