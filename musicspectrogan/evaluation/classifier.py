"""A small genre classifier: what it sees in an image is the trained kind of features."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from musicspectrogan.errors import UserError
from musicspectrogan.evaluation.features import DIMENSIONS, IMAGES_AT_ONCE
from musicspectrogan.evaluation.sets import ImageSet
from musicspectrogan.progress import progress_bar
from musicspectrogan.tensors import as_images, generator_at
from musicspectrogan.torchfiles import (
    TorchFileError,
    check_weights,
    read_torch_file,
    write_torch_file,
)

logger = logging.getLogger(__name__)

# What a cached classifier was made by; to be raised whenever the network or its training changes.
RECIPE = 1

WIDTH = 16
# Pixels a side after the convolutions, each of which halves it.
INNERMOST = 8
DROPOUT = 0.3
STEPS = 200
BATCH_SIZE = 64
PEAK_LR = 3e-3
WEIGHT_DECAY = 0.05
LABEL_SMOOTHING = 0.1

# Augmentation: levels in units of the networks' range of 2, masks in parts of the side.
GAIN = TILT = 0.1
WIDEST_MASK = 0.25


class GenreClassifier(nn.Module):
    """Images (B, 1, H, W) -> logits (B, n_genres), with `features` (B, DIMENSIONS) before the last layer.

    After the convolutions each frame's column becomes one vector: where in frequency something lies
    counts. The mean over time follows: when it happens does not.
    """

    def __init__(self, n_genres: int, image_size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inner, outer, side = 1, WIDTH, image_size
        while side > INNERMOST:
            layers += [
                nn.Conv2d(inner, outer, 3, 2, 1, bias=False),
                nn.BatchNorm2d(outer),
                nn.ReLU(inplace=True),
            ]
            inner, outer, side = outer, min(2 * outer, 4 * WIDTH), side // 2
        self.convolutions = nn.Sequential(*layers)
        self.columns = nn.Conv2d(inner, DIMENSIONS, (INNERMOST, 1))
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(DIMENSIONS, n_genres)

    def features(self, images: Tensor) -> Tensor:
        """The penultimate layer, (B, DIMENSIONS)."""
        return F.relu(self.columns(self.convolutions(images))).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, n_genres) of images (B, 1, H, W) in [-1, 1]."""
        return self.head(self.dropout(self.features(images)))

    @torch.no_grad()
    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features (N, DIMENSIONS) of images uint8 (N, H, W)."""
        return self.features(_as_batch(pixels, self.head.weight.device)).cpu().numpy()

    @torch.no_grad()
    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Of each label, (N, n_genres), for images uint8 (N, H, W)."""
        device = self.head.weight.device
        starts = range(0, len(pixels), IMAGES_AT_ONCE)
        blocks = [
            self(_as_batch(pixels[start : start + IMAGES_AT_ONCE], device)) for start in starts
        ]
        return torch.cat(blocks).softmax(dim=1).cpu().numpy()


