"""Flags of generate: genres by name, seeds, and combinations that are refused."""

from __future__ import annotations

import logging
import re

import pytest

from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import distinct_names
from musicspectrogan.flags import parse_flags
from musicspectrogan.generation.selection import Row, find_genre, select_rows
from musicspectrogan.generation.settings import MAX_SOUNDS, GenerateConfig

GENRES = ["blues", "Hip-Hop", "AC-DC", "Música"]


@pytest.mark.parametrize(
    ("wanted", "genre"),
    [
        ("blues", "blues"),
        ("Blues", "blues"),
        ("BLU-ES", "blues"),
        ("0", "blues"),
        ("hip hop", "Hip-Hop"),
        ("HIPHOP", "Hip-Hop"),
        ("AC:DC", "AC-DC"),
        ("ac/dc", "AC-DC"),
        ("Mu\u0301sica", "Música"),
        ("3", "Música"),
    ],
)
def test_a_name_is_found_forgivingly_and_by_index(wanted, genre):
    assert find_genre(wanted, GENRES) == genre


@pytest.mark.parametrize(
    ("wanted", "genre"),
    [("C", "C"), ("C#", "C#"), ("c", "C"), ("c#", "C#"), ("Rock", "Rock"), ("rock", "rock")],
)
def test_an_exact_name_wins_over_one_that_is_alike(wanted, genre):
    for names in (["C", "C#", "rock", "Rock"], ["Rock", "rock", "C#", "C"]):
        assert find_genre(wanted, names) == genre


@pytest.mark.parametrize(
    ("wanted", "names", "told"),
    [
        ("ROCK", ["rock", "Rock"], "'rock' or 'Rock'; write the exact name of one"),
        ("hiphop", ["hip-hop", "hip hop"], "'hip-hop' or 'hip hop'"),
        ("C", ["C#", "D"], "'C' is not one of C#, D"),
        ("#", ["C#", "D#"], "'#' is not one of"),
        ("", ["-", "D"], "'' is not one of"),
        ("jaz", ["blues", "jazz"], r"'jaz' is not one of .*did you mean 'jazz'"),
        ("99", ["blues", "jazz"], "'99' is not one of"),
        ("9" * 5000, ["blues", "jazz"], "is not one of"),
    ],
)
def test_what_is_no_name_or_could_be_two_is_refused(wanted, names, told):
    with pytest.raises(UserError, match=f"--genre: .*{told}"):
        find_genre(wanted, names)


def test_names_of_digits_win_over_indices(caplog):
    caplog.set_level(logging.INFO, "musicspectrogan")
    assert find_genre("1", ["2", "1", "0"]) == "1"
    assert find_genre("90", ["80", "90"]) == "90"
    assert not caplog.records
    assert find_genre("1", ["80", "90"]) == "90"
    assert "no genre has this name; using it as index of '90'" in caplog.text


def names(genre: str | None, genres: list[str], morph: str | None = None) -> list[str]:
    return [row.name for row in select_rows(genre, morph, genres, conditional=True)]


def test_a_folder_that_was_renamed_as_a_class_is_found_by_its_own_name():
    names = distinct_names(["C", "c", "AC-DC", "AC:DC"])
    for folder, name in names.items():
        assert find_genre(folder, list(names.values())) == name
    assert names["c"] != "c" and names["AC:DC"] != "AC-DC"


def test_several_genres_are_a_row_each():
    assert names(None, GENRES) == names("all", GENRES) == GENRES
    assert names("blues,hiphop", GENRES) == ["blues", "Hip-Hop"]
    assert names("1, 0,blues", GENRES) == ["Hip-Hop", "blues"]
    assert names("all", ["all", "blues"]) == ["all"]


def test_weights_make_one_row_of_a_mixture():
    (row,) = select_rows("blues=3,hip hop=1", None, GENRES, conditional=True)
    mixture = {"blues": 0.75, "Hip-Hop": 0.25}
    assert row == Row("blues=0.75,Hip-Hop=0.25", mixture, mixture, None)
    assert select_rows("blues=0.2", None, GENRES, conditional=True) == select_rows(
        "0", None, GENRES, conditional=True
    )


@pytest.mark.parametrize(
    ("genre", "told"),
    [
        ("blues=1,hiphop", "give a weight to every genre, or to none"),
        ("blues=1,0=2", "name each genre once"),
        ("blues=-1,hiphop=2", "'-1' is not a weight"),
        ("blues=nan,hiphop=2", "'nan' is not a weight"),
        ("blues=inf,hiphop=2", "'inf' is not a weight"),
        ("blues=x", "'x' is not a weight"),
        ("blues,", "'' is not one of"),
        ("blues,jaz", "'jaz' is not one of"),
    ],
)
def test_lists_that_say_nothing_clear_are_refused(genre, told):
    with pytest.raises(UserError, match=f"--genre.*{told}"):
        names(genre, GENRES)


