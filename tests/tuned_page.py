"""The page of tuned settings, written from ``configs/``: docs/tuned.md.

`python -m tests.tuned_page` writes the page anew.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from hesrl.agents import a2c, ppo, stream_ac
from hesrl.presets import tuned, tuned_entries
from hesrl.settings import flag

PAGE = Path(__file__).parents[1] / "docs" / "tuned.md"
AGENTS = {"ppo": ppo, "a2c": a2c, "stream-ac": stream_ac}

HEAD = """\
# Tuned settings

    hesrl train ppo --env-id Walker2d-v5 --tuned
    hesrl train ppo --env-id Walker2d-v5 --tuned --optimizer adahesscale --num-envs 8

`--tuned` takes settings that were tuned for one environment, from `configs/`. Options on the
command line override them. With another `--optimizer` than that of the entry, the optimizer brings
its own step size, ε and clipping, and the other settings stay. The run's `config.yaml` has the
values, so that `--config` and `--resume` take them from there. `--tuned` does not go with
`--config`, `--paper` or `--ur5`.

Most settings are published ones, taken as numbers. What they reached is what their source says, of
the versions of the tasks in brackets. With 10 seeds it is the highest point of the mean curve, and
the standard deviation over the seeds; with one run it is the return of the trained policy. The
length of a run is yours to choose.

What they reach in hesrl has been measured where the table names a page of these docs, and with one
seed for PPO on MuJoCo's tasks ([learning/policies.md](learning/policies.md), question 4). They
reached 4,316 on HalfCheetah-v5 and 323 on Swimmer-v5. On Hopper-v5 and Walker2d-v5 that run ended
far below the defaults (994 against 2,552 and 2,684; 554 against 2,853 and 5,770): try both.

`python -m tests.tuned_page` writes this page from `configs/`.
"""


def page() -> str:
    """Return the page."""
    return "\n".join([HEAD, *(_section(name, module.Args) for name, module in AGENTS.items())])


def _section(agent: str, args_class: type) -> str:
    lines = [
        f"## hesrl train {agent} --tuned",
        "",
        "| environment | options for which it stands | reached | source |",
        "|---|---|---|---|",
    ]
    notes = {}
    for env_id, entry in tuned_entries(args_class).items():
        settings = tuned(args_class, env_id)
        words = " ".join(_options(settings, {"env_id", "tuned"})) or "none: the defaults"
        lines.append(f"| {env_id} | `{words}` | {entry.measured} | {entry.source} |")
        if entry.not_taken:
            notes[entry.source] = entry.not_taken
    lines += ["", *(f"Not taken from {source}: {text}.\n" for source, text in notes.items())]
    return "\n".join(lines)


def _options(args: Any, left_out: set[str]) -> list[str]:
    """Return the options that change the defaults into these settings."""
    words = []
    for field in dataclasses.fields(args):
        value = getattr(args, field.name)
        if field.name in left_out or value == getattr(type(args)(), field.name):
            continue
        if isinstance(value, bool):
            words.append(flag(field.name) if value else flag("no_" + field.name))
        else:
            values = value if isinstance(value, tuple) else (value,)
            words += [flag(field.name), *map(str, values)]
    return words


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
