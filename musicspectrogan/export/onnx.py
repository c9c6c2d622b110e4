"""A generator and its way to sound as ONNX files, which run without PyTorch and this package.

Images, pieces and sound are all expressed in ONNX. Not in the files are what `generate` does with
random numbers, which is in the README of the folder, and with finished sounds: loudness, fades,
loops and other sample rates. Every file is compared with PyTorch before the folder appears.
"""

from __future__ import annotations

import io
import json
import logging
import os
import secrets
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from torch import Tensor, nn

from musicspectrogan import __version__
from musicspectrogan.audio.inversion import invert, round_trip_error
from musicspectrogan.audio.vocoder import Vocoder
from musicspectrogan.errors import UserError, describe_error, in_dev_mode, printable
from musicspectrogan.export.graphs import Clock, Images, Pieces, Sound
from musicspectrogan.filesystem import make_folder, sync_files, sync_folder
from musicspectrogan.generation.sampler import Sampler
from musicspectrogan.models import AnyLengthGenerator
from musicspectrogan.progress import progress_bar
from musicspectrogan.training.checkpoint import Checkpoint

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# PyTorch draws fewer normal numbers than this in another way, which the README does not show.
LEAST_DRAWN = 16

# What is compared with PyTorch: images of this many seeds, and pieces of two for each number of
# cells drawn. Rounding may move a grey level by one.
IMAGE_SEEDS = 100
PIECE_CELLS = (1, 40)
LARGEST_GREY_DIFFERENCE = 1
# Clocks start at the same frame, and agree to this many beats.
LARGEST_CLOCK_DIFFERENCE = 1e-4
# Sounds: mean difference of their log-mel spectrograms in dB. Inversion itself loses 2 dB or more.
SOUND_IMAGES = 4
LARGEST_SOUND_ERROR_DB = 0.1

# Loggers of what traces and translates, which tell its developers about each step.
_TALKATIVE = ("torch", "onnxscript", "onnx_ir")

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class _Graph:
    """A file to write."""

    name: str
    """Of the file, without suffix."""
    module: nn.Module
    inputs: dict[str, Tensor]
    """Examples, by the names of the module's arguments."""
    axes: dict[str, dict[int, str]]
    """Names of the axes of inputs that may have any length."""
    outputs: list[str]
    compiled: bool = True
    """Trace the source code, not a run: the modules' `len(batch)` is then not taken for a constant.
    What computes with numpy is traced by running it."""
    minima: dict[str, int] = field(default_factory=dict)
    """Least lengths of axes, where they matter."""


def export_onnx(
    checkpoint: Checkpoint, vocoder: Vocoder | None, output: Path, *, name: str
) -> Path:
    """Write a folder of ONNX files with a README; returns it. Nothing is left after an error.

    Args:
        vocoder: gives the Fourier bins of sound.onnx; None for the non-negative fit.
        output: the folder, which does not exist.
        name: of the model, for the README.

    Raises:
        UserError: a package is missing, torch cannot express the generator in ONNX, or the files
            give other results than PyTorch.
    """
    check_packages()
    sampler = Sampler(checkpoint)
    metadata = _metadata(checkpoint, sampler, vocoder, name)
    graphs = _graphs(sampler, vocoder)
    make_folder(output.parent)
    temporary = output.with_name(f".{output.name}.{secrets.token_hex(4)}.tmp")
    temporary.mkdir()
    try:
        with progress_bar(total=2 * len(graphs), description="Exporting", unit="step") as bar:
            for graph in graphs:
                _write(graph, temporary, metadata, checkpoint.gan)
                bar.update()
            for check in (_check_images, _check_pieces, _check_sound):
                check(sampler, vocoder, temporary)
                bar.update()
            bar.update(bar.total - bar.n)
        readme = _readme(metadata, sampler)
        (temporary / "README.md").write_text(readme, encoding="utf-8")
        sync_files(sorted(temporary.iterdir()))
        os.replace(temporary, output)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(output.parent)
    return output


