"""Several processes that train together, and one that sees all of the same batches."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, environment
from gpus import fake_gpus
from processes import workers_below
from test_training import metrics_of, wait_for, weights_of
from torch import nn
from torch._subclasses import FakeTensorMode

from musicspectrogan import models
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.data.dataset import ImageDataset
from musicspectrogan.errors import UserError
from musicspectrogan.launch import ProcessRank, this_process
from musicspectrogan.models import ModelConfig
from musicspectrogan.tensors import generator_at
from musicspectrogan.training import runner
from musicspectrogan.training.augment import Augmentation
from musicspectrogan.training.batches import Batches
from musicspectrogan.training.distributed import SINGLE_PROCESS, Distributed, convert_batchnorm
from musicspectrogan.training.losses import LOSSES
from musicspectrogan.training.run_checkpoints import load_checkpoint
from musicspectrogan.training.settings import TrainingConfig
from musicspectrogan.training.step import VIEWS, AdversarialStep

SIZES = (2, pytest.param(4, marks=pytest.mark.slow))
BATCH, LATENT, SIDE = 16, 5, 16
CPU = torch.device("cpu")

# gan, loss, options of the step, switches of the models, what becomes of BatchNorm.
PENALISED = {"r1": 1.0, "r2": 2.0, "augment": 0.5}
CASES: dict[str, tuple[str, str, dict, dict, str]] = {
    **{f"{loss} without BatchNorm": ("projection", loss, {}, {}, "without") for loss in LOSSES},
    **{
        f"{loss} with everything": (
            "projection",
            loss,
            PENALISED,
            {"minibatch_deviation": True},
            "without",
        )
        for loss in LOSSES
    },
    **{f"{gan} synchronised": (gan, "bce", {}, {}, "synchronised") for gan in models.names()},
    "cgan, augmented and synchronised": (
        "cgan",
        "relativistic",
        {"augment": 0.5},
        {},
        "synchronised",
    ),
    "projection with everything, synchronised": (
        "projection",
        "relativistic",
        PENALISED,
        {"minibatch_deviation": True, "spectral_norm": True},
        "synchronised",
    ),
    "anylength with everything, synchronised": (
        "anylength",
        "relativistic",
        PENALISED,
        {"minibatch_deviation": True, "pairs": True},
        "synchronised",
    ),
    "cgan, each with its own statistics": ("cgan", "bce", {}, {}, "own"),
    "cgan in bfloat16": ("cgan", "bce", {"bfloat16": True}, {}, "synchronised"),
}


def some_dataset() -> ImageDataset:
    """Twenty images of two genres; those of a track are consecutive, and windows overlap them."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, SIDE, SIDE), dtype=np.uint8)
    rows = np.arange(20)
    return ImageDataset(
        "x", pixels, rows, rows % 2, ["a", "b"], rows // 5, rows % 5, SpectrogramConfig(), ""
    )


def without_batchnorm(network: nn.Module) -> None:
    """In its place nothing."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.Identity())


def one_step(case: str, distributed: Distributed) -> dict[str, torch.Tensor]:
    """What a step on this process's share gives: gradients, statistics and values."""
    gan, loss, options, switches, norms = CASES[case]
    torch.manual_seed(0)
    networks = models.build(gan, ModelConfig(SIDE, 4, LATENT, 2, **switches))
    for network in networks:
        if norms == "without":
            without_batchnorm(network)
        elif norms == "synchronised":
            convert_batchnorm(network, distributed)
    options = dict(options)
    augmentation = Augmentation(options.pop("augment", 0.0))
    # At rate 0 the generator's turn meets the very same discriminator.
    step = AdversarialStep(
        *networks,
        LOSSES[loss],
        lr=0.0,
        betas=(0.5, 0.9),
        augmentation=augmentation,
        distributed=distributed,
        **options,
    )
    pairs = switches.get("pairs", False)
    batches = Batches(
        some_dataset(), BATCH, CPU, 0, windows=True, pairs=pairs, distributed=distributed
    )
    images, labels = next(batches.epoch(0))
    latents = torch.randn(BATCH, networks[0].latent_dim, generator=generator_at(CPU, "latents"))
    draws = torch.rand(VIEWS, BATCH, augmentation.draws, generator=generator_at(CPU, "draws"))
    told = step(images, labels, distributed.shard(latents), distributed.shard(draws, dim=1))
    distributed.average_(told.values())
    found = {f"value {name}": value for name, value in told.items()}
    for letter, network in zip("GD", networks, strict=True):
        found |= {f"{letter} gradient {name}": w.grad for name, w in network.named_parameters()}
        found |= {f"{letter} state {name}": value for name, value in network.state_dict().items()}
    return found


