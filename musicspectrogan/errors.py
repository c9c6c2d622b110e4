"""What is said to the user when the input is at fault, and how near misses are named."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# Line breaks, what a terminal obeys, what turns the direction of writing, and what is no Unicode.
UNPRINTABLE = r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_UNPRINTABLE = re.compile(f"[{UNPRINTABLE}]")


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
