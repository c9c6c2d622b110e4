"""README.md, docs/ and requirements.lock: the commands work, and what the pages name exists.

Blocks marked `bash` are run in order, on small copies of the folders they name. Blocks marked `sh`
install packages or need several machines, and are not run.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas
import pytest
import soundfile
from conftest import ROOT, Command
from packaging.requirements import Requirement
from PIL import Image
from processes import Cluster, a_cluster

from musicspectrogan import config, models
from musicspectrogan.data import composer
from musicspectrogan.data.settings import PreprocessConfig
from musicspectrogan.data.sources import Selection
from musicspectrogan.evaluation.settings import EvaluateConfig
from musicspectrogan.export.settings import ExportConfig
from musicspectrogan.generation.settings import GenerateConfig, SoundConfig
from musicspectrogan.training.settings import TrainingConfig
from musicspectrogan.vocoding.settings import VocoderConfig

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
}
README = PAGES["README.md"]
# In this order, later pages use the output of earlier ones.
PAGES_WITH_COMMANDS = (
    "docs/datasets.md",
    "docs/training.md",
    "docs/generating.md",
    "docs/evaluation.md",
    "docs/sharing.md",
    "docs/troubleshooting.md",
)
KINDS = ("classifier", "untrained")
# Training takes minutes to hours; here the same flags with few images and a tiny network.
SHORTER = {"100k": "128", "150k": "128", "500k": "128", "1m": "192"}
SHORTER_PYTHON = {
    'dataset="demo",': 'dataset="demo", selection=ms.Selection(tracks_per_genre=4),',
    'images="100k"': 'images="128", width=2, standing_batches=2',
    'images="200k"': 'images="192", width=2, standing_batches=2',
    "samples=2000": "samples=100",
}
TINY = ["--width", "2", "--standing-batches", "2", "--device", "cpu"]


def commands_of(page: str) -> list[str]:
    """The lines of a page's `bash` blocks."""
    blocks = re.findall(r"```bash\n(.*?)```", PAGES[page], re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.fixture(scope="module")
def home(gtzan_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the folders that the pages name."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(gtzan_tree, home / "genres_original")
    shutil.make_archive(str(home / "archive"), "zip", gtzan_tree.parent, gtzan_tree.name)
    shutil.copytree(ROOT / "configs", home / "configs")
    for genre, style, ending in (("techno", "drums", "mp3"), ("folk", "arpeggio", "flac")):
        samples = composer.compose(style, 0, seed=2, seconds=16.0)
        for index in range(6):  # enough tracks and images for an evaluation
            path = home / "my_music" / genre / f"album{index}" / f"{index}.{ending}"
            path.parent.mkdir(parents=True)
            shifted = np.roll(samples, index * composer.SAMPLE_RATE)
            soundfile.write(path, shifted, composer.SAMPLE_RATE)
    numbers = (2, 5, 1040)
    for number in numbers:
        path = home / "fma" / "fma_small" / f"{number:06d}"[:3] / f"{number:06d}.mp3"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = composer.compose("bass", number, seed=2, seconds=4.0)
        soundfile.write(path, samples, composer.SAMPLE_RATE)
    columns = [("set", "split"), ("set", "subset"), ("track", "genre_top"), ("track", "license")]
    rows = [["training", "small", "Hip-Hop", "Attribution"]] * len(numbers)
    table = pandas.DataFrame(
        rows, pandas.Index(numbers, name="track_id"), pandas.MultiIndex.from_tuples(columns)
    )
    (home / "fma" / "fma_metadata").mkdir()
    table.to_csv(home / "fma" / "fma_metadata" / "tracks.csv")
    (home / "samples_of_another_model").mkdir()
    for number in range(60):
        noise = np.random.default_rng(number).integers(0, 256, (64, 64), dtype=np.uint8)
        Image.fromarray(noise).save(home / "samples_of_another_model" / f"{number}.png")
    return home


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The machines of the cluster."""
    with a_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def shortened(line: str) -> list[str]:
    """The command's arguments after `python`, with less training and fewer samples."""
    program, *arguments = shlex.split(line)
    if program == "torchrun":
        script = str(ROOT / "run.py")
        arguments = [script if a == "run.py" else a for a in arguments]
        arguments = ["-m", "torch.distributed.run", *arguments]
    else:
        assert program == "python"
    if "run.py" in line:
        arguments = [SHORTER.get(argument, argument) for argument in arguments]
        if "--resume" not in arguments:
            arguments += TINY
        if "--images" not in arguments:
            arguments += ["--epochs", "1"]
    if arguments[:3] == ["preprocess.py", "--dataset", "demo"]:
        arguments += ["--tracks-per-genre", "4"]
    if "evaluate" in arguments:
        arguments += ["--samples", "100"]
    if "vocoder" in arguments:
        arguments += ["--minutes", "0.02", "--device", "cpu"]
    if "generate" in arguments and not {"--count", "--seeds"} & set(arguments):
        arguments += ["--count", "1"]
    return arguments


@pytest.fixture(scope="module")
def run_line(
    home: Path, command: Command, command_process: Command, request: pytest.FixtureRequest
) -> Callable[[str], None]:
    """Run a command of a page in `home`, once, and check what it leaves."""
    done = set()

    def run(line: str) -> None:
        if line in done:
            return
        done.add(line)
        typed = line
        if "--scheduler" in line:
            address = request.getfixturevalue("cluster").address
            typed = re.sub(r"(?<=--scheduler )\S+", address, line)
        in_process = command_process if "torchrun" in line or "doctor" in line else command
        told = in_process(*shortened(typed), cwd=home).stderr
        output = re.search(r"preprocess.py .*--output (\S+)", line)
        if output:
            assert (home / output[1] / "dataset.json").is_file()
        if "run.py" in line and "--dry-run" not in line:
            run = Path(re.search(r"Done after .*: (\S+)", told)[1])
            assert (home / run / "checkpoints" / "latest.pt").is_file()

    return run


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, marks=[pytest.mark.slow] if "evaluate" in line else [])
        for line in commands_of("README.md")
    ],
)
def test_a_command_of_the_readme_works(line: str, run_line: Callable[[str], None]) -> None:
    lines = commands_of("README.md")
    for earlier in lines[: lines.index(line)]:  # which have run, unless this test runs alone
        run_line(earlier)
    run_line(line)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS)
