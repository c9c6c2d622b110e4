"""Demo music that this package composes, written as WAV files in the layout of GTZAN."""

from __future__ import annotations

from pathlib import Path

import soundfile

from musicspectrogan.audio.files import save
from musicspectrogan.data import composer
from musicspectrogan.data.credits import Credit
from musicspectrogan.data.parallel import WORKER_DIED, in_parallel
from musicspectrogan.data.sources import Selection, Track
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import folder_lock, make_folder
from musicspectrogan.progress import progress_bar

OPTIONS = ("limit", "tracks_per_genre", "seed")

DEFAULT_ROOT = Path("demo_music")
DEFAULT_TRACKS_PER_GENRE = 40


def find_tracks(root: Path | None, selection: Selection) -> list[Track]:
    """Compose the missing clips below `root` (default: demo_music); return all clips."""
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
        folder_lock(root, "composing"),
        progress_bar(total=len(missing), description="Composing", unit="clip") as bar,
    ):
        for _ in in_parallel(_compose, missing, on_death=_fail):
            bar.update()
    return [Track(path.stem, style, path, credit=Credit()) for path, style, *_ in clips]


def _comment(style: str, index: int, seed: int) -> str:
    return f"MusicSpectroGAN demo music: {style} {index}, seed {seed}"


def _compose(clip: tuple[Path, str, int, int]) -> None:
    path, style, index, seed = clip
    samples = composer.compose(style, index, seed=seed)
    save(path, samples, composer.SAMPLE_RATE, comment=_comment(style, index, seed))


def _fail(clip: tuple[Path, str, int, int]) -> None:
    raise UserError(f"{clip[0]}: not composed: {WORKER_DIED}; repeat the command with fewer --jobs")


def _is_composed(path: Path, style: str, index: int, seed: int) -> bool:
    """Return True if the file exists and contains this clip."""
    try:
        with soundfile.SoundFile(path) as file:
            return bool(file.comment == _comment(style, index, seed))
    except soundfile.LibsndfileError:
        return False
