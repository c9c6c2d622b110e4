"""invert and reconstruct."""

from __future__ import annotations

import gc
import shutil
import weakref
from pathlib import Path

import mutagen
import numpy as np
import pytest
import soundfile
from PIL import Image

from musicspectrogan.audio.files import save
from musicspectrogan.audio.images import write_image
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.data import composer
from musicspectrogan.errors import UserError
from musicspectrogan.generation import invert as inverting
from musicspectrogan.generation.invert import invert_images
from musicspectrogan.generation.settings import SoundConfig


def names(folder: Path, suffix: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(f"*.{suffix}"))


def test_invert_tells_the_beat_of_a_whole_track(tmp_path):
    beat = np.tile(np.repeat(np.uint8([[220, 60]]), (2, 9), axis=1), (64, 60))  # 117.45 BPM
    for number in range(4):
        write_image(
            tmp_path / f"a_00{number}.png", beat[:, 64 * number :][:, :64], SpectrogramConfig()
        )
    (made,) = invert_images([tmp_path], tmp_path / "out", SoundConfig(format="flac"))
    assert float(mutagen.File(made)["BPM"][0]) == pytest.approx(117.45, rel=3e-3)


class TestInvert:
    def test_segments_of_a_track_become_one_file(self, images, command, tmp_path):
        command("-m", "musicspectrogan", "invert", images / "jazz", "--output", "out", cwd=tmp_path)
        assert names(tmp_path / "out", "wav") == [f"jazz.0000{k}_000-001.wav" for k in range(4)]
        with soundfile.SoundFile(tmp_path / "out" / "jazz.00000_000-001.wav") as file:
            assert file.frames == 2 * 64 * 1024

    def test_a_gap_between_segments_makes_two_files(self, images, command, tmp_path):
        (tmp_path / "set").mkdir()
        for segment in (0, 1, 3):
            shutil.copy(
                images / "jazz" / "jazz.00000_000.png", tmp_path / "set" / f"a_{segment:03d}.png"
            )
        command("-m", "musicspectrogan", "invert", "set", "--output", "out", cwd=tmp_path)
        assert names(tmp_path / "out", "wav") == ["a_000-001.wav", "a_003.wav"]

    def test_genres_stay_apart(self, images, command, tmp_path):
        for genre in ("jazz", "rock"):
            (tmp_path / "set" / genre).mkdir(parents=True)
            shutil.copy(
                images / genre / f"{genre}.00000_000.png", tmp_path / "set" / genre / "a_000.png"
            )
        command("-m", "musicspectrogan", "invert", "set", "--output", "out", cwd=tmp_path)
        assert names(tmp_path / "out", "wav") == ["jazz/a_000.wav", "rock/a_000.wav"]
        jazz, rock = (
            (tmp_path / "out" / genre / "a_000.wav").read_bytes() for genre in ("jazz", "rock")
        )
        assert jazz != rock
        line = ("-m", "musicspectrogan", "invert", "set/jazz", "set/rock", "--output", "both")
        refused = command(*line, cwd=tmp_path, status=2)
        clash = "set/jazz/a_000.png and set/rock/a_000.png would both become both/a_000.wav; give"
        assert clash in refused.stderr
        assert not (tmp_path / "both").exists()

    def test_settings_come_from_the_image_then_dataset_json_then_the_defaults(
        self, images, command, tmp_path
    ):
        fast = SpectrogramConfig(hop_length=512)
        pixels = np.random.default_rng(0).integers(1, 255, (64, 64), dtype=np.uint8)
        write_image(tmp_path / "own.png", pixels, fast)
        shutil.copytree(images, tmp_path / "set")
        text = (tmp_path / "set" / "dataset.json").read_text()
        (tmp_path / "set" / "dataset.json").write_text(
            text.replace('"hop_length": 1024', '"hop_length": 256')
        )
        Image.fromarray(pixels).save(tmp_path / "set" / "jazz" / "plain.png")
        Image.fromarray(pixels).save(tmp_path / "stranger.png")
        for path, hop in (("own.png", 512), ("set/jazz/plain.png", 256), ("stranger.png", 1024)):
            told = command("-m", "musicspectrogan", "invert", path, "--output", "out", cwd=tmp_path)
            assert ("does not say how it was made" in told.stderr) is (hop == 1024)
            with soundfile.SoundFile(
                (tmp_path / "out" / path.split("/")[-1]).with_suffix(".wav")
            ) as file:
                assert file.frames == 64 * hop

    def test_the_images_of_one_track_are_in_memory_at_a_time(self, images, tmp_path, monkeypatch):
        read: list[weakref.ref[np.ndarray]] = []
        alive: list[int] = []
        read_image, sounds_of = inverting.read_image, inverting.sounds_of

        def counting(*arguments):
            pixels, config = read_image(*arguments)
            read.append(weakref.ref(pixels))
            return pixels, config

        def counted(joined, *arguments, **options):
            gc.collect()
            alive.append(sum(reference() is not None for reference in read))
            return sounds_of(joined, *arguments, **options)

        monkeypatch.setattr(inverting, "read_image", counting)
        monkeypatch.setattr(inverting, "sounds_of", counted)
        assert len(invert_images([images / "jazz", images / "rock"], tmp_path / "out")) == 8
        assert len(read) == 2 * 16  # once to check all, once to invert
        assert len(alive) == 8 and max(alive) <= 2

    def test_a_later_image_that_is_wrong_is_told_before_anything_is_written(self, images, tmp_path):
        shutil.copytree(images, tmp_path / "set")
        torn = tmp_path / "set" / "rock" / "rock.00003_001.png"
        torn.write_bytes(torn.read_bytes()[:-200])
        with pytest.raises(UserError, match=r"rock\.00003_001\.png: cannot be read"):
            invert_images([tmp_path / "set"], tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_names_in_capitals_are_taken_too(self, images, tmp_path):
        shutil.copy(images / "jazz" / "jazz.00000_000.png", tmp_path / "A.PNG")
        assert invert_images([tmp_path], tmp_path / "out") == [tmp_path / "out" / "A.wav"]

    def test_only_its_own_files_are_written_over(self, images, tmp_path):
        image = images / "jazz" / "jazz.00000_000.png"
        (made,) = invert_images([image], tmp_path)
        assert invert_images([image], tmp_path) == [made]
        save(made, composer.compose("chords", 0, seed=0, seconds=1.0), composer.SAMPLE_RATE)
        before = made.read_bytes()
        with pytest.raises(
            UserError, match=r"jazz\.00000_000\.wav: exists and was not written by this command"
        ):
            invert_images([image], tmp_path)
        assert made.read_bytes() == before

    @pytest.mark.parametrize(
        ("path", "told"),
        [
            ("photo.png", "is no spectrogram"),
            ("torn.png", "cannot be read as an image"),
            ("nowhere.png", "no such file"),
            ("empty", "contains no PNG"),
        ],
    )
    def test_what_is_no_spectrogram_is_refused(self, path, told, command, tmp_path):
        Image.new("RGB", (640, 480), "red").save(tmp_path / "photo.png")
        Image.new("L", (64, 64)).save(tmp_path / "torn.png")
        (tmp_path / "torn.png").write_bytes((tmp_path / "torn.png").read_bytes()[:60])
        (tmp_path / "empty").mkdir()
        done = command(
            "-m", "musicspectrogan", "invert", path, "--output", "out", cwd=tmp_path, status=2
        )
        assert told in done.stderr
        assert not (tmp_path / "out").exists()

    def test_a_rate_that_the_format_has_not_is_refused_before_any_is_written(
        self, command, tmp_path
    ):
        pixels = np.random.default_rng(0).integers(1, 255, (64, 64), dtype=np.uint8)
        write_image(tmp_path / "a.png", pixels, SpectrogramConfig())
        write_image(tmp_path / "b.png", pixels, SpectrogramConfig(sample_rate=30000))
        line = (
            "-m",
            "musicspectrogan",
            "invert",
            "a.png",
            "b.png",
            "--output",
            "out",
            "--format",
            "mp3",
        )
        told = command(*line, cwd=tmp_path, status=2).stderr
        assert "has no sample rate of 30000 Hz, only 8000, 11025, 12000, 16000, 22050, " in told
        assert "disk" not in told and not (tmp_path / "out").exists()


def test_reconstruct_prints_the_round_trips_error(command, tmp_path):
    save(
        tmp_path / "clip.wav",
        composer.compose("chords", 0, seed=0, seconds=5.0),
        composer.SAMPLE_RATE,
    )
    errors = {}
    for size in (64, 256):
        line = ("reconstruct", "clip.wav", "--image-size", size, "--output", f"out{size}")
        told = command("-m", "musicspectrogan", *line, cwd=tmp_path).stdout
        errors[size] = float(told.split("round-trip error ")[1].split(" dB")[0])
        assert {path.name for path in (tmp_path / f"out{size}").iterdir()} == {
            "clip.png", "clip.wav", "clip_original.wav",
        }  # fmt: skip
    assert 0 < errors[256] < errors[64] < 10
    music = (tmp_path / "clip.wav").read_bytes()
    beside = command(
        "-m", "musicspectrogan", "reconstruct", "clip.wav", "--output", ".", cwd=tmp_path, status=2
    )
    assert "clip.wav: exists and was not written by this command" in beside.stderr
    assert (tmp_path / "clip.wav").read_bytes() == music
    assert "does not decode" in reconstruct_text(command, tmp_path)


def reconstruct_text(command, tmp_path: Path) -> str:
    (tmp_path / "text.wav").write_text("no sound")
    return command(
        "-m", "musicspectrogan", "reconstruct", "text.wav", cwd=tmp_path, status=2
    ).stderr


def test_more_segments_than_fit_into_memory_are_refused(tmp_path):
    config = SpectrogramConfig(n_fft=65536, n_mels=1)
    for number in range(2):
        write_image(tmp_path / f"a_00{number}.png", np.ones((1, 4500), np.uint8), config)
    with pytest.raises(UserError, match=r"a_000\.png and following: 9000 frames are too many"):
        invert_images([tmp_path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_segments_of_one_track_with_different_settings_are_refused(tmp_path):
    for number, size in enumerate((64, 128)):
        config = SpectrogramConfig.for_image_size(size)
        write_image(tmp_path / f"a_00{number}.png", np.zeros((size, size), np.uint8), config)
    with pytest.raises(UserError, match=r"a_001\.png: has other settings than a_000\.png"):
        invert_images([tmp_path], tmp_path / "out")
    assert not (tmp_path / "out").exists()
