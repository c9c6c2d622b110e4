"""Progress bars on a terminal and in notebooks, log lines elsewhere, which keep bars intact."""

from __future__ import annotations

import io
import logging
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from tqdm import tqdm

from musicspectrogan.errors import printable

if TYPE_CHECKING:
    Bar = tqdm[NoReturn]
else:
    Bar = tqdm

logger = logging.getLogger(__name__)  # for the bars' lines only; see `is_lasting`

SECONDS_BETWEEN_LINES = 10.0


class OneLineFormatter(logging.Formatter):
    """Formats each record as one line, even if it contains file names with line breaks."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's own name)
        """Format the record, and escape unprintable characters."""
        return printable(super().formatMessage(record))


class ConsoleHandler(logging.Handler):
    """Writes log lines to stderr above a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        tqdm.write(self.format(record), file=sys.stderr)


class _LoggingBar(Bar):
    """Logs its line instead of redrawing it, for log files and pipes."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if self.n:
            logger.info(msg or str(self))


class PacedBar(Bar):
    """A bar, where `shows_bars`, with pace, time left and values set by the caller."""

    def __init__(self, *, total: int, initial: int = 0) -> None:
        self.fields = {"pace": "", "left": "?", "values": ""}
        super().__init__(
            total=total,
            initial=initial,
            disable=not shows_bars(),
            dynamic_ncols=True,
            unit_scale=True,
            bar_format="{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} "
            "[{elapsed}<{left}, {pace}] {values}",
        )

    @property
    def format_dict(self) -> dict[str, Any]:
        """Values for `bar_format`."""
        return {**super().format_dict, **self.fields}

    def tell(self, position: int, **fields: str) -> None:
        """Move to a position and show `pace`, `left` and `values` there."""
        self.fields = fields
        self.update(position - self.n)


def shows_bars() -> bool:
    """Whether stderr can redraw a line: it is a terminal, or a notebook shows it."""
    return sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel.")


def is_lasting(record: logging.LogRecord) -> bool:
    """Whether a record belongs in a log file: a bar's lines do not."""
    return record.name != logger.name


def progress_bar(*, total: int, description: str, unit: str, **options: Any) -> Bar:
    """A tqdm bar with rate and time left; log lines where there are no bars."""
    if shows_bars():
        return tqdm(total=total, desc=description, unit=unit, dynamic_ncols=True, **options)
    return _LoggingBar(
        total=total,
        desc=description,
        unit=unit,
        file=io.StringIO(),  # discards the line break that tqdm writes at the end
        mininterval=SECONDS_BETWEEN_LINES,
        maxinterval=SECONDS_BETWEEN_LINES,
        bar_format="{desc}: {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]",
        **options,
    )
