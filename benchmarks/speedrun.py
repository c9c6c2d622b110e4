"""Measure the CPU time from the preprocessed demo set to samples that are close to music.

    export PYTHONPATH=.
    python preprocess.py --dataset demo --output demo_images
    python benchmarks/speedrun.py --dataset demo_images --change "what changed since the last row"

Each seed trains with configs/demo.yaml until the kernel distance of its samples to the test tracks,
in the untrained features, is at most 1.5 times that of real music, as `evaluate` defines the ratio.
Counted is the CPU time of the whole process, from Python's start on: imports, reading the dataset,
training, and BatchNorm's statistics at each measurement; not the measurements themselves. Median
and worst of the seeds are appended to docs/speedrun.md. `--threads` is 1 unless given, because
hyperthreads share a core and CPU time depends on what else runs there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from common import PROJECT, log_progress
from sklearn.metrics.pairwise import polynomial_kernel

from musicspectrogan.config import read_yaml
from musicspectrogan.evaluation.features import FeatureSpace, fit_pca
from musicspectrogan.evaluation.metrics import kernel_distance
from musicspectrogan.evaluation.reference import (
    MAX_HELD_OUT,
    MAX_TRAINING,
    load_images,
    load_splits,
    split_in_halves,
)
from musicspectrogan.evaluation.resampling import Side, estimate_pair
from musicspectrogan.evaluation.samples import Pixels
from musicspectrogan.filesystem import write_text
from musicspectrogan.tensors import as_pixels, generator_at
from musicspectrogan.training.building import build_trainer
from musicspectrogan.training.runner import plan_run
from musicspectrogan.training.settings import TrainingConfig
from musicspectrogan.training.snapshots import Snapshots
from musicspectrogan.training.trainer import Trainer

RECORDS = PROJECT / "docs" / "speedrun.md"
TARGET = 1.5
# Images between two measurements, and after which a seed has failed.
EVERY, MOST = 2_000, 100_000
SAMPLES = 1_000
# Intervals of which the floor takes the median.
FLOORS = 5

Floats = npt.NDArray[np.float64]


class Judge:
    """The ratio of kernel distances to the test tracks: that of samples to that of real music.

    It is that of `evaluate` in the untrained features, but for the floor's interval, which is the
    median of several: one alone differs by a tenth from seed to seed.
    """

    def __init__(self, root: Path) -> None:
        splits = load_splits(root, "test")
        genres, rng = splits.training.genres, np.random.default_rng(0)
        training = load_images(splits.training, genres, MAX_TRAINING, rng)
        held_out = load_images(splits.held_out, genres, MAX_HELD_OUT, rng)
        halves = split_in_halves(training)
        self.spaces = [FeatureSpace.fit(fit_pca(half.pixels), half.pixels) for half in halves]
        self.held_out = [space(held_out.pixels) for space in self.spaces]
        others = halves[::-1]  # each in the features that were not fitted to it
        kernels = [self._kernels(other.pixels, k) for k, other in enumerate(others)]

        def distances(*weights: Floats) -> dict[str, float]:
            *of_each, of_held_out = weights
            pairs = zip(kernels, of_each, strict=True)
            return {
                "kernel": float(np.mean([kernel_distance(*k, w, of_held_out) for k, w in pairs]))
            }

        real = Side(others, lambda *_: {}, distances)
        estimates = [
            estimate_pair(real, real, held_out, rng=np.random.default_rng(seed))["kernel"].real
            for seed in range(FLOORS)
        ]
        self.floor = max(
            statistics.median(estimate.value for estimate in estimates),
            statistics.median(estimate.half_width for estimate in estimates),
        )

    def __call__(self, samples: Pixels) -> float:
        """The ratio of samples uint8 (N, H, W)."""
        once = np.ones(len(samples)), np.ones(len(self.held_out[0]))
        distances = [kernel_distance(*self._kernels(samples, k), *once) for k in (0, 1)]
        return float(np.mean(distances)) / self.floor

    def _kernels(self, pixels: Pixels, k: int) -> tuple[Floats, Floats, Floats]:
        features, held_out = self.spaces[k](pixels), self.held_out[k]
        pairs = (features, features), (held_out, held_out), (features, held_out)
        return tuple(polynomial_kernel(*pair) for pair in pairs)


class TargetReachedError(Exception):
    """Ends a run at the target."""


@dataclass
class Stopwatch:
    """Takes the place of a run's snapshots: measures, and ends the run at the target."""

    judge: Judge
    seed: int
    paused: float = 0.0
    """CPU seconds of the measurements so far."""
    ratio: float = float("inf")
    seconds: float = 0.0
    images: int = 0

    def start(self, trainer: Trainer) -> None:
        """Nothing to draw."""

    preview = save_latest = start

    def snapshot(self, trainer: Trainer) -> None:
        """Measure the samples at this position."""
        begun = time.process_time()
        self.ratio = self.judge(samples_of(trainer))
        self.seconds, self.images = begun - self.paused, trainer.images_seen
        self.paused += time.process_time() - begun
        log_progress(
            f"  seed {self.seed}: {self.images:,} images, {self.seconds:.0f} CPU-seconds, "
            f"ratio {self.ratio:.2f}"
        )
        if self.ratio <= TARGET:
            raise TargetReachedError


