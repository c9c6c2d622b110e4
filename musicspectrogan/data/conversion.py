"""One track -> its images and a line for the report; what the worker processes run."""

from __future__ import annotations

from pathlib import Path

from musicspectrogan.audio.files import AudioError, load
from musicspectrogan.audio.images import image_name, write_image
from musicspectrogan.audio.spectrogram import SpectrogramConfig, cut_images, encode
from musicspectrogan.data.manifest import CONVERTED, SKIPPED, Outcome
from musicspectrogan.data.sources import Track
from musicspectrogan.errors import printable
from musicspectrogan.filesystem import sync_files

# No sample above -80 dBFS.
SILENCE = 10.0 ** (-80.0 / 20.0)


def convert_track(track: Track, output: Path, config: SpectrogramConfig, *, sync: bool) -> Outcome:
    """Decode, encode, cut and write one track; runs in a worker process.

    Args:
        sync: wait until the images are on the disk. Without it, that is for the caller to do before the
            report names them.
    """
    try:
        audio = load(track.path, config.sample_rate)
        seconds = len(audio.samples) / config.sample_rate
        if 1 + len(audio.samples) // config.hop_length < config.n_frames:
            raise AudioError(f"{seconds:.1f} s are shorter than one image of {config.image_seconds:.1f} s")
        if audio.peak <= SILENCE:
            raise AudioError("silent: no sample above -80 dBFS")
        grey, reference_db = encode(audio.samples, config)
        images = {k: image for k, image in enumerate(cut_images(grey, config)) if image.any()}
        if not images:
            raise AudioError("all images would be black")
    except AudioError as error:
        return outcome_of(track, SKIPPED, _joined(str(error), track.known_fault))
    paths = {segment: output / track.genre / image_name(track.id, segment) for segment in images}
    for segment, image in images.items():
        write_image(
            paths[segment],
            image,
            config,
            rivals=True,
            genre=track.genre,
            track=track.id,
            reference_db=f"{reference_db:.4f}",
        )
    if sync:
        sync_files(paths.values())
    return outcome_of(
        track,
        CONVERTED,
        _joined(audio.warning, track.known_fault),
        segments=len(images),
        seconds=round(seconds, 3),
        reference_db=round(reference_db, 4),
    )


def outcome_of(track: Track, status: str, reason: str, **measured: float) -> Outcome:
    """The report's line about a track; `measured` are its segments, seconds and reference_db."""
    return Outcome(
        track=track.id,
        genre=track.genre,
        split=track.split,
        status=status,
        reason=_one_line(reason),
        **{"segments": 0, "seconds": 0.0, "reference_db": 0.0, **measured},
        path=_one_line(track.name or track.path.name),
    )


def _one_line(text: str) -> str:
    """Printable text without line breaks: the report is read back line by line."""
    return printable(" ".join(text.split()))


def _joined(*reasons: str) -> str:
    return "; ".join(reason for reason in reasons if reason)
