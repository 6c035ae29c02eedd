"""One call of a function is recorded and replayed."""

import pytest
import torch
import torch.nn.functional as F

from hesrl.recording import record, replayed


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


def test_a_replay_draws_new_random_numbers_in_the_order_of_the_function():
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


def test_a_replay_may_have_no_results():
    x = torch.ones(2)

    def double():
        x.mul_(2)
        return ()

    program = replayed(record(double, [x]).graph, [x])
    assert program([x]) == ()
    assert x.tolist() == [8, 8]
