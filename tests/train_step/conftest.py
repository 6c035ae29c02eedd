"""A compiled step without a compiler."""

import pytest
import torch


@pytest.fixture
def interpreted(monkeypatch):
    """Run what would be compiled as it is, one operation of PyTorch after the other."""

    def interpret(graph, inputs, fixed):
        return torch.no_grad()(lambda tensors: graph(*tensors))

    monkeypatch.setattr("hesrl.train_step.recorded_step.compiled", interpret)
