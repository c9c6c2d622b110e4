from __future__ import annotations

import numpy as np
import pytest
import torch

from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.data.dataset import ImageDataset
from musicspectrogan.tensors import as_images, as_pixels, generator_at
from musicspectrogan.training.batches import Batches

CPU = torch.device("cpu")


def numbered_images(count: int) -> ImageDataset:
    """Image k is filled with the grey level k and has the label k % 3; row 0 belongs to no split."""
    pixels = np.repeat(np.arange(count + 1, dtype=np.uint8), 64 * 64).reshape(-1, 64, 64)
    rows = np.arange(1, count + 1)
    genres, settings = ["a", "b", "c"], SpectrogramConfig()
    return ImageDataset("numbers", pixels, rows, rows % 3, genres, rows, 0 * rows, settings, "")


def numbers(images: torch.Tensor) -> list[int]:
    return as_pixels(images)[:, 0, 0].tolist()


@pytest.mark.parametrize(("count", "batch_size", "steps"), [(10, 4, 3), (12, 4, 3), (3, 8, 1), (200, 64, 4)])
def test_an_epoch_shows_every_image_in_full_batches(count, batch_size, steps):
    batches = Batches(numbered_images(count), batch_size, CPU, seed=0)
    assert batches.steps_per_epoch == steps
    epoch = list(batches.epoch(0))
    assert [images.shape for images, _ in epoch] == [(batch_size, 1, 64, 64)] * steps
    shown = [number for images, _ in epoch for number in numbers(images)]
    assert set(shown) == set(range(1, count + 1))
    assert len(set(shown[:count])) == count  # nothing twice before everything once
    for images, labels in epoch:
        assert [number % 3 for number in numbers(images)] == labels.tolist()


def test_an_epoch_can_be_entered_anywhere():
    batches = Batches(numbered_images(50), 8, CPU, seed=5)
    whole = [numbers(images) for images, _ in batches.epoch(3)]
    assert [numbers(images) for images, _ in batches.epoch(3, start=4)] == whole[4:]


def test_order_is_a_function_of_seed_and_epoch():
    def order(seed: int, epoch: int) -> list[int]:
        batches = Batches(numbered_images(60), 60, CPU, seed)
        return [number for images, _ in batches.epoch(epoch) for number in numbers(images)]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_labels_are_drawn_with_the_frequencies_of_the_dataset():
    batches = Batches(numbered_images(3), 3000, CPU, seed=0)
    labels = batches.labels_at(7)
    assert torch.equal(labels, batches.labels_at(7))
    assert not torch.equal(labels, batches.labels_at(8))
    assert torch.bincount(labels, minlength=3).tolist() == pytest.approx([1000] * 3, abs=120)


def test_pixels_and_images_are_inverse():
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    images = as_images(pixels)
    assert images.min() == -1 and images.max() == 1
    np.testing.assert_array_equal(as_pixels(images)[0], pixels[0, 0].numpy())


def test_random_numbers_depend_on_every_part_of_the_position():
    def draw(*position: object) -> float:
        return torch.rand(1, generator=generator_at("cpu", *position)).item()

    assert draw(0, "latents", 64) == draw(0, "latents", 64)
    assert (
        len({draw(0, "latents", 64), draw(1, "latents", 64), draw(0, "grid", 64), draw(0, "latents", 65)})
        == 4
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_on_a_gpu_equal_those_on_the_cpu(monkeypatch):
    dataset = numbered_images(100)
    expected = [(numbers(i), labels.tolist()) for i, labels in Batches(dataset, 32, CPU, 1).epoch(2)]
    resident = Batches(dataset, 32, torch.device("cuda"), 1)
    assert [(numbers(i), labels.tolist()) for i, labels in resident.epoch(2)] == expected
    monkeypatch.setattr("musicspectrogan.training.batches.DEVICE_SHARE", 0.0)
    streamed = Batches(dataset, 32, torch.device("cuda"), 1)
    assert [(numbers(i), labels.tolist()) for i, labels in streamed.epoch(2)] == expected
