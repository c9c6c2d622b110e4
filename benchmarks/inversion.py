"""Error of the inversion for different settings, and error and speed compared with librosa.

    PYTHONPATH=. python benchmarks/inversion.py --music DIR

DIR holds audio files at any depth. Prints two tables in Markdown: the round-trip error for settings
of spectrograms and of the inversion, one changed at a time; and error and speed compared with
`librosa.feature.inverse.mel_to_audio` on the same images, alternating in the same run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import torch

from musicspectrogan.audio.files import is_audio, load
from musicspectrogan.audio.inversion import invert, round_trip_error
from musicspectrogan.audio.spectrogram import SpectrogramConfig, encode, grey_to_db

RATE = 22050
IMAGES = 3  # per clip: nine seconds
REPEATS = 3


def images_of(samples: np.ndarray, config: SpectrogramConfig) -> np.ndarray:
    """The first IMAGES images of a clip as one, uint8 (n_mels, T)."""
    grey, _ = encode(samples, config)
    return np.ascontiguousarray(grey[::-1, : IMAGES * config.n_frames])


def invert_all(
    images: list[np.ndarray], config: SpectrogramConfig, **options: int
) -> list[np.ndarray]:
    """This project's inversion, all clips in one batch."""
    return list(invert(torch.from_numpy(np.stack(images)), config, **options).numpy())


def invert_with_librosa(images: list[np.ndarray], config: SpectrogramConfig) -> list[np.ndarray]:
    """What most projects use: non-negative least squares and 32 iterations of Griffin-Lim."""
    return [
        librosa.feature.inverse.mel_to_audio(
            librosa.db_to_power(grey_to_db(image[::-1], config)),
            sr=config.sample_rate,
            n_fft=config.n_fft,
            hop_length=config.hop_length,
            fmin=config.f_min,
            fmax=config.f_max,
        )
        for image in images
    ]


def error(clips: list[np.ndarray], restored: list[np.ndarray]) -> float:
    """Mean round-trip error in dB."""
    return statistics.mean(
        round_trip_error(a, b, RATE) for a, b in zip(clips, restored, strict=True)
    )


def settings_table(clips: list[np.ndarray]) -> None:
    """Print the error for each setting, changed alone."""
    print("| n_fft | f_max | power steps | phase iterations | error (dB) |\n|---|---|---|---|---|")

    def row(n_fft: int, f_max: float, **options: int) -> None:
        config = SpectrogramConfig(n_fft=n_fft, f_max=f_max)
        restored = invert_all([images_of(clip, config) for clip in clips], config, **options)
        steps, iterations = options["power_steps"], options["phase_iterations"]
        print(
            f"| {n_fft} | {f_max:g} | {steps} | {iterations} | {error(clips, restored):.2f} |",
            flush=True,
        )

    for n_fft in (2048, 3072, 4096):
        for f_max in (8000.0, 11025.0):
            row(n_fft, f_max, power_steps=10, phase_iterations=8)
    for steps in (1, 3, 5, 20, 50):
        row(2048, 8000.0, power_steps=steps, phase_iterations=8)
    for iterations in (0, 2, 4, 16, 32, 64):
        row(2048, 8000.0, power_steps=10, phase_iterations=iterations)


def comparison_table(clips: list[np.ndarray]) -> None:
    """Alternate REPEATS times after a warm-up, and print errors, speeds and the ratio by round."""
    config = SpectrogramConfig()
    images = [images_of(clip, config) for clip in clips]
    methods: dict[str, Callable[..., list[np.ndarray]]] = {
        "musicspectrogan": invert_all,
        "librosa": invert_with_librosa,
    }
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    errors = {}
    for _ in range(REPEATS + 1):
        for name, method in methods.items():
            start = time.perf_counter()
            restored = method(images, config)
            seconds[name].append(time.perf_counter() - start)
            errors[name] = error(clips, restored)
    timed = {name: values[1:] for name, values in seconds.items()}
    ratios = [b / a for a, b in zip(*timed.values(), strict=True)]
    sound = sum(image.shape[1] for image in images) * config.hop_length / config.sample_rate
    print("\n| | error (dB) | seconds of sound a second |\n|---|---|---|")
    for name, values in timed.items():
        print(f"| {name} | {errors[name]:.2f} | {sound / statistics.median(values):.0f} |")
    print(
        f"\n{statistics.median(ratios):.1f} times as fast (median of {REPEATS} rounds, "
        f"{min(ratios):.1f} to {max(ratios):.1f}), {len(clips)} clips, "
        f"{torch.get_num_threads()} threads"
    )


def main() -> None:
    """Measure on all music in a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--music", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=50)
    arguments = parser.parse_args()
    paths = sorted(path for path in arguments.music.rglob("*") if is_audio(path.name))[
        : arguments.clips
    ]
    length = IMAGES * SpectrogramConfig().n_frames * SpectrogramConfig().hop_length
    clips = [
        samples[:length]
        for samples in (load(path, RATE).samples for path in paths)
        if len(samples) >= length
    ]
    settings_table(clips)
    comparison_table(clips)


if __name__ == "__main__":
    main()
