"""Convert music to spectrogram PNGs in class folders: the preprocess command."""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import TYPE_CHECKING

import joblib

from musicspectrogan.audio.images import track_of_image
from musicspectrogan.audio.spectrogram import SpectrogramConfig, mel_filterbank
from musicspectrogan.counts import format_count
from musicspectrogan.data import sources
from musicspectrogan.data.archives import file_status, in_archive, position
from musicspectrogan.data.conversion import Conversion, convert_track, make_outcome
from musicspectrogan.data.credits import (
    CREDITS_NAME,
    Credit,
    read_credit,
    read_credits,
    write_credits,
)
from musicspectrogan.data.listing import find_top
from musicspectrogan.data.manifest import (
    CONVERTED,
    EXCLUDED,
    MANIFEST_NAME,
    REPORT_NAME,
    SKIPPED,
    Manifest,
    Outcome,
    Report,
    record_music_folder,
)
from musicspectrogan.data.metadata import METADATA_NAME, write_metadata
from musicspectrogan.data.output import (
    Images,
    check_output,
    find_images,
    image_names,
    is_own_image,
    prepare_output,
    remove_vanished,
    select_pending,
)
from musicspectrogan.data.parallel import WORKER_DIED, connect, in_parallel
from musicspectrogan.data.settings import DASK, PreprocessConfig
from musicspectrogan.data.sources import Track
from musicspectrogan.data.splits import assign_splits
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import folder_lock, make_folder, sync_file_system, visible_folders
from musicspectrogan.progress import progress_bar

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)

REASONS_SHOWN, NAMES_SHOWN = 15, 5
# Time between two syncs as a multiple of the duration of the last. Workers continue meanwhile.
SYNC_PAUSE = 10.0


def preprocess(config: PreprocessConfig) -> Manifest:
    """Convert a dataset, or continue an earlier run.

    Returns:
        The manifest as written to dataset.json.

    Raises:
        UserError: no such input, other settings than those of existing images, nothing that could
            be converted, or any skipped file under `strict`.
    """
    spectrogram = config.spectrogram()
    _check_bands(spectrogram)
    check_output(config.output)
    with joblib.parallel_config(n_jobs=config.jobs or -1):
        tracks = _find_tracks(config)
        if config.backend == DASK:  # workers have other working directories
            config = replace(config, output=config.output.absolute())
            tracks = [replace(track, path=track.path.absolute()) for track in tracks]
        manifest = Manifest(
            source=config.dataset,
            spectrogram=spectrogram,
            selection={
                # Only the name: the dataset may be shared, and the music moved.
                "input": config.input.resolve().name if config.input else None,
                **config.selection.given(),
            },
        )
        make_folder(config.output)
        with _connect(config, tracks) as cluster, folder_lock(config.output, "preprocessing"):
            prepare_output(config.output, manifest, overwrite=config.overwrite)
            report = Report(config.output)
            before = dict(report.outcomes)
            credits, images = _convert_tracks(tracks, report, config, spectrogram, cluster)
            # The split of the source, which may have changed since an earlier run.
            outcomes = [replace(report.outcomes[track.id], split=track.split) for track in tracks]
            _log_summary(outcomes, config.output)
            _add_tracks(manifest, outcomes, tracks, config.output)
            unchanged = {t for t, outcome in report.outcomes.items() if before.get(t) == outcome}
            _write_credits(config.output, manifest, tracks, unchanged, credits)
            write_metadata(config.output, manifest, images)
            manifest.write(config.output)
            top = find_top(config.input) if config.input else Path()
            record_music_folder(config.output, top)
    n_skipped = sum(outcome.status == SKIPPED for outcome in outcomes)
    if config.strict and n_skipped:
        raise UserError(
            f"--strict: skipped {format_count(n_skipped, 'file')}; repair or remove what "
            f"{config.output / REPORT_NAME} lists as skipped, or omit --strict"
        )
    return manifest


def _check_bands(spectrogram: SpectrogramConfig) -> None:
    """Warn about mel bands without an FFT bin; raise UserError if there are many."""
    empty = int((mel_filterbank(spectrogram).max(axis=1) == 0).sum())
    if empty > spectrogram.n_mels // 4:
        raise UserError(
            f"{empty} of {spectrogram.n_mels} mel bands would stay black; raise --n-fft"
        )
    if empty:
        logger.warning(
            "%s narrower than an FFT bin will stay black; raise --n-fft",
            format_count(empty, "mel band"),
        )


