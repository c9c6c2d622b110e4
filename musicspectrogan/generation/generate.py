"""The command `generate`: from a checkpoint to images, audio files and a page in one folder."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch

from musicspectrogan import __version__
from musicspectrogan.audio.files import check_rate
from musicspectrogan.audio.images import read_image, track_of_image
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.audio.tempo import tempo_of
from musicspectrogan.audio.vocoder import Vocoder
from musicspectrogan.counts import format_count
from musicspectrogan.data.credits import CREDITS_NAME, read_credits, write_credits
from musicspectrogan.errors import Interrupted, UserError, continue_on_error
from musicspectrogan.filesystem import distinct_name, make_folder, visible_folders
from musicspectrogan.generation.folder import (
    LOOP,
    REAL_FOLDER,
    Sound,
    check_folder,
    has_sound,
    list_items,
    write_sound,
)
from musicspectrogan.generation.model import Model, vocoder_for
from musicspectrogan.generation.page import PageItem, write_page
from musicspectrogan.generation.picking import Picker
from musicspectrogan.generation.pieces import loop_multiple
from musicspectrogan.generation.sampler import BATCH, LatentSpec, Sampler
from musicspectrogan.generation.selection import NO_GENRE, Row, latent_specs, select_rows
from musicspectrogan.generation.settings import MAX_SOUNDS, GenerateConfig, SoundConfig
from musicspectrogan.generation.sound import loop_settings, sounds_of
from musicspectrogan.progress import progress_bar
from musicspectrogan.training.checkpoint import Checkpoint
from musicspectrogan.training.run_checkpoints import available_dataset, run_of

logger = logging.getLogger(__name__)

# Images of real music of each genre.
REAL_SAMPLES = 4
# Warn where a loop changes the pace of music by more than this fraction.
MAX_PACE_CHANGE = 0.1


def generate(
    config: GenerateConfig, checkpoint: Checkpoint, source: Path, device: torch.device
) -> Path:
    """Generate what `config` asks for; returns the page, or the folder where the page failed.

    Files appear as they are made, and memory is bounded by a batch. The page lists all sounds of
    the folder, and is written after Ctrl-C or an error too.

    Args:
        source: file of the checkpoint, for its digest and the page.

    Raises:
        UserError: an unknown genre, or any for an unconditional model; a rate that the format does
            not support; too many sounds for one page.
        Interrupted: by Ctrl-C.
    """
    dataset = available_dataset(checkpoint, source)
    vocoder = vocoder_for(checkpoint, dataset, config.sound.vocoder)
    model = Model(checkpoint, vocoder, device)
    settings, sampler = model.spectrogram, model.sampler
    rows = select_rows(config.genre, config.morph, sampler.genres, conditional=sampler.conditional)
    picker = Picker(model) if config.pick else None
    check_rate(config.sound.format, config.sound.rate_for(settings.sample_rate))
    specs = latent_specs(config)
    total = len(rows) * len(specs)
    if total > MAX_SOUNDS:
        raise UserError(
            f"{len(specs)} sounds of each of {len(rows)} genres are more than {MAX_SOUNDS}; give a "
            "lower --count, fewer --seeds, or one --genre at a time"
        )
    if config.loop and config.length is not None:
        _warn_of_pace(config.length, sampler)
    digest = checkpoint.digest
    output = config.output or _new_folder(source)
    check_folder(output, settings)
    facts = {
        "checkpoint": f"{source.resolve().name} ({digest})",
        "trained": f"{checkpoint.gan}, width {checkpoint.model.width}, "
        f"{format_count(checkpoint.epoch, 'epoch')}, "
        f"{format_count(checkpoint.images_seen, 'image')}",
        "audio": config.sound.describe(
            settings.sample_rate, settings.sample_rate / 2 if vocoder else settings.f_max
        )
        + (f", vocoder {vocoder.digest}" if vocoder else ""),
        "made with": f"musicspectrogan {__version__}",
    }
    new: list[str] = []
    try:
        with progress_bar(total=total, description="Generating", unit="sound") as bar:
            for row in rows:
                kept = picker.choose(row, config) if picker else iter(specs)
                seeds = []
                for spec, sound in _make_sounds(config, model, row, kept):
                    stem = _stem(row, spec, config)
                    request = _request(config, row, spec, digest, facts["audio"])
                    name = write_sound(
                        output, stem, sound, config.sound, request=request, checkpoint=digest
                    )
                    new.append(name)
                    seeds.append(spec.start[0])
                    bar.update()
                if picker:
                    logger.info("Picked of %s: --seeds %s", row.name, ",".join(map(str, seeds)))
                if dataset is not None:
                    _add_real_music(
                        dataset,
                        row,
                        output / REAL_FOLDER,
                        settings,
                        form=config.sound,
                        vocoder=vocoder,
                    )
            if dataset is not None:
                _copy_credits(dataset, output / REAL_FOLDER)
    except KeyboardInterrupt:
        message = f"interrupted after {len(new)} of {total} sounds"
        if new:
            message += f"; {_write_page(output, new, settings, facts)} lists them"
        raise Interrupted(message) from None
    except BaseException:
        with suppress(Exception):  # the first error matters
            if new:
                _write_page(output, new, settings, facts)
        raise
    return _write_page(output, new, settings, facts)


def _warn_of_pace(seconds: float, sampler: Sampler) -> None:
    """Warn where rounding a loop to whole cells makes its music much slower or faster."""
    settings, multiple = sampler.spectrogram, loop_multiple(sampler)
    frames, looped = loop_settings(seconds, settings, multiple)
    pace = settings.hop_length / looped.hop_length
    if multiple > 1 and abs(pace - 1.0) > MAX_PACE_CHANGE:
        logger.warning(
            "A loop of %g s is %s of %.3g s, so music is %.0f %% %s; longer loops are closer",
            seconds,
            format_count(frames // multiple, "cell"),
            multiple * settings.hop_length / settings.sample_rate,
            100 * abs(pace - 1.0),
            "faster" if pace > 1 else "slower",
        )


def _new_folder(checkpoint: Path) -> Path:
    """Make a new folder named by the time, in the checkpoint's run or the working directory."""
    run = run_of(checkpoint) or Path()
    make_folder(run / "generated")
    now = time.strftime("%Y%m%d-%H%M%S")
    folder, number = run / "generated" / now, 1
    while True:
        try:
            folder.mkdir()
        except FileExistsError:  # of another command in the same second
            number += 1
            folder = folder.with_name(f"{now}-{number}")
        else:
            return folder


