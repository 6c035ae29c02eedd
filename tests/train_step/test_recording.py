"""One call of a function is recorded and replayed."""

import pytest
import torch
import torch.nn.functional as F

from hesrl.train_step.recording import record, replayed
from tests.train_step.steps import Separate, Shared, make, take

FORMS = pytest.mark.parametrize("form", ["interpreter", "python"], indirect=True)


@pytest.fixture
def form(request, monkeypatch):
    """Replay by PyTorch's interpreter, or as if PyTorch had none."""
    if request.param == "python":
        monkeypatch.delattr(torch.jit, "trace")
        monkeypatch.delattr(torch.jit, "optimized_execution")
    return request.param


def test_a_record_has_the_constants_once():
    x, total = torch.ones(2), torch.full((2,), 3.0)
    step = record(lambda: (x.add_(total).mul_(total),), [x])
    assert [id(t) for t in step.constants] == [id(total)]
    assert x.tolist() == step.results[0].tolist() == [12.0, 12.0]
    assert step.graph(x, total)[0].tolist() == [45.0, 45.0]


@pytest.mark.parametrize("change", ["add_", "view", "copy", "batch_norm"])
def test_a_change_of_a_tensor_that_is_no_argument_is_refused_before_it_happens(change):
    x, other = torch.arange(6.0).view(3, 2), torch.zeros(2)
    changes = {
        "add_": lambda: other.add_(1),
        "view": lambda: other.view(2, 1)[0].fill_(1),
        "copy": lambda: torch._foreach_copy_([other], [x[1]]),
        "batch_norm": lambda: F.batch_norm(x, other, torch.ones(2), training=True),
    }
    with pytest.raises(RuntimeError, match=r"of shape \(.*\) that the optimizer does not hold"):
        record(lambda: (changes[change](),), [x])
    assert other.tolist() == [0, 0]


def test_new_tensors_and_parts_of_arguments_may_change():
    x = torch.ones(3)
    step = record(lambda: (x[1:].mul_(2).clone().add_(1), torch.zeros(1).add_(x[2])), [x])
    assert x.tolist() == [1, 2, 2]
    assert [t.tolist() for t in step.results] == [[3, 3], [2]]


@FORMS
def test_a_replay_draws_new_random_numbers_in_the_order_of_the_function(form):
    x = torch.zeros(3)
    step = record(lambda: (x.add_(torch.rand(3)), torch.randint(9, (2,))), [x])
    program = replayed(step.graph, [x])
    torch.manual_seed(0)
    x.zero_()
    found = [[t.clone() for t in program([x])] for _ in range(2)]
    torch.manual_seed(0)
    total = torch.zeros(3)
    for sum_, index in found:
        total = total + torch.rand(3)
        assert torch.equal(sum_, total)
        assert torch.equal(index, torch.randint(9, (2,)))


@FORMS
def test_a_replay_may_have_no_results(form):
    x = torch.ones(2)

    def double():
        x.mul_(2)
        return ()

    program = replayed(record(double, [x]).graph, [x])
    x.fill_(3)
    assert program([x]) == ()
    assert x.tolist() == [6, 6]


@FORMS
def test_a_replay_keeps_numbers_that_python_has_no_word_for(form):
    x = torch.tensor([1.0, -3.0])

    def clamp():
        return (x.clamp(-torch.inf, 2.0), x.to(torch.float64), torch.full_like(x, torch.nan))

    program = replayed(record(clamp, [x]).graph, [x])
    clamped, wide, nan = program([torch.tensor([5.0, -7.0])])
    assert clamped.tolist() == [2, -7]
    assert wide.dtype == torch.float64 and nan.isnan().all()


@FORMS
def test_a_replay_of_lists_of_tensors_changes_them(form):
    x, y = torch.ones(2), torch.full((3,), 4.0)

    def step():
        torch._foreach_mul_([x, y], torch._foreach_sqrt([y[0], x[0]]))
        return (torch.stack([x.sum(), y.sum()]),)

    program = replayed(record(step, [x, y]).graph, [x, y])
    x.fill_(1), y.fill_(4)
    assert program([x, y])[0].tolist() == [4, 12]
    assert x.tolist() == [2, 2] and y.tolist() == [4, 4, 4]


@pytest.mark.parametrize("name", ["adam", "adahesscale", "adahessian", "scaled-adahesscale"])
@pytest.mark.parametrize("network", [Separate, Shared])
def test_both_forms_take_the_same_steps(network, name, monkeypatch):
    ends = []
    for is_there in (True, False):
        if not is_there:
            monkeypatch.delattr(torch.jit, "trace")
        step, optimizer, _, batch = make(network, name, torch.float32, max_grad_norm=0.5)
        torch.manual_seed(1)
        metrics = take(step, batch, 5)
        assert step.tier == "replayed"
        params = [p for group in optimizer.param_groups for p in group["params"]]
        ends.append([*metrics, *params, *(v for p in params for v in optimizer.state[p].values())])
    assert all(map(torch.equal, *ends))


def test_the_interpreter_is_taken_where_it_can_be(monkeypatch):
    """Without it, steps are slower and equal: no test above would tell."""
    x, traced = torch.ones(2), []
    native = torch.jit.trace
    monkeypatch.setattr(torch.jit, "trace", lambda *a, **k: traced.append(native(*a, **k)))
    replayed(record(lambda: (x * 2,), [x]).graph, [x])
    assert len(traced) == 1
