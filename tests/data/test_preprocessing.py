"""The preprocess command end to end: what it writes, what it refuses, and how it goes on after a kill."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import numpy as np
import pytest
import soundfile
from conftest import Command, command_line, environment
from datasets import (
    dataset_bytes,
    files_in,
    images_in,
    lines_in_report,
    long_music,
    manifest,
    report,
)
from PIL import Image

from musicspectrogan.audio.files import load, save
from musicspectrogan.audio.spectrogram import SpectrogramConfig, cut_images, encode
from musicspectrogan.data import composer, conversion
from musicspectrogan.data.dataset import load_dataset
from musicspectrogan.data.preprocessing import preprocess
from musicspectrogan.data.settings import PreprocessConfig
from musicspectrogan.errors import UserError

RATE = composer.SAMPLE_RATE
Again = tuple[Path, Command]

GENRES = ("blues", "jazz", "metal", "rock")

# Class folders below `music` in the working directory -> `out`.
FOLDER_LINE = (
    "preprocess.py",
    "--dataset",
    "folder",
    "--input",
    "music",
    "--output",
    "out",
    "--jobs",
    1,
)

DEFAULT_SPECTROGRAM = {
    "sample_rate": 22050,
    "n_fft": 2048,
    "hop_length": 1024,
    "n_mels": 64,
    "n_frames": 64,
    "f_min": 0.0,
    "f_max": 8000.0,
    "top_db": 80.0,
}


def write_music(path: Path, *, style: str = "chords", index: int = 0, seconds: float = 4.0) -> Path:
    """A short clip in the format of the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, composer.compose(style, index, seed=1, seconds=seconds), RATE)
    return path


def expected_images(clip: Path, config: SpectrogramConfig) -> list[np.ndarray]:
    return cut_images(encode(load(clip, config.sample_rate).samples, config)[0], config)


@pytest.fixture
def again(images: Path, gtzan_tree: Path, tmp_path: Path, command: Command) -> Again:
    """A copy of `images`, and the command that made it with flags added."""
    output = tmp_path / "images"
    shutil.copytree(images, output)

    def run(*flags: object, status: int = 0) -> subprocess.CompletedProcess:
        line = (
            "preprocess.py",
            "--dataset",
            "gtzan",
            "--input",
            gtzan_tree,
            "--output",
            output,
            *flags,
        )
        return command(*line, cwd=tmp_path, status=status)

    return output, run


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, command: Command) -> Path:
    """A working directory with class folders `music` of good and bad files, converted to `out`."""
    folder = tmp_path_factory.mktemp("mixed")
    good, bad = folder / "music" / "good", folder / "music" / "bad"
    write_music(good / "whole.wav", seconds=7.0)
    write_music(good / "flac.flac", style="bass")
    cut_off = write_music(good / "cut off.mp3", style="drums", seconds=7.0)
    cut_off.write_bytes(cut_off.read_bytes()[: round(0.6 * cut_off.stat().st_size)])
    write_music(bad / "short.wav", seconds=1.5)
    save(bad / "silent.wav", np.zeros(4 * RATE, dtype=np.float32), RATE)
    samples = composer.compose("drums", 0, seed=1, seconds=4.0)
    samples[1000] = np.nan
    soundfile.write(bad / "nan.wav", samples, RATE, subtype="FLOAT")
    (bad / "text.wav").write_text("la la la\n" * 100)
    (bad / "empty.mp3").touch()
    command(*FOLDER_LINE, cwd=folder)
    return folder


