"""What a run leaves behind: log lines, metrics.csv, curves, sample grids, TensorBoard, checkpoints."""

from __future__ import annotations

import csv
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas
import torch
from PIL import Image
from tqdm import tqdm

from musicspectrogan import models
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.data.dataset import ImageDataset
from musicspectrogan.data.grids import save_grid
from musicspectrogan.errors import UserError, printable
from musicspectrogan.filesystem import named_in_errors, sync_file, whole_file
from musicspectrogan.models import ModelConfig
from musicspectrogan.progress import progress_bar
from musicspectrogan.tensors import as_pixels, generator_at
from musicspectrogan.training.checkpoint import (
    BEST_NAME,
    CHECKPOINTS_FOLDER,
    LATEST_NAME,
    Checkpoint,
    keep_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from musicspectrogan.training.run_directory import SAMPLES_FOLDER
from musicspectrogan.training.settings import to_portable
from musicspectrogan.training.trainer import Callback, Tick, Trainer

logger = logging.getLogger(__name__)

METRICS_NAME = "metrics.csv"
CURVES_NAME = "loss_curves.png"
GRID_COLUMNS = 8
# In TensorBoard, the first of as many rows.
SOUNDS = 10
# The figure of a judgement by which checkpoints are compared; less is better.
DECIDING = "kernel_distance"

SoundsOf = Callable[[np.ndarray, SpectrogramConfig], list[np.ndarray]]


class ProgressLog(Callback):
    """The bar over all steps on a terminal, and everywhere the line that people know."""

    def on_start(self, trainer: Trainer) -> None:
        self._total = trainer.config.epochs * trainer.batches.steps_per_epoch
        self._first, self._begun = trainer.steps_taken, time.perf_counter()
        self._bar = progress_bar(
            total=self._total,
            description="Training",
            unit="step",
            only_on_terminal=True,  # the line at each tick says the same
            initial=trainer.steps_taken,
        )

    def on_tick(self, trainer: Trainer, tick: Tick) -> None:
        self._bar.update(tick.step - self._bar.n)
        # By what a step took so far, with all that happens between steps.
        seconds_a_step = (time.perf_counter() - self._begun) / (tick.step - self._first)
        means = tick.means
        logger.info(
            "[Epoch %d/%d] [Batch %d/%d] Loss_D: %.4f Loss_G: %.4f D(x): %.4f D(G(z)): %.4f/%.4f "
            "(%.0f images/s, %s left)",
            tick.epoch,
            trainer.config.epochs,
            tick.batch,
            trainer.batches.steps_per_epoch,
            means["loss_d"],
            means["loss_g"],
            means["d_real"],
            means["d_fake_before"],
            means["d_fake_after"],
            tick.images_per_second,
            tqdm.format_interval(seconds_a_step * (self._total - tick.step)),
        )

    def on_quality(self, trainer: Trainer, quality: dict[str, float]) -> None:
        told = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in quality.items())
        logger.info("Samples of epoch %d by the validation tracks: %s", trainer.epochs_done, told)

    def on_end(self, trainer: Trainer) -> None:
        self._bar.close()


