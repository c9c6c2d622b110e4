"""dataset.json, preprocess_report.csv, and the splits."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.data.manifest import (
    CONVERTED,
    SKIPPED,
    Manifest,
    Outcome,
    Report,
    is_foreign,
)
from musicspectrogan.data.splits import assign_splits
from musicspectrogan.errors import UserError


def outcome(track: str, *, genre: str = "rock", split: str = "", **changes: object) -> Outcome:
    usual = Outcome(
        track=track,
        genre=genre,
        split=split,
        status=CONVERTED,
        reason="",
        segments=10,
        seconds=30.013,
        reference_db=31.4159,
        path=f"music/{genre}/{track}.wav",
    )
    return replace(usual, **changes)


def tracks(count: int, genre: str = "rock") -> list[Outcome]:
    return [outcome(f"{genre}.{index:05d}", genre=genre) for index in range(count)]


def manifest() -> Manifest:
    return Manifest(
        source="gtzan",
        spectrogram=SpectrogramConfig.for_image_size(128, top_db=60.0),
        selection={"input": "/music/gtzan", "limit": 5, "exclude_faults": True},
        genres=["blues", "rock"],
        tracks=[
            {
                "id": "blues.00000",
                "genre": "blues",
                "split": "training",
                "segments": 10,
                "reference_db": 31.4,
                "seconds": 30.0,
            },
            {
                "id": "rock «ü».1",
                "genre": "rock",
                "split": "test",
                "segments": 9,
                "reference_db": -2.5,
                "seconds": 27.25,
            },
        ],
    )


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, (1, 0, 0)),
        (2, (2, 0, 0)),
        (3, (1, 1, 1)),
        (5, (3, 1, 1)),
        (10, (8, 1, 1)),
        (40, (32, 4, 4)),
        (100, (80, 10, 10)),
    ],
)
def test_tracks_are_split_80_10_10_with_one_in_each_from_three_on(
    count: int, expected: tuple[int, int, int]
) -> None:
    splits = assign_splits(tracks(count))
    assert len(splits) == count
    counted = Counter(splits.values())
    assert (counted["training"], counted["validation"], counted["test"]) == expected


def test_each_genre_is_split_by_itself() -> None:
    splits = assign_splits(tracks(10, "jazz") + tracks(2, "rock") + tracks(3, "pop"))
    counted = Counter((track.split(".")[0], split) for track, split in splits.items())
    assert counted == {
        ("jazz", "training"): 8,
        ("jazz", "validation"): 1,
        ("jazz", "test"): 1,
        ("rock", "training"): 2,
        ("pop", "training"): 1,
        ("pop", "validation"): 1,
        ("pop", "test"): 1,
    }


def test_splits_do_not_depend_on_the_order_of_the_files() -> None:
    forwards = tracks(20)
    assert assign_splits(forwards) == assign_splits(forwards[::-1])


def test_splits_are_spread_over_the_numbers_and_stay_the_same_for_ever() -> None:
    splits = assign_splits(tracks(10))
    assert [track for track, split in splits.items() if split == "validation"] == ["rock.00004"]
    assert [track for track, split in splits.items() if split == "test"] == ["rock.00001"]


def albums(*sizes: int, genre: str = "rock") -> tuple[list[Outcome], dict[str, str]]:
    """Tracks of albums of so many tracks each, and the album of each track."""
    names = {
        f"{genre} {k}-{n}": f"{genre}/album {k}"
        for k, size in enumerate(sizes)
        for n in range(size)
    }
    return [outcome(name, genre=genre) for name in names], names


def sizes_of(splits: dict[str, str]) -> tuple[int, ...]:
    counted = Counter(splits.values())
    return tuple(counted[split] for split in ("training", "validation", "test"))


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([10] * 10, (80, 10, 10)),
        ([10] * 20, (160, 20, 20)),
        ([10] * 3, (10, 10, 10)),
        ([12] * 5, (36, 12, 12)),
        ([60, 20, 10, 10], (80, 10, 10)),
        ([98, 1, 1], (98, 1, 1)),
        ([50, 50, 1], (50, 50, 1)),
        ([30, 4, 3, 3, 3, 3, 4], (38, 6, 6)),
        ([1] * 10, (8, 1, 1)),
    ],
)
def test_albums_stay_whole_and_sizes_near_80_10_10(
    sizes: list[int], expected: tuple[int, ...]
) -> None:
    outcomes, groups = albums(*sizes)
    splits = assign_splits(outcomes, groups)
    assert len({(groups[track], split) for track, split in splits.items()}) == len(sizes)
    assert sizes_of(splits) == expected


@given(st.lists(st.integers(1, 40), min_size=3, max_size=40), st.integers(0, 10), st.randoms())
@settings(derandomize=True, max_examples=100, deadline=None)
def test_no_album_is_ever_in_two_splits(sizes, loose, random):
    outcomes, groups = albums(*sizes)
    outcomes += tracks(loose)
    splits = assign_splits(outcomes, groups)
    whole = {(groups[track], split) for track, split in splits.items() if track in groups}
    assert len(whole) == len(sizes)
    target = max(1, round(0.1 * len(outcomes)))
    assert sizes_of(splits)[0] > 0
    assert all(0 < size <= target + max(sizes) for size in sizes_of(splits)[1:])
    random.shuffle(outcomes)
    assert assign_splits(outcomes, groups) == splits


def test_albums_and_tracks_without_one_are_split_together() -> None:
    outcomes, groups = albums(10, 10, 10)
    outcomes += tracks(70)
    splits = assign_splits(outcomes, groups)
    assert sizes_of(splits) == (80, 10, 10)
    assert len({(groups[track], splits[track]) for track in groups}) == 3


def test_the_same_album_is_held_out_whatever_else_its_genre_has(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And on every machine: the hash of its name decides."""
    outcomes, groups = albums(*[10] * 10)
    splits = assign_splits(outcomes, groups)
    assert {groups[track] for track, split in splits.items() if split == "test"} == {"rock/album 2"}
    assert {groups[track] for track, split in splits.items() if split == "validation"} == {
        "rock/album 7"
    }
    jazz, jazz_albums = albums(*[3] * 5, genre="jazz")
    together = assign_splits(outcomes + jazz, groups | jazz_albums)
    assert together.items() > splits.items()
    assert not caplog.messages


