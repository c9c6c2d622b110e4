"""Speed of preprocessing, compared to two common methods and to the limit of the machine.

    PYTHONPATH=. python benchmarks/preprocessing.py

Composes demo music and prints a section of docs/benchmarks.md.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import librosa
import numpy as np
import soundfile
import soxr
from common import Table, in_turn, log_progress, one_core, ratios, run_command, work_folder
from PIL import Image
from scipy.fft import rfft
from threadpoolctl import threadpool_limits

from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.data.conversion import convert_track
from musicspectrogan.data.sources import Selection, Track, demo

CONFIG = SpectrogramConfig()
ROUNDS = 5
CLIPS, MP3_CLIPS, FIGURES = 100, 24, 4
COMPOSED, MANY, COPIES = 1000, 10_000, 10
FRAMES_PER_BLOCK = 64

NOTES = """
Where this was profiled, a 30 s WAV clip first took 15 ms on one core and now takes about 6 ms.
Measured per clip:

- decoding, 5.6 to 0.6 ms: read 16-bit samples without conversion, in larger blocks into one
  buffer, and mix channel by channel (a mean over such a short axis is slower than decoding);
- mel-spectrogram, 7.2 to 3.3 ms: blocks that fit the cache, no padded copy of the clip, no bins
  above the highest band, squares in place, and a sparse product, as no bin is in more than two
  bands;
- ten PNGs, 2.8 to 1.9 ms: run lengths and Huffman codes only (Pillow's encoder; ours came later,
  see below), files 2 % larger;
- new memory: pages cleared by the system took several ms per clip while the whole clip was held.

Tried without success: MKL's transforms take 0.7 times as long as scipy's, but every worker would
have to import torch; blocks of 128 frames and more do not fit the cache (slower); a dense product
over the used bins (0.5 ms more); other strategies and levels of zlib; writing files without
renaming (within the noise).

A second run over 10,000 clips first took 1.4 s. Now it lists names without creating paths, and
lists each folder once. It reads the end of each image, to recreate empty and incomplete ones.
Images are synced before the report lists them, once for many tracks; this takes no measurable
time (0.96 times on a disk and 0.97 times in memory; 300 clips, medians of 9 and 6 pairs of runs).

Measured later, old and new in turn while other programs kept both cores busy (medians of four
rounds):

| | WAV | MP3 |
|---|---|---|
| before, part of the limit | 0.45 | 0.62 |
| PNGs by 60 lines of our own, with zlib | 0.50 | 0.64 |
| and sound decoded in blocks of a million samples | 0.53 | 0.69 |
| the same with isal instead of zlib | 0.55 | 0.69 |

Measured later without other work (five rounds), it was 0.58 (0.54 to 0.60) of the limit for WAV and
0.71 (0.70 to 0.75) for MP3: both targets are missed, and for MP3 no gain shows.

- A PNG of 64 x 64 took Pillow 130 to 150 µs on this busy machine, and takes 65 to 80 µs now; files
  are 4 to 6 % larger. Half of what remains is zlib's Huffman coding. isal and libdeflate take 30 to
  35 µs in all, but that is only 4 % of a clip: not worth another dependency.
- Each image is stored as differences to the left or upper neighbour, whichever are smaller. Either
  alone gives files that are 9 to 26 % larger than Pillow's. Paeth's filter would save 1 to 5 %, and
  takes 40 µs in numpy.
- With small blocks, decoder, resampler and sums displace each other from the caches. Blocks of 2²⁰
  samples instead of 65,536 frames save 15 % of the time of an MP3.
- Without effect: keeping freed memory (`mallopt`); glibc already keeps it after a few clips.

A second run over 10,000 clips takes 2.2 s of CPU time instead of 3.2 s on this machine (0.3 s of it
imports): the end of each image is read once, not twice, folders are listed once, and rows of
metadata.jsonl are quoted once for each track. The rest is a millisecond for five clips: opening ten
images, the lines of the report, of dataset.json and of metadata.jsonl.