def test_names_with_commas_signs_and_colons_can_be_named():
    genres = ["Folk, World", "a=1", "AC:DC", "Folk", "World", "AC"]
    assert names("Folk, World", genres) == ["Folk, World"]
    assert names("AC:DC,Folk, World,a=1", genres) == ["AC:DC", "Folk, World", "a=1"]
    assert names("World,Folk", genres) == ["World", "Folk"]
    assert names("a=1=0.5,Folk, World=0.5", genres) == ["a=1=0.5,Folk, World=0.5"]
    assert names(None, genres, "AC:DC:Folk, World") == ["AC:DC-to-Folk, World"]
    assert names(None, genres, "a=1:AC:DC") == ["a=1-to-AC:DC"]
    with pytest.raises(UserError, match=r"--morph a:b:a: can mean 'a and b:a' or 'a:b and a'"):
        names(None, ["a", "b:a", "a:b"], "a:b:a")
    assert names(None, ["a", "b:a", "a:b"], "2:0") == ["a:b-to-a"]


@pytest.mark.parametrize(
    ("morph", "told"),
    [
        ("blues", "write two genres"),
        ("blues:jaz", "'jaz' is not one of"),
        ("a:b:c", "are not two of"),
    ],
)
def test_a_wrong_morph_blames_its_own_flag(morph, told):
    with pytest.raises(UserError, match=f"--morph.*{told}") as error:
        names(None, GENRES, morph)
    assert "--genre" not in str(error.value)


def test_a_model_without_genres_has_one_row():
    assert select_rows(None, None, GENRES, conditional=False) == [Row("sample", {}, {})]
    for genre, morph, flag in (("blues", None, "--genre"), (None, "blues:AC-DC", "--morph")):
        with pytest.raises(UserError, match=f"^{flag}: the model of this checkpoint has no genres"):
            select_rows(genre, morph, GENRES, conditional=False)


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        (None, [0, 1, 2]),
        ("0-7", list(range(8))),
        ("3,5,9", [3, 5, 9]),
        ("2-3, 3, 8", [2, 3, 8]),
        ("5", [5]),
    ],
)
def test_seeds_are_read(text, seeds):
    count = None if text else 3
    assert list(GenerateConfig(count=count, seeds=text).seed_list()) == seeds


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "7-3", "1;2", "0-9999999999"])
def test_wrong_seeds_are_refused(text):
    with pytest.raises(UserError, match="seeds"):
        GenerateConfig(seeds=text)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--genre jazz --morph jazz:rock --seconds 4", "--genre with --morph"),
        ("--seeds 1 --count 2", "--seeds with --count"),
        ("--seeds 1 --vary 2", "--seeds with --vary"),
        ("--seeds 1 --between 2:3", "--seeds with --between"),
        ("--vary 1 --between 2:3", "--vary with --between"),
        ("--amount 0.5", "--amount .* give --vary SEED too"),
        ("--vary 1 --amount 0", "--amount: 0"),
        ("--vary 1 --amount 1.5", "--amount: 1.5"),
        ("--vary -1", "vary: -1"),
        (f"--vary {10**18}", "--vary: a seed has at most 18 digits"),
        ("--between 3", "--between: '3' .* write two seeds, as in 3:7"),
        ("--between 3:3", "--between: '3:3'"),
        ("--between 3:7 --count 1", "--between with --count 1"),
        ("--loop", "give --seconds too"),
        ("--morph jazz:rock", "give --seconds too"),
        ("--seconds 0.01", "seconds: 0.01"),
        ("--seconds nan", "seconds: nan"),
        ("--sample-rate 8000", "--sample-rate: 8000 is not one of 22050, 44100, 48000"),
        ("--bit-depth 8", "--bit-depth: 8 is not one of 16, 24"),
        ("--bit-depth 16 --format mp3", "--bit-depth with --format mp3"),
        ("--bit-depth 24 --format ogg", "--bit-depth with --format ogg"),
        (
            "--count 2000000000",
            f"--count: 2000000000 is not allowed; it must be at most {MAX_SOUNDS}",
        ),
        ("--seeds 0-2000000000", f"seeds: .* more than {MAX_SOUNDS}"),
        ("--vary 3 --count 20000", "--count: 20000"),
        (f"--seeds 0-{10**17}", "has none, or more than"),
        (f"--seeds {'9' * 5000}", "write 0-7 or 3,5,9"),
        ("--format m4a", "format: 'm4a'"),
        ("--seconds 0", "seconds: 0"),
        ("--bars 4", "--bars without --bpm: the length needs both; give --bpm too"),
        ("--bpm 120", "give --bars too"),
        ("--bpm 9 --bars 4", "--bpm: 9 is not allowed; give 20 to 400"),
        ("--bpm nan --bars 4", "--bpm: nan is not allowed"),
        ("--bpm 120 --bars 0", "at 120 BPM give 1 to 1800"),
        ("--bpm 120 --bars 1801", "--bars: 1801 is not allowed"),
        (
            "--seconds 4 --bpm 120 --bars 4",
            "--bpm with --seconds: --bpm and --bars set the length of a piece; give either",
        ),
        ("--seconds 4 --bars 4", "--bars with --seconds: "),
        ("--loop --seconds 4 --format mp3", "give --format wav, flac or"),
    ],
)
def test_flags_that_would_be_ignored_or_are_out_of_range_are_refused(flags, told):
    with pytest.raises(UserError) as error:
        parse_flags(GenerateConfig, flags.split())
    assert re.search(told, error.value.flag_message)
