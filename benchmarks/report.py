"""All four speed benchmarks, one after the other, into docs/benchmarks.md: `make bench`."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version

import torch
from common import PROJECT, tell

from musicspectrogan.filesystem import write_text

SCRIPTS = ("preprocessing", "training", "startup", "generation")
PACKAGES = ("torch", "numpy", "scipy", "librosa", "soundfile", "pillow")

HEAD = """# How fast it is, and what bounds it

Written by `make bench`: this project, what people would use instead, and what the machine allows, in turn
in the same rounds. Ratios are medians of the rounds' own ratios, with the least and the greatest; they mean
more than the absolute times, which other work on the machine disturbs. Files lie in memory where the system
has a place for that.
"""


def machine() -> str:
    """What this was measured on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA GPU"
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores ({platform.machine()}), {gpu}; "
        f"Python {platform.python_version()}, {packages}."
    )


def main() -> None:
    """Run the scripts, print what they print, and write the page."""
    sections = [HEAD, machine()]
    for script in SCRIPTS:
        tell(f"== {script}")
        done = subprocess.run(
            [sys.executable, PROJECT / "benchmarks" / f"{script}.py"],
            cwd=PROJECT,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        print(done.stdout, flush=True)
        sections.append(done.stdout)
    page = PROJECT / "docs" / "benchmarks.md"
    write_text(page, "\n".join(section.rstrip() + "\n" for section in sections))
    print(f"Written to {page.relative_to(PROJECT)}")


if __name__ == "__main__":
    main()
