"""Typed settings from dataclasses, YAML files and flags. Knows no stage of the pipeline.

A settings class is a frozen dataclass with a docstring line under each field. tyro makes the flags
from it; a YAML file is read as if its lines were flags, so both are checked by the same rules.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro
import yaml

from musicspectrogan.errors import UserError, did_you_mean

Settings = TypeVar("Settings")

# A file of settings is some fifty lines of `name: value`. More, deeper or shared is another kind of file, and
# reading such can take time and memory without end.
LARGEST_YAML_BYTES = 65536
DEEPEST_YAML = 8


def parse_flags(
    settings_class: type[Settings],
    arguments: Sequence[str],
    *,
    default: Settings | None = None,
    program: str | None = None,
) -> Settings:
    """Settings from command-line flags, kebab-case or with underscores.

    Args:
        default: what holds where no flag is given; None for the class's own defaults.
        program: name in the usage line of `--help`, which prints and exits.

    Raises:
        UserError: an unknown flag or a bad value.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                settings_class,
                args=list(arguments),
                default=default,
                prog=program,
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as exit_:
        if exit_.code in (0, None):
            raise
        raise UserError(_one_line(complaint.getvalue())) from None


def read_yaml(settings_class: type[Settings], path: Path) -> Settings:
    """Settings from a YAML file of `name: value` lines; the rest keep their defaults.

    Raises:
        UserError: no such file, no such mapping, an unknown key or a bad value; the file is named.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_YAML_BYTES + 1)
        text = content.decode("utf-8", "ignore" if len(content) > LARGEST_YAML_BYTES else "strict")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UserError(f"--config {path}: cannot be read: {reason}") from None
    if len(content) > LARGEST_YAML_BYTES:
        raise UserError(f"--config {path}: is too large for a file of settings")
    try:
        _refuse_elaborate(text)
        contents = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"--config {path} is not valid YAML: {' '.join(str(error).split())}") from None
    if contents is None:
        contents = {}
    if not isinstance(contents, dict):
        raise UserError(f"--config {path}: expected lines of the form `name: value`")
    allowed = [field.name for field in fields(settings_class)]
    arguments: list[str] = []
    for key, value in contents.items():
        if isinstance(value, int) and abs(value) > sys.maxsize:  # too long to be written out, perhaps
            raise UserError(f"--config {path}: {key} is too large a number")
        if key not in allowed:
            raise UserError(
                f"--config {path}: unknown key {key!r}{did_you_mean(str(key), allowed)}; "
                f"allowed are {', '.join(allowed)}"
            )
        if isinstance(value, (dict, list)):
            raise UserError(f"--config {path}: {key} takes a single value")
        if isinstance(value, str) and not _is_writable(value):
            raise UserError(f"--config {path}: {key} holds what is no text")
        arguments += _as_flag(key, value)
    try:
        return parse_flags(settings_class, arguments)
    except UserError as error:
        raise UserError(f"--config {path}: {error}") from None


def to_plain(settings: Any) -> dict[str, Any]:
    """The settings by name, as values that YAML, JSON and checkpoints hold: paths become text."""
    return {
        field.name: str(value) if isinstance(value, Path) else value
        for field in fields(settings)
        for value in [getattr(settings, field.name)]
    }


def from_plain(settings_class: type[Settings], values: object) -> Settings:
    """A dataclass from such values as JSON and checkpoints hold: the inverse of `to_plain` and `asdict`.

    What comes from a file is checked here once, names and types, and its ranges by the class itself.

    Raises:
        UserError: a name is unknown or missing, or a value is of another type or out of range.
    """
    if not isinstance(values, dict):
        raise UserError(f"{settings_class.__name__}: {type(values).__name__} in place of names and values")
    types = _types_of(settings_class)
    for name in values:
        if name not in types:
            raise UserError(f"{settings_class.__name__}: {str(name)[:40]!r} is unknown")
    for field in fields(settings_class):
        if field.name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise UserError(f"{settings_class.__name__}: {field.name} is missing")
    return settings_class(**{name: _typed(name, value, types[name]) for name, value in values.items()})


@lru_cache(maxsize=32)
def _types_of(settings_class: type) -> dict[str, Any]:
    return get_type_hints(settings_class)  # which reads the annotations anew each time


def _typed(name: str, value: object, kind: Any) -> Any:
    """The value as what an annotation names; UserError where it is of another type."""
    origin, kinds = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if value is None and type(None) in kinds:
            return None
        (kind,) = (one for one in kinds if one is not type(None))
        return _typed(name, value, kind)
    if origin is list and isinstance(value, list):
        return [_typed(name, item, kinds[0]) for item in value]
    if origin is dict and isinstance(value, dict):
        return {_typed(name, k, kinds[0]): _typed(name, v, kinds[1]) for k, v in value.items()}
    return from_plain(kind, value) if is_dataclass(kind) else _typed_alone(name, value, origin or kind)


def _typed_alone(name: str, value: object, kind: Any) -> Any:
    if isinstance(value, int) and abs(value) > sys.maxsize:
        raise UserError(f"{name}: is too large a number")
    if kind is Any:
        return value
    if kind is Path and isinstance(value, str) and _is_writable(value):
        return Path(value)
    if kind is float and type(value) is int:
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"{name}: {type(value).__name__} is the wrong type of value")
    return value


def to_yaml(settings: Any) -> str:
    """The settings as YAML that `read_yaml` takes, one line a field in their order."""
    return yaml.safe_dump(to_plain(settings), sort_keys=False, allow_unicode=True)


def check_at_least(settings: Any, **limits: float) -> None:
    """Raise UserError for a field below its limit; None is passed over."""
    for name, limit in limits.items():
        value = getattr(settings, name)
        if value is not None and not value >= limit:
            raise UserError(f"{name}: {value} is not allowed; it must be at least {limit}")


def _refuse_elaborate(text: str) -> None:
    """Raise ValueError for aliases, which may stand for any number of values, tags and deep nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        tagged = getattr(event, "tag", None) is not None
        if depth > DEEPEST_YAML or tagged or isinstance(event, yaml.AliasEvent):
            raise ValueError(
                "settings are lines of the form `name: value`, without aliases, tags and nesting"
            )


def _is_writable(text: str) -> bool:
    """Whether it can be told to the system, as a path for instance: no NUL, no half of a character."""
    return "\0" not in text and text.encode("utf-8", "ignore").decode("utf-8") == text


def check_within(settings: Any, **limits: tuple[float, float]) -> None:
    """Raise UserError for a field below the first or above the second of its limits."""
    for name, (least, most) in limits.items():
        value = getattr(settings, name)
        if not least <= value <= most:
            raise UserError(f"{name}: {value} is not allowed; it must be from {least} to {most}")


def _as_flag(key: str, value: object) -> list[str]:
    flag = "--" + key.replace("_", "-")
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    return [f"{flag}={value}"]


def _one_line(box: str) -> str:
    """What tyro's boxed complaint says, without the box, its title and the help texts."""
    rows = [row.strip(" \u2502") for row in box.splitlines() if "\u2502" in row]
    text = " ".join(row for row in rows if row.strip("\u2500 "))
    hint = re.search(r"Perhaps you meant: (--[\w-]+)", text)
    text = re.split(r"Argument helptext:|For full helptext|Perhaps you meant|Got errors:", text)[0]
    meant = f" (did you mean {hint[1]}?)" if hint else ""
    return f"{text.strip().rstrip('.')}{meant}; see {Path(sys.argv[0]).name} --help"
