"""Griffin-Lim from random phases and from those of PGHI, iteration by iteration.

    PYTHONPATH=. python benchmarks/phase.py --dataset DIR [--split validation] [--seconds 9]

DIR holds images and the vocoder.pt that `python -m musicspectrogan vocoder DIR` learned. Turns true
magnitudes of a split's tracks at the vocoder's hop, and the vocoder's own, into sound. Prints for
both round-trip error, multi-resolution STFT distance, and spectral flux and number of onsets as
ratios to the original's; and the speed of PGHI and of one iteration on one thread.

PGHI is phase gradient heap integration: Z. Průša, P. Balazs, P. Søndergaard, A noniterative method
for reconstruction of phase from STFT magnitude, IEEE/ACM TASLP 25(5), 2017. For a Gaussian window
the logarithm of the magnitudes has the derivatives of the phases, with time and frequency swapped.
Other windows are taken for the Gaussian nearest to them.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from heapq import heappop, heappush
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from numba import njit
from torch import Tensor
from vocoder import Samples, averages, clips_of, figures, image_of, true_magnitude

from musicspectrogan.audio import VOCODER_NAME
from musicspectrogan.audio.inversion import griffin_lim
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.audio.vocoder import load_vocoder
from musicspectrogan.vocoding.music import Music

Floats = npt.NDArray[np.floating]

ITERATIONS = (0, 1, 2, 4, 8, 16)
STARTS = ("random start", "PGHI")
COLUMNS = "error, dB / multi-resolution STFT, dB / flux / onsets"

# The Gaussian exp(-pi k² / gamma) nearest to a Hann window has gamma = HANN * n_fft².
HANN = 0.25645
# Magnitudes of at most this part of the largest say nothing about phases.
TOLERANCE = 1e-6


def phase_slopes(log_magnitude: Floats, hop_length: int, n_fft: int) -> tuple[Floats, Floats]:
    """Derivatives of the phases in radians, (T, F) each: by frame and by bin.

    With s for magnitudes, n for frames, m for bins, a for the hop and M for n_fft:

        d phase / dn = a M / gamma * d log s / dm  +  2 pi a m / M
        d phase / dm = -gamma / (a M) * d log s / dn  +  pi

    The paper measures phases from the centre of each window, where the pi is 0. torch.stft measures
    them from its first sample, M / 2 earlier: this takes pi from the phase for each bin, which is
    the same as adding it.

    Args:
        log_magnitude: natural logarithms (T, F).
    """
    by_frame, by_bin = np.gradient(log_magnitude)
    scale = hop_length * n_fft / (HANN * n_fft**2)
    turn = 2.0 * np.pi * hop_length / n_fft * np.arange(log_magnitude.shape[1])
    return scale * by_bin + turn, np.pi - by_frame / scale


@njit
def spread(
    first: int,
    magnitude: Floats,
    slopes: tuple[Floats, Floats],
    phase: Floats,
    known: npt.NDArray[np.bool_],
) -> None:
    """Integrate from one bin to all that it is connected with through unknown ones, in place.

    The inner loop of the paper's algorithm 1: the loudest bin in the heap gives its four neighbours
    their phases, by the trapezoidal rule. So errors gather where it is quiet. Most of the time goes
    into the heap; one in plain arrays takes about 0.6 times as long in all.

    Args:
        first: index of a bin in the flat arrays; its phase is set to 0.
        magnitude, phase, known: (T, F).
        slopes: `phase_slopes`.
    """
    by_frame, by_bin = slopes
    frames, bins = magnitude.shape
    n, m = divmod(first, bins)
    phase[n, m], known[n, m] = 0.0, True
    heap = [(-magnitude[n, m], n, m)]
    while len(heap) > 0:
        _, n, m = heappop(heap)
        for dn, dm in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            i, j = n + dn, m + dm
            if 0 <= i < frames and 0 <= j < bins and not known[i, j]:
                change = dn * (by_frame[n, m] + by_frame[i, j]) + dm * (by_bin[n, m] + by_bin[i, j])
                phase[i, j], known[i, j] = phase[n, m] + 0.5 * change, True
                heappush(heap, (-magnitude[i, j], i, j))


def pghi(magnitude: Floats, hop_length: int, n_fft: int) -> Floats:
    """Phases (T, F) in radians, as torch.stft measures them, of magnitudes (T, F) of a Hann window.

    They are random where magnitudes are too small.
    """
    floor = max(TOLERANCE * float(magnitude.max()), float(np.finfo(np.float32).tiny))
    slopes = phase_slopes(np.log(np.maximum(magnitude, floor)), hop_length, n_fft)
    phase = np.random.default_rng(0).uniform(0.0, 2.0 * np.pi, magnitude.shape)
    known = magnitude <= floor
    if not known.all():
        spread(int(magnitude.argmax()), magnitude, slopes, phase, known)
    # The paper's outer loop: the loudest bin that is left starts a part of its own, and so on.
    left = np.flatnonzero(~known)
    for first in left[np.argsort(-magnitude.ravel()[left])]:
        if not known.flat[first]:
            spread(int(first), magnitude, slopes, phase, known)
    return phase


def pghi_start(magnitude: Tensor, config: SpectrogramConfig) -> Tensor:
    """The `phase` of `griffin_lim` for magnitudes (1, F, T)."""
    longer = torch.cat([magnitude, magnitude[:, :, -1:]], dim=2)[0].T.contiguous()
    phase = pghi(longer.numpy(), config.hop_length, config.n_fft)
    wrapped = np.remainder(phase, 2.0 * np.pi)  # in float64: they are thousands of radians
    return torch.from_numpy(wrapped).float().T[None]


def table(clips: list[Samples], magnitudes: list[Tensor], config: SpectrogramConfig) -> str:
    """A Markdown table of clips and their magnitudes (1, F, T), and the speeds."""
    rows: dict[tuple[int, str], list[list[float]]] = defaultdict(list)
    seconds: dict[str | int, float] = defaultdict(float)
    for clip, magnitude in zip(clips, magnitudes, strict=True):
        begun = time.process_time()
        starts = {"random start": None, "PGHI": pghi_start(magnitude, config)}
        seconds["PGHI"] += time.process_time() - begun
        for start, phase in starts.items():
            for iterations in ITERATIONS:
                begun = time.process_time()
                sound = griffin_lim(magnitude, config, iterations=iterations, phase=phase)
                seconds[iterations] += time.process_time() - begun
                restored = sound[0].numpy()
                rows[iterations, start].append(figures(clip, restored, config.sample_rate))
    lines = [f"| iterations | {' | '.join(STARTS)} |", "|---|---|---|"]
    for iterations in ITERATIONS:
        cells = [
            "{:.2f} / {:.2f} / {:.3f} / {:.3f}".format(*averages(rows[iterations, start]))
            for start in STARTS
        ]
        lines.append(f"| {iterations} | {' | '.join(cells)} |")
    sound_seconds = sum(map(len, clips)) / config.sample_rate
    most = max(ITERATIONS)
    iteration = (seconds[most] - seconds[0]) / (most * len(STARTS))
    return "\n".join(lines) + (
        f"\n\nSeconds of sound a CPU second: PGHI {sound_seconds / seconds['PGHI']:.0f}, "
        f"one iteration {sound_seconds / iteration:.0f}"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--split", default="validation")
    parser.add_argument("--seconds", type=float, default=9.0, help="of each track")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    dataset = Music(arguments.dataset)
    config = dataset.spectrogram
    vocoder = load_vocoder(arguments.dataset / VOCODER_NAME)
    fine = vocoder.fine_config(config)
    clips = clips_of(dataset, arguments.split, arguments.seconds)
    pghi_start(torch.ones(1, 3, 3), fine)  # compiles
    sources = {
        "true": [true_magnitude(clip, fine) for clip in clips],
        "the vocoder's": [vocoder.magnitude(image_of(clip, config)) for clip in clips],
    }
    title = f"{len(clips)} {arguments.split} tracks, {config.n_mels} bands, hop {fine.hop_length}"
    for name, magnitudes in sources.items():
        print(f"{title}, {name} magnitudes; {COLUMNS}:\n")
        print(f"{table(clips, magnitudes, fine)}\n", flush=True)


if __name__ == "__main__":
    main()