def _find_tracks(config: PreprocessConfig) -> list[Track]:
    """Return the source's tracks with unique ids, at most `limit` per genre plus excluded ones."""
    if not config.dataset:
        raise UserError(f"--dataset is missing: one of {', '.join(sources.names())}")
    source = sources.get(config.dataset)
    selection = config.selection
    for option in selection.given():
        if option not in source.OPTIONS:
            flag = option.replace("_", "-")
            raise UserError(f"--{flag} has no effect with --dataset {config.dataset}; remove it")
    if config.download and config.input:
        if not isinstance(source, sources.DownloadableSource):
            raise UserError(f"--download has no effect with --dataset {config.dataset}; remove it")
        source.download(config.input, config.download, selection, config.mirror)
    top = config.input and find_top(config.input)
    if config.verify:
        if not isinstance(source, sources.VerifiableSource):
            raise UserError(f"--verify has no effect with --dataset {config.dataset}; remove it")
        source.verify(top, selection)
    found = source.find_tracks(top, selection)
    sources.check_tracks(found, config.dataset)
    root = top or Path()
    counts: Counter[str] = Counter()
    tracks = []
    for track in sources.with_unique_ids(found, root):
        if not track.excluded:
            counts[track.genre] += 1
            if selection.limit and counts[track.genre] > selection.limit:
                continue
        genre = track.genre
        if genre.lower() in (MANIFEST_NAME, REPORT_NAME, CREDITS_NAME, METADATA_NAME):
            genre = f"_{genre}"
        below = os.path.relpath(track.path, root)
        tracks.append(replace(track, genre=genre, relative_path=below))
    if not tracks:
        raise UserError(
            f"--input {config.input}: no music of the kind --dataset {config.dataset} in it"
        )
    return tracks


def _connect(
    config: PreprocessConfig, tracks: list[Track]
) -> AbstractContextManager[Client | None]:
    if config.backend != DASK or config.scheduler is None:
        return nullcontext()
    music = config.input.absolute() if config.input else tracks[0].path.parent
    return connect(config.scheduler, config.output, music)


def _convert_tracks(
    tracks: list[Track],
    report: Report,
    config: PreprocessConfig,
    spectrogram: SpectrogramConfig,
    cluster: Client | None,
) -> tuple[dict[str, Credit], Images]:
    """Convert all tracks that are not finished according to the report.

    Returns:
        The credits in the tags of their files, by track id, and the names of all images.
    """
    output = config.output
    candidates = [track for track in tracks if not track.excluded]
    for genre in {track.genre for track in candidates}:
        make_folder(output / genre)
    images = find_images(output)
    remove_vanished(tracks, report, images, output)
    report.append(
        *(
            make_outcome(track, SKIPPED if track.unreadable else EXCLUDED, track.excluded)
            for track in tracks
            if track.excluded
        )
    )
    # Read before conversion, so that a file that changes meanwhile is converted again.
    stats = {track.id: file_status(track.path) for track in candidates}
    pending = select_pending(candidates, stats, report, images, output)
    pending.sort(key=lambda track: position(track.path))
    if n_finished := len(candidates) - len(pending):
        logger.info("%d of %d tracks were converted before", n_finished, len(candidates))
    # Workers on other machines sync their files themselves.
    sync_here = cluster is None and sync_file_system(output)
    on_death = partial(_skip_crashed, output=output)
    credits: dict[str, Credit] = {}
    # At least two processes: one that crashes in a decoder must not be this one.
    jobs = config.jobs and min(config.jobs, max(2, len(pending)))
    with (
        _scratch_folder(pending, cluster) as scratch,
        progress_bar(total=len(pending), description="Converting", unit="track") as bar,
        _report_in_batches(report, output if sync_here else None) as add,
    ):
        convert = partial(
            convert_track, output=output, config=spectrogram, sync=not sync_here, scratch=scratch
        )
        for outcome, credit in in_parallel(
            convert, pending, on_death=on_death, jobs=jobs, cluster=cluster
        ):
            if credit is not None:
                credits[outcome.track] = credit
            size, modified_ns = stats[outcome.track]
            add(replace(outcome, bytes=size, modified_ns=modified_ns))
            bar.update()
    if pending and config.input and not _has_files(config.input):
        raise UserError(
            f"--input {config.input}: vanished while it was read; "
            "repeat the command when it is back"
        )
    genres = {track.genre for track in tracks}
    genres |= {outcome.genre for outcome in report.outcomes.values()}
    if pending:
        images = find_images(output)  # removes unfinished ones of workers that died
    for folder in visible_folders(output):
        if folder.name in genres and _is_empty(folder):
            folder.rmdir()  # ImageFolder does not accept a class without images
    return credits, images


