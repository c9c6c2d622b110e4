"""Folders that are splits: `train/` and `test/` above the classes."""

from __future__ import annotations

from pathlib import Path

from musicspectrogan.filesystem import visible_folders

# What each is called, in lower case.
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


def split_folders(folder: Path) -> dict[Path, str] | None:
    """The split of each folder below this one, where they are splits and no classes; else None.

    They are splits where all have such names, one of them is for training and another is not, and each of the
    others has a folder that is called as one of the former: classes named Train and Test have no such thing.
    """
    folders = visible_folders(folder)
    splits = {path: SPLIT_FOLDERS.get(path.name.lower(), "") for path in folders}
    if not {"training"} < set(splits.values()) or "" in splits.values():
        return None
    classes = {path: {child.name.casefold() for child in visible_folders(path)} for path in folders}
    known = set[str]().union(
        *(classes[path] for path, split in splits.items() if split == "training")
    )
    return splits if all(classes[path] & known for path in folders) else None
