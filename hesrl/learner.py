"""An actor and a critic with their optimizer: what an agent's update works on."""

from __future__ import annotations

import math
from typing import Any, Protocol

from torch import Tensor, nn

from hesrl import optim
from hesrl.curvature import take_curvature
from hesrl.mlp import ExplicitMLP, FlatParameters, numpy_forward

Derivatives = tuple[Tensor, Tensor]
"""Gradient and Hessian diagonal of the loss at some outputs, both of their shape."""

OPTIMIZERS = tuple(
    name for name in optim.known() if optim.get(name).curvature in (None, "hesscale", "hesscale_gn")
)
"""Names of the optimizers whose curvature the written-out update computes."""

MOMENTS = {
    "exp_avg": "gradient",
    "exp_avg_sq": "squared gradient",
    "exp_hess_sq": "squared curvature",
}
"""What the optimizers' moving averages are averages of."""


class GaussianActorCritic(Protocol):
    """Networks of linear and tanh layers, as `hesrl.mlp.ExplicitMLP` takes them."""

    actor_mean: nn.Sequential
    """From observations (N, obs_dim) to means of actions (N, act_dim)."""
    actor_logstd: nn.Parameter
    """log σ of the actions (1, act_dim)."""
    critic: nn.Sequential
    """From observations (N, obs_dim) to values (N, 1)."""

    def parameters(self) -> Any:
        """Return all parameters."""

    def state_dict(self) -> dict[str, Any]:
        """Return all parameters by name."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Take over what `state_dict` returned."""


class Learner:
    """The written-out update of a Gaussian actor and a critic, on one flat parameter vector.

    Args:
        agent: The networks; their parameters become views of the vector.
        optimizer: Name of the optimizer, one of `OPTIMIZERS`.
        **settings: Its hyperparameters.

    Attributes:
        actor: Forward pass of ``agent.actor_mean`` on a minibatch.
        critic: Forward pass of ``agent.critic`` on a minibatch.
        act: From observations (N, obs_dim) to means of actions (N, act_dim), in NumPy.
        value: From observations (N, obs_dim) to values (N, 1), in NumPy.
        optimizer: Steps all parameters: the vector, or if it scales its steps, the part of the
            actor and that of the critic, each in a group of its own.

    Raises:
        ValueError: The optimizer is unknown, or its curvature cannot be computed here.
    """

    def __init__(self, agent: GaussianActorCritic, optimizer: str, **settings: Any) -> None:
        optimizer_class = optim.get(optimizer)
        if optimizer not in OPTIMIZERS:
            raise ValueError(
                f"the written-out update has no {optimizer_class.curvature} curvature for "
                f"{optimizer!r}: choose one of {', '.join(OPTIMIZERS)}"
            )
        self.agent = agent
        method = optimizer_class.curvature
        networks = (
            [*agent.actor_mean.parameters(), agent.actor_logstd],
            list(agent.critic.parameters()),
        )
        self._flat = FlatParameters(
            [p for params in networks for p in params],
            with_curvature=method is not None,
            method=method or "hesscale",
        )
        self._vectors = [self._flat.vector]
        if issubclass(optimizer_class, optim.Scaled):
            sizes = [sum(p.numel() for p in params) for params in networks]
            self._vectors = self._flat.parts(sizes)
        self.optimizer = optimizer_class([{"params": [v]} for v in self._vectors], **settings)
        gauss_newton = method == "hesscale_gn"
        self.actor = ExplicitMLP(agent.actor_mean, gauss_newton=gauss_newton)
        self.critic = ExplicitMLP(agent.critic, gauss_newton=gauss_newton)
        self.act, self.value = numpy_forward(agent.actor_mean), numpy_forward(agent.critic)
        self._grad_log_std = agent.actor_logstd.grad
        self._hess_log_std = take_curvature(agent.actor_logstd)

    def set_learning_rate(self, lr: float) -> None:
        """Change the step size of all groups."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def backward(self, *, mean: Derivatives, log_std: Derivatives, values: Derivatives) -> None:
        """Overwrite the gradient and, for a second-order optimizer, the curvature.

        Args:
            mean: Derivatives at the outputs of the last `actor.forward` (N, act_dim).
            log_std: Derivatives at log σ (1, act_dim).
            values: Derivatives at the outputs of the last `critic.forward`, as (N,).
        """
        self.actor.backward(*mean)
        self.critic.backward(values[0].unsqueeze(1), values[1].unsqueeze(1))
        assert self._grad_log_std is not None
        self._grad_log_std.copy_(log_std[0])
        if self._hess_log_std is not None:
            self._hess_log_std.copy_(log_std[1])

    def step(self, max_grad_norm: float) -> None:
        """Clip the norm of the gradient, unless ``max_grad_norm`` is infinite, and take a step."""
        if max_grad_norm < math.inf:
            self._flat.clip_grad_norm(max_grad_norm)
        self.optimizer.step()

    def curvature_metrics(self) -> dict[str, float]:
        """Return norm, share of negative entries and largest magnitude of the last curvature."""
        hess = self._flat.hess
        if hess is None:
            return {}
        return {
            "curvature/norm": hess.norm().item(),
            "curvature/negative_share": (hess < 0).float().mean().item(),
            "curvature/largest": hess.abs().max().item(),
        }

    def check_finite(self, loss: float, global_step: int) -> None:
        """Refuse an update that met NaN or infinity, before it reaches a checkpoint.

        Args:
            loss: The last loss.
            global_step: Environment steps so far, for the message.

        Raises:
            FloatingPointError: The message names the first quantity that is not finite.
        """
        values = {"loss": loss}
        for vector in self._vectors:
            moments = self.optimizer.state.get(vector, {})
            tensors = {name: moments[key] for key, name in MOMENTS.items() if key in moments}
            for name, tensor in {**tensors, "sum of the parameters": vector.detach()}.items():
                values[name] = values.get(name, 0.0) + tensor.sum().item()
        for name, value in values.items():
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"the {name} is not finite at step {global_step}: try a smaller "
                    "--learning-rate or a larger --eps; the last checkpoint is kept"
                )

    def state_dict(self) -> dict[str, Any]:
        """Return the networks and the optimizer's state."""
        return {"agent": self.agent.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.agent.load_state_dict(state["agent"])
        self.optimizer.load_state_dict(state["optimizer"])
