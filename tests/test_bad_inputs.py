"""The page of bad inputs says what happens, in one line each."""

from __future__ import annotations

from tests.bad_inputs import PAGE, outcomes, page


def test_every_bad_input_is_one_line_and_the_page_says_it():
    found = outcomes()
    assert len(found) >= 60
    for outcome in found:
        assert outcome.status in (1, 2), outcome
        assert len(outcome.lines) == 1 and outcome.lines[0].startswith("error: "), outcome
    assert PAGE.read_text(encoding="utf-8") == page(found), "python -m tests.bad_inputs writes it"
