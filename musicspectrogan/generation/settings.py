"""Settings of `generate`, and of the audio files that commands write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from musicspectrogan.audio.tempo import BEATS_PER_BAR, Tempo
from musicspectrogan.config import check_at_least, check_within, read_fields
from musicspectrogan.errors import SettingError, UserError, check_choice
from musicspectrogan.launch import check_device

FORMATS = ("wav", "flac", "ogg", "mp3")
LOSSLESS = ("wav", "flac")
SAMPLE_RATES = (22050, 44100, 48000)
BIT_DEPTHS = (16, 24)

# Browsers cannot open a page with more sounds.
MAX_SOUNDS = 10_000
MAX_SEED_DIGITS = 18
# Samples of which `pick` keeps one.
MOST_CANDIDATES = 64
DEFAULT_COUNT = 8
DEFAULT_AMOUNT = 0.3
SHORTEST_SECONDS, LONGEST_SECONDS = 0.1, 3600
MIN_BPM, MAX_BPM = 20, 400


@dataclass(frozen=True)
class SoundConfig:
    """Audio files, and how images become sound: mono, at -23 LUFS, or less where peaks would exceed
    -1 dBFS."""

    format: str = "wav"
    """wav, flac, ogg or mp3."""
    sample_rate: int | None = None
    """Hz: 22050, 44100 or 48000; None for that of the images. A higher rate adds no content."""
    bit_depth: int | None = None
    """Bits per sample in wav and flac, 16 or 24; None for 16."""
    vocoder: str | None = None
    """File of a vocoder, or none to do without; None for that of the checkpoint or the dataset, or
    else, for images of 64 mel bands with the default settings, the one in this package."""

    @read_fields
    def __post_init__(self) -> None:
        check_choice("--format", self.format, FORMATS)
        for flag, value, allowed in (
            ("--sample-rate", self.sample_rate, SAMPLE_RATES),
            ("--bit-depth", self.bit_depth, BIT_DEPTHS),
        ):
            if value is not None and value not in allowed:
                raise UserError(f"{flag}: {value} is not one of {', '.join(map(str, allowed))}")
        if self.bit_depth is not None and self.format not in LOSSLESS:
            raise UserError(
                f"--bit-depth with --format {self.format}: the format has no bit depth; omit "
                f"--bit-depth, or give --format {' or '.join(LOSSLESS)}"
            )

    @property
    def bits(self) -> int:
        """Bits per sample, for lossless formats."""
        return self.bit_depth or BIT_DEPTHS[0]

    def rate_for(self, image_rate: int) -> int:
        """Sample rate in Hz of the sound of images whose settings have the rate `image_rate`."""
        return self.sample_rate or image_rate

    def describe(self, image_rate: int, max_hz: float) -> str:
        """One line about the sound of images with this sample rate and highest frequency."""
        depth = f"{self.bits} bit " if self.format in LOSSLESS else ""
        return (
            f"{self.rate_for(image_rate):,} Hz, mono, {depth}{self.format.upper()}, "
            f"content up to {max_hz:,.0f} Hz"
        )


@dataclass(frozen=True)
class GenerateConfig:
    """Generate music with a trained model: images, sound, and a page to play it on."""

    checkpoint: Path | None = None
    """Run directory, checkpoint file, exported folder or zip, `latest` for the newest run, or
    `demo` for the model of this package."""
    genre: str | None = None
    """Name or index; a list as in drums,bass; a mixture as in drums=0.7,bass=0.3. None for all."""
    count: int | None = None
    """Samples of each genre; variations with --vary, steps with --between. None for 8."""
    seeds: str | None = None
    """Which samples, as 0-7 or 3,5,9; None for 0 to count - 1. A seed always has the same sound."""
    pick: int | None = None
    """Candidates for each sample, from 2 to 64, of which the one is kept that the discriminator of
    the checkpoint finds most real. None for no candidates."""
    vary: int | None = None
    """A seed to vary: its own sound first, then sounds close to it."""
    amount: float | None = None
    """Distance of variations from the seed's own sound; 1 gives unrelated sounds. None for 0.3."""
    between: str | None = None
    """Two seeds as in 3:7: interpolate from the sound of the first to that of the second."""
    truncation: float = 1.0
    """Scale of the latents: below 1 gives more typical and less varied sounds."""
    seconds: float | None = None
    """Length of one continuous piece; None for single images of about three seconds."""
    bars: int | None = None
    """Length in bars of four beats at --bpm, instead of --seconds."""
    bpm: float | None = None
    """Tempo for --bars, 20 to 400: sets the length, the tags of the files, and the clock of GANs of
    any length, whose music follows it approximately. The music of other GANs does not follow it."""
    loop: bool = False
    """Make pieces that loop without a seam; not as mp3. wav files get loop points for samplers."""
    morph: str | None = None
    """Glide between two genres in each piece, as in blues:jazz."""
    sound: SoundConfig = field(default_factory=SoundConfig)
    output: Path | None = None
    """Folder for the files; None for a new one in generated/, in the run if the checkpoint is of
    one."""
    device: str = "auto"
    """auto, cuda, cuda:N, mps or cpu."""

    @read_fields
    def __post_init__(self) -> None:
        check_device(self.device)
        check_at_least(self, count=1, vary=0)
        check_within(self, pick=(2, MOST_CANDIDATES))
        if self.n_samples > MAX_SOUNDS:
            raise UserError(
                f"--count: {self.n_samples} is not allowed; it must be at most {MAX_SOUNDS}"
            )
        if not 0 < self.truncation <= 2:
            raise SettingError(
                "truncation", f"{self.truncation} is not allowed; give more than 0, at most 2"
            )
        if self.seconds is not None and not SHORTEST_SECONDS <= self.seconds <= LONGEST_SECONDS:
            raise SettingError(
                "seconds",
                f"{self.seconds} is not allowed; give {SHORTEST_SECONDS} to {LONGEST_SECONDS}",
            )
        self._check_conflicts()
        self._check_bars()
        # MP3 encoders put 1,105 samples before the first and fill up the last frame; few players
        # remove these.
        if self.loop and self.sound.format == "mp3":
            raise UserError(
                "--loop with --format mp3: MP3 pads the sound with silence and cannot loop without "
                "a gap; give --format wav, flac or ogg"
            )
        if self.amount is not None and not 0 < self.amount <= 1:
            raise UserError(f"--amount: {self.amount} is not allowed; give more than 0, at most 1")
        if self.vary is not None and self.vary >= 10**MAX_SEED_DIGITS:
            raise UserError(f"--vary: a seed has at most {MAX_SEED_DIGITS} digits")
        if self.between is not None:
            self.ends()
            if self.n_samples < 2:
                raise UserError(
                    "--between with --count 1: the count includes both ends; give --count 2 or more"
                )
        if self.seeds is not None:
            self.seed_list()

    def _check_conflicts(self) -> None:
        """Raise UserError where a flag would have no effect."""
        given = {
            f"--{name}": getattr(self, name) is not None
            for name in ("seeds", "count", "pick", "vary", "between", "genre", "morph")
        }
        for first, second, why in (
            ("--seeds", "--count", "--seeds sets which and how many"),
            ("--seeds", "--vary", "--vary names its seed"),
            ("--seeds", "--between", "--between names its seeds"),
            ("--pick", "--seeds", "--pick chooses the seeds, --count sets how many"),
            ("--pick", "--vary", "--vary names its seed"),
            ("--pick", "--between", "--between names its seeds"),
            ("--vary", "--between", "both start from a seed"),
            ("--genre", "--morph", "--morph names its genres"),
        ):
            if given[first] and given[second]:
                raise UserError(f"{first} with {second}: {why}; give only one of the two")
        if self.amount is not None and self.vary is None:
            raise UserError("--amount is the distance of variations; give --vary SEED too")
        if self.seconds is None and self.bars is None and (self.loop or self.morph is not None):
            raise UserError(
                "--loop and --morph need continuous pieces; give --seconds too, or --bpm and --bars"
            )

    def _check_bars(self) -> None:
        """Raise UserError unless bars and tempo are given together, alone, and in range."""
        if self.bpm is None and self.bars is None:
            return
        given, other = ("--bpm", "--bars") if self.bpm is not None else ("--bars", "--bpm")
        if self.seconds is not None:
            raise UserError(
                f"{given} with --seconds: --bpm and --bars set the length of a piece; give either "
                "these or --seconds"
            )
        if self.bpm is None or self.bars is None:
            raise UserError(f"{given} without {other}: the length needs both; give {other} too")
        if not MIN_BPM <= self.bpm <= MAX_BPM:
            raise UserError(f"--bpm: {self.bpm:g} is not allowed; give {MIN_BPM} to {MAX_BPM}")
        longest = int(LONGEST_SECONDS * self.bpm / 60 / BEATS_PER_BAR)
        if not 1 <= self.bars <= longest:
            raise UserError(
                f"--bars: {self.bars} is not allowed; at {self.bpm:g} BPM give 1 to {longest}"
            )

    @property
    def n_samples(self) -> int:
        """Number of samples of each genre, variations, or steps."""
        return DEFAULT_COUNT if self.count is None else self.count

    @property
    def tempo(self) -> Tempo | None:
        """Tempo and number of beats, where a length in bars is given."""
        if self.bpm is None or self.bars is None:
            return None
        return Tempo(self.bpm, self.bars * BEATS_PER_BAR)

    @property
    def length(self) -> float | None:
        """Seconds of each piece; None for single images."""
        if self.bpm is None or self.bars is None:
            return self.seconds
        return 60 * self.bars * BEATS_PER_BAR / self.bpm

    def seed_list(self) -> Sequence[int]:
        """The seeds that `seeds` or `count` select.

        Raises:
            UserError: `seeds` is not a list of numbers and ranges.
        """
        if self.seeds is None:
            return range(self.n_samples)
        seeds: list[int] = []
        for part in self.seeds.split(","):
            first, dash, last = part.strip().partition("-")
            last = last if dash else first
            if not (_is_seed(first) and _is_seed(last)):
                raise SettingError(
                    "seeds", f"{self.seeds[:80]!r} is not allowed; write 0-7 or 3,5,9"
                )
            numbers = range(int(first), int(last) + 1)
            if not numbers or len(seeds) + len(numbers) > MAX_SOUNDS:
                raise SettingError(
                    "seeds", f"{self.seeds[:80]!r} has none, or more than {MAX_SOUNDS}"
                )
            seeds += numbers
        return list(dict.fromkeys(seeds))

    def ends(self) -> tuple[int, int]:
        """The two seeds of `between`.

        Raises:
            UserError: these are not two different seeds.
        """
        text = self.between or ""
        first, _, last = text.partition(":")
        if not (_is_seed(first) and _is_seed(last)) or int(first) == int(last):
            raise UserError(f"--between: {text[:80]!r} is not allowed; write two seeds, as in 3:7")
        return int(first), int(last)


def _is_seed(text: str) -> bool:
    return text.isdecimal() and len(text) <= MAX_SEED_DIGITS
