"""Fixtures that run commands, and small datasets of composed music."""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from chromium import Chromium
from gpus import FakeCuda

from musicspectrogan import cli
from musicspectrogan.audio.files import save
from musicspectrogan.data import composer

ROOT = Path(__file__).resolve().parent.parent

Command = Callable[..., subprocess.CompletedProcess]


def command_line(*arguments: object) -> list[str]:
    """`preprocess.py …`, `run.py …` or `-m musicspectrogan …` as a full command line."""
    script, *rest = map(str, arguments)
    return [sys.executable, str(ROOT / script) if script.endswith(".py") else script, *rest]


def environment(*, gpu: bool = False) -> dict[str, str]:
    """The environment of this process, with the package importable from anywhere and no GPU."""
    hidden = {} if gpu else {"CUDA_VISIBLE_DEVICES": ""}
    return {**os.environ, "PYTHONPATH": str(ROOT), **hidden}


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--torture`: hundreds of kills and thousands of damaged inputs instead of a few."""
    parser.addoption("--torture", action="store_true", help="run tests/torture in its long form")


@pytest.fixture(scope="session")
def torture(pytestconfig: pytest.Config) -> bool:
    """Whether the long form was asked for."""
    return pytestconfig.getoption("torture")


@pytest.fixture
def tried(record_property: Callable[[str, object], None]) -> Callable[[str, int], None]:
    """Count what a test has tried, for the summary: `tried("kills", 5)`."""

    def count(what: str, number: int = 1) -> None:
        record_property(f"tried {what}", number)

    return count


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was tried over all processes, and how many tests failed."""
    counts: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed"):
        for name, number in report.user_properties:
            if name.startswith("tried "):
                counts[name.removeprefix("tried ")] += number
    if counts:
        tried = ", ".join(f"{number:,} {what}" for what, number in sorted(counts.items()))
        failed = len(terminalreporter.getreports("failed")) + len(
            terminalreporter.getreports("error")
        )
        terminalreporter.write_line(f"tried {tried}; lost or broken: {failed}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))


def pytest_configure() -> None:
    """Use one thread: tests run in parallel, and more threads than cores are slow.

    Commands can be interrupted, even where a shell started the tests in the background, which makes
    them ignore it.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(autouse=True)
def command_line_undone() -> Iterator[None]:
    """Restore logging and signals, which a command in this process sets up."""
    package, on_signal, on_thread = (
        logging.getLogger("musicspectrogan"),
        signal.SIGTERM,
        threading.excepthook,
    )
    before = package.handlers[:], package.propagate, package.level, signal.getsignal(on_signal)
    yield
    package.handlers[:], package.propagate, level, handler = before
    package.setLevel(level)  # which also makes loggers forget what they found enabled
    signal.signal(on_signal, handler)
    threading.excepthook = on_thread


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A running browser; see `browser`."""
    running = Chromium(tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


@pytest.fixture
def browser(chromium: Chromium) -> Iterator[Chromium]:
    """A browser without tabs, history and storage."""
    yield chromium
    chromium.close_tabs()


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """CUDA graphs, faked on the CPU."""
    return FakeCuda(monkeypatch)


def _check(done: subprocess.CompletedProcess, status: int) -> subprocess.CompletedProcess:
    """Assert the exit status, and that an error is one line without a traceback."""
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    if status == 2:
        errors = [line for line in done.stderr.splitlines() if line.startswith("musicspectrogan: ")]
        assert len(errors) == 1, done.stderr
        assert done.stderr.splitlines()[-1] == errors[0], done.stderr
    return done


@pytest.fixture(scope="session")
def command_process() -> Command:
    """Run a command in a separate process, for what depends on one; called as `command`."""

    def run(*arguments: object, cwd: Path, status: int = 0) -> subprocess.CompletedProcess:
        done = subprocess.run(
            command_line(*arguments),
            cwd=cwd,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return _check(done, status)

    return run


@pytest.fixture(scope="session")
def command() -> Command:
    """Run a command through `cli.main` in this process: `command("run.py", …, cwd=folder)`.

    Asserts the exit status, and that an error is one line without a traceback.
    """

    def run(*arguments: object, cwd: Path, status: int = 0) -> subprocess.CompletedProcess:
        program, *rest = map(str, arguments)
        name = {"preprocess.py": "preprocess", "run.py": "train"}.get(program)
        if name is None:  # for other programs there is command_process
            assert [program, *rest[:1]] == ["-m", "musicspectrogan"], arguments
            program, rest = str(ROOT / "musicspectrogan" / "__main__.py"), rest[1:]
        with _as_started([program, *rest], cwd) as (stdout, stderr):
            try:
                cli.main(name)
                returned = 0
            except SystemExit as exit:
                returned = exit.code or 0
            except Exception:
                traceback.print_exc(file=stderr)
                returned = 1
        done = subprocess.CompletedProcess(
            command_line(*arguments), returned, stdout.text, stderr.text
        )
        return _check(done, status)

    return run


class _Captured(io.TextIOWrapper):
    """What a command writes."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    @property
    def text(self) -> str:
        return self.buffer.getvalue().decode("utf-8")


@contextmanager
def _as_started(argv: list[str], cwd: Path) -> Iterator[tuple[_Captured, _Captured]]:
    """Set up this process as if it had just been started, and restore it afterwards."""
    before = sys.argv, Path.cwd(), dict(os.environ)
    package = logging.getLogger("musicspectrogan")
    logging_before = package.handlers, package.propagate, package.level
    package.handlers = []
    sys.argv = argv
    os.chdir(cwd)
    try:
        with (
            redirect_stdout(_Captured()) as stdout,
            redirect_stderr(_Captured()) as stderr,
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(torch.cuda, "is_available", lambda: False)
            yield stdout, stderr
    finally:
        package.handlers, package.propagate, level = logging_before
        package.setLevel(level)
        sys.argv, folder, variables = before
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(variables)


@pytest.fixture(scope="session")
def gtzan_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four genres in GTZAN's layout, four clips of 7 s each: two images a clip."""
    root = tmp_path_factory.mktemp("gtzan") / "genres_original"
    for genre, style in zip(("blues", "jazz", "metal", "rock"), composer.STYLES, strict=False):
        (root / genre).mkdir(parents=True)
        for index in range(4):
            samples = composer.compose(style, index, seed=1, seconds=7.0)
            save(root / genre / f"{genre}.{index:05d}.wav", samples, composer.SAMPLE_RATE)
    return root


@pytest.fixture(scope="session")
def images(gtzan_tree: Path, command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of images made from it by `preprocess`; read-only."""
    output = tmp_path_factory.mktemp("images") / "gtzan_images"
    command(
        "preprocess.py",
        "--dataset",
        "gtzan",
        "--input",
        gtzan_tree,
        "--output",
        output,
        cwd=output.parent,
    )
    return output


@pytest.fixture(scope="session")
def trained(images: Path, command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a tiny cgan, next to that of a dcgan; read-only."""
    folder = tmp_path_factory.mktemp("trained")
    for gan in ("dcgan", "cgan"):
        command(
            "run.py", "--gan", gan, "--dataset", images, "--epochs", 2, "--width", 4,
            "--standing-batches", 2,
            "--device", "cpu", "--output", folder / gan, cwd=folder,
        )  # fmt: skip
    return folder / "cgan"


class Elements(HTMLParser):
    """Every start tag of a page with its attributes, and its text, in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.text.append(data.strip())

    def all(self, tag: str, attribute: str) -> list[str]:
        """One attribute of every element of a kind; those without it are left out."""
        values = (attributes.get(attribute) for name, attributes in self.found if name == tag)
        return [value for value in values if value is not None]
