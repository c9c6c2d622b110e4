"""The images to evaluate: samples of a checkpoint, or the pictures of a folder."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from musicspectrogan.audio.images import ImageError, opened_image
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.counts import format_count
from musicspectrogan.data.dataset import ImageDataset, list_images
from musicspectrogan.data.pixels import to_grayscale
from musicspectrogan.errors import UserError
from musicspectrogan.evaluation.settings import MIN_SAMPLES, MIN_TRACKS
from musicspectrogan.filesystem import public_name
from musicspectrogan.generation.pieces import piece
from musicspectrogan.generation.sampler import LatentSpec, Sampler
from musicspectrogan.progress import progress_bar
from musicspectrogan.training.checkpoint import Checkpoint

logger = logging.getLogger(__name__)

Pixels = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

BATCH_SIZE = 64


@dataclass(frozen=True)
class ImageSet:
    """Images with their genre and the clip that they are from."""

    pixels: Pixels
    """uint8 (N, H, W), low frequencies at the bottom."""
    labels: Ints
    """int64 (N,): index into the list of genres that all sets of an evaluation share."""
    clips: Ints
    """int64 (N,): images of one clip are not independent, so clips are resampled, not images."""

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def n_clips(self) -> int:
        """Number of different clips."""
        return len(np.unique(self.clips))

    def take(self, rows: Ints | Mask) -> ImageSet:
        """Select images by a mask or by indices."""
        return ImageSet(self.pixels[rows], self.labels[rows], self.clips[rows])

    def of_genre(self, label: int) -> ImageSet:
        """Select the images of one genre."""
        return self.take(self.labels == label)

    def subsample(self, count: int, rng: np.random.Generator) -> ImageSet:
        """Draw at most `count` images at random, without replacement."""
        if len(self) <= count:
            return self
        return self.take(np.sort(rng.choice(len(self), count, replace=False)))


@dataclass(frozen=True)
class ClipWindows:
    """Clips longer than one image, as consecutive windows."""

    images: ImageSet
    positions: Ints
    """int64 (N,): index of each window in its clip; windows k and k + 1 are adjacent in time."""

    def take(self, rows: Ints | Mask) -> ClipWindows:
        """Select windows by a mask or by indices."""
        return ClipWindows(self.images.take(rows), self.positions[rows])

    def without_genres(self) -> ClipWindows:
        """Give all windows the same label."""
        return replace(self, images=replace(self.images, labels=np.zeros_like(self.images.labels)))

    def concatenate(self, rows: Ints) -> Pixels:
        """Put windows side by side: uint8 (H, T)."""
        return np.concatenate(list(self.images.pixels[rows]), axis=1)

    def rows_by_clip(self) -> list[Ints]:
        """Rows of each clip in temporal order; clips in ascending order."""
        if not len(self.positions):
            return []
        order = np.lexsort((self.positions, self.images.clips))
        starts = np.flatnonzero(np.diff(self.images.clips[order])) + 1
        return np.split(order, starts)

    def longest_runs(self) -> list[Ints]:
        """Rows of the longest run of adjacent windows in each clip."""
        runs = []
        for rows in self.rows_by_clip():
            parts = np.split(rows, np.flatnonzero(np.diff(self.positions[rows]) != 1) + 1)
            runs.append(max(parts, key=len))
        return runs


def windows_in(seconds: float, config: SpectrogramConfig) -> int:
    """Number of whole images in a piece of this length, as `generate --seconds` makes it."""
    return config.frames_in(seconds) // config.n_frames


def split_windows(piece: Pixels, width: int) -> Pixels:
    """Cut a piece (H, T) into consecutive images (n, H, width), without a shorter remainder."""
    height, count = piece.shape[0], piece.shape[1] // width
    return piece[:, : count * width].reshape(height, count, width).swapaxes(0, 1)


def choose_clips(clips: Ints, count: int, rng: np.random.Generator) -> Mask:
    """Draw whole clips until they have at least `count` images; return the mask of their images.

    Args:
        clips: (N,), the clip of each image.
    """
    if len(clips) <= count:
        return np.ones(len(clips), dtype=bool)
    numbers, sizes = np.unique(clips, return_counts=True)
    order = rng.permutation(len(numbers))
    before = np.cumsum(sizes[order]) - sizes[order]
    return np.isin(clips, numbers[order[before < count]])


@dataclass(frozen=True)
class Samples:
    """The images to evaluate."""

    images: ImageSet
    """Without genres their labels mean nothing."""
    conditional: bool
    """Whether the images have genres."""
    facts: dict[str, Any]
    """Description of their source, for the report."""
    remarks: tuple[str, ...] = ()
    positions: Ints | None = None
    """int64 (N,): index of each image in its piece; None for single images."""
    seconds: float | None = None
    """Length of the pieces."""

    @property
    def pieces(self) -> ClipWindows | None:
        """The images as windows of pieces; None for single images."""
        return None if self.positions is None else ClipWindows(self.images, self.positions)

    @classmethod
    def from_windows(
        cls,
        pixels: Pixels,
        labels: Ints,
        *,
        conditional: bool,
        facts: dict[str, Any],
        remarks: list[str],
        seconds: float | None,
    ) -> Samples:
        """Flatten clips uint8 (N, windows, H, W) with labels (N,); a single image is a clip too."""
        clips, windows = pixels.shape[:2]
        images = ImageSet(
            pixels.reshape(clips * windows, *pixels.shape[2:]),
            labels.repeat(windows),
            np.arange(clips).repeat(windows),
        )
        positions = None if seconds is None else np.tile(np.arange(windows), clips)
        facts = {**facts, "samples": len(images)}
        return cls(images, conditional, facts, tuple(remarks), positions, seconds)


def sample_checkpoint(
    checkpoint: Checkpoint,
    path: Path,
    training: ImageDataset,
    *,
    count: int,
    seed: int,
    device: torch.device,
    seconds: float | None = None,
) -> Samples:
    """Sample a checkpoint, with the genre proportions of the training split.

    Args:
        path: the checkpoint's file.
        count: number of images. Of pieces, as many are made as have this many windows.
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
    return Samples.from_windows(
        pixels,
        labels,
        conditional=sampler.conditional,
        facts={
            "checkpoint": public_name(path),
            "digest": checkpoint.digest,
            "gan": checkpoint.gan,
            "width": checkpoint.model.width,
            "epoch": checkpoint.epoch,
            "images_seen": checkpoint.images_seen,
        },
        remarks=_training_remarks(checkpoint, training),
        seconds=seconds,
    )


