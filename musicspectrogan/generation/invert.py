"""Spectrogram PNGs -> audio files; and audio -> PNG -> audio, to hear what the images can hold."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from musicspectrogan import __version__
from musicspectrogan.audio.files import AudioError, check_rate, comment_of, load, save
from musicspectrogan.audio.finishing import finished, resampled
from musicspectrogan.audio.images import (
    check_frames,
    read_image,
    segment_of_image,
    track_of_image,
    write_image,
)
from musicspectrogan.audio.inversion import round_trip_error
from musicspectrogan.audio.spectrogram import SpectrogramConfig, encode
from musicspectrogan.audio.tempo import Tempo, tempo_of
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import make_folder, safe_name
from musicspectrogan.generation.folder import text_of
from musicspectrogan.generation.settings import SoundConfig
from musicspectrogan.generation.sound import sounds_of
from musicspectrogan.progress import progress_bar

logger = logging.getLogger(__name__)

# How the comment in every file of these commands begins.
OURS = "by musicspectrogan"
INVERTED = "a spectrogram turned into sound"
ORIGINAL = "the original, at the same loudness"


def invert_images(
    paths: Sequence[Path],
    output: Path,
    form: SoundConfig | None = None,
    fallback: SpectrogramConfig | None = None,
) -> list[Path]:
    """Turn PNGs, and all PNGs below folders, into audio files in `output`, which are returned.

    Consecutive segments of a track become one file. What lies in a sub-folder is written into the same one.
    All are read before any is written, so that a wrong one among them costs nothing; but the pixels of one
    track at a time are held in memory.

    Args:
        form: how the sounds are written; None for the usual.
        fallback: settings of images that do not carry their own.

    Raises:
        UserError: no PNG there, one that is no spectrogram or of a rate that the format has not, or two of
            one name.
    """
    form = form or SoundConfig()
    folders = _all_images(paths)
    groups = consecutive(list(folders))
    targets = [
        output / folders[group[0]] / f"{safe_name(_name(group))}.{form.format}" for group in groups
    ]
    _refuse_twins(groups, targets)
    configs = [_settings_of(group, fallback) for group in groups]
    for config, target in zip(configs, targets, strict=True):
        check_rate(form.format, form.sample_rate or config.sample_rate)
        refuse_foreign(target)
    with progress_bar(total=len(groups), description="Inverting", unit="file") as bar:
        for group, target, config in zip(groups, targets, configs, strict=True):
            joined = np.concatenate([read_image(path, config)[0] for path in group], axis=1)
            make_folder(target.parent)
            (samples,) = sounds_of(joined[None], config, sample_rate=form.sample_rate)
            rate = form.sample_rate or config.sample_rate
            _save(target, samples, rate, form, what=INVERTED, tempo=tempo_of(joined, config))
            bar.update()
    return targets


def _settings_of(group: Sequence[Path], fallback: SpectrogramConfig | None) -> SpectrogramConfig:
    """The settings of a track's images; UserError where they differ, or one cannot be read."""
    frames, settings = 0, None
    for path in group:
        pixels, config = read_image(path, fallback)
        if settings not in (None, config):
            raise UserError(
                f"{path}: has other settings than {group[0].name}, the same track's; make it again"
            )
        settings, frames = config, frames + pixels.shape[1]
    check_frames(frames, settings, f"{group[0]} and on")
    return settings


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


def reconstruct(audio: Path, output: Path, config: SpectrogramConfig, form: SoundConfig) -> float:
    """Write `audio` as one PNG and as the sound of that PNG; returns the round trip's error in dB.

    Raises:
        UserError: it cannot be decoded, the format has no such rate, or a file of somebody else would be
            overwritten.
    """
    check_rate(form.format, form.sample_rate or config.sample_rate)
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
    name = safe_name(audio.stem)
    restored_to, original_to = (
        output / f"{stem}.{form.format}" for stem in (name, f"{name}_original")
    )
    for target in (output / f"{name}.png", restored_to, original_to):
        refuse_foreign(target)
    seconds = len(samples) / config.sample_rate
    (restored,) = sounds_of(image[None], config, sample_rate=form.sample_rate, seconds=seconds)
    rate = form.sample_rate or config.sample_rate
    original = resampled(
        samples, config.sample_rate, rate, round(len(samples) * rate / config.sample_rate)
    )
    make_folder(output)
    write_image(output / f"{name}.png", image, config, track=audio.stem)
    tempo = tempo_of(image, config)
    _save(restored_to, restored, rate, form, what=INVERTED, tempo=tempo)
    _save(original_to, finished(original, rate), rate, form, what=ORIGINAL, tempo=tempo)
    return round_trip_error(original, restored, rate)


def refuse_foreign(path: Path) -> None:
    """Raise UserError where a file would be overwritten that this tool cannot be shown to have written.

    The user's own music may lie in the folder, under the very name that its round trip takes.
    """
    if path.suffix == ".png":
        is_ours = "spectrogram" in (text_of(path) or {})
    else:
        is_ours = comment_of(path).startswith(OURS)
    if path.exists() and not is_ours:
        raise UserError(
            f"{path}: is there already, and not by this command; move it away, or give another --output"
        )


def _save(
    path: Path, samples: np.ndarray, rate: int, form: SoundConfig, *, what: str, tempo: Tempo | None
) -> None:
    save(
        path,
        samples,
        rate,
        bit_depth=form.bits,
        tempo=tempo,
        comment=f"{OURS} {__version__}: {what}",
    )


def _all_images(paths: Sequence[Path]) -> dict[Path, Path]:
    """Every PNG, with its folder below the one that was named."""
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: there is no such file or folder")
        if not path.is_dir():
            found[path] = Path()
            continue
        inside = [
            p for p in sorted(path.rglob("*")) if p.suffix.lower() == ".png" and p.name[0] != "."
        ]
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
    return f"{track_of_image(first.name)}_{segment_of_image(first.name):03d}-{segment_of_image(last.name):03d}"
