"""What each dataset's source finds in the folders that people really have."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from pathlib import Path

import pandas
import pytest

from musicspectrogan.data import composer, sources
from musicspectrogan.data.credits import Credit
from musicspectrogan.data.preprocessing import preprocess
from musicspectrogan.data.settings import PreprocessConfig
from musicspectrogan.data.sources import (
    Selection,
    Track,
    demo,
    fma,
    folder,
    gtzan,
    with_unique_ids,
)
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import safe_name

SOURCES = sources.names()
ALL = Selection()

every_source = pytest.mark.parametrize("name", SOURCES)


def touch(root: Path, *names: str) -> Path:
    """Empty files below root; sources look at names alone."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def by_id(tracks: Iterable[Track]) -> dict[str, Track]:
    return {track.id: track for track in tracks}


def taken(tracks: Iterable[Track]) -> list[Track]:
    return [track for track in tracks if not track.excluded]


def reasons(tracks: Iterable[Track], root: Path) -> dict[str, str]:
    """Why files and folders below root are left out."""
    return {
        track.path.relative_to(root).as_posix(): track.excluded
        for track in tracks
        if track.excluded
    }


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, code: int) -> None:
    """Refuse to list folders of this name; root ignores permissions."""
    for function in ("scandir", "listdir"):
        real = getattr(os, function)

        def refusing(path: str | Path, real: Callable = real) -> object:
            if Path(path).name == name:
                raise OSError(code, os.strerror(code), str(path))
            return real(path)

        monkeypatch.setattr(os, function, refusing)


def is_safe(name: str) -> bool:
    """One folder or file name on every system, with room for the rest of an image's file name."""
    return (
        bool(name)
        and not re.search(r'[/\\:*?"<>|\x00-\x1f]', name)
        and name == name.strip(" .")
        and len(name.encode("utf-8")) <= 200
    )


# tracks.csv as pandas writes it: two lines of column names, then one with the index's name.
FMA_TABLE = pandas.DataFrame.from_dict(
    {
        2: (
            "training",
            "small",
            "Hip-Hop",
            "Attribution-NonCommercial-ShareAlike 3.0 International",
        ),
        5: ("validation", "small", "Hip-Hop", "Attribution"),
        10: ("test", "small", "Pop", "CC0 1.0 Universal"),
        1486: ("training", "medium", "Rock", "Attribution"),
        3000: ("training", "medium", "Old-Time / Historic", "Public Domain Mark 1.0"),
        4000: ("test", "large", "Rock", ""),
        4001: ("training", "large", None, "Attribution"),
        98565: ("test", "small", "Pop", "Attribution"),
        107535: ("training", "small", "Pop", "Attribution"),
        133297: ("training", "small", "Pop", "Attribution"),
    },
    orient="index",
    columns=pandas.MultiIndex.from_tuples(
        [("set", "split"), ("set", "subset"), ("track", "genre_top"), ("track", "license")]
    ),
)
SMALL = {"000002", "000005", "000010", "098565", "107535", "133297"}
MEDIUM = SMALL | {"001486", "003000"}
LARGE = MEDIUM | {"004000", "004001"}


def write_tracks_csv(path: Path, table: pandas.DataFrame = FMA_TABLE) -> None:
    """Write the table with more of FMA's columns, shuffled, and unsorted rows."""
    table = table.copy()
    table["album", "title"] = 'Greatest "Hits", Vol. 1'
    table["album", "information"] = "<p>Two lines,\nand a third:\r\n1, 2, 3</p>"
    table["artist", "id"] = 7
    table["artist", "bio"] = 'a bio, with "quotes",\n\nand empty lines\n'
    table["track", "subset"] = "large"
    table["track", "title"] = "NA"
    table["track", "tags"] = "['one', 'two']"
    table.index.name = "track_id"
    shuffled = list(table.columns)
    random.Random(3).shuffle(shuffled)
    path.parent.mkdir(parents=True, exist_ok=True)
    table[shuffled].iloc[::-1].to_csv(path)