def train_classifier(
    images: ImageSet, n_genres: int, device: torch.device, *, seed: int = 0, description: str
) -> GenreClassifier:
    """Train a classifier for a fixed number of steps; the same images and seed give the same one on a device.

    Genres are drawn equally often, whatever their sizes.

    Args:
        description: what the progress bar says.
    """
    # For the initial weights and the dropout.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        classifier = GenreClassifier(n_genres, images.pixels.shape[1])
        classifier = classifier.to(device, memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LR, STEPS)
        generator = generator_at("cpu", seed, "classifier")
        sizes = np.bincount(images.labels, minlength=n_genres)
        chances = torch.from_numpy(1.0 / sizes[images.labels])
        with progress_bar(total=STEPS, description=description, unit="step") as bar:
            for _ in range(STEPS):
                picks = torch.multinomial(
                    chances, BATCH_SIZE, replacement=True, generator=generator
                ).numpy()
                batch = augmented(
                    _as_batch(images.pixels[picks], torch.device("cpu")), generator
                ).to(device)
                labels = torch.from_numpy(images.labels[picks]).to(device)
                loss = F.cross_entropy(classifier(batch), labels, label_smoothing=LABEL_SMOOTHING)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.update()
    return classifier.eval().requires_grad_(False)


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (B, 1, H, W) shifted in time, made louder and brighter or less, with a time and a frequency
    mask each (D. Park et al., arXiv:1904.08779)."""
    count, _, height, width = images.shape
    frames, bands = torch.arange(width), torch.arange(height)

    def drawn(below: int) -> Tensor:
        return torch.randint(below, (count, 1), generator=generator)

    shifted = (frames + drawn(width)) % width
    images = images.gather(3, shifted[:, None, None, :].expand_as(images))
    gain, tilt = torch.randn(2, count, 1, 1, 1, generator=generator)
    slope = torch.linspace(1.0, -1.0, height)[:, None]
    images = (images + GAIN * gain + TILT * tilt * slope).clamp(-1.0, 1.0)
    in_time = (frames - drawn(width)) % width < drawn(int(WIDEST_MASK * width))
    in_frequency = (bands - drawn(height)) % height < drawn(int(WIDEST_MASK * height))
    return images.masked_fill(in_time[:, None, None, :] | in_frequency[:, None, :, None], -1.0)


def cached_classifiers(
    root: Path, parts: Sequence[ImageSet], n_genres: int, device: torch.device
) -> list[GenreClassifier]:
    """A classifier for each part of a dataset, trained the first time and read from then on.

    The file beside the images is keyed by what they show, so that changed music gets new ones.

    Args:
        root: the dataset's folder.
        n_genres: what the labels count in.
    """
    key = hashlib.sha256(repr((RECIPE, n_genres, [part.pixels.shape for part in parts])).encode())
    for part in parts:
        key.update(part.pixels.tobytes() + part.labels.tobytes())
    path = root / f".classifiers-{key.hexdigest()[:16]}.pt"
    try:
        return _restored(read_torch_file(path), parts, n_genres, device)
    except FileNotFoundError:
        pass
    except OSError as error:
        logger.warning(
            "%s cannot be read (%s); its classifiers are trained anew", path, error.strerror
        )
    except (TorchFileError, UserError):
        logger.warning("%s is damaged; its classifiers are trained anew", path)
    classifiers = [
        train_classifier(
            part,
            n_genres,
            device,
            description=f"Training a classifier on real images ({k} of {len(parts)})",
        )
        for k, part in enumerate(parts, 1)
    ]
    try:
        write_torch_file([classifier.state_dict() for classifier in classifiers], path)
        for stale in set(root.glob(f".classifiers-{'[0-9a-f]' * 16}.pt")) - {path}:
            stale.unlink()
    except OSError as error:
        logger.warning(
            "%s cannot keep the classifiers (%s): trained again each time", root, error.strerror
        )
    return classifiers


def _restored(
    contents: object, parts: Sequence[ImageSet], n_genres: int, device: torch.device
) -> list[GenreClassifier]:
    """The classifiers from the contents of the file; UserError where they are not these parts'."""
    if not isinstance(contents, list) or len(contents) != len(parts):
        raise UserError(f"not the weights of {len(parts)} classifiers")
    classifiers = []
    for weights, part in zip(contents, parts, strict=True):
        classifier = GenreClassifier(n_genres, part.pixels.shape[1])
        check_weights("classifier", weights, classifier)
        classifier.load_state_dict(weights)
        classifier = classifier.to(device, memory_format=torch.channels_last)
        classifiers.append(classifier.eval().requires_grad_(False))
    return classifiers


def _as_batch(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    batch = torch.from_numpy(pixels).unsqueeze(1).to(device)
    return as_images(batch).contiguous(memory_format=torch.channels_last)
