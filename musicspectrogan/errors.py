"""What is said to the user when something is at fault, and how near misses are named."""

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

# Line breaks, what a terminal obeys, what turns the direction of writing, and what is no Unicode.
UNPRINTABLE = r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_UNPRINTABLE = re.compile(f"[{UNPRINTABLE}]")


# Settings, and what other tools call them. Of those that share a word, the first that a command has is meant.
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


# A disk that is full ends the work: what comes next would not fit either, and nothing is lost.
_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})
# The same, and how many files may be open, are told with their remedy.
_REMEDIES = {
    errno.EMFILE: "raise the limit with `ulimit -n 4096`",
    errno.ENFILE: "close other programs",
    errno.ENOMEM: "close other programs",
}

_told: set[str] = set()


class UserError(Exception):
    """The user's input is wrong. The text says, in one line, what is wrong and how to mend it.

    The command line prints it without a traceback and exits with status 2.
    """


class SettingError(UserError):
    """A setting has a value that is not allowed.

    The text begins with the setting's name as Python and YAML write it; `as_flag` is the same for who gave
    a flag.
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.as_flag = f"{flag_of(name)}: {problem}"


class Interrupted(Exception):  # noqa: N818  (it is no error)
    """Ctrl-C or SIGTERM arrived and the work was saved; the text says how to go on. Exit status 130."""


def printable(text: str) -> str:
    """The text as one line that can be shown anywhere; `\\n`, `\\x1b` and the like stand for what cannot.

    Names of files and genres come from strangers: what is shown goes through here, once, where it is shown.
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def flag_of(name: str) -> str:
    """`--batch-size` for the setting `batch_size`."""
    return name if name.startswith("--") else "--" + name.replace("_", "-")


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """`" (did you mean 'x'?)"` for the nearest allowed name, or an empty string when none is near."""
    near = difflib.get_close_matches(name, list(allowed), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def setting_meant(name: str, settings: Iterable[str]) -> str | None:
    """The setting that somebody means who calls it so: by the words of other tools, else the nearest."""
    settings = list(settings)
    plain = name.lower().replace("-", "_")
    usual = [setting for setting, names in USUAL_NAMES.items() if plain in names.split()]
    meant = [setting for setting in usual if setting in settings]
    return next(iter(meant or difflib.get_close_matches(plain, settings, n=1)), None)


def not_one_of(value: str, allowed: Iterable[str]) -> str:
    """`'x' is not one of …`, with the nearest of them."""
    allowed = list(allowed)
    return f"{value!r} is not one of {', '.join(allowed)}{did_you_mean(value, allowed)}"


def check_choice(setting: str, value: str, allowed: Iterable[str]) -> None:
    """Raise SettingError unless `value` is one of `allowed`."""
    allowed = list(allowed)
    if value not in allowed:
        raise SettingError(setting, not_one_of(value, allowed))


def in_debugging() -> bool:
    """Whether whoever runs this wants tracebacks beside the one line: `python -X dev`, or PYTHONDEVMODE=1."""
    return sys.flags.dev_mode


def told_of_system(error: OSError) -> str:
    """What the operating system refused, of which file, in one line."""
    what = error.strerror or str(error) or type(error).__name__
    remedy = _REMEDIES.get(error.errno or 0)
    told = f"{what}; {remedy}" if remedy else what
    name = error.filename
    return (
        told
        if name is None
        else f"{os.fsdecode(name) if isinstance(name, bytes) else name}: {told}"
    )


def reason_of(error: BaseException) -> str:
    """Why something failed that nobody foresaw, in one line."""
    if isinstance(error, OSError):
        return told_of_system(error)
    first = (str(error).strip().splitlines() or [""])[0]
    return (
        first
        if isinstance(error, UserError)
        else f"{type(error).__name__}: {first}".removesuffix(": ")
    )


@contextmanager
def spared(what: str) -> Iterator[None]:
    """Go on without something that nothing else needs where it fails, for whatever reason, with a warning.

    Args:
        what: is lost; for the warning.

    Raises:
        OSError: the disk is full.
        Interrupted: as it was raised.
    """
    try:
        yield
    except Interrupted:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise
        told = f"No {what} ({reason_of(error)}); everything else goes on"
        if told not in _told:  # what fails at one snapshot mostly fails at them all
            _told.add(told)
            logger.warning("%s", told, exc_info=in_debugging())
