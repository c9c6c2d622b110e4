"""Names that are one file's on every system, whatever they are made from."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicspectrogan.errors import printable
from musicspectrogan.filesystem import LONGEST_NAME_BYTES, distinct_name, safe_name

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=300)  # surrogates too, as in names of files
LIKE_PATHS = st.text("./\\:~ -con\0\n\x1bé日\udcff", max_size=30)


def outside(name: str) -> bool:
    """Whether a name means anything but one visible entry of a folder."""
    one_entry = PurePosixPath(name).name == PureWindowsPath(name).name == name
    return not one_entry or name[0] in ". " or name[-1] in ". "


@given(ANY_TEXT | LIKE_PATHS)
@settings(derandomize=True, max_examples=300, deadline=None)
def test_safe_names_are_one_visible_entry_everywhere_and_stay_the_same(text):
    name = safe_name(text)
    assert not outside(name)
    assert printable(name) == name and name.encode("utf-8")
    assert len(name.encode("utf-8")) <= LONGEST_NAME_BYTES
    assert not PureWindowsPath(name).is_reserved()
    assert safe_name(name) == name
    assert not outside(distinct_name(text))


@given(st.lists(LIKE_PATHS, min_size=2, max_size=8, unique=True))
@settings(derandomize=True, max_examples=100, deadline=None)
def test_distinct_names_are_distinct(texts):
    assert len({distinct_name(text) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("con", "_con"), ("NUL", "_NUL"), ("Aux.tar.gz", "_Aux.tar.gz"), ("com1", "_com1"),
        ("LPT9.x", "_LPT9.x"), ("con ", "_con"), ("nul...", "_nul"), ("/con", "_con"), ("console", "console"),
        ("com10", "com10"),
        ("../../etc", "etc"), ("C:\\Windows", "C-Windows"), ("a\0b", "a-b"), ("rock\u202egnp", "rock-gnp"),
        ("\x1b[31mred", "[31mred"),
    ],
)  # fmt: skip
def test_devices_of_windows_and_ways_out_are_no_names(text, name):
    assert safe_name(text) == name


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain «ü» 日本 \U0001f3b5", "plain «ü» 日本 \U0001f3b5"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[2J\x07\x9b", "\\x1b[2J\\x07\\x9b"),
        ("caf\udce9", "caf\\udce9"),
        ("a\u202eb\u2028c", "a\\u202eb\\u2028c"),
    ],
)
def test_what_is_shown_is_one_line_of_printable_letters(text, shown):
    assert printable(text) == shown
