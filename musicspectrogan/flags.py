"""Command-line flags from settings classes, with their help texts."""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import cache
from itertools import pairwise
from types import NoneType
from typing import Annotated, Any, Literal, NoReturn, get_args, get_origin

from musicspectrogan.config import Settings, read_text, types_of
from musicspectrogan.errors import UserError, flag_of, nearest_setting

# `field(metadata=POSITIONAL)` takes a setting by its position instead of by a flag.
POSITIONAL = {"positional": True}


@dataclass(frozen=True)
class Setting:
    """One field of a settings class."""

    name: str
    type: Any
    default: Any
    """`dataclasses.MISSING` if it is required."""
    help: str
    """The docstring under the field, on one line."""
    is_positional: bool
    group: type
    """The class that it is a field of: the settings class, or one that is nested in it."""

    @property
    def flag(self) -> str:
        """As it is typed: `--batch-size`, or the name of a positional argument."""
        return self.name if self.is_positional else flag_of(self.name)

    @property
    def takes_many(self) -> bool:
        """Whether it takes any number of values."""
        return any(get_origin(kind) is tuple for kind in (self.type, *get_args(self.type)))

    @property
    def metavar(self) -> str:
        """What the help shows for its value."""
        return _metavar(self.type)


def settings_of(settings_class: type, default: Any = None) -> list[Setting]:
    """Return the settings of a class in their order, then those of nested classes.

    Args:
        default: an instance that has the defaults; None for the class's own.
    """
    own: list[Setting] = []
    nested: list[Setting] = []
    texts = documentation(settings_class)
    for item in fields(settings_class):
        value = item.default if item.default_factory is MISSING else item.default_factory()
        value = value if default is None else getattr(default, item.name)
        kind = types_of(settings_class)[item.name]
        if isinstance(kind, type) and is_dataclass(kind):
            nested += settings_of(kind, None if value is MISSING else value)
        else:
            text = texts.get(item.name, "")
            is_positional = "positional" in item.metadata
            own.append(Setting(item.name, kind, value, text, is_positional, settings_class))
    return own + nested


@cache
def documentation(settings_class: type) -> dict[str, str]:
    """Return the docstrings under the fields by name, and that of the class as "".

    Each is on one line. Read from the source: Python keeps none of fields, and none with -OO.
    """
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(settings_class))).body
    assert isinstance(definition, ast.ClassDef)
    texts = {"": ast.get_docstring(definition) or ""}
    for statement, text in pairwise(definition.body):
        if isinstance(statement, ast.AnnAssign) and isinstance(text, ast.Expr):
            texts[ast.unparse(statement.target)] = ast.literal_eval(text.value)
    return {name: " ".join(text.split()) for name, text in texts.items()}


def parse_flags(
    settings_class: type[Settings],
    arguments: Sequence[str],
    *,
    default: Settings | None = None,
    program: str | None = None,
) -> Settings:
    """Read settings from command-line flags, written with hyphens or underscores.

    Args:
        default: settings for flags that are not given; None for the defaults of the class.
        program: name in the usage line of `--help`, which prints and exits.

    Raises:
        UserError: an unknown flag or a bad value.
    """
    settings = settings_of(settings_class, default)
    parser = _Parser(settings_class, settings, program)
    # Accept underscores in flags, but keep those in the value after a `=`.
    arguments = [re.sub(r"^--[\w-]+", lambda flag: flag[0].replace("_", "-"), a) for a in arguments]
    parser.refuse_unknown_flags(arguments)
    return _with_values(settings_class, default, vars(parser.parse_intermixed_args(arguments)))


def _with_values(settings_class: type[Settings], default: Any, given: dict[str, Any]) -> Settings:
    """Make settings, also nested ones, from given values and defaults."""
    values: dict[str, Any] = {}
    for name, kind in types_of(settings_class).items():
        if isinstance(kind, type) and is_dataclass(kind):
            nested = None if default is None else getattr(default, name)
            values[name] = _with_values(kind, nested, given)
        elif name in given:
            values[name] = tuple(value) if isinstance(value := given[name], list) else value
    return settings_class(**values) if default is None else replace(default, **values)


class _Parser(argparse.ArgumentParser):
    """The parser of a settings class; it raises UserError where argparse would exit."""

    def __init__(self, settings_class: type, settings: list[Setting], program: str | None) -> None:
        super().__init__(
            prog=program,
            description=documentation(settings_class)[""],
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,  # so that only what is given is in the result
        )
        names = "".join(f" {item.metavar}" for item in settings if item.is_positional)
        self.usage = f"%(prog)s [flags]{names}"
        self.flags = {"--help"}
        add_to = {settings_class: self.add_argument}
        for item in settings:
            if item.group not in add_to:
                about = documentation(item.group)[""]
                add_to[item.group] = self.add_argument_group(description=about).add_argument
            self._add(item, add_to[item.group])

    def _add(self, item: Setting, add_argument: Callable[..., argparse.Action]) -> None:
        default = "" if item.default is MISSING else f" (default: {describe_default(item.default)})"
        options: dict[str, Any] = {"help": (item.help + default).replace("%", "%%")}
        if item.type is bool:
            options["action"] = argparse.BooleanOptionalAction
            self.flags.add(item.flag.replace("--", "--no-", 1))
        else:
            options |= {"type": _reader(item.type), "metavar": item.metavar}
            if item.takes_many:
                options["nargs"] = "+" if item.is_positional else "*"
        self.flags.add(item.flag)
        add_argument(item.flag, **options)

    def refuse_unknown_flags(self, arguments: Sequence[str]) -> None:
        """Raise UserError for an unknown flag, with the nearest one."""
        names = [flag[2:].replace("-", "_") for flag in self.flags if flag.startswith("--")]
        for argument in arguments:
            flag = argument.partition("=")[0]
            if re.match("--[^-]", flag) and flag not in self.flags:
                near = nearest_setting(flag[2:], names)
                hint = f" (did you mean {flag_of(near)}?)" if near else ""
                self.error(f"unknown flag {flag}{hint}")

    def error(self, message: str) -> NoReturn:
        """Raise UserError instead of exiting."""
        raise UserError(f"{message.removeprefix('argument ')}; see {self.prog} --help")


def _reader(kind: Any) -> Callable[[str], Any]:
    """Return a function that reads a setting's text and raises what argparse reports."""

    def read(text: str) -> Any:
        try:
            return read_text(text, kind)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def describe_default(value: Any) -> str:
    """Return a default as it is typed; an empty tuple is None."""
    return (" ".join(map(str, value)) or "None") if isinstance(value, tuple) else str(value)


def _metavar(kind: Any) -> str:
    args = get_args(kind)
    if get_origin(kind) in (Annotated, tuple):
        return _metavar(args[0])
    if get_origin(kind) is Literal:
        return "|".join(args)
    if args:
        return "|".join(_metavar(member) for member in args if member is not NoneType)
    return str(kind.__name__).upper()
