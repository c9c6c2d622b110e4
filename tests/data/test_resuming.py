"""Repeating the preprocess command: after a kill, on changed input, in an output in use."""

from __future__ import annotations

import io
import logging
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
from datasets import (
    DEFAULT_SPECTROGRAM,
    FOLDER_LINE,
    GENRES,
    RATE,
    dataset_bytes,
    expected_images,
    files_in,
    images_in,
    lines_in_report,
    long_music,
    manifest,
    report,
    write_music,
)
from PIL import Image

from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.data.preprocessing import preprocess
from musicspectrogan.data.settings import PreprocessConfig
from musicspectrogan.errors import UserError

Again = tuple[Path, Command]


@pytest.fixture
def again(images: Path, gtzan_tree: Path, tmp_path: Path, command: Command) -> Again:
    """A copy of `images`, and the command that made it with flags added."""
    output = tmp_path / "images"
    shutil.copytree(images, output)

    def run(*flags: object, status: int = 0) -> subprocess.CompletedProcess:
        line = ("preprocess.py", "--dataset", "gtzan", "--input", gtzan_tree, "--jobs", 1)
        return command(*line, "--output", output, *flags, cwd=tmp_path, status=status)

    return output, run


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
        assert "Found 1 empty or incomplete image; converting the tracks again" in done.stderr
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
        assert "Converting 1 changed file again" in caplog.text
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
        assert "changed file" in run().stderr
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
        """Images without our text, a copy under another name, texts, caches and an empty folder."""
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
        line = ("preprocess.py", "--dataset", "gtzan", "--input", gtzan_tree)
        refused = command(*line, "--output", foreign, *flags, cwd=tmp_path, status=2)
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
