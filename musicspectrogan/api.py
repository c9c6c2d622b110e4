"""The Python API: the commands as functions, and `load` for a trained model.

Everything here is also an attribute of `musicspectrogan`. Importing takes no torch; functions
import what they need.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musicspectrogan.config import config_file, read_yaml, to_plain
from musicspectrogan.errors import (
    SettingError,
    UserError,
    continue_on_error,
    named_as_in_python,
    nearest_setting,
)
from musicspectrogan.evaluation.settings import EvaluateConfig
from musicspectrogan.export.settings import ExportConfig
from musicspectrogan.filesystem import expand_home
from musicspectrogan.generation.settings import GenerateConfig
from musicspectrogan.launch import check_device
from musicspectrogan.training.settings import TrainingConfig

if TYPE_CHECKING:
    import torch

    from musicspectrogan.data.manifest import Manifest
    from musicspectrogan.data.settings import PreprocessConfig
    from musicspectrogan.evaluation.evaluate import Outcome
    from musicspectrogan.generation.model import Model
    from musicspectrogan.training.checkpoint import Checkpoint
    from musicspectrogan.training.runner import Plan

logger = logging.getLogger(__name__)


@named_as_in_python()
def load(
    checkpoint: str | Path = "latest",
    *,
    device: str | torch.device = "auto",
    vocoder: str | Path | None = None,
) -> Model:
    """Load a trained model, to make images and sounds.

    Args:
        checkpoint: a run directory, for its best checkpoint; a checkpoint file; an exported folder
            or a zip of it; `latest` for the newest run; `demo` for the model of this package.
        device: auto, cuda, cuda:N, mps or cpu.
        vocoder: a vocoder file, or `none`; None for the model's own.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    check_device(str(device))  # before what takes seconds
    from musicspectrogan.device import choose_device
    from musicspectrogan.generation.model import Model, vocoder_for
    from musicspectrogan.training.run_checkpoints import available_dataset

    source, found = _open(_path(checkpoint))
    is_chosen = vocoder is not None or found.vocoder is not None
    dataset = None if is_chosen else available_dataset(found, source)
    named = None if vocoder is None else str(vocoder)
    return Model(found, vocoder_for(found, dataset, named), choose_device(str(device)))


@named_as_in_python()
def preprocess(config: PreprocessConfig) -> Manifest:
    """Convert music to spectrogram PNGs in class folders, as the command `preprocess`.

    Returns:
        The contents of dataset.json.

    Raises:
        UserError: there is no music, or the output folder holds something else.
    """
    from musicspectrogan.data.preprocessing import preprocess

    return preprocess(config)


@named_as_in_python()
def recipe(name: str | Path, **changes: Any) -> TrainingConfig:
    """Settings for training from a recipe, as `--config` with flags.

    Args:
        name: of a recipe, such as `cgan-best`, or a YAML file.
        changes: settings by name; `images` or `epochs` replaces the length in the file.

    Raises:
        UserError: an unknown recipe or setting, or a bad value.
    """
    settings = read_yaml(TrainingConfig, config_file(_path(name)))
    known = to_plain(settings)
    for key in changes:
        if key not in known:
            near = nearest_setting(key, known)
            hint = f" (did you mean {near!r}?)" if near else ""
            raise SettingError(key, f"there is no such setting{hint}")
    if {"images", "epochs"} & set(changes):
        changes = {"images": None, "epochs": None, **changes}
    return replace(settings, **changes)


@named_as_in_python()
def train(
    settings: TrainingConfig | None = None,
    output: str | Path | None = None,
    *,
    resume: str | Path | None = None,
) -> Path:
    """Train a GAN on a folder of images, as the command `train`.

    Args:
        settings: None for those of the run to resume.
        output: directory of a new run; None for the next number in runs/.
        resume: continue a run: its directory, one of its checkpoints, or `latest`.

    Returns:
        The run directory, for `load`.

    Raises:
        UserError: no dataset is given, or it cannot be trained on.
        Interrupted: by Ctrl-C, or the stop button of a notebook; `resume` continues the run.
    """
    from musicspectrogan.training import runner

    if resume is None:
        plan = runner.plan_run(settings or TrainingConfig(), _path(output) if output else None)
    elif output is not None:
        raise UserError("--resume continues in the directory of its run; omit --output")
    else:
        previous = runner.load_run(_path(resume))
        plan = runner.plan_resumed_run(previous, settings or previous.config)
    return train_plan(plan)


