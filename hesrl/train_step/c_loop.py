"""One loop as a function in C.

An entry that the loop computes is kept in a variable for the statements that follow. It is stored
at the end of a pass, and only if another loop reads it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from ctypes import c_float

import torch

from hesrl.train_step.loops import Buffer, Loop, Statement, View

TYPES = {
    torch.float32: "float",
    torch.float64: "double",
    torch.int64: "long",
    torch.int32: "int",
    torch.uint8: "unsigned char",
    torch.bool: "bool",
}
"""In C; tensors of other types are not known here."""
_FOLDS = {"sum": "{0} += {1};", "max": "{0} = {1} > {0} || {1} != {1} ? {1} : {0};"}
_STARTS = {"sum": "0", "max": "-INFINITY"}


def literal(value: float, dtype: torch.dtype) -> str:
    """Return a number in C, as PyTorch would convert it."""
    if not dtype.is_floating_point:
        return str(int(value))
    value = c_float(value).value if dtype == torch.float32 else float(value)
    if not math.isfinite(value):
        return "NAN" if math.isnan(value) else f"({'-' if value < 0 else ''}INFINITY)"
    return f"({value!r}{'f' if dtype == torch.float32 else ''})"


def is_variable(buffer: Buffer, loop: Loop, used: dict[Buffer, list[int]]) -> bool:
    """Say whether nobody but the same pass of a loop needs what it computes."""
    return (
        buffer.slot is None
        and len(used[buffer]) == 1
        and len(loop.accesses[buffer]) == 1
        and loop.changed.get(buffer, False)
    )


class CLoop:
    """A loop in C.

    Attributes:
        text: The function; its name is ``@``.
        pointers: Buffer and offset of the arguments.
        extent: The number of passes as a further argument; none if it is fixed.
        has_rows: Whether an index may be beyond its tensor; the last argument says it then.
    """

    def __init__(self, loop: Loop, used: dict[Buffer, list[int]]) -> None:
        self.pointers: dict[tuple[Buffer, int], str] = {}
        self.extent: list[str] = []
        self.has_rows = False
        self._loop, self._used = loop, used
        self._statements = [s for s in loop.statements if isinstance(s, Statement)]
        self._collapse()
        self._is_simd, self._reductions = True, ""
        self._before: list[str] = []
        self._around: tuple[list[str], list[str]] = [], []
        self._body: list[str] = []
        self._known: dict[View, str] = {}
        self._compute()
        self.text = self._function()

    def _collapse(self) -> None:
        """Join dimensions that lie behind each other in all tensors."""
        views: dict[View, None] = {}
        for statement in self._statements:
            for view in (*statement.operands, statement.out):
                views |= {index: None for index, _, _ in view.rows}
                views[view] = None
        sizes: list[int] = []
        strides: dict[View, list[int]] = {view: [] for view in views}
        for d, size in enumerate(self._loop.shape or ()):
            if sizes and all(strides[v][-1] == size * v.strides[d] for v in views):
                sizes[-1] *= size
                for view in views:
                    strides[view][-1] = view.strides[d]
            else:
                sizes.append(size)
                for view in views:
                    strides[view].append(view.strides[d])
        self._sizes, self._strides = sizes, strides
        self._limits = [str(size) for size in sizes]
        if len(sizes) == 1 and all(s[0] in (0, 1) for s in strides.values()):
            self.extent, self._limits = self._limits, ["n"]

    def _read(self, view: View) -> str:
        if view not in self._known:
            place = self._place(view)
            self._known[view] = f"v{len(self._known)}"
            self._body.append(f"{TYPES[view.buffer.dtype]} {self._known[view]} = {place};")
        return self._known[view]

    def _place(self, view: View) -> str:
        terms = [f"i{d} * {s}" if s != 1 else f"i{d}" for d, s in self._steps(view)]
        for index, step, count in view.rows:
            terms.append(f"row({self._read(index)}, {count}, bad) * {step}")
            self.has_rows, self._is_simd = True, False
        key = view.buffer, view.offset
        pointer = self.pointers.setdefault(key, f"p{len(self.pointers)}")
        return f"{pointer}[{' + '.join(terms) or 0}]"

    def _steps(self, view: View) -> list[tuple[int, int]]:
        return [(d, s) for d, s in enumerate(self._strides[view]) if s]

    def _compute(self) -> None:
        results: dict[View, str] = {}
        for number, statement in enumerate(self._statements):
            out, kind = statement.out, TYPES[statement.out.buffer.dtype]
            cast = TYPES[statement.dtype]
            operands = [
                self._read(v) if v.buffer.dtype == statement.dtype else f"(({cast}){self._read(v)})"
                for v in statement.operands
            ]
            value, name = statement.expression.format(*operands), f"w{number}"
            reduced = [d for d, s in enumerate(self._strides[out]) if not s]
            if statement.fold and reduced:
                self._fold(statement, reduced, value, name)
                continue
            self._body.append(f"{kind} {name} = {value};")
            if out.is_one_to_one:
                self._known[out] = results[out] = name
            else:
                self._body.append(f"{self._place(out)} = {name};")
                self._is_simd = False
        for view, name in results.items():
            if not is_variable(view.buffer, self._loop, self._used):
                self._body.append(f"{self._place(view)} = {name};")

    def _fold(self, statement: Statement, reduced: Sequence[int], value: str, name: str) -> None:
        """Put entries together, those of the inner loop in a variable."""
        out, kind, innermost = (
            statement.out,
            TYPES[statement.out.buffer.dtype],
            len(self._sizes) - 1,
        )
        fold, place, start = _FOLDS[statement.fold], self._place(out), _STARTS[statement.fold]
        if reduced != [innermost]:
            loops = [self._for(d) for d, _ in self._steps(out)]
            self._before.append(f"{' '.join(loops)} {place} = {start};")
        if innermost not in reduced:
            self._body += [f"{kind} {name} = {value};", fold.format(place, name)]
            return
        total = f"a{name}"
        if statement.fold == "sum":
            # In single precision a long sum would lose too much.
            kind = "double" if kind == "float" else kind
            self._reductions += f" reduction(+:{total})"
        else:
            self._is_simd = False
        self._around[0].append(f"{kind} {total} = {start};")
        self._body += [f"{kind} {name} = {value};", fold.format(total, name)]
        is_whole = reduced == [innermost]
        self._around[1].append(f"{place} = {total};" if is_whole else fold.format(place, total))

    def _for(self, d: int) -> str:
        return f"for (long i{d} = 0; i{d} < {self._limits[d]}; i{d}++)"

    def _function(self) -> str:
        parameters = [f"{TYPES[buffer.dtype]} *{p}" for (buffer, _), p in self.pointers.items()]
        parameters += ["long n"] * len(self.extent) + ["int *bad"]
        lines = [f"static void @({', '.join(parameters)}) {{", *self._before]
        if self._sizes:
            *outer, inner = range(len(self._sizes))
            lines += [f"{self._for(d)} {{" for d in outer]
            lines += self._around[0]
            if self._is_simd:
                lines.append(f"#pragma omp simd{self._reductions}")
            lines += [f"{self._for(inner)} {{", *self._body, "}", *self._around[1]]
            lines += ["}" for _ in outer]
        else:
            lines += self._body
        return "\n".join([*lines, "}"])
