"""An instrument in one HTML file: a generator that is played in any browser.

The page holds the engine, which runs in a worker, and the checkpoint's weights. It opens from disk
and requests nothing; its security policy would not let it. Markup, style and scripts are files in
templates/.
"""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

from jinja2 import ChoiceLoader, PackageLoader
from markupsafe import Markup

from musicspectrogan import models
from musicspectrogan.audio.vocoder import Vocoder
from musicspectrogan.export.payload import engine_source, payload
from musicspectrogan.filesystem import write_text
from musicspectrogan.generation.page import MAGMA, hertz_marks
from musicspectrogan.generation.page import TEMPLATES as GENERATION_TEMPLATES
from musicspectrogan.training.checkpoint import Checkpoint

TEMPLATES = GENERATION_TEMPLATES.overlay(
    loader=ChoiceLoader(
        [PackageLoader("musicspectrogan.export"), PackageLoader("musicspectrogan.generation")]
    )
)
STYLES = ("style.css", "player.css", "instrument.css")
# Tells an instrument from other pages, near its beginning.
MARK = Markup('<meta name="generator" content="MusicSpectroGAN">')
# One module in the page, in this order.
SCRIPTS = tuple(
    f"{name}.js"
    for name in (
        "places", "spectrogram", "files", "player", "map", "client", "playing", "takes", "controls",
        "instrument",
    )
)  # fmt: skip


def export_html(
    checkpoint: Checkpoint, vocoder: Vocoder | None, output: Path, *, name: str
) -> Path:
    """Write the instrument of a checkpoint, whole or not at all; returns `output`.

    Args:
        vocoder: of `generation.sound.choose_vocoder`; None for the non-negative fit.
        output: the HTML file, which is replaced.
        name: heading of the page, and part of the names of files that are saved from it.

    Raises:
        UserError: the engine does not know this GAN, or its spectrogram settings.
    """
    write_text(output, _page(checkpoint, vocoder, name))
    return output


def is_instrument(path: Path) -> bool:
    """Whether a file is what `export_html` writes."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return MARK.encode() in file.read(1024)


def _page(checkpoint: Checkpoint, vocoder: Vocoder | None, name: str) -> str:
    config = checkpoint.spectrogram
    genres = checkpoint.genres if models.is_conditional(checkpoint.gan) else []
    any_length = models.is_any_length(checkpoint.gan)
    about = {
        "name": name,
        "genres": genres,
        "any_length": any_length,
        "colours": MAGMA,
        "spectrogram": asdict(config),
        "hop_step": vocoder.frames_per_column if vocoder else 1,
    }
    parts = payload(checkpoint, vocoder, name=name) | {"about": about, "engine": engine_source()}
    highest = config.sample_rate / 2 if vocoder else config.f_max  # a vocoder fills in the rest
    script = Markup("\n") + source(*SCRIPTS)
    return TEMPLATES.get_template("instrument.html").render(
        title=name,
        mark=MARK,
        policy=_policy(script),
        style=source(*STYLES),
        script=script,
        data={key: _json(value) for key, value in parts.items()},
        genres=genres,
        any_length=any_length,
        image_seconds=f"{config.image_seconds:.2g}",
        hertz=[(f"{hz:g}", f"{at:.2%}") for hz, at in hertz_marks(config)],
        facts={
            "Model": f"{checkpoint.gan}, width {checkpoint.model.width}",
            "Trained on": f"{checkpoint.images_seen:,} images",
            "Sound": f"{config.sample_rate:,} Hz, up to {highest:,.0f} Hz",
        },
    )


def source(*names: str) -> Markup:
    """Files of templates/, one after another, to insert without escaping."""
    assert TEMPLATES.loader is not None
    return Markup("\n".join(TEMPLATES.loader.get_source(TEMPLATES, name)[0] for name in names))


def _json(value: object) -> Markup:
    """JSON that cannot end the script element around it."""
    return Markup(json.dumps(value, separators=(",", ":")).replace("<", r"\u003c"))


def _policy(script: str) -> str:
    """A Content-Security-Policy: this script, a worker of the page's own, and no requests."""
    digest = b64encode(sha256(script.encode("utf-8")).digest()).decode("ascii")
    return (
        f"default-src 'none'; script-src 'sha256-{digest}' 'wasm-unsafe-eval'; worker-src blob:; "
        "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    )
