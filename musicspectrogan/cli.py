"""The command line: each command's flags, logging, and one line and a status for what goes wrong."""

from __future__ import annotations

import ast
import filecmp
import inspect
import io
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Annotated

import tyro

from musicspectrogan import __version__, surroundings
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.config import config_file, parse_flags, read_yaml
from musicspectrogan.counts import counted
from musicspectrogan.errors import (
    Interrupted,
    SettingError,
    UserError,
    in_debugging,
    not_one_of,
    printable,
    spared,
    told_of_system,
)
from musicspectrogan.evaluation.settings import EvaluateConfig
from musicspectrogan.generation.settings import GenerateConfig, SoundConfig
from musicspectrogan.launch import check_device, this_process
from musicspectrogan.progress import ConsoleHandler, OneLineFormatter
from musicspectrogan.training.settings import TrainingConfig

logger = logging.getLogger(__name__)

# Letters that anybody reads.
LONGEST_COMPLAINT = 2000

EXIT_DONE, EXIT_BUG, EXIT_USER_ERROR, EXIT_INTERRUPTED = 0, 1, 2, 130

# Seconds in which torchrun ends a process when another one has failed.
UNTIL_ENDED = 10.0


def preprocess(arguments: list[str], program: str) -> None:
    """music -> mel-spectrogram PNGs in class folders"""
    # Here, because training must not wait for the audio libraries, nor need them.
    from musicspectrogan.data.settings import PreprocessConfig

    config = parse_flags(PreprocessConfig, arguments, program=program)
    from musicspectrogan.data.preprocessing import preprocess

    try:
        preprocess(config)
    except KeyboardInterrupt:
        raise Interrupted("interrupted; the same command again goes on from here") from None


@dataclass(frozen=True)
class TrainCommand:
    """Train a GAN on a folder of spectrogram images."""

    settings: TrainingConfig
    config: Path | None = None
    """YAML file of settings, or the name of a recipe, as cgan-best; flags have precedence over it."""
    output: Path | None = None
    """Run directory; None for the next number below runs/."""
    resume: Annotated[tuple[Path, ...] | None, tyro.conf.arg(metavar="[RUN|FILE]")] = None
    """Go on with a run: its directory, one of its checkpoints, `latest` for the newest of all, or nothing for
    the newest of this gan and dataset."""
    dry_run: bool = False
    """Print the settings, the models' sizes, how long training will take and the run directory, and stop."""


def train(arguments: list[str], program: str) -> None:
    """images -> checkpoints, sample grids and curves in a run directory"""
    command = parse_flags(
        TrainCommand, arguments, default=TrainCommand(TrainingConfig()), program=program
    )
    # torch takes seconds to import; a wrong flag is told before.
    from musicspectrogan.evaluation.quick import quality_by_validation
    from musicspectrogan.generation.pieces import strips_of
    from musicspectrogan.generation.sound import sounds_of
    from musicspectrogan.training import runner
    from musicspectrogan.training.world import world_of_this_process

    world = world_of_this_process()

    settings = command.settings
    has_length = settings.images is not None or settings.epochs is not None

    def with_flags(settings: TrainingConfig) -> TrainingConfig:
        if has_length:  # in images or in epochs; either way it replaces the one in a file
            settings = replace(settings, images=None, epochs=None)
        return parse_flags(
            TrainCommand, arguments, default=TrainCommand(settings), program=program
        ).settings

    if command.config is not None:
        settings = with_flags(read_yaml(TrainingConfig, config_file(command.config)))
    if command.resume is None:
        plan = runner.plan_run(settings, command.output, world)
    else:
        if command.output is not None or len(command.resume) > 1:
            raise UserError(
                "--resume takes one run directory or checkpoint, and no --output beside it"
            )
        begun = runner.begun_run(
            command.resume[0] if command.resume else runner.newest_run_of(settings)
        )
        if command.config is None:
            settings = with_flags(begun.config)
        plan = runner.plan_resumed_run(begun, settings, world)
    if command.dry_run:
        described = runner.describe_dry_run(plan)
        if world.is_main:
            _tell(described)
    else:
        unseen = world.is_main and plan.config.eval_every > 0 and plan.config.split == "training"
        judge = None
        with spared("judgement of samples"):
            judge = quality_by_validation(plan.config.dataset, plan.dataset) if unseen else None
        runner.train(plan, sounds_of, judge, strips_of)


