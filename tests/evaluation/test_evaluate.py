"""The evaluate command: what it writes, and what it refuses."""

from __future__ import annotations

import html
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_helpers import (
    COMPARED,
    CPU,
    GENRES,
    KINDS,
    OF_IMAGES,
    PLAIN_DISTANCES,
    SAMPLES,
    expected_figures,
    hurried,
    put_pieces,
    ratio,
    tracks_in,
    with_splits,
)
from PIL import Image

from musicspectrogan import cli
from musicspectrogan.errors import UserError
from musicspectrogan.evaluation.evaluate import evaluate
from musicspectrogan.evaluation.reference import load_splits
from musicspectrogan.evaluation.report import (
    AS_NEAR,
    CANNOT_TELL,
    FARTHER,
    METRICS,
    OF_PIECES,
)
from musicspectrogan.evaluation.settings import MIN_SAMPLES, EvaluateConfig
from musicspectrogan.training import run_directory
from musicspectrogan.training.checkpoint import save_checkpoint
from musicspectrogan.training.run_checkpoints import load_checkpoint

pytest_plugins = ["evaluation_fixtures"]


@pytest.fixture(scope="module")
def alone(runs, known, command, music):
    """The first evaluation of all: that of the cgan, by the real command. What it printed."""
    line = ("-m", "musicspectrogan", "evaluate", "--checkpoint", runs["cgan"], "--samples", SAMPLES)
    with hurried():
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
    """Both runs and the copies side by side by the command: its folder and output."""
    folder = tmp_path_factory.mktemp("compared")
    line = ("-m", "musicspectrogan", "evaluate", "--compare", runs["cgan"], runs["dcgan"], copies)
    with hurried():
        return folder, command(*line, "--samples", SAMPLES, "--device", "cpu", cwd=folder)


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
        difference = figure["value"]["value"] - figure["real"]["value"]
        assert figure["difference"]["value"] == pytest.approx(difference)
        is_distance = METRICS[figure["name"]].is_distance
        assert (figure["ratio"] is not None) == is_distance
        assert (figure["detectable_ratio"] is not None) == is_distance
        assert figure["finding"] in ((FARTHER, AS_NEAR, CANNOT_TELL) if is_distance else ("",))


def test_distances_are_given_over_their_floor_too(written):
    for figure in written["figures"]:
        ours, floor = figure["value"], figure["real"]["value"]
        if figure["name"] == "kernel":
            floor = max(floor, figure["real"]["half_width"])
        if figure["name"] in PLAIN_DISTANCES | {"kernel"}:
            assert figure["ratio"] == {
                "value": pytest.approx(ours["value"] / floor),
                "half_width": pytest.approx(figure["difference"]["half_width"] / floor),
            }


