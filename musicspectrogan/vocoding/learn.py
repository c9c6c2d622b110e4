"""The command `vocoder`: from a dataset's music to vocoder.pt beside its dataset.json."""

from __future__ import annotations

import copy
import hashlib
import logging
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from musicspectrogan import __version__
from musicspectrogan.audio import VOCODER_NAME
from musicspectrogan.audio.inversion import invert, round_trip_error
from musicspectrogan.audio.spectrogram import (
    SpectrogramConfig,
    encode,
    mel_filterbank,
)
from musicspectrogan.audio.vocoder import Record, Vocoder, load_vocoder, save_vocoder
from musicspectrogan.counts import format_count
from musicspectrogan.errors import Interrupted, UserError
from musicspectrogan.filesystem import folder_lock
from musicspectrogan.progress import progress_bar
from musicspectrogan.stopping import stop_on_signals
from musicspectrogan.torchfiles import check_weights, read_torch_file, write_torch_file
from musicspectrogan.vocoding.music import (
    MOST_SAMPLES,
    MOST_TRACKS,
    VALIDATION_SECONDS,
    VALIDATION_TRACKS,
    Music,
    Samples,
    read_manifest,
    windows,
)
from musicspectrogan.vocoding.settings import VocoderConfig

logger = logging.getLogger(__name__)

UNFINISHED_NAME = ".vocoder.unfinished.pt"
SECONDS_BETWEEN_SAVES = 30.0

STEPS = 800
# Pixels of a batch, in windows of so many columns: a step takes as long with any number of bands.
BATCH_PIXELS, COLUMNS = 8 * 64 * 64, 64
LEARNING_RATE, WARM_UP_STEPS = 2e-3, 50
BETAS, WEIGHT_DECAY, MAX_GRADIENT = (0.8, 0.95), 0.01, 20.0
# Share of the averaged weights that each step replaces.
AVERAGING = 0.02
# Mel bands in which powers are compared, as fine as an ear hears and finer.
COMPARED_BANDS = (128, 320)
# Power that is not heard beside white, 1: differences below it count little.
INAUDIBLE = 1e-6
BIN_WEIGHT, FLUX_WEIGHT, ONSET_WEIGHT = 0.3, 1.5, 1.0
DECIBELS = 10.0 / math.log(10.0)


def learn(config: VocoderConfig, device: torch.device) -> Vocoder:
    """Learn a vocoder from the training tracks of a dataset, and write it there.

    An interrupted command continues where it was when it is repeated. A finished one returns the
    vocoder that is there, unless `overwrite` asks for another.

    Raises:
        UserError: the dataset or its music is missing or cannot be used.
        Interrupted: by Ctrl-C; what was learned so far is saved.
    """
    spectrogram = read_manifest(config.dataset).spectrogram
    path = config.dataset / VOCODER_NAME
    with folder_lock(config.dataset, "learning a vocoder"):
        if path.is_file() and not config.overwrite:
            vocoder = load_vocoder(path)
            if vocoder.fits(spectrogram):
                logger.info("%s is there already; --overwrite learns another", path)
                return vocoder
            logger.info("%s is for other spectrogram settings; learning another", path)
        music = Music(config.dataset, config.input)
        excerpts = music.excerpts(
            "training", most=MOST_TRACKS, samples=MOST_SAMPLES, seed=config.seed
        )
        minutes = sum(map(len, excerpts)) / spectrogram.sample_rate / 60
        if not excerpts:
            raise UserError(
                f"{config.dataset}: has no training tracks that can be read; name the folder of "
                "its music with --input, or run preprocess again on music that can be read"
            )
        logger.info("Learning from %s, %.1f minutes", format_count(len(excerpts), "track"), minutes)
        trainer = VocoderTrainer(
            spectrogram, excerpts, device, seed=config.seed, minutes=config.minutes
        )
        trainer.run(config.dataset / UNFINISHED_NAME)
        vocoder = trainer.averaged.cpu()
        errors = _validate(vocoder, music)
        vocoder.record = Record(len(excerpts), minutes, trainer.step, config.seed, *errors)
        save_vocoder(vocoder, path)
        (config.dataset / UNFINISHED_NAME).unlink(missing_ok=True)
    return vocoder


