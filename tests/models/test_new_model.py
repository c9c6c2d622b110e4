"""A new GAN is one file, as CONTRIBUTING.md says, and its mistakes are reported in one line."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from conftest import ROOT, Command, environment

from musicspectrogan import models
from musicspectrogan.data.sources import Selection
from musicspectrogan.errors import UserError
from musicspectrogan.models import ModelConfig
from musicspectrogan.models.contract import check_networks
from musicspectrogan.training.losses import LOSSES, Loss
from musicspectrogan.training.settings import TrainingConfig

# The examples of CONTRIBUTING.md: a GAN, a loss and a dataset source.
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
GAN, LOSS, SOURCE = re.findall(r"```python\n(.*?)```", CONTRIBUTING, re.DOTALL)
CONFIG = ModelConfig(image_size=16, width=2, latent_dim=5, n_genres=2)


def line(text: str) -> str:
    """`oddnet.py, line N` for the first line of the GAN that contains the text, as a pattern."""
    return rf".*oddnet\.py, line {GAN[: GAN.index(text)].count(chr(10)) + 1}"


# Text of the GAN, what it is replaced with, and a pattern of the error.
MISTAKES = {
    "logits (B, 1)": (
        ".squeeze(1)",
        "",
        r"Discriminator returns a tensor of shape \(3, 1\); "
        r"it must return logits \(L \* B,\) of shape \(3,\)$",
    ),
    "three channels": (
        "view(-1, 1, self.size, self.size)",
        "view(-1, 1, self.size, self.size).expand(-1, 3, -1, -1)",
        r"given genres, returns a tensor of shape \(3, 3, 16, 16\); "
        r"it must return images \(B, K, H, W\)",
    ),
    "another size": (
        "self.n_genres = config.image_size,",
        "self.n_genres = 64,",
        r"shape \(3, 1, 64, 64\); it must return images .* of shape \(3, 1, 16, 16\)",
    ),
    "no tanh": (
        "torch.tanh(self.layer(inputs))",
        "(9 * self.layer(inputs))",
        r"Generator returns values from -.* to .*; images are in \[-1, 1\]: end it with torch.tanh",
    ),
    "float64": (
        "self.layer(inputs)",
        "self.layer(inputs).double()",
        "Generator, given genres, returns torch.float64; expected is torch.float32",
    ),
    "NaN": (
        "self.layer(inputs)",
        "self.layer(inputs) / 0 * 0",
        "returns numbers that are not finite",
    ),
    "a tuple": (
        "return torch.gather(",
        "return labels, torch.gather(",
        r"Discriminator returns a tuple; it must return logits \(L \* B,\) of shape \(3,\)$",
    ),
    "no Generator": ("class Generator(", "class Maker(", r"oddnet\.py does not define Generator$"),
    "no names": (
        "CONDITIONAL, OPTIONS = True, ()",
        "",
        r"oddnet\.py does not define CONDITIONAL, OPTIONS$",
    ),
    "a missing import": (
        "import torch\n",
        "import torsh\n",
        rf"ModuleNotFoundError in {line('import torch')}: No module named 'torsh'",
    ),
    "bad syntax": (
        "OPTIONS = True, ()",
        "OPTIONS = True, (",
        rf"SyntaxError in {line('OPTIONS')}: ",
    ),
    "another constructor": (
        "def __init__(self, config: ModelConfig) -> None:",
        "def __init__(self, width, depth) -> None:",
        "TypeError in .*: .*missing 1 required positional argument: 'depth'",
    ),
    "a typing error": (
        "self.layer(inputs)",
        "self.layers(inputs)",
        rf"given genres: AttributeError in {line('tanh')}: .*no attribute 'layers'",
    ),
    "shapes that do not fit": (
        "nn.Linear(config.image_size**2",
        "nn.Linear(config.image_size",
        rf"Discriminator: RuntimeError in {line('images.flatten')}: mat1 and mat2",
    ),
    "no mixtures": (
        "genre_mixture(labels, self.n_genres)",
        "nn.functional.one_hot(labels, self.n_genres)",
        rf"given mixtures of genres: RuntimeError in {line('genre_mixture(')}: one_hot",
    ),
    "no module": (
        "class Discriminator(nn.Module):",
        "class Discriminator:",
        "Discriminator is not a torch.nn.Module with weights to train",
    ),
    "no gradient": (
        "images.flatten(1)",
        "images.detach().flatten(1)",
        "no gradient reaches the weights of its Generator",
    ),
    "numbers while it is built": (
        "nn.Linear(config.image_size**2, config.n_genres)",
        "nn.Linear(config.image_size**2, int(torch.tensor(float(config.n_genres))))",
        rf"RuntimeError in {line('nn.Linear(config.image_size')}: .*; checkpoints are checked "
        "against a model without memory",
    ),
}

NewModel = Callable[[str], str]


@pytest.fixture
def new_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NewModel]:
    """Write a model's file where the package finds it, and return its name."""
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(folder)])
    module = f"{models.__name__}.oddnet"

    def write(text: str) -> str:
        (folder / "oddnet.py").write_text(text)
        return "oddnet"

    yield write
    sys.modules.pop(module, None)
    vars(models).pop("oddnet", None)


def test_contributing_is_short_and_its_paths_exist():
    assert CONTRIBUTING[: CONTRIBUTING.index("## Add a loss")].count("\n") <= 60
    paths = re.findall(r"`(\w+(?:/\w+)*(?:/|\.py))`", CONTRIBUTING.partition("| question |")[2])
    assert len(paths) > 8
    assert [path for path in paths if not (ROOT / "musicspectrogan" / path).exists()] == []


