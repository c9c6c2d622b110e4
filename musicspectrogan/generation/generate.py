"""Checkpoint -> images, audio files and a page, in one folder."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from musicspectrogan import __version__
from musicspectrogan.audio.files import check_rate
from musicspectrogan.audio.images import check_frames, read_image, track_of_image
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.audio.tempo import Tempo, tempo_of
from musicspectrogan.counts import counted
from musicspectrogan.data.credits import CREDITS_NAME, read_credits, write_credits
from musicspectrogan.errors import Interrupted, UserError, spared
from musicspectrogan.filesystem import distinct_name, make_folder, visible_folders
from musicspectrogan.generation.folder import (
    LOOP,
    REAL_FOLDER,
    Sound,
    check_folder,
    is_there,
    items_in,
    write_sound,
)
from musicspectrogan.generation.genres import NO_GENRE, Row, rows_of
from musicspectrogan.generation.page import PageItem, write_page
from musicspectrogan.generation.pieces import frames_of_loops, piece
from musicspectrogan.generation.sampler import BATCH, Sampler
from musicspectrogan.generation.settings import MOST_SOUNDS, GenerateConfig, SoundConfig
from musicspectrogan.generation.sound import loop_settings, sound_of_loop, sounds_of
from musicspectrogan.generation.takes import Take, takes_of
from musicspectrogan.progress import progress_bar
from musicspectrogan.training.checkpoint import CHECKPOINTS_FOLDER, Checkpoint, available_dataset

logger = logging.getLogger(__name__)

REAL_SAMPLES = 4
# From this part on a loop's pace is told to be another than that of the music learned from.
NOTICEABLE = 0.1


def generate(
    config: GenerateConfig, checkpoint: Checkpoint, source: Path, device: torch.device
) -> Path:
    """Generate what `config` asks for, and return the page, or where that fails the folder.

    Files appear as they are made, and memory is bounded by a batch. The page lists all sounds of the folder;
    when it ends early, those that were made.

    Args:
        source: the checkpoint's file, for its hash and the page.

    Raises:
        UserError: an unknown genre, or one for a model without genres; a rate that the format has not; more
            sounds than one page can show.
        Interrupted: by Ctrl-C.
    """
    sampler = Sampler(checkpoint, device)
    rows = rows_of(config.genre, config.morph, sampler.genres, conditional=sampler.conditional)
    check_rate(config.sound.format, config.sound.sample_rate or sampler.spectrogram.sample_rate)
    takes = takes_of(config)
    total = len(rows) * len(takes)
    if total > MOST_SOUNDS:
        raise UserError(
            f"{len(takes)} sounds of each of {len(rows)} genres are more than {MOST_SOUNDS}; give a lower "
            "--count, fewer --seeds, or one --genre at a time"
        )
    if config.loop:
        _tell_of_pace(config.length, sampler)
    digest = _digest(source.read_bytes())
    form = config.sound.describe(sampler.spectrogram.sample_rate, sampler.spectrogram.f_max)
    output = config.output or _new_folder(source)
    check_folder(output, sampler.spectrogram)
    dataset = available_dataset(checkpoint, source)
    made: list[str] = []

    def page() -> Path:
        items = items_in(output, made)
        facts = _facts(checkpoint, f"{source.name} ({digest})", form)
        generated = [item for item in items if not item.real]
        if len(generated) > len(made):  # what earlier commands left there may be otherwise
            facts = {f"newest: {name}": fact for name, fact in facts.items()}
        if (output / REAL_FOLDER / CREDITS_NAME).is_file():
            facts["credits of the real music"] = f"{REAL_FOLDER}/{CREDITS_NAME}"
        with spared(f"page in {output}"):
            return write_page(output, _title(generated), items, sampler.spectrogram, facts)
        return output

    try:
        with progress_bar(total=total, description="Generating", unit="sound") as bar:
            for row in rows:
                for take, sound in _sounds(config, sampler, row, takes, digest):
                    stem = _stem(row, take, config)
                    request = _request(config, row, take, digest, form)
                    made.append(write_sound(output, stem, sound, config.sound, request))
                    bar.update()
                real = _real_images(dataset, row, sampler.spectrogram)
                _write_real(output / REAL_FOLDER, row, real, sampler.spectrogram, config.sound)
            if dataset is not None:
                _copy_credits(dataset, output / REAL_FOLDER)
    except KeyboardInterrupt:
        told = f"; {page()} lists the {len(made)} that were made" if made else ""
        raise Interrupted(f"interrupted after {len(made)} of {total} sounds{told}") from None
    except BaseException:
        with suppress(Exception):  # what ended it is what matters
            if made:
                page()
        raise
    return page()


def _new_folder(checkpoint: Path) -> Path:
    """Make a new folder, by the time of day, for what is made from a checkpoint: in its run, else here."""
    parent = checkpoint.resolve().parent
    run = parent.parent if parent.name == CHECKPOINTS_FOLDER else Path()
    make_folder(run / "generated")
    now = time.strftime("%Y%m%d-%H%M%S")
    folder, number = run / "generated" / now, 1
    while True:
        try:
            folder.mkdir()
        except FileExistsError:  # that of another command in the same second
            number += 1
            folder = folder.with_name(f"{now}-{number}")
        else:
            return folder


def _facts(checkpoint: Checkpoint, source: str, form: str) -> dict[str, str]:
    return {
        "checkpoint": source,
        "trained": f"{checkpoint.gan}, width {checkpoint.model.width}, "
        f"{counted(checkpoint.epoch, 'epoch')}, {counted(checkpoint.images_seen, 'image')}",
        "audio": form,
        "made with": f"musicspectrogan {__version__}",
    }


def _title(generated: Sequence[PageItem]) -> str:
    title = counted(len(generated), "new sound")
    rows = list(dict.fromkeys(item.genre for item in generated))
    if rows == [NO_GENRE]:
        return title
    return f"{title} of {rows[0] if len(rows) == 1 else f'{len(rows)} genres'}"


def _stem(row: Row, take: Take, config: GenerateConfig) -> str:
    """Name of a sound's files: what a user varies from one command to the next is in it."""
    parts = [distinct_name(row.name), take.name]
    if config.truncation != 1:
        parts.append(f"t{config.truncation:g}")
    if config.seconds is not None:
        parts.append(f"{config.seconds:g}s")
    if config.bars is not None:
        parts.append(f"{config.bpm:g}bpm_{counted(config.bars, 'bar').replace(' ', '')}")
    if config.loop:
        parts.append("loop")
    if config.sound.sample_rate is not None:
        parts.append(f"{config.sound.sample_rate}hz")
    if config.sound.bit_depth is not None:
        parts.append(f"{config.sound.bit_depth}bit")
    return "_".join(parts)


