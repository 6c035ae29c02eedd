"""Loops written in C: memory for what passes from one to the next, functions, and their calls."""

from __future__ import annotations

from importlib.resources import files
from typing import NamedTuple

from hesrl.train_step.c_loop import TYPES, CLoop, is_variable
from hesrl.train_step.loops import Buffer, Call, Product, Schedule

_ALIGNMENT = 64


class CProgram(NamedTuple):
    """Loops in C, and what PyTorch does between them."""

    code: str
    """As C++ understands it. ``hesrl_step(part, arguments, memory)`` takes the loops before the
    call of that number; the arguments are pointers, in the order of their slots. It returns 0, or 1
    if an index is beyond its tensor; then it has stopped there."""
    calls: list[Call]
    size: int
    """Bytes of memory that it needs."""
    places: dict[Buffer, int]
    """Where in the memory a buffer begins."""


def c_program(schedule: Schedule) -> CProgram:
    """Return the program of loops."""
    used: dict[Buffer, list[int]] = {}
    for number, loop in enumerate(schedule.loops):
        for buffer in loop.accesses:
            used.setdefault(buffer, []).append(number)
    places, size = _memory(schedule, used)
    functions: dict[str, str] = {}
    lines: list[str] = []
    calls: list[Call] = []
    for loop in schedule.loops:
        (first, *_) = loop.statements
        if isinstance(first, Call):
            calls.append(first)
            lines += ["return bad;", f"case {len(calls)}:"]
            continue
        if isinstance(first, Product):
            lines.append(_product_call(first, places))
            continue
        in_c = CLoop(loop, used)
        name = functions.setdefault(in_c.text, f"loop_{len(functions)}")
        pointers = [_pointer(buffer, offset, places) for buffer, offset in in_c.pointers]
        lines.append(f"{name}({', '.join([*pointers, *in_c.extent, '&bad'])});")
        if in_c.has_rows:
            lines.append("if (bad) return 1;")
    head = files("hesrl.train_step").joinpath("products.h").read_text()
    texts = [text.replace("@", name) for text, name in functions.items()]
    main = ['extern "C" int hesrl_step(int part, char **arg, char *memory) {', "int bad = 0;"]
    main += ["switch (part) {", "case 0:", *lines, "return bad;", "}", "return 0;", "}", ""]
    return CProgram("\n".join([head, *texts, *main]), calls, size, places)


def _memory(schedule: Schedule, used: dict[Buffer, list[int]]) -> tuple[dict[Buffer, int], int]:
    """Give each buffer a place, and a later one the place of one that is read no more."""
    places: dict[Buffer, int] = {}
    free: list[tuple[int, int]] = []
    taken: dict[Buffer, tuple[int, int]] = {}
    end = 0
    for number, loop in enumerate(schedule.loops):
        for buffer in loop.accesses:
            if buffer in places or buffer.slot is not None or is_variable(buffer, loop, used):
                continue
            size = -(-buffer.size * buffer.dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
            fitting = [spot for spot in free if size <= spot[1] <= 2 * size]
            if fitting:
                spot = min(fitting, key=lambda spot: spot[1])
                free.remove(spot)
            else:
                spot = end, size
                end += size
            taken[buffer], places[buffer] = spot, spot[0]
        for buffer in [b for b in loop.accesses if b in taken and used[b][-1] == number]:
            free.append(taken.pop(buffer))
    return places, end


def _pointer(buffer: Buffer, offset: int, places: dict[Buffer, int]) -> str:
    is_own = buffer.slot is None
    start = f"(memory + {places[buffer]})" if is_own else f"arg[{buffer.slot}]"
    return f"({TYPES[buffer.dtype]} *){start}" + (f" + {offset}" if offset else "")


def _product_call(product: Product, places: dict[Buffer, int]) -> str:
    (m, k), n = product.a.shape, product.b.shape[1]
    arguments = [str(size) for size in (m, n, k)]
    for view in (product.a, product.b, product.out):
        arguments.append(_pointer(view.buffer, view.offset, places))
        arguments += [str(stride) for stride in view.strides]
    return f"product({', '.join(arguments)});"
