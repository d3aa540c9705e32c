"""How this process was started: its messages, and processes that it starts, follow that."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

# the words of the command that runs in this process, if one does
running_command: ContextVar[Sequence[str] | None] = ContextVar("running_command", default=None)
PROGRAM = "pollinate"
PROGRAM_VARIABLE = "POLLINATE_PROGRAM"  # set by ``pollinate``, for its own processes too
SAFE_PATH_VARIABLE = "PYTHONSAFEPATH"  # Python's own: what ``python -P`` says, for all children


def command_words(name: str) -> list[str]:
    """Return how a command is called: ``pollinate fit``, or ``python -m pipeline.fit``.

    The form is the one by which the user started this process, which therefore works.
    """
    if PROGRAM_VARIABLE in os.environ:
        return [os.environ[PROGRAM_VARIABLE], name]
    return ["python", "-m", f"pipeline.{name}"]


def shell_command(name: str, *arguments: str) -> str:
    """Return a command line for a message, quoted as a shell takes it."""
    return shlex.join([*command_words(name), *arguments])


def searches_current_folder() -> bool:
    """Say whether modules are looked for where the user stands: after ``python -m``, say."""
    here = current_folder()
    return here is not None and any(
        entry == "" or Path(entry).resolve() == here for entry in sys.path
    )


def current_folder() -> Path | None:
    """Return where the user stands, None if that was removed."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


class UserPackages:
    """Finds the packages that ``allow_targets`` names where the user stands.

    ``python -m`` looks there for every module, so that an empty folder ``pipeline/`` or a file
    random.py hides the real one. Appended to ``sys.meta_path``, this looks there last, and for
    these names only.

    Args:
        names: of packages, dotted or not.
        folder: where the user stands.
    """

    def __init__(self, names: Sequence[str], folder: Path) -> None:
        self.names = {name.partition(".")[0] for name in names}
        self.folder = folder

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a package is, None for all others."""
        if path is not None or fullname not in self.names:
            return None
        return PathFinder.find_spec(fullname, [str(self.folder)])
