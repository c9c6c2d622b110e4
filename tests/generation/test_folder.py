"""What a folder of sounds holds after several commands, and which sounds these are."""

from __future__ import annotations

import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
import torch
from conftest import Elements, command_line, environment
from PIL import Image

from musicspectrogan.data.credits import Credit, read_credits
from musicspectrogan.errors import Interrupted, UserError
from musicspectrogan.flags import parse_flags
from musicspectrogan.generation import generate as generating
from musicspectrogan.generation.sampler import Sampler
from musicspectrogan.generation.settings import GenerateConfig, SoundConfig
from musicspectrogan.training.checkpoint import save_checkpoint
from musicspectrogan.training.run_checkpoints import load_checkpoint, newest_checkpoint


@pytest.fixture
def generate(trained, tmp_path):
    """`generate(*flags)`: the folder, always the same one; without real music beside."""
    checkpoint = load_checkpoint(trained)
    alone = tmp_path / "alone.pt"  # away from its run, which knows where the dataset is
    save_checkpoint(checkpoint, alone)

    def run(*flags: object, seen: object = checkpoint, source: Path = alone) -> Path:
        config = parse_flags(GenerateConfig, [*map(str, flags), "--output", str(tmp_path / "out")])
        generating.generate(config, seen, source, torch.device("cpu"))
        return tmp_path / "out"

    return run


def sounds_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.wav"))


def listed(folder: Path) -> list[str]:
    """The sounds on its page, in their order."""
    page = Elements((folder / "index.html").read_text())
    return [unquote(name).removeprefix("./") for name in page.all("audio", "src")]


