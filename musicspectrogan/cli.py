"""The command line: every command, logging, and one line and an exit status for each error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from musicspectrogan import __version__, api
from musicspectrogan.audio import VOCODER_NAME
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.config import config_file, read_yaml
from musicspectrogan.console import EXIT_BUG, EXIT_DONE, report_error, set_up_process
from musicspectrogan.counts import format_count
from musicspectrogan.environment import check_environment
from musicspectrogan.errors import Interrupted, UserError, not_one_of, printable
from musicspectrogan.evaluation.settings import EvaluateConfig
from musicspectrogan.export.settings import ExportConfig
from musicspectrogan.flags import POSITIONAL, parse_flags
from musicspectrogan.generation.settings import GenerateConfig, SoundConfig
from musicspectrogan.launch import check_device, this_process
from musicspectrogan.training.settings import TrainingConfig
from musicspectrogan.vocoding.settings import VocoderConfig

logger = logging.getLogger(__name__)


def preprocess(arguments: list[str], program: str) -> None:
    """Run `preprocess`."""
    # Imported here, since training neither needs the audio libraries nor should wait for them.
    from musicspectrogan.data.settings import PreprocessConfig

    config = parse_flags(PreprocessConfig, arguments, program=program)
    try:
        api.preprocess(config)
    except KeyboardInterrupt:
        raise Interrupted("interrupted; run the same command again to continue") from None


@dataclass(frozen=True)
class TrainCommand:
    """Train a GAN on a folder of spectrogram images."""

    settings: TrainingConfig
    config: Path | None = None
    """YAML file of settings or name of a recipe such as cgan-best; flags override it."""
    output: Path | None = None
    """Run directory; None for the next number in runs/."""
    resume: tuple[Path, ...] | None = None
    """Continue a run: its directory, one of its checkpoints, `latest` for the newest of all, or
    no value for the newest of this gan and dataset."""
    dry_run: bool = False
    """Print the settings, the sizes of the models, the time that training will take and the run
    directory, then stop."""


def train(arguments: list[str], program: str) -> None:
    """Run `train`."""
    command = parse_flags(
        TrainCommand, arguments, default=TrainCommand(TrainingConfig()), program=program
    )
    # torch takes seconds to import: report a wrong flag first.
    from musicspectrogan.training import runner
    from musicspectrogan.training.distributed import Distributed

    distributed = Distributed(this_process())

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
        plan = runner.plan_run(settings, command.output, distributed)
    else:
        if command.output is not None or len(command.resume) > 1:
            raise UserError(
                "--resume takes one run directory or checkpoint, and no --output beside it"
            )
        previous = runner.load_run(
            command.resume[0] if command.resume else runner.newest_run_of(settings)
        )
        if command.config is None:
            settings = with_flags(previous.config)
        plan = runner.plan_resumed_run(previous, settings, distributed)
    if command.dry_run:
        described = runner.describe_dry_run(plan)
        if distributed.is_main:
            _print_lines(described)
        return
    api.train_plan(plan)


@dataclass(frozen=True)
class InfoCommand:
    """Describe a checkpoint, a run directory or a dataset."""

    path: Path = field(metadata=POSITIONAL)
    """Checkpoint file, run directory, exported folder or zip, `latest`, `demo`, or a dataset."""


def info(arguments: list[str], program: str) -> None:
    """Run `info`."""
    path = parse_flags(InfoCommand, arguments, program=program).path
    from musicspectrogan.information import describe

    if not path.exists():
        from musicspectrogan.training.run_directory import (
            named_run,  # torch: slow, and not for datasets
        )

        path = named_run(path)
    _print_lines(describe(path))


def generate(arguments: list[str], program: str) -> None:
    """Run `generate`."""
    config = parse_flags(GenerateConfig, arguments, program=program)
    _print_lines(f"Open {api.generate(config)}")


def evaluate(arguments: list[str], program: str) -> None:
    """Run `evaluate`."""
    config = parse_flags(EvaluateConfig, arguments, program=program)
    outcome = api.evaluate(config)
    from musicspectrogan.evaluation.report import genre_table, table

    names, reports = list(outcome.reports), list(outcome.reports.values())
    _print_lines(f"{outcome.verdict}\n")
    _print_lines(table(names if config.compare else ["samples"], reports))
    if by_genre := genre_table(reports[0]) if len(reports) == 1 else "":
        _print_lines(f"\n{by_genre}\n")
    by = reports[0].dataset
    _print_lines(
        f"Judged by {by['held_out_tracks']} {by['split']} tracks "
        f"with {by['held_out_images']} images."
    )
    for remark in dict.fromkeys(remark for report in reports for remark in report.remarks):
        _print_lines(remark)
    _print_lines(f"Open {outcome.page or outcome.file}")


def export(arguments: list[str], program: str) -> None:
    """Run `export`."""
    config = parse_flags(ExportConfig, arguments, program=program)
    _print_lines(f"Wrote {api.export_model(config)}")


@dataclass(frozen=True)
class InvertCommand:
    """Convert spectrogram PNGs to audio; consecutive segments of a track become one file."""

    paths: tuple[Path, ...] = field(metadata=POSITIONAL)
    """PNGs or folders of PNGs."""
    output: Path = Path("inverted")
    """Folder for the audio files."""
    sound: SoundConfig = field(default_factory=SoundConfig)


def invert(arguments: list[str], program: str) -> None:
    """Run `invert`."""
    command = parse_flags(InvertCommand, arguments, program=program)
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
    _print_lines(f"{format_count(len(written), 'file')} in {command.output}")


@dataclass(frozen=True)
class ReconstructCommand:
    """Convert audio to a PNG and back, and measure the error of the round trip."""

    audio: Path = field(metadata=POSITIONAL)
    """Audio file."""
    output: Path = Path("reconstructed")
    """Folder for the PNG, the reconstructed sound, and the original at the same level."""
    image_size: int = 64
    """Mel bands: 64, 128 or 256."""
    sound: SoundConfig = field(default_factory=SoundConfig)


def reconstruct(arguments: list[str], program: str) -> None:
    """Run `reconstruct`."""
    command = parse_flags(ReconstructCommand, arguments, program=program)
    config = SpectrogramConfig.for_image_size(command.image_size)
    from musicspectrogan.generation.invert import reconstruct

    error = reconstruct(command.audio, command.output, config, command.sound)
    _print_lines(
        f"round-trip error {error:.2f} dB "
        "(mean absolute difference of 128-band log-mel, 60 dB window)"
    )
    _print_lines(f"image, reconstructed sound and original are in {command.output}")


@dataclass(frozen=True)
class DoctorCommand:
    """Print what a bug report needs, and test every device, in at most two minutes."""

    device: str | None = None
    """Device to test: cpu, cuda, cuda:N or mps; None for all."""

    def __post_init__(self) -> None:
        if self.device is not None:
            check_device(self.device)


def doctor(arguments: list[str], program: str) -> None:
    """Run `doctor`."""
    command = parse_flags(DoctorCommand, arguments, program=program)
    from musicspectrogan.device import choose_device
    from musicspectrogan.doctor import examine

    failed = 0
    for line, is_sound in examine(str(choose_device(command.device)) if command.device else None):
        _print_lines(line)
        sys.stdout.flush()
        failed += not is_sound
    _print_lines(
        f"\n{failed} failed: paste all of this into a bug report" if failed else "\nNothing failed"
    )
    if failed:
        sys.exit(EXIT_BUG)


def vocoder(arguments: list[str], program: str) -> None:
    """Run `vocoder`."""
    config = parse_flags(VocoderConfig, arguments, program=program)
    # torch takes seconds to import: report a wrong flag first.
    from musicspectrogan.device import choose_device
    from musicspectrogan.training.run_checkpoints import add_vocoder, checkpoints_for
    from musicspectrogan.training.run_directory import DEMO_MODEL, named_run
    from musicspectrogan.vocoding.learn import learn
    from musicspectrogan.vocoding.music import read_manifest

    path = named_run(config.checkpoint) if config.checkpoint else None
    if path == DEMO_MODEL:
        raise UserError(
            "--checkpoint demo: is part of the package; export it, and name that folder"
        )
    if path:  # minutes before it is needed
        checkpoints_for(path, read_manifest(config.dataset).spectrogram)
    learned = learn(config, choose_device(config.device))
    _print_lines(f"the vocoder is {config.dataset / VOCODER_NAME}")
    if path:
        added = add_vocoder(path, learned)
        _print_lines(f"and in {format_count(len(added), 'checkpoint')} of {path}")


COMMANDS: dict[str, Callable[[list[str], str], None]] = {
    "preprocess": preprocess,
    "vocoder": vocoder,
    "train": train,
    "generate": generate,
    "evaluate": evaluate,
    "export": export,
    "invert": invert,
    "reconstruct": reconstruct,
    "info": info,
    "doctor": doctor,
}
OVERVIEW = """\
usage: musicspectrogan COMMAND [--help] [flags]

  preprocess   music -> mel-spectrogram PNGs in class folders
  vocoder      dataset -> a learned way from its images back to sound, for better sounds
  train        images -> checkpoints, sample grids and curves in a run directory
  generate     checkpoint -> new spectrograms, their sound, and a page to play them on
  evaluate     checkpoint + dataset -> metrics of the samples, beside those of real music
  export       checkpoint -> a folder to share, ONNX files, or an instrument in one HTML file
  invert       spectrogram PNGs -> audio files
  reconstruct  audio -> image -> audio, and the error of the round trip
  info         describe a checkpoint, a run or a dataset in ten lines
  doctor       versions, devices and decoders for a bug report, and a test of every device

  --version"""


def main(command: str | None = None) -> None:
    """Run a command with the arguments of this process, and exit.

    Args:
        command: its name; None takes it from the first argument.
    """
    set_up_process()
    try:
        try:
            check_environment()
            _dispatch(command, sys.argv[1:])
            status = EXIT_DONE
        finally:
            sys.stdout.flush()
    except BaseException as error:
        status = report_error(error)
    sys.exit(status)


def _dispatch(command: str | None, arguments: list[str]) -> None:
    program = sys.argv[0].rpartition("/")[2]
    if "--version" in arguments:
        print(f"musicspectrogan {__version__}")
    elif command is not None:
        COMMANDS[command](arguments, program)
    elif not arguments or arguments[0] in ("-h", "--help"):
        print(OVERVIEW)
    elif arguments[0] in COMMANDS:
        COMMANDS[arguments[0]](arguments[1:], f"musicspectrogan {arguments[0]}")
    else:
        raise UserError(f"command: {not_one_of(arguments[0], COMMANDS)}")


def _print_lines(text: str) -> None:
    """Print lines."""
    print(*map(printable, text.split("\n")), sep="\n")