def _request(config: GenerateConfig, row: Row, take: Take, checkpoint: str, form: str) -> str:
    """A digest of all that a sound's bytes depend on."""
    place = (take.start, take.end, take.part, config.truncation, config.seconds, config.loop)
    if config.bars is not None:
        place += (config.bpm, config.bars)
    return _digest(repr((checkpoint, row, place, form)).encode("utf-8", "backslashreplace"))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _sounds(
    config: GenerateConfig, sampler: Sampler, row: Row, takes: Sequence[Take], checkpoint: str
) -> Iterator[tuple[Take, Sound]]:
    """The takes of a row, made as they are asked for: a batch of images, or one piece, at a time."""
    form = config.sound
    extra = [f"truncation {config.truncation:g}"] * (config.truncation != 1)
    extra += [f"{form.sample_rate:,} Hz"] if form.sample_rate is not None else []
    extra += [f"{form.bit_depth} bit"] if form.bit_depth is not None else []
    if config.bars is not None:
        extra.append(f"{config.bpm:g} BPM, {counted(config.bars, 'bar')}")
    extra += [LOOP] * config.loop
    make = _images if config.length is None else _pieces
    for take, image, samples, settings in make(config, sampler, row, takes):
        caption = ", ".join([take.caption, *extra])
        found = _found_tempo(config, image, settings)
        sound = Sound(row.name, caption, image, samples, settings, checkpoint, config.loop)
        yield take, replace(sound, found=found, tempo=config.tempo or found)


def _found_tempo(
    config: GenerateConfig, image: np.ndarray, settings: SpectrogramConfig
) -> Tempo | None:
    found = tempo_of(image, settings, loops=config.loop)
    if found is not None and found.beats is not None:
        # The sound is cut to the length asked, which that of its image only comes near to.
        return replace(found, bpm=60 * found.beats / config.length)
    return found


Made = Iterator[tuple[Take, np.ndarray, np.ndarray, SpectrogramConfig]]


