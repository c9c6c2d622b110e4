"""The command `vocoder`: what it writes, continues, leaves out and refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Command
from datasets import files_in, manifest, write_music
from vocoders import random_vocoder

from musicspectrogan.audio.files import load
from musicspectrogan.audio.inversion import invert, round_trip_error
from musicspectrogan.audio.spectrogram import SpectrogramConfig, encode
from musicspectrogan.audio.vocoder import Record, Vocoder, load_vocoder, save_vocoder
from musicspectrogan.data import composer
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import folder_lock
from musicspectrogan.vocoding import learn as learning
from musicspectrogan.vocoding.learn import VocoderTrainer, learn
from musicspectrogan.vocoding.music import windows
from musicspectrogan.vocoding.settings import VocoderConfig

CPU = torch.device("cpu")
UNFINISHED = ".vocoder.unfinished.pt"
STEPS = 4
# Of 5 clips a genre, 3 are for training, 1 for validation and 1 for testing.
TRAINING, SECONDS = 6, 4.0

Run = Callable[..., str]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lessons of a few steps of a window each, judged by 1.5 s of each track."""
    monkeypatch.setattr(learning, "STEPS", STEPS)
    monkeypatch.setattr(learning, "VALIDATION_SECONDS", 1.5)
    monkeypatch.setattr(learning, "BATCH_PIXELS", 1)


