"""The time to compile a step is measured cold and warm."""

import re

import pytest

from hesrl.bench import compile
from hesrl.bench.compile import Args, main
from hesrl.errors import UserError
from tests.compiler import COMPILER


@COMPILER
def test_a_cold_step_needs_the_compiler_and_a_warm_one_does_not(capsys, monkeypatch):
    monkeypatch.setattr(compile, "OPTIMIZERS", ("Adam",))
    assert main(Args(rounds=1)) == 0
    number = r" +│ ([\d.]+)"
    row = re.search(r"ppo-minibatch │ Adam" + 3 * number, capsys.readouterr().out)
    cold, compiler, warm = map(float, row.groups())
    assert 0 < compiler < cold and 0 < warm < cold


def test_what_cannot_be_compiled_is_refused(monkeypatch):
    monkeypatch.setenv("CXX", "no-compiler")
    with pytest.raises(UserError, match=r"with Adam: .*no C\+\+ compiler no-compiler"):
        main(Args(rounds=1))


@pytest.mark.parametrize("settings", [{"tasks": ("mnist",)}, {"tasks": ()}, {"rounds": 0}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UserError, match=r"--tasks must be among ppo, .* and --rounds at least 1"):
        main(Args(**settings))