def fma_tree(root: Path, audio: str = "fma_small/fma_small") -> Path:
    """A folder `fma` with the audio's folders, and fma_metadata beside them."""
    write_tracks_csv(root / "fma" / "fma_metadata" / "tracks.csv")
    for number in FMA_TABLE.index:
        touch(root / "fma" / audio, f"{number:06d}"[:3] + f"/{number:06d}.mp3")
    return root / "fma"


# A small input for each source of ours; a new one may add its own.
SAMPLES = {
    "gtzan": lambda root: touch(
        root, *(f"{g}/{g}.{n:05d}.wav" for g in gtzan.GENRES for n in range(3))
    ),
    "fma": fma_tree,
    "folder": lambda root: touch(
        root,
        "one/same.wav",
        "two/same.wav",
        "two/Same.wav",
        "two/a: what?.flac",
        f"two/{'long' * 60}.ogg",
        "AC-DC?/b. .mp3",
        "ünï/日本語.wav",
    ),
    "demo": lambda root: root,
}


def test_the_sources_that_the_commands_help_names_are_found() -> None:
    assert {"demo", "fma", "folder", "gtzan"} <= set(SOURCES)


@every_source
def test_a_source_says_which_options_it_understands(name: str) -> None:
    options = sources.get(name).OPTIONS
    assert set(options) <= {field.name for field in fields(Selection)}
    assert "limit" in options


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "demo"])
def test_a_missing_input_is_told(name: str, tmp_path: Path) -> None:
    find_tracks = sources.get(name).find_tracks
    with pytest.raises(UserError, match="--input"):
        find_tracks(None, ALL)
    with pytest.raises(UserError, match=r"--input .*nowhere"):
        find_tracks(tmp_path / "nowhere", ALL)
    with pytest.raises(UserError, match=r"--input .*a_file"):
        find_tracks(touch(tmp_path, "a_file") / "a_file", ALL)
    # Where a source does not tell that there is no music, the command does.
    with pytest.raises(UserError, match="--input"):
        preprocess(PreprocessConfig(dataset=name, input=tmp_path, output=tmp_path / "out"))


@every_source
def test_ids_and_genres_are_unique_and_safe_as_names(name: str, tmp_path: Path) -> None:
    if name not in SAMPLES:
        pytest.skip(f"SAMPLES has no input for {name}")
    selection = Selection(tracks_per_genre=1) if name == "demo" else ALL
    root = SAMPLES[name](tmp_path)
    tracks = with_unique_ids(sources.get(name).find_tracks(root, selection), root)
    assert len(tracks) >= 5
    assert len({track.id.lower() for track in tracks}) == len(tracks)
    assert [track.id for track in tracks if not is_safe(track.id)] == []
    assert [
        track.genre for track in tracks if not is_safe(track.genre) and not track.excluded
    ] == []
    assert {track.split for track in tracks} <= {"", "training", "validation", "test"}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Old-Time / Historic", "Old-Time-Historic"),
        ("Hip-Hop", "Hip-Hop"),
        ("AC/DC: live?", "AC-DC-live"),
        ("..", "unnamed-"),
        ("  .hidden. ", "hidden"),
        ("a\nb", "a-b"),
        ("Ünï 日本", "Ünï 日本"),
    ],
)
def test_safe_name_stays_near_the_text(text: str, name: str) -> None:
    assert re.fullmatch(
        re.escape(name) + (r"[0-9a-f]{8}" if name.endswith("-") else ""), safe_name(text)
    )


def test_safe_name_shortens_long_texts_and_keeps_them_apart() -> None:
    one, two = safe_name("日" * 200 + "1"), safe_name("日" * 200 + "2")
    assert one != two
    assert is_safe(one)
    assert one.startswith("日" * 40)


