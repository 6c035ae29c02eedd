"""Fixtures shared by the tests of run directories."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hesrl.runs import RunDirectory


@pytest.fixture
def make_run(tmp_path: Path) -> Iterator[Callable[[], RunDirectory]]:
    """Makes runs below ``tmp_path`` and unlocks them in the end."""
    made = []

    def make(env_id: str = "HalfCheetah-v5") -> RunDirectory:
        made.append(
            RunDirectory.create(
                tmp_path / "runs",
                env_id=env_id,
                agent="ppo",
                optimizer="adahesscale",
                seed=3,
                config={"learning_rate": 1e-3, "hidden": (64, 64), "note": None},
            )
        )
        return made[-1]

    yield make
    for run in made:
        run.close()


@pytest.fixture
def run(make_run: Callable[[], RunDirectory]) -> RunDirectory:
    """One fresh run."""
    return make_run()
