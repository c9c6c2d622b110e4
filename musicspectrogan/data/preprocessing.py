"""Music -> PNGs in class folders: the whole of `preprocess`, whatever the source."""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import joblib

from musicspectrogan.audio.images import ends_whole, segment_of_image, track_of_image
from musicspectrogan.audio.spectrogram import SpectrogramConfig, mel_filterbank
from musicspectrogan.counts import counted
from musicspectrogan.data import sources
from musicspectrogan.data.conversion import convert_track, outcome_of
from musicspectrogan.data.credits import (
    CREDITS_NAME,
    Credit,
    credit_of_file,
    read_credits,
    write_credits,
)
from musicspectrogan.data.manifest import (
    CONVERTED,
    EXCLUDED,
    MANIFEST_NAME,
    REPORT_NAME,
    SKIPPED,
    Manifest,
    Outcome,
    Report,
    assign_splits,
    is_foreign,
)
from musicspectrogan.data.ownership import is_own_image, is_own_unfinished, own_images
from musicspectrogan.data.parallel import LOCAL, LOST, in_parallel
from musicspectrogan.data.pixels import is_cache
from musicspectrogan.data.settings import DASK, PreprocessConfig
from musicspectrogan.data.sources import Track
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import (
    is_clutter,
    make_folder,
    sole_writer,
    sync_file_system,
    sync_folder,
    visible_folders,
)
from musicspectrogan.plugins import load_module, module_names
from musicspectrogan.progress import progress_bar

logger = logging.getLogger(__name__)

REASONS_SHOWN = 15
# Between two syncs, as a multiple of the time that the last one took. Workers go on meanwhile.
REST_AFTER_SYNC = 10.0


def preprocess(config: PreprocessConfig) -> Manifest:
    """Convert a dataset, or go on where an earlier run stopped.

    Returns:
        The manifest as written to dataset.json.

    Raises:
        UserError: no such input, settings that differ from those of the images already there,
            nothing that could be converted, or any skipped file under `strict`.
    """
    spectrogram = config.spectrogram()
    empty = int((mel_filterbank(spectrogram).max(axis=1) == 0).sum())
    if empty > spectrogram.n_mels // 4:
        raise UserError(
            f"{empty} of {spectrogram.n_mels} mel bands would stay black; raise --n-fft"
        )
    if empty:
        logger.warning(
            "%d mel bands are narrower than a Fourier bin and stay black: raise --n-fft", empty
        )
    _refuse_foreign(config.output)
    with joblib.parallel_config(n_jobs=config.jobs or -1):
        return _preprocess(config, spectrogram)


def _preprocess(config: PreprocessConfig, spectrogram: SpectrogramConfig) -> Manifest:
    tracks = _find_tracks(config)
    if not tracks:
        raise UserError(
            f"--input {config.input}: no music of the kind --dataset {config.dataset} in it"
        )
    # A dataset may be given away: it does not tell where on this machine the music lies.
    below = config.input or Path()
    tracks = [replace(track, name=os.path.relpath(track.path, below)) for track in tracks]
    if config.backend == DASK:  # workers have working directories of their own
        config = replace(config, output=config.output.absolute())
        tracks = [replace(track, path=track.path.absolute()) for track in tracks]
    wanted = Manifest(
        source=config.dataset,
        spectrogram=spectrogram,
        selection={
            "input": config.input.resolve().name if config.input else None,
            **config.selection.asked_for(),
        },
    )
    make_folder(config.output)
    with _workers(config, tracks) as backend, sole_writer(config.output, "preprocessing"):
        _claim(config.output, wanted, overwrite=config.overwrite)
        report = Report(config.output)
        before = dict(report.outcomes)
        _convert_all(tracks, report, config, spectrogram, backend)
        # The split is the source's of today: folders may have been moved since.
        outcomes = [replace(report.outcomes[track.id], split=track.split) for track in tracks]
        converted = sorted(
            (o for o in outcomes if o.status == CONVERTED), key=lambda o: (o.genre, o.track)
        )
        _summarise(outcomes, config.output)
        if not converted:
            common = Counter(o.reason for o in outcomes).most_common(1)[0][0]
            raise UserError(
                f"nothing converted: all {len(outcomes)} files were left out, most of them for: "
                f"{common}; see {config.output / REPORT_NAME}"
            )
        own = {track.split for track in tracks}
        splits = assign_splits(converted, {track.id: track.group for track in tracks}, own)
        wanted.genres = sorted({outcome.genre for outcome in converted})
        wanted.tracks = [
            {
                "id": outcome.track,
                "genre": outcome.genre,
                "split": splits[outcome.track],
                "segments": outcome.segments,
                "reference_db": outcome.reference_db,
                "seconds": outcome.seconds,
            }
            for outcome in converted
        ]
        unchanged = {
            name for name, outcome in report.outcomes.items() if before.get(name) == outcome
        }
        _write_credits(config.output, tracks, {outcome.track for outcome in converted}, unchanged)
        wanted.write(config.output)
    skipped = sum(outcome.status == SKIPPED for outcome in outcomes)
    if config.strict and skipped:
        raise UserError(
            f"{skipped} files were skipped (--strict); mend or remove what "
            f"{config.output / REPORT_NAME} names, or leave --strict away"
        )
    return wanted


