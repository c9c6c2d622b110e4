"""The settings of generating."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from musicspectrogan.config import check_at_least
from musicspectrogan.errors import SettingError, UserError, check_choice
from musicspectrogan.launch import check_device

FORMATS = ("wav", "flac", "ogg", "mp3")
LARGEST_SEED_LIST = 100_000
MOST_DIGITS = 18


@dataclass(frozen=True)
class GenerateConfig:
    """Make new music with a trained generator: images, sound, and a page to play it on."""

    checkpoint: Path | None = None
    """Run directory, checkpoint file, or `latest` for the newest run."""
    genre: str = "all"
    """Genre by name or index, or `all`; only for models that know genres."""
    count: int = 8
    """Samples of each genre."""
    seeds: str | None = None
    """Which samples, as 0-7 or 3,5,9; None for 0 to count - 1. The same seed is the same sound, always."""
    truncation: float = 1.0
    """Scale of the latents: below 1 more typical and less varied."""
    seconds: float | None = None
    """Length of one continuous piece; None for single images of some three seconds."""
    loop: bool = False
    """Let pieces end where they begin; not as mp3. A wav file has loop points for samplers."""
    morph: str | None = None
    """Glide between two genres in each piece, as in blues:jazz."""
    format: str = "wav"
    """wav, flac, ogg or mp3."""
    output: Path | None = None
    """Folder for the files; None for a new one below the run's generated/."""
    device: str = "auto"
    """auto, cuda, cuda:N, mps or cpu."""

    def __post_init__(self) -> None:
        check_device(self.device)
        check_at_least(self, count=1)
        check_choice("format", self.format, FORMATS)
        if not 0 < self.truncation <= 2:
            raise SettingError("truncation", f"{self.truncation} is not allowed; give more than 0, at most 2")
        if self.seconds is not None and not 0 < self.seconds <= 3600:
            raise SettingError("seconds", f"{self.seconds} is not allowed; give more than 0, at most 3600")
        if self.seconds is None and (self.loop or self.morph):
            raise UserError("--loop and --morph are for continuous pieces; give --seconds too")
        # Its encoder puts 1,105 samples before the first and fills the last frame; few players drop these.
        if self.loop and self.format == "mp3":
            raise UserError(
                "--loop with --format mp3: MP3 pads the sound with silence, so that it cannot loop without a "
                "gap; give --format wav, flac or ogg"
            )

    def seed_list(self) -> list[int]:
        """The seeds asked for.

        Raises:
            UserError: they are not written as numbers and ranges.
        """
        if self.seeds is None:
            return list(range(self.count))
        seeds: list[int] = []
        for part in self.seeds.split(","):
            first, dash, last = part.strip().partition("-")
            ends = (first, last if dash else first)
            if not all(end.isdecimal() and len(end) <= MOST_DIGITS for end in ends):
                raise SettingError("seeds", f"{self.seeds[:80]!r} is not allowed; write 0-7 or 3,5,9")
            numbers = range(int(ends[0]), int(ends[1]) + 1)
            if not numbers or len(seeds) + len(numbers) > LARGEST_SEED_LIST:
                raise SettingError("seeds", f"{self.seeds!r} names none, or more than {LARGEST_SEED_LIST}")
            seeds += numbers
        return list(dict.fromkeys(seeds))
