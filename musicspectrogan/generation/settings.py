"""The settings of generating, and of sound files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from musicspectrogan.audio.tempo import BEATS_PER_BAR, Tempo
from musicspectrogan.config import check_at_least
from musicspectrogan.errors import SettingError, UserError, check_choice
from musicspectrogan.launch import check_device

FORMATS = ("wav", "flac", "ogg", "mp3")
# Those that keep every sample as it is.
LOSSLESS = ("wav", "flac")
SAMPLE_RATES = (22050, 44100, 48000)
BIT_DEPTHS = (16, 24)

# Sounds of one command: more are no page that a browser opens.
MOST_SOUNDS = 10_000
MOST_DIGITS = 18
USUAL_COUNT = 8
USUAL_AMOUNT = 0.3
SHORTEST_SECONDS, LONGEST_SECONDS = 0.1, 3600
SLOWEST_BPM, FASTEST_BPM = 20, 400


@dataclass(frozen=True)
class SoundConfig:
    """How sounds are written: always mono, at equal loudness."""

    format: str = "wav"
    """wav, flac, ogg or mp3."""
    sample_rate: int | None = None
    """Hz: 22050, 44100 or 48000; None for the images' own. No rate adds what the images do not have."""
    bit_depth: int | None = None
    """Bits of a sample in wav and flac, 16 or 24; None for 16."""

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
                f"--bit-depth with --format {self.format}: its samples have no number of bits; leave "
                f"--bit-depth away, or give --format {' or '.join(LOSSLESS)}"
            )

    @property
    def bits(self) -> int:
        """Bits of a sample, for formats that have them."""
        return self.bit_depth or BIT_DEPTHS[0]

    def describe(self, sample_rate: int, highest_hz: float) -> str:
        """In one line, for images of that rate and highest frequency."""
        rate = self.sample_rate or sample_rate
        depth = f"{self.bits} bit " if self.format in LOSSLESS else ""
        return (
            f"{rate:,} Hz, mono, {depth}{self.format.upper()}, content up to {highest_hz:,.0f} Hz"
        )


