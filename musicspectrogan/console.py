"""Logging, signals, and one line and an exit status for errors: the process of a command."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import threading
import time
import traceback
from types import FrameType

from musicspectrogan.errors import (
    Interrupted,
    UserError,
    describe_os_error,
    in_dev_mode,
    printable,
)
from musicspectrogan.launch import this_process
from musicspectrogan.progress import ConsoleHandler, OneLineFormatter

EXIT_DONE, EXIT_BUG, EXIT_USER_ERROR, EXIT_INTERRUPTED = 0, 1, 2, 130
LONGEST_MESSAGE = 2000
# After a failure of one process, torchrun ends the others within this time.
SECONDS_UNTIL_TORCHRUN_ENDS = 10.0


def set_up_process() -> None:
    """Set up logging and signals of a process that runs a command."""
    signal.signal(signal.SIGTERM, _raise_keyboard_interrupt)
    threading.excepthook = _report_failed_thread
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be Unicode
        sys.stdout.reconfigure(errors="backslashreplace")
    handler = ConsoleHandler()
    handler.setFormatter(OneLineFormatter("%(message)s"))
    package = logging.getLogger("musicspectrogan")
    package.setLevel(logging.INFO if this_process().rank == 0 else logging.ERROR)
    package.addHandler(handler)
    package.propagate = False
    # matplotlib warns about the folder of its font cache.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


def report_error(error: BaseException) -> int:
    """Print one line about the error that ended a command, and return the exit status.

    Raises:
        BaseException: the error itself, if it is a bug or an exit.
    """
    if isinstance(error, UserError):
        print_error(error.flag_message)
        return EXIT_USER_ERROR
    if isinstance(error, (Interrupted, KeyboardInterrupt)):
        if this_process().rank == 0:
            saved = error.flag_message if isinstance(error, Interrupted) else ""
            print_error(saved or "interrupted")
        return EXIT_INTERRUPTED
    if isinstance(error, BrokenPipeError):  # the reader of the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    if message := _system_message(error) or _device_message(error):
        if in_dev_mode():
            traceback.print_exception(error)
        print_error(message)
        return EXIT_USER_ERROR
    if isinstance(error, Exception) and _is_reported_elsewhere():
        return EXIT_BUG
    raise error


def print_error(message: str) -> None:
    """Print one line on stderr, unless another process of the same run does."""
    if _is_reported_elsewhere():
        return
    text = printable(message)
    if len(text) > LONGEST_MESSAGE:  # quotes something long: keep what is wrong and the remedy
        text = f"{text[: LONGEST_MESSAGE // 2]} … {text[-LONGEST_MESSAGE // 2 :]}"
    sys.stderr.write(f"musicspectrogan: {text}\n")


def _system_message(error: BaseException | None) -> str | None:
    """What the operating system refused, which the user can fix; None for other errors."""
    if isinstance(error, OSError) and (error.errno is not None or error.filename is not None):
        return describe_os_error(error)
    if isinstance(error, UnicodeEncodeError):
        remedy = "rename it" if error.encoding == "utf-8" else "set LC_ALL=C.UTF-8"
        return f"{error.object}: no name can be written like that in {error.encoding}; {remedy}"
    if isinstance(error, MemoryError) and "torch" not in sys.modules:
        return "the computer's memory is full; close other programs, or give fewer --jobs"
    return None


def _device_message(error: BaseException) -> str | None:
    """What to do about full memory or a GPU that fails; None for other errors."""
    if "torch" not in sys.modules:
        return None
    from musicspectrogan.device import describe_device_error

    return describe_device_error(error)


def _is_reported_elsewhere() -> bool:
    """Whether the first of several processes reports the error.

    Usually all of them fail in the same way, or because of one another. The first one reports it
    and torchrun ends the others; one that is still running after a while has failed alone.
    """
    if this_process().rank == 0:
        return False
    try:
        time.sleep(SECONDS_UNTIL_TORCHRUN_ENDS)
    except KeyboardInterrupt:
        return True
    return False


def _report_failed_thread(failure: threading.ExceptHookArgs) -> None:
    """Print the traceback of a thread, unless its error is one that the main thread reports.

    A thread that writes files, as TensorBoard's does, passes its error on.
    """
    if in_dev_mode() or _system_message(failure.exc_value) is None:
        threading.__excepthook__(failure)


def _raise_keyboard_interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
