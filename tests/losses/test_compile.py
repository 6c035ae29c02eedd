"""The functions in one compiled graph: no look at the data, and the same numbers."""

from __future__ import annotations

import pytest
import torch

from tests.losses.cases import CASES
from tests.losses.data import REDUCTIONS


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_compiled_function_gives_the_same_numbers(case):
    torch.compiler.reset()

    def all_reductions(inputs, constants):
        return [
            tuple(case.form(*inputs, *constants, reduction=reduction)) for reduction in REDUCTIONS
        ]

    compiled = torch.compile(all_reductions, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        actual = compiled(case.inputs, case.constants)
        expected = all_reductions(case.inputs, case.constants)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-13)
