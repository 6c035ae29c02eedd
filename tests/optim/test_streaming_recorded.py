"""A whole transition in one record: both networks, their TD error, and two streaming steps."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hesrl.optim import IntentionalKL, IntentionalPolicy, IntentionalValue, ObGD
from hesrl.optim.states import SCALARS
from hesrl.train_step import RecordedStep
from hesrl.train_step.compilation import compiled
from hesrl.train_step.recording import record, replayed
from tests.compiler import COMPILER

CURVED = dict(source="hesscale_gn", power=1.0, damping=0.1)


class Learner:
    """An actor and a critic that learn from the transition in `transition`."""

    def __init__(self, value_class, policy_class, **settings):
        torch.manual_seed(0)
        self.critic, self.actor = (
            nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6), nn.LeakyReLU(), nn.Linear(6, n))
            for n in (1, 4)
        )
        settings["capturable"] = True
        self.value = value_class(self.critic.double().parameters(), **settings)
        self.policy = policy_class(self.actor.double().parameters(), **settings)
        s, action, reward = (torch.zeros(1, n).double() for n in (3, 2, 1))
        self.transition = [s, action, reward, s.clone(), torch.zeros((), dtype=torch.bool)]

    def learn(self):
        s, action, reward, s_next, terminated = self.transition
        self.value.zero_grad()
        self.policy.zero_grad()
        v = self.critic(s)
        with torch.no_grad():
            delta = (reward + 0.99 * ~terminated * self.critic(s_next) - v).squeeze()
        (0.5 * (v - v.detach() - 1).square()).sum().backward()  # gradient −∂v, curvature (∂v)²
        mean, raw = self.actor(s).chunk(2, 1)
        policy = torch.distributions.Normal(mean, F.softplus(raw), validate_args=False)
        bonus = 0.01 * delta.sign() * policy.entropy().sum()
        (-policy.log_prob(action).sum() - bonus).backward()
        self.policy.step(delta, reset=terminated)
        self.value.step(delta, reset=terminated)
        return (delta,)

    def arguments(self):
        tensors = list(self.transition)
        for optimizer in (self.value, self.policy):
            for param in optimizer.param_groups[0]["params"]:
                tensors += [param, *optimizer.state[param].values()]
        return tensors

    def observe(self, step):
        generator = torch.Generator().manual_seed(step)
        for tensor in self.transition[:4]:
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
        self.transition[4].fill_(step % 7 == 6)


def recorded(form, learner):
    """Take the first step as it is, and return what takes the others."""
    learner.observe(0)
    learner.learn()
    arguments = learner.arguments()
    before = [tensor.detach().clone() for tensor in arguments]
    step = record(learner.learn, arguments)
    with torch.no_grad():
        for tensor, value in zip(arguments, before, strict=True):
            tensor.copy_(value)
    inputs = [*arguments, *step.constants]
    program = form(step.graph, inputs)
    with torch.no_grad():
        for tensor, value in zip(arguments, before, strict=True):
            tensor.copy_(value)
    return lambda: program(inputs)


def both(form, *classes, **settings):
    """Return all tensors after 30 steps, eager and by a program."""
    ends = []
    for is_recorded in (False, True):
        learner = Learner(*classes, **settings)
        run = recorded(form, learner) if is_recorded else learner.learn
        for step in range(int(is_recorded), 30):
            learner.observe(step)
            run()
        ends.append([t.detach() for t in learner.arguments()])
    return ends


@pytest.mark.parametrize(
    ("classes", "settings"),
    [
        ((IntentionalValue, IntentionalPolicy), {}),
        ((IntentionalValue, IntentionalKL), {"power": 0.0}),
        ((IntentionalValue, IntentionalPolicy), CURVED),
        ((ObGD, ObGD), {}),
    ],
)
def test_a_replayed_transition_is_the_eager_one_bit_for_bit(classes, settings):
    eager, replay = both(replayed, *classes, **settings)
    assert all(map(torch.equal, eager, replay))


@pytest.mark.parametrize("is_warm", [False, True])
def test_a_recorded_step_takes_both_optimizers(is_warm):
    """Of `hesrl.train_step`, also one that is recorded before the first step."""
    learner, other = (Learner(IntentionalValue, IntentionalPolicy) for _ in range(2))
    step = RecordedStep(
        lambda *_: learner.learn(), [learner.value, learner.policy], expected_steps=0, break_even=1
    )
    if is_warm:
        step.warm_up(*learner.transition)
    for count in range(20):
        for one, run in ((learner, lambda: step(*learner.transition)), (other, other.learn)):
            one.observe(count)
            run()
    assert step.tier == "replayed"
    assert all(map(torch.equal, learner.arguments(), other.arguments()))


@COMPILER
def test_a_compiled_transition_is_the_eager_one(tmp_path, monkeypatch):
    monkeypatch.setenv("HESRL_CACHE", str(tmp_path))
    eager, program = both(compiled, IntentionalValue, IntentionalKL, **CURVED)
    torch.testing.assert_close(program, eager, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("optimizer_class", [IntentionalValue, IntentionalKL, ObGD])
def test_a_state_that_is_made_before_the_first_step_is_the_one_it_begins_with(optimizer_class):
    first, made = Learner(optimizer_class, ObGD), Learner(optimizer_class, ObGD)
    made.value.init_state(), made.policy.init_state()
    for learner in (first, made):
        learner.observe(1)
        learner.learn()
    assert all(map(torch.equal, first.arguments(), made.arguments()))
    state = made.value.state_dict()["state"]
    kept = [len(SCALARS & state[index].keys()) for index in range(4)]
    assert kept == ([0, 0, 0, 0] if optimizer_class is ObGD else [4, 0, 0, 0])


@pytest.mark.parametrize("optimizer_class", [IntentionalValue, ObGD])
@pytest.mark.parametrize("given", [(1.0, torch.tensor(False)), (torch.tensor(1.0), False)])
def test_a_number_that_a_record_would_keep_for_all_steps_is_refused(optimizer_class, given):
    weight = nn.Parameter(torch.ones(2))
    optimizer = optimizer_class([weight], capturable=True)
    weight.grad = torch.ones(2)
    with pytest.raises(TypeError, match="must be a tensor where the step is recorded, since "):
        record(lambda: (optimizer.step(*given), weight)[1:], [weight])
    assert not optimizer.state
