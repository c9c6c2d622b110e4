"""What a bug report needs: versions, devices, decoders, and whether devices train as the CPU."""

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

from musicspectrogan import __version__, config
from musicspectrogan.device import arithmetic, describe_device_error, missing_kernels
from musicspectrogan.errors import UserError
from musicspectrogan.models import ModelConfig
from musicspectrogan.training.building import build_networks, build_step
from musicspectrogan.training.settings import TrainingConfig
from musicspectrogan.training.step import VIEWS, RecordedStep

PACKAGES = (
    "torchvision librosa soundfile soxr numpy scipy scikit-learn pandas pillow matplotlib "
    "tensorboard"
).split()
AUDIO_FORMATS = ("wav", "flac", "ogg", "mp3")

STEPS = 20
BATCH_SIZE = 64
IMAGE_SIZE = 64
GENRES = 10
# By name in the report: the file in configs/, and the learning rate for WIDTH.
RECIPES = {"classic": ("cgan", 2e-4), "best": ("cgan-best", 5e-4)}
AUGMENT = 0.3
# The width that is compared, narrow enough for a CPU; and width and learning rate of a GPU's last
# trial, whose values are not compared.
WIDTH = 16
FULL_WIDTH, FULL_LR = 64, 2e-4
# Trials: the step itself; on a GPU also a recorded CUDA graph, and one at full width.
PLAIN, RECORDED, FULL = "plain", "recorded", f"width {FULL_WIDTH}"
# No trial starts later than this.
MAX_SECONDS = 90
# Largest differences from the CPU. Before the first update they are rounding of sums. Later Adam
# amplifies them: on one CPU another memory layout, or weights changed by 1e-6, give up to 0.05.
BEFORE_UPDATE = ("loss_d", "d_real", "d_fake_before", "r1", "r2")
FIRST_TOLERANCE = 1e-3
TOLERANCE = 0.1

Values = list[dict[str, float]]
Report = Iterator[tuple[str, bool]]


@dataclass(frozen=True)
class Trial:
    """Training steps on a device."""

    values: Values
    """What each step returned."""
    images_per_second: float
    """Over the second half of the steps."""
    peak_bytes: int | None
    """Most memory reserved on a GPU; None on other devices."""


def examine(only: str | None = None) -> Report:
    """Yield the lines of the report, each with whether it is as it should be.

    Args:
        only: the one device to try, for instance `cpu`; None for all.
    """
    yield f"{'versions':9} {_versions()}", True
    threads, instructions = torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()
    computes = f"PyTorch computes in {threads} threads with {instructions}"
    yield f"{'system':9} {platform.platform()}, {os.cpu_count()} cores; {computes}", True
    yield f"{'free':9} {_free_space()}", True
    for name, lines in (("gpu", _gpus()), ("audio", _decoders())):
        for text, passed in lines:
            yield f"{name:9} {text}", passed
    yield "", True
    yield from _trials([only] if only else _devices())


def _versions() -> str:
    versions = [
        f"musicspectrogan {__version__}",
        f"Python {platform.python_version()}",
        f"torch {torch.__version__}",
    ]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"{package} missing")
    return ", ".join(versions)


def _free_space() -> str:
    disks = {"here": Path(), "for temporary files": Path(tempfile.gettempdir())}
    parts = [
        f"{shutil.disk_usage(folder).free / 2**30:.1f} GiB of disk {where}"
        for where, folder in disks.items()
    ]
    try:
        page = os.sysconf("SC_PAGE_SIZE") / 2**30
        free, total = page * os.sysconf("SC_AVPHYS_PAGES"), page * os.sysconf("SC_PHYS_PAGES")
        parts.insert(0, f"{free:.1f} of {total:.1f} GiB of memory")
    except (AttributeError, OSError, ValueError):  # not on Windows and macOS
        pass
    return ", ".join(parts)


