"""A vocoder in checkpoints, and in the commands that make sound of images."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import Command, environment
from datasets import touch
from PIL import Image
from vocoders import random_vocoder

from musicspectrogan.audio.files import save
from musicspectrogan.audio.images import read_image
from musicspectrogan.audio.inversion import round_trip_error
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.audio.vocoder import (
    DEFAULT,
    Record,
    Vocoder,
    default_vocoder,
    load_vocoder,
    save_vocoder,
)
from musicspectrogan.data import composer
from musicspectrogan.filesystem import folder_lock
from musicspectrogan.generation.sound import (
    choose_vocoder,
    loop_settings,
    sound_of_loop,
    sounds_of,
)
from musicspectrogan.training.checkpoint import DamagedError, save_checkpoint
from musicspectrogan.training.run_checkpoints import add_vocoder, keep_checkpoint, load_checkpoint

OLD = Path(__file__).parents[1] / "old"
CONFIG = SpectrogramConfig()
PROGRAM = ("-m", "musicspectrogan")
OWN, OTHER = random_vocoder(seed=1), random_vocoder(seed=2)
UNFIT = random_vocoder(SpectrogramConfig(f_max=9000.0))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with `images`, whose music is in `music`, and with runs of earlier versions on them.

    Nothing has a vocoder. The music is empty, and runs do not know where their dataset is.
    """
    home = tmp_path / "home"
    shutil.copytree(OLD / "images", home / "images")
    touch(home / "music", "bass/bass0.wav")
    for name in ("anylength", "cgan"):
        shutil.copytree(OLD / "runs" / name, home / "runs" / name)
    return home


@pytest.fixture
def dataset(home: Path) -> Path:
    """The images, which a run knows."""
    config = home / "runs" / "anylength" / "config.yaml"
    text = config.read_text(encoding="utf-8")
    known = text.replace("dataset: images\n", f"dataset: {home / 'images'}\n")
    config.write_text(known, encoding="utf-8")
    return home / "images"


def latest(home: Path, run: str) -> Path:
    return home / "runs" / run / "checkpoints" / "latest.pt"


def digest_of(checkpoint: Path) -> str | None:
    vocoder = load_checkpoint(checkpoint).build_vocoder()
    return vocoder and vocoder.digest


def give(vocoder: Vocoder, home: Path) -> None:
    """Put it beside dataset.json."""
    save_vocoder(vocoder, home / "images" / "vocoder.pt")


def samples_of(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="int16")[0]


def as_saved(samples: np.ndarray, folder: Path, rate: int = 22050) -> np.ndarray:
    """The samples as they are in a file."""
    save(folder / "expected.wav", samples, rate)
    return samples_of(folder / "expected.wav")


def inverted(png: Path, vocoder: Vocoder | None, folder: Path, **options: Any) -> np.ndarray:
    image, config = read_image(png, CONFIG)
    return as_saved(sounds_of(image[None], config, vocoder, **options)[0], folder)


