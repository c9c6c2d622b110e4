"""A new GAN is one file: the contract tests find and pass it, and its mistakes are told in one line."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import ROOT, Command, environment

from musicspectrogan import models
from musicspectrogan.errors import UserError
from musicspectrogan.models import ModelConfig
from musicspectrogan.training.building import build_networks, build_step
from musicspectrogan.training.losses import LOSSES, Loss
from musicspectrogan.training.settings import TrainingConfig

# The simplest GAN that keeps the contract: two linear layers, and a genre's own vector added.
SIMPLEST = """
import torch
from torch import nn
from torch.nn import functional as F

CONDITIONAL = True
OPTIONS = ()


class Generator(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.size = config.image_size
        self.genres = nn.Linear(config.n_genres, config.latent_dim, bias=False)
        self.layer = nn.Linear(config.latent_dim, self.size**2)

    def forward(self, latents, labels):
        if not labels.is_floating_point():
            labels = F.one_hot(labels, self.genres.in_features).float()
        values = self.layer(latents + self.genres(labels))
        return torch.tanh(values).view(-1, 1, self.size, self.size)


class Discriminator(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.layer = nn.Linear(config.image_size**2, 8)
        self.genres = nn.Embedding(config.n_genres, 8)

    def forward(self, images, labels):
        features = F.leaky_relu(self.layer(images.flatten(1)), 0.2)
        return (features * self.genres(labels)).sum(dim=1)
"""

# The file with one mistake in it, and what is said of it.
MISTAKES = {
    "logits (B, 1)": (
        ".sum(dim=1)",
        ".sum(dim=1, keepdim=True)",
        r"Discriminator returns a tensor of shape \(3, 1\); expected are logits \(B,\), here \(3,\)$",
    ),
    "three channels": (
        "view(-1, 1, self.size, self.size)",
        "view(-1, 1, self.size, self.size).expand(-1, 3, -1, -1)",
        r"given genres, returns a tensor of shape \(3, 3, 16, 16\); expected are images \(B, 1, H, W\)",
    ),
    "another size": (
        "self.size = config.image_size",
        "self.size = 64",
        r"shape \(3, 1, 64, 64\); expected are images .* here \(3, 1, 16, 16\)",
    ),
    "no tanh": (
        "torch.tanh(values)",
        "(9 * values)",
        r"Generator returns values from -.* to .*; images are in \[-1, 1\]: end it with torch.tanh",
    ),
    "float64": (
        "torch.tanh(values)",
        "torch.tanh(values).double()",
        "Generator, given genres, returns torch.float64; expected is torch.float32",
    ),
    "NaN": (
        "torch.tanh(values)",
        "torch.tanh(values / 0 * 0)",
        "returns numbers that are not finite",
    ),
    "a tuple": (
        "(features * self.genres(labels)).sum(dim=1)",
        "features, labels",
        r"Discriminator returns a tuple; expected are logits \(B,\), here \(3,\)$",
    ),
    "no Generator": (
        "class Generator(",
        "class Maker(",
        r"oddnet\.py does not define Generator$",
    ),
    "no names": (
        "CONDITIONAL = True\nOPTIONS = ()",
        "",
        r"oddnet\.py does not define CONDITIONAL, OPTIONS$",
    ),
    "a missing import": (
        "import torch\n",
        "import torch\nimport torsh\n",
        r"ModuleNotFoundError in .*oddnet\.py, line 3: No module named 'torsh'",
    ),
    "bad syntax": (
        "OPTIONS = ()",
        "OPTIONS = (",
        r"SyntaxError in .*oddnet\.py, line 7: ",
    ),
    "another constructor": (
        "def __init__(self, config):",
        "def __init__(self, width, depth):",
        "TypeError in .*: .*missing 1 required positional argument: 'depth'",
    ),
    "a typing error": (
        "self.genres.in_features",
        "self.genre.in_features",
        r"given genres: AttributeError in .*oddnet\.py, line 19: .*no attribute 'genre'",
    ),
    "shapes that do not fit": (
        "config.image_size**2, 8)",
        "config.image_size, 8)",
        r"Discriminator: RuntimeError in .*oddnet\.py, line 31: mat1 and mat2",
    ),
    "no mixtures": (
        "if not labels.is_floating_point():",
        "if True:",
        r"given mixtures of genres: RuntimeError in .*oddnet\.py, line 19: one_hot",
    ),
    "no module": (
        "class Discriminator(nn.Module):",
        "class Discriminator:",
        "Discriminator is not a torch.nn.Module with weights to train",
    ),
    "no gradient": (
        "self.layer(images.flatten(1))",
        "self.layer(images.detach().flatten(1))",
        "no gradient reaches the weights of its Generator",
    ),
    "numbers while it is built": (
        "self.genres = nn.Embedding(config.n_genres, 8)",
        "self.genres = nn.Embedding(config.n_genres, int(torch.tensor(8.0)))",
        r"RuntimeError in .*oddnet\.py, line 28: .*; checkpoints are checked against a model without memory",
    ),
}

# And the simplest source of tracks, and a loss that the package does not have.
SOURCE = """
from musicspectrogan.data.sources import Track, require_folder
from musicspectrogan.filesystem import visible_folders

OPTIONS = ("limit",)


def find_tracks(root, selection):
    root = require_folder(root, "my music")
    paths = [path for folder in visible_folders(root) for path in sorted(folder.glob("*.wav"))]
    return [Track(path.stem, path.parent.name, path) for path in paths]
"""
LOSS = """
LOSSES["leastsquares"] = Loss(
    lambda real, fake: (real - 1).square().mean() + fake.square().mean(),
    lambda fake, real: (fake - 1).square().mean(),
)
"""

NewModel = Callable[[str], str]


@pytest.fixture
def new_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NewModel:
    """Write a model's file where the package finds it, and give its name."""
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    name = "oddnet"
    monkeypatch.delitem(sys.modules, f"{models.__name__}.{name}", raising=False)

    def write(text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        return name

    yield write
    sys.modules.pop(f"{models.__name__}.{name}", None)
    vars(models).pop(name, None)


def build(gan: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    return build_networks(TrainingConfig(gan=gan, latent_dim=5), ModelConfig(16, 2, 5, 2))


def test_a_model_that_keeps_the_contract_is_built_as_it_was_initialised(new_model):
    gan = new_model(SIMPLEST)
    assert gan in models.names()
    built = build(gan)
    torch.manual_seed(0)
    plain = models.build(gan, ModelConfig(16, 2, 5, 2))
    for one, other in zip(built, plain, strict=True):
        assert one.training
        assert all(
            torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True)
        )
        assert all(weight.grad is None for weight in one.parameters())


@pytest.mark.parametrize("gan", models.names())
def test_trying_a_model_leaves_no_trace(gan):
    before = torch.get_rng_state()
    networks = build(gan)
    assert torch.equal(torch.get_rng_state(), before)
    for network, plain in zip(networks, models.build(gan, ModelConfig(16, 2, 5, 2)), strict=True):
        fresh = dict(plain.named_buffers())
        assert all(torch.equal(value, fresh[name]) for name, value in network.named_buffers())


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_models_mistake_is_told_before_training(new_model, mistake):
    right, wrong, told = MISTAKES[mistake]
    assert right in SIMPLEST
    gan = new_model(SIMPLEST.replace(right, wrong))
    with pytest.raises(UserError, match=f"^--gan oddnet.*(?:{told})") as error:
        build(gan)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (
            Loss(lambda real, fake: real - fake, lambda fake, real: -fake.mean()),
            "for the discriminator",
        ),
        (Loss(lambda real, fake: fake.mean(), lambda fake, real: -fake), "for the generator"),
        (
            Loss(lambda real, fake: fake.mean().log(), lambda fake, real: -fake.mean()),
            "a finite scalar",
        ),
    ],
)
def test_a_losss_mistake_is_told_before_training(monkeypatch, loss, told):
    monkeypatch.setitem(LOSSES, "mine", loss)
    config = TrainingConfig(loss="mine", latent_dim=5)
    networks = build_networks(config, ModelConfig(16, 2, 5, 2))
    with pytest.raises(UserError, match=f"^--loss mine: .*{re.escape(told)}"):
        build_step(config, networks, torch.device("cpu"), augment=0.0)


def test_the_contract_tests_find_and_pass_a_new_model_source_and_loss(tmp_path):
    ignored = shutil.ignore_patterns("__pycache__", "torture")
    for name in ("musicspectrogan", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    package = tmp_path / "musicspectrogan"
    (package / "models" / "oddnet.py").write_text(SIMPLEST)
    (package / "data" / "sources" / "mysource.py").write_text(SOURCE)
    with open(package / "training" / "losses.py", "a") as file:
        file.write(LOSS)
    files = (
        "models/test_models.py",
        "training/test_step.py",
        "training/test_losses.py",
        "data/test_sources.py",
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-n",
            "0",
            "-rs",
            "-k",
            "oddnet or mysource or leastsquares",
        ]
        + [f"tests/{name}" for name in files],
        cwd=tmp_path,
        env={**environment(), "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 16


def test_a_new_model_trains_samples_and_leaves_a_checkpoint_that_names_it(
    command: Command, images: Path, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "musicspectrogan", tmp_path / "musicspectrogan")
    module = tmp_path / "musicspectrogan" / "models" / "oddnet.py"
    module.write_text(SIMPLEST)
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from musicspectrogan.cli import main; main()"
    train = ["train", "--gan", "oddnet", "--dataset", images, "--epochs", 1, "--device", "cpu"]
    command(
        "-c",
        program,
        *train,
        "--standing-batches",
        1,
        "--eval-every",
        0,
        "--output",
        "run",
        cwd=tmp_path,
    )
    command(
        "-c",
        program,
        "generate",
        "--checkpoint",
        "run",
        "--genre",
        "jazz",
        "--count",
        1,
        cwd=tmp_path,
    )
    assert len(list(tmp_path.glob("run/generated/*/jazz_seed0000.wav"))) == 1
    # With a tool that does not have it.
    for arguments in (["info", "."], ["generate", "--checkpoint", "checkpoints/latest.pt"]):
        told = command("-m", "musicspectrogan", *arguments, cwd=tmp_path / "run", status=2)
        assert "is of a GAN that is not here: 'oddnet' is not one of anylength, " in told.stderr
        assert "damaged" not in told.stderr