def check_packages() -> None:
    """Raise UserError unless the packages of the extra `onnx` are installed."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(
            f"--format onnx needs {', '.join(missing)}: pip install 'musicspectrogan[onnx]', or "
            f"pip install {' '.join(PACKAGES)}"
        )


def _metadata(
    checkpoint: Checkpoint, sampler: Sampler, vocoder: Vocoder | None, name: str
) -> dict[str, str]:
    """What every file says about the model, as texts; lists and settings are JSON."""
    settings = sampler.spectrogram
    facts: dict[str, Any] = {
        "name": printable(name),
        "gan": checkpoint.gan,
        "genres": sampler.genres if sampler.conditional else [],
        "sample_rate": settings.sample_rate,
        "spectrogram": asdict(settings),
        "vocoder": vocoder.digest if vocoder else "",
        "made_with": f"musicspectrogan {__version__}",
    }
    if sampler.any_length is not None:
        names = ("style_dim", "cell_dim", "cell_frames", "context", "bar")
        facts["pieces"] = {name: getattr(sampler.any_length, name) for name in names}
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in facts.items()
    }


def _graphs(sampler: Sampler, vocoder: Vocoder | None) -> list[_Graph]:
    """The files to write. An unconditional generator takes no genres."""
    batch, settings = {0: "batch"}, sampler.spectrogram
    inputs = {"latents": sampler.latents((0, 1))}
    if sampler.conditional:
        inputs["genres"] = _mixtures(sampler, 2)
    images = _Graph(
        "images", Images(sampler.generator), inputs, dict.fromkeys(inputs, batch), ["images"]
    )
    grey = torch.zeros(2, settings.n_mels, 2 * settings.n_frames, dtype=torch.uint8)
    sound = _Graph(
        "sound",
        Sound(settings, vocoder),
        {"images": grey},
        {"images": {**batch, 2: "frames"}},
        ["samples"],
        compiled=False,
    )
    generator = sampler.any_length
    if generator is None:
        return [images, sound]
    inputs = _part(sampler, generator, (0, 1), cells=14)
    axes = {name: {**batch, 2: "cells"} for name in inputs}
    axes |= {"style": batch, "beats": {**batch, 1: "cells + 1"}}
    pieces = _Graph(
        "pieces",
        Pieces(sampler.generator),
        inputs,
        axes,
        ["images"],
        minima={"cells": 2 * generator.context + 1},
    )
    clock = _Graph(
        "clock",
        Clock(sampler.generator),
        {"latents": sampler.latents((0, 1))},
        {"latents": batch},
        ["tempo", "phase", "offset"],
    )
    return [images, pieces, clock, sound]


def _mixtures(sampler: Sampler, count: int) -> Tensor:
    """Mixtures (count, n_genres): every genre in turn, alone and with a third of the next one."""
    one_hot = torch.eye(len(sampler.genres))[torch.arange(count) % len(sampler.genres)]
    mixed = (2.0 * one_hot + one_hot.roll(1, dims=1)) / 3.0
    return torch.where(torch.arange(count)[:, None] % 2 == 0, one_hot, mixed)


def _part(
    sampler: Sampler, generator: AnyLengthGenerator, seeds: Sequence[int], cells: int
) -> dict[str, Tensor]:
    """Inputs of pieces.onnx for the first cells of pieces, one for each seed."""
    count = cells + 2 * generator.context
    latents = sampler.latents(seeds)
    style = latents[:, : generator.style_dim]
    normals = torch.Generator().manual_seed(seeds[0])
    clock = torch.arange(count + 1) * generator.beats_in_cell(style)
    inputs = {
        "style": style,
        "sequence": torch.randn(len(seeds), generator.cell_dim, count, generator=normals),
        "beats": clock + generator.phase(latents)[:, None],
    }
    if sampler.conditional:
        mixtures = _mixtures(sampler, len(seeds))
        inputs["genres"] = mixtures[:, :, None].repeat(1, 1, count)
    return inputs


def _write(graph: _Graph, folder: Path, metadata: dict[str, str], gan: str) -> None:
    """Trace a module, translate it and write the file, with its axes named."""
    lengths: dict[str, Any] = {
        name: torch.export.Dim(name, min=least) for name, least in graph.minima.items()
    }
    if "cells" in lengths:
        lengths["cells + 1"] = lengths["cells"] + 1
    shapes = {
        name: {axis: lengths.get(text, torch.export.Dim.DYNAMIC) for axis, text in axes.items()}
        for name, axes in graph.axes.items()
    }
    try:
        with _quiet(), torch.no_grad():
            program = torch.export.export(
                graph.module.eval(),
                tuple(graph.inputs.values()),
                dynamic_shapes=shapes,
                strict=graph.compiled,
            )
            translated = torch.onnx.export(
                program,
                dynamo=True,
                input_names=list(graph.inputs),
                output_names=graph.outputs,
                dynamic_shapes=graph.axes,
                verbose=False,
            )
            assert translated is not None
            model = translated.model
            # They hold the source code's paths on this computer.
            for node in model.graph.all_nodes():
                node.metadata_props.clear()
            model.producer_name, model.producer_version = "musicspectrogan", __version__
            model.metadata_props.update(metadata)
            translated.save(folder / f"{graph.name}.onnx", external_data=False)
    except OSError:
        raise
    except Exception as error:  # of any type, and some for each operation that is not supported
        if in_dev_mode():
            raise
        raise UserError(
            f"--format onnx: PyTorch {torch.__version__} cannot express {graph.name}.onnx of --gan "
            f"{gan} in ONNX ({describe_error(error)}); `python -X dev` shows where"
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress what the exporter prints, warns of and logs."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _run(folder: Path, name: str, inputs: dict[str, Tensor]) -> list[npt.NDArray[Any]]:
    """The outputs of a file in onnxruntime."""
    import onnxruntime  # lazy: an extra

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(
        folder / f"{name}.onnx", options, providers=["CPUExecutionProvider"]
    )
    arrays = {key: value.numpy() for key, value in inputs.items()}
    outputs: list[npt.NDArray[Any]] = session.run(None, arrays)
    return outputs


def _check_images(sampler: Sampler, vocoder: Vocoder | None, folder: Path) -> None:
    latents, mixtures = sampler.latents(range(IMAGE_SEEDS)), _mixtures(sampler, IMAGE_SEEDS)
    inputs = {"latents": latents} | ({"genres": mixtures} if sampler.conditional else {})
    (images,) = _run(folder, "images", inputs)
    _check_grey("images", images, sampler.images(latents, mixtures))


def _check_pieces(sampler: Sampler, vocoder: Vocoder | None, folder: Path) -> None:
    generator = sampler.any_length
    if generator is None:
        return
    for cells in PIECE_CELLS:
        inputs = _part(sampler, generator, (0, 1), cells)
        (pieces,) = _run(folder, "pieces", inputs)
        genres = inputs.get("genres", torch.ones_like(inputs["sequence"][:, :1]))
        parts = (inputs["style"], inputs["sequence"], genres, inputs["beats"])
        expected = [sampler.frames(*part) for part in zip(*parts, strict=True)]
        _check_grey("pieces", pieces, np.stack(expected))
    latents = sampler.latents(range(IMAGE_SEEDS))
    tempo, phase, offset = _run(folder, "clock", {"latents": latents})
    style = latents[:, : generator.style_dim]
    beats = torch.stack([generator.beats_in_cell(style)[:, 0], generator.phase(latents)]).numpy()
    difference = float(np.abs(np.stack([tempo, phase]) - beats).max())
    _check("clock", difference, LARGEST_CLOCK_DIFFERENCE, "beats")
    _check("clock", float(np.abs(offset - generator.begins_at(latents).numpy()).max()), 0, "frames")


def _check_sound(sampler: Sampler, vocoder: Vocoder | None, folder: Path) -> None:
    mixtures, settings = _mixtures(sampler, SOUND_IMAGES), sampler.spectrogram
    images = torch.from_numpy(sampler.images(sampler.latents(range(SOUND_IMAGES)), mixtures))
    long = torch.cat([*images], dim=1)[None]
    for shown in (images, long):
        (samples,) = _run(folder, "sound", {"images": shown})
        expected = invert(shown, settings, vocoder=vocoder).numpy()
        if samples.shape != expected.shape:
            raise UserError(_differs("sound", f"are {samples.shape}, not {expected.shape}"))
        error = max(
            round_trip_error(*pair, settings.sample_rate)
            for pair in zip(expected, samples, strict=True)
        )
        _check("sound", error, LARGEST_SOUND_ERROR_DB, "dB")


def _check_grey(name: str, found: npt.NDArray[np.uint8], expected: npt.NDArray[np.uint8]) -> None:
    if found.shape != expected.shape:
        raise UserError(_differs(name, f"are {found.shape}, not {expected.shape}"))
    difference = float(np.abs(found.astype(np.int16) - expected).max())
    _check(name, difference, LARGEST_GREY_DIFFERENCE, "grey levels")


def _check(name: str, difference: float, largest: float, unit: str) -> None:
    if not difference <= largest:  # NaN too
        raise UserError(_differs(name, f"differ by {difference:.3g} {unit}, not {largest:g}"))


def _differs(name: str, how: str) -> str:
    return (
        f"--format onnx: results of {name}.onnx in onnxruntime and PyTorch {how}, so nothing is "
        "written; try other versions of torch, onnxscript and onnxruntime"
    )


def _readme(metadata: dict[str, str], sampler: Sampler) -> str:
    environment = Environment(
        loader=PackageLoader("musicspectrogan.export"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    facts: dict[str, Any] = {**metadata}
    facts["genres"] = [printable(genre) for genre in json.loads(metadata["genres"])]
    facts["pieces"] = sampler.any_length
    return environment.get_template("onnx.md").render(
        **facts,
        settings=sampler.spectrogram,
        latent_dim=sampler.latent_dim,
        seeds=sampler.latent_dim >= LEAST_DRAWN,
    )
