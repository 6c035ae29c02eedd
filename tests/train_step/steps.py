"""Networks, losses and training steps of the tests, and how they are compared."""

import torch
from torch import nn

from hesrl import optim
from hesrl.losses import (
    BernoulliEntropyBonus,
    BernoulliSurrogateLoss,
    CategoricalSurrogateLoss,
    GaussianNLLLoss,
    GaussianSurrogateLoss,
    MultiCategoricalEntropyBonus,
    MultiCategoricalSurrogateLoss,
    ValueLoss,
)
from hesrl.train_step import TrainStep

B, N = 24, 8
OPTIONS = ("lr", "delta", "capturable")


def mlp(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, 5), nn.Tanh(), nn.Linear(5, n_out))


class Separate(nn.Module):
    """Two networks and a log σ; what PPO does with continuous actions."""

    def __init__(self):
        super().__init__()
        self.actor, self.critic = mlp(4, 3), mlp(4, 1)
        self.logstd = nn.Parameter(torch.zeros(1, 3))
        self.surrogate, self.value_loss = GaussianSurrogateLoss(0.2), ValueLoss(0.2)

    def loss(self, obs, actions, logprobs, advantages, returns, values):
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        mean = self.actor(obs)
        pg_loss, log_ratio = self.surrogate(mean, self.logstd, actions, logprobs, advantages)
        v_loss = self.value_loss(self.critic(obs).squeeze(1), returns, values)
        loss = pg_loss - 0.01 * self.logstd.sum() + 0.5 * v_loss
        return loss, (pg_loss.detach(), log_ratio)

    def batch(self, dtype):
        data = [draw(B, 4), draw(B, 3), 0.1 * draw(B) - 4, draw(B), draw(B), draw(B)]
        return [x.to(dtype) for x in data]


class Shared(Separate):
    """A convolution below an actor of discrete actions and a critic."""

    def __init__(self):
        super().__init__()
        convolution = nn.Conv2d(1, 2, 2), nn.ELU(), nn.Flatten()
        self.trunk = nn.Sequential(*convolution, nn.Linear(8, 5), nn.Tanh())
        self.actor, self.critic = nn.Linear(5, 3), nn.Linear(5, 1)
        self.surrogate, self.logstd = CategoricalSurrogateLoss(0.2), None

    def loss(self, obs, actions, logprobs, advantages, returns, values):
        features = self.trunk(obs)
        pg_loss, log_ratio = self.surrogate(self.actor(features), actions, logprobs, advantages)
        v_loss = self.value_loss(self.critic(features).squeeze(1), returns, values)
        return pg_loss + 0.5 * v_loss, (pg_loss.detach(), log_ratio)

    def batch(self, dtype):
        data = [draw(B, 1, 3, 3), draw(B), 0.1 * draw(B) - 1, draw(B), draw(B), draw(B)]
        data = [x.to(dtype) for x in data]
        return [data[0], torch.arange(B) % 3, *data[2:]]


class VarianceNetwork(Separate):
    """A variance of its own for every sample, which the loss checks by value.

    Curvature reaches it through a product with a number of Python's.
    """

    def __init__(self):
        super().__init__()
        self.actor, self.nll, self.logstd = mlp(4, 6), GaussianNLLLoss(scale="variance"), None

    def loss(self, obs, actions, *_):
        mean, spread = self.actor(obs).chunk(2, dim=1)
        loss = self.nll(mean, nn.functional.softplus(0.5 * spread), actions)
        return loss, (loss.detach(),)


class Independent(Separate):
    """Two choices and three bits at once, with a bonus for the entropy of both."""

    def __init__(self):
        super().__init__()
        self.actor, self.logstd = mlp(4, 8), None
        self.choices = MultiCategoricalSurrogateLoss((2, 3), 0.2)
        self.bits = BernoulliSurrogateLoss(0.2)
        self.bonuses = MultiCategoricalEntropyBonus((2, 3), 0.1), BernoulliEntropyBonus(0.1)

    def loss(self, obs, actions, logprobs, advantages, returns, values):
        choices, bits = self.actor(obs).split((5, 3), 1)
        data = logprobs, advantages
        loss, log_ratio = self.choices(choices, actions[:, :2].long(), *data)
        loss = loss + self.bits(bits, actions[:, 2:], *data)[0]
        loss = loss + self.bonuses[0](choices) + self.bonuses[1](bits)
        v_loss = self.value_loss(self.critic(obs).squeeze(1), returns, values)
        return loss + 0.5 * v_loss, (loss.detach(), log_ratio)

    def batch(self, dtype):
        batch, rows = super().batch(dtype), torch.arange(B)
        columns = rows % 2, rows % 3, rows // 2 % 2, rows // 3 % 2, rows % 2
        batch[1] = torch.stack(columns, 1).to(dtype)
        return batch


def draw(*shape):
    return torch.randn(*shape)


def make(network=Separate, name="adahesscale", dtype=torch.float64, seed=0, **settings):
    """Return a step, its network, and a batch; equal ones for equal arguments."""
    torch.manual_seed(seed)
    net = network().to(dtype)
    options = {option: settings.pop(option) for option in OPTIONS if option in settings}
    optimizer = optim.get(name)(net.parameters(), **{"lr": 0.01, **options})
    batch = net.batch(dtype)
    return TrainStep(net.loss, optimizer, **settings), optimizer, net, batch


def take(step, batch, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [step(batch, torch.randperm(B, generator=generator)[:N]) for _ in range(count)][-1]


def assert_equal_state(one, other, **tolerance):
    """Gradient and curvature of the last step are compared by their moving averages."""
    for p, q in zip(one.param_groups[0]["params"], other.param_groups[0]["params"], strict=True):
        torch.testing.assert_close(p, q, **tolerance)
        assert one.state[p].keys() == other.state[q].keys()
        for name, value in one.state[p].items():
            torch.testing.assert_close(value, other.state[q][name], **tolerance)


def step_params(optimizer):
    return optimizer.param_groups[0]["params"]
