"""The output folder of preprocess: which files in it are ours, and which tracks are finished.

No other file is ever removed or overwritten.
"""

from __future__ import annotations

import logging
import os
import re
import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from musicspectrogan.audio import VOCODER_NAME
from musicspectrogan.audio.images import ends_whole, segment_of_image, track_of_image
from musicspectrogan.counts import format_count
from musicspectrogan.data.credits import write_credits
from musicspectrogan.data.manifest import (
    CONVERTED,
    EXCLUDED,
    MANIFEST_NAME,
    REPORT_NAME,
    Manifest,
    Report,
    is_foreign,
)
from musicspectrogan.data.metadata import remove_metadata
from musicspectrogan.data.pixels import is_cache
from musicspectrogan.data.sources import Track
from musicspectrogan.errors import UserError, printable
from musicspectrogan.filesystem import is_clutter, sync_folder, visible_folders

logger = logging.getLogger(__name__)

# The text chunks of an image come first and take about 400 bytes.
_HEAD_BYTES = 4096
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# The position of the type of the second chunk in a PNG, and what our images have there.
_SECOND_CHUNK, _OUR_TEXT = 37, b'tEXtspectrogram\0{"sample_rate"'
_UNFINISHED = re.compile(r"\.(.+\.png)(\.[0-9a-f]{8})?\.tmp")

# Names of the images of each (genre, track id); names, not paths, as there may be millions.
Images = dict[tuple[str, str], list[str]]
# Size and modification time in ns of each input file; None if unknown.
Stat = tuple[int | None, int | None]


