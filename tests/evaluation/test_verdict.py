"""The verdict of an evaluation: it says what the figures say, and no more."""

from __future__ import annotations

import math

import pytest

from musicspectrogan.evaluation.report import Figure, Report
from musicspectrogan.evaluation.resampling import Estimate
from musicspectrogan.evaluation.verdict import comparison_verdict, verdict

REAL = Estimate(2.0, 0.2)


def report_of(
    classifier: tuple[float, float] | None = (12.0, 1.0),
    untrained: tuple[float, float] | None = (10.0, 2.0),
    *,
    real: Estimate | None = REAL,
    shares: dict[tuple[str, str], tuple[Estimate, Estimate]] | None = None,
    tracks: int = 40,
    split: str = "test",
) -> Report:
    """Fréchet distances in both feature spaces, and shares of samples and of real music."""
    found = {"classifier": classifier, "untrained": untrained}
    figures = [
        Figure("frechet", kind, None, Estimate(*value), real)
        for kind, value in found.items()
        if value
    ]
    figures += [Figure(*key, None, *pair) for key, pair in (shares or {}).items()]
    return Report({}, {"split": split, "held_out_tracks": tracks}, {}, figures)


def test_far_from_real_music():
    accuracy = {("genre_accuracy", ""): (Estimate(0.84, 0.02), Estimate(0.91, 0.03))}
    assert verdict(report_of(shares=accuracy)) == (
        "By the Fréchet distance these samples are 6.0 times as far from the 40 test tracks as "
        "real music is in what a genre classifier sees (95 % interval 5.5 to 6.5) and 5.0 times in "
        "plain statistics (4.0 to 6.0); 84 % of them are recognised as their genre (real music: 91 "
        "%)."
    )


def test_not_to_be_told_from_real_music():
    assert verdict(report_of((2.1, 0.3), (1.9, 0.5), split="held-out", tracks=1200)) == (
        "The Fréchet distance finds no difference between these samples and real music: they are "
        "1.1 times as far from the 1,200 held-out tracks as real music is in what a genre "
        "classifier sees (95 % interval 0.9 to 1.2) and 0.9 times in plain statistics (0.7 to 1.2)."
    )


def test_a_difference_counts_only_beyond_the_chance_of_both_figures():
    # 1.3 times, and 1.1 to 1.5; but real music's own distance is 2.0 ± 0.6.
    said = verdict(report_of((2.6, 0.4), (2.6, 0.4), real=Estimate(2.0, 0.6)))
    assert said.startswith("Cannot tell: by the 40 test tracks these samples may be 1.1 to 1.5 ")
    assert verdict(report_of((2.6, 0.4), (2.6, 0.4), real=Estimate(2.0, 0.4))).startswith(
        "By the Fréchet"
    )


def test_one_kind_of_features_is_enough_to_tell_them():
    said = verdict(report_of((12.0, 1.0), (2.1, 1.9)))
    assert said.startswith("By the Fréchet distance these samples are 6.0 times as far")
    assert "1.1 times in plain statistics (0.1 to 2.0; cannot tell)" in said


def test_too_few_tracks_for_a_verdict():
    assert verdict(report_of((2.5, 1.9), (2.6, 3.8), tracks=10)) == (
        "Cannot tell: by the 10 test tracks these samples may be 0 to 3.2 times as far from them "
        "as real music is, and less than 2.4 times would hardly show."
    )


@pytest.mark.parametrize(
    "report",
    [
        report_of(None, None),
        report_of((math.nan, 1.0), (math.inf, 1.0)),
        report_of(real=None),
        report_of(real=Estimate(0.0, 0.0)),
    ],
    ids=["none", "nan", "no real", "real is 0"],
)
def test_no_figures_no_verdict(report):
    assert (
        verdict(report)
        == "No verdict: no Fréchet distance has a value for real music to compare with."
    )
    assert comparison_verdict(["a", "b"], [report, report_of()]).startswith("No verdict: ")


def test_a_copier_is_told_though_its_distance_is_small():
    copied = {("copied", ""): (Estimate(0.96, 0.04), Estimate(0.05, 0.02))}
    said = verdict(report_of((2.1, 0.3), (1.9, 0.5), shares=copied))
    assert said.endswith("; but 96 % look copied from a training track (real music: 5 %).")
    # Also where there is nothing else to say.
    said = verdict(report_of((2.5, 1.9), (2.6, 3.7), shares=copied))
    assert said.startswith("Cannot tell: ")
    assert "96 % look copied" in said
    within_chance = {("copied", ""): (Estimate(0.10, 0.2), Estimate(0.05, 0.02))}
    assert "copied" not in verdict(report_of(shares=within_chance))


def test_a_collapse_is_told_where_both_kinds_of_features_see_it():
    much, little, real = Estimate(0.9, 0.05), Estimate(0.11, 0.05), Estimate(0.1, 0.05)
    both = {
        ("duplicates", "classifier"): (much, real),
        ("duplicates", "untrained"): (Estimate(1.0, 0.0), real),
    }
    assert "; but 90 % have a near-duplicate among them (real music: 10 %)." in verdict(
        report_of(shares=both)
    )
    # Whatever a further network says.
    assert "near-duplicate" in verdict(
        report_of(shares={**both, ("duplicates", "musicnn"): (little, real)})
    )
    one = {("duplicates", "classifier"): (much, real), ("duplicates", "untrained"): (little, real)}
    assert "near-duplicate" not in verdict(report_of(shares=one))


