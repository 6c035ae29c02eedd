"""What is rewritten before it is compiled has the same values."""

import pytest
import torch

from hesrl.train_step.lowering import lowered
from hesrl.train_step.recording import record


def rewritten(function, *tensors):
    """Return the operations of the lowered record, and its result."""
    graph = lowered(record(lambda: (function(*tensors),), tensors).graph)
    names = [str(n.target).split(".")[1] for n in graph.graph.nodes if n.op == "call_function"]
    return names, graph(*tensors)[0]


def draw(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize(("m", "k", "n"), [(5, 1, 4), (1, 6, 4), (1, 1, 4), (5, 1, 1), (1, 6, 1)])
def test_products_of_a_row_or_column_are_elementwise(m, k, n):
    a, b = draw(m, k), draw(k, n)
    names, result = rewritten(torch.mm, a, b)
    assert "mm" not in names
    torch.testing.assert_close(result, a @ b, rtol=1e-14, atol=1e-14)


def test_other_products_stay():
    names, result = rewritten(torch.mm, draw(2, 3), draw(3, 2))
    assert names == ["mm"]
    assert torch.equal(result, draw(2, 3) @ draw(3, 2))


def test_a_bias_is_added_by_itself():
    bias, a, b = draw(4), draw(2, 3), draw(3, 4)
    names, result = rewritten(torch.addmm, bias, a, b)
    assert names == ["mm", "add"]
    torch.testing.assert_close(result, bias + a @ b, rtol=1e-14, atol=1e-14)
    names, result = rewritten(lambda *t: torch.addmm(*t, beta=2), bias, a, b)
    assert names == ["addmm"]


def test_the_tangent_is_right_to_a_few_units_in_the_last_place():
    x = torch.cat([torch.linspace(-12, 12, 200_001), torch.logspace(-37, 1, 100_001)])
    names, result = rewritten(torch.tanh, x)
    exact = x.double().tanh()
    assert "tanh" not in names
    assert ((result - exact).abs() <= 4.1e-7 * exact.abs()).all()
    assert result.abs().max() == 1
    special = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0])
    at_special = rewritten(torch.tanh, special)[1]
    torch.testing.assert_close(at_special, special.tanh(), rtol=4.1e-7, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_tangent_of_other_precisions_stays(dtype):
    assert rewritten(torch.tanh, draw(3).to(dtype))[0] == ["tanh"]


def test_products_of_half_precision_stay():
    a, b = (draw(*shape).bfloat16() for shape in ((5, 1), (1, 4)))
    assert rewritten(torch.mm, a, b)[0] == ["mm"]
