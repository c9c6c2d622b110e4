"""A folder to share: weights, settings, a model card, and some sounds.

Whatever takes a checkpoint takes such a folder too, or a zip of it. Nothing in it can run code.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

from musicspectrogan import __version__
from musicspectrogan.audio.files import MP3_RATES, save
from musicspectrogan.audio.vocoder import Vocoder
from musicspectrogan.counts import format_count
from musicspectrogan.data.credits import (
    CREDITS_NAME,
    Credit,
    format_counts,
    normalize_license,
    read_credits,
    write_credits,
)
from musicspectrogan.evaluation.report import METRICS, Figure, format_estimate, read_figures
from musicspectrogan.export.cards import CARD_NAME, TEMPLATES, Facts, read_facts
from musicspectrogan.export.settings import LICENSES, SOUNDS, ExportConfig
from musicspectrogan.filesystem import distinct_name, make_folder, write_text
from musicspectrogan.generation.model import Model
from musicspectrogan.generation.player import coloured_png
from musicspectrogan.modelfolder import ModelFolderError, is_model_folder, read_file_beside
from musicspectrogan.progress import progress_bar
from musicspectrogan.training.checkpoint import Checkpoint, export_checkpoint, read_checkpoint
from musicspectrogan.training.run_checkpoints import run_of

logger = logging.getLogger(__name__)

SOUNDS_FOLDER = "sounds"
SOUND_SECONDS = 10.0
# Of sounds whose own rate MP3 does not have.
USUAL_RATE = 44100
_OF_ANOTHER_TOOL = "%s: its %s is from another tool, and is left out"
# The settings that make a recipe, in the order of the card.
RECIPE = """gan width channel_multiple latent_dim upsampling loss r1 r2 penalty_share augment
    windows rhythm pairs lr anneal_images beta1 beta2 batch_size ema_images seed""".split()


def export_folder(
    config: ExportConfig,
    checkpoint: Checkpoint,
    vocoder: Vocoder | None,
    folder: Path,
    *,
    name: str,
    source: Path,
    dataset: Path | None,
) -> None:
    """Write a model into an empty folder.

    Args:
        vocoder: for its sounds; stored with the model.
        name: title of the card.
        source: file or folder of the checkpoint; its run may have an evaluation.
        dataset: the folder that it was trained on, if it is there, which may have credits.
    """
    stored = replace(checkpoint, vocoder=vocoder.to_plain()) if vocoder else checkpoint
    facts = _facts(config, checkpoint, source)
    export_checkpoint(stored, folder, half=facts.half, card=asdict(facts))
    # The sounds are those of the folder: half precision changes them a little.
    model = Model(read_checkpoint(folder), vocoder)
    sounds = _write_sounds(model, folder, SOUNDS if config.sounds is None else config.sounds)
    if dataset is None and not is_model_folder(source):
        logger.warning(
            "%s, on which the model was trained, is not where it was or has changed: the export "
            "has no attributions of its music; name its folder with --dataset",
            Path(checkpoint.training["dataset"]).name,
        )
    credits = _credits(dataset, source, folder)
    licenses = Counter(normalize_license(credit.license) for credit in credits.values())
    card = TEMPLATES.get_template("card.md").render(
        name=name,
        checkpoint=checkpoint,
        genres=model.genres,
        license=facts.license,
        known_licenses=LICENSES,
        version=__version__,
        sounds=sounds,
        # Checkpoints of older versions have fewer settings.
        recipe={key: checkpoint.training[key] for key in RECIPE if key in checkpoint.training},
        trained=format_count(checkpoint.images_seen, "image"),
        seconds=checkpoint.spectrogram.image_seconds,
        vocoder=vocoder.record.describe() if vocoder else "",
        precision="half" if facts.half else "single",
        credits=CREDITS_NAME if credits else "",
        licenses=format_counts(licenses.most_common()),
        figures=facts.figures,
        is_rounded=model.checkpoint.digest != facts.evaluated,
    )
    write_text(folder / CARD_NAME, card)


def _credits(dataset: Path | None, source: Path, folder: Path) -> dict[str, Credit]:
    """Write the credits of the music, of the dataset or of an earlier export, and return them."""
    if dataset is not None:
        credits = read_credits(dataset)
        if credits is None:
            logger.warning(_OF_ANOTHER_TOOL, dataset, CREDITS_NAME)
        elif credits:
            write_credits(folder, credits)
    elif is_model_folder(source):
        try:
            if contents := read_file_beside(source, CREDITS_NAME):
                (folder / CREDITS_NAME).write_bytes(contents)
        except ModelFolderError as error:
            logger.warning("%s: its %s cannot be read: %s", source, CREDITS_NAME, error)
    credits = read_credits(folder)
    if credits is None:
        logger.warning(_OF_ANOTHER_TOOL, source, CREDITS_NAME)
        (folder / CREDITS_NAME).unlink()
    return credits or {}


def _write_sounds(model: Model, folder: Path, count: int) -> list[tuple[str, str]]:
    """Write sounds and their pictures, genre by genre; returns captions and names."""
    if not count:
        return []
    make_folder(folder / SOUNDS_FOLDER)
    rate = model.sample_rate if model.sample_rate in MP3_RATES else USUAL_RATE
    genres = model.genres
    written = []
    with progress_bar(total=count, description="Sounds", unit="sound") as bar:
        for number in range(count):
            genre = genres[number % len(genres)] if genres else None
            seed = number // max(1, len(genres))
            caption = f"{genre}, seed {seed}" if genre else f"seed {seed}"
            name = distinct_name(f"{genre}_seed{seed:04d}" if genre else f"seed{seed:04d}")
            mixture = {genre: 1.0} if genre else None
            made = model.play(mixture, seed, seconds=SOUND_SECONDS, sample_rate=rate)
            path = folder / SOUNDS_FOLDER / name
            path.with_name(f"{name}.png").write_bytes(coloured_png(made.images[0]))
            save(path.with_name(f"{name}.mp3"), made.sounds[0], rate, comment=caption)
            written.append((caption, f"{SOUNDS_FOLDER}/{name}"))
            bar.update()
    return written


def _facts(config: ExportConfig, checkpoint: Checkpoint, source: Path) -> Facts:
    """What the settings and an evaluation say, and an earlier export where they say nothing."""
    facts = read_facts(source)
    facts = replace(facts, license=config.license or facts.license, half=config.half or facts.half)
    if rows := _rows(source, checkpoint):
        facts = replace(facts, figures=rows, evaluated=checkpoint.digest)
    return facts


def _rows(source: Path, checkpoint: Checkpoint) -> list[list[str]]:
    """Rows of an evaluation of these weights, if there is one: name, value, ratio, real music."""
    run = run_of(source)
    figures, others = read_figures(run or Path(), checkpoint.digest)
    if run and others and not figures:
        logger.warning(
            "the evaluations in %s are of other weights than %s, so the card has none; to have "
            "one, run `python -m musicspectrogan evaluate --checkpoint %s` first",
            *(run, source.name, source),
        )
    return [_row(figure) for figure in figures if figure.genre is None]


def _row(figure: Figure) -> list[str]:
    title = METRICS[figure.name].title
    features = f", {figure.features} features" if figure.features else ""
    estimates = (figure.value, figure.ratio, figure.real)
    return [f"{title}{features}", *map(format_estimate, estimates)]
