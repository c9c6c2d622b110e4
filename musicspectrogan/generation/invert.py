"""Spectrogram PNGs -> audio files; and audio -> PNG -> audio, to hear what the images can hold."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from musicspectrogan.audio.fidelity import round_trip_error
from musicspectrogan.audio.files import AudioError, check_rate, load, save
from musicspectrogan.audio.finishing import finished
from musicspectrogan.audio.images import (
    check_frames,
    read_image,
    segment_of_image,
    track_of_image,
    write_image,
)
from musicspectrogan.audio.spectrogram import SpectrogramConfig, encode
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import make_folder, safe_name
from musicspectrogan.generation.sound import sounds_of
from musicspectrogan.progress import progress_bar

logger = logging.getLogger(__name__)


def invert_images(
    paths: Sequence[Path], output: Path, suffix: str, fallback: SpectrogramConfig | None = None
) -> list[Path]:
    """Turn PNGs, and all PNGs below folders, into audio files in `output`, which are returned.

    Consecutive segments of a track become one file. What lies in a sub-folder is written into the same one.

    Args:
        suffix: wav, flac, ogg or mp3.
        fallback: settings of images that do not carry their own.

    Raises:
        UserError: no PNG there, one that is no spectrogram or of a rate that the format has not, or two of
            one name.
    """
    folders = _all_images(paths)
    groups = consecutive(list(folders))
    targets = [output / folders[group[0]] / f"{safe_name(_name(group))}.{suffix}" for group in groups]
    _refuse_twins(groups, targets)
    # All are read before any is written: a wrong one among them costs nothing.
    loaded = [[read_image(path, fallback) for path in group] for group in groups]
    for group, images in zip(groups, loaded, strict=True):
        for path, (_, config) in zip(group, images, strict=True):
            if config != images[0][1]:
                raise UserError(
                    f"{path}: has other settings than {group[0].name}, the same track's; make it again"
                )
        check_rate(suffix, images[0][1].sample_rate)
        check_frames(sum(pixels.shape[1] for pixels, _ in images), images[0][1], f"{group[0]} and on")
    with progress_bar(total=len(groups), description="Inverting", unit="file") as bar:
        for target, images in zip(targets, loaded, strict=True):
            joined = np.concatenate([pixels for pixels, _ in images], axis=1)
            config = images[0][1]
            make_folder(target.parent)
            save(target, sounds_of(joined[None], config)[0], config.sample_rate)
            bar.update()
    return targets


def consecutive(paths: Sequence[Path]) -> list[list[Path]]:
    """Group `<track>_<segment>.png` in one folder into runs of consecutive segments; others stay alone."""
    tracks: dict[tuple[Path, str], list[tuple[int, Path]]] = defaultdict(list)
    groups: list[list[Path]] = []
    for path in paths:
        segment = segment_of_image(path.name)
        if segment is None or not track_of_image(path.name):
            groups.append([path])
        else:
            tracks[path.parent, track_of_image(path.name)].append((segment, path))
    for segments in tracks.values():
        last = None
        for segment, path in sorted(segments):
            if last is not None and segment == last + 1:
                groups[-1].append(path)
            else:
                groups.append([path])
            last = segment
    return groups


def reconstruct(audio: Path, output: Path, config: SpectrogramConfig, suffix: str) -> float:
    """Write `audio` as one PNG and as the sound of that PNG; returns the round trip's error in dB.

    Raises:
        UserError: it cannot be decoded, or the format has not the rate of `config`.
    """
    check_rate(suffix, config.sample_rate)
    try:
        read = load(audio, config.sample_rate)
    except AudioError as error:
        raise UserError(f"{audio}: {error}") from None
    if read.warning:
        logger.warning("%s: %s", audio, read.warning)
    samples = read.samples
    grey, _ = encode(samples, config)
    image = np.ascontiguousarray(grey[::-1])
    if not image.any():
        raise UserError(f"{audio}: silent; nothing to reconstruct")
    check_frames(image.shape[1], config, audio)
    restored = sounds_of(image[None], config)[0]
    make_folder(output)
    name = safe_name(audio.stem)
    write_image(output / f"{name}.png", image, config, track=audio.stem)
    save(output / f"{name}.{suffix}", restored, config.sample_rate)
    save(output / f"{name}_original.{suffix}", finished(samples, config.sample_rate), config.sample_rate)
    return round_trip_error(samples, restored, config.sample_rate)


def _all_images(paths: Sequence[Path]) -> dict[Path, Path]:
    """Every PNG, with its folder below the one that was named."""
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: there is no such file or folder")
        if not path.is_dir():
            found[path] = Path()
            continue
        inside = [p for p in sorted(path.rglob("*.png")) if not p.name.startswith(".")]
        if not inside:
            raise UserError(f"{path}: no PNG in it")
        found |= {image: image.parent.relative_to(path) for image in inside}
    return found


def _refuse_twins(groups: Sequence[Sequence[Path]], targets: Sequence[Path]) -> None:
    """Raise UserError where a file would be written twice."""
    sources: dict[Path, Path] = {}
    for (first, *_), target in zip(groups, targets, strict=True):
        if target in sources:
            raise UserError(
                f"{sources[target]} and {first} would both become {target}; name the folder above both, or "
                "give each an --output of its own"
            )
        sources[target] = first


def _name(group: Sequence[Path]) -> str:
    first, last = group[0], group[-1]
    if first == last:
        return first.stem
    return (
        f"{track_of_image(first.name)}_{segment_of_image(first.name):03d}-{segment_of_image(last.name):03d}"
    )
