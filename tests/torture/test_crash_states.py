"""A power cut at any moment: what was reported as saved is there, and the same command continues.

File system operations are recorded, the states that a power cut may leave are built from them, and
each is recovered from. See `crash_states`.
"""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from conftest import Command
from crash_states import Operation, Recorder, State, crash_states
from datasets import dataset_bytes, images_in
from runs import assert_same_dataset, assert_same_run

from musicspectrogan import filesystem
from musicspectrogan.audio.files import save
from musicspectrogan.data import composer, preprocessing
from musicspectrogan.data.manifest import CONVERTED, Manifest, Outcome, Report
from musicspectrogan.data.settings import PreprocessConfig
from musicspectrogan.errors import Interrupted
from musicspectrogan.training import runner, snapshots
from musicspectrogan.training.checkpoint import Checkpoint
from musicspectrogan.training.diagnostics import Diagnostics
from musicspectrogan.training.run_checkpoints import (
    has_checkpoint,
    keep_checkpoint,
    load_checkpoint,
)
from musicspectrogan.training.run_directory import claim, is_unstarted
from musicspectrogan.training.settings import TrainingConfig

Tried = Callable[[str, int], None]

CLIPS = 20
PREPROCESS = ("preprocess.py", "--dataset", "folder", "--jobs", 1)
EPOCHS = 6


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """An empty folder, in memory if possible, for thousands of files."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


def drawn(log: list[Operation], number: int) -> list[State]:
    """Return a random sample of states from all moments."""
    states = list(crash_states(log, each=12))
    chosen = random.Random(0).sample(range(len(states)), min(number, len(states)))
    return [states[index] for index in sorted(chosen)]


def try_all(states: list[State], folder: Path, recover: Callable[[State, Path], None]) -> int:
    """Recover from each state in an empty folder; return their number."""
    for state in states:
        try:
            state.disk.write(folder)
            recover(state, folder)
        except Exception as error:
            raise AssertionError(f"power cut after {state.moment}") from error
        finally:
            shutil.rmtree(folder)
    return len(states)


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two genres of ten clips with two images each."""
    root = tmp_path_factory.mktemp("home") / "music"
    for genre, style in (("rock", "drums"), ("folk", "arpeggio")):
        (root / genre).mkdir(parents=True)
        save(
            root / genre / "0.wav",
            composer.compose(style, 0, seed=1, seconds=6.2),
            composer.SAMPLE_RATE,
        )
        for index in range(1, CLIPS // 2):
            os.link(root / genre / "0.wav", root / genre / f"{index}.wav")
    return root


def converted(music: Path, output: Path, **settings: object) -> Path:
    preprocessing.preprocess(
        PreprocessConfig(dataset="folder", input=music, output=output, jobs=1, **settings)
    )
    return output


@pytest.fixture(scope="module")
def whole(music: Path) -> Path:
    """The dataset made without interruption."""
    output = converted(music, music.parent / "whole")
    assert len(images_in(output)) == 2 * CLIPS
    return output


def recorded_preprocessing(music: Path, output: Path, **settings: object) -> list[Operation]:
    """Record preprocessing; it promises the tracks that are in the report."""
    with pytest.MonkeyPatch.context() as patch:
        ticks = count()
        patch.setattr(preprocessing, "monotonic", lambda: next(ticks))
        patch.setattr(preprocessing, "SYNC_PAUSE", 3)  # ticks: a sync for about three tracks
        recorder = Recorder(output.parent, patch)
        append, forget = Report.append, Report.forget

        def promise(outcomes: Iterable[Outcome]) -> None:
            recorder.promise(tuple(sorted(o.track for o in outcomes if o.status == CONVERTED)))

        def appending(report: Report, *outcomes: Outcome) -> None:
            append(report, *outcomes)
            if outcomes:
                promise(report.outcomes.values())

        def forgetting(report: Report, tracks: Iterable[str]) -> None:
            forgotten = set(tracks)
            promise(o for o in report.outcomes.values() if o.track not in forgotten)
            forget(report, forgotten)

        patch.setattr(Report, "append", appending)
        patch.setattr(Report, "forget", forgetting)
        converted(music, output, **settings)
        return recorder.finish()


def lost_tracks(state: State, whole: Path) -> set[str]:
    """Return promised tracks without a line in the report, or with missing or different images."""
    there = {path: state.disk.files[number] for path, number in state.disk.paths() if number > 0}
    lines = there.get("out/preprocess_report.csv", b"").decode("utf-8", "replace").splitlines()
    named = {line.split(",")[0] for line in lines}
    damaged = {
        name.split("/")[1].rpartition("_")[0]
        for name, data in dataset_bytes(whole).items()
        if name.endswith(".png") and there.get(f"out/{name}") != data
    }
    return {track for track in state.promise or () if track in damaged or track not in named}


class TestPreprocessing:
    def test_new_output(
        self,
        music: Path,
        whole: Path,
        *,
        scratch: Path,
        command: Command,
        torture: bool,
        tried: Tried,
    ) -> None:
        (scratch / "record").mkdir()
        log = recorded_preprocessing(music, scratch / "record" / "out")

        def recover(state: State, folder: Path) -> None:
            assert not lost_tracks(state, whole)
            assert_same_dataset(converted(music, folder / "out"), whole)

        def recover_by_command(state: State, folder: Path) -> None:
            command(*PREPROCESS, "--input", music, "--output", folder / "out", cwd=folder)
            assert_same_dataset(folder / "out", whole)

        tried(
            "crash states", try_all(drawn(log, 500 if torture else 12), scratch / "state", recover)
        )
        tried(
            "crash states",
            try_all(drawn(log, 12 if torture else 1), scratch / "state", recover_by_command),
        )

    def test_images_that_are_not_synced_are_lost(
        self, music: Path, whole: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The test detects a missing sync: without it the report lists tracks without images."""
        (scratch / "careless images").mkdir()
        monkeypatch.setattr(preprocessing, "sync_file_system", lambda folder: True)
        log = recorded_preprocessing(music, scratch / "careless images" / "out")
        assert any(lost_tracks(state, whole) for state in crash_states(log, each=12))

    @pytest.mark.slow
    def test_continuing(
        self, music: Path, whole: Path, *, scratch: Path, torture: bool, tried: Tried
    ) -> None:
        """Images of three tracks are missing, empty or truncated, and are made again."""
        output = shutil.copytree(whole, scratch / "again" / "out")
        gone, empty, cut = (output / name for name in images_in(whole)[3:18:6])
        gone.unlink()
        empty.write_bytes(b"")
        cut.write_bytes(cut.read_bytes()[:-1])
        log = recorded_preprocessing(music, output)

        def recover(state: State, folder: Path) -> None:
            assert not lost_tracks(state, whole)
            assert_same_dataset(converted(music, folder / "out"), whole)

        tried(
            "crash states", try_all(drawn(log, 120 if torture else 4), scratch / "state", recover)
        )

    @pytest.mark.slow
    def test_overwriting(
        self, music: Path, whole: Path, *, scratch: Path, torture: bool, tried: Tried
    ) -> None:
        """Images of old and new settings are never mixed."""
        other = converted(music, scratch / "other", top_db=60.0)
        output = shutil.copytree(whole, scratch / "overwrite" / "out")
        log = recorded_preprocessing(music, output, top_db=60.0, overwrite=True)

        def recover(state: State, folder: Path) -> None:
            old = Manifest.read(folder / "out").spectrogram.top_db == 80.0
            assert_same_dataset(
                converted(music, folder / "out", top_db=80.0 if old else 60.0),
                whole if old else other,
            )

        tried(
            "crash states", try_all(drawn(log, 120 if torture else 4), scratch / "state", recover)
        )


@pytest.fixture(scope="module")
def training(images: Path, scratch: Path) -> list[Operation]:
    """Record an interrupted and resumed run; it promises the steps of latest.pt and best.pt."""
    config = TrainingConfig(
        gan="cgan", dataset=images, epochs=EPOCHS, width=2, batch_size=4, standing_batches=2,
        log_every=3, snapshot_every=16, eval_every=16, keep_checkpoints=2, device="cpu",
    )  # fmt: skip
    distances = iter((0.9, 0.5, 0.7, 0.4, 0.6, 0.6))
    run = scratch / "training" / "run"
    run.parent.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        recorder = Recorder(run.parent, patch)

        def interrupt(diagnostics: Diagnostics, step: int, means: dict[str, float]) -> None:
            if step == 15:
                os.kill(os.getpid(), signal.SIGINT)

        def train(plan: runner.Plan) -> None:
            runner.train(
                plan,
                quality_of=lambda samples: {"kernel_distance": next(distances), "diversity": 1.0},
            )

        patch.setattr(snapshots, "keep_checkpoint", promising(recorder, snapshots.keep_checkpoint))
        patch.setattr(snapshots, "save_checkpoint", promising(recorder, snapshots.save_checkpoint))
        patch.setattr(Diagnostics, "check_losses", interrupt)
        with pytest.raises(Interrupted):
            train(runner.plan_run(config, run))
        begun = runner.load_run(run)
        assert begun.checkpoint.step == 15
        train(runner.plan_resumed_run(begun, begun.config))
        return recorder.finish()


def promising(recorder: Recorder, save: Callable[..., object]) -> Callable[..., None]:
    """Wrap a function that saves a checkpoint, so that it records the promise afterwards."""

    def saving(saved: Checkpoint, path: Path, **options: bool) -> None:
        save(saved, path, **options)
        names = ("latest", "best") if options.get("best") else ("latest",)
        recorder.promise({**(recorder.promised or {}), **dict.fromkeys(names, saved.step)})

    return saving


def assert_kept(state: State, run: Path) -> None:
    """Assert that every checkpoint can be read, and none is older than promised."""
    steps = {path.stem: step_of(path.read_bytes(), path) for path in run.glob("checkpoints/*.pt")}
    for name, step in (state.promise or {}).items():
        assert steps[name] >= step, name


KNOWN_STEPS: dict[bytes, int] = {}


def step_of(contents: bytes, path: Path) -> int:
    """Return the step of a checkpoint, cached: hundreds of states have the same contents."""
    if contents not in KNOWN_STEPS:
        KNOWN_STEPS[contents] = load_checkpoint(path).step
    return KNOWN_STEPS[contents]


def steps_of(run: Path, until: int) -> list[int]:
    """Return the steps in metrics.csv, without a truncated row."""
    with open(run / "metrics.csv", newline="", errors="replace") as file:
        steps = [
            row["step"] or "" for row in csv.DictReader(line.replace("\0", "") for line in file)
        ]
    return [int(step) for step in steps if step.isdigit() and int(step) <= until]


class TestTraining:
    def test_a_run(
        self,
        training: list[Operation],
        *,
        scratch: Path,
        command: Command,
        torture: bool,
        tried: Tried,
    ) -> None:
        whole = scratch / "training" / "run"

        def recover(state: State, folder: Path) -> None:
            run = folder / "run"
            assert_kept(state, run)
            if not has_checkpoint(run) and not is_unstarted(run):
                claim(run)  # the same command starts again
                return
            begun = runner.load_run(run)
            if begun.checkpoint:
                assert steps_of(run, begun.checkpoint.step) == steps_of(
                    whole, begun.checkpoint.step
                )

        def recover_by_command(state: State, folder: Path) -> None:
            command("run.py", "--resume", folder / "run", cwd=folder)
            assert_same_run(folder / "run", whole, pictures=False)

        states = drawn(training, 400 if torture else 12)
        tried("crash states", try_all(states, scratch / "state", recover))
        unfinished = [s for s in states if s.promise and s.promise["latest"] < 4 * EPOCHS]
        some = random.Random(0).sample(unfinished, 6 if torture else 1)
        tried("crash states", try_all(some, scratch / "state", recover_by_command))

    def test_a_folder_that_is_not_synced_loses_checkpoints(
        self, training: list[Operation], scratch: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The test detects a missing sync: without it saved checkpoints are lost."""
        run = scratch / "careless" / "run"
        (run / "checkpoints").mkdir(parents=True)
        saved = load_checkpoint(scratch / "training" / "run")
        recorder = Recorder(run.parent, monkeypatch)
        monkeypatch.setattr(filesystem, "sync_folder", lambda folder: None)
        for epoch in (1, 2, 3):
            promising(recorder, keep_checkpoint)(
                replace(saved, epoch=epoch, step=epoch), run, keep=1, best=epoch == 1
            )
        log = recorder.finish()
        monkeypatch.undo()
        with pytest.raises(AssertionError, match="power cut after"):
            try_all(
                drawn(log, 1000),
                scratch / "state",
                lambda state, folder: assert_kept(state, folder / "run"),
            )
