"""Complete checkpoints, and damaged ones."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from dataclasses import asdict
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import mutations
import safetensors.torch
import torch
from vocoders import random_vocoder

from musicspectrogan import models
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.config import to_plain
from musicspectrogan.evaluation.features import GenreClassifier
from musicspectrogan.models import ModelConfig
from musicspectrogan.training.losses import LOSSES
from musicspectrogan.training.settings import TrainingConfig
from musicspectrogan.training.step import AdversarialStep

WIDTH, LATENT, GENRES = 2, 5, ("blues", "jazz")


def a_step(n_genres: int = len(GENRES)) -> AdversarialStep:
    """The smallest networks, untrained."""
    torch.manual_seed(0)
    networks = models.build("cgan", ModelConfig(64, WIDTH, LATENT, n_genres))
    return AdversarialStep(*networks, LOSSES["bce"], lr=0.0002, betas=(0.5, 0.999))


@cache
def _contents(genres: tuple[str, ...] = GENRES) -> dict[str, Any]:
    """A complete checkpoint after one step, as a dict."""
    step = a_step(len(genres))
    step(
        torch.rand(4, 1, 64, 64),
        torch.tensor([0, 1, 0, 1]),
        torch.randn(4, LATENT),
        torch.zeros(3, 4, 0),
    )
    training = TrainingConfig(gan="cgan", dataset=Path("nowhere"), width=WIDTH, latent_dim=LATENT)
    return {
        "format_version": 1,
        "gan": "cgan",
        "model": asdict(ModelConfig(64, WIDTH, LATENT, len(genres))),
        "training": to_plain(training),
        "genres": list(genres),
        "spectrogram": asdict(SpectrogramConfig()),
        "generator": step.generator.state_dict(),
        "discriminator": step.discriminator.state_dict(),
        "ema": step.generator.state_dict(),
        "optimizer_g": step.optimizer_g.state_dict(),
        "optimizer_d": step.optimizer_d.state_dict(),
        "epoch": 1,
        "step": 1,
        "images_seen": 4,
        "dataset_fingerprint": "abc",
        "quality": {"kernel_distance": 0.5, "diversity": 0.9},
    }


def saved(contents: Any) -> bytes:
    """Return the bytes that torch.save writes."""
    file = io.BytesIO()
    torch.save(contents, file)
    return file.getvalue()


def whole_contents(genres: tuple[str, ...] = GENRES) -> dict[str, Any]:
    """A copy of a complete checkpoint's dict, with other genres if wanted."""
    return copy.deepcopy(_contents(tuple(genres)))


@cache
def _whole() -> bytes:
    return saved(_contents())


def checkpoint(random: Random) -> bytes:  # noqa: PLR0911
    """A checkpoint with damaged bytes, zip entries or contents."""
    kind = random.randrange(8)
    if kind == 0:
        return mutations.damaged(_whole(), random)
    if kind == 1:
        return mutations.altered_zip(_whole(), random)
    if kind == 2:
        contents = whole_contents()
        part = random.choice(("generator", "discriminator", "ema", "optimizer_g", "optimizer_d"))
        _alter_a_tensor(
            contents[part] if part.startswith(("g", "d", "e")) else contents[part]["state"], random
        )
        return saved(contents)
    if kind == 3:
        contents = whole_contents()
        name = random.choice(("model", "spectrogram", "training", "genres"))
        contents[name] = mutations.altered(contents[name], random)
        return saved(contents)
    if kind == 4:
        contents = whole_contents()
        contents["genres"] = random.choices(
            [v for v in mutations.HOSTILE if isinstance(v, str)], k=2
        )
        return saved(contents)
    if kind == 5:
        file = io.BytesIO()
        torch.save(_contents(), file, _use_new_zipfile_serialization=False)
        return random.choice((file.getvalue(), mutations.damaged(file.getvalue(), random)))
    return saved(mutations.altered(_contents(), random))


@cache
def _exported() -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The plain values and the tensors of an exported model, with a vocoder."""
    contents = whole_contents()
    contents["vocoder"] = random_vocoder().to_plain()
    contents["generator"] = contents.pop("ema")
    for name in ("discriminator", "optimizer_g", "optimizer_d"):
        del contents[name]
    tensors = {f"generator/{name}": weight for name, weight in contents["generator"].items()}
    weights = contents["vocoder"]["weights"]
    tensors |= {f"vocoder/weights/{name}": weight for name, weight in weights.items()}
    contents["generator"], contents["vocoder"]["weights"] = {}, {}
    return contents, tensors


def exported(random: Random) -> bytes:
    """A zip of an exported model's files, one of which is damaged; the zip itself is intact."""
    contents, tensors = copy.deepcopy(_exported())
    kind = random.randrange(6)
    if kind == 0:
        contents = mutations.altered(contents, random)
    if kind == 1:
        contents["vocoder"] = mutations.altered(contents["vocoder"], random)
    if kind == 2:
        name = random.choice(sorted(tensors))
        tensors[random.choice(TENSOR_NAMES)] = tensors.pop(name)
    if kind == 3:
        name = random.choice(sorted(tensors))
        tensors[name] = random.choice(ALTERED_TENSORS)(tensors[name]).contiguous()
    config, weights = json.dumps(contents).encode(), safetensors.torch.save(tensors)
    if kind == 4:
        weights = _with_altered_header(weights, random)
    if kind == 5:
        config, weights = random.choice(
            (
                (mutations.damaged(config, random), weights),
                (config, mutations.damaged(weights, random)),
                (random.choice(HOSTILE_JSON), weights),
                (config.replace(b"0", random.choice((b"NaN", b"1e999", b"9" * 5000)), 1), weights),
            )
        )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.safetensors", weights)
    return file.getvalue()


