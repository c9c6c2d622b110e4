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
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro
import yaml
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from musicspectrogan.errors import SettingError, UserError, did_you_mean, flag_of, setting_meant

Settings = TypeVar("Settings")

# A file of settings is some fifty lines of `name: value`. More, deeper or shared is another kind of file, and
# reading such can take time and memory without end.
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

# The recipes: in the package where it is installed, beside it in a checkout.
RECIPES = (Path(__file__).parent / "configs", Path(__file__).parents[1] / "configs")


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
    see_help = f"; see {program or Path(sys.argv[0]).name} --help"
    if not {"-h", "--help"} & set(arguments):
        _refuse_unknown_flags(settings_class, arguments, see_help)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                settings_class,
                args=list(arguments),
                default=default,
                prog=program,
                config=(tyro.conf.OmitArgPrefixes,),
                registry=_FLAGS,
            )
    except SystemExit as exit_:
        if exit_.code in (0, None):
            raise
        raise UserError(_one_line(complaint.getvalue()) + see_help) from None


def config_file(path: Path) -> Path:
    """The file of settings that `--config` names: here, in configs/, or a recipe; `.yaml` may be left away.

    Raises:
        UserError: there is none.
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
        raise UserError(
            f"--config {path} is not valid YAML: {' '.join(str(error).split())}"
        ) from None
    if contents is None:
        contents = {}
    if not isinstance(contents, dict):
        raise UserError(f"--config {path}: expected lines of the form `name: value`")
    allowed = [field.name for field in fields(settings_class)]
    arguments: list[str] = []
    for key, value in contents.items():
        if (
            isinstance(value, int) and abs(value) > sys.maxsize
        ):  # too long to be written out, perhaps
            raise UserError(f"--config {path}: {key} is too large a number")
        if key not in allowed:
            meant = setting_meant(str(key), allowed)
            hint = f" (did you mean {meant!r}?)" if meant else "; --help lists the settings"
            raise UserError(f"--config {path}: unknown key {key!r}{hint}")
        if isinstance(value, (dict, list)):
            raise UserError(f"--config {path}: {key} takes a single value")
        if isinstance(value, str) and not _is_writable(value):
            raise UserError(f"--config {path}: {key} holds what is no text")
        arguments += _as_flag(key, value)
    try:
        return parse_flags(settings_class, arguments)
    except UserError as error:
        message = re.sub(r"^--([\w-]+)", lambda flag: flag[1].replace("-", "_"), str(error))
        raise UserError(f"--config {path}: {message.partition('; see ')[0]}") from None


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
        raise UserError(
            f"{settings_class.__name__}: {type(values).__name__} in place of names and values"
        )
    types = _types_of(settings_class)
    for name in values:
        if name not in types:
            raise UserError(f"{settings_class.__name__}: {str(name)[:40]!r} is unknown")
    for field in fields(settings_class):
        if (
            field.name not in values
            and field.default is MISSING
            and field.default_factory is MISSING
        ):
            raise UserError(f"{settings_class.__name__}: {field.name} is missing")
    return settings_class(
        **{name: _typed(name, value, types[name]) for name, value in values.items()}
    )


@lru_cache(maxsize=32)
def _types_of(settings_class: type) -> dict[str, Any]:
    return get_type_hints(settings_class)  # which reads the annotations anew each time


def _typed(name: str, value: object, kind: Any) -> Any:
    """The value as what an annotation names; UserError where it is of another type."""
    origin, kinds = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if value is None and type(None) in kinds:
            return None
        *others, kind = (one for one in kinds if one is not type(None))
        for other in others:
            with contextlib.suppress(UserError):
                return _typed(name, value, other)
        return _typed(name, value, kind)
    if origin is Literal:
        if value not in kinds or not isinstance(value, str):
            raise UserError(f"{name}: {value!r:.80} is not {' or '.join(kinds)}")
        return value
    if origin is list and isinstance(value, list):
        return [_typed(name, item, kinds[0]) for item in value]
    if origin is dict and isinstance(value, dict):
        return {_typed(name, k, kinds[0]): _typed(name, v, kinds[1]) for k, v in value.items()}
    return (
        from_plain(kind, value) if is_dataclass(kind) else _typed_alone(name, value, origin or kind)
    )


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
            raise SettingError(name, f"{value} is not allowed; it must be at least {limit}")


def _refuse_elaborate(text: str) -> None:
    """Raise ValueError for aliases, which may stand for any number of values, tags and deep nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(
            event, yaml.CollectionEndEvent
        )
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
        if value is not None and not least <= value <= most:
            raise SettingError(name, f"{value} is not allowed; it must be from {least} to {most}")