def pixels(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


def test_every_kind_of_request_has_names_of_its_own_and_the_page_lists_all(generate):
    requests = [
        ("--seeds", 3),
        ("--seeds", 3, "--truncation", 0.7),
        ("--seeds", 3, "--seconds", 1),
        ("--seeds", 3, "--seconds", 2),
        ("--seeds", 3, "--seconds", 2, "--loop"),
        ("--vary", 3, "--count", 2),
        ("--vary", 3, "--count", 2, "--amount", 0.5),
        ("--between", "3:4", "--count", 3),
        ("--between", "4:3", "--count", 4),
    ]
    kept: dict[str, bytes] = {}
    for flags in requests:
        folder = generate("--genre", "jazz", *flags)
        now = {name: (folder / name).read_bytes() for name in sounds_of(folder)}
        assert kept.items() <= now.items(), flags  # nothing made before was written over
        kept = now
        assert sorted(page := listed(folder)) == sorted(now) and len(page) == len(set(page))
    assert len(kept) == 1 + 1 + 1 + 1 + 1 + 2 + 2 + (1 + 1) + 2
    assert len(set(kept.values())) == len(kept)
    for genre in ("jazz=0.5,rock=0.5", "jazz=0.6,rock=0.4", "rock"):
        folder = generate("--genre", genre, "--seeds", 3)
    generate("--morph", "jazz:rock", "--seeds", 3, "--seconds", 1)
    assert sorted(listed(folder)) == sounds_of(folder) and len(sounds_of(folder)) == len(kept) + 4
    assert {"jazz=0.5,rock=0.5_seed0003.wav", "jazz-to-rock_seed0003_1s.wav"} <= set(
        sounds_of(folder)
    )


def test_loops_play_as_loops_whichever_command_wrote_the_page(generate):
    generate("--genre", "jazz", "--seeds", 3, "--seconds", 1, "--loop")
    folder = generate("--genre", "jazz", "--seeds", 3)
    players = [
        attributes
        for tag, attributes in Elements((folder / "index.html").read_text()).found
        if tag == "audio"
    ]
    looping = {unquote(player["src"]).removeprefix("./"): "loop" in player for player in players}
    assert looping == {"jazz_seed0003.wav": False, "jazz_seed0003_1s_loop.wav": True}


def test_a_name_that_another_sound_has_is_not_taken_from_it(generate, trained, tmp_path):
    folder = generate("--genre", "jazz", "--seeds", 3)
    first = (folder / "jazz_seed0003.wav").read_bytes()
    generate("--genre", "jazz", "--seeds", 3, "--sample-rate", 44100)
    checkpoint = load_checkpoint(trained)
    other = {name: weight + weight for name, weight in checkpoint.ema.items()}
    generate("--genre", "jazz", "--seeds", 3, seen=replace(checkpoint, ema=other))
    assert sounds_of(folder) == [f"jazz_seed0003{end}.wav" for end in ("-2", "", "_44100hz")]
    assert (folder / "jazz_seed0003.wav").read_bytes() == first
    assert soundfile.info(folder / "jazz_seed0003_44100hz.wav").samplerate == 44100
    assert sorted(listed(folder)) == sounds_of(folder)
    captions = [
        text for text in Elements((folder / "index.html").read_text()).text if "checkpoint " in text
    ]
    assert len(set(captions)) == 3  # of two rates and two checkpoints, which the page tells apart
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    generate("--genre", "jazz", "--seeds", 3)  # the first command again finds its own
    assert {path.name for path in folder.iterdir()} == set(before)
    assert (folder / "jazz_seed0003.wav").read_bytes() == first


def test_what_is_not_ours_is_neither_written_over_nor_listed(generate, images, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "jazz_seed0003.wav").write_bytes(b"mine")
    Image.new("L", (64, 64)).save(tmp_path / "out" / "mine.png")
    dataset_image = (images / "jazz" / "jazz.00000_000.png").read_bytes()
    (tmp_path / "out" / "jazz.00000_000.png").write_bytes(dataset_image)
    folder = generate("--genre", "jazz", "--seeds", 3)
    assert (folder / "jazz_seed0003.wav").read_bytes() == b"mine"
    assert listed(folder) == ["jazz_seed0003-2.wav"]
    assert (folder / "jazz.00000_000.png").read_bytes() == dataset_image
    (folder / "index.html").write_text("<h1>My homepage</h1>")
    with pytest.raises(UserError, match=r"index\.html: not a page of this program"):
        generate("--genre", "jazz", "--seeds", 4)
    assert (folder / "index.html").read_text() == "<h1>My homepage</h1>"


def test_the_page_of_several_commands_tells_which_facts_are_of_the_newest(generate):
    generate("--genre", "jazz", "--seeds", 3)
    text = Elements((generate("--genre", "rock", "--seeds", "0-1") / "index.html").read_text()).text
    assert "3 new sounds of 2 genres" in text and "newest: audio" in text and "audio" not in text
    folder = generate("--genre", "jazz", "--seeds", 3, "--sample-rate", 48000, "--bit-depth", 24)
    assert "jazz_seed0003_48000hz_24bit.wav" in sounds_of(folder)
    assert "seed 3, 48,000 Hz, 24 bit" in Elements((folder / "index.html").read_text()).text


def test_real_music_is_there_once_and_with_its_credits(trained, images, tmp_path, monkeypatch):
    credit = Credit("An artist", "A title", license="CC BY 4.0")
    monkeypatch.setattr(
        generating, "read_credits", lambda root: {"jazz.00000": credit, "gone": credit}
    )
    source, checkpoint = newest_checkpoint(trained)
    for flags in ({}, {"sound": SoundConfig(format="flac", sample_rate=44100)}):
        config = GenerateConfig(genre="jazz", count=1, output=tmp_path / "out", **flags)
        page = generating.generate(config, checkpoint, source, torch.device("cpu"))
    real = tmp_path / "out" / "real"
    names = sorted(path.name for path in (real / "jazz").iterdir())
    assert len(names) == 8 and all(name.endswith((".png", ".wav")) for name in names)
    assert (real / "attribution.csv").read_text().splitlines() == [
        "track,artist,title,album,license,url", "jazz.00000,An artist,A title,,CC BY 4.0,"
    ]  # fmt: skip
    assert "real/attribution.csv" in Elements(page.read_text()).text
    other = next(name.partition("_")[0] for name in names if not name.startswith("jazz.00000"))
    monkeypatch.setattr(
        generating, "read_credits", lambda root: read_credits(root) or {other: credit}
    )
    generating.generate(
        replace(config, seeds="1", count=None), checkpoint, source, torch.device("cpu")
    )
    assert set(read_credits(real)) == {"jazz.00000", other}  # one from each command


def test_sounds_that_were_removed_are_off_the_page(generate):
    folder = generate("--genre", "jazz", "--seeds", "0-2")
    (folder / "jazz_seed0001.wav").unlink()
    generate("--genre", "jazz", "--seeds", 5)
    assert listed(folder) == [f"jazz_seed000{seed}.wav" for seed in (5, 0, 2)]


def test_sounds_of_other_settings_are_not_on_one_page(generate, trained):
    generate("--genre", "jazz", "--seeds", 3)
    other = load_checkpoint(trained)
    other.spectrogram = replace(other.spectrogram, f_max=4000.0)
    with pytest.raises(
        UserError, match=r"jazz_seed0003\.png: was made with other spectrogram settings"
    ):
        generate("--genre", "jazz", "--seeds", 3, seen=other)


@pytest.mark.parametrize("flags", [("--vary", 3, "--count", 3), ("--between", "3:7", "--count", 4)])
def test_each_is_the_same_whatever_is_made_with_it(flags, generate):
    folder = generate("--genre", "jazz", *flags)
    bytes_of = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".html"}
    for path in folder.iterdir():
        path.unlink()
    generate("--genre", "rock,jazz", *flags)
    assert bytes_of.items() <= {path.name: path.read_bytes() for path in folder.iterdir()}.items()


