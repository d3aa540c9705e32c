"""Bars for work that may take long, on a terminal only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pollinate.console import new_console
from pollinate.printable import printable

Item = TypeVar("Item")


def track(items: Iterable[Item], what: str, total: float | None = None) -> Iterator[Item]:
    """Yield the items; meanwhile a bar says what is done. It goes away at the end."""
    console = new_console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        *Progress.get_default_columns()[1:],
    )
    shown = Progress(
        *columns,
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=console.quiet or not console.is_terminal,
    )
    with shown:
        yield from shown.track(items, total=total, description=printable(what))
