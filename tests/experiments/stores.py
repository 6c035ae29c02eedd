"""Synthetic results of sweeps."""

import math
import zlib

import numpy as np

from hesrl.experiments.sweeps.store import Record, Store
from hesrl.experiments.sweeps.trial import Trial

ENVS = ("Ant-v5", "Hopper-v5")
RATES = (1e-4, 3e-4, 1e-3)
QUALITY = {"adam": 0.7, "adahesscale": 0.9}
TOTAL = 1000


def record(env_id, optimizer, rate, seed, role="test", *, status="done", final=math.nan,
           curve=None, agent="ppo", total=TOTAL, **settings):  # fmt: skip
    """Return a record of one run; a run without a final score has no scores."""
    given = {"env_id": env_id, "optimizer": optimizer, "learning_rate": rate,
             "total_timesteps": total, **settings}  # fmt: skip
    trial = Trial(agent, tuple(sorted(given.items())), seed, role)
    curve = np.empty((0, 3)) if curve is None else curve
    return Record(
        trial, status, "policy_loss is nan" if status == "diverged" else "", final, final * 0.7,
        final * 1.1, 60.0, "0.9.9", curve,
    )  # fmt: skip


def records(
    envs=ENVS, optimizers=tuple(QUALITY), rates=RATES, tunings=(1, 2, 3),
    tests=(101, 102, 103, 104), agents=("ppo",),
):  # fmt: skip
    """Return the records of a grid, of which the middle step size is the best."""
    rng = np.random.default_rng(0)
    steps = np.linspace(0, TOTAL, 101)[1:]
    found = []
    for agent in agents:
        for env_id in envs:
            for optimizer in optimizers:
                for place, rate in enumerate(rates):
                    shift = zlib.crc32(f"{env_id} {optimizer}".encode()) % 2
                    height = 1000 * QUALITY.get(optimizer, 0.8) * (1 - 0.2 * abs(place - shift))
                    seeds = [("tuning", s) for s in tunings] + [("test", s) for s in tests]
                    for role, seed in seeds:
                        final = height * (1 + 0.1 * rng.standard_normal())
                        returns = final * (1 - np.exp(-4 * steps / TOTAL))
                        curve = np.stack([steps, steps / 50, returns], axis=1)
                        found.append(record(env_id, optimizer, rate, seed, role, final=final,
                                            curve=curve, agent=agent))  # fmt: skip
    return found


def write_store(folder, several):
    """Write a store into a folder, and return the folder."""
    with Store.open(folder) as store:
        store.write(*several)
    return folder