@pytest.fixture(scope="module")
def preprocessed(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `music`, two genres of five clips, and `set`, its images; read-only."""
    home = tmp_path_factory.mktemp("preprocessed")
    for genre, style in (("folk", "arpeggio"), ("rock", "drums")):
        for index in range(5):
            clip = home / "music" / genre / f"{genre}{index}.wav"
            write_music(clip, style=style, index=index, seconds=SECONDS)
    line = "preprocess.py --dataset folder --input music --output set --jobs 1"
    command(*line.split(), cwd=home)
    return home


@pytest.fixture
def home(preprocessed: Path, tmp_path: Path) -> Path:
    """The same, to be changed. The dataset knows its music by name, since it was moved."""
    home = tmp_path / "home"
    shutil.copytree(preprocessed, home)
    (home / "set" / ".music_folder").unlink()
    return home


@pytest.fixture
def run(home: Path, command: Command) -> Run:
    """`run(*flags, status=0)`: learn from the dataset; returns what it told."""

    def learned(*flags: object, status: int = 0) -> str:
        line = ("-m", "musicspectrogan", "vocoder", "set", "--device", "cpu", *flags)
        return command(*line, cwd=home, status=status).stderr

    return learned


def paths_of(home: Path, split: str) -> list[Path]:
    tracks = manifest(home / "set")["tracks"]
    return [
        home / "music" / track["genre"] / f"{track['id']}.wav"
        for track in tracks
        if track["split"] == split
    ]


def digest(home: Path) -> str:
    return load_vocoder(home / "set" / "vocoder.pt").digest


@pytest.fixture(scope="module")
def uninterrupted(preprocessed: Path) -> Callable[[int], Vocoder]:
    """Learned from that music with a seed, by a call of `learn`."""
    learned: dict[int, Vocoder] = {}

    def of(seed: int) -> Vocoder:
        if seed not in learned:
            config = VocoderConfig(preprocessed / "set", seed=seed, overwrite=True)
            learned[seed] = learn(config, CPU)
            (preprocessed / "set" / "vocoder.pt").unlink()
        return learned[seed]

    return of


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int, number: signal.Signals) -> None:
    """Send a signal during a step, as Ctrl-C does."""
    advance = VocoderTrainer.advance

    def stopping(trainer: VocoderTrainer) -> dict[str, torch.Tensor]:
        parts = advance(trainer)
        if trainer.step == step:
            os.kill(os.getpid(), number)
        return parts

    monkeypatch.setattr(VocoderTrainer, "advance", stopping)


def refuse_to_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(trainer: VocoderTrainer) -> dict[str, torch.Tensor]:
        raise AssertionError("learning")

    monkeypatch.setattr(VocoderTrainer, "advance", refusing)


class TestWhatItWrites:
    def test_a_vocoder_beside_dataset_json(self, home, command):
        before = files_in(home / "set")
        line = ("-m", "musicspectrogan", "vocoder", "set", "--device", "cpu")
        told = command(*line, cwd=home)
        assert told.stdout == "the vocoder is set/vocoder.pt\n"
        assert files_in(home / "set") == sorted([*before, "vocoder.pt"])
        vocoder = load_vocoder(home / "set" / "vocoder.pt")
        assert vocoder.spectrogram == SpectrogramConfig()
        record, minutes = vocoder.record, TRAINING * SECONDS / 60
        assert (record.tracks, record.steps, record.seed) == (TRAINING, STEPS, 0)
        assert record.minutes == pytest.approx(minutes, rel=1e-3)
        assert f"Learning from {TRAINING} tracks, {minutes:.1f} minutes" in told.stderr
        errors = f"{record.error_db:.2f} dB, without the vocoder {record.fit_error_db:.2f} dB"
        assert f"Round-trip error of 2 validation tracks: {errors}" in told.stderr

    def test_its_errors_are_those_of_the_validation_tracks(self, home, run):
        run()
        vocoder, config = load_vocoder(home / "set" / "vocoder.pt"), SpectrogramConfig()
        for way, found in ((vocoder, vocoder.record.error_db), (None, vocoder.record.fit_error_db)):
            errors = []
            for path in paths_of(home, "validation"):
                samples = load(path, config.sample_rate).samples[: round(1.5 * config.sample_rate)]
                grey, _ = encode(samples, config)
                image = torch.from_numpy(np.ascontiguousarray(grey[::-1]))[None]
                restored = invert(image, config, vocoder=way)[0].numpy()
                errors.append(round_trip_error(samples, restored, config.sample_rate))
            assert len(errors) == 2
            assert found == pytest.approx(np.mean(errors), abs=0.01)

    def test_a_seed_gives_the_same_weights_and_another_gives_others(self, home, run, uninterrupted):
        run()
        first = (home / "set" / "vocoder.pt").read_bytes()
        run("--overwrite")
        assert (home / "set" / "vocoder.pt").read_bytes() == first
        assert digest(home) == uninterrupted(0).digest
        run("--overwrite", "--seed", 1)
        assert digest(home) == uninterrupted(1).digest != uninterrupted(0).digest
        assert load_vocoder(home / "set" / "vocoder.pt").record.seed == 1

    def test_without_validation_tracks_it_is_not_judged(self, home, run):
        path = home / "set" / "dataset.json"
        path.write_text(path.read_text().replace('"validation"', '"test"'))
        assert "There are no validation tracks to measure the vocoder by" in run()
        record = load_vocoder(home / "set" / "vocoder.pt").record
        assert (record.tracks, record.error_db, record.fit_error_db) == (TRAINING, None, None)

    def test_it_warns_if_the_vocoder_is_no_better_than_none(self, run, monkeypatch):
        told = "The vocoder is no better than none on this music; give it more --minutes or more"
        errors = iter([2.0, 3.0, 2.5, 3.5])
        monkeypatch.setattr(learning, "round_trip_error", lambda *_: next(errors))
        better = run()
        assert "2 validation tracks: 2.25 dB, without the vocoder 3.25 dB" in better
        assert told not in better
        monkeypatch.setattr(learning, "round_trip_error", lambda *_: 3.0)
        assert told in run("--overwrite")

    @pytest.mark.parametrize("size", [128, pytest.param(256, marks=pytest.mark.slow)])
    def test_images_of_other_sizes_have_theirs(self, size, home, run, command):
        line = "preprocess.py --dataset folder --input music --output set --jobs 1 --overwrite"
        command(*line.split(), "--image-size", size, cwd=home)
        run()
        vocoder = load_vocoder(home / "set" / "vocoder.pt")
        assert vocoder.fits(SpectrogramConfig.for_image_size(size))
        assert vocoder.record.error_db is not None


class TestOneThatIsThere:
    def test_it_is_not_learned_again(self, home, run, monkeypatch):
        save_vocoder(random_vocoder(), home / "set" / "vocoder.pt")
        before = (home / "set" / "vocoder.pt").read_bytes()
        refuse_to_learn(monkeypatch)
        told = run("--seed", 5)
        assert "set/vocoder.pt is there already; --overwrite learns another" in told
        assert (home / "set" / "vocoder.pt").read_bytes() == before

    def test_it_needs_no_music(self, home, run, monkeypatch):
        save_vocoder(random_vocoder(), home / "set" / "vocoder.pt")
        refuse_to_learn(monkeypatch)
        shutil.rmtree(home / "music")
        assert "is there already" in run()

    def test_preprocess_says_that_it_is_of_the_earlier_music(self, home, run, command):
        save_vocoder(random_vocoder(), home / "set" / "vocoder.pt")
        line = "preprocess.py --dataset folder --input music --output set --jobs 1"
        assert "vocoder" not in command(*line.split(), cwd=home).stderr
        told = command(*line.split(), "--overwrite", cwd=home).stderr
        assert "set/vocoder.pt was learned from the earlier music" in told
        assert (home / "set" / "vocoder.pt").is_file()

    def test_overwrite_replaces_it(self, home, run, uninterrupted):
        save_vocoder(random_vocoder(), home / "set" / "vocoder.pt")
        assert "is there already" not in run("--overwrite")
        assert digest(home) == uninterrupted(0).digest

    def test_it_is_replaced_if_it_is_for_other_settings(self, home, run, uninterrupted):
        other = random_vocoder(SpectrogramConfig(f_max=9000.0))
        save_vocoder(other, home / "set" / "vocoder.pt")
        told = run()
        assert "set/vocoder.pt is for other spectrogram settings; learning another" in told
        assert digest(home) == uninterrupted(0).digest

    def test_a_damaged_one_is_replaced_if_that_is_asked_for(self, home, run, uninterrupted):
        (home / "set" / "vocoder.pt").write_text("no weights")
        told = run(status=2)
        assert "set/vocoder.pt is damaged or not a vocoder" in told and "--overwrite" in told
        assert (home / "set" / "vocoder.pt").read_text() == "no weights"
        run("--overwrite")
        assert digest(home) == uninterrupted(0).digest


class TestInterrupted:
    @pytest.mark.parametrize(
        ("number", "step"), [(signal.SIGINT, 1), (signal.SIGTERM, 2), (signal.SIGINT, STEPS)]
    )
    def test_it_goes_on_to_the_same_weights(
        self, number, step, home, *, run, uninterrupted, monkeypatch
    ):
        with monkeypatch.context() as patch:
            stop_after(patch, step, number)
            told = run(status=130)
        assert f"interrupted and saved after step {step}; repeat the command to continue" in told
        assert (home / "set" / UNFINISHED).is_file()
        assert not (home / "set" / "vocoder.pt").exists()
        assert f"Continuing after step {step}" in run()
        assert digest(home) == uninterrupted(0).digest
        assert load_vocoder(home / "set" / "vocoder.pt").record == uninterrupted(0).record
        assert not (home / "set" / UNFINISHED).exists()

    def test_a_second_time_stops_at_once(self, home, run, monkeypatch):
        stop_after(monkeypatch, 1, signal.SIGINT)
        monkeypatch.setattr(VocoderTrainer, "_save", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        assert "interrupted" in run(status=130)
        assert not (home / "set" / UNFINISHED).exists()

    def test_it_is_saved_now_and_then(self, home, run, uninterrupted, monkeypatch):
        monkeypatch.setattr(learning, "SECONDS_BETWEEN_SAVES", -1.0)
        advance = VocoderTrainer.advance

        def failing(trainer: VocoderTrainer) -> dict[str, torch.Tensor]:
            if trainer.step == 3:
                raise OSError(5, "Input/output error", "disk")
            return advance(trainer)

        with monkeypatch.context() as patch:
            patch.setattr(VocoderTrainer, "advance", failing)
            run(status=2)
        assert "Continuing after step 3" in run()
        assert digest(home) == uninterrupted(0).digest

    def test_another_seed_starts_anew(self, home, run, uninterrupted, monkeypatch):
        with monkeypatch.context() as patch:
            stop_after(patch, 2, signal.SIGINT)
            run(status=130)
        told = run("--seed", 1)
        assert "An unfinished vocoder is of other music or settings: starting anew" in told
        assert "Continuing" not in told
        assert digest(home) == uninterrupted(1).digest
        assert not (home / "set" / UNFINISHED).exists()

    def test_other_music_starts_anew(self, home, run, monkeypatch):
        with monkeypatch.context() as patch:
            stop_after(patch, 2, signal.SIGINT)
            run(status=130)
        write_music(paths_of(home, "training")[0], style="bass", seconds=SECONDS)
        assert "is of other music or settings: starting anew" in run()
        assert load_vocoder(home / "set" / "vocoder.pt").record.steps == STEPS

    @pytest.mark.parametrize("kind", ["text", "cut", "parts", "weights", "NaN", "step"])
    def test_a_damaged_unfinished_one_is_told(self, kind, home, run, monkeypatch):
        with monkeypatch.context() as patch:
            stop_after(patch, 1, signal.SIGINT)
            run(status=130)
        path = home / "set" / UNFINISHED
        contents = torch.load(path, weights_only=True)
        name = next(iter(contents["vocoder"]))
        if kind == "text":
            path.write_text("no weights")
        elif kind == "cut":
            path.write_bytes(path.read_bytes()[:3000])
        else:
            if kind == "parts":
                del contents["optimizer"]
            elif kind == "weights":
                del contents["averaged"][name]
            elif kind == "NaN":
                contents["vocoder"][name] *= torch.nan
            elif kind == "step":
                contents["step"] = "many"
            torch.save(contents, path)
        before = path.read_bytes()
        told = run(status=2)
        assert f"set/{UNFINISHED} is damaged (" in told
        assert told.endswith("delete it to start anew\n")
        assert path.read_bytes() == before


class TestMinutes:
    def test_they_are_the_length_of_the_lesson(self, home, run, monkeypatch):
        clock = iter(range(10**6))  # each look at it takes a second
        monkeypatch.setattr(learning, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
        for minutes, steps in ((0.1, 6), (0.01, 1)):
            run("--minutes", minutes, "--overwrite")
            assert load_vocoder(home / "set" / "vocoder.pt").record.steps == steps

    def test_time_before_an_interruption_counts(self, home, run, monkeypatch):
        clock = iter(range(10**6))
        monkeypatch.setattr(learning, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
        with monkeypatch.context() as patch:
            stop_after(patch, 2, signal.SIGINT)
            run("--minutes", 0.1, status=130)
        seen: list[int] = []
        advance = VocoderTrainer.advance
        monkeypatch.setattr(VocoderTrainer, "advance", lambda x: seen.append(x.step) or advance(x))
        assert "Continuing after step 2" in run("--minutes", 0.1)
        assert seen == [2, 3, 4, 5]

    @pytest.mark.parametrize("minutes", [0, -1, "nan", "inf"])
    def test_what_is_no_time_is_refused(self, minutes, run):
        told = run(f"--minutes={minutes}", status=2)
        assert f"{float(minutes)} is not allowed; give more than 0, for instance 5" in told

    def test_a_seed_that_is_none_is_refused(self, run):
        assert "seed" in run("--seed=-1", status=2)


class TestRefused:
    def test_a_folder_that_preprocess_did_not_make(self, home, command):
        line = ("-m", "musicspectrogan", "vocoder")
        for name in ("music", "nowhere"):
            told = command(*line, name, cwd=home, status=2).stderr
            assert f"{name}: no dataset.json of this tool in it; name a folder that" in told

    def test_an_unfinished_dataset(self, home, run):
        path = home / "set" / "dataset.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "tracks": []}))
        assert "set: is unfinished; run the same preprocess command again" in run(status=2)

    def test_a_dataset_without_its_music(self, home, run):
        (home / "music").rename(home / "moved")
        told = run(status=2)
        assert "set: the music that it was made from (music) is not there; name its" in told
        assert "with --input" in told
        told = run("--input", "nowhere", status=2)
        assert "the music that it was made from (nowhere) is not there" in told
        told = run("--input", "set", status=2)
        assert "set: none of the files of set are in it; name the folder that was --input" in told
        assert not (home / "set" / "vocoder.pt").exists()

    def test_a_dataset_of_whose_training_tracks_none_can_be_read(self, home, run):
        for path in paths_of(home, "training"):
            path.write_text("no sound")
        told = run(status=2)
        assert "set: has no training tracks that can be read" in told
        assert "6 training tracks left out: " in told and "; and 1 more" in told

    def test_a_dataset_that_is_in_use(self, home, run):
        with folder_lock(home / "set", "preprocessing"):
            assert "set" in run(status=2)

    def test_gradients_that_are_not_finite(self, home, run, monkeypatch):
        monkeypatch.setattr(
            learning, "windows", lambda *_: torch.full((1, 2 * SpectrogramConfig.n_fft), torch.nan)
        )
        assert "the gradients of step 1 are not finite" in run(status=2)
        assert not (home / "set" / "vocoder.pt").exists()


class TestItsMusic:
    def test_preprocess_writes_down_where_it_is(self, preprocessed):
        recorded = (preprocessed / "set" / ".music_folder").read_bytes()
        assert recorded == os.fsencode(Path("..", "music"))
        assert manifest(preprocessed / "set")["selection"]["input"] == "music"

    def test_it_is_found_where_it_was(self, preprocessed, home, command, uninterrupted):
        (home / "set" / ".music_folder").write_bytes(os.fsencode(preprocessed / "music"))
        (home / "set").rename(home / "elsewhere")
        (home / "music").rename(home / "hidden")
        command("-m", "musicspectrogan", "vocoder", "elsewhere", cwd=home)
        found = load_vocoder(home / "elsewhere" / "vocoder.pt")
        assert found.digest == uninterrupted(0).digest

    def test_it_is_found_by_its_name_beside_a_copy_of_the_dataset(
        self, home, command, tmp_path, uninterrupted
    ):
        (home / "set" / ".music_folder").write_text("/of/another/machine")
        command("-m", "musicspectrogan", "vocoder", home / "set", cwd=tmp_path)
        assert digest(home) == uninterrupted(0).digest

    def test_it_is_found_by_its_name_in_the_working_directory(
        self, home, command, tmp_path, uninterrupted
    ):
        (home / "music").rename(tmp_path / "music")
        command("-m", "musicspectrogan", "vocoder", home / "set", cwd=tmp_path)
        assert digest(home) == uninterrupted(0).digest

    def test_input_names_it(self, home, run, uninterrupted):
        (home / "music").rename(home / "moved")
        run("--input", "moved")
        assert digest(home) == uninterrupted(0).digest

    def test_tracks_that_cannot_be_read_are_left_out(self, home, run):
        missing, broken = paths_of(home, "training")[:2]
        missing.unlink()
        broken.write_text("no sound")
        told = run()
        assert "2 training tracks left out: " in told
        assert f"{missing.name}: file is missing" in told and f"{broken.name}: " in told
        assert load_vocoder(home / "set" / "vocoder.pt").record.tracks == TRAINING - 2


class TestThatItLearns:
    CONFIG = SpectrogramConfig()

    @staticmethod
    def excerpts(count: int) -> list[np.ndarray]:
        """Composed music, scaled as that of a dataset."""
        clips = [composer.compose(s, k, seed=2) for k in range(count) for s in composer.STYLES]
        config = SpectrogramConfig()
        return [np.float32(10 ** (-encode(clip, config)[1] / 20)) * clip for clip in clips]

    def test_the_loss_of_the_same_windows_falls(self, monkeypatch):
        monkeypatch.setattr(learning, "STEPS", 40)
        monkeypatch.setattr(learning, "COLUMNS", 32)
        monkeypatch.setattr(learning, "WARM_UP_STEPS", 1)
        excerpts = self.excerpts(1)
        trainer = VocoderTrainer(self.CONFIG, excerpts, CPU)
        sounds = windows(excerpts, self.CONFIG, 64, 2, (7, 7))

        def loss() -> float:
            with torch.no_grad():
                return float(sum(trainer.loss(trainer.vocoder, sounds).values()))

        before = loss()
        for _ in range(12):
            parts = trainer.advance()
            assert parts.keys() == {"bins", "bands", "flux", "onsets"}
        assert trainer.step == 12 and trainer.progress == 0.3
        assert loss() < 0.98 * before

    @pytest.mark.slow
    def test_sound_of_other_music_comes_nearer_than_the_fits(self, monkeypatch):
        monkeypatch.setattr(learning, "STEPS", 150)
        monkeypatch.setattr(learning, "COLUMNS", 64)
        monkeypatch.setattr(learning, "BATCH_PIXELS", 4 * 64 * 64)
        trainer = VocoderTrainer(self.CONFIG, self.excerpts(2), CPU)
        while trainer.progress < 1:
            trainer.advance()
        errors = []
        for style in composer.STYLES:
            clip = composer.compose(style, 9, seed=3, seconds=7.0)
            grey, _ = encode(clip, self.CONFIG)
            image = torch.from_numpy(np.ascontiguousarray(grey[::-1]))[None]
            errors.append(
                [
                    round_trip_error(
                        clip, invert(image, self.CONFIG, vocoder=way)[0].numpy(), 22050
                    )
                    for way in (trainer.averaged, None)
                ]
            )
        with_it, without = np.mean(errors, axis=0)
        assert with_it < 0.97 * without

    def test_the_averaged_weights_follow_slowly(self):
        trainer = VocoderTrainer(self.CONFIG, self.excerpts(1)[:2], CPU)
        name = "output.bias"
        weights = [trainer.vocoder.state_dict()[name].clone()]
        for _ in range(2):
            trainer.advance()
            weights.append(trainer.vocoder.state_dict()[name].clone())
        expected = weights[0]
        for weight in weights[1:]:
            expected = expected + learning.AVERAGING * (weight - expected)
        torch.testing.assert_close(trainer.averaged.state_dict()[name], expected)
        assert not torch.equal(weights[0], weights[2])

    def test_windows_follow_from_the_seed_and_the_step(self, monkeypatch):
        positions: list[tuple[int, ...]] = []

        def drawn(*arguments: Any) -> torch.Tensor:
            positions.append(arguments[-1])
            return windows(*arguments)

        monkeypatch.setattr(learning, "windows", drawn)
        trainer = VocoderTrainer(self.CONFIG, self.excerpts(1)[:1], CPU, seed=5)
        for _ in range(3):
            trainer.advance()
        assert positions == [(5, 0), (5, 1), (5, 2)]

    def test_the_learning_rate_rises_and_falls(self, monkeypatch):
        monkeypatch.setattr(learning, "STEPS", 6)
        monkeypatch.setattr(learning, "WARM_UP_STEPS", 2)
        trainer = VocoderTrainer(self.CONFIG, self.excerpts(1)[:1], CPU)
        rates: list[float] = []
        while trainer.progress < 1:
            trainer.advance()
            rates.append(trainer.optimizer.param_groups[0]["lr"] / learning.LEARNING_RATE)
        falling = [0.5 + 0.5 * np.cos(np.pi * step / 6) for step in range(6)]
        assert rates == pytest.approx([0.5 * falling[0], *falling[1:]])

    def test_another_seed_of_the_same_excerpts_starts_anew(self, tmp_path):
        excerpts = self.excerpts(1)[:1]
        first = VocoderTrainer(self.CONFIG, excerpts, CPU, seed=5)
        first.advance()
        first._save(tmp_path / UNFINISHED)
        for seed, step in ((5, 1), (6, 0)):
            trainer = VocoderTrainer(self.CONFIG, excerpts, CPU, seed=seed)
            trainer._load(tmp_path / UNFINISHED)
            assert trainer.step == step

    def test_the_random_numbers_of_others_are_left_alone(self):
        torch.manual_seed(3)
        expected = torch.rand(1)
        torch.manual_seed(3)
        VocoderTrainer(self.CONFIG, self.excerpts(1)[:1], CPU, seed=5).advance()
        assert torch.equal(torch.rand(1), expected)

    @pytest.mark.gpu
    def test_on_a_gpu_it_learns_the_same_way_and_goes_on_on_the_cpu(
        self, home, run, monkeypatch, tmp_path
    ):
        config = VocoderConfig(home / "set", device="cuda")
        with monkeypatch.context() as patch:
            stop_after(patch, 2, signal.SIGINT)
            with pytest.raises(Exception, match="saved after step 2"):
                learn(config, torch.device("cuda"))
        assert "Continuing after step 2" in run()
        on_both = load_vocoder(home / "set" / "vocoder.pt").state_dict()
        run("--overwrite")
        for name, weight in load_vocoder(home / "set" / "vocoder.pt").state_dict().items():
            torch.testing.assert_close(on_both[name], weight, rtol=0.05, atol=2e-3)


def test_the_settings_are_checked_in_python_too():
    with pytest.raises(UserError, match="minutes"):
        VocoderConfig(Path("set"), minutes=0.0)
    with pytest.raises(UserError, match="seed"):
        VocoderConfig(Path("set"), seed=2**32)
    assert Record().describe() == "learned from 0 tracks, 0.0 minutes"
