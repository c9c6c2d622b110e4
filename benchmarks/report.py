"""Run the speed benchmarks and write docs/benchmarks.md: `make bench`, and `make gpu` for a GPU.

    PYTHONPATH=. python benchmarks/report.py [--gpu]

Each replaces its own part of the page and keeps the other one.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import textwrap
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import torch
from common import PROJECT, log_progress

from musicspectrogan.filesystem import write_text

PAGE = PROJECT / "docs" / "benchmarks.md"
SCRIPTS = {
    "preprocessing": (),
    "training": ("--device", "cpu"),
    "startup": (),
    "generation": ("--device", "cpu"),
}
SCRIPTS_ON_GPU = {"training": ("--device", "cuda"), "generation": ("--device", "cuda")}
PACKAGES = ("torch", "numpy", "scipy", "librosa", "soundfile", "pillow")

HEAD = """# Speed, and what limits it

Written by `make bench`: this project, what people would use instead, and what the machine allows,
measured alternately in the same rounds. Ratios are medians of the rounds' own ratios, with the
smallest and the largest. They mean more than absolute times, which other work on the machine
disturbs. Files are in memory where the system provides it.
"""
# Begins the part that `make gpu` writes.
ON_GPU = "# On a GPU"
NOT_MEASURED = f"""{ON_GPU}

**Not measured yet.** On a GPU each step is recorded as one CUDA graph, the dataset and all random
draws are on the device, and nothing waits for it between two lines of the log; `--precision tf32`
and `bfloat16` are there to be measured. `make gpu` runs the tests that need a GPU and `doctor`, and
fills in this part.
"""


def machine() -> str:
    """Describe the hardware and the versions of the packages."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA GPU"
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    cores = f"{os.cpu_count()} cores ({platform.machine()})"
    return textwrap.fill(
        f"Measured on {datetime.now(timezone.utc):%Y-%m-%d}: {cores}, {gpu}; "
        f"Python {platform.python_version()}, {packages}.",
        width=100,
    )


def measured(scripts: dict[str, tuple[str, ...]]) -> list[str]:
    """Run the scripts, and return what they print."""
    sections = []
    for script, flags in scripts.items():
        log_progress(f"== {script}")
        done = subprocess.run(
            [sys.executable, PROJECT / "benchmarks" / f"{script}.py", *flags],
            cwd=PROJECT,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        print(done.stdout, flush=True)
        sections.append(done.stdout)
    return sections


def doctors_report() -> str:
    """Return the output of `doctor`: a fast device may compute wrong results."""
    line = [sys.executable, "-m", "musicspectrogan", "doctor"]
    done = subprocess.run(line, cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, flush=True)
    return f"```text\n{done.stdout.strip()}\n```"


def rewrite(page: Path, sections: list[str], *, on_gpu: bool) -> None:
    """Replace one part of the page, for CPU or GPU, and keep the other."""
    before = page.read_text("utf-8") if page.is_file() else ""
    of_cpu, found, of_gpu = before.partition(ON_GPU)
    fresh = "\n".join(section.rstrip() + "\n" for section in sections)
    kept = of_cpu.rstrip() + "\n" if on_gpu else (found + of_gpu or NOT_MEASURED)
    write_text(page, f"{kept}\n{fresh}" if on_gpu else f"{fresh}\n{kept}")


def main() -> None:
    """Run the scripts, and write their part of the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", action="store_true", help="measure on a GPU")
    on_gpu = parser.parse_args().gpu
    if on_gpu and not torch.cuda.is_available():
        parser.error("--gpu: this machine has no GPU that PyTorch can use; `doctor` says more")
    if on_gpu:
        sections = [
            ON_GPU,
            "Written by `make gpu`.",
            machine(),
            doctors_report(),
            *measured(SCRIPTS_ON_GPU),
        ]
    else:
        sections = [HEAD, machine(), *measured(SCRIPTS)]
    rewrite(PAGE, sections, on_gpu=on_gpu)
    print(f"Written to {PAGE.relative_to(PROJECT)}")


if __name__ == "__main__":
    main()
