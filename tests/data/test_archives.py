"""Music in archives is converted without unpacking, to the same bytes as from the tree."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from archived import parquet_of, tar_of, tar_with, zip_of
from conftest import Command, command_line, environment
from datasets import dataset_bytes, manifest, report, touch, write_music
from fma_trees import write_tracks_csv

from musicspectrogan.data import archives, fma_archives
from musicspectrogan.data.archives import base, parquet_files
from musicspectrogan.data.credits import Credit, read_credits
from musicspectrogan.data.preprocessing import preprocess
from musicspectrogan.data.settings import PreprocessConfig
from musicspectrogan.data.sources import fma, folder
from musicspectrogan.errors import UserError
from musicspectrogan.vocoding.music import Music

GTZAN = "preprocess.py --dataset gtzan --jobs 1 --output out --input".split()
FOLDER = "preprocess.py --dataset folder --jobs 1 --output out --input".split()


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files, which is empty afterwards."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of two and three clips of 4 s in several formats, two of them called a."""
    root = tmp_path_factory.mktemp("music") / "my music"
    for number, name in enumerate(("folk/a.wav", "folk/b.flac", "rock/a.mp3", "rock/d.ogg")):
        write_music(root / name, index=number)
    write_music(root / "rock" / "album" / "e.au", index=5)
    return root


@pytest.fixture(scope="module")
def converted(
    music: Path, command: Command, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, bytes], list, dict[str, Credit]]:
    folder = tmp_path_factory.mktemp("converted")
    command(*FOLDER, music, cwd=folder)
    return contents(folder / "out")


def contents(root: Path) -> tuple[dict[str, bytes], list, dict[str, Credit] | None]:
    """The images, the tracks, and the credits."""
    images = {name: data for name, data in dataset_bytes(root).items() if name != "dataset.json"}
    return images, manifest(root)["tracks"], read_credits(root)


def skipped(root: Path) -> dict[str, str]:
    """Why files were left out, by their paths."""
    lines = report(root).values()
    return {line["path"]: line["reason"] for line in lines if line["status"] != "converted"}


def kaggle(root: Path, tree: Path) -> Path:
    others = {
        "Data/features_30_sec.csv": b"filename,label\n",
        "Data/images_original/blues/blues00000.png": b"",
        "__MACOSX/Data/genres_original/blues/._blues.00000.wav": b"",
    }
    return zip_of(root / "archive.zip", tree, "Data/genres_original", **others)


def mirdata(root: Path, tree: Path) -> Path:
    shutil.copytree(tree, root / "mir" / "gtzan_genre" / "gtzan_genre" / "genres")
    touch(root / "mir", "gtzan_genre/gtzan_tempo_beat-main/beats/gtzan_blues_00000.beats")
    return root / "mir"


def mirdata_mini(root: Path, tree: Path) -> Path:
    return zip_of(root / "main.zip", tree, "mini-main/genres", **{"mini-main/README.md": b""})


def two_parquet_files(root: Path, tree: Path) -> Path:
    clips = sorted(tree.rglob("*.wav"))
    genres = [clip.parent.name for clip in clips]
    parquet_of(root / "hf" / "data" / "train-00000-of-00002.parquet", clips[:7], genre=genres[:7])
    parquet_of(root / "hf" / "data" / "train-00001-of-00002.parquet", clips[7:])
    return root / "hf"


GTZAN_FORMS: dict[str, Callable[[Path, Path], Path]] = {
    "Kaggle's zip": kaggle,
    "genres.tar.gz": lambda root, tree: tar_of(root / "genres.tar.gz", tree, "genres"),
    "genres.tar": lambda root, tree: tar_of(root / "genres.tar", tree, "./genres", "w"),
    "mirdata's folder": mirdata,
    "mirdata's mini zip": mirdata_mini,
    "parquet file": lambda root, tree: parquet_of(root / "0.parquet", sorted(tree.rglob("*.wav"))),
    "parquet files": two_parquet_files,
}


class TestGtzan:
    @pytest.mark.parametrize("form", GTZAN_FORMS)
    def test_the_same_bytes_as_from_the_tree(
        self, form: str, gtzan_tree: Path, images: Path, command: Command, tmp_path: Path
    ) -> None:
        given = GTZAN_FORMS[form](tmp_path, gtzan_tree)
        command(*GTZAN, given, cwd=tmp_path)
        assert contents(tmp_path / "out") == contents(images)
        assert set(skipped(tmp_path / "out")) <= {
            "__MACOSX/Data/genres_original/blues/._blues.00000.wav"
        }

    @pytest.mark.slow
    @pytest.mark.parametrize("form", ["genres.tar.gz", "parquet files"])
    def test_workers_read_the_archive_themselves(
        self, form: str, gtzan_tree: Path, images: Path, command_process: Command, tmp_path: Path
    ) -> None:
        given = GTZAN_FORMS[form](tmp_path, gtzan_tree)
        command_process(*GTZAN, given, "--jobs", 3, cwd=tmp_path)
        assert contents(tmp_path / "out") == contents(images)


