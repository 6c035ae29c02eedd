"""Command lines of the agents, in this process."""

from __future__ import annotations

import dataclasses

from hesrl.cli import run_command


def parsed(agent, *words):
    """Return the settings that a command line gives, without where they come from."""
    found = []
    assert run_command(agent.Args, lambda args: found.append(args) or 0, words) == 0
    return dataclasses.replace(found[0], config=None)


def refused(agent, capsys, *words):
    assert run_command(agent.Args, agent.main, words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    return err