class TestTraining:
    def test_checkpoints_have_the_vocoder_of_their_dataset(self, home, command):
        give(OWN, home)
        line = "run.py --gan dcgan --dataset images --images 8 --batch-size 8 --width 1"
        line += " --standing-batches 1 --eval-every 0 --device cpu --output run"
        command(*line.split(), cwd=home)
        found = load_checkpoint(home / "run").build_vocoder()
        assert found.digest == OWN.digest
        assert found.record == OWN.record and found.spectrogram == CONFIG

    def test_a_resumed_run_gains_keeps_and_replaces_it(self, home, command):
        def resumed(images: int) -> str | None:
            line = f"run.py --resume runs/cgan --dataset images --images {images}"
            command(*line.split(), cwd=home)
            assert load_checkpoint(home / "runs" / "cgan").images_seen == images
            return digest_of(home / "runs" / "cgan")

        give(OWN, home)
        assert resumed(40) == OWN.digest
        (home / "images" / "vocoder.pt").unlink()
        assert resumed(48) == OWN.digest
        give(OTHER, home)
        assert resumed(56) == OTHER.digest

    def test_one_that_cannot_be_used_is_told_and_left_out(self, home, command):
        line = "run.py --resume runs/cgan --dataset images --images"
        give(UNFIT, home)
        told = command(*line.split(), 40, cwd=home).stderr
        assert "vocoder.pt is for images with other spectrogram settings" in told
        (home / "images" / "vocoder.pt").write_text("no weights")
        told = command(*line.split(), 48, cwd=home).stderr
        assert "vocoder.pt is damaged or not a vocoder" in told
        assert digest_of(home / "runs" / "cgan") is None

    @pytest.mark.slow
    def test_it_needs_no_audio_library(self, home):
        give(OWN, home)
        line = "--gan dcgan --dataset images --images 8 --batch-size 8 --width 1 --device cpu"
        program = f"""
import sys
from musicspectrogan.cli import main
sys.argv = ["run.py", *"{line} --standing-batches 1 --eval-every 0 --output run".split()]
try:
    main("train")
finally:
    print({{"librosa", "soundfile", "soxr", "torch"}} & set(sys.modules))"""
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=home,
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        assert done.stdout.splitlines()[-1] == "{'torch'}"
        assert digest_of(home / "run") == OWN.digest


class TestAdding:
    """`vocoder DATASET --checkpoint`."""

    @staticmethod
    def run_of_four(home: Path) -> Path:
        """A run whose latest.pt is epoch_0002.pt, and whose best.pt is epoch_0001.pt."""
        checkpoint, run = load_checkpoint(latest(home, "cgan")), home / "runs" / "four"
        (run / "checkpoints").mkdir(parents=True)
        for epoch in (1, 2):
            changed = replace(checkpoint, epoch=epoch)
            keep_checkpoint(changed, run, keep=3, best=epoch == 1)
        return run

    @staticmethod
    def contents(path: Path) -> dict[str, Any]:
        return torch.load(path, weights_only=True)

    @staticmethod
    def bytes_in(folder: Path) -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    def test_every_checkpoint_of_a_run_gets_it_and_keeps_the_rest(self, home, command):
        give(OWN, home)
        folder = self.run_of_four(home) / "checkpoints"
        names = ["best.pt", "epoch_0001.pt", "epoch_0002.pt", "latest.pt"]
        assert sorted(os.listdir(folder)) == names
        before = {name: self.contents(folder / name) for name in names}
        told = command(*PROGRAM, *"vocoder images --checkpoint runs/four".split(), cwd=home)
        assert "images/vocoder.pt is there already" in told.stderr
        assert told.stdout.splitlines() == [
            "the vocoder is images/vocoder.pt",
            "and in 4 checkpoints of runs/four",
        ]
        assert sorted(os.listdir(folder)) == names
        assert (folder / "latest.pt").samefile(folder / "epoch_0002.pt")
        assert (folder / "best.pt").samefile(folder / "epoch_0001.pt")
        assert not (folder / "best.pt").samefile(folder / "latest.pt")
        for name in names:
            assert digest_of(folder / name) == OWN.digest
            after = self.contents(folder / name)
            assert before[name].pop("vocoder") is None and after.pop("vocoder") is not None
            assert_same(after, before[name])

    def test_on_a_file_system_without_hard_links_too(self, home, monkeypatch):
        run = self.run_of_four(home)

        def refuse(*_: object) -> None:
            raise OSError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
        assert len(add_vocoder(run, OWN)) == 4
        for path in (run / "checkpoints").iterdir():
            assert digest_of(path) == OWN.digest
            assert path.stat().st_nlink == 1

    def test_a_file_gets_it(self, home, command):
        give(OWN, home)
        shutil.copy(latest(home, "cgan"), home / "x.pt")
        told = command(*PROGRAM, *"vocoder images --checkpoint x.pt".split(), cwd=home).stdout
        assert told.endswith("and in 1 checkpoint of x.pt\n")
        assert digest_of(home / "x.pt") == OWN.digest
        assert digest_of(latest(home, "cgan")) is None

    def test_the_newest_run_gets_it(self, home, command):
        give(OWN, home)
        newest = home / "runs" / "00007-cgan-images"
        shutil.copytree(home / "runs" / "cgan", newest)
        line = "vocoder images --checkpoint latest"
        assert "checkpoint of runs/00007" in command(*PROGRAM, *line.split(), cwd=home).stdout
        assert digest_of(newest) == OWN.digest
        assert digest_of(home / "runs" / "cgan") is None

    def test_another_replaces_it(self, home):
        for vocoder in (OWN, OTHER):
            add_vocoder(home / "runs" / "cgan", vocoder)
            assert digest_of(latest(home, "cgan")) == vocoder.digest

    @pytest.mark.parametrize("kind", ["other settings", "damaged", "none", "in use", "missing"])
    def test_what_cannot_get_it_is_refused_and_nothing_changes(self, kind, home, command):
        give(OWN, home)
        run = self.run_of_four(home)
        first = run / "checkpoints" / "epoch_0001.pt"
        status, named = 2, "runs/four"
        if kind == "other settings":
            checkpoint = load_checkpoint(first)
            settings = replace(checkpoint.spectrogram, f_max=7000.0)
            save_checkpoint(replace(checkpoint, spectrogram=settings), first)
            told = "epoch_0001.pt is of images with other spectrogram settings than the vocoder"
        elif kind == "damaged":
            first.write_bytes(first.read_bytes()[:-1000])
            told = "epoch_0001.pt is damaged"
        elif kind == "none":
            shutil.rmtree(run / "checkpoints")
            told = "runs/four: no checkpoint in it"
        elif kind == "missing":
            named, told = "nowhere.pt", "nowhere.pt"
        else:
            told = "runs/four"
        before = self.bytes_in(home / "runs")
        line = (*PROGRAM, "vocoder", "images", "--checkpoint", named)
        if kind == "in use":
            with folder_lock(run, "training"):
                refused = command(*line, cwd=home, status=status)
        else:
            refused = command(*line, cwd=home, status=status)
        assert told in refused.stderr.splitlines()[-1]
        after = self.bytes_in(home / "runs")
        assert {name: after[name] for name in before} == before


