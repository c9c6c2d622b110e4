"""The instrument in one HTML file, as a browser plays it."""

from __future__ import annotations

import io
import json
import re
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from chromium import Chromium, Tab
from conftest import Elements

from musicspectrogan import models
from musicspectrogan.audio.images import read_image
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.config import to_plain
from musicspectrogan.export import html
from musicspectrogan.models import ModelConfig
from musicspectrogan.training.checkpoint import Checkpoint
from musicspectrogan.training.settings import TrainingConfig

# Names as hostile as folders can have them.
GENRES = ["drums", "</script><script>alert(1)</script>", "\"b' & <!--c é"]
NAME = "A \"name\" </title> & 'more' ☃"
SHORT = "#style=7,0&length=seconds&seconds=0.5&loop=0"

# What the page saves.
WATCH = """
const saved = [];
const create = URL.createObjectURL;
let last = null;
URL.createObjectURL = blob => create.call(URL, last = blob);
HTMLAnchorElement.prototype.click = function () { saved.push([this.download, last]); };
const get = id => document.getElementById(id);
const press = id => get(id).click();
const slide = (input, value) => { input.value = value; input.dispatchEvent(new Event("input")); };
const genres = () => [...document.querySelectorAll("#genres input")];
const address = () => location.hash.slice(1);
const picture = () => get("spectrogram").toDataURL();
const until = async condition => {
  for (let tries = 0; !condition(); tries++) {
    if (tries > 2000) throw new Error(`waited in vain: ${condition} ${get("notice").textContent}`);
    await new Promise(done => setTimeout(done, 10));
  }
};
const ready = () => until(() => document.body.dataset.state !== "loading");
const changed = async act => {
  const before = address();
  await act();
  await until(() => address() !== before);
};
const saves = async id => {
  const count = saved.length;
  press(id);
  await until(() => saved.length > count);
  const [name, blob] = saved.at(-1);
  const bytes = new Uint8Array(await blob.arrayBuffer());
  return [name, btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join(""))];
};
"""


# What the page plays, at the rate of its sounds.
LISTEN = """
const heard = [];
window.AudioContext = class extends AudioContext {
  constructor(...options) {
    super(...options);
    const tap = this.createScriptProcessor(1024, 1, 1);
    tap.connect(super.destination);
    tap.onaudioprocess = event => heard.push(...event.inputBuffer.getChannelData(0));
    Object.defineProperty(this, "destination", { value: tap });
  }
};
"""