def test_the_number_of_all_rows_is_bounded_too(generate, tmp_path):
    with pytest.raises(UserError, match="5000 sounds of each of 4 genres are more than"):
        generate("--count", 5000)
    assert not (tmp_path / "out").exists()


def test_files_appear_as_they_are_made_and_an_end_before_time_leaves_their_page(
    generate, monkeypatch, tmp_path
):
    """Each batch is on disk before the next is drawn; Ctrl-C comes in the third."""
    drawn: list[int] = []
    real_images = Sampler.images

    def images(self, latents, labels):
        drawn.append(len(sounds_of(tmp_path / "out")))
        if len(drawn) == 3:
            raise KeyboardInterrupt
        assert len(latents) <= 16
        return real_images(self, latents, labels)

    monkeypatch.setattr(Sampler, "images", images)
    with pytest.raises(
        Interrupted, match=r"interrupted after 32 of 40 sounds; .*index\.html lists them"
    ):
        generate("--genre", "jazz", "--count", 40)
    assert drawn == [0, 16, 32]
    assert listed(tmp_path / "out") == [f"jazz_seed{seed:04d}.wav" for seed in range(32)]


@pytest.mark.slow
def test_ctrl_c_ends_the_command_with_a_page(trained, tmp_path):
    line = command_line(
        "-m", "musicspectrogan", "generate", "--checkpoint", trained, "--genre", 0, "--count", 5000,
        "--output", "out", "--device", "cpu",
    )  # fmt: skip
    with subprocess.Popen(
        line, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None and len(sounds_of(tmp_path / "out")) < 3:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
    assert process.returncode == 130 and "Traceback" not in told
    assert "out/index.html lists them" in told
    assert len(listed(tmp_path / "out")) >= 3
    assert set(listed(tmp_path / "out")) == set(sounds_of(tmp_path / "out"))


def test_a_class_that_is_named_like_ours_is_a_class(trained, command, tmp_path):
    """Exact names through the real command, in a checkpoint whose classes are named to confuse."""
    checkpoint = load_checkpoint(trained)
    checkpoint.genres, checkpoint.training["dataset"] = ["C", "C#", "all", "R,B=1"], "gone"
    save_checkpoint(checkpoint, tmp_path / "x.pt")
    line = (
        "-m",
        "musicspectrogan",
        "generate",
        "--checkpoint",
        "x.pt",
        "--count",
        1,
        "--output",
        "out",
    )
    command(*line, "--genre", "C#,R,B=1,all", cwd=tmp_path)
    rows = [
        text
        for text in Elements((tmp_path / "out" / "index.html").read_text()).text
        if text in checkpoint.genres
    ]
    assert dict.fromkeys(rows) == dict.fromkeys(["C#", "R,B=1", "all"])
    assert sounds_of(tmp_path / "out") == [
        "C#_seed0000.wav",
        "R,B=1_seed0000.wav",
        "all_seed0000.wav",
    ]


def test_a_piece_of_a_variation_is_its_own(generate):
    folder = generate("--genre", "jazz", "--vary", 3, "--count", 1, "--seconds", 1)
    assert sounds_of(folder) == ["jazz_seed0003_1s.wav", "jazz_seed0003_vary0.3-01_1s.wav"]
    own, varied = (
        pixels(folder / name.replace("wav", "png")).astype(float) for name in sounds_of(folder)
    )
    generate("--genre", "jazz", "--seeds", 9, "--seconds", 1)
    other = pixels(folder / "jazz_seed0009_1s.png").astype(float)
    assert 0 < np.abs(own - varied).mean() < np.abs(own - other).mean()