def test_json_says_what_was_judged_by_what(written, runs):
    source = written["subject"]
    assert source["checkpoint"] == "cgan/checkpoints/latest.pt"  # and not where on this machine
    assert (source["gan"], source["width"], source["epoch"], source["samples"]) == (
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
    assert re.split(r"  +", lines[2]) == [
        "figure", "features", "samples", "ratio", "finding (from)", "real music"
    ]  # fmt: skip
    for figure in written["figures"]:
        cells = shown(lines, METRICS[figure["name"]].title, figure["features"])
        if figure["finding"]:
            finding = cells.pop(2)
            assert finding.startswith(f"{figure['finding']} (")
            smallest = float(finding.partition("(")[2].rstrip(")"))
            assert smallest == pytest.approx(figure["detectable_ratio"], abs=0.5)
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
    assert all(METRICS[name].title in page for name in OF_IMAGES)
    assert not any(METRICS[name].title in page for name in OF_PIECES)
    assert all(genre in page for genre in GENRES)


def test_terminal_and_page_begin_with_the_verdict(alone, compared, runs):
    for folder, name, done in (
        (runs["cgan"], "evaluation", alone),
        (compared[0], "comparison", compared[1]),
    ):
        said, empty, *_ = done.stdout.splitlines()
        assert said.endswith(".")
        assert "Fréchet distance" in said or said.startswith(
            "Cannot tell: by the 6 held-out tracks "
        )
        assert empty == ""
        page = (folder / f"{name}.html").read_text(encoding="utf-8")
        found = re.search(r"</h1>\n<p class=\"verdict\">(.*)</p></header>", page)[1]
        assert html.unescape(found) == said


def test_few_tracks_are_pooled_and_it_is_said(alone):
    assert (
        "Without figures of their own, for which a genre needs 8 held-out tracks and 20 images: "
        in alone.stdout
    )
    assert "blues" not in alone.stdout


TOO_FEW = (
    "The test split has 3 tracks with 15 images, too few to judge by: the validation tracks, on "
    "which best.pt is chosen, were used too."
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
    found = {split: load_splits(root, split) for split in (None, "test", "held-out")}
    assert {
        key: (splits.split, len(np.unique(splits.held_out.tracks)), len(splits.held_out))
        for key, splits in found.items()
    } == {None: ("test", 4, 20), "test": ("test", 4, 20), "held-out": ("held-out", 8, 40)}
    assert not any(splits.remarks for splits in found.values())
    output = tmp_path / "out.json"
    line = ["--images", copies, "--dataset", root, "--output", output, "--device", "cpu"]
    with hurried(steps=2):
        cli.evaluate(list(map(str, line)), "evaluate")
    assert "Judged by 4 test tracks with 20 images." in capsys.readouterr().out.splitlines()
    assert json.loads(output.read_text(encoding="utf-8"))["dataset"]["split"] == "test"


def test_without_test_tracks_the_validation_tracks_are_judged_by_and_it_is_said(known, tmp_path):
    root = with_splits(known, tmp_path / "dataset", training=16, validation=8)
    splits = load_splits(root)
    assert splits.split == "held-out" and len(splits.held_out) == 40
    (remark,) = splits.remarks
    assert remark.startswith(
        "There are no test tracks to judge by: the validation tracks, on which best.pt"
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


def test_sources_are_compared_in_the_order_given(compared):
    folder, done = compared
    reports = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))["reports"]
    names = ["cgan", "dcgan", "copies"]
    assert list(reports) == names
    assert reports[names[2]]["subject"] == {"images": "copies", "samples": SAMPLES}
    lines = done.stdout.splitlines()
    heads = [cell for name in names for cell in (name, "ratio", "finding (from)")]
    assert re.split(r"  +", lines[2]) == ["figure", "features", *heads, "real music"]
    assert lines[-1] == "Open comparison.html"
    page = (folder / "comparison.html").read_text(encoding="utf-8")
    assert all(name in page for name in names)
    # Every source has the distances, real music too.
    assert len(shown(lines, "Fréchet distance", "untrained")) == 10


def test_only_a_conditional_model_has_figures_of_genres(compared):
    reports = json.loads((compared[0] / "comparison.json").read_text(encoding="utf-8"))["reports"]
    for name, conditional in (("cgan", True), ("dcgan", False), ("copies", False)):
        report = reports[name]
        found = {(f["name"], f["features"]) for f in report["figures"]}
        assert found == expected_figures(conditional=conditional)
        no_genres = "The samples have no genres: there are no figures of single genres."
        assert (no_genres in report["remarks"]) == (not conditional)


def test_a_model_trained_on_the_held_out_tracks_is_remarked_on(compared, runs):
    reports = json.loads((compared[0] / "comparison.json").read_text(encoding="utf-8"))["reports"]
    remark = (
        "The model was trained on the split all: scores on tracks that it has seen are too good."
    )
    assert [remark in report["remarks"] for report in reports.values()] == [False, True, False]
    assert remark in compared[1].stdout


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
        "There is only one genre: the classifier was trained to tell tracks apart."
        in report.remarks
    )
    assert {(f.name, f.features) for f in report.figures} == expected_figures(conditional=False)
    assert ratio(report, "frechet", "untrained") < 3.0
    assert outcome.page.is_file() and (tmp_path / "one.json").is_file()


COHERENCE = [f"coherence_{seconds}s" for seconds in (3, 6, 12)]


