"""Errors that a user can act on. A command prints them without a traceback."""

from __future__ import annotations


class PollinateError(Exception):
    """A failure with a message for the user: the rule, the value found, the next step.

    ``exit_code`` is what the command returns: 1 for a failure, 2 for wrong usage.
    """

    exit_code = 1


class UsageError(PollinateError):
    """The command line or a config file is wrong; nothing was started."""

    exit_code = 2
