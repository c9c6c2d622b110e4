"""What the page of an instrument embeds: its engine, and a checkpoint in the form that it reads."""

from __future__ import annotations

import copy
from base64 import b64encode
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from musicspectrogan import models
from musicspectrogan.audio import finishing, inversion
from musicspectrogan.audio.magnitude import POWER_STEPS
from musicspectrogan.audio.spectrogram import SpectrogramConfig, mel_filterbank
from musicspectrogan.audio.tempo import BEATS_PER_BAR
from musicspectrogan.audio.vocoder import LARGEST_GAIN, LAYERS, SLOPE, SUBBANDS, Vocoder
from musicspectrogan.errors import UserError
from musicspectrogan.generation import pieces
from musicspectrogan.models import anylength_cgan, layers
from musicspectrogan.training.checkpoint import Checkpoint, LiveGenerator

ENGINE = Path(__file__).with_name("engine")
# In the order in which they need each other when they are loaded.
SOURCES = (
    "random", "tensors", "kernels", "generator", "pieces", "magnitude", "inversion", "finishing",
    "worker",
)  # fmt: skip
# The generators that the engine computes.
GANS = ("dcgan", "cgan", "stable_gan", "stable_cgan", "anylength_gan", "anylength_cgan")
# A browser keeps the whole sound in memory.
LONGEST_SECONDS = 600


def payload(
    checkpoint: Checkpoint | LiveGenerator, vocoder: Vocoder | None, *, name: str
) -> dict[str, Any]:
    """Plain values for JSON: `description`, and in base64 `weights` and `kernels`.

    engine/worker.js says what the page does with them.

    Args:
        vocoder: of `generation.sound.choose_vocoder`; None for the non-negative fit.
        name: of the instrument.

    Raises:
        UserError: the engine does not know this GAN, or its spectrogram settings.
    """
    config = checkpoint.spectrogram
    if checkpoint.gan not in GANS:
        raise UserError(
            f"--format html: the page cannot compute --gan {checkpoint.gan}, only "
            f"{', '.join(GANS)}; give --format folder or onnx"
        )
    if config.n_fft & (config.n_fft - 1):
        raise UserError(
            f"--format html: an n_fft of {config.n_fft} is not a power of two, as the page's "
            "Fourier transform needs; give --format folder or onnx"
        )
    tensors = _Tensors()
    conditional = models.is_conditional(checkpoint.gan)
    description = {
        "name": name,
        "gan": checkpoint.gan,
        "genres": checkpoint.genres,
        "conditional": conditional,
        "any_length": models.is_any_length(checkpoint.gan),
        "rate": config.sample_rate,
        "image_seconds": config.image_seconds,
        "rows": config.n_mels,
        "columns": config.n_frames,
        "top_db": config.top_db,
        "band_hz": config.band_hz.tolist(),
        "longest_seconds": LONGEST_SECONDS,
        "generator": _generator(checkpoint, tensors),
        "pieces": {
            "block": pieces.BLOCK,
            "overlap": pieces.OVERLAP,
            "images_per_latent": pieces.IMAGES_PER_LATENT,
            "beats_per_bar": BEATS_PER_BAR,
        },
        "vocoder": None if vocoder is None else _vocoder(vocoder, tensors),
        "inversion": _inversion(config, vocoder, tensors),
        "finishing": _finishing(config.sample_rate),
        "tensors": tensors.table,
    }
    return {
        "description": description,
        "weights": b64encode(tensors.data).decode(),
        "kernels": b64encode((ENGINE / "kernels.wasm").read_bytes()).decode(),
    }


def engine_source() -> str:
    """The script of the worker."""
    library = (ENGINE / "fft.js").read_text(encoding="utf-8")
    licence = (ENGINE / "fft.LICENSE").read_text(encoding="utf-8")
    parts = [
        '"use strict";',
        f"/*\n{licence}*/\nconst FFT = (() => {{\nconst module = {{}};\n{library}\n"
        "return module.exports;\n})();",
        *((ENGINE / f"{name}.js").read_text(encoding="utf-8") for name in SOURCES),
    ]
    return "\n".join(parts)


