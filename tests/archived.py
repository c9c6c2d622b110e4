"""Archives of the forms in which people have music, made from small trees."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import pyarrow
import pyarrow.parquet


def zip_of(
    target: Path, tree: Path, below: str = "", method: int = zipfile.ZIP_DEFLATED, **extra: bytes
) -> Path:
    """All files of a tree in a folder of the archive; `extra` are the contents of others."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", method) as archive:
        for path in sorted(tree.rglob("*")):
            if path.is_file():
                archive.write(path, Path(below, path.relative_to(tree)))
        for name, contents in extra.items():
            archive.writestr(name, contents)
    return target


def tar_of(target: Path, tree: Path, below: str, mode: str = "w:gz") -> Path:
    """All files of a tree, in an order that is not that of their names."""
    with tarfile.open(target, mode) as archive:
        for path in sorted(tree.rglob("*"), key=lambda path: path.name[::-1]):
            if path.is_file():
                archive.add(path, Path(below, path.relative_to(tree)))
    return target


def tar_with(target: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    """These members, also ones that no file system has."""
    with tarfile.open(target, mode) as archive:
        for info, contents in members:
            info.size = len(contents)
            archive.addfile(info, io.BytesIO(contents))
    return target


def parquet_of(
    target: Path, clips: list[Path], *, named: bool = True, group: int = 5, **columns: list
) -> Path:
    """A file as Hugging Face's library writes it, with the class folder of each clip as its genre.

    Args:
        named: with the names of the files.
        group: rows in a row group.
        columns: instead of the genre.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    genres = sorted({clip.parent.name for clip in clips})
    labels = columns or {"genre": [genres.index(clip.parent.name) for clip in clips]}
    sounds = [{"bytes": clip.read_bytes(), "path": clip.name if named else None} for clip in clips]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    features = {
        "audio": {"_type": "Audio"},
        "genre": {"names": genres, "_type": "ClassLabel"},
    }
    table = pyarrow.table({"audio": pyarrow.array(sounds, kind), **labels})
    described = {"huggingface": json.dumps({"info": {"features": features}})}
    pyarrow.parquet.write_table(
        table.replace_schema_metadata(described), target, row_group_size=group
    )
    return target
