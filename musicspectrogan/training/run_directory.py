"""Run directories: numbered names, the settings they were made with, and which is the newest."""

from __future__ import annotations

import logging
import platform
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path

from musicspectrogan import __version__
from musicspectrogan.config import read_yaml, to_yaml
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import clear_unfinished, make_folder, named_in_errors, write_text
from musicspectrogan.progress import OneLineFormatter, is_lasting
from musicspectrogan.training.checkpoint import (
    CHECKPOINTS_FOLDER,
    CONFIG_NAME,
    LATEST_NAME,
    dataset_of,
    has_checkpoint,
    images_in,
    newest_checkpoint,
)
from musicspectrogan.training.settings import TrainingConfig

RUNS = Path("runs")
# Stands for the newest run where a run or a checkpoint is named.
LATEST = Path("latest")
LOG_NAME = "log.txt"
SAMPLES_FOLDER = "samples"
# What a run draws there; other pictures are the user's.
_GRID_NAME = re.compile(r"(pieces_)?(real|epoch_\d+(_images_\d+)?)\.png")

logger = logging.getLogger(__name__)


def next_run(gan: str, dataset_name: str, runs: Path = RUNS) -> Path:
    """The next free run directory, for instance runs/00003-cgan-gtzan; nothing is created."""
    taken = [int(path.name[:5]) for path in _numbered(runs)]
    safe = re.sub(r"[^\w.-]+", "-", dataset_name).strip("-") or "images"
    return runs / f"{max(taken, default=-1) + 1:05d}-{gan}-{safe}"


def named_run(path: Path) -> Path:
    """What an argument names: `latest` is the newest run of all, unless a file or folder is called so.

    Raises:
        UserError: there is no run yet.
    """
    return newest_run(TrainingConfig()) if path == LATEST and not path.exists() else path


def newest_run(config: TrainingConfig, runs: Path = RUNS) -> Path:
    """The newest run with a checkpoint, of the same gan and images where `config` names a dataset.

    Raises:
        UserError: there is none.
    """
    begun = (run for run in sorted(_numbered(runs), reverse=True) if has_checkpoint(run))
    found = (
        next(begun, None)
        if config.dataset is None
        else _newest_of(begun, config.gan, config.dataset)
    )
    if found:
        return found
    which = f" of {config.gan} on {config.dataset}" if config.dataset else ""
    raise UserError(
        f"no run{which} with a checkpoint in {runs}; name a run directory or a checkpoint file, or train anew"
    )


def _newest_of(begun: Iterable[Path], gan: str, dataset: Path) -> Path | None:
    """The first of the runs that was trained on the images in a folder, wherever they lay then.

    Where none was, the first that names the same folder: what is wrong is told when it is resumed.
    """
    images = lru_cache(partial(images_in, dataset))
    same_folder = None
    for run in begun:
        try:
            path, checkpoint = newest_checkpoint(run)
        except UserError as error:
            logger.warning("%s is passed over: %s", run, error)
            continue
        if checkpoint.gan != gan:
            continue
        now = images(checkpoint.training["split"], checkpoint.training["image_size"])
        if now and checkpoint.is_trained_on(now):
            return run
        if same_folder is None and dataset_of(checkpoint, path) == dataset:
            same_folder = run
    return same_folder


def is_unstarted(run: Path) -> bool:
    """Whether this is a run that something ended before its first checkpoint, by its settings."""
    if has_checkpoint(run) or not (run / CONFIG_NAME).is_file():
        return False
    try:
        return read_yaml(TrainingConfig, run / CONFIG_NAME).dataset is not None
    except UserError:
        return False  # somebody else's file of that name


def run_of_checkpoint(path: Path) -> Path:
    """The run directory that a checkpoint file lies in.

    Raises:
        UserError: it lies elsewhere, so that there is no run to go on with.
    """
    run = path.resolve().parent.parent
    if path.resolve().parent.name != CHECKPOINTS_FOLDER or not (run / CONFIG_NAME).is_file():
        raise UserError(
            f"--resume {path}: lies in no run directory; start a new run with --init-from {path}"
        )
    return run


