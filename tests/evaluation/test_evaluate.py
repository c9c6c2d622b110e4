"""The evaluate command: what it writes, that sabotage shows in the figures, and what it refuses."""

from __future__ import annotations

import html
import json
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from musicspectrogan import cli
from musicspectrogan.audio.files import save
from musicspectrogan.audio.images import write_image
from musicspectrogan.data import composer
from musicspectrogan.data.dataset import ImageDataset, load_dataset
from musicspectrogan.errors import UserError
from musicspectrogan.evaluation import classifier, judge, resampling
from musicspectrogan.evaluation.evaluate import evaluate
from musicspectrogan.evaluation.judge import Judge
from musicspectrogan.evaluation.report import MEASURES, OF_PIECES, Report
from musicspectrogan.evaluation.sets import ImageSet, load_splits
from musicspectrogan.evaluation.settings import FEWEST_SAMPLES, EvaluateConfig
from musicspectrogan.evaluation.subjects import Subject, images_in, samples_of
from musicspectrogan.evaluation.tables import genre_table
from musicspectrogan.evaluation.verdict import verdict
from musicspectrogan.evaluation.yardstick import Yardstick, make_yardstick, split_in_halves
from musicspectrogan.generation.pieces import piece
from musicspectrogan.generation.sampler import LatentSpec, Sampler
from musicspectrogan.training import run_directory, runner
from musicspectrogan.training.checkpoint import load_checkpoint, save_checkpoint
from musicspectrogan.training.settings import TrainingConfig

GENRES = ["blues", "jazz", "metal"]
KINDS = ["classifier", "untrained"]
# Figures of both kinds of features, and figures that need genres.
COMPARED = {
    "frechet", "kernel", "precision", "recall", "density", "coverage", "diversity", "duplicates", "ndb",
    "js_divergence",
}  # fmt: skip
OF_GENRES = {"genre_accuracy", "gan_train"}
OF_IMAGES = set(MEASURES) - OF_PIECES
# Distances whose floor is the value that real music has, whatever its half-width.
PLAIN_DISTANCES = {"frechet", "band_means", "band_spreads", "modulation"}
SAMPLES = 120
CPU = torch.device("cpu")


@contextmanager
def hurried(steps: int = 40) -> Iterator[None]:
    """Where no interval is looked at: few replicates, and classifiers of samples that are done early."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "STEPS", steps)
        patch.setattr(resampling, "REPLICATES", 10)
        yield


def expected_figures(*, conditional: bool) -> set[tuple[str, str]]:
    """The name and the features of every figure of all images."""
    plain = OF_IMAGES - COMPARED - (set() if conditional else OF_GENRES)
    return {(name, kind) for name in COMPARED for kind in KINDS} | {(name, "") for name in plain}


def compose_music(root: Path, seed: int) -> Path:
    """Three genres in GTZAN's layout, eight clips of five images each; six of each for training."""
    for genre, style in zip(GENRES, composer.STYLES, strict=False):
        (root / genre).mkdir(parents=True)
        for index in range(8):
            samples = composer.compose(style, index, seed=seed, seconds=15.1)
            save(root / genre / f"{genre}.{index:05d}.wav", samples, composer.SAMPLE_RATE)
    return root


def put_images(folder: Path, pixels: np.ndarray) -> Path:
    """Write images uint8 (N, H, W) as PNGs in a new folder."""
    folder.mkdir(parents=True)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number:03d}.png")
    return folder


def windows_of(dataset: ImageDataset, count: int, seed: int) -> np.ndarray:
    """uint8 (count, H, W): windows of tracks at any offset, across the joints of segments."""
    rng = np.random.default_rng(seed)
    windows = []
    for track in rng.choice(np.unique(dataset.tracks), count):
        (members,) = np.nonzero(dataset.tracks == track)
        members = members[np.argsort(dataset.segments[members])]
        whole = np.concatenate(list(dataset.pixels[dataset.rows[members]]), axis=1)
        start = rng.integers(whole.shape[1] - dataset.image_size + 1)
        windows.append(whole[:, start : start + dataset.image_size])
    return np.stack(windows)


@pytest.fixture(scope="module")
def music(tmp_path_factory) -> Path:
    """A folder for all that is made once."""
    return tmp_path_factory.mktemp("evaluate")


@pytest.fixture(scope="module")
def known(music, command) -> Path:
    """The dataset of 90 training images and 30 held-out ones; classifiers are kept in it."""
    compose_music(music / "known_music", seed=1)
    line = ("preprocess.py", "--dataset", "gtzan", "--input", "known_music", "--output", "known")
    command(*line, cwd=music)
    return music / "known"


@pytest.fixture(scope="module")
def fresh(music, command) -> Path:
    """120 images of other music of the same styles, in class folders."""
    compose_music(music / "fresh_music", seed=2)
    line = ("preprocess.py", "--dataset", "gtzan", "--input", "fresh_music", "--output", "fresh")
    command(*line, cwd=music)
    return music / "fresh"


@pytest.fixture(scope="module")
def fresh_windows(fresh, music) -> Path:
    """240 images of the fresh music at any offset, flat."""
    return put_images(
        music / "fresh_windows", windows_of(load_dataset(fresh, split="all"), 240, seed=0)
    )


