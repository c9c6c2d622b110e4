"""The page of an evaluation: its text, and the pictures inside it."""

from __future__ import annotations

import io
import json
import logging
import math
import re
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from chromium import Tab
from conftest import Elements
from PIL import Image

from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.evaluation import evaluate as evaluating
from musicspectrogan.evaluation import plots
from musicspectrogan.evaluation.metrics import Profile
from musicspectrogan.evaluation.page import write_comparison, write_page
from musicspectrogan.evaluation.page_data import NearestPair, PageData, Strip
from musicspectrogan.evaluation.plots import Cloud
from musicspectrogan.evaluation.report import (
    METRICS,
    Figure,
    Report,
    format_estimate,
    format_finding,
)
from musicspectrogan.evaluation.resampling import Estimate
from musicspectrogan.evaluation.settings import EvaluateConfig
from musicspectrogan.evaluation.verdict import comparison_verdict, verdict

HOSTILE = '<b>&"x"'
QUOTE_OUT = "\" onerror='alert(1)' data-x=\""
# A formula to matplotlib; what it hides in a legend; a script its font lacks; no Unicode.
GENRES = [HOSTILE, "$a$", "_rock", "日本", "\udcff"]
COLUMNS = 3


class PageElements(Elements):
    """With the pictures that are in the page itself."""

    @property
    def tags(self) -> list[str]:
        return [tag for tag, _ in self.found]

    @property
    def pictures(self) -> list[tuple[str, Image.Image]]:
        """What each picture is said to show, and the picture."""
        images = [attributes for tag, attributes in self.found if tag == "img"]
        prefix = "data:image/png;base64,"
        assert all(image["src"].startswith(prefix) for image in images)
        files = [
            io.BytesIO(b64decode(image["src"].removeprefix(prefix), validate=True))
            for image in images
        ]
        return [(image["alt"], Image.open(file)) for image, file in zip(images, files, strict=True)]


