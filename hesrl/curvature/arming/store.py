"""Which parameters are armed, by whom, and the curvature that belongs to their gradients.

Nothing of it is kept in a tensor, so that copies and files of a parameter or gradient are plain.
A `Mark` holds what is known of one armed parameter, and lives as long as the parameter. Its
curvature lives as long as the gradient, and belongs to it as long as the gradient is what the
backward pass has left, or a multiple of that (`hesrl.curvature.arming.fingerprint`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from threading import RLock
from typing import Any
from weakref import ref

import torch
from torch import Tensor

from hesrl.curvature.arming.fingerprint import Fingerprint, Relation, is_readable, is_recording
from hesrl.curvature.method import Method

untraced: Any = functools.cache(torch.compiler.disable)
"""Keeps a function out of `torch.compile`. Its first call imports for a second."""

USER = 0
"""The claim of who arms without an owner; other claims are the identities of their owners."""

_marks: dict[int, Mark] = {}
"""The marks of all armed parameters, by the identity of the parameter."""
_owners: dict[int, Owner] = {}
lock = RLock()
"""Held while marks and owners are added or removed; again by the thread that collects garbage."""
when_empty: list[Callable[[], None]] = []
"""Called when the last mark is gone."""


class Stored(ref):  # type: ignore[type-arg]
    """A curvature, with a weak reference to the gradient that it belongs to."""

    __slots__ = ("fingerprint", "hess", "version")
    hess: Tensor | None
    fingerprint: Fingerprint | None
    version: int
    """That of the gradient then."""


class Mark(ref):  # type: ignore[type-arg]
    """What is known of an armed parameter, to which it is a weak reference."""

    __slots__ = ("claims", "is_armed", "key", "method", "stored", "within")
    key: int
    method: Method
    claims: dict[int, bool]
    """For everyone who has armed the parameter whether they want the next curvature."""
    is_armed: bool
    stored: Stored | None
    within: Tensor | float | None
    """During a backward pass the curvature that passes inside it have added, else None."""

    def claim(self, owner: int, wanted: bool | None) -> None:
        """Note that an owner wants the next curvature, or does not, or (None) is gone."""
        if wanted is None:
            self.claims.pop(owner, None)
        else:
            self.claims[owner] = wanted
        self.is_armed = any(self.claims.values())
        if not self.is_armed:
            self.stored = None
        if not self.claims:
            _forget(self)


def _forget(mark: Mark) -> None:
    with lock:
        if _marks.get(mark.key) is mark:
            del _marks[mark.key]
        mark.stored = None
        if not _marks:
            for function in when_empty:
                function()


class Owner(ref):  # type: ignore[type-arg]
    """A weak reference to what arms parameters for as long as it lives."""

    __slots__ = ("key",)
    key: int


def _release_all(owner: Owner) -> None:
    with lock:
        if _owners.get(owner.key) is owner:
            del _owners[owner.key]
        for mark in list(_marks.values()):
            if owner.key in mark.claims:
                mark.claim(owner.key, None)


def key_of(owner: object | None) -> int:
    """Return the claim of an owner, which ends with its life; None is the user."""
    if owner is None:
        return USER
    key = id(owner)
    with lock:
        if key not in _owners:
            _owners[key] = Owner(owner, _release_all)
            _owners[key].key = key
    return key


def mark_of(param: Tensor) -> Mark | None:
    """Return the mark of a parameter, None if nobody has armed it."""
    return _marks.get(id(param))


def add_mark(param: Tensor, method: Method) -> Mark:
    """Return the mark of a parameter, a new one if there is none."""
    with lock:
        mark = _marks.get(id(param))
        if mark is None:
            mark = Mark(param, _forget)
            mark.key, mark.method, mark.claims = id(param), method, {}
            mark.is_armed, mark.stored, mark.within = False, None, None
            _marks[mark.key] = mark
        return mark


def is_any_armed() -> bool:
    """Whether there is a parameter that somebody has armed."""
    return bool(_marks)


def is_armed(param: Tensor) -> bool:
    """Whether ``backward()`` computes the curvature of a parameter."""
    mark = _marks.get(id(param))
    return mark is not None and mark.is_armed


def clear_curvature(params: Iterable[Tensor]) -> None:
    """Forget the curvature of parameters, as ``zero_grad`` forgets the gradient."""
    for param in params:
        mark = _marks.get(id(param))
        if mark is not None:
            mark.stored = None


def store_curvature(param: Tensor, hess: Tensor) -> None:
    """Keep the curvature of an armed parameter, to belong to the gradient that it has now."""
    mark = _marks.get(id(param))
    if mark is not None and param.grad is not None:
        grad = param.grad
        stored = Stored(grad, lambda gone: setattr(gone, "hess", None))
        stored.hess, stored.version = hess, grad._version
        can_read = is_readable(grad) and not is_recording()
        stored.fingerprint = Fingerprint(grad) if can_read else None
        mark.stored = stored


def stored_curvature(param: Tensor) -> Tensor | None:
    """Return the curvature that was kept for a parameter's gradient, whatever became of it."""
    mark = _marks.get(id(param))
    stored = None if mark is None else mark.stored
    return None if stored is None or stored() is not param.grad else stored.hess