@pytest.fixture(scope="module")
def copies(known, music) -> Path:
    """Windows of the training tracks at any offset, with noise that nobody sees, flat."""
    pixels = windows_of(load_dataset(known), 120, seed=1).astype(np.int16)
    noise = np.random.default_rng(2).integers(-3, 4, pixels.shape)
    return put_images(music / "copies", (pixels + noise).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def runs(known, music) -> dict[str, Path]:
    """Run directories of barely trained models: the cgan has seen the training split, the dcgan all."""
    folders = {}
    for gan, split in (("cgan", "training"), ("dcgan", "all")):
        config = TrainingConfig(
            gan=gan, dataset=known, split=split, epochs=2, width=4, standing_batches=2, device="cpu"
        )
        folders[gan] = runner.train(runner.plan_run(config, music / gan))
    return folders


@pytest.fixture(scope="module")
def alone(runs, known, command, music):
    """The first evaluation of all: that of the cgan, by the real command. What it printed."""
    line = ("-m", "musicspectrogan", "evaluate", "--checkpoint", runs["cgan"], "--samples", SAMPLES)
    return command(*line, "--device", "cpu", cwd=music)


@pytest.fixture(scope="module")
def written(alone, runs) -> dict:
    """The contents of the file that it wrote."""
    return json.loads((runs["cgan"] / "evaluation.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def cache(alone, known) -> tuple[Path, bytes]:
    """The file of the classifiers that the first evaluation left, and what was in it."""
    (path,) = known.glob(".classifiers-*.pt")
    return path, path.read_bytes()


@pytest.fixture(scope="module")
def compared(runs, copies, cache, command, tmp_path_factory):
    """Both runs and the copies side by side, by the real command: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("compared")
    line = ("-m", "musicspectrogan", "evaluate", "--compare", runs["cgan"], runs["dcgan"], copies)
    return folder, command(*line, "--samples", SAMPLES, "--device", "cpu", cwd=folder)


@pytest.fixture(scope="module")
def yardstick(known, cache) -> Yardstick:
    """That of the known music, with the cached classifiers."""
    return make_yardstick(known, load_splits(known), CPU)


@pytest.fixture(scope="module")
def sabotage(known, fresh, copies, cache, music) -> dict[str, Report]:
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
        return evaluate(config, sources, music / "sabotage" / "comparison.json", CPU).reports


def value(report: Report, name: str, features: str = "") -> float:
    """A figure of all images."""
    return report.find(name, features).value.value


def real(report: Report, name: str, features: str = "") -> float:
    """What real music has in its place."""
    return report.find(name, features).real.value


def ratio(report: Report, name: str, features: str = "") -> float:
    """A distance over its floor."""
    return report.find(name, features).ratio.value


def shown(lines: list[str], title: str, features: str) -> list[str]:
    """The cells of a figure's row in the terminal, after its name and features."""
    start = f"{title}  {features}" if features else f"{title}  "
    (line,) = [line for line in lines if re.sub(r"  +", "  ", line).startswith(start)]
    return re.split(r"  +", line)[2 if features else 1 :]


# What is written


def test_json_has_every_figure_with_its_spread_and_real_music_beside(written):
    figures = written["figures"]
    assert written["format_version"] == 1
    assert {(f["name"], f["features"]) for f in figures} == expected_figures(conditional=True)
    assert len(figures) == len(COMPARED) + len(OF_IMAGES)
    for figure in figures:
        assert figure["genre"] is None
        for part in ("value", "real"):
            assert figure[part].keys() == {"value", "half_width"}
            assert np.isfinite(figure[part]["value"]) and figure[part]["half_width"] >= 0.0
        assert (figure["ratio"] is not None) == MEASURES[figure["name"]].is_distance


def test_distances_are_given_over_their_floor_too(written):
    for figure in written["figures"]:
        ours, floor = figure["value"], figure["real"]["value"]
        if figure["name"] == "kernel":
            floor = max(floor, figure["real"]["half_width"])
        if figure["name"] in PLAIN_DISTANCES | {"kernel"}:
            assert figure["ratio"] == {
                key: pytest.approx(part / floor) for key, part in ours.items()
            }


def test_json_says_what_was_judged_by_what(written, runs):
    subject = written["subject"]
    assert subject["checkpoint"] == "cgan/checkpoints/latest.pt"  # and not where on this machine
    assert (subject["gan"], subject["width"], subject["epoch"], subject["samples"]) == (
        "cgan",
        4,
        2,
        SAMPLES,
    )
    assert written["dataset"] == {
        "name": "gtzan", "genres": GENRES, "training_images": 90, "training_tracks": 18,
        "split": "held-out", "held_out_images": 30, "held_out_tracks": 6,
    }  # fmt: skip
    assert written["settings"]["seed"] == 0
    # Half of the training images stands in for samples, so that is what all sets are cut to.
    assert written["settings"]["compared_at"] == 45


def test_the_terminal_shows_the_figures_of_the_json(alone, written, runs):
    lines = alone.stdout.splitlines()
    assert re.split(r"  +", lines[2]) == ["figure", "features", "samples", "ratio", "real music"]
    for figure in written["figures"]:
        cells = shown(lines, MEASURES[figure["name"]].title, figure["features"])
        parts = [figure[part] for part in ("value", "ratio", "real") if figure[part]]
        assert len(cells) == len(parts)
        for cell, part in zip(cells, parts, strict=True):
            number, half_width = map(float, cell.split(" ± "))
            # Rounded to two digits of the half-width, but to three decimals at most.
            rounding = max(0.05 * part["half_width"], 0.0005) + 1e-9
            assert number == pytest.approx(part["value"], abs=rounding)
            assert half_width == pytest.approx(part["half_width"], abs=rounding)
    assert lines[-1] == f"Open {runs['cgan'] / 'evaluation.html'}"
    assert [line for line in lines if line in written["remarks"]] == written["remarks"]


def test_the_page_lies_beside_the_json(alone, runs):
    page = (runs["cgan"] / "evaluation.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert all(MEASURES[name].title in page for name in OF_IMAGES)
    assert not any(MEASURES[name].title in page for name in OF_PIECES)
    assert all(genre in page for genre in GENRES)


def test_terminal_and_page_begin_with_the_verdict(alone, compared, runs):
    for folder, name, done in (
        (runs["cgan"], "evaluation", alone),
        (compared[0], "comparison", compared[1]),
    ):
        said, empty, *_ = done.stdout.splitlines()
        assert said.endswith(".")
        assert "Fréchet distance" in said or said.startswith("No verdict: ")
        assert empty == ""
        page = (folder / f"{name}.html").read_text(encoding="utf-8")
        assert re.search(r"</h1>\n<p class=\"verdict\">(.*)</p></header>", page)[1] == html.escape(
            said
        )


def test_few_tracks_are_pooled_and_it_is_said(alone):
    assert (
        "No genre has the 8 held-out tracks and 20 images that figures of a single genre need"
        in alone.stdout
    )
    assert "blues" not in alone.stdout


TOO_FEW = (
    "The test tracks are 3 with 15 images, too few to judge by: the validation tracks, by which best.pt is "
    "chosen, were used too."
)


def test_where_test_tracks_are_too_few_the_validation_tracks_help_and_it_is_said(
    alone, written, runs
):
    assert TOO_FEW in written["remarks"]
    assert "Judged by 6 held-out tracks with 30 images." in alone.stdout.splitlines()
    assert TOO_FEW in alone.stdout.splitlines()
    page = (runs["cgan"] / "evaluation.html").read_text(encoding="utf-8")
    assert TOO_FEW in page and "<dt>split</dt><dd>held-out</dd>" in page


def test_the_test_tracks_alone_are_judged_by_where_they_are_enough(known, copies, tmp_path, capsys):
    root = with_splits(known, tmp_path / "dataset", training=16, validation=4)
    output = tmp_path / "out.json"
    line = ["--images", copies, "--dataset", root, "--output", output, "--device", "cpu"]
    told, facts = {}, {}
    for split in (None, "test", "held-out"):
        flags = [] if split is None else ["--split", split]
        with hurried(steps=2):
            cli.evaluate([*map(str, line), *flags], "evaluate")
        told[split] = capsys.readouterr().out.splitlines()
        report = json.loads(output.read_text(encoding="utf-8"))
        facts[split] = [
            report["dataset"][key] for key in ("split", "held_out_tracks", "held_out_images")
        ]
        assert not any("best.pt" in remark for remark in report["remarks"])
    assert facts == {
        None: ["test", 4, 20],
        "test": ["test", 4, 20],
        "held-out": ["held-out", 8, 40],
    }
    assert told[None] == told["test"] != told["held-out"]
    assert "Judged by 4 test tracks with 20 images." in told[None]


def test_without_test_tracks_the_validation_tracks_are_judged_by_and_it_is_said(known, tmp_path):
    root = with_splits(known, tmp_path / "dataset", training=16, validation=8)
    splits = load_splits(root)
    assert splits.split == "held-out" and len(splits.held_out) == 40
    (remark,) = splits.remarks
    assert remark.startswith(
        "There are no test tracks to judge by: the validation tracks, by which best.pt"
    )


def test_classifiers_are_trained_once_a_dataset(alone, compared, cache, known):
    path, contents = cache
    assert [f"({k} of 2)" in alone.stderr for k in (1, 2)] == [True, True]
    assert "Training a classifier on real images" not in compared[1].stderr
    assert list(known.glob(".classifiers-*")) == [path]
    assert path.read_bytes() == contents


def test_the_same_seed_gives_the_same_bytes_alone_or_beside_others(alone, compared, runs):
    """In another process, too."""
    folder, _ = compared
    reports = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))["reports"]
    again = {"format_version": 1, **reports["cgan"]}
    assert json.dumps(again, indent=1) + "\n" == (runs["cgan"] / "evaluation.json").read_text()


def test_subjects_are_compared_in_the_order_given(compared):
    folder, done = compared
    reports = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))["reports"]
    names = ["cgan", "dcgan", "copies"]
    assert list(reports) == names
    assert reports[names[2]]["subject"] == {"images": "copies", "samples": SAMPLES}
    lines = done.stdout.splitlines()
    heads = [cell for name in names for cell in (name, "ratio")]
    assert re.split(r"  +", lines[2]) == ["figure", "features", *heads, "real music"]
    assert lines[-1] == "Open comparison.html"
    page = (folder / "comparison.html").read_text(encoding="utf-8")
    assert all(name in page for name in names)
    # Every subject has the distances, real music too.
    assert len(shown(lines, "Fréchet distance", "untrained")) == 7


