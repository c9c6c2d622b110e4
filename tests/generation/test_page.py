"""The page of generated sounds: its text, and what a browser makes of it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
from chromium import Chromium, Tab
from conftest import ROOT, Elements
from PIL import Image

from musicspectrogan.audio.spectrogram import SpectrogramConfig, mel_filterbank
from musicspectrogan.generation.page import (
    MAGMA,
    MAX_PRELOADED,
    PageItem,
    hertz_marks,
    mel_height,
    second_marks,
    source,
    write_page,
)

CONFIG = SpectrogramConfig()
HOSTILE = "<script>alert(1)</script>"
# Not a possible file name on Windows; the page must take any name.
HOSTILE_FILE = "a\"b'c&d#?%20 é.png"

ITEMS = [
    PageItem("rock", "rock.00001", "real/rock.00001.png", "real/rock.00001.wav", real=True),
    PageItem("rock", "seed 0", "rock_seed0000.png", "rock_seed0000.wav"),
    PageItem("blues", "seed 0", "blues_seed0000.png", "blues_seed0000.flac"),
    PageItem("rock", "seed 1", "rock_seed0001.png", "rock_seed0001.wav"),
    PageItem("blues", "seed 7, 9.1 s", "blues_long.png", "blues_long.wav", columns=196),
]

LEVELS = [0, 64, 128, 255]

# What the browser shows.
PROBE = """({
  images: [...document.images].map(
    i => [i.naturalWidth, i.naturalHeight, i.clientWidth, i.clientHeight]),
  seconds: [...document.querySelectorAll("audio")].map(p => p.duration),
  overflow: document.documentElement.scrollWidth - innerWidth,
  marks: [...document.querySelector("figure").querySelectorAll(".hertz span")].map(mark => {
    const box = mark.getBoundingClientRect();
    const image = document.images[0].getBoundingClientRect();
    return [mark.textContent, (image.bottom - (box.top + box.bottom) / 2) / image.height];
  }),
})"""
# Images further down are loaded when they are scrolled to, and these by nobody.
LOADED = """(async () => {
  document.querySelectorAll("details").forEach(folded => folded.open = true);
  document.querySelectorAll("img").forEach(image => image.loading = "eager");
  const players = [...document.querySelectorAll("audio")];
  const known = players.map(p => p.readyState || new Promise(done => {
    p.addEventListener("loadedmetadata", done); p.addEventListener("error", done);
  }));
  await Promise.all([...known, ...[...document.images].map(image => image.decode())]);
})()"""


def page_of(folder: Path, items: list[PageItem], title: str = "A run", **facts: str) -> str:
    path = write_page(folder, title, items, CONFIG, facts)
    assert path == folder / "index.html"
    assert [p.name for p in folder.iterdir()] == ["index.html"]
    return path.read_text(encoding="utf-8")


def only_script(page: str) -> bool:
    """Whether the page has one script, which is the package's own with nothing put into it."""
    return page.count("<script") == 1 and re.findall(
        r"<script>(.*?)</script>", page, re.DOTALL
    ) == [f"\n{source('sounds.js')}"]


def test_every_item_is_shown_and_can_be_played_and_downloaded(tmp_path):
    page = Elements(page_of(tmp_path, ITEMS, checkpoint="epoch_0050.pt"))
    assert sorted(page.all("img", "src")) == sorted(f"./{item.image}" for item in ITEMS)
    assert sorted(page.all("audio", "src")) == sorted(f"./{item.audio}" for item in ITEMS)
    downloads = [
        attributes["href"]
        for tag, attributes in page.found
        if tag == "a" and "download" in attributes
    ]
    assert sorted(downloads) == sorted(
        f"./{name}" for item in ITEMS for name in (item.image, item.audio)
    )
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
    assert page.count('class="badge"') == page.count("<details") == 1
    real = page[page.index("<details") :].partition("</details>")[0]
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
    assert only_script(page)
    assert [attributes for tag, attributes in elements.found if tag == "b"] == [{"class": "badge"}]
    assert not [a for _, attributes in elements.found for a in attributes if a.startswith("on")]
    data = [a for _, attributes in elements.found for a in attributes if a.startswith("data-")]
    assert data == ["data-sound"] * 3
    assert {HOSTILE, quote_out, "$title ${style}", f"</title>{HOSTILE}", "?"} <= set(elements.text)
    assert unquote(elements.all("img", "src")[0]) == f"./{HOSTILE_FILE}"
    for address in (
        elements.all("img", "src") + elements.all("audio", "src") + elements.all("a", "href")
    ):
        assert re.fullmatch(r"#row-\d|\./[\w.~%/-]+", address), address
    assert "./%FF.png" in page


