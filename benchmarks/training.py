"""Speed of training, compared with the loop of PyTorch's DCGAN tutorial and a matrix product.

    PYTHONPATH=. python benchmarks/training.py [--device cuda] [--images 64000 --rounds 5]

Makes demo music and images of it, and prints a section of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from common import Table, in_turn, log_progress, ratios, run_command, work_folder
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms
from torchvision.datasets import ImageFolder

from musicspectrogan import models
from musicspectrogan.data.dataset import ImageDataset, load_dataset
from musicspectrogan.device import arithmetic, choose_device
from musicspectrogan.models import ModelConfig
from musicspectrogan.training.batches import Batches
from musicspectrogan.training.building import build_networks, build_step
from musicspectrogan.training.ema import AveragedGenerator
from musicspectrogan.training.losses import LOSSES
from musicspectrogan.training.settings import TrainingConfig
from musicspectrogan.training.step import VIEWS, AdversarialStep, RecordedStep
from musicspectrogan.training.trainer import Trainer

CONFIG = TrainingConfig(standing_batches=1, seed=1)
WORKERS = 2
WIDTHS = (64, 32, 16)


@dataclass(frozen=True)
class Size:
    """How much to measure on a device."""

    images: int
    """That each alternative trains on in a round, at width 64."""
    matrix: int
    """Rows and columns of the large matrix product."""
    precisions: tuple[str, ...]
    """One row each."""


SIZES = {
    "cuda": Size(64_000, 8192, ("float32", "tf32", "bfloat16")),
    "cpu": Size(640, 2048, ("float32",)),
}

NOTES = {
    "cpu": """
On a CPU nine tenths of a step are convolutions, and at width 64 they already run at nearly the rate
of a large matrix product. The tutorial's loop reaches four fifths of that rate, so no loop can be
much more than 1.25 times as fast. The difference comes from: channels-last layout, one fused Adam,
no gradients of the discriminator's weights in the generator's step, no decoding in the loop. Tried
without success: `torch.compile` of both networks (0.87 times as fast at width 16, the same at width
64, after half a minute of compiling); bfloat16, which this CPU only emulates.

""",
    "cuda": "",
}


def wait_for(device: torch.device) -> None:
    """Wait until the device has finished its queue."""
    if device.type == "cuda":
        torch.cuda.synchronize()


class TutorialLoop:
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
        """Train on that many images; return the seconds without starting the loader's processes."""
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
        """Take a training step as the tutorial does."""
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


class ProjectLoop:
    """This project's trainer, with its batches, averaged generator and log lines."""

    def __init__(
        self,
        dataset: ImageDataset,
        model: ModelConfig,
        device: torch.device,
        precision: str,
        *,
        recorded: bool,
    ) -> None:
        config = replace(CONFIG, precision=precision)
        networks = build_networks(config, model)
        self.step = build_step(config, networks, device, augment=0.0, recorded=recorded)
        self.take_step = RecordedStep(self.step) if recorded else self.step
        self.ema = AveragedGenerator(self.step.generator, CONFIG.ema_images)
        self.dataset, self.device = dataset, device

    def train(self, images: int) -> None:
        """Train on that many images."""
        batches = Batches(self.dataset, CONFIG.batch_size, self.device, CONFIG.seed)
        # One epoch of that many steps, so that no snapshot is taken.
        batches.steps_per_epoch = images // CONFIG.batch_size
        config = replace(CONFIG, epochs=1)
        Trainer(config, batches, self.step, self.ema, take_step=self.take_step).train()
        wait_for(self.device)


@dataclass
class Product:
    """A large matrix product, to measure the floating-point rate that the device reaches."""

    device: torch.device
    dtype: torch.dtype
    size: int

    def __post_init__(self) -> None:
        self.left, self.right = (
            torch.randn(self.size, self.size, device=self.device, dtype=self.dtype)
            for _ in range(2)
        )

    def run(self) -> float:
        """Return the seconds for one product."""
        wait_for(self.device)
        start = time.perf_counter()
        for _ in range(20):
            self.left @ self.right
        wait_for(self.device)
        return (time.perf_counter() - start) / 20


