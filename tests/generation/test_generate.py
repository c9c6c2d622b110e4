"""generate, invert and reconstruct through the real commands."""

from __future__ import annotations

import re
import resource
import shutil
from pathlib import Path

import mutagen
import numpy as np
import pyloudnorm
import pytest
import soundfile
import torch
from conftest import Elements
from PIL import Image

from musicspectrogan.audio.files import save
from musicspectrogan.audio.images import write_image
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.data import composer
from musicspectrogan.data.dataset import load_dataset
from musicspectrogan.generation import generate as generating
from musicspectrogan.generation import model
from musicspectrogan.generation.selection import Row
from musicspectrogan.generation.settings import GenerateConfig, SoundConfig
from musicspectrogan.training.checkpoint import save_checkpoint
from musicspectrogan.training.run_checkpoints import load_checkpoint

GENRES = ("blues", "jazz", "metal", "rock")
GENERATE = ("-m", "musicspectrogan", "generate", "--checkpoint")


@pytest.fixture
def generate(trained, command, tmp_path):
    """`generate(*flags, output="out")`: the folder."""

    def run(*flags: object, output: str = "out", checkpoint: Path = trained) -> Path:
        line = (*GENERATE, checkpoint, "--device", "cpu", *flags)
        told = command(*line, "--output", output, cwd=tmp_path)
        assert told.stdout == f"Open {output}/index.html\n"
        assert (tmp_path / output / "index.html").is_file()
        return tmp_path / output

    return run


def names(folder: Path, suffix: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(f"*.{suffix}"))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        name: (folder / name).read_bytes()
        for suffix in ("png", "wav", "flac")
        for name in names(folder, suffix)
    }


def test_real_ones_of_two_genres_stay_apart_though_their_files_have_one_name(
    trained, images, command, tmp_path
):
    for genre in GENRES:
        (tmp_path / "set" / genre).mkdir(parents=True)
        image = images / genre / f"{genre}.00000_000.png"
        shutil.copy(image, tmp_path / "set" / genre / "a_000.png")
    checkpoint, dataset = load_checkpoint(trained), load_dataset(tmp_path / "set")
    checkpoint.training["dataset"] = str(tmp_path / "set")
    checkpoint.dataset_fingerprint = dataset.fingerprint
    checkpoint.dataset_contents = dataset.contents
    save_checkpoint(checkpoint, tmp_path / "x.pt")
    command(*GENERATE, "x.pt", "--count", 1, "--output", "out", cwd=tmp_path)
    for genre in GENRES:
        made, real = (tmp_path / folder / genre / "a_000.png" for folder in ("out/real", "set"))
        assert np.array_equal(Image.open(made), Image.open(real))


def test_a_dataset_that_cannot_be_looked_at_is_not_needed(trained, command, tmp_path):
    checkpoint = load_checkpoint(trained)
    checkpoint.training["dataset"] = "/" + "x" * 5000
    save_checkpoint(checkpoint, tmp_path / "far.pt")
    command(*GENERATE, "far.pt", "--count", 1, "--output", "out", cwd=tmp_path)
    assert names(tmp_path / "out", "wav") == [f"{genre}_seed0000.wav" for genre in GENRES]


def test_two_in_the_same_second_have_a_folder_each(tmp_path, monkeypatch):
    monkeypatch.setattr(generating.time, "strftime", lambda form: "now")
    checkpoint = tmp_path / "checkpoints" / "latest.pt"
    made = [generating._new_folder(checkpoint) for _ in range(3)]
    assert [path.name for path in made] == ["now", "now-2", "now-3"]
    assert all(path.parent == tmp_path / "generated" and path.is_dir() for path in made)


def test_every_genre_gets_a_pair_a_seed_and_real_ones_beside(generate):
    folder = generate("--count", 2)
    made = [f"{genre}_seed000{seed}" for genre in GENRES for seed in (0, 1)]
    assert [name for name in names(folder, "wav") if "/" not in name] == [
        f"{name}.wav" for name in made
    ]
    assert [name for name in names(folder, "png") if "/" not in name] == [
        f"{name}.png" for name in made
    ]
    assert len([name for name in names(folder, "wav") if name.startswith("real/")]) == 4 * len(
        GENRES
    )
    page = (folder / "index.html").read_text()
    assert all(f"{name}.wav" in page and f"{name}.png" in page for name in made)


