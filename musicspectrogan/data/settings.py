"""The settings of preprocessing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.config import check_within, read_fields
from musicspectrogan.data.sources import Selection
from musicspectrogan.errors import UserError, check_choice
from musicspectrogan.filesystem import expand_home

LOKY, DASK = "loky", "dask"
MOST_JOBS = 256


@dataclass(frozen=True)
class PreprocessConfig:
    """Turn music into mel-spectrogram PNGs in class folders."""

    dataset: str = ""
    """Kind of dataset: gtzan, fma, folder (class folders of audio) or demo (composes music)."""
    input: Path | None = None
    """Folder of the music; for demo, the folder to compose it in (default: demo_music)."""
    output: Path = Path("spectrogram_images")
    """Folder for the images; repeat the command to continue there."""
    jobs: int | None = None
    """Worker processes; None for one per core. With 1, a crash in a decoder ends the command."""
    backend: str = LOKY
    """Where to convert: loky (processes of this machine) or dask (workers of a scheduler)."""
    scheduler: str | None = None
    """dask only: address of the scheduler, tcp://HOST:PORT."""
    image_size: int = 64
    """Height and width in pixels: 64, 128 or 256; an image always spans about three seconds."""
    selection: Selection = field(default_factory=Selection)
    """Which tracks to convert."""
    strict: bool = False
    """Exit with an error if any file is skipped."""
    overwrite: bool = False
    """Replace the images of an earlier run with other settings."""
    sample_rate: int | None = None
    """Hz; None for 22050."""
    n_fft: int | None = None
    """Samples per FFT frame; None for 2048."""
    hop_length: int | None = None
    """Samples between frames; None for 1024 at 64 pixels, 512 at 128, 256 at 256."""
    f_min: float | None = None
    """Lowest frequency in Hz; None for 0."""
    f_max: float | None = None
    """Highest frequency in Hz; None for 8000."""
    top_db: float | None = None
    """Range in dB from white to black; None for 80."""

    @read_fields
    def __post_init__(self) -> None:
        object.__setattr__(self, "input", self.input and expand_home(self.input))
        object.__setattr__(self, "output", expand_home(self.output))
        check_within(self, jobs=(1, MOST_JOBS))
        check_choice("--backend", self.backend, (LOKY, DASK))
        if self.backend == DASK and not re.fullmatch(r"tcp://.+:\d{1,5}", self.scheduler or ""):
            raise UserError(
                "--backend dask needs --scheduler tcp://HOST:PORT, "
                "the address that `dask scheduler` prints"
            )
        if self.backend == DASK and self.jobs is not None:
            raise UserError(
                "--jobs has no effect with --backend dask, which uses all workers of the cluster"
            )
        if self.backend != DASK and self.scheduler:
            raise UserError("--scheduler has no effect without --backend dask")

    def spectrogram(self) -> SpectrogramConfig:
        """Return the settings of the spectrogram images."""
        return SpectrogramConfig.for_image_size(
            self.image_size,
            sample_rate=self.sample_rate,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            f_min=self.f_min,
            f_max=self.f_max,
            top_db=self.top_db,
        )
