"""The optimizers' equations in plain loops over parameters; knows nothing of hesrl."""

from __future__ import annotations

import math

import torch


def reference_step(thetas, grads, hessians, states, **settings):
    """Change the parameters of one group and their states as one step does.

    Args:
        thetas: θ of each parameter.
        grads: g.
        hessians: h, None where there is no new one.
        states: A dict for each parameter, empty at first.
        **settings: ``form``, ``divide_by``, the hyperparameters, and ``delta`` if it is scaled.
    """
    sign = -1 if settings.get("maximize") else 1
    pairs = []
    for theta, g, h, state in zip(thetas, grads, hessians, states, strict=True):
        h = None if h is None else sign * average_kernels(h, settings)
        state["t"] = state.get("t", 0) + 1
        if h is not None:
            beta = (
                settings["curvature_beta"] if "curvature_beta" in settings else settings["betas"][1]
            )
            state["n"] = state.get("n", 0) + 1
            f = AVERAGED[settings.get("curvature_average", "rms")](h)
            state["H"] = beta * state.get("H", 0) + (1 - beta) * f
        form = adaptive if settings["form"] == "adaptive" else momentum
        direction = form(sign * g, state, **settings) + settings.get("weight_decay", 0) * theta
        pairs.append((theta, settings["lr"] * direction))
    eta = 1.0
    if "delta" in settings:
        of_h = settings.get("curvature_average", "rms")
        hs = [s["H"].sqrt() if of_h == "rms" else s["H"].relu() for s in states]
        total = sum((h * u**2).sum() for h, (_, u) in zip(hs, pairs, strict=True))
        bound = math.sqrt(2 * settings["delta"] / total) if total else math.inf
        eta = min(settings.get("max_scale", 1.0), bound)
    for theta, u in pairs:
        theta -= eta * u


AVERAGED = {"rms": torch.square, "mean": torch.abs, "root": torch.abs, "signed": lambda h: h}


def adaptive(
    g,
    state,
    *,
    betas,
    eps,
    divide_by,
    hessian_power=1,
    adam_bound=math.inf,
    curvature_average="rms",
    damping=0.0,
    **_,
):
    """Return m̂ / max(v̂ᵖ + ε, √ŵ / c)."""
    beta1, beta2 = betas
    state["m"] = beta1 * state.get("m", 0) + (1 - beta1) * g
    v, n = state.get("H"), state.get("n")
    if divide_by == "gradient":
        v = state["v"] = beta2 * state.get("v", 0) + (1 - beta2) * g**2
        n = state["t"]
    if curvature_average == "signed":
        v = v.relu()
    v = v + damping * v.mean()
    power = hessian_power * (1 if curvature_average in ("mean", "signed") else 0.5)
    m_hat, v_hat = state["m"] / (1 - beta1 ** state["t"]), v / (1 - beta2**n)
    state["w"] = beta2 * state.get("w", 0) + (1 - beta2) * g**2
    w_hat = state["w"] / (1 - beta2 ** state["t"])
    return m_hat / torch.maximum(v_hat**power + eps, w_hat.sqrt() / adam_bound)


def momentum(g, state, *, momentum, dampening=0, nesterov=False, **_):
    """Return b, or g + μ b."""
    if momentum == 0:
        return g
    state["b"] = momentum * state["b"] + (1 - dampening) * g if "b" in state else g
    return g + momentum * state["b"] if nesterov else state["b"]


def average_kernels(h, settings):
    """Return the mean magnitude over each kernel of a 2-d convolution, and otherwise h itself."""
    if not settings.get("spatial_averaging") or h.dim() != 4:
        return h
    result = torch.empty_like(h)
    for out in range(h.shape[0]):
        for channel in range(h.shape[1]):
            result[out, channel] = h[out, channel].abs().mean()
    return result
