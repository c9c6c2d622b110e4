"""Folders in FMA's layout, with tracks.csv in its form."""

from __future__ import annotations

import random
from pathlib import Path

import pandas
from datasets import touch

# tracks.csv as pandas writes it: two lines of column names, then one with the index's name.
FMA_TABLE = pandas.DataFrame.from_dict(
    {
        2: (
            "training",
            "small",
            "Hip-Hop",
            "Attribution-NonCommercial-ShareAlike 3.0 International",
        ),
        5: ("validation", "small", "Hip-Hop", "Attribution"),
        10: ("test", "small", "Pop", "CC0 1.0 Universal"),
        1486: ("training", "medium", "Rock", "Attribution"),
        3000: ("training", "medium", "Old-Time / Historic", "Public Domain Mark 1.0"),
        4000: ("test", "large", "Rock", ""),
        4001: ("training", "large", None, "Attribution"),
        98565: ("test", "small", "Pop", "Attribution"),
        107535: ("training", "small", "Pop", "Attribution"),
        133297: ("training", "small", "Pop", "Attribution"),
    },
    orient="index",
    columns=pandas.MultiIndex.from_tuples(
        [("set", "split"), ("set", "subset"), ("track", "genre_top"), ("track", "license")]
    ),
)
SMALL = {"000002", "000005", "000010", "098565", "107535", "133297"}
MEDIUM = SMALL | {"001486", "003000"}
LARGE = MEDIUM | {"004000", "004001"}


def write_tracks_csv(path: Path, table: pandas.DataFrame = FMA_TABLE) -> None:
    """Write the table with more of FMA's columns, shuffled, and unsorted rows."""
    table = table.copy()
    table["album", "title"] = 'Greatest "Hits", Vol. 1'
    table["album", "information"] = "<p>Two lines,\nand a third:\r\n1, 2, 3</p>"
    table["artist", "id"] = 7
    table["artist", "bio"] = 'a bio, with "quotes",\n\nand empty lines\n'
    table["track", "subset"] = "large"
    table["track", "title"] = "NA"
    table["track", "tags"] = "['one', 'two']"
    table.index.name = "track_id"
    shuffled = list(table.columns)
    random.Random(3).shuffle(shuffled)
    path.parent.mkdir(parents=True, exist_ok=True)
    table[shuffled].iloc[::-1].to_csv(path)


def fma_tree(root: Path, audio: str = "fma_small/fma_small") -> Path:
    """A folder `fma` with the audio's folders, and fma_metadata beside them."""
    write_tracks_csv(root / "fma" / "fma_metadata" / "tracks.csv")
    for number in FMA_TABLE.index:
        touch(root / "fma" / audio, f"{number:06d}"[:3] + f"/{number:06d}.mp3")
    return root / "fma"
