"""The counts of what went wrong with an arm's cycles."""

from __future__ import annotations

import pytest

from hesrl.envs.ur5.cycle_counts import CycleCounts


@pytest.mark.parametrize(
    ("cycle", "missing"), [(0.008, 0), (0.008, 3), (0.008, 40), (0.002, 0), (0.002, 30)]
)
def test_packets_that_are_missing_are_counted_at_either_rate(cycle, missing):
    counts = CycleCounts()
    counts.seen(7.0, 300)
    counts.begin()
    counts.seen(7.0 + 100 * cycle, 400 - missing)
    counts.end(fault=False, broken=False)
    assert counts.take()["ur5/lost_packets"] == missing


def test_each_count_is_taken_once():
    counts = CycleCounts()
    counts.begin()
    counts.acted(0.0, False)
    counts.acted(0.048, True)
    counts.acted(0.008, False)
    counts.end(fault=True, broken=True)
    assert counts.take() == {
        "ur5/late_steps": 1, "ur5/longest_delay": 0.048, "ur5/lost_packets": 0, "ur5/faults": 1,
        "ur5/link_faults": 1,
    }  # fmt: skip
    assert not any(counts.take().values())


def test_response_times_have_a_median_and_a_quantile_of_those_since_the_last_call():
    counts = CycleCounts()
    counts.acted(0.0, False)
    assert not any("response" in name for name in counts.take())
    for milliseconds in (*range(1, 2001), None):
        counts.acted(0.0, False, milliseconds and 1e-3 * milliseconds)
    metrics = counts.take()
    assert metrics["ur5/response_time_median"] == pytest.approx(1.001, abs=2e-3)
    assert metrics["ur5/response_time_p999"] == pytest.approx(1.999, abs=1e-3)
    for milliseconds in (5, 7, 30):
        counts.acted(0.0, False, 1e-3 * milliseconds)
    metrics = counts.take()
    assert metrics["ur5/response_time_median"] == 0.007
    assert metrics["ur5/response_time_p999"] == 0.03
