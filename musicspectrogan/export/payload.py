"""What the page of an instrument embeds: its engine, and a checkpoint in the form that it reads."""

from __future__ import annotations

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
from musicspectrogan.training.checkpoint import Checkpoint

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


def payload(checkpoint: Checkpoint, vocoder: Vocoder | None, *, name: str) -> dict[str, Any]:
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


def _generator(checkpoint: Checkpoint, tensors: _Tensors) -> dict[str, Any]:
    """Add the weights of the averaged generator; returns what else the engine needs of it."""
    generator: Any = checkpoint.build_ema_generator().double()
    model = checkpoint.model
    any_length = models.is_any_length(checkpoint.gan)
    if checkpoint.gan in ("dcgan", "cgan"):
        convolutions, norms = list(generator.layers[::3]), list(generator.layers[1::3])
    else:
        first = [generator.begin] if any_length else []
        convolutions = [*first, *generator.layers, generator.to_image]
        norms = list(generator.norms)
    channels = layers.channels_outwards(model.width, model.image_size)
    for level, norm in enumerate(norms):
        if not isinstance(norm, nn.BatchNorm2d):
            for part in ("genre", "style", "clock") if any_length else ("genre",):
                tensors.add(f"norms.{level}.{part}", _of(norm, part))
    for place, convolution in enumerate(convolutions):
        scale, shift = _folded(norms[place]) if place < len(norms) else (torch.ones(1), None)
        if place == 0:
            weight = convolution.weight
            outputs = 0 if any_length else 1
            # Any length: output c * INNERMOST + row.
            repeated = scale.repeat_interleave(weight.shape[outputs] // len(scale))
            shape = [1] * weight.ndim
            shape[outputs] = -1
            tensors.add("begin.weight", weight * repeated.view(shape))
            tensors.add("begin.bias", cast(Tensor, shift))
            continue
        if isinstance(convolution, nn.Sequential):  # after nn.Upsample
            weight = convolution[1].weight
        else:
            weight = convolution.weight.transpose(0, 1)
        tensors.add(f"layers.{place - 1}.weight", weight * scale[:, None, None, None])
        tensors.add(f"layers.{place - 1}.bias", torch.zeros(1) if shift is None else shift)
    settings = {
        "any_length": any_length,
        "latent_dim": generator.latent_dim,
        "rows": model.image_size,
        "innermost": layers.INNERMOST,
        "channels": channels,
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


def _of(norm: nn.Module, part: str) -> Tensor:
    """Weights (2 * C, …) of scale and shift of a norm that depend on a part of the latents."""
    if isinstance(norm, layers.ConditionalBatchNorm):
        return torch.cat([norm.scale, norm.shift], dim=1).T
    return cast(Tensor, getattr(norm, f"of_{part}"))


def _folded(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """The scale and shift (C,) that normalise by a norm's statistics, and its own if it has them.

    What depends on genres comes after them.
    """
    batch_norm = norm if isinstance(norm, nn.BatchNorm2d) else cast(nn.BatchNorm2d, norm.norm)
    mean, variance = cast(Tensor, batch_norm.running_mean), cast(Tensor, batch_norm.running_var)
    scale = (variance + batch_norm.eps).rsqrt()
    if not batch_norm.affine:
        return scale, -mean * scale
    scale = scale * batch_norm.weight
    return scale, batch_norm.bias - mean * scale


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
