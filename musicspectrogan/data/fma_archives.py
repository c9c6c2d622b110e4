"""The archives in which FMA is published: their download, and their checksums."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from musicspectrogan.data.archives import is_archive
from musicspectrogan.errors import UserError, check_choice
from musicspectrogan.progress import progress_bar

if TYPE_CHECKING:
    from musicspectrogan.data.sources import Selection

logger = logging.getLogger(__name__)

# By size. tracks.csv names the smallest subset of a track: "small" tracks are in all four.
SUBSETS = ("small", "medium", "large", "full")
METADATA = "metadata"

# Published at https://github.com/mdeff/fma.
ARCHIVES_SHA1 = {
    "fma_metadata.zip": "f0df49ffe5f2a6008d7dc83c6915b31835dfe733",
    "fma_small.zip": "ade154f733639d52e35e32f5593efe5be76c6d70",
    "fma_medium.zip": "c67b69ea232021025fca9231fc1c7c1a063ab50b",
    "fma_large.zip": "497109f4dd721066b5ce5e5f250ec604dc78939e",
    "fma_full.zip": "0f0ace23fbe9ba30ecb7e95f763e435ea802b8ab",
}
MIRROR = "https://os.unil.cloud.switch.ch/fma/"
HASHED_BYTES = 1 << 20


def download(folder: Path, archive: str, selection: Selection, mirror: str | None) -> None:
    """Download the archive of a subset and that of tracks.csv, or only the latter."""
    from musicspectrogan.data.download import fetch  # slow to import

    check_choice("--download", archive, (*SUBSETS, METADATA))
    if archive != METADATA and (subset := selection.subset) is not None:
        check_choice("--subset", subset, SUBSETS)
        if SUBSETS.index(subset) > SUBSETS.index(archive):
            raise UserError(f"--subset {subset} is not in --download {archive}; remove one of them")
    names = dict.fromkeys(f"fma_{name}.zip" for name in (METADATA, archive))
    fetch({name: ARCHIVES_SHA1[name] for name in names}, folder, mirror or MIRROR)


def check_archives(*inside: Path) -> None:
    """Check the SHA-1 of the archives that these paths lead into.

    Raises:
        UserError: one is not as published, or none of the paths leads into an archive.
    """
    found = dict.fromkeys(path for below in inside for path in below.parents if is_archive(path))
    if not found:
        raise UserError(
            f"--verify: {inside[0]} is unpacked; checksums are published for the archives, "
            f"such as {' and '.join(list(ARCHIVES_SHA1)[:2])}"
        )
    total = sum(path.stat().st_size for path in found)
    with progress_bar(
        total=total, description="Verifying", unit="B", unit_scale=True, unit_divisor=1024
    ) as bar:
        for path in found:
            digest = hashlib.sha1(usedforsecurity=False)
            with open(path, "rb") as file:
                while block := file.read(HASHED_BYTES):
                    digest.update(block)
                    bar.update(len(block))
            _check_sha1(path, digest.hexdigest())


def _check_sha1(path: Path, sha1: str) -> None:
    original = next((name for name, known in ARCHIVES_SHA1.items() if known == sha1), "")
    if original:
        logger.info("%s is %s as published", path, original)
        return
    published = ARCHIVES_SHA1.get(path.name)
    expected = f"not the published {published}: it is" if published else "of no archive of FMA:"
    raise UserError(f"--verify: {path} has SHA-1 {sha1}, {expected} incomplete or changed")
