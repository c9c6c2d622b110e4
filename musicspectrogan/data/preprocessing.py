"""Music -> PNGs in class folders: the whole of `preprocess`, whatever the source."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from musicspectrogan.audio.files import AudioError, load
from musicspectrogan.audio.spectrogram import SpectrogramConfig, cut_images, encode
from musicspectrogan.config import check_at_least
from musicspectrogan.data import sources
from musicspectrogan.data.images import image_name, track_of_image, write_image
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
)
from musicspectrogan.data.parallel import in_parallel
from musicspectrogan.data.sources import Selection, Track
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import make_folder, sole_writer, visible_folders
from musicspectrogan.plugins import load_module, module_names
from musicspectrogan.progress import progress_bar

logger = logging.getLogger(__name__)

# No sample above -80 dBFS.
SILENCE = 10.0 ** (-80.0 / 20.0)

REASONS_SHOWN = 15


@dataclass(frozen=True)
class PreprocessConfig:
    """Turn music into mel-spectrogram PNGs in class folders."""

    dataset: str = ""
    """Kind of dataset: gtzan, fma, folder (any class folders of audio) or demo (composes its own music)."""
    input: Path | None = None
    """Folder that holds the music; for demo the folder it is composed in (default: demo_music)."""
    output: Path = Path("spectrogram_images")
    """Folder for the images; the same command again continues there."""
    jobs: int | None = None
    """Processes; None for one a core."""
    image_size: int = 64
    """Pixels a side: 64, 128 or 256; an image spans about three seconds at each."""
    limit: int | None = None
    """Take the first N tracks of each genre; None for all."""
    subset: str | None = None
    """FMA only: small, medium, large or full; None for small."""
    license: str | None = None
    """FMA only: keep tracks whose licence contains this text; None for all."""
    exclude_faults: bool = False
    """GTZAN only: leave out the clips that are known to be replicas or mislabelled."""
    tracks_per_genre: int | None = None
    """Demo only: clips composed for each genre; None for 40."""
    seed: int | None = None
    """Demo only: another seed is other music; None for 0."""
    strict: bool = False
    """Treat any file that has to be skipped as an error."""
    overwrite: bool = False
    """Remove what an earlier run with other settings left in the output, and start anew."""
    sample_rate: int | None = None
    """Hz; None for 22050."""
    n_fft: int | None = None
    """Samples in a Fourier frame; None for 2048."""
    hop_length: int | None = None
    """Samples from frame to frame; None for 1024 at 64 pixels, 512 at 128, 256 at 256."""
    f_min: float | None = None
    """Hz, lowest frequency shown; None for 0."""
    f_max: float | None = None
    """Hz, highest frequency shown; None for 8000."""
    top_db: float | None = None
    """dB from white to black; None for 80."""

    def __post_init__(self) -> None:
        check_at_least(self, jobs=1, limit=1, tracks_per_genre=1, seed=0)

    def selection(self) -> Selection:
        """The options that choose tracks."""
        return Selection(
            limit=self.limit,
            subset=self.subset,
            license=self.license,
            exclude_faults=self.exclude_faults,
            tracks_per_genre=self.tracks_per_genre,
            seed=self.seed,
        )

    def spectrogram(self) -> SpectrogramConfig:
        """The options that define the images."""
        return SpectrogramConfig.for_image_size(
            self.image_size,
            sample_rate=self.sample_rate,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            f_min=self.f_min,
            f_max=self.f_max,
            top_db=self.top_db,
        )


def preprocess(config: PreprocessConfig) -> Manifest:
    """Convert a dataset, or go on where an earlier run stopped.

    Returns:
        The manifest as written to dataset.json.

    Raises:
        UserError: no such input, settings that differ from those of the images already there,
            nothing that could be converted, or any skipped file under `strict`.
    """
    tracks = _find_tracks(config)
    wanted = Manifest(
        source=config.dataset,
        spectrogram=config.spectrogram(),
        selection={
            "input": str(config.input.resolve()) if config.input else None,
            **config.selection().asked_for(),
        },
    )
    make_folder(config.output)
    with sole_writer(config.output, "preprocessing"):
        _claim(config.output, wanted, overwrite=config.overwrite)
        report = Report(config.output)
        _convert_all(tracks, report, config, wanted.spectrogram)
        outcomes = [report.outcomes[track.id] for track in tracks]
        converted = sorted((o for o in outcomes if o.status == CONVERTED), key=lambda o: (o.genre, o.track))
        _summarise(outcomes, config.output)
        if not converted:
            common = Counter(o.reason for o in outcomes).most_common(1)[0][0]
            raise UserError(
                f"nothing converted: all {len(outcomes)} files were left out, most of them for: "
                f"{common}; see {config.output / REPORT_NAME}"
            )
        splits = assign_splits(converted)
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
        wanted.write(config.output)
    skipped = sum(outcome.status == SKIPPED for outcome in outcomes)
    if config.strict and skipped:
        raise UserError(
            f"{skipped} files were skipped (--strict); mend or remove what "
            f"{config.output / REPORT_NAME} names, or leave --strict away"
        )
    return wanted


def convert_track(track: Track, output: Path, config: SpectrogramConfig) -> Outcome:
    """Decode, encode, cut and write one track; runs in a worker process."""
    try:
        audio = load(track.path, config.sample_rate)
        seconds = len(audio.samples) / config.sample_rate
        if 1 + len(audio.samples) // config.hop_length < config.n_frames:
            raise AudioError(f"{seconds:.1f} s are shorter than one image of {config.image_seconds:.1f} s")
        if np.abs(audio.samples).max() <= SILENCE:
            raise AudioError("silent: no sample above -80 dBFS")
        grey, reference_db = encode(audio.samples, config)
        images = {k: image for k, image in enumerate(cut_images(grey, config)) if image.any()}
        if not images:
            raise AudioError("all images would be black")
    except AudioError as error:
        return _outcome(track, SKIPPED, _joined(str(error), track.known_fault))
    for segment, image in images.items():
        write_image(
            output / track.genre / image_name(track.id, segment),
            image,
            config,
            genre=track.genre,
            track=track.id,
            reference_db=reference_db,
        )
    return _outcome(
        track,
        CONVERTED,
        _joined(audio.warning, track.known_fault),
        segments=len(images),
        seconds=round(seconds, 3),
        reference_db=round(reference_db, 4),
    )


def _outcome(track: Track, status: str, reason: str, **measured: float) -> Outcome:
    return Outcome(
        track=track.id,
        genre=track.genre,
        split=track.split,
        status=status,
        reason=reason,
        **{"segments": 0, "seconds": 0.0, "reference_db": 0.0, **measured},
        path=_one_line(str(track.path)),
    )


def _one_line(text: str) -> str:
    """Printable text without line breaks: the report is read back line by line."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode("utf-8").split())


