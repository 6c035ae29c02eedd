"""Contenders take turns, and the peak of what an update allocates is counted."""

import time

import torch

from hesrl.bench.turns import TURN, median_ratio, peak_allocation, processor_seconds, take_turns


def test_every_round_has_a_turn_of_each_contender():
    calls = []

    def turn(name):
        calls.append(name)
        return float(len(calls))

    found = take_turns({"a": lambda: turn("a"), "b": lambda: turn("b")}, 3)
    assert calls == ["a", "b"] * 3 and found == {"a": [1, 3, 5], "b": [2, 4, 6]}
    assert median_ratio(found["b"], found["a"]) == 4 / 3


def test_waiting_is_no_time_of_the_processor():
    calls = []

    def update():
        calls.append(time.sleep(0.001))
        sum(range(20_000))

    seconds = processor_seconds(update)
    assert seconds * len(calls) > TURN and 0 < seconds < 0.05


def test_the_peak_counts_what_is_held_at_once():
    keep = []

    def update():
        x = torch.empty(1 << 20, dtype=torch.uint8)
        keep.append(torch.empty(1 << 19, dtype=torch.uint8))
        del x
        torch.empty(1 << 18, dtype=torch.uint8)

    assert peak_allocation(update) == (1 << 20) + (1 << 19)
    assert peak_allocation(update, count=3) == (1 << 20) + 3 * (1 << 19)