def asked_to_stop(distributed: Distributed) -> list[bool]:
    """`any_rank` after each of six steps, where the last rank's flag is true after the third."""
    wishes = (
        number == 3 and distributed.rank == distributed.world_size - 1 for number in range(1, 7)
    )
    return [distributed.any_rank(wish) for wish in wishes]


def complaint_about(act: Callable[[], None]) -> str:
    with pytest.raises(UserError) as caught:
        act()
    return str(caught.value)


def a_process(rank: int, size: int, port: int, folder: Path) -> None:
    """One of several, each of which takes a step in every case; what it finds is left in a file."""
    torch.set_num_threads(1)
    places = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "MASTER_PORT": port}
    os.environ.update(
        {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in places.items()}}
    )
    distributed = Distributed(this_process())
    with distributed.init(CPU):
        found = {case: one_step(case, distributed) for case in CASES}
        found["stop"] = asked_to_stop(distributed)
        distributed.check_equal(images="equal")
        found["unlike"] = complaint_about(
            lambda: distributed.check_equal(images="equal", steps=min(rank, 1))
        )
        if rank == size - 1:
            os._exit(3)
        found["left"] = complaint_about(lambda: distributed.average_([torch.zeros(1)]))
        torch.save(found, folder / f"{rank}.pt")
        os._exit(0)


