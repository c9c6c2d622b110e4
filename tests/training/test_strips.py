"""Long pieces that are drawn while GANs of any length train, through the real command."""

from __future__ import annotations

import logging
import os
import random
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command
from PIL import Image

from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.data.dataset import ImageDataset
from musicspectrogan.data.grids import AXIS, GAP
from musicspectrogan.errors import Interrupted
from musicspectrogan.generation.pieces import strips_of
from musicspectrogan.training import runner
from musicspectrogan.training.checkpoint import Checkpoint, LiveGenerator
from musicspectrogan.training.run_checkpoints import load_checkpoint
from musicspectrogan.training.settings import TrainingConfig
from musicspectrogan.training.snapshots import PIECE_IMAGES, real_strips

GENRES = ["blues", "jazz", "metal", "rock"]
FRAMES = 64 * PIECE_IMAGES


@pytest.fixture(scope="module")
def run(images: Path, command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conditional GAN of any length, trained for four epochs with two snapshots."""
    folder = tmp_path_factory.mktemp("anylength")
    command(
        "run.py", "--gan", "anylength", "--dataset", images, "--epochs", 4, "--width", 2,
        "--batch-size", 4, "--standing-batches", 2, "--snapshot-every", 32, "--device", "cpu",
        "--output", folder / "run", cwd=folder,
    )  # fmt: skip
    return folder / "run"


@pytest.fixture
def config(images: Path) -> TrainingConfig:
    """Two epochs of two steps, with a snapshot each."""
    return TrainingConfig(
        gan="anylength", dataset=images, epochs=2, width=2, batch_size=8, standing_batches=1,
        device="cpu", snapshot_every=1, eval_every=0, log_every=1, snapshot_share=1.0,
    )  # fmt: skip


def sheet_of(path: Path) -> np.ndarray:
    with Image.open(path) as sheet:
        assert sheet.mode == "L"
        return np.asarray(sheet)


def strips_in(sheet: np.ndarray, frames: int = FRAMES) -> list[np.ndarray]:
    """The strips of four genres on a sheet, where each pixel is doubled."""
    left = sheet.shape[1] - 2 * frames - GAP
    tops = [GAP + number * (2 * 64 + GAP) for number in range(4)]
    return [sheet[top : top + 128 : 2, left : left + 2 * frames : 2] for top in tops]


def pictures(run: Path, pattern: str = "*") -> list[str]:
    return sorted(path.name for path in (run / "samples").glob(pattern))


def assert_same_weights(first: Checkpoint, second: Checkpoint) -> None:
    for part in ("generator", "discriminator", "ema"):
        ours, theirs = getattr(first, part), getattr(second, part)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), part


def test_there_is_a_picture_of_pieces_with_every_grid(run):
    grids = [f"epoch_{epoch:04d}.png" for epoch in (0, 2, 4)] + ["real.png"]
    assert pictures(run) == sorted(grids + [f"pieces_{name}" for name in grids])
    sheets = [sheet_of(run / "samples" / name) for name in pictures(run, "pieces_*")]
    assert {sheet.shape[0] for sheet in sheets} == {GAP + 4 * (128 + GAP) + AXIS}
    assert len({sheet.tobytes() for sheet in sheets}) == 4


@pytest.mark.parametrize(("epoch", "genre"), [(2, "rock"), (4, "jazz")])
def test_a_strip_begins_the_piece_that_generate_makes_of_seed_0(
    epoch, genre, run, command, tmp_path
):
    """So the latents are the same each time."""
    checkpoint = run / "checkpoints" / f"epoch_{epoch:04d}.pt"
    line = ("--checkpoint", checkpoint, "--genre", genre, "--seeds", 0, "--seconds", 20)
    command("-m", "musicspectrogan", "generate", *line, "--output", "out", cwd=tmp_path)
    strips = strips_in(sheet_of(run / "samples" / f"pieces_epoch_{epoch:04d}.png"))
    made = sheet_of(tmp_path / "out" / f"{genre}_seed0000_20s.png")
    np.testing.assert_array_equal(strips[GENRES.index(genre)], made[:, :FRAMES])


def test_real_music_lies_beside_them(run, images):
    """The tracks have two images each."""
    for genre, strip in zip(
        GENRES, strips_in(sheet_of(run / "samples/pieces_real.png"), 128), strict=True
    ):
        shown = []
        for track in {path.name.rpartition("_")[0] for path in (images / genre).glob("*.png")}:
            halves = [sheet_of(images / genre / f"{track}_{segment:03d}.png") for segment in (0, 1)]
            shown.append(np.array_equal(strip, np.hstack(halves)))
        assert sum(shown) == 1


def test_tensorboard_shows_them_and_plays_one(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), {"audio": 0, "images": 0})
    tags = events.Reload().Tags()
    assert sorted(tags["images"]) == ["pieces", "real", "real_pieces", "samples"]
    assert [event.step for event in events.Images("pieces")] == [0, 8, 16]
    assert [event.step for event in events.Images("real_pieces")] == [0]
    newest = events.Images("pieces")[-1].encoded_image_string
    assert newest[:4] == b"\x89PNG"
    assert sorted(tags["audio"]) == ["pieces/blues", *(f"sounds/{genre}" for genre in GENRES)]
    played = events.Audio("pieces/blues")
    assert [(event.step, event.length_frames) for event in played] == [
        (8, FRAMES * 1024),
        (16, FRAMES * 1024),
    ]


@pytest.mark.parametrize("gan", ["anylength", "anylength_unconditional"])
def test_drawing_leaves_training_as_it_is(gan, config, tmp_path):
    config = replace(config, gan=gan)
    runs = [
        runner.train(runner.plan_run(config, tmp_path / name), strips_of=strips)
        for name, strips in (("with", strips_of), ("without", None))
    ]
    assert [len(pictures(run, "pieces_*")) for run in runs] == [4, 0]
    for epoch in (1, 2):
        checkpoints = [
            load_checkpoint(run / "checkpoints" / f"epoch_{epoch:04d}.pt") for run in runs
        ]
        assert_same_weights(*checkpoints)


@pytest.mark.parametrize(
    ("gan", "names"),
    [("anylength", GENRES), ("anylength_unconditional", [f"sample {seed}" for seed in range(4)])],
)
def test_strips_differ_and_draw_on_nobodys_random_numbers(gan, names, config, tmp_path):
    run = runner.train(runner.plan_run(replace(config, gan=gan, epochs=1), tmp_path / "run"))
    checkpoint = load_checkpoint(run)
    generator = checkpoint.build_ema_generator()
    facts = (checkpoint.gan, checkpoint.model, checkpoint.genres, checkpoint.spectrogram)

    def states() -> list[object]:
        return [torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()]

    before = states()
    strips = strips_of(LiveGenerator(generator, *facts), 200)
    assert states() == before
    assert list(strips) == names
    assert {strip.shape for strip in strips.values()} == {(64, 200)}
    assert len({strip.tobytes() for strip in strips.values()}) == 4
    assert all(
        torch.equal(value, checkpoint.ema[name]) for name, value in generator.state_dict().items()
    )
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_cannot_be_drawn_costs_itself(config, caplog, tmp_path, monkeypatch):
    monkeypatch.setattr(logging.getLogger("musicspectrogan"), "propagate", True)
    monkeypatch.setattr("musicspectrogan.errors._warned", set())
    caplog.set_level(logging.WARNING)
    calls = []

    def sometimes(*arguments: object) -> dict[str, np.ndarray]:
        calls.append(arguments)
        if len(calls) == 2:
            raise RuntimeError("once")
        return strips_of(*arguments)

    plan = runner.plan_run(config, tmp_path / "run")
    run = runner.train(plan, strips_of=sometimes)
    told = [record.message for record in caplog.records if "will be rough" not in record.message]
    assert told == ["No picture of pieces (RuntimeError: once); everything else continues"]
    assert load_checkpoint(run).epoch == 2
    assert pictures(run, "pieces_e*") == ["pieces_epoch_0000.png", "pieces_epoch_0002.png"]
    assert pictures(run, "e*") == ["epoch_0000.png", "epoch_0001.png", "epoch_0002.png"]


def test_weights_are_saved_before_pieces_are_drawn_and_grids_after(config, tmp_path):
    """By the grid, a resumed run knows that the pieces are there."""
    seen = []

    def look(*arguments: object) -> dict[str, np.ndarray]:
        seen.append(
            (
                len(list(tmp_path.glob("run/checkpoints/e*.pt"))),
                len(pictures(tmp_path / "run", "e*")),
            )
        )
        return strips_of(*arguments)

    run = runner.train(runner.plan_run(config, tmp_path / "run"), strips_of=look)
    assert seen == [(0, 0), (1, 1), (2, 2)]
    drawn = {name: (run / "samples" / name).read_bytes() for name in pictures(run)}
    for name in ("epoch_0002.png", "pieces_epoch_0002.png", "pieces_real.png"):
        (run / "samples" / name).unlink()
    begun = runner.load_run(run)
    runner.train(runner.plan_resumed_run(begun, begun.config), strips_of=look)
    assert {name: (run / "samples" / name).read_bytes() for name in pictures(run)} == drawn


def test_a_run_that_is_stopped_draws_them_too(config, tmp_path):
    def stopping(*arguments: object) -> dict[str, np.ndarray]:
        if not pictures(tmp_path / "run", "pieces_e*"):
            os.kill(os.getpid(), signal.SIGINT)
        return strips_of(*arguments)

    with pytest.raises(Interrupted):
        runner.train(runner.plan_run(config, tmp_path / "run"), strips_of=stopping)
    assert pictures(tmp_path / "run", "pieces_e*") == [
        "pieces_epoch_0000.png", "pieces_epoch_0000_images_00000008.png",
    ]  # fmt: skip


def dataset_of(tracks: list[int], segments: list[int], labels: list[int]) -> ImageDataset:
    """Image k is all of grey level k."""
    count = len(tracks)
    pixels = np.arange(count, dtype=np.uint8)[:, None, None] * np.ones((1, 64, 64), np.uint8)
    numbers = (np.array(values, dtype=np.int64) for values in (labels, tracks, segments))
    labels, tracks, segments = numbers
    genres = ["a", "b"][: labels.max() + 1]
    return ImageDataset(
        "x", pixels, np.arange(count), labels, genres, tracks, segments, SpectrogramConfig(), ""
    )


def test_strips_of_real_music_are_of_consecutive_images_alone():
    """Of genre a tracks with a gap and out of order, of b a single image."""
    dataset = dataset_of([0, 0, 0, 1, 1, 1, 1, 2], [0, 1, 3, 9, 10, 11, 5, 0], [0] * 7 + [1])
    shown = {genre: strip[0, ::64].tolist() for genre, strip in real_strips(dataset, 5).items()}
    assert shown == {"a": [3, 4, 5], "b": [7]}
    assert real_strips(dataset, 2)["a"].shape == (64, 128)
    # Pictures that are no parts of tracks.
    assert real_strips(dataset_of([0, 1, 2], [0, 0, 0], [0, 0, 0]), 5) == {}
