"""Checkpoint -> images, audio files and a page, in one folder."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from musicspectrogan import __version__
from musicspectrogan.audio.files import save
from musicspectrogan.audio.images import check_frames, read_image, write_image
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import distinct_name, make_folder, visible_folders
from musicspectrogan.generation.page import PageItem, write_page
from musicspectrogan.generation.pieces import piece
from musicspectrogan.generation.sampler import Sampler
from musicspectrogan.generation.settings import GenerateConfig
from musicspectrogan.generation.sound import sound_of_loop, sounds_of
from musicspectrogan.progress import progress_bar
from musicspectrogan.training.checkpoint import CHECKPOINTS_FOLDER, Checkpoint, dataset_at_hand

logger = logging.getLogger(__name__)

# The row of a model without genres.
NO_GENRE = "sample"
REAL_FOLDER = "real"
REAL_SAMPLES = 4


@dataclass(frozen=True)
class Sound:
    """One generated sample on its way to the disk."""

    genre: str
    """Also the row on the page."""
    seed: int
    image: np.ndarray
    """uint8 (n_mels, T)."""
    samples: np.ndarray
    """Finished, float (n,)."""

    @property
    def stem(self) -> str:
        """File name without its suffix."""
        return f"{distinct_name(self.genre)}_seed{self.seed:04d}"


def generate(config: GenerateConfig, checkpoint: Checkpoint, source: Path, device: torch.device) -> Path:
    """Generate what `config` asks for, and return the page.

    Args:
        source: the checkpoint's file, for its hash and the page.

    Raises:
        UserError: an unknown genre, or one for a model without genres.
    """
    sampler = Sampler(checkpoint, device)
    rows = _rows(config, sampler)
    settings = checkpoint.spectrogram
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    output = config.output or _new_folder(source)
    make_folder(output)
    items = []
    dataset = dataset_at_hand(checkpoint, source)
    with progress_bar(
        total=len(rows) * len(config.seed_list()), description="Generating", unit="sound"
    ) as bar:
        for genre, ends in rows.items():
            for sound in _sounds(config, sampler, (genre, ends), settings):
                items.append(_write(sound, config, settings, digest, output))
                bar.update()
            items += _real_items(checkpoint, dataset, genre, config, output)
    facts = {
        "checkpoint": f"{source.name} ({digest})",
        "trained": f"{checkpoint.gan}, width {checkpoint.model.width}, {checkpoint.epoch} epochs, "
        f"{checkpoint.images_seen:,} images",
        "truncation": f"{config.truncation:g}",
        "audio": f"{settings.sample_rate} Hz, {config.format}",
        "made with": f"musicspectrogan {__version__}",
    }
    return write_page(output, _title(list(rows), items), items, settings, facts)


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


def _title(rows: list[str], items: list[PageItem]) -> str:
    made = sum(not item.real for item in items)
    title = f"{made} new sound{'s' if made > 1 else ''}"
    if rows == [NO_GENRE]:
        return title
    return f"{title} of {rows[0] if len(rows) == 1 else f'{len(rows)} genres'}"


def _rows(config: GenerateConfig, sampler: Sampler) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The genre mixtures at the two ends of each row, by the row's name."""
    if config.morph is not None:
        first, colon, second = config.morph.partition(":")
        if not colon:
            raise UserError(f"--morph {config.morph}: write two genres as in blues:jazz")
        names = [sampler.find_genre(first), sampler.find_genre(second)]
        ends = [sampler.one_hot(name, 1)[0] for name in names]
        return {f"{names[0]}-to-{names[1]}": (ends[0], ends[1])}
    if not sampler.conditional:
        if config.genre != "all":
            sampler.find_genre(config.genre)
        return {NO_GENRE: (sampler.one_hot(None, 1)[0],) * 2}
    names = sampler.genres if config.genre == "all" else [sampler.find_genre(config.genre)]
    return {name: (sampler.one_hot(name, 1)[0],) * 2 for name in names}


def _sounds(
    config: GenerateConfig,
    sampler: Sampler,
    row: tuple[str, tuple[torch.Tensor, torch.Tensor]],
    settings: SpectrogramConfig,
) -> Iterator[Sound]:
    genre, ends = row
    seeds = config.seed_list()
    if config.seconds is None:
        latents = sampler.latents(seeds) * config.truncation
        images = sampler.images(latents, ends[0].expand(len(seeds), -1))
        for seed, image, samples in zip(seeds, images, sounds_of(images, settings), strict=True):
            yield Sound(genre, seed, image, samples)
        return
    frames = max(1, round(config.seconds * settings.sample_rate / settings.hop_length))
    check_frames(frames, settings, f"--seconds {config.seconds:g}")
    for seed in seeds:
        image = piece(sampler, seed, *ends, frames, loops=config.loop, truncation=config.truncation)
        samples = sound_of_loop(image, settings) if config.loop else sounds_of(image[None], settings)[0]
        yield Sound(genre, seed, image, samples)


def _write(
    sound: Sound, config: GenerateConfig, settings: SpectrogramConfig, digest: str, output: Path
) -> PageItem:
    image, audio = f"{sound.stem}.png", f"{sound.stem}.{config.format}"
    about = f"seed {sound.seed}, checkpoint {digest}"
    write_image(output / image, sound.image, settings, genre=sound.genre, comment=about)
    tags = {"genre": sound.genre, "comment": about}
    save(output / audio, sound.samples, settings.sample_rate, loops=config.loop, **tags)
    return PageItem(sound.genre, f"seed {sound.seed}", image, audio, columns=sound.image.shape[1])


def _real_items(
    checkpoint: Checkpoint, dataset: Path | None, genre: str, config: GenerateConfig, output: Path
) -> list[PageItem]:
    """Some images of the genre from what the model was trained on, and their sound, where it is at hand."""
    if dataset is None:
        return []
    try:
        folders = [f for f in visible_folders(dataset) if genre in (f.name, NO_GENRE)]
        paths = [path for folder in folders for path in sorted(folder.glob("*.png"))]
    except OSError:  # gone, or another user's
        return []
    chosen = [paths[k * len(paths) // REAL_SAMPLES] for k in range(min(REAL_SAMPLES, len(paths)))]
    items = []
    for path in chosen:
        try:
            image, settings = read_image(path, checkpoint.spectrogram)
        except UserError as error:
            logger.warning("%s", error)
            continue
        folder = f"{REAL_FOLDER}/{distinct_name(path.parent.name)}"  # other genres have files of this name
        make_folder(output / folder)
        name = f"{folder}/{path.stem}"
        write_image(output / f"{name}.png", image, settings, genre=path.parent.name)
        samples = sounds_of(image[None], settings)[0]
        save(output / f"{name}.{config.format}", samples, settings.sample_rate, genre=path.parent.name)
        items.append(PageItem(genre, path.stem, f"{name}.png", f"{name}.{config.format}", real=True))
    return items
