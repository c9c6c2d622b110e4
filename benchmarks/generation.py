"""Speed of sampling and of inversion, compared with a loop over single images with librosa.

    PYTHONPATH=. python benchmarks/generation.py [--device cuda]

Composes demo music, makes images of it and prints a section of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np
import torch
from common import Table, in_turn, log_progress, ratios, run_command, work_folder
from inversion import invert_with_librosa
from torch import nn

from musicspectrogan import models
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.data.dataset import load_dataset
from musicspectrogan.device import choose_device
from musicspectrogan.generation.sampler import Sampler
from musicspectrogan.generation.sound import sounds_of
from musicspectrogan.models import ModelConfig
from musicspectrogan.tensors import as_pixels
from musicspectrogan.training.checkpoint import Checkpoint

ROUNDS = 5
IMAGES = 32
SAMPLES = 256
MODEL = ModelConfig(image_size=64, width=64, latent_dim=100, n_genres=5)
CONFIG = SpectrogramConfig()


def fresh_checkpoint() -> Checkpoint:
    """A cGAN of the classic size, untrained."""
    generator, discriminator = models.build("cgan", MODEL)
    return Checkpoint(
        gan="cgan",
        model=MODEL,
        training={},
        genres=[f"genre {k}" for k in range(MODEL.n_genres)],
        spectrogram=CONFIG,
        generator=generator.state_dict(),
        discriminator=discriminator.state_dict(),
        ema=generator.state_dict(),
        optimizer_g={},
        optimizer_d={},
        epoch=1,
        step=1,
        images_seen=64,
        dataset_fingerprint="",
    )


def one_by_one(generator: nn.Module, count: int, device: torch.device) -> list[np.ndarray]:
    """Draw images with a batch size of 1."""
    images = []
    with torch.no_grad():
        for number in range(count):
            latent = torch.randn(1, MODEL.latent_dim, device=device)
            label = torch.tensor([number % MODEL.n_genres], device=device)
            images.append(as_pixels(generator(latent, label))[0])
    return images


def main() -> None:
    """Measure, and print the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    device = choose_device(parser.parse_args().device)
    sampler = Sampler(fresh_checkpoint(), device)

    def sample() -> None:
        labels = sampler.one_hot("genre 0", SAMPLES)
        sampler.images(sampler.latents(list(range(SAMPLES))), labels)

    with work_folder() as work:
        log_progress("Making images")
        made = ("--input", work / "music", "--output", work / "images", "--tracks-per-genre", 8)
        run_command("preprocess.py", "--dataset", "demo", *made)
        dataset = load_dataset(work / "images", split="all")
        picks = np.linspace(0, len(dataset) - 1, IMAGES).astype(int)
        images = np.ascontiguousarray(dataset.pixels[dataset.rows[picks]])
    took = in_turn(
        {
            "one by one": lambda: one_by_one(sampler.generator, SAMPLES, device),
            "samples": sample,
            "librosa": lambda: invert_with_librosa(list(images), CONFIG),
            "sounds": lambda: sounds_of(images, CONFIG),
        },
        ROUNDS,
    )
    table = Table()
    per_second = SAMPLES / statistics.median(took["samples"])
    table.add_ratio(
        f"width 64: times as fast as one image at a time ({per_second:,.0f} images a second)",
        ratios(took["one by one"], took["samples"]),
        None,
        "the convolutions, in fixed batches of 16, so that images do not depend on the count",
    )
    audio = IMAGES * CONFIG.image_seconds / statistics.median(took["sounds"])
    table.add_ratio(
        f"sound: times as fast as librosa ({audio:.0f} seconds of sound a second)",
        ratios(took["librosa"], took["sounds"]),
        5,
        "eight rounds of Fourier transforms there and back, on the CPU",
    )
    both = [
        [IMAGES / SAMPLES * image + sound for image, sound in zip(took[a], took[b], strict=True)]
        for a, b in (("one by one", "librosa"), ("samples", "sounds"))
    ]
    table.add_ratio(
        "image and sound: times as fast as the loop over single images",
        ratios(*both),
        5,
        "the sound",
    )
    where = (
        torch.cuda.get_device_name()
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads"
    )
    print(f"## Generating and inverting ({where})\n\n{table}")


if __name__ == "__main__":
    main()