def test_only_a_conditional_model_has_figures_of_genres(compared):
    reports = json.loads((compared[0] / "comparison.json").read_text(encoding="utf-8"))["reports"]
    for name, conditional in (("cgan", True), ("dcgan", False), ("copies", False)):
        report = reports[name]
        found = {(f["name"], f["features"]) for f in report["figures"]}
        assert found == expected_figures(conditional=conditional)
        no_genres = "The samples have no genres: nothing is said of single genres."
        assert (no_genres in report["remarks"]) == (not conditional)


def test_a_model_trained_on_the_held_out_tracks_is_remarked_on(compared, runs):
    reports = json.loads((compared[0] / "comparison.json").read_text(encoding="utf-8"))["reports"]
    remark = "It was trained on the split all: figures on tracks that it has seen flatter it."
    assert [remark in report["remarks"] for report in reports.values()] == [False, True, False]
    assert remark in compared[1].stdout


# Sabotage


@pytest.mark.parametrize(("kind", "most"), [("classifier", 1.6), ("untrained", 2.0)])
def test_fresh_music_is_about_as_near_as_real(kind, most, sabotage):
    report = sabotage["fresh"]
    assert 0.6 < ratio(report, "frechet", kind) < most
    assert value(report, "precision", kind) > 0.6
    assert value(report, "recall", kind) > 0.6
    assert value(report, "coverage", kind) > 0.7
    assert 0.75 < value(report, "diversity", kind) < 1.25
    assert value(report, "duplicates", kind) < 0.3


def test_fresh_music_is_near_the_floor_of_every_distance(sabotage):
    figures = [figure for figure in sabotage["fresh"].figures if MEASURES[figure.name].is_distance]
    assert len(figures) == 9
    far = {(f.name, f.features): f.ratio.value for f in figures if not f.ratio.value < 2.5}
    assert far == {}


def test_every_figure_is_a_number(sabotage):
    """Also where sets are the same, or have nothing in common."""
    estimates = {
        (source, figure.name, figure.features): (*astuple(figure.value), *astuple(figure.real))
        for source, report in sabotage.items()
        for figure in report.figures
    }
    assert {key for key, numbers in estimates.items() if not np.isfinite(numbers).all()} == set()


def test_noise_is_far_from_music(sabotage):
    noise, fresh = sabotage["noise"], sabotage["fresh"]
    assert ratio(noise, "frechet", "untrained") > 5.0
    assert ratio(noise, "frechet", "untrained") > 5.0 * ratio(fresh, "frechet", "untrained")
    assert ratio(noise, "frechet", "classifier") > 3.0 * ratio(fresh, "frechet", "classifier")
    for name in ("precision", "recall", "density", "coverage"):
        assert value(noise, name, "untrained") == 0.0
    assert ratio(noise, "modulation") > 2.0 * ratio(fresh, "modulation")
    assert value(noise, "copied") == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_collapsed_model_lacks_diversity(kind, sabotage):
    """Three images, repeated: each may be good, but there are no others."""
    collapsed, fresh = sabotage["collapsed"], sabotage["fresh"]
    assert value(collapsed, "duplicates", kind) > 0.95
    assert value(collapsed, "recall", kind) < 0.05
    assert value(collapsed, "coverage", kind) < 0.65 * value(fresh, "coverage", kind)
    assert value(collapsed, "diversity", kind) < value(fresh, "diversity", kind)
    assert value(collapsed, "frechet", kind) > 1.5 * value(fresh, "frechet", kind)


