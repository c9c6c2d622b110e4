"""The sound of a dataset's images with and without its vocoder; see docs/inversion.md.

    PYTHONPATH=. python benchmarks/vocoder.py --dataset DIR [--music FOLDER …] [--picture FILE]

DIR holds images and the vocoder.pt that `python -m musicspectrogan vocoder DIR` learned. Turns
tracks that were not learned from into images and these back into sound: the test tracks of DIR, and
all music in other FOLDERs. Prints a table for each: round-trip error, multi-resolution STFT
distance, spectral flux and number of onsets as ratios to the original's, and speed on one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import librosa
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import torch

from musicspectrogan.audio import VOCODER_NAME
from musicspectrogan.audio.files import is_audio, load
from musicspectrogan.audio.inversion import griffin_lim, invert, round_trip_error
from musicspectrogan.audio.spectrogram import (
    MINIMUM_POWER,
    SpectrogramConfig,
    encode,
    mel_power,
)
from musicspectrogan.audio.vocoder import Vocoder, load_vocoder
from musicspectrogan.vocoding.music import Music

Samples = npt.NDArray[np.float32]
Way = Callable[[Samples], Samples]

SECONDS, MOST_CLIPS = 30.0, 50
RANGE_DB = 60.0
WINDOWS = (512, 1024, 2048)
SHOWN_SECONDS, SHOWN_TRACKS = 4.0, 3
COLUMNS = "| way | error, dB | multi-resolution STFT, dB | flux | onsets | times real time |"


def clipped_db(power: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """dB below the maximum, at most RANGE_DB."""
    decibels = 10.0 * np.log10(np.maximum(power, MINIMUM_POWER))
    return np.asarray(np.maximum(decibels - decibels.max(), -RANGE_DB))


def log_mel(samples: Samples, rate: int) -> npt.NDArray[np.float32]:
    """128 bands up to Nyquist, as `round_trip_error` compares them."""
    config = SpectrogramConfig(rate, 2048, 512, 128, f_max=rate / 2)
    return clipped_db(mel_power(samples, config))


def figures(original: Samples, restored: Samples, rate: int) -> list[float]:
    """Round-trip error, multi-resolution STFT distance, flux of both, and onsets of both."""
    length = min(len(original), len(restored))
    pair = [original[:length], restored[:length]]
    distances = []
    for n_fft in WINDOWS:
        one, other = (clipped_db(np.abs(librosa.stft(x, n_fft=n_fft)) ** 2) for x in pair)
        distances.append(np.abs(one - other).mean())
    spectra = [log_mel(x, rate) for x in pair]
    flux = [np.maximum(0.0, np.diff(x, axis=1)).mean() for x in spectra]
    onsets = [
        len(librosa.onset.onset_detect(onset_envelope=librosa.onset.onset_strength(S=x), sr=rate))
        for x in spectra
    ]
    return [round_trip_error(*pair, rate), float(np.mean(distances)), *flux, *onsets]


def averages(rows: list[list[float]]) -> tuple[float, float, float, float]:
    """Mean error and distance, and ratios of flux and onsets, of the `figures` of several clips."""
    error, distance, *_ = np.mean(rows, axis=0)
    _, _, flux, own_flux, onsets, own_onsets = np.sum(rows, axis=0)
    return error, distance, own_flux / flux, own_onsets / onsets


def clips_of(dataset: Music, split: str, seconds: float) -> list[Samples]:
    """An excerpt of each track of a split, of MOST_CLIPS tracks at most."""
    length = round(seconds * dataset.spectrogram.sample_rate)
    excerpts = dataset.excerpts(split, most=MOST_CLIPS, samples=MOST_CLIPS * length)
    return [excerpt[:length] for excerpt in excerpts]


def image_of(samples: Samples, config: SpectrogramConfig) -> torch.Tensor:
    """A clip as one image (1, n_mels, T)."""
    grey, _ = encode(samples, config)
    return torch.from_numpy(grey[None, ::-1].copy())


def true_magnitude(samples: Samples, config: SpectrogramConfig) -> torch.Tensor:
    """Fourier magnitudes (1, F, T) of a clip at the hop of `config`."""
    window = torch.hann_window(config.n_fft)
    spectra = torch.stft(
        torch.from_numpy(samples)[None],
        config.n_fft,
        config.hop_length,
        window=window,
        pad_mode="constant",
        return_complex=True,
    )
    return spectra.abs()


def ways_of(config: SpectrogramConfig, vocoder: Vocoder) -> dict[str, Way]:
    """Functions from a clip to its restored sound, by name."""

    def true_magnitudes(hop_length: int) -> Way:
        fine = replace(config, hop_length=hop_length)
        return lambda x: griffin_lim(true_magnitude(x, fine), fine)[0].numpy()

    def restored(own: Vocoder | None) -> Way:
        return lambda x: invert(image_of(x, config), config, vocoder=own)[0].numpy()

    hops = dict.fromkeys((config.hop_length, vocoder.fine_config(config).hop_length))
    return {
        "non-negative fit": restored(None),
        "vocoder": restored(vocoder),
        **{f"true magnitudes at hop {hop}": true_magnitudes(hop) for hop in hops},
    }


def table(clips: list[Samples], ways: dict[str, Way], rate: int) -> str:
    """A Markdown table of all ways for some music."""
    lines = [COLUMNS, "|---|---|---|---|---|---|"]
    seconds = sum(map(len, clips)) / rate
    for name, way in ways.items():
        spent, rows = 0.0, []
        for clip in clips:
            begun = time.process_time()
            restored = way(clip)
            spent += time.process_time() - begun
            rows.append(figures(clip, restored, rate))
        error, distance, flux, onsets = averages(rows)
        lines.append(
            f"| {name} | {error:.2f} | {distance:.2f} | {flux:.3f} | {onsets:.3f} | "
            f"{seconds / spent:.0f} |"
        )
    return "\n".join(lines)


def draw(clips: list[Samples], ways: dict[str, Way], rate: int, path: Path) -> None:
    """Draw spectrograms of the original and of all ways side by side, a row for each clip."""
    names = ["original", *ways]
    size = (3.2 * len(names), 2.6 * len(clips))
    figure, axes = plt.subplots(len(clips), len(names), figsize=size, squeeze=False)
    for row, clip in zip(axes, clips, strict=True):
        sounds = [clip, *(way(clip) for way in ways.values())]
        for axis, name, sound in zip(row, names, sounds, strict=True):
            shown = log_mel(sound[: round(SHOWN_SECONDS * rate)], rate)
            axis.imshow(shown, origin="lower", aspect="auto", cmap="magma", vmin=-RANGE_DB, vmax=0)
            axis.set(title=name, xticks=[], yticks=[])
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main() -> None:
    """Print the tables, and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--vocoder", type=Path, help="another file than the dataset's")
    parser.add_argument("--split", default="test")
    parser.add_argument("--music", type=Path, nargs="*", default=[])
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    dataset = Music(arguments.dataset)
    config, rate = dataset.spectrogram, dataset.spectrogram.sample_rate
    ways = ways_of(config, load_vocoder(arguments.vocoder or arguments.dataset / VOCODER_NAME))
    clips = clips_of(dataset, arguments.split, SECONDS)
    sets = {f"{len(clips)} {arguments.split} tracks": clips}
    for folder in arguments.music:
        paths = sorted(path for path in folder.rglob("*") if is_audio(path.name))
        sets[f"{len(paths)} files of {folder.name}"] = [
            load(path, rate).samples[: round(SECONDS * rate)] for path in paths
        ]
    for name, music in sets.items():
        print(f"{config.n_mels} bands, {name}:\n\n{table(music, ways, rate)}\n", flush=True)
    if arguments.picture:
        shown = {name: ways[name] for name in ("non-negative fit", "vocoder")}
        draw(clips[:SHOWN_TRACKS], shown, rate, arguments.picture)


if __name__ == "__main__":
    main()
