"""Run directories: their numbers, settings and logs, and which is the newest."""

from __future__ import annotations

import logging
import platform
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path

from musicspectrogan import __version__
from musicspectrogan.config import read_yaml, to_yaml
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import make_folder, name_in_errors, remove_unfinished, write_text
from musicspectrogan.progress import ConsoleHandler, OneLineFormatter, is_lasting
from musicspectrogan.training.run_checkpoints import (
    CHECKPOINTS_FOLDER,
    CONFIG_NAME,
    LATEST_NAME,
    dataset_of,
    has_checkpoint,
    images_in,
    is_checkpoint,
    newest_checkpoint,
    run_of,
)
from musicspectrogan.training.settings import TrainingConfig

RUNS = Path("runs")
# Names the newest run in place of a path.
LATEST = Path("latest")
# Names the model of this package, trained on its demo music, in place of a path.
DEMO, DEMO_MODEL = Path("demo"), Path(__file__).parents[1] / "demo"
LOG_NAME = "log.txt"
SAMPLES_FOLDER = "samples"
# Pictures that a run draws there; others belong to the user.
_GRID_NAME = re.compile(r"(pieces_)?(real|epoch_\d+(_images_\d+)?)\.png")

logger = logging.getLogger(__name__)


def next_run(gan: str, dataset_name: str, runs: Path = RUNS) -> Path:
    """The next free run directory, for instance runs/00003-cgan-gtzan; nothing is created."""
    taken = [int(path.name[:5]) for path in _numbered(runs)]
    safe = re.sub(r"[^\w.-]+", "-", dataset_name).strip("-") or "images"
    return runs / f"{max(taken, default=-1) + 1:05d}-{gan}-{safe}"


def named_run(path: Path) -> Path:
    """The path that an argument names: `latest` is the newest run, `demo` the package's model.

    A checkpoint or run of that name takes precedence.

    Raises:
        UserError: there is no run yet.
    """
    if path not in (LATEST, DEMO) or _is_run(path):
        return path
    return DEMO_MODEL if path == DEMO else newest_run(TrainingConfig())


def _is_run(path: Path) -> bool:
    return path.exists() and (is_checkpoint(path) or is_unstarted(path))


def newest_run(config: TrainingConfig, runs: Path = RUNS) -> Path:
    """The newest run with a checkpoint, of the same gan and images where `config` names a dataset.

    Raises:
        UserError: there is none.
    """
    candidates = (run for run in sorted(_numbered(runs), reverse=True) if has_checkpoint(run))
    if config.dataset is None:
        found = next(candidates, None)
    else:
        found = _first_of(candidates, config.gan, config.dataset)
    if found:
        return found
    which = f" of {config.gan} on {config.dataset}" if config.dataset else ""
    raise UserError(
        f"no run{which} with a checkpoint in {runs}; name a run directory or a checkpoint file, or "
        "start a new run"
    )


def _first_of(runs: Iterable[Path], gan: str, dataset: Path) -> Path | None:
    """The first of the runs that was trained on the images that are now in a folder.

    If there is none, the first trained on the same folder: resuming it tells what is wrong.
    """
    images = cache(partial(images_in, dataset))
    same_folder = None
    for run in runs:
        try:
            path, checkpoint = newest_checkpoint(run)
        except UserError as error:
            logger.warning("%s is skipped: %s", run, error)
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
    """Whether this is a run that ended before its first checkpoint, by its settings."""
    if has_checkpoint(run) or not (run / CONFIG_NAME).is_file():
        return False
    try:
        return read_yaml(TrainingConfig, run / CONFIG_NAME).dataset is not None
    except UserError:
        return False  # another file of that name


def run_of_checkpoint(path: Path) -> Path:
    """The run directory that a checkpoint file is in.

    Raises:
        UserError: it is elsewhere, so that there is no run to resume.
    """
    run = run_of(path)
    if run is None or not (run / CONFIG_NAME).is_file():
        raise UserError(
            f"--resume {path}: not in a run directory; start a new run with --init-from {path}"
        )
    return run


def lacks_grid(run: Path, position: str) -> bool:
    """Whether the run ended between saving the checkpoint of a position and drawing its grid.

    Args:
        position: of `Schedule.position_name`.
    """
    saved = run / CHECKPOINTS_FOLDER / f"{position}.pt"
    drawn = run / SAMPLES_FOLDER / f"{position}.png"
    return saved.exists() and not drawn.exists()