def test_nothing_is_fetched_from_elsewhere(tmp_path):
    page = page_of(tmp_path, ITEMS)
    assert not re.findall(r"https?:", page)
    assert only_script(page)
    assert not re.findall(r"fetch|XMLHttp|import|WebSocket|sendBeacon", source("sounds.js"))
    assert not {"link", "iframe", "base"} & {tag for tag, _ in Elements(page).found}
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
    config = SpectrogramConfig(
        n_fft=16384
    )  # fine enough for the peaks of the filters to be their centres
    bins = np.fft.rfftfreq(config.n_fft, 1 / config.sample_rate)
    centres = bins[mel_filterbank(config).argmax(axis=1)]
    heights = [mel_height(hz, config) for hz in centres]
    assert heights == pytest.approx((np.arange(64) + 0.5) / 64, abs=0.2 / 64)


def test_heights_of_frequencies():
    # 0 to 8000 Hz are 0 to 45.245 mels; 1000 Hz are 15. Edges of 64 bands are 65 steps apart.
    assert mel_height(1000.0, CONFIG) == pytest.approx((15 / 45.2454 * 65 - 0.5) / 64, abs=1e-5)
    assert mel_height(4000.0, CONFIG) == pytest.approx(
        (35.1636 / 45.2454 * 65 - 0.5) / 64, abs=1e-5
    )
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


@pytest.mark.parametrize("width", [1280, 500])
def test_a_browser_shows_it(browser, folder, width):
    tab = Tab(browser, folder / "index.html", width=width)
    tab.js(LOADED)
    report = tab.js(PROBE)
    assert [size[:2] for size in report["images"]] == [[64, 64], [640, 64], [64, 64]]
    assert all(min(size[2:]) >= 200 for size in report["images"])
    assert report["seconds"] == pytest.approx([2.972, 29.722, 2.972], abs=0.001)
    assert report["overflow"] <= 0
    if width > 640:  # half a phone has no room for an axis
        for (label, height), (hz, at) in zip(report["marks"], hertz_marks(CONFIG), strict=True):
            assert (float(label), height) == (hz, pytest.approx(at, abs=0.01))
    assert tab.complaints == []
    assert {address.partition(":")[0] for address in tab.requests} <= {"file", "data"}


@pytest.mark.parametrize(
    ("dark", "ground"), [(False, "#fbfaf8"), (True, "#131117")], ids=["light", "dark"]
)
def test_a_browser_colours_it(browser, folder, dark, ground):
    tab = Tab(browser, folder / "index.html", height=1500, dark=dark)
    tab.js(LOADED)
    pixels = np.asarray(tab.screenshot()).astype(int)
    assert pixels.shape == (1500, 1280, 3)
    assert tuple(pixels[5, 5]) == tuple(bytes.fromhex(ground[1:]))
    stops = np.array([list(bytes.fromhex(color)) for color in MAGMA])
    for level in LEVELS:
        color = [np.interp(level / 255 * 16, range(17), stops[:, channel]) for channel in range(3)]
        assert (np.abs(pixels - color).max(axis=2) <= 2).sum() >= 3 * 48 * 200, level


# The players by number: rock's samples 0 to 2 and its real ones 3 and 4, then blues' 5 and 6 and 7.
LISTED = [("rock", "0"), ("rock", "1"), ("rock", "#2?%"), ("rock", "x", True), ("rock", "y", True)]
LISTED += [("blues & <i>", "0"), ("blues & <i>", "1"), ("blues & <i>", "z", True)]


@pytest.fixture
def listed(tmp_path) -> Path:
    """A page with two genres and sounds of a tenth of a second."""
    items = []
    for number, (genre, caption, *real) in enumerate(LISTED):
        image, audio = f"{number} {caption}.png", f"{number} {caption}.wav"
        Image.fromarray(np.full((64, 64), 128, np.uint8)).save(tmp_path / image)
        soundfile.write(tmp_path / audio, np.zeros(2205), 22050)
        items.append(PageItem(genre, caption, image, audio, real=bool(real)))
    write_page(tmp_path, "A list", items, CONFIG, {"checkpoint": "a.pt"})
    return tmp_path / "index.html"