def _gpus() -> Report:
    cuda, built = torch.version.cuda, "PyTorch is built without CUDA"
    if cuda:
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        built = f"PyTorch is built for CUDA {cuda} and cuDNN {cudnn}"
    if not torch.cuda.is_available():
        mps = ", but MPS" if torch.backends.mps.is_available() else ""
        yield f"none that PyTorch can use{mps}; {built}", True
        return
    kernels = " ".join(torch.cuda.get_arch_list())
    yield f"{built}, with kernels for {kernels}; driver {_driver()}", True
    for number in range(torch.cuda.device_count()):
        capability = ".".join(map(str, torch.cuda.get_device_capability(number)))
        name = torch.cuda.get_device_name(number)
        gpu = f"cuda:{number} {name}, compute capability {capability}"
        if problem := missing_kernels(number):
            yield f"{gpu}: {problem}", False
            continue
        try:
            free, total = (size / 2**30 for size in torch.cuda.mem_get_info(number))
        except Exception as error:  # for instance a GPU in exclusive use; reported like any other
            yield f"{gpu}: {_reason(error)}", False
        else:
            yield f"{gpu}, {free:.1f} of {total:.1f} GiB of memory free", True


def _driver() -> str:
    line = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown (no nvidia-smi)"
    return done.stdout.split("\n")[0].strip()


def _decoders() -> Report:
    """Save a tone in each format, and load it."""
    try:
        import soundfile

        from musicspectrogan.audio.files import load, save
    except (ImportError, OSError) as error:  # training from images needs neither
        yield f"cannot be read: {error}", False
        return
    rate = 22050
    tone = 0.5 * np.sin(2 * np.pi * 440 / rate * np.arange(rate, dtype=np.float32))
    broken = {}
    with tempfile.TemporaryDirectory() as folder:
        for suffix in AUDIO_FORMATS:
            path = Path(folder) / f"tone.{suffix}"
            try:
                save(path, tone, rate)
                loaded = load(path, rate).samples
            except Exception as error:  # of any type: the report shows it
                broken[suffix] = f"{type(error).__name__}: {error}"
                continue
            level = float(np.sqrt(np.mean(loaded**2)))
            if not 0.3 < level < 0.4 or abs(len(loaded) - rate) > rate // 10:
                broken[suffix] = (
                    f"loads as another sound (level {level:.2f}, {len(loaded)} samples)"
                )
    working = ", ".join(suffix for suffix in AUDIO_FORMATS if suffix not in broken)
    ffmpeg = shutil.which("ffmpeg")
    others = f"ffmpeg at {ffmpeg}" if ffmpeg else "no ffmpeg, so no m4a and others"
    yield f"libsndfile {soundfile.__libsndfile_version__} decodes {working}; {others}", True
    for suffix, reason in broken.items():
        yield f"{suffix} fails: {reason}", False


def _devices() -> list[str]:
    """The CPU, and all other devices that can be used."""
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    usable = [f"cuda:{number}" for number in gpus if missing_kernels(number) is None]
    return ["cpu", *usable, *(["mps"] if torch.backends.mps.is_available() else [])]


def _trials(devices: list[str]) -> Report:
    yield (
        f"{STEPS} steps of {BATCH_SIZE} images at width {WIDTH} in float32. Losses, probabilities "
        f"and penalties may differ\nfrom the CPU's by {FIRST_TOLERANCE:g} before the first update "
        f"and by {TOLERANCE:g} later; a second run on the CPU\nmust not differ at all.\n",
        True,
    )
    columns = f"{'first':>9} {'largest':>9} {'images/s':>9} {'memory':>9}"
    yield f"{'device':8} {'recipe':8} {'step':9} {columns}", True
    start = time.monotonic()
    # The CPU first: an error on a GPU can outlast its trial, so no other one runs there then.
    recipes = {name: _read_recipe(file, lr) for name, (file, lr) in RECIPES.items()}
    expected = {name: try_steps(recipe, torch.device("cpu")) for name, recipe in recipes.items()}
    gpu_failed = False
    for device, name, kind in product(devices, recipes, (PLAIN, RECORDED, FULL)):
        on_gpu = device.startswith("cuda")
        if not on_gpu and kind != PLAIN:
            continue
        row = f"{device:8} {name:8} {kind:9}"
        if gpu_failed and on_gpu:
            yield f"{row} not tried: a GPU has failed; --device tries one", True
            continue
        if time.monotonic() - start > MAX_SECONDS:
            yield f"{row} not tried: it would take too long", True
            continue
        recipe = recipes[name]
        if kind == FULL:
            recipe = replace(recipe, width=FULL_WIDTH, lr=FULL_LR)
        try:
            trial = try_steps(recipe, torch.device(device), recorded=kind != PLAIN)
        except Exception as error:  # reported, so that the other devices are tried too
            gpu_failed |= on_gpu
            yield f"{row} FAIL: {_reason(error)}", False
            continue
        if kind == FULL:
            differences = ""
            passed = all(np.isfinite(list(values.values())).all() for values in trial.values)
        else:
            differences, passed = _compare(trial, expected[name].values, same=device == "cpu")
        memory = "" if trial.peak_bytes is None else f"{trial.peak_bytes / 2**20:.0f} MiB"
        speed = f"{trial.images_per_second:9,.0f}"
        verdict = "pass" if passed else "FAIL"
        yield f"{row} {differences:19} {speed} {memory:>9} {verdict}", passed