class TestFma:
    CREDIT = Credit("", "NA", 'Greatest "Hits", Vol. 1', "Attribution", "")

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        """fma_small with two clips, one of them empty, and fma_metadata."""
        root = tmp_path / "tree"
        write_tracks_csv(root / "fma_metadata" / "tracks.csv")
        write_music(root / "fma_small" / "000" / "000005.mp3")
        write_music(root / "fma_small" / "107" / "107535.mp3", index=1)
        return touch(root, "fma_small/133/133297.mp3")

    @pytest.fixture
    def archived(self, tree: Path, tmp_path: Path) -> Path:
        """The folder with both archives, compressed as FMA's."""
        for name in ("fma_small", "fma_metadata"):
            zip_of(
                tmp_path / "fma" / f"{name}.zip",
                tree / name,
                name,
                zipfile.ZIP_BZIP2,
                **{f"{name}/README.txt": b"", f"{name}/checksums": b""},
            )
        return tmp_path / "fma"

    @pytest.mark.parametrize("given", [".", "fma_small.zip"])
    def test_the_same_bytes_as_from_the_tree(
        self, given: str, tree: Path, archived: Path, tmp_path: Path
    ) -> None:
        preprocess(PreprocessConfig(dataset="fma", input=tree, output=tmp_path / "one", jobs=1))
        preprocess(
            PreprocessConfig(
                dataset="fma", input=archived / given, output=tmp_path / "two", jobs=1, verify=False
            )
        )
        expected = contents(tmp_path / "one")
        assert contents(tmp_path / "two") == expected
        assert sorted({name.split("_")[0] for name in expected[0]}) == [
            "Hip-Hop/000005",
            "Pop/107535",
        ]
        assert {credit.license for credit in (expected[2] or {}).values()} == {"Attribution"}
        reasons = {Path(path).name: why for path, why in skipped(tmp_path / "two").items()}
        assert reasons["133297.mp3"] == "file is empty; known to be empty"
        assert reasons["000002.mp3"] == "file is missing"

    def test_the_unpacked_metadata_beside_the_archive(self, tree: Path, archived: Path) -> None:
        (archived / "fma_metadata.zip").unlink()
        shutil.copytree(tree / "fma_metadata", archived / "fma_metadata")
        tracks = fma.find_tracks(archived, fma.Selection())
        assert archives.is_file(tracks[1].path)
        assert tracks[1].path == archived / "fma_small.zip" / "fma_small" / "000" / "000005.mp3"

    def test_archives_of_other_subsets_are_named(self, tree: Path, archived: Path) -> None:
        zip_of(archived / "fma_medium.zip", tree / "fma_small", "fma_medium")
        with pytest.raises(UserError, match="no fma_large in it, but fma_medium, fma_small"):
            fma.find_tracks(archived, fma.Selection(subset="large"))

    @pytest.fixture
    def published(self, archived: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for path in archived.iterdir():
            sha1 = hashlib.sha1(path.read_bytes()).hexdigest()
            monkeypatch.setitem(fma_archives.ARCHIVES_SHA1, path.name, sha1)

    @pytest.mark.usefixtures("published")
    def test_verify_accepts_what_was_published(
        self, archived: Path, tmp_path: Path, command: Command
    ) -> None:
        line = "preprocess.py --dataset fma --jobs 1 --output out --verify --input".split()
        done = command(*line, archived, cwd=tmp_path)
        for name in ("fma_small.zip", "fma_metadata.zip"):
            assert f"{archived / name} is {name} as published" in done.stderr
        assert "Converted 2 of 6 tracks" in done.stderr

    @pytest.mark.usefixtures("published")
    def test_verify_refuses_an_archive_with_one_changed_bit(
        self, archived: Path, tmp_path: Path, command: Command
    ) -> None:
        data = bytearray((archived / "fma_small.zip").read_bytes())
        data[100] ^= 1
        (archived / "fma_small.zip").write_bytes(data)
        line = "preprocess.py --dataset fma --jobs 1 --output out --verify --input".split()
        done = command(*line, archived, cwd=tmp_path, status=2)
        assert f"fma_small.zip has SHA-1 {hashlib.sha1(data).hexdigest()}, not the" in done.stderr
        assert not (tmp_path / "out").exists()

    def test_verify_needs_archives_of_fma(self, tree: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="is unpacked; checksums are published for"):
            fma.verify(tree, fma.Selection())
        config = PreprocessConfig(dataset="gtzan", input=tree, output=tmp_path / "o", verify=True)
        with pytest.raises(UserError, match="--verify has no effect with --dataset gtzan"):
            preprocess(config)

    def test_the_published_checksums(self) -> None:
        assert fma_archives.ARCHIVES_SHA1 == {
            "fma_metadata.zip": "f0df49ffe5f2a6008d7dc83c6915b31835dfe733",
            "fma_small.zip": "ade154f733639d52e35e32f5593efe5be76c6d70",
            "fma_medium.zip": "c67b69ea232021025fca9231fc1c7c1a063ab50b",
            "fma_large.zip": "497109f4dd721066b5ce5e5f250ec604dc78939e",
            "fma_full.zip": "0f0ace23fbe9ba30ecb7e95f763e435ea802b8ab",
        }


class TestFolder:
    @pytest.mark.parametrize(
        ("suffix", "below"),
        [("zip", ""), ("zip", "my music"), ("tar.xz", "./my music"), ("TGZ", "")],
    )
    def test_the_same_bytes_as_from_the_tree(
        self,
        suffix: str,
        below: str,
        *,
        music: Path,
        converted: tuple,
        command: Command,
        tmp_path: Path,
    ) -> None:
        given = tmp_path / f"packed.{suffix}"
        if suffix == "zip":
            zip_of(given, music, below)
        else:
            tar_of(given, music, below, "w:xz" if suffix.endswith("xz") else "w:gz")
        command(*FOLDER, given, cwd=tmp_path)
        assert contents(tmp_path / "out") == converted
        assert skipped(tmp_path / "out") == {}
        assert {line["path"] for line in report(tmp_path / "out").values()} == {
            "folk/a.wav", "folk/b.flac", "rock/a.mp3", "rock/d.ogg", "rock/album/e.au",
        }  # fmt: skip

    def test_audio_without_folders_is_a_class_with_the_name_of_the_archive(
        self, music: Path, command: Command, tmp_path: Path
    ) -> None:
        zip_of(tmp_path / "Lo-fi.zip", music / "folk")
        command(*FOLDER, "Lo-fi.zip", cwd=tmp_path)
        assert manifest(tmp_path / "out")["genres"] == ["Lo-fi"]

    def test_names_in_utf_8_that_are_not_marked_as_such(
        self, music: Path, command: Command, tmp_path: Path
    ) -> None:
        zip_of(tmp_path / "m.zip", music, **{"ünï/x.txt": b""})
        data = (tmp_path / "m.zip").read_bytes()
        tree = tmp_path / "tree" / "ünï"
        shutil.copytree(music / "folk", tree)
        zip_of(tmp_path / "m.zip", tree.parent)
        data = (tmp_path / "m.zip").read_bytes()
        for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # clear the flag
            data = replace_flags(data, magic, at, lambda flags: flags & ~0x800)
        (tmp_path / "m.zip").write_bytes(data)
        names = [entry.name for entry in archives.list_folder(tmp_path / "m.zip")]
        assert names == ["ünï"]


def replace_flags(data: bytes, magic: bytes, at: int, change: Callable[[int], int]) -> bytes:
    """Change a 16-bit number in all headers of a ZIP archive."""
    found = bytearray(data)
    start = data.find(magic)
    while start >= 0:
        (value,) = struct.unpack_from("<H", found, start + at)
        struct.pack_into("<H", found, start + at, change(value))
        start = data.find(magic, start + 4)
    return bytes(found)


class TestDamagedAndStrangeArchives:
    def refuse(self, command: Command, tmp_path: Path, given: str | Path) -> str:
        """The one line about an input that is refused."""
        done = command(*FOLDER, given, cwd=tmp_path, status=2)
        return done.stderr.splitlines()[-1]

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
    @pytest.mark.parametrize("suffix", ["zip", "tar.gz", "tar.xz", "tar", "parquet"])
    def test_one_that_breaks_off_is_refused(
        self, suffix: str, share: float, music: Path, command: Command, tmp_path: Path
    ) -> None:
        given = tmp_path / f"m.{suffix}"
        if suffix == "zip":
            zip_of(given, music)
        elif suffix == "parquet":
            parquet_of(given, sorted(music.glob("*/*.*")))
        else:
            mode = f"w:{suffix[4:]}"
            tar_of(given, music, "", mode)
        data = given.read_bytes()
        size = len(data) - 512 * 30 if suffix == "tar" and share == 0.99 else len(data) * share
        given.write_bytes(data[: int(size)])
        line = self.refuse(command, tmp_path, given.name)
        assert f"--input {given.name}: is damaged or incomplete (" in line

    def test_a_damaged_header_is_not_taken_for_the_end_of_a_tar(
        self, music: Path, command: Command, tmp_path: Path
    ) -> None:
        data = bytearray(tar_of(tmp_path / "m.tar", music, "", "w").read_bytes())
        with tarfile.open(tmp_path / "m.tar") as archive:
            data[archive.getmembers()[2].offset + 5] ^= 0xFF
        (tmp_path / "m.tar").write_bytes(data)
        line = self.refuse(command, tmp_path, "m.tar")
        assert "m.tar: is damaged or incomplete (no header at byte" in line

    @pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
    def test_an_empty_archive(self, suffix: str, command: Command, tmp_path: Path) -> None:
        (tmp_path / "nothing").mkdir()
        if suffix == "zip":
            zip_of(tmp_path / "m.zip", tmp_path / "nothing")
        else:
            tar_of(tmp_path / "m.tar.gz", tmp_path / "nothing", "")
        line = self.refuse(command, tmp_path, f"m.{suffix}")
        assert f"--input m.{suffix}: no audio in it; expected one folder per class" in line

    def test_archives_in_an_archive_and_in_a_folder_are_named(
        self, music: Path, command: Command, tmp_path: Path
    ) -> None:
        inner = zip_of(tmp_path / "in" / "music.zip", music)
        zip_of(tmp_path / "outer.zip", inner.parent)
        line = self.refuse(command, tmp_path, "outer.zip")
        assert "no audio in it, but archives (music.zip): unpack the outer one" in line
        line = self.refuse(command, tmp_path, "in")
        assert "no audio in it, but archives (music.zip): name one as --input" in line

    def test_archives_beside_audio_are_not_opened_and_are_reported(
        self, music: Path, command: Command, tmp_path: Path, converted: tuple
    ) -> None:
        shutil.copytree(music, tmp_path / "music")
        names = ["features.parquet", "rock/More.ZIP", "rock/._More.ZIP", "rock/notes.zip.txt"]
        touch(tmp_path / "music", *names)
        command(*FOLDER, "music", cwd=tmp_path)
        assert contents(tmp_path / "out") == converted
        reason = "an archive; name it as --input"
        assert skipped(tmp_path / "out") == dict.fromkeys(names[:2], reason)

    def test_archives_beside_audio_in_an_archive_are_reported(
        self, music: Path, tmp_path: Path
    ) -> None:
        inner = zip_of(tmp_path / "in" / "rock" / "more.zip", music)
        shutil.copy(music / "folk" / "a.wav", inner.parent)
        outer = zip_of(tmp_path / "outer.zip", tmp_path / "in")
        for root, remedy in ((tmp_path / "in", "name it as --input"), (outer, "unpack the outer")):
            tracks = folder.find_tracks(root, folder.Selection())
            told = {track.path.name: track.excluded for track in tracks if track.excluded}
            assert told.keys() == {"more.zip"}
            assert f"an archive; {remedy}" in told["more.zip"]

    def test_a_file_that_is_no_archive(self, command: Command, tmp_path: Path) -> None:
        touch(tmp_path, "music.rar")
        line = self.refuse(command, tmp_path, "music.rar")
        assert "music.rar is a file; name the folder that holds the music, or an archive" in line

    def test_members_of_a_zip_that_are_left_out(
        self, music: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sound = (music / "folk" / "a.wav").read_bytes()
        given = tmp_path / "m.zip"
        link = zipfile.ZipInfo("rock/link.wav")
        link.external_attr = 0o120777 << 16
        with zipfile.ZipFile(given, "w", zipfile.ZIP_STORED) as archive:
            for name in ("rock/a.wav", "/abs/b.wav", "rock\\c.wav", "folk/../../out.wav"):
                archive.writestr(name, sound)
            archive.writestr(link, "a.wav")
            archive.writestr("rock/large.wav", sound * 2)
            archive.writestr("rock/method.wav", sound[::-1])
            archive.writestr("rock/secret.wav", sound)
            archive.writestr("rock/damaged.wav", sound)
            archive.writestr("../notes.txt", "")
            at = {info.filename: info.header_offset for info in archive.infolist()}
        data = given.read_bytes()
        for magic, offset in ((b"PK\x03\x04", 30), (b"PK\x01\x02", 46)):
            for name, field, value in (("method", 8, 9), ("secret", 6, 1)):
                start = data.find(f"rock/{name}.wav".encode(), 1) - offset
                while data[start : start + 4] != magic:
                    start = data.find(f"rock/{name}.wav".encode(), start + offset + 1) - offset
                position = start + field + (2 if magic.endswith(b"\2") else 0)
                data = data[:position] + struct.pack("<H", value) + data[position + 2 :]
        middle = at["rock/damaged.wav"] + 5000
        given.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
        monkeypatch.setattr(base, "MOST_BYTES", len(sound) + 1)
        command(*FOLDER, given, cwd=tmp_path)
        assert skipped(tmp_path / "out") == {
            "folk/out.wav": "its name leads out of the archive",
            "rock/damaged.wav": "damaged in the archive: Bad CRC-32 for file 'rock/damaged.wav'",
            "rock/large.wav": "larger than 0 GiB; unpack the archive",
            "rock/link.wav": "a link in the archive; unpack it",
            "rock/method.wav": "compressed in the archive by method 9; unpack it",
            "rock/secret.wav": "encrypted in the archive",
        }
        statuses = {line["path"]: line["status"] for line in report(tmp_path / "out").values()}
        assert {path for path, status in statuses.items() if status == "converted"} == {
            "rock/a.wav", "abs/b.wav", "rock/c.wav",
        }  # fmt: skip
        assert set(statuses.values()) == {"converted", "skipped"}  # all count for --strict
        assert not (tmp_path / "out.wav").exists()

    @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_bzip2_and_lzma_take_little_memory_whatever_they_expand_to(
        self, method: int, tmp_path: Path
    ) -> None:
        noise = np.random.default_rng(0).bytes(base.COPIED_BYTES + 5)
        with zipfile.ZipFile(tmp_path / "m.zip", "w", method) as archive:
            archive.writestr("a.wav", noise + bytes(2 * base.COPIED_BYTES))
            archive.writestr("empty.wav", b"")
            archive.writestr("bomb.wav", bytes(32 << 20))
            archive.writestr("cut.wav", bytes(999))
        contents, mark, listed = (tmp_path / "m.zip").read_bytes().partition(b"PK\1\2")
        for packed, declared in ((32 << 20, 1000), (999, 1000)):
            assert listed.count(struct.pack("<L", packed)) == 1
            listed = listed.replace(struct.pack("<L", packed), struct.pack("<L", declared))
        (tmp_path / "m.zip").write_bytes(contents + mark + listed)

        def read(name: str) -> bytes:
            with archives.local_file(tmp_path / "m.zip" / name) as path:
                return path.read_bytes()

        assert read("a.wav") == noise + bytes(2 * base.COPIED_BYTES)
        assert read("empty.wav") == b""
        tracemalloc.start()
        try:
            for name in ("bomb.wav", "cut.wav"):
                with pytest.raises(archives.ArchiveError, match=f"Bad CRC-32 for file '{name}'"):
                    read(name)
            assert tracemalloc.get_traced_memory()[1] < 2**24
        finally:
            tracemalloc.stop()

    def test_lzma_may_not_ask_for_gigabytes(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "m.zip", "w", zipfile.ZIP_LZMA) as archive:
            archive.writestr("a.wav", bytes(1000))
        data = (tmp_path / "m.zip").read_bytes()
        dictionary = struct.pack("<L", 8 << 20)
        assert data.count(dictionary) == 1
        (tmp_path / "m.zip").write_bytes(data.replace(dictionary, struct.pack("<L", 2**31)))
        with (
            pytest.raises(archives.ArchiveError, match="Memory usage limit exceeded"),
            archives.local_file(tmp_path / "m.zip" / "a.wav"),
        ):
            pass

    @pytest.mark.parametrize("place", [0, 1])
    def test_a_header_of_a_tar_may_not_be_of_gigabytes(self, place: int, tmp_path: Path) -> None:
        members = [(tarfile.TarInfo("rock/a.wav"), b"sound")]
        header = tarfile.TarInfo("long")
        header.type = tarfile.XHDTYPE
        members.insert(place, (header, bytes(32 << 20)))
        tar_with(tmp_path / "m.tar.gz", *members, mode="w:gz")
        tracemalloc.start()
        try:
            with pytest.raises(UserError, match=r"damaged or .*a header of 33554432 by"):
                archives.list_folder(tmp_path / "m.tar.gz")
            assert tracemalloc.get_traced_memory()[1] < 2**22
        finally:
            tracemalloc.stop()

    def test_names_longer_than_a_header_of_a_tar(self, tmp_path: Path) -> None:
        name = "/".join(["x" * 200, "y" * 200, "a.wav"])
        for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
            with tarfile.open(tmp_path / f"{form}.tar", "w", format=form) as archive:
                archive.addfile(tarfile.TarInfo(name))
            assert archives.is_file(tmp_path / f"{form}.tar" / name)

    def test_links_and_doubles_in_a_tar(
        self, music: Path, command: Command, tmp_path: Path
    ) -> None:
        sound = (music / "folk" / "a.wav").read_bytes()

        def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            return info

        tar_with(
            tmp_path / "m.tar.gz",
            (member("rock/hard.wav", tarfile.LNKTYPE, "folk/a.wav"), b""),
            (member("rock/soft.wav", tarfile.SYMTYPE, "../folk/a.wav"), b""),
            (member("folk/a.wav"), sound),
            (member("rock/outside.wav", tarfile.SYMTYPE, "/etc/passwd"), b""),
            (member("rock/round.wav", tarfile.SYMTYPE, "round.wav"), b""),
            (member("rock/device.wav", tarfile.CHRTYPE), b""),
            (member("rock/double.wav"), sound),
            (member("rock/double.wav"), sound),
            (member("../../up.wav"), sound),
            mode="w:gz",
        )
        command(*FOLDER, "m.tar.gz", cwd=tmp_path)
        link = "a link, or no file, in the archive; unpack it"
        assert skipped(tmp_path / "out") == {
            "rock/outside.wav": link,
            "rock/round.wav": link,
            "rock/device.wav": link,
            "rock/double.wav": "several files of this name in the archive; unpack it",
            "up.wav": "its name leads out of the archive",
        }
        images = dataset_bytes(tmp_path / "out")
        assert {name for name in images if name.endswith("_000.png")} == {
            "folk/a_000.png", "rock/hard_000.png", "rock/soft_000.png",
        }  # fmt: skip

    def test_a_full_disk_of_temporary_files_ends_the_command(
        self, music: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*arguments: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        zip_of(tmp_path / "m.zip", music)
        monkeypatch.setattr(shutil, "copyfileobj", full)
        line = self.refuse(command, tmp_path, "m.zip")
        assert "No space left on device" in line and "temporary" in line


class TestParquet:
    @pytest.mark.parametrize("suffix", ["", "-00000-of-00001"])
    def test_splits_come_from_the_names_of_files(
        self, suffix: str, music: Path, command: Command, tmp_path: Path
    ) -> None:
        clips = sorted(music.glob("*/*.*"))
        for split, part in (("train", clips), ("validation", clips[:1]), ("test", clips[2:3])):
            parquet_of(
                tmp_path / "hf" / f"{split}{suffix}.parquet",
                part,
                label=[clip.parent.name for clip in part],
            )
        command(*FOLDER, "hf", cwd=tmp_path)
        tracks = manifest(tmp_path / "out")["tracks"]
        splits = [(track["genre"], track["id"][0], track["split"]) for track in tracks]
        assert sorted(splits) == [
            ("folk", "a", "training"), ("folk", "a", "validation"), ("folk", "b", "training"),
            ("rock", "a", "test"), ("rock", "a", "training"), ("rock", "d", "training"),
        ]  # fmt: skip

    def test_a_file_of_one_split_alone_is_no_split(
        self, music: Path, command: Command, tmp_path: Path
    ) -> None:
        parquet_of(tmp_path / "test-00000-of-00001.parquet", sorted((music / "folk").iterdir()))
        command(*FOLDER, "test-00000-of-00001.parquet", cwd=tmp_path)
        tracks = [(track["id"], track["genre"]) for track in manifest(tmp_path / "out")["tracks"]]
        assert tracks == [("a", "folk"), ("b", "folk")]

    def test_a_file_without_a_split_costs_the_splits_and_is_told(
        self, music: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        clip = [music / "folk" / "a.wav"]
        for name in ("train-00000-of-00001", "extra"):
            parquet_of(tmp_path / f"{name}.parquet", clip)
        folder = archives.all_parquet(tmp_path)
        assert folder is not None
        assert [entry.name for entry in archives.list_folder(folder)] == ["folk"]
        assert "splits are drawn anew: extra.parquet is not named after one" in caplog.text

    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            ([1, None, "\ud800"], ["1", "a.wav", "unnamed-9c1fd4b3"]),
            ("abc", ["0", "1", "2"]),
            ({"0": "x"}, ["0", "1", "2"]),
            ([["x"], "y"], ["['x']", "a.wav", "y"]),
        ],
    )
    def test_names_of_classes_that_are_no_texts(
        self, names: object, expected: list[str], music: Path, tmp_path: Path
    ) -> None:
        import pyarrow

        path = tmp_path / "m.parquet"
        parquet_of(path, [music / "folk" / "a.wav"] * 3, genre=[0, 1, 2])
        features = {"audio": {"_type": "Audio"}, "genre": {"names": names}}
        described = {"huggingface": json.dumps({"info": {"features": features}})}
        table = pyarrow.parquet.read_table(path).replace_schema_metadata(described)
        pyarrow.parquet.write_table(table, path)
        assert [entry.name for entry in archives.list_folder(path)] == expected

    def test_splits_come_from_the_names_of_folders(
        self, music: Path, command: Command, tmp_path: Path
    ) -> None:
        clips = sorted(music.glob("*/*.*"))
        for split, part in (("train", clips[1:]), ("test", clips[:1])):
            parquet_of(tmp_path / "hf" / split / "0000.parquet", part)
        command(*FOLDER, "hf", cwd=tmp_path)
        tracks = manifest(tmp_path / "out")["tracks"]
        assert [track["genre"] for track in tracks if track["split"] == "test"] == ["folk"]
        assert len(tracks) == 4

    def test_rows_without_names_are_numbered_and_their_format_recognised(
        self, music: Path, command: Command, tmp_path: Path, converted: tuple
    ) -> None:
        clips = [music / "folk" / "b.flac"] * 3
        labels = ["AC/DC", None, "folk"]
        parquet_of(tmp_path / "m.parquet", clips, named=False, group=2, label=labels)
        command(*FOLDER, "m.parquet", cwd=tmp_path)
        assert skipped(tmp_path / "out") == {"m-0000-00002.flac": "not in a class folder"}
        images = dataset_bytes(tmp_path / "out")
        assert set(images) == {
            "dataset.json", "AC-DC/m-0000-00001_000.png", "folk/m-0001-00001_000.png",
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("data", "told"),
        [(b"", "file is empty"), (None, "m.parquet has no bytes of it, only its name")],
    )
    def test_a_row_with_neither_name_nor_bytes_is_skipped(
        self,
        data: bytes | None,
        told: str,
        *,
        music: Path,
        command: Command,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        clips = sorted((music / "folk").iterdir())
        real = Path.read_bytes
        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", lambda self: data if self == clips[0] else real(self))
            parquet_of(tmp_path / "m.parquet", clips, named=False, label=["x", "x"])
        command(*FOLDER, "m.parquet", cwd=tmp_path)
        assert skipped(tmp_path / "out") == {"x/m-0000-00001.wav": told}
        assert [t["id"] for t in manifest(tmp_path / "out")["tracks"]] == ["m-0000-00002"]

    def test_rows_of_equal_names(self, music: Path, command: Command, tmp_path: Path) -> None:
        clips = [music / "folk" / "a.wav"] * 3
        parquet_of(tmp_path / "m.parquet", clips, group=2, genre=[0, 0, 0])
        done = command(*FOLDER, "m.parquet", cwd=tmp_path)
        told = "m.parquet: renamed 2 rows with a name that others have; folk/a.wav becomes folk/"
        assert done.stderr.count(told) == 1
        ids = [track["id"] for track in manifest(tmp_path / "out")["tracks"]]
        assert ids == ["a", "a-1", "a-2"]

    def test_without_a_column_of_classes_it_is_one_class(
        self, music: Path, command: Command, tmp_path: Path
    ) -> None:
        parquet_of(tmp_path / "lofi.parquet", [music / "folk" / "a.wav"], mood=["calm"])
        command(*FOLDER, "lofi.parquet", cwd=tmp_path)
        assert manifest(tmp_path / "out")["genres"] == ["lofi"]

    def test_a_row_with_a_name_and_no_bytes_is_skipped(
        self, music: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clips = sorted((music / "folk").iterdir())
        with monkeypatch.context() as patch:
            contents_of = Path.read_bytes
            patch.setattr(
                Path, "read_bytes", lambda self: None if self == clips[0] else contents_of(self)
            )
            parquet_of(tmp_path / "m.parquet", clips)
        command(*FOLDER, "m.parquet", cwd=tmp_path)
        assert skipped(tmp_path / "out") == {
            "folk/a.wav": "m.parquet has no bytes of it, only its name"
        }

    def test_a_table_without_sounds_is_refused(self, command: Command, tmp_path: Path) -> None:
        import pyarrow

        table = pyarrow.table({"text": ["a"], "label": [1]})
        pyarrow.parquet.write_table(table, tmp_path / "m.parquet")
        done = command(*FOLDER, "m.parquet", cwd=tmp_path, status=2)
        assert "no column with the bytes of sounds; it has text, label" in done.stderr

    def test_without_pyarrow_the_remedy_is_told(
        self, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
        touch(tmp_path, "m.parquet")
        done = command(*FOLDER, "m.parquet", cwd=tmp_path, status=2)
        assert "need the package pyarrow: pip install pyarrow" in done.stderr

    def test_a_row_group_is_not_read_again_for_each_row(
        self, music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened: list[Path] = []
        open_file = parquet_files._open
        clips = [music / "folk" / "a.wav"] * 6
        path = parquet_of(tmp_path / "m.parquet", clips, named=False, group=3, genre=[0] * 6)
        names = sorted(archives.list_folder(path / "folk"), key=lambda entry: entry.name)
        monkeypatch.setattr(
            parquet_files, "_open", lambda file: opened.append(file) or open_file(file)
        )
        for entry in names:
            with archives.local_file(path / "folk" / entry.name) as local:
                assert local.read_bytes() == clips[0].read_bytes()
        assert len(names) == 6 and len(opened) == 2  # once for each group


# Simulates a decoder that crashes, by the size of the file: copies have other names.
CRASH = """
import os, signal, soundfile

class Crashing(soundfile.SoundFile):
    def __init__(self, file, *arguments, **options):
        if os.path.getsize(file) == {size}:
            os.kill(os.getpid(), signal.SIGKILL)
        super().__init__(file, *arguments, **options)

soundfile.SoundFile = Crashing
"""


class TestGoingOn:
    @pytest.mark.slow
    def test_a_crashing_decoder_leaves_no_temporary_file(
        self, music: Path, tmp_path: Path, temporary: Path
    ) -> None:
        tar_of(tmp_path / "m.tar.gz", music, "")
        size = (music / "folk" / "a.wav").stat().st_size
        (tmp_path / "sitecustomize.py").write_text(CRASH.format(size=size))
        path = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
        done = subprocess.run(
            command_line(*FOLDER, "m.tar.gz", "--jobs", 2),
            cwd=tmp_path,
            env={**environment(), "PYTHONPATH": path, "TMPDIR": str(temporary)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert skipped(tmp_path / "out") == {
            "folk/a.wav": "its worker process died (out of memory, or a crash in a decoder)"
        }
        assert "Converted 4 of 5 tracks" in done.stderr
        for path in temporary.glob("joblib*"):  # joblib's own
            shutil.rmtree(path)

    def test_only_members_that_changed_are_converted_again(
        self, music: Path, command: Command, tmp_path: Path, converted: tuple
    ) -> None:
        shutil.copytree(music, tmp_path / "tree")
        given = zip_of(tmp_path / "m.zip", tmp_path / "tree")
        command(*FOLDER, given, cwd=tmp_path)
        os.utime(given, (0, 0))  # another copy of the same archive
        done = command(*FOLDER, given, cwd=tmp_path)
        assert "5 of 5 tracks were converted before" in done.stderr
        write_music(tmp_path / "tree" / "folk" / "a.wav", style="bass", seconds=5.0)
        zip_of(given, tmp_path / "tree")
        done = command(*FOLDER, given, cwd=tmp_path)
        assert "Converting 1 changed file again" in done.stderr
        images = contents(tmp_path / "out")[0]
        changed = {name for name in images if images[name] != converted[0].get(name)}
        assert len(changed) == 1 and changed.pop().startswith("folk/a-")

    def test_an_archive_that_goes_away_meanwhile_is_told(
        self, music: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given = zip_of(tmp_path / "m.zip", music)
        copy = shutil.copyfileobj

        def copy_and_remove(*arguments: object) -> None:
            copy(*arguments)
            given.unlink(missing_ok=True)

        monkeypatch.setattr(shutil, "copyfileobj", copy_and_remove)
        done = command(*FOLDER, "m.zip", cwd=tmp_path, status=2)
        assert "--input m.zip: vanished while it was read" in done.stderr

    def test_limit_takes_the_same_tracks_as_from_the_tree(
        self, music: Path, command: Command, tmp_path: Path
    ) -> None:
        tar_of(tmp_path / "m.tar.gz", music, "my music")
        for name, given in (("tree", music), ("archive", "m.tar.gz")):
            command(*FOLDER, given, "--limit", 1, "--output", name, cwd=tmp_path)
        assert contents(tmp_path / "archive") == contents(tmp_path / "tree")
        assert len(manifest(tmp_path / "archive")["tracks"]) == 2

    @pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
    @pytest.mark.parametrize("named", [False, True])
    def test_a_vocoder_hears_the_same_music(
        self, suffix: str, named: bool, music: Path, command: Command, tmp_path: Path
    ) -> None:
        pack = zip_of if suffix == "zip" else tar_of
        given = pack(
            tmp_path / "packed" / f"m.{suffix}" if suffix == "zip" else tmp_path / "m.tar.gz",
            music,
            "my music",
        )
        excerpts = {}
        for name, root in (("tree", music), ("archive", given)):
            command(*FOLDER, root, "--output", name, cwd=tmp_path)
            folder = root if named else None
            excerpts[name] = Music(tmp_path / name, folder).excerpts(
                "training", most=4, samples=200_000
            )
        assert len(excerpts["tree"]) == 3
        for one, other in zip(excerpts["tree"], excerpts["archive"], strict=True):
            assert np.array_equal(one, other)

    def test_a_vocoder_finds_the_archive_beside_a_dataset_from_another_machine(
        self, music: Path, command: Command, tmp_path: Path
    ) -> None:
        zip_of(tmp_path / "m.zip", music, "my music")
        command(*FOLDER, "m.zip", cwd=tmp_path)
        (tmp_path / "out" / ".music_folder").write_text("/of/another/machine.zip")
        assert Music(tmp_path / "out").excerpts("training", most=1, samples=1000)

    def test_a_vocoder_tells_that_it_needs_the_archive(
        self, music: Path, command: Command, tmp_path: Path
    ) -> None:
        zip_of(tmp_path / "m.zip", music)
        command(*FOLDER, "m.zip", cwd=tmp_path)
        (tmp_path / "m.zip").rename(tmp_path / "other.zip")
        with pytest.raises(UserError, match=r"\(m\.zip\) is not there; name its folder or archive"):
            Music(tmp_path / "out")
        assert Music(tmp_path / "out", tmp_path / "other.zip").excerpts(
            "training", most=1, samples=1000
        )