def test_loops_loop_on_the_page_and_real_ones_do_not(generate):
    folder = generate("--genre", "jazz", "--count", 1, "--seconds", 4, "--loop")
    players = (folder / "index.html").read_text().split("<audio ")[1:]
    assert len(players) == 1 + 4
    assert ["controls loop " in player for player in players] == [True, *[False] * 4]


@pytest.mark.parametrize(
    ("flags", "title"),
    [
        (("--count", 1), "4 new sounds of 4 genres"),
        (("--count", 1, "--genre", "jazz"), "1 new sound of jazz"),
        (("--count", 1, "--morph", "jazz:rock", "--seconds", 4), "1 new sound of jazz-to-rock"),
    ],
    ids=["all", "one", "morph"],
)
def test_the_page_is_titled_by_what_is_on_it(flags, title, generate):
    assert f"<h1>{title}</h1>" in (generate(*flags) / "index.html").read_text()


def test_the_sound_is_finished_and_says_where_it_comes_from(generate):
    folder = generate("--genre", "Jazz", "--seeds", 7)
    with soundfile.SoundFile(folder / "jazz_seed0007.wav") as file:
        assert (file.samplerate, file.channels, file.subtype, file.frames) == (
            22050,
            1,
            "PCM_16",
            65536,
        )
        assert file.genre == "jazz"
        assert file.comment.startswith("seed 7, checkpoint ")
        samples = file.read()
    assert pyloudnorm.Meter(22050).integrated_loudness(samples) == pytest.approx(-23, abs=0.3)
    assert abs(samples[0]) < 1e-3 and abs(samples[-1]) < 1e-3
    with Image.open(folder / "jazz_seed0007.png") as image:
        assert (image.mode, image.size) == ("L", (64, 64))
        assert image.text["genre"] == "jazz" and "hop_length" in image.text["spectrogram"]


@pytest.mark.parametrize(
    "flags", [(), ("--seconds", 5), ("--seconds", 5, "--loop")], ids=["images", "piece", "loop"]
)
def test_the_same_flags_give_the_same_bytes_alone_or_among_others(flags, generate):
    several = contents(
        generate("--genre", "rock", "--seeds", "3-5", "--format", "flac", *flags, output="several")
    )
    alone = contents(
        generate("--genre", "rock", "--seeds", "4", "--format", "flac", *flags, output="alone")
    )
    again = contents(
        generate("--genre", "rock", "--seeds", "4", "--format", "flac", *flags, output="again")
    )
    assert alone == again
    assert alone.items() <= several.items()
    assert len([name for name in several if "/" not in name]) == 6


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3"])
def test_other_formats(suffix, generate):
    folder = generate("--genre", 0, "--count", 1, "--format", suffix)
    with soundfile.SoundFile(folder / f"blues_seed0000.{suffix}") as file:
        assert file.format == suffix.upper()
        assert file.frames / file.samplerate == pytest.approx(2.97, abs=0.1)


@pytest.mark.parametrize(("rate", "flags"), [(22050, ()), (48000, ()), (22050, ("--loop",))])
def test_a_piece_is_exactly_as_long_as_asked(rate, flags, generate):
    folder = generate(
        "--genre", "metal", "--count", 1, "--seconds", 8.0003, "--sample-rate", rate, *flags
    )  # fmt: skip
    (path,) = folder.glob("*.wav")
    with soundfile.SoundFile(path) as file:
        assert (file.samplerate, file.frames) == (rate, round(8.0003 * rate))
    with Image.open(path.with_name(path.name[:-4] + ".png")) as image:
        assert image.size == (173, 64)


def test_a_piece_has_no_seam(generate):
    """The spectral flux where images meet, every 32 frames, is that of other places."""
    folder = generate("--genre", "jazz", "--count", 1, "--seconds", 60)
    samples, _ = soundfile.read(folder / "jazz_seed0000_60s.wav", dtype="float32")
    frames = np.lib.stride_tricks.sliding_window_view(samples, 2048)[::1024]
    spectrum = np.log(np.abs(np.fft.rfft(frames * np.hanning(2048), axis=1)) + 1e-3)
    flux = np.abs(np.diff(spectrum, axis=0)).mean(axis=1)
    near_joins = np.isin(np.arange(len(flux)) % 32, (30, 31, 0))
    assert flux[near_joins].mean() < 1.1 * flux[~near_joins].mean()