MP3s of 320 kbit/s, the most common in FMA, are limited by their decoder; the remaining time is the
same spectrogram and ten PNGs. On a disk, creating ten files per clip can take longer than
everything else.
"""


def figure_a_clip(path: Path, output: Path) -> None:
    """First comparison: librosa's STFT drawn by matplotlib."""
    import matplotlib.pyplot as plt

    samples, rate = librosa.load(path)
    decibels = librosa.amplitude_to_db(np.abs(librosa.stft(samples)), ref=np.max)
    plt.figure(figsize=(4, 4))
    librosa.display.specshow(decibels, sr=rate)
    plt.axis("off")
    plt.savefig(output / f"{path.stem}.png", bbox_inches="tight", pad_inches=0)
    plt.close()


def slice_by_slice(path: Path, output: Path) -> None:
    """Second comparison: a mel-spectrogram and an image of each slice of the samples."""
    samples, rate = librosa.load(path, sr=CONFIG.sample_rate)
    length = CONFIG.n_frames * CONFIG.hop_length
    for k in range(len(samples) // length):
        mel = librosa.feature.melspectrogram(
            y=samples[k * length : (k + 1) * length],
            sr=rate,
            n_fft=CONFIG.n_fft,
            hop_length=CONFIG.hop_length,
            n_mels=CONFIG.n_mels,
            fmax=CONFIG.f_max,
        )[:, : CONFIG.n_frames]
        decibels = librosa.power_to_db(mel, ref=np.max)
        grey = np.uint8(np.clip((decibels + 80.0) / 80.0, 0, 1) * 255)
        Image.fromarray(grey[::-1]).save(output / f"{path.stem}_{k}.png")


def ours(path: Path, output: Path) -> None:
    """This project, including writing images."""
    outcome = convert_track(Track(path.stem, "music", path), output, CONFIG, sync=False).outcome
    assert outcome.status == "converted"


def decoded(path: Path) -> np.ndarray:
    """Decode to mono samples at the default rate: half of the limit."""
    samples, rate = soundfile.read(path, dtype="float32")
    if samples.ndim > 1:
        samples = samples[:, 0] + samples[:, 1]
    return (
        samples if rate == CONFIG.sample_rate else soxr.resample(samples, rate, CONFIG.sample_rate)
    )


def decoded_and_transformed(path: Path) -> None:
    """The limit: one real FFT of each frame in the clip, without window, mel bands or images."""
    frames = np.lib.stride_tricks.sliding_window_view(decoded(path), CONFIG.n_fft)[
        :: CONFIG.hop_length
    ]
    for start in range(0, len(frames), FRAMES_PER_BLOCK):
        rfft(frames[start : start + FRAMES_PER_BLOCK], axis=-1)


def each(way: Callable[..., object], paths: list[Path]) -> Callable[[], None]:
    """Return a function that applies `way` to all paths."""

    def run() -> None:
        for path in paths:
            way(path)

    return run


def as_mp3s(paths: list[Path], folder: Path) -> list[Path]:
    """Write clips in the most common format of FMA: 44.1 kHz stereo MP3 of 320 kbit/s."""
    folder.mkdir()
    for path in paths:
        samples, rate = soundfile.read(path, dtype="float32")
        left = soxr.resample(samples, rate, 44100)
        stereo = np.stack([left, 0.8 * np.roll(left, 40)], axis=1)
        name = folder / f"{path.stem}.mp3"
        soundfile.write(name, stereo, 44100, bitrate_mode="CONSTANT", compression_level=0.0)
    return sorted(folder.iterdir())


def one_core_rows(table: Table, waves: list[Path], work: Path) -> None:
    """Compare to other methods and the limit on one core."""
    images = work / "images"
    (images / "music").mkdir(parents=True)
    mp3s = as_mp3s(waves[:MP3_CLIPS], work / "mp3")
    with one_core(), threadpool_limits(1):
        took = in_turn(
            {
                "ours": each(partial(ours, output=images), waves),
                "limit": each(decoded_and_transformed, waves),
                "slices": each(partial(slice_by_slice, output=images), waves),
                "figures": each(partial(figure_a_clip, output=images), waves[:FIGURES]),
                "ours, MP3": each(partial(ours, output=images), mp3s),
                "decoded MP3": each(decoded, mp3s),
            },
            ROUNDS,
        )
    per_clip = [seconds * len(waves) / FIGURES for seconds in took["figures"]]
    table.add_ratio(
        "WAV at 22050 Hz, times as fast as one figure a clip",
        ratios(per_clip, took["ours"]),
        20,
        "as below",
    )
    table.add_ratio(
        "WAV, times as fast as slice by slice",
        ratios(took["slices"], took["ours"]),
        1.7,
        "as below",
    )
    table.add_ratio(
        "WAV, part of the limit (decode and one real FFT)",
        ratios(took["limit"], took["ours"]),
        0.65,
        "the transforms (a third of the time), ten PNGs per clip (another third: zlib, Pillow and "
        "the file system), decoding (a tenth), window and mel bands",
    )
    table.add_ratio(
        "MP3 at 44.1 kHz stereo, part of decoding and resampling alone",
        ratios(took["decoded MP3"], took["ours, MP3"]),
        0.8,
        "libsndfile's MP3 decoder and soxr",
    )


def multiplied(waves: list[Path], folder: Path) -> Path:
    """Create hard links to the clips, MANY in total."""
    for path in waves:
        genre = folder / path.parent.name
        genre.mkdir(parents=True, exist_ok=True)
        for copy in range(COPIES):
            os.link(path, genre / f"{path.stem}.{copy}.wav")
    return folder


def command_rows(table: Table, waves: list[Path], work: Path) -> None:
    """Measure the command: cores, scale, memory, and a second run."""
    music, output = multiplied(waves, work / "many"), work / "out"

    def preprocess(limit: int, *flags: object, fresh: bool = True) -> tuple[float, float]:
        if fresh:
            shutil.rmtree(output, ignore_errors=True)
        limit_flags = ("--limit", limit // 5)
        return run_command(
            "preprocess.py",
            "--dataset",
            "folder",
            "--input",
            music,
            "--output",
            output,
            *limit_flags,
            *flags,
        )

    took = in_turn(
        {f"{jobs}": lambda jobs=jobs: preprocess(5000, "--jobs", jobs)[0] for jobs in (1, 2)}, 2
    )
    table.add_ratio(
        "two processes, times as fast as one (5,000 clips, starting included)",
        ratios(took["1"], took["2"]),
        1.8,
        "starting the workers (half a second), and what the main process does beside them",
    )
    seconds, memory = {}, {}
    for count in (100, 1000, MANY):
        seconds[count], memory[count] = preprocess(count)
        log_progress(f"  {count} clips: {seconds[count]:.1f} s, {memory[count]:.0f} MB")
    each_clip = {count: 1000 * took / count for count, took in seconds.items()}
    linear = each_clip[MANY] / each_clip[1000]
    table.add(
        "time for 100, 1,000 and 10,000 clips (100,000 images), all cores",
        ", ".join(f"{s:.1f} s" for s in seconds.values()),
        "linear",
        linear < 1.15,
        f"{linear:.2f} times as long a clip at 10,000 as at 1,000",
    )
    growth = memory[MANY] / memory[100]
    table.add(
        "peak memory for 100, 1,000 and 10,000 clips, largest process",
        ", ".join(f"{m:.0f} MB" for m in memory.values()),
        "flat",
        growth < 1.25,
        "Python, numpy and scipy themselves",
    )
    again = [preprocess(MANY, fresh=False)[0] for _ in range(3)]
    table.add_ratio(
        "a second run over the finished 10,000, times as fast as the first",
        [seconds[MANY] / s for s in again],
        100,
        f"{sorted(again)[1]:.2f} s, of which Python's start is less than one; the rest is a little "
        "for each track: the ends of its images, dataset.json, metadata, credits. The first run "
        "over WAVs is too fast for more, over MP3s it takes seven times as long",
    )


def main() -> None:
    """Measure, and print the section."""
    table = Table()
    with work_folder() as work:
        log_progress("Composing music")
        tracks = demo.find_tracks(work / "music", Selection(tracks_per_genre=COMPOSED // 5))
        waves = [track.path for track in tracks]
        one_core_rows(table, waves[:: COMPOSED // CLIPS], work)
        command_rows(table, waves, work)
    print(f"## Preprocessing\n\n{table}\n{NOTES}")


if __name__ == "__main__":
    main()
