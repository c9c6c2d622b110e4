"""Assert that two datasets, or two runs, are the same."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import torch
from datasets import dataset_bytes, files_in, images_in, manifest, report

from musicspectrogan.training.run_checkpoints import load_checkpoint

# 16 training images of 4 genres: 4 steps an epoch.
SMALL = (
    "--width",
    2,
    "--batch-size",
    4,
    "--standing-batches",
    2,
    "--log-every",
    3,
    "--device",
    "cpu",
)


def _without_times(lines: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Ignore modification times: copies of music files differ in them."""
    return {track: {**line, "modified_ns": ""} for track, line in lines.items()}


def assert_same_dataset(output: Path, whole: Path) -> None:
    """Assert equal files, bytes and reports, and that images, report and dataset.json agree."""
    assert files_in(output) == files_in(whole)
    assert _contents(output) == _contents(whole)
    assert _without_times(report(output)) == _without_times(report(whole))
    tracks = {track["id"]: track["segments"] for track in manifest(output)["tracks"]}
    lines = {name: int(line["segments"]) for name, line in report(output).items()}
    assert tracks == {name: count for name, count in lines.items() if count}
    assert sum(tracks.values()) == len(images_in(output))


def _contents(root: Path) -> dict[str, bytes]:
    """Return images and dataset.json, without the path of the music."""
    found = dataset_bytes(root)
    return found | {"dataset.json": re.sub(rb'"input": ".*"', b"", found["dataset.json"])}


def assert_same_run(run: Path, reference: Path, *, pictures: bool = True) -> None:
    """Assert equal weights, optimizer states, metrics (without the speed) and files.

    Args:
        pictures: False for runs with snapshots at other epochs.
    """
    ours, theirs = _tensors(run), _tensors(reference)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not [name for name in files_in(run) if name.endswith(".tmp")]
    if not pictures:
        return
    assert _metrics(run) == _metrics(reference)
    assert _lasting(run) == _lasting(reference)
    for path in (reference / "samples").iterdir():
        assert (run / "samples" / path.name).read_bytes() == path.read_bytes(), path.name


def _tensors(run: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of the newest checkpoint by name."""
    checkpoint = load_checkpoint(run)
    found = {
        f"{part}.{name}": tensor
        for part in ("generator", "discriminator", "ema")
        for name, tensor in getattr(checkpoint, part).items()
    }
    for part in ("optimizer_g", "optimizer_d"):
        for index, state in getattr(checkpoint, part)["state"].items():
            found |= {f"{part}.{index}.{name}": tensor for name, tensor in state.items()}
    return found


def _metrics(run: Path) -> list[dict[str, str]]:
    with open(run / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: row[name] for name in row if name != "images_per_second"} for row in rows]


def _lasting(run: Path) -> list[str]:
    """Return its files without those of TensorBoard, of which each start writes one."""
    return [name for name in files_in(run) if not name.startswith("tensorboard/")]
