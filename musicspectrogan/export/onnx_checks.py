"""Comparison of ONNX files in onnxruntime with PyTorch, and inputs to do it with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from musicspectrogan.audio.inversion import invert, round_trip_error
from musicspectrogan.audio.vocoder import Vocoder
from musicspectrogan.errors import UserError
from musicspectrogan.generation.sampler import Sampler
from musicspectrogan.models import AnyLengthGenerator

# Images of this many seeds are compared. Rounding may move a grey level by one.
SEEDS = 100
LARGEST_GREY_DIFFERENCE = 1
# Parts of pieces of so many cells.
PIECE_CELLS = (1, 40)
# Clocks start at the same frame, and agree to this many beats.
LARGEST_CLOCK_DIFFERENCE = 1e-4
# Sounds: mean difference of their log-mel spectrograms in dB. Inversion itself loses 2 dB or more.
SOUNDS = 4
LARGEST_SOUND_ERROR_DB = 0.1


def mixtures(sampler: Sampler, count: int) -> Tensor:
    """Mixtures (count, n_genres): each genre in turn, pure or with a third of another one."""
    one_hot = torch.eye(len(sampler.genres))[torch.arange(count) % len(sampler.genres)]
    mixed = (2.0 * one_hot + one_hot.roll(1, dims=1)) / 3.0
    return torch.where(torch.arange(count)[:, None] % 2 == 0, one_hot, mixed)


def inputs_of_images(sampler: Sampler, count: int) -> dict[str, Tensor]:
    """Inputs of images.onnx for the first seeds."""
    inputs = {"latents": sampler.latents(range(count))}
    if sampler.conditional:
        inputs["genres"] = mixtures(sampler, count)
    return inputs


def inputs_of_pieces(
    sampler: Sampler, generator: AnyLengthGenerator, seeds: Sequence[int], cells: int
) -> dict[str, Tensor]:
    """Inputs of pieces.onnx for parts of pieces, one for each seed.

    Args:
        cells: for which frames are drawn.
    """
    count = cells + 2 * generator.context
    latents = sampler.latents(seeds)
    style = latents[:, : generator.style_dim]
    numbers = torch.Generator().manual_seed(0)
    clock = torch.arange(count + 1) * generator.beats_in_cell(style)
    inputs = {
        "style": style,
        "sequence": torch.randn(len(seeds), generator.cell_dim, count, generator=numbers),
        "beats": clock + generator.phase(latents)[:, None],
    }
    if sampler.conditional:
        inputs["genres"] = mixtures(sampler, len(seeds))[:, :, None].repeat(1, 1, count)
    return inputs


def check_images(sampler: Sampler, folder: Path) -> None:
    """Raise UserError if images.onnx draws other images."""
    inputs = inputs_of_images(sampler, SEEDS)
    (images,) = run(folder, "images", inputs)
    _check_grey("images", images, sampler.images(inputs["latents"], mixtures(sampler, SEEDS)))


def check_pieces(sampler: Sampler, generator: AnyLengthGenerator, folder: Path) -> None:
    """Raise UserError if pieces.onnx draws other pieces."""
    for cells in PIECE_CELLS:
        inputs = inputs_of_pieces(sampler, generator, (0, 1), cells)
        (pieces,) = run(folder, "pieces", inputs)
        genres = inputs.get("genres", torch.ones_like(inputs["sequence"][:, :1]))
        parts = zip(inputs["style"], inputs["sequence"], genres, inputs["beats"], strict=True)
        _check_grey("pieces", pieces, np.stack([sampler.frames(*part) for part in parts]))


def check_clock(sampler: Sampler, generator: AnyLengthGenerator, folder: Path) -> None:
    """Raise UserError if clock.onnx gives other tempi, phases or offsets."""
    latents = sampler.latents(range(SEEDS))
    tempo, phase, offset = run(folder, "clock", {"latents": latents})
    expected_tempo = generator.beats_in_cell(latents[:, : generator.style_dim])[:, 0].numpy()
    for found, expected in ((tempo, expected_tempo), (phase, generator.phase(latents).numpy())):
        _check("clock", found, expected, LARGEST_CLOCK_DIFFERENCE, "beats")
    _check("clock", offset, generator.begins_at(latents).numpy(), 0, "frames")


def check_sound(sampler: Sampler, vocoder: Vocoder | None, folder: Path) -> None:
    """Raise UserError if sound.onnx gives other sounds for images, or for them in a row."""
    pixels = sampler.images(sampler.latents(range(SOUNDS)), mixtures(sampler, SOUNDS))
    settings = sampler.spectrogram
    for images in (pixels, np.concatenate(pixels, axis=1)[None]):
        shown = torch.from_numpy(images)
        (samples,) = run(folder, "sound", {"images": shown})
        expected = invert(shown, settings, vocoder=vocoder).numpy()
        _check_shape("sound", samples, expected)
        pairs = zip(expected, samples, strict=True)
        error = max(round_trip_error(*pair, settings.sample_rate) for pair in pairs)
        _check_size("sound", error, LARGEST_SOUND_ERROR_DB, "dB")


def run(folder: Path, name: str, inputs: dict[str, Tensor]) -> list[npt.NDArray[Any]]:
    """The outputs of a file, with as many threads as PyTorch uses."""
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


def _check_grey(name: str, found: npt.NDArray[Any], expected: npt.NDArray[np.uint8]) -> None:
    _check(name, found.astype(np.int16), expected, LARGEST_GREY_DIFFERENCE, "grey levels")


def _check(
    name: str, found: npt.NDArray[Any], expected: npt.NDArray[Any], largest: float, unit: str
) -> None:
    _check_shape(name, found, expected)
    _check_size(name, float(np.abs(found - expected).max()), largest, unit)


def _check_shape(name: str, found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
    if found.shape != expected.shape:
        raise _differ(name, f"are {found.shape} and {expected.shape}")


def _check_size(name: str, difference: float, largest: float, unit: str) -> None:
    if not difference <= largest:  # NaN too
        raise _differ(name, f"differ by {difference:.3g} {unit}, more than {largest:g}")


def _differ(name: str, how: str) -> UserError:
    return UserError(
        f"--format onnx: results of {name}.onnx in onnxruntime and PyTorch {how}, so nothing is "
        "written; try other versions of torch, onnxscript and onnxruntime"
    )