def assert_same(found: Any, expected: Any) -> None:
    """Nested dicts and lists of tensors and plain values."""
    if isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected) and found.dtype == expected.dtype
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert_same(found[key], value)
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == expected


class TestUntrustedCheckpoints:
    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda v: {**v, "format_version": 2}, "a vocoder of format 2; this version reads 1"),
            (lambda v: {}, "a vocoder of format None"),
            (lambda v: [v], "vocoder: list is not names and values"),
            (lambda v: {**v, "weights": {}}, "the vocoder has other layers than its model"),
            (
                lambda v: {**v, "weights": {k: w * torch.nan for k, w in v["weights"].items()}},
                "holds numbers that are not finite",
            ),
            (
                lambda v: {**v, "weights": {k: w[:1] for k, w in v["weights"].items()}},
                "differs in shape or type from its model's",
            ),
            (lambda v: UNFIT.to_plain(), "a vocoder for images with other settings"),
            (lambda v: {**v, "spectrogram": {**asdict(CONFIG), "n_fft": 2**40}}, "n_fft"),
            (lambda v: {**v, "record": {"error_db": "low"}}, "error_db"),
        ],
    )
    def test_a_bad_vocoder_makes_them_damaged(self, change, told, home):
        path = latest(home, "cgan")
        contents = torch.load(path, weights_only=True)
        torch.save({**contents, "vocoder": OWN.to_plain()}, path)
        assert digest_of(path) == OWN.digest
        torch.save({**contents, "vocoder": change(OWN.to_plain())}, path)
        with pytest.raises(DamagedError, match=re.escape(told)) as error:
            load_checkpoint(path)
        assert str(error.value).startswith(f"{path} is damaged or not a checkpoint")
        assert "\n" not in str(error.value)

    def test_an_older_one_takes_its_place(self, home, caplog):
        folder = latest(home, "cgan").parent
        shutil.copy(folder / "latest.pt", folder / "epoch_0001.pt")
        contents = torch.load(folder / "latest.pt", weights_only=True)
        torch.save({**contents, "vocoder": {"weights": {}}}, folder / "latest.pt")
        assert load_checkpoint(home / "runs" / "cgan").vocoder is None
        assert "latest.pt cannot be read; using" in caplog.text


