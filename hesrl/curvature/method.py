"""The estimators that a backward pass can compute, by their names."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

Method: TypeAlias = Literal["hesscale", "hesscale_gn", "bl89", "hutchinson", "ggn_mc"]
"""What a backward pass leaves in ``p.hess_diag``:

- ``"hesscale"`` follows the definition of `hesrl.curvature.rules` everywhere;
- ``"hesscale_gn"`` drops ``Σ g ∂²y`` below layers, where the nonlinearities of the network are, and
  keeps it above the last layer, in losses and log-densities (generalized Gauss-Newton);
- ``"bl89"`` treats softmax and log-softmax as if they were elementwise (Becker and LeCun, 1989);
- ``"hutchinson"`` and ``"ggn_mc"`` are random, see `hesrl.curvature.estimators.sampling`.
"""


def check_method(method: str) -> None:
    """Refuse a name that no `Method` has.

    Raises:
        ValueError: The method is unknown.
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, not {method!r}")
