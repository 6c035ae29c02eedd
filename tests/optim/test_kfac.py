"""K-FAC beside the dense Fisher matrix of each layer, and in the agents."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from hesrl import optim
from hesrl.agents import a2c, ppo
from hesrl.errors import UserError
from hesrl.rl.fisher import let_observe
from hesrl.train_step import TrainStep
from tests.agents.written_out import make_data
from tests.rl.variants import make_agent

N = 6


def network(**options) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2, **options)).double()


def observed(model, optimizer, x, seed=0):
    """Observe a batch, with gradients of a likelihood that are random numbers, and return them."""
    torch.manual_seed(seed)
    score = torch.randn(len(x), 2, dtype=torch.float64)
    optimizer.observe([model(x)], [score])
    return score


def by_sample(model, x, score):
    """Return the gradient of (output · score) for each sample and parameter, by torch.func."""
    params = {name: p.detach() for name, p in model.named_parameters()}

    def of_one(params, x, score):
        return functional_call(model, params, (x,)) @ score

    return vmap(grad(of_one), in_dims=(None, 0, 0))(params, x, score)


def layer_rows(grads, layer):
    """Return the gradients of weight and bias of a layer (N, o, i + 1)."""
    return torch.cat((grads[f"{layer}.weight"], grads[f"{layer}.bias"].unsqueeze(2)), 2)


@pytest.mark.parametrize("layer", ["0", "2"])
def test_the_factors_are_those_of_fishers_matrix(layer):
    """Of one sample the product of the factors is the dense block itself; of several their mean."""
    model, x = network(), torch.randn(N, 3, dtype=torch.float64)
    grads = []
    for rows in (x[:1], x):
        optimizer = optim.KFAC(model.parameters())
        score = observed(model, optimizer, rows)
        state = optimizer.state[model[int(layer)].weight]
        grads = layer_rows(by_sample(model, rows, score), layer).flatten(1)
        product = torch.kron(state["factor_out"], state["factor_in"])
        if len(rows) == 1:
            torch.testing.assert_close(product, grads.T @ grads)
    a = x if layer == "0" else model[1](model[0](x))
    a = torch.cat((a, torch.ones(N, 1, dtype=torch.float64)), 1)
    torch.testing.assert_close(state["factor_in"], a.T @ a / N)
    # Σ_i over the last column of a layer's gradients is g itself, since its input is 1 there.
    g = grads.view(N, -1, a.shape[1])[:, :, -1]
    torch.testing.assert_close(state["factor_out"], g.T @ g / N)


@pytest.mark.parametrize("delta", [1e9, 1e-4])
def test_a_step_is_the_damped_inverse_of_the_dense_blocks_within_the_trust_region(delta):
    model, x = network(), torch.randn(N, 3, dtype=torch.float64)
    settings = {"lr": 0.3, "damping": 0.05, "momentum": 0.5, "delta": delta}
    optimizer = optim.KFAC(model.parameters(), **settings)
    observed(model, optimizer, x)
    model(x).square().mean().backward()
    before = copy.deepcopy(model)
    optimizer.step()
    moves, along = [], 0.0
    for new, old in ((model[0], before[0]), (model[2], before[2])):
        state = optimizer.state[new.weight]
        fisher = torch.kron(state["factor_out"], state["factor_in"])
        v = torch.cat((new.weight.grad, new.bias.grad.unsqueeze(1)), 1).flatten()
        u = torch.linalg.solve(fisher + 0.05 * torch.eye(len(v), dtype=torch.float64), v)
        along += float(u @ fisher @ u)
        fall = torch.cat((old.weight - new.weight, (old.bias - new.bias).unsqueeze(1)), 1)
        moves.append((fall.flatten(), u))
    eta = min(0.3, math.sqrt(2 * delta / along))
    assert (eta == 0.3) == (delta > 1)
    for fall, u in moves:
        torch.testing.assert_close(fall, 0.5 * eta * u)
    # The second step repeats half of the first one: without a gradient only momentum is left.
    optimizer.zero_grad()
    (0 * model(x)).sum().backward()
    middle = copy.deepcopy(model)
    optimizer.step()
    torch.testing.assert_close(
        middle[0].weight - model[0].weight, 0.5 * (before[0].weight - middle[0].weight)
    )


def test_averages_forget_and_inverses_come_every_few_steps():
    model, x = network(bias=False), torch.randn(N, 3, dtype=torch.float64)
    optimizer = optim.KFAC(model.parameters(), stat_decay=0.6, factors_every=2, inverses_every=4)
    due, vectors, factors = [], [], []
    for step in range(6):
        due.append(optimizer.is_due())
        if due[-1]:
            observed(model, optimizer, x + step, seed=step)
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
        state = optimizer.state[model[0].weight]
        factors.append(state["factor_in"].clone())
        vectors.append(state["vectors_out"].clone())
    assert due == [True, False] * 3
    same = [torch.equal(a, b) for a, b in itertools.pairwise(vectors)]
    assert same == [True, True, True, False, True]

    def of(step):
        a = torch.cat((x + step, torch.ones(N, 1, dtype=torch.float64)), 1)
        return a.T @ a / N

    torch.testing.assert_close(factors[2], 0.5 * of(0) + 0.5 * of(2))
    torch.testing.assert_close(factors[4], 0.6 * factors[2] + 0.4 * of(4))
    assert optimizer.state[model[2].weight]["factor_in"].shape == (4, 4)


def test_a_loaded_state_goes_on_bit_for_bit():
    model, x = network(), torch.randn(N, 3, dtype=torch.float64)
    other = copy.deepcopy(model)
    pairs = [(m, optim.KFAC(m.parameters(), factors_every=2)) for m in (model, other)]

    def train(model, optimizer, steps):
        for step in steps:
            if optimizer.is_due():
                observed(model, optimizer, x, seed=step)
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()

    train(*pairs[0], range(3))
    other.load_state_dict(model.state_dict())
    pairs[1][1].load_state_dict(copy.deepcopy(pairs[0][1].state_dict()))
    for pair in pairs:
        train(*pair, range(3, 7))
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("module", [ppo, a2c])
@pytest.mark.parametrize(
    ("policy", "shared_trunk"), [("variance network", False), ("categorical", True)]
)
def test_the_agents_learn_with_it(module, policy, shared_trunk, capsys):
    agent, data = make_data(policy, shared_trunk)
    args = module.Args(optimizer="kfac", variance_network=policy == "variance network")
    args.check()
    args.fill_in()
    optimizer = optim.get("kfac")(agent.parameter_groups(), lr=args.learning_rate, delta=args.delta)
    let_observe(optimizer, agent)
    data = data if module is ppo else data[:-1]
    loss_fn = module.make_loss(agent, args)
    with torch.no_grad():  # K-FAC does not look then
        before = loss_fn(*data)[0].item()
    train_step = TrainStep(loss_fn, optimizer)
    for _ in range(20):
        train_step(data, torch.arange(len(data[0])))
    with torch.no_grad():
        assert loss_fn(*data)[0].item() < before
    assert train_step.tier == "eager"
    assert "eager, not recorded: KFAC does not do the same at each step" in capsys.readouterr().err
    state = optimizer.state[agent.critic[0].weight]
    assert state["observed"] == 2 and state["taken"] == 20


def test_what_it_cannot_take_is_refused():
    with pytest.raises(ValueError, match=r"KFAC takes weights of linear layers, .* shape \(3,\)"):
        optim.KFAC([nn.Parameter(torch.zeros(3))])
    with pytest.raises(ValueError, match="KFAC has no weight_decay"):
        optim.KFAC([{"params": network().parameters(), "weight_decay": 0.1}])
    with pytest.raises(ValueError, match="KFAC: damping must be a number from 0 up, not -1"):
        optim.KFAC(network().parameters(), damping=-1)
    model = network()
    optimizer = optim.KFAC([*model.parameters(), nn.Parameter(torch.zeros(1, 2))])
    with pytest.raises(ValueError, match=r"shape \(1, 2\) is not the weight of a linear layer"):
        observed(model, optimizer, torch.randn(N, 3, dtype=torch.float64))
    optimizer = optim.KFAC(model.parameters())
    model(torch.ones(1, 3, dtype=torch.float64)).sum().backward()
    with pytest.raises(RuntimeError, match="KFAC has observed nothing: call observe"):
        optimizer.step()
    for policy, observations, message in (
        ("gaussian", "vector", "takes linear layers, not log σ: use --variance-network"),
        ("categorical", "channels last", "takes linear layers, not the convolutions"),
    ):
        agent = make_agent(policy, observations)
        with pytest.raises(UserError, match=message):
            let_observe(optimizer, agent)
