"""Whether the figures show known faults of samples, and what is compared with what."""

from __future__ import annotations

import logging
import re
import shutil
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from evaluation_helpers import (
    CPU,
    GENRES,
    KINDS,
    OF_GENRES,
    expected_figures,
    hurried,
    put_images,
    put_pieces,
    ratio,
    real,
    tracks_in,
    value,
)

from musicspectrogan.data.dataset import load_dataset
from musicspectrogan.evaluation import evaluator, resampling
from musicspectrogan.evaluation.evaluate import evaluate
from musicspectrogan.evaluation.evaluator import Evaluator
from musicspectrogan.evaluation.reference import build_reference, load_splits, split_in_halves
from musicspectrogan.evaluation.report import METRICS, Report, genre_table
from musicspectrogan.evaluation.resampling import Pair, Side
from musicspectrogan.evaluation.samples import ImageSet, Samples, read_folder
from musicspectrogan.evaluation.settings import MIN_SAMPLES, EvaluateConfig
from musicspectrogan.evaluation.verdict import verdict

pytest_plugins = ["evaluation_fixtures"]


@pytest.fixture(scope="module")
def by_fault(known, reference, fresh, copies, music) -> dict[str, Report]:
    """Reports of folders of images whose quality is known beforehand, by the folders' names."""
    rng = np.random.default_rng(3)
    put_images(music / "noise", rng.integers(0, 256, (120, 64, 64), dtype=np.uint8))
    unseen = load_dataset(fresh, split="all")
    one_of_each = np.stack(
        [unseen.pixels[unseen.rows[unseen.labels == label][7]] for label in range(3)]
    )
    repeated = np.repeat(one_of_each, 40, axis=0).astype(np.int16) + rng.integers(
        -2, 3, (120, 64, 64)
    )
    put_images(music / "collapsed", repeated.clip(0, 255).astype(np.uint8))
    # A third of each genre's images in each class folder.
    for label, genre in enumerate(GENRES):
        put_images(music / "shuffled" / genre, unseen.pixels[unseen.rows[label::3]])
    names = ("fresh", "noise", "collapsed", "shuffled", "copies")
    config = EvaluateConfig(dataset=known, samples=200)
    sources = {name: music / name for name in names}
    with hurried():
        return evaluate(config, sources, music / "by_fault" / "comparison.json", CPU).reports


# Known faults


@pytest.mark.parametrize(("kind", "most"), [("classifier", 2.0), ("untrained", 2.4)])
def test_fresh_music_is_about_as_near_as_real(kind, most, by_fault):
    """Its 120 images are of 24 tracks, which a folder of images does not tell."""
    report = by_fault["fresh"]
    assert 0.6 < ratio(report, "frechet", kind) < most
    assert value(report, "precision", kind) > 0.6
    assert value(report, "recall", kind) > 0.6
    assert value(report, "coverage", kind) > 0.7
    assert 0.75 < value(report, "diversity", kind) < 1.25
    assert value(report, "duplicates", kind) < 0.3


def test_fresh_music_is_near_the_floor_of_every_distance(by_fault):
    figures = [figure for figure in by_fault["fresh"].figures if METRICS[figure.name].is_distance]
    assert len(figures) == 9
    far = {(f.name, f.features): f.ratio.value for f in figures if not f.ratio.value < 3.0}
    assert far == {}


def test_every_figure_is_a_number(by_fault):
    """Also where sets are the same, or have nothing in common."""
    estimates = {
        (source, figure.name, figure.features): (*astuple(figure.value), *astuple(figure.real))
        for source, report in by_fault.items()
        for figure in report.figures
    }
    assert {key for key, numbers in estimates.items() if not np.isfinite(numbers).all()} == set()


