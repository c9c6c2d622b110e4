"""Compare the sound of 128 x 128 and of 64 x 64 images, with vocoders and without.

    export PYTHONPATH=.
    python benchmarks/resolution.py --music DIR --small DIR64 --large DIR128 --runs RUN64 [RUN128]

DIR holds audio files at any depth; DIR64 and DIR128 were made from it by preprocess.py, and the
runs were trained on them. Prints the round-trip error of real music for both sizes; then turns real
training images and samples into sound, and evaluates the spectrograms of that sound, with 128
bands, against the test tracks, where a dataset has a vocoder also with it. See docs/recipes.md and
docs/inversion.md.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from musicspectrogan.audio.files import is_audio, load
from musicspectrogan.audio.inversion import invert, round_trip_error
from musicspectrogan.audio.spectrogram import (
    MINIMUM_POWER,
    SpectrogramConfig,
    db_to_grey,
    encode,
    mel_power,
)
from musicspectrogan.audio.vocoder import Vocoder, find_vocoder
from musicspectrogan.evaluation.evaluator import Evaluator
from musicspectrogan.evaluation.reference import build_reference, load_images, load_splits
from musicspectrogan.evaluation.report import METRICS, Report, format_estimate
from musicspectrogan.evaluation.samples import ImageSet, Samples, sample_checkpoint
from musicspectrogan.training.run_checkpoints import load_checkpoint

DEVICE = torch.device("cpu")
COUNT = 1000
SECONDS = 9.0
BATCH = 64


def round_trip(music: Path, size: int) -> float:
    """Mean round-trip error in dB of the beginnings of clips, with `size` mel bands."""
    config = SpectrogramConfig.for_image_size(size)
    errors = []
    for path in sorted(p for p in music.rglob("*") if is_audio(p.name)):
        clip = load(path, config.sample_rate).samples[: int(SECONDS * config.sample_rate)]
        grey, _ = encode(clip, config)
        restored = invert(torch.from_numpy(grey[None, ::-1].copy()), config)[0].numpy()
        errors.append(round_trip_error(clip, restored, config.sample_rate))
    return statistics.mean(errors)


def resynthesise(
    images: ImageSet, config: SpectrogramConfig, vocoder: Vocoder | None, target: SpectrogramConfig
) -> ImageSet:
    """Turn images into sound, and that into images with other settings; white stays 0 dB."""
    pixels = np.empty((len(images), target.n_mels, target.n_frames), dtype=np.uint8)
    for start in range(0, len(images), BATCH):
        shown = torch.from_numpy(images.pixels[start : start + BATCH])
        sounds = invert(shown, config, vocoder=vocoder)
        for number, sound in enumerate(sounds.numpy(), start):
            power = mel_power(sound, target)[::-1, : target.n_frames]
            decibels = 10.0 * np.log10(np.maximum(power, MINIMUM_POWER))
            pixels[number] = db_to_grey(decibels, target)
    return replace(images, pixels=pixels)


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--music", type=Path, required=True)
    parser.add_argument("--small", type=Path, required=True)
    parser.add_argument("--large", type=Path, required=True)
    parser.add_argument("--runs", type=Path, nargs="+", required=True)
    arguments = parser.parse_args()
    if len(arguments.runs) > 2:
        parser.error("--runs: one or two")

    print("| pixels a side | round trip of real music, dB |\n|---|---|")
    for size in (64, 128):
        print(f"| {size} | {round_trip(arguments.music, size):.2f} |", flush=True)

    splits = load_splits(arguments.large)
    reference = build_reference(arguments.large, splits, DEVICE)
    rng, target = np.random.default_rng(0), splits.training.spectrogram
    reports: dict[str, Report] = {}
    for root, run in zip((arguments.small, arguments.large), arguments.runs, strict=False):
        real = load_splits(root).training
        images = load_images(real, splits.training.genres, None, rng)
        path = run / "checkpoints" / "best.pt"
        samples = sample_checkpoint(
            load_checkpoint(path), path, real, count=COUNT, seed=0, device=DEVICE
        )
        ways = {"": None}
        if vocoder := find_vocoder(root, real.spectrogram):
            ways[", vocoder"] = vocoder
        for name, set_ in (("real", Samples(images, True, {})), ("samples", samples)):
            for way, own in ways.items():
                resynthesised = resynthesise(set_.images, real.spectrogram, own, target)
                report = Evaluator(replace(set_, images=resynthesised), reference, 0).report()
                reports[f"{name}, {real.image_size} pixels{way}"] = report

    print(f"\nBy {len(splits.held_out)} images of the {splits.split} tracks.", *splits.remarks)
    print(f"\n| figure | features | {' | '.join(reports)} |\n|{'---|' * (len(reports) + 2)}")
    first, *_ = reports.values()
    for figure in first.figures:
        if figure.genre is None:
            found = [report.find(figure.name, figure.features) for report in reports.values()]
            cells = [format_estimate((f.ratio or f.value) if f else None) for f in found]
            title = METRICS[figure.name].title + ", ratio" * METRICS[figure.name].is_distance
            print(f"| {title} | {figure.features} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