def lacks_grid(run: Path, position: str) -> bool:
    """Whether something ended the run between the checkpoint of a position and its grid of samples.

    Args:
        position: as `Schedule.position_name` has it.
    """
    saved, drawn = (
        run / CHECKPOINTS_FOLDER / f"{position}.pt",
        run / SAMPLES_FOLDER / f"{position}.png",
    )
    return saved.exists() and not drawn.exists()


def evaluation_file(sources: Sequence[Path], seconds: float | None = None) -> Path:
    """Where the evaluation of checkpoint files or folders of images goes: in the run, else right here.

    Args:
        seconds: length of the pieces that are judged; None for single images, whose figures are others.
    """
    of_pieces = "" if seconds is None else f"-{seconds:g}s"
    if len(sources) > 1:
        return Path(f"comparison{of_pieces}.json")
    (source,) = sources
    which = "" if source.name == LATEST_NAME else f"_{source.stem}"
    name = f"evaluation{which}{of_pieces}.json"
    parent = source.resolve().parent
    return parent.parent / name if parent.name == CHECKPOINTS_FOLDER else Path(name)


def claim_next(run: Path) -> Path:
    """Make the directory `next_run` has named, or that of a later number if others were quicker.

    A number is one run's, whatever follows it in the name: it is held, by a folder of its own, while that
    is made sure. This needs no locks, which not all file systems have.
    """
    make_folder(run.parent)
    number, rest = int(run.name[:5]), run.name[5:]
    while True:
        held = run.with_name(f".{number:05d}")
        try:
            held.mkdir()
        except FileExistsError:  # somebody is at it, or was killed: the number stays unused
            number += 1
            continue
        try:
            if all(int(path.name[:5]) != number for path in _numbered(run.parent)):
                claimed = run.with_name(f"{number:05d}{rest}")
                make_folder(claimed)
                return claimed
        finally:
            held.rmdir()
        number += 1


def claim(run: Path) -> None:
    """Make a new run's directory; it may be there if it is empty, or that of an unstarted run.

    Raises:
        UserError: something else is in it.
    """
    make_folder(run)
    taken = any(not path.name.startswith(".") for path in run.iterdir())
    if taken and not is_unstarted(run):
        hint = f"go on with that run by --resume {run}, or " if has_checkpoint(run) else ""
        raise UserError(f"--output {run} is not empty; {hint}give another folder")


def create_run(run: Path, config: TrainingConfig) -> None:
    """Write the settings of a new run and make its folders, in a directory that is claimed and locked."""
    # First, because they tell an unstarted run from somebody's folder.
    write_settings(run, config)
    for name in (CHECKPOINTS_FOLDER, SAMPLES_FOLDER):
        make_folder(run / name)
    for path in (run / SAMPLES_FOLDER).iterdir():
        if _GRID_NAME.fullmatch(path.name):
            path.unlink()  # of an unstarted run, which may have had other settings


def clear_unfinished_files(run: Path) -> None:
    """Remove what a kill or a power cut left of checkpoints and samples that were being written."""
    clear_unfinished(run / CHECKPOINTS_FOLDER, "*.pt")
    clear_unfinished(run / SAMPLES_FOLDER, "*.png")


def write_settings(run: Path, config: TrainingConfig) -> None:
    """Write config.yaml: complete, and valid as --config. The versions are comments."""
    versions = {"musicspectrogan": __version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in ("torch", "torchvision", "numpy")}
    comments = "".join(f"# {name} {number}\n" for name, number in versions.items())
    write_text(run / CONFIG_NAME, to_yaml(config) + comments)


def log_to(run: Path) -> logging.Handler:
    """Append the package's log, but no bar, to the run's log.txt from now on, with the time of day."""
    handler = _LogFile(run / LOG_NAME, encoding="utf-8")
    handler.setFormatter(OneLineFormatter("%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
    handler.addFilter(is_lasting)
    logging.getLogger("musicspectrogan").addHandler(handler)
    return handler


class _LogFile(logging.FileHandler):
    """A log that cannot be written ends the run, as any other file of it does; logging would go on."""

    def flush(self) -> None:
        with named_in_errors(Path(self.baseFilename)):
            super().flush()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        raise  # noqa: PLE0704  (logging calls this where it has caught something)


def _numbered(runs: Path) -> list[Path]:
    if not runs.is_dir():
        return []
    return [path for path in runs.iterdir() if re.match(r"\d{5}-", path.name) and path.is_dir()]