def test_noise_is_far_from_music(by_fault):
    noise, fresh = by_fault["noise"], by_fault["fresh"]
    assert ratio(noise, "frechet", "untrained") > 5.0
    assert ratio(noise, "frechet", "untrained") > 5.0 * ratio(fresh, "frechet", "untrained")
    assert ratio(noise, "frechet", "classifier") > 3.0 * ratio(fresh, "frechet", "classifier")
    for name in ("precision", "recall", "density", "coverage"):
        assert value(noise, name, "untrained") == 0.0
    assert ratio(noise, "modulation") > 2.0 * ratio(fresh, "modulation")
    assert value(noise, "copied") == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_collapsed_model_lacks_diversity(kind, by_fault):
    """Three images, repeated: each may be good, but there are no others."""
    collapsed, fresh = by_fault["collapsed"], by_fault["fresh"]
    assert value(collapsed, "duplicates", kind) > 0.95
    assert value(collapsed, "recall", kind) < 0.05
    assert value(collapsed, "coverage", kind) < 0.65 * value(fresh, "coverage", kind)
    assert value(collapsed, "diversity", kind) < value(fresh, "diversity", kind)
    assert value(collapsed, "frechet", kind) > 1.5 * value(fresh, "frechet", kind)


def test_copies_of_training_tracks_are_found(by_fault):
    copied, fresh = by_fault["copies"], by_fault["fresh"]
    assert value(copied, "copied") > 0.9
    assert value(copied, "nearest_training") < 0.1 * real(copied, "nearest_training")
    assert value(fresh, "copied") < 0.2
    assert value(fresh, "nearest_training") > 0.8 * real(fresh, "nearest_training")


def test_samples_of_the_wrong_genre_are_told_from_right_ones(by_fault):
    shuffled, right = by_fault["shuffled"], by_fault["fresh"]
    for name in OF_GENRES:
        assert value(right, name) > 0.9
        assert real(right, name) > 0.9
    assert value(shuffled, "genre_accuracy") == pytest.approx(1 / 3, abs=0.03)
    assert value(shuffled, "gan_train") < 0.7
    # The very same images, so whatever asks for no genre is as good.
    assert ratio(shuffled, "frechet", "untrained") == pytest.approx(
        ratio(right, "frechet", "untrained"), rel=0.3
    )


def test_another_seed_tells_the_same_within_the_intervals(reference, fresh_windows, monkeypatch):
    """The second seed takes other samples, cuts other parts and resamples other clips."""
    monkeypatch.setattr(resampling, "REPLICATES", 40)
    by_seed = [
        Evaluator(
            read_folder(fresh_windows, reference.dataset, MIN_SAMPLES, seed), reference, seed
        ).report()
        for seed in (0, 1)
    ]
    pairs = [
        (figure, by_seed[1].find(figure.name, figure.features)) for figure in by_seed[0].figures
    ]
    assert len(pairs) == len(expected_figures(conditional=False))
    agree = [
        abs(one.value.value - other.value.value) <= one.value.half_width + other.value.half_width
        for one, other in pairs
    ]
    # Of 26 intervals of 95 % one or two may miss.
    assert sum(agree) >= len(agree) - 2
    differ = [one.value.value != other.value.value for one, other in pairs]
    assert sum(differ) > 0.8 * len(differ)


# Genres


@pytest.fixture
def few_are_enough(monkeypatch):
    """A genre has figures of its own from two held-out tracks and ten images on."""
    monkeypatch.setattr(evaluator, "MIN_TRACKS_OF_GENRE", 2)
    monkeypatch.setattr(evaluator, "MIN_IMAGES", 10)


@pytest.mark.usefixtures("few_are_enough")
def test_genres_with_enough_tracks_have_figures_of_their_own(reference, fresh):
    samples = read_folder(fresh, reference.dataset, 200, seed=0)
    with hurried():
        report = Evaluator(samples, reference, 0).report()
    for genre in (None, *GENRES):
        found = {(f.name, f.features) for f in report.figures if f.genre == genre}
        assert found == expected_figures(conditional=True)
    assert not any("figures of all" in remark for remark in report.remarks)
    # Forty images of each genre: the accuracy of all is the mean.
    each = [report.find("genre_accuracy", genre=genre).value.value for genre in GENRES]
    assert value(report, "genre_accuracy") == pytest.approx(np.mean(each))
    for figure in report.figures:
        assert np.isfinite([*astuple(figure.value), *astuple(figure.real)]).all(), figure
    # Each genre's samples are held against its own tracks: those of another would be many times as
    # far.
    for genre in GENRES:
        assert max(report.find("frechet", kind, genre).ratio.value for kind in KINDS) < 2.5
    rows = [line.split()[0] for line in genre_table(report).splitlines()]
    assert rows[-3:] == GENRES


