"""The classes and tracks of a folder of class folders of audio."""

from __future__ import annotations

import errno
import os
import re
import sys
import unicodedata
from pathlib import Path

import pytest
from datasets import by_id, reasons, refuse, taken, touch

from musicspectrogan.data.sources import (
    Selection,
    Track,
    folder,
    with_unique_ids,
)
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import safe_name

ALL = Selection()


class TestFolder:
    def find(self, root: Path) -> dict[str, Track]:
        return by_id(with_unique_ids(folder.find_tracks(root, ALL), root))

    def test_a_class_for_each_folder(self, tmp_path: Path) -> None:
        tracks = self.find(
            touch(tmp_path, "techno/a.wav", "techno/b.flac", "choir/c.mp3", "choir/text.txt")
        )
        assert {name: track.genre for name, track in tracks.items()} == {
            "a": "techno",
            "b": "techno",
            "c": "choir",
        }
        assert tracks["c"].path == tmp_path / "choir" / "c.mp3"

    def test_nested_folders_are_joined_by_hyphens(self, tmp_path: Path) -> None:
        tracks = self.find(
            touch(tmp_path, "rock/artist/album: 2/01. song.wav", "pop/song.wav", "rock/x.wav")
        )
        assert {name: track.genre for name, track in tracks.items()} == {
            "artist-album-2-01. song": "rock",
            "song": "pop",
            "x": "rock",
        }

    def test_tracks_below_a_class_are_grouped_by_the_folder_that_they_lie_in(
        self, tmp_path: Path
    ) -> None:
        names = (
            "loose.wav",
            "a/1.wav",
            "a/2.wav",
            "b/live/CD1/1.wav",
            "b/live/CD2/1.wav",
            "b/live/extra.wav",
        )
        root = touch(tmp_path, *(f"rock/{name}" for name in names), "pop/a/1.wav")
        groups = {
            str(track.path.relative_to(root)): track.group for track in self.find(root).values()
        }
        assert groups == {
            "rock/loose.wav": "",
            "rock/a/1.wav": "rock/a",
            "rock/a/2.wav": "rock/a",
            "rock/b/live/CD1/1.wav": "rock/b/live/CD1",
            "rock/b/live/CD2/1.wav": "rock/b/live/CD2",
            "rock/b/live/extra.wav": "rock/b/live",
            "pop/a/1.wav": "pop/a",
        }

    def test_music_without_class_folders_has_no_groups(self, tmp_path: Path) -> None:
        assert {track.group for track in self.find(touch(tmp_path, "a.wav", "b.wav")).values()} == {
            ""
        }

    def test_folders_without_audio_are_no_classes(self, tmp_path: Path) -> None:
        touch(tmp_path, "rock/a.wav", "covers/front.jpg", ".cache/rock/b.wav")
        (tmp_path / "empty").mkdir()
        assert {track.genre for track in taken(self.find(tmp_path).values())} == {"rock"}

    def test_audio_without_class_folders_is_one_class(self, tmp_path: Path) -> None:
        tracks = self.find(touch(tmp_path / "My Music", "a.wav", "b.ogg", "._a.wav"))
        assert {track.id: track.genre for track in taken(tracks.values())} == {
            "a": "My Music",
            "b": "My Music",
        }

    def test_files_beside_class_folders_are_excluded_with_a_reason(self, tmp_path: Path) -> None:
        tracks = self.find(touch(tmp_path, "rock/a.wav", "stray.wav"))
        assert tracks["a"].excluded == ""
        assert tracks["stray"].excluded == "not in a class folder"

    def test_colliding_ids_get_a_hash(self, tmp_path: Path) -> None:
        tracks = self.find(
            touch(tmp_path, "rock/song.wav", "pop/song.wav", "pop/song.mp3", "pop/own.wav")
        )
        assert len(tracks) == 4
        assert "own" in tracks
        hashed = [name for name in tracks if name != "own"]
        assert all(re.fullmatch(r"song-[0-9a-f]{8}", name) for name in hashed)

    def test_ids_that_differ_by_case_alone_get_a_hash(self, tmp_path: Path) -> None:
        tracks = self.find(touch(tmp_path, "rock/Song.wav", "pop/song.wav"))
        assert len({name.lower() for name in tracks}) == 2
        assert all(re.fullmatch(r"(?i:song)-[0-9a-f]{8}", name) for name in tracks)

    @pytest.mark.parametrize(
        "names",
        [
            ("rock/live/one.wav", "rock/live-one.wav"),
            ("rock/a/b-c.wav", "rock/a-b/c.wav"),
            ("rock/what?.wav", "rock/what.wav"),
        ],
    )
    def test_paths_that_give_the_same_id_in_one_class_stay_two_tracks(
        self, tmp_path: Path, names: tuple[str, str]
    ) -> None:
        assert len(self.find(touch(tmp_path, *names))) == 2

    def test_a_hash_does_not_depend_on_where_the_folder_lies(self, tmp_path: Path) -> None:
        names = ("rock/song.wav", "pop/song.wav", "rock/live/song.mp3")
        here, there = touch(tmp_path / "here", *names), touch(tmp_path / "over" / "there", *names)
        assert self.find(here).keys() == self.find(there).keys()

    def test_a_folder_without_audio_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no audio in it; expected one folder per class"):
            folder.find_tracks(touch(tmp_path, "rock/readme.txt"), ALL)


