"""What is written in C computes what PyTorch does, operation by operation."""

import math

import pytest
import torch
import torch.nn.functional as F

from hesrl.train_step.compilation import compiled
from hesrl.train_step.expressions import COMPARISONS, ENTRYWISE
from hesrl.train_step.recording import record
from tests.compiler import COMPILER

pytestmark = COMPILER
ENDS = torch.tensor([math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 30.0])


def draw(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def both(function, *tensors):
    """Return the results of a function and its arguments after it, eager and compiled."""
    ends = []
    own = [x.clone() for x in tensors]
    step = record(lambda: tuple(function(*own)), own)
    for program in (step.graph, compiled(step.graph, [*own, *step.constants])):
        passed = [x.clone() for x in tensors]
        inputs = [*passed, *step.constants]
        results = program(*inputs) if program is step.graph else program(inputs)
        ends.append([*(x.clone() for x in results), *passed])
    return ends


def assert_same(function, *tensors, names=(), **tolerance):
    tolerance = tolerance or {"rtol": 1e-12, "atol": 1e-13}
    for number, (a, b) in enumerate(zip(*both(function, *tensors), strict=True)):
        name = f"{dict(enumerate(names)).get(number, number)}: "
        torch.testing.assert_close(
            b, a, equal_nan=True, **tolerance, msg=lambda text, name=name: name + text
        )


aten = torch.ops.aten
ARGUMENTS = {
    "add": [(0.5,)],
    "sub": [(0.5,)],
    "rsub": [(0.5,)],
    "pow": [(0.5,), (2,), (3,), (1.5,), (-1.0,)],
    "clamp": [(-1.0, 2.0), (None, 0.5), (0.5,), (2.0, 1.0)],
    "clamp_min": [(0.5,)],
    "clamp_max": [(0.5,)],
    "nan_to_num": [(9.0, 8.0, -8.0)],
    "leaky_relu": [(0.1,)],
    "elu": [(0.5, 1.5, 2.0)],
    "softplus": [(2.0, 20.0)],
}
OPERANDS = {
    "lerp": lambda x, y: [aten.lerp(x, y, 0.1), aten.lerp(x, y, 0.9)],
    "addcmul": lambda x, y: [aten.addcmul(x, y, y), aten.addcmul(x, y, x, value=-1)],
    "addcdiv": lambda x, y: [aten.addcdiv(x, y, y, value=0.5)],
    "masked_fill": lambda x, y: [x.masked_fill(y > 0, 3.0)],
    "tanh_backward": lambda x, y: [aten.tanh_backward(x, y)],
    "sigmoid_backward": lambda x, y: [aten.sigmoid_backward(x, y)],
    "silu_backward": lambda x, y: [aten.silu_backward(x, y)],
    "threshold_backward": lambda x, y: [aten.threshold_backward(x, y, 0)],
    "leaky_relu_backward": lambda x, y: [aten.leaky_relu_backward(x, y, 0.1, False)],
    "elu_backward": lambda x, y: [
        aten.elu_backward(x, 0.5, 1.5, 2.0, False, y), aten.elu_backward(x, 0.5, 1.5, 2.0, True, y)
    ],
    "softplus_backward": lambda x, y: [aten.softplus_backward(x, y, 2.0, 20.0)],
    "bitwise_not": lambda x, y: [~(x > y)],
    "bitwise_and": lambda x, y: [(x > 0) & (y > 0)],
    "bitwise_or": lambda x, y: [(x > 0) | (y > 0)],
}  # fmt: skip
PAIRS = {"add", "sub", "mul", "div", "minimum", "maximum", "logical_and", "logical_or"}
PAIRS |= {"gt", "ge", "lt", "le", "eq", "ne"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_entrywise_operation_at_every_pair_of_numbers(dtype):
    names = []

    def function(x, y):
        results = []
        for name in ENTRYWISE | COMPARISONS:
            operation = getattr(aten, name, None)
            results += OPERANDS.get(name, lambda *_: [])(x, y)
            results += [operation(x, *args) for args in ARGUMENTS.get(name, [])]
            results += [operation(x, y)] if name in PAIRS else []
            if name not in {*OPERANDS, *ARGUMENTS, *PAIRS}:
                results.append(operation(x))
            names.extend([name] * (len(results) - len(names)))
        return results

    numbers = torch.cat([ENDS.to(dtype), draw(6, dtype=dtype)])
    x, y = (z.flatten().contiguous() for z in torch.meshgrid(numbers, numbers, indexing="ij"))
    tolerance = (1e-12, 1e-14) if dtype == torch.float64 else (1e-6, 1e-7)
    assert_same(function, x, y, names=names, rtol=tolerance[0], atol=tolerance[1])


def test_sums_products_and_other_composites():
    def function(x, y, w, index):
        shape, row = [4], x[:1]
        normed = aten.native_layer_norm(x, shape, y[0], y[1], 1e-5)
        backward = aten.native_layer_norm_backward(
            y, x, shape, normed[1], normed[2], y[0], y[1], [True, True, True]
        )
        soft, log_soft = x.softmax(1), x.log_softmax(0)
        return [
            x.sum(), x.sum(0), x.sum(1, keepdim=True), x.mean(), x.mean(1), x.std(), x.var(0),
            *torch.std_mean(x, 1), *torch.var_mean(x, (0, 1), correction=0), x.amax(0),
            torch.linalg.vector_norm(x), x.logsumexp(1), soft, log_soft, *normed, *backward,
            aten._softmax_backward_data(y, soft, 1, x.dtype),
            aten._log_softmax_backward_data(y, log_soft, 0, x.dtype),
            torch.where(x > 0, x, y), torch.where(x > 0, x, 0.0), torch.cat([x, y], 1),
            torch.stack([x, y], 1), x @ w, x.t() @ y, row @ w, w.t() @ row.t(), row.t() @ row,
            x @ y[0], torch.addmm(w[0], x, w), torch.addmm(w[0], x, w, beta=2, alpha=3),
            x[index], x.gather(1, index[:, None] % 4), x.gather(0, (index[:4] * 0)[None]),
            torch.zeros_like(x).scatter(1, index[:6, None] % 4, 2.0), x.to(torch.int64), x > y,
            x.double().to(torch.float32) * y, torch.full((2,), 3.0), x.new_ones(2, 2), ~(x > 0),
        ]  # fmt: skip

    x, y, w = draw(6, 4), draw(6, 4, seed=1), draw(4, 5, seed=2)
    assert_same(function, x, y, w, torch.tensor([5, -1, 0, 3, -6, 2]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_of_every_size(dtype):
    sizes = [(m, k, n) for m in (1, 3, 9) for k in (1, 17) for n in (1, 6, 16, 33)]

    def function(*tensors):
        results = []
        for a, b in zip(tensors[::2], tensors[1::2], strict=True):
            results += [a @ b, a.t().contiguous().t() @ b, a @ b.t().contiguous().t()]
            results.append((b.t() @ a.t()).t() + a[0, 0])
        return results

    tensors = [draw(*s, dtype=dtype) for m, k, n in sizes for s in ((m, k), (k, n))]
    wide = dtype == torch.float64
    assert_same(function, *tensors, rtol=1e-12 if wide else 1e-5, atol=1e-13 if wide else 1e-5)


def test_a_product_of_a_wide_matrix_in_copied_panels():
    assert_same(lambda a, b: [a @ b], draw(5, 300), draw(300, 70), rtol=1e-11, atol=1e-11)


def test_the_tangent_is_right_to_a_few_units_in_the_last_place():
    x = torch.cat([torch.linspace(-12, 12, 200_001), torch.logspace(-37, 1, 100_001)])
    (result, _) = both(lambda x: [x.tanh()], x)[1]
    exact = x.double().tanh()
    assert ((result - exact).abs() <= 4.1e-7 * exact.abs()).all()
    assert result.abs().max() == 1


def test_long_sums_in_single_precision_are_as_good_as_pytorchs():
    x = draw(300_000, dtype=torch.float32) + 3
    ((total, *_),) = both(lambda x: [x.sum(), x.mean()], x)[1:]
    assert total.double() == pytest.approx(x.double().sum().item(), rel=1e-6)


def test_an_index_beyond_its_tensor_is_refused():
    x, index = draw(4), torch.tensor([3, -4])
    step = record(lambda: (x[index],), [x, index])
    program = compiled(step.graph, [x, index])
    assert program([x, index])[0].tolist() == [x[3], x[0]]
    for beyond in (4, -5):
        with pytest.raises(IndexError, match="an index of the minibatch is out of range"):
            program([x, torch.tensor([0, beyond])])


def test_what_there_is_no_c_for_is_left_to_pytorch():
    image, kernel = draw(2, 3, 5, 5), draw(4, 3, 2, 2)

    def function(image, kernel, half):
        y = F.conv2d(image * 2, kernel).tanh()
        half.mul_(2)
        y.cumsum_(1)
        return [y, y.cumsum(0), half + 1, torch.rand_like(y), torch.randint(5, (3,))]

    own = [image, kernel, draw(3).bfloat16()]
    step = record(lambda: tuple(function(*own)), own)
    ends = []
    program = compiled(step.graph, [*own, *step.constants])
    for run in (lambda x: step.graph(*x), program):
        torch.manual_seed(0)
        passed = [*(x.clone() for x in own), *step.constants]
        ends.append([*run(passed), *passed])
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-12, atol=1e-12)


def test_parts_of_one_storage_are_arguments_of_their_own():
    whole = draw(10)
    a, b = whole[2:5], whole[5:]
    step = record(lambda: (a.mul_(2), b.sum()), [a, b])
    before, expected = whole.clone(), whole.clone()
    changed, total = compiled(step.graph, [a, b])([a, b])
    expected[2:5] *= 2
    assert torch.equal(whole, expected) and not torch.equal(before, expected)
    assert changed.data_ptr() == a.data_ptr() and total == pytest.approx(b.sum().item())


def test_a_tensor_that_changes_below_another_one_is_refused():
    x = draw(4)
    for alias in (x.view(2, 2), x[3:]):
        step = record(lambda alias=alias: (x.mul_(2), alias + 1), [x])
        with pytest.raises(RuntimeError, match="changes a tensor that shares memory with another"):
            compiled(step.graph, [x, *step.constants])
    step = record(lambda: (x + 1, x[:0] + x.view(2, 2)[:0].sum()), [x])
    assert compiled(step.graph, [x, *step.constants])([x, *step.constants])[0].equal(x + 1)