def evaluation_file(sources: Sequence[Path], seconds: float | None = None) -> Path:
    """The file for the evaluation of checkpoints or image folders: in the run, or else here.

    Args:
        seconds: length of the pieces that are evaluated; None for single images.
    """
    of_pieces = "" if seconds is None else f"-{seconds:g}s"
    if len(sources) > 1:
        return Path(f"comparison{of_pieces}.json")
    (source,) = sources
    # Numbers in the name of a folder are no suffix; and `.` has a name too.
    which = source.resolve().name if source.is_dir() else source.stem
    name = "evaluation" if source.name == LATEST_NAME else f"evaluation_{which}"
    return (run_of(source) or Path()) / f"{name}{of_pieces}.json"


def claim_next(run: Path) -> Path:
    """Make the directory named by `next_run`, or one with a later number if it is taken by now.

    A number belongs to one run, whatever follows it in the name. A temporary folder reserves it,
    because not all file systems have locks.
    """
    make_folder(run.parent)
    number, rest = int(run.name[:5]), run.name[5:]
    while True:
        reservation = run.with_name(f".{number:05d}")
        try:
            reservation.mkdir()
        except FileExistsError:  # of another process, or of one that was killed
            number += 1
            continue
        try:
            if all(int(path.name[:5]) != number for path in _numbered(run.parent)):
                claimed = run.with_name(f"{number:05d}{rest}")
                make_folder(claimed)
                return claimed
        finally:
            reservation.rmdir()
        number += 1


def claim(run: Path) -> None:
    """Make a new run's directory; it may exist if it is empty or of an unstarted run.

    Raises:
        UserError: it contains something else.
    """
    make_folder(run)
    taken = any(not path.name.startswith(".") for path in run.iterdir())
    if taken and not is_unstarted(run):
        hint = f"continue that run with --resume {run}, or " if has_checkpoint(run) else ""
        raise UserError(f"--output {run} is not empty; {hint}give another folder")


def create_run(run: Path, config: TrainingConfig) -> None:
    """Write a new run's settings and make its folders, in a directory that is locked."""
    # First, because they tell an unstarted run from another folder.
    write_settings(run, config)
    for name in (CHECKPOINTS_FOLDER, SAMPLES_FOLDER):
        make_folder(run / name)
    for path in (run / SAMPLES_FOLDER).iterdir():
        if _GRID_NAME.fullmatch(path.name):
            path.unlink()  # of an unstarted run, which may have had other settings


def clear_unfinished_files(run: Path) -> None:
    """Remove unfinished checkpoints and pictures that a kill or a power cut left."""
    remove_unfinished(run / CHECKPOINTS_FOLDER, "*.pt")
    remove_unfinished(run / SAMPLES_FOLDER, "*.png")


def write_settings(run: Path, config: TrainingConfig) -> None:
    """Write config.yaml: complete, valid as --config, and with library versions as comments."""
    versions = {"musicspectrogan": __version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in ("torch", "torchvision", "numpy")}
    comments = "".join(f"# {name} {number}\n" for name, number in versions.items())
    write_text(run / CONFIG_NAME, to_yaml(config) + comments)


@contextmanager
def log_to(run: Path) -> Iterator[None]:
    """Append the package's log, without progress bars, to the run's log.txt."""
    handler = _LogFile(run / LOG_NAME, encoding="utf-8")
    handler.setFormatter(OneLineFormatter("%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
    handler.addFilter(is_lasting)
    package = logging.getLogger("musicspectrogan")
    before = package.handlers[:], package.level
    if not package.hasHandlers():  # in a script, where Python prints warnings if there is no other
        package.addHandler(ConsoleHandler(logging.WARNING))
    if not package.isEnabledFor(logging.INFO):
        package.setLevel(logging.INFO)
    package.addHandler(handler)
    try:
        yield
    finally:
        package.handlers[:], level = before
        package.setLevel(level)
        handler.close()


class _LogFile(logging.FileHandler):
    """Raises an error if the log cannot be written, which logging itself ignores."""

    def flush(self) -> None:
        with name_in_errors(Path(self.baseFilename)):
            super().flush()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        raise  # noqa: PLE0704  (logging calls this where it has caught something)


def _numbered(runs: Path) -> list[Path]:
    if not runs.is_dir():
        return []
    return [path for path in runs.iterdir() if re.match(r"\d{5}-", path.name) and path.is_dir()]
