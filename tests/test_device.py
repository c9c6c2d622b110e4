"""Choice of the device, its arithmetic, and messages for its errors."""

from __future__ import annotations

import logging
import sys

import pytest
import torch
from gpus import fake_gpus

from musicspectrogan import cli
from musicspectrogan.device import (
    arithmetic,
    check_precision,
    choose_device,
    describe_device_error,
    is_from_device,
    missing_kernels,
    repeatable,
)
from musicspectrogan.errors import UserError
from musicspectrogan.training import runner
from musicspectrogan.training.batches import Batches
from musicspectrogan.training.trainer import Trainer

# What PyTorch's CUDA 13 builds have kernels for.
CUDA_13 = "sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"


@pytest.mark.parametrize(
    ("capability", "kernels", "runs"),
    [
        ((6, 1), CUDA_13, False),  # GTX 1050 Ti
        ((7, 0), CUDA_13, False),
        ((7, 5), CUDA_13, True),
        ((8, 9), CUDA_13, True),  # by the binary for 8.6
        ((12, 1), CUDA_13, True),
        ((13, 0), CUDA_13, False),
        ((13, 0), f"{CUDA_13} compute_120", True),  # by PTX
        ((7, 0), f"{CUDA_13} compute_120", False),
        ((6, 1), "sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90", True),
        ((8, 0), "sm_86", False),  # a binary is of no use to an older card
        ((9, 0), "sm_90a", True),
        ((9, 1), "sm_90a", False),
        ((10, 3), "sm_100f", True),
        ((12, 0), "sm_100f", False),
        ((6, 1), "gfx90a", False),
    ],
)
def test_a_gpu_is_usable_where_pytorch_has_kernels_for_it(monkeypatch, capability, kernels, runs):
    fake_gpus(monkeypatch, [capability], kernels)
    trouble = missing_kernels(0)
    assert (trouble is None) == runs
    if not runs:
        assert (
            f"has no kernels for the Card 0 (compute capability {capability[0]}.{capability[1]}"
            in trouble
        )
        assert ("whl/cu126" in trouble) == (capability < (7, 5))


def test_a_build_for_rocm_or_without_a_list_is_not_judged(monkeypatch):
    fake_gpus(monkeypatch, [(9, 0)], "")
    assert missing_kernels(0) is None
    fake_gpus(monkeypatch, [(9, 0)], "gfx90a gfx1100")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert missing_kernels(0) is None


def test_an_old_card_is_passed_over_by_auto_and_refused_by_name(monkeypatch, caplog):
    fake_gpus(monkeypatch, [(6, 1)])
    monkeypatch.setattr(logging.getLogger("musicspectrogan"), "propagate", True)
    assert choose_device("auto") == torch.device("cpu")
    (record,) = caplog.records
    assert record.getMessage().startswith("Computing on the CPU: --device cuda: PyTorch")
    assert "has no kernels for the Card 0" in record.getMessage()
    assert "\n" not in record.getMessage()
    for name in ("cuda", "cuda:0"):
        with pytest.raises(
            UserError, match=r"has no kernels for the Card 0.*pip install"
        ) as refused:
            choose_device(name)
        assert "\n" not in str(refused.value)


def test_the_first_usable_card_is_taken_and_made_the_current_one(monkeypatch):
    chosen = fake_gpus(monkeypatch, [(6, 1), (8, 6), (12, 0)])
    for name, number in (("auto", 1), ("cuda", 1), ("cuda:1", 1), ("cuda:2", 2)):
        assert choose_device(name) == torch.device("cuda", number)
        assert chosen.pop() == number
    with pytest.raises(
        UserError, match="--device cuda:3: this machine has 3 GPUs, numbered from 0"
    ):
        choose_device("cuda:3")


