"""Speed of training, beside the loop that people copy from PyTorch's DCGAN tutorial and a matrix product.

    PYTHONPATH=. python benchmarks/training.py [--device cuda]

Composes demo music, makes images of it and prints a section of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from common import Table, in_turn, ratios, run_command, tell, work_folder
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms
from torchvision.datasets import ImageFolder

from musicspectrogan import models
from musicspectrogan.data.dataset import ImageDataset, load_dataset
from musicspectrogan.models import ModelConfig
from musicspectrogan.training.batches import Batches
from musicspectrogan.training.device import choose_device
from musicspectrogan.training.ema import AveragedGenerator
from musicspectrogan.training.graph import GraphedStep
from musicspectrogan.training.losses import LOSSES
from musicspectrogan.training.settings import TrainingConfig
from musicspectrogan.training.step import VIEWS, AdversarialStep
from musicspectrogan.training.trainer import Trainer

ROUNDS = 5
CONFIG = TrainingConfig(standing_batches=1, seed=1)
# Images that each way trains on in a round.
IMAGES = {"cuda": 64_000, "cpu": 640}
WORKERS = 2
MATRIX = {"cuda": 8192, "cpu": 2048}

NOTES = {
    "cpu": """
On a CPU nine tenths of a step are convolutions, and at width 64 they already run at nearly the rate of a
large matrix product. The tutorial's loop reaches four fifths of it, so no loop can be much more than 1.25
times as fast there. What makes the difference: channels-last layout, one fused Adam, no gradients of the
discriminator's weights in the generator's turn, no decoding in the loop. Tried and left: `torch.compile` of
both networks (0.87 times as fast at width 16, the same at width 64, after half a minute of compiling);
bfloat16, which this CPU only emulates.

**On CUDA every figure is still owed**: none was at hand. There the step is recorded as one CUDA graph, the
dataset and all random draws are on the device, and nothing waits for it between logging ticks; `--precision
bfloat16` is there to be measured. `python benchmarks/training.py --device cuda` fills this section.
""",
    "cuda": "",
}


def wait_for(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


class Rival:
    """The tutorial's loop: ImageFolder, a DataLoader, BCE on sigmoids, three `.item()` a step."""

    def __init__(self, root: Path, model: ModelConfig, device: torch.device) -> None:
        grey = [transforms.Grayscale(), transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))]
        dataset = ImageFolder(str(root), transform=transforms.Compose(grey))
        self.loader = DataLoader(
            dataset, CONFIG.batch_size, shuffle=True, num_workers=WORKERS, drop_last=True
        )
        self.device = device
        generator, discriminator = models.build("dcgan", model)
        self.generator, self.discriminator = generator.to(device), discriminator.to(device)
        betas = (CONFIG.beta1, CONFIG.beta2)
        self.optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=CONFIG.lr, betas=betas)
        self.optimizer_g = torch.optim.Adam(generator.parameters(), lr=CONFIG.lr, betas=betas)
        self.criterion = nn.BCELoss()

    def train(self, images: int) -> float:
        """Seconds for so many images, without the start of the loader's processes."""
        steps = images // CONFIG.batch_size
        done, start = 0, 0.0
        while True:
            for reals, _ in self.loader:
                if not start:
                    wait_for(self.device)
                    start = time.perf_counter()
                self.step(reals.to(self.device))
                done += 1
                if done == steps:
                    wait_for(self.device)
                    return time.perf_counter() - start

    def step(self, reals: torch.Tensor) -> None:
        """The tutorial's step, in our words."""
        size, device = len(reals), self.device
        unused = torch.zeros(size, dtype=torch.int64, device=device)
        ones, zeros = torch.ones(size, device=device), torch.zeros(size, device=device)
        self.discriminator.zero_grad()
        verdict = self.discriminator(reals, unused).sigmoid()
        error_real = self.criterion(verdict, ones)
        error_real.backward()
        verdict.mean().item()
        fakes = self.generator(torch.randn(size, CONFIG.latent_dim, device=device), unused)
        verdict = self.discriminator(fakes.detach(), unused).sigmoid()
        error_fake = self.criterion(verdict, zeros)
        error_fake.backward()
        verdict.mean().item()
        self.optimizer_d.step()
        self.generator.zero_grad()
        verdict = self.discriminator(fakes, unused).sigmoid()
        error = self.criterion(verdict, ones)
        error.backward()
        verdict.mean().item()
        self.optimizer_g.step()


