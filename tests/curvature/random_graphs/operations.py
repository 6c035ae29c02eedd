"""The operations of random graphs, as Python expressions of ``a``, ``b`` and ``c``.

Elementwise ones keep values of a few units away from poles. They broadcast.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests import reference
from tests.curvature.rows import TABLE
from tests.curvature.rows.row import WITHOUT_GRADIENT, Row

ONE = """
torch.sin(a) | torch.cos(a) | torch.tanh(a) | torch.sigmoid(a) | torch.atan(a) | torch.asinh(a)
torch.erf(a) | torch.erfc(a) | torch.sinc(2.5 + torch.sin(a)) | torch.i0(0.5 * a)
torch.exp(-a * a) | torch.exp(0.3 * a) | torch.exp2(0.3 * a) | torch.expm1(0.3 * a)
torch.special.ndtr(a) | torch.sinh(0.5 * a) | torch.cosh(0.5 * a) | torch.tan(0.3 * torch.sin(a))
torch.log(2.5 + torch.sin(a)) | torch.log1p(a * a) | torch.log2(1.5 + a * a)
torch.sqrt(1.5 + torch.cos(a)) | torch.rsqrt(2.5 + torch.sin(a))
(2.5 + torch.sin(a)).reciprocal() | torch.asin(0.5 * torch.sin(a))
torch.acos(0.5 * torch.tanh(a)) | torch.atanh(0.5 * torch.sin(a))
torch.erfinv(0.5 * torch.sin(a)) | torch.logit(0.5 + 0.4 * torch.sin(a))
torch.acosh(2.5 + torch.sin(a)) | torch.lgamma(2.5 + torch.sin(a)) | 1.5 ** a
torch.digamma(2.5 + torch.sin(a)) | a ** 2 | a ** 3 | a.square() | a.abs() ** 2.5
(2.5 + torch.cos(a)) ** -0.7 | (1.5 + a * a).pow(a) | -a | 0.5 - a | a * 0.7 | a / 1.7 | a - 0.3
a + a | a - a * a | a * a * a | a / (1 + a * a) | (a.exp() + 1).reciprocal() * a.exp()
a * torch.sigmoid(a) | a + torch.tanh(a) | F.softplus(a) | F.softplus(a, beta=2.0, threshold=3.0)
F.silu(a) | F.gelu(a) | F.mish(a) | F.gelu(a, approximate='tanh') | F.elu(a, 0.7) | F.celu(a, 0.5)
F.selu(a) | F.logsigmoid(a) | F.softsign(a) | F.tanhshrink(a) | F.hardswish(a)
F.leaky_relu(a, 0.2) | F.relu(a) | F.relu6(2 * a) | F.hardtanh(a, -0.5, 0.8)
F.hardshrink(a, 0.3) | F.softshrink(a, 0.3) | F.threshold(a, 0.1, -0.2) | a.abs()
a.clamp(-0.5, 0.8) | a.clamp(min=-0.3) | a.clamp_max(0.6) | a.masked_fill(a > 0.4, 0.2)
torch.nan_to_num(a) | a.clone() | torch.where(a > 0, a * a, a.sin())
torch.where(a > 0.2, a, 0.3) | a * (a > -0.2) | a.relu() * a | a * torch.floor(a) | torch.frac(a)
torch.exp(a.detach()) * a | a.detach() | torch.fmod(a, 0.7) | torch.remainder(a, 0.7)
a.sin().mul_(1.7) | a.cos().add_(a) | a.clone().relu_() | a.clone().tanh_()
a.clone().clamp_(-1, 1) | torch.addcmul(a, a, a) | torch.lerp(a * a, a.sin(), 0.3)
torch.where(a > 0, a, 0.0)
""".replace("\n", "|").split("|")
TWO = """
a + b | a - b | a * b | torch.maximum(a, b) | torch.minimum(a, b) | torch.fmax(a, b)
torch.fmin(a, b) | torch.max(a, b) | torch.min(a, b) | a / (2.5 + torch.sin(b)) | a.div(1 + b * b)
torch.atan2(a, 1.5 + torch.sin(b)) | torch.hypot(a, 0.3 + b.abs()) | torch.logaddexp(a, b)
torch.logaddexp2(a, b) | torch.where(a > b, a, b * b) | torch.where(b > 0, a.sin(), b)
torch.add(a, b, alpha=-0.7) | torch.sub(a, b, alpha=0.3) | torch.rsub(a, b, alpha=1.3)
torch.addcmul(a, b, b) | torch.addcdiv(a, b, 2 + torch.cos(a)) | torch.lerp(a, b, 0.3)
(1.5 + a.sin()) ** b | torch.xlogy(a, 2.5 + torch.sin(b)) | torch.special.xlog1py(a, b * b)
torch.copysign(torch.cosh(0.5 * a), b) | torch.fmod(a, b.abs() + 0.3)
torch.remainder(a, b.abs() + 0.3) | a * torch.exp(-b) | a * (b > 0) | a * b.detach()
a.masked_fill(b > 0.4, 0.2) | a.relu() * b | torch.tanh(a) * torch.sigmoid(b)
(a - b) ** 2 / (0.5 + b.square()) | (a + b).sin().mul_(b)
F.mse_loss(a + 0 * b, b + 0 * a, reduction='none')
F.smooth_l1_loss(a + 0 * b, b + 0 * a, reduction='none', beta=0.7)
F.huber_loss(a + 0 * b, b + 0 * a, reduction='none', delta=0.7)
F.l1_loss(a + 0 * b, b + 0 * a, reduction='none')
""".replace("\n", "|").split("|")
THREE = """
torch.addcmul(a, b, c, value=0.7) | torch.where(a > 0, b, c) | torch.lerp(a, b, c)
torch.clamp(a + 0 * (b + c), b + 0 * (a + c), c + 0 * (a + b)) | torch.addcdiv(a, b, 1.5 + c * c)
a * b + c | a * b * c | a + b - c | torch.where(c > b, a, b * c) | (a - b) * c.exp().reciprocal()
(a + b + c).sin().addcmul_(b, c)
""".replace("\n", "|").split("|")
ELEMENTWISE = [text.strip() for text in ONE + TWO + THREE if text.strip()]

STRUCTURAL = [
    text.strip()
    for text in """
