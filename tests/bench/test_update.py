"""The benchmarks of one update run all contenders and print a ratio for each."""

import re

import pytest

from hesrl.bench import memory, update
from hesrl.errors import UserError


def rows(out: str) -> list[tuple[str, str]]:
    return re.findall(r"│ (\w+(?: Adam)?) +│.*?│ (\d+\.\d\d) +│", out)


def test_the_time_of_an_update(capsys):
    assert update.main(update.Args(tasks=("ppo", "ppo-fused"), rounds=1)) == 0
    found = rows(capsys.readouterr().out)
    assert [name for name, _ in found] == [*update.CONTENDERS] * 2
    assert [ratio for name, ratio in found if name == update.BASELINE] == ["1.00", "1.00"]


@pytest.mark.parametrize("name", update.CONTENDERS)
@pytest.mark.parametrize("task", ["ppo", "ppo-fused"])
def test_every_contender_lowers_the_loss(name, task):
    update.torch.manual_seed(0)
    model, loss = update.TASKS[task]()
    step, before = update.CONTENDERS[name](model, loss), loss().item()
    for _ in range(300):
        step()
    assert loss().item() < before - 0.01


@pytest.mark.parametrize("settings", [{"tasks": ("mnist",)}, {"tasks": ()}, {"rounds": 0}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UserError, match="--tasks must be among ppo, ppo-fused, all-cnn-c"):
        update.main(update.Args(**settings))


def test_no_images_are_refused():
    with pytest.raises(UserError, match="--batch-size and --updates must be at least 1"):
        memory.main(memory.Args(batch_size=0))
