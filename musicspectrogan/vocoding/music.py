"""The music that a vocoder is learned from: excerpts in memory, and batches of windows of them."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr
import torch
from torch import Tensor

from musicspectrogan.audio.files import AudioError, load
from musicspectrogan.audio.spectrogram import SpectrogramConfig, encode
from musicspectrogan.counts import format_count
from musicspectrogan.data.archives import is_file, is_folder, local_file, local_files
from musicspectrogan.data.listing import find_top
from musicspectrogan.data.manifest import REPORT_NAME, Manifest, Report, find_music_folder
from musicspectrogan.errors import UserError
from musicspectrogan.progress import progress_bar

logger = logging.getLogger(__name__)

# Bounds of what is in memory: 160 MB, half an hour at 22,050 Hz.
MOST_TRACKS, MOST_SAMPLES = 120, 40_000_000
# Tracks of another split that a vocoder is judged by, and seconds of each.
VALIDATION_TRACKS, VALIDATION_SECONDS = 20, 10
# Windows are played faster or slower by up to so much, which gives more pitches than there are.
SEMITONES = 1.0
PROBLEMS_SHOWN = 5

Samples = npt.NDArray[np.float32]


def read_manifest(dataset: Path) -> Manifest:
    """The manifest of a finished dataset.

    Raises:
        UserError: the folder is none.
    """
    manifest = Manifest.read(dataset) if dataset.is_dir() else None
    if manifest is None:
        raise UserError(
            f"{dataset}: no dataset.json of this tool in it; name a folder that preprocess.py "
            "made from audio"
        )
    if not manifest.tracks:
        raise UserError(f"{dataset}: is unfinished; run the same preprocess command again")
    return manifest


class Music:
    """The tracks of a dataset, by split.

    Args:
        dataset: folder with dataset.json.
        folder: of the music; None for the one that preprocessing read.

    Raises:
        UserError: as `read_manifest`, or the music is not found.
    """

    def __init__(self, dataset: Path, folder: Path | None = None) -> None:
        manifest = read_manifest(dataset)
        self.spectrogram = manifest.spectrogram
        root = find_top(folder) if folder else find_music_folder(dataset, manifest)
        if root is None or not is_folder(root):
            missing = root or manifest.selection.get("input") or "its folder is not recorded"
            raise UserError(
                f"{dataset}: the music that it was made from ({missing}) is not there; name its "
                "folder or archive with --input"
            )
        if not Report.is_in(dataset):
            raise UserError(
                f"{dataset}: {REPORT_NAME}, which names the files of the tracks, is not there; "
                "run the same preprocess command again"
            )
        paths = {o.track: root / o.path for o in Report(dataset).outcomes.values()}
        if not any(is_file(path) for path in paths.values()):
            raise UserError(
                f"{root}: none of the files of {dataset} are in it; name the folder that was "
                "--input of preprocess.py"
            )
        self._tracks = [
            (track["split"], track["genre"], paths[track["id"]])
            for track in sorted(manifest.tracks, key=lambda track: str(track["id"]))
            if track["id"] in paths
        ]

    def excerpts(self, split: str, *, most: int, samples: int, seed: int = 0) -> list[Samples]:
        """Parts of the tracks of a split (n,), as evenly spread over genres as possible.

        Each is scaled so that its track's loudest mel bin, which is white in images, has power 1.
        Files that cannot be read are left out with a warning.

        Args:
            most: number of tracks.
            samples: of all excerpts together.
            seed: of the choice.
        """
        rng = np.random.default_rng(seed)
        rows: dict[str, list[Path]] = defaultdict(list)
        for track_split, genre, path in self._tracks:
            if track_split == split:
                rows[genre].append(path)
        shuffled = [[row[k] for k in rng.permutation(len(row))] for row in rows.values()]
        paths = [path for path in chain(*zip_longest(*shuffled)) if path is not None]
        chosen, problems = paths[:most], []
        excerpts: list[Samples] = []
        with (
            local_files(chosen) as files,
            progress_bar(total=len(chosen), description="Reading", unit="track") as bar,
        ):
            for number, path in enumerate(files):
                length = (samples - sum(map(len, excerpts))) // (len(chosen) - number)
                try:
                    excerpts.append(self._read(path, length, rng))
                except AudioError as error:
                    problems.append(f"{chosen[number]}: {error}")
                bar.update()
        if problems:
            more = f"; and {len(problems) - PROBLEMS_SHOWN} more" * (len(problems) > PROBLEMS_SHOWN)
            logger.warning(
                "%s left out: %s%s",
                format_count(len(problems), f"{split} track"),
                "; ".join(problems[:PROBLEMS_SHOWN]),
                more,
            )
        if len(paths) > most:
            logger.info("Taking %d of the %d %s tracks", most, len(paths), split)
        return excerpts

    def _read(self, path: Path, length: int, rng: np.random.Generator) -> Samples:
        with local_file(path) as local:
            samples = load(local, self.spectrogram.sample_rate).samples
        _, reference_db = encode(samples, self.spectrogram)
        start = int(rng.integers(max(0, len(samples) - length) + 1))
        scaled: Samples = samples[start : start + length] * np.float32(10 ** (-reference_db / 20))
        return scaled


def windows(
    excerpts: Sequence[Samples],
    config: SpectrogramConfig,
    columns: int,
    count: int,
    position: tuple[int, ...],
) -> Tensor:
    """Random windows (count, n) of excerpts, each played a little faster or slower.

    Args:
        config: settings of the images, of which a window covers so many `columns`.
        position: of the random numbers, from which the windows follow.
    """
    rng = np.random.default_rng(position)
    length = (columns - 1) * config.hop_length + config.n_fft
    weights = np.array([len(excerpt) for excerpt in excerpts], dtype=float)
    chosen = rng.choice(len(excerpts), count, p=weights / weights.sum())
    batch = np.zeros((count, length), dtype=np.float32)
    for row, number in zip(batch, chosen, strict=True):
        rate, excerpt = 2.0 ** (rng.uniform(-SEMITONES, SEMITONES) / 12.0), excerpts[number]
        needed = int(np.ceil(length * rate)) + 1
        start = int(rng.integers(max(0, len(excerpt) - needed) + 1))
        played = soxr.resample(excerpt[start : start + needed], rate, 1.0)[:length]
        row[: len(played)] = played
    return torch.from_numpy(batch)
