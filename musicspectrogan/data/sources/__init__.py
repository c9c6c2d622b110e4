"""Where music comes from. One module a dataset; the file's name is the name on the command line.

A source module defines

    OPTIONS: tuple[str, ...]                          the fields of `Selection` that it understands
    find_tracks(root: Path | None, selection: Selection) -> list[Track]

and nothing else: decoding, encoding, splits, reports and parallel work are shared.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from zlib import crc32

from musicspectrogan.audio.files import AUDIO_SUFFIXES, is_audio
from musicspectrogan.config import check_at_least
from musicspectrogan.data.credits import Credit
from musicspectrogan.data.licences import kinds_asked_for
from musicspectrogan.data.manifest import SPLITS
from musicspectrogan.data.splits import SPLIT_FOLDERS
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import caseless, is_clutter, safe_name

logger = logging.getLogger(__name__)

# Kinds of audio that are not read; where one lies among the music, the report says so.
UNREAD_SUFFIXES = frozenset(
    ".mid .midi .mod .xm .it .m4b .m4p .caf .w64 .rf64 .tta .mpc .dsf .dff .spx .amr .ac3 .dts .ra".split()
)
# Folders for validation where there is one for tests too, and otherwise for tests.
EVALUATION_FOLDERS = ("eval", "evaluation")

# What a source module defines.
DEFINED = ("OPTIONS", "find_tracks")


@dataclass(frozen=True)
class Track:
    """One input file and what is known about it before it is decoded."""

    id: str
    """Unique in the dataset, and safe as a file name."""
    genre: str
    """Also the class folder's name."""
    path: Path
    split: str = ""
    """training, validation or test where the dataset defines it; empty: assigned by a hash of the id."""
    group: str = ""
    """The folder of an album, with a slash in it; its tracks go to one split. Empty: a track by itself."""
    known_fault: str = ""
    """What is known to be wrong with this file; added to its line in the report."""
    excluded: str = ""
    """Why it is left out, before any attempt; empty: it is converted."""
    unreadable: bool = False
    """It is left out because it cannot be read, not by choice."""
    credit: Credit | None = None
    """What the dataset says about whose it is; None: the tags of the file tell, if anything does."""
    name: str = ""
    """The path below the input folder, for the report; filled in when all tracks are found."""


@dataclass(frozen=True)
class Selection:
    """Which tracks of a dataset are taken. A source refuses the options that mean nothing to it."""

    limit: int | None = None
    """Take the first N tracks of each genre; None for all."""
    subset: str | None = None
    """FMA only: small, medium, large or full; None for small."""
    license: str | None = None
    """FMA only: keep tracks with these licences, such as by or by,cc0, and with no other; None for all."""
    exclude_faults: bool = False
    """GTZAN only: leave out the clips that are known to be replicas or mislabelled."""
    tracks_per_genre: int | None = None
    """Demo only: clips composed for each genre; None for 40."""
    seed: int | None = None
    """Demo only: another seed is other music; None for 0."""

    def __post_init__(self) -> None:
        check_at_least(self, limit=1, tracks_per_genre=1, seed=0)
        if self.license is not None:  # one spelling, which dataset.json is compared by
            object.__setattr__(self, "license", ",".join(kinds_asked_for(self.license)))

    def asked_for(self) -> dict[str, str | int | bool]:
        """The options that were given, by name."""
        return {k: v for k, v in asdict(self).items() if v not in (None, False)}


@dataclass(frozen=True)
class Found:
    """An audio file below a folder, or what is passed over there."""

    path: Path
    passed_over: str = ""
    """Why; empty for a file that is taken."""
    unreadable: bool = False
    """It is passed over because the system does not let it be read."""