class _Tensors:
    """Tensors one after another in one buffer, and where each is."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.table: dict[str, dict[str, Any]] = {}

    def add(self, name: str, values: Tensor | npt.NDArray[Any], dtype: str | None = None) -> None:
        """Add a tensor, by default vectors in single and all else in half precision."""
        array = np.asarray(values.detach() if isinstance(values, Tensor) else values)
        array = array.astype(dtype or ("float32" if array.ndim == 1 else "float16"))
        if not np.isfinite(array).all():
            raise UserError("--format html: the weights are too large for half precision")
        self.data += bytes(-len(self.data) % 4)
        self.table[name] = {
            "shape": list(array.shape),
            "dtype": array.dtype.name,
            "offset": len(self.data),
        }
        self.data += array.astype(array.dtype.newbyteorder("<")).tobytes()

    def add_pairs(self, name: str, matrix: npt.NDArray[np.float32]) -> None:
        """Add a matrix whose columns have at most two numbers, one below the other."""
        first = np.minimum((matrix != 0).argmax(axis=0), len(matrix) - 2)
        columns = np.arange(matrix.shape[1])
        weights = np.stack([matrix[first, columns], matrix[first + 1, columns]], axis=1)
        assert np.count_nonzero(matrix) == np.count_nonzero(weights)
        self.add(f"{name}.first", first, "uint16")
        self.add(f"{name}.weights", weights, "float32")


def _generator(checkpoint: Checkpoint | LiveGenerator, tensors: _Tensors) -> dict[str, Any]:
    """Add the weights of the averaged generator; returns what else the engine needs of it."""
    # Double precision: the statistics of BatchNorm become part of the weights.
    generator: Any = copy.deepcopy(checkpoint.build_ema_generator()).double()
    model, any_length = checkpoint.model, models.is_any_length(checkpoint.gan)
    modules = list(generator.modules())
    norms = [module for module in modules if isinstance(module, nn.BatchNorm2d)]
    convolutions = [
        module
        for module in modules
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d))
    ]
    for place, convolution in enumerate(convolutions):
        weight = convolution.weight
        if isinstance(convolution, nn.ConvTranspose2d):
            weight = weight.transpose(0, 1)
        shift = torch.zeros(len(weight))
        if place < len(norms):
            scale, shift = _folded(norms[place])
            # A generator of any length begins with several outputs of each channel.
            scale = scale.repeat_interleave(len(weight) // len(scale))
            weight = weight * scale.view(-1, *[1] * (weight.ndim - 1))
        name = f"layers.{place - 1}" if place else "begin"
        tensors.add(f"{name}.weight", weight)
        tensors.add(f"{name}.bias", shift)
    for name, module in generator.named_modules():
        if isinstance(module, layers.ConditionalBatchNorm):
            tensors.add(f"{name}.genre", torch.cat([module.scale, module.shift], dim=1).T)
        elif isinstance(module, layers.StyledBatchNorm):
            for part in ("genre", "style", "clock"):
                tensors.add(f"{name}.{part}", getattr(module, f"of_{part}"))
    settings = {
        "any_length": any_length,
        "latent_dim": generator.latent_dim,
        "rows": model.image_size,
        "innermost": layers.INNERMOST,
        "channels": layers.channels_outwards(model),
        "upsampling": model.upsampling,
        "labels": checkpoint.gan == "cgan",
    }
    if any_length:
        tensors.add("smooth", generator.smooth)
        names = ("style_dim", "cell_dim", "window_cells", "cell_frames", "context", "bar")
        settings |= {name: getattr(generator, name) for name in names}
        settings |= {
            "fast_dim": anylength_cgan.FAST_DIM,
            "beats_per_cell": anylength_cgan.BEATS_PER_CELL,
            "octaves": anylength_cgan.OCTAVES,
            "largest_tempo": anylength_cgan.LARGEST_TEMPO,
            "oscillations": list(anylength_cgan.OSCILLATIONS),
        }
    return settings


def _folded(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The scale and shift (C,) that a BatchNorm applies."""
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    scale = (variance + norm.eps).rsqrt()
    if not norm.affine:  # scale and shift depend on the genre, and come after it
        return scale, -mean * scale
    scale = scale * norm.weight
    return scale, norm.bias - mean * scale


def _vocoder(network: Vocoder, tensors: _Tensors) -> dict[str, Any]:
    for name, weight in network.state_dict().items():
        tensors.add(f"vocoder.{name}", weight, "float16")
    tensors.add_pairs("vocoder.bins", network.interpolation.numpy())
    return {
        "frames_per_column": network.frames_per_column,
        "context": network.context,
        "layers": LAYERS,
        "subbands": SUBBANDS,
        "bands": len(network.interpolation) // SUBBANDS,
        "slope": SLOPE,
        "largest_gain": LARGEST_GAIN,
    }


def _inversion(
    config: SpectrogramConfig, network: Vocoder | None, tensors: _Tensors
) -> dict[str, Any]:
    filters = mel_filterbank(config)
    tensors.add_pairs("filters", filters)
    highest = filters[filters.any(axis=1)][-1]
    iterations = inversion.PHASE_ITERATIONS if network is None else network.phase_iterations
    return {
        "n_fft": config.n_fft,
        "hop_length": config.hop_length,
        "power_steps": POWER_STEPS,
        # The rising side of the highest band.
        "edge": {"first": int(np.flatnonzero(highest)[0]), "peak": int(highest.argmax())},
        "phase_iterations": iterations,
        "phase_seed": inversion.PHASE_SEED,
        "phase_frames": inversion.PHASE_FRAMES,
        "momentum": inversion.MOMENTUM,
        "block_bins": inversion.BLOCK_BINS,
    }


def _finishing(sample_rate: int) -> dict[str, Any]:
    import pyloudnorm  # lazy: imports scipy.signal

    # The meter has no public way to its filters.
    stages = pyloudnorm.Meter(sample_rate)._filters.values()
    return {
        "loudness_lufs": finishing.LOUDNESS_LUFS,
        "peak_dbfs": finishing.PEAK_DBFS,
        "fade_seconds": finishing.FADE_SECONDS,
        "min_seconds": finishing.MIN_SECONDS,
        "block_seconds": finishing.BLOCK_SECONDS,
        "block_step": finishing.BLOCK_STEP,
        "absolute_gate_lufs": finishing.ABSOLUTE_GATE_LUFS,
        "relative_gate_lu": finishing.RELATIVE_GATE_LU,
        "filters": [[stage.b.tolist(), stage.a.tolist()] for stage in stages],
    }
