"""The settings of preprocessing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.config import check_within, read_fields
from musicspectrogan.data.sources import Selection
from musicspectrogan.errors import UserError, check_choice
from musicspectrogan.filesystem import expand_home

LOKY, DASK = "loky", "dask"
MOST_JOBS = 256
DOWNLOADED = "fma"
# Downloads that are for a subset which is not the default one.
LARGER_THAN_DEFAULT = ("medium", "large", "full")


@dataclass(frozen=True)
class PreprocessConfig:
    """Turn music into mel-spectrogram PNGs in class folders."""

    dataset: str = ""
    """Kind of dataset: gtzan, fma, folder (class folders of audio) or demo (composes music)."""
    input: Path | None = None
    """Folder or archive of the music; for demo, where to compose it (default: demo_music)."""
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
    download: str | None = None
    """FMA only: first download small, medium, large or full, or the metadata alone, to the input
    folder (default: fma), unless it is there. Repeat the command to continue an interrupted one."""
    mirror: str | None = None
    """Address of the folder with the archives to download; None for the dataset's own."""
    verify: bool = False
    """FMA only: first check the archives against their published SHA-1."""
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
        music = self.input or (Path(DOWNLOADED) if self.download else None)
        object.__setattr__(self, "input", music and expand_home(music))
        object.__setattr__(self, "output", expand_home(self.output))
        if self.download in LARGER_THAN_DEFAULT and self.selection.subset is None:
            object.__setattr__(self, "selection", replace(self.selection, subset=self.download))
        if self.mirror is not None and not self.download:
            raise UserError("--mirror has no effect without --download; remove it")
        if self.mirror is not None and not re.match(r"https?://[^/]", self.mirror):
            raise UserError(f"--mirror {self.mirror}: expected an address such as https://host/fma")
        check_within(self, jobs=(1, MOST_JOBS))
        check_choice("--backend", self.backend, (LOKY, DASK))
        if self.backend == DASK and not re.fullmatch(r"tcp://.+:\d{1,5}", self.scheduler or ""):
            raise UserError(
                "--backend dask needs --scheduler tcp://HOST:PORT, "
                "the address that `dask scheduler` prints"
            )
        if self.backend == DASK and self.jobs is not None:
            raise UserError(
                "--jobs has no effect with --backend dask, which uses all workers of the cluster; "
                "remove it"
            )
        if self.backend != DASK and self.scheduler:
            raise UserError("--scheduler has no effect without --backend dask; remove it")

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