class TestGtzan:
    NAMES = (
        "blues/blues.00000.wav",
        "jazz/jazz.00054.wav",
        "reggae/reggae.00086.wav",
        "rock/rock.00001.wav",
    )
    IDS = frozenset({"blues.00000", "jazz.00054", "reggae.00086", "rock.00001"})

    def test_the_root_itself(self, tmp_path: Path) -> None:
        tracks = by_id(gtzan.find_tracks(touch(tmp_path, *self.NAMES), ALL))
        assert tracks.keys() == self.IDS
        assert tracks["blues.00000"] == Track(
            "blues.00000",
            "blues",
            tmp_path / "blues" / "blues.00000.wav",
            split="",
            credit=Credit(),
        )

    @pytest.mark.parametrize("above", ["", "Data", "Data/genres_original"])
    def test_a_parent_of_one_root_beside_the_pictures(self, tmp_path: Path, above: str) -> None:
        touch(tmp_path / "Data" / "genres_original", *self.NAMES)
        touch(tmp_path / "Data" / "images_original", "blues/blues00000.png", "rock/rock00001.png")
        touch(tmp_path / "Data", "features_30_sec.csv")
        assert by_id(gtzan.find_tracks(tmp_path / above, ALL)).keys() == self.IDS

    def test_the_folder_of_pictures_is_refused_with_the_remedy(self, tmp_path: Path) -> None:
        touch(tmp_path / "Data" / "genres_original", *self.NAMES)
        pictures = touch(tmp_path / "Data" / "images_original", "blues/blues00000.png")
        with pytest.raises(UserError, match=r"holds images, not audio; .*genres_original"):
            gtzan.find_tracks(pictures, ALL)

    def test_two_roots_are_refused_by_name(self, tmp_path: Path) -> None:
        touch(tmp_path / "copy one", *self.NAMES)
        touch(tmp_path / "deeper" / "copy two", *self.NAMES)
        with pytest.raises(UserError, match=r"more than one copy of GTZAN .*copy one.*copy two"):
            gtzan.find_tracks(tmp_path, ALL)

    def test_a_folder_of_other_music_is_refused_with_the_remedy(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"such as blues or rock .*--dataset folder"):
            gtzan.find_tracks(touch(tmp_path, "techno/a.wav"), ALL)

    def test_what_systems_leave_is_excluded_with_the_reason(self, tmp_path: Path) -> None:
        touch(
            tmp_path,
            *self.NAMES,
            "blues/._blues.00000.wav",
            "blues/.hidden.wav",
            "rock/.git/rock.00002.wav",
        )
        touch(
            tmp_path, "__MACOSX/blues/._blues.00000.wav", "blues/notes.txt", ".jazz/jazz.00001.wav"
        )
        found = gtzan.find_tracks(tmp_path, ALL)
        assert by_id(taken(found)).keys() == self.IDS | {"hidden"}
        assert reasons(found, tmp_path) == {
            "blues/._blues.00000.wav": "a file of the system, not audio",
            "rock/.git/rock.00002.wav": "in a folder of the system",
            "__MACOSX/blues/._blues.00000.wav": "a file of the system, not audio",
            ".jazz/jazz.00001.wav": ".jazz is not a genre of GTZAN",
        }

    def test_au_files_are_accepted(self, tmp_path: Path) -> None:
        (track,) = gtzan.find_tracks(touch(tmp_path, "pop/pop.00000.au"), ALL)
        assert (track.id, track.genre, track.path.suffix) == ("pop.00000", "pop", ".au")

    def test_a_folder_that_is_no_genre_of_gtzan_is_left_alone(self, tmp_path: Path) -> None:
        touch(tmp_path, *self.NAMES, "techno/techno.00000.wav", "loose.wav")
        found = gtzan.find_tracks(tmp_path, ALL)
        assert by_id(taken(found)).keys() == self.IDS
        assert reasons(found, tmp_path) == {
            "techno/techno.00000.wav": "techno is not a genre of GTZAN",
            "loose.wav": "not in a genre folder",
        }

    def test_copies_in_split_folders_are_the_splits(self, tmp_path: Path) -> None:
        touch(tmp_path, "train/blues/a.wav", "test/blues/b.wav", "test/rock/c.wav")
        splits = {
            track.id: (track.genre, track.split) for track in gtzan.find_tracks(tmp_path, ALL)
        }
        assert splits == {"a": ("blues", ""), "b": ("blues", "test"), "c": ("rock", "test")}

    def test_known_faults_are_noted_and_converted_all_the_same(self, tmp_path: Path) -> None:
        tracks = by_id(gtzan.find_tracks(touch(tmp_path, *self.NAMES), ALL))
        assert "corrupt" in tracks["jazz.00054"].known_fault
        assert "distorted" in tracks["reggae.00086"].known_fault
        assert tracks["blues.00000"].known_fault == tracks["rock.00001"].known_fault == ""
        assert {track.excluded for track in tracks.values()} == {""}

    def test_exclude_faults_marks_exactly_the_listed_clips(self, tmp_path: Path) -> None:
        touch(
            tmp_path,
            *(f"{genre}/{genre}.{n:05d}.wav" for genre in gtzan.GENRES for n in range(100)),
        )
        tracks = gtzan.find_tracks(tmp_path, Selection(exclude_faults=True))
        excluded = {track.id for track in tracks if track.excluded}
        assert len(tracks) == 1000
        assert len(excluded) == 52  # 948 remain
        expected_per_genre = {
            "disco": 6,
            "hiphop": 2,
            "jazz": 13,
            "metal": 9,
            "pop": 10,
            "reggae": 12,
        }
        for genre in gtzan.GENRES:
            marked = [name for name in excluded if name.startswith(f"{genre}.")]
            assert len(marked) == expected_per_genre.get(genre, 0)
        assert {"disco.00051", "hiphop.00078", "jazz.00070", "metal.00066", "pop.00090"} <= excluded
        assert excluded.isdisjoint(
            {"jazz.00054", "jazz.00073", "reggae.00087", "blues.00051", "metal.00060"}
        )
        assert {track.excluded for track in tracks} == {
            "",
            "on the list of faulty clips (--exclude-faults)",
        }


