"""The options of a command, read from its dataclass of settings, and its help.

The docstring below a field says what the option does, and a comment of one or two words, such as
``# Environment``, begins a group. A method ``choices`` of the dataclass has the possible values of
text, and ``COMMON`` the options that come first.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import tyro

COMMON = "Most used"
REST = "Options"
GROUP = re.compile(r"\s+# ([A-Z][a-z]+( [a-z]+)?)$")
METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


class Option(NamedTuple):
    """One option of a command."""

    flag: str
    """``--num-envs``, or the placeholder of a positional argument."""
    group: str
    """What the help lists it under."""
    doc: str
    """What it does."""
    value: str
    """The placeholder of its value, or its choices; empty for a switch."""
    choices: tuple[str, ...]
    """What the value may be; empty if it is not text out of a list."""
    default: str | None
    """The default in words; None if the argument has to be given."""
    is_positional: bool
    """Whether it has no flag."""


def options_of(args_class: type, defaults: Any = None) -> list[Option]:
    """Return the options of a command, in the order of its help.

    Args:
        args_class: Its dataclass of settings.
        defaults: An instance whose values are the defaults; None for those of the class.
    """
    written = {name: rest for cls in reversed(args_class.__mro__) for name, *rest in _written(cls)}
    hints = get_type_hints(args_class, include_extras=True)
    choices: dict[str, Any] = getattr(args_class, "choices", dict)()
    common = getattr(args_class, "COMMON", ())
    options = []
    for field in dataclasses.fields(args_class):
        group, doc = written[field.name]
        hint = hints[field.name]
        is_positional = get_origin(hint) is Annotated and tyro.conf.Positional in hint.__metadata__
        possible = tuple(choices.get(field.name, _literals(hint)))
        value = "" if hint is bool else _placeholder(hint, possible)
        default = field.default if defaults is None else getattr(defaults, field.name)
        options.append(
            Option(
                field.name.upper() if is_positional else "--" + field.name.replace("_", "-"),
                COMMON if field.name in common else group,
                doc,
                value,
                possible,
                None if default is dataclasses.MISSING else _in_words(default),
                is_positional,
            )
        )
    order = {COMMON: 0}
    for option in options:
        order.setdefault(option.group, len(order))
    place = {"--" + name.replace("_", "-"): i for i, name in enumerate(common)}
    return sorted(options, key=lambda o: (order[o.group], place.get(o.flag, 0)))


def _written(cls: type) -> Iterator[tuple[str, str, str]]:
    """Yield name, group and docstring of the fields that the body of one class has."""
    if not dataclasses.is_dataclass(cls):
        return
    source = inspect.getsource(cls)
    (tree,) = ast.parse(textwrap.dedent(source)).body
    assert isinstance(tree, ast.ClassDef)
    lines, group, seen = source.splitlines(), REST, 0
    for node, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        for line in lines[seen : node.lineno - 1]:
            group = found[1] if (found := GROUP.match(line)) else group
        seen, doc = node.lineno, ""
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            doc = " ".join(str(following.value.value).split())
        yield node.target.id, group, doc


def _literals(hint: Any) -> tuple[str, ...]:
    return tuple(map(str, get_args(hint))) if get_origin(hint) is Literal else ()


def _placeholder(hint: Any, choices: tuple[str, ...]) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _placeholder(arguments[0], choices or _literals(arguments[0]))
    if origin is tuple and arguments[-1] is not Ellipsis:
        return " ".join(_placeholder(argument, choices) for argument in arguments)
    if origin is tuple:
        return f"{_placeholder(arguments[0], choices)} …"
    if choices:
        return "{" + ",".join(choices) + "}"
    if origin in (Union, UnionType):
        (hint,) = (argument for argument in arguments if argument is not NoneType)
        return _placeholder(hint, choices)
    return METAVARS[hint]


def _in_words(default: Any) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, tuple):
        return " ".join(map(str, default)) or "none"
    return str(default)


def command_help(prog: str, args_class: type, defaults: Any = None, example: str = "") -> str:
    """Return the help of a command, as wide as the terminal but no wider than 100 columns.

    Args:
        prog: Name of the command.
        args_class: Its dataclass of settings.
        defaults: As `options_of` takes them.
        example: Arguments that make an example.
    """
    width = min(shutil.get_terminal_size().columns, 100)
    options = options_of(args_class, defaults)
    positional = [option for option in options if option.is_positional]
    usage = " ".join([f"usage: {prog}", *(o.flag for o in positional), "[OPTIONS]"])
    summary = " ".join((args_class.__doc__ or "").split("\n\n")[0].split())
    lines = [usage, "", *textwrap.wrap(summary, width)]
    if example:
        lines += ["", f"  {prog} {example}"]
    group = ""
    for option in [*positional, *(o for o in options if not o.is_positional)]:
        if not option.is_positional and option.group != group:
            group = option.group
            lines += ["", f"{group}:"]
        elif option.is_positional:
            lines += [""]
        lines += _described(option, width)
    return "\n".join(lines)


def _described(option: Option, width: int) -> list[str]:
    name = option.flag
    if not option.value:
        name = f"--[no-]{option.flag[2:]}"
    elif not option.is_positional:
        name = f"{option.flag} {option.value}"
    doc = option.doc
    if option.default is not None:
        doc = f"{doc} (default: {option.default})"
    indent = " " * 28
    text = textwrap.wrap(doc, width, initial_indent=indent, subsequent_indent=indent)
    if len(name) + 4 > len(indent):
        head = textwrap.wrap(
            name.replace(",", ", "), width, initial_indent="  ", subsequent_indent="      "
        )
        return [*(line.replace(", ", ",") for line in head), *text]
    return [f"  {name:26}{text[0].lstrip()}" if text else f"  {name}", *text[1:]]