@pytest.fixture(scope="module", params=SIZES)
def together(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[dict]:
    """What each of several processes found, but for the last one, which went away."""
    folder, size = tmp_path_factory.mktemp("together"), request.param
    context = multiprocessing.get_context("forkserver")  # imports torch once for all
    context.set_forkserver_preload([__name__])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        context.Process(target=a_process, args=(rank, size, port, folder)) for rank in range(size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(200)
        process.kill()
    assert [process.exitcode for process in processes] == [0] * (size - 1) + [3]
    return [torch.load(folder / f"{rank}.pt") for rank in range(size - 1)]


def assert_near(
    got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float
) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        atol = tolerance * max(1e-3, value.abs().max().item())
        torch.testing.assert_close(
            got[name], value, rtol=tolerance, atol=atol, msg=(name + ": {}").format
        )


EXACT = [case for case in CASES if not case.startswith(("cgan, each", "cgan in bfloat16"))]


@pytest.mark.parametrize("case", EXACT)
def test_several_processes_find_the_gradients_of_one_with_the_whole_batch(case, together):
    expected = one_step(case, SINGLE_PROCESS)
    assert any(name.startswith("G gradient") for name in expected)
    if "relativistic" in case or CASES[case][1] == "relativistic":
        # Their middle is that of a share.
        expected = {name: v for name, v in expected.items() if not name.startswith("value d_")}
    for found in together:
        assert_near({name: found[case][name] for name in expected}, expected, 1e-4)


def test_with_statistics_of_its_own_each_process_differs_a_little_from_one_with_the_whole_batch(
    together,
):
    case = "cgan, each with its own statistics"
    expected, found = one_step(case, SINGLE_PROCESS), together[0][case]
    name = "G gradient layers.0.weight"
    assert 1e-2 < (found[name] - expected[name]).norm() / expected[name].norm() < 2


def test_statistics_over_all_processes_go_with_bfloat16(together):
    expected, found = one_step("cgan in bfloat16", SINGLE_PROCESS), together[0]["cgan in bfloat16"]
    name = "D gradient layers.0.weight"
    assert (found[name] - expected[name]).norm() / expected[name].norm() < 0.1


def test_gradients_are_bit_for_bit_the_same_in_all_processes(together):
    for found in together[1:]:
        for case in CASES:
            for name, value in together[0][case].items():
                assert torch.equal(found[case][name], value) or "state" in name, (case, name)


def test_all_stop_after_the_same_step(together):
    assert [found["stop"] for found in together] == [
        [False, False, False, True, False, False]
    ] * len(together)
    assert asked_to_stop(SINGLE_PROCESS) == [False, False, True, False, False, False]


def test_processes_that_do_not_start_alike_are_refused_by_all(together):
    assert {found["unlike"] for found in together} == {
        "steps of process 1 are not those of process 0; every machine needs the same command, "
        "dataset and checkpoint"
    }


def test_a_process_that_goes_away_is_noticed_by_the_others(together):
    for found in together:
        assert "another process of this run has ended" in found["left"]


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("windows", [False, True])
def test_shares_are_disjoint_and_make_up_the_batch(size, windows):
    def batches(distributed):
        return list(
            Batches(some_dataset(), 12, CPU, 0, windows=windows, distributed=distributed).epoch(
                3, start=1
            )
        )

    (whole, labels), *_ = batches(SINGLE_PROCESS)
    shares = [batches(Distributed(ProcessRank(rank, size, rank)))[0] for rank in range(size)]
    assert all(len(images) == 12 // size for images, _ in shares)
    for rank, (images, theirs) in enumerate(shares):
        assert torch.equal(images, whole[rank::size]) and torch.equal(theirs, labels[rank::size])
    places = [
        Distributed(ProcessRank(rank, size, rank)).shard(torch.arange(12)[None], dim=1)
        for rank in range(size)
    ]
    assert sorted(torch.cat(places, dim=1).flatten().tolist()) == list(range(12))


def test_synchronised_networks_have_the_same_weights_under_the_same_names():
    for gan in models.names():
        for network in models.build(gan, ModelConfig(SIDE, 4, LATENT, 2)):
            before, modules = network.state_dict(), str(network)
            weights = list(network.parameters())
            convert_batchnorm(network, SINGLE_PROCESS)
            assert str(network) == modules
            convert_batchnorm(network, Distributed(ProcessRank(0, 2, 0)))
            after = network.state_dict()
            assert list(after) == list(before)
            assert all(value.data_ptr() == before[name].data_ptr() for name, value in after.items())
            assert all(
                one is other for one, other in zip(network.parameters(), weights, strict=True)
            )


def test_on_cuda_batchnorm_becomes_torchs_own_with_the_same_weights():
    with FakeTensorMode():  # there need not be a GPU
        network = nn.Sequential(nn.Conv2d(1, 2, 3, device="cuda"), nn.BatchNorm2d(2, device="cuda"))
        weights, names = list(network.parameters()), list(network.state_dict())
        convert_batchnorm(network, Distributed(ProcessRank(0, 2, 0)))
    assert isinstance(network[1], nn.SyncBatchNorm)
    assert list(network.state_dict()) == names
    assert all(one is other for one, other in zip(network.parameters(), weights, strict=True))


@pytest.mark.parametrize(
    ("settings", "size", "told"),
    [
        ({"batch_size": 64}, 3, "64 cannot be shared evenly by 3 processes; give 63 or 66"),
        ({"batch_size": 2}, 4, "2 cannot be shared evenly by 4 processes; give 4"),
        (
            {"batch_size": 8, "minibatch_deviation": True, "gan": "projection"},
            4,
            "groups of 4 for --minibatch-deviation cannot be shared by 4 processes; give a "
            "multiple of 16",
        ),
    ],
)
def test_a_batch_that_cannot_be_shared_is_refused_with_one_that_can(settings, size, told, images):
    config = TrainingConfig(dataset=images, device="cpu", **settings)
    with pytest.raises(UserError, match=told):
        runner.plan_run(config, distributed=Distributed(ProcessRank(0, size, 0)))
    assert runner.plan_run(config).distributed is SINGLE_PROCESS


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    fake_gpus(monkeypatch, [(8, 6), (8, 6)])
    assert Distributed(ProcessRank(5, 8, 1)).device("cuda") == torch.device("cuda", 1)
    assert Distributed(ProcessRank(5, 8, 1)).device("cpu") == CPU
    assert SINGLE_PROCESS.device("cuda") == torch.device("cuda", 0)
    with pytest.raises(UserError, match="give --nproc-per-node 2"):
        Distributed(ProcessRank(2, 4, 2)).device("cuda")
    with pytest.raises(
        UserError, match="--device cuda:1: give --device cuda, and each process takes"
    ):
        Distributed(ProcessRank(0, 2, 0)).device("cuda:1")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(UserError, match="--device mps"):
        Distributed(ProcessRank(0, 2, 0)).device("mps")


TORCHRUNS = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}


def test_the_place_is_torchruns(monkeypatch):
    for name in TORCHRUNS:
        monkeypatch.delenv(name, raising=False)
    assert this_process() == ProcessRank(0, 1, 0)
    for name, value in TORCHRUNS.items():
        monkeypatch.setenv(name, value)
    assert this_process() == ProcessRank(rank=5, world_size=8, local_rank=1)
    for name in TORCHRUNS:  # what a cluster's job leaves in a shell is no launcher's
        with monkeypatch.context() as patch:
            patch.delenv(name)
            assert this_process() == ProcessRank(0, 1, 0), name
    monkeypatch.setenv("RANK", "8")
    assert this_process() == ProcessRank(0, 1, 0)


SMALL = (
    "--gan",
    "cgan",
    "--width",
    4,
    "--batch-size",
    8,
    "--standing-batches",
    2,
    "--log-every",
    1,
)
SMALL += ("--device", "cpu", "--sync-batchnorm", "--snapshot-every", 1)


def torchrun_line(*arguments: object) -> list[str]:
    """`torchrun --nproc-per-node 2 run.py …` as a full command line."""
    start = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        str(ROOT / "run.py"),
    ]
    return [*start, *map(str, arguments)]


def torchrun(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        torchrun_line(*arguments),
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def told_by_us(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("musicspectrogan: ")]


@pytest.fixture(scope="module")
def alone(images, command, tmp_path_factory) -> Path:
    """Two epochs of two steps in one process."""
    folder = tmp_path_factory.mktemp("alone")
    command("run.py", "--dataset", images, *SMALL, "--epochs", 2, "--output", "run", cwd=folder)
    return folder / "run"


@pytest.fixture(scope="module")
def shared(images, tmp_path_factory) -> tuple[Path, str]:
    """The same in two processes, and what was said."""
    folder = tmp_path_factory.mktemp("shared")
    done = torchrun("--dataset", images, *SMALL, "--epochs", 2, "--output", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run", done.stderr


def files_of(run: Path) -> list[str]:
    names = (str(path.relative_to(run)) for path in run.rglob("*"))
    return sorted(name.partition("events.out.")[0] for name in names)


def assert_near_weights(first: Path, second: Path, steps: int) -> None:
    """Adam's first steps are as large as the learning rate however small the gradient is."""
    ours, theirs = weights_of(first), weights_of(second)
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        difference = (weight - theirs[name]).abs().double()
        assert difference.median() < 2e-6 + 1e-3 * weight.abs().double().median(), name
        if "running" not in name:
            assert difference.max() <= steps * 2 * 2e-4 * 1.01 + 1e-4 * weight.abs().max(), name


def test_two_processes_leave_what_one_leaves_and_say_it_once(shared, alone):
    run, told = shared
    assert files_of(run) == files_of(alone)
    assert (
        told.count("Training cgan on 16 images")
        == told.count("Done after 32 images (2 epochs)")
        == 1
    )
    assert told.count("[Epoch 2/2] [Batch 2/2]") == 1
    ours, theirs = metrics_of(run), metrics_of(alone)
    assert [row["images_seen"] for row in ours] == [row["images_seen"] for row in theirs]
    for row, other in zip(ours, theirs, strict=True):
        for name in ("loss_d", "loss_g", "d_real", "d_fake_before", "d_fake_after"):
            assert float(row[name] or 0) == pytest.approx(float(other[name] or 0), rel=1e-2)
    assert_near_weights(run, alone, steps=4)


def test_a_checkpoint_of_two_processes_makes_images(shared, command, tmp_path):
    run, _ = shared
    command(
        "-m", "musicspectrogan", "generate", "--checkpoint", run, "--count", 1, "--output", "made",
        cwd=tmp_path,
    )  # fmt: skip
    assert (tmp_path / "made" / "blues_seed0000.png").is_file()


def test_what_two_processes_began_one_goes_on_with(shared, alone, command, tmp_path):
    run = shutil.copytree(shared[0], tmp_path / "run")
    command(
        "run.py", "--resume", run / "checkpoints" / "epoch_0001.pt", "--epochs", 2, cwd=tmp_path
    )
    assert load_checkpoint(run).images_seen == 32
    assert_near_weights(run, alone, steps=4)


@contextmanager
def going_on(run: Path) -> Iterator[subprocess.Popen[str]]:
    """Two processes that go on with a run for long, as soon as they have come to epoch 4."""
    with subprocess.Popen(
        torchrun_line("--resume", run, "--epochs", 2000),
        cwd=run.parent,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        wait_for(run / "checkpoints" / "epoch_0004.pt", process)
        yield process


@pytest.mark.slow
def test_two_processes_go_on_with_what_one_began_and_stop_together(alone, command, tmp_path):
    """Ctrl-C in the middle, and both have stopped after the same step."""
    run = shutil.copytree(alone, tmp_path / "run")
    with going_on(run) as process:
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=60)[1]
    assert process.returncode != 0
    assert (
        len(told_by_us(told)) == 1 and "interrupted and saved after step" in told_by_us(told)[0]
    ), told
    checkpoint = load_checkpoint(run)
    assert f"after step {checkpoint.step};" in told and 8 <= checkpoint.step < 4000
    assert not list(run.rglob("*.tmp"))
    command("run.py", "--resume", run, "--epochs", checkpoint.epoch + 1, cwd=tmp_path)
    steps = [int(row["step"]) for row in metrics_of(run) if row["loss_d"]]
    assert steps == list(range(1, 2 * checkpoint.epoch + 3))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_when_a_process_is_killed_all_end_and_the_run_goes_on_from_its_last_checkpoint(
    rank, alone, command, tmp_path
):
    run = shutil.copytree(alone, tmp_path / "run")
    with going_on(run) as process:
        processes = {place_of(worker): worker for worker in workers_below(process.pid)}
        os.kill(processes[str(rank)], signal.SIGKILL)
        told = process.communicate(timeout=90)[1]
    assert process.returncode != 0
    assert not any(Path(f"/proc/{worker}").exists() for worker in processes.values())
    assert (
        told_by_us(told) == [] or "another process of this run has ended" in told_by_us(told)[0]
    ), told
    checkpoint = load_checkpoint(run)
    assert 3 <= checkpoint.epoch < 2000  # a kill may come before latest.pt is linked
    command("run.py", "--resume", run, "--epochs", checkpoint.epoch + 1, cwd=tmp_path)
    steps = [int(row["step"]) for row in metrics_of(run) if row["loss_d"]]
    assert steps == list(range(1, 2 * checkpoint.epoch + 3))


def place_of(pid: int) -> str:
    """RANK of a process that torchrun started."""
    variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(variable.split("=", 1) for variable in variables if "=" in variable).get("RANK", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--batch-size", 9), "9 cannot be shared evenly by 2 processes; give 8 or 10"),
        (("--output", "taken"), "--output taken is not empty"),  # which only the first process sees
    ],
)
def test_what_is_wrong_is_told_once(arguments, told, images, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    done = torchrun("--dataset", images, *SMALL, "--epochs", 1, *arguments, cwd=tmp_path)
    assert done.returncode != 0
    (line,) = told_by_us(done.stderr)
    assert told in line
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.slow
def test_a_dry_run_is_printed_once(images, tmp_path):
    done = torchrun("--dataset", images, *SMALL, "--epochs", 1, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("# processes: 2\n") == done.stdout.count("gan: cgan\n") == 1
    assert not list(tmp_path.iterdir())
