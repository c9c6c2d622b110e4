"""Progress of long work: a bar on a terminal, a line now and then elsewhere, and log lines beside it."""

from __future__ import annotations

import io
import logging
import sys
from typing import Any

from tqdm import tqdm

from musicspectrogan.errors import printable

logger = logging.getLogger(__name__)  # of bars' lines alone, by which `is_lasting` tells them

SECONDS_BETWEEN_LINES = 10.0


class OneLineFormatter(logging.Formatter):
    """Each message on a line of its own, whatever names of files are in it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's own name)
        """The line."""
        return printable(super().formatMessage(record))


class ConsoleHandler(logging.Handler):
    """Log lines on stderr, written above a progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        tqdm.write(self.format(record), file=sys.stderr)


class _Lines(tqdm):
    """A tqdm that logs its line instead of redrawing it, for log files and pipes."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if self.n:
            logger.info(msg or str(self))


class PacedBar(tqdm):
    """A bar on a terminal, and nothing elsewhere, whose owner tells its pace, time left and some values."""

    def __init__(self, *, total: int, initial: int = 0) -> None:
        self.told = {"pace": "", "left": "?", "values": ""}
        super().__init__(
            total=total,
            initial=initial,
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
            unit_scale=True,
            bar_format="{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{left}, {pace}] {values}",
        )

    @property
    def format_dict(self) -> dict[str, Any]:
        """What the format may name."""
        return {**super().format_dict, **self.told}

    def tell(self, position: int, **told: str) -> None:
        """Move on to a position, with what is to be shown there: pace, left and values."""
        self.told = told
        self.update(position - self.n)


def is_lasting(record: logging.LogRecord) -> bool:
    """Whether a line is worth keeping in a log file: a bar's holds for the moment only."""
    return record.name != logger.name


def progress_bar(*, total: int, description: str, unit: str, **options: Any) -> tqdm:
    """A tqdm bar with rate and time left, which falls back to lines where stderr is no terminal."""
    if sys.stderr.isatty():
        return tqdm(total=total, desc=description, unit=unit, dynamic_ncols=True, **options)
    return _Lines(
        total=total,
        desc=description,
        unit=unit,
        file=io.StringIO(),  # for the line break that tqdm writes at the end
        mininterval=SECONDS_BETWEEN_LINES,
        maxinterval=SECONDS_BETWEEN_LINES,
        bar_format="{desc}: {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]",
        **options,
    )
