"""Rules of the code base that a program can check."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, environment

PACKAGE = ROOT / "musicspectrogan"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Generic modules: they know no stage, and every stage may use them.
GENERIC = {
    "charts", "config", "console", "counts", "device", "environment", "errors", "filesystem",
    "flags", "launch", "modelfolder", "plugins", "progress", "stopping",
    "tensors", "torchfiles",
}  # fmt: skip
# What each stage may import besides these and itself.
ALLOWED = {
    "audio": set(),
    "models": set(),
    "data": {"audio"},
    "training": {"models", "data", "audio.spectrogram", "audio.vocoder"},
    "vocoding": {"data", "audio"},
    "generation": {
        "training.checkpoint",
        "training.run_checkpoints",
        "models",
        "audio",
        "data.credits",
    },
    "evaluation": {
        "generation",
        "data",
        "training.checkpoint",
        "training.run_checkpoints",
        "audio.spectrogram",
        "audio.images",
        "audio.inversion",
    },
    "export": {
        "generation",
        "training.checkpoint",
        "training.run_checkpoints",
        "models",
        "audio",
        "data.credits",
        "evaluation.report",
    },
    "doctor": {"training", "models", "audio"},
    "information": {
        "data.dataset",
        "data.manifest",
        "training.checkpoint",
        "training.run_checkpoints",
        "audio.spectrogram",
        "audio.VOCODER_NAME",
    },
}
TOP = {"api", "cli", "__main__", "__init__"}


def imported(path: Path) -> set[str]:
    """Names of the package that a file imports, also inside functions, relative to the package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {
            name.removeprefix("musicspectrogan.")
            for name in names
            if name.startswith("musicspectrogan.")
        }
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    stage = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if stage in TOP:
        return
    assert stage in GENERIC | set(ALLOWED), f"{stage} is not a known stage"
    for name in imported(path):
        used = name.split(".")[0]
        if used in GENERIC | {stage, "__version__"}:
            continue
        assert stage not in GENERIC, f"a generic module imports {name}"
        allowed = ALLOWED[stage]
        assert used in allowed or any(f"{name}.".startswith(f"{a}.") for a in allowed), name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_prints(path):
    calls = [
        n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)
    ]
    printing = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]
    assert not printing or path.name == "cli.py"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_everything_public_has_a_docstring(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    definitions = [n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    for definition in definitions:
        if not definition.name.startswith("_"):
            assert ast.get_docstring(definition), definition.name


def modules_after(code: str) -> set[str]:
    """Top-level modules that are loaded after running some code in a fresh interpreter."""
    code += "\nprint(*sorted({name.split('.')[0] for name in sys.modules}))"
    line = [sys.executable, "-c", f"import sys\n{code}"]
    done = subprocess.run(
        line, capture_output=True, text=True, check=True, env=environment(), cwd=ROOT
    )
    return set(done.stdout.splitlines()[-1].split())


def help_of(command: str) -> str:
    return f"""
from musicspectrogan.cli import main
sys.argv = ["x", "--help"]
try:
    main({command!r})
except SystemExit:
    pass"""


@pytest.mark.parametrize(
    "command", ["preprocess", "train", "generate", "evaluate", "export", "info"]
)
def test_help_loads_nothing_heavy(command):
    assert not modules_after(help_of(command)) & {
        "torch",
        "torchvision",
        "librosa",
        "matplotlib",
        "sklearn",
    }


def test_preprocessing_imports_no_torch():
    assert "torch" not in modules_after(
        "import musicspectrogan.data.preprocessing, musicspectrogan.data.dataset"
    )


def test_training_imports_no_audio_library():
    loaded = modules_after(
        "import musicspectrogan.training.runner, musicspectrogan.generation.sound"
    )
    assert "torch" in loaded
    assert not loaded & {"librosa", "soundfile", "soxr"}


def test_every_folder_of_tests_mirrors_the_package():
    stages = {
        path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"
    }
    stages |= {"golden", "old", "torture"}  # across all stages
    assert {
        p.name for p in (ROOT / "tests").iterdir() if p.is_dir() and p.name != "__pycache__"
    } <= stages


def test_an_installed_package_has_all_its_folders():
    metadata = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (listed,) = re.findall(r"\npackages = \[\n(.*?)\n\]", metadata, re.DOTALL)
    expected = {
        ".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")
    }
    assert set(re.findall(r'^ *"(.*?)"', listed, re.MULTILINE)) == {
        *expected,
        "musicspectrogan.configs",
    }


@pytest.mark.slow
def test_the_benchmarks_can_be_imported():
    scripts = sorted((ROOT / "benchmarks").glob("*.py"))
    assert len(scripts) > 4
    imports = f"import sys; sys.path.insert(0, {str(scripts[0].parent)!r})\n"
    imports += "\n".join(f"import {path.stem}" for path in scripts)
    subprocess.run(
        [sys.executable, "-c", imports], env=environment(), cwd=ROOT, check=True, timeout=300
    )
