"""Errors and messages for users, with the nearest name for what is misspelt."""

from __future__ import annotations

import difflib
import errno
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

# Control characters, line and paragraph separators, changes of direction, and surrogates.
UNPRINTABLE = r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_UNPRINTABLE = re.compile(f"[{UNPRINTABLE}]")

# Settings, and their names in other tools. If several share a name, the first that a command has is
# suggested.
USUAL_NAMES = {
    "lr": "learning_rate lrate adam_lr",
    "beta1": "beta_1 b1",
    "beta2": "beta_2 b2",
    "batch_size": "batch bs bsize minibatch minibatch_size",
    "epochs": "epoch num_epochs n_epochs max_epochs niter",
    "images": "kimg num_images n_images total_images total_kimg length",
    "latent_dim": "latent_size latents z_dim nz",
    "width": "ngf ndf channels base_channels fmaps",
    "gan": "model arch architecture",
    "input": "data data_dir data_path dataroot input_dir in",
    "dataset": "data data_dir data_path dataroot input_dir",
    "output": "out outdir out_dir output_dir output_path save_dir logdir",
    "device": "gpu gpus cuda use_cuda cpu",
    "jobs": "workers num_workers n_jobs processes threads",
    "image_size": "img_size imsize resolution size",
    "sample_rate": "sr samplerate rate",
    "hop_length": "hop hop_size",
    "n_fft": "fft fft_size nfft win_length window_size",
    "f_min": "fmin",
    "f_max": "fmax",
    "precision": "amp fp16 bf16 mixed_precision",
    "seed": "manual_seed random_seed",
    "r1": "gamma r1_gamma",
    "augment": "aug augmentation ada",
    "snapshot_every": "snap save_every save_interval",
    "log_every": "log_interval",
    "ema_images": "ema ema_kimg",
    "checkpoint": "ckpt model network weights",
    "resume": "ckpt continue",
    "init_from": "weights network pretrained",
    "count": "n num n_samples num_samples number",
    "samples": "n num n_samples num_samples number",
    "genre": "class label style",
    "truncation": "psi trunc",
    "seconds": "duration length",
    "license": "licence",
}

# After these there is no point in continuing without the file: the next one fails too.
DISK_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})
_REMEDIES = {
    errno.EMFILE: "raise the limit with `ulimit -n 4096`",
    errno.ENFILE: "close other programs",
    errno.ENOMEM: "close other programs",
}

# In messages; `--no-cuda-graph` too.
_FLAG = re.compile(r"(?<![\w-])--([a-z][a-z0-9-]*)")
_QUOTED = re.compile(r"(`[^`]*`)")
_OFF_FLAG = re.compile(r"(?<![\w-])--no-([a-z][a-z0-9-]*)")

_warned: set[str] = set()


class ExpectedError(Exception):
    """What a command tells in one line in place of a traceback.

    The text names settings as flags; `named_as_in_python` changes that for scripts. Commands print
    `flag_message`, which always names flags.
    """

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.flag_message = text

    def _render_traceback_(self) -> list[str]:
        """What notebooks show: one line, as commands do. IPython calls it."""
        return [f"{type(self).__name__}: {printable(str(self))}"]


class UserError(ExpectedError):
    """The user's input is wrong. The text says in one line what is wrong and how to fix it.

    The command line prints it without a traceback and exits with status 2.
    """


class SettingError(UserError):
    """A setting has a value that is not allowed.

    The text begins with the setting's name as in Python and YAML; in `flag_message` it is the flag.
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.flag_message = f"{flag_of(name)}: {problem}"


class Interrupted(ExpectedError):  # noqa: N818  (not an error)
    """Ctrl-C or SIGTERM arrived and the work was saved; the text says how to continue.

    The command line exits with status 130.
    """


@contextmanager
def named_as_in_python() -> Iterator[None]:
    """Let errors for users name settings as in Python: `batch_size` in place of `--batch-size`.

    For what scripts call; also a decorator.
    """
    try:
        yield
    except ExpectedError as error:
        # What is in backticks is a command to type.
        parts = [p if p.startswith("`") else _in_python(p) for p in _QUOTED.split(str(error))]
        error.args = ("".join(parts),)
        raise


def _in_python(text: str) -> str:
    text = _OFF_FLAG.sub(lambda flag: f"{name_of_flag(flag[1])}=False", text)
    return _FLAG.sub(lambda flag: name_of_flag(flag[1]), text)


def printable(text: str) -> str:
    """Return the text as one line that is safe to print, with escapes such as `\\n` and `\\x1b`.

    Names of files and genres are untrusted: apply this once, where they are printed.
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def flag_of(name: str) -> str:
    """Return `--batch-size` for the setting `batch_size`."""
    return name if name.startswith("--") else "--" + name.replace("_", "-")


def name_of_flag(flag: str) -> str:
    """Return `batch_size` for `--batch-size`."""
    return flag.removeprefix("--").replace("-", "_")


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Return `" (did you mean 'x'?)"` with the nearest allowed name; empty if none is near."""
    near = difflib.get_close_matches(name, list(allowed), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def nearest_setting(name: str, settings: Iterable[str]) -> str | None:
    """Return the setting that other tools call by this name, or the one with the nearest name."""
    settings = list(settings)
    plain = name.lower().replace("-", "_")
    for setting, names in USUAL_NAMES.items():
        if setting in settings and plain in names.split():
            return setting
    return next(iter(difflib.get_close_matches(plain, settings, n=1)), None)


def not_one_of(value: str, allowed: Iterable[str]) -> str:
    """Return `'x' is not one of …`, with the nearest of them."""
    allowed = list(allowed)
    return f"{value!r} is not one of {', '.join(allowed)}{did_you_mean(value, allowed)}"


def check_choice(setting: str, value: str, allowed: Iterable[str]) -> None:
    """Raise SettingError unless `value` is one of `allowed`."""
    allowed = list(allowed)
    if value not in allowed:
        raise SettingError(setting, not_one_of(value, allowed))


def in_dev_mode() -> bool:
    """Whether to print tracebacks too: `python -X dev`, or PYTHONDEVMODE=1."""
    return sys.flags.dev_mode


def describe_os_error(error: OSError) -> str:
    """Return in one line what the operating system refused, and for which file."""
    reason = error.strerror or str(error) or type(error).__name__
    if remedy := _REMEDIES.get(error.errno or 0):
        reason = f"{reason}; {remedy}"
    name = error.filename
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    return reason if name is None else f"{name}: {reason}"


def describe_error(error: BaseException) -> str:
    """Return the reason of any error in one line."""
    if isinstance(error, OSError):
        return describe_os_error(error)
    first = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, UserError):
        return first
    return f"{type(error).__name__}: {first}".removesuffix(": ")


@contextmanager
def continue_on_error(what: str) -> Iterator[None]:
    """Log a warning and continue if something optional fails.

    Args:
        what: what is then missing, for the warning.

    Raises:
        OSError: the disk is full.
        Interrupted: unchanged.
    """
    try:
        yield
    except Interrupted:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise
        message = f"No {what} ({describe_error(error)}); everything else continues"
        if message not in _warned:  # once, even if it fails again at every snapshot
            _warned.add(message)
            logger.warning("%s", message, exc_info=in_dev_mode())
