"""The command line: each command's flags, logging, and one line and a status for what goes wrong."""

from __future__ import annotations

import errno
import logging
import signal
import sys
from collections.abc import Callable
from types import FrameType

from musicspectrogan import __version__
from musicspectrogan.config import parse_flags
from musicspectrogan.errors import Interrupted, UserError, check_choice

logger = logging.getLogger(__name__)

EXIT_DONE, EXIT_USER_ERROR, EXIT_INTERRUPTED = 0, 2, 130

# What the machine refuses and the user can mend: no room, no permission.
_MACHINE_ERRORS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG))


def preprocess(arguments: list[str], program: str) -> None:
    """music -> mel-spectrogram PNGs in class folders"""
    from musicspectrogan.data.preprocessing import PreprocessConfig, preprocess

    preprocess(parse_flags(PreprocessConfig, arguments, program=program))


COMMANDS: dict[str, Callable[[list[str], str], None]] = {
    command.__name__: command for command in (preprocess,)
}


def main(command: str | None = None) -> None:
    """Run a command with this process's arguments, and exit.

    Args:
        command: its name; None takes it from the first argument.
    """
    signal.signal(signal.SIGTERM, _as_keyboard_interrupt)
    _set_up_logging()
    try:
        sys.exit(_dispatch(command, sys.argv[1:]))
    except UserError as error:
        status = _complain(str(error), EXIT_USER_ERROR)
    except Interrupted as error:
        status = _complain(str(error), EXIT_INTERRUPTED)
    except KeyboardInterrupt:
        status = _complain("interrupted; the same command again goes on from here", EXIT_INTERRUPTED)
    except OSError as error:
        if error.errno not in _MACHINE_ERRORS:
            raise
        status = _complain(f"{error.filename or 'cannot write'}: {error.strerror}", EXIT_USER_ERROR)
    sys.exit(status)


def _dispatch(command: str | None, arguments: list[str]) -> int:
    if "--version" in arguments:
        print(f"musicspectrogan {__version__}")
        return EXIT_DONE
    program = sys.argv[0].rpartition("/")[2]
    if command is None:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(_overview())
            return EXIT_DONE
        command, *arguments = arguments
        check_choice("command", command, COMMANDS)
        program = f"musicspectrogan {command}"
    COMMANDS[command](arguments, program)
    return EXIT_DONE


def _overview() -> str:
    lines = [f"  {name:12} {command.__doc__}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: musicspectrogan COMMAND [--help] [flags]", "", *lines, "", "  --version"])


def _complain(message: str, status: int) -> int:
    print(f"musicspectrogan: {message}", file=sys.stderr)
    return status


def _as_keyboard_interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _set_up_logging() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    package = logging.getLogger("musicspectrogan")
    package.setLevel(logging.INFO)
    package.addHandler(handler)
    package.propagate = False
