"""metadata.jsonl: the images of a dataset, for the `datasets` library of Hugging Face.

`load_dataset("imagefolder", data_dir=ROOT)` reads it as one table. `load_dataset(ROOT)` reads
`.huggingface.yaml`, which names a hidden table for each split: a table has the images of one split
only, all tables must be in the folder above the images, and the library finds splits by the names
of files, so that visible ones, or a track called test_drive, would be taken for splits.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from glob import escape
from pathlib import Path
from typing import TextIO

import yaml

from musicspectrogan.audio.images import segment_of_image
from musicspectrogan.data.manifest import SPLITS, Manifest
from musicspectrogan.filesystem import atomic_write, write_text

logger = logging.getLogger(__name__)

METADATA_NAME = "metadata.jsonl"
CONFIG_NAME = ".huggingface.yaml"
SPLIT_TABLES = {split: f".{split}.jsonl" for split in SPLITS}
# The library's names.
_SPLIT_NAMES = {"training": "train", "validation": "validation", "test": "test"}

_HEAD = "# Written by preprocess.\n"
_ROW = re.compile(
    r'\{"file_name": ".+", "genre": ".+", "track": ".+", "segment": \d+, '
    rf'"split": "({"|".join(SPLITS)})"\}}\n'
)
_LONGEST_ROW = 4096


def write_metadata(
    root: Path, manifest: Manifest, images: Mapping[tuple[str, str], Iterable[str]]
) -> None:
    """Write metadata.jsonl with a line for each image, and the tables of the splits.

    Files of another tool are kept, and nothing is written.

    Args:
        images: names of the images of each (genre, track id).
    """
    if foreign := [path for path in _paths(root) if path.exists() and not _is_own(path)]:
        logger.warning(
            "%s is from another tool and is kept; to get a table of the images, move it away and "
            "repeat the command",
            foreign[0],
        )
        return
    split_of_track = manifest.split_of_track()
    examples: dict[str, str] = {}
    with ExitStack() as files:

        def create(name: str) -> TextIO:
            temporary = files.enter_context(atomic_write(root / name))
            return files.enter_context(open(temporary, "w", encoding="utf-8", newline="\n"))

        table = create(METADATA_NAME)
        tables: dict[str, TextIO] = {}
        for genre, track in sorted(images):
            split = split_of_track.get((genre, track))
            if split is None:
                continue
            # Quoted once for all images of a track; the rest of their names is ASCII.
            start = _quoted(f"{genre}/{track}")[:-1]
            fixed = f'"genre": {_quoted(genre)}, "track": {_quoted(track)}'
            rows = [
                f'{{"file_name": {start}{name[len(track) :]}", {fixed}, '
                f'"segment": {segment_of_image(name)}, "split": "{split}"}}\n'
                for name in sorted(images[genre, track])
            ]
            if rows and split not in tables:
                tables[split] = create(SPLIT_TABLES[split])
                examples[split] = f"{genre}/{min(images[genre, track])}"
            for file in (table, tables[split]) if rows else ():
                file.writelines(rows)
    write_text(root / CONFIG_NAME, _HEAD + _config(examples))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _config(examples: Mapping[str, str]) -> str:
    """Return the contents of .huggingface.yaml.

    Args:
        examples: an image of each split.
    """
    splits = [
        {
            "split": _SPLIT_NAMES[split],
            # The library takes the most frequent suffix for the format, so the image is there
            # twice. It reads only the table.
            "path": [SPLIT_TABLES[split], *[escape(examples[split])] * 2],
        }
        for split in SPLITS
        if split in examples
    ]
    config = {
        "config_name": "default",
        "metadata_filenames": [SPLIT_TABLES[split] for split in SPLITS if split in examples],
        "data_files": splits,
    }
    return yaml.safe_dump({"configs": [config]}, sort_keys=False, allow_unicode=True)


def remove_metadata(root: Path) -> None:
    """Remove what `write_metadata` wrote, before the images change."""
    for path in _paths(root):
        if _is_own(path):
            path.unlink()


def _paths(root: Path) -> list[Path]:
    return [root / name for name in (METADATA_NAME, CONFIG_NAME, *SPLIT_TABLES.values())]


def _is_own(path: Path) -> bool:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            line = file.readline(_LONGEST_ROW)
    except OSError:
        return False
    return line == _HEAD if path.name == CONFIG_NAME else bool(_ROW.fullmatch(line))
