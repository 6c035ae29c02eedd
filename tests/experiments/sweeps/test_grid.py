"""A grid's file: what it stands for, in which order, and which mistakes are one line."""

import math

import numpy as np
import pytest
import yaml

from hesrl.errors import UserError
from hesrl.experiments.sweeps.grid import load_grid, make_grid
from hesrl.experiments.sweeps.store import Record

SMALL = {
    "agent": "a2c",
    "settings": {"env_id": "CartPole-v1", "optimizer": "adam", "total_timesteps": 100},
    "test_seeds": [1],
}


def small(**changes):
    """The content of a small file with changes, those of settings among them."""
    settings = {**SMALL["settings"], **changes.pop("settings", {})}
    return {**SMALL, "settings": settings, **changes}


def test_a_file_stands_for_every_combination_seed_by_seed(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        """
        agents: [a2c, ppo]
        settings:
          env_id: [CartPole-v1, Hopper-v5]
          learning_rate: [1e-4, 3.0e-4]
          hidden_sizes: [[8, 8]]
          anneal_lr: false
          compile: off
        tuning_seeds: [3, 1]
        test_seeds: {first: 101, count: 2}
        """
    )
    grid = load_grid(path)
    trials = grid.trials()
    assert grid.name == "mine" and len(trials) == 2 * 2 * 2 * 4
    assert [t.seed for t in trials] == [s for s in (3, 1, 101, 102) for _ in range(8)]
    assert [t.role for t in trials] == ["tuning"] * 16 + ["test"] * 16
    first = trials[0]
    assert (first.agent, first["env_id"], first["learning_rate"]) == ("a2c", "CartPole-v1", 1e-4)
    assert first["hidden_sizes"] == (8, 8) and first["compile"] == "off"
    assert first["optimizer"] == "adahesscale" and first.get("no_such_setting") is None
    args = first.args(runs_dir=tmp_path)
    assert (args.seed, args.anneal_lr, args.runs_dir) == (3, False, tmp_path)
    assert first.label == (
        "a2c CartPole-v1 adahesscale anneal_lr=False compile=off hidden_sizes=8,8 "
        "learning_rate=0.0001 seed 3"
    )


def test_an_id_is_that_of_what_runs_however_it_is_written():
    written = [{"gamma": 1, "eps": "1e-5"}, {"eps": 1e-5, "gamma": 1.0}]
    (one,), (other,) = (make_grid(small(settings=s)).trials() for s in written)
    assert one.id == other.id == "4ea827f49da7" and len({one, other}) == 1
    assert make_grid(small(test_seeds=[2])).trials()[0].id != one.id


def test_grids_in_a_grid_have_what_stands_outside_in_common():
    parts = [
        {"agent": "ppo", "settings": {"num_steps": 50, "num_minibatches": 5}},
        {
            "agent": "stream-ac",
            "settings": {"optimizer": ["obgd", "intentional"]},
            "test_seeds": [7],
        },
    ]
    trials = make_grid({**SMALL, "agent": "a2c", "grids": parts}).trials()
    assert [(t.agent, t["optimizer"], t.seed) for t in trials] == [
        ("ppo", "adam", 1), ("stream-ac", "obgd", 7), ("stream-ac", "intentional", 7),
    ]  # fmt: skip


def test_a_preset_is_what_the_settings_change():
    (trial,) = make_grid(small(settings={"paper": True, "eps": 1e-3})).trials()
    assert not trial["anneal_lr"] and trial.args().progress and trial.args().eps == 1e-3


def finished(trials, score):
    return [Record(t, "done", final=score(t), curve=np.empty((0, 3))) for t in trials]