def _read_recipe(name: str, lr: float) -> TrainingConfig:
    folder = next(folder for folder in config.RECIPES if folder.is_dir())
    recipe = config.read_yaml(TrainingConfig, folder / f"{name}.yaml")
    return replace(recipe, width=WIDTH, lr=lr)


def _reason(error: Exception) -> str:
    reason = str(error) if isinstance(error, UserError) else describe_device_error(error)
    return reason or f"{type(error).__name__}: {error}".splitlines()[0]


def _compare(trial: Trial, expected: Values, *, same: bool) -> tuple[str, bool]:
    """Differences from the CPU's values, and whether they are small enough, or none at all."""
    first = largest_difference(trial.values[:1], expected[:1], BEFORE_UPDATE)
    largest = largest_difference(trial.values, expected)
    passed = largest == 0 if same else first <= FIRST_TOLERANCE and largest <= TOLERANCE
    return f"{first:9.1g} {largest:9.1g}", passed


def largest_difference(
    values: Values, expected: Values, names: Sequence[str] | None = None
) -> float:
    """Largest difference between two runs over steps and names; inf if a value is not finite.

    Args:
        names: the values to compare; None for all.
    """
    differences = [
        abs(got[name] - value)
        for got, wanted in zip(values, expected, strict=True)
        for name, value in wanted.items()
        if names is None or name in names
    ]
    return float(np.nan_to_num(np.max(differences), nan=np.inf))


def try_steps(recipe: TrainingConfig, device: torch.device, *, recorded: bool = False) -> Trial:
    """Train for STEPS steps on images and latents that are the same on every device.

    Args:
        recorded: replay a CUDA graph.
    """
    model = ModelConfig(
        IMAGE_SIZE,
        recipe.width,
        recipe.latent_dim,
        GENRES,
        minibatch_deviation=recipe.minibatch_deviation,
        pairs=recipe.pairs,
    )
    augment = recipe.augment if isinstance(recipe.augment, float) else AUGMENT
    on_gpu = device.type == "cuda"
    with arithmetic():
        if on_gpu:
            torch.cuda.set_device(device)
            gc.collect()  # free the memory of earlier trials
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        networks = build_networks(recipe, model)
        step = build_step(recipe, networks, device, augment=augment, recorded=recorded)
        take_step = RecordedStep(step) if recorded else step
        latent_dim, draws = step.generator.latent_dim, step.augmentation.draws
        assert isinstance(latent_dim, int)
        batches = [
            [part.to(device) for part in batch]
            for batch in _batches(model.n_windows, latent_dim, draws)
        ]
        results: list[dict[str, Tensor]] = []
        for number, batch in enumerate(batches):
            if number == STEPS // 2:
                results[-1]["loss_d"].item()  # synchronise
                start = time.perf_counter()
            results.append(take_step(*batch))
        results[-1]["loss_g"].item()
        images_per_second = (STEPS - STEPS // 2) * BATCH_SIZE / (time.perf_counter() - start)
        values = [{name: value.item() for name, value in row.items()} for row in results]
    return Trial(values, images_per_second, torch.cuda.max_memory_reserved() if on_gpu else None)


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
