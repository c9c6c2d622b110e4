"""The commands `invert`, spectrogram PNGs to audio, and `reconstruct`, audio to PNG and back."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from musicspectrogan import __version__
from musicspectrogan.audio import VOCODER_NAME
from musicspectrogan.audio.files import AudioError, check_rate, comment_of, load, save
from musicspectrogan.audio.finishing import finish, resample
from musicspectrogan.audio.images import (
    check_frames,
    read_image,
    segment_of_image,
    track_of_image,
    write_image,
)
from musicspectrogan.audio.inversion import round_trip_error
from musicspectrogan.audio.spectrogram import SpectrogramConfig, encode
from musicspectrogan.audio.tempo import tempo_of
from musicspectrogan.audio.vocoder import Vocoder, find_vocoder
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import make_folder, safe_name
from musicspectrogan.generation.folder import text_of
from musicspectrogan.generation.settings import SoundConfig
from musicspectrogan.generation.sound import choose_vocoder, sounds_of
from musicspectrogan.progress import progress_bar

logger = logging.getLogger(__name__)

# Start of the comment in every file that these commands write.
COMMENT_START = "by musicspectrogan"
INVERTED = "a spectrogram turned into sound"
ORIGINAL = "the original, at the same loudness"


def invert_images(
    paths: Sequence[Path],
    output: Path,
    form: SoundConfig | None = None,
    fallback: SpectrogramConfig | None = None,
) -> list[Path]:
    """Turn PNGs, and all PNGs in folders, into audio files in `output`; returns their paths.

    Consecutive segments of a track become one file, and subfolders become subfolders. All images
    are checked before the first file is written; but only those of one track are in memory at once.

    Args:
        form: format of the audio files; None for the defaults.
        fallback: settings of images that do not contain their own.

    Raises:
        UserError: no PNG, an image that is not a spectrogram, a rate that the format does not
            support, or two files with the same name.
    """
    form = form or SoundConfig()
    folders = _find_images(paths)
    groups = _group_segments(list(folders))
    targets = [
        output / folders[group[0]] / f"{safe_name(_name_of(group))}.{form.format}"
        for group in groups
    ]
    _check_distinct(groups, targets)
    configs = [_read_settings(group, fallback) for group in groups]
    vocoder_of = _vocoders(form.vocoder)
    for group, config in zip(groups, configs, strict=True):
        vocoder_of(group[0], config)  # before the first file is written
    for config, target in zip(configs, targets, strict=True):
        check_rate(form.format, form.rate_for(config.sample_rate))
        check_overwrite(target)
    with progress_bar(total=len(groups), description="Inverting", unit="file") as bar:
        for group, target, config in zip(groups, targets, configs, strict=True):
            image = np.concatenate([read_image(path, config)[0] for path in group], axis=1)
            make_folder(target.parent)
            rate = form.rate_for(config.sample_rate)
            vocoder = vocoder_of(group[0], config)
            (samples,) = sounds_of(image[None], config, vocoder, sample_rate=rate)
            tempo, comment = tempo_of(image, config), _comment(INVERTED)
            save(target, samples, rate, bit_depth=form.bits, tempo=tempo, comment=comment)
            bar.update()
    return targets


def _vocoders(named: str | None) -> Callable[[Path, SpectrogramConfig], Vocoder | None]:
    """A function that chooses the vocoder of an image by its dataset and its settings.

    Args:
        named: as for `choose_vocoder`.
    """

    @cache
    def choose(dataset: Path | None, config: SpectrogramConfig) -> Vocoder | None:
        own = find_vocoder(dataset, config) if dataset else None
        return choose_vocoder(named, own, config)

    def vocoder_of(image: Path, config: SpectrogramConfig) -> Vocoder | None:
        folders = image.resolve().parents[:2] if named is None else ()
        found = (folder for folder in folders if (folder / VOCODER_NAME).is_file())
        return choose(next(found, None), config)

    return vocoder_of


def reconstruct(audio: Path, output: Path, config: SpectrogramConfig, form: SoundConfig) -> float:
    """Write an audio file as a PNG and as the sound of that PNG.

    Returns:
        The round-trip error in dB.

    Raises:
        UserError: `audio` cannot be decoded or is silent, the format does not support the rate, or
            a foreign file would be overwritten.
    """
    rate = form.rate_for(config.sample_rate)
    check_rate(form.format, rate)
    vocoder = choose_vocoder(form.vocoder, None, config)
    try:
        loaded = load(audio, config.sample_rate)
    except AudioError as error:
        raise UserError(f"{audio}: {error}") from None
    if loaded.warning:
        logger.warning("%s: %s", audio, loaded.warning)
    samples = loaded.samples
    grey, _ = encode(samples, config)
    image = np.ascontiguousarray(grey[::-1])
    if not image.any():
        raise UserError(f"{audio}: silent; nothing to reconstruct")
    check_frames(image.shape[1], config, audio)
    stem = safe_name(audio.stem)
    image_path = output / f"{stem}.png"
    restored_path = output / f"{stem}.{form.format}"
    original_path = output / f"{stem}_original.{form.format}"
    for path in (image_path, restored_path, original_path):
        check_overwrite(path)
    seconds = len(samples) / config.sample_rate
    (restored,) = sounds_of(image[None], config, vocoder, sample_rate=rate, seconds=seconds)
    length = round(len(samples) * rate / config.sample_rate)
    original = resample([samples], config.sample_rate, rate, length)
    error_db = round_trip_error(original, restored, rate)
    finish(original, rate)
    make_folder(output)
    write_image(image_path, image, config, track=audio.stem)
    tempo = tempo_of(image, config)
    for path, sound, what in (
        (restored_path, restored, INVERTED),
        (original_path, original, ORIGINAL),
    ):
        comment = _comment(what)
        save(path, sound, rate, bit_depth=form.bits, tempo=tempo, comment=comment)
    return error_db


def check_overwrite(path: Path) -> None:
    """Raise UserError where a file exists that these commands have not written.

    The folder may be that of the user's music, under the name that its round trip would take.
    """
    if path.suffix == ".png":
        is_own = "spectrogram" in (text_of(path) or {})
    else:
        is_own = comment_of(path).startswith(COMMENT_START)
    if path.exists() and not is_own:
        raise UserError(
            f"{path}: exists and was not written by this command; move it, or give another --output"
        )


def _comment(what: str) -> str:
    return f"{COMMENT_START} {__version__}: {what}"


def _find_images(paths: Sequence[Path]) -> dict[Path, Path]:
    """All PNGs, each with its folder relative to the one given."""
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        if not path.is_dir():
            found[path] = Path()
            continue
        images = [
            p for p in sorted(path.rglob("*")) if p.suffix.lower() == ".png" and p.name[0] != "."
        ]
        if not images:
            raise UserError(f"{path}: contains no PNG")
        found |= {image: image.parent.relative_to(path) for image in images}
    return found


def _group_segments(paths: Sequence[Path]) -> list[list[Path]]:
    """Group `<track>_<segment>.png` of a folder into runs of consecutive segments."""
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


def _name_of(group: Sequence[Path]) -> str:
    first, last = group[0].name, group[-1].name
    if first == last:
        return group[0].stem
    return f"{track_of_image(first)}_{segment_of_image(first):03d}-{segment_of_image(last):03d}"


def _check_distinct(groups: Sequence[Sequence[Path]], targets: Sequence[Path]) -> None:
    """Raise UserError where a file would be written twice."""
    sources: dict[Path, Path] = {}
    for (first, *_), target in zip(groups, targets, strict=True):
        if target in sources:
            raise UserError(
                f"{sources[target]} and {first} would both become {target}; give the folder that "
                "contains both, or a separate --output for each"
            )
        sources[target] = first


def _read_settings(group: Sequence[Path], fallback: SpectrogramConfig | None) -> SpectrogramConfig:
    """The settings of a track's images; UserError where they differ or an image is unreadable."""
    first, *others = group
    pixels, settings = read_image(first, fallback)
    frames = pixels.shape[1]
    for path in others:
        pixels, config = read_image(path, fallback)
        if config != settings:
            raise UserError(
                f"{path}: has other settings than {first.name} of the same track; make it again"
            )
        frames += pixels.shape[1]
    check_frames(frames, settings, f"{first} and following")
    return settings
