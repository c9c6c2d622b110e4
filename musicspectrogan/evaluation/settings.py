"""The settings of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from musicspectrogan.config import check_at_least, read_fields
from musicspectrogan.errors import SettingError, UserError, check_choice
from musicspectrogan.generation.settings import LONGEST_SECONDS, SHORTEST_SECONDS
from musicspectrogan.launch import check_device

HELD_OUT_SPLITS = ("test", "validation", "held-out")
MUSICNN = "musicnn"
MIN_SAMPLES = 50
# 100,000 samples and their features take about 5 GB of memory.
MAX_SAMPLES = 100_000
# Real tracks and images that an evaluation needs at least: precision and recall look at the five
# nearest neighbours of an image, and intervals come from resampling tracks.
MIN_TRACKS = 4
MIN_IMAGES = 20


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure the quality of generated images, with the scores of real music for comparison."""

    checkpoint: Path | None = None
    """Run directory, checkpoint file, exported folder or zip, `latest` for the newest run, or
    `demo` for the model of this package."""
    images: Path | None = None
    """Instead of a checkpoint: a folder of PNGs from any model, flat or in class folders."""
    compare: tuple[Path, ...] = ()
    """Several runs, checkpoint files, exported folders or folders of PNGs to compare."""
    dataset: Path | None = None
    """Folder made by preprocess.py; None for the dataset that the checkpoint was trained on."""
    split: str | None = None
    """Real tracks to compare with: test, validation, or held-out (both). None for test, because
    best.pt is chosen on the validation tracks, or for held-out if there are too few test tracks."""
    samples: int = 2000
    """Images to generate, or the most to read from a folder; with `seconds`, windows of pieces."""
    seconds: float | None = None
    """Evaluate pieces of this length instead of single images, and their structure."""
    seed: int = 0
    """Seed of the samples and of the resampled clips."""
    output: Path | None = None
    """JSON file; a page of the same name is written next to it. None for evaluation.json in the run
    directory, or a name after the checkpoint, the folder or the length for others."""
    features: str | None = None
    """musicnn: also compare in the features of a network that was trained to tag real music, the
    same for every dataset. Its package must lie there; the command says how to install it."""
    device: str = "auto"
    """auto, cuda, cuda:N, mps or cpu."""

    @read_fields
    def __post_init__(self) -> None:
        check_device(self.device)
        check_at_least(self, seed=0)
        if self.split is not None:
            check_choice("split", self.split, HELD_OUT_SPLITS)
        if self.features is not None:
            check_choice("features", self.features, (MUSICNN,))
        if self.samples < MIN_SAMPLES:
            raise SettingError(
                "samples", f"{self.samples} are too few; at least {MIN_SAMPLES} are needed"
            )
        if self.samples > MAX_SAMPLES:
            raise SettingError(
                "samples", f"{self.samples} are too many; at most {MAX_SAMPLES} are allowed"
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
                "output",
                f"{self.output} is the name of a page; name a .json file, next to which "
                "the page is written",
            )
        sources = (self.checkpoint is not None) + (self.images is not None) + bool(self.compare)
        if sources > 1:
            raise UserError("give one of --checkpoint, --images and --compare")
