"""What is said to the user when the input is at fault, and how near misses are named."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """The user's input is wrong. The text says, in one line, what is wrong and how to mend it.

    The command line prints it without a traceback and exits with status 2.
    """


class Interrupted(Exception):  # noqa: N818  (it is no error)
    """Ctrl-C or SIGTERM arrived and the work was saved; the text says how to go on. Exit status 130."""


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """`" (did you mean 'x'?)"` for the nearest allowed name, or an empty string when none is near."""
    near = difflib.get_close_matches(name, list(allowed), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def check_choice(what: str, value: str, allowed: Iterable[str]) -> None:
    """Raise UserError unless `value` is one of `allowed`."""
    allowed = list(allowed)
    if value not in allowed:
        raise UserError(f"{what}: {value!r} is not one of {', '.join(allowed)}{did_you_mean(value, allowed)}")
