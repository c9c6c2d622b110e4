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


class Interrupted(Exception):  # noqa: N818  (it is no error)
    """Ctrl-C or SIGTERM arrived and the work was saved; the text says how to go on. Exit status 130."""


def printable(text: str) -> str:
    """The text as one line that can be shown anywhere; `\\n`, `\\x1b` and the like stand for what cannot.

    Names of files and genres come from strangers: what is shown goes through here, once, where it is shown.
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """`" (did you mean 'x'?)"` for the nearest allowed name, or an empty string when none is near."""
    near = difflib.get_close_matches(name, list(allowed), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def check_choice(what: str, value: str, allowed: Iterable[str]) -> None:
    """Raise UserError unless `value` is one of `allowed`."""
    allowed = list(allowed)
    if value not in allowed:
        raise UserError(f"{what}: {value!r} is not one of {', '.join(allowed)}{did_you_mean(value, allowed)}")


def in_debugging() -> bool:
    """Whether whoever runs this wants tracebacks beside the one line: `python -X dev`, or PYTHONDEVMODE=1."""
    return sys.flags.dev_mode


def told_of_system(error: OSError) -> str:
    """What the operating system refused, of which file, in one line."""
    what = error.strerror or str(error) or type(error).__name__
    remedy = _REMEDIES.get(error.errno or 0)
    told = f"{what}; {remedy}" if remedy else what
    name = error.filename
    return told if name is None else f"{os.fsdecode(name) if isinstance(name, bytes) else name}: {told}"


def reason_of(error: BaseException) -> str:
    """Why something failed that nobody foresaw, in one line."""
    if isinstance(error, OSError):
        return told_of_system(error)
    first = (str(error).strip().splitlines() or [""])[0]
    return first if isinstance(error, UserError) else f"{type(error).__name__}: {first}".removesuffix(": ")


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
