"""A step on a device that is not the CPU, by PyTorch's "meta", which is a GPU without numbers.

It refuses a tensor that was left on the CPU, and a question about a number, for which a GPU would
make the whole step wait.
"""

import numpy as np
import pytest
import torch

from hesrl import optim
from hesrl.agents import a2c, ppo
from hesrl.losses.checks import without_value_checks
from hesrl.rl.optimizer_settings import hyperparameters
from hesrl.rl.training_state import curvature_of
from hesrl.train_step import TrainStep
from tests.rl.variants import OBSERVATIONS, POLICIES, draw_observations, make_agent

N = 12
each_agent = pytest.mark.parametrize("module", [ppo, a2c], ids=["ppo", "a2c"])


def take_steps(module, optimizer, policy="gaussian", observations="vector", **settings):
    args = module.Args(optimizer=optimizer, ent_coef=0.01)
    args.check()
    args.fill_in()
    agent = make_agent(policy, observations, **settings).to("meta")
    stepper = optim.get(optimizer)(agent.parameter_groups(), **hyperparameters(args))
    step = TrainStep(
        module.make_loss(agent, args),
        stepper,
        max_grad_norm=args.max_grad_norm,
        compile="off",
        after_backward=curvature_of(agent, stepper),
    )
    actions = torch.from_numpy(np.zeros((N, *agent.policy.shape), agent.policy.dtype))
    obs = torch.from_numpy(draw_observations(observations, N))
    numbers = [torch.zeros(N) for _ in range(3 if module is a2c else 4)]
    batch = [tensor.to("meta") for tensor in (obs, actions, *numbers)]
    with without_value_checks():  # as on a GPU
        for _ in range(3):
            metrics = step(batch, torch.arange(N // 2, device="meta"))
    return metrics, stepper


@each_agent
@pytest.mark.parametrize("optimizer", sorted(ppo.DEFAULTS))
def test_no_optimizer_mixes_devices_or_waits_for_a_number(module, optimizer):
    metrics, stepper = take_steps(module, optimizer)
    assert {metric.device.type for metric in metrics} == {"meta"}
    averages = {name: t.device.type for s in stepper.state.values() for name, t in s.items()}
    assert {name for name, on in averages.items() if on == "cpu"} <= {"step", "hess_count"}


@each_agent
@pytest.mark.parametrize("shared_trunk", [False, True])
@pytest.mark.parametrize("observations", OBSERVATIONS)
@pytest.mark.parametrize("policy", POLICIES)
def test_no_network_mixes_devices_or_waits_for_a_number(module, policy, observations, shared_trunk):
    metrics, _ = take_steps(module, "adahesscale", policy, observations, shared_trunk=shared_trunk)
    assert {metric.device.type for metric in metrics} == {"meta"}


def test_the_device_refuses_a_tensor_of_another_and_a_number():
    here, there = torch.ones(2), torch.ones(2, device="meta")
    with pytest.raises(RuntimeError, match="expected device cpu"):
        here * there
    with pytest.raises(RuntimeError, match="item"):
        there.sum().item()