def test_the_commands_of_a_page_work(page: str, run_line: Callable[[str], None]) -> None:
    for earlier in ("README.md", *PAGES_WITH_COMMANDS[: PAGES_WITH_COMMANDS.index(page)]):
        for line in commands_of(earlier):
            run_line(line)
    for line in commands_of(page):
        run_line(line)


@pytest.mark.slow
def test_the_python_examples_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of docs/python.md and README, and what their comments say of values and output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    names: dict[str, object] = {}
    text = PAGES["docs/python.md"] + PAGES["README.md"]
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        code = block
        for long, short in SHORTER_PYTHON.items():
            code = code.replace(long, short)
        exec(compile(code, "docs/python.md", "exec"), names)
        told = capsys.readouterr().out
        for output in re.findall(r"^ *print\(.*\)  # (.+)$", block, re.MULTILINE):
            assert output in told.splitlines()
        for name, form in re.findall(r"^(\w+) = .*  # (\w+ \([\d, ]+\))$", block, re.MULTILINE):
            value = names[name]
            assert isinstance(value, np.ndarray) and f"{value.dtype} {value.shape}" == form
    assert (tmp_path / "demo_images" / "dataset.json").is_file()
    assert {path.name for path in tmp_path.glob("*.*")} == {"drums.wav", "bass.png"}
    assert len(list(tmp_path.glob("runs/*/generated/*/*.flac"))) == 2


def test_every_page_with_commands_is_tested() -> None:
    with_commands = {page for page in PAGES if commands_of(page)}
    assert with_commands == {"README.md", *PAGES_WITH_COMMANDS}


def test_there_are_commands_for_every_kind_of_dataset_and_gan() -> None:
    text = "\n".join("\n".join(commands_of(page)) for page in PAGES)
    assert all(f"--dataset {name} " in text for name in ("demo", "folder", "gtzan", "fma"))
    recipes = [
        (ROOT / name).read_text(encoding="utf-8") for name in re.findall(r"--config (\S+)", text)
    ]
    gans = {
        *re.findall(r"--gan (\w+)", text),
        *re.findall(r"^gan: (\w+)", "\n".join(recipes), re.MULTILINE),
    }
    assert gans >= set(models.names())


