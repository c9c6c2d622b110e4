"""Typed settings from dataclasses and YAML files. Knows no stage of the pipeline.

A settings class is a frozen dataclass with a docstring under each field. Its fields are the keys of
a YAML file and the flags of a command (`flags.py`); `read_text` reads the values of both.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from functools import cache, wraps
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from musicspectrogan.errors import (
    SettingError,
    UserError,
    did_you_mean,
    named_as_in_python,
    nearest_setting,
)
from musicspectrogan.filesystem import expand_home

Settings = TypeVar("Settings")

# A settings file has some fifty lines of `name: value`. A larger or deeper one is something else,
# and could take unlimited time and memory to read.
LARGEST_YAML_BYTES = 65536
DEEPEST_YAML = 8

# Names that older versions gave to models and recipes, which commands and runs may still use.
OLD_NAMES = {
    "gan": {
        "unconditional": "stable_gan",
        "projection": "stable_cgan",
        "anylength": "anylength_cgan",
        "anylength_unconditional": "anylength_gan",
    },
    "config": {
        "dcgan-best": "unconditional-best",
        "dcgan-best-128": "unconditional-best-128",
    },
}

# The recipes: inside the package when installed, next to it in a checkout.
RECIPES = (Path(__file__).parent / "configs", Path(__file__).parents[1] / "configs")

_DESCRIPTIONS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    list: "a list",
    dict: "names and values",
}


def config_file(path: Path) -> Path:
    """Find the file named by `--config`: as given, in configs/, or a recipe; `.yaml` is optional.

    Raises:
        UserError: there is no such file.
    """
    recipes = next(folder for folder in RECIPES if folder.is_dir() or folder == RECIPES[-1])
    names = [path.name, f"{path.name}.yaml"]
    if renamed := OLD_NAMES["config"].get(path.name.removesuffix(".yaml")):
        names.append(f"{renamed}.yaml")
    folders = [path.parent, "configs" / path.parent]
    if path.parent in (Path(), Path("configs")):
        folders.append(recipes)
    for file in (folder / name for folder in folders for name in names):
        if file.is_file():
            return file
    if path.exists():
        return path
    known = sorted(file.stem for file in recipes.glob("*.yaml"))
    near = did_you_mean(path.stem, known)
    raise UserError(f"--config {path}: there is no such file{near}; recipes are {', '.join(known)}")


def read_yaml(settings_class: type[Settings], path: Path) -> Settings:
    """Read settings from a YAML file of `name: value` lines; the others keep their defaults.

    Raises:
        UserError: unreadable or no such mapping, an unknown key or a bad value; names the file.
    """
    try:
        contents = _load_yaml(path)
        types = types_of(settings_class)
        for key in contents:
            if key not in types:
                near = nearest_setting(str(key), types)
                hint = f" (did you mean {near!r}?)" if near else "; --help lists the settings"
                raise UserError(f"unknown key {key!r}{hint}")
        return settings_class(
            **{key: _from_yaml(key, value, types[key]) for key, value in contents.items()}
        )
    except UserError as error:
        raise UserError(f"--config {path}: {error}") from None


def _load_yaml(path: Path) -> dict[Any, Any]:
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_YAML_BYTES + 1)
        if len(content) > LARGEST_YAML_BYTES:
            raise UserError("the file is too large for settings")
        text = content.decode("utf-8")
        _check_plain_yaml(text)
        contents = yaml.safe_load(text)
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError("cannot be read: it is not a text file") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"not valid YAML: {' '.join(str(error).split())}") from None
    if contents is not None and not isinstance(contents, dict):
        raise UserError("expected lines of the form `name: value`")
    return contents or {}


def _check_plain_yaml(text: str) -> None:
    """Raise ValueError for aliases, which can expand without limit, tags and deep nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        is_tagged = getattr(event, "tag", None) is not None
        if depth > DEEPEST_YAML or is_tagged or isinstance(event, yaml.AliasEvent):
            raise ValueError(
                "settings are lines of the form `name: value`, without aliases, tags and nesting"
            )