class TestNames:
    """Classes are told apart by what they are, and what is passed over is told."""

    def find(self, root: Path) -> list[Track]:
        return folder.find_tracks(root, ALL)

    def test_a_class_whose_name_begins_with_dots_is_a_class(self, tmp_path: Path) -> None:
        touch(
            tmp_path,
            "...And Justice for All/One.mp3",
            "rock/.hidden.wav",
            "rock/...live/a.wav",
            "rock/..wav",
        )
        assert [(track.genre, track.id) for track in taken(self.find(tmp_path))] == [
            ("And Justice for All", "One"),
            ("rock", "live-a"),
            ("rock", safe_name(".")),
            ("rock", "hidden"),
        ]

    def test_a_class_that_is_renamed_is_told(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        touch(tmp_path, "...And Justice for All/One.mp3", "rock/a.wav")
        self.find(tmp_path)
        assert [record.getMessage() for record in caplog.records] == [
            "...And Justice for All (not a name on every system) becomes the class "
            "And Justice for All"
        ]

    def test_folders_of_fma_are_no_classes(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        touch(tmp_path, "000/000002.mp3", "098/098012.mp3")
        self.find(tmp_path)
        assert "use --dataset fma" in caplog.text

    def test_different_names_are_different_classes(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        touch(
            tmp_path,
            "AC:DC/a.wav",
            "AC-DC/b.wav",
            "Rock/c.wav",
            "rock/d.wav",
            "attribution.csv/e.wav",
        )
        genres = {track.id: track.genre for track in self.find(tmp_path)}
        assert len({genre.casefold() for genre in genres.values()} | {"attribution.csv"}) == 6
        assert (genres["b"], genres["c"]) == ("AC-DC", "Rock")
        assert f"AC:DC (too similar to another name) becomes the class {genres['a']}" in caplog.text
        assert f"rock (too similar to another name) becomes the class {genres['d']}" in caplog.text

    def test_one_name_in_two_unicode_forms_is_one_class(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        tracks = self.find(
            touch(tmp_path, "Mu\u0301sica/a.wav", "M\u00fasica/a.wav", "M\u00fasica/b.wav")
        )
        assert [track.genre for track in tracks] == ["M\u00fasica"] * 3
        assert len(by_id(with_unique_ids(tracks, tmp_path))) == 3
        assert caplog.text.count("differ only in their Unicode form are one class") == 1

    def test_ids_that_differ_in_their_unicode_form_alone_get_a_hash(self, tmp_path: Path) -> None:
        touch(tmp_path, "rock/e\u0301.wav", "rock/\u00e9.wav")
        ids = by_id(with_unique_ids(self.find(tmp_path), tmp_path))
        assert len({unicodedata.normalize("NFC", name) for name in ids}) == 2

    @pytest.mark.skipif(sys.platform != "linux", reason="names of files are Unicode there")
    def test_names_that_are_no_utf_8_are_taken_as_windows_wrote_them(self, tmp_path: Path) -> None:
        touch(tmp_path, "M\udcfasica/caf\udce9.wav", "M\udce1sica/caf\udce8.wav")
        tracks = with_unique_ids(self.find(tmp_path), tmp_path)
        assert {(track.genre, track.id) for track in tracks} == {
            ("Música", "café"),
            ("Másica", "cafè"),
        }

    def test_what_looks_like_audio_and_is_passed_over_is_in_the_report(
        self, tmp_path: Path
    ) -> None:
        touch(
            tmp_path, "rock/a.wav", "rock/._a.wav", "rock/#recycle/b.mp3", ".Trash-1000/files/c.ogg"
        )
        touch(
            tmp_path,
            "__MACOSX/rock/._a.wav",
            "rock/song.mid",
            "rock/cover.jpg",
            "@eaDir/x.jpg",
            "d.wav",
        )
        tracks = self.find(tmp_path)
        assert [track.id for track in taken(tracks)] == ["a"]
        assert reasons(tracks, tmp_path) == {
            "rock/._a.wav": "a file of the system, not audio",
            "rock/#recycle/b.mp3": "in a folder of the system",
            ".Trash-1000/files/c.ogg": "in a folder of the system",
            "__MACOSX/rock/._a.wav": "a file of the system, not audio",
            "rock/song.mid": ".mid is not read; convert it to WAV",
            "d.wav": "not in a class folder",
        }
        assert not any(track.unreadable for track in tracks)

    def test_what_is_passed_over_changes_no_id(self, tmp_path: Path) -> None:
        before = self.find(touch(tmp_path, "rock/a.wav"))
        after = self.find(touch(tmp_path, "#recycle/a.wav", "rock/._a.wav"))
        assert taken(with_unique_ids(after, tmp_path)) == before

    @pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ELOOP])
    def test_a_folder_that_cannot_be_read_is_passed_over(
        self, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        touch(tmp_path, "rock/a.wav", "rock/locked/b.wav", "locked/c.wav", "#recycle/locked/d.wav")
        refuse(monkeypatch, "locked", code)
        tracks = self.find(tmp_path)
        assert [track.id for track in taken(tracks)] == ["a"]
        reason = f"cannot be read: {os.strerror(code)}"
        assert reasons(tracks, tmp_path) == dict.fromkeys(
            ("rock/locked", "locked", "#recycle/locked"), reason
        )
        assert [track.path.parent.name for track in tracks if not track.unreadable] == [
            "rock",
            "#recycle",
        ]

    def test_where_nothing_can_be_read_that_is_an_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        touch(tmp_path / "music", "rock/a.wav", "jazz/b.wav")
        for name in ("jazz", "rock", "music"):
            refuse(monkeypatch, name, errno.EACCES)
            if name != "jazz":
                with pytest.raises(
                    UserError, match=r"no usable audio in it; .*cannot be read: Permission denied"
                ):
                    self.find(tmp_path / "music")

    def test_a_link_to_itself_is_passed_over(self, tmp_path: Path) -> None:
        touch(tmp_path, "rock/a.wav")
        (tmp_path / "rock" / "loop").symlink_to("loop")
        tracks = self.find(tmp_path)
        assert [track.id for track in taken(tracks)] == ["a"]
        assert reasons(tracks, tmp_path) == {
            "rock/loop": f"cannot be read: {os.strerror(errno.ELOOP)}"
        }


class TestSplitFolders:
    def splits(self, root: Path, *names: str) -> dict[str, tuple[str, str]]:
        tracks = with_unique_ids(folder.find_tracks(touch(root, *names), ALL), root)
        return {track.id: (track.genre, track.split) for track in taken(tracks)}

    def test_they_are_the_splits(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        found = self.splits(
            tmp_path,
            "Train/rock/a.wav",
            "Train/jazz/live/b.wav",
            "VAL/rock/c.wav",
            "testing/rock/d.wav",
        )
        assert found == {
            "a": ("rock", "training"),
            "live-b": ("jazz", "training"),
            "c": ("rock", "validation"),
            "d": ("rock", "test"),
        }
        assert (
            "Using folders as splits: Train/ for training, VAL/ for validation, testing/ for test"
            in caplog.text
        )

    @pytest.mark.parametrize(
        ("names", "splits", "told"),
        [
            (("train", "test"), ["", "test"], "; drawing validation from"),
            (("train", "eval"), ["", "test"], "; drawing validation from"),
            (("training", "dev"), ["", "validation"], "; drawing test from"),
            (("train", "eval", "test"), ["training", "validation", "test"], ""),
            (("train",), [""], "; drawing validation and test from the training tracks"),
        ],
    )
    def test_a_missing_one_is_drawn(
        self,
        names: tuple[str, ...],
        splits: list[str],
        told: str,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level("INFO")
        files = [f"{name}/rock/{number}.wav" for number, name in enumerate(names)]
        found = self.splits(tmp_path, *files)
        assert found == {str(number): ("rock", split) for number, split in enumerate(splits)}
        assert "Using folders as splits" in caplog.text and told in caplog.text

    @pytest.mark.parametrize(
        "files",
        [
            ("train/a.wav", "test/b.wav"),
            ("train/rock/a.wav", "test/rock/b.wav", "jazz/c.wav"),
            ("train/locomotive/a.wav", "test/tones/b.wav"),
            ("test/rock/a.wav", "val/rock/b.wav"),
        ],
    )
    def test_other_folders_are_classes(self, files: tuple[str, ...], tmp_path: Path) -> None:
        genres = [genre for genre, _ in self.splits(tmp_path, *files).values()]
        assert sorted(genres) == sorted(name.partition("/")[0] for name in files)

    def test_files_beside_their_class_folders_are_excluded(self, tmp_path: Path) -> None:
        touch(tmp_path, "train/rock/a.wav", "test/rock/b.wav", "test/c.wav", "d.wav")
        assert reasons(folder.find_tracks(tmp_path, ALL), tmp_path) == {
            "test/c.wav": "not in a class folder",
            "d.wav": "not in a class folder",
        }


def test_a_folder_linked_into_itself_is_walked_once(tmp_path: Path) -> None:
    touch(tmp_path / "rock", "one.wav")
    (tmp_path / "rock" / "again").symlink_to(tmp_path / "rock")
    assert [track.id for track in folder.find_tracks(tmp_path, ALL)] == ["one"]


def test_folders_linked_into_each_other_have_an_end(tmp_path: Path) -> None:
    touch(tmp_path / "rock" / "a", "one.wav")
    touch(tmp_path / "rock" / "b", "two.wav")
    for here, there in ("ab", "ba"):
        for name in ("link", "other link"):
            (tmp_path / "rock" / here / name).symlink_to(tmp_path / "rock" / there)
    found = {track.path.name for track in folder.find_tracks(tmp_path, ALL)}
    assert found == {"one.wav", "two.wav"}
    assert len(folder.find_tracks(tmp_path, ALL)) == 6
