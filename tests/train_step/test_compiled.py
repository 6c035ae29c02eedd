"""Steps that a C++ compiler has compiled, and the folder that keeps them."""

import os
import shutil

import pytest
import torch

from hesrl.train_step.compilation import cache_folder, compile_seconds
from tests.train_step.steps import (
    Independent,
    Separate,
    Shared,
    VarianceNetwork,
    assert_equal_state,
    make,
    take,
)

COMPILER = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="needs a C++ compiler"
)


@COMPILER
@pytest.mark.parametrize(
    ("network", "name", "dtype", "tolerance"),
    [
        (Independent, "adahesscale", torch.float32, {"rtol": 1e-4, "atol": 1e-6}),
        (Separate, "adam", torch.float64, {"rtol": 1e-10, "atol": 1e-12}),
        (Shared, "scaled-adahesscale", torch.float64, {"rtol": 1e-10, "atol": 1e-12}),
        (VarianceNetwork, "adahessian", torch.float64, {"rtol": 1e-10, "atol": 1e-12}),
    ],
)
def test_a_compiled_step_is_the_eager_one(
    tmp_path, monkeypatch, capsys, network, name, dtype, tolerance
):
    monkeypatch.setenv("HESRL_CACHE", str(tmp_path / "cache"))
    ends, settings = [], {"delta": 1e-3} if name.startswith("scaled") else {}
    # The second compiled one finds what the first has left, and needs no compiler.
    for how in ("on", "off", "on"):
        step, optimizer, _, batch = make(
            network, name, dtype, compile=how, max_grad_norm=0.1, **settings
        )
        torch.manual_seed(1)
        ends.append((optimizer, take(step, batch, 3)))
        assert step.is_compiled == (how == "on")
        monkeypatch.setenv("CXX", "no-compiler")
    (compiled, metrics), (eager, expected), (found, _) = ends
    torch.testing.assert_close(metrics, expected, **tolerance)
    assert_equal_state(compiled, eager, **tolerance)
    assert_equal_state(compiled, found, rtol=0, atol=0)
    assert capsys.readouterr().err == "compiling the training step (once, about 2 s)\n"
    assert 0 < compile_seconds() == float((tmp_path / "cache" / "seconds").read_text())
    assert [path.suffix for path in (tmp_path / "cache").iterdir()].count(".so") == 1


def test_a_cache_that_others_can_write_is_refused(tmp_path, monkeypatch):
    tmp_path.chmod(0o777)
    monkeypatch.setenv("HESRL_CACHE", str(tmp_path))
    with pytest.raises(PermissionError, match="writable by you alone"):
        cache_folder()
