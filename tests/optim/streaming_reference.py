"""The published equations of streaming learning in plain loops; knows nothing of hesrl."""

from __future__ import annotations

import math

import torch

PUBLISHED = dict(eta=0.05, gamma=0.99, lamda=0.8, beta2=0.999, eps=1e-8, power=0.5, damping=0.0)
PUBLISHED |= dict(td_beta=0.9998, td_clip=20.0, lr=1.0, kappa=2.0)


class Reference:
    """One network and its traces, in double precision.

    Args:
        thetas: θ of each parameter, which the steps change.
        form: "value", "policy", "kl" or "obgd".
        **settings: Hyperparameters that differ from the published ones.
    """

    def __init__(self, thetas, form, **settings):
        self.thetas, self.form, self.s = thetas, form, {**PUBLISHED, **settings}
        self.traces = [torch.zeros_like(theta) for theta in thetas]
        self.nus = [torch.zeros_like(theta) for theta in thetas]
        self.t, self.sigma, self.mean_square, self.mean_size = 0, 0.0, 1.0, 0.0

    def step(self, grads, delta, reset=False, samples=None):
        """Take a step; the samples of the Fisher diagonal are those of g² if there are none."""
        s, self.t = self.s, self.t + 1
        fade = s["gamma"] * s["lamda"]
        for i, g in enumerate(grads):
            self.traces[i] = fade * self.traces[i] + g
        move = self.obgd(delta) if self.form == "obgd" else self.intentional(grads, delta, samples)
        for theta, u in zip(self.thetas, move, strict=True):
            theta -= u
        if reset:
            self.traces = [torch.zeros_like(trace) for trace in self.traces]

    def obgd(self, delta):
        s = self.s
        size = sum(float(trace.abs().sum()) for trace in self.traces)
        dot = max(abs(delta), 1.0) * size * s["lr"] * s["kappa"]
        rate = s["lr"] / dot if dot > 1 else s["lr"]
        return [rate * delta * trace for trace in self.traces]

    def intentional(self, grads, delta, samples):
        s, t = self.s, self.t
        fisher, divisors = [], []
        for i, g in enumerate(grads):
            sample = g * g if samples is None else samples[i].abs()
            self.nus[i] = s["beta2"] * self.nus[i] + (1 - s["beta2"]) * sample
            nu = self.nus[i] / (1 - s["beta2"] ** t)
            fisher.append(nu)
            d = (nu + s["damping"] * nu.mean()) ** s["power"] + s["eps"]
            divisors.append(d if s["power"] else torch.ones_like(nu))
        pairs = list(zip(self.traces, divisors, strict=True))
        n = sum(float((g * g / d).sum()) for g, d in zip(grads, divisors, strict=True))
        z = sum(float((e * e / d).sum()) for e, d in pairs)
        fade = s["gamma"] * s["lamda"]
        self.sigma += (1 - fade) * (n - self.sigma)
        size = math.sqrt(self.sigma / (1 - fade**t) * z)
        if self.form == "kl":
            size = math.sqrt(
                sum(
                    float((f * (e / d) ** 2).sum()) for f, (e, d) in zip(fisher, pairs, strict=True)
                )
            )
        rate = s["lr"] * s["eta"] / max(size, 1e-8) * self.error(delta)
        return [rate * e / d for e, d in pairs]

    def error(self, delta):
        s, beta = self.s, self.s["td_beta"]
        self.mean_square = beta * self.mean_square + (1 - beta) * delta**2
        bound = s["td_clip"] * math.sqrt(self.mean_square / (1 - beta**self.t))
        clipped = max(-bound, min(bound, delta))
        if self.form == "value":
            return clipped
        self.mean_size = beta * self.mean_size + (1 - beta) * abs(clipped)
        relative = clipped / max(self.mean_size / (1 - beta**self.t), 1e-12)
        return max(-1.0, min(1.0, relative)) if self.form == "kl" else relative
