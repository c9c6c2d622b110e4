"""The preprocess command end to end: what it writes, what it refuses, and how it goes on after a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import filelock
import numpy as np
import pytest
import soundfile
from conftest import Command, command_line, environment
from datasets import dataset_bytes, files_in, images_in, lines_in_report, long_music, manifest, report
from PIL import Image

from musicspectrogan.audio.files import load, save
from musicspectrogan.audio.spectrogram import SpectrogramConfig, cut_images, encode
from musicspectrogan.data import composer

RATE = composer.SAMPLE_RATE
Again = tuple[Path, Command]

GENRES = ("blues", "jazz", "metal", "rock")

# Class folders below `music` in the working directory -> `out`.
FOLDER_LINE = ("preprocess.py", "--dataset", "folder", "--input", "music", "--output", "out", "--jobs", 1)

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
        line = ("preprocess.py", "--dataset", "gtzan", "--input", gtzan_tree, "--output", output, *flags)
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
                        "reference_db": pytest.approx(encode(samples, SpectrogramConfig())[1], abs=1e-4),
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
    def test_larger_images_span_the_same_time(self, size: int, tmp_path: Path, command: Command) -> None:
        clip = write_music(tmp_path / "music" / "rock" / "clip.wav", seconds=6.5)
        line = ("preprocess.py", "--dataset", "folder", "--input", "music", "--image-size", size, "--jobs", 1)
        command(*line, cwd=tmp_path)
        output = tmp_path / "spectrogram_images"
        assert images_in(output) == ["rock/clip_000.png", "rock/clip_001.png"]
        scaled = {"n_mels": size, "n_frames": size, "hop_length": 65536 // size}
        assert manifest(output)["spectrogram"] == {**DEFAULT_SPECTROGRAM, **scaled}
        for name, pixels in zip(
            images_in(output), expected_images(clip, SpectrogramConfig.for_image_size(size)), strict=True
        ):
            with Image.open(output / name) as image:
                assert (image.mode, image.size) == ("L", (size, size))
                np.testing.assert_array_equal(np.asarray(image), pixels)

    def test_settings_from_flags_reach_images_and_dataset_json(
        self, tmp_path: Path, command: Command
    ) -> None:
        clip = write_music(tmp_path / "music" / "rock" / "clip.wav", seconds=6.5)
        flags = (
            "--sample-rate 16000 --n-fft 1024 --hop-length 500 --f-min 50 --f-max 7000 --top-db 60".split()
        )
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
        assert "1 images are empty or cut short; their tracks are converted again" in done.stderr
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
        assert len([path for path in (output / "jazz").iterdir() if path.read_bytes() == b"by hand"]) == 3

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
        (killed / genre / f".{unfinished}_{images_of_a_clip:03d}.png.tmp").write_bytes(b"half an image")
        done = command(*line, killed, cwd=tmp_path)
        assert f"{len(finished)} of {clips} tracks were converted before" in done.stderr
        assert dataset_bytes(killed) == dataset_bytes(whole)
        assert files_in(killed) == files_in(whole)
        assert report(killed) == report(whole)

    def test_a_mended_file_is_converted_on_the_next_run(self, tmp_path: Path, command: Command) -> None:
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

    def test_what_was_taken_and_is_excluded_now_leaves_the_dataset(
        self, tmp_path: Path, command: Command
    ) -> None:
        """Files beside the first class folder are none of its music."""
        write_music(tmp_path / "music" / "loose.wav")
        command(*FOLDER_LINE, cwd=tmp_path)
        assert images_in(tmp_path / "out") == ["music/loose_000.png"]
        write_music(tmp_path / "music" / "jazz" / "kept.wav")
        command(*FOLDER_LINE, cwd=tmp_path)
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
        command(*FOLDER_LINE, cwd=tmp_path)
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
        (tmp_path / "music" / "rock" / "moved.wav").rename(tmp_path / "music" / "folk" / "moved.wav")
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
    def test_a_folder_with_other_files_is_refused_and_left_as_it_is(
        self, flags: list[str], gtzan_tree: Path, tmp_path: Path, command: Command
    ) -> None:
        foreign = tmp_path / "holiday"
        (foreign / "rock").mkdir(parents=True)
        (foreign / "rock" / "beach_001.png").write_bytes(b"a picture")
        (foreign / "letter.txt").write_text("dear reader")
        line = ("preprocess.py", "--dataset", "gtzan", "--input", gtzan_tree, "--output", foreign, *flags)
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
            "nothing converted: all 3 files were left out, most of them for: file is empty" in refused.stderr
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
        assert stray["reason"] == "lies beside the class folders, not in one"

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
        assert "folk: its 3 tracks lie in too few folders" in told and "rock: its" not in told
        splits = {track["id"]: track["split"] for track in manifest(tmp_path / "out")["tracks"]}
        for album in ("a", "b", "c-CD1", "c-CD2", "d"):
            assert splits[f"{album}-1"] == splits[f"{album}-2"]
        for genre in ("rock", "folk"):
            assert {t["split"] for t in manifest(tmp_path / "out")["tracks"] if t["genre"] == genre} == {
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
            "license": "attribution",
        }
        assert {track["id"]: track["split"] for track in written["tracks"]} == {
            "000002": "training",
            "000005": "test",
        }
        assert {name: (line["status"], line["reason"]) for name, line in report(output).items()} == {
            "000002": ("converted", ""),
            "000005": ("converted", ""),
            "000010": ("excluded", "licence is CC0 1.0 (--license attribution)"),
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
            f"{style}/{style}.00000_{segment:03d}.png" for style in composer.STYLES for segment in range(10)
        ]


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
            ("--dataset gtzan --input MUSIC --jobs 0", "jobs: 0 is not allowed; it must be at least 1"),
            ("--dataset gtzan --input MUSIC --image-size 100", "--image-size: 100 is not one of 64"),
            (
                "--dataset demo --tracks-per-genre 1 --image-size 65",
                "--image-size: 65 is not one of 64, 128, 256",
            ),
            (
                "--dataset gtzan --input MUSIC --f-max 12000",
                "--f-max: 12000 Hz is not allowed; .*half the sample rate",
            ),
            ("--dataset gtzan --input MUSIC --top-db nan", "--top-db: nan is not allowed"),
            ("--dataset gtzan --input MUSIC --subset small", "--subset means nothing for --dataset gtzan"),
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