# Which samples are shown, which sounds have started, and how many played at once.
WATCH = """
const shown = () => figures().flatMap((figure, n) => figure.checkVisibility() ? [n] : []);
const figures = () => [...document.querySelectorAll("figure")];
const players = () => [...document.querySelectorAll("audio")];
const stars = () => [...document.querySelectorAll(".star")];
const button = id => document.getElementById(id);
const isPressed = star => star.getAttribute("aria-pressed") === "true";
const starred = () => stars().flatMap((star, n) => isPressed(star) ? [n] : []);
const begun = [];
let most = 0;
document.addEventListener("playing", event => {
  begun.push(players().indexOf(event.target));
  most = Math.max(most, players().filter(player => !player.paused).length);
}, true);
const until = async condition => {
  for (let tries = 0; !condition(); tries++) {
    if (tries > 1000) throw new Error("waited in vain: " + JSON.stringify(begun));
    await new Promise(done => setTimeout(done, 10));
  }
};
const pick = number => {
  button("genre").value = number;
  button("genre").dispatchEvent(new Event("change"));
};
"""


def watched(browser: Chromium, page: Path, **choices) -> Tab:
    return Tab(browser, page, **{"before": WATCH} | choices)


def test_on_a_phone_two_samples_a_row_and_the_real_ones_folded_away(browser, listed):
    phone = watched(browser, listed, width=390, height=844)
    assert phone.js("shown()") == [0, 1, 2, 5, 6]
    boxes = phone.js("figures().slice(0, 3).map(f => f.getBoundingClientRect().toJSON())")
    assert boxes[0]["top"] == boxes[1]["top"] < boxes[2]["top"]
    assert boxes[0]["left"] == boxes[2]["left"] < boxes[1]["left"]
    assert all(170 < box["width"] < 180 for box in boxes)
    assert phone.js("document.documentElement.scrollWidth") == 390
    phone.js("document.querySelector('summary').click()")
    assert phone.js("shown()") == [0, 1, 2, 3, 4, 5, 6]
    desk = watched(browser, listed, width=1280)
    assert desk.js("shown()") == list(range(8))


