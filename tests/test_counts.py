"""Counts as people write and say them."""

from __future__ import annotations

import pytest

from musicspectrogan.counts import format_count, format_duration, parse_count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("25000", 25_000), ("25_000", 25_000), ("100k", 100_000), ("100K", 100_000),
        ("1m", 1_000_000),
        ("1.5m", 1_500_000), ("0.5k", 500), ("1e5", 100_000), ("100000.0", 100_000), ("0", 0),
        ("-5", -5),
    ],
)  # fmt: skip
def test_a_count_is_read(text, count):
    assert parse_count(text) == count


@pytest.mark.parametrize(
    "text", ["", "lots", "1.5", "1.2345k", "k", "5 k", "1,000", "9e30", "nan", "inf", "²", "1b"]
)
def test_anything_else_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="not a whole number such as 25000, 100k"):
        parse_count(text)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 epochs"), (1, "1 epoch"), (2, "2 epochs"), (12_800, "12,800 epochs"),
        (1.5, "1.5 epochs"),
        (1.04, "1 epoch"), (3.0, "3 epochs"),
    ],
)  # fmt: skip
def test_a_count_agrees_with_its_noun(number, text):
    assert format_count(number, "epoch") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"),
        (40, "40 s"),
        (840, "14 min"),
        (9000, "2.5 h"),
        (86_000, "24 h"),
        (260_000, "3 days"),
    ],
)
def test_a_time_is_rounded(seconds, text):
    assert format_duration(seconds) == text