def operations(model: ModelConfig) -> float:
    """Count the floating-point operations of the convolutions, for one image of a step."""
    step = AdversarialStep(*models.build("dcgan", model), LOSSES["bce"], lr=1e-4, betas=(0.5, 0.9))
    size = CONFIG.image_size or 64
    batch = (
        torch.zeros(2, 1, size, size),
        torch.zeros(2, dtype=torch.int64),
        torch.randn(2, model.latent_dim),
    )
    with FlopCounterMode(display=False) as counter:
        step(*batch, torch.empty(VIEWS, 2, 0))
    return counter.get_total_flops() / 2


def rows(
    table: Table,
    root: Path,
    device: torch.device,
    *,
    width: int,
    precision: str,
    images: int,
    rounds: int,
) -> None:
    """Add the rows of one width and precision."""
    dataset = load_dataset(root, split="all")
    model = ModelConfig(dataset.image_size, width, CONFIG.latent_dim, len(dataset.genres))
    tutorial = TutorialLoop(root, model, device)
    project = ProjectLoop(dataset, model, device, precision, recorded=device.type == "cuda")
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    product = Product(device, dtype, SIZES[device.type].matrix)
    log_progress(f"Width {width}, {precision}, {device}")

    def train_tutorial() -> float:
        """Train the tutorial as people run it, with cuDNN's default TF32."""
        with arithmetic("tf32"):
            return tutorial.train(images)

    with arithmetic(precision):
        alternatives = {
            "tutorial": train_tutorial,
            "project": lambda: project.train(images),
            "product": product.run,
        }
        took = in_turn(alternatives, rounds)
    rate = images / statistics.median(took["project"])
    name = f"width {width}, {precision}"
    table.add_ratio(
        f"{name}: times as fast as the tutorial's loop",
        ratios(took["tutorial"], took["project"]),
        4 if device.type == "cuda" else 1.2,
        "the convolutions" if device.type == "cpu" else "",
    )
    needed = images * operations(model)
    possible = [needed / (2 * product.size**3 / seconds) for seconds in took["product"]]
    table.add_ratio(
        f"{name}: part of the rate of a large matrix product, "
        f"{needed / images / 1e9:.2f} GFLOP an image",
        ratios(possible, took["project"]),
        0.6 if device.type == "cpu" else None,
        "BatchNorm, activations and Adam move memory and count no operations",
    )
    fast = device.type == "cuda" and width == 64
    target = "at least 40,000 on a data-centre GPU" if fast else ""
    table.add(
        f"{name}: images a second", f"{rate:,.0f}", target, rate >= 40_000 if fast else None, ""
    )


def memory_row(table: Table, root: Path, device: torch.device) -> None:
    """Add the GPU memory of the classic run; call this first, before anything else uses memory."""
    dataset = load_dataset(root, split="all")
    model = ModelConfig(dataset.image_size, 64, CONFIG.latent_dim, len(dataset.genres))
    with arithmetic():
        ProjectLoop(dataset, model, device, "float32", recorded=True).train(20 * CONFIG.batch_size)
    peak = torch.cuda.max_memory_reserved() / 1e9
    table.add(
        "memory of the classic run on the GPU, reserved",
        f"{peak:.2f} GB",
        "under 2 GB",
        peak < 2,
        "",
    )


def main() -> None:
    """Measure, and print the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images", type=int, help="in a round, at width 64")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--tracks", type=int, default=40, help="of each genre of the demo music")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    if device.type not in SIZES:
        parser.error(f"--device {device}: measured on CUDA and CPU only")
    size = SIZES[device.type]
    images = arguments.images or size.images
    table = Table()
    with work_folder() as work:
        log_progress("Making images")
        made = (
            "--input",
            work / "music",
            "--output",
            work / "images",
            "--tracks-per-genre",
            arguments.tracks,
        )
        run_command("preprocess.py", "--dataset", "demo", *made)
        if device.type == "cuda":
            memory_row(table, work / "images", device)
        for precision in size.precisions:
            for width in arguments.widths:
                # On a CPU the time is proportional to the width.
                count = images * (64 // width if device.type == "cpu" else 1)
                rows(
                    table,
                    work / "images",
                    device,
                    width=width,
                    precision=precision,
                    images=count,
                    rounds=arguments.rounds,
                )
    where = (
        torch.cuda.get_device_name()
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads"
    )
    print(f"## Training ({where})\n\n{table}\n{NOTES[device.type]}")


if __name__ == "__main__":
    main()