def _is_empty(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is None


@contextmanager
def _scratch_folder(tracks: Iterable[Track], cluster: Client | None) -> Iterator[Path | None]:
    """Yield a folder for files from archives, also those of workers that crash; removed afterwards.

    None if there are none, and for the workers of a cluster, which have their own disks.
    """
    if cluster is not None or not any(in_archive(track.path) for track in tracks):
        yield None
        return
    with TemporaryDirectory(prefix="musicspectrogan-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _has_files(folder: Path) -> bool:
    """Return False also for an empty folder, such as the mount point of a removed disk."""
    return folder.is_file() or (folder.is_dir() and any(folder.iterdir()))


@contextmanager
def _report_in_batches(
    report: Report, unsynced: Path | None
) -> Iterator[Callable[[Outcome], None]]:
    """Yield a function that adds an outcome to the report, in batches.

    Args:
        unsynced: the folder of the images, to sync before each batch; None if they are synced.
    """
    batch: list[Outcome] = []
    next_flush = 0.0

    def flush() -> None:
        nonlocal next_flush
        start = monotonic()
        if unsynced is not None:
            sync_file_system(unsynced)
        report.append(*batch)
        batch.clear()
        end = monotonic()
        next_flush = end + SYNC_PAUSE * (end - start)

    def add(outcome: Outcome) -> None:
        batch.append(outcome)
        if monotonic() >= next_flush:
            flush()

    try:
        yield add
    finally:  # also if interrupted, to keep finished tracks
        if batch:
            flush()


def _skip_crashed(track: Track, output: Path) -> Conversion:
    """Skip a track that killed its worker, and remove images that it may have written."""
    folder = output / track.genre
    for name in image_names(folder):
        if track_of_image(name) == track.id and is_own_image(folder / name, track.id):
            (folder / name).unlink()
    return Conversion(make_outcome(track, SKIPPED, WORKER_DIED))


def _log_summary(outcomes: list[Outcome], output: Path) -> None:
    converted = [outcome for outcome in outcomes if outcome.status == CONVERTED]
    logger.info(
        "Converted %d of %d tracks into %s of %s in %s",
        len(converted),
        sum(outcome.status != EXCLUDED for outcome in outcomes),
        format_count(sum(outcome.segments for outcome in converted), "image"),
        format_count(len({outcome.genre for outcome in converted}), "genre"),
        output,
    )
    groups: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.reason:
            status = "converted with a warning" if outcome.status == CONVERTED else outcome.status
            groups[status, outcome.reason].append(outcome.track)
    by_size = sorted(groups.items(), key=lambda item: -len(item[1]))
    for (status, reason), names in by_size[:REASONS_SHOWN]:
        shown = ", ".join(names[:NAMES_SHOWN]) + (", …" if len(names) > NAMES_SHOWN else "")
        logger.warning("  %d %s: %s (%s)", len(names), status, reason, shown)
    if len(by_size) > REASONS_SHOWN:
        logger.warning("  … and %d other reasons", len(by_size) - REASONS_SHOWN)
    if by_size:
        logger.warning("  see %s for each file", output / REPORT_NAME)


def _add_tracks(
    manifest: Manifest, outcomes: list[Outcome], tracks: list[Track], output: Path
) -> None:
    """Add the converted tracks and their splits to the manifest.

    Raises:
        UserError: there is none.
    """
    converted = [outcome for outcome in outcomes if outcome.status == CONVERTED]
    converted.sort(key=lambda outcome: (outcome.genre, outcome.track))
    if not converted:
        reason = Counter(outcome.reason for outcome in outcomes).most_common(1)[0][0]
        raise UserError(
            f"nothing converted: left out {format_count(len(outcomes), 'file')}, most often for: "
            f"{reason}; repair what {output / REPORT_NAME} lists, or name other music with --input"
        )
    groups = {track.id: track.group for track in tracks}
    splits = assign_splits(converted, groups, own={track.split for track in tracks})
    manifest.genres = sorted({outcome.genre for outcome in converted})
    manifest.tracks = [
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


def _write_credits(
    output: Path,
    manifest: Manifest,
    tracks: Iterable[Track],
    unchanged: set[str],
    read: Mapping[str, Credit],
) -> None:
    """Write the credits of all converted tracks; no file if the source states there are none.

    Lines of unchanged tracks are kept, including edits by hand, unless the source has the credit.

    Args:
        read: credits from the tags of files that were converted by this command.
    """
    by_id = {track.id: track for track in tracks}
    converted = [by_id[track["id"]] for track in manifest.tracks]
    known = read_credits(output) or {}
    credits: dict[str, Credit] = {}
    for track in sorted(converted, key=lambda track: position(track.path)):
        if track.credit is not None:
            credits[track.id] = track.credit
        elif track.id in known and track.id in unchanged:
            credits[track.id] = known[track.id]
        else:  # not in `read` if an earlier command was interrupted
            credits[track.id] = read.get(track.id) or read_credit(track.path)
    uncredited = all(track.credit == Credit() for track in converted)
    write_credits(output, {} if uncredited else {t.id: credits[t.id] for t in converted})
