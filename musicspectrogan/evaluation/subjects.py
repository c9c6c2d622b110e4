"""What is judged: samples of a checkpoint, or whatever images there are in a folder."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from musicspectrogan.audio.images import ImageError, opened_image
from musicspectrogan.data.dataset import ImageDataset
from musicspectrogan.data.grey import as_grey
from musicspectrogan.data.listing import list_pictures
from musicspectrogan.errors import UserError
from musicspectrogan.evaluation.sets import FEWEST_TRACKS, ImageSet
from musicspectrogan.evaluation.settings import FEWEST_SAMPLES
from musicspectrogan.evaluation.stretches import Stretches, cut, windows_in
from musicspectrogan.filesystem import public_name
from musicspectrogan.generation.pieces import piece
from musicspectrogan.generation.sampler import LatentSpec, Sampler
from musicspectrogan.progress import progress_bar
from musicspectrogan.training.checkpoint import Checkpoint

logger = logging.getLogger(__name__)

SAMPLES_AT_ONCE = 64


@dataclass(frozen=True)
class Subject:
    """Images to judge. Where they have no genres, their labels mean nothing."""

    images: ImageSet
    conditional: bool
    """Whether the images are of known genres."""
    facts: dict[str, Any]
    """What it is, for the report."""
    remarks: tuple[str, ...] = ()
    places: np.ndarray | None = None
    """int64 (N,): which window of its piece each image is; None for single images."""
    seconds: float | None = None
    """Length of the pieces."""

    @property
    def pieces(self) -> Stretches | None:
        """The images as pieces, where they are windows of some."""
        return None if self.places is None else Stretches(self.images, self.places)


def samples_of(
    checkpoint: Checkpoint,
    source: Path,
    training: ImageDataset,
    *,
    count: int,
    seed: int,
    device: torch.device,
    seconds: float | None = None,
) -> Subject:
    """Sample a checkpoint that fits the dataset, genres as often as in the training split.

    Args:
        source: the checkpoint's file.
        count: of images; of pieces as many are made as have so many windows.
        seconds: length of the pieces to make; None for single images.
    """
    sampler = Sampler(checkpoint, device)
    windows = 1 if seconds is None else windows_in(seconds, training.spectrogram)
    clips = -(-count // windows)
    labels = np.sort(training.labels)[np.arange(clips) * len(training) // clips]
    pixels = np.empty((clips, windows, *training.pixels.shape[1:]), dtype=np.uint8)
    if seconds is None:
        _sample_images(sampler, labels, seed, pixels[:, 0])
    else:
        _sample_pieces(sampler, labels, seed, training.spectrogram.frames_in(seconds), pixels)
    count = clips * windows
    facts = {
        "checkpoint": public_name(source),
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest()[:16],
        "gan": checkpoint.gan,
        "width": checkpoint.model.width,
        "epoch": checkpoint.epoch,
        "images_seen": checkpoint.images_seen,
        "samples": count,
    }
    images = ImageSet(
        pixels.reshape(count, *pixels.shape[2:]),
        labels.repeat(windows),
        np.arange(clips).repeat(windows),
    )
    places = None if seconds is None else np.tile(np.arange(windows), clips)
    return Subject(
        images, sampler.conditional, facts, tuple(_remarks(checkpoint, training)), places, seconds
    )


def _sample_images(sampler: Sampler, labels: np.ndarray, seed: int, pixels: np.ndarray) -> None:
    """Fill uint8 (N, H, W) with an image of each label."""
    with progress_bar(total=len(labels), description="Sampling", unit="image") as bar:
        for start in range(0, len(labels), SAMPLES_AT_ONCE):
            numbers = list(range(start, min(start + SAMPLES_AT_ONCE, len(labels))))
            mixtures = torch.zeros(len(numbers), len(sampler.genres))
            mixtures[torch.arange(len(numbers)), torch.from_numpy(labels[numbers])] = 1.0
            pixels[numbers] = sampler.images(sampler.latents(numbers, "evaluation", seed), mixtures)
            bar.update(len(numbers))


def _sample_pieces(
    sampler: Sampler, labels: np.ndarray, seed: int, frames: int, pixels: np.ndarray
) -> None:
    """Fill uint8 (N, windows, H, W) with the windows of a piece of each label."""
    with progress_bar(total=len(labels), description="Sampling", unit="piece") as bar:
        for number, label in enumerate(labels):
            spec = LatentSpec("", "", start=(number, "evaluation", seed))
            genre = sampler.one_hot(sampler.genres[label], 1)[0]
            made = piece(sampler, spec, genre, genre, frames, loops=False, truncation=1.0)
            pixels[number] = cut(made, pixels.shape[-1])
            bar.update()


def check_fits(checkpoint: Checkpoint, source: Path, training: ImageDataset) -> None:
    """See that a checkpoint makes images of the dataset's kind.

    Raises:
        UserError: they are of another size, other genres or other audio settings.
    """
    size = checkpoint.model.image_size
    if size != training.image_size:
        raise UserError(
            f"{source} makes images of {size}x{size}, and those of the dataset have {training.image_size} "
            "pixels a side; name the dataset that it was trained on"
        )
    if checkpoint.genres != training.genres:
        raise UserError(
            f"{source} was trained on the genres {', '.join(checkpoint.genres)}; the dataset has "
            f"{', '.join(training.genres)}; name the dataset that it was trained on"
        )
    if checkpoint.spectrogram != training.spectrogram:
        raise UserError(
            f"{source} was trained on spectrograms of other settings than the dataset's (see the info "
            "command); name the dataset that it was trained on"
        )


def _remarks(checkpoint: Checkpoint, training: ImageDataset) -> list[str]:
    split = checkpoint.training["split"]
    if split != "training":
        return [
            f"It was trained on the split {split}: figures on tracks that it has seen flatter it."
        ]
    if not checkpoint.is_trained_on(training):
        return [
            "It was trained on other images than this dataset's training split: whether it copies those "
            "cannot be seen here, and some held-out tracks may have been among them."
        ]
    return []


def images_in(
    folder: Path, training: ImageDataset, count: int, seed: int, seconds: float | None = None
) -> Subject:
    """Read the pictures of a folder, or a random choice of them: whatever training would take.

    They have genres where they lie in class folders of the dataset's names, or where each says its own,
    as generate writes it.

    Args:
        count: of images; of pieces as many are taken as have so many windows.
        seconds: the pictures are pieces at least so long; what is longer is left out. None for images.

    Raises:
        UserError: no such folder, too few images, or some of another size.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder")
    found = _pictures(folder, training.genres)
    windows = 1 if seconds is None else windows_in(seconds, training.spectrogram)
    clips = -(-count // windows)
    fewest = max(-(-FEWEST_SAMPLES // windows), FEWEST_TRACKS)
    if len(found) < fewest:
        raise UserError(
            f"{folder}: {len(found)} pictures in it; at least {fewest} are needed, "
            "flat or in class folders named like the dataset's"
        )
    if len(found) > clips:
        chosen = np.random.default_rng(seed).choice(len(found), clips, replace=False)
        found = [found[number] for number in np.sort(chosen)]
    clips = len(found)
    pixels = np.empty((clips, windows, *training.pixels.shape[1:]), dtype=np.uint8)
    genres = []
    for number, (path, genre) in enumerate(found):
        pixels[number], own = _read(path, training, seconds)
        genres.append(genre or own)
    conditional = set(genres) <= set(training.genres)
    labels = [training.genres.index(genre) if conditional else 0 for genre in genres]
    count = clips * windows
    facts = {"images": public_name(folder), "samples": count}
    missing = [genre for genre in training.genres if genre not in genres] if conditional else []
    remarks = (
        [f"There are no pictures of {', '.join(missing)}: every distance suffers from that."]
        if missing
        else []
    )
    images = ImageSet(
        pixels.reshape(count, *pixels.shape[2:]),
        np.array(labels).repeat(windows),
        np.arange(clips).repeat(windows),
    )
    places = None if seconds is None else np.tile(np.arange(windows), clips)
    return Subject(images, conditional, facts, tuple(remarks), places, seconds)


def _pictures(folder: Path, genres: list[str]) -> list[tuple[Path, str]]:
    """Pictures with their genres by the class folders that they lie in; no genre for those in none.

    A folder is a class by its exact name, else by one that differs in case alone and stands for one class.
    """
    listing = list_pictures(folder, with_splits=False)
    folders = {name.partition("/")[0] for name in listing.names}
    alike = Counter(genre.casefold() for genre in genres)
    written = Counter(name.casefold() for name in folders)
    classes = {genre: genre for genre in genres if genre in folders}
    for genre in genres:
        for name in folders - classes.keys():
            key = genre.casefold()
            if name.casefold() == key and alike[key] == written[key] == 1:
                classes[name] = genre
    inside = [(folder / name, classes.get(name.partition("/")[0], "")) for name in listing.names]
    known = sorted(((path, genre) for path, genre in inside if genre), key=lambda found: found[1])
    unknown = sorted(folders - classes.keys())
    if unknown:
        count = len(inside) - len(known)
        logger.warning(
            "%s: %d pictures lie in folders that are no classes of the dataset (%s) and are left out",
            folder, count, ", ".join(unknown),
        )  # fmt: skip
    return [*((folder / name, "") for name in listing.beside), *known]


def _read(path: Path, training: ImageDataset, seconds: float | None) -> tuple[np.ndarray, str]:
    """The windows uint8 (n, H, W) of a picture, one without `seconds`, and the genre that it names."""
    size = training.image_size
    try:
        with opened_image(path) as image:
            _check_size(path, image.size, training, seconds)
            genre = getattr(image, "text", {}).get("genre", "")
            windows = cut(np.asarray(as_grey(image)), size)
            return windows[
                : 1 if seconds is None else windows_in(seconds, training.spectrogram)
            ], genre
    except ImageError as error:
        raise UserError(
            f"{path}: cannot be read as an image ({error}); mend it, or move it away"
        ) from None


def _check_size(
    path: Path, pixels: tuple[int, int], training: ImageDataset, seconds: float | None
) -> None:
    """Raise UserError for a picture that is not of the dataset's size, or no piece as long as is wanted."""
    width, height = pixels
    size, config = training.image_size, training.spectrogram
    frame_seconds = config.hop_length / config.sample_rate
    if seconds is not None and height == size:
        if width // size < windows_in(seconds, config):
            raise UserError(
                f"{path} has {width} frames, which are {width * frame_seconds:.1f} s; give fewer --seconds "
                f"than {seconds:g}, or longer pieces"
            )
    elif pixels != (size, size):
        is_piece = height == size and width > size
        remedy = f"give --seconds {width * frame_seconds:.0f} if they are pieces, " * is_piece
        raise UserError(
            f"{path} is {width}x{height} pixels, and the dataset's images are {size}x{size}; {remedy}"
            "resize them, or preprocess with another --image-size"
        )