def _write_page(
    output: Path, new: Sequence[str], settings: SpectrogramConfig, facts: dict[str, str]
) -> Path:
    items = list_items(output, new)
    generated = [item for item in items if not item.real]
    if len(generated) > len(new):  # the facts may not hold for sounds of earlier commands
        facts = {f"newest: {name}": fact for name, fact in facts.items()}
    if (output / REAL_FOLDER / CREDITS_NAME).is_file():
        facts = facts | {"credits of the real music": f"{REAL_FOLDER}/{CREDITS_NAME}"}
    with continue_on_error(f"page in {output}"):
        return write_page(output, _title(generated), items, settings, facts)
    return output


def _title(generated: Sequence[PageItem]) -> str:
    title = format_count(len(generated), "new sound")
    rows = list(dict.fromkeys(item.genre for item in generated))
    if rows == [NO_GENRE]:
        return title
    return f"{title} of {rows[0] if len(rows) == 1 else f'{len(rows)} genres'}"


def _stem(row: Row, spec: LatentSpec, config: GenerateConfig) -> str:
    """File name without suffix; contains what users vary from one command to the next."""
    parts = [distinct_name(row.name), spec.name]
    if config.truncation != 1:
        parts.append(f"t{config.truncation:g}")
    if config.seconds is not None:
        parts.append(f"{config.seconds:g}s")
    if config.bars is not None:
        parts.append(f"{config.bpm:g}bpm_{format_count(config.bars, 'bar').replace(' ', '')}")
    if config.loop:
        parts.append("loop")
    if config.sound.sample_rate is not None:
        parts.append(f"{config.sound.sample_rate}hz")
    if config.sound.bit_depth is not None:
        parts.append(f"{config.sound.bit_depth}bit")
    return "_".join(parts)