def checkpoint_of(gan: str, latent_dim: int = 100) -> Checkpoint:
    """Random weights, also where training begins with constants: genres sound different."""
    torch.manual_seed(0)
    generator, discriminator = models.build(gan, ModelConfig(64, 4, latent_dim, len(GENRES)))
    with torch.no_grad():
        for weight in generator.parameters():
            weight.add_(0.15 * torch.randn_like(weight))
    return Checkpoint(
        gan=gan,
        model=ModelConfig(64, 4, latent_dim, len(GENRES)),
        training=to_plain(TrainingConfig(gan=gan, dataset=Path("somewhere"), width=4)),
        genres=GENRES,
        spectrogram=SpectrogramConfig(),
        generator=generator.state_dict(),
        discriminator=discriminator.state_dict(),
        ema=generator.state_dict(),
        optimizer_g={},
        optimizer_d={},
        epoch=1,
        step=1,
        images_seen=64_000,
        dataset_fingerprint="abc",
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """The instrument of a tiny generator of any length."""
    output = tmp_path_factory.mktemp("instrument") / "instrument.html"
    return html.export_html(checkpoint_of("anylength_cgan"), None, output, name=NAME)


class Address:
    """A page and the part of its address after `#`, as `Tab` takes a page."""

    def __init__(self, page: Path, part: str = SHORT) -> None:
        self._address = page.as_uri() + part

    def as_uri(self) -> str:
        return self._address


def opened(browser: Chromium, page: Path, part: str = SHORT, **choices: Any) -> Tab:
    """A tab with the page, when its first sound is ready."""
    choices["before"] = WATCH + choices.get("before", "")
    tab = Tab(browser, Address(page, part), **choices)
    tab.js("ready()")
    return tab


def saved_by(tab: Tab, button: str) -> tuple[str, bytes]:
    name, data = tab.js(f"saves('{button}')")
    return name, b64decode(data)


def sound_of(tab: Tab, button: str = "wav") -> tuple[np.ndarray, int]:
    """The samples that the page saves, as integers, and their rate."""
    return soundfile.read(io.BytesIO(saved_by(tab, button)[1]), dtype="int16")


def test_it_opens_from_disk_and_says_when_a_sound_is_ready(browser, page):
    tab = opened(browser, page, "")
    assert tab.js("document.body.dataset.state") == "ready"
    assert 0 < float(tab.js("document.body.dataset.milliseconds")) < 60_000
    assert tab.js("document.title") == tab.js("document.querySelector('h1').textContent") == NAME
    assert tab.js("get('status').textContent") == "drums, seed 0, 3.0 s"
    assert tab.js("[...document.querySelectorAll('#genres button')].map(b => b.textContent)") == (
        GENRES
    )
    assert tab.js("get('notice').checkVisibility()") is False
    tab.js("changed(() => press('vary'))")
    assert tab.complaints == []
    assert {address.partition(":")[0] for address in tab.requests} == {"file", "blob"}
    assert len([address for address in tab.requests if address.startswith("file:")]) == 1


def test_its_policy_refuses_all_requests(browser, page):
    tab = opened(browser, page)
    assert tab.js("fetch('data:,').then(() => 'allowed', () => 'refused')") == "refused"


def test_names_are_only_text(page):
    text = page.read_text(encoding="utf-8")
    elements = Elements(text)
    scripts = [attributes for tag, attributes in elements.found if tag == "script"]
    data = ["description", "weights", "kernels", "about", "engine"]
    assert scripts == [
        *({"type": "application/json", "id": name} for name in data),
        {"type": "module"},
    ]
    assert not [a for _, attributes in elements.found for a in attributes if a.startswith("on")]
    (about,) = re.findall(r'<script type="application/json" id="about">(.*?)</script>', text)
    assert json.loads(about)["genres"] == GENRES
    assert {NAME, *GENRES} <= set(elements.text)
    assert not re.findall(
        r"fetch\(|XMLHttp|import\(|WebSocket|sendBeacon|https?:", html.source(*html.SCRIPTS)
    )
    assert not {"link", "iframe", "base", "img"} & {tag for tag, _ in elements.found}


def test_equal_checkpoints_give_equal_bytes(page, tmp_path):
    again = html.export_html(
        checkpoint_of("anylength_cgan"), None, tmp_path / "again.html", name=NAME
    )
    assert again.read_bytes() == page.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["again.html"]


def test_sliders_mix_genres(browser, page):
    tab = opened(browser, page)
    first = tab.js("picture()")
    tab.js("changed(() => slide(genres()[1], 50))")
    assert tab.js("address()").startswith("genres=100,50,0&")
    assert tab.js("[...document.querySelectorAll('#genres output')].map(o => o.textContent)") == [
        "67 %", "33 %", "0 %"
    ]  # fmt: skip
    mixed = tab.js("picture()")
    tab.js("changed(() => document.querySelectorAll('#genres button')[2].click())")
    assert tab.js("address()").startswith("genres=0,0,100&")
    assert len({first, mixed, tab.js("picture()")}) == 3
    # A slider does not start what does not play.
    assert tab.js("get('play').textContent") == "Play"
    assert tab.complaints == []


def test_of_many_moves_only_the_newest_sound_is_made(browser, page):
    tab = opened(browser, page)
    tab.js(
        "(async () => { window.shown = 0; new MutationObserver(() => window.shown++)"
        ".observe(get('status'), { childList: true });"
        "for (let value = 1; value <= 40; value++) {"
        "slide(genres()[1], value); await new Promise(done => setTimeout(done, 5)); }"
        "await until(() => address().startsWith('genres=100,40,0&')); })()"
    )
    assert tab.js("window.shown") < 10


def test_a_link_gives_the_same_take(browser, page):
    part = (
        "#genres=30,70,0&end=0,0,100&style=7.25,3.5&sequence=999.9,0&truncation=0.8"
        "&length=bars&bars=1&bpm=200&loop=1"
    )
    tab = opened(browser, page, part)
    assert tab.js("address()") == part[1:]
    tab.js("press('hold-style'), changed(() => press('vary'))")
    link = tab.js("address()")
    assert link.startswith("genres=30,70,0&end=0,0,100&style=7.25,3.5&sequence=")
    assert link != part[1:]
    other = opened(browser, page, f"#{link}")
    assert other.js("address()") == link
    assert other.js("picture()") == tab.js("picture()")
    samples, rate = sound_of(tab)
    assert len(samples) == round(1.2 * rate)
    assert np.array_equal(sound_of(other)[0], samples)
    assert saved_by(other, "png") == saved_by(tab, "png")
    # A link that is opened in the page itself.
    other.js(f"location.hash = '{part}'")
    other.js("until(() => get('status').textContent.includes('sequence near seed 0,'))")
    assert other.js("get('status').textContent") == (
        f"{GENRES[1]} 70 %, drums 30 % to {GENRES[2]}, style near seed 4007, sequence near "
        "seed 0, 1 bar at 200 BPM, 1.2 s"
    )
    assert tab.complaints == other.complaints == []


DAMAGED = (
    "#style=7 #style=1,2&style=1,2 #genres=1,2 #genres=1,2,101 #truncation=-1 #length=hours "
    "#loop=toString #length=valueOf #bars=1.5 #nonsense #constructor=1 #%E0%A4%A #loop=2"
).split()


def test_a_damaged_address_is_told_and_the_first_sound_made(browser, page):
    tab = opened(browser, page, DAMAGED[0])
    for damage in (None, *DAMAGED[1:]):
        if damage:
            tab.js("get('notice').hidden = true")
            tab.js(f"location.hash = '{damage}', until(() => !get('notice').hidden)")
        assert "The address of this page" in tab.js("get('notice').textContent")
        assert tab.js("get('notice').checkVisibility()")
        tab.js("until(() => address().startsWith('genres=100,0,0&style=0,0&'))")
        assert tab.js("get('status').textContent") == "drums, seed 0, 3.0 s"
    assert tab.js("document.body.dataset.state") == "ready"
    assert tab.complaints == []


def test_takes_are_kept_played_saved_and_removed(browser, page):
    tab = opened(browser, page, "#style=7,0&length=seconds&seconds=0.5&loop=1")
    tab.js("press('keep'), changed(() => press('new'))")
    tab.js("press('keep'), press('keep')")
    rows = "[...document.querySelectorAll('.take')]"
    assert tab.js(f"{rows}.length") == 2
    captions = tab.js(f"{rows}.map(row => row.querySelector('.caption').textContent)")
    assert captions[1] == "1. drums, seed 7, 0.5 s"
    assert captions[0].startswith("2. drums, seed ")
    assert tab.js(f"{rows}.map(row => row.querySelector('a').hash)")[1].startswith("#genres=100")
    tab.js(f"changed(() => {rows}[1].querySelector('.picture').click())")
    assert tab.js("get('status').textContent") == "drums, seed 7, 0.5 s"
    assert tab.js("get('play').textContent") == "Stop"
    # The same sound, at once.
    own = sound_of(tab)
    tab.js("document.querySelectorAll('.take [data-do=wav]')[1].id = 'kept-wav'")
    assert np.array_equal(sound_of(tab, "kept-wav")[0], own[0])
    tab.js(f"{rows}[0].querySelector('[data-do=remove]').click()")
    assert tab.js(f"{rows}.length") == 1
    assert tab.js("document.activeElement.className") == "picture"
    assert tab.complaints == []


def test_files_are_those_that_the_commands_write(browser, page, tmp_path):
    tab = opened(browser, page, "#style=7,0&length=bars&bars=1&bpm=240&loop=1")
    name, wav = saved_by(tab, "wav")
    assert re.fullmatch(r"A-name-title-more-_drums_seed0007\.wav", name)
    samples, rate = soundfile.read(io.BytesIO(wav))
    assert (samples.shape, rate) == ((22050,), 22050)
    assert 0.01 < np.abs(samples).max() <= 10 ** (-1 / 20) + 1e-4
    info = soundfile.info(io.BytesIO(wav))
    assert (info.format, info.subtype, info.channels) == ("WAV", "PCM_16", 1)
    chunks = chunks_of(wav)
    assert [int.from_bytes(chunks[b"smpl"][at : at + 4], "little") for at in (28, 44, 48)] == [
        1, 0, 22049
    ]  # fmt: skip
    assert np.frombuffer(chunks[b"acid"], "<f4")[-1] == 240
    name, png = saved_by(tab, "png")
    assert name.endswith(".png")
    (tmp_path / "take.png").write_bytes(png)
    grey, settings = read_image(tmp_path / "take.png")
    assert grey.shape[0] == settings.n_mels == 64
    assert grey.shape[1] * settings.hop_length == pytest.approx(22050, abs=grey.shape[1])
    # What is shown is the same picture in colours: brighter where it is lighter.
    shown = tab.js(
        "Array.from(get('spectrogram').getContext('2d').getImageData(0, 0, "
        "get('spectrogram').width, 64).data)"
    )
    colours = np.reshape(shown, (64, -1, 4)).astype(int)
    assert colours.shape[:2] == grey.shape
    lightness = colours[..., :3].sum(axis=2).ravel()
    assert (np.diff(lightness[np.argsort(grey, axis=None)]) >= 0).all()


def chunks_of(wav: bytes) -> dict[bytes, bytes]:
    """Chunks of a WAV by name."""
    assert int.from_bytes(wav[4:8], "little") == len(wav) - 8
    found, at = {}, 12
    while at < len(wav):
        length = int.from_bytes(wav[at + 4 : at + 8], "little")
        found[wav[at : at + 4]] = wav[at + 8 : at + 8 + length]
        at += 8 + length
    assert at == len(wav)
    return found


def test_the_shape_of_a_piece(browser, page):
    tab = opened(browser, page)

    def choose(length: str) -> None:
        tab.js(f"changed(() => document.querySelector('[name=length][value={length}]').click())")

    tab.js("changed(() => press('loop')), changed(() => press('glide'))")
    tab.js("changed(() => slide(get('length-seconds'), 0.7))")
    assert tab.js("address()") == (
        "genres=100,0,0&end=0,100,0&style=7,0&truncation=1&length=seconds&seconds=0.7&loop=1"
    )
    # The sliders are those of the end.
    assert tab.js("genres().map(slider => slider.value)") == ["0", "100", "0"]
    tab.js("document.querySelector('[name=end]').click()")
    assert tab.js("genres().map(slider => slider.value)") == ["100", "0", "0"]
    assert tab.js("get('status').textContent") == f"drums to {GENRES[1]}, seed 7, 0.7 s"
    choose("bars")
    tab.js("slide(get('bpm'), 239), changed(() => slide(get('bars'), 1))")
    assert tab.js("address()").endswith("&length=bars&bars=1&bpm=239&loop=1")
    tab.js("slide(get('bars'), 1.5), slide(get('bpm'), 9999), slide(get('bpm'), '')")
    choose("image")
    assert tab.js("address()") == "genres=100,0,0&style=7,0&truncation=1&length=image"
    assert tab.js("get('loop').disabled && get('glide').disabled")
    assert tab.complaints == []


def test_images_are_shown_while_the_map_is_dragged(browser, page):
    tab = opened(browser, page)
    first = tab.js("picture()")
    tab.js(
        "(async () => { const before = address(); while (picture() === '" + first + "') {"
        "slide(get('seed'), Number(get('seed').value) + 1);"
        "await new Promise(done => setTimeout(done, 40)); }"
        "if (address() !== before) throw new Error('a sound was made'); })()"
    )
    tab.js("changed(() => {})")


def test_the_keyboard_plays_it(browser, page):
    tab = opened(browser, page, SHORT.replace("loop=0", "loop=1"))

    def key(name: str, code: int, text: str = "") -> None:
        tab.key(name, code, text or name)

    key(" ", 32)
    assert tab.js("get('play').textContent") == "Stop"
    key(" ", 32)
    assert tab.js("get('play').textContent") == "Play"
    first = tab.js("address()")
    key("n", 78)
    tab.js(f"until(() => address() !== '{first}')")
    assert tab.js("get('play').textContent") == "Stop"
    second = tab.js("address()")
    key("k", 75)
    assert tab.js("document.querySelectorAll('.take').length") == 1
    key("v", 86)
    tab.js(f"until(() => address() !== '{second}')")
    key("b", 66)
    tab.js(f"until(() => address() === '{second}')")
    key("b", 66)
    tab.js(f"until(() => address() === '{first}')")
    key("m", 77)
    assert tab.js("document.activeElement.id") == "map"
    tab._call("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight", windowsVirtualKeyCode=39)
    tab.js("until(() => address().includes('style=7.1,0&'))")
    # A focused button takes Space for itself, and a field takes letters and digits.
    tab.js("get('hold-style').focus()")
    key(" ", 32)
    assert tab.js("get('hold-style').getAttribute('aria-pressed')") == "true"
    tab.js("get('length-seconds').focus()")
    key("k", 75)
    assert tab.js("document.querySelectorAll('.take').length") == 1
    assert tab.complaints == []


@pytest.mark.parametrize("touch", [False, True], ids=["mouse", "touch"])
def test_the_map_is_wandered_in(browser, page, touch):
    tab = opened(browser, page, width=390 if touch else 1280)
    tab.js("get('map').scrollIntoView({ block: 'center' })")
    box = tab.js("get('map').getBoundingClientRect().toJSON()")
    x, y, seed = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, box["width"] / 4
    if touch:
        tab._call("Emulation.setTouchEmulationEnabled", enabled=True)
    way = [(x, y), (x + seed / 2, y), (x + seed, y - seed / 2)]
    for kind, at in zip(("Start", "Move", "Move"), way, strict=True):
        if touch:
            points = [{"x": at[0], "y": at[1]}]
            tab._call("Input.dispatchTouchEvent", type=f"touch{kind}", touchPoints=points)
        else:
            mouse = {"type": "mousePressed" if kind == "Start" else "mouseMoved", "button": "left"}
            tab._call("Input.dispatchMouseEvent", x=at[0], y=at[1], buttons=1, **mouse)
    tab.js("until(() => address().includes('style=8,999.5&'))")
    if touch:
        tab._call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    else:
        mouse = {"type": "mouseReleased", "button": "left"}
        tab._call("Input.dispatchMouseEvent", x=way[-1][0], y=way[-1][1], **mouse)
    assert tab.js("get('status').textContent").startswith("drums, near seed ")
    assert tab.js("get('place').textContent") == "and 1 more around"
    assert tab.js("get('play').textContent") == "Stop"
    assert tab.complaints == []


def test_what_is_held_stays(browser, page):
    tab = opened(browser, page)
    tab.js("press('hold-sequence'), changed(() => press('new'))")
    assert "&sequence=7,0&" in tab.js("address()")
    assert "style=7,0&" not in tab.js("address()")
    tab.js("press('hold-style')")
    assert tab.js("['new', 'vary', 'walk'].every(id => get(id).disabled)")
    tab.js("press('hold-sequence'), changed(() => press('new'))")
    assert "&sequence=7,0&" not in tab.js("address()")


@pytest.mark.slow  # in real time
def test_a_new_sound_replaces_the_present_one_without_a_click(browser, page):
    tab = opened(browser, page, SHORT.replace("loop=0", "loop=1"), before=LISTEN)
    sounds = [sound_of(tab)[0]]
    tab.js("press('play'), until(() => heard.length > 15000)")
    for _ in range(2):
        tab.js("changed(() => press('new'))")
        sounds.append(sound_of(tab)[0])
        tab.js("(now => until(() => heard.length > now + 12000))(heard.length)")
    heard = np.array(tab.js("heard"))
    heard = heard[np.flatnonzero(heard)[0] :]
    largest = max(np.abs(np.diff(np.append(s, s[0]) / 32767.0)).max() for s in sounds)
    assert np.abs(np.diff(heard)).max() <= 1.05 * largest + 1e-3
    assert np.abs(heard).max() <= max(np.abs(s / 32767.0).max() for s in sounds) + 1e-3
    # Loops leave no gap.
    loudness = np.sqrt(np.mean(np.reshape(heard[: len(heard) // 1024 * 1024], (-1, 1024)) ** 2, 1))
    assert loudness.min() > 1e-4


@pytest.mark.slow  # in real time
def test_a_walk_goes_on_without_silence(browser, page):
    tab = opened(browser, page, before=LISTEN)
    tab.js("press('walk')")
    places = set()
    for _ in range(3):
        tab.js("changed(() => {})")
        places.add(tab.js("address()"))
    assert len(places) == 3
    heard = np.array(tab.js("heard"))
    heard = heard[np.flatnonzero(heard)[0] :]
    loudness = np.sqrt(np.mean(np.reshape(heard[: len(heard) // 1024 * 1024], (-1, 1024)) ** 2, 1))
    assert loudness.min() > 1e-5
    tab.js("press('walk')")
    assert tab.js("get('walk').getAttribute('aria-pressed')") == "false"
    tab.js("until(() => get('play').textContent === 'Play')")  # the present sound ends


@pytest.mark.parametrize("gan", ["dcgan", "cgan"])
def test_generators_of_single_images_have_one_latent(browser, tmp_path, gan):
    page = html.export_html(checkpoint_of(gan), None, tmp_path / "page.html", name="x")
    tab = opened(browser, page, "")
    assert tab.js("get('status').textContent") == (
        "seed 0" if gan == "dcgan" else "drums, seed 0"
    ) + (", 3.0 s")
    assert tab.js("genres().length") == (0 if gan == "dcgan" else 3)
    assert tab.js("get('hold-style')") is None
    tab.js("changed(() => press('vary'))")
    assert "sequence" not in tab.js("address()")
    assert saved_by(tab, "wav")[0].startswith("x_at" if gan == "dcgan" else "x_drums_at")
    assert tab.complaints == []


@pytest.mark.parametrize("width", [320, 390])
def test_it_fits_a_phone(browser, page, width):
    tab = opened(browser, page, width=width, height=844)
    tab.js("press('keep'), press('glide')")
    assert tab.js("document.documentElement.scrollWidth") == width
    sizes = tab.js(
        "[...document.querySelectorAll('button, input, a')].filter(e => e.checkVisibility())"
        ".map(e => e.getBoundingClientRect()).map(box => [box.left, box.right])"
    )
    assert all(left >= 0 and right <= width for left, right in sizes)
    # What is played with most is always in reach.
    low = tab.js("get('play').getBoundingClientRect().bottom")
    assert 700 < low <= 844


CONTRAST = """(() => {
  const channels = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, k) => sum + c * [0.2126, 0.7152, 0.0722][k], 0);
  const ground = element => {
    for (; element; element = element.parentElement) {
      const found = channels(getComputedStyle(element).backgroundColor);
      if (found.length < 4 || found[3] === 1) return found;
    }
    return channels(getComputedStyle(document.body).backgroundColor);
  };
  return [...document.querySelectorAll("body *")].filter(e => e.checkVisibility() && !e.disabled &&
    !e.closest(":disabled") && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())
    && !["SCRIPT", "OPTION"].includes(e.tagName)).map(e => {
      const levels = [channels(getComputedStyle(e).color), ground(e)].map(light);
      return [(Math.max(...levels) + 0.05) / (Math.min(...levels) + 0.05), e.textContent.trim()];
    });
})()"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_by_day_and_by_night(browser, page, dark):
    tab = opened(browser, page, dark=dark)
    tab.js("press('keep'), press('hold-style'), press('glide')")
    ratios = tab.js(CONTRAST)
    assert len(ratios) > 40
    assert min(ratios)[0] >= 4.5, min(ratios)


def test_everything_has_a_name_for_screen_readers(browser, page):
    tab = opened(browser, page)
    tab.js("press('keep')")
    tree = tab._call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "slider", "spinbutton", "radio", "image", "application", "link", "img"}
    controls = [node for node in tree if node.get("role", {}).get("value") in roles]
    assert len(controls) > 25
    assert not [node for node in controls if not node.get("name", {}).get("value")]
    assert tab.js("document.querySelectorAll('[role=status], [role=alert]').length") == 2


WITHOUT = {
    "worker": "window.Worker = class { constructor() { throw new Error('it is blocked'); } };",
    "WebAssembly": "const Real = Blob; window.Blob = class extends Real { constructor(parts, kind) "
    "{ super(kind?.type === 'text/javascript' ? ['delete self.WebAssembly;', ...parts] : parts, "
    "kind); } };",
    "syntax": "const Real = Blob; window.Blob = class extends Real { constructor(parts, kind) "
    "{ super(['{{'], kind); } };",
}


@pytest.mark.parametrize("without", WITHOUT)
def test_what_a_browser_lacks_is_told(browser, page, without):
    tab = opened(browser, page, before=WITHOUT[without])
    assert tab.js("document.body.dataset.state") == "failed"
    assert tab.js("get('notice').checkVisibility()")
    assert tab.js("get('notice').textContent").startswith("No sound could be made: ")
    assert tab.js("get('play').disabled && get('new').disabled")


@pytest.mark.parametrize("part", ["weights", "description", "kernels"])
def test_a_damaged_file_is_told(browser, page, tmp_path, part):
    text = page.read_text(encoding="utf-8")
    found = re.search(rf'id="{part}">(.*?)</script>', text)
    damaged = tmp_path / "damaged.html"
    damaged.write_text(text[: found.start(1)] + '"AAAA"' + text[found.end(1) :], encoding="utf-8")
    tab = opened(browser, damaged)
    assert tab.js("document.body.dataset.state") == "failed"
    assert tab.js("get('notice').checkVisibility()")


def test_without_scripts_it_says_so(browser, page):
    tab = Tab(browser, page, scripts=False)
    assert "needs JavaScript" in tab.js("document.body.innerText")
