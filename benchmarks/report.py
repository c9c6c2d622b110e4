"""The speed benchmarks, one after the other, into docs/benchmarks.md: `make bench`, and `make gpu` for a GPU.

    PYTHONPATH=. python benchmarks/report.py [--gpu]

Each writes its own part of the page and leaves the other one as it is.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from common import PROJECT, tell

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

HEAD = """# How fast it is, and what bounds it

Written by `make bench`: this project, what people would use instead, and what the machine allows, in turn
in the same rounds. Ratios are medians of the rounds' own ratios, with the least and the greatest; they mean
more than the absolute times, which other work on the machine disturbs. Files lie in memory where the system
has a place for that.
"""
# Begins the part that `make gpu` writes.
ON_GPU = "# On a GPU"
OWED = f"""{ON_GPU}

**Every figure on a GPU is owed**: no GPU was at hand. There the step is recorded as one CUDA graph, the
dataset and all random draws are on the device, and nothing waits for it between logging ticks; `--precision
tf32` and `bfloat16` are there to be measured. `make gpu` runs the tests that need a GPU and `doctor`, and
fills this part.
"""


def machine() -> str:
    """What this was measured on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA GPU"
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores ({platform.machine()}), {gpu}; "
        f"Python {platform.python_version()}, {packages}."
    )


def measured(scripts: dict[str, tuple[str, ...]]) -> list[str]:
    """What the scripts print, which is told too."""
    sections = []
    for script, flags in scripts.items():
        tell(f"== {script}")
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
    """What `doctor` says of this machine; a figure of a device that computes wrong is worth nothing."""
    line = [sys.executable, "-m", "musicspectrogan", "doctor"]
    done = subprocess.run(line, cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, flush=True)
    return f"```text\n{done.stdout.strip()}\n```"


def rewrite(page: Path, sections: list[str], *, on_gpu: bool) -> None:
    """Put sections in place of one part of the page, and leave the other part as it is."""
    before = page.read_text("utf-8") if page.is_file() else ""
    of_cpu, found, of_gpu = before.partition(ON_GPU)
    fresh = "\n".join(section.rstrip() + "\n" for section in sections)
    kept = of_cpu.rstrip() + "\n" if on_gpu else (found + of_gpu or OWED)
    write_text(page, f"{kept}\n{fresh}" if on_gpu else f"{fresh}\n{kept}")


def main() -> None:
    """Run the scripts, print what they print, and write a part of the page."""
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
