"""What a run reports while it trains: log lines, metrics.csv, curves and TensorBoard."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas
import torch
from PIL import Image
from tqdm import tqdm

from musicspectrogan.charts import chart
from musicspectrogan.counts import format_count
from musicspectrogan.errors import continue_on_error, printable
from musicspectrogan.filesystem import atomic_write, name_in_errors, sync_file
from musicspectrogan.progress import PacedBar
from musicspectrogan.training.diagnostics import Diagnostics
from musicspectrogan.training.schedule import Schedule, SnapshotBudget
from musicspectrogan.training.settings import TrainingConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter

logger = logging.getLogger(__name__)

METRICS_NAME = "metrics.csv"
CURVES_NAME = "loss_curves.png"
# The metric by which checkpoints are compared; less is better.
CRITERION = "kernel_distance"
# Metrics that TensorBoard shows beside the settings of a run.
COMPARED = (f"quality/{CRITERION}", "loss_d", "loss_g")
# Distances may be slightly below zero; up to here the axis of their curve is always linear.
LINEAR_BELOW = 0.1


@dataclass(frozen=True)
class Tick:
    """The steps since the last tick: a row of metrics.csv."""

    epoch: int
    """From 1."""
    batch: int
    """Within the epoch, from 1."""
    step: int
    """Steps taken in the whole run."""
    images_seen: int
    images_per_second: float
    means: dict[str, float]
    """Named values of the step, averaged over these steps."""


class MetricsLogger:
    """Logs metrics to the terminal, log.txt, metrics.csv and TensorBoard.

    Args:
        run: the run directory.
        schedule, budget: of the trainer, to estimate the time left.
        steps_taken: where this process starts.
        on_gpu: the first ticks are slow, because kernels are chosen and the step is recorded.
    """

    def __init__(
        self,
        run: Path,
        schedule: Schedule,
        budget: SnapshotBudget,
        *,
        steps_taken: int = 0,
        on_gpu: bool = False,
    ) -> None:
        self.run = run
        self.schedule = schedule
        self.budget = budget
        self._csv = MetricsFile(run / METRICS_NAME, steps_taken)
        self._diagnostics = Diagnostics()
        self._bar = PacedBar(
            total=schedule.images, initial=steps_taken * schedule.config.batch_size
        )
        self._first = steps_taken
        self._ticks = 0
        self._tick_of_estimate = 2 if on_gpu else 1
        self._measured_from = steps_taken, 0.0
        self._distance = ""
        self._tensorboard: SummaryWriter | None = None
        with continue_on_error("TensorBoard"):
            self._tensorboard = _open_tensorboard(run / "tensorboard", schedule.config, steps_taken)

    def log(self, tick: Tick) -> None:
        """Log the training metrics of a tick."""
        self._log_line(tick)
        self._diagnostics.check_losses(tick.step, tick.means)
        row = asdict(tick)
        means = row.pop("means")
        self._csv.append(row | means)
        scalars = {**means, "images_per_second": tick.images_per_second}
        self._log_scalars(scalars, tick.step)

    def log_quality(self, step: int, quality: Mapping[str, float]) -> None:
        """Log the metrics of samples that were evaluated in a snapshot."""
        images_seen = step * self.schedule.config.batch_size
        words = ", ".join(f"{k.replace('_', ' ')} {v:.3g}" for k, v in quality.items())
        logger.info(
            "Samples after %s, compared with the validation tracks: %s",
            format_count(images_seen, "image"),
            words,
        )
        if CRITERION in quality:
            self._distance = f", distance {quality[CRITERION]:.2g}"
        self._diagnostics.check_samples(step, images_seen, quality)
        epoch = step // self.schedule.steps_per_epoch
        self._csv.append({"epoch": epoch, "step": step, "images_seen": images_seen, **quality})
        self._log_scalars({f"quality/{name}": value for name, value in quality.items()}, step)

    def log_image(self, name: str, image: Image.Image, step: int) -> None:
        """Show a grey image in TensorBoard."""
        self._write(
            lambda writer: writer.add_image(name, np.asarray(image), step, dataformats="HW")
        )

    def log_sounds(
        self, names: Sequence[str], render: Callable[[], list[Any]], step: int, sample_rate: int
    ) -> None:
        """Play sounds in TensorBoard, which are rendered only if it works."""

        def write(writer: SummaryWriter) -> None:
            for name, wave in zip(names, render(), strict=True):
                writer.add_audio(printable(name), torch.from_numpy(wave), step, sample_rate)

        self._write(write)

    def draw_curves(self) -> None:
        """Draw loss_curves.png."""
        with continue_on_error("curves"):
            draw_curves(pandas.read_csv(self.run / METRICS_NAME), self.run / CURVES_NAME)

    def sync(self) -> None:
        """Write metrics.csv to the disk, before the checkpoint that its rows lead to."""
        self._csv.sync()

    def flush(self) -> None:
        """Let TensorBoard see what was logged."""
        self._write(lambda writer: writer.flush())

    def close(self) -> None:
        """Close the bar and TensorBoard."""
        self._bar.close()
        self._write(lambda writer: writer.close())

    def _log_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        def write(writer: SummaryWriter) -> None:
            for name, value in scalars.items():
                writer.add_scalar(name, value, step)

        self._write(write)

    def _write(self, write: Callable[[SummaryWriter], object]) -> None:
        """Write to TensorBoard; a failure is logged and turns it off."""
        writer, self._tensorboard = self._tensorboard, None
        if writer is not None:
            with continue_on_error("TensorBoard"), name_in_errors(self.run / "tensorboard"):
                write(writer)
                self._tensorboard = writer

    def _log_line(self, tick: Tick) -> None:
        self._ticks += 1
        seconds = self._seconds_left(tick.step)
        if self._ticks == self._tick_of_estimate and tick.step < self.schedule.steps:
            whole = self.budget.training_seconds + seconds
            logger.info(self.schedule.describe(self._first, whole, tick.images_per_second))
        means = tick.means
        left = tqdm.format_interval(seconds)
        losses = f"loss {means['loss_d']:.2f}/{means['loss_g']:.2f}"
        pace = f"{tick.images_per_second:.0f} images/s"
        self._bar.tell(tick.images_seen, pace=pace, left=left, values=losses + self._distance)
        logger.info(
            "[Epoch %d/%d] [Batch %d/%d] Loss_D: %.4f Loss_G: %.4f D(x): %.4f D(G(z)): %.4f/%.4f "
            "(%.0f images/s, %s left)",
            tick.epoch,
            self.schedule.epochs,
            tick.batch,
            self.schedule.steps_per_epoch,
            means["loss_d"],
            means["loss_g"],
            means["d_real"],
            means["d_fake_before"],
            means["d_fake_after"],
            tick.images_per_second,
            left,
        )
        if self._ticks == 1:  # the first steps are slower than the others
            self._measured_from = tick.step, self.budget.training_seconds

    def _seconds_left(self, step: int) -> float:
        """For the steps left at the mean pace, and snapshots that each take as long as the last."""
        first, before = self._measured_from
        seconds_per_step = (self.budget.training_seconds - before) / (step - first)
        training = seconds_per_step * (self.schedule.steps - step)
        return self.budget.seconds_left(training, self.schedule.snapshots_left(step))


class MetricsFile:
    """metrics.csv: a row for each tick and each evaluation.

    Args:
        steps_taken: where this process starts; later rows are dropped, for they come again.
    """

    def __init__(self, path: Path, steps_taken: int) -> None:
        self.path = path
        self._columns: list[str] = []
        if path.exists():
            self._drop_after(steps_taken)

    def _drop_after(self, steps_taken: int) -> None:
        with open(self.path, encoding="utf-8", errors="replace", newline="") as file:
            # A power cut may leave zeros, which Python 3.10 refuses to read.
            lines = (line.replace("\0", "") for line in file)
            header, *rows = [row for row in csv.reader(lines) if row] or [[]]
        if "step" not in header:
            self.path.unlink()  # a kill came before its first line was written
            return
        column = header.index("step")
        whole = [row for row in rows if len(row) == len(header) and row[column].isdigit()]
        self._columns = header
        self._rewrite([row for row in whole if int(row[column]) <= steps_taken])

    def append(self, row: Mapping[str, float]) -> None:
        """Add a row. A missing value stays empty, and a new name becomes a column."""
        new = [name for name in row if name not in self._columns]
        if new or not self.path.exists():  # somebody may have removed it
            rows: list[list[str]] = []
            if self.path.exists():
                with open(self.path, encoding="utf-8", newline="") as file:
                    rows = list(csv.reader(file))[1:]
            self._columns += new
            self._rewrite([old + [""] * (len(self._columns) - len(old)) for old in rows])
        values = [row.get(name, "") for name in self._columns]
        with name_in_errors(self.path), open(self.path, "a", encoding="utf-8", newline="") as file:
            texts = (f"{value:.6g}" if isinstance(value, float) else value for value in values)
            csv.writer(file, lineterminator="\n").writerow(texts)

    def sync(self) -> None:
        """Write it to the disk."""
        sync_file(self.path)

    def _rewrite(self, rows: list[list[str]]) -> None:
        with (
            atomic_write(self.path) as temporary,
            open(temporary, "w", encoding="utf-8", newline="") as file,
        ):
            csv.writer(file, lineterminator="\n").writerows([self._columns, *rows])


def _open_tensorboard(folder: Path, config: TrainingConfig, steps_taken: int) -> SummaryWriter:
    """A writer with the settings, except paths, as hyperparameters."""
    # Slow to import, and only training needs it.
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    writer = SummaryWriter(folder, purge_step=steps_taken + 1)
    settings = {k: value for k, value in vars(config).items() if not isinstance(value, Path)}
    # `add_hparams` would begin another run.
    summaries = hparams(settings, dict.fromkeys(COMPARED, 0.0))  # type: ignore[no-untyped-call]
    for summary in summaries:
        writer.file_writer.add_summary(summary)  # type: ignore[attr-defined]  # annotated as None
    return writer


def draw_curves(table: pandas.DataFrame, path: Path) -> Figure:
    """Losses, D(x), D(G(z)) and the kernel distance if known, over images seen.

    Faint as measured, bold smoothed.
    """
    evaluated = table.dropna(subset=[CRITERION]) if CRITERION in table else table[:0]
    ticks = table.dropna(subset=["loss_d"])
    rows = 2 if evaluated.empty else 3
    with chart(9, 7 if evaluated.empty else 10, dpi=100) as (figure, png):
        losses, probabilities, *more = figure.subplots(rows, 1, sharex=True)
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
            distances = evaluated[CRITERION]
            axes.plot(
                evaluated["images_seen"], distances, marker="o", markersize=3, color="tab:green"
            )
            axes.set_ylabel("kernel distance to validation")
            # A logarithmic axis has ticks at powers of ten only: use it if there are several.
            if distances.max() > 100 * max(distances.min(), LINEAR_BELOW):
                axes.set_yscale("symlog", linthresh=LINEAR_BELOW)
            axes.grid(alpha=0.3)
        figure.axes[-1].set_xlabel("images seen")
    with atomic_write(path) as temporary:
        temporary.write_bytes(png.getvalue())
    return figure