def audio_files(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[Found]:
    """All audio files below a folder, sorted within each level, also those that are not taken.

    Args:
        above: the real folders on the way down to this one, which no link leads into again.
    """
    above |= {os.path.realpath(folder)}
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        yield _unreadable(folder, error)
        return
    for entry in found:
        path = folder / entry.name
        try:
            is_folder = entry.is_dir()
        except OSError as error:
            yield _unreadable(path, error)
            continue
        if is_folder:
            if entry.is_symlink() and os.path.realpath(path) in above:
                continue  # without end
            inside = audio_files(path, above)
            yield from map(_in_clutter, inside) if is_clutter(entry.name) else inside
        elif is_audio(entry.name):
            yield Found(path)
        elif reason := _why_no_audio(entry.name):
            yield Found(path, reason)


def _unreadable(path: Path, error: OSError) -> Found:
    return Found(path, f"cannot be read: {error.strerror}", unreadable=True)


def _in_clutter(found: Found) -> Found:
    """The same, found in the folder of a system or a tool, where no music is missed."""
    return replace(
        found, passed_over=found.passed_over or "in a folder of the system", unreadable=False
    )


def _why_no_audio(name: str) -> str:
    """Why a file that looks like audio is not taken; empty for one that does not."""
    suffix = f".{name.lower().rpartition('.')[2]}"
    if suffix in AUDIO_SUFFIXES:
        return "a file of the system, not audio"
    return f"{suffix} is not read; convert it to WAV" if suffix in UNREAD_SUFFIXES else ""


def holds_audio(folder: Path) -> bool:
    """True when an audio file that would be taken is anywhere below."""
    return any(not found.passed_over for found in audio_files(folder))


def left_out(found: Found, root: Path, reason: str = "") -> Track:
    """The track that stands in the report for what is passed over below `root`."""
    below = os.path.relpath(found.path, root)
    name = safe_name(f"{below.replace(os.sep, '-')}-{crc32(os.fsencode(below)):08x}")
    return Track(
        name, "", found.path, excluded=found.passed_over or reason, unreadable=found.unreadable
    )


def id_below(path: Path, folder: Path) -> str:
    """A track's id: the path below its class folder, joined by hyphens, without the suffix."""
    return safe_name(str(path)[len(str(folder)) + 1 :].rpartition(".")[0].replace(os.sep, "-"))


def splits_of_folders(classes: Mapping[str, Collection[str]]) -> dict[str, str]:
    """The split that each folder stands for, such as `train` and `test`, as in `Track.split`.

    Args:
        classes: the names of the class folders in each.

    Returns:
        Empty unless all are named after splits, one is for training, and each has a class of it: two classes
        called Train and Test do not. The split of training tracks is empty where others are drawn from them.
    """
    kinds = {name: name.casefold() for name in classes}
    known = SPLIT_FOLDERS | dict.fromkeys(EVALUATION_FOLDERS, "test")
    if "test" in {SPLIT_FOLDERS.get(kind) for kind in kinds.values()}:
        known |= dict.fromkeys(EVALUATION_FOLDERS, "validation")
    splits = {name: known.get(kind, "") for name, kind in kinds.items()}
    present = set(splits.values())
    trained = {
        each for name, split in splits.items() if split == "training" for each in classes[name]
    }
    if (
        not trained
        or "" in present
        or any(trained.isdisjoint(inside) for inside in classes.values())
    ):
        return {}
    drawn = [split for split in ("validation", "test") if split not in present]
    logger.info(
        "%s: taken for the splits%s",
        ", ".join(
            f"{name}/ for {split}" for split in SPLITS for name in splits if splits[name] == split
        ),
        f"; tracks for {' and '.join(drawn)} are drawn from those for training" if drawn else "",
    )
    return {name: "" if drawn and split == "training" else split for name, split in splits.items()}


def check_tracks(tracks: Iterable[Track], source: str) -> None:
    """Raise UserError where a source gives what no track may be; the mistake is in its module."""
    for track in tracks:
        if not isinstance(track, Track):
            problem = f"find_tracks must give Track objects, and gave {track!r}"
        elif not all(name == safe_name(name) for name in (track.id, track.genre) if name):
            problem = (
                f"the id {track.id!r} or the genre {track.genre!r} is no file name; use safe_name"
            )
        else:
            continue
        raise UserError(f"--dataset {source}: musicspectrogan/data/sources/{source}.py: {problem}")


def with_unique_ids(tracks: Iterable[Track], root: Path) -> list[Track]:
    """Tracks whose ids collide (also where case is ignored) get a short hash of their path below `root`."""
    tracks = list(tracks)
    seen = Counter(caseless(track.id) for track in tracks)

    def unique(track: Track) -> Track:
        if seen[caseless(track.id)] == 1:
            return track
        tag = crc32(os.fsencode(os.path.relpath(track.path, root)))
        return replace(track, id=f"{track.id}-{tag:08x}")

    return [unique(track) for track in tracks]


def readable_folders(folder: Path) -> list[Path]:
    """Its sub-folders that are not clutter, sorted; none, with a warning, where it cannot be read."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        logger.warning("%s: cannot be read and is passed over: %s", folder, error.strerror)
        return []
    return [folder / name for name in names if not is_clutter(name) and is_folder(folder / name)]


def is_folder(path: Path) -> bool:
    """Whether a folder is there; False where the system does not say."""
    try:
        return path.is_dir()
    except OSError:
        return False


def require_folder(root: Path | None, dataset: str) -> Path:
    """The input folder, or a UserError when none was given or it is not there."""
    if root is None:
        raise UserError(f"--input is missing: name the folder that holds {dataset}")
    if not root.exists():
        raise UserError(f"--input {root}: there is no such folder")
    if not root.is_dir():
        raise UserError(f"--input {root} is a file; name the folder that holds the music")
    return root


def one_root(
    start: Path, is_root: Callable[[Path], bool], *, depth: int = 3
) -> tuple[Path | None, list[Path]]:
    """Find the dataset's root at `start` or up to `depth` levels below it.

    Returns:
        The root, or None; and all candidates, so that the caller can name them when there are many.
    """
    found: list[Path] = []

    def look(folder: Path, levels: int) -> None:
        if is_root(folder):
            found.append(folder)
        elif levels:
            for child in readable_folders(folder):
                look(child, levels - 1)

    look(start, depth)
    return (found[0] if len(found) == 1 else None), found