@pytest.mark.parametrize("sizes", [[12], [12, 8]])
def test_too_few_albums_to_hold_out_are_split_by_track_which_is_said(sizes, caplog) -> None:
    outcomes, groups = albums(*sizes)
    assert assign_splits(outcomes, groups) == assign_splits(outcomes)
    assert caplog.messages == [
        f"rock: its {sum(sizes)} tracks are in too few folders to hold out whole folders; "
        "splitting track by track, so an album may be in both training and test"
    ]


def test_albums_that_are_all_for_training_are_not_worth_a_line(caplog) -> None:
    for sizes in ([1], [2], [1, 1]):
        assert set(assign_splits(*albums(*sizes)).values()) == {"training"}
    assert not caplog.messages


def test_the_splits_of_the_source_are_kept() -> None:
    own = [
        outcome(f"{n:06d}", split=split)
        for n, split in enumerate(["test", "test", "validation", "test"])
    ]
    splits = assign_splits(own)
    assert splits == {"000000": "test", "000001": "test", "000002": "validation", "000003": "test"}


@pytest.mark.parametrize(
    ("own", "drawn"),
    [
        ({"test"}, {"training": 8, "validation": 1}),
        ({"validation"}, {"training": 8, "test": 1}),
        ({"test", "validation"}, {"training": 9}),
    ],
)
def test_no_track_is_drawn_for_a_split_that_the_dataset_has(
    own: set[str], drawn: dict[str, int]
) -> None:
    assert Counter(assign_splits(tracks(9), own=own).values()) == drawn
    assert Counter(assign_splits(tracks(2), own=own).values()).keys() == drawn.keys()


def test_tracks_without_a_split_are_split_beside_those_that_have_one() -> None:
    splits = assign_splits([*tracks(3), outcome("own", split="test")])
    assert splits.pop("own") == "test"
    assert sorted(splits.values()) == ["test", "training", "validation"]


def test_the_report_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    written = [
        outcome("plain"),
        outcome("quoted", reason='says "no", and more; twice', path="a folder/with, comma.wav"),
        outcome("ü-日本", genre="Électro", split="test"),
        outcome(
            "skipped",
            status=SKIPPED,
            reason="file is empty",
            segments=0,
            seconds=0.0,
            reference_db=0.0,
        ),
    ]
    report = Report(tmp_path)
    for line in written:
        report.append(line)
    assert Report(tmp_path).outcomes == {line.track: line for line in written}
    with open(tmp_path / "preprocess_report.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == [field.name for field in fields(Outcome)]
    assert [row[0] for row in rows[1:]] == ["plain", "quoted", "ü-日本", "skipped"]


def test_a_report_without_size_and_time_is_read_and_continued(tmp_path: Path) -> None:
    path = tmp_path / "preprocess_report.csv"
    path.write_text(
        "track,genre,split,status,reason,segments,seconds,reference_db,path\n"
        'a,rock,,converted,"one, two",10,30.013,31.4159,music/rock/a.wav\n'
    )
    report = Report(tmp_path)
    assert report.outcomes == {"a": outcome("a", reason="one, two")}
    assert (report.outcomes["a"].bytes, report.outcomes["a"].modified_ns) == (None, None)
    report.append(outcome("b", bytes=123, modified_ns=1_700_000_000_123_456_789))
    assert Report(tmp_path).outcomes == report.outcomes
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["track"], row["bytes"], row["modified_ns"]) for row in rows] == [
        ("a", "", ""),
        ("b", "123", "1700000000123456789"),
    ]


