"""Modules found by name: a new file in a package is a new choice, with nothing to register."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Container
from types import ModuleType

from musicspectrogan.errors import check_choice


def module_names(package: ModuleType, shared: Container[str] = ()) -> list[str]:
    """Names of the package's modules but those they share, sorted, without importing them."""
    names = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name for name in names if name not in shared)


def load_module(package: ModuleType, what: str, name: str, shared: Container[str] = ()) -> ModuleType:
    """Import the module of that name.

    Raises:
        UserError: there is none; the nearest name is offered.
    """
    check_choice(what, name, module_names(package, shared))
    return importlib.import_module(f"{package.__name__}.{name}")
