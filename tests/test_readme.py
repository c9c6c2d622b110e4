"""The README's own commands, in their order, on small stand-ins for the folders they name.

Blocks marked `bash` are run; those marked `sh` install, which `make test` has just done by the same lines.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas
import pytest
import soundfile
from conftest import ROOT
from PIL import Image
from processes import Cluster, a_cluster

from musicspectrogan import config, models
from musicspectrogan.data import composer
from musicspectrogan.data.settings import PreprocessConfig
from musicspectrogan.data.sources import Selection
from musicspectrogan.evaluation.settings import EvaluateConfig
from musicspectrogan.generation.settings import GenerateConfig, SoundConfig
from musicspectrogan.training.settings import TrainingConfig

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]
KINDS = ("classifier", "untrained")
# Training in the README takes minutes to hours; here the same flags with few images and a tiny network.
SHORTER = {"500k": "128", "1m": "192"}
TINY = ["--width", "2", "--standing-batches", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def home(gtzan_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the README's folders."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(gtzan_tree, home / "genres_original")
    shutil.copytree(ROOT / "configs", home / "configs")
    for index, name in enumerate(("techno/a.mp3", "techno/some_album/01.flac", "folk/c.wav")):
        path = home / "my_music" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(
            path, composer.compose("chords", index, seed=2, seconds=4.0), composer.SAMPLE_RATE
        )
    numbers = (2, 5, 1040)
    for number in numbers:
        path = home / "fma" / "fma_small" / f"{number:06d}"[:3] / f"{number:06d}.mp3"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(
            path, composer.compose("bass", number, seed=2, seconds=4.0), composer.SAMPLE_RATE
        )
    (home / "samples_of_another_model").mkdir()
    for number in range(60):
        noise = np.random.default_rng(number).integers(0, 256, (64, 64), dtype=np.uint8)
        Image.fromarray(noise).save(home / "samples_of_another_model" / f"{number}.png")
    columns = [("set", "split"), ("set", "subset"), ("track", "genre_top"), ("track", "license")]
    rows = [["training", "small", "Hip-Hop", "Attribution"]] * len(numbers)
    table = pandas.DataFrame(
        rows, pandas.Index(numbers, name="track_id"), pandas.MultiIndex.from_tuples(columns)
    )
    (home / "fma" / "fma_metadata").mkdir()
    table.to_csv(home / "fma" / "fma_metadata" / "tracks.csv")
    return home


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """Stands for the machines of the README's cluster."""
    with a_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def shortened(line: str) -> list[str]:
    """The command's arguments after `python`, with a training cut short."""
    program, *arguments = shlex.split(line)
    if program == "torchrun":
        script = str(ROOT / "run.py")
        arguments = [
            "-m",
            "torch.distributed.run",
            *(script if a == "run.py" else a for a in arguments),
        ]
    else:
        assert program == "python"
    if "run.py" in line:
        arguments = [SHORTER.get(argument, argument) for argument in arguments]
        if "--resume" not in arguments:
            arguments += TINY
        if "--images" not in arguments:
            arguments += ["--epochs", "1"]
    if arguments[:3] == ["preprocess.py", "--dataset", "demo"]:
        arguments += ["--tracks-per-genre", "12"]
    if "evaluate" in arguments:
        arguments += ["--samples", "100"]
    if "generate" in arguments and not {"--count", "--seeds"} & set(arguments):
        arguments += ["--count", "1"]
    return arguments


@pytest.mark.parametrize("line", COMMANDS)
def test_the_readmes_command_works(line, home, command, request):
    if "--scheduler" in line:
        address = request.getfixturevalue("cluster").address
        line = re.sub(r"(?<=--scheduler )\S+", address, line)
    done = command(*shortened(line), cwd=home)
    output = re.search(r"preprocess.py .*--output (\S+)", line)
    if output:
        assert (home / output[1] / "dataset.json").is_file()
    if "run.py" in line and "--dry-run" not in line:
        run = Path(re.search(r"Done after .*: (\S+)", done.stderr)[1])
        assert (home / run / "checkpoints" / "latest.pt").is_file()


def test_there_are_commands_for_every_kind_of_dataset_and_gan():
    text = "\n".join(COMMANDS)
    assert all(f"--dataset {name} " in text for name in ("demo", "folder", "gtzan", "fma"))
    recipes = [
        (ROOT / name).read_text(encoding="utf-8") for name in re.findall(r"--config (\S+)", text)
    ]
    gans = {
        *re.findall(r"--gan (\w+)", text),
        *re.findall(r"^gan: (\w+)", "\n".join(recipes), re.MULTILINE),
    }
    assert gans == set(models.names())


def test_every_flag_that_the_readme_names_exists():
    known = {
        f"--{field.replace('_', '-')}"
        for settings in (
            TrainingConfig,
            PreprocessConfig,
            Selection,
            GenerateConfig,
            SoundConfig,
            EvaluateConfig,
        )
        for field in config.to_plain(settings())
    }
    known |= {"--config", "--resume", "--dry-run", "--help", "--no-cuda-graph"}
    foreign = {"--logdir", "--nproc-per-node", "--nnodes", "--rdzv-backend", "--rdzv-endpoint"}
    foreign |= {"--nworkers", "--nthreads", "--index-url"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", README)) <= known | foreign


def test_no_figure_is_left_open():
    assert not re.search(r"@[A-Z0-9]+@|TODO", README)


def test_the_pictures_are_there():
    for name in re.findall(r"!\[.*?\]\((.*?)\)", README, re.DOTALL):
        assert (ROOT / name).is_file(), name


def test_recipes_are_told_by_the_test_tracks():
    """The table of docs/recipes.md with a row for each ingredient has the figures of docs/recipes.csv."""
    figures = pandas.read_csv(ROOT / "docs" / "recipes.csv")
    figures = figures[
        (figures["split"] == "test") & (figures["name"] == "demo") & (figures["seed"] == 0)
    ]
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    table = text.partition("## Row by row")[2].partition("| real music")[0]
    cells = dict(re.findall(r"^\| ([^|]+) \| (.*) \|$", table, re.MULTILINE))
    names = {"classic cGAN": "classic", "projection and conditional BatchNorm": "projection"}
    for title in (*names, "windows", "Adam 0, 0.99", "R1", "relativistic", "R2"):
        of_row = figures[figures["row"] == names.get(title, title)].set_index(
            ["figure", "features"]
        )
        ratios = [
            of_row.loc[(name, kind), "ratio"] for name in ("frechet", "kernel") for kind in KINDS
        ]
        shares = [of_row.loc[("coverage", kind), "value"] for kind in KINDS]
        told = [float(cell.partition(" ± ")[0]) for cell in cells[title].split(" | ")]
        assert told[:6] == pytest.approx([*ratios, *shares], abs=0.05), title
