"""Music that this package composes itself: a GTZAN tree of WAVs, written first, then read like any other."""

from __future__ import annotations

from pathlib import Path

import soundfile

from musicspectrogan.audio.files import save
from musicspectrogan.data import composer
from musicspectrogan.data.credits import Credit
from musicspectrogan.data.parallel import LOST, in_parallel
from musicspectrogan.data.sources import Selection, Track
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import make_folder, sole_writer
from musicspectrogan.progress import progress_bar

OPTIONS = ("limit", "tracks_per_genre", "seed")

DEFAULT_ROOT = Path("demo_music")
DEFAULT_TRACKS_PER_GENRE = 40


def find_tracks(root: Path | None, selection: Selection) -> list[Track]:
    """Compose what is not there yet below `root` (default: demo_music), and list it."""
    root = root or DEFAULT_ROOT
    count = selection.tracks_per_genre or DEFAULT_TRACKS_PER_GENRE
    seed = selection.seed or 0
    clips = [
        (root / style / f"{style}.{index:05d}.wav", style, index, seed)
        for style in composer.STYLES
        for index in range(min(count, selection.limit or count))
    ]
    missing = [clip for clip in clips if not _is_composed(*clip)]
    for style in composer.STYLES:
        make_folder(root / style)
    with (
        sole_writer(root, "composing"),
        progress_bar(total=len(missing), description="Composing", unit="clip") as bar,
    ):
        for _ in in_parallel(_compose, missing, lost=_lost):
            bar.update()
    return [Track(path.stem, style, path, credit=Credit()) for path, style, *_ in clips]


def _comment(style: str, index: int, seed: int) -> str:
    return f"MusicSpectroGAN demo music: {style} {index}, seed {seed}"


def _compose(clip: tuple[Path, str, int, int]) -> None:
    path, style, index, seed = clip
    samples = composer.compose(style, index, seed=seed)
    save(path, samples, composer.SAMPLE_RATE, comment=_comment(style, index, seed))


def _lost(clip: tuple[Path, str, int, int]) -> None:
    raise UserError(
        f"{clip[0]}: not composed: {LOST}; give the same command again with fewer --jobs"
    )


def _is_composed(path: Path, style: str, index: int, seed: int) -> bool:
    """True when the file is there and is this very clip."""
    try:
        with soundfile.SoundFile(path) as file:
            return file.comment == _comment(style, index, seed)
    except soundfile.LibsndfileError:
        return False