def test_copies_of_training_tracks_are_found(sabotage):
    copied, fresh = sabotage["copies"], sabotage["fresh"]
    assert value(copied, "copied") > 0.9
    assert value(copied, "nearest_training") < 0.1 * real(copied, "nearest_training")
    assert value(fresh, "copied") < 0.2
    assert value(fresh, "nearest_training") > 0.8 * real(fresh, "nearest_training")


def test_samples_of_the_wrong_genre_are_told_from_right_ones(sabotage):
    shuffled, right = sabotage["shuffled"], sabotage["fresh"]
    for name in OF_GENRES:
        assert value(right, name) > 0.9
        assert real(right, name) > 0.9
    assert value(shuffled, "genre_accuracy") == pytest.approx(1 / 3, abs=0.03)
    assert value(shuffled, "gan_train") < 0.7
    # The very same images, so whatever asks for no genre is as good.
    assert ratio(shuffled, "frechet", "untrained") == pytest.approx(
        ratio(right, "frechet", "untrained"), rel=0.3
    )


def test_another_seed_tells_the_same_within_the_intervals(yardstick, fresh_windows):
    """The second seed takes other samples, cuts other parts and resamples other clips."""
    by_seed = [
        Judge(
            images_in(fresh_windows, yardstick.dataset, FEWEST_SAMPLES, seed), yardstick, seed
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
    monkeypatch.setattr(judge, "FEWEST_TRACKS_A_GENRE", 2)
    monkeypatch.setattr(judge, "FEWEST_IMAGES", 10)


@pytest.mark.usefixtures("few_are_enough")
def test_genres_with_enough_tracks_have_figures_of_their_own(yardstick, fresh):
    subject = images_in(fresh, yardstick.dataset, 200, seed=0)
    with hurried():
        report = Judge(subject, yardstick, 0).report()
    for genre in (None, *GENRES):
        found = {(f.name, f.features) for f in report.figures if f.genre == genre}
        assert found == expected_figures(conditional=True)
    assert not any("pooled" in remark for remark in report.remarks)
    # Forty images of each genre: the accuracy of all is the mean.
    each = [report.find("genre_accuracy", genre=genre).value.value for genre in GENRES]
    assert value(report, "genre_accuracy") == pytest.approx(np.mean(each))
    for figure in report.figures:
        assert np.isfinite([*astuple(figure.value), *astuple(figure.real)]).all(), figure
    # Each genre's samples are held against its own tracks: those of another would be many times as far.
    for genre in GENRES:
        assert max(report.find("frechet", kind, genre).ratio.value for kind in KINDS) < 2.5
    rows = [line.split()[0] for line in genre_table(report).splitlines()]
    assert rows[-3:] == GENRES


@pytest.mark.usefixtures("few_are_enough")
def test_a_genre_with_hardly_any_samples_is_pooled(yardstick, fresh_windows, tmp_path):
    """As in a folder of one genre, which `generate --genre` makes, with a single image of another."""
    shutil.copytree(fresh_windows, tmp_path / "jazz")
    put_images(tmp_path / "blues", np.zeros((1, 64, 64), np.uint8))
    subject = images_in(tmp_path, yardstick.dataset, 500, seed=0)
    assert subject.conditional
    with hurried(steps=2):
        report = Judge(subject, yardstick, 0).report()
    assert {figure.genre for figure in report.figures} == {None, "jazz"}
    assert any("blues, metal" in remark and "pooled" in remark for remark in report.remarks)


def test_one_genre_is_enough(known, fresh_windows, music, command, tmp_path):
    """The classifier is taught to tell tracks apart, and nothing is said of genres."""
    (tmp_path / "audio" / "music").mkdir(parents=True)
    assert known.parent == music
    for path in (music / "known_music").rglob("*.wav"):
        shutil.copy(path, tmp_path / "audio" / "music")
    line = ("preprocess.py", "--dataset", "folder", "--input", "audio", "--output", "images")
    command(*line, cwd=tmp_path)
    # Also where the samples lie in the one class folder there is.
    shutil.copytree(fresh_windows, tmp_path / "samples" / "music")
    config = EvaluateConfig(dataset=tmp_path / "images", samples=100)
    with hurried(steps=10):
        outcome = evaluate(config, {"one": tmp_path / "samples"}, tmp_path / "one.json", CPU)
    report = outcome.reports["one"]
    assert report.dataset["genres"] == ["music"]
    assert (
        "There is one genre only: the classifier was taught to tell the tracks apart."
        in report.remarks
    )
    assert {(f.name, f.features) for f in report.figures} == expected_figures(conditional=False)
    assert ratio(report, "frechet", "untrained") < 2.5
    assert outcome.page.is_file() and (tmp_path / "one.json").is_file()


# What is judged


def test_halves_share_no_track_and_have_all_genres(yardstick):
    halves = split_in_halves(yardstick.training)
    assert not set(halves[0].clips) & set(halves[1].clips)
    assert sorted(np.concatenate([half.clips for half in halves])) == sorted(
        yardstick.training.clips
    )
    for half in halves:
        assert np.bincount(half.labels).tolist() == [15, 15, 15]


def test_samples_are_of_each_genre_as_often_as_training_images(runs, known, tmp_path):
    checkpoint = load_checkpoint(runs["cgan"])
    source = runs["cgan"] / "checkpoints" / "latest.pt"
    dataset = load_dataset(known)
    keep = np.nonzero((dataset.labels > 0) | (np.arange(90) < 10))[0]
    lopsided = replace(
        dataset, rows=dataset.rows[keep], labels=dataset.labels[keep], tracks=dataset.tracks[keep]
    )
    subject = samples_of(checkpoint, source, lopsided, count=140, seed=0, device=CPU)
    assert subject.conditional
    assert np.bincount(subject.images.labels).tolist() == [20, 60, 60]
    assert subject.images.pixels.shape == (140, 64, 64)
    again, other = (
        samples_of(checkpoint, source, lopsided, count=140, seed=seed, device=CPU)
        for seed in (0, 1)
    )
    np.testing.assert_array_equal(again.images.pixels, subject.images.pixels)
    assert (other.images.pixels != subject.images.pixels).mean() > 0.3


def test_a_model_of_other_images_is_remarked_on(runs, known):
    checkpoint, dataset = load_checkpoint(runs["cgan"]), load_dataset(known)
    source = runs["cgan"] / "checkpoints" / "latest.pt"
    for fingerprint, said in ((dataset.fingerprint, False), ("other", True)):
        subject = samples_of(
            replace(checkpoint, dataset_fingerprint=fingerprint),
            source,
            dataset,
            count=3,
            seed=0,
            device=CPU,
        )
        remarks = ["trained on other images" in remark for remark in subject.remarks]
        assert remarks == [True] * said


def test_a_folder_gives_all_images_or_a_choice_by_the_seed(fresh, known):
    dataset = load_dataset(known)
    whole = images_in(fresh, dataset, 500, seed=0).images
    assert np.bincount(whole.labels).tolist() == [40, 40, 40]
    assert whole.n_clips == len(whole) == 120
    first, again, other = (images_in(fresh, dataset, 100, seed).images for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert (first.pixels != other.pixels).any()
    by_bytes = {
        image.tobytes(): label for image, label in zip(whole.pixels, whole.labels, strict=True)
    }
    assert len(first) == 100
    assert [by_bytes[image.tobytes()] for image in first.pixels] == first.labels.tolist()


@pytest.mark.parametrize(
    ("genres", "conditional"),
    [(["metal"], True), (["metal", "polka"], False), (["metal", ""], False)],
)
def test_images_may_say_their_genre_themselves(genres, conditional, known, tmp_path):
    """As those of `generate` do; where some do not, or of no genre of the dataset, none counts."""
    dataset = load_dataset(known)
    for number in range(FEWEST_SAMPLES):
        genre = genres[number % len(genres)]
        write_image(
            tmp_path / f"{number}.png",
            np.zeros((64, 64), np.uint8),
            dataset.spectrogram,
            genre=genre,
        )
    (tmp_path / ".half_written.png").write_bytes(b"")
    subject = images_in(tmp_path, dataset, 200, seed=0)
    assert subject.conditional == conditional
    assert len(subject.images) == FEWEST_SAMPLES
    assert set(subject.images.labels) == {GENRES.index("metal") if conditional else 0}


@pytest.fixture
def of_three_classes(tmp_path) -> ImageDataset:
    """Of the classes C, Jazz and c; nothing but their names matters."""
    for genre in ("C", "Jazz", "c"):
        put_images(tmp_path / "dataset" / genre, np.zeros((1, 64, 64), np.uint8))
    return load_dataset(tmp_path / "dataset")


def test_whatever_training_takes_is_judged(of_three_classes, tmp_path, caplog):
    """Any suffix in any case, 16 bits, nested folders, and class folders in capitals."""
    folder = tmp_path / "samples"
    names = [
        f"{genre}/{k}{suffix}"
        for genre in ("JAZZ", "C")
        for k, suffix in enumerate((".PNG", ".jpg", ".tif"))
    ]
    names += [f"JAZZ/deep/{number}.jpeg" for number in range(FEWEST_SAMPLES)]
    for name in [*names, "polka/x.png", "JAZZ/notes.txt"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        grey = np.full((64, 64), 127 * 257, np.uint16)
        picture = Image.fromarray(
            grey if name.lower().endswith(("png", "tif")) else (grey // 257).astype(np.uint8)
        )
        if name.endswith("txt"):
            (folder / name).write_text("no picture")
        else:
            picture.save(folder / name)
    subject = images_in(folder, of_three_classes, 500, seed=0)
    assert subject.conditional
    assert of_three_classes.genres == ["C", "Jazz", "c"]
    assert np.bincount(subject.images.labels).tolist() == [3, 3 + FEWEST_SAMPLES]
    assert (subject.images.pixels == 127).all()
    assert subject.remarks == ("There are no pictures of c: every distance suffers from that.",)
    told = "1 pictures lie in folders that are no classes of the dataset (polka) and are left out"
    assert told in caplog.text


@pytest.mark.parametrize(
    ("name", "genre"), [("C", "C"), ("c", "c"), ("jazz", "Jazz"), ("Jazz", "Jazz")]
)
def test_a_class_folder_is_matched_exactly_first(name, genre, of_three_classes, tmp_path):
    put_images(tmp_path / "samples" / name, np.zeros((FEWEST_SAMPLES, 64, 64), np.uint8))
    labels = images_in(tmp_path / "samples", of_three_classes, 500, seed=0).images.labels
    assert {of_three_classes.genres[label] for label in labels} == {genre}


def test_two_folders_for_one_class_are_ambiguous(of_three_classes, tmp_path, caplog):
    for name in ("JAZZ", "jazz"):
        put_images(tmp_path / "samples" / name, np.zeros((FEWEST_SAMPLES, 64, 64), np.uint8))
    with pytest.raises(UserError, match="0 pictures in it"):
        images_in(tmp_path / "samples", of_three_classes, 500, seed=0)
    assert "no classes of the dataset (JAZZ, jazz)" in caplog.text


def test_split_folders_are_enough_to_judge_by(tmp_path):
    for split, count in (("train", 40), ("test", 24)):
        for number, genre in enumerate(("jazz", "rock")):
            pixels = np.arange(count, dtype=np.uint8)[:, None, None] * np.ones(
                (1, 64, 64), np.uint8
            )
            put_images(tmp_path / split / genre, pixels + np.uint8(100 * number))
    splits = load_splits(tmp_path)
    assert (splits.split, len(splits.training), len(splits.held_out), splits.remarks) == (
        "test",
        80,
        48,
        (),
    )
    with pytest.raises(UserError, match="no readable image in the split validation"):
        load_splits(tmp_path, "validation")
    (tmp_path / "dataset.json").write_text('{"labels": null}')
    assert len(load_splits(tmp_path).held_out) == 48
    shutil.rmtree(tmp_path / "test")
    with pytest.raises(
        UserError, match=r"has no dataset\.json but another tool's, .*folders train and test"
    ):
        load_splits(tmp_path)


def test_a_damaged_cache_is_said_and_mended(cache, known, yardstick, tmp_path, caplog):
    path, contents = cache
    root = Path(shutil.copytree(known, tmp_path / "dataset"))
    (root / path.name).write_bytes(contents[: len(contents) // 2])
    with hurried(steps=2), caplog.at_level(logging.WARNING, "musicspectrogan"):
        mended = make_yardstick(root, load_splits(root), CPU)
        assert f"{root / path.name} is damaged; its classifiers are trained anew" in caplog.messages
        caplog.clear()
        again = make_yardstick(root, load_splits(root), CPU)
    assert not caplog.messages
    assert [p.name for p in root.glob(".classifiers-*")] == [path.name]
    pixels = yardstick.held_out.pixels
    np.testing.assert_array_equal(
        *(each.instruments[0].classifier.probabilities(pixels) for each in (mended, again))
    )


# Pieces


def tracks_in(root: Path) -> list[tuple[str, np.ndarray]]:
    """The genre of each track of a dataset, and its images uint8 (5, H, W) in order."""
    dataset = load_dataset(root, split="all")
    found = []
    for track in np.unique(dataset.tracks):
        (members,) = np.nonzero(dataset.tracks == track)
        members = members[np.argsort(dataset.segments[members])]
        found.append(
            (dataset.genres[dataset.labels[members[0]]], dataset.pixels[dataset.rows[members]])
        )
    return found


def put_pieces(folder: Path, pieces: list[tuple[str, np.ndarray]], *, remainder: int = 0) -> Path:
    """Write images uint8 (n, H, W) side by side, and some black frames, one PNG a piece, in class folders."""
    for number, (genre, images) in enumerate(pieces):
        (folder / genre).mkdir(parents=True, exist_ok=True)
        strip = np.pad(np.concatenate(list(images), axis=1), ((0, 0), (0, remainder)))
        Image.fromarray(strip).save(folder / genre / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="module")
def of_pieces(yardstick, known, fresh, music) -> dict[str, Report]:
    """Reports of folders of pieces, by what they are made of: the tracks of the fresh music as they are,
    their windows in any order, the first window of each again and again, the tracks without their genres."""
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
            subject = images_in(folder, yardstick.dataset, 500, 0, seconds=15.0)
            reports[name] = Judge(subject, yardstick, 0).report()
    return reports


COHERENCE = [f"coherence_{seconds}s" for seconds in (3, 6, 12)]


def test_pieces_are_judged_by_the_command(runs, known, cache, capsys):
    run = runs["cgan"]
    before = (run / "evaluation.json").read_bytes(), (run / "evaluation.html").read_bytes()
    line = ["--checkpoint", run, "--seconds", 9, "--samples", SAMPLES - 1, "--device", "cpu"]
    with hurried(steps=2):
        cli.evaluate(list(map(str, line)), "evaluate")
    told = capsys.readouterr().out.splitlines()
    report = json.loads((run / "evaluation-9s.json").read_text(encoding="utf-8"))
    found = {(f["name"], f["features"]) for f in report["figures"]}
    coherence = {(name, kind) for name in COHERENCE[:2] for kind in KINDS}
    assert found == expected_figures(conditional=True) | coherence | {
        ("tempo_stability", ""),
        ("shared_tempo", ""),
    }
    assert report["subject"]["samples"] == SAMPLES
    settings = {
        "seconds": 9.0,
        "pieces": SAMPLES // 3,
        "real_tracks": 24,
        "tempo_over_seconds": 8.92,
    }
    assert settings.items() <= report["settings"].items()
    for figure in report["figures"]:
        assert np.isfinite([*figure["value"].values(), *figure["real"].values()]).all()
    assert (
        len(shown(told, "coherence, 6 s", "untrained")) == 2
        and len(shown(told, "tempo stability", "")) == 2
    )
    assert "these pieces of 9 s" in told[0]
    page = (run / "evaluation-9s.html").read_text(encoding="utf-8")
    assert "How pieces hang together" in page and "<dt>pieces</dt><dd>40</dd>" in page
    assert page.count('alt="Chart: coherence by') == 2
    for what in ("real track", "generated piece"):
        assert page.count(f"<figcaption>{what}</figcaption>") == len(GENRES)
    # What single images scored stays where it is.
    assert before == (
        (run / "evaluation.json").read_bytes(),
        (run / "evaluation.html").read_bytes(),
    )


@pytest.mark.parametrize("gan", ["cgan", "dcgan"])
def test_samples_are_the_windows_of_pieces_as_generate_makes_them(gan, runs, known):
    checkpoint, dataset = load_checkpoint(runs[gan]), load_dataset(known)
    source = runs[gan] / "checkpoints" / "latest.pt"
    subject = samples_of(checkpoint, source, dataset, count=43, seed=3, device=CPU, seconds=12.0)
    assert subject.images.pixels.shape == (44, 64, 64)
    assert subject.images.clips.tolist() == np.repeat(np.arange(11), 4).tolist()
    assert subject.places.tolist() == list(range(4)) * 11
    assert subject.facts["samples"] == 44
    labels = subject.images.labels[::4]
    assert np.bincount(labels).tolist() == [4, 4, 3]
    sampler = Sampler(checkpoint, CPU)
    for number in (0, 10):
        genre = sampler.one_hot(GENRES[labels[number]], 1)[0]
        spec = LatentSpec("", "", (number, "evaluation", 3))
        made = piece(sampler, spec, genre, genre, 259, loops=False, truncation=1.0)  # 12.03 s
        windows = subject.images.pixels[4 * number : 4 * number + 4]
        np.testing.assert_array_equal(np.concatenate(list(windows), axis=1), made[:, :256])


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
        r"; they lose their thread: \d+ s apart, two moments of a piece are [01].\d\d times as unlike as "
        r"two of different pieces \(real music: 0.\d\d\)",
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


def test_instruments_do_not_judge_the_tracks_that_they_were_fitted_to(yardstick, known):
    real = yardstick.real_pieces
    training, held_out = (load_splits(known).training, load_splits(known).held_out)
    assert real.images.n_clips == 24 and len(real.images) == 120
    for instruments in yardstick.instruments:
        seen = np.isin(real.images.clips, instruments.fitted_to)
        assert seen.sum() == 45
        fitted = {image.tobytes() for image in real.images.pixels[seen]}
        assert fitted.isdisjoint(image.tobytes() for image in instruments.stand_in.pixels)
        assert fitted.isdisjoint(image.tobytes() for image in held_out.pixels[held_out.rows])
        assert fitted <= {image.tobytes() for image in training.pixels[training.rows]}


def test_windows_of_a_piece_are_drawn_together_wherever_they_are_compared(
    yardstick, fresh, monkeypatch
):
    """They lie in several blocks, and a set of 24 pieces is not one of 120 independent images."""
    given = []

    def recorded(
        figures, *sets: ImageSet, rng: np.random.Generator
    ) -> dict[str, resampling.Estimate]:
        given.append(
            [[clip for clip in np.unique(images.clips) if clip >= 1000] for images in sets]
        )
        return resampling.estimate(figures, *sets, rng=rng)

    monkeypatch.setattr(judge, "estimate", recorded)
    windows = np.concatenate([images for _, images in tracks_in(fresh)])
    labels, clips = np.repeat(np.repeat(np.arange(3), 8), 5), np.repeat(1000 + np.arange(24), 5)
    with hurried(steps=2):
        report = Judge(Subject(ImageSet(windows, labels, clips), True, {}), yardstick, 0).report()
    assert report.settings["compared_at"] == 45  # two blocks of 120 windows
    drawn = [[clips for clips in of_sets if clips] for of_sets in given]
    assert max(map(len, drawn)) == 1
    assert sum(map(len, drawn)) >= 2 + 3  # distances by both kinds, and what needs no features


def test_of_pieces_of_one_image_nothing_is_said_of_coherence(yardstick, fresh, tmp_path):
    put_pieces(tmp_path / "pieces", tracks_in(fresh) * 3)
    subject = images_in(tmp_path / "pieces", yardstick.dataset, 500, 0, seconds=4.0)
    assert subject.images.n_clips == len(subject.images) == 72
    with hurried(steps=2):
        report = Judge(subject, yardstick, 0).report()
    assert {(f.name, f.features) for f in report.figures} == expected_figures(conditional=True)
    assert (
        "Nothing is said of coherence and tempo: for these pieces and real tracks must be at least 5.9 s "
        "long, which are two images." in report.remarks
    )


def test_a_choice_of_pieces_is_one_of_whole_pieces(known, fresh, tmp_path):
    dataset = load_dataset(known)
    put_pieces(tmp_path / "pieces", tracks_in(fresh))
    first, again, other = (
        images_in(tmp_path / "pieces", dataset, 60, seed, seconds=15.0) for seed in (5, 5, 6)
    )
    assert len(first.images) == 60 and first.images.n_clips == 12
    np.testing.assert_array_equal(first.images.pixels, again.images.pixels)
    assert (first.images.pixels != other.images.pixels).any()


# What is refused


def refused(*arguments: object) -> str:
    """The message that `evaluate` with these arguments ends with; it is one line."""
    with pytest.raises(UserError) as failure:
        cli.evaluate([*map(str, arguments), "--device", "cpu"], "evaluate")
    message = str(failure.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.fixture
def idle(monkeypatch):
    """See that mistakes are found before anything that takes time."""

    def fail(*_: object) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr("musicspectrogan.evaluation.evaluate.make_yardstick", fail)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty folder to be in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda c: replace(c, genres=["blues", "jazz", "polka"]),
            ["blues, jazz, polka", "blues, jazz, metal", "name the dataset that it was trained on"],
        ),
        (
            lambda c: replace(c, spectrogram=replace(c.spectrogram, top_db=60.0)),
            ["spectrograms of other settings", "name the dataset that it was trained on"],
        ),
        (
            lambda c: replace(c, training={**c.training, "dataset": "/gone"}),
            ["--dataset is missing", "/gone", "not there any more"],
        ),
    ],
    ids=["genres", "audio", "vanished"],
)
def test_a_checkpoint_that_does_not_fit(change, told, runs, known, here):
    save_checkpoint(change(load_checkpoint(runs["cgan"])), here / "other.pt")
    dataset = () if "--dataset is missing" in told else ("--dataset", known)
    message = refused("--checkpoint", "other.pt", *dataset)
    assert all(part in message for part in told), message
    assert [path.name for path in here.iterdir()] == ["other.pt"]


def test_a_dataset_of_another_size_by_the_real_command(runs, music, command, tmp_path):
    line = (
        "--dataset",
        "gtzan",
        "--input",
        music / "known_music",
        "--output",
        "large",
        "--limit",
        6,
    )
    command("preprocess.py", *line, "--image-size", 128, cwd=tmp_path)
    # Those six clips of each genre are six held-out ones with 30 images, and 12 to train on.
    line = ("-m", "musicspectrogan", "evaluate", "--checkpoint", runs["cgan"], "--dataset", "large")
    told = command(*line, "--output", "out.json", cwd=tmp_path, status=2).stderr
    assert "64x64" in told and "128 pixels a side" in told
    assert not (tmp_path / "out.json").exists()


def with_splits(known: Path, root: Path, *, training: int, validation: int = 0) -> Path:
    """A dataset with so many tracks to train on and to choose by, of each genre in turn, the rest to test."""
    shutil.copytree(known, root, ignore=shutil.ignore_patterns(".*"))
    contents = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
    in_turn = sorted(contents["tracks"], key=lambda track: track["id"].partition(".")[2])
    for number, track in enumerate(in_turn):
        split = "training" if number < training else "validation"
        track["split"] = split if number < training + validation else "test"
    (root / "dataset.json").write_text(json.dumps(contents), encoding="utf-8")
    return root


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(
    ("training", "told"),
    [
        (7, ["its training tracks are 7 with 35 images", "at least 8 tracks and 40 images"]),
        (21, ["its held-out tracks are 3 with 15 images", "at least 4 tracks and 20 images"]),
        (24, ["no readable image in the split held-out"]),
    ],
)
def test_a_dataset_with_too_little_to_judge_by(training, told, known, copies, tmp_path):
    root = with_splits(known, tmp_path / "dataset", training=training)
    message = refused("--images", copies, "--dataset", root, "--output", tmp_path / "out.json")
    assert all(part in message for part in told), message
    assert str(root) in message
    assert ("preprocess more music" in message) == (training < 24)


@pytest.mark.usefixtures("idle")
def test_validation_alone_is_too_little_here(runs):
    message = refused("--checkpoint", runs["cgan"], "--split", "validation")
    assert "its validation tracks are 3 with 15 images" in message


@pytest.mark.usefixtures("idle")
def test_test_tracks_that_are_asked_for_must_be_enough(runs):
    message = refused("--checkpoint", runs["cgan"], "--split", "test")
    assert (
        "its test tracks are 3 with 15 images; at least 4 tracks and 20 images are needed"
        in message
    )


@pytest.mark.usefixtures("idle")
def test_a_dataset_without_splits(known, copies, tmp_path):
    shutil.copytree(
        known, tmp_path / "dataset", ignore=shutil.ignore_patterns(".*", "dataset.json")
    )
    message = refused("--images", copies, "--dataset", tmp_path / "dataset")
    assert "has no dataset.json" in message and "preprocess.py" in message


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            lambda folder: [p.unlink() for p in sorted(folder.iterdir())[21:]],
            ["21 pictures", f"at least {FEWEST_SAMPLES} are needed"],
        ),
        (
            lambda folder: Image.new("L", (128, 64)).save(folder / "005.png"),
            [
                "005.png is 128x64 pixels",
                "64x64",
                "give --seconds 6 if they are pieces",
                "resize",
                "--image-size",
            ],
        ),
        (
            lambda folder: (folder / "007.png").write_bytes(b"no picture"),
            ["007.png", "move it away"],
        ),
        (
            lambda folder: (folder / "007.png").write_bytes(
                (folder / "007.png").read_bytes()[:900]
            ),
            ["007.png", "cannot be read as an image", "mend it, or move it away"],
        ),
        (shutil.rmtree, ["there is no such folder"]),
    ],
    ids=["few", "size", "text", "torn", "nowhere"],
)
def test_wrong_images(spoil, told, copies, known, tmp_path):
    shutil.copytree(copies, tmp_path / "folder")
    spoil(tmp_path / "folder")
    message = refused("--images", tmp_path / "folder", "--dataset", known)
    assert all(part in message for part in (*told, str(tmp_path / "folder"))), message


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), ["--checkpoint is missing", "run directory", "latest"]),
        (("--checkpoint", "latest"), ["no run with a checkpoint in runs"]),
        (("--checkpoint", "nowhere"), ["nowhere", "no such checkpoint"]),
        (("--checkpoint", "empty"), ["empty", "no checkpoint in it", "name a run directory"]),
        (("--checkpoint", "text.txt"), ["text.txt", "not a checkpoint"]),
        (
            ("--checkpoint", "RUN", "--images", "empty"),
            ["one of --checkpoint, --images and --compare"],
        ),
        (
            ("--checkpoint", "RUN", "--compare", "RUN", "RUN"),
            ["--checkpoint, --images and --compare"],
        ),
        (("--compare", "RUN", "nowhere"), ["nowhere", "no such checkpoint"]),
        (("--compare", "RUN", "empty"), ["empty", "0 pictures"]),
        (("--checkpoint", "RUN", "--output", "empty"), ["empty is a folder", "evaluation.json"]),
        (("--checkpoint", "RUN", "--output", "page.html"), ["page.html", ".json"]),
        (("--checkpoint", "RUN", "--split", "vaildation"), ["did you mean 'validation'?"]),
        (
            ("--checkpoint", "RUN", "--split", "training"),
            ["'training' is not one of test, validation"],
        ),
        (("--checkpoint", "RUN", "--samples", str(FEWEST_SAMPLES - 1)), ["samples", "too few"]),
        (("--checkpoint", "RUN", "--samples", "2000000000"), ["samples", "at most 100000"]),
        (("--checkpoint", "RUN", "--seed", "-1"), ["seed"]),
        (("--checkpoint", "RUN", "--dataset", "nowhere"), ["nowhere", "preprocess.py"]),
        (("--images", "IMAGES"), ["--dataset is missing", "preprocess.py"]),
        (("--checkpoint", "RUN", "--seconds", "0"), ["seconds: 0 is not allowed", "3600"]),
        (("--checkpoint", "RUN", "--seconds", "nan"), ["seconds: nan is not allowed"]),
        (("--checkpoint", "RUN", "--seconds", "5000"), ["seconds: 5000 is not allowed", "3600"]),
        (
            ("--checkpoint", "RUN", "--seconds", "2.9"),
            ["--seconds 2.9 is shorter than one image, 2.97 s", "leave --seconds away"],
        ),
        (
            ("--checkpoint", "RUN", "--seconds", "60", "--samples", "60"),
            ["--samples 60", "3 pieces of 60 s", "4 are needed", "more than 60 --samples"],
        ),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, tuple) else "",
)
def test_wrong_arguments(arguments, told, runs, copies, here):
    (here / "empty").mkdir()
    (here / "text.txt").write_text("hello")
    places = {"RUN": runs["cgan"], "IMAGES": copies}
    message = refused(*(places.get(argument, argument) for argument in arguments))
    assert all(part in message for part in told), message
    # Flags of another command are no remedy.
    assert "--resume" not in message
    assert sorted(path.name for path in here.iterdir()) == ["empty", "text.txt"]