def exported_zip(random: Random) -> bytes:
    """A zip of an exported model that is damaged, or whose files are."""
    whole = exported(random)
    return random.choice((mutations.damaged, mutations.altered_zip, lambda data, _: data))(
        whole, random
    )


TENSOR_NAMES = (
    "", "/", "//", "a//b", "../x", "/etc/passwd", "generator", "generator/", "gan", "gan/x",
    "model", "model/width", "genres/0", "vocoder", "vocoder/weights", "vocoder/record/tracks",
    "x/y/z", "/".join("a" * 50_000), "a" * 100_000, "generator/\0", "\u202e",
    "__class__/__init__",
)  # fmt: skip
ALTERED_TENSORS = (
    lambda tensor: tensor.double(),
    lambda tensor: tensor.bfloat16(),
    lambda tensor: tensor.half(),
    lambda tensor: tensor.to(torch.float8_e4m3fn),
    lambda tensor: tensor.to(torch.int64),
    lambda tensor: tensor.to(torch.complex64),
    lambda tensor: tensor > 0,
    lambda tensor: tensor.flatten(),
    lambda tensor: tensor[None],
    lambda tensor: torch.full_like(tensor.float(), torch.nan),
    lambda tensor: torch.full_like(tensor.float(), torch.inf),
    lambda tensor: torch.full_like(tensor.float(), 3e38),
    lambda tensor: torch.zeros(0),
    lambda tensor: torch.zeros(()),
    lambda tensor: torch.zeros(2**20, 0),
)
HOSTILE_JSON = (
    b"", b"null", b"[]", b"[" * 200_000, b'{"a":' * 200_000, b"9" * 5000, b'"\\ud800"',
    b"\xff\xfe{", b'{"format_version": 1}', b'{"format_version": "1"}',
    b'{"format_version": 1e400}',
    b'{"format_version": 1, "generator": []}', b'{"format_version": 2, "generator": {}}',
    b"[" + b"{}," * 2**20 + b"1]", b'{"a": "' + b"x" * 2**23 + b'"}',
)  # fmt: skip


def _with_altered_header(weights: bytes, random: Random) -> bytes:
    """A file of safetensors that says something else about its bytes."""
    size = int.from_bytes(weights[:8], "little")
    header = json.loads(weights[8 : 8 + size])
    text = json.dumps(mutations.altered(header, random)).encode()
    length = random.choice((len(text), len(text), len(text) + 1, *mutations.EXTREMES))
    return (length % 2**64).to_bytes(8, "little") + text + weights[8 + size :]


@cache
def _weights() -> list[dict[str, Any]]:
    torch.manual_seed(0)
    return [GenreClassifier(len(GENRES), 64).state_dict() for _ in range(2)]


def classifiers(random: Random) -> bytes:
    """The classifiers cached beside a dataset, with a damaged file or weight."""
    kind = random.randrange(4)
    if kind == 0:
        return mutations.damaged(saved(_weights()), random)
    if kind == 1:
        return mutations.altered_zip(saved(_weights()), random)
    weights = copy.deepcopy(_weights())
    if kind == 2:
        _alter_a_tensor(random.choice(weights), random)
    return saved(weights if kind == 2 else mutations.altered(weights, random))


def _alter_a_tensor(tree: Any, random: Random) -> None:
    while not any(isinstance(value, torch.Tensor) for value in tree.values()):
        tree = tree[random.choice(list(tree))]
    key = random.choice([key for key, value in tree.items() if isinstance(value, torch.Tensor)])
    tensor = tree[key]
    tree[key] = random.choice(
        (
            tensor.double,
            lambda: tensor.to(torch.int64),
            lambda: tensor.to(torch.complex64),
            tensor.flatten,
            lambda: tensor[None],
            lambda: torch.full_like(tensor.float(), torch.nan),
            lambda: torch.full_like(tensor.float(), torch.inf),
            lambda: torch.full_like(tensor.float(), 3e38),
            lambda: torch.zeros(1).expand(2**20, 2**20),
            lambda: torch.zeros(()).expand(tensor.shape),
            lambda: torch.zeros(0),
            lambda: tensor.to_sparse() if tensor.dim() else tensor,
            lambda: torch.empty(tensor.shape, device="meta"),
            tensor.tolist,
        )
    )()