def test_pieces_are_judged_by_the_command(runs, known, cache, capsys):
    run = runs["cgan"]
    before = (run / "evaluation.json").read_bytes(), (run / "evaluation.html").read_bytes()
    line = ["--checkpoint", run, "--seconds", 9, "--samples", SAMPLES - 1, "--device", "cpu"]
    with hurried(steps=2):
        cli.evaluate(list(map(str, line)), "evaluate")
    lines = capsys.readouterr().out.splitlines()
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
        len(shown(lines, "coherence, 6 s", "untrained")) == 2
        and len(shown(lines, "tempo stability", "")) == 2
    )
    assert "these pieces of 9 s" in lines[0]
    page = (run / "evaluation-9s.html").read_text(encoding="utf-8")
    assert "Structure of pieces" in page and "<dt>pieces</dt><dd>40</dd>" in page
    assert page.count('alt="Chart: coherence by') == 2
    for what in ("real track", "generated piece"):
        assert page.count(f"<figcaption>{what}</figcaption>") == len(GENRES)
    # What single images scored stays where it is.
    assert before == (
        (run / "evaluation.json").read_bytes(),
        (run / "evaluation.html").read_bytes(),
    )


# What is refused


def refused(*arguments: object) -> str:
    """The message that `evaluate` with these arguments ends with; it is one line."""
    with pytest.raises(UserError) as failure:
        cli.evaluate([*map(str, arguments), "--device", "cpu"], "evaluate")
    message = failure.value.flag_message
    assert len(message.splitlines()) == 1
    return message


@pytest.fixture
def idle(monkeypatch):
    """See that mistakes are found before anything that takes time."""

    def fail(*_: object) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr("musicspectrogan.evaluation.evaluate.build_reference", fail)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty folder to be in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (
            lambda c: replace(c, genres=["blues", "jazz", "polka"]),
            ["blues, jazz, polka", "blues, jazz, metal", "name the dataset that it was trained on"],
        ),
        (
            lambda c: replace(c, spectrogram=replace(c.spectrogram, top_db=60.0)),
            ["spectrograms with other settings", "name the dataset that it was trained on"],
        ),
        (
            lambda c: replace(c, training={**c.training, "dataset": "/gone"}),
            ["--dataset is missing", "/gone", "no longer exists"],
        ),
    ],
    ids=["genres", "audio", "vanished"],
)
def test_a_checkpoint_that_does_not_fit(change, parts, runs, known, here):
    save_checkpoint(change(load_checkpoint(runs["cgan"])), here / "other.pt")
    dataset = () if "--dataset is missing" in parts else ("--dataset", known)
    message = refused("--checkpoint", "other.pt", *dataset)
    assert all(part in message for part in parts), message
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
    stderr = command(*line, "--output", "out.json", cwd=tmp_path, status=2).stderr
    assert "64x64" in stderr and "128 pixels a side" in stderr
    assert not (tmp_path / "out.json").exists()


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(
    ("training", "parts"),
    [
        (7, ["its split training has 7 tracks with 35 images", "at least 8 tracks and 40 images"]),
        (21, ["its split held-out has 3 tracks with 15 images", "at least 4 tracks and 20 images"]),
        (24, ["no readable image in the split held-out"]),
    ],
)
def test_a_dataset_with_too_little_to_judge_by(training, parts, known, copies, tmp_path):
    root = with_splits(known, tmp_path / "dataset", training=training)
    message = refused("--images", copies, "--dataset", root, "--output", tmp_path / "out.json")
    assert all(part in message for part in parts), message
    assert str(root) in message
    assert "preprocess more music" in message


@pytest.mark.usefixtures("idle")
def test_validation_alone_is_too_little_here(runs):
    message = refused("--checkpoint", runs["cgan"], "--split", "validation")
    assert "its split validation has 3 tracks with 15 images" in message