def _images(config: GenerateConfig, sampler: Sampler, row: Row, takes: Sequence[Take]) -> Made:
    settings, rate = sampler.spectrogram, config.sound.sample_rate
    for start in range(0, len(takes), BATCH):
        batch = takes[start : start + BATCH]
        latents = torch.stack([sampler.latent(take) for take in batch]) * config.truncation
        images = sampler.images(latents, sampler.mixture(row.start).expand(len(batch), -1))
        sounds = sounds_of(images, settings, sample_rate=rate)
        for take, image, samples in zip(batch, images, sounds, strict=True):
            yield take, image, samples, settings


def _tell_of_pace(seconds: float, sampler: Sampler) -> None:
    """Warn where whole cells come so far from the length of a loop that music is much slower or faster."""
    usual = sampler.spectrogram
    step = frames_of_loops(sampler)
    frames, settings = loop_settings(seconds, usual, step)
    pace = usual.hop_length / settings.hop_length
    if step > 1 and abs(pace - 1.0) > NOTICEABLE:
        cell = step * usual.hop_length / usual.sample_rate
        logger.warning(
            "A loop of %g s is %s of %.3g s, so music is %.0f %% %s; longer loops are closer",
            seconds,
            counted(frames // step, "cell"),
            cell,
            100 * abs(pace - 1.0),
            "faster" if pace > 1 else "slower",
        )


def _pieces(config: GenerateConfig, sampler: Sampler, row: Row, takes: Sequence[Take]) -> Made:
    settings, seconds, rate = sampler.spectrogram, config.length, config.sound.sample_rate
    ends = sampler.mixture(row.start), sampler.mixture(row.end)
    frames = settings.frames_in(seconds)
    if config.loop:
        frames, settings = loop_settings(seconds, settings, frames_of_loops(sampler))
    asked = f"--seconds {seconds:g}" if config.bars is None else f"--bars {config.bars}"
    check_frames(frames, settings, asked)
    beats = config.tempo.beats if config.tempo else None
    for take in takes:
        image = piece(
            sampler,
            take,
            *ends,
            frames,
            loops=config.loop,
            truncation=config.truncation,
            beats=beats,
        )
        if config.loop:
            samples = sound_of_loop(image, settings, seconds, sample_rate=rate)
        else:
            (samples,) = sounds_of(image[None], settings, sample_rate=rate, seconds=seconds)
        yield take, image, samples, settings


def _real_images(
    dataset: Path | None, row: Row, settings: SpectrogramConfig
) -> Iterator[tuple[Path, np.ndarray]]:
    """Some images of a row's genre from what the model was trained on, where that is at hand."""
    if dataset is None:
        return
    wanted = (
        {row.genre} if row.start else None
    )  # a model without genres has learned from all of them
    try:
        folders = [f for f in visible_folders(dataset) if wanted is None or f.name in wanted]
        paths = [path for folder in folders for path in sorted(folder.glob("*.png"))]
    except OSError:  # gone, or another user's
        return
    for path in [
        paths[k * len(paths) // REAL_SAMPLES] for k in range(min(REAL_SAMPLES, len(paths)))
    ]:
        try:
            image, found = read_image(path, settings)
        except UserError as error:
            logger.warning("%s", error)
            continue
        if found == settings:
            yield path, image
        else:
            logger.warning(
                "%s: was made with other settings than the checkpoint's; leaving it out", path
            )


def _write_real(
    folder: Path,
    row: Row,
    images: Iterable[tuple[Path, np.ndarray]],
    settings: SpectrogramConfig,
    form: SoundConfig,
) -> None:
    for path, image in images:
        # A folder a genre, for other genres may have files of this name.
        place = folder / distinct_name(path.parent.name)
        request = _digest(image.tobytes())
        if is_there(place, path.stem, request):  # in whatever format an earlier command wrote it
            continue
        make_folder(place)
        (samples,) = sounds_of(image[None], settings, sample_rate=form.sample_rate)
        found = tempo_of(image, settings)
        sound = Sound(row.name, path.stem, image, samples, settings, found=found, tempo=found)
        write_sound(place, path.stem, sound, form, request)


def _copy_credits(dataset: Path, folder: Path) -> None:
    """Put the credits of the real tracks in a folder beside them, where the dataset has credits."""
    # Those that are there already may be another dataset's, from an earlier command.
    known = {**(read_credits(folder) or {}), **(read_credits(dataset) or {})}
    tracks = {track_of_image(path.name) for path in folder.glob("*/*.png")}
    if shown := {track: credit for track, credit in known.items() if track in tracks}:
        write_credits(folder, shown)