def test_a_line_that_was_cut_off_is_dropped_and_the_next_one_is_whole(tmp_path: Path) -> None:
    report = Report(tmp_path)
    for line in tracks(3):
        report.append(line)
    path = tmp_path / "preprocess_report.csv"
    path.write_bytes(path.read_bytes()[:-7])

    continued = Report(tmp_path)
    assert list(continued.outcomes) == ["rock.00000", "rock.00001"]
    continued.append(outcome("rock.00002", segments=4))
    again = Report(tmp_path).outcomes
    assert list(again) == ["rock.00000", "rock.00001", "rock.00002"]
    assert again["rock.00002"].segments == 4


@pytest.mark.parametrize(
    "line", ["rock.00001,rock,,converted", "a,b,c,converted,,ten,30.0,1.0,p", "x," * 30]
)
def test_a_damaged_line_is_passed_over(tmp_path: Path, line: str) -> None:
    Report(tmp_path).append(outcome("rock.00000"))
    path = tmp_path / "preprocess_report.csv"
    path.write_text(path.read_text() + line + "\n")
    Report(tmp_path).append(outcome("rock.00002"))
    assert list(Report(tmp_path).outcomes) == ["rock.00000", "rock.00002"]


def test_a_later_line_replaces_an_earlier_one(tmp_path: Path) -> None:
    report = Report(tmp_path)
    report.append(outcome("a", status=SKIPPED, reason="file is empty", segments=0))
    report.append(outcome("b"))
    report.append(outcome("a"))
    read = Report(tmp_path).outcomes
    assert (read["a"].status, read["a"].segments) == (CONVERTED, 10)
    assert len(read) == 2


def test_tracks_that_are_done_again_are_forgotten_for_good(tmp_path: Path) -> None:
    report = Report(tmp_path)
    report.append(outcome("a"), outcome("b"), outcome("c"))
    report.forget(["a", "never seen"])
    report.append(outcome("d"))
    assert list(Report(tmp_path).outcomes) == list(report.outcomes) == ["b", "c", "d"]
    before = report.path.stat()
    report.forget(["a"])
    assert report.path.stat() == before


def test_a_line_that_says_nothing_new_is_not_repeated(tmp_path: Path) -> None:
    Report(tmp_path).append(outcome("a", reason="file is empty"))
    before = (tmp_path / "preprocess_report.csv").read_bytes()
    Report(tmp_path).append(outcome("a", reason="file is empty"))
    assert (tmp_path / "preprocess_report.csv").read_bytes() == before


@pytest.mark.parametrize("contents", ["", "something,else\n1,2\n"])
def test_another_file_in_the_place_of_the_report_is_refused(tmp_path: Path, contents: str) -> None:
    (tmp_path / "preprocess_report.csv").write_text(contents)
    with pytest.raises(UserError, match="is not a report of this tool; move it away"):
        Report(tmp_path)


def test_dataset_json_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    manifest().write(tmp_path)
    assert Manifest.read(tmp_path) == manifest()
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.json"]


def test_dataset_json_has_the_documented_form(tmp_path: Path) -> None:
    manifest().write(tmp_path)
    contents = json.loads((tmp_path / "dataset.json").read_text(encoding="utf-8"))
    assert list(contents) == [
        "format_version",
        "source",
        "spectrogram",
        "selection",
        "genres",
        "tracks",
    ]
    assert contents["format_version"] == 1
    assert contents["spectrogram"] == {
        "sample_rate": 22050,
        "n_fft": 2048,
        "hop_length": 512,
        "n_mels": 128,
        "n_frames": 128,
        "f_min": 0.0,
        "f_max": 8000.0,
        "top_db": 60.0,
    }
    assert contents["tracks"] == manifest().tracks