@pytest.mark.usefixtures("few_are_enough")
def test_a_genre_with_hardly_any_samples_is_pooled(reference, fresh_windows, tmp_path):
    """As in a folder made by `generate --genre`, with a single image of another genre."""
    shutil.copytree(fresh_windows, tmp_path / "jazz")
    put_images(tmp_path / "blues", np.zeros((1, 64, 64), np.uint8))
    samples = read_folder(tmp_path, reference.dataset, 500, seed=0)
    assert samples.conditional
    with hurried(steps=2):
        report = Evaluator(samples, reference, 0).report()
    assert {figure.genre for figure in report.figures} == {None, "jazz"}
    assert any(
        remark.startswith("Without figures of their own") and remark.endswith(": blues, metal.")
        for remark in report.remarks
    )


def test_halves_share_no_track_and_have_all_genres(reference):
    halves = split_in_halves(reference.training)
    assert not set(halves[0].clips) & set(halves[1].clips)
    assert sorted(np.concatenate([half.clips for half in halves])) == sorted(
        reference.training.clips
    )
    for half in halves:
        assert np.bincount(half.labels).tolist() == [15, 15, 15]


def test_a_damaged_cache_is_replaced(known, reference, tmp_path, caplog):
    (path,) = known.glob(".classifiers-*.pt")
    contents = path.read_bytes()
    root = Path(shutil.copytree(known, tmp_path / "dataset"))
    (root / path.name).write_bytes(contents[: len(contents) // 2])
    with hurried(steps=2), caplog.at_level(logging.WARNING, "musicspectrogan"):
        mended = build_reference(root, load_splits(root), CPU)
        assert f"{root / path.name} is damaged; training new classifiers" in caplog.messages
        caplog.clear()
        again = build_reference(root, load_splits(root), CPU)
    assert not caplog.messages
    assert [p.name for p in root.glob(".classifiers-*")] == [path.name]
    pixels = reference.held_out.pixels
    np.testing.assert_array_equal(
        *(each.extractors[0].classifier.probabilities(pixels) for each in (mended, again))
    )


@pytest.fixture(scope="module")
def of_pieces(reference, known, fresh, music) -> dict[str, Report]:
    """Reports of folders of pieces, by what they are made of: the tracks of the fresh music as they
    are, their windows in any order, the first window of each again and again, the tracks without
    their genres."""
    tracks = tracks_in(fresh)
    rng = np.random.default_rng(0)
    made = {
        "real": put_pieces(music / "real", tracks, remainder=30),
        "flat": put_pieces(music / "flat", [("", images) for _, images in tracks]),
        "loops": put_pieces(
            music / "loops", [(genre, images[[0] * 5]) for genre, images in tracks]
        ),
    }
    mixed = []
    for genre in GENRES:
        windows = rng.permutation(np.concatenate([images for of, images in tracks if of == genre]))
        mixed += [(genre, windows[start : start + 5]) for start in range(0, 40, 5)]
    made["mixed"] = put_pieces(music / "mixed", mixed)
    reports = {}
    with hurried(steps=2):
        for name, folder in made.items():
            samples = read_folder(folder, reference.dataset, 500, 0, seconds=15.0)
            reports[name] = Evaluator(samples, reference, 0).report()
    return reports


COHERENCE = [f"coherence_{seconds}s" for seconds in (3, 6, 12)]


def test_real_tracks_are_as_coherent_as_real_music(of_pieces):
    report = of_pieces["real"]
    assert report.settings["pieces"] == 24 and report.subject["samples"] == 120
    for name in COHERENCE:
        for kind in KINDS:
            figure = report.find(name, kind)
            chance = np.hypot(figure.value.half_width, figure.real.half_width)
            assert abs(figure.value.value - figure.real.value) < 1.5 * chance
            assert 0.2 < figure.value.value < 0.9
    assert value(report, "tempo_stability") > 0.7
    assert "thread" not in verdict(report) and "monotonous" not in verdict(report)


def test_pieces_without_a_thread_and_monotonous_ones_are_told(of_pieces):
    mixed, loops = of_pieces["mixed"], of_pieces["loops"]
    for name in COHERENCE:
        for kind in KINDS:
            assert value(mixed, name, kind) == pytest.approx(1.0, abs=0.12)
            assert value(loops, name, kind) == 0.0
    assert re.search(
        r"; they lose their thread: \d+ s apart, two moments of a piece are [01].\d\d times "
        r"as unlike as two of different pieces \(real music: 0.\d\d\)",
        verdict(mixed),
    )
    assert "; they are monotonous: " in verdict(loops)
    # The very same windows: nothing else tells them apart.
    assert value(mixed, "frechet", "untrained") == pytest.approx(
        value(of_pieces["real"], "frechet", "untrained"), rel=0.3
    )
    assert value(mixed, "tempo_stability") < value(of_pieces["real"], "tempo_stability")


def test_without_genres_pieces_and_real_tracks_are_compared_with_any(of_pieces):
    """Which are farther than those of the genre, so that coherence is lower for both."""
    for name in COHERENCE:
        for kind in KINDS:
            flat, by_genre = of_pieces["flat"].find(name, kind), of_pieces["real"].find(name, kind)
            assert flat.value.value < by_genre.value.value
            assert flat.real.value < by_genre.real.value


def test_extractors_do_not_measure_the_tracks_that_they_were_fitted_to(reference, known):
    real = reference.tracks
    training, held_out = (load_splits(known).training, load_splits(known).held_out)
    assert real.images.n_clips == 24 and len(real.images) == 120
    assert (real.images.clips < 0).sum() == 30  # held-out tracks have numbers of their own
    for extractors in reference.extractors:
        seen = np.isin(real.images.clips, extractors.fitted_tracks)
        assert seen.sum() == 45
        fitted = {image.tobytes() for image in real.images.pixels[seen]}
        assert fitted.isdisjoint(image.tobytes() for image in extractors.other_half.pixels)
        assert fitted.isdisjoint(image.tobytes() for image in held_out.pixels[held_out.rows])
        assert fitted <= {image.tobytes() for image in training.pixels[training.rows]}


def test_windows_of_a_piece_are_drawn_together_wherever_they_are_compared(
    reference, fresh, monkeypatch
):
    """They lie in several blocks, and a set of 24 pieces is not one of 120 independent images."""
    given = []

    def recorded(
        samples: Side, real: Side, shared: ImageSet, *, rng: np.random.Generator
    ) -> dict[str, Pair]:
        given.append(
            [[clip for clip in np.unique(images.clips) if clip >= 1000] for images in samples.sets]
        )
        return resampling.estimate_pair(samples, real, shared, rng=rng)

    monkeypatch.setattr(evaluator, "estimate_pair", recorded)
    windows = np.concatenate([images for _, images in tracks_in(fresh)])
    labels, clips = np.repeat(np.repeat(np.arange(3), 8), 5), np.repeat(1000 + np.arange(24), 5)
    with hurried(steps=2):
        report = Evaluator(
            Samples(ImageSet(windows, labels, clips), True, {}), reference, 0
        ).report()
    assert report.settings["compared_at"] == 45  # two blocks of 120 windows
    drawn = [[clips for clips in of_sets if clips] for of_sets in given]
    assert max(map(len, drawn)) == 1
    assert sum(map(len, drawn)) >= 2 + 3  # distances by both kinds, and what needs no features


def test_of_pieces_of_one_image_nothing_is_said_of_coherence(reference, fresh, tmp_path):
    put_pieces(tmp_path / "pieces", tracks_in(fresh) * 3)
    samples = read_folder(tmp_path / "pieces", reference.dataset, 500, 0, seconds=4.0)
    assert samples.images.n_clips == len(samples.images) == 72
    with hurried(steps=2):
        report = Evaluator(samples, reference, 0).report()
    assert {(f.name, f.features) for f in report.figures} == expected_figures(conditional=True)
    assert (
        "There are no figures of coherence and tempo: they need pieces and real tracks of at least "
        "5.9 s, which are two images." in report.remarks
    )