@pytest.mark.parametrize(("rate", "depth"), [(22050, 16), (48000, 24)])
def test_a_loop_repeats_without_a_seam(rate, depth, generate):
    """Played twice, it changes no more at the seam than elsewhere, as a wave and as a spectrum."""
    flags = ("--seconds", 6.1, "--loop", "--sample-rate", rate, "--bit-depth", depth)
    folder = generate("--genre", "jazz", "--count", 1, *flags)
    path = folder / f"jazz_seed0000_6.1s_loop_{rate}hz_{depth}bit.wav"
    samples, _ = soundfile.read(path)
    length = round(6.1 * rate)
    assert len(samples) == length
    bends = np.abs(np.diff(np.tile(samples, 2), 2))
    assert bends[length - 8 : length + 8].max() < np.quantile(bends, 0.999)
    frames = np.lib.stride_tricks.sliding_window_view(np.tile(samples, 2), 2048)[:: rate // 44]
    spectrum = np.log(np.abs(np.fft.rfft(frames * np.hanning(2048), axis=1))[:, :600] + 1e-3)
    flux = np.abs(np.diff(spectrum, axis=0)).mean(axis=1)
    seam = length // (rate // 44)
    assert flux[seam - 3 : seam + 1].max() < 1.25 * np.quantile(flux, 0.95)
    # No fade to silence at the ends either.
    edge = np.sqrt(np.mean(np.concatenate([samples[-200:], samples[:200]]) ** 2))
    assert edge > 0.2 * np.sqrt(np.mean(samples**2))
    with soundfile.SoundFile(path) as file:
        told = " ".join(file.extra_info.split())  # libsndfile's notes on the chunks
    assert f"Loop Count : 1 Cue ID : 0 Type : 0 Start : 0 End : {length - 1}" in told, told
    (real, *_) = (folder / "real" / "jazz").glob("*.wav")
    assert b"smpl" in path.read_bytes() and b"smpl" not in real.read_bytes()


@pytest.fixture
def made_here(trained, tmp_path):
    """`made_here(genre="jazz", …)`: the folder, made in this process."""
    checkpoint, source = load_checkpoint(trained), tmp_path / "x.pt"
    checkpoint.training["dataset"] = "gone"
    save_checkpoint(checkpoint, source)

    def run(**settings: object) -> Path:
        config = GenerateConfig(output=tmp_path / "out", **{"genre": "jazz", "count": 1} | settings)
        return generating.generate(config, checkpoint, source, torch.device("cpu")).parent

    return run


def test_bars_choose_the_length(generate):
    flags = ("--bpm", 97.3, "--bars", 1, "--sample-rate", 48000, "--loop")
    folder = generate("--morph", "jazz:rock", "--count", 1, *flags)
    path = folder / "jazz-to-rock_seed0000_97.3bpm_1bar_loop_48000hz.wav"
    told = "seed 0, 48,000 Hz, 97.3 BPM, 1 bar, loop"
    with soundfile.SoundFile(path) as file:
        assert file.frames == round(4 * 60 / 97.3 * 48000)
        assert "Beats : 4 Meter : 4/4 Tempo : 97.300003" in " ".join(file.extra_info.split())
        assert file.comment.startswith(f"{told}, checkpoint ")
    assert str(mutagen.File(path)["TBPM"][0]) == "97"
    with Image.open(path.with_suffix(".png")) as image:
        assert image.text["bpm"] == "97.3"
    assert told in (folder / "index.html").read_text()


@pytest.mark.parametrize("loop", [False, True])
def test_bars_are_exact_to_the_sample(loop, made_here):
    for bpm, bars in ((120.0, 2), (133.0, 3), (399.9, 1), (20.5, 1)):
        folder = made_here(bpm=bpm, bars=bars, loop=loop, sound=SoundConfig(format="flac"))
        length = f"{bpm:g}bpm_{bars}bar{'s' * (bars > 1)}{'_loop' * loop}"
        with soundfile.SoundFile(folder / f"jazz_seed0000_{length}.flac") as file:
            assert file.frames == round(bars * 4 * 60 / bpm * 22050)


def test_the_music_does_not_follow_the_tempo_but_each_has_a_name_of_its_own(made_here):
    for length in ({"bpm": 120.0, "bars": 1}, {"bpm": 240.0, "bars": 2}, {"seconds": 2.0}):
        folder = made_here(**length)
    made = [f"jazz_seed0000_{length}.wav" for length in ("120bpm_1bar", "240bpm_2bars", "2s")]
    assert names(folder, "wav") == made
    sounds = [soundfile.read(folder / name)[0] for name in made]
    assert all(np.array_equal(sounds[0], other) for other in sounds[1:])


BEAT = np.tile(
    np.repeat(np.uint8([[220, 60]]), (2, 9), axis=1), (64, 60)
)  # at 11 frames: 117.45 BPM


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_the_beat_that_is_found_is_told_and_none_where_there_is_none(
    suffix, made_here, monkeypatch
):
    def drawn(sampler, spec, start, end, frames, **_):
        return BEAT[:, :frames] if spec.start == (0,) else np.full((64, frames), 90, np.uint8)

    monkeypatch.setattr(model, "piece", drawn)
    folder = made_here(count=2, seconds=20, sound=SoundConfig(format=suffix))
    for seed, bpm in ((0, "117.5"), (1, None)):
        path = folder / f"jazz_seed000{seed}_20s.{suffix}"
        tags = mutagen.File(path).tags or {}
        found = tags.get("BPM") or tags.get("TBPM")
        told = {"flac": "117.5", "ogg": "117.5"}.get(suffix, "118") if bpm else None
        assert (found and str(found[0])) == told
        assert b"acid" not in path.read_bytes()
        with Image.open(path.with_suffix(".png")) as image:
            assert image.text.get("bpm") == image.text.get("bpm_found") == bpm
    text = Elements((folder / "index.html").read_text()).text
    assert text[text.index("seed 0") + 1] == "beat at 117.5 BPM"
    assert "BPM" not in text[text.index("seed 1") + 1]


def test_a_loops_beats_fill_it_whatever_its_length(made_here, monkeypatch):
    """The tempo is the number of beats over the length of the sound, not of the image."""
    monkeypatch.setattr(model, "piece", lambda *_, **__: np.roll(BEAT[:, :176], 3, axis=1))
    for length in ({"seconds": 8.15}, {"bpm": 117.0, "bars": 4}):
        folder = made_here(loop=True, **length)
    for name, bpm in (("8.15s", 60 * 16 / 8.15), ("117bpm_4bars", 117.0)):
        with soundfile.SoundFile(folder / f"jazz_seed0000_{name}_loop.wav") as file:
            assert re.search(r"Beats +: 16\n", file.extra_info)
            assert float(re.search(r"Tempo +: (.*)", file.extra_info)[1]) == pytest.approx(
                bpm, abs=1e-4
            )
    text = Elements((folder / "index.html").read_text()).text
    assert text[text.index("seed 0, loop") + 1] == "beat at 117.79 BPM"
    assert text[text.index("seed 0, 117 BPM, 4 bars, loop") + 1] == "beat at 117 BPM"


def test_real_music_tells_its_beat_too(tmp_path):
    form, config = SoundConfig(), SpectrogramConfig()
    row = Row("jazz", {"jazz": 1.0}, {"jazz": 1.0}, "jazz")
    (tmp_path / "set" / "jazz").mkdir(parents=True)
    write_image(tmp_path / "set" / "jazz" / "a_000.png", BEAT[:, :64], config)
    generating._add_real_music(
        tmp_path / "set", row, tmp_path / "real", config, form=form, vocoder=None
    )
    (path,) = tmp_path.glob("real/jazz/*.wav")
    assert abs(int(str(mutagen.File(path)["TBPM"][0])) - 117) <= 1
    with Image.open(path.with_suffix(".png")) as image:
        assert float(image.text["bpm_found"]) == pytest.approx(117.45, rel=0.01)


@pytest.mark.parametrize("suffix", ["flac", "ogg"])
def test_a_loop_has_its_length_in_other_formats_too(suffix, generate):
    folder = generate("--genre", "jazz", "--count", 1, "--seconds", 4, "--loop", "--format", suffix)
    with soundfile.SoundFile(folder / f"jazz_seed0000_4s_loop.{suffix}") as file:
        assert file.frames == len(file.read()) == 4 * 22050


@pytest.mark.parametrize(
    ("command_name", "suffix"), [("generate", "wav"), ("invert", "flac"), ("reconstruct", "wav")]
)
def test_sample_rate_and_bit_depth(command_name, suffix, request, command, tmp_path):
    trained, images = map(request.getfixturevalue, ("trained", "images"))
    save(
        tmp_path / "clip.wav",
        composer.compose("chords", 0, seed=0, seconds=4.0),
        composer.SAMPLE_RATE,
    )
    what = {
        "generate": ("--checkpoint", trained, "--genre", "jazz", "--count", 1),
        "invert": (images / "jazz" / "jazz.00000_000.png",),
        "reconstruct": ("clip.wav",),
    }[command_name]
    form = ("--sample-rate", 44100, "--bit-depth", 24, "--format", suffix)
    line = ("-m", "musicspectrogan", command_name, *what, *form, "--output", "out")
    command(*line, cwd=tmp_path)
    paths = list((tmp_path / "out").rglob(f"*.{suffix}"))
    assert paths
    for path in paths:
        with soundfile.SoundFile(path) as file:
            assert (file.samplerate, file.channels, file.subtype) == (44100, 1, "PCM_24")
            lengths = (
                [131072]
                if command_name != "reconstruct"
                else [4 * 44100, 2 * 1024 * (4 * 22050 // 1024 + 1)]
            )
            assert file.frames in lengths
            spectrum = np.abs(np.fft.rfft(file.read())) ** 2
        hz = np.linspace(0, 22050, len(spectrum))
        assert spectrum[hz > 11025].sum() < 1e-3 * spectrum.sum()  # a higher rate adds nothing


def test_pieces_are_equally_loud(generate):
    folder = generate("--count", 2, "--seconds", 5, output="loud")
    sounds = [soundfile.read(path)[0] for path in folder.glob("*.wav")]
    loudness = [pyloudnorm.Meter(22050).integrated_loudness(samples) for samples in sounds]
    assert len(loudness) == 8
    assert loudness == pytest.approx([-23.0] * 8, abs=0.3)
    assert all(np.abs(samples).max() < 0.9 for samples in sounds)


def test_a_morph_is_one_row_of_its_own(generate):
    folder = generate("--morph", "blues:rock", "--seconds", 4, "--count", 1)
    assert names(folder, "wav") == ["blues-to-rock_seed0000_4s.wav"]


def test_a_model_without_genres(generate, trained, command, tmp_path):
    folder = generate("--count", 1, checkpoint=trained.parent / "dcgan")
    assert "sample_seed0000.wav" in names(folder, "wav")
    assert "<h1>1 new sound</h1>" in (folder / "index.html").read_text()
    line = (*GENERATE, trained.parent / "dcgan", "--genre", "jazz")
    told = command(*line, cwd=tmp_path, status=2)
    assert "has no genres; omit --genre" in told.stderr


def test_the_newest_run_and_its_own_folder(trained, command, tmp_path):
    shutil.copytree(trained, tmp_path / "runs" / "00000-cgan-gtzan")
    told = command(*GENERATE, "latest", "--genre", "0", "--count", 1, cwd=tmp_path)
    assert "runs/00000-cgan-gtzan/generated/" in told.stdout


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "--checkpoint is missing"),
        (["--checkpoint", "nowhere"], "no such checkpoint"),
        (["--checkpoint", "latest"], "no run with a checkpoint"),
        (["--checkpoint", "text.pt"], "not a checkpoint"),
        (["--checkpoint", "TRAINED", "--genre", "jaz"], "did you mean 'jazz'?"),
        (["--checkpoint", "TRAINED", "--seeds", "x"], "seeds: 'x'"),
        (["--checkpoint", "TRAINED", "--bars", "4"], "--bars without --bpm"),
        (["--checkpoint", "TRAINED", "--morph", "jazz", "--seconds", "4"], "write two genres"),
        (["--checkpoint", "TRAINED", "--output", "text.pt"], "cannot be made a folder"),
    ],
)
def test_wrong_input_to_generate(flags, told, trained, command, tmp_path):
    (tmp_path / "text.pt").write_text("no weights")
    flags = [trained if flag == "TRAINED" else flag for flag in flags]
    assert (
        told in command("-m", "musicspectrogan", "generate", *flags, cwd=tmp_path, status=2).stderr
    )


def test_a_full_disk_is_reported_and_leaves_no_partial_file(trained, command, tmp_path):
    """Files are limited to 100 KiB: the images fit, the sound of 131 KB does not."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100 * 1024, before[1]))
    try:
        line = (*GENERATE, trained, "--count", 1, "--output", "out")
        done = command(*line, cwd=tmp_path, status=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert done.stderr.splitlines()[-1].endswith("cannot be written; free space on its disk")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["blues_seed0000.png"]