a.mean(1, keepdim=True) | a.sum(0, keepdim=True) | a.amax(1, keepdim=True) | a.cumsum(0)
a.flip(1) | a.roll(1, 0) | a[:, torch.arange(a.shape[1]) // 2] | a.mT.reshape(a.shape) | a.mean()
torch.cat([a[:, 1:], a[:, :1]], 1) | a.sort(1).values | a.min(0, keepdim=True).values
torch.stack([*a.unbind(0)]) | F.pad(a[1:], (0, 0, 1, 0)) | a.median(1, keepdim=True)[0]
a.gather(1, a.argsort(1).flip(1)) | a.tril() | torch.stack([a, b.expand_as(a)]).mean(0)
torch.cat([a, b.expand_as(a)])[1 : 1 + a.shape[0]] | a.kthvalue(2, 1, keepdim=True)[0]
a.index_select(0, torch.zeros(1).long()) | a.masked_fill(a > 0, 0.0).sum(1, keepdim=True)
a.index_add(0, torch.zeros(1).long(), b.expand_as(a)[:1]) | a.topk(1, 1)[0]
a.std(1, keepdim=True) | a.norm(dim=1, keepdim=True) | (2 + a.sin()).prod(1, keepdim=True)
torch.linalg.det(w) * a | write_row(a, b) | add_to_column(a, b) | scale_column(a, b)
scale_column_in_place(a, b)
""".replace("\n", "|").split("|")
    if text.strip()
]
"""Of a matrix and perhaps what broadcasts to it: they move, drop and add up entries."""

OF_ROWS = [
    "a.sum(1, keepdim=True)",
    "a.mean(1, keepdim=True)",
    "a.sum(1)[:, None]",
    "a.sum(1, keepdim=True).expand_as(a)",
]
"""Of a matrix: what is left of each row, alone or beside every entry again."""

TWO_OF_ROWS = [
    "a - b",
    "a * b",
    "a * torch.exp(-b)",
    "a / (2.5 + torch.sin(b))",
    "torch.maximum(a, b)",
]

SEVERAL = [
    "torch.var_mean(a, 1, keepdim=True)",
    *([] if "AminmaxBackward0" in WITHOUT_GRADIENT else ["torch.aminmax(a, dim=1, keepdim=True)"]),
    "a[:2].chunk(2, 0)",
    "a[:, :2].split(1, 1)",
]
"""The same with two results."""

MIXING = [
    "a @ w",
    "F.linear(a, w, b.expand_as(a)[0])",
    "torch.addmm(b.expand_as(a), a, w, beta=0.7, alpha=1.3)",
    "torch.einsum('ni,ji->nj', a, w)",
    "F.conv1d(a[None], w[:1, : a.shape[0], None])[0]",
    "F.layer_norm(a, a.shape[1:])",
    "F.layer_norm(a, a.shape[1:], b.expand_as(a)[0], c.expand_as(a)[0])",
    "F.batch_norm(a.mT, None, None, b.expand_as(a)[:, 0].clone(), None, True).mT",
    "F.group_norm(a[None], 1)[0]",
    "a.softmax(1)",
    "a.log_softmax(0)",
]
"""Of a matrix, of a square one ``w`` and perhaps of what broadcasts to it: HesScale drops the
off-diagonals of the Hessian at their output."""


def write_row(a: Tensor, b: Tensor) -> Tensor:
    y = a.clone()
    y[0] = b.expand_as(a)[0]
    return y


def add_to_column(a: Tensor, b: Tensor) -> Tensor:
    y = a.clone()
    y[:, -1] += b.expand_as(a)[:, 0]
    return y


def scale_column(a: Tensor, b: Tensor) -> Tensor:
    return torch.cat([a[:, :1] * b.expand_as(a)[:, :1], a[:, 1:]], 1)


def scale_column_in_place(a: Tensor, b: Tensor) -> Tensor:
    y = a.clone()
    y[:, :1] *= b.expand_as(a)[:, :1]
    return y


_NAMES = re.compile(r"'[^']*'|\b[abcvw]\b")


def names_in(text: str) -> list[str]:
    """The arguments that an expression has, ``a`` first and ``w`` last."""
    return sorted({name for name in _NAMES.findall(text) if name[0] != "'"})


def rendered(text: str, arguments: list[str]) -> str:
    """An expression with other names for its arguments."""
    given = dict(zip(names_in(text), arguments, strict=True))
    return _NAMES.sub(lambda match: given.get(match.group(), match.group()), text)


def _flat(function: Callable[..., Any]) -> Callable[..., Tensor]:
    return lambda *inputs: reference.flat(function(*inputs))


ROWS: dict[str, Row] = {row.id: row for row in TABLE}
NAMESPACE = {
    "torch": torch,
    "F": F,
    "write_row": write_row,
    "add_to_column": add_to_column,
    "scale_column": scale_column,
    "scale_column_in_place": scale_column_in_place,
    "ROW": {id: _flat(row.function) for id, row in ROWS.items()},
}
"""What the expressions use; ``ROW`` has the operations of the tables of rules, results in a row."""
FOR_REFERENCE = NAMESPACE | {
    "ROW": {id: _flat(row.reference or row.function) for id, row in ROWS.items()}
}
"""The same where `torch.func` takes the derivatives."""


@functools.cache
def function_of(text: str, for_reference: bool = False) -> Callable[..., Any]:
    """An expression as a function of its arguments."""
    source = f"lambda {', '.join(names_in(text))}: {text}"
    function: Callable[..., Any] = eval(source, FOR_REFERENCE if for_reference else NAMESPACE)
    return function