def train_plan(plan: Plan) -> Path:
    """Train what `runner.plan_run` or `runner.plan_resumed_run` planned; returns its directory."""
    from musicspectrogan.evaluation.reference import quality_by_validation
    from musicspectrogan.generation.pieces import strips_of
    from musicspectrogan.generation.sound import choose_vocoder, sounds_of
    from musicspectrogan.training import runner

    config, score_samples = plan.config, None
    is_evaluated = plan.distributed.is_main and config.eval_every > 0 and config.split == "training"
    if is_evaluated and config.dataset is not None:
        with continue_on_error("evaluation of samples"):
            score_samples = quality_by_validation(config.dataset, plan.dataset)
    vocoder = choose_vocoder(None, plan.vocoder, plan.dataset.spectrogram)
    return runner.train(plan, partial(sounds_of, vocoder=vocoder), score_samples, strips_of)


@named_as_in_python()
def generate(config: GenerateConfig) -> Path:
    """Make images, sound files and a page of them, as the command `generate`; returns the page.

    Raises:
        UserError: no checkpoint is named, or it cannot make what is asked for.
    """
    from musicspectrogan.device import choose_device
    from musicspectrogan.generation.generate import generate

    source, checkpoint = _open(config.checkpoint)
    return generate(config, checkpoint, source, choose_device(config.device))


@named_as_in_python()
def evaluate(config: EvaluateConfig) -> Outcome:
    """Compare samples with real music, as the command `evaluate`.

    Returns:
        Reports by the names of what was evaluated, a verdict in one sentence, and the page.

    Raises:
        UserError: nothing to evaluate is named, or it does not fit the dataset.
    """
    named = config.compare or tuple(path for path in (config.checkpoint, config.images) if path)
    if not named:
        raise UserError(_MISSING)
    from musicspectrogan.device import choose_device
    from musicspectrogan.evaluation.evaluate import evaluate
    from musicspectrogan.filesystem import public_names
    from musicspectrogan.training.run_checkpoints import is_checkpoint
    from musicspectrogan.training.run_directory import evaluation_file, named_run

    def is_folder_of_images(path: Path) -> bool:
        if path in (config.checkpoint, config.images):
            return path == config.images
        return not is_checkpoint(path)

    named = tuple(path if is_folder_of_images(path) else named_run(path) for path in named)
    found = [path if is_folder_of_images(path) else _newest(path) for path in named]
    sources = dict(zip(public_names(named), found, strict=True))
    output = config.output or evaluation_file(list(sources.values()), config.seconds)
    return evaluate(config, sources, output, choose_device(config.device))


@named_as_in_python()
def export_model(config: ExportConfig) -> Path:
    """Export a model to share it or to play it elsewhere, as the command `export`.

    Returns:
        The folder or file.

    Raises:
        UserError: no checkpoint is named, or the format cannot hold it.
    """
    from musicspectrogan.export.export import export

    source, checkpoint = _open(config.checkpoint)
    return export(config, checkpoint, source)


_MISSING = "--checkpoint is missing: name a run directory, a checkpoint file, latest or demo"


def _path(named: str | Path) -> Path:
    return expand_home(Path(named))


def _open(named: Path | None) -> tuple[Path, Checkpoint]:
    """The checkpoint that a path names, the best of a run; its file or folder comes first."""
    if named is None:
        raise UserError(_MISSING)
    from musicspectrogan.training.run_checkpoints import BEST_NAME, LATEST_NAME, open_checkpoint
    from musicspectrogan.training.run_directory import named_run

    path = named_run(named)
    source, checkpoint = open_checkpoint(path, best=True)
    if path.is_dir() and source.name == BEST_NAME:
        newest = source.with_name(LATEST_NAME)
        logger.info(
            "Taking %s, the best by the validation tracks; the newest is %s", source, newest
        )
    return source, checkpoint


def _newest(path: Path) -> Path:
    """The checkpoint to evaluate: the newest one of a run.

    The best one was selected by its metrics, which would be optimistic.
    """
    import filecmp

    from musicspectrogan.training.run_checkpoints import BEST_NAME, open_checkpoint

    if not path.is_dir():
        return path
    newest, _ = open_checkpoint(path)
    best = newest.with_name(BEST_NAME)
    if best.is_file() and not filecmp.cmp(best, newest, shallow=False):
        logger.info("This is the newest checkpoint; by the validation tracks %s was better", best)
    return newest
