"""What a run leaves behind: metrics.csv, curves, sample grids, TensorBoard, checkpoints."""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas
import torch
from PIL import Image

from musicspectrogan import models
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.charts import chart
from musicspectrogan.counts import counted
from musicspectrogan.data.dataset import ImageDataset
from musicspectrogan.data.grids import save_grid
from musicspectrogan.errors import UserError, printable
from musicspectrogan.filesystem import named_in_errors, sync_file, whole_file
from musicspectrogan.models import ModelConfig
from musicspectrogan.tensors import as_pixels, generator_at
from musicspectrogan.training import run_directory
from musicspectrogan.training.checkpoint import (
    BEST_NAME,
    CHECKPOINTS_FOLDER,
    LATEST_NAME,
    Checkpoint,
    keep_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from musicspectrogan.training.pieces import Pieces
from musicspectrogan.training.settings import TrainingConfig, to_portable
from musicspectrogan.training.trainer import Callback, Tick, Trainer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

METRICS_NAME = "metrics.csv"
CURVES_NAME = "loss_curves.png"
GRID_COLUMNS = 8
# In TensorBoard, the first of as many rows.
SOUNDS = 10
# The figure of a judgement by which checkpoints are compared; less is better.
DECIDING = "kernel_distance"

# What TensorBoard shows of runs beside their settings.
COMPARED = (f"quality/{DECIDING}", "loss_d", "loss_g")

# Distances may be a little below zero; up to here the axis of their curve is always linear.
LINEAR_BELOW = 0.1

SoundsOf = Callable[[np.ndarray, SpectrogramConfig], list[np.ndarray]]


class Metrics(Callback):
    """metrics.csv, a row a tick and a row a judgement."""

    def __init__(self, run: Path) -> None:
        self.path = run / METRICS_NAME
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
            if len(row) == len(header)
            and row[column].isdigit()
            and int(row[column]) <= trainer.steps_taken
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
        self.on_interrupt(trainer)

    def on_interrupt(self, trainer: Trainer) -> None:
        sync_file(self.path)  # before the checkpoint that its rows lead to

    def _append(self, row: dict[str, float]) -> None:
        """Add a row; what it does not know stays empty, and what is new becomes a column."""
        if (
            not row.keys() <= set(self._columns) or not self.path.exists()
        ):  # new, or somebody removed it
            self._columns += [name for name in row if name not in self._columns]
            rows: list[list[str]] = []
            if self.path.exists():
                with open(self.path, encoding="utf-8", newline="") as file:
                    rows = list(csv.reader(file))[1:]
            self._write(
                [self._columns, *(old + [""] * (len(self._columns) - len(old)) for old in rows)]
            )
        values = [row.get(name, "") for name in self._columns]
        with named_in_errors(self.path), open(self.path, "a", encoding="utf-8", newline="") as file:
            written = (f"{value:.6g}" if isinstance(value, float) else value for value in values)
            csv.writer(file, lineterminator="\n").writerow(written)

    def _write(self, rows: list[list[str]]) -> None:
        with (
            whole_file(self.path) as temporary,
            open(temporary, "w", encoding="utf-8", newline="") as file,
        ):
            csv.writer(file, lineterminator="\n").writerows(rows)


class Curves(Callback):
    """The picture of metrics.csv."""

    spares = "curves"

    def __init__(self, run: Path) -> None:
        self.run = run

    def on_start(self, trainer: Trainer) -> None:
        if run_directory.lacks_grid(self.run, trainer.position_name):
            self.on_snapshot(trainer)

    def on_snapshot(self, trainer: Trainer) -> None:
        draw_curves(pandas.read_csv(self.run / METRICS_NAME), self.run / CURVES_NAME)


class Samples(Callback):
    """Grids of the averaged generator's images: the same latents in every row and every epoch."""

    spares = "grid of samples"

    def __init__(self, run: Path, gan: str, dataset: ImageDataset, seed: int) -> None:
        self.run = run
        self.folder = run / run_directory.SAMPLES_FOLDER
        self.genres = dataset.genres
        self.conditional = models.is_conditional(gan)
        self.dataset = dataset
        self.seed = seed
        self.real: Image.Image | None = None
        self.newest: Image.Image | None = None
        self.newest_rows: list[np.ndarray] = []

    def on_start(self, trainer: Trainer) -> None:
        if not (self.folder / "real.png").exists():  # a resumed run has its own
            self.real = save_grid(self.folder / "real.png", self._real_rows(), self.genres)
        if run_directory.lacks_grid(self.run, trainer.position_name):
            self.on_snapshot(trainer)

    def on_snapshot(self, trainer: Trainer) -> None:
        self.newest = None
        path = self.folder / f"{trainer.position_name}.png"
        self.newest_rows, names = self.fake_rows(trainer)
        self.newest = save_grid(path, self.newest_rows, names)
        logger.info("Samples after %s are in %s", counted(trainer.images_seen, "image"), path)

    def on_preview(self, trainer: Trainer) -> None:
        self.on_snapshot(trainer)

    def on_interrupt(self, trainer: Trainer) -> None:
        self.on_snapshot(trainer)

    def fake_rows(self, trainer: Trainer) -> tuple[list[np.ndarray], list[str] | None]:
        """Rows of uint8 (GRID_COLUMNS, H, W) and their names: a row a genre, or a square without."""
        device, latent_dim = trainer.batches.device, trainer.ema.module.latent_dim
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
    """The settings, and scalars at every tick; all that is drawn, and at snapshots some sounds.

    Args:
        samples: draws the grids.
        sounds_of: images uint8 (B, H, W) and their settings -> samples (n,) in [-1, 1] of each; None
            for no sounds. It belongs to a layer above this one.
        pieces: draws the long pieces, of which one is heard; None where there are none.
    """

    spares = "TensorBoard"
    fails_for_good = True

    def __init__(
        self,
        run: Path,
        samples: Samples,
        sounds_of: SoundsOf | None = None,
        pieces: Pieces | None = None,
    ) -> None:
        self.folder = run / "tensorboard"
        self.samples = samples
        self.sounds_of = sounds_of
        self.pieces = pieces

    def on_start(self, trainer: Trainer) -> None:
        from torch.utils.tensorboard import (
            SummaryWriter,  # slow to import, and only training needs it
        )

        self._writer = SummaryWriter(self.folder, purge_step=trainer.steps_taken + 1)
        self._add_settings(trainer.config)
        if self.samples.real is not None:
            self._add_grid("real", self.samples.real, trainer)
        if self.pieces is not None and self.pieces.real is not None:
            self._add_grid("real_pieces", self.pieces.real, trainer)

    def on_preview(self, trainer: Trainer) -> None:
        if self.samples.newest is not None:  # it could be drawn
            self._add_grid("samples", self.samples.newest, trainer)
        if self.pieces is not None and self.pieces.newest is not None:
            self._add_grid("pieces", self.pieces.newest, trainer)

    def on_interrupt(self, trainer: Trainer) -> None:
        self.on_preview(trainer)

    def on_tick(self, trainer: Trainer, tick: Tick) -> None:
        with named_in_errors(self.folder):
            for name, value in {**tick.means, "images_per_second": tick.images_per_second}.items():
                self._writer.add_scalar(name, value, tick.step)

    def on_quality(self, trainer: Trainer, quality: dict[str, float]) -> None:
        for name, value in quality.items():
            self._writer.add_scalar(f"quality/{name}", value, trainer.steps_taken)

    def on_snapshot(self, trainer: Trainer) -> None:
        self.on_preview(trainer)
        if self.samples.newest is not None:
            images = [row[0] for row in self.samples.newest_rows[:SOUNDS]]
            unnamed = [f"sample {number}" for number in range(len(images))]
            names = self.samples.genres if self.samples.conditional else unnamed
            self._add_sounds("sounds", dict(zip(names, images, strict=False)), trainer)
        if self.pieces is not None and self.pieces.newest is not None:
            first = next(iter(self.pieces.newest_strips.items()))
            self._add_sounds("pieces", dict([first]), trainer)
        with named_in_errors(self.folder):
            self._writer.flush()

    def on_end(self, trainer: Trainer) -> None:
        with named_in_errors(self.folder):
            self._writer.close()

    def _add_grid(self, name: str, sheet: Image.Image, trainer: Trainer) -> None:
        self._writer.add_image(name, np.asarray(sheet), trainer.steps_taken, dataformats="HW")

    def _add_sounds(self, group: str, images: dict[str, np.ndarray], trainer: Trainer) -> None:
        """The sound of each of the images, which are of one length."""
        if self.sounds_of is None:
            return
        settings = self.samples.dataset.spectrogram
        waves = self.sounds_of(np.stack(list(images.values())), settings)
        for name, wave in zip(images, waves, strict=True):
            tag = f"{group}/{printable(name)}"
            self._writer.add_audio(
                tag, torch.from_numpy(wave), trainer.steps_taken, settings.sample_rate
            )

    def _add_settings(self, config: TrainingConfig) -> None:
        """The settings but for paths, as hyperparameters of this run; `add_hparams` would begin another."""
        from torch.utils.tensorboard.summary import hparams

        settings = {
            name: value for name, value in vars(config).items() if not isinstance(value, Path)
        }
        for summary in hparams(settings, dict.fromkeys(COMPARED, 0.0)):
            self._writer.file_writer.add_summary(summary)


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
            self._best = best.quality[DECIDING], best.images_seen

    def on_quality(self, trainer: Trainer, quality: dict[str, float]) -> None:
        self._quality = quality

    def on_snapshot(self, trainer: Trainer) -> None:
        distance = self._quality.get(DECIDING, math.inf)
        is_best = distance < (self._best[0] if self._best else math.inf)
        if is_best:
            self._best = distance, trainer.images_seen
        keep = trainer.config.keep_checkpoints
        name = trainer.position_name
        keep_checkpoint(self._checkpoint(trainer), self.run, keep=keep, best=is_best, name=name)
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
                "Best by the validation tracks: after %s (%s %.3g), kept as %s",
                counted(self._best[1], "image"),
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


def draw_curves(table: pandas.DataFrame, path: Path) -> Figure:
    """Losses, D(x) and D(G(z)), and where there is one the kernel distance, over images seen.

    Faint as measured, bold smoothed.
    """
    judged = table.dropna(subset=[DECIDING]) if DECIDING in table else table[:0]
    ticks = table.dropna(subset=["loss_d"])
    with chart(9, 7 if judged.empty else 10, dpi=100) as (figure, png):
        losses, probabilities, *more = figure.subplots(2 if judged.empty else 3, 1, sharex=True)
        window = max(1, len(ticks) // 40)
        marker = "o" if len(ticks) == 1 else None  # a line has two points
        for axes, columns in (
            (losses, {"loss_d": "discriminator", "loss_g": "generator"}),
            (probabilities, {"d_real": "D(x)", "d_fake_before": "D(G(z))"}),
        ):
            for column, name in columns.items():
                (line,) = axes.plot(ticks["images_seen"], ticks[column], alpha=0.25, marker=marker)
                smooth = ticks[column].rolling(window, min_periods=1).mean()
                axes.plot(ticks["images_seen"], smooth, color=line.get_color(), label=name)
            axes.grid(alpha=0.3)
            axes.legend(loc="center right")
        losses.set_ylabel("loss")
        losses.set_ylim(bottom=0)
        probabilities.set_ylabel("probability of being real")
        probabilities.set_ylim(0, 1)
        for axes in more:
            axes.plot(
                judged["images_seen"], judged[DECIDING], marker="o", markersize=3, color="tab:green"
            )
            axes.set_ylabel("kernel distance to validation")
            # With ticks at powers of ten only, the logarithm is for what spans some.
            if judged[DECIDING].max() > 100 * max(judged[DECIDING].min(), LINEAR_BELOW):
                axes.set_yscale("symlog", linthresh=LINEAR_BELOW)
            axes.grid(alpha=0.3)
        figure.axes[-1].set_xlabel("images seen")
    with whole_file(path) as temporary:
        temporary.write_bytes(png.getvalue())
    return figure
