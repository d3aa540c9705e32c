"""Where the work tells people what it does: nothing where Python asked for quiet."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from rich.console import Console
from rich.text import Text

from pollinate.printable import printable

is_quiet: ContextVar[bool] = ContextVar("is_quiet", default=False)


class PlainConsole(Console):
    """Shows texts as they are: ``[x]`` is no markup, ``:x:`` no picture, and nothing a command.

    What is to be bold or in colour is given as a ``Text``; see ``styled``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return what is shown of a text: printed, in a cell, or as a title."""
        return super().render_str(printable(text), **options)


def styled(*parts: str | tuple[str, str]) -> Text:
    """Return a text of parts, each as it is, or with a style: ``("done", "bold green")``."""
    return Text.assemble(
        *(
            printable(part) if isinstance(part, str) else (printable(part[0]), part[1])
            for part in parts
        )
    )


def new_console(*, stderr: bool = False) -> Console:
    """Return a console on standard output, or on standard error, that keeps silent if it should."""
    return PlainConsole(stderr=stderr, quiet=is_quiet.get())