@dataclass(frozen=True)
class InfoCommand:
    """Say what a checkpoint, a run directory or a dataset is."""

    path: Annotated[Path, tyro.conf.Positional]
    """A checkpoint file, a run directory, `latest` for the newest run, or a folder made by preprocess.py."""


def info(arguments: list[str], program: str) -> None:
    """what a checkpoint, a run or a dataset is, in ten lines"""
    path = parse_flags(InfoCommand, arguments, program=program).path
    from musicspectrogan.information import describe

    if not path.exists():
        from musicspectrogan.training.run_directory import (
            named_run,  # torch: slow, and not for datasets
        )

        path = named_run(path)
    _tell(describe(path))


def generate(arguments: list[str], program: str) -> None:
    """checkpoint -> new spectrograms, their sound, and a page to play them on"""
    config = parse_flags(GenerateConfig, arguments, program=program)
    if config.checkpoint is None:
        raise UserError(
            "--checkpoint is missing: name a run directory, a checkpoint file, or latest"
        )
    # torch takes seconds to import; a wrong flag is told before.
    from musicspectrogan.device import choose_device
    from musicspectrogan.generation.generate import generate
    from musicspectrogan.training.checkpoint import (
        BEST_NAME,
        LATEST_NAME,
        best_checkpoint,
        load_checkpoint,
    )
    from musicspectrogan.training.run_directory import named_run

    source = named_run(config.checkpoint)
    if source.is_dir():
        source, checkpoint = best_checkpoint(source)
        newest = source.with_name(LATEST_NAME)
        if source.name == BEST_NAME:
            logger.info(
                "Taking %s, the best by the validation tracks; the newest is %s", source, newest
            )
    else:
        checkpoint = load_checkpoint(source)
    page = generate(config, checkpoint, source, choose_device(config.device))
    _tell(f"Open {page}")


def evaluate(arguments: list[str], program: str) -> None:
    """checkpoint + dataset -> figures that say how good it is, beside what real music scores"""
    config = parse_flags(EvaluateConfig, arguments, program=program)
    named = config.compare or tuple(path for path in (config.checkpoint, config.images) if path)
    if not named:
        raise UserError(
            "--checkpoint is missing: name a run directory, a checkpoint file, or latest"
        )
    # torch takes seconds to import; a wrong flag is told before.
    from musicspectrogan.device import choose_device
    from musicspectrogan.evaluation.evaluate import evaluate
    from musicspectrogan.evaluation.tables import genre_table, table
    from musicspectrogan.filesystem import public_names
    from musicspectrogan.training import run_directory
    from musicspectrogan.training.checkpoint import has_checkpoint

    def is_folder_of_images(path: Path) -> bool:
        if path in (config.checkpoint, config.images):
            return path == config.images
        return path.is_dir() and not has_checkpoint(path)

    named = tuple(
        path if is_folder_of_images(path) else run_directory.named_run(path) for path in named
    )
    found = [path if is_folder_of_images(path) else _checkpoint_to_judge(path) for path in named]
    sources = dict(zip(public_names(named), found, strict=True))
    output = config.output or run_directory.evaluation_file(list(sources.values()), config.seconds)
    outcome = evaluate(config, sources, output, choose_device(config.device))
    reports = list(outcome.reports.values())
    _tell(f"{outcome.verdict}\n")
    _tell(table(list(sources) if config.compare else ["samples"], reports))
    if by_genre := genre_table(reports[0]) if len(reports) == 1 else "":
        _tell(f"\n{by_genre}\n")
    by = reports[0].dataset
    _tell(
        f"Judged by {by['held_out_tracks']} {by['split']} tracks with {by['held_out_images']} images."
    )
    for remark in dict.fromkeys(remark for report in reports for remark in report.remarks):
        _tell(remark)
    _tell(f"Open {outcome.page or output}")


