"""Checkpoints: round trips, damage, kills and foreign files."""

from __future__ import annotations

import hashlib
import io
import os
import random
import time
from collections import Counter

import numpy as np
import pytest
import torch

from hesrl.errors import UserError
from hesrl.runs.checkpoint import (
    FORMAT,
    generator_state,
    load_checkpoint,
    rng_state,
    save_checkpoint,
    set_generator_state,
    set_rng_state,
)

SAVE_FOREVER = """
import sys
from pathlib import Path
import torch
from hesrl.runs.checkpoint import save_checkpoint
for step in range(1_000_000):
    save_checkpoint(Path(sys.argv[1]), {"step": step, "weight": torch.full((300_000,), step)})
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.pt"


def saved(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def write_signed(path, content):
    """What somebody could forge: any content with a right digest."""
    path.write_bytes(saved(content) + hashlib.sha256(saved(content)).digest())


def test_network_optimizer_and_counters_come_back(path):
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    plain = {"step": 2**200, "nested": [(1, None, "x", float("inf"), True)]}
    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), **plain}
    save_checkpoint(path, state)
    loaded = load_checkpoint(path)
    assert {name: loaded[name] for name in plain} == plain
    assert torch.equal(loaded["network"]["weight"], network.weight)
    torch.optim.Adam(network.parameters()).load_state_dict(loaded["optimizer"])
    moment = optimizer.state[network.weight]["exp_avg"]
    assert torch.equal(loaded["optimizer"]["state"][0]["exp_avg"], moment)
    assert torch.load(path, weights_only=True)["state"]["step"] == 2**200  # by plain torch


def test_random_generators_continue_as_they_would_have(path):
    random.gauss(0, 1), np.random.standard_normal()
    save_checkpoint(path, rng_state())

    def draw():
        return random.gauss(0, 1), np.random.standard_normal(), torch.rand(3).tolist()

    expected = draw()
    draw()
    set_rng_state(load_checkpoint(path))
    assert draw() == expected


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_numpy_generators_continue_as_they_would_have(path, kind):
    generator = np.random.Generator(getattr(np.random, kind)(0))
    generator.integers(10, size=3, dtype=np.uint32)
    save_checkpoint(path, generator_state(generator))
    expected = generator.integers(10, size=9, dtype=np.uint32)
    other = np.random.Generator(getattr(np.random, kind)(1))
    set_generator_state(other, load_checkpoint(path))
    assert np.array_equal(other.integers(10, size=9, dtype=np.uint32), expected)


def test_random_states_of_another_machine_are_refused():
    state = generator_state(np.random.Generator(np.random.Philox(0)))
    with pytest.raises(ValueError, match="PCG64"):
        set_generator_state(np.random.default_rng(0), state)
    state = rng_state() | {"cuda": [torch.get_rng_state()] * (torch.cuda.device_count() + 1)}
    with pytest.raises(UserError, match=r"random states of \d+ CUDA device"):
        set_rng_state(state)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": {"b": [0, np.float64(1)]}}, r"hold state\['a'\]\['b'\]\[1\], a numpy\.float64"),
        ({"a": np.ones(2)}, r"hold state\['a'\], a numpy\.ndarray"),
        ({"a": Counter()}, r"hold state\['a'\], a collections\.Counter"),
        ({np.int64(1): 0}, r"hold key .* of state, a numpy\.int64"),
    ],
)
def test_what_could_not_be_loaded_again_is_not_saved(path, state, message):
    with pytest.raises(TypeError, match=message):
        save_checkpoint(path, state)
    assert not path.exists()


@pytest.mark.parametrize("delay", [0.0, 0.013, 0.057])
def test_a_kill_in_the_middle_of_writes_leaves_a_whole_checkpoint(path, start, delay):
    with start(SAVE_FOREVER, path) as writer:
        while not path.exists():
            assert writer.poll() is None
            time.sleep(0.005)
        time.sleep(delay)
    loaded = load_checkpoint(path)
    assert torch.all(loaded["weight"] == loaded["step"])
    save_checkpoint(path, {"step": -1})
    assert os.listdir(path.parent) == [path.name]


def test_any_damage_is_noticed(path):
    save_checkpoint(path, {"weight": torch.arange(20.0), "rng": rng_state()})
    good = path.read_bytes()
    path.write_bytes(good[:-500])
    with pytest.raises(UserError, match=r"checkpoint\.pt is damaged or cut short"):
        load_checkpoint(path)
    generator = random.Random(0)
    for _ in range(200):
        position, bit = generator.randrange(len(good)), 1 << generator.randrange(8)
        bad = bytearray(good)
        bad[position] ^= bit
        path.write_bytes(generator.choice([bad, good[:position]]))
        with pytest.raises(UserError, match=r"damaged or cut short|not a checkpoint of hesrl"):
            load_checkpoint(path)


FOREIGN = {
    "empty": b"",
    "text": b"hello",
    "archive": b"PK\x05\x06" + bytes(18),
    "of torch": saved(torch.nn.Linear(2, 2).state_dict()),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_that_is_no_checkpoint_is_called_so(path, kind):
    path.write_bytes(FOREIGN[kind])
    with pytest.raises(UserError, match=r"checkpoint\.pt is not a checkpoint of hesrl"):
        load_checkpoint(path)


def test_classes_are_never_unpickled_and_another_version_is_named(path, tmp_path):
    class Attack:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "attacked"),))

    write_signed(path, {"format": FORMAT, "version": 1, "state": Attack()})
    with pytest.raises(UserError, match="is refused: it holds Python objects"):
        load_checkpoint(path)
    assert not (tmp_path / "attacked").exists()
    write_signed(path, {"format": FORMAT, "version": 99, "state": {}})
    with pytest.raises(UserError, match="has version 99, this hesrl reads version 1"):
        load_checkpoint(path)


def test_a_missing_checkpoint_and_a_folder_are_named(path):
    with pytest.raises(UserError, match=r"no checkpoint .*checkpoint\.pt"):
        load_checkpoint(path)
    path.mkdir()
    with pytest.raises(UserError, match=r"cannot read checkpoint .*Is a directory"):
        load_checkpoint(path)