def test_bfloat16_wants_ampere(monkeypatch, images):
    fake_gpus(monkeypatch, [(7, 5), (8, 0)])
    for precision in ("float32", "tf32"):
        check_precision(precision, torch.device("cuda", 0))
    check_precision("bfloat16", torch.device("cuda", 1))
    check_precision("bfloat16", torch.device("cpu"))
    config = runner.TrainingConfig(dataset=images, device="cuda:0", precision="bfloat16")
    with pytest.raises(UserError, match="--precision bfloat16: the Card 0 is older than Ampere"):
        runner.plan_run(config)


@pytest.mark.parametrize(
    "name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "CUDA", "", "cpu:0", "cuda:1:2"]
)
def test_names_that_no_device_has(name):
    with pytest.raises(UserError, match=r"device: .* is not one of auto, cuda, mps, cpu, cuda:N"):
        choose_device(name)


@pytest.mark.parametrize("command_name", ["train", "generate", "evaluate"])
def test_every_command_checks_the_name_of_the_device(command, command_name, tmp_path):
    done = command(
        "-m", "musicspectrogan", command_name, "--device", "cudo", cwd=tmp_path, status=2
    )
    assert (
        "device: 'cudo' is not one of auto, cuda, mps, cpu, cuda:N (did you mean 'cuda'?)"
        in done.stderr
    )


def flags():
    cudnn = torch.backends.cudnn
    return (
        cudnn.allow_tf32,
        torch.backends.cuda.matmul.allow_tf32,
        cudnn.benchmark,
        cudnn.deterministic,
    )


def test_float32_is_float32_and_everything_is_put_back():
    before = flags()
    for precision, tf32 in (("float32", False), ("tf32", True), ("bfloat16", False)):
        with arithmetic(precision):
            assert flags() == (tf32, tf32, True, False)
        assert flags() == before
    with pytest.raises(KeyError), repeatable():
        assert flags() == (False, False, False, True)
        assert torch.are_deterministic_algorithms_enabled()
        raise KeyError
    assert flags() == before
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("precision", "tf32"), [("float32", False), ("tf32", True), ("bfloat16", False)]
)
def test_training_computes_in_the_precision_that_was_asked_for(
    monkeypatch, images, tmp_path, precision, tf32
):
    seen = []
    monkeypatch.setattr(
        Trainer, "train", lambda trainer, *_: seen.append((flags(), trainer.step.bfloat16))
    )
    config = runner.TrainingConfig(dataset=images, width=2, device="cpu", precision=precision)
    runner.train(runner.plan_run(config, tmp_path / "run"))
    assert seen == [((tf32, tf32, True, False), precision == "bfloat16")]