def _write_credits(
    output: Path, tracks: Iterable[Track], converted: set[str], unchanged: set[str]
) -> None:
    """Write the credits of what was converted; no file where the source knows that there are none.

    Where the tags of files tell, an unchanged track keeps its line, and with it what was added by hand.
    """
    known = read_credits(output) or {}
    credits = {name: known[name] for name in known.keys() & unchanged}
    taken = sorted(
        (t for t in tracks if t.id in converted), key=lambda track: (track.genre, track.id)
    )
    for track in taken:
        if track.credit is not None:
            credits[track.id] = track.credit
        elif track.id not in credits:
            credits[track.id] = credit_of_file(track.path)
    uncredited = all(track.credit == Credit() for track in taken)
    write_credits(output, {} if uncredited else {track.id: credits[track.id] for track in taken})


@contextmanager
def _workers(config: PreprocessConfig, tracks: list[Track]) -> Iterator[Any]:
    """What converts the tracks: a backend for `in_parallel`."""
    if config.backend != DASK:
        yield LOCAL
        return
    try:
        from musicspectrogan.data.cluster import connected  # dask is an extra, and slow to import
    except ImportError:
        raise UserError(
            "--backend dask needs the package distributed, here and where the workers run: "
            "pip install 'musicspectrogan[dask]', or pip install distributed"
        ) from None
    music = config.input.absolute() if config.input else tracks[0].path.parent
    with connected(config.scheduler, config.output, music) as backend:
        yield backend


def _find_tracks(config: PreprocessConfig) -> list[Track]:
    """The source's tracks with unique ids, at most `limit` a genre beside the excluded ones."""
    if not config.dataset:
        raise UserError(f"--dataset is missing: one of {', '.join(module_names(sources))}")
    source = load_module(sources, "dataset", config.dataset, sources.DEFINED)
    selection = config.selection
    for option in selection.asked_for():
        if option not in source.OPTIONS:
            flag = option.replace("_", "-")
            raise UserError(f"--{flag} means nothing for --dataset {config.dataset}; leave it away")
    found = source.find_tracks(config.input, selection)
    sources.check_tracks(found, config.dataset)
    tracks = sources.with_unique_ids(found, config.input or Path())
    taken: Counter[str] = Counter()
    chosen = []
    for track in tracks:
        if not track.excluded:
            taken[track.genre] += 1
            if selection.limit and taken[track.genre] > selection.limit:
                continue
        chosen.append(_beside_own_names(track))
    return chosen


def _beside_own_names(track: Track) -> Track:
    """A class that is called like a file of ours beside the class folders gets another name."""
    if track.genre.lower() in (MANIFEST_NAME, REPORT_NAME, CREDITS_NAME):
        return replace(track, genre=f"_{track.genre}")
    return track


def _refuse_foreign(output: Path) -> None:
    """Raise UserError for a folder with files that are not ours; nothing of it is touched."""
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


def _claim(output: Path, wanted: Manifest, *, overwrite: bool) -> None:
    """Make the output ours: new, continued with the same settings, or cleared for new ones."""
    try:
        present = Manifest.read(output)
    except UserError:
        if not overwrite:
            raise
        present = None
    if present is not None and not overwrite:
        differences = _differences(present, wanted)
        if differences:
            raise UserError(
                f"--output {output} was made with other settings ({'; '.join(differences)}); "
                "give another --output, or --overwrite to replace it"
            )
    if overwrite:
        _clear(output)
    if present is None or overwrite:
        wanted.write(output)


