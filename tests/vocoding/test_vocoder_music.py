"""Excerpts of a dataset's tracks, and random windows of them."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command
from datasets import manifest, write_music

from musicspectrogan.audio import files
from musicspectrogan.audio.spectrogram import SpectrogramConfig, mel_power
from musicspectrogan.errors import UserError
from musicspectrogan.vocoding import music as reading
from musicspectrogan.vocoding.music import SEMITONES, Music, windows

CONFIG = SpectrogramConfig()
RATE = CONFIG.sample_rate
SPLITS = ("training", "validation", "test")


@pytest.fixture(scope="module")
def home(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `music`, 8 clips of folk, 3 of rock, and `set`, its images; read-only."""
    home = tmp_path_factory.mktemp("home")
    for genre, style, count in (("folk", "arpeggio", 8), ("rock", "drums", 3)):
        for index in range(count):
            clip = home / "music" / genre / f"{genre}{index}.wav"
            write_music(clip, style=style, index=index, seconds=3.5)
    line = "preprocess.py --dataset folder --input music --output set --jobs 1"
    command(*line.split(), cwd=home)
    return home


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read, in order."""
    paths: list[Path] = []

    def load(path: Path, sample_rate: int) -> files.Audio:
        paths.append(path)
        return files.load(path, sample_rate)

    monkeypatch.setattr(reading, "load", load)
    return paths


def tracks_of(home: Path, split: str) -> list[str]:
    return sorted(t["id"] for t in manifest(home / "set")["tracks"] if t["split"] == split)


class TestExcerpts:
    @pytest.mark.parametrize("split", SPLITS)
    def test_they_are_of_all_tracks_of_a_split_and_of_no_other(self, split, home, read):
        excerpts = Music(home / "set").excerpts(split, most=100, samples=10**7)
        assert sorted(path.stem for path in read) == tracks_of(home, split)
        assert len(excerpts) == len(read) == {"training": 7, "validation": 2, "test": 2}[split]
        for path, excerpt in zip(read, excerpts, strict=True):
            samples = files.load(path, RATE).samples
            assert excerpt.dtype == np.float32 and excerpt.shape == samples.shape
            gain = excerpt.max() / samples.max()
            np.testing.assert_allclose(excerpt, gain * samples, rtol=1e-4, atol=1e-6)
            assert mel_power(excerpt, CONFIG).max() == pytest.approx(1, rel=1e-3)

    def test_no_more_samples_are_in_memory_than_allowed(self, home, read):
        whole = {
            path.stem: files.load(path, RATE).samples for path in (home / "music").rglob("*.wav")
        }
        for samples in (50_000, 200_000):
            read.clear()
            excerpts = Music(home / "set").excerpts("training", most=100, samples=samples)
            assert len(excerpts) == 7
            assert samples - 7 <= sum(map(len, excerpts)) <= samples
            assert max(map(len, excerpts)) - min(map(len, excerpts)) <= 1
            for path, excerpt in zip(read, excerpts, strict=True):
                track = whole[path.stem]
                gain = mel_power(track, CONFIG).max() ** -0.5
                inside = np.lib.stride_tricks.sliding_window_view(track, len(excerpt))
                starts = np.flatnonzero(np.isclose(inside[:, 0] * gain, excerpt[0], rtol=1e-3))
                assert any(np.allclose(inside[k] * gain, excerpt, atol=1e-4) for k in starts)

    def test_what_short_tracks_leave_is_for_the_others(self, home, tmp_path):
        shutil.copytree(home, tmp_path / "home")
        for path in (tmp_path / "home" / "music").rglob("*.wav"):
            if path.stem == tracks_of(home, "training")[0]:
                write_music(path, seconds=1.0)
        (tmp_path / "home" / "set" / ".music_folder").unlink()
        excerpts = Music(tmp_path / "home" / "set").excerpts("training", most=100, samples=400_000)
        lengths = Counter(map(len, excerpts))
        assert lengths[RATE] == 1 and 400_000 - 60_000 < sum(map(len, excerpts)) <= 400_000
        assert max(lengths) > 400_000 // 7

    @pytest.mark.parametrize("most", [2, 3, 5])
    def test_genres_are_balanced(self, most, home, read, caplog):
        caplog.set_level("INFO")
        assert len(Music(home / "set").excerpts("training", most=most, samples=10**7)) == most
        counts = Counter(path.parent.name for path in read)
        assert counts == {2: {"folk": 1, "rock": 1}, 3: {"folk": 2, "rock": 1}}.get(
            most, {"folk": 4, "rock": 1}
        )
        assert f"Taking {most} of the 7 training tracks" in caplog.messages

    def test_the_choice_follows_from_the_seed(self, home, read):
        chosen: list[list[str]] = []
        sounds: list[list[np.ndarray]] = []
        for seed in (0, 0, 1, 2, 3):
            read.clear()
            excerpts = Music(home / "set").excerpts("training", most=4, samples=10**5, seed=seed)
            chosen.append([path.stem for path in read])
            sounds.append(excerpts)
        assert chosen[0] == chosen[1]
        for one, other in zip(sounds[0], sounds[1], strict=True):
            assert np.array_equal(one, other)
        assert len(set(map(tuple, chosen))) > 2

    def test_files_that_cannot_be_read_are_left_out_with_a_warning(self, home, tmp_path, caplog):
        shutil.copytree(home, tmp_path / "home")
        (tmp_path / "home" / "set" / ".music_folder").unlink()
        damaged = set(tracks_of(home, "training")[:6])
        for path in (tmp_path / "home" / "music").rglob("*.wav"):
            if path.stem in damaged:
                path.write_text("no sound")
        excerpts = Music(tmp_path / "home" / "set").excerpts("training", most=100, samples=10**7)
        assert len(excerpts) == 1
        (told,) = [m for m in caplog.messages if "left out" in m]
        assert told.startswith("6 training tracks left out: ") and told.endswith("; and 1 more")
        assert told.count(".wav: ") == 5

    def test_a_track_that_the_report_does_not_know_is_ignored(self, home, tmp_path, read):
        shutil.copytree(home, tmp_path / "home")
        report = tmp_path / "home" / "set" / "preprocess_report.csv"
        left_out = tracks_of(home, "training")[0]
        lines = report.read_text().splitlines(keepends=True)
        report.write_text("".join(line for line in lines if not line.startswith(f"{left_out},")))
        Music(tmp_path / "home" / "set").excerpts("training", most=100, samples=10**7)
        assert sorted(path.stem for path in read) == tracks_of(home, "training")[1:]

    def test_a_folder_without_dataset_json_is_none(self, tmp_path):
        with pytest.raises(UserError, match=r"no dataset\.json of this tool in it"):
            Music(tmp_path)


def tone(hz: float, seconds: float = 20.0) -> np.ndarray:
    return np.float32(0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE))


class TestWindows:
    def test_they_follow_from_the_position(self):
        excerpts = [tone(440), np.random.default_rng(0).standard_normal(9 * RATE).astype("f4")]
        first = windows(excerpts, CONFIG, 20, 3, (0, 5))
        assert first.shape == (3, 19 * 1024 + 2048) and first.dtype == torch.float32
        assert torch.equal(first, windows(excerpts, CONFIG, 20, 3, (0, 5)))
        others = [windows(excerpts, CONFIG, 20, 3, at) for at in ((0, 6), (1, 5), (5, 0))]
        assert not any(torch.equal(first, other) for other in others)
        assert not torch.equal(first[0], first[1])

    def test_they_cover_their_columns(self):
        config = SpectrogramConfig(n_fft=1024, hop_length=300)
        assert windows([tone(440)], config, 7, 1, (0,)).shape == (1, 6 * 300 + 1024)

    def test_they_are_played_faster_or_slower_by_a_semitone_at_most(self):
        batch = windows([tone(1000)], CONFIG, 64, 24, (0,)).numpy()[:, 2000:-2000]
        spectra = np.abs(np.fft.rfft(batch * np.hanning(batch.shape[1])))
        pitches = np.fft.rfftfreq(batch.shape[1], 1 / RATE)[spectra.argmax(axis=1)] / 1000
        semitones = 12 * np.log2(pitches)
        assert np.abs(semitones).max() <= SEMITONES + 0.01
        assert semitones.min() < -0.5 * SEMITONES and semitones.max() > 0.5 * SEMITONES
        assert np.abs(batch).max(axis=1) == pytest.approx(0.5, rel=1e-2)  # as loud as before

    def test_a_short_excerpt_is_padded_with_silence(self):
        (window,) = windows([tone(1000, seconds=0.2)], CONFIG, 20, 1, (0,)).numpy()
        sounding, length = np.flatnonzero(window)[-1] + 1, 0.2 * RATE
        assert length / 2 ** (SEMITONES / 12) - 2 <= sounding <= length * 2 ** (SEMITONES / 12) + 2
        assert np.abs(window[: sounding // 2]).max() == pytest.approx(0.5, rel=0.05)

    def test_longer_excerpts_are_chosen_more_often(self):
        excerpts = [np.full(n, level, np.float32) for n, level in ((30_000, 0.1), (90_000, 0.9))]
        batch = windows(excerpts, CONFIG, 2, 400, (3,)).numpy()
        loud = (batch[:, 1000:2000].mean(axis=1) > 0.5).mean()
        assert loud == pytest.approx(0.75, abs=0.07)

    def test_every_part_of_an_excerpt_is_drawn(self):
        ramp = np.linspace(0, 1, 20 * RATE, dtype=np.float32)
        batch = windows([ramp], CONFIG, 2, 300, (0,)).numpy()[:, 1000:2000]
        values = batch.mean(axis=1)
        assert values.min() < 0.05 and values.max() > 0.95
        assert np.histogram(values, 5, (0, 1))[0].min() > 30