def _as_flag(key: str, value: object) -> list[str]:
    flag = "--" + key.replace("_", "-")
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    return [f"{flag}={value}"]


def _refuse_unknown_flags(settings_class: type, arguments: Sequence[str], see_help: str) -> None:
    """Raise UserError for a flag that is none, with the one that is meant."""
    settings = _names_in(settings_class)
    for argument in arguments:
        flag = argument.partition("=")[0]
        name = flag[2:].replace("-", "_")
        if not flag.startswith("--") or name in (
            "",
            "help",
            *settings,
            *(f"no_{name}" for name in settings),
        ):
            continue
        meant = setting_meant(name, settings)
        hint = f" (did you mean {flag_of(meant)}?)" if meant else ""
        raise UserError(f"unknown flag {flag}{hint}{see_help}")


def _names_in(settings_class: type) -> list[str]:
    """The names of all settings, also of those in a dataclass that is a field itself."""
    names: list[str] = []
    for name, kind in _types_of(settings_class).items():
        names += _names_in(kind) if is_dataclass(kind) else [name]
    return names


def _one_line(box: str) -> str:
    """What tyro's boxed complaint says, without the box, its title and the help texts."""
    rows = [row.strip(" \u2502") for row in box.splitlines() if "\u2502" in row]
    text = " ".join(row for row in rows if row.strip("\u2500 "))
    text = re.split(r"Argument helptext:|For full helptext|Perhaps you meant|Got errors:", text)[0]
    text = re.sub(r"^Error parsing (--[\w-]+)", r"\1", text.strip().rstrip("."))
    text = re.sub(
        r"invalid literal for int\(\) with base 10: (.*)", r"\1 is not a whole number", text
    )
    return re.sub(r"could not convert string to float: (.*)", r"\1 is not a number", text)


def _expanded(path: str) -> Path:
    """The path; a `~` at its beginning is the home directory, as it is in a shell."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no such user, or no home: the name of a file, then
        return Path(path)


def _rule_for_path(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    if info.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda given: _expanded(given[0]),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda value: [str(value)],
    )


def _rule_for_optional(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """`X | None` as X is shown; the word None stands for None."""
    kinds = [kind for kind in get_args(info.type) if kind is not type(None)]
    if get_origin(info.type) not in (Union, UnionType):
        return None
    if len(kinds) == 2 and kinds[0] is float and get_origin(kinds[1]) is Literal:
        return _number_or_word(get_args(kinds[1]), or_none=type(None) in get_args(info.type))
    if len(kinds) != 1:
        return None
    inner = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(kinds[0], info.markers))
    assert isinstance(inner, PrimitiveConstructorSpec), "settings are of types that tyro knows"
    return replace(
        inner,
        instance_from_str=lambda given: (
            None if given == ["None"] else inner.instance_from_str(given)
        ),
        is_instance=lambda value: value is None or inner.is_instance(value),
        str_from_instance=lambda value: (
            ["None"] if value is None else inner.str_from_instance(value)
        ),
    )


def _number_or_word(words: tuple[str, ...], *, or_none: bool) -> PrimitiveConstructorSpec:
    """`float | Literal["auto"]`, and with `or_none` also None."""

    def read(given: list[str]) -> float | str | None:
        if given[0] in words or (or_none and given == ["None"]):
            return None if given == ["None"] else given[0]
        try:
            return float(given[0])
        except ValueError:
            raise ValueError(f"{given[0]!r} is not a number or {' or '.join(words)}") from None

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="|".join(["FLOAT", *words]),
        instance_from_str=read,
        is_instance=lambda value: (
            type(value) in (int, float) or value in words or (or_none and value is None)
        ),
        str_from_instance=lambda value: [str(value)],
    )


def _rule_for_tuple(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """Any number of values."""
    if info.type_origin is not tuple or get_args(info.type)[1:] != (...,):
        return None
    inner = ConstructorRegistry.get_primitive_spec(
        PrimitiveTypeInfo.make(get_args(info.type)[0], info.markers)
    )
    assert isinstance(inner, PrimitiveConstructorSpec), "settings are of types that tyro knows"
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar=f"{inner.metavar} ...",
        instance_from_str=lambda given: tuple(inner.instance_from_str([one]) for one in given),
        is_instance=lambda value: isinstance(value, tuple) and all(map(inner.is_instance, value)),
        str_from_instance=lambda value: [
            text for one in value for text in inner.str_from_instance(one)
        ],
    )


# How values are read from flags, and shown in `--help`, where tyro's own way does not suit.
_FLAGS = ConstructorRegistry()
_FLAGS.primitive_rule(_rule_for_path)
_FLAGS.primitive_rule(_rule_for_tuple)
_FLAGS.primitive_rule(_rule_for_optional)
