"""Snapshots of a run: evaluation of samples, checkpoints, pictures of samples and pieces."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from musicspectrogan import models
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.audio.vocoder import Vocoder
from musicspectrogan.counts import format_count
from musicspectrogan.data.dataset import ImageDataset
from musicspectrogan.data.grids import save_grid
from musicspectrogan.errors import UserError, continue_on_error
from musicspectrogan.models import ModelConfig
from musicspectrogan.tensors import as_pixels, generator_at
from musicspectrogan.training import run_directory
from musicspectrogan.training.checkpoint import Checkpoint, LiveGenerator, save_checkpoint
from musicspectrogan.training.metrics import CRITERION, MetricsLogger
from musicspectrogan.training.run_checkpoints import (
    BEST_NAME,
    CHECKPOINTS_FOLDER,
    LATEST_NAME,
    keep_checkpoint,
    load_checkpoint,
)
from musicspectrogan.training.settings import to_portable

if TYPE_CHECKING:
    from musicspectrogan.training.trainer import Trainer

logger = logging.getLogger(__name__)

GRID_COLUMNS = 8
# Rows of the grid whose first image TensorBoard plays.
SOUNDS = 10
# Samples that are evaluated, in batches of the run's size.
EVALUATED_SAMPLES = 512
# Length of a piece in images: 15 s with the usual settings.
PIECE_IMAGES = 5

Pixels = npt.NDArray[np.uint8]
Quality = dict[str, float]
Strips = dict[str, Pixels]
"""Grey levels uint8 (n_mels, T), by name."""
QualityOf = Callable[[Pixels], Quality]
SoundsOf = Callable[[Pixels, SpectrogramConfig], list[npt.NDArray[np.float32]]]
StripsOf = Callable[[LiveGenerator, int], Strips]


class Snapshots:
    """Writes what can be seen of the averaged generator, and checkpoints to resume from.

    A checkpoint is saved before anything is drawn. A picture or an evaluation that fails is
    skipped with a warning. The grid is drawn last: it shows a resumed run that nothing is missing.

    Args:
        run: the run directory.
        model, dataset: of the run.
        metrics: logs evaluations, images and sounds.
        quality_of: evaluates samples uint8 (N, H, W): metrics by name, among them kernel_distance
            and diversity; None for no evaluation.
        strips_of: generates pieces of so many frames; None for no pieces.
        sounds_of: images uint8 (B, H, W) and their settings -> samples (n,) in [-1, 1] of each;
            None for no sounds.
        vocoder: for the checkpoints; None if the dataset has none.
    """

    def __init__(
        self,
        run: Path,
        model: ModelConfig,
        dataset: ImageDataset,
        metrics: MetricsLogger,
        *,
        quality_of: QualityOf | None = None,
        strips_of: StripsOf | None = None,
        sounds_of: SoundsOf | None = None,
        vocoder: Vocoder | None = None,
    ) -> None:
        self.run = run
        self.model = model
        self.dataset = dataset
        self.metrics = metrics
        self.quality_of = quality_of
        self.strips_of = strips_of
        self.sounds_of = sounds_of
        self.vocoder = vocoder
        self._best: tuple[float, int] | None = None  # its distance, and images seen
        self._obsolete_best: Path | None = None

    def start(self, trainer: Trainer) -> None:
        """Draw real images, and what a resumed run lacks since its last checkpoint."""
        self._find_best(trainer.steps_taken)
        is_incomplete = run_directory.lacks_grid(self.run, trainer.position_name)
        if is_incomplete:
            self.metrics.draw_curves()
        step = trainer.steps_taken
        if self._draws_pieces(trainer) and not self._picture("pieces_real").exists():
            with continue_on_error("picture of pieces"):
                if strips := real_strips(self.dataset, PIECE_IMAGES):
                    self.metrics.log_image(
                        "real_pieces", self._save_strips("pieces_real", strips), step
                    )
        if not self._picture("real").exists():
            with continue_on_error("grid of samples"):
                rows = real_rows(self.dataset, trainer.config.seed)
                grid = save_grid(self._picture("real"), rows, self.dataset.genres)
                self.metrics.log_image("real", grid, step)
        if is_incomplete:
            self._draw(trainer)

    def preview(self, trainer: Trainer) -> None:
        """Draw samples early in a run."""
        self._draw(trainer)

    def snapshot(self, trainer: Trainer) -> None:
        """Evaluate samples if due, save a checkpoint, and draw."""
        quality = self._evaluate(trainer)
        self.metrics.sync()
        distance = quality.get(CRITERION, math.inf)
        is_best = distance < (self._best[0] if self._best else math.inf)
        keep_checkpoint(
            self._checkpoint(trainer, quality),
            self.run,
            keep=trainer.config.keep_checkpoints,
            best=is_best,
            name=trainer.position_name,
        )
        if is_best:
            self._best, self._obsolete_best = (distance, trainer.images_seen), None
        self._remove_obsolete_best()
        self.metrics.draw_curves()
        self._draw(trainer, with_sounds=True)
        self.metrics.flush()

    def save_latest(self, trainer: Trainer) -> None:
        """Save and draw a run that is interrupted within an epoch."""
        self.metrics.sync()
        path = self.run / CHECKPOINTS_FOLDER / LATEST_NAME
        save_checkpoint(self._checkpoint(trainer, {}), path)
        self._remove_obsolete_best()
        self._draw(trainer)

    def close(self) -> None:
        """Log which checkpoint is the best."""
        if self._best:
            logger.info(
                "Best by the validation tracks: after %s (%s %.3g), kept as %s",
                format_count(self._best[1], "image"),
                CRITERION.replace("_", " "),
                self._best[0],
                self.run / CHECKPOINTS_FOLDER / BEST_NAME,
            )

    def _find_best(self, steps_taken: int) -> None:
        """Find the best so far; one from later steps, to which the run went back, is obsolete.

        Its file stays until this run has a checkpoint: up to then it may still be resumed from.
        """
        path = self.run / CHECKPOINTS_FOLDER / BEST_NAME
        if not path.is_file():
            return
        try:
            best = load_checkpoint(path)
        except UserError as error:
            logger.warning("%s; the next best will replace it", error)
            return
        if best.step > steps_taken:
            self._obsolete_best = path
        elif CRITERION in best.quality:
            self._best = best.quality[CRITERION], best.images_seen

    def _remove_obsolete_best(self) -> None:
        if self._obsolete_best:
            self._obsolete_best.unlink(missing_ok=True)
            self._obsolete_best = None

    def _evaluate(self, trainer: Trainer) -> Quality:
        """Metrics of samples; empty if none are due or the evaluation fails."""
        step, quality = trainer.steps_taken, {}
        if self.quality_of and trainer.schedule.evaluation_due(step, trainer.last_snapshot):
            with continue_on_error("evaluation of samples"):
                quality = self.quality_of(samples_to_evaluate(trainer))
        if quality:
            self.metrics.log_quality(step, quality)
        return quality

    def _checkpoint(self, trainer: Trainer, quality: Mapping[str, float]) -> Checkpoint:
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
            quality=dict(quality),
            vocoder=self.vocoder.to_plain() if self.vocoder else None,
        )

    def _draw(self, trainer: Trainer, *, with_sounds: bool = False) -> None:
        """Save the pictures of this position, and show them in TensorBoard."""
        name, step = trainer.position_name, trainer.steps_taken
        strips: Strips = {}
        pieces = grid = None
        if self._draws_pieces(trainer):
            with continue_on_error("picture of pieces"):
                strips = self._strips(trainer)
                pieces = self._save_strips(f"pieces_{name}", strips)
        with continue_on_error("grid of samples"):
            rows = sample_rows(trainer, self.dataset.genres)
            path = self._picture(name)
            names = list(rows) if models.is_conditional(trainer.config.gan) else None
            grid = save_grid(path, list(rows.values()), names)
            images = format_count(trainer.images_seen, "image")
            logger.info("Samples after %s are in %s", images, path)
        if grid:
            self.metrics.log_image("samples", grid, step)
        if pieces:
            self.metrics.log_image("pieces", pieces, step)
        if grid and with_sounds:
            first = {name: row[0] for name, row in list(rows.items())[:SOUNDS]}
            self._log_sounds("sounds", first, step)
        if pieces and with_sounds:
            self._log_sounds("pieces", dict([next(iter(strips.items()))]), step)

    def _log_sounds(self, group: str, images: Strips, step: int) -> None:
        """Play images of the same length in TensorBoard."""
        if self.sounds_of:
            settings = self.dataset.spectrogram
            render = partial(self.sounds_of, np.stack(list(images.values())), settings)
            names = [f"{group}/{name}" for name in images]
            self.metrics.log_sounds(names, render, step, settings.sample_rate)

    def _draws_pieces(self, trainer: Trainer) -> bool:
        return self.strips_of is not None and models.is_any_length(trainer.config.gan)

    def _strips(self, trainer: Trainer) -> Strips:
        settings = self.dataset.spectrogram
        generator = LiveGenerator(
            trainer.ema.module, trainer.config.gan, self.model, self.dataset.genres, settings
        )
        assert self.strips_of is not None
        return self.strips_of(generator, PIECE_IMAGES * settings.n_frames)

    def _save_strips(self, name: str, strips: Strips) -> Image.Image:
        settings = self.dataset.spectrogram
        seconds = settings.hop_length / settings.sample_rate
        rows = [strip[None] for strip in strips.values()]
        return save_grid(self._picture(name), rows, list(strips), seconds_a_column=seconds)

    def _picture(self, name: str) -> Path:
        return self.run / run_directory.SAMPLES_FOLDER / f"{name}.png"


@torch.no_grad()
def sample_rows(trainer: Trainer, genres: list[str]) -> dict[str, Pixels]:
    """Rows of samples uint8 (GRID_COLUMNS, H, W), by name: one per genre, or a square without.

    The latents are the same in every row and at every position.
    """
    device, generator = trainer.batches.device, trainer.ema.module
    is_conditional = models.is_conditional(trainer.config.gan)
    n_rows = len(genres) if is_conditional else GRID_COLUMNS
    count = GRID_COLUMNS if is_conditional else GRID_COLUMNS * n_rows
    # Drawn on the CPU, so that a run resumed on another device shows the same ones.
    random = generator_at("cpu", trainer.config.seed, "grid")
    latents = torch.randn(count, trainer.ema.latent_dim, generator=random).to(device)
    if is_conditional:
        labels = torch.arange(n_rows, device=device)[:, None].expand(n_rows, GRID_COLUMNS)
        return {
            genre: as_pixels(generator(latents, row))
            for genre, row in zip(genres, labels, strict=True)
        }
    labels = torch.zeros(count, dtype=torch.int64, device=device)
    images = as_pixels(generator(latents, labels))
    rows = images.reshape(n_rows, GRID_COLUMNS, *images.shape[1:])
    return {f"sample {number}": row for number, row in enumerate(rows)}


def real_rows(dataset: ImageDataset, seed: int) -> list[Pixels]:
    """Up to GRID_COLUMNS real images of each genre, uint8 (n, H, W)."""
    rng = np.random.default_rng(seed)
    rows = []
    for label in range(len(dataset.genres)):
        candidates = dataset.rows[dataset.labels == label]
        picks = rng.choice(candidates, min(GRID_COLUMNS, len(candidates)), replace=False)
        rows.append(np.asarray(dataset.pixels[np.sort(picks)]))
    return rows


@torch.no_grad()
def samples_to_evaluate(trainer: Trainer) -> Pixels:
    """Samples uint8 (EVALUATED_SAMPLES, H, W), from the same latents each time."""
    config, generator = trainer.config, trainer.ema.module
    blocks = []
    for number in range(-(-EVALUATED_SAMPLES // config.batch_size)):
        random = generator_at("cpu", config.seed, "quality", number)
        latents = torch.randn(config.batch_size, trainer.ema.latent_dim, generator=random)
        labels = trainer.batches.labels_at("quality", number)
        blocks.append(as_pixels(generator(latents.to(trainer.batches.device), labels)))
    return np.concatenate(blocks)[:EVALUATED_SAMPLES]


def real_strips(dataset: ImageDataset, images: int) -> Strips:
    """Consecutive images of a track of each genre, by genre: so many, or as many as there are.

    Empty if no two images are consecutive.
    """
    runs = {
        genre: _longest_run(dataset, label)[:images] for label, genre in enumerate(dataset.genres)
    }
    if max(map(len, runs.values())) < 2:
        return {}
    return {
        genre: np.hstack(list(dataset.pixels[dataset.rows[run]])) for genre, run in runs.items()
    }


def _longest_run(dataset: ImageDataset, label: int) -> npt.NDArray[np.int64]:
    """Indices of the split's images that are consecutive in a track, (n,)."""
    found = np.flatnonzero(dataset.labels == label)
    found = found[np.lexsort((dataset.segments[found], dataset.tracks[found]))]
    follows = (np.diff(dataset.tracks[found]) == 0) & (np.diff(dataset.segments[found]) == 1)
    return max(np.split(found, np.flatnonzero(~follows) + 1), key=len)
