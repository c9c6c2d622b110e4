"""Run directories: numbered names, the settings they were made with, and which is the newest."""

from __future__ import annotations

import logging
import platform
import re
from importlib.metadata import version
from pathlib import Path

from musicspectrogan import __version__
from musicspectrogan.config import read_yaml, to_yaml
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import make_folder, write_text
from musicspectrogan.training.checkpoint import FOLDER, LATEST
from musicspectrogan.training.settings import TrainingConfig

RUNS = Path("runs")
CONFIG_NAME = "config.yaml"
LOG_NAME = "log.txt"


def next_run(gan: str, dataset_name: str, runs: Path = RUNS) -> Path:
    """The next free run directory, for instance runs/00003-cgan-gtzan; nothing is created."""
    taken = [int(path.name[:5]) for path in _numbered(runs)]
    safe = re.sub(r"[^\w.-]+", "-", dataset_name).strip("-") or "images"
    return runs / f"{max(taken, default=-1) + 1:05d}-{gan}-{safe}"


def newest_run(config: TrainingConfig, runs: Path = RUNS) -> Path:
    """The newest run of the same gan and dataset that has a checkpoint.

    Raises:
        UserError: there is none.
    """
    for run in sorted(_numbered(runs), reverse=True):
        if (run / FOLDER / LATEST).is_file() and (run / CONFIG_NAME).is_file():
            made_with = read_yaml(TrainingConfig, run / CONFIG_NAME)
            if (made_with.gan, made_with.dataset) == (config.gan, config.dataset):
                return run
    raise UserError(
        f"--resume: no run of {config.gan} on {config.dataset} with a checkpoint in {runs}; "
        "name one with --resume RUN, or start anew without --resume"
    )


def create_run(run: Path, config: TrainingConfig) -> None:
    """Make the folders of a new run and write its settings.

    Raises:
        UserError: something is there already.
    """
    if run.exists() and any(run.iterdir()):
        raise UserError(
            f"--output {run} is not empty; go on with that run by --resume {run}, or give another folder"
        )
    make_folder(run)
    (run / FOLDER).mkdir()
    (run / "samples").mkdir()
    write_settings(run, config)


def write_settings(run: Path, config: TrainingConfig) -> None:
    """Write config.yaml: complete, and valid as --config. The versions are comments."""
    versions = {"musicspectrogan": __version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in ("torch", "torchvision", "numpy")}
    comments = "".join(f"# {name} {number}\n" for name, number in versions.items())
    write_text(run / CONFIG_NAME, to_yaml(config) + comments)


def log_to(run: Path) -> logging.Handler:
    """Append the package's log to the run's log.txt from now on, with the time of day."""
    handler = logging.FileHandler(run / LOG_NAME, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
    logging.getLogger("musicspectrogan").addHandler(handler)
    return handler


def _numbered(runs: Path) -> list[Path]:
    if not runs.is_dir():
        return []
    return [path for path in runs.iterdir() if re.match(r"\d{5}-", path.name) and path.is_dir()]
