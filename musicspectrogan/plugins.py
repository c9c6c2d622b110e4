"""Models and dataset sources are modules found by name: a new file in their package is enough."""

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


class PluginError(UserError):
    """The code of a model or source fails; the text names the file and line."""


def module_names(package: ModuleType, shared: Container[str] = ()) -> list[str]:
    """Names of the package's modules except `shared`, sorted. Imports none of them."""
    names = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name for name in names if name not in shared)


def load_module(
    package: ModuleType,
    setting: str,
    name: str,
    required: Sequence[str],
    shared: Container[str] = (),
) -> ModuleType:
    """Import a module of the package.

    Args:
        setting: the flag that names it, for errors.
        required: names that the module must define.
        shared: modules of the package that cannot be chosen.

    Raises:
        UserError: there is no such module; the nearest name is suggested.
        PluginError: it cannot be imported, or does not define a required name.
    """
    check_choice(setting, name, module_names(package, shared))
    with plugin_errors(package, f"--{setting} {name}"):
        module = importlib.import_module(f"{package.__name__}.{name}")
    missing = [needed for needed in required if not hasattr(module, needed)]
    if missing:
        raise PluginError(
            f"--{setting} {name}: {module.__file__} does not define {', '.join(missing)}"
        )
    return module


@contextmanager
def plugin_errors(package: ModuleType, what: str) -> Iterator[None]:
    """Raise PluginError for an error in a module of the package, with its file and line.

    Args:
        what: what is being done; the error's text begins with it.
    """
    try:
        yield
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:
        if "torch" in sys.modules and _is_device_error(error):
            raise
        where = _location(error, package)
        raise PluginError(f"{what}: {type(error).__name__} in {where}") from error


def _is_device_error(error: Exception) -> bool:
    from musicspectrogan.device import describe_device_error  # loads torch, which is slow

    return describe_device_error(error) is not None


def _location(error: Exception, package: ModuleType) -> str:
    """`FILE, line N: message` of the innermost line in one of the package's files."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {' '.join(error.msg.split())}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if str(Path(frame.filename).parent) in package.__path__]
    frame = (own or frames)[-1]
    return f"{frame.filename}, line {frame.lineno}: {' '.join(str(error).split())}"
