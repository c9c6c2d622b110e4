"""Modules found by name: a new file in a package is a new choice, with nothing to register."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import traceback
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from musicspectrogan.errors import UserError, check_choice


def module_names(package: ModuleType, shared: Container[str] = ()) -> list[str]:
    """Names of the package's modules but those they share, sorted, without importing them."""
    names = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name for name in names if name not in shared)


class PluginError(UserError):
    """A plugin's own mistake; the text says in which file and line."""


def load_module(
    package: ModuleType, what: str, name: str, defined: Sequence[str], shared: Container[str] = ()
) -> ModuleType:
    """Import the module of that name.

    Args:
        what: the setting that names it.
        defined: what the module must define.

    Raises:
        UserError: there is none; the nearest name is offered.
        PluginError: it cannot be imported, or lacks a name.
    """
    check_choice(what, name, module_names(package, shared))
    with blamed_on_plugin(package, f"--{what} {name}"):
        module = importlib.import_module(f"{package.__name__}.{name}")
    missing = [wanted for wanted in defined if not hasattr(module, wanted)]
    if missing:
        raise PluginError(f"--{what} {name}: {module.__file__} defines no {', no '.join(missing)}")
    return module


@contextmanager
def blamed_on_plugin(package: ModuleType, what: str) -> Iterator[None]:
    """Raise PluginError for an error inside, with the file and line of the package that led to it.

    Args:
        what: what is being tried, to begin the text with.
    """
    try:
        yield
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:
        if "torch" in sys.modules and _is_of_device(error):
            raise
        raise PluginError(f"{what}: {type(error).__name__} in {_place(error, package)}") from error


def _is_of_device(error: Exception) -> bool:
    from musicspectrogan.device import (
        told_in_one_line,  # torch: slow, and here only where it is loaded
    )

    return told_in_one_line(error) is not None


def _place(error: Exception, package: ModuleType) -> str:
    """`FILE, line N: message`, of the innermost line in one of the package's files."""
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {text}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if str(Path(frame.filename).parent) in package.__path__]
    frame = (own or frames)[-1]
    return f"{frame.filename}, line {frame.lineno}: {text}"
