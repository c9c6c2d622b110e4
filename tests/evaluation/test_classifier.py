"""The genre classifier: that it learns, what its training images go through, and its cache."""

from __future__ import annotations

import io
import logging
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from musicspectrogan.evaluation import features
from musicspectrogan.evaluation.features import (
    DIMENSIONS,
    GenreClassifier,
    augment,
    cached_classifiers,
    train_classifier,
)
from musicspectrogan.evaluation.samples import ImageSet
from musicspectrogan.tensors import as_images

CPU = torch.device("cpu")
SIDE = 64


def two_classes(count: int, seed: int, *, share: float = 0.5) -> ImageSet:
    """Noise with a line, at the bottom in class 0 and at the top in class 1.

    Args:
        share: of class 1.
    """
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) < share * count).astype(np.int64)
    pixels = rng.integers(0, 128, (count, SIDE, SIDE), dtype=np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        row = rng.integers(8) + (8 if label else SIDE - 16)
        image[row : row + 3] += 100
    return ImageSet(pixels, labels, np.arange(count))


def taught(images: ImageSet, *, seed: int = 0) -> GenreClassifier:
    return train_classifier(images, 2, CPU, seed=seed, description="Teaching")


def weights_of(network: GenreClassifier) -> list[np.ndarray]:
    return [weight.numpy() for weight in network.state_dict().values()]


@pytest.fixture
def steps(monkeypatch):
    """`steps(n)`: how long training takes from now on."""
    return lambda count: monkeypatch.setattr(features, "STEPS", count)


@pytest.fixture(scope="module")
def learned() -> GenreClassifier:
    """A classifier of the two classes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "STEPS", 40)
        return taught(two_classes(60, seed=0))


# Learning


def test_it_learns_what_differs(learned):
    unseen = two_classes(80, seed=1)
    chances = learned.probabilities(unseen.pixels)
    assert chances.shape == (80, 2)
    np.testing.assert_allclose(chances.sum(axis=1), 1.0, rtol=1e-5)
    assert (chances.argmax(axis=1) == unseen.labels).mean() > 0.97


def test_when_something_happens_does_not_count(learned):
    """A shift by what the network steps over gives the same features but for the edges."""
    unseen = two_classes(20, seed=2)
    embedded = learned.embed(unseen.pixels)
    shifted = learned.embed(np.roll(unseen.pixels, 16, axis=2))
    assert embedded.shape == (20, DIMENSIONS)
    distance = np.linalg.norm(embedded - shifted, axis=1).mean()
    between = np.linalg.norm(
        embedded[unseen.labels == 0] - embedded[unseen.labels == 1], axis=1
    ).mean()
    assert distance < 0.25 * between


def test_it_is_left_ready_for_use(learned):
    """No dropout, no gradients, and running statistics, so images are independent."""
    assert not learned.training
    assert not any(parameter.requires_grad for parameter in learned.parameters())
    images = two_classes(6, seed=3).pixels
    alone = np.concatenate([learned.probabilities(image[None]) for image in images])
    np.testing.assert_allclose(learned.probabilities(images), alone, atol=1e-5)


def test_images_are_taken_some_at_a_time(learned, monkeypatch):
    images = two_classes(11, seed=4).pixels
    whole = learned.probabilities(images)
    monkeypatch.setattr(features, "IMAGES_PER_BATCH", 4)
    np.testing.assert_allclose(learned.probabilities(images), whole, atol=1e-5)


@pytest.fixture
def lessons(monkeypatch) -> list[list[int]]:
    """The labels of each batch that is learned from."""
    seen: list[list[int]] = []
    loss = features.F.cross_entropy

    def watched(logits: Tensor, labels: Tensor, **settings: float) -> Tensor:
        seen.append(labels.tolist())
        return loss(logits, labels, **settings)

    monkeypatch.setattr(features.F, "cross_entropy", watched)
    return seen


def test_genres_are_taught_equally_often(steps, lessons):
    """Although nine images in ten are of one."""
    steps(8)
    taught(two_classes(100, seed=5, share=0.1))
    assert len(lessons) == 8
    assert np.mean(lessons) == pytest.approx(0.5, abs=0.06)


def test_another_seed_teaches_in_another_order(steps, lessons):
    steps(2)
    for seed in (0, 0, 1):
        taught(two_classes(20, seed=5), seed=seed)
    assert lessons[:2] == lessons[2:4]
    assert lessons[0] != lessons[4]


def test_a_genre_without_images_is_no_error(steps):
    steps(2)
    network = train_classifier(two_classes(20, seed=6), 4, CPU, description="Teaching")
    assert network.probabilities(two_classes(3, seed=6).pixels).shape == (3, 4)


@pytest.mark.parametrize("side", [64, 128, 256])
def test_all_image_sizes_give_features_of_one_length(side):
    network = GenreClassifier(5, side).eval()
    images = np.zeros((2, side, side), np.uint8)
    assert network.embed(images).shape == (2, DIMENSIONS)
    assert network.probabilities(images).shape == (2, 5)


def test_the_same_seed_gives_the_same_weights(steps):
    steps(3)
    images = two_classes(20, seed=7)
    first, other = taught(images), taught(images, seed=1)
    torch.rand(17)  # whatever else is drawn meanwhile
    again = taught(images)
    for one, same in zip(weights_of(first), weights_of(again), strict=True):
        np.testing.assert_array_equal(one, same)
    assert (first.head.weight != other.head.weight).all()


def test_the_random_numbers_of_others_stay_as_they_were(steps):
    steps(1)
    torch.manual_seed(11)
    expected = torch.rand(4)
    torch.manual_seed(11)
    taught(two_classes(20, seed=8))
    assert torch.equal(torch.rand(4), expected)


# Augmentation


def batch(count: int = 12) -> Tensor:
    """Different images in [-1, 1]."""
    pixels = np.random.default_rng(9).integers(0, 256, (count, 1, SIDE, SIDE), dtype=np.uint8)
    return as_images(torch.from_numpy(pixels))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def only(monkeypatch):
    """`only("shift")`: the other kinds of augmentation are switched off."""

    def leave(kind: str) -> None:
        for name in {"GAIN", "TILT"} - {kind.upper()}:
            monkeypatch.setattr(features, name, 0.0)
        if kind != "mask":
            monkeypatch.setattr(features, "MAX_MASK", 1 / SIDE)  # of no width, but always drawn

    return leave


def test_augmented_images_keep_their_shape_and_range():
    images = batch()
    before = images.clone()
    changed = augment(images, generator())
    assert changed.shape == images.shape
    assert changed.dtype == torch.float32
    assert changed.min() >= -1.0 and changed.max() <= 1.0
    assert torch.equal(images, before)


def test_each_image_is_changed_in_its_own_way():
    same = batch(1).expand(12, 1, SIDE, SIDE)
    changed = augment(same, generator()).flatten(1)
    distances = torch.cdist(changed, changed) + 100.0 * torch.eye(12)
    assert distances.min() > 1.0
    assert torch.equal(augment(same, generator()).flatten(1), changed)
    assert not torch.equal(augment(same, generator(1)).flatten(1), changed)


def test_images_are_shifted_around_in_time(only):
    only("shift")
    images = batch(30)
    shifts = []
    for image, changed in zip(images, augment(images, generator()), strict=True):
        matching = [s for s in range(SIDE) if torch.equal(torch.roll(image, -s, dims=2), changed)]
        assert len(matching) == 1
        shifts += matching
    assert len(set(shifts)) > 15
    assert min(shifts) < 10 and max(shifts) > SIDE - 10


def flat_batch(count: int) -> Tensor:
    """Grey images, on which a shift is not seen."""
    return torch.zeros(count, 1, SIDE, SIDE)


def test_gain_is_the_same_everywhere_in_an_image(only):
    only("gain")
    changed = augment(flat_batch(400), generator()).flatten(1)
    assert torch.equal(changed.min(dim=1).values, changed.max(dim=1).values)
    assert changed[:, 0].std() == pytest.approx(features.GAIN, rel=0.1)
    assert changed[:, 0].mean() == pytest.approx(0.0, abs=0.02)


def test_tilt_is_linear_over_bands_and_none_in_the_middle(only):
    only("tilt")
    changed = augment(flat_batch(400), generator())
    assert torch.equal(changed.amin(dim=3), changed.amax(dim=3))
    bands = changed[:, 0, :, 0]
    assert torch.diff(bands, n=2, dim=1).abs().max() < 1e-5
    torch.testing.assert_close(bands[:, 0], -bands[:, -1])
    assert bands[:, 0].std() == pytest.approx(features.TILT, rel=0.1)


def test_masks_are_one_stretch_of_time_and_one_of_bands(only):
    only("mask")
    masked = augment(flat_batch(300), generator())[:, 0] == -1.0
    widest = int(features.MAX_MASK * SIDE) - 1
    # A frame masked in all bands is masked in time; the other way round for a band.
    for in_all in (masked.all(dim=1), masked.all(dim=2)):
        widths = in_all.sum(dim=1)
        assert widths.min() == 0 and widths.max() == widest
        edges = (in_all != in_all.roll(1, dims=1)).sum(dim=1)
        assert edges.max() == 2  # it may go around the end
    in_time, in_bands = masked.all(dim=1)[:, None, :], masked.all(dim=2)[:, :, None]
    assert torch.equal(masked, in_time | in_bands)


# The cache


def halves() -> list[ImageSet]:
    return [two_classes(20, seed=10), two_classes(24, seed=11)]


@pytest.fixture
def training(monkeypatch) -> list[str]:
    """What was trained, by the descriptions; two steps each."""
    monkeypatch.setattr(features, "STEPS", 2)
    begun: list[str] = []
    train = features.train_classifier

    def watched(*args: object, **kwargs: object) -> GenreClassifier:
        begun.append(str(kwargs["description"]))
        return train(*args, **kwargs)

    monkeypatch.setattr(features, "train_classifier", watched)
    return begun


def answers(networks: list[GenreClassifier]) -> np.ndarray:
    return np.stack([network.probabilities(two_classes(5, seed=12).pixels) for network in networks])


def caches(root: Path) -> list[Path]:
    return sorted(root.iterdir())


def test_classifiers_are_trained_once_and_read_from_then_on(training, tmp_path, caplog):
    first = cached_classifiers(tmp_path, halves(), 2, CPU)
    assert training == [f"Training a classifier on real images ({k} of 2)" for k in (1, 2)]
    (path,) = caches(tmp_path)
    assert path.name.startswith(".classifiers-") and path.suffix == ".pt"
    contents = path.read_bytes()
    again = cached_classifiers(tmp_path, halves(), 2, CPU)
    assert len(training) == 2
    assert path.read_bytes() == contents
    np.testing.assert_array_equal(answers(first), answers(again))
    assert (answers(first)[0] != answers(first)[1]).any()
    assert not any(network.training for network in again)
    assert not caplog.messages


def changed_pixel(parts: list[ImageSet]) -> None:
    parts[1].pixels[3, 5, 7] ^= 1


def changed_label(parts: list[ImageSet]) -> None:
    parts[1].labels[3] ^= 1


@pytest.mark.parametrize("change", [changed_pixel, changed_label, list.reverse, list.pop])
def test_other_music_gets_other_classifiers(change, training, tmp_path):
    """And those of before, that nobody needs any more, are removed."""
    cached_classifiers(tmp_path, halves(), 2, CPU)
    before = caches(tmp_path)
    parts = halves()
    change(parts)
    found = cached_classifiers(tmp_path, parts, 2, CPU)
    assert len(found) == len(parts)
    assert len(training) == 2 + len(parts)
    (after,) = caches(tmp_path)
    assert [after] != before


def test_another_number_of_genres_gets_other_classifiers(training, tmp_path, caplog):
    cached_classifiers(tmp_path, halves(), 2, CPU)
    assert answers(cached_classifiers(tmp_path, halves(), 3, CPU)).shape == (2, 5, 3)
    assert len(training) == 4
    assert not caplog.messages  # the first ones are not taken for damaged


@pytest.mark.parametrize(
    "spoil",
    [
        lambda contents: contents[:-2000],
        lambda contents: b"",
        lambda contents: b"no weights" * 99,
        lambda contents: contents[:5000] + bytes(3000) + contents[8000:],
    ],
    ids=["cut off", "empty", "text", "zeros"],
)
def test_a_damaged_cache_is_said_and_mended(spoil, training, tmp_path, caplog):
    caplog.set_level(logging.WARNING, "musicspectrogan")
    first = cached_classifiers(tmp_path, halves(), 2, CPU)
    (path,) = caches(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(spoil(whole))
    again = cached_classifiers(tmp_path, halves(), 2, CPU)
    assert caplog.messages == [f"{path} is damaged; training new classifiers"]
    assert len(training) == 4
    assert caches(tmp_path) == [path]
    np.testing.assert_array_equal(answers(first), answers(again))
    cached_classifiers(tmp_path, halves(), 2, CPU)
    assert len(training) == 4 and len(caplog.messages) == 1


def test_classifiers_made_on_a_gpu_are_read_without_one(training, tmp_path, caplog, monkeypatch):
    first = cached_classifiers(tmp_path, halves(), 2, CPU)
    (path,) = caches(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save([network.state_dict() for network in first], path)
    again = cached_classifiers(tmp_path, halves(), 2, CPU)
    assert len(training) == 2 and not caplog.messages
    np.testing.assert_array_equal(answers(first), answers(again))


class Harmful:
    """Unpickled by a careless reader, this makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return (os.mkdir, (str(self.folder),))


def changed_weight(change):
    """The file with `change` made to a weight of the second classifier."""

    def spoil(path: Path) -> None:
        contents = torch.load(path, weights_only=True)
        contents[1]["columns.weight"] = change(contents[1]["columns.weight"])
        torch.save(contents, path)

    return spoil


def compressed(path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    path.write_bytes(packed.getvalue())


@pytest.mark.parametrize(
    "spoil",
    [
        changed_weight(lambda weight: weight * torch.nan),
        changed_weight(lambda weight: weight.double()),
        changed_weight(lambda weight: torch.zeros(1).expand(weight.shape)),
        changed_weight(lambda weight: torch.zeros(1).expand(2**20, 2**20)),
        changed_weight(lambda weight: weight.tolist()),
        compressed,
        lambda path: torch.jit.script(torch.nn.Linear(2, 2)).save(path),
        lambda path: torch.save([Harmful(path.parent / "harmed")] * 2, path),
        lambda path: torch.save({"weights": 1}, path),
        lambda path: torch.save(torch.load(path, weights_only=True)[:1], path),
    ],
    ids=[
        "NaN",
        "dtype",
        "expanded",
        "endless",
        "list",
        "compressed",
        "program",
        "harmful",
        "other",
        "fewer",
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_classifiers_of_a_stranger_are_trained_anew(spoil, training, tmp_path, caplog):
    caplog.set_level(logging.WARNING, "musicspectrogan")
    first = cached_classifiers(tmp_path, halves(), 2, CPU)
    (path,) = caches(tmp_path)
    spoil(path)
    again = cached_classifiers(tmp_path, halves(), 2, CPU)
    assert caplog.messages == [f"{path} is damaged; training new classifiers"]
    assert len(training) == 4 and caches(tmp_path) == [path]
    np.testing.assert_array_equal(answers(first), answers(again))


def test_a_folder_that_takes_no_file_is_said_and_no_obstacle(training, tmp_path, caplog):
    """A folder that is not there stands for one without permission, which root would have."""
    caplog.set_level(logging.WARNING, "musicspectrogan")
    root = tmp_path / "nowhere"
    found = cached_classifiers(root, halves(), 2, CPU)
    assert len(found) == len(training) == 2
    (message,) = caplog.messages
    assert message.startswith(f"Cannot cache the classifiers in {root} (") and "again" in message
