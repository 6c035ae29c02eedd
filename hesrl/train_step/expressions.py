"""Operations of PyTorch that compute each entry from entries of their operands, in C.

Each name of `ENTRYWISE` has a function from the operation's arguments to an expression and its
operands, tensors or numbers; ``{0}`` stands for the first operand, and ``@`` for the suffix of the
function's name in the precision in which it is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


class UnknownOperationError(Exception):
    """There is no loop for an operation, or for a type."""


Expression = tuple[str, Sequence[Any]]


def _unary(text: str) -> Callable[..., Expression]:
    return lambda x, **_: (text, (x,))


def _binary(text: str) -> Callable[..., Expression]:
    return lambda a, b: (text, (a, b))


def _sum(a: Any, b: Any, alpha: float = 1) -> Expression:
    return ("{0} + {1}", (a, b)) if alpha == 1 else ("{0} + {2} * {1}", (a, b, alpha))


def _difference(a: Any, b: Any, alpha: float = 1) -> Expression:
    return ("{0} - {1}", (a, b)) if alpha == 1 else ("{0} - {2} * {1}", (a, b, alpha))


def _clamp(x: Any, low: Any = None, high: Any = None) -> Expression:
    bounds = [bound for bound in (low, high) if bound is not None]
    if len(bounds) == 2:
        return "{0} < {1} ? ({1} > {2} ? {2} : {1}) : {0} > {2} ? {2} : {0}", (x, *bounds)
    return f"{{0}} {'<' if high is None else '>'} {{1}} ? {{1}} : {{0}}", (x, *bounds)


def _power(x: Any, exponent: float) -> Expression:
    known = {0.5: "__builtin_sqrt@({0})", 1: "{0}", 2: "{0} * {0}", 3: "{0} * {0} * {0}"}
    if exponent in known:
        return known[exponent], (x,)
    return "__builtin_pow@({0}, {1})", (x, exponent)


def _interpolation(a: Any, b: Any, weight: float) -> Expression:
    if abs(weight) < 0.5:
        return "{0} + {2} * ({1} - {0})", (a, b, weight)
    return "{1} - ({1} - {0}) * {2}", (a, b, 1 - weight)


def _finite(
    x: Any, nan: float | None = None, high: float | None = None, low: float | None = None
) -> Expression:
    if nan is None or high is None or low is None:
        raise UnknownOperationError("nan_to_num with the bounds of a type")
    text = "{0} != {0} ? {1} : {0} == INFINITY ? {2} : {0} == -INFINITY ? {3} : {0}"
    return text, (x, nan, high, low)


def _elu(x: Any, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Expression:
    text = "{0} > 0 ? {0} * {2} : __builtin_expm1@({0} * {3}) * ({1} * {2})"
    return text, (x, alpha, scale, input_scale)


def _elu_backward(
    grad: Any, alpha: float, scale: float, input_scale: float, is_result: bool, x: Any
) -> Expression:
    below = "({1} + {2} * {3})" if is_result else "{2} * {3} * exponential({1} * {4})"
    text = f"{{1}} > 0 ? {{0}} * {{3}} : {{0}} * {{4}} * {below}"
    return text, (grad, x, alpha, scale, input_scale)


def _silu_backward(grad: Any, x: Any) -> Expression:
    slope = "(1 + {1} * (1 - 1 / (1 + exponential(-{1})))) / (1 + exponential(-{1}))"
    return f"{{0}} * {slope}", (grad, x)


def _softplus(x: Any, beta: float = 1, threshold: float = 20) -> Expression:
    text = "{0} * {1} > {2} ? {0} : __builtin_log1p@(exponential({0} * {1})) / {1}"
    return text, (x, beta, threshold)


def _softplus_backward(grad: Any, x: Any, beta: float, threshold: float) -> Expression:
    text = "{1} * {2} > {3} ? {0} : {0} / (1 + exponential(-{1} * {2}))"
    return text, (grad, x, beta, threshold)


def _leaky_backward(grad: Any, x: Any, slope: float, _: bool) -> Expression:
    return "{1} > 0 ? {0} : {0} * {2}", (grad, x, slope)


def _rectified(x: Any, slope: float = 0.01) -> Expression:
    return "{0} > 0 ? {0} : {0} * {1}", (x, slope)


def _plus_product(a: Any, b: Any, c: Any, value: float = 1) -> Expression:
    return (
        ("{0} + {1} * {2}", (a, b, c))
        if value == 1
        else ("{0} + {3} * {1} * {2}", (a, b, c, value))
    )


def _plus_quotient(a: Any, b: Any, c: Any, value: float = 1) -> Expression:
    return "{0} + {3} * {1} / {2}", (a, b, c, value)


def _filled(x: Any, mask: Any, value: Any) -> Expression:
    return "{1} ? {2} : {0}", (x, mask, value)


COMPARISONS: dict[str, Callable[..., Expression]] = {
    name: _binary(f"{{0}} {sign} {{1}}")
    for name, sign in {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "eq": "==", "ne": "!="}.items()
} | {
    "logical_not": _unary("!{0}"),
    "logical_and": _binary("{0} && {1}"),
    "logical_or": _binary("{0} || {1}"),
    "isnan": _unary("{0} != {0}"),
    "isfinite": _unary("{0} - {0} == 0"),
}
"""Those whose results are true or false; they are computed in the type of the operands."""

ENTRYWISE: dict[str, Callable[..., Expression]] = {
    "add": _sum,
    "sub": _difference,
    "rsub": lambda a, b, alpha=1: _difference(b, a, alpha),
    "mul": _binary("{0} * {1}"),
    "div": _binary("{0} / {1}"),
    "neg": _unary("-{0}"),
    "abs": _unary("{0} < 0 ? -{0} : {0} + 0"),
    "sign": _unary("{0} > 0 ? 1 : {0} < 0 ? -1 : 0"),
    "reciprocal": _unary("1 / {0}"),
    "sqrt": _unary("__builtin_sqrt@({0})"),
    "rsqrt": _unary("1 / __builtin_sqrt@({0})"),
    "exp": _unary("exponential({0})"),
    "expm1": _unary("__builtin_expm1@({0})"),
    "log": _unary("__builtin_log@({0})"),
    "log1p": _unary("__builtin_log1p@({0})"),
    "erf": _unary("__builtin_erf@({0})"),
    "tanh": _unary("tangent({0})"),
    "tanh_backward": lambda grad, y: ("{0} * (1 - {1} * {1})", (grad, y)),
    "sigmoid": _unary("1 / (1 + exponential(-{0}))"),
    "sigmoid_backward": lambda grad, y: ("{0} * (1 - {1}) * {1}", (grad, y)),
    "relu": _unary("{0} < 0 ? 0 : {0}"),
    "threshold_backward": lambda grad, x, at: ("{1} <= {2} ? 0 : {0}", (grad, x, at)),
    "leaky_relu": _rectified,
    "leaky_relu_backward": _leaky_backward,
    "elu": _elu,
    "elu_backward": _elu_backward,
    "softplus": _softplus,
    "softplus_backward": _softplus_backward,
    "silu": _unary("{0} / (1 + exponential(-{0}))"),
    "silu_backward": _silu_backward,
    "square": _unary("{0} * {0}"),
    "pow": _power,
    "clamp": _clamp,
    "clamp_min": _clamp,
    "clamp_max": lambda x, high: _clamp(x, None, high),
    "minimum": _binary("{0} != {0} || {0} < {1} ? {0} : {1}"),
    "maximum": _binary("{0} != {0} || {0} > {1} ? {0} : {1}"),
    "lerp": _interpolation,
    "addcmul": _plus_product,
    "addcdiv": _plus_quotient,
    "nan_to_num": _finite,
    "masked_fill": _filled,
    "bitwise_not": _unary("!{0}"),
    "bitwise_and": _binary("{0} && {1}"),
    "bitwise_or": _binary("{0} || {1}"),
}

CONSTANTS: dict[str, Callable[..., Any]] = {
    "ones_like": lambda *_, **__: 1,
    "zeros_like": lambda *_, **__: 0,
    "new_ones": lambda *_, **__: 1,
    "new_zeros": lambda *_, **__: 0,
    "ones": lambda *_, **__: 1,
    "zeros": lambda *_, **__: 0,
    "full": lambda _, value, **__: value,
    "full_like": lambda _, value, **__: value,
    "new_full": lambda _, __, value, **___: value,
    "scalar_tensor": lambda value, **_: value,
    "empty_like": lambda *_, **__: None,
    "new_empty_strided": lambda *_, **__: None,
    "empty": lambda *_, **__: None,
}
"""From the arguments of an operation to the number that fills its result; None: anything may."""
