"""Training runs on a real GPU."""

from __future__ import annotations

import subprocess

import pytest
from conftest import ROOT, command_line, environment
from test_training import metrics_of

from musicspectrogan.generation.sampler import Sampler
from musicspectrogan.training.run_checkpoints import load_checkpoint

# What is left of 4 GB beside CUDA's own context.
LIMIT_BYTES = int(3.5 * 2**30)


ON_GPU = """
import torch
total = torch.cuda.get_device_properties(0).total_memory
torch.cuda.set_per_process_memory_fraction({limit} / total)
from musicspectrogan.cli import main
try:
    main("train")
finally:
    print("reserved", torch.cuda.max_memory_reserved())
"""


@pytest.mark.gpu
@pytest.mark.parametrize(
    "flags",
    [
        ("--gan", "dcgan"),
        ("--gan", "cgan", "--precision", "bfloat16"),
        ("--gan", "cgan", "--windows", "--augment", 0.3, "--precision", "tf32"),
        ("--config", ROOT / "configs" / "cgan-best.yaml"),
        ("--config", ROOT / "configs" / "cgan-best.yaml", "--precision", "bfloat16"),
    ],
)
def test_full_width_on_a_gpu_fits_four_gigabytes_recorded_or_not(flags, images, tmp_path):
    """Ten steps, of which seven are replayed; the plain ones tell and learn the same."""
    program = ON_GPU.format(limit=LIMIT_BYTES)
    for name, graph in (("recorded", "--cuda-graph"), ("plain", "--no-cuda-graph")):
        arguments = (*flags, graph, "--dataset", images, "--epochs", 10, "--log-every", 1)
        line = [*command_line("-c", program), *arguments, "--output", name, "--device", "cuda:0"]
        done = subprocess.run(
            list(map(str, line)),
            cwd=tmp_path,
            env=environment(gpu=True),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "capturable" not in done.stderr
        assert "Warning" not in done.stderr
        reserved = int(done.stdout.split("reserved")[1])
        assert 0 < reserved <= LIMIT_BYTES
    checkpoints = [load_checkpoint(tmp_path / name) for name in ("recorded", "plain")]
    assert [checkpoint.step for checkpoint in checkpoints] == [10, 10]
    for column in ("loss_d", "loss_g", "d_real", "d_fake_before", "d_fake_after"):
        told, expected = (
            [float(row[column]) for row in metrics_of(tmp_path / name) if row[column]]
            for name in ("recorded", "plain")
        )
        assert len(told) == 10
        assert told == pytest.approx(expected, rel=0.05, abs=0.05)
    ours, theirs = (checkpoint.ema for checkpoint in checkpoints)
    for name, weight in ours.items():
        assert (weight.double() - theirs[name].double()).abs().median() < 1e-2, name


@pytest.mark.gpu
def test_a_run_on_a_gpu_is_resumed_on_the_cpu_and_back(images, tmp_path):
    common = ["run.py", "--gan", "cgan", "--width", 4, "--dataset", images]
    for epochs, device in ((4, "cuda"), (6, "cpu"), (10, "cuda")):
        where = ("--output", "run") if epochs == 4 else ("--resume", "run")
        line = command_line(*common, "--epochs", epochs, "--device", device, *where)
        subprocess.run(line, cwd=tmp_path, env=environment(gpu=True), check=True)
    assert load_checkpoint(tmp_path / "run").step == 10


@pytest.mark.gpu
def test_samples_are_the_same_bytes_each_time_on_a_gpu(trained):
    sampler = Sampler(load_checkpoint(trained), "cuda")
    seeds = list(range(40))
    together = sampler.images(sampler.latents(seeds), sampler.one_hot(sampler.genres[0], 40))
    again = sampler.images(sampler.latents(seeds), sampler.one_hot(sampler.genres[0], 40))
    alone = sampler.images(sampler.latents([7]), sampler.one_hot(sampler.genres[0], 1))
    assert together.tobytes() == again.tobytes()
    assert together[7].tobytes() == alone[0].tobytes()
