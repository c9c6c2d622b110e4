"""Reports: floors and ratios, numbers as text, strict JSON, and tables."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from musicspectrogan.evaluation.report import (
    FARTHER,
    FORMAT_VERSION,
    GENRE_TABLE,
    METRICS,
    Figure,
    Report,
    figure_keys,
    format_estimate,
    format_finding,
    genre_table,
    read_figures,
    table,
    write_json,
)
from musicspectrogan.evaluation.resampling import Estimate

INFINITY, NAN = math.inf, math.nan
# Name, real music's estimate, floor, and ratio of a figure of 10 ± 1.
RATIOS = {
    "value": ("frechet", Estimate(2.0, 0.5), 2.0, Estimate(5.0, 0.5)),
    "half-width above the value": ("frechet", Estimate(0.5, 2.0), 0.5, Estimate(20.0, 2.0)),
    "unbiased": ("kernel", Estimate(2.0, 0.5), 2.0, Estimate(5.0, 0.5)),
    "unbiased, half-width above the value": ("kernel", Estimate(0.5, 2.0), 2.0, Estimate(5.0, 0.5)),
    "negative value": ("kernel", Estimate(-0.3, 0.2), 0.2, Estimate(50.0, 5.0)),
    "negative value, less than the half-width": (
        "kernel",
        Estimate(-0.01, 0.25),
        0.25,
        Estimate(40.0, 4.0),
    ),
    "value 0": ("band_spreads", Estimate(0.0, 0.1), 0.0, None),
    "may vanish": ("js_divergence", Estimate(0.02, 0.1), 0.1, Estimate(100.0, 10.0)),
    "unbiased, value 0": ("kernel", Estimate(0.0, 0.1), 0.1, Estimate(100.0, 10.0)),
    "no half-width": ("band_means", Estimate(4.0, 0.0), 4.0, Estimate(2.5, 0.25)),
    "nothing to divide by": ("modulation", Estimate(0.0, 0.0), 0.0, None),
    "infinite": ("frechet", Estimate(INFINITY, 1.0), INFINITY, None),
    "not taken of real music": ("frechet", None, None, None),
    "no distance": ("precision", Estimate(0.8, 0.1), None, None),
    "a rate": ("onset_rate", Estimate(4.0, 1.0), None, None),
}


@pytest.mark.parametrize(("name", "real", "floor", "ratio"), RATIOS.values(), ids=RATIOS.keys())
def test_floor_and_ratio(
    name: str, real: Estimate | None, floor: float | None, ratio: Estimate | None
) -> None:
    figure = Figure(name, "untrained", None, Estimate(10.0, 1.0), real)
    assert figure.floor == floor
    if ratio is None:
        assert figure.ratio is None
    else:
        assert (figure.ratio.value, figure.ratio.half_width) == pytest.approx(
            (ratio.value, ratio.half_width)
        )


def test_no_ratio_to_what_is_not_a_number() -> None:
    assert (
        Figure("frechet", "untrained", None, Estimate(1.0, 0.1), Estimate(NAN, 0.1)).ratio is None
    )


def test_a_negative_distance_has_a_negative_ratio() -> None:
    """An unbiased distance may be below 0; its interval then holds 0, and the ratio says so."""
    ratio = Figure("kernel", "untrained", None, Estimate(-0.01, 0.02), Estimate(0.01, 0.04)).ratio
    assert (ratio.value, ratio.half_width) == pytest.approx((-0.25, 0.5))


# Value, real music, difference; finding, smallest ratio that would have shown: its interval is
# the difference's, and 80 % power needs 2.8 / 1.96 half-widths.
FINDINGS = {
    "farther": ((3.0, 9.0), (2.0, 9.0), (1.0, 0.7), "farther", 1.5),
    "as near": ((2.1, 9.0), (2.0, 9.0), (0.1, 0.35), "as near", 1.25),
    "nearer by chance": ((1.5, 9.0), (2.0, 9.0), (-0.5, 0.35), "as near", 1.25),
    "1.5 times is in the interval": ((2.4, 9.0), (2.0, 9.0), (0.4, 0.65), "cannot tell", 1.46),
    "1.5 times would not have shown": ((1.5, 9.0), (2.0, 9.0), (-0.5, 1.4), "cannot tell", 2.0),
    # Without a difference the two are independent, with a half-width of 0.5.
    "independent": ((2.6, 0.4), (2.0, 0.3), None, "farther", 1.36),
    "independent, in the interval": ((2.4, 0.4), (2.0, 0.3), None, "as near", 1.36),
    "no ratio": ((2.4, 0.4), (0.0, 0.0), None, "", None),
}


@pytest.mark.parametrize(
    ("value", "real", "difference", "finding", "smallest"), FINDINGS.values(), ids=FINDINGS.keys()
)
def test_what_a_distance_says_of_samples(value, real, difference, finding, smallest) -> None:
    paired = difference and Estimate(*difference)
    figure = Figure("frechet", "untrained", None, Estimate(*value), Estimate(*real), paired)
    assert figure.finding == finding
    assert figure.detectable == (None if smallest is None else pytest.approx(smallest, abs=0.01))
    if difference:
        assert figure.ratio.half_width == difference[1] / real[0]
        assert figure.exceeds_real == (finding == FARTHER)


def test_the_smallest_ratio_shrinks_with_the_interval() -> None:
    """And what may vanish is measured from the value of real music, over its half-width."""
    near, real = Estimate(0.1, 1.0), Estimate(-0.1, 0.2)
    kernel = Figure("kernel", "untrained", None, near, real, Estimate(0.2, 0.14))
    assert kernel.detectable == pytest.approx((-0.1 + 0.2) / 0.2)
    two = Estimate(2.0, 1.0)
    wide, narrow = (
        Figure("frechet", "", None, two, two, Estimate(0.0, half_width)) for half_width in (1, 0.5)
    )
    assert wide.detectable - 1.0 == pytest.approx(2.0 * (narrow.detectable - 1.0))


@pytest.mark.parametrize(
    ("value", "half_width", "text"),
    [
        (0.5126, 0.0314, "0.513 ± 0.031"),
        (0.5126, 0.314, "0.51 ± 0.31"),
        (0.5126, 3.14, "0.5 ± 3.1"),
        (512.64, 31.4, "513 ± 31"),
        (51264.3, 314.1, "51264 ± 314"),
        (5.0, 0.1, "5.00 ± 0.10"),
        (5.0, 1.0, "5.0 ± 1.0"),
        (5.0, 10.0, "5 ± 10"),
        # No more than three decimals.
        (0.51264, 0.00314, "0.513 ± 0.003"),
        (0.51264, 0.0, "0.513 ± 0.000"),
        (0.0, 0.0, "0.000 ± 0.000"),
        (-5.124, 0.311, "-5.12 ± 0.31"),
        (-0.0123, 0.02, "-0.012 ± 0.020"),
        # A zero has no sign.
        (-0.0004, 0.012, "0.000 ± 0.012"),
        (-0.2, 15.0, "0 ± 15"),
        (NAN, 0.1, ""),
        (INFINITY, 0.1, ""),
        (-INFINITY, 0.1, ""),
        (0.5, NAN, ""),
        (0.5, INFINITY, ""),
    ],
)
def test_written(value: float, half_width: float, text: str) -> None:
    assert format_estimate(Estimate(value, half_width)) == text


def test_nothing_is_written_for_nothing() -> None:
    assert format_estimate(None) == ""


def test_measures_have_titles_of_their_own_and_a_line_of_meaning() -> None:
    assert len({measure.title for measure in METRICS.values()}) == len(METRICS)
    for measure in METRICS.values():
        assert measure.title and measure.meaning and "\n" not in measure.meaning
        assert measure.best in {"lowest", "highest", ""}
        # What has a floor is better the lower it is.
        assert measure.best == "lowest" or not measure.is_distance
        # Cells of the table are told apart by two spaces.
        assert "  " not in measure.title


PAIRED = Estimate(27.0, 2.0)
FIGURES = [
    Figure("frechet", "classifier", None, Estimate(12.5, 1.5), Estimate(2.5, 0.5)),
    Figure("frechet", "untrained", None, Estimate(30.0, 3.0), Estimate(3.0, 1.0), PAIRED),
    Figure("kernel", "classifier", None, Estimate(0.4, 0.1), Estimate(-0.01, 0.02)),
    Figure("precision", "classifier", None, Estimate(0.75, 0.05), Estimate(0.9, 0.04)),
    Figure("onset_rate", "", None, Estimate(3.25, 0.5), Estimate(4.0, 0.25)),
    Figure("band_means", "", None, Estimate(2.0, 0.5), None),
]
REAL = [format_estimate(figure.real) for figure in FIGURES]
GENRE_FIGURES = [
    Figure("frechet", "classifier", "rock", Estimate(20.0, 2.0), Estimate(5.0, 1.0)),
    Figure("frechet", "classifier", "blues", Estimate(NAN, NAN), Estimate(4.0, 1.0)),
    Figure("kernel", "classifier", "rock", Estimate(INFINITY, 1.0), Estimate(0.0, 0.0)),
    Figure("recall", "untrained", "rock", Estimate(0.5, NAN), Estimate(0.6, INFINITY)),
]


def report(*figures: Figure) -> Report:
    return Report(
        subject={
            "checkpoint": "runs/one/best.pt",
            "epoch": 40,
            "losses": [0.5, NAN],
            "of": {"best": -INFINITY},
        },
        dataset={
            "folder": "données",
            "genres": ("blues", "rock"),
            "held_out": {"tracks": 12, "images": 120},
        },
        settings={"seed": 0, "most": None},
        figures=list(figures),
        remarks=["Few tracks: intervals are wide.", 'A "quoted" remark.'],
    )


def strict(text: str) -> dict:
    """Parse JSON as other programs do, who know no NaN and no Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(
    "figures", [[*FIGURES, *GENRE_FIGURES], FIGURES[:1], []], ids=["many", "one", "none"]
)
def test_json_is_strict_and_holds_everything(figures: list[Figure], tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    write_json(path, {"one": report(*figures)})
    contents = strict(path.read_text(encoding="utf-8"))
    assert set(contents) == {
        "format_version",
        "subject",
        "dataset",
        "settings",
        "remarks",
        "figures",
    }
    assert contents["format_version"] == FORMAT_VERSION
    assert contents["subject"] == {
        "checkpoint": "runs/one/best.pt", "epoch": 40, "losses": [0.5, None], "of": {"best": None},
    }  # fmt: skip
    assert contents["dataset"] == {
        "folder": "données", "genres": ["blues", "rock"], "held_out": {"tracks": 12, "images": 120},
    }  # fmt: skip
    assert contents["settings"] == {"seed": 0, "most": None}
    assert contents["remarks"] == ["Few tracks: intervals are wide.", 'A "quoted" remark.']
    assert len(contents["figures"]) == len(figures)


def test_json_has_what_each_figure_has(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    write_json(path, {"one": report(*FIGURES, *GENRE_FIGURES)})
    kernel, bands, blues, rock, recall = (
        strict(path.read_text(encoding="utf-8"))["figures"][row] for row in (2, 5, 7, 8, 9)
    )
    assert set(kernel) == {
        "name", "features", "genre", "value", "real", "difference", "ratio", "detectable_ratio",
        "finding",
    }  # fmt: skip
    assert (kernel["name"], kernel["features"], kernel["genre"]) == ("kernel", "classifier", None)
    assert kernel["value"] == {"value": 0.4, "half_width": 0.1}
    assert kernel["real"] == {"value": -0.01, "half_width": 0.02}
    # Over the half-width, because real music's own is below zero.
    assert kernel["ratio"] == {"value": pytest.approx(20.0), "half_width": pytest.approx(5.0)}
    assert bands["real"] is None and bands["ratio"] is None
    assert blues["genre"] == "blues"
    assert blues["value"] == blues["ratio"] == {"value": None, "half_width": None}
    assert rock["value"] == {"value": None, "half_width": 1.0} and rock["ratio"] is None
    assert recall["value"] == {"value": 0.5, "half_width": None}
    assert recall["real"] == {"value": 0.6, "half_width": None} and recall["ratio"] is None


def test_figures_survive_json(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    write_json(path, {"one": report(*FIGURES)})
    read = []
    for line in strict(path.read_text(encoding="utf-8"))["figures"]:
        names = [line[key] for key in ("name", "features", "genre")]
        parts = (line[key] for key in ("value", "real", "difference"))
        read.append(Figure(*names, *(Estimate(**part) if part else None for part in parts)))
    assert read == FIGURES


def test_several_reports_under_their_names(tmp_path: Path) -> None:
    path, alone = tmp_path / "evaluations.json", tmp_path / "evaluation.json"
    reports = {"second": report(*FIGURES), "first": report(*GENRE_FIGURES)}
    write_json(path, reports)
    contents = strict(path.read_text(encoding="utf-8"))
    assert (
        set(contents) == {"format_version", "reports"}
        and contents["format_version"] == FORMAT_VERSION
    )
    assert list(contents["reports"]) == ["second", "first"]
    for name, whole in reports.items():
        write_json(alone, {name: whole})
        expected = strict(alone.read_text(encoding="utf-8"))
        assert {"format_version": FORMAT_VERSION, **contents["reports"][name]} == expected


def test_find() -> None:
    whole = report(*FIGURES, *GENRE_FIGURES)
    assert whole.find("frechet", "untrained") is FIGURES[1]
    assert whole.find("frechet", "classifier", "rock") is GENRE_FIGURES[0]
    assert whole.find("onset_rate") is FIGURES[4]
    assert whole.find("frechet") is None
    assert whole.find("frechet", "untrained", "rock") is None


def test_keys_are_of_any_report_and_those_of_a_name_are_together() -> None:
    first = report(
        *(
            Figure(n, f, None, Estimate(1.0, 0.1), None)
            for n, f in [("kernel", "a"), ("recall", "a")]
        )
    )
    second = report(
        *(Figure(n, f, None, Estimate(1.0, 0.1), None) for n, f in [("kernel", "b"), ("ndb", "a")])
    )
    assert figure_keys([first, second]) == [
        ("kernel", "a"),
        ("kernel", "b"),
        ("recall", "a"),
        ("ndb", "a"),
    ]
    assert figure_keys([first, first]) == figure_keys([first])


def test_keys_of_genres_are_apart_from_those_of_all_images() -> None:
    whole = report(*FIGURES, *GENRE_FIGURES)
    assert figure_keys([whole]) == [(figure.name, figure.features) for figure in FIGURES]
    assert figure_keys([whole], of_genres=True) == [
        ("frechet", "classifier"), ("kernel", "classifier"), ("recall", "untrained"),
    ]  # fmt: skip


def cells(line: str) -> list[str]:
    return re.split(r" {2,}", line.strip())


def test_table_of_one_report() -> None:
    """Each figure of all images once, and none of single genres."""
    lines = table(["samples"], [report(*FIGURES, *GENRE_FIGURES)]).splitlines()
    assert [cells(line) for line in lines] == [
        ["figure", "features", "samples", "ratio", "finding (from)", "real music"],
        ["Fréchet distance", "classifier", "12.5 ± 1.5", "5.00 ± 0.60", "farther (1.9)", REAL[0]],
        ["Fréchet distance", "untrained", "30.0 ± 3.0", "10.00 ± 0.67", "farther (2.0)", REAL[1]],
        ["kernel distance", "classifier", "0.40 ± 0.10", "20.0 ± 5.0", "farther (6.8)", REAL[2]],
        ["precision", "classifier", "0.750 ± 0.050", "0.900 ± 0.040"],
        ["onset rate", "3.25 ± 0.50", "4.00 ± 0.25"],
        ["band means", "2.00 ± 0.50"],
    ]


def test_table_is_aligned() -> None:
    head, *rows = table(["samples"], [report(*FIGURES)]).splitlines()
    features = head.index("features")
    headings = ("samples", "ratio", "finding (from)", "real music")
    ends = [head.index(name) + len(name) for name in headings]
    for row, figure in zip(rows, FIGURES, strict=True):
        # Words begin where their heading does, and numbers end where theirs does.
        assert row.startswith(METRICS[figure.name].title + " ")
        assert row[features:].startswith(figure.features)
        value, ratio, real = map(format_estimate, (figure.value, figure.ratio, figure.real))
        for end, cell in zip(ends, (value, ratio, format_finding(figure), real), strict=True):
            # Padded, since the end of a line has no blanks.
            assert row.ljust(len(head))[:end].endswith(cell or "  ")
    assert all(line == line.rstrip() for line in (head, *rows))


def test_table_of_several_reports_side_by_side() -> None:
    """Figures of any report have a row; missing ones are empty; real music has one column."""
    some = [
        Figure(f.name, f.features, f.genre, Estimate(1.0, 0.5), f.real)
        for f in (FIGURES[3], FIGURES[0])
    ]
    own = Figure("diversity", "classifier", None, Estimate(0.9, 0.01), Estimate(1.0, 0.02))
    head, *rows = table(["one", "two"], [report(*FIGURES), report(*some, own)]).splitlines()
    assert cells(head) == [
        "figure", "features", "one", "ratio", "finding (from)", "two", "ratio", "finding (from)",
        "real music",
    ]  # fmt: skip
    assert [cells(row)[2:] for row in (*rows[:4], rows[-1])] == [
        [
            *("12.5 ± 1.5", "5.00 ± 0.60", "farther (1.9)"),
            *("1.00 ± 0.50", "0.40 ± 0.20", "as near (1.4)", "2.50 ± 0.50"),
        ],
        ["30.0 ± 3.0", "10.00 ± 0.67", "farther (2.0)", "3.0 ± 1.0"],
        ["0.40 ± 0.10", "20.0 ± 5.0", "farther (6.8)", "-0.010 ± 0.020"],
        ["0.750 ± 0.050", "1.00 ± 0.50", "0.900 ± 0.040"],
        ["0.900 ± 0.010", "1.000 ± 0.020"],
    ]
    assert len(rows) == len(FIGURES) + 1


def test_table_without_figures_is_its_head() -> None:
    assert cells(table(["samples"], [report()])) == [
        "figure",
        "features",
        "samples",
        "ratio",
        "finding (from)",
        "real music",
    ]


def test_genre_table() -> None:
    """A row a genre; of distances the ratio, of others the value."""
    assert "recall" not in GENRE_TABLE and {"frechet", "coverage"} <= set(GENRE_TABLE)
    coverage = [
        Figure("coverage", "untrained", genre, Estimate(value, 0.1), Estimate(0.9, 0.1))
        for genre, value in (("rock", 0.5), ("blues", 0.25))
    ]
    lines = genre_table(report(*FIGURES, *GENRE_FIGURES, *coverage)).splitlines()
    assert [cells(line) for line in lines] == [
        ["genre", "Fréchet distance ratio", "coverage"],
        ["classifier", "untrained"],
        ["rock", "4.00 ± 0.40", "0.50 ± 0.10"],
        # Its distance is not finite.
        ["blues", "0.25 ± 0.10"],
    ]
    assert len(set(map(len, lines))) == 1


def test_no_genre_table_without_genres() -> None:
    assert genre_table(report(*FIGURES)) == ""


def test_figures_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Those of the checkpoint, of images before pieces; what is not finite becomes NaN."""

    def written(name: str, digest: str, *figures: Figure, **settings: float) -> None:
        write_json(tmp_path / name, {"x": Report({"digest": digest}, {}, settings, list(figures))})

    assert read_figures(tmp_path, "mine") == ([], 0)
    endless = Figure("frechet", "untrained", None, Estimate(INFINITY, 1.0), None)
    finite = [figure for figure in FIGURES if math.isfinite(figure.value.value)]
    written("evaluation-30s.json", "mine", endless, seconds=30.0)
    written("evaluation_other.json", "other", *finite)
    (pieces,), others = read_figures(tmp_path, "mine")
    assert math.isnan(pieces.value.value) and pieces.ratio is None and others == 1
    written("evaluation_latest.json", "mine", *finite)
    read, others = read_figures(tmp_path, "mine")
    assert read == finite and others == 1 and [f.ratio for f in read] == [f.ratio for f in finite]
    report = Report({"digest": "second"}, {}, {}, finite[:1])
    write_json(tmp_path / "evaluation_both.json", {"a": Report({}, {}, {}, []), "b": report})
    assert read_figures(tmp_path, "second") == (finite[:1], 4)


def test_figures_of_an_earlier_version_have_no_difference(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    write_json(path, {"one": Report({"digest": "mine"}, {}, {}, FIGURES[1:2])})
    contents = json.loads(path.read_text(encoding="utf-8"))
    for key in ("difference", "detectable_ratio", "finding"):
        del contents["figures"][0][key]
    path.write_text(json.dumps(contents), encoding="utf-8")
    ((figure,), _) = read_figures(tmp_path, "mine")
    assert figure.difference is None and figure.real == FIGURES[1].real
    assert figure.ratio == Estimate(10.0, 1.0) and figure.finding == FARTHER


@pytest.mark.parametrize("text", ["", "[]", '{"reports": 1}', '{"subject": {}}', "\xff"])
def test_what_is_no_evaluation_is_passed_over(
    text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "evaluation.json").write_text(text, encoding="latin-1")
    read_figures(tmp_path, "mine")
    is_told = text != '{"subject": {}}'
    assert ("evaluation.json is not an evaluation" in caplog.text) == is_told