def _joined(*reasons: str) -> str:
    return "; ".join(_one_line(reason) for reason in reasons if reason)


def _find_tracks(config: PreprocessConfig) -> list[Track]:
    """The source's tracks with unique ids, at most `limit` a genre beside the excluded ones."""
    if not config.dataset:
        raise UserError(f"--dataset is missing: one of {', '.join(module_names(sources))}")
    source = load_module(sources, "--dataset", config.dataset)
    selection = config.selection()
    for option in selection.asked_for():
        if option not in source.OPTIONS:
            flag = option.replace("_", "-")
            raise UserError(f"--{flag} means nothing for --dataset {config.dataset}; leave it away")
    tracks = sources.with_unique_ids(source.find_tracks(config.input, selection))
    taken: Counter[str] = Counter()
    chosen = []
    for track in tracks:
        if not track.excluded:
            taken[track.genre] += 1
            if selection.limit and taken[track.genre] > selection.limit:
                continue
        chosen.append(track)
    return chosen


def _claim(output: Path, wanted: Manifest, *, overwrite: bool) -> None:
    """Make the output ours: new, continued with the same settings, or cleared for new ones."""
    try:
        present = Manifest.read(output)
    except UserError:
        if not overwrite:
            raise
        present = None
    else:
        if present is None and any(not name.startswith(".") for name in os.listdir(output)):
            raise UserError(
                f"--output {output} holds files that preprocess did not write; give another folder"
            )
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
        }

    before, now = settings(present), settings(wanted)
    return [
        f"{name}: was {before.get(name)}, now {now.get(name)}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]


def _clear(output: Path) -> None:
    """Remove the images, caches and records of an earlier run, and nothing else."""
    for folder in visible_folders(output):
        for path in folder.iterdir():
            if re.fullmatch(r".+_\d{3,}\.png|\..+\.png\.tmp", path.name):
                path.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
    for path in [output / MANIFEST_NAME, output / REPORT_NAME, *output.glob(".cache-*")]:
        path.unlink(missing_ok=True)


def _convert_all(
    tracks: list[Track], report: Report, config: PreprocessConfig, spectrogram: SpectrogramConfig
) -> None:
    """Convert every track that the report does not already show as done; one bar for all."""
    for track in tracks:
        if track.excluded:
            report.append(_outcome(track, EXCLUDED, _one_line(track.excluded)))
    candidates = [track for track in tracks if not track.excluded]
    for genre in {track.genre for track in candidates}:
        (config.output / genre).mkdir(exist_ok=True)
    pending = _pending(candidates, report, config.output)
    if len(pending) < len(candidates):
        logger.info("%d of %d tracks were converted before", len(candidates) - len(pending), len(candidates))
    work = partial(convert_track, output=config.output, config=spectrogram)
    with progress_bar(total=len(pending), description="Converting", unit="track") as bar:
        for outcome in in_parallel(work, pending, config.jobs):
            report.append(outcome)
            bar.update()
    for genre in {track.genre for track in candidates}:
        folder = config.output / genre
        if not any(folder.iterdir()):
            folder.rmdir()  # ImageFolder refuses a class without images


def _pending(tracks: Iterable[Track], report: Report, output: Path) -> list[Track]:
    """Tracks that are still to be done, with whatever an interrupted attempt left of them removed.

    A track is done when its line says so and its images are all there. Those skipped before are
    tried again: the file may have been mended, or a decoder installed.
    """
    images: defaultdict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))

    def images_of(track: Track) -> list[str]:
        if track.genre not in images:
            for name in os.listdir(output / track.genre):
                images[track.genre][track_of_image(name.removeprefix("."))].append(name)
        return images[track.genre][track.id]

    pending = []
    for track in tracks:
        done = report.outcomes.get(track.id)
        names = images_of(track)
        if done and done.status == CONVERTED and len(names) == done.segments:
            continue
        for name in names:
            (output / track.genre / name).unlink()
        pending.append(track)
    return pending


def _summarise(outcomes: list[Outcome], output: Path) -> None:
    converted = [o for o in outcomes if o.status == CONVERTED]
    logger.info(
        "Converted %d of %d tracks into %d images of %d genres in %s",
        len(converted),
        sum(o.status != EXCLUDED for o in outcomes),
        sum(o.segments for o in converted),
        len({o.genre for o in converted}),
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
