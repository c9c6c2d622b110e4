"""The engine of the instrument in a browser, against PyTorch: latents, images, pieces and sound."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chromium import Chromium, Tab
from torch import nn
from vocoders import random_vocoder

from musicspectrogan import models
from musicspectrogan.audio.finishing import loudness
from musicspectrogan.audio.inversion import round_trip_error
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.audio.vocoder import Vocoder, default_vocoder
from musicspectrogan.errors import UserError
from musicspectrogan.export.payload import ENGINE, GANS, LONGEST_SECONDS, engine_source, payload
from musicspectrogan.generation.pieces import loop_multiple, piece
from musicspectrogan.generation.sampler import LatentSpec, Sampler, _draw, seed_spec
from musicspectrogan.generation.sound import loop_settings, sound_of_loop, sounds_of
from musicspectrogan.models import ModelConfig
from musicspectrogan.training.checkpoint import LiveGenerator

GENRES = ["jazz", "rock", "blues"]
VARIED = {"from": {"seed": 5}, "to": {"seed": 5, "vary": 2}, "fraction": 0.3}
VARIED_SPEC = LatentSpec("", "", (5,), (5, "vary", 2), 0.3)

PAGE = """<!doctype html><title>engine</title>
<script type="application/json" id="data">DATA</script>
<script>
const data = JSON.parse(document.getElementById("data").textContent);
const address = URL.createObjectURL(new Blob([data.engine], { type: "text/javascript" }));
const worker = new Worker(address);
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt()).buffer;
const waiting = new Map(), seen = [];
worker.onmessage = ({ data }) => {
  seen.push(data.type);
  if (data.type === "progress") return;
  waiting.get(data.id)(data);
};
const ask = (message) => new Promise((resolve) => {
  const id = waiting.size;
  waiting.set(id, resolve);
  worker.postMessage({ id, ...message });
});
const text = (array) => {
  const all = new Uint8Array(array.buffer);
  let letters = "";
  for (let i = 0; i < all.length; i += 4096)
    letters += String.fromCharCode(...all.subarray(i, i + 4096));
  return btoa(letters);
};
const make = async (requests) => {
  const answers = await Promise.all(requests.map((request) => ask({ type: "make", request })));
  return answers.map((answer) => answer.type === "made"
    ? { ...answer, image: text(answer.image), samples: text(answer.samples) } : answer);
};
const loaded = data.description && ask({
  type: "load", description: data.description,
  weights: bytes(data.weights), kernels: bytes(data.kernels),
});
</script>"""


@dataclass
class Engine:
    """A generator in a page, and its sampler in this process."""

    tab: Tab
    sampler: Sampler
    vocoder: Vocoder | None

    def make(self, *requests: dict[str, Any]) -> list[dict[str, Any]]:
        """The answers to requests, with image (rows, columns) and samples as arrays."""
        answers = self.tab.js(f"make({json.dumps(requests)})")
        for answer in answers:
            if answer["type"] != "made":
                continue
            image = np.frombuffer(base64.b64decode(answer["image"]), np.uint8)
            answer["image"] = image.reshape(answer["rows"], answer["columns"])
            answer["samples"] = np.frombuffer(base64.b64decode(answer["samples"]), np.float32)
        return answers

    def genres(self, weights: dict[str, float]) -> torch.Tensor:
        return self.sampler.mixture(weights if self.sampler.conditional else {})


Build = Callable[..., Engine]


@pytest.fixture
def engine(browser: Chromium, tmp_path: Path) -> Build:
    """Build a random generator, and open it in the browser."""

    def build(
        gan: str,
        *,
        vocoder: Vocoder | None = None,
        config: SpectrogramConfig | None = None,
        **options: Any,
    ) -> Engine:
        config = config or SpectrogramConfig()
        checkpoint = a_generator(gan, config, **options)
        data = payload(checkpoint, vocoder, name="test") | {"engine": engine_source()}
        tab = open_page(browser, tmp_path, data)
        assert tab.js("loaded")["type"] == "ready"
        return Engine(tab, Sampler(checkpoint), vocoder)

    return build


def open_page(browser: Chromium, folder: Path, data: dict[str, Any]) -> Tab:
    page = folder / "engine.html"
    page.write_text(PAGE.replace("DATA", json.dumps(data).replace("<", r"\u003c")), "utf-8")
    return Tab(browser, page)


def a_generator(gan: str, config: SpectrogramConfig, **options: Any) -> LiveGenerator:
    """A generator with weights and statistics as after some training."""
    torch.manual_seed(0)
    model = ModelConfig(config.n_mels, **{"width": 8, "latent_dim": 20, "n_genres": 3} | options)
    generator, _ = models.build(gan, model)
    with torch.no_grad():
        for name, weight in generator.named_parameters():
            deviation = 0.1 if "norms" in name else 0.02
            weight.add_(deviation * torch.randn_like(weight))
        # As much contrast as training makes.
        convolutions(generator)[-1].weight.mul_(4.0)
        for module in generator.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # the mean of all batches
        for _ in range(3):
            generator(torch.randn(32, generator.latent_dim), torch.arange(32) % model.n_genres)
    return LiveGenerator(generator.eval(), gan, model, GENRES, config)


def convolutions(generator: nn.Module) -> list[nn.Module]:
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    return [module for module in generator.modules() if isinstance(module, kinds)]


def assert_near(image: np.ndarray, expected: np.ndarray) -> None:
    """Within one grey level, and nearly always the same."""
    assert image.shape == expected.shape
    difference = np.abs(image.astype(int) - expected)
    assert difference.max() <= 1 and difference.mean() < 0.1
    assert expected.std() > 15  # not all the same grey


@pytest.mark.parametrize("gan", GANS)
def test_a_hundred_seeds_are_within_one_grey_level(engine, gan):
    # Widths and latents that are no multiple of four, and fewer than 16 latents.
    options = {"width": 6} if "any" in gan else {"width": 5, "latent_dim": 13}
    made = engine(gan, **options)
    weights = [{GENRES[k % 3]: 1.0, GENRES[(k + 1) % 3]: k / 50} for k in range(100)]
    answers = made.make(
        *({"start": w, "style": {"seed": k}, "sound": False} for k, w in enumerate(weights))
    )
    mixtures = torch.stack([made.genres(w) for w in weights])
    mixtures = mixtures / mixtures.sum(dim=1, keepdim=True)
    expected = made.sampler.images(made.sampler.latents(range(100)), mixtures)
    assert_near(np.concatenate([a["image"] for a in answers]), np.concatenate(expected))
    assert not made.tab.complaints
    assert [r for r in made.tab.requests if not r.startswith(("file:", "blob:"))] == []


@pytest.mark.parametrize(
    ("gan", "size", "options"),
    [
        pytest.param("dcgan", 128, {}, marks=pytest.mark.slow),
        ("stable_cgan", 128, {"upsampling": "resize"}),
        ("anylength_cgan", 128, {"upsampling": "resize", "pairs": True}),
        ("anylength_gan", 64, {"upsampling": "resize_time"}),
        pytest.param("anylength_gan", 256, {"width": 4}, marks=pytest.mark.slow),
    ],
)
def test_other_sizes_and_options(engine, gan, size, options):
    made = engine(gan, config=SpectrogramConfig.for_image_size(size), **options)
    requests = [
        {"start": {"rock": 1.0}, "style": style, "sound": False, "truncation": 0.7}
        for style in ({"seed": 0}, {"seed": "999999999999999999"}, VARIED)
    ]
    specs = [seed_spec(0), seed_spec(999999999999999999), VARIED_SPEC]
    latents = 0.7 * torch.stack([made.sampler.latent(spec) for spec in specs])
    expected = made.sampler.images(latents, made.genres({"rock": 1.0}).repeat(3, 1))
    for answer, image in zip(made.make(*requests), expected, strict=True):
        assert_near(answer["image"], image)


@pytest.mark.parametrize("gan", ["anylength_cgan", "anylength_gan", "stable_cgan"])
def test_pieces_and_loops_are_those_of_generate(engine, gan):
    vocoder = random_vocoder()
    made = engine(gan, vocoder=vocoder)
    sampler, ends = made.sampler, {"start": {"jazz": 1.0}, "end": {"rock": 1.0}}
    cases: list[tuple[LatentSpec, dict[str, Any]]] = [
        (seed_spec(3), {"style": {"seed": 3}, "seconds": 55}),  # in two blocks
        (VARIED_SPEC, {"style": VARIED, "seconds": 9.3, "loop": True, "truncation": 0.8}),
        (seed_spec(7), {"style": {"seed": 7}, "bars": 2, "bpm": 111, "loop": True}),
        (seed_spec(7), {"style": {"seed": 7}, "bars": 1, "bpm": 90}),
    ]
    answers = made.make(*(ends | request | {"sound": False} for _, request in cases))
    for (spec, request), answer in zip(cases, answers, strict=True):
        beats = 4 * request["bars"] if "bars" in request else None
        seconds = 60 * beats / request["bpm"] if beats else request["seconds"]
        loops = request.get("loop", False)
        frames = sampler.spectrogram.frames_in(seconds)
        if loops:
            frames, _ = loop_settings(seconds, sampler.spectrogram, loop_multiple(sampler), vocoder)
        expected = piece(
            sampler, spec, *map(made.genres, ends.values()), frames,
            loops=loops, truncation=request.get("truncation", 1.0), beats=beats,
        )  # fmt: skip
        assert_near(answer["image"], expected)


def test_style_and_sequence_are_chosen_separately(engine):
    made = engine("anylength_cgan")
    latent = [made.sampler.latent(seed_spec(seed)) for seed in (1, 2)]
    style_dim = made.sampler.any_length.style_dim
    mixed = torch.cat([latent[0][:style_dim], latent[1][style_dim:]])
    request = {"start": {"jazz": 1.0}, "style": {"seed": 1}, "sequence": {"seed": 2}}
    single, long, other = made.make(
        request | {"sound": False},
        request | {"sound": False, "seconds": 6},
        request | {"sound": False, "seconds": 6, "style": {"seed": 2}},
    )
    expected = made.sampler.images(mixed[None], made.genres({"jazz": 1.0})[None])
    assert_near(single["image"], expected[0])
    assert not np.array_equal(long["image"], other["image"])
    own = piece(
        made.sampler, seed_spec(2), *[made.genres({"jazz": 1.0})] * 2,
        other["columns"], loops=False, truncation=1.0,
    )  # fmt: skip
    assert_near(other["image"], own)


NARROW = SpectrogramConfig.for_image_size(128)
VOCODERS = {
    "default": (SpectrogramConfig(), default_vocoder(SpectrogramConfig())),
    "none": (SpectrogramConfig(), None),
    "128 bands": (NARROW, random_vocoder(NARROW)),
    "other settings": (
        SpectrogramConfig(sample_rate=16000, n_fft=1024, hop_length=600, f_min=50, f_max=7000),
        random_vocoder(
            SpectrogramConfig(sample_rate=16000, n_fft=1024, hop_length=600, f_min=50, f_max=7000)
        ),
    ),
}


@pytest.mark.parametrize(
    "which",
    [
        "default",
        "none",
        pytest.param("128 bands", marks=pytest.mark.slow),
        pytest.param("other settings", marks=pytest.mark.slow),
    ],
)
def test_sounds_are_those_of_generate(engine, which):
    config, vocoder = VOCODERS[which]
    made = engine("anylength_cgan", config=config, vocoder=vocoder)
    request = {"start": {"jazz": 1.0}, "style": {"seed": 1}}
    # Longer than a block, which with a vocoder is 12 s, and a loop with another hop.
    long = 13 if which == "default" else 5
    loop = request | {"seconds": 4.1, "loop": True}
    answers = made.make(request, request | {"seconds": long}, loop)
    rate = config.sample_rate
    for answer in answers:
        image = answer["image"].copy()
        if answer["loop"]:
            frames, settings = loop_settings(4.1, config, loop_multiple(made.sampler), vocoder)
            assert frames == answer["columns"]
            assert settings != config
            expected = sound_of_loop(image, settings, 4.1, vocoder)
        else:
            seconds = long if answer is answers[1] else None
            (expected,) = sounds_of(image[None], config, vocoder, seconds=seconds)
        samples = answer["samples"]
        assert answer["rate"] == rate and samples.shape == expected.shape
        # The resampler of `generate` removes the uppermost frequencies of a loop, the page's not.
        assert round_trip_error(expected, samples, rate) < (0.25 if answer["loop"] else 0.1)
        assert abs(loudness(samples, rate) - loudness(expected, rate)) < 0.02
        assert np.abs(samples).max() <= 10 ** (-1 / 20) + 1e-6
    assert "progress" in made.tab.js("seen")


def test_a_loop_joins_like_any_other_point(engine):
    made = engine("anylength_cgan", vocoder=default_vocoder(SpectrogramConfig()))
    (answer,) = made.make(
        {"start": {"jazz": 1.0}, "style": {"seed": 1}, "seconds": 4.1, "loop": True}
    )
    samples = answer["samples"].astype(float)
    steps = np.abs(np.diff(samples, append=samples[0]))
    assert steps[-1] <= np.quantile(steps, 0.999)
    # Three times in a row, its second time is the same as with the join in another place.
    turned = np.roll(samples, len(samples) // 2)
    assert round_trip_error(np.tile(samples, 3), np.roll(np.tile(turned, 3), len(samples) // 2),
                            22050) < 0.1  # fmt: skip


def test_latents_are_those_of_pytorch(browser, tmp_path):
    tab = open_page(browser, tmp_path, {"engine": ""})
    positions = [
        (size, spec, place)
        for size in (1, 7, 15, 16, 17, 33, 100, 1000)
        for spec in (seed_spec(0), seed_spec(123456789012345678), VARIED_SPEC)
        for place in ((), ("cell", -18), ("walk", 3))
    ]
    script = f"{engine_source()}\nreturn draw(...arguments)"
    tab.js(f"window.draw = new Function({json.dumps(script)}); 0")
    given = []
    for size, spec, place in positions:
        latents = VARIED if spec is VARIED_SPEC else {"seed": str(spec.start[0])}
        given.append([size, latents, *place])
    found = tab.js(f"{json.dumps(given)}.map((given) => [...draw(...given)])")
    for (size, spec, place), numbers in zip(positions, found, strict=True):
        np.testing.assert_allclose(numbers, _draw(size, spec, *place), atol=2e-6)


def test_bad_requests_say_what_is_wrong(engine):
    made = engine("anylength_cgan", width=2)
    good = {"start": {"jazz": 1.0}, "style": {"seed": 1}, "sound": False}
    answers = made.make(
        good | {"start": {"polka": 1.0}},
        good | {"start": {"jazz": 0.0}},
        good | {"seconds": LONGEST_SECONDS + 1},
        good | {"loop": True},
        good | {"style": {"seed": "x"}},
        good,
    )
    assert [answer["type"] for answer in answers] == 5 * ["failed"] + ["made"]
    said = [answer["message"] for answer in answers[:5]]
    for part, message in zip(["polka", "weight", "600", "length", "seed"], said, strict=True):
        assert part in message


def test_what_the_engine_cannot_compute_is_refused():
    checkpoint = a_generator("dcgan", SpectrogramConfig(n_fft=3000))
    with pytest.raises(UserError, match="power of two"):
        payload(checkpoint, None, name="x")
    with pytest.raises(UserError, match="only dcgan"):
        payload(replace(checkpoint, gan="mine"), None, name="x")


def test_the_kernels_are_built_from_their_source(tmp_path):
    source = (ENGINE / "kernels.c").read_text("utf-8")
    version = (
        shutil.which("clang")
        and subprocess.run(
            ["clang", "--version"], capture_output=True, text=True, check=True
        ).stdout
    )
    if not version or "version 14." not in version or not shutil.which("wasm-ld"):
        pytest.skip("no clang and lld 14")
    line = re.search(r"(clang --target.*?kernels\.c)", source, re.DOTALL)[1]
    shutil.copy(ENGINE / "kernels.c", tmp_path)
    words = line.replace("\\\n", " ").replace("*", " ").split()
    subprocess.run(words, cwd=tmp_path, check=True)
    assert (tmp_path / "kernels.wasm").read_bytes() == (ENGINE / "kernels.wasm").read_bytes()