def test_the_better_of_two():
    said = comparison_verdict(
        ["old", "new"], [report_of((12.0, 1.0), (9.0, 1.0)), report_of((8.0, 1.0), (8.4, 1.0))]
    )
    assert said == (
        "By the Fréchet distance new is better: in what a genre classifier sees new is 4.0 times "
        "as far from the 40 test tracks as real music is (95 % interval 3.5 to 4.5) and old 6.0 "
        "times (5.5 to 6.5), and the intervals do not overlap; in plain statistics new is 4.2 "
        "times (3.7 to 4.7) and old 4.5 times (4.0 to 5.0), and the intervals overlap."
    )


def test_two_whose_intervals_overlap():
    said = comparison_verdict(
        ["a", "b"], [report_of((12.0, 1.0), (9.0, 1.0)), report_of((11.5, 1.0), (8.5, 1.0))]
    )
    assert said.startswith("The Fréchet distance does not say which is better: ")
    assert said.count("and the intervals overlap") == 2


def test_two_of_which_each_is_better_by_one_kind_of_features():
    said = comparison_verdict(
        ["a", "b"], [report_of((4.0, 0.1), (9.0, 0.1)), report_of((9.0, 0.1), (4.0, 0.1))]
    )
    assert said.startswith("The Fréchet distance does not say which is better: ")
    assert "classifier sees a is 2.0 times" in said
    assert "plain statistics b is 2.0 times" in said


def test_the_best_of_several():
    reports = [report_of((value, 1.0), None) for value in (12.0, 8.0, 9.5, 20.0)]
    said = comparison_verdict(["a", "b", "c", "d"], reports)
    assert said.startswith("The Fréchet distance does not say which is the best: in what")
    assert "b is 4.0 times" in said
    assert said.endswith("and c 4.8 times (4.2 to 5.2), and its interval overlaps with that of c.")
    said = comparison_verdict(["a", "b", "d"], [reports[0], reports[1], reports[3]])
    assert said.startswith("By the Fréchet distance b is the best: ")
    assert said.endswith("and a 6.0 times (5.5 to 6.5), and its interval overlaps with no other.")


def test_a_comparison_by_too_few_tracks():
    said = comparison_verdict(
        ["a", "b"], [report_of((2.5, 1.9), (2.6, 3.7)), report_of((2.5, 1.9), (2.2, 1.2))]
    )
    assert said.startswith("Cannot tell: by the 40 test tracks these samples may be 0 to 3.2 times")
    assert said.endswith(", and less than 1.9 times would hardly show.")


def of_pieces(
    coherence: dict[tuple[int, str], float], *, half_width: float = 0.05, **shares: float
) -> str:
    """The verdict on pieces far from real music with coherence 0.65 and shares 0.9 and 0.3."""
    figures = {
        (f"coherence_{seconds}s", kind): (Estimate(value, half_width), Estimate(0.65, 0.05))
        for (seconds, kind), value in coherence.items()
    }
    for name, theirs in (("tempo_stability", 0.9), ("shared_tempo", 0.3)):
        if name in shares:
            figures[name, ""] = (Estimate(shares[name], half_width), Estimate(theirs, 0.05))
    report = report_of(shares=figures)
    report.settings["seconds"] = 30.0
    return verdict(report)


def by_both(*values: float) -> dict[tuple[int, str], float]:
    """Coherence at 3, 6, 12 s, the same by both kinds of features."""
    pairs = zip((3, 6, 12), values, strict=False)
    return {(lag, kind): value for lag, value in pairs for kind in ("classifier", "untrained")}


def test_pieces_that_lose_their_thread():
    said = of_pieces(by_both(0.6, 0.9, 1.02))
    assert said.startswith("By the Fréchet distance these pieces of 30 s are 6.0 times as far from")
    assert said.endswith(
        "; they lose their thread: 12 s apart, two moments of a piece are 1.02 times as unlike as "
        "two of different pieces (real music: 0.65)."
    )


def test_monotonous_pieces():
    assert of_pieces(by_both(0.5, 0.4, 0.45)).endswith(
        "; they are monotonous: 6 s apart, two moments of a piece are 0.40 times as unlike as two "
        "of different pieces (real music: 0.65)."
    )


def test_coherence_is_not_told_where_it_may_be_chance_or_one_kind_of_features_disagrees():
    plain = of_pieces({})
    assert of_pieces(by_both(0.7, 0.6, 0.66)) == plain
    assert of_pieces(by_both(1.0, 1.0, 1.0), half_width=0.4) == plain
    apart = {(12, "classifier"): 1.0, (12, "untrained"): 0.65}
    assert of_pieces(apart) == plain
    assert of_pieces(apart | {(12, "untrained"): 0.3}) == plain
    # The nearer of both to real music is told.
    assert "1.00 times as unlike" in of_pieces(apart | {(12, "untrained"): 1.3})


def test_a_beat_that_does_not_hold_and_one_that_is_the_same_everywhere():
    assert of_pieces({}, tempo_stability=0.95, shared_tempo=0.2) == of_pieces({})
    assert of_pieces({}, tempo_stability=0.6).endswith(
        "; the beat holds in 60 % of the pieces (real music: 90 %)."
    )
    assert of_pieces({}, tempo_stability=1.0, shared_tempo=1.0).endswith(
        "; two pieces of a genre have the same beat in 100 % of cases (real music: 30 %)."
    )


def test_no_verdict_on_pieces_by_too_few_tracks():
    report = report_of((2.5, 1.9), (2.6, 3.8), tracks=10)
    report.settings["seconds"] = 9.0
    assert verdict(report).startswith(
        "Cannot tell: by the 10 test tracks these pieces of 9 s may be 0 to 3.2 times as far"
    )