class TestWhatIsWritten:
    def test_two_images_of_each_clip_under_their_names(self, images: Path) -> None:
        assert images_in(images) == sorted(
            f"{genre}/{genre}.{index:05d}_{segment:03d}.png"
            for genre in GENRES
            for index in range(4)
            for segment in range(2)
        )
        assert sorted(path.name for path in images.iterdir() if path.is_dir()) == list(GENRES)

    def test_images_are_grey_and_say_what_they_show(self, images: Path) -> None:
        reference_db = {track["id"]: track["reference_db"] for track in manifest(images)["tracks"]}
        for name in images_in(images):
            with Image.open(images / name) as image:
                assert (image.format, image.mode, image.size) == ("PNG", "L", (64, 64))
                text = image.text
            genre, track = name.split("/")[0], name.split("/")[1].rpartition("_")[0]
            assert json.loads(text.pop("spectrogram")) == DEFAULT_SPECTROGRAM
            assert float(text.pop("reference_db")) == reference_db[track]
            assert text == {"genre": genre, "track": track}

    def test_pixels_are_those_of_the_encoder(self, images: Path, gtzan_tree: Path) -> None:
        for genre in GENRES:
            for index in range(4):
                name = f"{genre}/{genre}.{index:05d}"
                expected = expected_images(gtzan_tree / f"{name}.wav", SpectrogramConfig())
                assert len(expected) == 2
                for segment, pixels in enumerate(expected):
                    with Image.open(images / f"{name}_{segment:03d}.png") as image:
                        np.testing.assert_array_equal(np.asarray(image), pixels)

    def test_dataset_json_is_exact(self, images: Path, gtzan_tree: Path) -> None:
        validation = {"blues.00003", "jazz.00002", "metal.00003", "rock.00000"}
        test = {"blues.00000", "jazz.00001", "metal.00001", "rock.00001"}
        tracks = []
        for genre in GENRES:
            for index in range(4):
                name = f"{genre}.{index:05d}"
                samples = load(gtzan_tree / genre / f"{name}.wav", RATE).samples
                tracks.append(
                    {
                        "id": name,
                        "genre": genre,
                        "split": "validation"
                        if name in validation
                        else "test"
                        if name in test
                        else "training",
                        "segments": 2,
                        "reference_db": pytest.approx(
                            encode(samples, SpectrogramConfig())[1], abs=1e-4
                        ),
                        "seconds": 7.0,
                    }
                )
        assert manifest(images) == {
            "format_version": 1,
            "source": "gtzan",
            "spectrogram": DEFAULT_SPECTROGRAM,
            "selection": {"input": gtzan_tree.name},
            "genres": list(GENRES),
            "tracks": tracks,
        }

    def test_the_report_has_a_line_for_each_clip(self, images: Path, gtzan_tree: Path) -> None:
        lines = report(images)
        assert sorted(lines) == [f"{genre}.{index:05d}" for genre in GENRES for index in range(4)]
        for name, line in lines.items():
            assert (line["status"], line["reason"], line["segments"]) == ("converted", "", "2")
            assert Path(line["path"]) == Path(line["genre"], f"{name}.wav")

    def test_no_other_file_is_left(self, images: Path) -> None:
        beside = set(files_in(images)) - set(images_in(images))
        assert beside == {"dataset.json", "preprocess_report.csv", ".lock"}

    def test_torchvision_opens_the_folder(self, images: Path) -> None:
        from torchvision.datasets import ImageFolder

        dataset = ImageFolder(str(images))
        assert dataset.classes == list(GENRES)
        assert dataset.targets == [label for label in range(4) for _ in range(8)]
        image, label = dataset[9]
        assert (image.size, label) == ((64, 64), 1)

    @pytest.mark.parametrize("size", [128, 256])
    def test_larger_images_span_the_same_time(
        self, size: int, tmp_path: Path, command: Command
    ) -> None:
        clip = write_music(tmp_path / "music" / "rock" / "clip.wav", seconds=6.5)
        line = (
            "preprocess.py",
            "--dataset",
            "folder",
            "--input",
            "music",
            "--image-size",
            size,
            "--jobs",
            1,
        )
        command(*line, cwd=tmp_path)
        output = tmp_path / "spectrogram_images"
        assert images_in(output) == ["rock/clip_000.png", "rock/clip_001.png"]
        scaled = {"n_mels": size, "n_frames": size, "hop_length": 65536 // size}
        assert manifest(output)["spectrogram"] == {**DEFAULT_SPECTROGRAM, **scaled}
        for name, pixels in zip(
            images_in(output),
            expected_images(clip, SpectrogramConfig.for_image_size(size)),
            strict=True,
        ):
            with Image.open(output / name) as image:
                assert (image.mode, image.size) == ("L", (size, size))
                np.testing.assert_array_equal(np.asarray(image), pixels)

    def test_settings_from_flags_reach_images_and_dataset_json(
        self, tmp_path: Path, command: Command
    ) -> None:
        clip = write_music(tmp_path / "music" / "rock" / "clip.wav", seconds=6.5)
        flags = "--sample-rate 16000 --n-fft 1024 --hop-length 500 --f-min 50 --f-max 7000 --top-db 60".split()
        command("preprocess.py", "--dataset", "folder", "--input", "music", *flags, cwd=tmp_path)
        output = tmp_path / "spectrogram_images"
        changed = {"sample_rate": 16000, "n_fft": 1024, "hop_length": 500}
        changed |= {"f_min": 50.0, "f_max": 7000.0, "top_db": 60.0}
        assert manifest(output)["spectrogram"] == {**DEFAULT_SPECTROGRAM, **changed}
        expected = expected_images(clip, SpectrogramConfig(**changed))
        assert len(images_in(output)) == len(expected) == 3
        with Image.open(output / "rock" / "clip_002.png") as image:
            np.testing.assert_array_equal(np.asarray(image), expected[2])

    def test_a_black_image_is_left_out_and_its_number_stays_empty(
        self, tmp_path: Path, command: Command
    ) -> None:
        samples = composer.compose("chords", 0, seed=1, seconds=9.2)
        samples[round(2.8 * RATE) : round(6.1 * RATE)] = 0.0
        (tmp_path / "music" / "rock").mkdir(parents=True)
        save(tmp_path / "music" / "rock" / "clip.wav", samples, RATE)
        command(*FOLDER_LINE, cwd=tmp_path)
        output = tmp_path / "out"
        assert images_in(output) == ["rock/clip_000.png", "rock/clip_002.png"]
        assert [track["segments"] for track in manifest(output)["tracks"]] == [2]
        before = dataset_bytes(output)
        done = command(*FOLDER_LINE, cwd=tmp_path)
        assert "1 of 1 tracks were converted before" in done.stderr
        assert dataset_bytes(output) == before

    @pytest.mark.parametrize("jobs", [1, 2])
    def test_the_number_of_processes_changes_no_byte(
        self, jobs: int, images: Path, gtzan_tree: Path, tmp_path: Path, command: Command
    ) -> None:
        line = (
            "preprocess.py",
            "--dataset",
            "gtzan",
            "--input",
            gtzan_tree,
            "--output",
            "out",
            "--jobs",
            jobs,
        )
        command(*line, cwd=tmp_path)
        assert dataset_bytes(tmp_path / "out") == dataset_bytes(images)


class TestGoingOn:
    def test_a_second_run_converts_nothing_and_touches_nothing(self, again: Again) -> None:
        output, run = again
        before, lines = dataset_bytes(output), (output / "preprocess_report.csv").read_bytes()
        times = {name: (output / name).stat().st_mtime_ns for name in images_in(output)}
        done = run()
        assert "16 of 16 tracks were converted before" in done.stderr
        assert dataset_bytes(output) == before
        assert (output / "preprocess_report.csv").read_bytes() == lines
        assert {name: (output / name).stat().st_mtime_ns for name in images_in(output)} == times

    def test_a_lost_image_is_made_again(self, again: Again) -> None:
        output, run = again
        before = dataset_bytes(output)
        (output / "jazz" / "jazz.00001_000.png").unlink()
        done = run()
        assert "15 of 16 tracks were converted before" in done.stderr
        assert dataset_bytes(output) == before

    @pytest.mark.parametrize("damage", ["empty", "start", "half", "zeros"])
    def test_an_image_that_is_not_whole_is_made_again(self, damage: str, again: Again) -> None:
        output, run = again
        before, lines = dataset_bytes(output), report(output)
        damaged = output / "jazz" / "jazz.00001_000.png"
        whole = damaged.read_bytes()
        half = whole[: len(whole) // 2]
        left = {"empty": b"", "start": whole[:8], "half": half, "zeros": bytes(len(whole))}
        damaged.write_bytes(left[damage])
        done = run()
        assert "Converting the tracks of 1 empty or incomplete images again" in done.stderr
        assert "15 of 16 tracks were converted before" in done.stderr
        assert dataset_bytes(output) == before
        assert report(output) == lines
        assert "16 of 16 tracks were converted before" in run().stderr

    def test_files_that_are_no_images_of_ours_are_left_alone(self, again: Again) -> None:
        output, run = again
        for name in ("jazz.00001_notes.txt", "jazz.00001_cover.png", "jazz.00001_000.txt"):
            (output / "jazz" / name).write_text("by hand")
        (output / "jazz" / "jazz.00001_000.png").unlink()
        assert "15 of 16 tracks were converted before" in run().stderr
        assert "16 of 16 tracks were converted before" in run().stderr
        assert (
            len([path for path in (output / "jazz").iterdir() if path.read_bytes() == b"by hand"])
            == 3
        )

    def test_a_lost_report_means_that_all_is_done_again(self, again: Again) -> None:
        output, run = again
        before = dataset_bytes(output)
        (output / "preprocess_report.csv").unlink()
        run()
        assert dataset_bytes(output) == before
        assert len(report(output)) == 16

    def test_after_a_kill_the_same_command_ends_as_if_uninterrupted(
        self, tmp_path: Path, command: Command
    ) -> None:
        clips, images_of_a_clip = 40, 20
        music = long_music(tmp_path / "music", clips // 2)
        line = ("preprocess.py", "--dataset", "folder", "--input", music, "--jobs", 2, "--output")
        whole, killed = tmp_path / "whole", tmp_path / "killed"
        command(*line, whole, cwd=tmp_path)
        assert len(images_in(whole)) == clips * images_of_a_clip

        process = subprocess.Popen(
            command_line(*line, killed),
            cwd=tmp_path,
            env=environment(),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        give_up = time.monotonic() + 60
        # Lines come some at a time, each time after the images are synced, which may take a while.
        while process.poll() is None and (
            lines_in_report(killed) < 1 or len(images_in(killed)) < 4 * images_of_a_clip
        ):
            assert time.monotonic() < give_up, "nothing is converted"
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait(timeout=30) == -signal.SIGKILL
        assert manifest(killed)["tracks"] == []
        finished = report(killed).keys()
        assert 1 <= len(finished) < clips

        unfinished = max(report(whole).keys() - finished)
        genre = report(whole)[unfinished]["genre"]
        whole_image = (whole / genre / f"{unfinished}_000.png").read_bytes()
        half = whole_image[: len(whole_image) // 2]
        (killed / genre / f".{unfinished}_{images_of_a_clip:03d}.png.0123abcd.tmp").write_bytes(
            half
        )
        done = command(*line, killed, cwd=tmp_path)
        assert f"{len(finished)} of {clips} tracks were converted before" in done.stderr
        assert dataset_bytes(killed) == dataset_bytes(whole)
        assert files_in(killed) == files_in(whole)
        assert report(killed) == report(whole)

    def test_what_is_read_otherwise_than_plainly_is_told(
        self, tmp_path: Path, command: Command
    ) -> None:
        folder = tmp_path / "music" / "rock"
        clip = soundfile.read(write_music(folder / "plain.wav"))[0]
        wav = (folder / "plain.wav").read_bytes()
        (folder / "pipe.wav").write_bytes(
            wav[:4] + b"\xff" * 4 + wav[8:40] + b"\xff" * 4 + wav[44:]
        )
        (folder / "two.wav").write_bytes(wav + wav)
        (folder / "text.mp3").write_text("text\n" * 100)
        soundfile.write(folder / "antiphase.wav", np.stack([clip, -clip], axis=1), RATE)
        command(*FOLDER_LINE, cwd=tmp_path)
        told = {
            track: (line["status"], line["reason"])
            for track, line in report(tmp_path / "out").items()
        }
        assert told.pop("text")[0] == "skipped"
        assert told == {
            "plain": ("converted", ""),
            "pipe": ("converted", ""),
            "two": ("converted", "2 recordings one after another, taken as one"),
            "antiphase": (
                "converted",
                "its channels cancel each other in 100% of it; channel 1 was taken alone",
            ),
        }
        assert float(report(tmp_path / "out")["two"]["seconds"]) == 8.0

    def test_a_mended_file_is_converted_on_the_next_run(
        self, tmp_path: Path, command: Command
    ) -> None:
        write_music(tmp_path / "music" / "rock" / "good.wav")
        mended = tmp_path / "music" / "rock" / "mended.wav"
        mended.touch()
        command(*FOLDER_LINE, cwd=tmp_path)
        output = tmp_path / "out"
        assert report(output)["mended"]["reason"] == "file is empty"
        assert images_in(output) == ["rock/good_000.png"]
        good = (output / "rock" / "good_000.png").stat().st_mtime_ns

        write_music(mended, style="bass")
        command(*FOLDER_LINE, cwd=tmp_path)
        assert report(output)["mended"]["status"] == "converted"
        assert images_in(output) == ["rock/good_000.png", "rock/mended_000.png"]
        assert [track["id"] for track in manifest(output)["tracks"]] == ["good", "mended"]
        assert (output / "rock" / "good_000.png").stat().st_mtime_ns == good

    @pytest.mark.parametrize("change", ["contents", "time alone", "shorter"])
    def test_a_replaced_file_is_converted_again(
        self, change: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Its old images make room, also those of segments that it has no longer."""
        caplog.set_level(logging.INFO, logger="musicspectrogan")
        for name in ("same", "changed"):
            write_music(tmp_path / "music" / "rock" / f"{name}.wav", seconds=7.0)
        config = PreprocessConfig("folder", tmp_path / "music", tmp_path / "out", jobs=1)
        preprocess(config)
        clip, output = tmp_path / "music" / "rock" / "changed.wav", tmp_path / "out"
        facts = clip.stat()
        line = report(output)["changed"]
        assert (line["bytes"], line["modified_ns"]) == (str(facts.st_size), str(facts.st_mtime_ns))
        same = (output / "rock" / "same_000.png").stat().st_mtime_ns
        before = (output / "rock" / "changed_000.png").stat().st_mtime_ns
        if change == "contents":
            write_music(clip, style="drums", seconds=7.0)
        elif change == "shorter":
            write_music(clip, style="drums", seconds=4.0)
            os.utime(clip, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        else:
            os.utime(clip, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
        caplog.clear()
        preprocess(config)
        assert "Converting 1 files again that have changed" in caplog.text
        assert "1 of 2 tracks were converted before" in caplog.text
        expected = expected_images(clip, SpectrogramConfig())
        assert len(expected) == (1 if change == "shorter" else 2)
        names = [f"rock/changed_{k:03d}.png" for k in range(len(expected))]
        assert images_in(output) == [*names, "rock/same_000.png", "rock/same_001.png"]
        for name, pixels in zip(names, expected, strict=True):
            with Image.open(output / name) as image:
                np.testing.assert_array_equal(np.asarray(image), pixels)
        assert (output / "rock" / "same_000.png").stat().st_mtime_ns == same
        assert (output / "rock" / "changed_000.png").stat().st_mtime_ns > before
        caplog.clear()
        preprocess(config)
        assert "2 of 2 tracks were converted before" in caplog.text

    def test_a_report_of_an_earlier_version_counts_as_unchanged_until_a_file_changes(
        self, again: Again, gtzan_tree: Path, tmp_path: Path
    ) -> None:
        output, run = again
        path = output / "preprocess_report.csv"
        rows = [line.rsplit(",", 2)[0] for line in path.read_text().splitlines()]
        path.write_text("".join(f"{row}\n" for row in rows))
        before = dataset_bytes(output)
        assert "16 of 16 tracks were converted before" in run().stderr
        assert dataset_bytes(output) == before
        line = report(output)["rock.00000"]
        assert int(line["bytes"]) == (gtzan_tree / line["path"]).stat().st_size
        path.write_text(
            path.read_text().replace(f",{line['bytes']},{line['modified_ns']}\n", ",5,7\n")
        )
        assert "again that have changed" in run().stderr
        assert dataset_bytes(output) == before

    def test_what_was_taken_and_is_excluded_now_leaves_the_dataset(
        self, tmp_path: Path, command: Command
    ) -> None:
        """Files beside the first class folder are none of its music."""
        write_music(tmp_path / "music" / "loose.wav")
        command(*FOLDER_LINE, cwd=tmp_path)
        assert images_in(tmp_path / "out") == ["music/loose_000.png"]
        write_music(tmp_path / "music" / "jazz" / "kept.wav")
        told = command(*FOLDER_LINE, cwd=tmp_path).stderr
        assert "Removed 1 image of 1 track no longer in the input" in told
        assert images_in(tmp_path / "out") == ["jazz/kept_000.png"]
        assert manifest(tmp_path / "out")["genres"] == ["jazz"]
        line = report(tmp_path / "out")["loose"]
        assert line["status"] == "excluded" and "no longer" not in line["reason"]

    def test_a_track_taken_out_of_the_input_leaves_the_dataset(
        self, tmp_path: Path, command: Command
    ) -> None:
        for name in ("kept", "taken"):
            write_music(tmp_path / "music" / "rock" / f"{name}.wav")
        write_music(tmp_path / "music" / "folk" / "only.wav")
        command(*FOLDER_LINE, cwd=tmp_path)
        (tmp_path / "music" / "rock" / "taken.wav").unlink()
        shutil.rmtree(tmp_path / "music" / "folk")
        assert "Removed 2 images of 2 tracks" in command(*FOLDER_LINE, cwd=tmp_path).stderr
        output = tmp_path / "out"
        assert images_in(output) == ["rock/kept_000.png"]
        assert not (output / "folk").exists()
        assert manifest(output)["genres"] == ["rock"]
        assert report(output)["taken"]["status"] == "excluded"
        assert report(output)["taken"]["reason"] == "no longer in the input"

    def test_a_track_moved_to_another_class_moves(self, tmp_path: Path, command: Command) -> None:
        for name in ("kept", "moved"):
            write_music(tmp_path / "music" / "rock" / f"{name}.wav")
        command(*FOLDER_LINE, cwd=tmp_path)
        (tmp_path / "music" / "folk").mkdir()
        (tmp_path / "music" / "rock" / "moved.wav").rename(
            tmp_path / "music" / "folk" / "moved.wav"
        )
        command(*FOLDER_LINE, cwd=tmp_path)
        assert images_in(tmp_path / "out") == ["folk/moved_000.png", "rock/kept_000.png"]
        assert manifest(tmp_path / "out")["genres"] == ["folk", "rock"]


class TestAnOutputInUse:
    def test_other_settings_are_refused_by_name_and_replaced_on_request(self, again: Again) -> None:
        output, run = again
        before = dataset_bytes(output)
        refused = run("--top-db", 60, "--limit", 1, status=2)
        assert "top_db: was 80.0, now 60.0; limit: was None, now 1" in refused.stderr
        assert "--overwrite" in refused.stderr
        assert dataset_bytes(output) == before

        run("--top-db", 60, "--limit", 1, "--overwrite")
        assert images_in(output) == [f"{g}/{g}.00000_{k:03d}.png" for g in GENRES for k in range(2)]
        assert manifest(output)["spectrogram"] == {**DEFAULT_SPECTROGRAM, "top_db": 60.0}
        assert manifest(output)["selection"]["limit"] == 1
        assert len(report(output)) == 4
        assert not {**before, "dataset.json": b""}.items() & dataset_bytes(output).items()

    def test_overwrite_leaves_files_that_are_not_ours(self, again: Again) -> None:
        output, run = again
        (output / "rock" / "notes.txt").write_text("mine")
        (output / "mine").mkdir()
        (output / "mine" / "picture.png").write_bytes(b"mine too")
        run("--limit", 1, "--overwrite")
        assert (output / "rock" / "notes.txt").read_text() == "mine"
        assert (output / "mine" / "picture.png").read_bytes() == b"mine too"

    @pytest.mark.parametrize("flags", [[], ["--overwrite"]])
    @pytest.mark.parametrize(
        "contents",
        ['{"labels": [["rock/a_001.png", 0]]}', "[1, 2]", "no JSON", "", '{"format_version": 3}'],
    )
    def test_the_dataset_json_of_another_tool_is_refused_and_nothing_is_touched(
        self, contents: str, flags: list[str], tmp_path: Path
    ) -> None:
        write_music(tmp_path / "music" / "rock" / "a.wav")
        output = tmp_path / "out"
        (output / "rock").mkdir(parents=True)
        Image.new("RGB", (64, 64), "red").save(output / "rock" / "a_001.png")
        (output / "dataset.json").write_text(contents)
        before = {name: (output / name).read_bytes() for name in files_in(output)}
        config = PreprocessConfig(
            "folder", tmp_path / "music", output, jobs=1, overwrite=bool(flags)
        )
        with pytest.raises(
            UserError, match=r"is another tool's; give another --output$"
        ) as refused:
            preprocess(config)
        assert "--overwrite" not in str(refused.value)
        assert {name: (output / name).read_bytes() for name in files_in(output)} == before

    def test_a_report_of_another_tool_is_refused_before_anything_is_removed(
        self, again: Again
    ) -> None:
        output, run = again
        (output / "preprocess_report.csv").write_text("mine,alone\n")
        before = dataset_bytes(output)
        assert "is not a report of this tool; move it away" in run("--overwrite", status=2).stderr
        assert dataset_bytes(output) == before
        assert (output / "preprocess_report.csv").read_text() == "mine,alone\n"

    def test_files_with_names_like_ours_outlast_everything(
        self, again: Again, gtzan_tree: Path
    ) -> None:
        """Pictures without our text, a copy under another name, texts, caches, and an empty folder."""
        output, run = again
        picture = io.BytesIO()
        Image.new("RGB", (64, 64), "red").save(picture, "PNG")
        ours = (output / "rock" / "rock.00000_000.png").read_bytes()
        foreign = {
            "rock/rock.00000_007.png": picture.getvalue(),
            "rock/holiday_001.png": picture.getvalue(),
            "rock/favourite_001.png": ours,
            "rock/rock.00000_008.png": b"a text",
            "rock/.rock.00000_009.png.tmp": b"half a text",
            "rock/.drawing.png.12345678.tmp": picture.getvalue(),
            "rock/.rock.00001_000.png.bak.tmp": ours,
            "jazz/jazz.00001_000.png": picture.getvalue(),  # in the place of one of ours
            ".cache-thumbs": b"thumbs",
            "my.cache-64-notes.txt": b"notes",
            ".cache-64-0123456789abcdef.npy.txt": b"notes",
        }
        for name, contents in foreign.items():
            (output / name).write_bytes(contents)
        (output / "empty").mkdir()

        def assert_all_there() -> None:
            assert {name: (output / name).read_bytes() for name in foreign} == foreign
            assert (output / "empty").is_dir()

        assert "16 of 16 tracks were converted before" in run().stderr
        assert_all_there()
        (output / "rock" / "rock.00000_000.png").unlink()
        (output / "jazz" / "jazz.00001_001.png").unlink()
        told = run().stderr
        assert_all_there()
        assert report(output)["rock.00000"]["status"] == "converted"
        assert (output / "rock" / "rock.00000_000.png").read_bytes() == ours
        assert report(output)["jazz.00001"]["status"] == "skipped"
        reason = "jazz.00001_000.png exists and is not from preprocess; move it away"
        assert report(output)["jazz.00001"]["reason"] == reason and reason in told
        told = run("--limit", 1, "--overwrite").stderr
        assert_all_there()
        assert "rock: keeping 7 files that preprocess did not write" in told
        kept = set(images_in(output)) - set(foreign)
        assert kept == {f"{genre}/{genre}.00000_{k:03d}.png" for genre in GENRES for k in range(2)}

    def test_a_foreign_picture_outlasts_a_track_that_leaves(self, tmp_path: Path) -> None:
        for name in ("kept", "taken"):
            write_music(tmp_path / "music" / "rock" / f"{name}.wav")
        config = PreprocessConfig("folder", tmp_path / "music", tmp_path / "out", jobs=1)
        preprocess(config)
        mine = tmp_path / "out" / "rock" / "taken_005.png"
        Image.new("L", (64, 64), 7).save(mine)
        (tmp_path / "music" / "rock" / "taken.wav").unlink()
        preprocess(config)
        assert images_in(tmp_path / "out") == ["rock/kept_000.png", "rock/taken_005.png"]

    def test_a_class_with_the_name_of_a_file_of_ours_gets_another(self, tmp_path: Path) -> None:
        for genre in ("dataset.json", "Preprocess_Report.csv", "rock"):
            write_music(tmp_path / "music" / genre / f"{genre}.wav")
        preprocess(PreprocessConfig("folder", tmp_path / "music", tmp_path / "out", jobs=1))
        assert manifest(tmp_path / "out")["genres"] == [
            "_Preprocess_Report.csv",
            "_dataset.json",
            "rock",
        ]
        assert images_in(tmp_path / "out") == [
            "_Preprocess_Report.csv/Preprocess_Report.csv_000.png",
            "_dataset.json/dataset.json_000.png",
            "rock/rock_000.png",
        ]

    @pytest.mark.parametrize("flags", [[], ["--overwrite"]])
    def test_a_folder_with_other_files_is_refused_and_left_as_it_is(
        self, flags: list[str], gtzan_tree: Path, tmp_path: Path, command: Command
    ) -> None:
        foreign = tmp_path / "holiday"
        (foreign / "rock").mkdir(parents=True)
        (foreign / "rock" / "beach_001.png").write_bytes(b"a picture")
        (foreign / "letter.txt").write_text("dear reader")
        line = (
            "preprocess.py",
            "--dataset",
            "gtzan",
            "--input",
            gtzan_tree,
            "--output",
            foreign,
            *flags,
        )
        refused = command(*line, cwd=tmp_path, status=2)
        assert "holds files that preprocess did not write" in refused.stderr
        assert (foreign / "rock" / "beach_001.png").read_bytes() == b"a picture"
        assert (foreign / "letter.txt").read_text() == "dear reader"
        assert files_in(foreign) == ["letter.txt", "rock/beach_001.png"]

    def test_a_second_run_at_the_same_time_is_refused(self, again: Again) -> None:
        output, run = again
        before = dataset_bytes(output)
        with filelock.FileLock(output / ".lock"):
            refused = run("--overwrite", status=2)
        assert "another run is preprocessing there" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        assert dataset_bytes(output) == before
        run()

    def test_a_damaged_dataset_json_is_refused_and_replaced_on_request(self, again: Again) -> None:
        output, run = again
        before = dataset_bytes(output)
        (output / "dataset.json").write_bytes(before["dataset.json"][:-50])
        assert "dataset.json is damaged" in run(status=2).stderr
        run("--overwrite")
        assert dataset_bytes(output) == before


class TestFilesThatCannotBeConverted:
    def test_they_are_reported_with_the_reason(self, mixed: Path) -> None:
        bad = {name: line for name, line in report(mixed / "out").items() if line["genre"] == "bad"}
        assert {(line["status"], line["segments"]) for line in bad.values()} == {("skipped", "0")}
        assert bad.pop("text")["reason"].startswith("does not decode: ")
        assert {name: line["reason"] for name, line in bad.items()} == {
            "short": "1.5 s are shorter than one image of 3.0 s",
            "silent": "silent: no sample above -80 dBFS",
            "nan": "samples that are not finite numbers",
            "empty": "file is empty",
        }

    def test_the_good_ones_are_converted(self, mixed: Path) -> None:
        output = mixed / "out"
        assert images_in(output) == [
            "good/cut off_000.png",
            "good/flac_000.png",
            "good/whole_000.png",
            "good/whole_001.png",
        ]
        lines = report(output)
        assert (lines["whole"]["status"], lines["whole"]["reason"]) == ("converted", "")
        assert lines["cut off"]["status"] == "converted"
        assert lines["cut off"]["reason"].startswith("ends after 4.")
        assert "of the 7.0 s that its header says" in lines["cut off"]["reason"]

    def test_what_nobody_foresaw_in_a_track_costs_that_track(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        for name in ("a", "b", "c", "d", "e"):
            write_music(tmp_path / "music" / "rock" / f"{name}.wav")
        real_load, real_write = conversion.load, conversion.write_image

        def load(path: Path, rate: int) -> object:
            errors = {
                "a": ZeroDivisionError("an odd\nthing"),
                "b": OSError(5, "I/O error"),
                "c": MemoryError(),
            }
            if path.stem in errors:
                raise errors[path.stem]
            return real_load(path, rate)

        def write(path: Path, *rest: object, **text: object) -> None:
            real_write(path, *rest, **text)
            if path.name.startswith("d"):
                raise ValueError("no such colour")

        monkeypatch.setattr(conversion, "load", load)
        monkeypatch.setattr(conversion, "write_image", write)
        caplog.set_level(logging.DEBUG, logger="musicspectrogan")
        preprocess(PreprocessConfig("folder", tmp_path / "music", tmp_path / "out", jobs=1))
        lines = report(tmp_path / "out")
        assert {name: line["status"] for name, line in lines.items()} == {
            **dict.fromkeys("abcd", "skipped"),
            "e": "converted",
        }
        bug = "(a bug of this tool; please report it)"
        assert lines["a"]["reason"].startswith("ZeroDivisionError at test_preprocessing.py:")
        assert lines["a"]["reason"].endswith(f": an odd thing {bug}")
        assert lines["b"]["reason"] == "OSError: I/O error"
        assert lines["c"]["reason"] == "not enough memory for it; cut it into pieces"
        assert lines["d"]["reason"].startswith("ValueError at ") and lines["d"]["reason"].endswith(
            bug
        )
        assert images_in(tmp_path / "out") == ["rock/e_000.png"]
        assert "Traceback" in caplog.text

    def test_a_full_disk_ends_the_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_music(tmp_path / "music" / "rock" / "a.wav")

        def write(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(conversion, "write_image", write)
        with pytest.raises(OSError, match="No space left"):
            preprocess(PreprocessConfig("folder", tmp_path / "music", tmp_path / "out", jobs=1))
        assert report(tmp_path / "out") == {}

    def test_a_class_without_images_is_no_class(self, mixed: Path) -> None:
        assert manifest(mixed / "out")["genres"] == ["good"]
        assert not (mixed / "out" / "bad").exists()

    def test_strict_makes_them_an_error(self, mixed: Path, command: Command) -> None:
        before, lines = dataset_bytes(mixed / "out"), report(mixed / "out")
        refused = command(*FOLDER_LINE, "--strict", cwd=mixed, status=2)
        assert "5 files were skipped (--strict)" in refused.stderr
        assert "preprocess_report.csv" in refused.stderr
        assert dataset_bytes(mixed / "out") == before
        assert report(mixed / "out") == lines

    def test_nothing_convertible_is_an_error(self, tmp_path: Path, command: Command) -> None:
        write_music(tmp_path / "music" / "rock" / "short.wav", seconds=1.0)
        (tmp_path / "music" / "rock" / "empty.wav").touch()
        (tmp_path / "music" / "rock" / "also empty.wav").touch()
        refused = command(*FOLDER_LINE, cwd=tmp_path, status=2)
        assert (
            "nothing converted: all 3 files were left out, most of them for: file is empty"
            in refused.stderr
        )
        assert images_in(tmp_path / "out") == []
        assert len(report(tmp_path / "out")) == 3

    def test_files_beside_class_folders_are_excluded_in_the_report(
        self, tmp_path: Path, command: Command
    ) -> None:
        write_music(tmp_path / "music" / "rock" / "song.wav")
        write_music(tmp_path / "music" / "stray.wav", seconds=1.0)
        command(*FOLDER_LINE, "--strict", cwd=tmp_path)
        stray = report(tmp_path / "out")["stray"]
        assert stray["status"] == "excluded"
        assert stray["reason"] == "not in a class folder"

    def test_a_track_may_be_called_like_an_image_of_another(self, tmp_path: Path, caplog) -> None:
        caplog.set_level(logging.INFO, logger="musicspectrogan")
        for name in ("a", "a_000", "a_001", "a_000_000", "7"):
            write_music(tmp_path / "music" / "0" / f"{name}.wav", seconds=7.0)
        config = PreprocessConfig("folder", tmp_path / "music", tmp_path / "out", jobs=1)
        preprocess(config)
        assert {t["id"]: t["segments"] for t in manifest(tmp_path / "out")["tracks"]} == {
            "7": 2, "a": 2, "a_000": 2, "a_000_000": 2, "a_001": 2
        }  # fmt: skip
        assert len(images_in(tmp_path / "out")) == 10
        preprocess(config)
        assert "5 of 5 tracks were converted before" in caplog.text

    def test_no_two_tracks_share_an_image(self, tmp_path: Path, command: Command) -> None:
        write_music(tmp_path / "music" / "rock" / "live" / "one.wav", style="bass")
        write_music(tmp_path / "music" / "rock" / "live-one.wav", style="drums")
        command(*FOLDER_LINE, cwd=tmp_path)
        tracks = manifest(tmp_path / "out")["tracks"]
        assert len({track["id"] for track in tracks}) == 2
        assert len(images_in(tmp_path / "out")) == sum(track["segments"] for track in tracks) == 2


class TestDatasets:
    def test_an_album_is_in_one_split(self, tmp_path: Path, command: Command) -> None:
        clip = write_music(tmp_path / "clip.wav")
        for album in ("a", "b", "c/CD1", "c/CD2", "d"):
            for name in ("1.wav", "2.wav"):
                (tmp_path / "music" / "rock" / album).mkdir(parents=True, exist_ok=True)
                shutil.copy(clip, tmp_path / "music" / "rock" / album / name)
        for name in ("1.wav", "2.wav", "3.wav"):
            (tmp_path / "music" / "folk" / "only").mkdir(parents=True, exist_ok=True)
            shutil.copy(clip, tmp_path / "music" / "folk" / "only" / name)
        told = command(*FOLDER_LINE, cwd=tmp_path).stderr
        assert "folk: its 3 tracks are in too few folders" in told and "rock: its" not in told
        splits = {track["id"]: track["split"] for track in manifest(tmp_path / "out")["tracks"]}
        for album in ("a", "b", "c-CD1", "c-CD2", "d"):
            assert splits[f"{album}-1"] == splits[f"{album}-2"]
        for genre in ("rock", "folk"):
            assert {
                t["split"] for t in manifest(tmp_path / "out")["tracks"] if t["genre"] == genre
            } == {
                "training",
                "validation",
                "test",
            }
        before = dataset_bytes(tmp_path / "out")
        command(*FOLDER_LINE, cwd=tmp_path)
        assert dataset_bytes(tmp_path / "out") == before

    def test_gtzan_with_a_limit_takes_the_first_of_each_genre(
        self, gtzan_tree: Path, tmp_path: Path, command: Command
    ) -> None:
        line = ("preprocess.py", "--dataset", "gtzan", "--input", gtzan_tree.parent, "--limit", 1)
        command(*line, "--output", "out", cwd=tmp_path)
        tracks = manifest(tmp_path / "out")["tracks"]
        assert [track["id"] for track in tracks] == [f"{genre}.00000" for genre in GENRES]
        assert {track["split"] for track in tracks} == {"training"}

    def test_fma_from_its_mp3_files_and_tables(self, tmp_path: Path, command: Command) -> None:
        audio = tmp_path / "fma" / "fma_medium" / "fma_medium"
        (audio / "000").mkdir(parents=True)
        for number in (2, 5, 10):
            left = composer.compose("arpeggio", number, seed=1, seconds=8.0)
            stereo = np.stack([left, 0.5 * left[::-1]], axis=1)
            soundfile.write(audio / "000" / f"{number:06d}.mp3", stereo, 44100)
        (tmp_path / "fma" / "fma_metadata").mkdir()
        (tmp_path / "fma" / "fma_metadata" / "tracks.csv").write_text(
            ",track,set,album,set,track\n"
            ",license,subset,title,split,genre_top\n"
            "track_id,,,,,\n"
            '2,Attribution,small,"Hits, and\nmore",training,Hip-Hop\n'
            "5,Attribution,medium,A,test,Old-Time / Historic\n"
            "10,CC0 1.0,small,A,validation,Hip-Hop\n"
            "98565,Attribution,small,A,training,Hip-Hop\n"
            "20,Attribution,large,A,training,Hip-Hop\n"
        )
        line = ("preprocess.py", "--dataset", "fma", "--input", "fma", "--subset", "medium")
        command(*line, "--license", "attribution", cwd=tmp_path)
        output = tmp_path / "spectrogram_images"
        assert images_in(output) == ["Hip-Hop/000002_000.png", "Old-Time-Historic/000005_000.png"]
        written = manifest(output)
        assert written["source"] == "fma"
        assert written["genres"] == ["Hip-Hop", "Old-Time-Historic"]
        assert written["selection"] == {
            "input": "fma",
            "subset": "medium",
            "license": "by",
        }
        assert {track["id"]: track["split"] for track in written["tracks"]} == {
            "000002": "training",
            "000005": "test",
        }
        assert {
            name: (line["status"], line["reason"]) for name, line in report(output).items()
        } == {
            "000002": ("converted", ""),
            "000005": ("converted", ""),
            "000010": ("excluded", "license is CC0 1.0 (--license by)"),
            "098565": ("skipped", "file is missing; known to be shorter than a clip should be"),
        }
        with Image.open(output / "Hip-Hop" / "000002_000.png") as image:
            (expected,) = expected_images(audio / "000" / "000002.mp3", SpectrogramConfig())
            np.testing.assert_array_equal(np.asarray(image), expected)

    def test_demo_composes_its_own_music(self, tmp_path: Path, command: Command) -> None:
        command("preprocess.py", "--dataset", "demo", "--tracks_per_genre", 1, cwd=tmp_path)
        music = [name for name in files_in(tmp_path / "demo_music") if name != ".lock"]
        assert music == [f"{style}/{style}.00000.wav" for style in composer.STYLES]
        output = tmp_path / "spectrogram_images"
        assert manifest(output)["genres"] == list(composer.STYLES)
        assert images_in(output) == [
            f"{style}/{style}.00000_{segment:03d}.png"
            for style in composer.STYLES
            for segment in range(10)
        ]


class TestNamesAndCredits:
    @pytest.mark.skipif(sys.platform != "linux", reason="names of files are Unicode there")
    def test_names_of_bytes_and_dots_cost_nothing(self, tmp_path: Path, command: Command) -> None:
        classes = ("M\udcfasica", "...And Justice for All")
        clip = write_music(tmp_path / "clip.wav")
        for name in classes:
            for number in range(4):
                track = tmp_path / "disc \udce9" / name / f"caf\udce9 {number}.wav"
                track.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(clip, track)
        line = (
            "preprocess.py",
            "--dataset",
            "folder",
            "--input",
            "disc \udce9",
            "--output",
            "out",
            "--jobs",
            2,
        )
        command(*line, cwd=tmp_path)
        output = tmp_path / "out"
        genres = ["And Justice for All", "Música"]
        assert manifest(output)["genres"] == genres
        assert len(images_in(output)) == len(report(output)) == 8
        for name in ("preprocess_report.csv", "dataset.json", "credits.csv"):
            (output / name).read_text(encoding="utf-8", errors="strict")
        assert "8 of 8 tracks were converted before" in command(*line, cwd=tmp_path).stderr
        assert load_dataset(output, split="all").genres == genres

    def test_the_credits_of_what_was_converted_lie_beside_dataset_json(
        self, tmp_path: Path, command: Command
    ) -> None:
        tags = {
            "title": "Song, of A",
            "artist": "Anna",
            "copyright": "CC BY 3.0",
            "comment": "http://a.example/1",
        }
        clip = write_music(tmp_path / "music" / "rock" / "a.flac")
        save(clip, composer.compose("bass", 0, seed=1, seconds=4.0), RATE, **tags)
        write_music(tmp_path / "music" / "rock" / "b.wav")
        write_music(tmp_path / "music" / "rock" / "short.wav", seconds=1.0)
        command(*FOLDER_LINE, cwd=tmp_path)
        credits = tmp_path / "out" / "credits.csv"
        head, known, unknown = (
            "track,artist,title,album,license,url",
            'Anna,"Song, of A",,CC BY 3.0',
            "b,,,,,",
        )
        assert credits.read_text(encoding="utf-8").splitlines() == [
            head, f"a,{known},http://a.example/1", unknown
        ]  # fmt: skip

        by_hand = "b,Bert,Song of B,,CC0,"
        credits.write_text(
            credits.read_text(encoding="utf-8").replace(unknown, by_hand), encoding="utf-8"
        )
        write_music(tmp_path / "music" / "rock" / "c.wav")
        command(*FOLDER_LINE[:-1], 2, cwd=tmp_path)
        assert credits.read_text(encoding="utf-8").splitlines()[2:] == [by_hand, "c,,,,,"]
        (tmp_path / "music" / "rock" / "b.wav").unlink()
        command(*FOLDER_LINE, cwd=tmp_path)
        assert credits.read_text(encoding="utf-8").splitlines()[2:] == ["c,,,,,"]

        from torchvision.datasets import ImageFolder

        assert ImageFolder(str(tmp_path / "out")).classes == ["rock"]

    def test_a_class_called_like_the_credits_leaves_them_their_name(
        self, tmp_path: Path, command: Command
    ) -> None:
        write_music(tmp_path / "music" / "credits.csv" / "a.wav")
        command(*FOLDER_LINE, cwd=tmp_path)
        (name,) = images_in(tmp_path / "out")
        assert name.startswith("credits.csv-") and (tmp_path / "out" / "credits.csv").is_file()

    def test_split_folders_are_the_splits_and_validation_is_drawn(
        self, tmp_path: Path, command: Command
    ) -> None:
        clip = write_music(tmp_path / "clip.wav")
        for place, count in (("train/rock", 4), ("test/rock", 2), ("train/jazz", 1)):
            for number in range(count):
                (tmp_path / "music" / place).mkdir(parents=True, exist_ok=True)
                shutil.copy(clip, tmp_path / "music" / place / f"{place[:2]}{number}.wav")

        def splits() -> dict[tuple[str, str], set[str]]:
            assert (
                "Using folders as splits: train/ for training, test/ for test; drawing validation"
                in (command(*FOLDER_LINE, cwd=tmp_path).stderr)
            )
            found: dict[tuple[str, str], set[str]] = {}
            for track in manifest(tmp_path / "out")["tracks"]:
                found.setdefault((track["genre"], track["split"]), set()).add(
                    track["id"].partition("-")[0]
                )
            return found

        first = splits()
        assert first.pop(("rock", "test")) == {"te0", "te1"} and first.pop(
            ("jazz", "training")
        ) == {"tr0"}
        assert {split: len(ids) for (_, split), ids in first.items()} == {
            "training": 3,
            "validation": 1,
        }
        shutil.move(
            tmp_path / "music" / "train" / "rock" / "tr3.wav", tmp_path / "music" / "test" / "rock"
        )
        assert splits()["rock", "test"] == {"te0", "te1", "tr3"}

    def test_a_home_that_the_shell_leaves_alone_is_found(
        self, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        write_music(tmp_path / "home" / "music" / "rock" / "a.wav")
        line = ("--dataset", "folder", "--input=~/music", "--output=~/images", "--jobs", 1)
        command("preprocess.py", *line, cwd=tmp_path)
        assert images_in(tmp_path / "home" / "images") == ["rock/a_000.png"]
        assert [path.name for path in tmp_path.iterdir()] == ["home"]

    def test_strict_takes_a_folder_that_cannot_be_read_for_an_error(
        self, tmp_path: Path, command: Command
    ) -> None:
        write_music(tmp_path / "music" / "rock" / "a.wav")
        (tmp_path / "music" / "loop").symlink_to("loop")
        told = command(*FOLDER_LINE, cwd=tmp_path).stderr
        (line,) = [
            line for line in report(tmp_path / "out").values() if line["status"] == "skipped"
        ]
        assert Path(line["path"]).name == "loop"
        assert line["reason"] == f"cannot be read: {os.strerror(errno.ELOOP)}"
        assert line["reason"] in told
        assert (
            "1 files were skipped (--strict)"
            in command(*FOLDER_LINE, "--strict", cwd=tmp_path, status=2).stderr
        )


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("flags", "told"),
        [
            ("", "--dataset is missing: one of demo, fma, folder, gtzan"),
            ("--dataset gtzn --input MUSIC", "'gtzn' is not one of .* (did you mean 'gtzan'?)"),
            ("--dataset gtzan", "--input is missing"),
            ("--dataset gtzan --input nowhere", "--input nowhere: there is no such folder"),
            ("--dataset gtzan --input empty", "--input empty: no genre folder with audio in it"),
            ("--dataset folder --input empty", "--input empty: no audio in it"),
            ("--dataset gtzan --input MUSIC --outptu x", "--outptu.*(did you mean --output?)"),
            ("--dataset gtzan --input MUSIC --jobs many", "many"),
            (
                "--dataset gtzan --input MUSIC --jobs 0",
                "jobs: 0 is not allowed; it must be from 1 to 256",
            ),
            ("--dataset gtzan --input MUSIC --jobs 9999", "--jobs: 9999 is not allowed"),
            (
                "--dataset gtzan --input MUSIC --image-size 100",
                "--image-size: 100 is not one of 64",
            ),
            (
                "--dataset demo --tracks-per-genre 1 --image-size 65",
                "--image-size: 65 is not one of 64, 128, 256",
            ),
            (
                "--dataset gtzan --input MUSIC --f-max 12000",
                "--f-max: 12000 Hz is not allowed; .*half the sample rate",
            ),
            ("--dataset gtzan --input MUSIC --top-db nan", "--top-db: nan is not allowed"),
            (
                "--dataset gtzan --input MUSIC --subset small",
                "--subset means nothing for --dataset gtzan",
            ),
            (
                "--dataset fma --input MUSIC --exclude-faults",
                "--exclude-faults means nothing for --dataset fma",
            ),
            (
                "--dataset demo --tracks-per-genre 1 --subset small",
                "--subset means nothing for --dataset demo",
            ),
            ("--dataset gtzan --input MUSIC --output taken", "taken: cannot be made a folder"),
        ],
    )
    def test_in_one_line_and_with_status_2(
        self, flags: str, told: str, gtzan_tree: Path, tmp_path: Path, command: Command
    ) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "taken").write_text("a file")
        given = [str(gtzan_tree) if flag == "MUSIC" else flag for flag in flags.split()]
        refused = command("preprocess.py", *given, cwd=tmp_path, status=2)
        line = refused.stderr.splitlines()[-1]
        position = 0
        for part in told.split(".*"):
            assert part in line[position:], line
            position = line.index(part, position) + len(part)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "taken"]
