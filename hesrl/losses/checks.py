"""What the loss modules refuse: shapes that would broadcast, lost gradients, impossible values.

The functions check nothing, so that they can be compiled. The modules refuse NaN in the data. They
do not look for NaN on a GPU, where the program would wait for the answer, nor in a network's
outputs, where mixed precision meets it and skips the step: there it reaches loss and gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_checks_values = ContextVar("checks_values", default=True)


@contextmanager
def without_value_checks() -> Iterator[None]:
    """Refuse no values, only shapes and types: while operations are recorded, none is known."""
    token = _checks_values.set(False)
    try:
        yield
    finally:
        _checks_values.reset(token)


def require_positive(name: str, value: float) -> None:
    """Refuse a setting that is not above 0."""
    if not value > 0:
        raise ValueError(f"{name} must be above 0, not {value!r}")


def require_finite(name: str, value: float) -> None:
    """Refuse a setting that is NaN or infinite."""
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, not {value!r}")


def require_shape(name: str, value: Tensor, shape: str) -> None:
    """Refuse a network's output whose shape differs from ``"(N,)"`` or ``"(N, K)"``."""
    if value.dim() != (1 if shape == "(N,)" else 2):
        raise ValueError(f"{name} must have shape {shape}, not {tuple(value.shape)}")


def require_constant(name: str, value: Tensor, of: str, shape: tuple[int, ...]) -> None:
    """Refuse a constant of a loss that broadcasts, whose gradient would be lost, or NaN."""
    if value.shape != shape:
        raise ValueError(
            f"{name} must have shape {tuple(shape)} to go with {of}, not {tuple(value.shape)}"
        )
    if value.requires_grad:
        raise ValueError(
            f"{name} of shape {tuple(shape)} requires a gradient, but the loss takes it as a "
            "constant: detach it or compute it under torch.no_grad()"
        )
    if _checks_values.get() and not value.is_cuda and value.isnan().any():
        index = value.isnan().nonzero()[0].tolist()
        raise ValueError(f"{name} of shape {tuple(shape)} is NaN at index {index}")


def require_scale_name(name: str) -> None:
    """Refuse anything but the two scales of a Gaussian that a loss can take."""
    if name not in ("log_std", "variance"):
        raise ValueError(f"scale must be 'log_std' or 'variance', not {name!r}")


CURVATURES = ("exact", "fisher")
"""What a policy loss can have at its outputs."""


def require_curvature(curvature: str) -> None:
    """Refuse anything but one of `CURVATURES`."""
    if curvature not in CURVATURES:
        raise ValueError(f"curvature must be 'exact' or 'fisher', not {curvature!r}")


def require_scale(name: str, scale: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse a log σ or σ² that is neither of the mean's shape nor shared by all samples."""
    n, k = shape
    if scale.shape not in ((n, k), (1, k), (k,)):
        raise ValueError(
            f"{name} must have shape {(n, k)}, {(1, k)} or {(k,)} to go with mean, "
            f"not {tuple(scale.shape)}"
        )


def require_positive_variance(variance: Tensor) -> None:
    """Refuse a variance of which an entry is not above 0."""
    if _checks_values.get() and not (variance > 0).all():
        raise ValueError(f"variance must be above 0, not {variance.min().item():g}")


def require_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the sizes of independent choices, or refuse them."""
    if len(sizes) == 0 or any(size < 1 for size in sizes):
        raise ValueError(f"sizes must be numbers from 1, one for each choice, not {list(sizes)}")
    return tuple(int(size) for size in sizes)


def require_logits_of(sizes: tuple[int, ...], logits: Tensor) -> None:
    """Refuse logits that are not those of choices of these sizes, side by side."""
    if logits.dim() != 2 or logits.shape[1] != sum(sizes):
        raise ValueError(
            f"logits must have shape (N, {sum(sizes)}) for choices among {list(sizes)}, "
            f"not {tuple(logits.shape)}"
        )


def require_choices(name: str, value: Tensor, logits: Tensor, sizes: tuple[int, ...]) -> None:
    """Refuse choices that are not integers (N, D), each from 0 to its size − 1."""
    require_constant(name, value, "logits", (len(logits), len(sizes)))
    _require_integers(name, value)
    if not _checks_values.get():
        return
    outside = (value < 0) | (value >= value.new_tensor(sizes))
    if outside.any():
        row, column = outside.nonzero()[0].tolist()
        raise ValueError(
            f"{name} must be from 0 to {sizes[column] - 1} in column {column}, "
            f"not {value[row, column].item()}"
        )


def require_bits(name: str, value: Tensor, logits: Tensor) -> None:
    """Refuse anything but zeros and ones (N, K)."""
    require_constant(name, value, "logits", tuple(logits.shape))
    if not _checks_values.get():
        return
    other = (value != 0) & (value != 1)
    if other.any():
        raise ValueError(f"{name} must be 0 or 1, not {value[other][0].item():g}")


def _require_integers(name: str, value: Tensor) -> None:
    if value.is_floating_point() or value.is_complex():
        raise ValueError(f"{name} must be integers, not of {value.dtype}")


def require_classes(name: str, value: Tensor, logits: Tensor, ignored: int | None = None) -> None:
    """Refuse classes that are not integers (N,) from 0 to K − 1, but for the ignored one."""
    n, k = logits.shape
    require_constant(name, value, "logits", (n,))
    _require_integers(name, value)
    if not _checks_values.get():
        return
    outside = (value < 0) | (value >= k)
    if ignored is not None:
        outside = outside & (value != ignored)
    if outside.any():
        wrong = value[outside][0].item()
        raise ValueError(f"{name} must be from 0 to {k - 1} for logits of {k} columns, not {wrong}")