class Metrics(Callback):
    """metrics.csv, a row a tick and a row a judgement, and the curves drawn from it."""

    def __init__(self, run: Path) -> None:
        self.path = run / METRICS_NAME
        self.curves = run / CURVES_NAME
        self._columns: list[str] = []

    def on_start(self, trainer: Trainer) -> None:
        """Rows beyond the position that a resumed run starts from are dropped: they come again."""
        if not self.path.exists():
            return
        with open(self.path, encoding="utf-8", errors="replace", newline="") as file:
            # A power cut may leave zeros, which Python 3.10 refuses to read.
            lines = (line.replace("\0", "") for line in file)
            header, *rows = [row for row in csv.reader(lines) if row] or [[]]
        if "step" not in header:
            self.path.unlink()  # a kill came before its first line was written
            return
        column = header.index("step")
        kept = [
            row
            for row in rows
            if len(row) == len(header) and row[column].isdigit() and int(row[column]) <= trainer.steps_taken
        ]
        self._columns = header
        self._write([header, *kept])

    def on_tick(self, trainer: Trainer, tick: Tick) -> None:
        row = asdict(tick)
        means = row.pop("means")
        self._append(row | means)

    def on_quality(self, trainer: Trainer, quality: dict[str, float]) -> None:
        place = {
            "epoch": trainer.epochs_done,
            "step": trainer.steps_taken,
            "images_seen": trainer.images_seen,
        }
        self._append(place | quality)

    def on_snapshot(self, trainer: Trainer) -> None:
        draw_curves(pandas.read_csv(self.path), self.curves)
        self.on_interrupt(trainer)

    def on_interrupt(self, trainer: Trainer) -> None:
        sync_file(self.path)  # before the checkpoint that its rows lead to

    def _append(self, row: dict[str, float]) -> None:
        """Add a row; what it does not know stays empty, and what is new becomes a column."""
        if not row.keys() <= set(self._columns) or not self.path.exists():  # new, or somebody removed it
            self._columns += [name for name in row if name not in self._columns]
            rows: list[list[str]] = []
            if self.path.exists():
                with open(self.path, encoding="utf-8", newline="") as file:
                    rows = list(csv.reader(file))[1:]
            self._write([self._columns, *(old + [""] * (len(self._columns) - len(old)) for old in rows)])
        values = [row.get(name, "") for name in self._columns]
        with named_in_errors(self.path), open(self.path, "a", encoding="utf-8", newline="") as file:
            written = (f"{value:.6g}" if isinstance(value, float) else value for value in values)
            csv.writer(file, lineterminator="\n").writerow(written)

    def _write(self, rows: list[list[str]]) -> None:
        with whole_file(self.path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


class Samples(Callback):
    """Grids of the averaged generator's images: the same latents in every row and every epoch."""

    def __init__(self, run: Path, gan: str, dataset: ImageDataset, seed: int) -> None:
        self.folder = run / SAMPLES_FOLDER
        self.genres = dataset.genres
        self.conditional = models.is_conditional(gan)
        self.dataset = dataset
        self.seed = seed
        self.newest: Image.Image | None = None
        self.newest_rows: list[np.ndarray] = []

    def on_start(self, trainer: Trainer) -> None:
        if not (self.folder / "real.png").exists():  # a resumed run has its own
            save_grid(self.folder / "real.png", self._real_rows(), self.genres)

    def on_snapshot(self, trainer: Trainer) -> None:
        path = self.folder / f"epoch_{trainer.epochs_done:04d}.png"
        self.newest_rows, names = self.fake_rows(trainer)
        self.newest = save_grid(path, self.newest_rows, names)
        logger.info("Samples of epoch %d are in %s", trainer.epochs_done, path)

    def fake_rows(self, trainer: Trainer) -> tuple[list[np.ndarray], list[str] | None]:
        """Rows of uint8 (GRID_COLUMNS, H, W) and their names: a row a genre, or a square without."""
        device, latent_dim = trainer.batches.device, trainer.config.latent_dim
        n_rows = len(self.genres) if self.conditional else GRID_COLUMNS
        count = GRID_COLUMNS if self.conditional else GRID_COLUMNS * n_rows
        # Drawn on the CPU, so that a run continued on another device shows the same ones.
        latents = torch.randn(count, latent_dim, generator=generator_at("cpu", self.seed, "grid"))
        latents = latents.to(device)
        with torch.no_grad():
            if self.conditional:
                labels = torch.arange(n_rows, device=device)[:, None].expand(n_rows, GRID_COLUMNS)
                rows = [as_pixels(trainer.ema.module(latents, row)) for row in labels]
                return rows, self.genres
            labels = torch.zeros(count, dtype=torch.int64, device=device)
            images = as_pixels(trainer.ema.module(latents, labels))
        return list(images.reshape(n_rows, GRID_COLUMNS, *images.shape[1:])), None

    def _real_rows(self) -> list[np.ndarray]:
        rng = np.random.default_rng(self.seed)
        rows = []
        for label in range(len(self.genres)):
            candidates = self.dataset.rows[self.dataset.labels == label]
            picks = rng.choice(candidates, min(GRID_COLUMNS, len(candidates)), replace=False)
            rows.append(np.asarray(self.dataset.pixels[np.sort(picks)]))
        return rows


class TensorBoard(Callback):
    """Scalars at every tick; at every snapshot the grid that `samples` has just drawn, and some sounds.

    Args:
        sounds_of: images uint8 (B, H, W) and their settings -> samples (n,) in [-1, 1] of each; None
            for no sounds. It belongs to a layer above this one.
    """

    def __init__(self, run: Path, samples: Samples, sounds_of: SoundsOf | None = None) -> None:
        self.folder = run / "tensorboard"
        self.samples = samples
        self.sounds_of = sounds_of

    def on_start(self, trainer: Trainer) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and only training needs it

        self._writer = SummaryWriter(self.folder, purge_step=trainer.steps_taken + 1)

    def on_tick(self, trainer: Trainer, tick: Tick) -> None:
        with named_in_errors(self.folder):
            for name, value in {**tick.means, "images_per_second": tick.images_per_second}.items():
                self._writer.add_scalar(name, value, tick.step)

    def on_quality(self, trainer: Trainer, quality: dict[str, float]) -> None:
        for name, value in quality.items():
            self._writer.add_scalar(f"quality/{name}", value, trainer.steps_taken)

    def on_snapshot(self, trainer: Trainer) -> None:
        sheet = np.asarray(self.samples.newest)
        self._writer.add_image("samples", sheet, trainer.steps_taken, dataformats="HW")
        if self.sounds_of is not None:
            settings = self.samples.dataset.spectrogram
            images = np.stack([row[0] for row in self.samples.newest_rows[:SOUNDS]])
            for number, wave in enumerate(self.sounds_of(images, settings)):
                name = self.samples.genres[number] if self.samples.conditional else f"sample {number}"
                self._writer.add_audio(
                    f"sounds/{printable(name)}",
                    torch.from_numpy(wave),
                    trainer.steps_taken,
                    settings.sample_rate,
                )
        with named_in_errors(self.folder):
            self._writer.flush()

    def on_end(self, trainer: Trainer) -> None:
        with named_in_errors(self.folder):
            self._writer.close()


class Checkpoints(Callback):
    """A checkpoint a snapshot, and one when interrupted; the best by the validation tracks stays."""

    def __init__(self, run: Path, model: ModelConfig, dataset: ImageDataset) -> None:
        self.run = run
        self.model = model
        self.dataset = dataset
        self._quality: dict[str, float] = {}
        self._best: tuple[float, int] | None = None
        self._given_up: Path | None = None

    def on_start(self, trainer: Trainer) -> None:
        """A resumed run knows its best; one from a future that was given up is none.

        Its file stays until this run has a checkpoint: up to then that future may still be gone back to.
        """
        path = self.run / CHECKPOINTS_FOLDER / BEST_NAME
        if not path.is_file():
            return
        try:
            best = load_checkpoint(path)
        except UserError as error:  # no reason not to go on
            logger.warning("%s; the next best will replace it", error)
            return
        if best.step > trainer.steps_taken:
            self._given_up = path
        elif DECIDING in best.quality:
            self._best = best.quality[DECIDING], best.epoch

    def on_quality(self, trainer: Trainer, quality: dict[str, float]) -> None:
        self._quality = quality

    def on_snapshot(self, trainer: Trainer) -> None:
        distance = self._quality.get(DECIDING, math.inf)
        is_best = distance < (self._best[0] if self._best else math.inf)
        if is_best:
            self._best = distance, trainer.epochs_done
        keep = trainer.config.keep_checkpoints
        keep_checkpoint(self._checkpoint(trainer), self.run, keep=keep, best=is_best)
        if is_best:
            self._given_up = None
        self._drop_given_up()
        self._quality = {}

    def on_interrupt(self, trainer: Trainer) -> None:
        save_checkpoint(self._checkpoint(trainer), self.run / CHECKPOINTS_FOLDER / LATEST_NAME)
        self._drop_given_up()

    def on_end(self, trainer: Trainer) -> None:
        if self._best:
            logger.info(
                "Best by the validation tracks: epoch %d (%s %.3g), kept as %s",
                self._best[1],
                DECIDING.replace("_", " "),
                self._best[0],
                self.run / CHECKPOINTS_FOLDER / BEST_NAME,
            )

    def _drop_given_up(self) -> None:
        if self._given_up:
            self._given_up.unlink(missing_ok=True)
            self._given_up = None

    def _checkpoint(self, trainer: Trainer) -> Checkpoint:
        step = trainer.step
        return Checkpoint(
            gan=trainer.config.gan,
            model=self.model,
            training=to_portable(trainer.config),
            genres=self.dataset.genres,
            spectrogram=self.dataset.spectrogram,
            generator=step.generator.state_dict(),
            discriminator=step.discriminator.state_dict(),
            ema=trainer.ema.module.state_dict(),
            optimizer_g=step.optimizer_g.state_dict(),
            optimizer_d=step.optimizer_d.state_dict(),
            epoch=trainer.epochs_done,
            step=trainer.steps_taken,
            images_seen=trainer.images_seen,
            dataset_fingerprint=self.dataset.fingerprint,
            dataset_contents=self.dataset.contents,
            quality=self._quality,
        )


def draw_curves(table: pandas.DataFrame, path: Path) -> None:
    """Losses, D(x) and D(G(z)), and where there is one the kernel distance, over images seen.

    Faint as measured, bold smoothed.
    """
    os.environ.setdefault("MPLBACKEND", "Agg")
    from matplotlib.figure import Figure  # slow to import, and only a snapshot needs it

    judged = table.dropna(subset=[DECIDING]) if DECIDING in table else table[:0]
    ticks = table.dropna(subset=["loss_d"])
    figure = Figure(figsize=(9, 7 if judged.empty else 10), layout="constrained")
    losses, probabilities, *more = figure.subplots(2 if judged.empty else 3, 1, sharex=True)
    window = max(1, len(ticks) // 40)
    for axes, columns in (
        (losses, {"loss_d": "discriminator", "loss_g": "generator"}),
        (probabilities, {"d_real": "D(x)", "d_fake_before": "D(G(z))"}),
    ):
        for column, name in columns.items():
            (line,) = axes.plot(ticks["images_seen"], ticks[column], alpha=0.25)
            smooth = ticks[column].rolling(window, min_periods=1).mean()
            axes.plot(ticks["images_seen"], smooth, color=line.get_color(), label=name)
        axes.grid(alpha=0.3)
        axes.legend(loc="center right")
    losses.set_ylabel("loss")
    losses.set_ylim(bottom=0)
    probabilities.set_ylabel("probability of being real")
    probabilities.set_ylim(0, 1)
    for axes in more:
        axes.plot(judged["images_seen"], judged[DECIDING], marker="o", markersize=3, color="tab:green")
        axes.set_ylabel("kernel distance to validation")
        axes.set_yscale("symlog", linthresh=0.1)  # it spans decades, and may be a little below zero
        axes.grid(alpha=0.3)
    figure.axes[-1].set_xlabel("images seen")
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
