"""The page of generated sounds: its text, and what a browser makes of it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
from conftest import Elements
from PIL import Image

from musicspectrogan.audio.spectrogram import SpectrogramConfig, mel_filterbank
from musicspectrogan.generation.page import (
    MAGMA,
    PageItem,
    hertz_marks,
    mel_height,
    second_marks,
    write_page,
)

CONFIG = SpectrogramConfig()
HOSTILE = "<script>alert(1)</script>"
# No operating system but Linux and macOS takes all of it as a file name; the page must take anything.
HOSTILE_FILE = "a\"b'c&d#?%20 é.png"

ITEMS = [
    PageItem("rock", "rock.00001", "real/rock.00001.png", "real/rock.00001.wav", real=True),
    PageItem("rock", "seed 0", "rock_seed0000.png", "rock_seed0000.wav"),
    PageItem("blues", "seed 0", "blues_seed0000.png", "blues_seed0000.flac"),
    PageItem("rock", "seed 1", "rock_seed0001.png", "rock_seed0001.wav"),
    PageItem("blues", "seed 7, 9.1 s", "blues_long.png", "blues_long.wav", columns=196),
]

LEVELS = [0, 64, 128, 255]

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars "
    "--virtual-time-budget=5000 --enable-logging=stderr"
).split()

# Appended to a copy of the page: what the browser made of it, as text in the document.
PROBE = """
<script>
const errors = [];
window.addEventListener("error", event => errors.push(event.message || event.target.src), true);
const players = [...document.querySelectorAll("audio")];
const known = players.map(p => p.readyState ? null : new Promise(done => {
  p.addEventListener("loadedmetadata", done); p.addEventListener("error", done);
}));
Promise.all([new Promise(done => window.addEventListener("load", done)), ...known]).then(() => {
  const report = document.createElement("pre");
  report.id = "report";
  report.textContent = JSON.stringify({
    errors,
    images: [...document.images].map(i => [i.naturalWidth, i.naturalHeight, i.clientWidth, i.clientHeight]),
    seconds: players.map(p => p.duration),
    requests: performance.getEntriesByType("resource").map(r => r.name),
    scripts: document.scripts.length,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    marks: [...document.querySelector("figure").querySelectorAll(".hertz span")].map(mark => {
      const box = mark.getBoundingClientRect();
      const image = document.images[0].getBoundingClientRect();
      return [mark.textContent, (image.bottom - (box.top + box.bottom) / 2) / image.height];
    }),
  });
  document.body.append(report);
});
</script>
"""


def page_of(folder: Path, items: list[PageItem], title: str = "A run", **facts: str) -> str:
    path = write_page(folder, title, items, CONFIG, facts)
    assert path == folder / "index.html"
    assert [p.name for p in folder.iterdir()] == ["index.html"]
    return path.read_text(encoding="utf-8")


def test_every_item_is_shown_and_can_be_played_and_downloaded(tmp_path):
    page = Elements(page_of(tmp_path, ITEMS, checkpoint="epoch_0050.pt"))
    assert sorted(page.all("img", "src")) == sorted(f"./{item.image}" for item in ITEMS)
    assert sorted(page.all("audio", "src")) == sorted(f"./{item.audio}" for item in ITEMS)
    downloads = [
        attributes["href"] for tag, attributes in page.found if tag == "a" and "download" in attributes
    ]
    assert sorted(downloads) == sorted(f"./{name}" for item in ITEMS for name in (item.image, item.audio))
    players = [attributes for tag, attributes in page.found if tag == "audio"]
    assert all("controls" in player and player["preload"] == "metadata" for player in players)
    assert {"checkpoint", "epoch_0050.pt", "seed 7, 9.1 s", "WAV", "FLAC", "PNG"} <= set(page.text)


def test_generated_before_real_and_otherwise_in_the_given_order(tmp_path):
    page = Elements(page_of(tmp_path, ITEMS))
    order = "rock_seed0000 rock_seed0001 real/rock.00001 blues_seed0000 blues_long".split()
    assert page.all("img", "src") == [f"./{name}.png" for name in order]
    links = [href for href in page.all("a", "href") if href.startswith("#")]
    assert links == ["#row-1", "#row-2"] == [f"#{name}" for name in page.all("h2", "id")]


def test_real_samples_are_marked(tmp_path):
    page = page_of(tmp_path, ITEMS)
    assert page.count('class="badge"') == page.count('<section class="real"') == 1
    real = page[page.index('<section class="real"') :].partition("</section>")[0]
    assert "Real music" in real
    assert "rock.00001" in real
    assert "seed" not in real
    alts = Elements(page).all("img", "alt")
    assert [alt.split(":")[1].split(",")[0].strip() for alt in alts] == [
        "generated", "generated", "real", "generated", "generated"
    ]  # fmt: skip


def test_a_single_row_needs_no_genre(tmp_path):
    page = Elements(page_of(tmp_path, [PageItem("", "seed 3", "a.png", "a.wav")]))
    assert page.all("img", "alt") == ["Spectrogram: generated, seed 3; 3.0 s, 0 to 8000 Hz"]
    assert page.all("h2", "id") == ["row-1"]
    assert "nav" not in [tag for tag, _ in page.found]


def test_hostile_names_are_only_text(tmp_path):
    quote_out = "\" onerror='alert(1)' data-x=\""
    items = [
        PageItem(HOSTILE, quote_out, HOSTILE_FILE, "javascript:alert(1)"),
        PageItem(quote_out, HOSTILE, "//elsewhere.example/a.png", f"{HOSTILE}.wav", real=True),
        PageItem("$title ${style}", "\udcff", "\udcff.png", 'x."><b>'),
    ]
    page = page_of(tmp_path, items, title=f"</title>{HOSTILE}", **{HOSTILE: quote_out})
    elements = Elements(page)
    assert "script" not in [tag for tag, _ in elements.found]
    assert [attributes for tag, attributes in elements.found if tag == "b"] == [{"class": "badge"}]
    assert not [a for _, attributes in elements.found for a in attributes if a.startswith(("on", "data-"))]
    assert {HOSTILE, quote_out, "$title ${style}", f"</title>{HOSTILE}", "?"} <= set(elements.text)
    assert unquote(elements.all("img", "src")[0]) == f"./{HOSTILE_FILE}"
    for address in elements.all("img", "src") + elements.all("audio", "src") + elements.all("a", "href"):
        assert re.fullmatch(r"#row-\d|\./[\w.~%/-]+", address), address
    assert "./%FF.png" in page


def test_nothing_is_fetched_from_elsewhere(tmp_path):
    page = page_of(tmp_path, ITEMS)
    assert not re.findall(r"https?:", page)
    assert not {"script", "link", "iframe", "base"} & {tag for tag, _ in Elements(page).found}
    assert set(re.findall(r"url\([^)]*\)|@import", page)) == {"url(#magma)"}


def test_the_page_says_its_language_and_fits_a_phone(tmp_path):
    page = Elements(page_of(tmp_path, ITEMS))
    assert page.all("html", "lang") == ["en"]
    assert page.all("meta", "content") == ["width=device-width, initial-scale=1"]


def test_the_colours_are_magma():
    matplotlib = pytest.importorskip("matplotlib")
    exact = matplotlib.colormaps["magma"](np.arange(256))[:, :3] * 255
    stops = np.array([list(bytes.fromhex(color)) for color in MAGMA])
    for channel in range(3):
        ours = np.interp(np.linspace(0, 1, 256), np.linspace(0, 1, len(stops)), stops[:, channel])
        assert np.abs(ours - exact[:, channel]).max() < 3


def test_a_band_lies_where_its_row_is():
    config = SpectrogramConfig(n_fft=16384)  # fine enough for the peaks of the filters to be their centres
    bins = np.fft.rfftfreq(config.n_fft, 1 / config.sample_rate)
    centres = bins[mel_filterbank(config).argmax(axis=1)]
    heights = [mel_height(hz, config) for hz in centres]
    assert heights == pytest.approx((np.arange(64) + 0.5) / 64, abs=0.2 / 64)


def test_heights_of_frequencies():
    # 0 to 8000 Hz are 0 to 45.245 mels; 1000 Hz are 15, and 64 bands have 65 steps between their edges.
    assert mel_height(1000.0, CONFIG) == pytest.approx((15 / 45.2454 * 65 - 0.5) / 64, abs=1e-5)
    assert mel_height(4000.0, CONFIG) == pytest.approx((35.1636 / 45.2454 * 65 - 0.5) / 64, abs=1e-5)
    assert mel_height(0.0, CONFIG) == pytest.approx(-0.5 / 64)
    assert mel_height(8000.0, CONFIG) == pytest.approx(64.5 / 64)


@pytest.mark.parametrize(
    ("changes", "frequencies"),
    [
        ({}, [8000, 4000, 2000, 1000, 500, 250]),
        ({"f_max": 11025.0}, [8000, 4000, 2000, 1000, 500, 250]),
        ({"f_min": 200.0, "f_max": 4000.0}, [4000, 2000, 1000, 500, 250]),
        ({"f_min": 300.0, "f_max": 450.0}, [450, 300]),
        ({"f_min": 600.0, "f_max": 1500.0}, [1500, 600]),
        ({"sample_rate": 96000, "f_max": 48000.0}, [32000, 16000, 8000, 4000, 2000, 1000, 500]),
    ],
)
def test_marked_frequencies(changes, frequencies):
    marks = hertz_marks(SpectrogramConfig(**changes))
    assert [hz for hz, _ in marks] == frequencies
    heights = [height for _, height in marks]
    assert heights == sorted(heights, reverse=True)
    assert all(0 <= height <= 1 for height in heights)


def test_marked_times():
    seconds = 64 * 1024 / 22050
    assert second_marks(64, CONFIG) == [(t, pytest.approx(t / seconds)) for t in (0, 1, 2)]
    half_minute = [t for t, _ in second_marks(646, CONFIG)]
    assert half_minute == list(range(0, 31, 2))
    assert len(second_marks(64 * 1200, CONFIG)) < 140  # an hour
    short = SpectrogramConfig(hop_length=100)  # 0.29 s
    assert [t for t, _ in second_marks(64, short)] == [0, 0.1, 0.2]


def test_the_axes_are_on_the_page(tmp_path):
    page = page_of(tmp_path, ITEMS[1:2])
    assert '<span style="--at:33.67%">1000</span>' not in page  # a row's middle is not its edge
    assert '<span style="--at:32.89%">1000</span>' in page
    assert '<span style="--at:100.00%">8000</span>' in page
    assert '<span style="--at:0.00%">0</span><span style="--at:33.65%">1</span>' in page
    assert '<span style="--at:67.29%">2 s</span>' in page


@pytest.fixture(scope="module")
def browser() -> str:
    found = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    path = next(found, None)
    if path is None:
        pytest.skip("no Chromium on PATH")
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    """A page with its files; every image is a few broad bars, each of one grey level."""
    (tmp_path / "real").mkdir()
    names = [
        (HOSTILE_FILE, "a\"b'c&d#?%20 é.wav", 64),
        ("long.png", "long.flac", 640),
        ("real/x.png", "real/x.wav", 64),
    ]
    items = [
        PageItem(HOSTILE, "seed 3", *names[0][:2]),
        PageItem(HOSTILE, "seed 4, 29.7 s", *names[1], columns=640),
        PageItem(HOSTILE, "x", *names[2][:2], real=True),
    ]
    noise = np.random.default_rng(0)
    for image, audio, columns in names:
        grey = np.tile(np.repeat(np.uint8(LEVELS), columns // len(LEVELS)), (64, 1))
        Image.fromarray(grey).save(tmp_path / image)
        soundfile.write(tmp_path / audio, 0.1 * noise.standard_normal(columns * 1024), 22050)
    write_page(tmp_path, HOSTILE, items, CONFIG, {"truncation": "1.0"})
    return tmp_path


def visit(browser: str, page: Path, profile: Path, *flags: str) -> str:
    """Open a page from disk in a fresh browser; asserts a silent console and returns what is printed."""
    line = [browser, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True)
    assert "CONSOLE" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize("width", [1300, 500])
def test_a_browser_shows_and_plays_it(browser, folder, tmp_path_factory, width):
    page = folder / "probed.html"
    page.write_text((folder / "index.html").read_text(encoding="utf-8") + PROBE, encoding="utf-8")
    profile = tmp_path_factory.mktemp("profile")
    document = visit(browser, page, profile, f"--window-size={width},900", "--dump-dom")
    found = re.search(r'<pre id="report">(.*?)</pre>', document, re.DOTALL)
    assert found, document[-2000:]
    report = json.loads(html.unescape(found[1]))
    assert report["errors"] == []
    assert report["scripts"] == 1  # the test's own
    assert [size[:2] for size in report["images"]] == [[64, 64], [640, 64], [64, 64]]
    assert all(min(size[2:]) >= 200 for size in report["images"])
    assert report["seconds"] == pytest.approx([2.972, 29.722, 2.972], abs=0.001)
    assert report["requests"] == []  # files are not counted among them, failed requests are
    assert report["overflow"] <= 0
    for (label, height), (hz, at) in zip(report["marks"], hertz_marks(CONFIG), strict=True):
        assert (float(label), height) == (hz, pytest.approx(at, abs=0.01))


@pytest.mark.parametrize(("scheme", "ground"), [("1", "#fbfaf8"), ("0", "#131117")], ids=["light", "dark"])
def test_a_browser_colours_it(browser, folder, tmp_path_factory, scheme, ground):
    profile = tmp_path_factory.mktemp("profile")
    picture = profile / "page.png"
    flags = [f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={picture}"]
    visit(browser, folder / "index.html", profile, "--window-size=1300,1400", *flags)
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    assert pixels.shape == (1400, 1300, 3)
    assert tuple(pixels[5, 5]) == tuple(bytes.fromhex(ground[1:]))
    stops = np.array([list(bytes.fromhex(color)) for color in MAGMA])
    for level in LEVELS:
        color = [np.interp(level / 255 * 16, range(17), stops[:, channel]) for channel in range(3)]
        assert (np.abs(pixels - color).max(axis=2) <= 2).sum() >= 3 * 48 * 200, level
