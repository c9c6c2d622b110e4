"""The settings of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from musicspectrogan.config import check_at_least
from musicspectrogan.errors import SettingError, UserError, check_choice
from musicspectrogan.generation.settings import LONGEST_SECONDS, SHORTEST_SECONDS
from musicspectrogan.launch import check_device

HELD_OUT_SPLITS = ("test", "validation", "held-out")
# Fewer samples than this cannot be compared with anything.
FEWEST_SAMPLES = 50
# 100,000 take some 5 GB of memory with their features.
MOST_SAMPLES = 100_000


@dataclass(frozen=True)
class EvaluateConfig:
    """Say how good generated images are, beside what real music scores."""

    checkpoint: Path | None = None
    """Run directory, checkpoint file, or `latest` for the newest run."""
    images: Path | None = None
    """In place of a checkpoint: a folder of PNGs, flat or in class folders, made by whatever model."""
    compare: tuple[Path, ...] = ()
    """Several runs, checkpoint files or folders of PNGs, to be shown side by side."""
    dataset: Path | None = None
    """Folder made by preprocess.py; None for the one that the checkpoint was trained on."""
    split: str | None = None
    """Real tracks to judge by: test, validation, or held-out, which is both; None for test, since best.pt is
    chosen by the validation tracks, or for held-out where the test tracks are too few."""
    samples: int = 2000
    """Images to generate, or at most to take from a folder; with `seconds`, windows of pieces."""
    seconds: float | None = None
    """Judge pieces of this length in place of single images: their windows, and how these hang together."""
    seed: int = 0
    """Which samples, and how clips are resampled."""
    output: Path | None = None
    """JSON file, with the page of the same name beside it; None for evaluation.json in the run directory."""
    device: str = "auto"
    """auto, cuda, cuda:N, mps or cpu."""

    def __post_init__(self) -> None:
        check_device(self.device)
        check_at_least(self, seed=0)
        if self.split is not None:
            check_choice("split", self.split, HELD_OUT_SPLITS)
        if self.samples < FEWEST_SAMPLES:
            raise SettingError(
                "samples", f"{self.samples} are too few; at least {FEWEST_SAMPLES} are needed"
            )
        if self.samples > MOST_SAMPLES:
            raise SettingError(
                "samples", f"{self.samples} are too many; at most {MOST_SAMPLES} are allowed"
            )
        if self.seconds is not None and not SHORTEST_SECONDS <= self.seconds <= LONGEST_SECONDS:
            raise SettingError(
                "seconds",
                f"{self.seconds:g} is not allowed; give {SHORTEST_SECONDS} to {LONGEST_SECONDS}",
            )
        if self.images is not None and not self.images.is_dir():
            raise SettingError("images", f"{self.images}: there is no such folder")
        if self.output is not None and self.output.is_dir():
            raise SettingError(
                "output", f"{self.output} is a folder; name a file, for instance evaluation.json"
            )
        if self.output is not None and self.output.suffix == ".html":
            raise SettingError(
                "output", f"{self.output} would be the page; name a .json, beside which it lies"
            )
        subjects = (self.checkpoint is not None) + (self.images is not None) + bool(self.compare)
        if subjects > 1:
            raise UserError("give one of --checkpoint, --images and --compare")
