"""A generator and its way to sound as ONNX files, which run without PyTorch and this package.

Images, pieces and sound are all expressed in ONNX. Not in the files are the random numbers of
`generate`, which the README of the folder shows how to draw, and what is done to finish sounds:
loudness, fades, loops and other sample rates. Each file is compared with PyTorch.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from musicspectrogan import __version__
from musicspectrogan.audio.vocoder import Vocoder
from musicspectrogan.errors import UserError, describe_error, in_dev_mode, printable
from musicspectrogan.export.cards import CARD_NAME, TEMPLATES
from musicspectrogan.export.onnx_checks import (
    check_clock,
    check_images,
    check_pieces,
    check_sound,
    inputs_of_images,
    inputs_of_pieces,
)
from musicspectrogan.export.onnx_graphs import Clock, Images, Pieces, Sound
from musicspectrogan.generation.sampler import Sampler
from musicspectrogan.progress import progress_bar
from musicspectrogan.training.checkpoint import Checkpoint, LiveGenerator

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# PyTorch draws fewer normal numbers than this in another way, which the README does not show.
LEAST_DRAWN = 16
# Cells of the piece that is traced.
TRACED_CELLS = 14
# Loggers that tell the exporter's developers about each step.
_TALKATIVE = ("torch", "onnxscript", "onnx_ir")


@dataclass(frozen=True)
class _Graph:
    """A file to write."""

    name: str
    """Of the file, without suffix."""
    module: nn.Module
    inputs: dict[str, Tensor]
    """Examples, by the names of the module's arguments."""
    axes: dict[str, dict[int, str]]
    """Names of the inputs' axes that may have any length."""
    outputs: list[str]
    check: Callable[[Path], None]
    """Compares the file in a folder with PyTorch."""
    strict: bool = True
    """Trace source code instead of a run, in which the `len` of a batch would be a constant. What
    computes with numpy is traced by a run."""


def export_onnx(
    checkpoint: Checkpoint | LiveGenerator,
    vocoder: Vocoder | None,
    folder: Path,
    *,
    name: str,
) -> None:
    """Write ONNX files with a README into an empty folder.

    Args:
        vocoder: gives the Fourier bins of sound.onnx; None for the non-negative fit.
        name: of the model, for the README.

    Raises:
        UserError: a package is missing, PyTorch cannot express the generator in ONNX, or the files
            give other results than PyTorch.
    """
    check_packages()
    sampler = Sampler(checkpoint)
    metadata = _metadata(checkpoint, sampler, vocoder, name)
    graphs = _graphs(sampler, vocoder)
    with progress_bar(total=len(graphs), description="Exporting", unit="file") as bar:
        for graph in graphs:
            _write(graph, folder, metadata, checkpoint.gan)
            graph.check(folder)
            bar.update()
    (folder / CARD_NAME).write_text(_readme(metadata, sampler), encoding="utf-8")


def check_packages() -> None:
    """Raise UserError unless the packages of the extra `onnx` are installed."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(
            f"--format onnx needs {', '.join(missing)}: pip install {' '.join(PACKAGES)}"
        )


def _metadata(
    checkpoint: Checkpoint | LiveGenerator,
    sampler: Sampler,
    vocoder: Vocoder | None,
    name: str,
) -> dict[str, str]:
    """What each file says about the model: texts, and the rest as JSON."""
    facts: dict[str, Any] = {
        "name": printable(name),
        "gan": checkpoint.gan,
        "genres": sampler.genres if sampler.conditional else [],
        "sample_rate": sampler.spectrogram.sample_rate,
        "spectrogram": asdict(sampler.spectrogram),
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
    """The files to write. Those of an unconditional generator take no genres."""
    generator, settings = sampler.any_length, sampler.spectrogram
    batch = {0: "batch"}
    inputs = inputs_of_images(sampler, 2)
    graphs = [
        _Graph(
            "images",
            Images(sampler.generator),
            inputs,
            dict.fromkeys(inputs, batch),
            ["images"],
            partial(check_images, sampler),
        )
    ]
    if generator is not None:
        inputs = inputs_of_pieces(sampler, generator, (0, 1), TRACED_CELLS)
        axes = {name: {**batch, 2: "cells"} for name in inputs}
        graphs += [
            _Graph(
                "pieces",
                Pieces(sampler.generator),
                inputs,
                {**axes, "style": batch, "beats": {**batch, 1: "cells + 1"}},
                ["images"],
                partial(check_pieces, sampler, generator),
            ),
            _Graph(
                "clock",
                Clock(sampler.generator),
                {"latents": sampler.latents((0, 1))},
                {"latents": batch},
                ["tempo", "phase", "offset"],
                partial(check_clock, sampler, generator),
            ),
        ]
    sound = _Graph(
        "sound",
        Sound(settings, vocoder),
        {"images": torch.zeros(2, settings.n_mels, settings.n_frames, dtype=torch.uint8)},
        {"images": {**batch, 2: "frames"}},
        ["samples"],
        partial(check_sound, sampler, vocoder),
        strict=False,
    )
    return [*graphs, sound]


def _write(graph: _Graph, folder: Path, metadata: dict[str, str], gan: str) -> None:
    """Trace a module, translate it and write the file."""
    # A piece has more cells than those at its ends that draw nothing. Without knowing that, torch
    # computes for minutes with minima and maxima of lengths.
    ends = graph.inputs["sequence"].shape[2] - TRACED_CELLS if graph.name == "pieces" else 0
    cells = torch.export.Dim("cells", min=ends + 1)
    any_length = torch.export.Dim.DYNAMIC
    lengths = {"batch": any_length, "frames": any_length, "cells": cells, "cells + 1": cells + 1}
    shapes = {
        name: {axis: lengths[length] for axis, length in axes.items()}
        for name, axes in graph.axes.items()
    }
    try:
        with _quiet(), torch.no_grad():
            program = torch.export.export(
                graph.module.eval(),
                tuple(graph.inputs.values()),
                dynamic_shapes=shapes,
                strict=graph.strict,
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
            for node in model.graph.all_nodes():
                node.metadata_props.clear()  # it has paths of source files on this computer
            model.producer_name, model.producer_version = "musicspectrogan", __version__
            model.metadata_props.update(metadata)
            translated.save(folder / f"{graph.name}.onnx", external_data=False)
    except OSError:
        raise
    except Exception as error:  # of any type: there is one for each operation without counterpart
        if in_dev_mode():
            raise
        raise UserError(
            f"--format onnx: PyTorch {torch.__version__} cannot express {graph.name}.onnx of --gan "
            f"{gan} in ONNX ({describe_error(error)}); `python -X dev` shows where"
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress what the exporter prints, warns of and logs."""
    loggers = {name: logging.getLogger(name) for name in _TALKATIVE}
    levels = {name: logger.level for name, logger in loggers.items()}
    for logger in loggers.values():
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, logger in loggers.items():
            logger.setLevel(levels[name])


def _readme(metadata: dict[str, str], sampler: Sampler) -> str:
    facts: dict[str, Any] = {**metadata, "pieces": sampler.any_length}
    facts["genres"] = [printable(genre) for genre in json.loads(metadata["genres"])]
    return TEMPLATES.get_template("onnx.md").render(
        **facts,
        settings=sampler.spectrogram,
        latent_dim=sampler.latent_dim,
        seeds=sampler.latent_dim >= LEAST_DRAWN,
    )