def _differences(present: Manifest, wanted: Manifest) -> list[str]:
    """`name: was X, now Y` for every setting that differs."""

    def settings(manifest: Manifest) -> dict[str, object]:
        return {
            "dataset": manifest.source,
            **asdict(manifest.spectrogram),
            **manifest.selection,
            # Older datasets have the whole path; music that was moved is the same music.
            "input": Path(manifest.selection.get("input") or "").name,
        }

    before, now = settings(present), settings(wanted)
    return [
        f"{name}: was {before.get(name)}, now {now.get(name)}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]


def _clear(output: Path) -> None:
    """Remove the images, caches, credits and report of an earlier run, by what they say, and no more.

    The manifest stays until the new one takes its place: it tells that the folder is ours. By then the rest
    is gone from the disk, so that a power cut cannot leave images of the old settings below the new ones.
    """
    write_credits(output, {})
    for folder in visible_folders(output):
        removed = own_images(folder)
        for path in removed:
            path.unlink()
        sync_folder(folder)
        left = sum(1 for _ in folder.iterdir())
        if removed and not left:
            folder.rmdir()
        elif left:
            logger.warning("%s: %d files in it are not of preprocess, and stay", folder, left)
    for path in [*filter(is_cache, output.iterdir()), output / REPORT_NAME]:
        path.unlink(missing_ok=True)
    sync_folder(output)


def _convert_all(
    tracks: list[Track],
    report: Report,
    config: PreprocessConfig,
    spectrogram: SpectrogramConfig,
    backend: Any,
) -> None:
    """Convert every track that the report does not already show as done; one bar for all."""
    candidates = [track for track in tracks if not track.excluded]
    for genre in {track.genre for track in candidates}:
        make_folder(config.output / genre)
    present = _present_images(config.output)
    _drop_vanished(tracks, report, present, config.output)
    report.append(*(_left_out(track) for track in tracks if track.excluded))
    files = {track.id: _file_facts(track.path) for track in candidates}
    pending = _pending(candidates, files, report, present, config.output)
    if len(pending) < len(candidates):
        logger.info(
            "%d of %d tracks were converted before", len(candidates) - len(pending), len(candidates)
        )
    # Workers on other machines sync what they write themselves.
    together = backend == LOCAL and sync_file_system(config.output)
    work = partial(convert_track, output=config.output, config=spectrogram, sync=not together)
    lost = partial(_lost, output=config.output)
    with (
        progress_bar(total=len(pending), description="Converting", unit="track") as bar,
        _recording(report, config.output if together else None) as record,
    ):
        # Two at least where there is a choice: a decoder that crashes ends its own process.
        jobs = config.jobs and min(config.jobs, max(2, len(pending)))
        for outcome in in_parallel(work, pending, lost=lost, jobs=jobs, backend=backend):
            record(replace(outcome, **files[outcome.track]))
            bar.update()
    if pending and config.input and not _holds_anything(config.input):
        raise UserError(
            f"--input {config.input}: vanished while it was read; give the same command again when it is back"
        )
    ours = {track.genre for track in tracks} | {
        outcome.genre for outcome in report.outcomes.values()
    }
    for folder in visible_folders(config.output):
        _image_names(folder)  # workers that died have left something half-written
        if folder.name in ours and not any(folder.iterdir()):
            folder.rmdir()  # ImageFolder refuses a class without images


def _file_facts(path: Path) -> dict[str, int | None]:
    """What tells one state of an input file from another, as the report has it.

    Taken before it is read, so that a file that changes meanwhile is converted once more.
    """
    try:
        status = path.stat()
    except OSError:  # gone; what was made of it is kept
        return {"bytes": None, "modified_ns": None}
    return {"bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def _left_out(track: Track) -> Outcome:
    """The report's line about a track that is not tried."""
    return outcome_of(track, SKIPPED if track.unreadable else EXCLUDED, track.excluded)


@contextmanager
def _recording(report: Report, unsynced: Path | None) -> Iterator[Callable[[Outcome], None]]:
    """Yield a function that takes outcomes for the report. They are added some at a time.

    Args:
        unsynced: the folder of their images, which are synced before; None for images that are already.
    """
    taken: list[Outcome] = []
    due = 0.0

    def add() -> None:
        nonlocal due
        begun = monotonic()
        if unsynced is not None:
            sync_file_system(unsynced)
        report.append(*taken)
        taken.clear()
        ended = monotonic()
        due = ended + REST_AFTER_SYNC * (ended - begun)

    def take(outcome: Outcome) -> None:
        taken.append(outcome)
        if monotonic() >= due:
            add()

    try:
        yield take
    finally:  # also when interrupted: what is finished need not be done again
        if taken:
            add()


def _lost(track: Track, output: Path) -> Outcome:
    """A track that killed its worker, and may have had some images by then."""
    folder = output / track.genre
    for name in _image_names(folder):
        if track_of_image(name) == track.id and is_own_image(folder / name, track.id):
            (folder / name).unlink()
    return outcome_of(track, SKIPPED, LOST)


def _holds_anything(folder: Path) -> bool:
    """False also for the empty folder where a disk was mounted."""
    return folder.is_dir() and any(folder.iterdir())


# File names of the images of each (genre, track id). Names and not paths, because there may be millions.
Present = dict[tuple[str, str], list[str]]


def _present_images(output: Path) -> Present:
    present: Present = defaultdict(list)
    for folder in visible_folders(output):
        genre = folder.name
        for name in _image_names(folder):
            present[genre, track_of_image(name)].append(name)
    return present


def _image_names(folder: Path) -> list[str]:
    """Names as images of ours have them in a class folder, once what we left half-written is removed."""
    names = []
    for name in os.listdir(folder):
        if name.startswith("."):
            if is_own_unfinished(folder, name):
                (folder / name).unlink(missing_ok=True)
        elif name.endswith(".png") and segment_of_image(name) is not None:
            names.append(name)
    return names


def _drop_vanished(tracks: Iterable[Track], report: Report, present: Present, output: Path) -> None:
    """Remove the images of tracks that were converted before and are no longer wanted."""
    wanted = {(track.genre, track.id) for track in tracks if not track.excluded}
    ids = {track.id for track in tracks}
    dropped = [
        outcome
        for outcome in report.outcomes.values()
        if outcome.status == CONVERTED and (outcome.genre, outcome.track) not in wanted
    ]
    removed = 0
    for outcome in dropped:
        for name in present.pop((outcome.genre, outcome.track), []):
            if is_own_image(output / outcome.genre / name, outcome.track):
                (output / outcome.genre / name).unlink()
                removed += 1
    if dropped:
        logger.warning(
            "Removed %s of %s that --input has no longer, or not as this track of this class",
            counted(removed, "image"),
            counted(len(dropped), "track"),
        )
    for genre in {outcome.genre for outcome in dropped if (output / outcome.genre).is_dir()}:
        sync_folder(
            output / genre
        )  # or the images may come back, and nothing knows of them any more
    gone = {"status": EXCLUDED, "reason": "no longer in the input", "segments": 0}
    report.append(*(replace(outcome, **gone) for outcome in dropped if outcome.track not in ids))


def _pending(
    tracks: Iterable[Track],
    files: Mapping[str, dict[str, int | None]],
    report: Report,
    present: Present,
    output: Path,
) -> list[Track]:
    """Tracks that are still to be done, with whatever an interrupted attempt left of them removed.

    A track is done when its line says so, of the file as it is now, and its images are all there and whole.
    Those skipped before are tried again: the file may have been mended, or a decoder installed.

    Args:
        files: size and time of each track's file, by its id.
    """
    pending, undone, leftover, unknown, n_cut, n_changed = [], [], [], [], 0, 0
    for track in tracks:
        folder = f"{output}/{track.genre}/"  # and no Path, for there may be millions of images
        images = [folder + name for name in present.get((track.genre, track.id), [])]
        done = report.outcomes.get(track.id)
        if done and done.status == CONVERTED:
            facts = files[track.id]
            noted = {name: getattr(done, name) for name in facts}
            changed = None not in (*noted.values(), *facts.values()) and noted != facts
            all_there = len(images) == done.segments and all(map(ends_whole, images))
            if not all_there:  # or others' files have names like ours: that takes a closer look
                images = [path for path in images if is_own_image(path, track.id)]
            cut = [path for path in images if not ends_whole(path)]
            if len(images) == done.segments and not cut and not changed:
                if noted != facts and None not in facts.values():  # noted by no earlier version
                    unknown.append(replace(done, **facts))
                continue
            n_cut += len(cut)
            n_changed += changed
            undone.append(track.id)
        leftover += [path for path in images if is_own_image(path, track.id)]
        pending.append(track)
    report.append(*unknown)
    if n_changed:
        logger.info(
            "%d files have changed since they were converted; they are converted again", n_changed
        )
    if n_cut:
        logger.warning("%d images are empty or cut short; their tracks are converted again", n_cut)
    report.forget(undone)
    for path in leftover:
        Path(path).unlink()
    return pending


def _summarise(outcomes: list[Outcome], output: Path) -> None:
    converted = [o for o in outcomes if o.status == CONVERTED]
    logger.info(
        "Converted %d of %d tracks into %s of %s in %s",
        len(converted),
        sum(o.status != EXCLUDED for o in outcomes),
        counted(sum(o.segments for o in converted), "image"),
        counted(len({o.genre for o in converted}), "genre"),
        output,
    )
    groups: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.reason:
            status = "converted with a warning" if outcome.status == CONVERTED else outcome.status
            groups[status, outcome.reason].append(outcome.track)
    by_size = sorted(groups.items(), key=lambda item: -len(item[1]))
    for (status, reason), names in by_size[:REASONS_SHOWN]:
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        logger.warning("  %d %s: %s (%s)", len(names), status, reason, shown)
    if len(by_size) > REASONS_SHOWN:
        logger.warning("  … and %d other reasons", len(by_size) - REASONS_SHOWN)
    if by_size:
        logger.warning("  every file's line is in %s", output / REPORT_NAME)
