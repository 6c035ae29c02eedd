"""Runs programs in URScript, as far as ours needs the language, cycle by cycle.

A program is ``def name():`` … ``end`` with ``thread``, ``while``, ``if``, ``elif``, ``else``,
``run``, ``kill``, assignments and calls. Line by line it becomes Python's syntax tree, which is
walked; no Python is executed. All names are global. A call that takes time, such as ``sync``, lets
the thread wait for the next cycle.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Generator, Mapping
from typing import Any

Thread = Generator[None, None, None]
_MOST = 10_000
"""A thread that takes so many steps within a cycle waits for none."""
_OPENING = re.compile(r"(?:def|thread|while|if)\b.*:")
_BETWEEN = re.compile(r"(?:elif\b.*|else):")
_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


class ProgramText:
    """Collects the lines of a client until a program is complete."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._depth = 0

    def take(self, line: str) -> str | None:
        """Return what a line completes: a program, or itself outside of one; else None."""
        line = line.strip()
        if not self._lines and not line.startswith("def "):
            return line
        self._depth += bool(_OPENING.fullmatch(line)) - (line == "end")
        self._lines.append(line)
        if self._depth > 0:
            return None
        text, self._lines = "\n".join(self._lines), []
        return text


class Program:
    """A program that runs.

    Args:
        text: Its lines.
        functions: What it may call, by name. A function that takes time returns a generator, which
            is resumed once in each cycle.

    Raises:
        ValueError: It is none, or has what is not known here; `cycle` refuses so as well.
    """

    def __init__(self, text: str, functions: Mapping[str, Callable[..., Any]]) -> None:
        (main,) = _parsed(text)
        if not isinstance(main, ast.FunctionDef):
            raise ValueError(f"a program begins with def, not {text.splitlines()[0]!r}")
        self._functions = functions
        self._names: dict[str, Any] = {}
        self._blocks: dict[str, list[ast.stmt]] = {}
        self._steps = 0
        self._main = self._run(main.body)
        self._threads: list[Thread] = [self._main]

    def cycle(self) -> bool:
        """Let every thread go on until it waits for the next cycle.

        Returns:
            Whether the program still runs.
        """
        for thread in list(self._threads):
            self._steps = 0
            if thread in self._threads and next(thread, "ended") == "ended":
                self._threads.remove(thread)
        return self._main in self._threads

    def _run(self, block: list[ast.stmt]) -> Thread:
        for statement in block:
            yield from self._statement(statement)

    def _statement(self, statement: ast.stmt) -> Thread:
        self._step()
        match statement:
            case ast.FunctionDef(name=name, body=body):
                self._blocks[name] = body
            case ast.While(test=test, body=body):
                while self._value(test):
                    self._step()
                    yield from self._run(body)
            case ast.If(test=test, body=body, orelse=orelse):
                yield from self._run(body if self._value(test) else orelse)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                self._names[name] = self._value(value)
            case ast.Expr(value=ast.Call(func=ast.Name(id="run" | "kill")) as call):
                self._value(call)
            case ast.Expr(value=ast.Call() as call):
                if isinstance(takes_time := self._value(call), Generator):
                    yield from takes_time
            case _:
                raise ValueError(f"not known here: {ast.unparse(statement)!r}")

    def _value(self, node: ast.expr) -> Any:
        value = self._value
        match node:
            case ast.Constant(value=bool() | int() | float() as constant):
                return constant
            case ast.Name(id=name) if name in self._names:
                return self._names[name]
            case ast.List(elts=elements):
                return [value(element) for element in elements]
            case ast.BoolOp(op=ast.And(), values=values):
                return all(map(value, values))
            case ast.BoolOp(values=values):
                return any(map(value, values))
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
                return _OPERATORS[type(op)](value(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return _OPERATORS[type(op)](value(left), value(right))
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _OPERATORS:
                return _OPERATORS[type(op)](value(left), value(right))
            case ast.Call(func=ast.Name(id="run"), args=[ast.Call(func=ast.Name(id=name))]):
                self._threads.append(thread := self._run(self._blocks[name]))
                return thread
            case ast.Call(func=ast.Name(id="kill"), args=[thread]):
                return self._threads.remove(value(thread))
            case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if (
                name in self._functions
            ):
                named = {keyword.arg or "": value(keyword.value) for keyword in keywords}
                return self._functions[name](*map(value, args), **named)
        raise ValueError(f"not known here: {ast.unparse(node)!r}")

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _MOST:
            raise ValueError("a thread runs without waiting for the next cycle")


def _parsed(text: str) -> list[ast.stmt]:
    lines, depth = [], 0
    for line in text.splitlines():
        line = re.sub(r"^thread\b", "def", line.strip())
        line = re.sub(r"^global\s+(\w+\s*=)", r"\1", line)
        line = re.sub(r"\brun\s+(\w+\(\))", r"run(\1)", line)
        line = re.sub(r"^kill\s+(\w+)$", r"kill(\1)", line)
        if line == "end":
            depth -= 1
        elif _BETWEEN.fullmatch(line):
            lines.append(f"{'  ' * (depth - 1)}{line}")
        else:
            lines.append(f"{'  ' * depth}{line}")
            depth += bool(_OPENING.fullmatch(line))
    try:
        return ast.parse("\n".join(lines)).body
    except SyntaxError as error:
        raise ValueError(f"no program: {error.msg} in {error.text!r}") from error