def test_the_tuning_seeds_choose_per_task_and_for_all_environments():
    content = small(
        settings={"env_id": ["CartPole-v1", "Acrobot-v1"], "learning_rate": [1e-4, 1e-3, 1e-2]},
        tuning_seeds=[1, 2],
        test_seeds=[11, 12],
        test="best",
    )
    grid = make_grid(content)
    tuning = grid.trials()
    assert len(tuning) == 12 and {t.role for t in tuning} == {"tuning"}
    assert len(grid.waiting(tuning)) == 4
    scores = {
        "CartPole-v1": {1e-4: 10.0, 1e-3: 95.0, 1e-2: 100.0},
        "Acrobot-v1": {1e-4: -5.0, 1e-3: -10.0, 1e-2: -30.0},
    }
    records = finished(tuning, lambda t: scores[t["env_id"]][t["learning_rate"]])
    # It counts as the lowest score of Acrobot.
    records[-1] = records[-1]._replace(status="diverged", final=math.nan)
    half = [t for t in grid.trials(records[:6]) if t.role == "test"]
    assert half == [] and len(grid.waiting(tuning)) == 4
    cartpole = [r for r in records if r.trial["env_id"] == "CartPole-v1"]
    assert {t["env_id"] for t in grid.trials(cartpole) if t.role == "test"} == {"CartPole-v1"}
    test = [t for t in grid.trials(records) if t.role == "test"]
    # 1e-3 is the best nowhere, and for all environments: it has 0.94 and 0.8 of the range.
    assert [(t["env_id"], t["learning_rate"]) for t in test if t.seed == 11] == [
        ("CartPole-v1", 1e-3), ("CartPole-v1", 1e-2), ("Acrobot-v1", 1e-4), ("Acrobot-v1", 1e-3),
    ]  # fmt: skip
    assert {t.seed for t in test} == {11, 12} and grid.waiting(grid.trials(records)) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (small(test_sed=[1]), "unknown key test_sed: did you mean test_seeds?"),
        ([1], "a grid is a mapping with the keys agent, settings and test_seeds"),
        (small(agent="pppo"), "unknown agent pppo: did you mean ppo?"),
        (small(agents=["a2c"]), "agent and agents: give one of them"),
        (small(agent=[]), "the grid is empty: give agent"),
        (small(test_seeds=[]), "the grid is empty: give tuning_seeds or test_seeds"),
        (small(settings={"optimizer": []}), "the grid is empty: settings: optimizer has no value"),
        (small(settings={"learnin_rate": 1}), "a2c has no setting learnin_rate: did you mean lear"),
        (small(settings={"seed": 1}), "the sweep gives it to each run: give tuning_seeds or test_"),
        (small(settings={"resume": "x"}), "the sweep gives it to each run: leave it out"),
        (small(settings={"num_steps": "many"}), "num_steps: 'many' is not a whole number"),
        (small(settings={"num_steps": 2.5}), "num_steps: 2.5 is not a whole number"),
        (small(settings={"gamma": True}), "gamma: True is not a number"),
        (small(settings={"gamma": 10**400}), "00 is not a number"),
        (small(settings={"anneal_lr": 1}), "anneal_lr: 1 is not true or false"),
        (small(settings={"env_id": 3}), "env_id: 3 is not text"),
        (small(settings={"hidden_sizes": [8, 8]}), "one value of it is a list: write [[8, 8]], or"),
        (small(settings={"betas": [[0.9]]}), "betas: [0.9] is not a list of 2"),
        (small(settings={"gamma": 2}), "total_timesteps=100: --gamma 2.0: must be from 0"),
        (small(settings={"optimizer": "adamm"}), "--optimizer adamm: unknown; choose one of sgd"),
        (small(settings={"env_id": "CartPol-v1"}), "did you mean CartPole-v1"),
        (small(settings={"env_options": [["nine=1"]]}), "environment CartPole-v1 takes no nine"),
        (small(settings={"total_timesteps": 3}), "is less than one rollout of 5 steps"),
        (small(settings={"eps": [1e-5, "0.00001"]}), "a run is there twice: a2c CartPole-v1 ad"),
        (small(settings={"eps": [None, 1e-5]}), "is the same as a2c CartPole-v1 adam eps=None"),
        (small(test_seeds=[1, 1]), "test_seeds: a seed is there twice"),
        (small(test_seeds=3), "test_seeds: write [1, 2, 3] or {first: 1, count: 3}, from 0 to"),
        (small(test_seeds=[-1]), "test_seeds: write [1, 2, 3] or"),
        (small(test_seeds={"first": 1}), "test_seeds: write [1, 2, 3] or"),
        (small(tuning_seeds=[1]), "seed 1 is both a tuning seed and a test seed"),
        (small(test="best"), "test: best: needs tuning_seeds to choose by"),
        (small(test="bst"), "test: bst: choose one of all, best"),
        (small(grids=[]), "grids: must be a list of grids"),
        (small() | {"settings": [1]}, "settings: must be a mapping"),
        ({"agent": "stream-ac", "settings": {"num_envs": 2}, "test_seeds": [1]}, "a trace belongs"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(tmp_path, content, message):
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError) as error:
        load_grid(path)
    assert message in str(error.value) and str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_grid_is_one_line(tmp_path):
    path = tmp_path / "grid.yaml"
    with pytest.raises(UserError, match=f"^cannot read the grid {path}: No such file"):
        load_grid(path)
    path.write_text("agent: [")
    with pytest.raises(UserError, match="is not valid YAML: while parsing"):
        load_grid(path)
    path.write_text("agent: ppo\nagent: a2c\n")
    with pytest.raises(UserError, match="line 1: the key agent is there twice"):
        load_grid(path)
