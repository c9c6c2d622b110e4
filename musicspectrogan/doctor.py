"""What a bug report needs: versions, devices, decoders, and whether every device trains as the CPU does."""

from __future__ import annotations

import gc
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from musicspectrogan import __version__
from musicspectrogan.device import arithmetic, missing_kernels, told_in_one_line
from musicspectrogan.errors import UserError
from musicspectrogan.models import ModelConfig
from musicspectrogan.training.building import build_networks, build_step
from musicspectrogan.training.graph import RecordedStep
from musicspectrogan.training.settings import TrainingConfig
from musicspectrogan.training.step import VIEWS

PACKAGES = (
    "torchvision librosa soundfile soxr numpy scipy scikit-learn pandas pillow matplotlib tensorboard"
).split()
DECODED = ("wav", "flac", "ogg", "mp3")

STEPS = 20
BATCH_SIZE = 64
IMAGE_SIZE = 64
GENRES = 10
# Narrow enough for a CPU, which has to say what is right.
WIDTH = 16
AUGMENT = 0.3
FULL_WIDTH = 64
# What a device is tried by: the step itself, on a GPU a recorded one too, and that at the width that a GPU is
# there for, which would take a CPU minutes to compare.
PLAIN, RECORDED, FULL = "plain", "recorded", f"width {FULL_WIDTH}"
# After so many no trial is begun: who writes a bug report has two minutes.
LONGEST_SECONDS = 90
# Largest differences from the CPU. Before the first update only sums are rounded differently. Later Adam
# makes much of little: on one CPU another memory layout, or weights changed by a millionth, give up to 0.05.
BEFORE_UPDATE = ("loss_d", "d_real", "d_fake_before", "r1", "r2")
FIRST_TOLERANCE = 1e-3
TOLERANCE = 0.1

CLASSIC = TrainingConfig(gan="cgan", width=WIDTH)
# As configs/cgan-best.yaml, with the learning rate for this width.
BEST = TrainingConfig(
    gan="anylength",
    latent_dim=64,
    minibatch_deviation=True,
    loss="relativistic",
    r1=1.0,
    r2=1.0,
    beta1=0.0,
    beta2=0.99,
    windows=True,
    augment=None,
    width=WIDTH,
    lr=0.0005,
)
RECIPES = {"classic": CLASSIC, "best": BEST}

Values = list[dict[str, float]]


@dataclass(frozen=True)
class Trial:
    """Some steps on a device."""

    values: Values
    """What each step returned."""
    images_per_second: float
    """Over the second half of the steps."""
    peak_bytes: int | None
    """Most memory reserved on a GPU; None on other devices."""


def examine(only: str | None = None) -> Iterator[tuple[str, bool]]:
    """Lines of the report as they come, each with whether what it tells is as it should be.

    Args:
        only: the one device to try, for instance `cpu`; None for all.
    """
    for name, text in (("versions", _versions()), ("system", _system()), ("room", _room())):
        yield f"{name:9} {text}", True
    for text, usable in _gpus():
        yield f"{'gpu':9} {text}", usable
    for text, sound in _decoders():
        yield f"{'audio':9} {text}", sound
    yield "", True
    yield from _trials([only] if only else _devices())


def _versions() -> str:
    def of(package: str) -> str:
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            return f"{package} missing"

    return ", ".join(
        [
            f"musicspectrogan {__version__}",
            f"Python {platform.python_version()}",
            f"torch {torch.__version__}",
            *map(of, PACKAGES),
        ]
    )


def _system() -> str:
    instructions = torch.backends.cpu.get_cpu_capability()
    threads = f"PyTorch computes in {torch.get_num_threads()} threads by {instructions}"
    return f"{platform.platform()}, {os.cpu_count()} cores; {threads}"