Generate = Callable[..., Path]


@pytest.fixture
def generate(home: Path, command: Command) -> Generate:
    """`generate(*flags, output="out", run="anylength")`: the folder."""

    def made(*flags: object, output: str = "out", run: str = "anylength") -> Path:
        line = (*PROGRAM, "generate", "--checkpoint", f"runs/{run}", "--genre", 0, "--seeds", 3)
        command(*line, "--device", "cpu", "--output", output, *flags, cwd=home)
        return home / output

    return made


def only(folder: Path, suffix: str) -> Path:
    """The one generated file; real music is in a folder below."""
    (path,) = folder.glob(f"*.{suffix}")
    return path


class TestGenerate:
    def test_a_checkpoint_draws_the_same_images_with_a_vocoder_and_other_sound(
        self, home, generate
    ):
        before = generate("--vocoder", "none", output="before")
        add_vocoder(home / "runs" / "anylength", OWN)
        after = generate(output="after")
        none = generate("--vocoder", "none", output="none")
        drawn = [np.asarray(Image.open(only(f, "png"))) for f in (before, after, none)]
        assert np.array_equal(drawn[0], drawn[1]) and np.array_equal(drawn[0], drawn[2])
        sounds = [samples_of(only(folder, "wav")) for folder in (before, after, none)]
        assert np.array_equal(sounds[0], sounds[2])
        assert not np.array_equal(sounds[0], sounds[1])

    @pytest.mark.usefixtures("dataset")
    def test_its_sound_is_the_inversion_with_it(self, home, generate):
        add_vocoder(home / "runs" / "anylength", OWN)
        for flags, vocoder in (((), OWN), (("--vocoder", "none"), None)):
            folder = generate(*flags, output=f"out{len(flags)}")
            expected = inverted(only(folder, "png"), vocoder, home)
            assert np.array_equal(samples_of(only(folder, "wav")), expected)
            real = sorted(folder.glob("real/bass/*.png"))
            assert real
            for png in real:
                sound = samples_of(png.with_suffix(".wav"))
                assert np.array_equal(sound, inverted(png, vocoder, home))

    @pytest.mark.parametrize("flags", ["--seconds 4.0007", "--bars 2 --bpm 133"])
    def test_pieces_are_exactly_as_long_as_asked(self, flags, home, generate):
        add_vocoder(home / "runs" / "anylength", OWN)
        seconds = 4.0007 if "--seconds" in flags else 2 * 4 * 60 / 133
        folder = generate(*flags.split())
        sound = samples_of(only(folder, "wav"))
        assert len(sound) == round(seconds * 22050)
        expected = inverted(only(folder, "png"), OWN, home, seconds=seconds)
        assert np.array_equal(sound, expected)

    @pytest.mark.parametrize("flags", ["--seconds 4.0007", "--bars 2 --bpm 133"])
    def test_loops_are_exactly_as_long_as_asked(self, flags, home, generate):
        add_vocoder(home / "runs" / "anylength", OWN)
        seconds = 4.0007 if "--seconds" in flags else 2 * 4 * 60 / 133
        folder = generate(*flags.split(), "--loop")
        sound = samples_of(only(folder, "wav"))
        assert len(sound) == round(seconds * 22050)
        image, config = read_image(only(folder, "png"), CONFIG)
        assert config.hop_length % OWN.frames_per_column == 0
        expected = sound_of_loop(image, config, seconds, OWN)
        assert np.array_equal(sound, as_saved(expected, home))
        assert not np.array_equal(sound, as_saved(sound_of_loop(image, config, seconds), home))

    def test_the_page_names_it(self, home, generate):
        add_vocoder(home / "runs" / "anylength", OWN)
        page = (generate(output="with") / "index.html").read_text()
        assert f", vocoder {OWN.digest}" in page and "content up to 11,025 Hz" in page
        page = (generate("--vocoder", "none", output="without") / "index.html").read_text()
        assert ", vocoder " not in page and "content up to 8,000 Hz" in page

    def test_a_file_is_taken_instead(self, home, generate):
        add_vocoder(home / "runs" / "anylength", OWN)
        save_vocoder(OTHER, home / "other.pt")
        folder = generate("--vocoder", "other.pt")
        expected = inverted(only(folder, "png"), OTHER, home)
        assert np.array_equal(samples_of(only(folder, "wav")), expected)
        assert f"vocoder {OTHER.digest}" in (folder / "index.html").read_text()

    @pytest.mark.usefixtures("dataset")
    def test_sounds_by_another_vocoder_have_names_of_their_own(self, home, generate):
        add_vocoder(home / "runs" / "anylength", OWN)
        save_vocoder(OTHER, home / "other.pt")
        stem = "bass_seed0003"
        for flags, made in (
            ((), [stem]),
            (("--vocoder", "other.pt"), [f"{stem}-2", stem]),
            ((), [f"{stem}-2", stem]),
        ):
            folder = generate(*flags)
            assert sorted(path.stem for path in folder.glob("*.wav")) == sorted(made)
        pngs = [folder / stem, folder / f"{stem}-2"]
        (real,) = folder.glob("real/bass/bass0_000.png")
        pngs += [real.with_suffix(""), real.with_name(f"{real.stem}-2")]
        for path, vocoder in zip(pngs, (OWN, OTHER, OWN, OTHER), strict=True):
            png, sound = path.with_suffix(".png"), path.with_suffix(".wav")
            assert np.array_equal(samples_of(sound), inverted(png, vocoder, home))

    @pytest.mark.parametrize("kind", ["settings", "size", "missing", "text", "gan"])
    def test_a_file_that_is_no_vocoder_for_its_images_is_refused(self, kind, home, command):
        path, told = home / "v.pt", "v.pt is damaged or not a vocoder"
        if kind == "settings":
            save_vocoder(UNFIT, path)
            told = "--vocoder v.pt: is for images of 64 mel bands and with hop 1024, or has other"
        elif kind == "size":
            save_vocoder(random_vocoder(SpectrogramConfig.for_image_size(128)), path)
            told = "--vocoder v.pt: is for images of 128 mel bands and with hop 512"
        elif kind == "missing":
            told = "v.pt: there is no such vocoder"
        elif kind == "text":
            path.write_text("no weights")
        elif kind == "gan":
            shutil.copy(latest(home, "cgan"), path)
        line = "generate --checkpoint runs/cgan --vocoder v.pt --output out"
        assert told in command(*PROGRAM, *line.split(), cwd=home, status=2).stderr
        assert not (home / "out").exists()

    @pytest.mark.usefixtures("dataset")
    def test_a_checkpoint_without_one_takes_that_of_its_dataset(self, home, generate):
        give(OWN, home)
        assert digest_of(latest(home, "anylength")) is None
        folder = generate()
        assert f"vocoder {OWN.digest}" in (folder / "index.html").read_text()
        expected = inverted(only(folder, "png"), OWN, home)
        assert np.array_equal(samples_of(only(folder, "wav")), expected)

    @pytest.mark.usefixtures("dataset")
    def test_its_own_comes_before_that_of_its_dataset(self, home, generate):
        give(OTHER, home)
        add_vocoder(home / "runs" / "anylength", OWN)
        assert f"vocoder {OWN.digest}" in (generate() / "index.html").read_text()

    @pytest.mark.usefixtures("dataset")
    def test_that_of_a_dataset_with_other_images_is_not_taken(self, home, generate):
        give(OWN, home)
        shutil.rmtree(home / "images" / "bass")
        assert OWN.digest not in (generate() / "index.html").read_text()

    @pytest.mark.parametrize("run", ["anylength", "cgan"])
    def test_old_checkpoints_sound_as_before_without_one(self, run, home, generate):
        folder = generate("--vocoder", "none", run=run)
        png = only(folder, "png")
        assert np.array_equal(samples_of(only(folder, "wav")), inverted(png, None, home))

    def test_the_packages_is_taken_if_there_is_no_other(self, home, generate):
        default = load_vocoder(DEFAULT)
        folder = generate()
        assert f"vocoder {default.digest}" in (folder / "index.html").read_text()
        expected = inverted(only(folder, "png"), default, home)
        assert np.array_equal(samples_of(only(folder, "wav")), expected)


