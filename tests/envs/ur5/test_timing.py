"""The counts of what went wrong with an arm's cycles."""

from __future__ import annotations

import pytest

from hesrl.envs.ur5.timing import Timing


@pytest.mark.parametrize(
    ("cycle", "missing"), [(0.008, 0), (0.008, 3), (0.008, 40), (0.002, 0), (0.002, 30)]
)
def test_packets_that_are_missing_are_counted_at_either_rate(cycle, missing):
    timing = Timing()
    timing.seen(7.0, 300)
    timing.begin()
    timing.seen(7.0 + 100 * cycle, 400 - missing)
    timing.end(fault=False)
    assert timing.take()["ur5/lost_packets"] == missing


def test_each_count_is_taken_once():
    timing = Timing()
    timing.begin()
    timing.acted(0.0, False)
    timing.acted(0.048, True)
    timing.acted(0.008, False)
    timing.end(fault=True)
    assert timing.take() == {
        "ur5/late_steps": 1, "ur5/longest_delay": 0.048, "ur5/lost_packets": 0, "ur5/faults": 1,
    }  # fmt: skip
    assert not any(timing.take().values())