def test_the_model_of_contributing_is_found_and_keeps_the_contract(new_model):
    gan = new_model(GAN)
    assert gan in models.names() and models.is_conditional(gan)
    check_networks(gan, models.build(gan, CONFIG), CONFIG)


@pytest.mark.slow
def test_the_examples_of_contributing_pass_lint(tmp_path):
    package = tmp_path / "musicspectrogan"
    shutil.copytree(ROOT / "musicspectrogan", package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (package / "models" / "oddnet.py").write_text(GAN)
    (package / "data" / "sources" / "mysource.py").write_text(SOURCE)
    with open(package / "training" / "losses.py", "a") as file:
        file.write(LOSS)
    for command in ("ruff check", "ruff format --check", "mypy"):
        done = subprocess.run(
            [sys.executable, "-m", *command.split(), *([] if command == "mypy" else ["."])],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


def test_the_loss_of_contributing_trains_a_logit_to_its_target(monkeypatch):
    monkeypatch.delitem(LOSSES, "least_squares", raising=False)
    exec(LOSS, {"LOSSES": LOSSES, "Loss": Loss})
    loss = LOSSES.pop("least_squares")
    zeros, ones = torch.zeros(3), torch.ones(3)
    assert loss.discriminator(ones, zeros) == 0 and loss.generator(None, ones) == 0
    assert loss.discriminator(zeros, ones) == 2 and loss.generator(None, zeros) == 1


def test_the_source_of_contributing_lists_tracks(tmp_path):
    for name in ("jazz/b.wav", "jazz/a.wav", "rock/c.wav", "rock/cover.jpg", "d.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    source: dict = {}
    exec(SOURCE, source)
    tracks = source["find_tracks"](tmp_path, Selection())
    assert [(t.genre, t.id) for t in tracks] == [("jazz", "a"), ("jazz", "b"), ("rock", "c")]


@pytest.mark.parametrize("gan", models.names())
def test_checking_a_model_changes_nothing(gan):
    networks = models.build(gan, CONFIG)
    weights = [network.state_dict() for network in networks]
    before = [{name: value.clone() for name, value in state.items()} for state in weights]
    state = torch.get_rng_state()
    check_networks(gan, networks, CONFIG)
    assert torch.equal(torch.get_rng_state(), state)
    for network, old in zip(networks, before, strict=True):
        assert network.training
        assert all(torch.equal(value, old[name]) for name, value in network.state_dict().items())
        assert all(weight.grad is None for weight in network.parameters())


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_models_mistake_is_reported_in_one_line(new_model, mistake):
    right, wrong, reported = MISTAKES[mistake]
    assert right in GAN
    gan = new_model(GAN.replace(right, wrong))
    with pytest.raises(UserError, match=f"^--gan oddnet.*(?:{reported})") as error:
        check_networks(gan, models.build(gan, CONFIG), CONFIG)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("loss", "reported"),
    [
        (
            Loss(lambda real, fake: real - fake, lambda real, fake: -fake.mean()),
            "for the discriminator",
        ),
        (Loss(lambda real, fake: fake.mean(), lambda real, fake: -fake), "for the generator"),
        (
            Loss(lambda real, fake: fake.mean().log(), lambda real, fake: -fake.mean()),
            "a finite scalar",
        ),
    ],
)
def test_a_losss_mistake_is_reported_before_training(monkeypatch, loss, reported):
    from musicspectrogan.training.building import build_networks, build_step

    monkeypatch.setitem(LOSSES, "mine", loss)
    config = TrainingConfig(loss="mine", latent_dim=5)
    with pytest.raises(UserError, match=f"^--loss mine: .*{re.escape(reported)}"):
        build_step(config, build_networks(config, CONFIG), torch.device("cpu"), augment=0.0)


@pytest.mark.slow
def test_the_contract_tests_find_and_pass_a_new_model_source_and_loss(tmp_path):
    ignored = shutil.ignore_patterns("__pycache__", "torture")
    for name in ("musicspectrogan", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for name in ("pyproject.toml", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, tmp_path)
    package = tmp_path / "musicspectrogan"
    (package / "models" / "oddnet.py").write_text(GAN)
    (package / "data" / "sources" / "mysource.py").write_text(SOURCE)
    with open(package / "training" / "losses.py", "a") as file:
        file.write(LOSS)
    files = (
        "models/test_models",
        "training/test_step",
        "training/test_losses",
        "data/test_sources",
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-rs"]
        + ["-k", "oddnet or mysource or least_squares"]
        + [f"tests/{name}.py" for name in files],
        cwd=tmp_path,
        env={**environment(), "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 16


def test_a_new_model_trains_and_samples_and_its_checkpoint_names_it(
    new_model: NewModel, monkeypatch: pytest.MonkeyPatch, command: Command, tmp_path: Path
) -> None:
    images = shutil.copytree(ROOT / "tests" / "old" / "images", tmp_path / "images")
    gan = new_model(GAN)
    command(
        "run.py", "--gan", gan, "--dataset", images, "--epochs", 1, "--standing-batches", 1,
        "--eval-every", 0, "--device", "cpu", "--output", "run", cwd=tmp_path,
    )  # fmt: skip
    sampling = ["--checkpoint", "run", "--genre", "drums", "--count", 1]
    command("-m", "musicspectrogan", "generate", *sampling, cwd=tmp_path)
    assert len(list(tmp_path.glob("run/generated/*/drums_seed0000.wav"))) == 1
    monkeypatch.undo()  # the model's file is gone
    for arguments in (["info", "."], ["generate", "--checkpoint", "checkpoints/latest.pt"]):
        done = command("-m", "musicspectrogan", *arguments, cwd=tmp_path / "run", status=2)
        assert "'oddnet' is not one of anylength_cgan, " in done.stderr
        assert "damaged" not in done.stderr
