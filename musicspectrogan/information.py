"""Describe a dataset, a checkpoint or a run in about ten lines."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from musicspectrogan.audio import VOCODER_NAME
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.counts import format_count
from musicspectrogan.data.dataset import list_images
from musicspectrogan.data.manifest import MANIFEST_NAME, SPLITS, Manifest, is_foreign
from musicspectrogan.errors import UserError, printable


def describe(path: Path) -> str:
    """Return a description of a dataset folder, a run directory or a checkpoint file.

    Raises:
        UserError: the path is none of these.
    """
    if not path.exists():
        raise UserError(
            f"{path}: there is no such file or folder; name a run, a checkpoint file, a dataset, "
            "`latest` or `demo`"
        )
    manifest = Manifest.read(path) if path.is_dir() else None
    rows = _dataset_rows(path, manifest) if manifest else _other_rows(path)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {printable(value)}" for name, value in rows)


def _dataset_rows(path: Path, manifest: Manifest) -> list[tuple[str, str]]:
    images: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    for track in manifest.tracks:
        images[track["genre"]] += track["segments"]
        splits[track["split"]] += 1
    seconds = sum(track["seconds"] for track in manifest.tracks)
    options = ", ".join(f"{k} {v}" for k, v in manifest.selection.items() if v is not None)
    return [
        ("dataset", f"{path} (from {manifest.source}; {options or 'no options'})"),
        (
            "state",
            "complete" if manifest.tracks else "unfinished: run the same preprocess command again",
        ),
        ("tracks", f"{len(manifest.tracks)}, {seconds / 60:.1f} minutes"),
        ("images", str(images.total())),
        ("genres", ", ".join(f"{genre} {count}" for genre, count in sorted(images.items()))),
        (
            "splits",
            ", ".join(f"{name} {format_count(count, 'track')}" for name, count in splits.items()),
        ),
        *_spectrogram_rows(manifest.spectrogram),
        ("vocoder", VOCODER_NAME if (path / VOCODER_NAME).is_file() else "none"),
    ]


def _other_rows(path: Path) -> list[tuple[str, str]]:
    try:
        return _checkpoint_rows(path)
    except UserError:
        is_run = (path / "checkpoints").exists()  # its samples are not a dataset
        if not path.is_dir() or is_run or not (rows := _picture_rows(path)):
            raise
        return rows


def _picture_rows(path: Path) -> list[tuple[str, str]]:
    """Rows for class folders of images from elsewhere; empty if there are none."""
    listing = list_images(path)
    if not listing.names:
        return []
    genres = Counter(map(listing.genre_of, listing.names))
    splits = Counter(map(listing.split_of, listing.names))
    beside = f", with another tool's {MANIFEST_NAME}" if is_foreign(path) else ""
    return [
        ("dataset", f"{path} (class folders of pictures{beside})"),
        ("images", str(len(listing.names))),
        ("genres", ", ".join(f"{genre} {count}" for genre, count in sorted(genres.items()))),
        (
            "splits",
            ", ".join(f"{n} {format_count(splits[n], 'image')}" for n in SPLITS if splits[n])
            or "none",
        ),
        ("ignored", str(len(listing.ignored) + len(listing.unclassified))),
    ]


def _checkpoint_rows(path: Path) -> list[tuple[str, str]]:
    # torch: slow, and not for datasets
    from musicspectrogan.training.run_checkpoints import dataset_of, open_checkpoint

    file, checkpoint = open_checkpoint(path)
    dataset = dataset_of(checkpoint, file) or checkpoint.training["dataset"]
    model, vocoder = checkpoint.model, checkpoint.build_vocoder()
    kind = "exported" if checkpoint.is_exported else "run" if path.is_dir() else "checkpoint"
    weights = sum(tensor.numel() for tensor in checkpoint.ema.values())
    return [
        (kind, str(path)),
        ("gan", f"{checkpoint.gan}, width {model.width}, latents of length {model.latent_dim}"),
        ("generator", f"{weights:,} numbers, images of {model.image_size}x{model.image_size}"),
        (
            "trained",
            f"{format_count(checkpoint.images_seen, 'image')}, "
            f"{format_count(checkpoint.step, 'step')}, "
            f"{format_count(checkpoint.epoch, 'epoch')} of a run of {_length(checkpoint.training)}",
        ),
        *_quality_rows(checkpoint.quality),
        ("dataset", f"{dataset} ({checkpoint.training['split']})"),
        ("genres", ", ".join(checkpoint.genres)),
        ("loss", "{loss}, lr {lr}, seed {seed}".format(**checkpoint.training)),
        *_spectrogram_rows(checkpoint.spectrogram),
        ("vocoder", vocoder.record.describe() if vocoder else "none"),
    ]


def _length(training: dict[str, Any]) -> str:
    if training["images"]:
        return format_count(training["images"], "image")
    return format_count(training["epochs"], "epoch") if training["epochs"] else "the usual length"


def _quality_rows(quality: dict[str, float]) -> list[tuple[str, str]]:
    values = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in quality.items())
    return [("by validation", values)] if values else []


def _spectrogram_rows(config: SpectrogramConfig) -> list[tuple[str, str]]:
    return [
        (
            "spectrogram",
            f"{config.n_mels} mels x {config.n_frames} frames, "
            f"{config.f_min:g} to {config.f_max:g} Hz, {config.top_db:g} dB",
        ),
        (
            "audio",
            f"{config.sample_rate} Hz, n_fft {config.n_fft}, hop {config.hop_length}, "
            f"{config.image_seconds:.2f} s an image",
        ),
    ]
