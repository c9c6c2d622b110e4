"""Charts that look the same wherever they are drawn: nothing that a user has set reaches them."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def load_matplotlib() -> ModuleType:
    """matplotlib, with no backend looked up: slow, and only pictures need it.

    A notebook's MPLBACKEND, which commands in it inherit, names a module that need not be there: an error.
    """
    backend = os.environ.pop("MPLBACKEND", None)  # matplotlib has no other way to ignore it
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    return matplotlib


@contextmanager
def chart(
    width: float, height: float, look: Mapping[str, Any] | None = None, **saving: Any
) -> Iterator[tuple[Figure, io.BytesIO]]:
    """A figure to draw on, and the file that holds it as PNG afterwards.

    Args:
        width: in inches, as `height`.
        look: settings that differ from matplotlib's own.
        saving: options of `Figure.savefig`.
    """
    matplotlib = load_matplotlib()
    from matplotlib.figure import Figure

    file = io.BytesIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(look or {})
        # A name in a script that the font lacks becomes boxes, here alone: a page's own text has it.
        warnings.filterwarnings("ignore", "Glyph")
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, file
        figure.savefig(file, format="png", **saving)