class TestFma:
    @pytest.mark.parametrize("given", [".", "fma_small", "fma_small/fma_small"])
    def test_the_nested_form_from_each_of_its_folders(self, tmp_path: Path, given: str) -> None:
        root = fma_tree(tmp_path, "fma_small/fma_small")
        tracks = by_id(fma.find_tracks(root / given, ALL))
        assert tracks.keys() == SMALL
        assert tracks["000002"].path.samefile(
            root / "fma_small" / "fma_small" / "000" / "000002.mp3"
        )
        assert tracks["107535"].path.samefile(
            root / "fma_small" / "fma_small" / "107" / "107535.mp3"
        )

    @pytest.mark.parametrize("given", [".", "fma_small"])
    def test_the_flat_form_from_each_of_its_folders(self, tmp_path: Path, given: str) -> None:
        root = fma_tree(tmp_path, "fma_small")
        tracks = by_id(fma.find_tracks(root / given, ALL))
        assert tracks.keys() == SMALL
        assert tracks["000005"].path.samefile(root / "fma_small" / "000" / "000005.mp3")

    @pytest.mark.parametrize("given", [".", "fma_small", "fma_small/fma_small"])
    def test_the_working_directory_as_input(
        self, tmp_path: Path, given: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(fma_tree(tmp_path) / given)
        assert by_id(fma.find_tracks(Path(), ALL)).keys() == SMALL

    def test_tracks_csv_beside_the_audio_folders(self, tmp_path: Path) -> None:
        root = fma_tree(tmp_path, "fma_small")
        (root / "fma_metadata" / "tracks.csv").rename(root / "tracks.csv")
        assert by_id(fma.find_tracks(root, ALL)).keys() == SMALL

    def test_another_name_of_the_audio_folder(self, tmp_path: Path) -> None:
        assert by_id(fma.find_tracks(fma_tree(tmp_path, "my clips"), ALL)).keys() == SMALL

    @pytest.mark.parametrize(
        ("subset", "expected"),
        [("small", SMALL), ("medium", MEDIUM), ("large", LARGE), ("full", LARGE)],
    )
    def test_a_subset_holds_the_smaller_ones(
        self, tmp_path: Path, subset: str, expected: set[str]
    ) -> None:
        root = fma_tree(tmp_path, f"fma_{subset}/fma_{subset}")
        assert by_id(fma.find_tracks(root, Selection(subset=subset))).keys() == expected

    def test_the_folder_of_the_subset_is_taken_where_there_are_two(self, tmp_path: Path) -> None:
        root = fma_tree(tmp_path, "fma_small/fma_small")
        fma_tree(tmp_path, "fma_medium")
        small = by_id(fma.find_tracks(root, Selection(subset="small")))
        medium = by_id(fma.find_tracks(root, Selection(subset="medium")))
        assert small["000002"].path.is_relative_to(root / "fma_small")
        assert medium["000002"].path.is_relative_to(root / "fma_medium")
        with pytest.raises(
            UserError, match=r"no fma_large in it, but .*; choose one with"
        ):
            fma.find_tracks(root, Selection(subset="large"))

    def test_an_unknown_subset_is_refused_with_the_nearest_name(self, tmp_path: Path) -> None:
        with pytest.raises(
            UserError, match=r"--subset: 'smal' is not one of .*did you mean 'small'"
        ):
            fma.find_tracks(fma_tree(tmp_path), Selection(subset="smal"))

    def test_splits_are_those_of_fma(self, tmp_path: Path) -> None:
        tracks = fma.find_tracks(fma_tree(tmp_path), ALL)
        assert {track.id: track.split for track in tracks} == {
            "000002": "training",
            "000005": "validation",
            "000010": "test",
            "098565": "test",
            "107535": "training",
            "133297": "training",
        }

    def test_genres_become_safe_folder_names(self, tmp_path: Path) -> None:
        tracks = by_id(
            fma.find_tracks(fma_tree(tmp_path, "fma_medium"), Selection(subset="medium"))
        )
        assert tracks["003000"].genre == "Old-Time-Historic"
        assert tracks["000002"].genre == "Hip-Hop"

    def test_a_track_without_a_top_genre_is_excluded(self, tmp_path: Path) -> None:
        tracks = by_id(fma.find_tracks(fma_tree(tmp_path, "fma_large"), Selection(subset="large")))
        assert {name: track.excluded for name, track in tracks.items() if track.excluded} == {
            "004001": "no genre_top in tracks.csv"
        }

    @pytest.mark.parametrize(
        ("asked", "kept"),
        [
            ("by", {"000005", "001486", "098565", "107535", "133297"}),
            ("Attribution", {"000005", "001486", "098565", "107535", "133297"}),
            ("by-nc-sa", {"000002"}),
            ("CC0, Public Domain", {"000010", "003000"}),
            ("CC BY-NC-SA 4.0,public-domain", {"000002", "003000"}),
        ],
    )
    def test_licences_are_chosen_exactly(self, tmp_path: Path, asked: str, kept: set[str]) -> None:
        root = fma_tree(tmp_path, "fma_large")
        tracks = fma.find_tracks(root, Selection(subset="large", license=asked))
        assert by_id(taken(tracks)).keys() == kept

    def test_other_licences_are_excluded_with_the_reason(self, tmp_path: Path) -> None:
        root = fma_tree(tmp_path, "fma_large")
        tracks = by_id(fma.find_tracks(root, Selection(subset="large", license="cc0, Attribution")))
        given = "(--license by,cc0)"
        assert tracks["000002"].excluded == (
            f"license is Attribution-NonCommercial-ShareAlike 3.0 International {given}"
        )
        assert tracks["004000"].excluded == f"license is not stated {given}"

    @pytest.mark.parametrize("asked", ["by-nd", "by,by-sn", "anything"])
    def test_a_licence_that_is_not_there_is_refused_with_what_is(
        self, tmp_path: Path, asked: str
    ) -> None:
        root = fma_tree(tmp_path)
        there = r"there are by \(4\), by-nc-sa \(1\), cc0 \(1\)$"
        wrong = asked.removeprefix("by,")
        with pytest.raises(
            UserError, match=f"--license {wrong}: no track of the subset small has it; {there}"
        ):
            fma.find_tracks(root, Selection(license=asked))

    def test_one_of_several_licences_may_be_absent(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        tracks = fma.find_tracks(fma_tree(tmp_path), Selection(license="cc0,by-nd"))
        assert by_id(taken(tracks)).keys() == {"000010"}
        assert "--license: no track of the subset small is by-nd" in caplog.text

    def test_credits_are_those_of_the_tables(self, tmp_path: Path) -> None:
        root = fma_tree(tmp_path)
        table = FMA_TABLE.copy()
        table["artist", "name"], table["artist", "website"] = "AWOL", "http://awol.example"
        write_tracks_csv(root / "fma_metadata" / "tracks.csv", table)
        known = ("AWOL", "NA", 'Greatest "Hits", Vol. 1', "Attribution")
        tracks = by_id(fma.find_tracks(root, ALL))
        assert tracks["000005"].credit == Credit(*known, "http://awol.example")

        (root / "fma_metadata" / "raw_tracks.csv").write_text(
            'track_id,album_title,track_url\n5,"two\nlines",http://fma.example/5\n',
            encoding="utf-8",
        )
        tracks = by_id(fma.find_tracks(root, ALL))
        assert tracks["000005"].credit == Credit(*known, "http://fma.example/5")
        assert tracks["000010"].credit.url == "http://awol.example"

    def test_addresses_that_cannot_be_read_cost_the_addresses(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        root = fma_tree(tmp_path)
        (root / "fma_metadata" / "raw_tracks.csv").write_bytes(bytes(range(256)))
        assert by_id(fma.find_tracks(root, ALL)).keys() == SMALL
        assert "raw_tracks.csv: no track URLs in the credits" in caplog.text

    def test_known_bad_tracks_are_noted(self, tmp_path: Path) -> None:
        tracks = by_id(
            fma.find_tracks(fma_tree(tmp_path, "fma_medium"), Selection(subset="medium"))
        )
        assert {name: track.known_fault for name, track in tracks.items() if track.known_fault} == {
            "001486": "known to be empty",
            "098565": "known to be shorter than a clip should be",
            "107535": "reported to be nearly silent",
            "133297": "known to be empty",
        }

    def test_tracks_come_in_the_order_of_their_numbers(self, tmp_path: Path) -> None:
        tracks = fma.find_tracks(fma_tree(tmp_path), ALL)
        assert [track.id for track in tracks] == sorted(SMALL)

    def test_the_header_has_three_lines_as_in_the_released_file(self, tmp_path: Path) -> None:
        write_tracks_csv(tmp_path / "tracks.csv")
        first, second, third = (
            (tmp_path / "tracks.csv").read_text(encoding="utf-8").splitlines()[:3]
        )
        assert re.fullmatch(r"(,(album|artist|set|track))+", first)
        assert "genre_top" in second.split(",")
        assert re.fullmatch("track_id,+", third)

    def test_fields_with_commas_quotes_and_newlines_do_not_shift_the_columns(
        self, tmp_path: Path
    ) -> None:
        write_tracks_csv(tmp_path / "tracks.csv")
        table = fma.read_tracks(tmp_path / "tracks.csv")
        assert sorted(table.columns) == [
            "album", "artist", "genre", "license", "license_name", "split", "subset", "title",
            "website",
        ]  # fmt: skip
        expected = FMA_TABLE.fillna("").sort_index()
        assert list(table.index) == list(expected.index)
        assert list(table["genre"]) == list(expected["track", "genre_top"])
        assert list(table["license"]) == list(expected["track", "license"])
        assert set(table["album"]) == {'Greatest "Hits", Vol. 1'} and set(table["title"]) == {"NA"}
        assert list(table["split"]) == list(expected["set", "split"])
        assert list(table["subset"]) == list(expected["set", "subset"])

    def test_missing_columns_are_named(self, tmp_path: Path) -> None:
        root = fma_tree(tmp_path)
        table = FMA_TABLE.drop(columns=[("track", "genre_top"), ("set", "split")])
        write_tracks_csv(root / "fma_metadata" / "tracks.csv", table)
        with pytest.raises(
            UserError, match=r"tracks\.csv: no column .*\(set, split\).*\(track, genre_top\)"
        ):
            fma.find_tracks(root, ALL)

    @pytest.mark.parametrize(
        "contents",
        [bytes(range(256)) * 20, b"", b"some text\nof two lines\n", b"\x1f\x8b\x08\x00 an archive"],
        ids=["binary", "empty", "text", "archive"],
    )
    def test_a_file_that_is_no_csv_is_refused_by_name(
        self, tmp_path: Path, contents: bytes
    ) -> None:
        root = fma_tree(tmp_path)
        (root / "fma_metadata" / "tracks.csv").write_bytes(contents)
        with pytest.raises(UserError, match=r"tracks\.csv"):
            fma.find_tracks(root, ALL)

    def test_a_table_without_rows_or_with_names_for_numbers_is_refused(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "tracks.csv"
        write_tracks_csv(path, FMA_TABLE.iloc[:0])
        with pytest.raises(UserError, match=r"is not FMA's tracks\.csv"):
            fma.read_tracks(path)
        write_tracks_csv(path, FMA_TABLE.rename(index={2: "two"}))
        with pytest.raises(UserError, match=r"is not FMA's tracks\.csv"):
            fma.read_tracks(path)

    def test_missing_metadata_and_missing_audio_are_told_apart(self, tmp_path: Path) -> None:
        root = fma_tree(tmp_path)
        shutil.move(root / "fma_metadata", tmp_path / "elsewhere")
        with pytest.raises(UserError, match=r"unpack fma_metadata\.zip"):
            fma.find_tracks(root, ALL)
        with pytest.raises(UserError, match="no folders 000, 001, … of MP3 files"):
            fma.find_tracks(tmp_path / "elsewhere", ALL)


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


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (Path("a.wav"), r"mine\.py: find_tracks must return Track objects, not .*a\.wav"),
        (
            Track("a", "g/h", Path("a.wav")),
            r"mine\.py: .* the genre 'g/h' is not a file name; use safe_name",
        ),
        (Track("h/a", "g", Path("a.wav")), r"mine\.py: the id 'h/a' .* is not a file name"),
    ],
)
def test_what_no_track_may_be_is_refused_by_its_source(found: object, told: str) -> None:
    with pytest.raises(UserError, match=f"^--dataset mine: {'.*'}{told}"):
        sources.check_tracks([Track("b", "g", Path("b.wav")), found], "mine")


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
            tmp_path, "AC:DC/a.wav", "AC-DC/b.wav", "Rock/c.wav", "rock/d.wav", "credits.csv/e.wav"
        )
        genres = {track.id: track.genre for track in self.find(tmp_path)}
        assert len({genre.casefold() for genre in genres.values()} | {"credits.csv"}) == 6
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

    @pytest.mark.parametrize("name", ["gtzan", "fma"])
    def test_a_locked_folder_beside_a_dataset_is_no_hindrance(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = SAMPLES[name](tmp_path / "input")
        above = root.parent if name == "gtzan" else root
        expected = taken(sources.get(name).find_tracks(above, ALL))
        (above / "locked").mkdir()
        refuse(monkeypatch, "locked", errno.EACCES)
        assert taken(sources.get(name).find_tracks(above, ALL)) == expected


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


class TestDemo:
    def test_it_composes_what_is_not_there_yet(self, tmp_path: Path) -> None:
        selection = Selection(tracks_per_genre=1)
        tracks = demo.find_tracks(tmp_path, selection)
        assert [(track.id, track.genre) for track in tracks] == [
            (f"{style}.00000", style) for style in composer.STYLES
        ]
        times = {track.path: track.path.stat().st_mtime_ns for track in tracks}
        lost, *_ = times
        lost.unlink()
        assert demo.find_tracks(tmp_path, selection) == tracks
        unchanged = [path for path in times if path.stat().st_mtime_ns == times[path]]
        assert unchanged == [path for path in times if path != lost]

        other = demo.find_tracks(tmp_path, replace(selection, seed=1))
        assert other == tracks
        assert all(path.stat().st_mtime_ns != times[path] for path in times)


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
