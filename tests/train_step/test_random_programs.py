"""Random programs of views, changes in place, sums and products give what PyTorch gives.

They are about the order of loops and what is joined, so each has many steps on few tensors.
"""

import random

import torch

from hesrl.train_step.compilation import compiled
from hesrl.train_step.recording import record
from tests.compiler import COMPILER

PROGRAMS, STEPS, N = 6, 25, 3


def view_of(rng, x):
    """Return a square view, or the tensor itself."""
    return rng.choice([x, x.t(), x.expand(N, N), x[:1].expand(N, N), x[:, 1:2].expand(N, N)])


def run(rng, arguments):
    tensors, results = [*arguments, arguments[0] * 1], []
    for _ in range(STEPS):
        a, b = (rng.choice(tensors) for _ in range(2))
        kind = rng.randrange(9)
        if kind < 3:
            made = rng.choice([torch.mul, torch.sub, torch.minimum])(
                view_of(rng, a), view_of(rng, b)
            )
            tensors.append(made.tanh())
        elif kind == 3:
            rng.choice([a, a.t()]).mul_(0.5).add_(view_of(rng, b.clone() if a is b else b))
        elif kind == 4:
            a[rng.randrange(N)].copy_(b.clone()[:, rng.randrange(N)])
        elif kind == 5:
            tensors.append((a @ rng.choice([b, b.t()])).sigmoid())
        elif kind == 6:
            tensors.append(a - a.sum(rng.randrange(2), keepdim=True) * 0.25)
        elif kind == 7:
            torch._foreach_lerp_([a], [b.t().clone()], 0.3)
        else:
            results.append(rng.choice([a.sum(), a.amax(0), (a * b).mean(), a.t()[1], a.clone()]))
    return [x.clone() for x in (*results, *tensors)]


@COMPILER
def test_random_programs():
    draws = torch.Generator().manual_seed(0)
    arguments = [
        torch.randn(N, N, generator=draws, dtype=torch.float64) for _ in range(2 * PROGRAMS)
    ]
    eager, own = ([x.clone() for x in arguments] for _ in range(2))

    def all_programs(tensors):
        pairs = zip(tensors[::2], tensors[1::2], strict=True)
        return [x for seed, pair in enumerate(pairs) for x in run(random.Random(seed), pair)]

    step = record(lambda: tuple(all_programs(own)), own)
    expected = all_programs(eager)
    results = compiled(step.graph, arguments)(arguments)
    for number, (a, b) in enumerate(zip([*results, *arguments], [*expected, *eager], strict=True)):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9, msg=lambda t, n=number: f"{n}: {t}")
