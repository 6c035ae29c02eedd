"""Settings as YAML has them, checked and turned into the types of a dataclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hesrl.errors import UserError, one_line
from hesrl.safe_yaml import load_yaml

WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    NoneType: "null",
}


def settings_in_file(args_class: type, file: Path) -> dict[str, Any]:
    """Return the settings in a file of YAML.

    Args:
        args_class: The dataclass of the settings.
        file: A file of ``name: value``, or the ``config.yaml`` of a run, or the folder of a run.

    Raises:
        UserError: The file cannot be read, is no such file, or has a setting that is none or of
            another type.
    """
    if file.is_dir():
        file = file / "config.yaml"
    try:
        content = load_yaml(file.read_bytes())
    except OSError as error:
        raise UserError(f"--config {file}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"--config {file}: is not valid YAML: {error}") from error
    if isinstance(content, dict) and "format" in content:
        content = content.get("settings")
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise UserError(f"--config {file}: must be lines of 'name: value', such as 'gamma: 0.99'")
    given = {name.replace("-", "_"): value for name, value in content.items()}
    known = {field.name for field in dataclasses.fields(args_class)} - {"config", "resume", "tuned"}
    for name in given.keys() - known:
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else "; --help lists the options"
        raise UserError(f"--config {file}: this command has no setting {name}{hint}")
    return typed_settings(args_class, given, f"--config {file}")


def typed_settings(args_class: type, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return settings in the types that a dataclass says.

    YAML has no tuples and no paths, and reads ``1e-3`` as text; both are settled here.

    Args:
        args_class: The dataclass.
        given: Values by the name of the setting; each is a field of the dataclass.
        where: What messages begin with, such as the name of the file.

    Raises:
        UserError: A value has another type.
    """
    hints = get_type_hints(args_class)
    settings = {}
    for name, value in given.items():
        try:
            settings[name] = _typed(value, hints[name])
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"{where}: {name}: {one_line(repr(value))} is not {_in_words(hints[name])}"
            ) from error
    return settings


def _typed(value: Any, hint: Any) -> Any:
    """Return a value in a type.

    Raises:
        TypeError, ValueError, OverflowError: It has another type.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if value is None and NoneType in arguments:
            return None
        (hint,) = (argument for argument in arguments if argument is not NoneType)
        return _typed(value, hint)
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, list | tuple):
        types = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(_typed(item, kind) for item, kind in zip(value, types, strict=True))
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint in (int, float) and type(value) in (int, float, str):
        number = value if isinstance(value, int) else float(value)
        if hint is int and number % 1:  # which is NaN of infinity
            raise ValueError(value)
        return hint(number)
    if hint in (bool, str, Path) and isinstance(value, hint):
        return value
    raise TypeError(value)


def _in_words(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(map(_in_words, arguments))
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple:
        kinds = "s and ".join(
            dict.fromkeys(WORDS[a].removeprefix("a ") for a in arguments if a is not Ellipsis)
        )
        count = "" if arguments[-1] is Ellipsis else f"{len(arguments)} "
        return f"a list of {count}{kinds}s"
    return WORDS[hint]