@torch.no_grad()
def samples_of(trainer: Trainer) -> Pixels:
    """Samples with the genres of the dataset, from latents that no training step has."""
    batch, pixels = trainer.config.batch_size, []
    for number in range(-(-SAMPLES // batch)):
        random = generator_at("cpu", trainer.config.seed, "speedrun", number)
        latents = torch.randn(batch, trainer.ema.latent_dim, generator=random)
        labels = trainer.batches.labels_at("speedrun", number)
        pixels.append(as_pixels(trainer.ema.module(latents, labels)))
    return np.concatenate(pixels)[:SAMPLES]


def run_seed(arguments: argparse.Namespace) -> None:
    """Train one seed to the target and print what it took."""
    torch.set_num_threads(arguments.threads)
    begun = time.process_time()
    judge = Judge(arguments.dataset)
    stopwatch = Stopwatch(judge, arguments.seed, paused=time.process_time() - begun)
    config = replace(
        read_yaml(TrainingConfig, arguments.config),
        dataset=arguments.dataset,
        seed=arguments.seed,
        images=arguments.most,
        snapshot_every=EVERY,
        device="cpu",
    )
    trainer = build_trainer(plan_run(config, output=Path(os.devnull)))
    with suppress(TargetReachedError):
        trainer.train(snapshots=cast(Snapshots, stopwatch))
    facts = {"seconds": stopwatch.seconds, "images": stopwatch.images, "ratio": stopwatch.ratio}
    print(json.dumps(facts))


def table_row(change: str, threads: int, runs: list[dict[str, float]]) -> str:
    """A row of the table of records."""
    seconds = sorted(run["seconds"] for run in runs)
    images = statistics.median(run["images"] for run in runs)
    reached = sum(run["ratio"] <= TARGET for run in runs)
    cells = [
        datetime.now(timezone.utc).date().isoformat(),
        change,
        f"{statistics.median(seconds):.0f}",
        f"{seconds[-1]:.0f}",
        f"{images:,.0f}",
        f"{reached} of {len(runs)}",
        f"{platform.machine()}, {threads} thread{'s' * (threads > 1)}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure all seeds, one after the other, and append a row."""
    formatter = partial(argparse.RawTextHelpFormatter, width=100)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--dataset", type=Path, required=True, help="made by preprocess.py")
    parser.add_argument("--config", type=Path, default=PROJECT / "configs" / "demo.yaml")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0, 1, …")
    parser.add_argument("--seed", type=int, help="measure this one only and print it")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--most", type=int, default=MOST, help="images after which a seed fails")
    parser.add_argument("--change", help="text of the new row; none: only print it")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        return run_seed(arguments)
    runs = []
    for seed in range(arguments.seeds):
        line = [sys.executable, __file__, *sys.argv[1:], "--seed", str(seed)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
        done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True, env=environment)
        runs.append(json.loads(done.stdout))
    row = table_row(arguments.change or "", arguments.threads, runs)
    print(row)
    if arguments.change:
        *before, last = RECORDS.read_text("utf-8").rpartition("\n| ")
        last_row, rest = last.split("\n", 1)
        write_text(RECORDS, f"{''.join(before)}{last_row}\n{row}\n{rest}")
    return None


if __name__ == "__main__":
    main()
