"""Which operations become one loop, and what reaches memory."""

import torch

from hesrl.train_step.c_code import c_program
from hesrl.train_step.recording import record
from hesrl.train_step.translation import Translation


def program_of(function, *tensors):
    """Return the loops of a function, and its program in C."""
    step = record(lambda: tuple(function(*tensors)), tensors)
    schedule = Translation(step.graph, [*tensors, *step.constants]).schedule
    return schedule.loops, c_program(schedule)


def test_operations_over_the_same_entries_are_one_loop_without_memory():
    loops, in_c = program_of(lambda x, y: [(x.mul_(2).add_(y).tanh() * y).sum()], *torch.ones(2, 5))
    assert len(loops) == 1 and len(loops[0].statements) == 5
    assert in_c.size == 0


def test_what_needs_a_whole_sum_is_a_loop_of_its_own():
    loops, in_c = program_of(lambda x: [x - x.sum(), x * 2], torch.ones(300))
    assert [loop.shape for loop in loops] == [(300,), (300,)]
    assert [len(loop.statements) for loop in loops] == [1, 2]
    assert in_c.size == 64


def test_a_change_of_what_was_read_at_other_indices_is_a_loop_of_its_own():
    x, y = torch.ones(2, 3, 3)
    loops, _ = program_of(lambda x, y: [y + x.t(), x.add_(y), x * y], x, y)
    assert [len(loop.statements) for loop in loops] == [1, 2]
    loops, _ = program_of(lambda x, y: [y + x, x.add_(y), x * y], x, y)
    assert [len(loop.statements) for loop in loops] == [3]


def test_loops_go_along_neighbours_in_memory():
    _, in_c = program_of(lambda w: [w.t() * w.t()], torch.ones(3, 4))
    main = in_c.code[in_c.code.index("static void loop_0") :]
    assert "i0 < n" in main and "i1" not in main


def test_equal_loops_are_one_function():
    tensors = [torch.ones(n) for n in (70, 80, 90)]
    loops, in_c = program_of(lambda *xs: [x.exp() * 2 for x in xs], *tensors)
    assert len(loops) == 3
    assert in_c.code.count("static void loop_") == 1


def test_memory_is_used_again():
    def function(w):
        for _ in range(6):
            w = (w @ w).tanh()
        return [w]

    _, in_c = program_of(function, torch.ones(16, 16))
    assert in_c.size == 2 * 16 * 16 * 4
