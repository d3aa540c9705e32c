"""Errors that a user can act on. A command prints them without a traceback."""

from __future__ import annotations

from pathlib import Path

_CRASH_FILE = "_pollinate_crash_file"


class PollinateError(Exception):
    """A failure with a message for the user: the rule, the value found, the next step.

    ``exit_code`` is what the command returns: 1 for a failure, 2 for wrong usage.

    Examples:
        >>> import pollinate as po
        >>> try:
        ...     po.load("runs/gone")
        ... except po.PollinateError as error:  # a message for people
        ...     print(error)
        checkpoint must be a file, a run folder, ...; runs/gone is none of them
    """

    exit_code = 1


class UsageError(PollinateError):
    """The command line or a config file is wrong; nothing was started.

    Examples:
        >>> import pollinate as po
        >>> po.trunks.MMoE(expert=4)
        Traceback (most recent call last):
        pollinate.errors.UsageError: MMoE has no option 'expert'; did you mean experts? ...
    """

    exit_code = 2


def note_crash_file(error: BaseException, path: Path) -> None:
    """Note on an error where its evidence is kept; Python shows the note below a traceback."""
    vars(error)[_CRASH_FILE] = path
    error.add_note(f"crash report: {path}")


def crash_file_of(error: BaseException) -> Path | None:
    found: Path | None = vars(error).get(_CRASH_FILE)
    return found