@pytest.mark.usefixtures("idle")
def test_test_tracks_that_are_asked_for_must_be_enough(runs):
    message = refused("--checkpoint", runs["cgan"], "--split", "test")
    assert (
        "its split test has 3 tracks with 15 images; at least 4 tracks and 20 images are needed"
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
    ("spoil", "parts"),
    [
        (
            lambda folder: [p.unlink() for p in sorted(folder.iterdir())[21:]],
            ["21 pictures", f"at least {MIN_SAMPLES} are needed"],
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
            ["007.png", "move it out of the folder"],
        ),
        (
            lambda folder: (folder / "007.png").write_bytes(
                (folder / "007.png").read_bytes()[:900]
            ),
            ["007.png", "cannot be read as an image", "repair it, or move it out of the folder"],
        ),
        (shutil.rmtree, ["there is no such folder"]),
    ],
    ids=["few", "size", "text", "torn", "nowhere"],
)
def test_wrong_images(spoil, parts, copies, known, tmp_path):
    shutil.copytree(copies, tmp_path / "folder")
    spoil(tmp_path / "folder")
    message = refused("--images", tmp_path / "folder", "--dataset", known)
    assert all(part in message for part in (*parts, str(tmp_path / "folder"))), message


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(
    ("arguments", "parts"),
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
        (("--checkpoint", "RUN", "--samples", str(MIN_SAMPLES - 1)), ["samples", "too few"]),
        (("--checkpoint", "RUN", "--samples", "2000000000"), ["samples", "at most 100000"]),
        (("--checkpoint", "RUN", "--seed", "-1"), ["seed"]),
        (("--checkpoint", "RUN", "--dataset", "nowhere"), ["nowhere", "preprocess.py"]),
        (("--images", "IMAGES"), ["--dataset is missing", "preprocess.py"]),
        (("--checkpoint", "RUN", "--seconds", "0"), ["seconds: 0 is not allowed", "3600"]),
        (("--checkpoint", "RUN", "--seconds", "nan"), ["seconds: nan is not allowed"]),
        (("--checkpoint", "RUN", "--seconds", "5000"), ["seconds: 5000 is not allowed", "3600"]),
        (
            ("--checkpoint", "RUN", "--seconds", "2.9"),
            ["--seconds 2.9 is shorter than one image, 2.97 s", "omit --seconds"],
        ),
        (
            ("--checkpoint", "RUN", "--seconds", "60", "--samples", "60"),
            ["--samples 60", "3 pieces of 60 s", "4 are needed", "at least 61"],
        ),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, tuple) else "",
)
def test_wrong_arguments(arguments, parts, runs, copies, here):
    (here / "empty").mkdir()
    (here / "text.txt").write_text("hello")
    places = {"RUN": runs["cgan"], "IMAGES": copies}
    message = refused(*(places.get(argument, argument) for argument in arguments))
    assert all(part in message for part in parts), message
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
    stderr = command(*line, cwd=tmp_path, status=2).stderr
    assert (
        stderr == f"musicspectrogan: --samples: 10 are too few; at least {MIN_SAMPLES} are needed\n"
    )


# Exported models


def test_an_exported_model_has_the_figures_of_its_run(
    runs, known, *, written, copies, command, tmp_path
):
    """Also in a zip, by another name, beside others; and its card shows them."""
    line = ("-m", "musicspectrogan", "export", "--checkpoint", runs["cgan"], "--output", "v1.5")
    command(*line, "--sounds", 0, cwd=tmp_path)
    line = ("-m", "musicspectrogan", "evaluate", "--samples", SAMPLES, "--device", "cpu")
    with hurried():
        command(*line, "--checkpoint", "v1.5", "--dataset", known, cwd=tmp_path)
    report = json.loads((tmp_path / "evaluation_v1.5.json").read_text(encoding="utf-8"))
    assert report["figures"] == written["figures"]
    assert report["subject"] == {**written["subject"], "checkpoint": "v1.5"}
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "v1.5")
    with hurried():
        command(*line, "--compare", packed, copies, "--dataset", known, cwd=tmp_path)
    compared = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    assert list(compared["reports"]) == ["packed.zip", copies.name]
    assert compared["reports"]["packed.zip"]["figures"] == written["figures"]
    assert not (tmp_path / "v1.5" / "evaluation.json").exists()
    card = (tmp_path / "v1.5" / "README.md").read_text(encoding="utf-8")
    assert "| Fréchet distance, untrained features | " in card
    # Without --dataset, where nobody knows the folder.
    told = command(*line, "--checkpoint", "v1.5", cwd=tmp_path, status=2).stderr
    assert "--dataset is missing" in told
