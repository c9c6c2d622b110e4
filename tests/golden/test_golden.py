"""Golden runs: the losses of 50 steps of each recipe, which a refactoring must not change.

A change that is meant to alter training records them anew: `python tests/golden/test_golden.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
LOSSES = HERE / "losses"
IMAGES = ROOT / "tests" / "old" / "images"
IMAGES_128 = ROOT / "tests" / "old" / "images_128"

# 27 images, and a network that takes seconds. The rate is fixed: the width must not choose it here.
SMALL = (
    "--split all --width 4 --batch-size 8 --lr 0.0005 --images 400 --log-every 1 "
    "--standing-batches 1 --eval-every 0 --snapshot-every 100000 --device cpu"
)
RUNS = {
    "dcgan": "--config dcgan",
    "cgan": "--config cgan",
    "dcgan-best": "--config dcgan-best",
    "cgan-best": "--config cgan-best",
    "dcgan-best-128": "--config dcgan-best-128",
    "cgan-best-128": "--config cgan-best-128",
    "demo": "--config demo",
    "pairs": "--config cgan-best --pairs",
    "annealed": "--config cgan-best --anneal-images 300 --augment 0.5",
    "unconditional": "--gan unconditional --loss relativistic --r1 1 --r2 1",
    "projection": "--gan projection --loss hinge --spectral-norm --windows",
}


def losses_of(name: str, folder: Path) -> pandas.DataFrame:
    """What metrics.csv says of each step of that run, but for its speed."""
    images = IMAGES_128 if name.endswith("128") else IMAGES
    command = [
        sys.executable,
        HERE / "double_precision.py",
        "train",
        *RUNS[name].split(),
        *SMALL.split(),
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [*command, "--dataset", images, "--output", folder / name],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return pandas.read_csv(folder / name / "metrics.csv").drop(columns="images_per_second")


@pytest.mark.parametrize("name", RUNS)
def test_fifty_steps_give_the_recorded_losses(name: str, tmp_path: Path) -> None:
    pandas.testing.assert_frame_equal(
        losses_of(name, tmp_path), pandas.read_csv(LOSSES / f"{name}.csv"), rtol=1e-5, atol=0
    )


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        for run in RUNS:
            losses_of(run, Path(folder)).to_csv(LOSSES / f"{run}.csv", index=False)
            sys.stdout.write(f"recorded {run}\n")
