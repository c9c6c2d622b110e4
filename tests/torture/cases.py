"""The bytes of a case: `(kind, number)` alone says them."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import mutations
import numpy as np
import soundfile
from archived import parquet_of, tar_of, zip_of
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.config import to_yaml
from musicspectrogan.data import composer
from musicspectrogan.training.settings import TrainingConfig

# Format, subtype and channels of the sounds to begin with.
SOUNDS = {
    "wav": (
        "PCM_16",
        "PCM_U8",
        "PCM_24",
        "FLOAT",
        "DOUBLE",
        "ULAW",
        "IMA_ADPCM",
        "MS_ADPCM",
        "GSM610",
    ),
    "flac": ("PCM_16", "PCM_24"),
    "ogg": ("VORBIS", "OPUS"),
    "mp3": ("MPEG_LAYER_III",),
    "au": ("PCM_16", "FLOAT", "ALAW", "G721_32"),
}


ARCHIVES = ("zip", "tar", "tar.gz", "tar.xz", "parquet")


def case(kind: str, number: int) -> bytes:
    """The file of a case."""
    if kind == "rare png":
        return list(special_pngs().values())[number]
    return CASES[kind](Random(f"{kind} {number}"))


@cache
def _sound(form: str, subtype: str, channels: int) -> bytes:
    """5 s of music."""
    clip = composer.compose("drums", 0, seed=0, seconds=5.0)
    rate = 48000 if subtype == "OPUS" else composer.SAMPLE_RATE
    file = io.BytesIO()
    soundfile.write(
        file, np.stack([clip] * channels, axis=1), rate, format=form.upper(), subtype=subtype
    )
    made = file.getvalue()
    return mutations.ogg_of(mutations.ogg_pages(made)) if form == "ogg" else made


def _audio(form: str) -> Callable[[Random], bytes]:
    structured = {
        "wav": lambda data, random: mutations.with_field(data, mutations.WAV_FIELDS, random),
        "au": lambda data, random: mutations.with_field(data, mutations.AU_FIELDS, random),
        "flac": lambda data, random: mutations.with_field(data, mutations.FLAC_FIELDS, random),
        "ogg": mutations.altered_ogg,
        "mp3": mutations.damaged,
    }[form]

    def mutated(random: Random) -> bytes:
        subtype = random.choice(SOUNDS[form])
        start = _sound(
            form, subtype, 1 if subtype in {"GSM610", "G721_32"} else random.choice((1, 2))
        )
        change = random.choice((mutations.damaged, structured, structured))
        made = change(start, random)
        return made if random.random() < 0.8 else mutations.damaged(made, random)

    return mutated


@cache
def _image(mode: str) -> bytes:
    """A 64x64 PNG of a kind; `own` is one of this tool's."""
    ramp = (np.add.outer(np.arange(64), np.arange(64)) * 2).astype(np.uint8)
    file = io.BytesIO()
    if mode == "own":
        chunks = PngInfo()
        chunks.add_text("spectrogram", json.dumps(asdict(SpectrogramConfig())))
        Image.fromarray(ramp).save(file, "PNG", pnginfo=chunks)
    elif mode == "animated":
        frames = [Image.fromarray(np.roll(ramp, k, axis=1)) for k in range(3)]
        frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    elif mode == "I;16":
        Image.fromarray(ramp.astype(np.uint16) * 200).save(file, "PNG")
    else:
        Image.fromarray(ramp).convert(mode).save(file, "PNG")
    return file.getvalue()