def _checkpoint_to_judge(path: Path) -> Path:
    """The checkpoint that a run directory, a file or `latest` means: the newest, which no judgement chose."""
    from musicspectrogan.training import (
        run_directory,  # torch: slow, and a wrong flag is told before
    )
    from musicspectrogan.training.checkpoint import BEST_NAME, newest_checkpoint

    path = run_directory.named_run(path)
    if not path.is_dir():
        return path
    newest, _ = newest_checkpoint(path)
    best = newest.with_name(BEST_NAME)
    if best.is_file() and not filecmp.cmp(best, newest, shallow=False):
        logger.info("This is the newest checkpoint; by the validation tracks %s was better", best)
    return newest


@dataclass(frozen=True)
class InvertCommand:
    """Turn spectrogram PNGs into sound; consecutive segments of a track become one file."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """PNGs, or folders of them."""
    output: Path = Path("inverted")
    """Folder for the audio files."""
    sound: SoundConfig = field(default_factory=SoundConfig)


def invert(arguments: list[str], program: str) -> None:
    """spectrogram PNGs -> audio files"""
    command = parse_flags(InvertCommand, arguments, program=program)
    if not command.paths:
        raise UserError("name a spectrogram PNG, or a folder of them")
    from musicspectrogan.data.manifest import Manifest
    from musicspectrogan.generation.invert import invert_images

    roots = [
        root
        for path in command.paths
        for root in (path, *path.resolve().parents[:2])
        if root.is_dir()
    ]
    manifests = (Manifest.read(root) for root in roots)
    fallback = next((manifest.spectrogram for manifest in manifests if manifest), None)
    written = invert_images(command.paths, command.output, command.sound, fallback)
    _tell(f"{counted(len(written), 'file')} in {command.output}")


@dataclass(frozen=True)
class ReconstructCommand:
    """Hear what the images can hold: audio -> PNG -> audio, with the round trip's error."""

    audio: Annotated[Path, tyro.conf.Positional]
    """An audio file."""
    output: Path = Path("reconstructed")
    """Folder for the PNG, the restored sound, and the original at the same level."""
    image_size: int = 64
    """Mel bands: 64, 128 or 256."""
    sound: SoundConfig = field(default_factory=SoundConfig)


def reconstruct(arguments: list[str], program: str) -> None:
    """audio -> image -> audio, and how far off it is"""
    command = parse_flags(ReconstructCommand, arguments, program=program)
    config = SpectrogramConfig.for_image_size(command.image_size)
    from musicspectrogan.generation.invert import reconstruct

    error = reconstruct(command.audio, command.output, config, command.sound)
    _tell(
        f"round-trip error {error:.2f} dB (mean absolute difference of 128-band log-mel, 60 dB window)"
    )
    _tell(f"image, restored sound and original are in {command.output}")


@dataclass(frozen=True)
class DoctorCommand:
    """Say what a bug report needs, and try every device: two minutes at most."""

    device: str | None = None
    """The one device to try: cpu, cuda, cuda:N or mps; None for all that there are."""

    def __post_init__(self) -> None:
        if self.device is not None:
            check_device(self.device)


def doctor(arguments: list[str], program: str) -> None:
    """versions, devices and decoders for a bug report, and whether every device trains right"""
    command = parse_flags(DoctorCommand, arguments, program=program)
    from musicspectrogan.device import choose_device
    from musicspectrogan.doctor import examine

    failed = 0
    for line, is_sound in examine(str(choose_device(command.device)) if command.device else None):
        _tell(line)
        sys.stdout.flush()
        failed += not is_sound
    _tell(
        f"\n{failed} failed: paste all of this into a bug report" if failed else "\nNothing failed"
    )
    if failed:
        sys.exit(EXIT_BUG)


COMMANDS: dict[str, Callable[[list[str], str], None]] = {
    command.__name__: command
    for command in (preprocess, train, generate, evaluate, invert, reconstruct, info, doctor)
}


