"""Two feature spaces of images: a genre classifier, and plain statistics.

A generator that is good in one feature space and bad in the other exploits a weakness of the
former.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.nn import functional as F

from musicspectrogan.errors import UserError
from musicspectrogan.evaluation.samples import ImageSet, Pixels
from musicspectrogan.progress import progress_bar
from musicspectrogan.tensors import as_images, generator_at
from musicspectrogan.torchfiles import (
    TorchFileError,
    check_weights,
    read_torch_file,
    write_torch_file,
)

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]
Embedding = Callable[[Pixels], npt.NDArray[np.floating]]

# Length of a feature vector: small, because covariances are estimated from about a hundred images.
DIMENSIONS = 32
IMAGES_PER_BATCH = 256

# Pixels a side of the picture that the principal components see.
PCA_SIDE = 32
# Spread of a block of statistics over all images, in units of the grey scale, below which it is
# rounding.
MIN_SPREAD = 1e-3

# Version of the classifier in the cache; increase it when the network or its training changes.
CLASSIFIER_VERSION = 1
WIDTH = 16
# Pixels a side after the convolutions, each of which halves it.
INNER_SIDE = 8
DROPOUT = 0.3
STEPS = 200
BATCH_SIZE = 64
PEAK_LR = 3e-3
WEIGHT_DECAY = 0.05
LABEL_SMOOTHING = 0.1
# Augmentation: standard deviations of levels in [-1, 1], and the largest mask as a part of the
# side.
GAIN = TILT = 0.1
MAX_MASK = 0.25


@dataclass(frozen=True)
class FeatureSpace:
    """An embedding, scaled to mean 0 and mean square 1 on the images that it was fitted to.

    This makes distances in different spaces comparable.
    """

    embedding: Embedding
    centre: Floats
    scale: float

    @classmethod
    def fit(cls, embedding: Embedding, pixels: Pixels) -> FeatureSpace:
        """Fit the scale on real images uint8 (N, H, W)."""
        features = _embed_in_batches(embedding, pixels)
        centre = features.mean(axis=0)
        return cls(embedding, centre, float(np.sqrt(np.mean((features - centre) ** 2))) or 1.0)

    def __call__(self, pixels: Pixels) -> Floats:
        """Features float64 (N, D) of images uint8 (N, H, W)."""
        return np.asarray((_embed_in_batches(self.embedding, pixels) - self.centre) / self.scale)


def _batches(pixels: Pixels) -> list[Pixels]:
    return [pixels[i : i + IMAGES_PER_BATCH] for i in range(0, len(pixels), IMAGES_PER_BATCH)]


def _embed_in_batches(embedding: Embedding, pixels: Pixels) -> Floats:
    return np.concatenate([embedding(batch) for batch in _batches(pixels)]).astype(np.float64)


def fit_pca(pixels: Pixels) -> Embedding:
    """Fit the untrained features: principal components of the picture and of band statistics.

    The picture holds where the energy is. The statistics hold how it moves, wherever in time: the
    mean of each band, its spread, its change from frame to frame, and its contrast to the next
    band.

    Args:
        pixels: uint8 (N, H, W), N at least 2.
    """
    per_batch = [_describe(batch) for batch in _batches(pixels)]
    blocks = [np.concatenate(parts) for parts in zip(*per_batch, strict=True)]
    # Every block gets the same weight, whatever its length.
    spreads = [float(np.sqrt(block.var(axis=0).sum())) for block in blocks]
    scales = [spread if spread > MIN_SPREAD else 1.0 for spread in spreads]

    def scaled(blocks: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        pairs = zip(blocks, scales, strict=True)
        return np.concatenate([block / scale for block, scale in pairs], axis=1)

    described = scaled(blocks)
    components = min(DIMENSIONS, len(described) - 1)
    pca = PCA(components, random_state=0).fit(described)

    def embed(images: Pixels) -> npt.NDArray[np.floating]:
        return np.asarray(pca.transform(scaled(_describe(images))))

    return embed


def _describe(pixels: Pixels) -> list[npt.NDArray[np.float32]]:
    """The picture (N, PCA_SIDE²) and four statistics of the bands, in units of the grey scale."""
    images = pixels.astype(np.float32) / np.float32(255.0)
    count, height, width = images.shape
    side = min(PCA_SIDE, height)
    picture = images.reshape(count, side, height // side, side, width // side).mean(axis=(2, 4))
    return [
        picture.reshape(count, -1),
        images.mean(axis=2),
        images.std(axis=2),
        np.abs(np.diff(images, axis=2)).mean(axis=2),
        np.abs(np.diff(images, axis=1)).mean(axis=2),
    ]


class GenreClassifier(nn.Module):
    """A small CNN: images (B, 1, H, W) in [-1, 1] -> logits (B, n_genres).

    After the convolutions each frame becomes one vector, which keeps absolute frequency; the mean
    over time discards when something happens.
    """

    def __init__(self, n_genres: int, image_size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inner, outer, side = 1, WIDTH, image_size
        while side > INNER_SIDE:
            layers += [
                nn.Conv2d(inner, outer, 3, 2, 1, bias=False),
                nn.BatchNorm2d(outer),
                nn.ReLU(inplace=True),
            ]
            inner, outer, side = outer, min(2 * outer, 4 * WIDTH), side // 2
        self.convolutions = nn.Sequential(*layers)
        self.columns = nn.Conv2d(inner, DIMENSIONS, (INNER_SIDE, 1))
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(DIMENSIONS, n_genres)

    def features(self, images: Tensor) -> Tensor:
        """The penultimate layer, (B, DIMENSIONS)."""
        return F.relu(self.columns(self.convolutions(images))).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, n_genres)."""
        logits: Tensor = self.head(self.dropout(self.features(images)))
        return logits

    @torch.no_grad()
    def embed(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """Features (N, DIMENSIONS) of images uint8 (N, H, W)."""
        return self.features(_as_batch(pixels, self.head.weight.device)).cpu().numpy()

    @torch.no_grad()
    def probabilities(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """Class probabilities (N, n_genres) of images uint8 (N, H, W)."""
        device = self.head.weight.device
        logits = [self(_as_batch(batch, device)) for batch in _batches(pixels)]
        return torch.cat(logits).softmax(dim=1).cpu().numpy()


def _as_batch(pixels: Pixels, device: torch.device) -> Tensor:
    batch = torch.from_numpy(pixels).unsqueeze(1).to(device)
    return as_images(batch).contiguous(memory_format=torch.channels_last)


def _create_classifier(n_genres: int, image_size: int, device: torch.device) -> GenreClassifier:
    return GenreClassifier(n_genres, image_size).to(device).to(memory_format=torch.channels_last)


def train_classifier(
    images: ImageSet, n_genres: int, device: torch.device, *, seed: int = 0, description: str
) -> GenreClassifier:
    """Train a classifier with balanced genres; deterministic on a device.

    Args:
        description: text of the progress bar.
    """
    # Initial weights and dropout use the global generator.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        classifier = _create_classifier(n_genres, images.pixels.shape[1], device)
        optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LR, STEPS)
        generator = generator_at("cpu", seed, "classifier")
        sizes = np.bincount(images.labels, minlength=n_genres)
        weights = torch.from_numpy(1.0 / sizes[images.labels])
        with progress_bar(total=STEPS, description=description, unit="step") as bar:
            for _ in range(STEPS):
                rows = torch.multinomial(
                    weights, BATCH_SIZE, replacement=True, generator=generator
                ).numpy()
                batch = augment(_as_batch(images.pixels[rows], torch.device("cpu")), generator)
                labels = torch.from_numpy(images.labels[rows]).to(device)
                logits = classifier(batch.to(device))
                loss = F.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch
                optimizer.step()
                schedule.step()
                bar.update()
    return classifier.eval().requires_grad_(False)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Augment images (B, 1, H, W): shift in time, gain, tilt, and masks in time and frequency.

    SpecAugment: D. Park et al., arXiv:1904.08779.
    """
    count, _, height, width = images.shape
    frames, bands = torch.arange(width), torch.arange(height)

    def draw(limit: int) -> Tensor:
        return torch.randint(limit, (count, 1), generator=generator)

    shifted = (frames + draw(width)) % width
    images = images.gather(3, shifted[:, None, None, :].expand_as(images))
    gain, tilt = torch.randn(2, count, 1, 1, 1, generator=generator)
    slope = torch.linspace(1.0, -1.0, height)[:, None]
    images = (images + GAIN * gain + TILT * tilt * slope).clamp(-1.0, 1.0)
    in_time = (frames - draw(width)) % width < draw(int(MAX_MASK * width))
    in_frequency = (bands - draw(height)) % height < draw(int(MAX_MASK * height))
    return images.masked_fill(in_time[:, None, None, :] | in_frequency[:, None, :, None], -1.0)


def cached_classifiers(
    root: Path, parts: Sequence[ImageSet], n_genres: int, device: torch.device
) -> list[GenreClassifier]:
    """Train a classifier on each part of a dataset, or read them from the cache in its folder.

    The cache's name is a hash of the images and labels.

    Args:
        root: the dataset's folder.
        n_genres: number of classes.
    """
    version = repr((CLASSIFIER_VERSION, n_genres, [part.pixels.shape for part in parts]))
    key = hashlib.sha256(version.encode())
    for part in parts:
        key.update(part.pixels.tobytes() + part.labels.tobytes())
    path = root / f".classifiers-{key.hexdigest()[:16]}.pt"
    try:
        return _restore_classifiers(read_torch_file(path), parts, n_genres, device)
    except FileNotFoundError:
        pass
    except OSError as error:
        logger.warning("Cannot read %s (%s); training new classifiers", path, error.strerror)
    except (TorchFileError, UserError):
        logger.warning("%s is damaged; training new classifiers", path)
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
            "Cannot cache the classifiers in %s (%s): every evaluation trains them again",
            root,
            error.strerror,
        )
    return classifiers


def _restore_classifiers(
    contents: object, parts: Sequence[ImageSet], n_genres: int, device: torch.device
) -> list[GenreClassifier]:
    """Create classifiers from the contents of a cache; raise UserError if they do not fit."""
    if not isinstance(contents, list) or len(contents) != len(parts):
        raise UserError(f"not the weights of {len(parts)} classifiers")
    classifiers = []
    for weights, part in zip(contents, parts, strict=True):
        classifier = _create_classifier(n_genres, part.pixels.shape[1], device)
        check_weights("classifier", weights, classifier)
        classifier.load_state_dict(weights)
        classifiers.append(classifier.eval().requires_grad_(False))
    return classifiers