@dataclass(frozen=True)
class GenerateConfig:
    """Make new music with a trained generator: images, sound, and a page to play it on."""

    checkpoint: Path | None = None
    """Run directory, checkpoint file, or `latest` for the newest run."""
    genre: str | None = None
    """By name or index; several as in drums,bass; a mixture as in drums=0.7,bass=0.3. None for all."""
    count: int | None = None
    """Samples of each genre; variations with --vary, steps with --between. None for 8."""
    seeds: str | None = None
    """Which samples, as 0-7 or 3,5,9; None for 0 to count - 1. The same seed is the same sound, always."""
    vary: int | None = None
    """A seed to vary: its own sound comes first, then others near it."""
    amount: float | None = None
    """How far variations are from the seed's own sound: 1 is another sound altogether. None for 0.3."""
    between: str | None = None
    """Two seeds as in 3:7: their sounds, and those on the way from one to the other."""
    truncation: float = 1.0
    """Scale of the latents: below 1 more typical and less varied."""
    seconds: float | None = None
    """Length of one continuous piece; None for single images of some three seconds."""
    bars: int | None = None
    """Length in bars of four beats at --bpm, in place of seconds."""
    bpm: float | None = None
    """Tempo for --bars, 20 to 400: it sets the length, the files' tags, and the clock of GANs of any length,
    which their music follows more or less; other GANs' does not."""
    loop: bool = False
    """Let pieces end where they begin; not as mp3. A wav file has loop points for samplers."""
    morph: str | None = None
    """Glide between two genres in each piece, as in blues:jazz."""
    sound: SoundConfig = field(default_factory=SoundConfig)
    output: Path | None = None
    """Folder for the files; None for a new one below the run's generated/."""
    device: str = "auto"
    """auto, cuda, cuda:N, mps or cpu."""

    def __post_init__(self) -> None:
        check_device(self.device)
        check_at_least(self, count=1, vary=0)
        if self.number > MOST_SOUNDS:
            raise UserError(f"--count: {self.number} is not allowed; it is at most {MOST_SOUNDS}")
        if not 0 < self.truncation <= 2:
            raise SettingError(
                "truncation", f"{self.truncation} is not allowed; give more than 0, at most 2"
            )
        if self.seconds is not None and not SHORTEST_SECONDS <= self.seconds <= LONGEST_SECONDS:
            raise SettingError(
                "seconds",
                f"{self.seconds} is not allowed; give {SHORTEST_SECONDS} to {LONGEST_SECONDS}",
            )
        self._refuse_what_would_be_ignored()
        self._check_bars()
        # Its encoder puts 1,105 samples before the first and fills the last frame; few players drop these.
        if self.loop and self.sound.format == "mp3":
            raise UserError(
                "--loop with --format mp3: MP3 pads the sound with silence, so that it cannot loop without a "
                "gap; give --format wav, flac or ogg"
            )
        if self.amount is not None and not 0 < self.amount <= 1:
            raise UserError(f"--amount: {self.amount} is not allowed; give more than 0, at most 1")
        if self.vary is not None and self.vary >= 10**MOST_DIGITS:
            raise UserError(f"--vary: a seed has at most {MOST_DIGITS} digits")
        if self.between is not None:
            self.ends()
            if self.number < 2:
                raise UserError(
                    "--between with --count 1: both ends are among them; give --count 2 or more"
                )
        if self.seeds is not None:
            self.seed_list()

    def _refuse_what_would_be_ignored(self) -> None:
        """Raise UserError for two flags of which one would have no effect."""
        given = {
            f"--{name}": getattr(self, name) is not None
            for name in ("seeds", "count", "vary", "between")
        }
        given |= {"--genre": self.genre is not None, "--morph": self.morph is not None}
        for first, second, why in (
            ("--seeds", "--count", "--seeds says which and how many"),
            ("--seeds", "--vary", "--vary names its seed"),
            ("--seeds", "--between", "--between names its seeds"),
            ("--vary", "--between", "these are two ways to go from a seed"),
            ("--genre", "--morph", "--morph names its genres"),
        ):
            if given[first] and given[second]:
                raise UserError(f"{first} with {second}: {why}; give one of the two")
        if self.amount is not None and self.vary is None:
            raise UserError("--amount is how far variations go; give --vary SEED too")
        if self.seconds is None and self.bars is None and (self.loop or self.morph is not None):
            raise UserError(
                "--loop and --morph are for continuous pieces; give --seconds too, or --bpm and --bars"
            )

    def _check_bars(self) -> None:
        """Raise UserError unless bars and tempo are both given, alone, and make a length that is allowed."""
        given = [f"--{name}" for name in ("bpm", "bars") if getattr(self, name) is not None]
        if given and self.seconds is not None:
            raise UserError(
                f"{given[0]} with --seconds: --bpm and --bars say how long a piece is; leave --seconds away, "
                "or give it alone"
            )
        if len(given) == 1:
            other = "--bars" if given[0] == "--bpm" else "--bpm"
            raise UserError(
                f"{given[0]} without {other}: only both say how long it is; give {other} too"
            )
        if not given:
            return
        if not SLOWEST_BPM <= self.bpm <= FASTEST_BPM:
            raise UserError(
                f"--bpm: {self.bpm:g} is not allowed; give {SLOWEST_BPM} to {FASTEST_BPM}"
            )
        if (
            most := int(LONGEST_SECONDS * self.bpm / 60 / BEATS_PER_BAR)
        ) < self.bars or self.bars < 1:
            raise UserError(
                f"--bars: {self.bars} is not allowed; at {self.bpm:g} BPM give 1 to {most}"
            )

    @property
    def tempo(self) -> Tempo | None:
        """The tempo at which pieces last the bars asked for; None where none are."""
        return None if self.bars is None else Tempo(self.bpm, self.bars * BEATS_PER_BAR)

    @property
    def length(self) -> float | None:
        """Seconds of each piece; None for single images."""
        return self.seconds if self.tempo is None else 60 * self.tempo.beats / self.tempo.bpm

    @property
    def number(self) -> int:
        """How many samples, variations or steps."""
        return USUAL_COUNT if self.count is None else self.count

    @property
    def distance(self) -> float:
        """How far variations go, as a part of the way to another sound."""
        return USUAL_AMOUNT if self.amount is None else self.amount

    def seed_list(self) -> Sequence[int]:
        """The seeds asked for.

        Raises:
            UserError: they are not written as numbers and ranges.
        """
        if self.seeds is None:
            return range(self.number)
        seeds: list[int] = []
        for part in self.seeds.split(","):
            first, dash, last = part.strip().partition("-")
            ends = (first, last if dash else first)
            if not all(map(_is_seed, ends)):
                raise SettingError(
                    "seeds", f"{self.seeds[:80]!r} is not allowed; write 0-7 or 3,5,9"
                )
            numbers = range(int(ends[0]), int(ends[1]) + 1)
            if not numbers or len(seeds) + len(numbers) > MOST_SOUNDS:
                raise SettingError(
                    "seeds", f"{self.seeds[:80]!r} names none, or more than {MOST_SOUNDS}"
                )
            seeds += numbers
        return list(dict.fromkeys(seeds))

    def ends(self) -> tuple[int, int]:
        """The two seeds that `between` names.

        Raises:
            UserError: it does not name two.
        """
        first, _, last = (self.between or "").partition(":")
        if not (_is_seed(first) and _is_seed(last)) or int(first) == int(last):
            raise UserError(
                f"--between: {(self.between or '')[:80]!r} is not allowed; write two seeds, as in 3:7"
            )
        return int(first), int(last)


def _is_seed(text: str) -> bool:
    return text.isdecimal() and len(text) <= MOST_DIGITS