def test_dataset_json_without_tracks_is_read_back_too(tmp_path: Path) -> None:
    unfinished = Manifest("folder", SpectrogramConfig())
    unfinished.write(tmp_path)
    assert Manifest.read(tmp_path) == unfinished


def test_the_split_of_a_track_is_found_by_genre_and_id() -> None:
    assert manifest().split_of_track() == {
        ("blues", "blues.00000"): "training",
        ("rock", "rock «ü».1"): "test",
    }


def test_there_is_no_manifest_where_there_is_no_dataset_json(tmp_path: Path) -> None:
    assert Manifest.read(tmp_path) is None


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"format_version": 2, "spectrogram": {"bands": 80}}')
    with pytest.raises(UserError, match="has format 2; this version reads format 1"):
        Manifest.read(tmp_path)


def damaged(**changes: object) -> str:
    track = {
        "id": "a",
        "genre": "rock",
        "split": "test",
        "segments": 1,
        "reference_db": 1.0,
        "seconds": 3.0,
    }
    whole = {
        "format_version": 1,
        "source": "folder",
        "spectrogram": {"sample_rate": 22050},
        "genres": ["rock"],
        "tracks": [track],
    }
    return json.dumps({**whole, **changes})


@pytest.mark.parametrize(
    "contents",
    [
        damaged()[:-30],
        damaged()[:45],
        damaged(spectrogram={"sample_rate": 22050, "bands": 3}),
        damaged(spectrogram=None),
        damaged(tracks=[{"id": "a", "genre": "rock", "segments": 1}]),
        damaged(tracks=[{"id": "a", "genre": "rock", "segments": 1, "split": "train"}]),
        damaged(tracks=[{"id": "a", "genre": "rock", "segments": "many", "split": "test"}]),
        damaged(tracks=7),
    ],
)
def test_a_damaged_dataset_json_is_refused(tmp_path: Path, contents: str) -> None:
    (tmp_path / "dataset.json").write_text(contents)
    with pytest.raises(UserError, match=r"is damaged .*; run preprocess with --overwrite"):
        Manifest.read(tmp_path)


TRACK = {"id": "é" * 50, "genre": "rock", "split": "test", "seconds": 3.0, "reference_db": 1.0}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"tracks": [{**TRACK, "segments": -1}]},
            rf"ValueError: impossible values of the track '{'é' * 40}'\)",
        ),
        (
            {"tracks": [{**TRACK, "segments": 1, "split": "train"}]},
            r"ValueError: 'train' is not a split\)",
        ),
        ({"format_version": "1"}, r"TypeError: format_version\)"),
    ],
)
def test_what_is_damaged_in_a_dataset_json_is_named(tmp_path, changes, problem) -> None:
    (tmp_path / "dataset.json").write_text(damaged(**changes))
    with pytest.raises(UserError, match=rf"is damaged \({problem}; run preprocess with"):
        Manifest.read(tmp_path)


