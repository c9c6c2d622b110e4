"""The Python API: the same bytes as the commands, errors in Python's words, and the player."""

from __future__ import annotations

import base64
import io
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import ROOT, Elements, environment
from PIL import Image

import musicspectrogan as ms
from musicspectrogan.errors import named_as_in_python
from musicspectrogan.generation.model import Model
from musicspectrogan.training import trainer

GENRES = ["blues", "jazz", "metal", "rock"]


@pytest.fixture(scope="module")
def model(trained: Path) -> Model:
    """The tiny cgan."""
    return ms.load(trained, device="cpu")


@pytest.fixture(scope="module")
def dcgan(trained: Path) -> Model:
    """The tiny dcgan, which has no genres."""
    return ms.load(str(trained.parent / "dcgan"), device=torch.device("cpu"), vocoder="none")


def as_written(samples: np.ndarray, rate: int) -> np.ndarray:
    """Samples (n,) as a file of 16 bits has them."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, "PCM_16", format="WAV")
    file.seek(0)
    return soundfile.read(file, dtype="int16")[0]


@pytest.mark.parametrize(
    ("flags", "genre", "seeds", "options"),
    [
        ("--genre jazz --seeds 3,5", "jazz", [3, 5], {}),
        ("--genre 1 --seeds 3 --truncation 0.5", 1, 3, {"truncation": 0.5}),
        ("--genre rock --seeds 2 --sample-rate 44100", "rock", 2, {"sample_rate": 44100}),
        ("--genre blues --seeds 0,1 --seconds 5", "blues", range(2), {"seconds": 5}),
        ("--genre metal --seeds 4 --seconds 4 --loop", "metal", 4, {"seconds": 4, "loop": True}),
        (
            "--genre blues=0.6,jazz=0.2 --seeds 7 --seconds 4.5 --sample-rate 48000",
            {"blues": 3, "jazz": 1},
            np.int64(7),
            {"seconds": 4.5, "sample_rate": 48000},
        ),
    ],
    ids=["images", "truncation", "rate", "pieces", "loop", "mixture"],
)
def test_equal_seeds_give_the_bytes_of_the_command(  # noqa: PLR0917  (fixtures and parameters)
    model, trained, command, tmp_path, flags, genre, seeds, options
):
    command(
        "-m", "musicspectrogan", "generate", "--checkpoint", trained, *flags.split(),
        "--output", "made", "--device", "cpu", cwd=tmp_path,
    )  # fmt: skip
    pictures = sorted((tmp_path / "made").glob("*.png"))
    sounds = sorted((tmp_path / "made").glob("*.wav"))
    player = model.play(genre, seeds, **options)
    assert len(pictures) == len(sounds) == len(player.images) == np.size(seeds)
    for path, image in zip(pictures, player.images, strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), image)
    for path, samples in zip(sounds, player.sounds, strict=True):
        found, rate = soundfile.read(path, dtype="int16")
        assert rate == player.sample_rate == options.get("sample_rate", model.sample_rate)
        assert np.array_equal(found, as_written(samples, rate))


def test_arrays_have_the_shapes_of_the_documentation(model):
    images = model.images("jazz", [0, 1])
    assert images.dtype == np.uint8 and images.shape == (2, 64, 64)
    assert np.array_equal(model.images("jazz", 1), images[1:])
    sounds = model.sounds("jazz", [0, 1], seconds=3.5)
    assert sounds.dtype == np.float32 and sounds.shape == (2, 77175)
    assert 0.01 < np.abs(sounds).max() <= 1
    assert model.images("jazz", 0, seconds=3.5).shape == (1, 64, 76)
    assert not np.array_equal(model.images({"jazz": 1, "rock": 1}), model.images("jazz"))
    assert np.array_equal(model.images({"jazz": 2.5, "rock": 0}, 1), images[1:])
    with pytest.raises(ms.UserError, match=r"^genre: name one of blues, jazz"):
        model.images()


def test_what_a_model_says_about_itself(model, dcgan):
    assert model.genres == GENRES and dcgan.genres == []
    assert model.sample_rate == 22050 and model.device.type == "cpu"
    assert repr(model) == (
        "Model(cgan, genres=['blues', 'jazz', 'metal', 'rock'], 64 mel bands, 22050 Hz, on cpu)"
    )
    assert repr(dcgan.play(seeds=[0, 3])) == "Player(seed 0, seed 3; 22050 Hz)"
    assert dcgan.images(None, 2).shape == (1, 64, 64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, d: m.images("jaz"), "genre: 'jaz' is not one of blues, .*did you mean 'jazz'"),
        (lambda m, d: m.images(-1), "genre: '-1' is not one of"),
        (lambda m, d: m.images("jazz", -1), "seeds: -1 is not allowed; give whole numbers from 0"),
        (lambda m, d: m.images("jazz", []), r"seeds: \[\] is not allowed"),
        (lambda m, d: m.images("jazz", 0.5), "seeds: 0.5 is not allowed"),
        (lambda m, d: m.images("jazz", "0-7"), "seeds: '0-7' is not allowed"),
        (lambda m, d: m.images({"jazz": -1}), "genre: {'jazz': -1} is not allowed; give each"),
        (lambda m, d: m.images({"jazz": 0}), "genre: {'jazz': 0} is not allowed"),
        (lambda m, d: m.images({"jazz": "much"}), "genre: {'jazz': 'much'} is not allowed"),
        (lambda m, d: m.images({"jazz": 1, 1: 2}), "genre: .* give each genre once"),
        (lambda m, d: m.images({}), "genre: {} is not allowed"),
        (lambda m, d: m.images({"jaz": 1}), "genre: 'jaz' is not one of"),
        (lambda m, d: d.images("jazz"), "genre: the model of this checkpoint has no genres; omit"),
        (lambda m, d: d.images({"jazz": 1}), "genre: the model of this checkpoint has no genres"),
        (lambda m, d: m.images("jazz", truncation=3), "truncation: 3.0 is not allowed; give more"),
        (lambda m, d: m.images("jazz", seconds=0), "seconds: 0.0 is not allowed; give 0.1"),
        (lambda m, d: m.images("jazz", loop=True), "loop and morph need .* give seconds too"),
        (lambda m, d: m.sounds("jazz", sample_rate=8000), "sample_rate: 8000 is not one of 22050"),
        (lambda m, d: ms.load("nowhere"), "nowhere: there is no such checkpoint"),
        (lambda m, d: ms.load(device="gpu"), "device: 'gpu' "),
        (lambda m, d: ms.generate(ms.GenerateConfig()), "checkpoint is missing: name a run"),
        (lambda m, d: ms.evaluate(ms.EvaluateConfig()), "checkpoint is missing"),
        (lambda m, d: ms.train(), "dataset is missing: name the folder"),
        (lambda m, d: ms.train(output="a", resume="b"), "resume continues .*; omit output"),
        (lambda m, d: ms.GenerateConfig(seeds="1", count=2), "seeds with count: seeds sets which"),
        (lambda m, d: ms.GenerateConfig(seeds={1: 2}), "seeds: dict is not text"),
        (lambda m, d: ms.TrainingConfig(width="wide"), "width: 'wide' is not a whole number"),
        (lambda m, d: ms.TrainingConfig(r1=None), "r1: None is not a number"),
        (lambda m, d: ms.PreprocessConfig(backend="dask"), "backend dask needs scheduler tcp:"),
    ],
)  # fmt: skip
def test_errors_name_settings_as_python_does(
    model: Model, dcgan: Model, call: Callable[[Model, Model], object], message: str
) -> None:
    with pytest.raises(ms.UserError, match=f"^{message}") as error:
        call(model, dcgan)
    assert "--" not in str(error.value) and "\n" not in str(error.value)


def test_settings_take_text_as_yaml_does():
    config = ms.TrainingConfig(dataset="~/images", images="2k", r1=1, augment="auto", width="8")
    assert config.dataset == Path.home() / "images" and config.width == 8
    assert config.images == 2000 and config.r1 == 1.0 and config.augment == "auto"
    assert ms.EvaluateConfig(compare=["a", Path("b")]).compare == (Path("a"), Path("b"))
    assert ms.GenerateConfig(genre="None").genre == "None"
    assert ms.PreprocessConfig(output="x").output == Path("x")


def test_a_recipe_is_read_by_name_and_changed(tmp_path):
    config = ms.recipe("demo", dataset="x", epochs=3)
    assert (config.gan, config.r1, config.dataset) == ("anylength_cgan", 1.0, Path("x"))
    assert config.images is None and config.epochs == 3  # of which a run can have only one
    assert ms.recipe("demo").images == 50_000
    (tmp_path / "mine.yaml").write_text("gan: cgan\nwidth: 8\n")
    assert ms.recipe(tmp_path / "mine.yaml", seed=4) == ms.TrainingConfig("cgan", width=8, seed=4)
    with pytest.raises(ms.UserError, match=r"^config demmo: .*did you mean 'demo'"):
        ms.recipe("demmo")
    with pytest.raises(ms.UserError, match=r"^widht: there is no such .*did you mean 'width'"):
        ms.recipe("demo", widht=8)


def test_the_command_names_flags_in_the_same_errors(trained, command, tmp_path):
    for flags, message in (
        ("--loop", "--loop and --morph need continuous pieces; give --seconds too"),
        ("--sample-rate 8", "--sample-rate: 8 is not one of"),
        ("--genre jaz", "--genre: 'jaz' is not one of"),
    ):
        line = ["-m", "musicspectrogan", "generate", "--checkpoint", trained, *flags.split()]
        assert message in command(*line, cwd=tmp_path, status=2).stderr


@pytest.mark.parametrize("loop", [False, True])
def test_a_player_holds_its_pictures_and_sounds(model, loop):
    player = model.play("jazz", [4, 9], seconds=3.2, loop=loop, sample_rate=44100)
    page = Elements(player._repr_html_())
    captions = ["jazz, seed 4", "jazz, seed 9"]
    assert page.text == captions
    assert page.all("img", "alt") == [f"spectrogram, {caption}" for caption in captions]
    players = [attributes for tag, attributes in page.found if tag == "audio"]
    assert [("controls" in a, "loop" in a) for a in players] == [(True, loop)] * 2
    for address, samples in zip(page.all("audio", "src"), player.sounds, strict=True):
        assert address.startswith("data:audio/wav;base64,")
        file = io.BytesIO(base64.b64decode(address.partition(",")[2]))
        found, rate = soundfile.read(file, dtype="int16")
        assert rate == 44100 and len(found) == round(3.2 * 44100)
        assert np.array_equal(found, as_written(samples, rate))
    for address, image in zip(page.all("img", "src"), player.images, strict=True):
        picture = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
        assert picture.format == "PNG" and np.array_equal(np.asarray(picture), image)
        # Louder is brighter.
        grey = np.asarray(picture.convert("L"), dtype=float)
        assert grey[image > 200].min(initial=255) > grey[image < 50].max(initial=0)


def test_names_of_genres_are_no_markup_in_a_player(model):
    player = replace(model.play("jazz"), captions=["<script>alert(1)</script>"])
    assert not Elements(player._repr_html_()).all("script", "src")
    assert "<script" not in player._repr_html_()


def test_importing_takes_no_torch(tmp_path):
    """Nor any other library; settings and functions take those that are fast to import."""
    code = (
        "import sys, musicspectrogan as ms\n"
        "libraries = {'numpy', 'yaml', 'PIL', 'torch', 'scipy', 'librosa', 'soundfile', 'pandas'}\n"
        "print(sorted(libraries & set(sys.modules)))\n"
        "ms.GenerateConfig(seconds=10), ms.TrainingConfig(), ms.load, ms.train\n"
        "print(sorted(libraries & set(sys.modules)))"
    )
    line = [sys.executable, "-c", code]
    done = subprocess.run(
        line, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n['numpy', 'yaml']\n" and not done.stderr


def test_the_names_of_the_package():
    public = {name for name in ms.__all__ if name != "__version__"}
    assert public <= set(dir(ms)) and all(getattr(ms, name) for name in public)
    assert public == {
        "load", "preprocess", "recipe", "train", "generate", "evaluate", "export_model",
        "PreprocessConfig", "TrainingConfig", "GenerateConfig", "EvaluateConfig", "ExportConfig",
        "SoundConfig", "Selection", "UserError", "Interrupted",
    }  # fmt: skip
    with pytest.raises(AttributeError, match="has no attribute 'laod'"):
        ms.laod  # noqa: B018


def settings(images: Path, **changes: object) -> ms.TrainingConfig:
    return ms.TrainingConfig(
        **{
            "gan": "cgan", "dataset": images, "epochs": 1, "width": 4, "standing_batches": 2,
            "eval_every": 0, "device": "cpu", **changes,
        }
    )  # fmt: skip


def test_training_returns_the_run_and_resumes_it(images, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    run = ms.train(settings(images))
    assert run == Path("runs/00000-cgan-gtzan") and ms.load().genres == GENRES
    log = (run / "log.txt").read_text()
    assert "Training cgan on" in log and "Done after" in log
    assert logging.getLogger("musicspectrogan").level == logging.NOTSET
    assert "Done after" not in capfd.readouterr().err  # which is for commands
    longer = partial(ms.train, replace(settings(images), epochs=2), resume=run)
    with ThreadPoolExecutor() as pool:  # where Python takes no signals
        assert pool.submit(longer).result() == run
    assert ms.load(run).checkpoint.epoch == 2
    with pytest.raises(ms.UserError, match="ask for more with images or epochs"):
        ms.train(resume="latest")


def test_an_interrupted_training_says_how_to_continue(images, tmp_path, monkeypatch):
    log = trainer.Trainer._log

    def stop(self: trainer.Trainer) -> None:
        self._stop_requested = True
        log(self)

    monkeypatch.setattr(trainer.Trainer, "_log", stop)
    with pytest.raises(ms.Interrupted, match="saved after step 1; resume continues") as told:
        ms.train(settings(images, log_every=1, epochs=2), tmp_path / "run")
    assert "; --resume continues" in told.value.flag_message
    monkeypatch.undo()
    ms.train(resume=tmp_path / "run")
    assert ms.load(tmp_path / "run").checkpoint.epoch == 2


def test_the_other_functions_do_what_the_commands_do(trained, tmp_path, gtzan_tree):
    page = ms.generate(
        ms.GenerateConfig(
            checkpoint=trained, genre="rock", count=1, output=tmp_path / "made", device="cpu"
        )
    )
    assert page.parent == tmp_path / "made" and page.with_name("rock_seed0000.wav").is_file()
    folder = ms.export_model(
        ms.ExportConfig(checkpoint=trained, output=tmp_path / "shared", sounds=0)
    )
    assert folder == tmp_path / "shared"
    assert np.array_equal(ms.load(folder).images("rock"), ms.load(trained).images("rock"))
    manifest = ms.preprocess(
        ms.PreprocessConfig("gtzan", input=gtzan_tree, output=tmp_path / "set", jobs=1)
    )
    assert manifest.genres == GENRES and len(manifest.tracks) == 16
    assert (tmp_path / "set" / "dataset.json").is_file()


@pytest.mark.slow
def test_type_checkers_know_what_it_returns(tmp_path):
    """With py.typed, in a script of a user's own."""
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "import musicspectrogan as ms\n"
        "model = ms.load('demo')\n"
        "reveal_type(model.images({'bass': 0.5, 'drums': 0.5}, [0, 1]))\n"
        "reveal_type(model.sounds('bass', seconds=10))\n"
        "reveal_type(model.play(0).sample_rate)\n"
        "reveal_type(ms.train(ms.recipe('demo', dataset=Path('x')), 'run'))\n"
        "reveal_type(ms.evaluate(ms.EvaluateConfig(Path('run'))).verdict)\n"
        "model.images(genre=['bass'])\n"
    )
    line = [sys.executable, "-m", "mypy", "--strict", script]
    done = subprocess.run(
        line, cwd=ROOT, env={**environment(), "MYPYPATH": str(ROOT)}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    revealed = re.findall(r'Revealed type is "(.+)"', done.stdout)
    kinds = ["unsignedinteger", "floating", "int", "Path", "str"]
    for kind, found in zip(kinds, revealed, strict=True):
        assert kind in found
    assert 'Argument "genre" to "images" of "Model" has incompatible type' in done.stdout


def test_commands_in_messages_stay_as_they_are_typed():
    with pytest.raises(ms.UserError) as caught, named_as_in_python():
        raise ms.UserError("--jobs: start `dask worker --nthreads 1`, or give --no-cache")
    assert str(caught.value) == "jobs: start `dask worker --nthreads 1`, or give cache=False"


def test_settings_take_numbers_of_numpy_and_a_single_path():
    config = ms.TrainingConfig(batch_size=np.int64(8), lr=np.float32(0.5))
    assert (config.batch_size, config.lr) == (8, 0.5) and type(config.batch_size) is int
    assert ms.EvaluateConfig(compare="demo").compare == (Path("demo"),)
    listed = ms.GenerateConfig(genre=["drums", "bass"], seeds=range(2, 5))
    assert (listed.genre, listed.seed_list()) == ("drums,bass", [2, 3, 4])
