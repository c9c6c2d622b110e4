"""docs/tutorial.ipynb: runs from beginning to end, and shows what it says."""

from __future__ import annotations

import time
from pathlib import Path

import nbclient
import nbformat
import pytest
from conftest import ROOT, Elements, environment
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"


def shown(cell: nbformat.NotebookNode, kind: str) -> str:
    """What a cell shows in one form, such as `text/html`; empty if nothing."""
    return "".join(output.data.get(kind, "") for output in cell.outputs if "data" in output)


def printed(cell: nbformat.NotebookNode, stream: str = "stdout") -> str:
    """What a cell prints."""
    found = (output for output in cell.outputs if output.output_type == "stream")
    return "".join(output.text for output in found if output.name == stream)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for a kernel, and this process's environment ready for one."""
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def failure_of(client: BlockingKernelClient, cell: str) -> tuple[str, list[str]]:
    """Kind of the error that ends a cell, and the lines that the notebook shows of it."""
    while True:
        reply = client.get_shell_msg(timeout=120)
        if reply["parent_header"]["msg_id"] == cell:
            return reply["content"]["ename"], reply["content"]["traceback"]


def test_the_notebook_is_stored_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
    lines = [line for cell in notebook.cells for line in cell.source.splitlines()]
    assert max(map(len, lines)) <= 100


@pytest.mark.slow
def test_the_notebook_runs(folder: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": folder}}
    ).execute()
    cells = {cell.source: cell for cell in notebook.cells if cell.cell_type == "code"}

    def of(text: str) -> nbformat.NotebookNode:
        (cell,) = (cell for source, cell in cells.items() if text in source)
        return cell

    assert shown(of('model = ms.load("demo")'), "text/plain").startswith("Model(anylength_cgan")
    assert shown(of("plt.show"), "image/png")
    for text, captions in (
        ('model.play("drums", seeds=range(2))', ["drums, seed 0", "drums, seed 1"]),
        ("0.6", ["chords=0.6,arpeggio=0.4, seed 1", "chords=0.6,arpeggio=0.4, seed 2"]),
        ("seconds=10", ["bass, seed 5"]),
        ("loop=True", ["drums, seed 3"]),
        ("mine.play", ["drums, seed 0", "drums, seed 1"]),
    ):
        page = Elements(shown(of(text), "text/html"))
        assert page.text == captions and len(page.all("audio", "src")) == len(captions)
    assert (folder / "demo_images" / "dataset.json").is_file()
    assert shown(of("ms.train"), "text/plain") == "PosixPath('runs/00000-anylength_cgan-demo')"
    assert (folder / "runs/00000-anylength_cgan-demo/checkpoints/latest.pt").is_file()
    for text in ("ms.preprocess", "ms.train"):  # their bars
        assert "100%|" in printed(of(text), "stderr")
    assert "Samples will be rough: " in printed(of("ms.train"), "stderr")  # a warning
    assert "Done after" not in printed(of("ms.train"), "stderr")
    assert printed(of("result.verdict")).count("\n") == 1
    assert printed(of("figure.ratio")).startswith("frechet")


@pytest.mark.slow
def test_mistakes_and_the_stop_button_are_told_in_one_line(folder: Path, images: Path) -> None:
    manager, client = start_new_kernel(cwd=str(folder))
    try:
        # An error would make the kernel refuse a cell that comes at once.
        code = "import musicspectrogan as ms; ms.TrainingConfig(batch_size=1)"
        cell = client.execute(code, stop_on_error=False)
        kind, lines = failure_of(client, cell)
        assert kind == "SettingError"
        assert lines == ["SettingError: batch_size: 1 is not allowed; it must be from 2 to 65536"]
        cell = client.execute(
            f"ms.train(ms.TrainingConfig('cgan', {str(images)!r}, epochs=100_000, width=2,"
            " standing_batches=2, eval_every=0, device='cpu'), 'run')"
        )
        started = folder / "run" / "samples" / "epoch_0000.png"
        deadline = time.monotonic() + 120
        while not started.exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        manager.interrupt_kernel()
        kind, lines = failure_of(client, cell)
        assert kind == "Interrupted"
        assert lines[0].startswith("Interrupted: interrupted and saved after step ")
        assert lines[0].endswith("; resume continues from there") and len(lines) == 1
        assert (folder / "run" / "checkpoints" / "latest.pt").is_file()
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
