"""``hesrl completion``: what makes a shell complete commands, options and choices.

The script is written once, with all there is, because a program that imports PyTorch at every TAB
would take a second each time.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Literal

import tyro

from hesrl.command_options import options_of
from hesrl.commands import COMMANDS

SCRIPT = """\
# hesrl completion {shell} > FILE, and in your shell's start file: source FILE
_hesrl() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
    local command="${{COMP_WORDS[1]}}"
    case "$command" in {families}) command="$command ${{COMP_WORDS[2]}}" ;; esac
    case "$COMP_CWORD,$command,$before" in
        1,*) words="{first}" ;;
{seconds}
{choices}
        *) case "$command" in
{options}
        esac ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _hesrl hesrl
"""

ZSH = "autoload -U +X bashcompinit && bashcompinit\n"


@dataclass
class Args:
    """Print a script that completes commands, options and choices of hesrl in a shell."""

    shell: tyro.conf.Positional[Literal["bash", "zsh"]]
    """the shell; its start file has to source the script"""


def main(args: Args) -> int:
    """Print the script and return the exit status."""
    print((ZSH if args.shell == "zsh" else "") + script(args.shell), end="")
    return 0


def script(shell: str) -> str:
    """Return the script for a shell."""
    first = dict.fromkeys(name.split()[0] for name in COMMANDS)
    second: dict[str, list[str]] = {}
    choices, options = [], []
    for name, command in sorted(COMMANDS.items(), key=lambda item: " " not in item[0]):
        if len(words := name.split()) == 2:
            second.setdefault(words[0], []).append(words[1])
        found = options_of(importlib.import_module(command.module).Args)
        flags = " ".join(option.flag for option in found if not option.is_positional)
        # What follows a command of one word is its own.
        pattern = f'"{name}"' if len(words) == 2 else f'"{name}"*'
        options.append(f'            {pattern}) words="{flags} --help" ;;')
        choices += [
            f'        *,{pattern},{option.flag}) words="{" ".join(option.choices)}" ;;'
            for option in found
            if option.choices and not option.is_positional
        ]
    return SCRIPT.format(
        shell=shell,
        families="|".join(second),
        first=" ".join(first),
        seconds="\n".join(
            f'        2,{word}\\ *,{word}) words="{" ".join(names)}" ;;'
            for word, names in second.items()
        ),
        choices="\n".join(choices),
        options="\n".join(options),
    )
