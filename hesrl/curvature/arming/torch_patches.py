"""What hesrl changes in PyTorch for the whole process, and only while parameters are armed.

| attribute | while parameters are armed |
|---|---|
| `torch.autograd.backward` | leaves curvature; ``loss.backward()`` calls it |
| ``Tensor.hess_diag`` | the curvature of armed parameters |
| ``DistributedDataParallel.forward`` | notes which modules will synchronize |
| ``GradScaler.unscale_`` | unscales curvature with the gradient |

The first arming installs all of it and the last disarming puts back what was there. What somebody
else has put over it in the meantime stays, and calls ours, which then passes everything on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel

from hesrl.curvature.arming.distributed import noting_forward
from hesrl.curvature.arming.grad_scaler import unscaling_both
from hesrl.curvature.arming.store import get_hess_diag, is_any_armed, lock, when_empty
from hesrl.curvature.backward_pass import run_backward

_ABSENT: Any = object()


class _Patch:
    """One attribute of PyTorch, and what replaces it.

    Args:
        owner: A module or class of PyTorch.
        name: Its attribute.
        make: From what was there to what replaces it.
    """

    def __init__(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        self._owner, self._name, self._make = owner, name, make
        self._native = self._ours = _ABSENT

    def install(self) -> None:
        """Replace the attribute, unless ours is there already, perhaps below somebody else's."""
        current = vars(self._owner).get(self._name, _ABSENT)
        if self._ours is _ABSENT or current is self._native:
            self._native = current
            self._ours = self._make(current)
            setattr(self._owner, self._name, self._ours)

    def remove(self) -> None:
        """Put back what was there, unless somebody else has replaced ours."""
        current = vars(self._owner).get(self._name, _ABSENT)
        if self._ours is not _ABSENT and current is self._ours:
            if self._native is _ABSENT:
                delattr(self._owner, self._name)
            else:
                setattr(self._owner, self._name, self._native)
            self._ours = _ABSENT


def _with_curvature(native: Callable[..., None]) -> Callable[..., None]:
    # Left out of compiled functions: the sweep works on the graph of one pass, not of any.
    ours = torch.compiler.disable(functools.partial(run_backward, native))
    return functools.wraps(native)(ours)


_PATCHES = (
    _Patch(torch.autograd, "backward", _with_curvature),
    _Patch(Tensor, "hess_diag", lambda _: property(get_hess_diag)),
    _Patch(DistributedDataParallel, "forward", noting_forward),
    _Patch(GradScaler, "unscale_", unscaling_both),
)
_is_wanted = True


def patch_torch(enabled: bool) -> None:
    """Choose whether hesrl may change PyTorch while parameters are armed; it may at first.

    Without, only `hesrl.curvature.backward` computes curvature, `take_curvature` returns it, and
    neither `DistributedDataParallel` nor `GradScaler` takes it into account.
    """
    global _is_wanted
    with lock:
        _is_wanted = enabled
        if enabled and is_any_armed():
            install()
        elif not enabled:
            _remove()


def install() -> None:
    """Change PyTorch, if that is not done yet; the lock of the store is held."""
    if _is_wanted:
        for patch in _PATCHES:
            patch.install()


def _remove() -> None:
    for patch in _PATCHES:
        patch.remove()


when_empty.append(_remove)
