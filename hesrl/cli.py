"""The ``hesrl`` command: ``hesrl train ppo --env-id HalfCheetah-v5``, ``hesrl bench agents``."""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import os
import re
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

import tyro

from hesrl import __version__
from hesrl.command_options import command_help
from hesrl.commands import COMMANDS, FAMILIES, listing
from hesrl.errors import EnvironmentFault, Finished, UserError
from hesrl.settings import defaults_for
from hesrl.whole_numbers import REGISTRY

ArgsT = TypeVar("ArgsT")


def run_command(
    args_class: type[ArgsT],
    main: Callable[[ArgsT], int],
    argv: Sequence[str] | None = None,
    prog: str | None = None,
    example: str = "",
) -> int:
    """Parse the command line into ``args_class``, run ``main`` and return the exit status.

    Args:
        args_class: A dataclass of settings.
        main: Takes the settings and returns the exit status.
        argv: The arguments; those of the process if None.
        prog: Name of the command in its help.
        example: Arguments for an example in its help.

    Returns:
        What ``main`` returned; 2 after a mistake in the input and 1 after a number that is not
        finite or an environment that broke, all with one line on standard error.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    preset: dict[str, Any] = {}
    try:
        if (defaults := defaults_for(args_class, argv)) is not None:
            preset["default"] = defaults
        if not {"-h", "--help"}.isdisjoint(argv):
            _show(command_help(prog or f"python {sys.argv[0]}", args_class, defaults, example))
            return 0
        args, unknown = parsed(args_class, argv, prog, **preset)
        if unknown:
            raise UserError(unknown_option(unknown[0], args))
        if hasattr(args_class, "given"):
            args.given = given_by(argv)  # type: ignore[attr-defined]
        return main(args)
    except Finished as end:
        print(end)
        return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (FloatingPointError, EnvironmentFault) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        # PyTorch has no exception of its own for the memory of the CPU.
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
            raise
        how_much = re.search(r"allocate \d\S* [bKMGTPE]\w+", str(error))
        words = f" to {how_much[0]}" if how_much else ""
        print(
            f"error: there is too little memory{words}: ask for smaller networks, shorter rollouts "
            "or fewer environments",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("aborted; the last checkpoint is kept", file=sys.stderr)
        return 130


def _show(text: str) -> None:
    """Print a help text to a reader who may have had enough of it, as ``head`` has."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Or Python would try again at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parsed(
    args_class: type[ArgsT], argv: Sequence[str], prog: str | None = None, **preset: Any
) -> tuple[ArgsT, list[str]]:
    """Return the settings of a command line, and what is none of them.

    Args:
        args_class: A dataclass of settings.
        argv: The arguments.
        prog: Name of the command.
        **preset: ``default``, an instance whose values are the defaults.

    Raises:
        UserError: A value is missing or impossible; what tyro says of it in a box, in one line.
    """
    box = io.StringIO()
    # What is not caught here has been said in the box.
    with contextlib.suppress(SystemExit), contextlib.redirect_stderr(box):
        return tyro.cli(
            args_class,
            args=argv,
            prog=prog,
            return_unknown_args=True,
            add_help=False,
            registry=REGISTRY,
            **preset,
        )
    lines = [line.strip("│ ") for line in box.getvalue().splitlines()[1:]]
    rules = [line for line in lines if not line.strip("─-╰╯")]
    text = itertools.dropwhile(rules.__contains__, lines)
    words = " ".join(itertools.takewhile(lambda line: line not in rules, text))
    words = (
        words.removeprefix("Error ").rstrip(".").replace("Expected 1 values", "Expected 1 value")
    )
    raise UserError(f"{_plain(words)}; --help lists the options")


def _plain(words: str) -> str:
    """Return what tyro says of a number, in the words that hesrl has for it elsewhere."""
    words = re.sub(r"could not convert string to float: ('.*')$", r"\1 is not a number", words)
    match = re.search(r"no type matching \{None\}\|(INT|FLOAT) could .* from \[('.*')\]$", words)
    if match is None:
        return words
    kind = "whole number" if match[1] == "INT" else "number"
    return f"{words[: match.start()]}{match[2]} is not a {kind}"


def given_by(argv: Sequence[str]) -> frozenset[str]:
    """Return the settings whose options are on a command line."""
    options = (word.split("=")[0] for word in argv if word.startswith("--"))
    return frozenset(
        option.removeprefix("--").removeprefix("no-").replace("-", "_") for option in options
    )


RENAMED = {
    "--algorithms": "--agents",
    "--csv": "--out",
    "--folder": "--out",
    "--out": "--runs-dir",
    "--output": "--out",
    "--steps": "--total-timesteps",
}
"""Options that had another name in some commands."""


def unknown_option(option: str, args: Any) -> str:
    """Return what is wrong with an option that ``args``, a dataclass of settings, does not have."""
    name = option.split("=")[0]
    if name in (hints := getattr(args, "HINTS", {})):
        return f"unknown option {name}: {hints[name]}"
    if RENAMED.get(name, name)[2:].replace("-", "_") in vars(args):
        return f"unknown option {name}: it is {RENAMED[name]}"
    known = [field.replace("_", "-") for field in vars(args)]
    near = get_close_matches(name.lstrip("-"), known, n=1)
    hint = f"did you mean --{near[0]}?" if near else "--help lists the options"
    return f"unknown option {name}: {hint}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that ``argv`` names and return the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv == ["--version"]:
        print(f"hesrl {__version__}")
        return 0
    for words in (2, 1):
        name = " ".join(argv[:words])
        if name in COMMANDS:
            module = importlib.import_module(COMMANDS[name].module)
            example, rest = COMMANDS[name].example, argv[words:]
            return run_command(module.Args, module.main, rest, f"hesrl {name}", example)
    family = argv[0] if argv and argv[0] in FAMILIES else None
    if not {"-h", "--help"}.isdisjoint(argv) or len(argv) == (family is not None):
        _show(listing(family))
        return 0
    name = " ".join(argv[:2])
    near = get_close_matches(name, COMMANDS, n=1, cutoff=0.3)
    hint = f"did you mean hesrl {near[0]}?" if near else "hesrl lists the commands"
    print(f"error: unknown command hesrl {name}: {hint}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
