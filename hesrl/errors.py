"""The one exception a user can cause; the command line prints it as a single line."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in the input: the message says in one line what is wrong, where, and what to do.

    `hesrl.cli` prints it as ``error: …`` and exits with status 2; nothing has been written then.
    """
