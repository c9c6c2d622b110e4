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
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import tyro
import yaml

from musicspectrogan.errors import UserError, did_you_mean

Settings = TypeVar("Settings")


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
        contents = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UserError(f"--config {path}: cannot be read: {reason}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"--config {path} is not valid YAML: {' '.join(str(error).split())}") from None
    if contents is None:
        contents = {}
    if not isinstance(contents, dict):
        raise UserError(f"--config {path}: expected lines of the form `name: value`")
    allowed = [field.name for field in fields(settings_class)]
    arguments: list[str] = []
    for key, value in contents.items():
        if key not in allowed:
            raise UserError(
                f"--config {path}: unknown key {key!r}{did_you_mean(str(key), allowed)}; "
                f"allowed are {', '.join(allowed)}"
            )
        if isinstance(value, (dict, list)):
            raise UserError(f"--config {path}: {key} takes a single value")
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


def to_yaml(settings: Any) -> str:
    """The settings as YAML that `read_yaml` takes, one line a field in their order."""
    return yaml.safe_dump(to_plain(settings), sort_keys=False, allow_unicode=True)


def check_at_least(settings: Any, **limits: float) -> None:
    """Raise UserError for a field below its limit; None is passed over."""
    for name, limit in limits.items():
        value = getattr(settings, name)
        if value is not None and not value >= limit:
            raise UserError(f"{name}: {value} is not allowed; it must be at least {limit}")


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
