"""Credits in attribution.csv and in tags, and the short names of licenses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from musicspectrogan.data.credits import (
    LICENSES,
    Credit,
    normalize_license,
    parse_licenses,
    read_credit,
    read_credits,
    write_credits,
)
from musicspectrogan.errors import UserError

FOOD = Credit("AWOL", 'The "Food", live', "AWOL", "Attribution", "http://fma.example/2")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_credits(tmp_path, {"000002": FOOD, "b": Credit(title="two\nlines\x1b")})
    assert read_credits(tmp_path) == {"000002": FOOD, "b": Credit(title="two lines\\x1b")}
    assert (tmp_path / "attribution.csv").read_text(encoding="utf-8").splitlines() == [
        "track,artist,title,album,license,url",
        '000002,AWOL,"The ""Food"", live",AWOL,Attribution,http://fma.example/2',
        "b,,two lines\\x1b,,,",
    ]


def test_lines_from_a_spreadsheet_are_understood(tmp_path: Path) -> None:
    write_credits(tmp_path, {"000002": FOOD})
    text = (tmp_path / "attribution.csv").read_text(encoding="utf-8") + "by hand,me,,,,,,\n\n"
    (tmp_path / "attribution.csv").write_text(text, encoding="utf-8-sig", newline="\r\n")
    assert read_credits(tmp_path) == {"000002": FOOD, "by hand": Credit(artist="me")}


def test_those_of_an_earlier_version_move_to_the_new_name(tmp_path: Path) -> None:
    write_credits(tmp_path, {"000002": FOOD})
    (tmp_path / "attribution.csv").rename(tmp_path / "credits.csv")
    assert read_credits(tmp_path) == {"000002": FOOD}
    write_credits(tmp_path, {"000002": FOOD, "b": Credit()})
    assert [path.name for path in tmp_path.iterdir()] == ["attribution.csv"]
    assert read_credits(tmp_path) == {"000002": FOOD, "b": Credit()}


def test_a_credits_csv_of_others_stays(tmp_path: Path) -> None:
    (tmp_path / "credits.csv").write_text("who,what\nme,this\n")
    assert read_credits(tmp_path) == {}
    write_credits(tmp_path, {"000002": FOOD})
    assert (tmp_path / "credits.csv").read_text() == "who,what\nme,this\n"
    assert read_credits(tmp_path) == {"000002": FOOD}


def test_without_credits_there_is_no_file(tmp_path: Path) -> None:
    write_credits(tmp_path, {"000002": FOOD})
    write_credits(tmp_path, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "contents", [b"who,what\nme,this\n", b"track,artist,title,album,license,url\n\xff"]
)
@pytest.mark.parametrize("credits", [{}, {"000002": FOOD}], ids=["none", "some"])
def test_a_file_of_others_stays(
    contents: bytes, credits: dict[str, Credit], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "attribution.csv").write_bytes(contents)
    write_credits(tmp_path, credits)
    assert (tmp_path / "attribution.csv").read_bytes() == contents
    assert "move it away" in caplog.text


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_tags_of_files_are_credits(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    with soundfile.SoundFile(path, "w", 22050, 1) as file:
        file.title, file.artist, file.album = "Vibe Ace", "Kevin MacLeod", "Jazz"
        file.comment = "URL: http://fma.example/Vibe_Ace\r\nCurator: "
        file.write(np.zeros(4000))
    known = read_credit(path)
    assert (known.artist, known.title) == ("Kevin MacLeod", "Vibe Ace")
    assert known.url == "http://fma.example/Vibe_Ace"


def test_a_file_without_tags_or_that_cannot_be_read_has_none(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(4000), 22050)
    (tmp_path / "b.mp3").write_bytes(b"no music")
    for name in ("a.wav", "b.mp3", "missing.wav"):
        assert read_credit(tmp_path / name) == Credit()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Attribution", "by"),
        ("Creative Commons Attribution", "by"),
        ("Attribution 3.0 Unported License", "by"),
        ("Attribution 4.0 International (CC BY 4.0)", "by"),
        ("Attribution-ShareAlike 3.0 International", "by-sa"),
        ("Attribution-Share Alike 2.5 España", "by-sa"),
        ("Attribution-NoDerivs 2.0 France", "by-nd"),
        ("Attribution-NonCommercial 2.0 UK: England & Wales", "by-nc"),
        ("Attribution-NonCommercial-ShareAlike 3.0 International", "by-nc-sa"),
        ("Attribution-Noncommercial-Share Alike 3.0 United States", "by-nc-sa"),
        (
            "Attribution-NonCommercial-NoDerivatives (aka Music Sharing) 3.0 International",
            "by-nc-nd",
        ),
        ("Attribution-Noncommercial-No Derivative Works 3.0 United States", "by-nc-nd"),
        ("http://creativecommons.org/licenses/by-nc-sa/3.0/us/", "by-nc-sa"),
        ("CC0 1.0 Universal", "cc0"),
        ("Creative Commons Zero (CC0)", "cc0"),
        ("CC0 1.0 Universal (CC0 1.0) Public Domain Dedication", "cc0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "cc0"),
        ("Public Domain Mark 1.0", "public-domain"),
        ("Public Domain", "public-domain"),
        ("CC BY 4.0", "by"),
        ("cc_by_nc", "by-nc"),
        ("BY-SA-NC", "by-nc-sa"),
        ("", ""),
    ],
)
def test_spellings_of_one_license(text: str, name: str) -> None:
    assert normalize_license(text) == name


@pytest.mark.parametrize("name", LICENSES)
def test_short_names_are_normalized(name: str) -> None:
    assert normalize_license(name) == normalize_license(f"CC-{name.upper()}") == name


@pytest.mark.parametrize(
    "text",
    [
        "FMA-Limited: Download Only",
        "Attribution 3.0, non-commercial use only",
        "Attribution 3.0 Personal Use",
        "Attribution (no remixes)",
        "Attribution-Sampling",
        "Not Public Domain",
        "Sampling Plus 1.0",
        "All Rights Reserved",
        "Creative Commons",
        "by-sn",
    ],
)
def test_a_license_with_other_conditions_has_no_short_name(text: str) -> None:
    assert normalize_license(text) not in LICENSES
    assert normalize_license(normalize_license(text)) == normalize_license(text) != ""


def test_several_licenses_in_any_order_and_spelling() -> None:
    assert parse_licenses("CC BY, cc0,by") == parse_licenses("zero,attribution") == ("by", "cc0")
    with pytest.raises(UserError, match="--license: no license is named; choose from by, by-sa"):
        parse_licenses(" , ")