def test_a_track_without_segments_is_read(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(damaged(tracks=[{**TRACK, "segments": 0}]))
    assert Manifest.read(tmp_path).tracks == [{**TRACK, "segments": 0}]


def test_a_folder_without_dataset_json_is_not_foreign(tmp_path: Path) -> None:
    assert not is_foreign(tmp_path)


def test_a_report_of_a_spreadsheet_is_read_and_its_header_restored(tmp_path: Path) -> None:
    """With the line ends of Windows, a byte that is no UTF-8, and a NUL."""
    report = Report(tmp_path)
    report.append(outcome("a", reason="x"))
    contents = report.path.read_bytes()
    assert b"\r" not in contents and contents.startswith(b"track,genre,")
    report.path.write_bytes(contents.replace(b"\n", b"\r\n").replace(b",x,", b",\xffx\0,"))
    assert Report.is_in(tmp_path)
    read = Report(tmp_path)
    assert read.outcomes == {"a": outcome("a", reason="\ufffdx")}


def test_unfinished_files_of_the_report_are_removed_but_no_others(tmp_path: Path) -> None:
    ours, other = tmp_path / ".preprocess_report.csv.tmp", tmp_path / ".other.csv.tmp"
    for path in (ours, other):
        path.touch()
    Report(tmp_path)
    assert not ours.exists() and other.exists()


@pytest.mark.parametrize(
    "contents",
    [
        "",
        "not json",
        "[]",
        "{}",
        "7",
        "[" * 100_000,
        '{"labels": [["a.png", 0]]}',
        '{"format_version": 1}',
    ],
)
def test_the_dataset_json_of_another_tool_is_none_of_ours(tmp_path: Path, contents: str) -> None:
    (tmp_path / "dataset.json").write_text(contents)
    assert is_foreign(tmp_path)
    assert Manifest.read(tmp_path) is None
    assert (tmp_path / "dataset.json").read_text() == contents


@pytest.mark.parametrize("left", [b"", bytes(900), b'{\n "format', b"\xff\xfe"])
def test_what_is_left_of_a_dataset_json_is_ours_beside_our_report(
    tmp_path: Path, left: bytes
) -> None:
    Report(tmp_path)
    (tmp_path / "dataset.json").write_bytes(left)
    with pytest.raises(UserError, match=r"is damaged .*; run preprocess with --overwrite"):
        Manifest.read(tmp_path)
    (tmp_path / "dataset.json").write_text('{"labels": null}')  # whole, and so it is another tool's
    assert Manifest.read(tmp_path) is None


def test_the_example_of_damage_is_itself_sound(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(damaged())
    assert Manifest.read(tmp_path) is not None


@pytest.mark.parametrize(
    "line",
    [
        'rock.00001,rock,,converted,"a quote that never ends,2,7.0,1.0,p',
        "rock.00001,rock,,converted," + "x" * 200_000 + ",2,7.0,1.0,p",
        "rock.00001,rock,,converted,,-2,7.0,1.0,p",
        "rock.00001,rock,,converted,,2,nan,1.0,p",
        "rock.00001,rock,,converted,,2,7.0,inf,p",
        "rock.00001,rock,train,converted,,2,7.0,1.0,p",
        "rock.00001,rock,,done,,2,7.0,1.0,p",
        '"rock.00001\rrock',
    ],
)
def test_a_damaged_line_costs_no_other_one(tmp_path: Path, line: str) -> None:
    Report(tmp_path).append(outcome("rock.00000"))
    path = tmp_path / "preprocess_report.csv"
    with open(path, "a", newline="") as file:
        file.write(line + "\n")
    Report(tmp_path).append(outcome("rock.00002", reason='with a "quote", and more'))
    assert list(Report(tmp_path).outcomes) == ["rock.00000", "rock.00002"]


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=20)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
OUTCOMES = st.builds(
    Outcome, TEXTS, TEXTS, st.sampled_from(["", "training", "test"]),
    st.sampled_from([CONVERTED, SKIPPED]), TEXTS, st.integers(0, 10**6), FINITE, FINITE, TEXTS,
)  # fmt: skip


@given(st.lists(OUTCOMES, max_size=5))
@settings(derandomize=True, max_examples=60, deadline=None)
def test_any_report_is_read_back_as_it_was_written(tmp_path_factory, outcomes):
    folder = tmp_path_factory.mktemp("report")
    report = Report(folder)
    for line in outcomes:
        report.append(line)
    assert Report(folder).outcomes == {line.track: line for line in outcomes}


A_TRACK = {
    "id": "a",
    "genre": "a",
    "split": "test",
    "segments": 1,
    "reference_db": 0.0,
    "seconds": 3.0,
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(
    st.dictionaries(
        st.sampled_from(["source", "spectrogram", "selection", "genres", "tracks"]),
        JSON,
        min_size=1,
    )
)
@settings(derandomize=True, max_examples=150, deadline=None)
def test_any_dataset_json_is_read_or_refused(tmp_path_factory, changes):
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "dataset.json").write_text(damaged(**changes))
    try:
        read = Manifest.read(folder)
    except UserError as error:
        assert "is damaged" in str(error)
    else:
        read.write(folder)
        assert str(Manifest.read(folder)) == str(read)  # as text, for NaN is not itself


@pytest.mark.parametrize(
    "changes",
    [
        {"source": 5}, {"genres": "rock"}, {"genres": [1]}, {"selection": []}, {"tracks": [[]]},
        {"spectrogram": {"n_mels": 10**9}}, {"spectrogram": {"sample_rate": "22050"}},
        {"spectrogram": {"f_max": float("nan")}}, {"format_version": "1"}, {"format_version": [[]]},
        {"tracks": [{**A_TRACK, "id": 1}]}, {"tracks": [{**A_TRACK, "segments": -1}]},
        {"tracks": [{**A_TRACK, "seconds": float("nan")}]}, {"tracks": [{**A_TRACK, "more": 1}]},
        {"tracks": [{name: A_TRACK[name] for name in ("id", "genre", "split", "segments")}]},
    ],
)  # fmt: skip
def test_values_of_another_type_are_refused(tmp_path: Path, changes: dict) -> None:
    (tmp_path / "dataset.json").write_text(damaged(**changes))
    with pytest.raises(UserError, match="is damaged"):
        Manifest.read(tmp_path)