def _from_yaml(name: str, value: object, annotation: Any) -> Any:
    if isinstance(value, (dict, list)):
        raise SettingError(name, "expected a single value")
    if isinstance(value, int):
        _check_size(name, value)  # also because a longer number cannot be converted to text
    if isinstance(value, bool) and annotation is not bool:
        raise SettingError(name, f"{value} is not {describe_type(annotation)}")
    try:
        return read_text(str(value), annotation)
    except ValueError as error:
        raise SettingError(name, str(error)) from None


def read_text(text: str, annotation: Any) -> Any:
    """Read the text of a flag or a YAML value as the type of a setting.

    Args:
        annotation: str, int, float, bool, Path, a Literal of words, a tuple of any length or a
            union of these, where `None` is written `None`; `Annotated[type, function]` has a
            function of its own that reads the text.

    Raises:
        ValueError: the text is not of this type. The message quotes it and says what is expected.
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return args[1](text)
    if text == "None" and NoneType in args:
        return None
    members = [member for member in args if member not in (NoneType, ...)]
    if origin is Literal:
        if text in args:
            return text
    elif len(members) == 1:
        return read_text(text, members[0])
    else:
        for kind in members or [annotation]:
            with suppress(ValueError):
                return _READERS[kind](text) if kind in _READERS else read_text(text, kind)
    raise ValueError(f"{text[:80]!r} is not {describe_type(annotation)}")


def _read_bool(text: str) -> bool:
    if text not in ("True", "False"):
        raise ValueError
    return text == "True"


def _read_str(text: str) -> str:
    if not _is_encodable(text):
        raise ValueError
    return text


def _read_path(text: str) -> Path:
    if "\0" in os.fsdecode(os.fsencode(text)):  # which also refuses half a character
        raise ValueError
    return expand_home(Path(text))  # names of files need not be Unicode


_READERS: dict[Any, Callable[[str], Any]] = {
    bool: _read_bool,
    int: int,
    float: float,
    str: _read_str,
    Path: _read_path,
}


def describe_type(annotation: Any) -> str:
    """What a setting of this type accepts, for messages: `a number or auto`."""
    if get_origin(annotation) is Annotated:
        return describe_type(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType, Literal):
        members = [member for member in get_args(annotation) if member is not NoneType]
        return " or ".join(m if isinstance(m, str) else describe_type(m) for m in members)
    kind = get_origin(annotation) or annotation
    return _DESCRIPTIONS.get(kind) or str(getattr(kind, "__name__", kind))


def read_fields(check: Callable[[Settings], None]) -> Callable[[Settings], None]:
    """Decorate the `__post_init__` of a settings class, so that scripts can make settings too.

    Text is read as in YAML, for instance paths and counts such as 100k. Where a flag takes a list
    as text, such as seeds, a list will do. Other values must have the type of their field. Errors
    name settings as in Python.
    """

    @wraps(check)
    @named_as_in_python()
    def read_and_check(settings: Settings) -> None:
        for name, annotation in types_of(type(settings)).items():
            value = _read_value(name, getattr(settings, name), annotation)
            object.__setattr__(settings, name, value)
        check(settings)

    return read_and_check


def _read_value(name: str, value: Any, annotation: Any) -> Any:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is tuple and isinstance(value, (list, tuple, str)):
        items = [value] if isinstance(value, str) else value
        return tuple(_read_value(name, item, args[0]) for item in items)
    if isinstance(value, Real) and not isinstance(value, (bool, int, float)):  # NumPy's
        value = int(value) if isinstance(value, Integral) else float(value)
    if isinstance(annotation, type) and is_dataclass(annotation) and isinstance(value, annotation):
        return value
    if isinstance(value, (list, tuple, range)) and str in (annotation, *args):
        return ",".join(map(str, value))  # as flags take it
    if isinstance(value, str) and str not in (annotation, *args):
        try:
            return read_text(value, annotation)
        except ValueError as error:
            raise SettingError(name, str(error)) from None
    return _checked(name, value, annotation)


def to_plain(settings: Any) -> dict[str, Any]:
    """Return the settings by name as values for YAML, JSON and checkpoints: paths become text."""
    values = {item.name: getattr(settings, item.name) for item in fields(settings)}
    return {k: str(value) if isinstance(value, Path) else value for k, value in values.items()}


def to_yaml(settings: Any) -> str:
    """Return the settings as YAML that `read_yaml` reads, one line per field in their order."""
    return yaml.safe_dump(to_plain(settings), sort_keys=False, allow_unicode=True)


def from_plain(settings_class: type[Settings], values: object) -> Settings:
    """Make a dataclass from values of JSON or a checkpoint: the inverse of `to_plain`, `asdict`.

    Checks names and types of what comes from a file; the class itself checks ranges.

    Raises:
        UserError: a name is unknown or missing, or a value has another type or is out of range.
    """
    title = settings_class.__name__
    if not isinstance(values, dict):
        raise UserError(f"{title}: expected names and values, not {type(values).__name__}")
    types = types_of(settings_class)
    for name in values:
        if name not in types:
            raise UserError(f"{title}: {str(name)[:40]!r} is unknown")
    for item in fields(settings_class):  # type: ignore[arg-type]  # a dataclass, as documented
        is_required = item.default is MISSING and item.default_factory is MISSING
        if is_required and item.name not in values:
            raise UserError(f"{title}: {item.name} is missing")
    return settings_class(
        **{name: _checked(name, value, types[name]) for name, value in values.items()}
    )


def _checked(name: str, value: Any, annotation: Any) -> Any:  # noqa: PLR0911  (one per kind)
    """Return the value as the annotated type. Raise SettingError if it has another type."""
    origin, args = get_origin(annotation), get_args(annotation)
    kind = origin or annotation
    if isinstance(value, int):
        _check_size(name, value)
    if origin is Annotated:
        return _checked(name, value, args[0])
    if origin in (Union, UnionType):
        for member in args:
            with suppress(UserError):
                return _checked(name, value, member)
    elif annotation is Any or (origin is Literal and value in args):
        return value
    elif isinstance(annotation, type) and is_dataclass(annotation):
        return from_plain(annotation, value)
    elif annotation is Path and isinstance(value, str) and _is_encodable(value):
        return Path(value)
    elif annotation is float and type(value) is int:
        return float(value)
    elif origin is list and isinstance(value, list):
        return [_checked(name, item, args[0]) for item in value]
    elif origin is dict and isinstance(value, dict):
        return {_checked(name, k, args[0]): _checked(name, v, args[1]) for k, v in value.items()}
    elif (kind is bool) == isinstance(value, bool) and _is_instance(value, kind):
        return value
    is_scalar = isinstance(value, (str, bool, int, float, NoneType))
    found = f"{value!r:.80}" if is_scalar else type(value).__name__
    raise SettingError(name, f"{found} is not {describe_type(annotation)}")


def _is_instance(value: object, kind: object) -> bool:
    return isinstance(kind, type) and isinstance(value, kind)


def check_at_least(settings: Any, **limits: float) -> None:
    """Raise SettingError for a field below its limit; None is allowed."""
    for name, limit in limits.items():
        value = getattr(settings, name)
        if value is not None and not value >= limit:
            raise SettingError(name, f"{value} is not allowed; it must be at least {limit}")


def check_within(settings: Any, **limits: tuple[float, float]) -> None:
    """Raise SettingError for a field outside its limits, which are allowed; None is allowed."""
    for name, (least, most) in limits.items():
        value = getattr(settings, name)
        if value is not None and not least <= value <= most:
            raise SettingError(name, f"{value} is not allowed; it must be from {least} to {most}")


def types_of(settings_class: type) -> dict[str, Any]:
    """Return the type of each field, resolved from its annotation."""
    return _resolved_types(settings_class, include_extras=True)


_resolved_types = cache(get_type_hints)


def _check_size(name: str, number: int) -> None:
    if abs(number) > sys.maxsize:
        raise SettingError(name, "the number is too large")


def _is_encodable(text: str) -> bool:
    """Whether the system takes it, for instance as a path: no NUL, no unpaired surrogates."""
    return "\0" not in text and text.encode("utf-8", "ignore").decode("utf-8") == text