def run_in_process(monkeypatch, capsys, *arguments):
    """A command's exit status and what it said last."""
    monkeypatch.setattr(sys, "argv", ["musicspectrogan", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, capsys.readouterr().err.splitlines()[-1]


def fails(error):
    def call(*_, **__):
        raise error

    return call


ACCELERATOR_ERROR = getattr(torch, "AcceleratorError", RuntimeError)  # from 2.8 on
OUT_OF_MEMORY = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has …\nmore"
)
FULL = "musicspectrogan: the GPU's memory is full; close other programs that use it, or give "


@pytest.mark.parametrize(
    ("place", "command_name"),
    [
        ("musicspectrogan.training.building.AdversarialStep", "train"),
        ("musicspectrogan.training.batches.Batches.__init__", "train"),
        ("musicspectrogan.training.batches.Batches.epoch", "train"),
        ("musicspectrogan.training.trainer.Trainer._snapshot", "train"),
        ("musicspectrogan.generation.sampler.Sampler.__init__", "generate"),
        ("musicspectrogan.generation.sampler.Sampler.images", "generate"),
        ("musicspectrogan.evaluation.features.train_classifier", "evaluate"),
    ],
)
def test_full_memory_is_reported_in_one_line_wherever_it_occurs(
    place, command_name, trained, request
):
    monkeypatch, capsys, folder = (
        request.getfixturevalue(n) for n in ("monkeypatch", "capsys", "tmp_path")
    )
    monkeypatch.chdir(folder)
    monkeypatch.setattr(place, fails(OUT_OF_MEMORY))
    arguments = {
        "train": ("--dataset", request.getfixturevalue("images"), "--epochs", 1, "--width", 2),
        "generate": ("--checkpoint", trained, "--count", 1),
        "evaluate": ("--checkpoint", trained, "--samples", 50),
    }[command_name]
    output = folder / ("evaluation.json" if command_name == "evaluate" else "new")
    if command_name == "evaluate":  # the fixture's music is too little to judge by
        monkeypatch.setattr("musicspectrogan.evaluation.reference.MIN_IMAGES", 1)
        monkeypatch.setattr("musicspectrogan.evaluation.reference.MIN_TRACKS", 1)
    arguments += ("--device", "cpu", "--output", output)
    status, message = run_in_process(monkeypatch, capsys, command_name, *arguments)
    assert status == 2
    assert message.startswith(FULL)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OUT_OF_MEMORY, "the GPU's memory is full"),
        (RuntimeError("CUDA error: out of memory"), "the GPU's memory is full"),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"),
            "the GPU's memory is full",
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "the GPU's memory is full"),
        (
            RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"),
            "the GPU's memory is full",
        ),
        (
            RuntimeError("CUDA error: no kernel image is available\nmore"),
            "the GPU failed (CUDA error: no",
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "the GPU failed (cuDNN error"),
        (
            ACCELERATOR_ERROR("CUDA error: unspecified launch failure"),
            "the GPU failed (CUDA error: un",
        ),
        (
            RuntimeError("GET was unable to find an engine to execute this"),
            "the GPU failed (GET was unable",
        ),
        (MemoryError("Unable to allocate 9 GiB"), "the computer's memory is full"),
        (
            RuntimeError(
                "[enforce fail] DefaultCPUAllocator: not enough: you tried to allocate 99 bytes."
            ),
            "the computer's memory is full",
        ),
        (RuntimeError("CUDA error: device-side assert triggered"), None),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
        (ValueError("CUDA error: not one of PyTorch's"), None),
    ],
)
def test_device_errors_become_messages_with_a_remedy(error, message):
    line = describe_device_error(error)
    assert (line is None) == (message is None)
    if message:
        assert line.startswith(message)
        assert "\n" not in line
        assert "--device cpu" in line or "computer" in line


def test_a_gpu_that_fails_is_no_lost_process():
    from musicspectrogan.training.distributed import _lost_ranks_explained

    for error in (OUT_OF_MEMORY, RuntimeError("CUDA error: unspecified launch failure")):
        assert is_from_device(error)
        with pytest.raises(type(error), match="CUDA"), _lost_ranks_explained():
            raise error
    with (
        pytest.raises(UserError, match="another process of this run has ended"),
        _lost_ranks_explained(),
    ):
        raise RuntimeError(
            "[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4711"
        )


@pytest.mark.gpu
def test_float32_on_a_gpu_has_24_bits_of_mantissa_and_tf32_has_11():
    left, right = torch.randn(2, 1024, 1024, dtype=torch.float64)
    images, kernels = torch.randn(16, 64, 32, 32).double(), torch.randn(64, 64, 3, 3).double()
    for function, inputs in (
        (torch.matmul, (left, right)),
        (torch.nn.functional.conv2d, (images, kernels)),
    ):
        exact, errors = function(*inputs), {}
        for precision in ("float32", "tf32"):
            with arithmetic(precision):
                torch.backends.cudnn.benchmark = False  # which might find a float32 kernel faster
                got = function(*(part.float().cuda() for part in inputs)).cpu().double()
            errors[precision] = ((got - exact).norm() / exact.norm()).item()
        assert errors["float32"] < 1e-5
        if torch.cuda.get_device_capability() >= (8, 0):
            assert errors["tf32"] > 3 * errors["float32"]


@pytest.mark.gpu
def test_batches_and_samples_live_on_the_gpu_that_was_named(images):
    device = choose_device("cuda:0")
    assert torch.cuda.current_device() == 0
    batches = Batches(runner.load_dataset(images, split="all"), 4, device, 0)
    shown, labels = next(batches.epoch(0))
    assert shown.device == labels.device == device