class VocoderTrainer:
    """Trains a vocoder; random numbers follow from the seed and the step.

    Args:
        spectrogram: settings of the images.
        excerpts: see `Music.excerpts`.
        seed: of the initial weights and the windows.
        minutes: time to learn for; None for STEPS steps.
    """

    def __init__(
        self,
        spectrogram: SpectrogramConfig,
        excerpts: Sequence[Samples],
        device: torch.device,
        *,
        seed: int = 0,
        minutes: float | None = None,
    ) -> None:
        self.excerpts, self.device, self.seed, self.minutes = excerpts, device, seed, minutes
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed seeds all devices
            self.vocoder = Vocoder(spectrogram).to(device)
        self.averaged = copy.deepcopy(self.vocoder).eval().requires_grad_(False)
        self.loss = VocoderLoss(self.vocoder).to(device)
        self.optimizer = torch.optim.AdamW(
            self.vocoder.parameters(), LEARNING_RATE, betas=BETAS, weight_decay=WEIGHT_DECAY
        )
        self.step, self.seconds = 0, 0.0

    @property
    def progress(self) -> float:
        """Share of the steps, or of the time, that is done."""
        done = self.step / STEPS if self.minutes is None else self.seconds / 60 / self.minutes
        return min(1.0, done)

    def run(self, unfinished: Path) -> None:
        """Learn to the end.

        Args:
            unfinished: file to continue from, and to save to now and then and on Ctrl-C.

        Raises:
            UserError: gradients are no longer finite.
            Interrupted: by Ctrl-C or SIGTERM.
        """
        self._load(unfinished)
        stop, saved = threading.Event(), time.perf_counter()
        with (
            stop_on_signals(stop.set),
            progress_bar(
                total=STEPS, initial=self.step, description="Learning", unit="step"
            ) as bar,
        ):
            while self.progress < 1:
                begun = time.perf_counter()
                self.advance()
                self.seconds += time.perf_counter() - begun
                bar.total = max(self.step, round(self.step / self.progress))
                bar.update()
                if stop.is_set() or time.perf_counter() - saved > SECONDS_BETWEEN_SAVES:
                    self._save(unfinished)
                    saved = time.perf_counter()
                if stop.is_set():
                    raise Interrupted(
                        f"interrupted and saved after step {self.step}; repeat the command to "
                        "continue"
                    )
        self._save(unfinished)  # validation can be interrupted too

    def advance(self) -> dict[str, Tensor]:
        """Take a step; returns the parts of the loss."""
        config = self.vocoder.spectrogram
        count = max(1, BATCH_PIXELS // (COLUMNS * config.n_mels))
        sounds = windows(self.excerpts, config, COLUMNS, count, (self.seed, self.step))
        parts = self.loss(self.vocoder, sounds.to(self.device))
        annealed = 0.5 * (1.0 + math.cos(math.pi * self.progress))
        for group in self.optimizer.param_groups:
            group["lr"] = LEARNING_RATE * annealed * min(1.0, (self.step + 1) / WARM_UP_STEPS)
        self.optimizer.zero_grad()
        torch.stack(list(parts.values())).sum().backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.vocoder.parameters(), MAX_GRADIENT)
        if not norm.isfinite():  # waits for a GPU, whose steps take longer than their start
            raise UserError(
                f"the gradients of step {self.step + 1} are not finite; try another --seed"
            )
        self.optimizer.step()
        with torch.no_grad():
            weights = zip(self.averaged.parameters(), self.vocoder.parameters(), strict=True)
            for average, weight in weights:
                average.lerp_(weight, AVERAGING)
        self.step += 1
        return {name: value.detach() for name, value in parts.items()}

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """What must be equal for an unfinished vocoder to be continued."""
        music = hashlib.sha256()
        for excerpt in self.excerpts:
            music.update(np.ascontiguousarray(excerpt).data)
        return {
            "version": __version__,
            "spectrogram": asdict(self.vocoder.spectrogram),
            "music": music.hexdigest(),
            "seed": self.seed,
            "minutes": self.minutes,
        }

    def _save(self, path: Path) -> None:
        contents = {
            "identity": self._identity,
            "step": self.step,
            "seconds": self.seconds,
            "vocoder": self.vocoder.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        write_torch_file(contents, path)

    def _load(self, path: Path) -> None:
        """Continue an unfinished vocoder, if there is one with the same music and settings."""
        if not path.is_file():
            return
        try:
            contents = read_torch_file(path)
            if contents["identity"] != self._identity:
                logger.info("An unfinished vocoder is of other music or settings: starting anew")
                return
            check_weights("vocoder", contents["vocoder"], self.vocoder)
            check_weights("vocoder", contents["averaged"], self.vocoder)
            self.optimizer.load_state_dict(contents["optimizer"])
            self.vocoder.load_state_dict(contents["vocoder"])
            self.averaged.load_state_dict(contents["averaged"])
            self.step, self.seconds = int(contents["step"]), float(contents["seconds"])
        except OSError:
            raise
        except Exception as error:  # the file may hold anything
            raise UserError(f"{path} is damaged ({error}); delete it to start anew") from None
        logger.info("Continuing after step %d", self.step)


class VocoderLoss(nn.Module):
    """Distances in dB of a vocoder's power from that of the sound that its images are of.

    `bands`: mean absolute difference of log-mel power, with bands about as narrow as hearing's and
    narrower. `bins`: the same of Fourier bins. `flux`: absolute difference of the mean change from
    frame to frame of each band; without it, regression smooths over time, which takes the edge off
    onsets and the grain off noise. `onsets`: absolute difference of the mean rise of all bands in
    each frame, the onset strength; without it, bands rise together where nothing begins.
    """

    filters_0: Tensor
    filters_1: Tensor
    image_filters: Tensor
    window: Tensor

    def __init__(self, vocoder: Vocoder) -> None:
        super().__init__()
        config = vocoder.spectrogram
        for number, bands in enumerate(COMPARED_BANDS):
            compared = replace(config, n_mels=bands, f_min=0.0, f_max=config.sample_rate / 2)
            self.register_buffer(f"filters_{number}", _filters(compared))
        self.register_buffer("image_filters", _filters(config))
        self.register_buffer("window", torch.hann_window(config.n_fft))
        # Of a band, in proportion to the bins in it.
        self.inaudible = [
            INAUDIBLE * float(filters.sum(dim=1).mean())
            for filters in (self.filters_0, self.filters_1)
        ]

    def forward(self, vocoder: Vocoder, sounds: Tensor) -> dict[str, Tensor]:
        """Weighted parts of the loss, scalars.

        Args:
            sounds: (B, n), scaled as by `Music.excerpts`; frame k starts at sample k * hop.
        """
        config, per_column = vocoder.spectrogram, vocoder.frames_per_column
        fine = vocoder.fine_config(config)
        spectra = torch.stft(
            sounds,
            config.n_fft,
            fine.hop_length,
            window=self.window,
            center=False,
            return_complex=True,
        )
        power = spectra.abs().square().transpose(1, 2)
        decibels = as_decibels(power[:, ::per_column] @ self.image_filters.T, config)
        # After the last column there are no frames between columns.
        estimate = vocoder(decibels)[:, : power.shape[1]]
        parts = {"bins": BIN_WEIGHT * _difference(estimate, power, INAUDIBLE).abs().mean()}
        bands, flux, onsets = [], [], []
        for filters, inaudible in zip(
            (self.filters_0, self.filters_1), self.inaudible, strict=True
        ):
            pair = estimate @ filters.T, power @ filters.T
            bands.append(_difference(*pair, inaudible).abs().mean())
            changes = [(x + inaudible).log().mul(DECIBELS).diff(dim=1) for x in pair]
            mean, true_mean = (change.abs().mean(dim=1) for change in changes)
            flux.append((mean - true_mean).abs().mean())
            strength, true_strength = (change.clamp_min(0.0).mean(dim=2) for change in changes)
            onsets.append((strength - true_strength).abs().mean())
        parts["bands"] = torch.stack(bands).sum()
        parts["flux"] = FLUX_WEIGHT * torch.stack(flux).sum()
        parts["onsets"] = ONSET_WEIGHT * torch.stack(onsets).sum()
        return parts


def as_decibels(mel: Tensor, config: SpectrogramConfig) -> Tensor:
    """Mel power relative to white, as images show it: in steps of a grey level, with clipping."""
    below_black = 10.0 ** (-config.top_db / 10.0 - 1.0)
    decibels = 10.0 * mel.clamp_min(below_black).log10()
    step = config.top_db / 255.0
    return (decibels / step).round().mul(step).clamp(-config.top_db, 0.0)


def _difference(one: Tensor, other: Tensor, inaudible: float) -> Tensor:
    return DECIBELS * ((one + inaudible) / (other + inaudible)).log()


def _filters(config: SpectrogramConfig) -> Tensor:
    return torch.from_numpy(mel_filterbank(config).copy())


def _validate(vocoder: Vocoder, music: Music) -> tuple[float | None, float | None]:
    """Mean round-trip errors in dB of validation tracks, with the vocoder and without."""
    config = vocoder.spectrogram
    length = round(VALIDATION_SECONDS * config.sample_rate)
    excerpts = music.excerpts(
        "validation", most=VALIDATION_TRACKS, samples=VALIDATION_TRACKS * length
    )
    if not any(excerpt.any() for excerpt in excerpts):
        logger.info("There are no validation tracks to measure the vocoder by")
        return None, None
    errors = []
    for excerpt in (excerpt[:length] for excerpt in excerpts):
        if not excerpt.any():  # a silent beginning
            continue
        grey, _ = encode(excerpt, config)
        image = torch.from_numpy(np.ascontiguousarray(grey[::-1]))[None]
        sounds = [invert(image, config, vocoder=way)[0].numpy() for way in (vocoder, None)]
        errors.append([round_trip_error(excerpt, sound, config.sample_rate) for sound in sounds])
    with_it, without = np.mean(errors, axis=0).tolist()
    logger.info(
        "Round-trip error of %s: %.2f dB, without the vocoder %.2f dB",
        format_count(len(errors), "validation track"),
        with_it,
        without,
    )
    if with_it >= without:
        logger.warning(
            "The vocoder is no better than none on this music; give it more --minutes or more "
            "tracks, or generate with --vocoder none"
        )
    return with_it, without