def _sample_images(sampler: Sampler, labels: Ints, seed: int, pixels: Pixels) -> None:
    """Fill uint8 (N, H, W) with one image of each label."""
    with progress_bar(total=len(labels), description="Sampling", unit="image") as bar:
        for start in range(0, len(labels), BATCH_SIZE):
            numbers = list(range(start, min(start + BATCH_SIZE, len(labels))))
            mixtures = torch.zeros(len(numbers), len(sampler.genres))
            mixtures[torch.arange(len(numbers)), torch.from_numpy(labels[numbers])] = 1.0
            pixels[numbers] = sampler.images(sampler.latents(numbers, "evaluation", seed), mixtures)
            bar.update(len(numbers))


def _sample_pieces(sampler: Sampler, labels: Ints, seed: int, frames: int, pixels: Pixels) -> None:
    """Fill uint8 (N, windows, H, W) with the windows of one piece of each label."""
    with progress_bar(total=len(labels), description="Sampling", unit="piece") as bar:
        for number, label in enumerate(labels):
            take = LatentSpec("", "", start=(number, "evaluation", seed))
            genre = sampler.one_hot(sampler.genres[label], 1)[0]
            made = piece(sampler, take, genre, genre, frames, loops=False, truncation=1.0)
            pixels[number] = split_windows(made, pixels.shape[-1])
            bar.update()


def _training_remarks(checkpoint: Checkpoint, training: ImageDataset) -> list[str]:
    split = checkpoint.training["split"]
    if split != "training":
        return [
            f"The model was trained on the split {split}: scores on tracks that it has seen are "
            "too good."
        ]
    if not checkpoint.is_trained_on(training):
        return [
            "The model was trained on other images than the training split of this dataset: copies "
            "of those images cannot be detected, and it may have seen some of the held-out tracks."
        ]
    return []


def check_compatible(checkpoint: Checkpoint, path: Path, training: ImageDataset) -> None:
    """Check that a checkpoint generates the same kind of images as the dataset has.

    Raises:
        UserError: image size, genres or audio settings differ.
    """
    size = checkpoint.model.image_size
    if size != training.image_size:
        raise UserError(
            f"{path} makes images of {size}x{size}, and those of the dataset have "
            f"{training.image_size} pixels a side; name the dataset that it was trained on"
        )
    if checkpoint.genres != training.genres:
        raise UserError(
            f"{path} was trained on the genres {', '.join(checkpoint.genres)}; the dataset has "
            f"{', '.join(training.genres)}; name the dataset that it was trained on"
        )
    if checkpoint.spectrogram != training.spectrogram:
        raise UserError(
            f"{path} was trained on spectrograms with other settings than the dataset's (see the "
            "info command); name the dataset that it was trained on"
        )


def check_length(seconds: float, count: int, training: ImageDataset) -> None:
    """Raise UserError if pieces are shorter than an image, or `count` windows make too few."""
    windows = windows_in(seconds, training.spectrogram)
    image_seconds = training.spectrogram.image_seconds
    if windows < 1:
        raise UserError(
            f"--seconds {seconds:g} is shorter than one image, {image_seconds:.2f} s; give at "
            f"least {image_seconds:.3g}, or omit --seconds to evaluate single images"
        )
    if count <= (MIN_TRACKS - 1) * windows:
        raise UserError(
            f"--samples {count} is enough for {format_count(-(-count // windows), 'piece')} of "
            f"{seconds:g} s, and {MIN_TRACKS} are needed; give at least "
            f"{(MIN_TRACKS - 1) * windows + 1}"
        )


