"""doctor: the text for a bug report, and trials that a broken device does not pass."""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gpus import fake_gpus

from musicspectrogan import cli, doctor
from musicspectrogan.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Few and small steps."""
    monkeypatch.setattr(doctor, "STEPS", 6)
    monkeypatch.setattr(doctor, "BATCH_SIZE", 8)
    monkeypatch.setattr(doctor, "WIDTH", 2)
    monkeypatch.setattr(doctor, "FULL_WIDTH", 3)


@pytest.fixture
def quick(monkeypatch):
    """The classic recipe alone, and trials that are taken from an earlier test if there was one."""
    monkeypatch.setattr(doctor, "RECIPES", {"classic": ("cgan", 2e-4)})
    real = doctor.try_steps

    def try_steps(recipe, device, *, recorded=False):
        key = recipe.width, device.type, recorded
        if key not in TRIALS:
            TRIALS[key] = real(recipe, device, recorded=recorded)
        return deepcopy(TRIALS[key])

    monkeypatch.setattr(doctor, "try_steps", try_steps)


TRIALS = {}


def report(**options):
    lines = list(doctor.examine(**options))
    return "\n".join(line for line, _ in lines), [line for line, passed in lines if not passed]


def test_the_report_has_what_a_bug_report_needs():
    text, failed = report(only="cpu")
    assert not failed
    for name in (
        "musicspectrogan",
        "Python",
        "torch",
        "torchvision",
        "librosa",
        "soundfile",
        "pillow",
    ):
        assert re.search(rf"{name} \d+\.\d", text), name
    assert f"torch {torch.__version__}" in text
    assert re.search(r"\d+ cores; PyTorch computes in \d+ threads", text)
    assert re.search(r"\d GiB of memory", text) and re.search(r"\d GiB of disk here", text)
    assert "decodes wav, flac, ogg, mp3; " in text and "ffmpeg" in text
    for recipe in ("classic", "best"):
        assert re.search(rf"^cpu +{recipe} +plain +0 +0 +[\d,]+ +pass$", text, re.MULTILINE)
    assert str(Path.home()) not in text


def test_without_the_audio_libraries_the_rest_is_reported(monkeypatch, quick):
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    text, failed = report(only="cpu")
    assert len(failed) == 1
    assert failed[0].startswith("audio     cannot be read: ")
    assert "classic  plain" in text


def test_a_decoder_that_fails_is_named(monkeypatch, quick):
    from musicspectrogan.audio import files

    load = files.load

    def broken(path, rate):
        if path.suffix == ".mp3":
            raise files.AudioError("no such codec")
        loaded = load(path, rate)
        return replace(loaded, samples=0.1 * loaded.samples) if path.suffix == ".ogg" else loaded

    monkeypatch.setattr(files, "load", broken)
    text, failed = report(only="cpu")
    assert "decodes wav, flac; " in text
    assert failed[0].startswith("audio     ogg fails: loads as another sound (level 0.04")
    assert failed[1] == "audio     mp3 fails: AudioError: no such codec"


def test_a_card_without_kernels_is_reported_and_not_tried(monkeypatch, quick):
    fake_gpus(monkeypatch, [(6, 1)])
    text, failed = report()
    assert len(failed) == 1
    assert failed[0].startswith("gpu       cuda:0 Card 0, compute capability 6.1: PyTorch")
    assert "cuda:0   classic" not in text
    assert "cpu      classic  plain" in text


def a_gpu(monkeypatch, stage, trouble=None):
    """A GPU acted out on the CPU: `cuda:0` where steps are tried, which all come to the CPU."""
    fake_gpus(monkeypatch, [(8, 6)])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (3 * 2**30, 4 * 2**30))
    real = doctor.try_steps

    class Recorded(doctor.RecordedStep):
        def __init__(self, step):
            super().__init__(step)
            stage.step = self

    def try_steps(config, device, *, recorded=False):
        trial = real(config, CPU, recorded=recorded)
        if device.type == "cuda":
            if trouble:
                trouble(trial, recorded)
            trial = replace(trial, peak_bytes=123 * 2**20)
        return trial

    monkeypatch.setattr(doctor, "RecordedStep", Recorded)
    monkeypatch.setattr(doctor, "try_steps", try_steps)


def test_a_gpu_is_tried_plain_recorded_and_at_full_width(monkeypatch, stage):
    a_gpu(monkeypatch, stage)
    text, failed = report()
    assert not failed
    assert "cuda:0 Card 0, compute capability 8.6, 3.0 of 4.0 GiB of memory free" in text
    for recipe in ("classic", "best"):
        for kind in ("plain", "recorded"):
            assert re.search(rf"^cuda:0 +{recipe} +{kind} .* 123 MiB pass$", text, re.MULTILINE), (
                recipe,
                kind,
            )
        assert re.search(rf"^cuda:0 +{recipe} +width 64 .* 123 MiB pass$", text, re.MULTILINE)
    assert stage.replays == 2 * 2 * (doctor.STEPS - 3)


@pytest.mark.parametrize(("step", "change"), [(0, 0.002), (5, 0.2), (5, float("nan"))])
def test_a_gpu_that_computes_otherwise_fails(monkeypatch, quick, stage, step, change):
    def trouble(trial, recorded):
        if recorded:
            trial.values[step]["loss_d"] += change

    a_gpu(monkeypatch, stage, trouble)
    _, failed = report()
    assert all(" recorded " in line or " width 64 " in line for line in failed)
    assert sum(" recorded " in line for line in failed) == 1
    assert all(line.endswith("FAIL") for line in failed)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UserError("cannot be recorded; give --no-cuda-graph"), "give --no-cuda-graph"),
        (torch.OutOfMemoryError("CUDA out of memory"), "the GPU's memory is full"),
        (
            RuntimeError("CUDA error: unspecified launch failure\nmore"),
            "the GPU failed (CUDA error: unspec",
        ),
        (RuntimeError("something else\nand more"), "RuntimeError: something else"),
    ],
)
def test_an_error_on_a_device_costs_its_own_line_alone(monkeypatch, quick, stage, error, message):
    def trouble(trial, recorded):
        if recorded:
            raise error

    a_gpu(monkeypatch, stage, trouble)
    text, failed = report()
    assert "and more" not in text
    assert len(failed) == 1 and message in failed[0]
    # An error can outlast its trial, so no other is tried there.
    assert re.search(r"^cuda:0 +classic +plain .* pass$", text, re.MULTILINE)
    assert len(re.findall(r"^cuda:0 .* not tried: a GPU has failed", text, re.MULTILINE)) == 1
    assert len(re.findall(r"^cpu .* pass$", text, re.MULTILINE)) == 1


def test_a_gpu_that_cannot_be_opened_is_reported_in_its_line(monkeypatch, quick, stage):
    a_gpu(monkeypatch, stage)

    def busy(number):
        raise RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nmore")

    monkeypatch.setattr(torch.cuda, "mem_get_info", busy)
    text, failed = report()
    assert len(failed) == 1
    assert (
        "compute capability 8.6: the GPU failed (CUDA error: CUDA-capable device(s) is/are busy"
        in failed[0]
    )
    assert "classic  plain" in text


def test_no_trial_starts_after_the_time_limit(monkeypatch, quick):
    monkeypatch.setattr(doctor, "MAX_SECONDS", -1)
    text, failed = report(only="cpu")
    assert not failed
    assert text.count("not tried: it would take too long") == 1


def test_the_trials_detect_a_discriminator_that_does_not_learn(monkeypatch):
    monkeypatch.setattr(doctor, "STEPS", 20)
    monkeypatch.setattr(doctor, "WIDTH", 8)
    recipe = doctor._read_recipe("cgan", lr=2e-4)
    expected = doctor.try_steps(recipe, CPU)
    real = doctor.build_step

    def frozen(*arguments, **options):
        step = real(*arguments, **options)
        step.optimizer_d.param_groups[0]["lr"] = 0.0
        return step

    monkeypatch.setattr(doctor, "build_step", frozen)
    broken = doctor.try_steps(recipe, CPU)
    _, passed = doctor._compare(broken, expected.values, same=False)
    first = doctor.largest_difference(broken.values[:1], expected.values[:1], doctor.BEFORE_UPDATE)
    assert first < doctor.FIRST_TOLERANCE
    assert not passed


def test_the_command_ends_with_the_number_of_failures(monkeypatch, quick, capsys):
    monkeypatch.setattr("sys.argv", ["musicspectrogan", "doctor", "--device", "cpu"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.endswith("\nNothing failed\n")
    monkeypatch.setattr(doctor, "examine", lambda only: iter([("cuda:0 FAIL", False)]))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert capsys.readouterr().out.endswith("\n1 failed: paste all of this into a bug report\n")


@pytest.mark.gpu
def test_a_real_gpu_passes():
    text, failed = report()
    assert not failed, text
    assert "cuda:0   best     recorded" in text