def _room() -> str:
    def gib(size: float) -> str:
        return f"{size / 2**30:.1f} GiB"

    disks = {"here": Path(), "for temporary files": Path(tempfile.gettempdir())}
    told = [
        f"{gib(shutil.disk_usage(folder).free)} of disk {where}" for where, folder in disks.items()
    ]
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        free, whole = (page * os.sysconf(name) for name in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"))
        told.insert(0, f"{gib(free)} of {gib(whole)} of memory")
    except (AttributeError, OSError, ValueError):  # Windows and macOS do not tell it this way
        pass
    return f"free: {', '.join(told)}"


def _gpus() -> Iterator[tuple[str, bool]]:
    cuda, cudnn = torch.version.cuda, torch.backends.cudnn.version()
    built = (
        f"PyTorch is built for CUDA {cuda} and cuDNN {cudnn}"
        if cuda
        else "PyTorch is built without CUDA"
    )
    if not torch.cuda.is_available():
        yield (
            f"none that PyTorch can use{', but MPS' if torch.backends.mps.is_available() else ''}; {built}",
            True,
        )
        return
    yield (
        f"{built}, with kernels for {' '.join(torch.cuda.get_arch_list())}; driver {_driver()}",
        True,
    )
    for number in range(torch.cuda.device_count()):
        capability = ".".join(map(str, torch.cuda.get_device_capability(number)))
        told = (
            f"cuda:{number} {torch.cuda.get_device_name(number)}, compute capability {capability}"
        )
        if trouble := missing_kernels(number):
            yield f"{told}: {trouble}", False
            continue
        try:
            free, whole = (size / 2**30 for size in torch.cuda.mem_get_info(number))
        except (
            Exception
        ) as error:  # others have all of it, or nobody may use it: what the report is for
            yield f"{told}: {_reason(error)}", False
            continue
        yield f"{told}, {free:.1f} of {whole:.1f} GiB of memory free", True


def _driver() -> str:
    line = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown (no nvidia-smi)"
    return done.stdout.split("\n")[0].strip()


def _decoders() -> Iterator[tuple[str, bool]]:
    """Whether a tone that is saved in each format comes back."""
    try:
        import soundfile

        from musicspectrogan.audio.files import load, save
    except (ImportError, OSError) as error:  # training from images works without
        yield f"cannot be read: {error}", False
        return
    rate = 22050
    tone = 0.5 * np.sin(2 * np.pi * 440 / rate * np.arange(rate, dtype=np.float32))
    broken = {}
    with tempfile.TemporaryDirectory() as folder:
        for suffix in DECODED:
            path = Path(folder) / f"tone.{suffix}"
            try:
                save(path, tone, rate)
                heard = load(path, rate).samples
                level = float(np.sqrt(np.mean(heard**2)))
                if not 0.3 < level < 0.4 or abs(len(heard) - rate) > rate // 10:
                    broken[suffix] = (
                        f"another sound comes back (level {level:.2f}, {len(heard)} samples)"
                    )
            except Exception as error:  # whatever a decoder does is what the report is for
                broken[suffix] = f"{type(error).__name__}: {error}"
    sound = [suffix for suffix in DECODED if suffix not in broken]
    ffmpeg = shutil.which("ffmpeg")
    yield (
        f"libsndfile {soundfile.__libsndfile_version__} decodes {', '.join(sound)}; "
        f"{f'ffmpeg at {ffmpeg}' if ffmpeg else 'no ffmpeg, so no m4a and others'}",
        True,
    )
    for suffix, reason in broken.items():
        yield f"{suffix} fails: {reason}", False


def _devices() -> list[str]:
    """The CPU, and whatever else can be used."""
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    usable = [f"cuda:{number}" for number in gpus if missing_kernels(number) is None]
    return ["cpu", *usable, *(["mps"] if torch.backends.mps.is_available() else [])]


def _trials(devices: list[str]) -> Iterator[tuple[str, bool]]:
    yield (
        f"{STEPS} steps of {BATCH_SIZE} images at width {WIDTH} in float32. Losses, probabilities and "
        f"penalties may differ\nfrom the CPU's by {FIRST_TOLERANCE:g} before the first update and by "
        f"{TOLERANCE:g} at any time; a second run on the CPU\nmay not differ at all.\n",
        True,
    )
    yield (
        f"{'device':8} {'recipe':8} {'step':9} {'first':>9} {'largest':>9} {'images/s':>9} {'memory':>9}",
        True,
    )
    begun = time.monotonic()
    # Before any GPU is tried, for an error there may outlast its trial; so after one no other is tried.
    expected = {
        recipe: try_steps(config, torch.device("cpu")).values for recipe, config in RECIPES.items()
    }
    gpu_failed = False
    for device, (recipe, config), kind in product(
        devices, RECIPES.items(), (PLAIN, RECORDED, FULL)
    ):
        on_gpu = device.startswith("cuda")
        if not on_gpu and kind != PLAIN:
            continue
        head = f"{device:8} {recipe:8} {kind:9}"
        if time.monotonic() - begun > LONGEST_SECONDS or (gpu_failed and on_gpu):
            why = (
                "a GPU has failed; --device tries one" if gpu_failed else "that would take too long"
            )
            yield f"{head} not tried: {why}", True
            continue
        tried = replace(config, width=FULL_WIDTH, lr=2e-4) if kind == FULL else config
        try:
            trial = try_steps(tried, torch.device(device), recorded=kind != PLAIN)
        except Exception as error:  # told, so that the other devices are seen too
            gpu_failed |= on_gpu
            yield f"{head} FAIL: {_reason(error)}", False
            continue
        figures, sound = (
            _finite(trial)
            if kind == FULL
            else _compared(trial, expected[recipe], same=device == "cpu")
        )
        memory = "" if trial.peak_bytes is None else f"{trial.peak_bytes / 2**20:.0f} MiB"
        rate = f"{trial.images_per_second:9,.0f}"
        yield f"{head} {figures:19} {rate} {memory:>9} {'pass' if sound else 'FAIL'}", sound


def _reason(error: Exception) -> str:
    told = str(error) if isinstance(error, UserError) else told_in_one_line(error)
    return told or f"{type(error).__name__}: {error}".splitlines()[0]


def _compared(trial: Trial, expected: Values, *, same: bool) -> tuple[str, bool]:
    """Whether a trial is as it should be beside the CPU's values, or the very same."""
    first = largest_difference(trial.values[:1], expected[:1], BEFORE_UPDATE)
    largest = largest_difference(trial.values, expected)
    sound = largest == 0 if same else first <= FIRST_TOLERANCE and largest <= TOLERANCE
    return f"{first:9.1g} {largest:9.1g}", sound


def _finite(trial: Trial) -> tuple[str, bool]:
    """Whether there are numbers at all."""
    return "", all(np.isfinite(list(values.values())).all() for values in trial.values)


def largest_difference(
    values: Values, expected: Values, names: Sequence[str] | None = None
) -> float:
    """Between what two runs returned, over steps and names; infinite where something is not finite.

    Args:
        names: of the values that are compared; None for all.
    """
    differences = [
        abs(got[name] - value)
        for got, wanted in zip(values, expected, strict=True)
        for name, value in wanted.items()
        if names is None or name in names
    ]
    return float(np.nan_to_num(np.max(differences), nan=np.inf))


def try_steps(config: TrainingConfig, device: torch.device, *, recorded: bool = False) -> Trial:
    """Take STEPS steps on images and latents that are the same on every device.

    Args:
        recorded: replay a CUDA graph.
    """
    model = ModelConfig(
        IMAGE_SIZE,
        config.width,
        config.latent_dim,
        GENRES,
        minibatch_deviation=config.minibatch_deviation,
        pairs=config.pairs,
    )
    augment = AUGMENT if config.augment is None else config.augment
    with arithmetic():
        if device.type == "cuda":
            torch.cuda.set_device(device)
            gc.collect()  # what another trial has left is none of this one's memory
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        step = build_step(
            config, build_networks(config, model), device, augment=augment, recorded=recorded
        )
        take_step = RecordedStep(step) if recorded else step
        latent_dim, draws = step.generator.latent_dim, step.augmentation.draws
        batches = [
            [part.to(device) for part in batch]
            for batch in _batches(model.n_windows, latent_dim, draws)
        ]
        told = []
        for number, batch in enumerate(batches):
            if number == STEPS // 2:
                told[-1]["loss_d"].item()  # the device has done what it was given
                begun = time.perf_counter()
            told.append(take_step(*batch))
        told[-1]["loss_g"].item()
        rate = (STEPS - STEPS // 2) * BATCH_SIZE / (time.perf_counter() - begun)
        values = [{name: value.item() for name, value in row.items()} for row in told]
    peak = torch.cuda.max_memory_reserved() if device.type == "cuda" else None
    return Trial(values, rate, peak)


def _batches(n_windows: int, latent_dim: int, draws: int) -> Iterator[tuple[Tensor, ...]]:
    """Smooth noise with labels, latents and uniform numbers for the augmentation, on the CPU."""
    generator = torch.Generator().manual_seed(0)
    shape = (BATCH_SIZE, n_windows, IMAGE_SIZE, IMAGE_SIZE)
    for _ in range(STEPS):
        noise = torch.rand(shape, generator=generator) * 2 - 1
        images = (4 * avg_pool2d(noise, 9, stride=1, padding=4)).clamp(-1, 1)
        labels = torch.arange(BATCH_SIZE) % GENRES
        latents = torch.randn(BATCH_SIZE, latent_dim, generator=generator)
        yield images, labels, latents, torch.rand(VIEWS, BATCH_SIZE, draws, generator=generator)
