"""An exported policy with an LSTM acts as the agent, with its state as inputs and outputs."""

from __future__ import annotations

import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from hesrl.envs.spaces import actions_for
from hesrl.errors import UserError
from hesrl.rl.export_run import Args, main
from hesrl.rl.exported_policy import RecurrentPolicy, some_observations
from hesrl.rl.saved_policy import PlayingSettings, saved_policy
from tests.sb3.test_spaces import RECURRENT, train

pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")
ONNX = pytest.mark.skipif(find_spec("onnxruntime") is None, reason="needs hesrl[export]")
SPACES = [("vector", "unbounded"), ("dict", "choices"), ("images", "bits")]
VECTORS = pytest.mark.parametrize("trained", SPACES[:1], ids="-".join, indirect=True)


def in_sequence(run, obs, units=6):
    """Return the actions of an exported policy for observations (T, N, …), from zero state."""
    state = [np.zeros((1, obs.shape[1], units), np.float32) for _ in range(2)]
    found = []
    for row in obs:
        action, *state = run({"obs": row, "hidden": state[0], "cell": state[1]})
        found.append(action)
    return np.array(found)


def of_torch(file):
    policy = torch.export.load(file).module()

    def run(inputs):
        tensors = (torch.from_numpy(array) for array in inputs.values())
        return [tensor.numpy(force=True) for tensor in policy(*tensors)]

    return run


def of_onnx(file):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options)
    names = [output.name for output in session.get_outputs()]
    assert names == ["action", "next_hidden", "next_cell"]
    return lambda inputs: session.run(None, inputs)


@pytest.fixture(scope="module", params=SPACES, ids="-".join)
def trained(request, tmp_path_factory):
    """A run with an LSTM, which the forms of the export share."""
    return train(tmp_path_factory.mktemp("runs"), "sb3-ppo", *request.param, **RECURRENT)


@pytest.mark.parametrize(
    ("form", "file", "load"),
    [
        ("torch", "policy.pt2", of_torch),
        pytest.param("onnx", "policy.onnx", of_onnx, marks=ONNX),
    ],
)
def test_episodes_side_by_side_are_those_of_the_agent(trained, tmp_path, capsys, form, file, load):
    assert main(Args(run=trained.path, formats=(form,), out=tmp_path)) == 0
    assert f"{form}: differs from the agent by" in capsys.readouterr().out
    exported = load(tmp_path / file)
    with saved_policy(PlayingSettings(trained.path)) as saved:
        space = saved.spaces[0]
        obs = some_observations(space, {}, 3 * 40).astype(space.dtype).reshape(40, 3, *space.shape)
        for_env = actions_for(saved.env_id, saved.spaces[1])
        saved.act.begin_episode()
        expected = np.array([for_env(saved.act(row)) for row in obs])
    np.testing.assert_allclose(in_sequence(exported, obs), expected, atol=1e-5)
    described = json.loads((tmp_path / "policy.json").read_text())
    for name in ("hidden", "cell"):
        assert described[name] == {"shape": [1, "batch", 6], "dtype": "float32"}


@VECTORS
def test_a_policy_that_forgets_is_refused(trained, tmp_path, monkeypatch):
    forward = RecurrentPolicy.forward

    def forgetful(self, obs, hidden, cell):
        return forward(self, obs, 0 * hidden, 0 * cell)

    monkeypatch.setattr(RecurrentPolicy, "forward", forgetful)
    with pytest.raises(FloatingPointError, match=r"differs from the agent by .*; no file is left$"):
        main(Args(run=trained.path, formats=("torch",), out=tmp_path))
    assert list(tmp_path.iterdir()) == []


@VECTORS
def test_stable_baselines3_has_no_lstm(trained):
    with pytest.raises(UserError, match=r"^--formats sb3: .* has an LSTM, which Stable-Baselines3"):
        main(Args(run=trained.path, formats=("sb3",)))