def test_every_flag_that_a_page_names_exists() -> None:
    known = {
        f"--{field.replace('_', '-')}"
        for settings in (
            TrainingConfig,
            PreprocessConfig,
            Selection,
            GenerateConfig,
            SoundConfig,
            EvaluateConfig,
            ExportConfig,
            partial(VocoderConfig, Path()),
        )
        for field in config.to_plain(settings())
    }
    known |= {"--config", "--resume", "--dry-run", "--help", "--no-cuda-graph"}
    foreign = "--logdir --nproc-per-node --nnodes --rdzv-backend --rdzv-endpoint --nworkers"
    foreign += " --nthreads --index-url --no-compile --gpu --music --local-dir --no-deps --threads"
    for page, text in PAGES.items():
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text))
        assert named <= known | set(foreign.split()), page


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= 1500


@pytest.mark.parametrize("page", PAGES)
def test_lines_have_at_most_100_characters(page: str) -> None:
    """Except tables, code and lines that an address alone makes longer."""
    text = re.sub(r"^```.*?^```", "", PAGES[page], flags=re.DOTALL | re.MULTILINE)
    lines = [line for line in text.splitlines() if not line.startswith(("|", "    "))]
    long = [line for line in lines if len(line) > 100 and "://" not in line]
    assert not long


def test_error_messages_in_troubleshooting_exist() -> None:
    """In the package's source, where strings may continue on the next line."""
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "musicspectrogan").rglob("*.py"))
    source = re.sub(r'"\s*\n\s*f?"', "", source)
    of_others = {"operator torchvision::nms does not exist", "Killed", "Too many open files"}
    quoted = re.findall(r"^\| `([^`]+)`", PAGES["docs/troubleshooting.md"], re.MULTILINE)
    for message in set(quoted) - of_others:
        assert message.removeprefix("loss_d ") in source, message


def test_no_figure_is_left_open() -> None:
    for page, text in PAGES.items():
        assert not re.search(r"@[A-Z0-9]+@|TODO", text), page


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Files exist, and pages have a heading for each anchor."""
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, target


def test_the_table_of_ingredients_has_the_measured_figures() -> None:
    """That of docs/recipes.md, by the test tracks, from docs/recipes.csv."""
    figures = pandas.read_csv(ROOT / "docs" / "recipes.csv")
    figures = figures[
        (figures["split"] == "test") & (figures["name"] == "demo") & (figures["seed"] == 0)
    ]
    table = PAGES["docs/recipes.md"].partition("## Row by row")[2].partition("| real music")[0]
    cells = dict(re.findall(r"^\| ([^|]+) \| (.*) \|$", table, re.MULTILINE))
    names = {"classic cGAN": "classic", "projection and conditional BatchNorm": "projection"}
    for title in (*names, "windows", "Adam 0, 0.99", "R1", "relativistic", "R2"):
        row = figures[figures["row"] == names.get(title, title)].set_index(["figure", "features"])
        ratios = [
            row.loc[(name, kind), "ratio"] for name in ("frechet", "kernel") for kind in KINDS
        ]
        shares = [row.loc[("coverage", kind), "value"] for kind in KINDS]
        shown = [float(cell.partition(" ± ")[0]) for cell in cells[title].split(" | ")]
        assert shown[:6] == pytest.approx([*ratios, *shares], abs=0.05), title


def test_the_lock_file_satisfies_the_requirements() -> None:
    """Every requirement is pinned within its bounds, and for this Python exactly once."""
    pins = defaultdict(list)
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        pinned = line.partition("#")[0].strip()
        if pinned:
            requirement = Requirement(pinned)
            (version,) = requirement.specifier
            assert version.operator == "==", line
            pins[requirement.name].append((version.version, requirement.marker))
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            if line.startswith("-r"):
                continue
            wanted = Requirement(line)
            found = pins[wanted.name.lower()]
            assert all(wanted.specifier.contains(version) for version, _ in found), line
            here = [version for version, marker in found if not marker or marker.evaluate()]
            assert len(here) == 1, line
