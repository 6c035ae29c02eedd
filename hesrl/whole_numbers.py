"""Whole numbers on the command line, also as ``1e6``."""

from __future__ import annotations

from typing import Any

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

REGISTRY = ConstructorRegistry()
"""How tyro makes settings of words, where that is not its own way."""


def whole_number(text: str) -> int:
    """Return the number that a word stands for: ``1000000``, ``1_000_000`` or ``1e6``.

    Raises:
        ValueError: It stands for none.
    """
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if number % 1:  # which is NaN of infinity
        raise ValueError(f"{text!r} is not a whole number")
    return int(number)


@REGISTRY.primitive_rule
def _whole_number(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    if info.type is not int:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda words: whole_number(words[0]),
        is_instance=lambda value: isinstance(value, int) and not isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
    )