def page_data(
    genres: list[str], conditional: bool = True, side: int = 64, n_pairs: int = 2
) -> PageData:
    """Noise in every picture."""
    rng = np.random.default_rng(0)
    count = len(genres)

    def images(number: int) -> np.ndarray:
        return rng.integers(0, 256, (number, side, side), dtype=np.uint8)

    def points() -> tuple[np.ndarray, np.ndarray]:
        return rng.normal(size=(20, 2)), rng.integers(0, count, 20)

    bands, hz = np.linspace(-20.0, -60.0, side), np.arange(1, side // 2 + 1) / 3.0
    confusion = {
        "held_out": rng.integers(0, 30, (count, count)) + 50 * np.eye(count, dtype=np.int64)
    }
    if conditional:
        confusion["samples"] = confusion["held_out"][::-1]
    return PageData(
        genres=genres,
        conditional=conditional,
        spectrogram=SpectrogramConfig.for_image_size(side),
        real_rows=[images(COLUMNS) for _ in genres],
        sample_rows=[images(COLUMNS) for _ in genres],
        nearest_pairs=[
            NearestPair(*images(2), 3.25 + n, genres[0] if conditional else "")
            for n in range(n_pairs)
        ],
        real_profile=Profile(bands, bands * 0 + 9, -hz, 2.0),
        sample_profile=Profile(bands - 3, bands * 0 + 8, -2 * hz, 3.0),
        confusion=confusion,
        clouds=[Cloud(features, *points(), *points()) for features in ("classifier", "untrained")],
    )


def report_of(frechet: float = 9.0, genres: list[str] | None = None) -> Report:
    figures = [
        Figure("precision", "untrained", None, Estimate(0.712, 0.041), Estimate(0.86, 0.03)),
        Figure("frechet", "classifier", None, Estimate(frechet, 0.5), Estimate(1.5, 0.2)),
        Figure("frechet", "untrained", None, Estimate(2.0 * frechet, 0.5), Estimate(1.25, 0.1)),
        Figure("kernel", "untrained", None, Estimate(-0.02, 0.01), Estimate(0.01, 0.04)),
        Figure("precision", "classifier", None, Estimate(math.nan, 0.0), None),
        Figure("nearest_training", "", None, Estimate(9.12, 0.31), Estimate(8.73, 0.28)),
    ]
    for number, genre in enumerate(genres or []):
        figures += [
            Figure(
                "frechet", "classifier", genre, Estimate(31.5 + number, 2.0), Estimate(4.0, 0.9)
            ),
            Figure("recall", "untrained", genre, Estimate(0.333, 0.111), Estimate(0.777, 0.055)),
        ]
    return Report(
        subject={
            "checkpoint": HOSTILE,
            "images_seen": 123904,
            "ema": True,
            "nested": {"a": 1.5, "b": None},
        },
        dataset={"folder": "/music", "genres": genres or []},
        settings={},
        figures=figures,
        remarks=["Few tracks.", QUOTE_OUT],
    )


def page_of(folder: Path, report: Report, data: PageData, title: str = "A run") -> str:
    path = folder / "evaluation.html"
    write_page(path, title, report, data)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a GAN with genres, whose names are as bad as names can be."""
    folder = tmp_path_factory.mktemp("page")
    return page_of(folder, report_of(genres=GENRES), page_data(GENRES), title=f"</title>{HOSTILE}")


def test_every_figure_is_on_the_page(page):
    text = PageElements(page).text
    for figure in report_of(genres=GENRES).figures:
        if not math.isnan(figure.value.value):
            assert format_estimate(figure.value) in text
        assert METRICS[figure.name].title in text
        if figure.ratio:
            assert f"{format_estimate(figure.ratio)} × real" in text
            assert format_finding(figure) in text
    assert {"0.860 ± 0.030", "1.50 ± 0.20", "real 0.777 ± 0.055"} <= set(text)
    assert not any("nan" in part for part in text)


def test_what_the_tracks_cannot_tell_is_on_the_page(tmp_path):
    """First of all, and below the distance with what would have shown."""
    figures = [Figure("frechet", "untrained", None, *(Estimate(2.0, 3.0),) * 2, Estimate(0.0, 1.4))]
    report = Report({}, {"split": "test", "held_out_tracks": 4}, {}, figures)
    text = PageElements(page_of(tmp_path, report, page_data(["a"]))).text
    assert "cannot tell (2.0)" in text
    assert any(part.startswith("Cannot tell: by the 4 test tracks") for part in text)


def test_figures_of_one_name_stand_together(page):
    table = page[page.index("<table>") : page.index("</table>")]
    bodies = re.findall(r"<tbody>(.*?)</tbody>", table, re.DOTALL)
    heads = [re.search(r'<th scope="rowgroup" colspan="3">([^<]*) <', body)[1] for body in bodies]
    assert heads == [
        METRICS[name].title for name in ("precision", "frechet", "kernel", "nearest_training")
    ]
    kinds = [re.findall(r'<td class="left">(\w*)</td>', body) for body in bodies]
    assert kinds == [["untrained", "classifier"], ["classifier", "untrained"], ["untrained"], [""]]


def test_the_verdict_comes_first(page):
    said = verdict(report_of(genres=GENRES))
    text = PageElements(page).text
    assert text[text.index(f"</title>{HOSTILE}", 1) :][:3] == [
        f"</title>{HOSTILE}",
        said,
        "To keep in mind",
    ]


def test_the_facts_and_remarks_are_on_the_page(page):
    text = PageElements(page).text
    assert {"images seen", "123904", "yes", "a: 1.5, b: none", "/music", "Few tracks."} <= set(text)
    assert "Settings" not in text


def test_names_are_only_text(page):
    elements = PageElements(page)
    assert elements.text.count(f"</title>{HOSTILE}") == 2
    assert {HOSTILE, "$a$", "_rock", "日本", "?", QUOTE_OUT} <= set(elements.text)
    assert not [
        a for _, attributes in elements.found for a in attributes if a.startswith(("on", "data-"))
    ]
    # The page's own: the names of the kinds of features.
    assert elements.tags.count("b") == 2


def test_nothing_is_fetched_from_elsewhere(page):
    # The filter is in the style that this page shares, and is not used here.
    assert set(re.findall(r"https?:|url\([^)]*\)|@import", page)) <= {"url(#magma)"}
    elements = PageElements(page)
    assert not {"script", "link", "iframe", "base", "a", "audio"} & set(elements.tags)
    assert {name for _, attributes in elements.found for name in attributes} & {"src", "href"} == {
        "src"
    }


def test_every_picture_can_be_seen(page):
    shown = PageElements(page).pictures
    kinds = [alt.split()[0].strip(":") for alt, _ in shown]
    assert kinds == [
        *["Chart"], *["Spectrograms"] * 10, *["A"] * 2, *["Chart"] * 2, *["Confusion"] * 2,
        *["Real"] * 2
    ]  # fmt: skip
    for alt, picture in shown:
        picture.load()
        assert picture.format == "PNG"
        assert 200 <= picture.width <= 1200, alt
        assert 100 <= picture.height <= 1200, alt
        assert len(picture.convert("RGB").getcolors(picture.width * picture.height)) > 20, alt


def test_sheets_are_in_the_colours_of_the_page_of_sounds(page):
    (sheet,) = [
        picture
        for alt, picture in PageElements(page).pictures
        if alt == "Spectrograms: $a$, samples"
    ]
    grey = page_data(GENRES).sample_rows[1][0, 0, :2]
    magma = pytest.importorskip("matplotlib").colormaps["magma"](grey, bytes=True)[:, :3]
    # The first image begins after a gap of 4 pixels; its own are doubled.
    pixels = np.asarray(sheet.convert("RGB"))[4, [4, 6]]
    assert (pixels == magma).all()


def test_large_images_are_shrunk():
    def size(side: int) -> tuple[int, int]:
        row = np.zeros((2, side, side), dtype=np.uint8)
        return Image.open(io.BytesIO(plots.draw_sheet([row]))).size

    assert size(64) == size(128) == size(256)


def test_a_gan_without_genres(tmp_path):
    elements = PageElements(
        page_of(tmp_path, report_of(), page_data(GENRES[1:], conditional=False))
    )
    alts = [alt for alt, _ in elements.pictures]
    assert [alt for alt in alts if "Spectro" in alt] == [
        "Spectrograms: real, held out",
        "Spectrograms: samples",
    ]
    assert len([alt for alt in alts if "Confusion" in alt]) == 1
    assert len([alt for alt in alts if "points" in alt]) == 2
    assert {"3.25 dB", "4.25 dB"} <= set(elements.text)
    assert not {"details", "script"} & set(elements.tags)
    assert "$a$" not in elements.text


def test_a_single_genre(tmp_path):
    elements = PageElements(page_of(tmp_path, report_of(genres=["rock"]), page_data(["rock"])))
    alts = [alt for alt, _ in elements.pictures]
    assert "Spectrograms: rock, samples" in alts
    assert not [alt for alt in alts if "Confusion" in alt]
    assert {"details", "summary"} <= set(elements.tags)
    assert "rock, 3.25 dB" in elements.text


def test_what_there_is_none_of_is_left_out(tmp_path):
    nothing = np.zeros((0, 64, 64), dtype=np.uint8)
    data = replace(
        page_data(["a", "b"], n_pairs=0), confusion={}, clouds=[], sample_rows=[nothing, nothing]
    )
    report = Report({}, {}, {}, [Figure("recall", "", None, Estimate(0.5, 0.1), None)])
    elements = PageElements(page_of(tmp_path, report, data))
    assert [alt.split(",")[0] for alt, _ in elements.pictures] == [
        "Spectrograms: a", "Spectrograms: b", "Chart: level in each band",
        "Chart: modulation spectrum"
    ]  # fmt: skip
    headings = " ".join(elements.text)
    assert "Is it copying?" not in headings
    assert "To keep in mind" not in headings
    assert "0.50 ± 0.10" in elements.text


def comparison_of(folder: Path, names: list[str], reports: list[Report]) -> PageElements:
    path = folder / "comparison.html"
    write_comparison(path, names, reports)
    page = path.read_text(encoding="utf-8")
    assert not re.findall(r"https?:|<script", page)
    elements = PageElements(page)
    elements.strong = re.findall(r"<strong>([^<]*)</strong>", page)
    return elements


def test_a_comparison_marks_the_best_and_what_cannot_be_told_from_it(tmp_path):
    reports = [report_of(9.0), report_of(7.5), report_of(8.0), report_of(8.3)]
    elements = comparison_of(tmp_path, [HOSTILE, "$b$", "_c", "d"], reports)
    # Half-widths of 0.5 each: a difference of 0.7 may be chance. The kernel distances are all the
    # same.
    distances = ["7.50 ± 0.50", "8.00 ± 0.50", "15.00 ± 0.50", *["-0.020 ± 0.010"] * 4]
    assert elements.strong == [*["0.712 ± 0.041"] * 4, *distances]
    assert {HOSTILE, "$b$", "_c", "d", "9.00 ± 0.50", "6.00 ± 0.33 × real"} <= set(elements.text)
    ((alt, chart),) = elements.pictures
    assert "ratios" in alt
    assert chart.width >= 800
    assert elements.tags.count("details") == 4


def test_a_comparison_says_its_verdict_first(tmp_path):
    reports = [report_of(9.0), report_of(3.0)]
    text = comparison_of(tmp_path, [HOSTILE, "b"], reports).text
    assert text[2] == "Comparison of 2 runs"
    assert text[3] == comparison_verdict([HOSTILE, "b"], reports)


# What lies in a box that scrolls by itself may be wider than the page; the page may not.
OVERFLOW = """({
  page: document.documentElement.scrollWidth - innerWidth,
  table: document.querySelector("table").getBoundingClientRect().right,
  loose: [...document.querySelectorAll("main *, header *")].filter(element =>
    !element.closest(".strip") && element.getBoundingClientRect().right > innerWidth + 0.5).length,
})"""


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_a_phone(browser, tmp_path, dark):
    path = tmp_path / "evaluation.html"
    report = report_of(genres=["a" * 60, *GENRES])
    report.subject["checkpoint"] = "/".join(["folder"] * 30)
    write_page(path, "How good is " + "x" * 90, report, page_data(GENRES))
    tab = Tab(browser, path, width=390, height=844, dark=dark)
    tab.js("document.querySelectorAll('details').forEach(folded => folded.open = true)")
    found = tab.js(OVERFLOW)
    assert found["page"] == found["loose"] == 0
    assert found["table"] <= 390  # all of its columns are seen without scrolling
    assert tab.complaints == []


@pytest.mark.parametrize("count", [2, 6])
def test_a_comparison_fits_a_phone(browser, tmp_path, count):
    path = tmp_path / "comparison.html"
    names = [
        f"runs/00000-anylength-demo/checkpoints/epoch_{number:04d}.pt" for number in range(count)
    ]
    write_comparison(path, names, [report_of(5.0 + number) for number in range(count)])
    found = Tab(browser, path, width=390, height=844).js(OVERFLOW)
    assert found["page"] == found["loose"] == 0


def test_a_figure_that_one_run_has_is_in_the_comparison(tmp_path):
    with_more = report_of()
    with_more.figures.append(
        Figure("band_means", "", None, Estimate(1.62, 0.2), Estimate(0.81, 0.1))
    )
    elements = comparison_of(tmp_path, ["a", "b"], [report_of(), with_more])
    assert {"1.62 ± 0.20", "2.00 ± 0.25 × real", "0.81 ± 0.10"} <= set(elements.text)
    assert "1.62 ± 0.20" not in elements.strong


@pytest.mark.parametrize("value", [-3.0, 0.0, 1.0, 1e5])
def test_any_ratio_can_be_drawn(value):
    def own_pixels(*ratios: Estimate | None) -> int:
        """How many pixels are in the first run's colour."""
        chart = Image.open(io.BytesIO(plots.draw_ratios(["x", "y"], ["run"], [ratios])))
        assert chart.width == plots.WIDTH * plots.DPI
        color = [int(plots.RUNS[0][at : at + 2], 16) for at in (1, 3, 5)]
        return (np.asarray(chart)[..., :3] == color).all(axis=2).sum()

    assert own_pixels(Estimate(value, 0.5), None) > 50
    assert own_pixels(None, None) == 0


def test_a_picture_that_cannot_be_drawn_costs_that_picture(tmp_path, monkeypatch, caplog):
    logging.getLogger("musicspectrogan").propagate = True
    whole = PageElements(page_of(tmp_path, report_of(), page_data(["jazz", "rock"])))

    def fail(*shown: object) -> None:
        raise RuntimeError("no such font")

    monkeypatch.setattr(plots, "_log_axis", fail)  # of two charts
    monkeypatch.setattr(plots, "_shrink", fail)  # of all sheets
    page = PageElements(page_of(tmp_path, report_of(), page_data(["jazz", "rock"])))
    lost = {alt for alt, _ in whole.pictures} - {alt for alt, _ in page.pictures}
    assert any("ratios" in alt for alt in lost) and "Chart: modulation spectrum" in lost
    assert {"Chart: level in each band"} <= {alt for alt, _ in page.pictures}
    assert len(page.pictures) == 5  # bands, two matrices, two clouds
    assert list(dict.fromkeys(record.message for record in caplog.records)) == [
        f"No picture on the page ({name}) (RuntimeError: no such font); everything else continues"
        for name in ("ratios", "sheet", "modulation")
    ]
    assert whole.all("table", "class") == page.all("table", "class")


def test_figures_are_written_before_a_page_that_fails(tmp_path, monkeypatch):
    """With the measuring left out: it takes a while, and is another matter."""
    report = report_of()
    evaluator = SimpleNamespace(report=lambda: report)
    monkeypatch.setattr(
        evaluating, "load_splits", lambda root, split: SimpleNamespace(training=None)
    )
    monkeypatch.setattr(evaluating, "read_folder", lambda *of: None)
    monkeypatch.setattr(evaluating, "build_reference", lambda *of: None)
    monkeypatch.setattr(evaluating, "Evaluator", lambda *of: evaluator)
    seen = []

    def fail(evaluator: object) -> None:
        seen.append((tmp_path / "out.json").is_file())
        raise ValueError("not enough points")

    monkeypatch.setattr(evaluating, "collect_page_data", fail)
    outcome = evaluating.evaluate(
        EvaluateConfig(dataset=tmp_path),
        {"a": tmp_path},
        tmp_path / "out.json",
        torch.device("cpu"),
    )
    assert seen == [True] and outcome.page is None
    assert json.loads((tmp_path / "out.json").read_text())["figures"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json"]


# Pieces


def report_of_pieces(*seconds: int) -> Report:
    report = report_of()
    report.figures += [
        Figure(f"coherence_{lag}s", kind, None, Estimate(0.3 + lag / 50, 0.02), Estimate(0.6, 0.04))
        for lag in seconds
        for kind in ("classifier", "untrained")
    ]
    report.figures.append(
        Figure("tempo_stability", "", None, Estimate(0.625, 0.081), Estimate(0.9, 0.05))
    )
    return report


def test_pieces_are_shown_beside_real_tracks(tmp_path):
    rng = np.random.default_rng(0)
    real, fake = (rng.integers(0, 256, (64, 64 * count), dtype=np.uint8) for count in (3, 5))
    strips = [Strip(genre, real, fake) for genre in (HOSTILE, "")]
    elements = PageElements(
        page_of(tmp_path, report_of_pieces(3, 12), replace(page_data(GENRES), strips=strips))
    )
    assert {"Structure of pieces", "0.625 ± 0.081", "0.360 ± 0.020", HOSTILE} <= set(elements.text)
    found = [
        (alt, picture)
        for alt, picture in elements.pictures
        if alt.startswith(("Chart: coh", "Spectrogram: "))
    ]
    assert [alt for alt, _ in found] == [
        "Chart: coherence by classifier features", "Chart: coherence by untrained features",
        f"Spectrogram: {HOSTILE}, real track", f"Spectrogram: {HOSTILE}, generated piece",
        "Spectrogram: real track", "Spectrogram: generated piece",
    ]  # fmt: skip
    assert [picture.size for _, picture in found[2:]] == [(192, 64), (320, 64)] * 2
    shown = found[3][1].convert("RGB")
    black, white = (np.argwhere(fake == level)[0] for level in (0, 255))
    assert shown.getpixel((int(black[1]), int(black[0]))) == (0, 0, 3)
    assert sum(shown.getpixel((int(white[1]), int(white[0])))) > 600


def test_the_coherence_of_several_runs_is_in_one_chart(tmp_path):
    """Also where one of them has fewer lags, or none."""
    path = tmp_path / "comparison.html"
    write_comparison(
        path, ["$a$", "b", "c"], [report_of_pieces(3), report_of(), report_of_pieces(3, 6)]
    )
    alts = [alt for alt, _ in PageElements(path.read_text(encoding="utf-8")).pictures]
    assert alts.count("Chart: coherence by untrained features") == 1
    write_comparison(path, ["a", "b"], [report_of(), report_of()])
    assert "Structure of pieces" not in path.read_text(encoding="utf-8")


def test_large_strips_are_shrunk():
    strip = np.zeros((256, 512), np.uint8)
    assert Image.open(io.BytesIO(plots.draw_strip(strip))).size == (256, 128)