@pytest.mark.usefixtures("idle")
def test_pieces_must_be_as_long_as_is_asked_for_and_enough(known, fresh, tmp_path):
    folder = put_pieces(tmp_path / "pieces", tracks_in(fresh), remainder=40)
    line = ("--images", folder, "--dataset", known)
    message = refused(*line, "--seconds", 20)
    assert (
        str(folder) in message
        and "has 360 frames, which are 16.7 s; give fewer --seconds than 20" in message
    )
    for path in sorted(folder.rglob("*.png"))[3:]:
        path.unlink()
    assert "3 pictures in it; at least 10 are needed" in refused(*line, "--seconds", 15)
    shutil.copytree(folder, tmp_path / "long")
    for path in (tmp_path / "long").rglob("*.png"):
        Image.new("L", (64 * 30, 64)).save(path)
    assert "3 pictures in it; at least 4 are needed" in refused(
        "--images", tmp_path / "long", *line[2:], "--seconds", 89
    )


def test_evaluations_of_pieces_have_names_of_their_own():
    latest, best = Path("runs/0/checkpoints/latest.pt"), Path("runs/0/checkpoints/best.pt")
    assert run_directory.evaluation_file([latest], 30.0).name == "evaluation-30s.json"
    assert run_directory.evaluation_file([best], 7.5).name == "evaluation_best-7.5s.json"
    assert run_directory.evaluation_file([latest, best], 30.0).name == "comparison-30s.json"
    assert run_directory.evaluation_file([latest]).name == "evaluation.json"


def test_too_few_samples_by_the_real_command(command, tmp_path):
    line = ("-m", "musicspectrogan", "evaluate", "--checkpoint", "run", "--samples", 10)
    told = command(*line, cwd=tmp_path, status=2).stderr
    assert (
        told
        == f"musicspectrogan: --samples: 10 are too few; at least {FEWEST_SAMPLES} are needed\n"
    )