class TestThePackages:
    def test_it_is_for_the_default_settings(self):
        default = load_vocoder(DEFAULT)
        assert default.fits(CONFIG) and default.spectrogram == CONFIG
        assert default_vocoder(CONFIG).digest == default.digest
        assert default.record.steps > 0

    @pytest.mark.parametrize(
        "config",
        [SpectrogramConfig.for_image_size(128), SpectrogramConfig(f_max=9000.0)],
        ids=["128", "f_max"],
    )
    def test_other_images_have_none(self, config):
        assert default_vocoder(config) is None
        assert choose_vocoder(None, None, config) is None

    def test_it_comes_last(self, tmp_path):
        save_vocoder(OTHER, tmp_path / "other.pt")
        assert choose_vocoder(None, OWN, CONFIG) is OWN
        assert choose_vocoder("none", OWN, CONFIG) is None
        assert choose_vocoder(str(tmp_path / "other.pt"), OWN, CONFIG).digest == OTHER.digest
        assert choose_vocoder(None, None, CONFIG).digest == load_vocoder(DEFAULT).digest


class TestInvert:
    @pytest.mark.parametrize("path", ["images", "images/bass", "images/bass/bass1_001.png"])
    def test_images_in_a_dataset_have_its_vocoder(self, path, home, command):
        give(OWN, home)
        for genre in ("chords", "drums"):
            shutil.rmtree(home / "images" / genre)
        for png in (home / "images" / "bass").glob("bass[02]_*.png"):
            png.unlink()
        pngs = sorted((home / "images" / "bass").glob("bass1_*.png"))
        shown = pngs if path != "images/bass/bass1_001.png" else [home / path]
        joined = np.concatenate([read_image(png, CONFIG)[0] for png in shown], axis=1)
        for flags, vocoder in (((), OWN), (("--vocoder", "none"), None)):
            command(*PROGRAM, "invert", path, "--output", "out", *flags, cwd=home)
            (made,) = (home / "out").rglob("bass1_*.wav")
            (expected,) = sounds_of(joined[None], CONFIG, vocoder)
            assert np.array_equal(samples_of(made), as_saved(expected, home))

    def test_images_elsewhere_do_not(self, home, command):
        give(OWN, home)
        shutil.copy(home / "images" / "bass" / "bass1_000.png", home / "a.png")
        command(*PROGRAM, "invert", "a.png", "--output", "out", cwd=home)
        made = samples_of(home / "out" / "a.wav")
        assert not np.array_equal(made, inverted(home / "a.png", OWN, home))
        own = choose_vocoder(None, None, CONFIG)
        assert np.array_equal(made, inverted(home / "a.png", own, home))

    def test_a_file_is_taken_instead(self, home, command):
        give(OWN, home)
        save_vocoder(OTHER, home / "other.pt")
        png = home / "images" / "drums" / "drums0_002.png"
        line = (*PROGRAM, "invert", png, "--output", "out", "--vocoder")
        command(*line, "other.pt", cwd=home)
        made = samples_of(home / "out" / "drums0_002.wav")
        assert np.array_equal(made, inverted(png, OTHER, home))
        save_vocoder(UNFIT, home / "other.pt")
        told = command(*line, "other.pt", cwd=home, status=2).stderr
        assert "--vocoder other.pt: is for images of 64 mel bands" in told

    def test_one_that_cannot_be_used_is_told_and_left_out(self, home, command):
        give(UNFIT, home)
        png = home / "images" / "drums" / "drums0_002.png"
        told = command(*PROGRAM, "invert", png, "--output", "out", cwd=home).stderr
        assert "vocoder.pt is for images with other spectrogram settings: going on with" in told
        own = choose_vocoder(None, None, CONFIG)
        assert np.array_equal(samples_of(home / "out" / "drums0_002.wav"), inverted(png, own, home))


