"""The evaluate command: compare samples with real music, and write the figures and a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from musicspectrogan.device import repeatable
from musicspectrogan.errors import UserError, continue_on_error
from musicspectrogan.evaluation.evaluator import Evaluator
from musicspectrogan.evaluation.musicnn import Listener
from musicspectrogan.evaluation.page import write_comparison, write_page
from musicspectrogan.evaluation.page_data import collect_page_data
from musicspectrogan.evaluation.reference import build_reference, load_splits
from musicspectrogan.evaluation.report import Report, write_json
from musicspectrogan.evaluation.samples import (
    Samples,
    check_compatible,
    check_length,
    read_folder,
    sample_checkpoint,
)
from musicspectrogan.evaluation.settings import EvaluateConfig
from musicspectrogan.evaluation.verdict import comparison_verdict, verdict
from musicspectrogan.filesystem import make_folder
from musicspectrogan.training.checkpoint import Checkpoint
from musicspectrogan.training.run_checkpoints import dataset_of, is_checkpoint, load_checkpoint


@dataclass(frozen=True)
class Outcome:
    """The result of an evaluation."""

    reports: dict[str, Report]
    """By the names of the sources."""
    file: Path
    """The JSON file."""
    page: Path | None
    """None if it could not be written."""

    @property
    def verdict(self) -> str:
        """Summary in one sentence."""
        names, reports = list(self.reports), list(self.reports.values())
        return verdict(reports[0]) if len(reports) == 1 else comparison_verdict(names, reports)


@repeatable()
def evaluate(
    config: EvaluateConfig, sources: Mapping[str, Path], output: Path, device: torch.device
) -> Outcome:
    """Evaluate one source, or several side by side, and write the figures and a page.

    Args:
        sources: checkpoint files and folders of images, by the names to show.
        output: a JSON file; the page is written next to it.

    Raises:
        UserError: a source does not fit the dataset, or has too few images; or the features asked
            for are not installed.
    """
    checkpoints = {
        name: load_checkpoint(path) for name, path in sources.items() if is_checkpoint(path)
    }
    root = config.dataset or _trained_on({sources[name]: c for name, c in checkpoints.items()})
    splits = load_splits(root, config.split)
    training = splits.training
    # Check everything before work that takes time.
    if config.seconds is not None:
        check_length(config.seconds, config.samples, training)
    for name, checkpoint in checkpoints.items():
        check_compatible(checkpoint, sources[name], training)
    listener = Listener(training.spectrogram, device) if config.features else None
    samples: dict[str, Samples] = {
        name: read_folder(path, training, config.samples, config.seed, config.seconds)
        for name, path in sources.items()
        if name not in checkpoints
    }
    for name, checkpoint in checkpoints.items():
        samples[name] = sample_checkpoint(
            checkpoint,
            sources[name],
            training,
            count=config.samples,
            seed=config.seed,
            device=device,
            seconds=config.seconds,
        )
    reference = build_reference(root, splits, device, listener)
    if listener is not None:
        for name, source in samples.items():
            listener(source.images.pixels, f"the samples of {name}")
        if config.seconds is not None:
            listener(reference.tracks.images.pixels, "whole tracks")
    evaluators = {name: Evaluator(samples[name], reference, config.seed) for name in sources}
    reports = {name: evaluator.report() for name, evaluator in evaluators.items()}
    make_folder(output.parent)
    write_json(output, reports)
    page = output.with_suffix(".html")
    with continue_on_error(f"page {page}"):
        if len(sources) == 1:
            ((name, report),) = reports.items()
            data = collect_page_data(evaluators[name])
            write_page(page, f"How good is {name}?", report, data)
        else:
            write_comparison(page, list(reports), list(reports.values()))
        return Outcome(reports, output, page)
    return Outcome(reports, output, None)


def _trained_on(checkpoints: Mapping[Path, Checkpoint]) -> Path:
    """Return the folder that the first checkpoint was trained on.

    Args:
        checkpoints: by their files.

    Raises:
        UserError: there is no checkpoint, or the folder no longer exists.
    """
    if not checkpoints:
        raise UserError(
            "--dataset is missing: name the folder that preprocess.py made of real music"
        )
    path, checkpoint = next(iter(checkpoints.items()))
    root = dataset_of(checkpoint, path)
    if root is None or not root.is_dir():
        trained_on = root or checkpoint.training["dataset"]
        why = "is somewhere else" if root is None else "no longer exists"
        raise UserError(
            f"--dataset is missing, and {trained_on}, on which the model was trained, {why}; name "
            "that dataset with --dataset"
        )
    return root
