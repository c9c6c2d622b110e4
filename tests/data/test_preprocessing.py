"""The preprocess command: its output, the files that it skips, and its errors."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Command
from datasets import (
    DEFAULT_SPECTROGRAM,
    FOLDER_LINE,
    GENRES,
    RATE,
    dataset_bytes,
    expected_images,
    files_in,
    images_in,
    manifest,
    report,
    write_music,
)
from PIL import Image

from musicspectrogan.audio.files import load, save
from musicspectrogan.audio.spectrogram import SpectrogramConfig, encode
from musicspectrogan.data import composer
from musicspectrogan.data.dataset import load_dataset


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
        others = set(files_in(images)) - set(images_in(images))
        # Tests before this one may have read the images, which leaves a cache.
        others = {name for name in others if not name.startswith(".cache")}
        assert others == {
            "dataset.json", "preprocess_report.csv", "metadata.jsonl", ".huggingface.yaml",
            ".training.jsonl", ".validation.jsonl", ".test.jsonl", ".lock", ".music_folder",
        }  # fmt: skip

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
        line = ("preprocess.py", "--dataset", "folder", "--input", "music", "--jobs", 1)
        command(*line, "--image-size", size, cwd=tmp_path)
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
        flags = "--sample-rate 16000 --n-fft 1024 --hop-length 500 --f-min 50 --f-max 7000"
        flags = f"{flags} --top-db 60 --jobs 1".split()
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
        line = ("preprocess.py", "--dataset", "gtzan", "--input", gtzan_tree, "--output", "out")
        command(*line, "--jobs", jobs, cwd=tmp_path)
        assert dataset_bytes(tmp_path / "out") == dataset_bytes(images)


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
        command(*line, "--jobs", 1, "--output", "out", cwd=tmp_path)
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
        command(*line, "--license", "attribution", "--jobs", 1, cwd=tmp_path)
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
        line = ("preprocess.py", "--dataset", "folder", "--input", "disc \udce9", "--output", "out")
        command(*line, cwd=tmp_path)
        output = tmp_path / "out"
        genres = ["And Justice for All", "Música"]
        assert manifest(output)["genres"] == genres
        assert len(images_in(output)) == len(report(output)) == 8
        for name in ("preprocess_report.csv", "dataset.json", "attribution.csv"):
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
        credits = tmp_path / "out" / "attribution.csv"
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
        write_music(tmp_path / "music" / "attribution.csv" / "a.wav")
        command(*FOLDER_LINE, cwd=tmp_path)
        (name,) = images_in(tmp_path / "out")
        assert (
            name.startswith("attribution.csv-") and (tmp_path / "out" / "attribution.csv").is_file()
        )

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
            "--strict: skipped 1 file; "
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
                "--subset has no effect with --dataset gtzan",
            ),
            (
                "--dataset fma --input MUSIC --exclude-faults",
                "--exclude-faults has no effect with --dataset fma",
            ),
            (
                "--dataset demo --tracks-per-genre 1 --subset small",
                "--subset has no effect with --dataset demo",
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
