"""The fixed reference: its weights' reader, its network, and the command with its features."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest
import torch
from evaluation_helpers import CPU, hurried
from torch.nn import functional as F

from musicspectrogan.audio.spectrogram import SpectrogramConfig, mel_power
from musicspectrogan.evaluation import musicnn
from musicspectrogan.evaluation.musicnn import EPSILON, HEARD, Listener, Musicnn, hear
from musicspectrogan.evaluation.tfcheckpoint import MAGIC, CheckpointError, read_checkpoint

pytest_plugins = ["evaluation_fixtures"]

# The tags and the layer before them, first eight, that the original with TensorFlow 2.21 gave for
# three seconds of seeded noise.
NOISE_TAGS = [0.004872, 0.040131, 0.006026, 0.224655, 0.007362, 0.01715, 0.059422, 0.048755]
NOISE_PENULTIMATE = [-0.07995, -0.03288, -0.09226, 1.86798, -0.0787, -0.17004, 0.74263, 0.33964]


def varint(number: int) -> bytes:
    """Groups of seven bits, lowest first."""
    groups = [number & 127]
    while number := number >> 7:
        groups[-1] |= 128
        groups.append(number & 127)
    return bytes(groups)


def entry(dtype: int, shape: tuple[int, ...], offset: int, size: int) -> bytes:
    """A BundleEntryProto with a checksum that nobody reads."""
    dimensions = b"".join(
        b"\x12" + varint(len(each)) + each for each in (b"\x08" + varint(n) for n in shape)
    )
    fields = b"\x08" + varint(dtype) + b"\x12" + varint(len(dimensions)) + dimensions
    return fields + b"\x20" + varint(offset) + b"\x28" + varint(size) + b"\x35" + bytes(4)


def block(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """A block of a table: each key without what it shares with the one before."""
    written, before = b"", b""
    for key, value in pairs:
        shared = next((n for n in range(len(key)) if key[: n + 1] != before[: n + 1]), len(key))
        lengths = varint(shared) + varint(len(key) - shared) + varint(len(value))
        written, before = written + lengths + key[shared:] + value, key
    return written + bytes(4) + (1).to_bytes(4, "little")


def table(pairs: list[tuple[bytes, bytes]], *, compression: int = 0) -> bytes:
    """An index with one block."""
    ending = bytes([compression]) + bytes(4)
    data = block(pairs)
    places = block([(pairs[-1][0], varint(0) + varint(len(data)))])
    footer = varint(0) + varint(0) + varint(len(data + ending)) + varint(len(places))
    return data + ending + places + bytes(5) + footer.ljust(40, b"\0") + MAGIC


KERNEL = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
BIAS = np.array([0.5, -300.0], dtype=np.float32)
DATA = KERNEL.tobytes() + bytes(8) + BIAS.tobytes()
PAIRS = [
    (b"", b"\x08\x01"),
    (b"conv2d/bias", entry(1, (2,), 32, 8)),
    (b"conv2d/kernel", entry(1, (1, 2, 3), 0, 24)),
    (b"global_step", entry(9, (), 24, 8)),
]


def test_variables_of_a_checkpoint():
    found = read_checkpoint(table(PAIRS), DATA)
    assert list(found) == ["conv2d/bias", "conv2d/kernel"]
    np.testing.assert_array_equal(found["conv2d/bias"], BIAS)
    np.testing.assert_array_equal(found["conv2d/kernel"], KERNEL)


@pytest.mark.parametrize(
    ("index", "data"),
    {
        "empty": (b"", DATA),
        "other format": (bytes(100), DATA),
        "cut": (table(PAIRS)[:-9], DATA),
        "compressed": (table(PAIRS, compression=1), DATA),
        "values missing": (table(PAIRS), DATA[:-4]),
    }.values(),
    ids=["empty", "other format", "cut", "compressed", "values missing"],
)
def test_what_is_no_checkpoint(index: bytes, data: bytes):
    with pytest.raises(CheckpointError, match="not a TensorFlow checkpoint"):
        read_checkpoint(index, data)


def small_weights() -> dict[str, np.ndarray]:
    """Random variables of a network with two filters a layer; some normalisations fall."""
    rng = np.random.default_rng(0)
    shapes = [(7, 38), (7, 67), (128, 1), (64, 1), (32, 1), (7, 10), (7, 2), (7, 2)]
    found = {}

    def put(name: str, *shape: int) -> None:
        found[name] = (rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))).astype("f4")

    def put_normalisation(number: int, size: int) -> None:
        name = musicnn._numbered("batch_normalization", number)
        for part in ("gamma", "beta", "moving_mean"):
            put(f"{name}/{part}", size)
        found[f"{name}/moving_variance"] = rng.uniform(0.5, 2.0, size).astype("f4")

    put_normalisation(0, 1)
    for number, shape in enumerate(shapes):
        name = musicnn._numbered("conv2d", number)
        put(f"{name}/kernel", *shape, 1, 2)
        put(f"{name}/bias", 2)
        put_normalisation(number + 1, 2)
    for number, size in ((9, 32), (10, 40)):
        put_normalisation(number, size)
    for name, shape in (("dense", (32, 40)), ("dense_1", (40, 50))):
        put(f"{name}/kernel", *shape)
        put(f"{name}/bias", shape[1])
    return found


def by_the_paper(v: dict[str, np.ndarray], heard: torch.Tensor) -> torch.Tensor:
    """The tags, layer by layer as the original has them: channels last, normalisation before the
    maximum."""
    tensors = {name: torch.from_numpy(value) for name, value in v.items()}

    def normalise(values: torch.Tensor, number: int) -> torch.Tensor:
        name = musicnn._numbered("batch_normalization", number)
        gamma, beta, mean, variance = (
            tensors[f"{name}/{part}"]
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return (values - mean) / torch.sqrt(variance + EPSILON) * gamma + beta

    def convolve(frames: torch.Tensor, number: int) -> torch.Tensor:
        kernel, bias = (
            tensors[f"{musicnn._numbered('conv2d', number)}/{part}"] for part in ("kernel", "bias")
        )
        length = len(kernel)
        padded = F.pad(frames, (0, 0, (length - 1) // 2, length - 1 - (length - 1) // 2))
        patches = padded.unfold(1, length, 1).unfold(2, kernel.shape[1], 1)
        maps = torch.einsum("btfij,ijo->btfo", patches, kernel[:, :, 0])
        return normalise(F.relu(maps + bias), number + 1).amax(dim=2)

    frames = normalise(heard[..., None], 0)[..., 0]
    front = torch.cat([convolve(frames, number) for number in range(5)], dim=2)
    first = convolve(front, 5)
    second = first + convolve(first, 6)
    third = second + convolve(second, 7)
    every = torch.cat([front, first, second, third], dim=2)
    pooled = torch.stack([every.amax(dim=1), every.mean(dim=1)], dim=2).flatten(1)
    hidden = F.relu(normalise(pooled, 9) @ tensors["dense/kernel"] + tensors["dense/bias"])
    tags = normalise(hidden, 10) @ tensors["dense_1/kernel"] + tensors["dense_1/bias"]
    return tags.sigmoid()


def test_the_network_computes_what_the_original_defines():
    weights = small_weights()
    heard = 3.0 * torch.rand(2, 150, 96, generator=torch.Generator().manual_seed(0))
    expected = by_the_paper(weights, heard)
    assert expected.std() > 0.05  # the input matters
    torch.testing.assert_close(Musicnn(weights)(heard), expected, rtol=0, atol=1e-5)


def test_what_it_hears_is_the_logarithm_of_mel_power():
    samples = np.random.default_rng(0).standard_normal(8000).astype("f4")
    expected = np.log10(1.0 + 10000.0 * mel_power(samples, HEARD)).T
    np.testing.assert_allclose(hear(torch.from_numpy(samples)[None])[0], expected, atol=1e-4)


def test_the_installed_weights_give_the_tags_of_the_original():
    try:
        assert version("musicnn") == "0.1.0"
    except PackageNotFoundError:
        pytest.skip(f"needs its weights: {musicnn.INSTALL}")
    network = Musicnn(musicnn.read_weights())
    samples = 0.1 * np.random.default_rng(0).standard_normal(48000).astype("f4")
    heard = hear(torch.from_numpy(samples)[None])[:, :187]
    with torch.no_grad():
        tags, penultimate = network(heard)[0, :8], network.penultimate(heard)[0, :8]
    np.testing.assert_allclose(tags, NOISE_TAGS, atol=1e-5)
    np.testing.assert_allclose(penultimate, NOISE_PENULTIMATE, atol=1e-4)


def test_images_are_heard_once(monkeypatch):
    monkeypatch.setattr(musicnn, "read_weights", small_weights)
    listener = Listener(SpectrogramConfig(), CPU)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    features = listener(pixels)
    assert features.shape == (3, 40)
    assert len(np.unique(features, axis=0)) == 3
    monkeypatch.setattr(musicnn, "hear", None)  # any further listening would fail
    np.testing.assert_array_equal(listener(pixels[[2, 0, 2]]), features[[2, 0, 2]])


@pytest.fixture
def judge(known, copies, command, tmp_path) -> Callable[..., str]:
    """Evaluate copies with its features; what the command wrote to stderr."""

    def run(status: int = 0) -> str:
        line = ("-m", "musicspectrogan", "evaluate", "--images", copies, "--dataset", known)
        settings = ("--samples", 60, "--features", "musicnn", "--device", "cpu")
        output = tmp_path / "evaluation.json"
        with hurried():
            return command(*line, *settings, "--output", output, cwd=tmp_path, status=status).stderr

    return run


def test_its_distances_stand_beside_ours(judge, tmp_path, monkeypatch):
    def quick_sound(pixels: np.ndarray, *_: object) -> torch.Tensor:
        return torch.from_numpy(pixels.reshape(len(pixels), -1) / np.float32(255))

    monkeypatch.setattr(musicnn, "read_weights", small_weights)
    monkeypatch.setattr(musicnn, "sound_of", quick_sound)
    judge()
    written = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    kinds = {f["features"] for f in written["figures"] if f["name"] == "frechet"}
    assert kinds == {"classifier", "untrained", "musicnn"}
    assert "musicnn features" in (tmp_path / "evaluation.html").read_text(encoding="utf-8")


def test_the_package_is_named_where_it_is_missing(judge, monkeypatch):
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(musicnn, "distribution", missing)
    assert "pip install --no-deps musicnn==0.1.0" in judge(status=2)


@pytest.mark.parametrize("content", [None, b"damaged", b""])
def test_other_weights_are_refused(content, judge, tmp_path, monkeypatch):
    information = tmp_path / "site" / "musicnn-0.1.0.dist-info"
    index = tmp_path / "site" / "musicnn" / "MTT_musicnn" / ".index"
    for folder in (information, index.parent):
        folder.mkdir(parents=True)
    (information / "METADATA").write_text("Name: musicnn\n")
    if content is not None:
        index.write_bytes(content)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    message = judge(status=2)
    assert str(index) in message
    assert "install it again: pip install --no-deps" in message
    assert not (tmp_path / "evaluation.json").exists()