def _caption(spec: LatentSpec, config: GenerateConfig) -> str:
    parts = [spec.caption]
    if config.truncation != 1:
        parts.append(f"truncation {config.truncation:g}")
    if config.sound.sample_rate is not None:
        parts.append(f"{config.sound.sample_rate:,} Hz")
    if config.sound.bit_depth is not None:
        parts.append(f"{config.sound.bit_depth} bit")
    if config.bars is not None:
        parts.append(f"{config.bpm:g} BPM, {format_count(config.bars, 'bar')}")
    if config.loop:
        parts.append(LOOP)
    return ", ".join(parts)


def _request(
    config: GenerateConfig, row: Row, spec: LatentSpec, checkpoint: str, audio: str
) -> str:
    """Digest of all that the bytes of a sound depend on. Stored in PNGs: `Row` is part of it."""
    place: tuple[object, ...] = (spec.start, spec.end, spec.fraction)
    place += (config.truncation, config.seconds, config.loop)
    if config.bars is not None:
        place += (config.bpm, config.bars)
    return _digest(repr((checkpoint, row, place, audio)).encode("utf-8", "backslashreplace"))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _make_sounds(
    config: GenerateConfig, model: Model, row: Row, specs: Iterator[LatentSpec]
) -> Iterator[tuple[LatentSpec, Sound]]:
    """The sounds of a row, made lazily: a batch of images, or one piece, at a time."""
    seconds = config.length
    batch_size = 1 if seconds else BATCH
    while batch := list(islice(specs, batch_size)):
        images, settings = model.draw(batch, row.start, row.end, config)
        sounds = model.invert(images, settings, config)
        for spec, image, samples in zip(batch, images, sounds, strict=True):
            detected = tempo_of(image, settings, loops=config.loop)
            if detected is not None and detected.beats is not None and seconds:
                # The sound has exactly the length requested, its image nearly.
                detected = replace(detected, bpm=60 * detected.beats / seconds)
            caption, tempo = _caption(spec, config), config.tempo or detected
            sound = Sound(row.name, caption, image, samples, settings, config.loop, detected, tempo)
            yield spec, sound


def _add_real_music(
    dataset: Path,
    row: Row,
    folder: Path,
    settings: SpectrogramConfig,
    *,
    form: SoundConfig,
    vocoder: Vocoder | None,
) -> None:
    """Write some training images of a row's genre and their sound; of any genre if it has none."""
    for path in _choose_real_images(dataset, row):
        try:
            image, found = read_image(path, settings)
        except UserError as error:
            logger.warning("%s", error)
            continue
        if found != settings:
            logger.warning("%s: skipped; has other settings than the checkpoint", path)
            continue
        # One folder per genre, because genres may have files of the same name.
        target = folder / distinct_name(path.parent.name)
        request = _digest(image.tobytes() + (vocoder.digest.encode() if vocoder else b""))
        if has_sound(target, path.stem, request):
            continue
        make_folder(target)
        (samples,) = sounds_of(image[None], settings, vocoder, sample_rate=form.sample_rate)
        tempo = tempo_of(image, settings)
        sound = Sound(row.name, path.stem, image, samples, settings, detected=tempo, tempo=tempo)
        write_sound(target, path.stem, sound, form, request=request)


def _choose_real_images(dataset: Path, row: Row) -> list[Path]:
    """Up to REAL_SAMPLES images of a row's genre, spread over its tracks; none of a mixture."""
    unconditional = not row.start
    try:
        folders = [f for f in visible_folders(dataset) if unconditional or f.name == row.genre]
        paths = [path for folder in folders for path in sorted(folder.glob("*.png"))]
    except OSError:  # missing, or not readable
        return []
    count = min(REAL_SAMPLES, len(paths))
    return [paths[k * len(paths) // REAL_SAMPLES] for k in range(count)]


def _copy_credits(dataset: Path, folder: Path) -> None:
    """Write the credits of the real tracks in a folder, if the dataset has credits."""
    # The folder may already have credits of another dataset, from an earlier command.
    credits = {**(read_credits(folder) or {}), **(read_credits(dataset) or {})}
    tracks = {track_of_image(path.name) for path in folder.glob("*/*.png")}
    if used := {track: credit for track, credit in credits.items() if track in tracks}:
        write_credits(folder, used)
