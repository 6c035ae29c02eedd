"""Intentional AC(λ) in the words of its authors, on `torch.func`; knows nothing of hesrl."""

from __future__ import annotations

import torch
from torch.distributions import Bernoulli, Categorical, Independent, Normal
from torch.func import grad, jacrev
from torch.nn.functional import leaky_relu, softplus

from tests.optim.streaming_reference import Reference


def normalized(x):
    """A layer normalization without parameters, of one vector."""
    return (x - x.mean()) / torch.sqrt(x.var(correction=0) + 1e-5)


def layers(thetas):
    """The functions of which a network consists, and the number of the first θ of each, or None."""
    found = []
    for i in range(0, len(thetas), 2):
        found.append((i, lambda w, b, x: w @ x + b))
        if i < len(thetas) - 2:
            found += [(None, normalized), (None, leaky_relu)]
    return found


def forward(thetas, x):
    """The outputs of a network of weights and biases, in turn."""
    for i, function in layers(thetas):
        x = function(x) if i is None else function(thetas[i], thetas[i + 1], x)
    return x


def curvatures(thetas, x, hess):
    """The diagonal of each θ by the recursion h(x)_j = Σ_k (∂y_k/∂x_j)² h(y)_k, layer by layer.

    Args:
        thetas: Weights and biases.
        x: What the network observes.
        hess: h of its outputs.
    """
    found, inputs = [None] * len(thetas), [x]
    for i, function in layers(thetas):
        x = function(x) if i is None else function(thetas[i], thetas[i + 1], x)
        inputs.append(x)
    for (i, function), x in reversed(list(zip(layers(thetas), inputs[:-1], strict=True))):
        if i is None:
            hess = hess @ jacrev(function)(x).square()
            continue
        *params, hess = (
            torch.tensordot(hess, jacobian.square(), 1)
            for jacobian in jacrev(function, (0, 1, 2))(thetas[i], thetas[i + 1], x)
        )
        found[i : i + 2] = params
    return found


def fisher_of_logits(logits):
    """The Fisher matrix at the logits of one choice."""
    scores = jacrev(lambda z: z.log_softmax(0))(logits)
    return scores.T @ (logits.softmax(0)[:, None] * scores)


class Choices:
    """Categorical distributions beside each other."""

    def __init__(self, parts):
        self.parts = parts

    def log_prob(self, actions):
        return sum(part.log_prob(a) for part, a in zip(self.parts, actions, strict=True))

    def entropy(self):
        return sum(part.entropy() for part in self.parts)


class PublishedAgent:
    """Actor and critic with their traces, in double precision.

    Args:
        actor: Weights and biases, which `learn` changes.
        critic: Likewise.
        kind: "gaussian" for mean and what becomes σ, else what the actor's logits are of:
            "categorical", "choices" (of 2 and 3) or "bits".
        form: How the policy steps, as `Reference` takes it.
        fisher: Whether the diagonal comes from curvature instead of g².
        **settings: Hyperparameters of both that differ from the published ones.
    """

    def __init__(self, actor, critic, kind, form="policy", fisher=False, **settings):
        self.kind, self.fisher = kind, fisher
        eta = {} if form == "obgd" else {"eta": 0.5}
        self.actor = Reference(actor, form, **{**settings, "kappa": 3.0})
        value_form = "obgd" if form == "obgd" else "value"
        self.critic = Reference(critic, value_form, **{**settings, **eta, "kappa": 2.0})

    def policy(self, outputs):
        if self.kind == "choices":
            return Choices(
                [Categorical(logits=z, validate_args=False) for z in self.parts(outputs)]
            )
        if self.kind == "categorical":
            return Categorical(logits=outputs, validate_args=False)
        if self.kind == "bits":
            return Independent(Bernoulli(logits=outputs, validate_args=False), 1)
        mean, before = outputs.chunk(2)
        return Independent(Normal(mean, softplus(before), validate_args=False), 1)

    def parts(self, outputs):
        return outputs.split((2, 3)) if self.kind == "choices" else (outputs,)

    def value(self, thetas, obs):
        return forward(thetas, obs)[0]

    def learn(self, obs, action, reward, next_obs, terminated, gamma=0.99, ent_coef=0.01):
        """Learn from a transition; return δ, v(s) and H(π(·|s)) before it."""
        values = self.critic.thetas
        value = self.value(values, obs)
        delta = reward + gamma * (1 - terminated) * self.value(values, next_obs) - value

        def loss(thetas):
            policy = self.policy(forward(thetas, obs))
            return -policy.log_prob(action) - ent_coef * delta.sign() * policy.entropy()

        entropy = self.policy(forward(self.actor.thetas, obs)).entropy()
        grads = grad(loss)(self.actor.thetas)
        slopes = grad(lambda thetas: -self.value(thetas, obs))(values)
        of_policy = of_value = None
        if self.fisher:
            outputs = forward(self.actor.thetas, obs)
            of_policy = curvatures(self.actor.thetas, obs, self.fisher_of(outputs).diagonal())
            of_value = curvatures(values, obs, torch.ones_like(value)[None])
        self.actor.step(grads, delta.item(), terminated, of_policy)
        self.critic.step(slopes, delta.item(), terminated, of_value)
        return torch.stack((delta, value, entropy))

    def fisher_of(self, outputs):
        """The Fisher matrix at the outputs of the actor: −E ∇∇ log π of the policy itself."""
        if self.kind in ("categorical", "choices"):
            return torch.block_diag(*map(fisher_of_logits, self.parts(outputs)))
        if self.kind == "bits":
            return torch.diag(outputs.sigmoid() * (-outputs).sigmoid())
        # E of the scores' squares: 1/σ² for the mean, 2 (σ'/σ)² for what becomes σ.
        _, before = outputs.chunk(2)
        std, slope = softplus(before), before.sigmoid()
        return torch.diag(torch.cat((1 / std**2, 2 * (slope / std) ** 2)))