def read_folder(
    folder: Path, training: ImageDataset, count: int, seed: int, seconds: float | None = None
) -> Samples:
    """Read the pictures of a folder, or a random choice of them, as training reads them.

    They have genres if they are in class folders named like the dataset's, or if each of them names
    its own, as the files of `generate` do.

    Args:
        count: the most images to read. Of pieces, as many are read as have this many windows.
        seconds: the pictures are pieces of at least this length, and the rest of longer ones is
            ignored. None for single images.

    Raises:
        UserError: the folder does not exist, or has too few images, or some of another size.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder")
    found = _find_pictures(folder, training.genres)
    windows = 1 if seconds is None else windows_in(seconds, training.spectrogram)
    clips = -(-count // windows)
    fewest = max(-(-MIN_SAMPLES // windows), MIN_TRACKS)
    if len(found) < fewest:
        raise UserError(
            f"{folder}: {len(found)} pictures in it; at least {fewest} are needed, "
            "flat or in class folders named like the dataset's"
        )
    if len(found) > clips:
        chosen = np.random.default_rng(seed).choice(len(found), clips, replace=False)
        found = [found[number] for number in np.sort(chosen)]
    pixels = np.empty((len(found), windows, *training.pixels.shape[1:]), dtype=np.uint8)
    genres = []
    for number, (path, class_folder) in enumerate(found):
        pixels[number], named = _read_picture(path, training, seconds)
        genres.append(class_folder or named)
    conditional = set(genres) <= set(training.genres)
    missing = [genre for genre in training.genres if genre not in genres] if conditional else []
    return Samples.from_windows(
        pixels,
        np.array([training.genres.index(genre) if conditional else 0 for genre in genres]),
        conditional=conditional,
        facts={"images": public_name(folder)},
        remarks=[
            f"There are no pictures of {', '.join(missing)}, which makes every distance larger."
        ]
        if missing
        else [],
        seconds=seconds,
    )


def _find_pictures(folder: Path, genres: list[str]) -> list[tuple[Path, str]]:
    """List pictures with the genre of their class folder, empty for those outside class folders.

    A folder is a class if the names are equal, or differ only in case and nothing else does so.
    """
    listing = list_images(folder, with_splits=False)
    folders = {name.partition("/")[0] for name in listing.names}
    genre_cases = Counter(genre.casefold() for genre in genres)
    folder_cases = Counter(name.casefold() for name in folders)
    classes = {genre: genre for genre in genres if genre in folders}
    for genre in genres:
        for name in folders - classes.keys():
            key = genre.casefold()
            if name.casefold() == key and genre_cases[key] == folder_cases[key] == 1:
                classes[name] = genre
    inside = [(folder / name, classes.get(name.partition("/")[0], "")) for name in listing.names]
    known = sorted(((path, genre) for path, genre in inside if genre), key=lambda found: found[1])
    unknown = sorted(folders - classes.keys())
    if unknown:
        logger.warning(
            "%s: ignoring %s in folders that are not classes of the dataset (%s)",
            folder,
            format_count(len(inside) - len(known), "picture"),
            ", ".join(unknown),
        )
    return [*((folder / name, "") for name in listing.unclassified), *known]


def _read_picture(path: Path, training: ImageDataset, seconds: float | None) -> tuple[Pixels, str]:
    """Read the windows uint8 (n, H, W) of a picture, one without `seconds`, and its genre."""
    windows = 1 if seconds is None else windows_in(seconds, training.spectrogram)
    try:
        with opened_image(path) as image:
            _check_size(path, image.size, training, seconds)
            genre = getattr(image, "text", {}).get("genre", "")
            found = split_windows(np.asarray(to_grayscale(image)), training.image_size)
            return found[:windows], genre
    except ImageError as error:
        raise UserError(
            f"{path}: cannot be read as an image ({error}); repair it, or move it out of the folder"
        ) from None


def _check_size(
    path: Path, pixels: tuple[int, int], training: ImageDataset, seconds: float | None
) -> None:
    """Raise UserError if a picture does not have the dataset's size, or a piece is too short."""
    width, height = pixels
    size, config = training.image_size, training.spectrogram
    width_seconds = width * config.hop_length / config.sample_rate
    if seconds is not None and height == size:
        if width // size < windows_in(seconds, config):
            raise UserError(
                f"{path} has {width} frames, which are {width_seconds:.1f} s; give fewer --seconds "
                f"than {seconds:g}, or longer pieces"
            )
    elif pixels != (size, size):
        is_piece = height == size and width > size
        remedy = f"give --seconds {width_seconds:.0f} if they are pieces, " if is_piece else ""
        raise UserError(
            f"{path} is {width}x{height} pixels, and the dataset's images are {size}x{size}; "
            f"{remedy}resize them, or preprocess with another --image-size"
        )