def main(command: str | None = None) -> None:
    """Run a command with this process's arguments, and exit.

    Args:
        command: its name; None takes it from the first argument.
    """
    surroundings.settle()
    signal.signal(signal.SIGTERM, _as_keyboard_interrupt)
    threading.excepthook = _fail_in_thread
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be Unicode
        sys.stdout.reconfigure(errors="backslashreplace")
    _set_up_logging()
    try:
        try:
            status = _dispatch(command, sys.argv[1:])
        finally:
            sys.stdout.flush()
    except UserError as error:
        told = error.as_flag if isinstance(error, SettingError) else str(error)
        status = _complain(told, EXIT_USER_ERROR)
    except (Interrupted, KeyboardInterrupt) as error:
        status = EXIT_INTERRUPTED
        if this_process().rank == 0:
            _complain(str(error) or "interrupted", status)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = EXIT_DONE
    except Exception as error:
        if told := _told_by_system(error) or _told_by_device(error):
            if in_debugging():
                traceback.print_exception(error)
            status = _complain(told, EXIT_USER_ERROR)
        elif _told_elsewhere():
            status = EXIT_BUG
        else:
            raise
    sys.exit(status)


def _dispatch(command: str | None, arguments: list[str]) -> int:
    if "--version" in arguments:
        print(f"musicspectrogan {__version__}")
        return EXIT_DONE
    program = sys.argv[0].rpartition("/")[2]
    if command is None:
        if not arguments or arguments[0] in ("-h", "--help"):
            _tell(_overview())
            return EXIT_DONE
        command, *arguments = arguments
        if command not in COMMANDS:
            raise UserError(f"command: {not_one_of(command, COMMANDS)}")
        program = f"musicspectrogan {command}"
    COMMANDS[command](arguments, program)
    return EXIT_DONE


def _overview() -> str:
    # From their source, for PYTHONOPTIMIZE=2 takes docstrings away.
    about = {
        name: ast.parse(inspect.getsource(command)).body[0] for name, command in COMMANDS.items()
    }
    lines = [f"  {name:12} {ast.get_docstring(definition)}" for name, definition in about.items()]
    return "\n".join(
        ["usage: musicspectrogan COMMAND [--help] [flags]", "", *lines, "", "  --version"]
    )


def _tell(text: str) -> None:
    """Print lines."""
    print(*map(printable, text.split("\n")), sep="\n")


def _complain(message: str, status: int) -> int:
    if _told_elsewhere():
        return status
    text = printable(message)
    if (
        len(text) > LONGEST_COMPLAINT
    ):  # which quotes what somebody wrote; what is wrong, and the remedy, stay
        text = f"{text[: LONGEST_COMPLAINT // 2]} … {text[-LONGEST_COMPLAINT // 2 :]}"
    print(f"musicspectrogan: {text}", file=sys.stderr)
    return status


def _told_by_system(error: BaseException | None) -> str | None:
    """What the operating system refused, which the user can mend; None where the error is another one."""
    if isinstance(error, OSError) and (error.errno is not None or error.filename is not None):
        return told_of_system(error)
    if isinstance(error, UnicodeEncodeError):
        remedy = "rename it" if error.encoding == "utf-8" else "set LC_ALL=C.UTF-8"
        return f"{error.object}: no name can be written like that in {error.encoding}; {remedy}"
    if isinstance(error, MemoryError) and "torch" not in sys.modules:
        return "the computer's memory is full; close other programs, or give fewer --jobs"
    return None


def _told_by_device(error: Exception) -> str | None:
    """What to do about a GPU or a memory that is full or fails; None where the error is another one."""
    if "torch" not in sys.modules:
        return None
    from musicspectrogan.device import told_in_one_line

    return told_in_one_line(error)


def _told_elsewhere() -> bool:
    """Whether the first of several processes tells what has gone wrong.

    Mostly all of them meet the same, or one's failure is the others' too. The first tells and torchrun ends
    the rest; whoever is still there after a while must have met something of its own.
    """
    if this_process().rank == 0:
        return False
    try:
        time.sleep(UNTIL_ENDED)
    except KeyboardInterrupt:
        return True
    return False


def _fail_in_thread(failure: threading.ExceptHookArgs) -> None:
    """A thread that writes, as TensorBoard's does, hands its error on: told once, it needs no traceback."""
    if in_debugging() or _told_by_system(failure.exc_value) is None:
        threading.__excepthook__(failure)


def _as_keyboard_interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _set_up_logging() -> None:
    handler = ConsoleHandler()
    handler.setFormatter(OneLineFormatter("%(message)s"))
    package = logging.getLogger("musicspectrogan")
    package.setLevel(logging.INFO if this_process().rank == 0 else logging.ERROR)
    package.addHandler(handler)
    package.propagate = False
    # It warns of where it keeps a list of fonts.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
