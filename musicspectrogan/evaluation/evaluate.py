"""The evaluate command: subjects held to one yardstick, and the files that say what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from musicspectrogan.data.dataset import ImageDataset
from musicspectrogan.device import repeatable
from musicspectrogan.errors import UserError, spared
from musicspectrogan.evaluation.exhibits import evidence_of
from musicspectrogan.evaluation.judge import Judge
from musicspectrogan.evaluation.page import write_comparison, write_page
from musicspectrogan.evaluation.report import Report, write_report, write_reports
from musicspectrogan.evaluation.sets import FEWEST_TRACKS, load_splits
from musicspectrogan.evaluation.settings import EvaluateConfig
from musicspectrogan.evaluation.stretches import windows_in
from musicspectrogan.evaluation.subjects import check_fits, images_in, samples_of
from musicspectrogan.evaluation.verdict import comparison_verdict, verdict
from musicspectrogan.evaluation.yardstick import make_yardstick
from musicspectrogan.filesystem import make_folder
from musicspectrogan.training.checkpoint import Checkpoint, dataset_of, load_checkpoint


@dataclass(frozen=True)
class Outcome:
    """What an evaluation gave."""

    reports: dict[str, Report]
    """By the sources' names."""
    page: Path | None
    """None where it could not be written."""

    @property
    def verdict(self) -> str:
        """What came out, in one sentence."""
        names, reports = list(self.reports), list(self.reports.values())
        return verdict(reports[0]) if len(reports) == 1 else comparison_verdict(names, reports)


@repeatable()
def evaluate(
    config: EvaluateConfig, sources: Mapping[str, Path], output: Path, device: torch.device
) -> Outcome:
    """Judge one source, or several side by side, and write the figures and a page.

    Args:
        sources: checkpoint files and folders of images, by the names that they are shown under.
        output: a JSON file; the page lies beside it.

    Raises:
        UserError: a source does not fit the dataset, or there is too little of something.
    """
    checkpoints = {
        name: load_checkpoint(path) for name, path in sources.items() if not path.is_dir()
    }
    root = config.dataset or _dataset_of({sources[name]: one for name, one in checkpoints.items()})
    splits = load_splits(root, config.split)
    training = splits.training
    if config.seconds is not None:
        _check_length(config.seconds, config.samples, training)
    # Whatever may be wrong with any of them is found before work that takes time.
    for name, checkpoint in checkpoints.items():
        check_fits(checkpoint, sources[name], training)
    folders = {
        name: images_in(path, training, config.samples, config.seed, config.seconds)
        for name, path in sources.items()
        if name not in checkpoints
    }
    sampled = {
        name: samples_of(
            checkpoint,
            sources[name],
            training,
            count=config.samples,
            seed=config.seed,
            device=device,
            seconds=config.seconds,
        )
        for name, checkpoint in checkpoints.items()
    }
    yardstick = make_yardstick(root, splits, device)
    judges = {name: Judge((folders | sampled)[name], yardstick, config.seed) for name in sources}
    reports = {name: judge.report() for name, judge in judges.items()}
    make_folder(output.parent)
    if len(sources) == 1:
        write_report(output, *reports.values())
    else:
        write_reports(output, reports)
    page = output.with_suffix(".html")
    with spared(f"page {page}"):
        if len(sources) == 1:
            ((name, report),) = reports.items()
            write_page(page, f"How good is {name}?", report, evidence_of(judges[name]))
        else:
            write_comparison(page, list(reports), list(reports.values()))
        return Outcome(reports, page)
    return Outcome(reports, None)


def _check_length(seconds: float, samples: int, training: ImageDataset) -> None:
    """Raise UserError where pieces of a length have no whole image, or too few of them are asked for."""
    windows, image_seconds = (
        windows_in(seconds, training.spectrogram),
        training.spectrogram.image_seconds,
    )
    if windows < 1:
        raise UserError(
            f"--seconds {seconds:g} is shorter than one image, {image_seconds:.2f} s; give at least "
            f"{image_seconds:.3g}, or leave --seconds away to judge single images"
        )
    if samples <= (FEWEST_TRACKS - 1) * windows:
        raise UserError(
            f"--samples {samples} are the windows of {-(-samples // windows)} pieces of {seconds:g} s, and "
            f"{FEWEST_TRACKS} are needed: give more than {(FEWEST_TRACKS - 1) * windows} --samples"
        )


def _dataset_of(checkpoints: Mapping[Path, Checkpoint]) -> Path:
    """The folder that the first checkpoint was trained on.

    Args:
        checkpoints: by their files.

    Raises:
        UserError: there is no checkpoint, or no such folder any more.
    """
    if not checkpoints:
        raise UserError(
            "--dataset is missing: name the folder that preprocess.py made of real music"
        )
    path, checkpoint = next(iter(checkpoints.items()))
    root = dataset_of(checkpoint, path)
    if root is None or not root.is_dir():
        trained_on = root or checkpoint.training["dataset"]
        raise UserError(
            f"--dataset is missing, and {trained_on}, which it was trained on, is not there any more"
        )
    return root