class TestReconstruct:
    def test_a_file_is_taken(self, command, tmp_path):
        clip = composer.compose("chords", 0, seed=0, seconds=4.0)
        save(tmp_path / "clip.wav", clip, composer.SAMPLE_RATE)
        save_vocoder(OWN, tmp_path / "v.pt")
        for vocoder, named in ((OWN, "v.pt"), (None, "none")):
            line = f"reconstruct clip.wav --output {named}.out --vocoder {named}"
            told = command(*PROGRAM, *line.split(), cwd=tmp_path).stdout
            folder = tmp_path / f"{named}.out"
            expected = inverted(folder / "clip.png", vocoder, tmp_path, seconds=4.0)
            restored, original = (
                samples_of(folder / name) for name in ("clip.wav", "clip_original.wav")
            )
            assert np.array_equal(restored, expected)
            error = round_trip_error(original / 2**15, restored / 2**15, 22050)
            assert float(told.split()[2]) == pytest.approx(error, abs=0.02)
        line = "reconstruct clip.wav --image-size 128 --output out --vocoder v.pt"
        refused = command(*PROGRAM, *line.split(), cwd=tmp_path, status=2).stderr
        assert "--vocoder v.pt: is for images of 64 mel bands and with hop 1024" in refused
        assert "(128 bands, hop 512)" in refused and not (tmp_path / "out").exists()