class Ours:
    """This project's trainer, with its batches, averaged generator and logging ticks."""

    def __init__(
        self, dataset: ImageDataset, model: ModelConfig, device: torch.device, precision: str
    ) -> None:
        generator, discriminator = (
            network.to(device, memory_format=torch.channels_last) for network in models.build("dcgan", model)
        )
        torch.backends.cudnn.benchmark = True
        step_class = GraphedStep if device.type == "cuda" else AdversarialStep
        self.step = step_class(
            generator,
            discriminator,
            LOSSES["bce"],
            lr=CONFIG.lr,
            betas=(CONFIG.beta1, CONFIG.beta2),
            bfloat16=precision == "bfloat16",
        )
        self.ema = AveragedGenerator(generator, CONFIG.ema_images)
        self.dataset, self.device = dataset, device

    def train(self, images: int) -> None:
        """Train on so many images."""
        batches = Batches(self.dataset, CONFIG.batch_size, self.device, CONFIG.seed)
        # One epoch of that many steps, so that no snapshot comes between.
        batches.steps_per_epoch = images // CONFIG.batch_size
        batches.size = min(batches.size, images)
        Trainer(replace(CONFIG, epochs=1), batches, self.step, self.ema).train()
        wait_for(self.device)


@dataclass
class Product:
    """A large matrix product: the rate that the device reaches in floating-point operations a second."""

    device: torch.device
    dtype: torch.dtype

    def __post_init__(self) -> None:
        self.size = MATRIX[self.device.type]
        self.left, self.right = (
            torch.randn(self.size, self.size, device=self.device, dtype=self.dtype) for _ in range(2)
        )

    def run(self) -> float:
        """Seconds for one product."""
        wait_for(self.device)
        start = time.perf_counter()
        for _ in range(20):
            self.left @ self.right
        wait_for(self.device)
        return (time.perf_counter() - start) / 20


def operations(model: ModelConfig) -> float:
    """Floating-point operations of the convolutions, for one image of a step."""
    step = AdversarialStep(*models.build("dcgan", model), LOSSES["bce"], lr=1e-4, betas=(0.5, 0.9))
    size = CONFIG.image_size or 64
    batch = torch.zeros(2, 1, size, size), torch.zeros(2, dtype=torch.int64), torch.randn(2, model.latent_dim)
    with FlopCounterMode(display=False) as counter:
        step(*batch, torch.empty(VIEWS, 2, 0))
    return counter.get_total_flops() / 2


def rows(table: Table, root: Path, width: int, device: torch.device, precision: str) -> None:
    """Compare at one width."""
    dataset = load_dataset(root, split="all")
    model = ModelConfig(dataset.image_size, width, CONFIG.latent_dim, len(dataset.genres))
    images = IMAGES[device.type] * (64 // width if device.type == "cpu" else 1)
    rival, mine = Rival(root, model, device), Ours(dataset, model, device, precision)
    # The float32 product is allowed TF32 as cuDNN's convolutions are.
    torch.set_float32_matmul_precision("high")
    product = Product(device, getattr(torch, precision))
    tell(f"Width {width}, {precision}, {device}")
    took = in_turn(
        {"rival": lambda: rival.train(images), "ours": lambda: mine.train(images), "product": product.run},
        ROUNDS,
    )
    rate = images / statistics.median(took["ours"])
    name = f"width {width}, {precision}"
    table.add_ratio(
        f"{name}: times as fast as the tutorial's loop",
        ratios(took["rival"], took["ours"]),
        4 if device.type == "cuda" else 1.2,
        "the convolutions" if device.type == "cpu" else "",
    )
    needed = images * operations(model)
    possible = [needed / (2 * product.size**3 / seconds) for seconds in took["product"]]
    table.add_ratio(
        f"{name}: part of the rate of a large matrix product, {needed / images / 1e9:.2f} GFLOP an image",
        ratios(possible, took["ours"]),
        0.6 if device.type == "cpu" else None,
        "BatchNorm, activations and Adam move memory and count no operations",
    )
    fast = device.type == "cuda" and width == 64
    target = "at least 40,000 on a data-centre GPU" if fast else ""
    table.add(f"{name}: images a second", f"{rate:,.0f}", target, rate >= 40_000 if fast else None, "")


def memory_row(table: Table) -> None:
    """What a GPU needs for the classic run."""
    peak = torch.cuda.max_memory_allocated() / 2**30
    table.add("peak memory of all of this on the GPU", f"{peak:.2f} GiB", "under 2 GB", peak < 2, "")


def main() -> None:
    """Measure, and print the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    device = choose_device(parser.parse_args().device)
    if device.type not in IMAGES:
        parser.error(f"--device {device}: measured on CUDA and CPU only")
    table = Table()
    with work_folder() as work:
        tell("Making images")
        made = ("--input", work / "music", "--output", work / "images", "--tracks-per-genre", 40)
        run_command("preprocess.py", "--dataset", "demo", *made)
        for precision in ("float32", "bfloat16") if device.type == "cuda" else ("float32",):
            for width in (64, 32, 16):
                rows(table, work / "images", width, device, precision)
        if device.type == "cuda":
            memory_row(table)
    where = (
        torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    )
    print(f"## Training ({where})\n\n{table}\n{NOTES[device.type]}")


if __name__ == "__main__":
    main()
