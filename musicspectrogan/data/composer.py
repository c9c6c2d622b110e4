"""Compose the demo music: five styles that sound and look different, from a seed alone.

Each clip draws its key, scale, tempo, chords and phrasing. Nothing is sampled or downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.floating]

SAMPLE_RATE = 22050
CLIP_SECONDS = 30.0

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
}
# Chord roots as scale degrees.
PROGRESSIONS = ((0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 4, 3), (5, 3, 0, 4), (0, 2, 3, 4), (1, 4, 0, 5))


@dataclass(frozen=True)
class Score:
    """The random numbers, key and tempo of one clip."""

    rng: np.random.Generator
    key: int
    """MIDI number of the tonic, 54 to 65."""
    scale: tuple[int, ...]
    progression: tuple[int, ...]
    beat: float
    """Seconds."""
    seconds: float

    def pitch(self, degree: int, octave: int = 0) -> float:
        """Return the frequency in Hz of a scale degree, which may be outside 0 to 6."""
        steps, position = divmod(degree, len(self.scale))
        midi = self.key + self.scale[position] + 12 * (steps + octave)
        return float(440.0 * 2.0 ** ((midi - 69) / 12))

    def chord(self, bar: int) -> tuple[int, int, int]:
        """Return the scale degrees of the triad in a bar."""
        root = self.progression[bar % len(self.progression)]
        return root, root + 2, root + 4

    @property
    def bars(self) -> int:
        """Bars of four beats, including a partial last one."""
        return int(np.ceil(self.seconds / (4 * self.beat)))


class Tape:
    """A mono recording to mix notes into; notes are cut at its end."""

    def __init__(self, seconds: float) -> None:
        self.samples = np.zeros(round(seconds * SAMPLE_RATE), dtype=np.float32)

    def add(self, start: float, sound: Samples) -> None:
        """Mix in a sound (n,) at `start` seconds."""
        first = max(0, round(start * SAMPLE_RATE))
        sound = sound[: max(0, len(self.samples) - first)]
        self.samples[first : first + len(sound)] += sound


def compose(style: str, index: int, *, seed: int, seconds: float = CLIP_SECONDS) -> Samples:
    """Compose one clip, float32 (seconds * SAMPLE_RATE,) with a peak of 0.9; deterministic."""
    rng = np.random.default_rng([seed, crc32(style.encode()), index])
    score = Score(
        rng=rng,
        key=int(rng.integers(54, 66)),
        scale=SCALES[str(rng.choice(sorted(SCALES)))],
        progression=PROGRESSIONS[rng.integers(len(PROGRESSIONS))],
        beat=60.0 / rng.uniform(84, 150),
        seconds=seconds,
    )
    tape = Tape(seconds)
    STYLES[style](score, tape)
    return tape.samples * (0.9 / max(1e-9, float(np.abs(tape.samples).max())))


def ambient(score: Score, tape: Tape) -> None:
    """Slow overlapping pads over a drone: long horizontal lines that swell and fade."""
    rng = score.rng
    breath = rng.uniform(4.0, 7.0)
    drone = _tone(score.pitch(0, -2), score.seconds, partials=12, rolloff=1.1, vibrato=0.002)
    tape.add(0.0, 0.5 * drone * _swell(len(drone), rng.uniform(0.05, 0.12), rng))
    start, bar = -breath, 0
    while start < score.seconds:
        length = breath * rng.uniform(1.4, 2.2)
        for degree in (*score.chord(bar), score.chord(bar)[0] + 8):
            voice = _tone(
                score.pitch(degree, int(rng.integers(-1, 2))),
                length,
                partials=int(rng.integers(3, 9)),
                rolloff=rng.uniform(1.0, 1.8),
                vibrato=0.004,
            )
            envelope = np.sin(np.linspace(0, np.pi, len(voice), dtype=np.float32)) ** 2
            late = max(0.0, -start)
            tape.add(start + late, (voice * envelope)[round(late * SAMPLE_RATE) :] * 0.25)
        start += breath * rng.uniform(0.7, 1.1)
        bar += 1


def arpeggio(score: Score, tape: Tape) -> None:
    """Broken chords of short plucks: a staircase of dots with open space between them."""
    rng = score.rng
    step = score.beat / int(rng.choice([2, 3, 4]))
    pattern = rng.permutation([0, 1, 2, 3, 4, 5])[: int(rng.integers(4, 7))]
    if rng.random() < 0.6:
        pattern = np.sort(pattern)
        if rng.random() < 0.5:
            pattern = np.concatenate([pattern, pattern[-2:0:-1]])
    decay = rng.uniform(0.12, 0.3)
    octave = int(rng.integers(0, 2))
    for number in range(int(score.seconds / step) + 1):
        bar = int(number * step / (4 * score.beat))
        which = int(pattern[number % len(pattern)])
        degree = score.chord(bar)[which % 3] + len(score.scale) * (which // 3)
        if rng.random() < 0.06:
            continue
        pluck = _tone(score.pitch(degree, octave), 3 * decay, partials=6, rolloff=1.6)
        accent = 1.0 if number % len(pattern) == 0 else rng.uniform(0.5, 0.8)
        tape.add(number * step, accent * pluck * _decay(len(pluck), decay))


def bass(score: Score, tape: Tape) -> None:
    """A low riff whose brightness opens and closes: everything happens at the bottom, in sweeps."""
    rng = score.rng
    step = score.beat / 2
    riff = rng.choice([0, 0, 0, 2, 4, 7, -1], size=8)
    rests = rng.random(8) < 0.25
    rests[0] = False
    sweep_bars = float(rng.choice([1, 2, 4]))
    for number in range(int(score.seconds / step) + 1):
        if rests[number % 8]:
            continue
        now = number * step
        root = score.chord(int(now / (4 * score.beat)))[0]
        open_ = 0.5 - 0.5 * np.cos(2 * np.pi * now / (4 * score.beat * sweep_bars))
        length = step * rng.uniform(0.75, 0.98)
        note = _tone(
            score.pitch(root + int(riff[number % 8]), -2),
            length,
            partials=int(4 + 24 * open_),
            rolloff=1.7 - 0.8 * open_,
        )
        tape.add(now, note * _decay(len(note), 0.6 * length, attack=0.01))


def chords(score: Score, tape: Tape) -> None:
    """Held organ chords and a melody: blocks of stacked harmonics that change with the bar."""
    rng = score.rng
    stabs = rng.choice([1, 2, 4])
    length = 4 * score.beat / stabs
    rolloff = rng.uniform(0.6, 1.1)
    degree = int(rng.integers(0, 7))
    for number in range(score.bars * stabs):
        bar = number // stabs
        for voice in (score.chord(bar)[0] - 7, *score.chord(bar)):
            block = _tone(score.pitch(voice), 0.96 * length, partials=8, rolloff=rolloff)
            tape.add(number * length, 0.3 * block * _decay(len(block), 3 * length, attack=0.02))
    for number in range(score.bars * 4):
        degree = int(np.clip(degree + rng.integers(-2, 3), 0, 13))
        if rng.random() < 0.7:
            lead = _tone(score.pitch(degree, 1), 0.9 * score.beat, partials=4, rolloff=1.2)
            tape.add(number * score.beat, 0.35 * lead * _decay(len(lead), score.beat, attack=0.02))


def drums(score: Score, tape: Tape) -> None:
    """Kick, snare and hi-hat in a pattern of sixteen steps: vertical strokes and nothing held."""
    rng = score.rng
    step = score.beat / 4
    kick = rng.random(16) < 0.16
    kick[[0, 8]] = True
    snare = rng.random(16) < 0.06
    snare[[4, 12]] = True
    hat = np.arange(16) % int(rng.choice([1, 2, 2, 4])) == 0
    hat_decay, snare_decay = rng.uniform(0.02, 0.06), rng.uniform(0.08, 0.16)
    tune = rng.uniform(0.8, 1.3)
    for number in range(int(score.seconds / step) + 1):
        now, position = number * step, number % 16
        fill = rng.random() < 0.04
        if kick[position]:
            tape.add(now, _kick(tune))
        if snare[position] or fill:
            body = _tone(185.0 * tune, snare_decay, partials=2, rolloff=1.0)
            tape.add(now, 0.4 * body * _decay(len(body), snare_decay / 2))
            tape.add(now, 0.5 * _noise(rng, 4 * snare_decay, snare_decay, bright=0))
        if hat[position]:
            tape.add(now, rng.uniform(0.15, 0.3) * _noise(rng, 4 * hat_decay, hat_decay, bright=2))


STYLES: dict[str, Callable[[Score, Tape], None]] = {
    style.__name__: style for style in (ambient, arpeggio, bass, chords, drums)
}


def _tone(
    hertz: float, seconds: float, *, partials: int, rolloff: float, vibrato: float = 0.0
) -> Samples:
    """Return a tone whose partial k has amplitude k ** -rolloff, below the Nyquist frequency."""
    time = np.arange(max(1, round(seconds * SAMPLE_RATE)), dtype=np.float32) / SAMPLE_RATE
    phase = 2 * np.pi * hertz * time
    if vibrato:
        phase = phase + hertz * vibrato / 5.0 * np.sin(2 * np.pi * 5.0 * time)
    count = max(1, min(partials, int(0.45 * SAMPLE_RATE / hertz)))
    # sin(kx) from its two predecessors: one sine and one cosine for the whole tone.
    before, now = np.zeros_like(phase), np.sin(phase)
    twice_cosine = 2 * np.cos(phase)
    tone = now.copy()
    for k in range(2, count + 1):
        before, now = now, twice_cosine * now - before
        tone += now * np.float32(k**-rolloff)
    return tone.astype(np.float32)


def _decay(length: int, seconds: float, attack: float = 0.004) -> Samples:
    """Return an exponential decay with a short linear attack and release."""
    time = np.arange(length, dtype=np.float32) / SAMPLE_RATE
    envelope = np.exp(-time / max(1e-3, seconds)) * np.minimum(1.0, time / attack)
    release = min(length, 128)
    envelope[length - release :] *= np.linspace(1, 0, release, dtype=np.float32)
    return envelope


def _swell(length: int, hertz: float, rng: np.random.Generator) -> Samples:
    time = np.arange(length, dtype=np.float32) / SAMPLE_RATE
    return 0.7 + 0.3 * np.sin(2 * np.pi * (hertz * time + rng.random()), dtype=np.float32)


def _kick(tune: float) -> Samples:
    """Return a sine that falls from 160 to 45 Hz."""
    time = np.arange(round(0.25 * SAMPLE_RATE), dtype=np.float32) / SAMPLE_RATE
    phase = 2 * np.pi * tune * (45.0 * time - 115.0 * 0.03 * np.exp(-time / 0.03))
    return np.sin(phase) * _decay(len(time), 0.09)


def _noise(rng: np.random.Generator, seconds: float, decay: float, *, bright: int) -> Samples:
    """Return decaying white noise; each of `bright` differences tilts it by 6 dB per octave."""
    noise = rng.standard_normal(round(seconds * SAMPLE_RATE)).astype(np.float32)
    for _ in range(bright):
        noise = 0.5 * np.diff(noise, prepend=np.float32(0))
    return noise * _decay(len(noise), decay, attack=0.001)