class TestInfo:
    def test_a_dataset_and_a_checkpoint_say_whether_they_have_one(self, home, command):
        def row(path: str) -> str:
            told = command(*PROGRAM, "info", path, cwd=home).stdout
            (line,) = [line for line in told.splitlines() if line.startswith("vocoder")]
            return line.removeprefix("vocoder").strip()

        assert row("images") == row("runs/cgan") == "none"
        vocoder = random_vocoder()
        vocoder.record = Record(48, 23.5, 900, 0, 2.714, 3.256)
        give(vocoder, home)
        add_vocoder(home / "runs" / "cgan", vocoder)
        assert row("images") == "vocoder.pt"
        assert row("runs/cgan") == row(str(latest(home, "cgan"))) == vocoder.record.describe()
        assert "learned from 48 tracks, 23.5 minutes; round-trip error of " in row("runs/cgan")


class TestLoopSettings:
    @pytest.mark.parametrize("parts", [1, 2, 3])
    def test_hops_are_multiples_of_the_vocoders_frames(self, parts):
        config = replace(CONFIG, hop_length=448 * parts)
        vocoder = Vocoder(config)
        assert vocoder.frames_per_column == parts
        for multiple, seconds in product((1, 16), (0.5, 2.0, 3.99, 60 / 133 * 8, 30.001)):
            frames, looped = loop_settings(seconds, config, multiple, vocoder)
            assert frames == loop_settings(seconds, config, multiple)[0]
            assert frames % multiple == 0
            assert looped.hop_length % parts == 0
            exact = seconds * 22050 / frames
            assert abs(looped.hop_length - exact) <= parts / 2
            assert replace(looped, hop_length=config.hop_length) == config
