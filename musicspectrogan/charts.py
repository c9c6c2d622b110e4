"""Plots as PNG files, independent of matplotlib settings of the user."""

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
    """Import matplotlib, which is slow, only when a plot is drawn, and without loading a backend.

    MPLBACKEND, which commands in a notebook inherit, may name a module that is not installed.
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
    width: float, height: float, style: Mapping[str, Any] | None = None, **save_options: Any
) -> Iterator[tuple[Figure, io.BytesIO]]:
    """Create a figure, and a file that holds it as PNG when the context ends.

    Args:
        width, height: in inches.
        style: matplotlib's rcParams that differ from its defaults.
        save_options: arguments of `Figure.savefig`.
    """
    matplotlib = load_matplotlib()
    from matplotlib.figure import Figure

    file = io.BytesIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(style or {})
        # Characters that the font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph")
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, file
        figure.savefig(file, format="png", **save_options)