@cache
def special_pngs() -> dict[str, bytes]:
    """Valid but rare or malicious PNGs. Each may at most be left out, and listed."""

    def drawn(width: int, height: int, rows: int, *kind: int) -> bytes:
        depth, colour, interlace = kind or (8, 0, 0)
        samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
        row = 1 + -(-width * samples * depth // 8)
        packer = zlib.compressobj(9)
        body = b"".join(packer.compress(bytes(row)) for _ in range(rows)) + packer.flush()
        return mutations.png_of(
            [
                mutations.png_header(width, height, depth, colour, interlace),
                (b"IDAT", body),
                (b"IEND", b""),
            ]
        )

    grey = _image("own")
    packed = zlib.compress(b"A" * 2**27)
    bomb = [(b"zTXt", b"spectrogram\0\0" + packed)]
    many = [(b"zTXt", b"t%d\0\0" % k + zlib.compress(b"A" * 2**20)) for k in range(200)]
    first, *rest = mutations.png_chunks(grey)
    return {
        "bomb": drawn(30_000, 30_000, 30_000 // 8),
        "as large as may be": drawn(8_900, 8_900, 8_900, 8, 6, 0),
        "promised bomb": drawn(2**31 - 1, 2**31 - 1, 0),
        "long": drawn(100_000, 1, 1),
        "high": drawn(1, 100_000, 100_000),
        "64 high and endless": drawn(2**20, 64, 64),
        "16 bits": _image("I;16"),
        "16 bits, colours": drawn(64, 64, 64, 16, 6, 0),
        "palette without one": drawn(64, 64, 64, 8, 3, 0),
        "interlaced": drawn(64, 64, 80, 8, 0, 1),
        "animated": _image("animated"),
        "cut": grey[: len(grey) // 2],
        "wrong checksum": grey[:-20] + b"\0" * 20,
        "bomb of text": mutations.png_of([first, *bomb, *rest]),
        "many texts": mutations.png_of([first, *many, *rest]),
        "text at the end": mutations.png_of([first, *rest[:-1], *bomb, rest[-1]]),
    }


def _png(random: Random) -> bytes:
    start = _image(
        random.choice(("own", "own", "own", "L", "RGB", "RGBA", "P", "1", "LA", "I;16", "animated"))
    )
    return random.choice((mutations.damaged, mutations.altered_png, mutations.altered_png))(
        start, random
    )


TRACKS = """,set,set,track,track,artist,track
,split,subset,genre_top,license,id,title
track_id,,,,,,
2,training,small,Hip-Hop,Attribution,1,Food
5,training,small,Old-Time / Historic,Attribution-NonCommercial,1,"This, ""World"" now"
10,test,medium,Pop,"",6,Freeway
98565,validation,large,Rock,Attribution,4,"two
lines"
140,training,full,,Attribution,54,Queen
"""

REPORT = """track,genre,split,status,reason,segments,seconds,reference_db,path
rock.00000,rock,,converted,,2,7.0,31.5,music/rock/rock.00000.wav
rock.00001,rock,test,converted,"ends early, see above",2,7.0,30.25,"music/a, b/rock.00001.wav"
rock.00002,rock,,skipped,file is empty,0,0.0,0.0,music/rock/rock.00002.wav
jazz.00000,jazz,,converted,,1,3.5,-2.0,music/jazz/jazz.00000.wav
jazz.00001,jazz,,excluded,no longer in the input,0,0.0,0.0,music/jazz/jazz.00001.wav
"""


def dataset_json() -> dict[str, Any]:
    """A dataset.json of two genres with three tracks."""
    tracks = [
        ("rock.00000", "rock", "training"),
        ("rock.00001", "rock", "test"),
        ("jazz.00000", "jazz", "training"),
    ]
    measured = {"segments": 2, "reference_db": 31.4, "seconds": 7.0}
    return {
        "format_version": 1,
        "source": "gtzan",
        "spectrogram": asdict(SpectrogramConfig()),
        "selection": {"input": "/music", "limit": 5},
        "genres": ["jazz", "rock"],
        "tracks": [
            {"id": id_, "genre": genre, "split": split, **measured} for id_, genre, split in tracks
        ],
    }


def _dataset(random: Random) -> bytes:
    if random.random() < 0.7:
        changed = mutations.altered(dataset_json(), random)
        return json.dumps(changed, indent=random.choice((None, 1))).encode("utf-8")
    return random.choice((mutations.damaged, _nested))(
        json.dumps(dataset_json()).encode("utf-8"), random
    )


def _nested(data: bytes, random: Random) -> bytes:
    at, depth = random.randrange(len(data)), random.choice((100, 5000, 200_000))
    return data[:at] + random.choice((b"[", b'{"a":', b"9", b'"', b"-")) * depth + data[at:]


YAMLS = (
    "a: &a [x, x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\nepochs: *c\n",
    "!!python/object/apply:os.system ['exit 1']\n",
    "epochs: !!python/name:os.system\n",
    "gan: !!binary aGVsbG8=\nepochs: !!int '0x" + "f" * 6000 + "'\n",
    "epochs: 0x" + "f" * 6000 + "\n",
    "epochs: 1:59:59:59:59\nlr: 1e400\nseed: 1_000_000\nwidth: 0o17\n",
    "? [a, b]\n: c\n? {a: b}\n: c\n",
    "epochs: 2026-99-99\n",
    "lr: .nan\nbeta1: .inf\nwindows: yes\ndevice: ~\n",
    "--- {}\n--- {}\n",
    "%YAML 9.9\n%TAG ! tag:x,2000:\n---\nepochs: 1\n",
)


def _yaml(random: Random) -> bytes:  # noqa: PLR0911
    start = to_yaml(TrainingConfig(gan="cgan"))
    kind = random.randrange(8)
    if kind == 0:
        levels = random.choice((5, 30, 300))
        laughs = "".join(f"a{k + 1}: &a{k + 1} [*a{k}, *a{k}, *a{k}]\n" for k in range(levels))
        merges = "".join(
            f"a{k + 1}: &a{k + 1}\n  <<: [*a{k}, *a{k}, *a{k}]\n" for k in range(levels)
        )
        return f"a0: &a0 {{x: y}}\n{random.choice((laughs, merges))}".encode()
    if kind == 1:
        depth = random.choice((10, 500, 30_000, 200_000))
        opened = random.choice(("[", "{a: ", "- ", "? ", "[[", '"', "!", "&a ", "\n  - "))
        return (random.choice(("", start)) + opened * depth).encode()
    if kind == 2:
        return random.choice(YAMLS).encode()
    if kind == 3:
        return mutations.damaged(start.encode(), random)
    if kind == 4:
        return mutations.altered_text(random.choice(YAMLS) + start, random)
    if kind == 5:
        settings = dict(line.split(": ", 1) for line in start.splitlines())
        settings[random.choice(sorted(settings))] = random.choice(
            (
                "9" * 400,
                "9" * 5000,
                "-1",
                "1e309",
                ".nan",
                "-.inf",
                "null",
                "''",
                "!!str 5",
                "[1]",
                "{a: 1}",
                "a\0",
            )
        )
        return "".join(f"{name}: {value}\n" for name, value in settings.items()).encode()
    return mutations.altered_text(start, random)


def _csv(text: str) -> Callable[[Random], bytes]:
    def mutated(random: Random) -> bytes:
        if random.random() < 0.3:
            return mutations.damaged(text.encode(), random)
        return mutations.altered_text(text, random)

    return mutated


def _checkpoint(random: Random) -> bytes:
    import torch_cases  # torch takes seconds to import, and the other kinds need none

    return torch_cases.checkpoint(random)


def _classifiers(random: Random) -> bytes:
    import torch_cases

    return torch_cases.classifiers(random)


@cache
def _packed(suffix: str) -> bytes:
    """Three short clips of two classes."""
    with TemporaryDirectory() as folder:
        clips = [Path(folder, "music", name) for name in ("rock/a.wav", "rock/b.wav", "folk/c.wav")]
        for clip in clips:
            clip.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(clip, np.sin(np.arange(3000) ** 1.2), 8000)
        archive, music = Path(folder, f"archive.{suffix}"), Path(folder, "music")
        if suffix == "zip":
            zip_of(archive, music)
        elif suffix == "parquet":
            parquet_of(archive, clips)
        else:
            tar_of(archive, music, "", f"w:{suffix[4:]}")
        return archive.read_bytes()


def _archive(suffix: str) -> Callable[[Random], bytes]:
    def mutated(random: Random) -> bytes:
        data = _packed(suffix)
        if random.random() < 0.5:
            return mutations.damaged(data, random)
        # The lists of members are at the end of ZIP and parquet files.
        end = data[-600:]
        return data[:-600] + mutations.damaged(end, random)

    return mutated


def _exported(random: Random) -> bytes:
    import torch_cases

    return torch_cases.exported(random)


def _exported_zip(random: Random) -> bytes:
    import torch_cases

    return torch_cases.exported_zip(random)


CASES: dict[str, Callable[[Random], bytes]] = {
    **{suffix: _archive(suffix) for suffix in ARCHIVES},
    **{form: _audio(form) for form in SOUNDS},
    "png": _png,
    "tracks.csv": _csv(TRACKS),
    "report.csv": _csv(REPORT),
    "dataset.json": _dataset,
    "yaml": _yaml,
    "checkpoint": _checkpoint,
    "classifiers": _classifiers,
    "exported folder": _exported,
    "exported zip": _exported_zip,
}
