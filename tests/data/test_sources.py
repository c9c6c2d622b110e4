"""What each dataset's source finds in the folders that people really have."""

from __future__ import annotations

import errno
import re
import shutil
from dataclasses import fields, replace
from pathlib import Path

import pytest
from datasets import by_id, reasons, refuse, taken, touch
from fma_trees import FMA_TABLE, LARGE, MEDIUM, SMALL, fma_tree, write_tracks_csv

from musicspectrogan.data import composer, sources
from musicspectrogan.data.credits import Credit
from musicspectrogan.data.preprocessing import preprocess
from musicspectrogan.data.settings import PreprocessConfig
from musicspectrogan.data.sources import (
    Selection,
    Track,
    demo,
    fma,
    gtzan,
    with_unique_ids,
)
from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import safe_name

SOURCES = sources.names()
ALL = Selection()

every_source = pytest.mark.parametrize("name", SOURCES)


def is_safe(name: str) -> bool:
    """One folder or file name on every system, with room for the rest of an image's file name."""
    return (
        bool(name)
        and not re.search(r'[/\\:*?"<>|\x00-\x1f]', name)
        and name == name.strip(" .")
        and len(name.encode("utf-8")) <= 200
    )


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
        with pytest.raises(UserError, match=r"no fma_large in it, but .*; choose one with"):
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
        with pytest.raises(UserError, match=r"put fma_metadata\.zip there"):
            fma.find_tracks(root, ALL)
        with pytest.raises(UserError, match="no folders 000, 001, … of MP3 files"):
            fma.find_tracks(tmp_path / "elsewhere", ALL)


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


@pytest.mark.parametrize("name", ["gtzan", "fma"])
def test_a_locked_folder_beside_a_dataset_is_no_hindrance(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = SAMPLES[name](tmp_path / "input")
    above = root.parent if name == "gtzan" else root
    expected = taken(sources.get(name).find_tracks(above, ALL))
    (above / "locked").mkdir()
    refuse(monkeypatch, "locked", errno.EACCES)
    assert taken(sources.get(name).find_tracks(above, ALL)) == expected


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
