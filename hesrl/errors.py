"""The exceptions that the command line prints as a single line."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in the input: the message says in one line what is wrong, where, and what to do.

    `hesrl.cli` prints it as ``error: …`` and exits with status 2; nothing has been written then.
    """


class Finished(Exception):
    """There is nothing to do: the message says in one line why, and what there would be.

    `hesrl.cli` prints it and exits with status 0.
    """


class EnvironmentFault(RuntimeError):
    """What runs need broke: the message says in one line which environment or cluster, and how.

    `hesrl.cli` prints it as ``error: …`` and exits with status 1; checkpoints are as they were, or
    newer where the environment runs in real time.
    """


def one_line(text: object) -> str:
    """Return a text that stands in an error message, without line breaks and columns."""
    return " ".join(str(text).split())