def look_up(param: Tensor, wait: bool = False) -> tuple[Tensor | None, Relation]:
    """Return the curvature that was kept for a gradient, and what the gradient is to it now.

    Args:
        param: The parameter.
        wait: Whether to ask a GPU if the gradient was cleared. Nothing else is asked there, and
            the gradient passes for the same.
    """
    mark = _marks.get(id(param))
    stored = None if mark is None else mark.stored
    grad: Tensor | None = param.grad
    of: Any = None if stored is None else stored()
    if stored is None or grad is None or of is not grad:
        return None, Relation.OTHER
    hess = stored.hess
    assert hess is not None
    if stored.fingerprint is not None and not is_recording():
        return hess, stored.fingerprint.relation(grad)
    if wait and grad._version != stored.version and not grad.any() and hess.any():
        return hess, Relation.CLEARED
    return hess, Relation.SAME


def take_curvature(param: Tensor) -> Tensor | None:
    """Return the curvature of a parameter for an optimizer step.

    None if there is no gradient, or if no backward pass computed the curvature of this one, or if
    the gradient was set to zeros since.

    Raises:
        RuntimeError: The gradient was changed to another since its curvature was computed.
    """
    hess, related = look_up(param)
    if hess is not None and related is Relation.OTHER:
        raise RuntimeError(changed(f"the parameter of shape {tuple(param.shape)}"))
    return None if related is Relation.CLEARED else hess


def changed(name: str) -> str:
    """Say that a gradient is not the one that a curvature belongs to."""
    return (
        f"the gradient of {name} was changed in place since its curvature was computed, other than "
        "by scaling or clipping it: read h = p.hess_diag before that, and call "
        "hesrl.curvature.give_curvature(p, h) after it if h is to go with the new gradient"
    )


def accumulated_curvature(param: Tensor) -> Tensor | float | None:
    """Return what the next curvature is added to.

    That is 0.0 if the gradient was cleared (set to None or to zeros) since the last backward pass,
    and None if the gradient has a part whose curvature nobody computed.
    """
    grad = param.grad
    if grad is None:
        return 0.0
    hess, related = look_up(param, wait=True)
    if hess is None:
        return None if grad.any() else 0.0
    if related is Relation.OTHER:
        return None
    stored = _marks[id(param)].stored
    is_touched = stored is not None and stored.version != grad._version
    if related is Relation.ZERO_AS_BEFORE and is_touched:
        # Zeros that were scaled look like zeros that were cleared. Whoever adds to a gradient has
        # cleared it. A curvature of zeros, which a dead unit has beside them, is right for both.
        return 0.0 if hess.any() else hess
    return 0.0 if related is Relation.CLEARED else hess


def get_hess_diag(param: Tensor) -> Tensor | None:
    """Diagonal of the Hessian as HesScale estimates it, of the shape of the parameter, signed.

    None while the parameter has no gradient, or one that the curvature does not belong to.

    Raises:
        AttributeError: The parameter is not armed.
    """
    if not is_armed(param):
        raise AttributeError(f"{type(param).__name__!r} object has no attribute 'hess_diag'")
    hess, related = look_up(param, wait=True)
    return None if related in (Relation.OTHER, Relation.CLEARED) else hess
