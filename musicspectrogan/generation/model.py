"""A trained generator with its way back to sound: what the commands and the Python API share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from musicspectrogan.audio.images import check_frames
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.audio.vocoder import Vocoder, find_vocoder
from musicspectrogan.errors import SettingError, named_as_in_python
from musicspectrogan.generation.pieces import loop_multiple, piece
from musicspectrogan.generation.player import Player
from musicspectrogan.generation.sampler import LatentSpec, Mixture, Sampler, seed_spec
from musicspectrogan.generation.selection import Row, mixture_row, select_rows
from musicspectrogan.generation.settings import GenerateConfig, SoundConfig
from musicspectrogan.generation.sound import (
    choose_vocoder,
    loop_settings,
    sound_of_loop,
    sounds_of,
)
from musicspectrogan.training.checkpoint import Checkpoint

Genre = str | int | Mapping[str, float] | None
"""Name or index of a genre, a mixture of weights by name, or None for a model without genres."""


class Model:
    """A trained generator, to make images and sounds of seeds; made by `musicspectrogan.load`.

    Equal arguments give the same bytes as the command `generate`, on the same device.

    Args:
        checkpoint: of any GAN.
        vocoder: of `vocoder_for`; None for sounds by the non-negative fit.
        device: computes the images; sounds are computed on the CPU.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        vocoder: Vocoder | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.checkpoint = checkpoint
        self.vocoder = vocoder
        self.sampler = Sampler(checkpoint, device)

    def __repr__(self) -> str:
        size = f"{self.spectrogram.n_mels} mel bands, {self.sample_rate} Hz"
        return f"Model({self.checkpoint.gan}, genres={self.genres}, {size}, on {self.device})"

    @property
    def genres(self) -> list[str]:
        """Names of the genres; empty if the model ignores them."""
        return list(self.sampler.genres) if self.sampler.conditional else []

    @property
    def device(self) -> torch.device:
        """Computes the images."""
        return self.sampler.device

    @property
    def spectrogram(self) -> SpectrogramConfig:
        """The settings of its images."""
        return self.sampler.spectrogram

    @property
    def sample_rate(self) -> int:
        """Samples per second of its sounds, unless another rate is asked for."""
        return self.spectrogram.sample_rate

    @named_as_in_python()
    def images(
        self,
        genre: Genre = None,
        seeds: int | Sequence[int] = 0,
        *,
        seconds: float | None = None,
        truncation: float = 1.0,
        loop: bool = False,
    ) -> npt.NDArray[np.uint8]:
        """Spectrograms (B, n_mels, T) of seeds: grey levels from 0 to 255, low frequencies last.

        Args:
            genre: a name, an index, or weights such as `{"blues": 0.7, "jazz": 0.3}`. None if
                there is only one genre, or none.
            seeds: one or several whole numbers from 0.
            seconds: length of a continuous piece; None for one image of about three seconds.
            truncation: scale of the latents, above 0 and at most 2.
            loop: make pieces that loop without a seam.

        Raises:
            UserError: an unknown genre, or a value out of its range.
        """
        config = GenerateConfig(seconds=seconds, truncation=truncation, loop=loop)
        row = self._row(genre)
        images, _ = self.draw(_specs(seeds), row.start, row.end, config)
        return images

    def sounds(
        self,
        genre: Genre = None,
        seeds: int | Sequence[int] = 0,
        *,
        seconds: float | None = None,
        truncation: float = 1.0,
        loop: bool = False,
        sample_rate: int | None = None,
    ) -> npt.NDArray[np.float32]:
        """Sounds (B, n) of seeds: samples between -1 and 1, at equal loudness.

        Takes what `images` takes, and a sample rate.

        Args:
            sample_rate: Hz; None for `self.sample_rate`.

        Raises:
            UserError: as `images`.
        """
        player = self.play(
            genre,
            seeds,
            seconds=seconds,
            truncation=truncation,
            loop=loop,
            sample_rate=sample_rate,
        )
        return np.stack(player.sounds)

    @named_as_in_python()
    def play(
        self,
        genre: Genre = None,
        seeds: int | Sequence[int] = 0,
        *,
        seconds: float | None = None,
        truncation: float = 1.0,
        loop: bool = False,
        sample_rate: int | None = None,
    ) -> Player:
        """A player for notebooks, with a spectrogram over each sound; takes what `sounds` takes.

        Raises:
            UserError: as `images`.
        """
        form = SoundConfig(sample_rate=sample_rate)
        config = GenerateConfig(seconds=seconds, truncation=truncation, loop=loop, sound=form)
        specs, row = _specs(seeds), self._row(genre)
        images, settings = self.draw(specs, row.start, row.end, config)
        sounds = self.invert(images, settings, config)
        name = f"{row.name}, " if row.start else ""
        captions = [f"{name}{spec.caption}" for spec in specs]
        return Player(images, sounds, form.rate_for(self.sample_rate), captions, loops=loop)

    def draw(
        self, specs: Sequence[LatentSpec], start: Mixture, end: Mixture, config: GenerateConfig
    ) -> tuple[npt.NDArray[np.uint8], SpectrogramConfig]:
        """Images (B, n_mels, T) of latents, and their settings, whose hop a loop may change.

        Args:
            start, end: mixtures of genres at both ends of a piece; the same for a single image.
            config: gives length, loop, tempo and truncation.
        """
        settings, seconds = self.spectrogram, config.length
        first, last = self.sampler.mixture(start), self.sampler.mixture(end)
        if not seconds:
            latents = torch.stack([self.sampler.latent(spec) for spec in specs])
            labels = first.expand(len(specs), -1)
            return self.sampler.images(latents * config.truncation, labels), settings
        frames = settings.frames_in(seconds)
        if config.loop:
            multiple = loop_multiple(self.sampler)
            frames, settings = loop_settings(seconds, settings, multiple, self.vocoder)
        flag = f"--seconds {seconds:g}" if config.bars is None else f"--bars {config.bars}"
        check_frames(frames, settings, flag)
        pieces = [
            piece(
                self.sampler,
                spec,
                first,
                last,
                frames,
                loops=config.loop,
                truncation=config.truncation,
                beats=config.tempo.beats if config.tempo else None,
            )
            for spec in specs
        ]
        return np.stack(pieces), settings

    def invert(
        self, images: npt.NDArray[np.uint8], settings: SpectrogramConfig, config: GenerateConfig
    ) -> list[npt.NDArray[np.float32]]:
        """Finished samples (n,) of each of the images (B, n_mels, T) that `draw` gave."""
        seconds, rate = config.length, config.sound.sample_rate
        if config.loop and seconds:
            return [
                sound_of_loop(image, settings, seconds, self.vocoder, sample_rate=rate)
                for image in images
            ]
        return sounds_of(images, settings, self.vocoder, sample_rate=rate, seconds=seconds)

    def _row(self, genre: Genre) -> Row:
        if isinstance(genre, Mapping):
            return mixture_row(genre, self.genres)
        named = None if genre is None else str(genre)
        rows = select_rows(named, None, self.sampler.genres, conditional=self.sampler.conditional)
        if len(rows) > 1:
            raise SettingError("genre", f"name one of {', '.join(self.genres)}, or give weights")
        return rows[0]


def vocoder_for(checkpoint: Checkpoint, dataset: Path | None, named: str | None) -> Vocoder | None:
    """The vocoder for a checkpoint: the named one, its own, its dataset's, or the package's.

    Args:
        dataset: the folder that it was trained on, if it is there.
        named: value of `--vocoder`.

    Raises:
        UserError: the named file is no vocoder, or is for images with other settings.
    """
    own = checkpoint.build_vocoder()
    if own is None and named is None and dataset is not None:
        own = find_vocoder(dataset, checkpoint.spectrogram)
    return choose_vocoder(named, own, checkpoint.spectrogram)


def _specs(seeds: int | Sequence[int]) -> list[LatentSpec]:
    found = np.atleast_1d(np.asarray(seeds))
    if not (found.ndim == 1 and found.size and found.dtype.kind in "iu" and found.min() >= 0):
        raise SettingError("seeds", f"{seeds!r} is not allowed; give whole numbers from 0")
    return [seed_spec(int(seed)) for seed in found]