@pytest.mark.parametrize("width", [320, 390])
def test_long_names_do_not_widen_the_page(browser, tmp_path, width):
    items = [
        PageItem("x" * 200, "y" * 100, "a.png", "a.wav"),
        PageItem("x" * 200, "a long piece", "b.png", "b.wav", columns=640),
        PageItem("other", "y" * 100, "c.png", "c.wav", real=True),
    ]
    write_page(tmp_path, "z" * 150, items, CONFIG, {"a" * 100: "b" * 100})
    tab = watched(browser, tmp_path / "index.html", width=width)
    tab.js("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert tab.js("document.documentElement.scrollWidth") == width


def test_without_scripts_it_is_a_list_of_players(browser, listed):
    tab = watched(browser, listed, scripts=False)
    assert tab.js("players().every(player => player.controls)")
    assert tab.js("shown()") == [0, 1, 2, 5, 6]
    assert not tab.js("button('play-all').checkVisibility() || stars()[0].checkVisibility()")
    assert tab.js("document.querySelector('nav').checkVisibility()")


def test_starting_one_stops_the_others(browser, listed):
    tab = watched(browser, listed)
    tab.js("button('loop').click()")
    tab.js(
        "(async () => { for (const n of [0, 6, 3]) {"
        "await players()[n].play(); await until(() => begun.includes(n)); } })()"
    )
    tab.js("until(() => players().filter(p => !p.paused).length === 1)")
    assert tab.js("players().findIndex(p => !p.paused)") == 3


def test_play_all_plays_what_is_shown_one_after_the_other(browser, listed):
    tab = watched(browser, listed, width=390)
    tab.js("button('play-all').click()")
    assert tab.js("button('play-all').textContent") == "Stop"
    tab.js("until(() => button('play-all').textContent === 'Play all')")
    assert tab.js("begun") == [0, 1, 2, 5, 6]
    assert tab.js("most") == 1
    # Again, of one genre and with its real ones.
    tab.js("pick('1'); document.querySelectorAll('details')[1].open = true; begun.length = 0")
    tab.js("button('play-all').click(), until(() => button('play-all').textContent === 'Play all')")
    assert tab.js("begun") == [5, 6, 7]
    assert tab.complaints == []


def test_play_all_ends_when_it_is_stopped_or_one_is_paused(browser, listed):
    tab = watched(browser, listed)
    for stop in ("button('play-all').click()", "players()[1].pause()"):
        tab.js("begun.length = 0, button('play-all').click(), until(() => begun.includes(1))")
        tab.js(f"{stop}, until(() => button('play-all').textContent === 'Play all')")
        assert tab.js("begun") == [0, 1]
        assert tab.js("players().every(p => p.paused)")


def test_what_is_filtered_away_falls_silent_and_play_all_goes_on(browser, listed):
    tab = watched(browser, listed)
    tab.js("button('play-all').click(), until(() => begun.includes(1))")
    tab.js("pick('1'), until(() => button('play-all').textContent === 'Play all')")
    assert tab.js("begun") == [0, 1, 5, 6, 7]
    assert tab.js("most") == 1


def test_play_all_passes_over_what_cannot_be_played(browser, listed):
    for name in ("0 0.wav", "2 #2?%.wav", "6 1.wav"):
        (listed.parent / name).unlink()
    tab = watched(browser, listed, width=390)
    tab.js("button('play-all').click(), until(() => button('play-all').textContent === 'Play all')")
    assert tab.js("begun") == [1, 5]
    for path in listed.parent.glob("*.wav"):
        path.unlink()
    tab.load()
    tab.js("button('loop').click(), button('play-all').click()")
    tab.js("until(() => button('play-all').textContent === 'Play all')")
    assert tab.js("begun") == []


def test_loop_repeats_one_and_with_play_all_the_whole(browser, listed):
    tab = watched(browser, listed, width=390)
    assert tab.js("players().some(p => p.loop)") is False
    tab.js("button('loop').click()")
    assert tab.js("players().every(p => p.loop)")
    assert tab.js("button('loop').getAttribute('aria-pressed')") == "true"
    tab.js("button('play-all').click(), until(() => begun.length === 7)")
    assert tab.js("begun.slice(0, 7)") == [0, 1, 2, 5, 6, 0, 1]
    tab.js("button('play-all').click()")
    assert tab.js("players().every(p => p.loop)")
    tab.js("button('loop').click()")
    assert tab.js("players().some(p => p.loop)") is False


def test_pieces_that_loop_do_so_without_scripts(tmp_path):
    looping = [replace(item, loops=not item.real) for item in ITEMS]
    players = [a for tag, a in Elements(page_of(tmp_path, looping)).found if tag == "audio"]
    assert ["loop" in player for player in players] == [True, True, False, True, True]


def test_pieces_that_loop_do_so_from_the_start(browser, tmp_path):
    write_page(tmp_path, "Loops", [replace(ITEMS[1], loops=True), ITEMS[2]], CONFIG, {})
    tab = watched(browser, tmp_path / "index.html")
    assert tab.js("button('loop').getAttribute('aria-pressed')") == "true"
    assert tab.js("players()[0].loop")


def test_favourites_are_kept_and_shown_alone(browser, listed):
    tab = watched(browser, listed, width=390)
    tab.js("stars()[2].click(), stars()[5].click(), stars()[7].click(), stars()[5].click()")
    tab.load()
    assert tab.js("starred()") == [2, 7]
    tab.js("button('only-favourites').click()")
    assert tab.js("shown()") == [2, 7]  # a favourite that was folded away is brought out
    assert tab.js("button('status').textContent") == "2 of 8 shown."
    tab.js("pick('0')")
    assert tab.js("shown()") == [2]
    tab.js("stars()[2].focus(), stars()[2].click()")
    assert tab.js("shown()") == []
    assert (
        tab.js("document.activeElement.id") == "only-favourites"
    )  # what is hidden cannot hold the focus
    assert tab.js("button('status').textContent") == "0 of 8 shown. A star marks a favourite."
    tab.js("button('only-favourites').click(), pick('')")
    assert tab.js("button('status').textContent") == ""
    assert tab.js("shown().slice(0, 3)") == [0, 1, 2]
    again = watched(browser, listed, beside=tab)
    assert again.js("starred()") == [7]


def test_two_pages_do_not_share_favourites(browser, listed):
    tab = watched(browser, listed)
    tab.js("stars()[0].click()")
    copy = listed.with_name("copy.html")
    copy.write_bytes(listed.read_bytes())
    assert watched(browser, copy, beside=tab).js("starred()") == []


def test_favourites_are_those_sounds_and_not_their_names(browser, listed):
    tab = watched(browser, listed)
    tab.js("stars()[0].click(), stars()[1].click()")
    items = [
        PageItem("rock", caption, f"{caption} {caption}.png", f"{caption} {caption}.wav")
        for caption in "01"
    ]
    Image.fromarray(np.full((64, 64), 99, np.uint8)).save(listed.parent / "1 1.png")
    write_page(
        listed.parent, "More was made, by other settings", items, CONFIG, {"checkpoint": "b.pt"}
    )
    assert watched(browser, listed, beside=tab).js("starred()") == [0]


DENIED = """Object.defineProperty(window, "localStorage", {
  get() { throw new DOMException("denied", "SecurityError"); }
});"""


def test_favourites_work_where_the_browser_keeps_nothing(browser, listed):
    tab = watched(browser, listed, before=WATCH + DENIED)
    tab.js("stars()[1].click(), button('only-favourites').click()")
    assert tab.js("shown()") == [1]
    tab.js("stars()[1].click(), button('only-favourites').click(), stars()[2].click()")
    assert "forgets favourites" in tab.js("button('status').textContent")
    assert tab.complaints == []


@pytest.mark.parametrize("kept", ["{", "null", '{"a": 1}', '"x"', "[3, null]"])
def test_favourites_survive_whatever_is_stored(browser, listed, kept):
    tab = watched(browser, listed)
    tab.js("stars()[1].click()")
    tab.js(f"localStorage.setItem(localStorage.key(0), {kept!r})")
    tab.load()
    assert tab.js("starred()") == []
    tab.js("stars()[1].click()")
    tab.load()
    assert tab.js("starred()") == [1]
    assert tab.complaints == []


def test_a_genre_is_picked_from_a_list(browser, listed):
    tab = watched(browser, listed)
    assert tab.js("[...button('genre').options].map(o => o.textContent)") == [
        "all",
        "rock",
        "blues & <i>",
    ]
    tab.js("pick('1')")
    assert tab.js("shown()") == [5, 6, 7]
    assert tab.js("button('status').textContent") == "3 of 8 shown."
    tab.js("pick('')")
    assert tab.js("shown()") == list(range(8))


def test_the_keyboard_reaches_everything(browser, listed):
    tab = watched(browser, listed, width=390)
    reached = []
    for _ in range(8):
        tab.key("Tab", 9)
        reached.append(tab.js("document.activeElement.id || document.activeElement.tagName"))
    assert reached[:4] == ["play-all", "loop", "only-favourites", "genre"]
    assert "AUDIO" in reached[4:]
    tab.js("stars()[0].focus()")
    tab.key(" ", 32, " ")
    assert tab.js("starred()") == [0]


def test_everything_has_a_name_for_screen_readers(tmp_path):
    page = page_of(tmp_path, ITEMS)
    elements = Elements(page)
    assert "Favourite: generated, blues, seed 7, 9.1 s" in elements.all("button", "aria-label")
    for name, content in re.findall(r"<button([^>]*)>(.*?)</button>", page, re.DOTALL):
        assert content.strip() or "aria-label=" in name, name
    assert len(elements.all("audio", "aria-label")) == len(elements.all("img", "alt")) == len(ITEMS)
    assert re.search(r"<label>Genre <select", page)
    assert elements.all("p", "role") == ["status"]


@pytest.mark.parametrize(
    ("f_max", "reach"),
    [(8000.0, "8"), (11025.0, "11.025"), (4500.0, "4.5")],
    ids=["8", "11.025", "4.5"],
)
def test_the_page_says_how_high_the_images_reach(tmp_path, f_max, reach):
    path = write_page(tmp_path, "A run", ITEMS, replace(CONFIG, f_max=f_max), {})
    assert f"{reach}&nbsp;kHz at the top." in path.read_text(encoding="utf-8")


def test_a_page_of_many_opens_no_file_before_it_is_played(browser, tmp_path):
    few = [PageItem("a", f"seed {n}", f"{n}.png", f"{n}.wav") for n in range(MAX_PRELOADED)]
    assert set(Elements(page_of(tmp_path, few)).all("audio", "preload")) == {"metadata"}
    many = [PageItem("a", f"seed {n}", f"{n}.png", f"{n}.wav") for n in range(1500)]
    path = write_page(tmp_path, "Many", many, CONFIG, {})
    assert path.stat().st_size < 2e6
    tab = watched(browser, path)
    assert tab.js("figures().length") == 1500
    asked = [address for address in tab.requests if address.startswith("file:")]
    assert not [address for address in asked if address.endswith(".wav")]
    assert len(asked) < 100  # the page, and the images near the window


def test_an_installed_package_has_its_vocoder_and_the_files_of_its_pages():
    metadata = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (patterns,) = re.findall(
        r'package-data\]\n"musicspectrogan" = \[(.*?)\n\]', metadata, re.DOTALL
    )
    package = ROOT / "musicspectrogan"
    shipped = {
        path for pattern in re.findall(r'"(.*?)"', patterns) for path in package.glob(pattern)
    }
    assert {
        path for path in package.rglob("*") if path.suffix in (".html", ".css", ".js", ".pt")
    } <= shipped
    assert package / "audio" / "default_vocoder.pt" in shipped