def is_own_image(path: str | Path, track: str) -> bool:
    """Return True for an image of a track according to its text chunks.

    Also for the start of one, as a power cut leaves it. Reads the first bytes only: 80,000 images
    take a second.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            head = os.read(descriptor, _HEAD_BYTES)
        finally:
            os.close(descriptor)
    except OSError:
        return False
    texts, has_pixels = _read_texts(head)
    if "spectrogram" in texts and texts.get("track") == printable(track):
        return True
    start = head.rstrip(b"\0")
    second_chunk = start[_SECOND_CHUNK : _SECOND_CHUNK + len(_OUR_TEXT)]
    starts_like_ours = _SIGNATURE.startswith(start[:8]) and _OUR_TEXT.startswith(second_chunk)
    return starts_like_ours and not has_pixels


def _read_texts(head: bytes) -> tuple[dict[str, str], bool]:
    """Return the complete text chunks at the start of a PNG, and whether pixels follow."""
    texts: dict[str, str] = {}
    position = len(_SIGNATURE) if head.startswith(_SIGNATURE) else len(head)
    while position + 8 <= len(head):
        length, kind = struct.unpack_from(">I4s", head, position)
        data = head[position + 8 : position + 8 + length]
        position += 12 + length
        if kind == b"IDAT":
            return texts, True
        if kind in (b"tEXt", b"iTXt") and len(data) == length:
            name, _, value = data.partition(b"\0")
            # iTXt has four zeros here if it has no compression, language or translation.
            text = value.removeprefix(b"\0\0\0\0").decode("utf-8", "replace")
            texts[name.decode("latin-1")] = text
    return texts, False


def own_images(folder: Path) -> list[Path]:
    """Return our images in a class folder, including unfinished ones."""
    names = os.listdir(folder)
    own = [name for name in names if _is_unfinished(folder, name)]
    own += [n for n in names if _is_image(n) and is_own_image(folder / n, track_of_image(n))]
    return [folder / name for name in own]


def _is_image(name: str) -> bool:
    named = name.endswith(".png") and not name.startswith(".")
    return named and segment_of_image(name) is not None


def _is_unfinished(folder: Path, name: str) -> bool:
    """Return True for an unfinished image of ours; no other process may be writing it now."""
    match = _UNFINISHED.fullmatch(name) if name.startswith(".") else None
    return match is not None and is_own_image(folder / name, track_of_image(match[1]))


def image_names(folder: Path) -> list[str]:
    """Return the names in a class folder that look like our images; remove unfinished images."""
    names = os.listdir(folder)
    for name in names:
        if _is_unfinished(folder, name):
            (folder / name).unlink(missing_ok=True)
    return [name for name in names if _is_image(name)]


def find_images(output: Path) -> Images:
    """Return the names that look like images of each track; remove unfinished images."""
    images: Images = defaultdict(list)
    for folder in visible_folders(output):
        genre = folder.name
        for name in image_names(folder):
            images[genre, track_of_image(name)].append(name)
    return images


def check_output(output: Path) -> None:
    """Raise UserError for a folder with files that are not ours; change nothing."""
    if not output.is_dir():
        return
    if is_foreign(output):
        raise UserError(
            f"--output {output}: its {MANIFEST_NAME} is another tool's; give another --output"
        )
    report = output / REPORT_NAME
    if os.path.lexists(report) and not Report.is_in(output):
        raise UserError(
            f"{report} is not a report of this tool; move it away, or give another --output"
        )
    if (output / MANIFEST_NAME).is_file():
        return
    if any(not name.startswith(".") and not is_clutter(name) for name in os.listdir(output)):
        raise UserError(
            f"--output {output} holds files that preprocess did not write; give another folder"
        )


def prepare_output(output: Path, wanted: Manifest, *, overwrite: bool) -> None:
    """Write the manifest of a new folder, check that of an existing one, or replace it."""
    try:
        present = Manifest.read(output)
    except UserError:
        if not overwrite:
            raise
        present = None
    if not overwrite and present is not None and (changes := _compare(present, wanted)):
        raise UserError(
            f"--output {output} was made with other settings ({'; '.join(changes)}); "
            "give another --output, or --overwrite to replace it"
        )
    remove_metadata(output)
    if overwrite:
        _clear(output)
        if (output / VOCODER_NAME).exists():
            logger.warning(
                "%s was learned from the earlier music; learn another: "
                "python -m musicspectrogan vocoder %s --overwrite",
                output / VOCODER_NAME,
                output,
            )
    if present is None or overwrite:
        wanted.write(output)


def _compare(present: Manifest, wanted: Manifest) -> list[str]:
    """Return `name: was X, now Y` for each setting that differs."""

    def settings(manifest: Manifest) -> dict[str, object]:
        return {
            "dataset": manifest.source,
            **asdict(manifest.spectrogram),
            **manifest.selection,
            # Older datasets have the full path; music may be moved.
            "input": Path(manifest.selection.get("input") or "").name,
        }

    before, now = settings(present), settings(wanted)
    return [
        f"{name}: was {before.get(name)}, now {now.get(name)}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]


def _clear(output: Path) -> None:
    """Remove the images, caches, credits and report of an earlier run.

    The manifest stays until it is replaced, as it marks the folder as ours. All else is removed
    from the disk by then, so that a power cut cannot leave images with other settings.
    """
    write_credits(output, {})
    for folder in visible_folders(output):
        images = own_images(folder)
        for path in images:
            path.unlink()
        sync_folder(folder)
        others = sum(1 for _ in folder.iterdir())
        if others:
            count = format_count(others, "file")
            logger.warning("%s: keeping %s that preprocess did not write", folder, count)
        elif images:
            folder.rmdir()
    for path in [*filter(is_cache, output.iterdir()), output / REPORT_NAME]:
        path.unlink(missing_ok=True)
    sync_folder(output)


def remove_vanished(tracks: Iterable[Track], report: Report, images: Images, output: Path) -> None:
    """Remove the images of tracks that are no longer in the input."""
    wanted = {(track.genre, track.id) for track in tracks if not track.excluded}
    ids = {track.id for track in tracks}
    vanished = [
        outcome
        for outcome in report.outcomes.values()
        if outcome.status == CONVERTED and (outcome.genre, outcome.track) not in wanted
    ]
    n_removed = 0
    for outcome in vanished:
        for name in images.pop((outcome.genre, outcome.track), []):
            if is_own_image(output / outcome.genre / name, outcome.track):
                (output / outcome.genre / name).unlink()
                n_removed += 1
    if vanished:
        logger.warning(
            "Removed %s of %s no longer in the input, or not in the same class",
            format_count(n_removed, "image"),
            format_count(len(vanished), "track"),
        )
    # Sync before the report: after it, images that a power cut brings back would stay.
    for genre in {outcome.genre for outcome in vanished if (output / outcome.genre).is_dir()}:
        sync_folder(output / genre)
    report.append(
        *(
            replace(outcome, status=EXCLUDED, reason="no longer in the input", segments=0)
            for outcome in vanished
            if outcome.track not in ids
        )
    )


def select_pending(
    tracks: Iterable[Track], stats: Mapping[str, Stat], report: Report, images: Images, output: Path
) -> list[Track]:
    """Return the tracks to convert, and remove the images of their interrupted conversion.

    A track is finished if its line in the report matches its input file, and its images are all
    complete. Skipped tracks are tried again: the file may be repaired, or a decoder installed.

    Args:
        stats: size and modification time of each track's file, by its id.
    """
    pending, outdated, leftovers, unrecorded, n_cut, n_changed = [], [], [], [], 0, 0
    for track in tracks:
        folder = f"{output}/{track.genre}/"  # faster than Path for millions of images
        paths = [folder + name for name in images.get((track.genre, track.id), [])]
        outcome = report.outcomes.get(track.id)
        if outcome and outcome.status == CONVERTED:
            stat, recorded = stats[track.id], (outcome.bytes, outcome.modified_ns)
            changed = None not in (*recorded, *stat) and recorded != stat
            cut = [path for path in paths if not ends_whole(path)]
            if len(paths) != outcome.segments or cut:
                paths = [path for path in paths if is_own_image(path, track.id)]
                cut = [path for path in cut if path in paths]
            if len(paths) == outcome.segments and not cut and not changed:
                if recorded != stat and None not in stat:  # by an earlier version
                    unrecorded.append(replace(outcome, bytes=stat[0], modified_ns=stat[1]))
                continue
            n_cut += len(cut)
            n_changed += changed
            outdated.append(track.id)
        leftovers += [path for path in paths if is_own_image(path, track.id)]
        pending.append(track)
    report.append(*unrecorded)
    if n_changed:
        logger.info("Converting %s again", format_count(n_changed, "changed file"))
    if n_cut:
        incomplete = format_count(n_cut, "empty or incomplete image")
        logger.warning("Found %s; converting the tracks again", incomplete)
    report.forget(outdated)
    for path in leftovers:
        Path(path).unlink()
    return pending
